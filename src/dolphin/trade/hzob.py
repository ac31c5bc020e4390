"""HZOBProvider: the grid's order books, read from this process's own memory (SPEC §8, §22; the switch-over document).

One watch on `DOLPHIN_FEATURES` keeps a cache; asking it costs a dictionary's look-up, and no call ever goes to the grid
from the trading path. A thread of its own reads the keys again now and then, in case the watch missed something.
"""

from __future__ import annotations

import contextlib
import math
import re
import threading
from collections.abc import Sequence

import numpy as np

from dolphin.book.layout import F8, MAX_AGE_S
from dolphin.book.payload import decode_snapshot, seconds_of, snapshot_key
from dolphin.core.clock import Clock, system_clock_ns
from dolphin.core.errors import DataError, GridError
from dolphin.core.records import Record
from dolphin.grid.featurestore import SHARD_MAPS
from dolphin.grid.port import Event
from dolphin.grid.schemas import FEATURES, symbols_in
from dolphin.trade.booksound import sound_rows
from dolphin.trade.ports import GridPort

_KEY = re.compile(r"asset_([A-Z0-9]+)_ob")


class HZOBProvider:
    """Answers with each asset's newest snapshot in `grid`, as `asset_{SYMBOL}_ob` holds it.

    A snapshot that is more than `max_age_s` older than the moment asked for is none, and one that is further ahead of
    the clock when it comes is refused, as the engine of features would do. What does not decode, holds what is no
    amount, or comes out of order never shows: `counts` says how often (taken, refused, older), and `last_refusal` why.
    An asset whose newest value was refused, or deleted, has no snapshot until a good one comes.

    `refresh_s` is how often everything is read again; None: only when `refresh` is called. `found` counts what only
    that reading brought. `close` ends watch and thread; what was known can still be asked. Raises GridError when the
    grid cannot be watched.
    """

    def __init__(
        self,
        grid: GridPort,
        *,
        max_age_s: float = MAX_AGE_S,
        refresh_s: float | None = 5.0,
        clock: Clock = system_clock_ns,
    ) -> None:
        self._grid, self._clock, self._max_age_s = grid, clock, max_age_s
        self._cache: dict[str, tuple[float, Record]] = {}
        self._newest_s: dict[str, float] = {}
        self._refused: dict[str, bytes] = {}
        self._guard = threading.Lock()
        self.counts = {"taken": 0, "refused": 0, "older": 0}
        self.found = self.grid_failures = 0
        self.last_refusal = ""
        self._stop = threading.Event()
        self._unwatch = grid.watch(FEATURES, self._hear)
        self.refresh()
        self.found = 0
        self._thread: threading.Thread | None = None
        if refresh_s is not None:
            self._thread = threading.Thread(target=self._run, args=(refresh_s,), name="hzob-refresh", daemon=True)
            self._thread.start()

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        """The asset's newest SNAPSHOT record at `ts`, seconds; None without one that is young enough."""
        held = self._cache.get(asset)
        return held[1] if held is not None and abs(ts - held[0]) <= self._max_age_s else None

    def get_all_timestamps(self, asset: str) -> F8:
        """Nothing: the grid has no history."""
        return np.empty(0)

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """See BulkProvider."""
        plain = out.view(np.ndarray)  # rows of a recarray are assigned several times more slowly
        for t, moment in enumerate(ts.tolist()):
            row = plain[t]
            for column, asset in enumerate(assets):
                held = self._cache.get(asset)
                if held is not None and abs(moment - held[0]) <= self._max_age_s:
                    row[column] = held[1]

    def get_assets(self) -> list[str]:
        """The assets that the grid has books or features of, sorted; those known here while it cannot be reached."""
        names = set(self._cache)
        with contextlib.suppress(GridError):
            for shard in SHARD_MAPS:
                names.update(symbols_in(self._grid.keys(shard)))
        return sorted(names)

    def refresh(self) -> int:
        """Read every book in the grid again; how many were newer than what was known."""
        before = self.counts["taken"]
        try:
            names = {match[1] for key in self._grid.keys(FEATURES) if (match := _KEY.fullmatch(key))}
            for asset in names | set(self._cache):
                held = self._cache.get(asset)
                value = self._grid.get(FEATURES, snapshot_key(asset))
                with self._guard:
                    # What the watch brought meanwhile is newer than an absence, or a refusal, that was read before.
                    self._take(asset, value, drops=self._cache.get(asset) is held)
        except GridError:
            self.grid_failures += 1
        found = self.counts["taken"] - before
        self.found += found
        return found

    def close(self) -> None:
        """Hear no more."""
        self._stop.set()
        self._unwatch()
        if self._thread is not None:
            self._thread.join(5.0)

    def _run(self, refresh_s: float) -> None:
        while not self._stop.wait(refresh_s):
            self.refresh()

    def _hear(self, event: Event) -> None:
        if match := _KEY.fullmatch(event.key):
            with self._guard:
                self._take(match[1], event.value, drops=True)

    def _take(self, asset: str, value: bytes | None, *, drops: bool) -> None:
        """Take a value over, from the watch or from reading again: both may bring the same one, in any order. Where
        there is no good one the asset loses its snapshot if `drops`."""
        row = None if value is None else self._decoded(asset, value)
        if row is None:
            if drops:
                self._cache.pop(asset, None)
            return
        stamp, newest = float(row.timestamp), self._newest_s.get(asset, -math.inf)
        if stamp < newest:
            self.counts["older"] += 1
            return
        if stamp > newest:
            self.counts["taken"] += 1
            self._newest_s[asset] = stamp
        self._cache[asset] = (stamp, row)

    def _decoded(self, asset: str, value: bytes) -> Record | None:
        """The snapshot in a value; None for one that is refused, which is counted once."""
        key = snapshot_key(asset)
        try:
            row = decode_snapshot(value, key)
            ahead_s = float(row.timestamp) - seconds_of(self._clock())
            if ahead_s > self._max_age_s:
                raise DataError(f"{key}: {ahead_s:.0f} s ahead of the clock; expected at most {self._max_age_s:g}")
            if not sound_rows(row):
                raise DataError(f"{key}: a band that is no amount, or has a depth and no notional")
        except DataError as error:
            if self._refused.get(asset) != value:
                self._refused[asset] = value
                self.counts["refused"] += 1
                self.last_refusal = str(error)
            return None
        return row
