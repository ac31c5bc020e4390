"""Puts that cost the caller next to nothing: the latest value of each key, written by its own thread (SPEC §22)."""

from __future__ import annotations

import threading
import time
from typing import NamedTuple

from dolphin.core.errors import GridError
from dolphin.grid.checks import check_put
from dolphin.grid.port import Maps

_CLOSED = "grid: the put queue is closed; make another"


class Counts(NamedTuple):
    """What became of the values since the start: `offered` = sent + coalesced + dropped + failed + waiting.

    coalesced: replaced by a newer value of the same key before they were written; dropped: gave way because too many
    keys were waiting; failed: refused by the grid, with the reason in `last_failure`.
    """

    offered: int
    sent: int
    coalesced: int
    dropped: int
    failed: int
    waiting: int
    last_failure: str


class PutQueue:
    """Writes to `grid` from a thread of its own. Memory is bounded: one value a key, and at most `capacity` keys; the
    key that waits longest gives way to a new one.

    Of each key, values arrive in the order they were put, though not every one does. `put` never waits for the grid and
    never raises for what the grid does: who needs to know looks at `counts`.
    """

    def __init__(self, grid: Maps, capacity: int = 4096) -> None:
        if capacity < 1:
            raise GridError(f"grid: put queue of {capacity} keys; expected at least 1")
        self._grid, self._capacity = grid, capacity
        self._condition = threading.Condition(threading.Lock())
        self._waiting: dict[tuple[str, str], bytes] = {}
        self._idle = self._closed = False
        self._under_way = 0
        self._offered = self._sent = self._coalesced = self._dropped = self._failed = 0
        self._last_failure = ""
        self._thread = threading.Thread(target=self._run, name="grid-put-queue", daemon=True)
        self._thread.start()

    def put(self, name: str, key: str, value: bytes) -> None:
        """Have it written soon. Raises GridError for what no grid would take, and after close."""
        check_put(name, {key: value})
        place = (name, key)
        with self._condition:
            if self._closed:
                raise GridError(_CLOSED)
            self._offered += 1
            if place in self._waiting:
                self._coalesced += 1
            elif len(self._waiting) >= self._capacity:
                del self._waiting[next(iter(self._waiting))]
                self._dropped += 1
            self._waiting[place] = value
            if self._idle:
                self._idle = False
                self._condition.notify_all()

    def counts(self) -> Counts:
        """What became of the values."""
        with self._condition:
            waiting = len(self._waiting) + self._under_way
            return Counts(
                self._offered,
                self._sent,
                self._coalesced,
                self._dropped,
                self._failed,
                waiting,
                self._last_failure,
            )

    def flush(self, timeout_s: float) -> bool:
        """Wait until nothing waits; false when that took longer."""
        end = time.monotonic() + timeout_s
        with self._condition:
            while self._waiting or self._under_way:
                left = end - time.monotonic()
                if left <= 0.0 or not self._thread.is_alive():
                    return False
                self._condition.wait(min(left, 0.5))
        return True

    def close(self, timeout_s: float = 5.0) -> bool:
        """Take no more, and wait until all is written; false when that took longer than `timeout_s`."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while batch := self._next():
            by_name: dict[str, dict[str, bytes]] = {}
            for (name, key), value in batch.items():
                by_name.setdefault(name, {})[key] = value
            for name, values in by_name.items():
                failure = ""
                try:
                    self._grid.put_many(name, values)
                except GridError as error:
                    failure = str(error)
                with self._condition:
                    self._under_way -= len(values)
                    if failure:
                        self._failed += len(values)
                        self._last_failure = failure
                    else:
                        self._sent += len(values)

    def _next(self) -> dict[tuple[str, str], bytes]:
        with self._condition:
            self._condition.notify_all()  # whoever flushes
            while not self._waiting and not self._closed:
                self._idle = True
                self._condition.wait()
            self._idle = False
            batch, self._waiting = self._waiting, {}
            self._under_way = len(batch)
            return batch
