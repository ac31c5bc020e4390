"""To the grid, on a thread of its own: always the newest frame, never a queue of old ones (SPEC §8, §22).

The loop leaves a frame and goes on; a frame that is still there when the next one comes is replaced by it, which is
what makes pushes asynchronous, bounded, and latest-value-wins for every key at once. Values become JSON here, and only
those that will be written.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

import msgspec

from dolphin.core.clock import NS_PER_S, Clock, ns_to_iso
from dolphin.core.errors import GridError
from dolphin.grid import schemas
from dolphin.grid import values as v
from dolphin.grid.port import Maps
from dolphin.ops.obf.beat import Frame
from dolphin.ops.obf.breaker import Breaker
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.standing import Standing
from dolphin.ops.obf.words import features_value, live, macro_bar, snapshot_value
from dolphin.ops.obf.worker import Worker

MACRO_BARS = 20
"""Bars in the macro map."""

DAEMON = "obf"


class PushCounts(msgspec.Struct, kw_only=True):
    """Since the start. Frames: `offered` = taken + coalesced + waiting. Values: sent, failed (the grid raised) and
    held_back (the breaker was open), each per attempt; `invalid` ones were refused by their own schema. `pushes` are
    calls of the grid."""

    offered: int = 0
    taken: int = 0
    coalesced: int = 0
    pushes: int = 0
    sent: int = 0
    failed: int = 0
    held_back: int = 0
    invalid: int = 0
    last_failure: str = ""


class Publisher(Worker):
    """Pushes frames to `grid`, and tells `standing` how the breaker is.

    `offer` never waits. `close` pushes the last frame's heartbeat with phase `stopped`, unless the grid hangs.
    """

    def __init__(
        self,
        grid: Maps,
        settings: ObfSettings,
        standing: Standing,
        clock: Clock,
        *,
        tell: Callable[[str], None] = lambda line: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._grid, self._settings, self._clock, self._tell = grid, settings, clock, tell
        self._monotonic, self._standing = monotonic, standing
        self.breaker = Breaker(failures=settings.failures, backoff_s=settings.backoff_s, cap_s=settings.backoff_cap_s)
        standing.breaker = self.breaker
        self.counts = PushCounts()
        self._newest: Frame | None = None
        self._slot = threading.Lock()
        self._wake, self._closing = threading.Event(), False
        self._pushed_s: dict[str, float] = {}
        self._pushed_bar: dict[str, int] = {}
        self._seq, self._market_bar = 0, -1
        self._macros: deque[v.MacroBar] = deque(maxlen=MACRO_BARS)
        self._heard_s = -float("inf")
        self._last: tuple[Frame, str] | None = None
        self._phase = ""
        super().__init__("publisher")

    def offer(self, frame: Frame) -> None:
        """Have it pushed, unless a newer one comes before."""
        with self._slot:
            self.counts.offered += 1
            self.counts.coalesced += self._newest is not None
            self._newest = frame
        self._wake.set()

    def close(self, timeout_s: float = 5.0) -> bool:
        """Push what is there and the heartbeat `stopped`; false when that took longer than `timeout_s`."""
        self._closing = True
        self._wake.set()
        return self._ended_within(timeout_s)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            closing = self._closing
            frame = self._take()
            if frame is not None:
                self.publish(frame)
            if closing:
                self._say_goodbye()
                return

    def _take(self) -> Frame | None:
        with self._slot:
            frame, self._newest = self._newest, None
            self.counts.taken += frame is not None
        return frame

    def publish(self, frame: Frame) -> None:
        """Push what is new in the frame: snapshots, features, the macro map, and once a `publish_s` how we are."""
        now_ns = self._clock()
        books, shards = self._snapshots(frame, now_ns), self._features(frame)
        macro = macro_bar(frame)
        market_bar = int(frame.market["bar"][0])
        if macro is not None and market_bar > self._market_bar:
            self._market_bar = market_bar
            self._macros.append(macro)
            self._encode(books[0], schemas.BOOK_MACRO, v.BookMacro(bars=list(self._macros)))
        due = self._monotonic() - self._heard_s >= self._settings.publish_s
        if due:
            self._encode(books[0], schemas.BOOK_SERVICE, self._standing.service(frame))
        sent = self._push(schemas.FEATURES, books[0])
        sent &= self._push(schemas.BOOKS, books[1])
        if sent:
            self._pushed_s.update(books[2])
        for name, (values, bars) in shards.items():
            if self._push(name, values):
                self._pushed_bar.update(bars)
        phase, detail = self._standing.phase(frame)
        if phase != self._phase:
            self._tell(f"phase {phase}" + (f": {detail}" if detail else ""))
        if (due or phase != self._phase) and self._beat(frame, phase, detail):
            self._heard_s, self._phase = self._monotonic(), phase
        self._phase = phase
        self._last = (frame, detail)

    def _snapshots(self, frame: Frame, now_ns: int) -> tuple[dict[str, bytes], dict[str, bytes], dict[str, float]]:
        """New snapshots for both maps, and their stamps."""
        features: dict[str, bytes] = {}
        books: dict[str, bytes] = {}
        stamps: dict[str, float] = {}
        pushed_at = ns_to_iso(now_ns)
        shown = frame.snapshots["timestamp"].tolist()
        for k, asset in enumerate(frame.assets):
            if shown[k] > self._pushed_s.get(asset, -1.0):
                self._seq = max(self._seq + 1, now_ns // 1_000_000)
                value = snapshot_value(frame.snapshots[k], pushed_at, self._seq)
                if self._encode(features, schemas.ASSET_BOOK, value, SYMBOL=asset):
                    books[asset], stamps[asset] = next(reversed(features.values())), shown[k]
        return features, books, stamps

    def _features(self, frame: Frame) -> dict[str, tuple[dict[str, bytes], dict[str, int]]]:
        """New features by shard, and their bars."""
        found: dict[str, tuple[dict[str, bytes], dict[str, int]]] = {}
        bars, regime = frame.books["bar"].tolist(), int(frame.market["regime_signal"][0])
        for k in live(frame):
            asset = frame.assets[k]
            if bars[k] > self._pushed_bar.get(asset, -1):
                values, pushed = found.setdefault(schemas.shard_map(asset), ({}, {}))
                value = features_value(frame.books[k], float(frame.last_s[k]), regime)
                shard = f"{schemas.shard_of(asset):02d}"
                if self._encode(values, schemas.SHARD_BOOK, value, NN=shard, SYMBOL=asset):
                    pushed[asset] = bars[k]
        return found

    def _beat(self, frame: Frame, phase: str, detail: str) -> bool:
        now_ns = self._clock()
        values: dict[str, bytes] = {}
        beat = v.DaemonHeartbeat(
            ts=now_ns / NS_PER_S,
            iso=ns_to_iso(now_ns),
            phase=phase,  # type: ignore[arg-type]  # checked by the schema
            pid=os.getpid(),
            beats=frame.beat,
            period_s=self._settings.publish_s,
            detail=detail,
        )
        return self._encode(values, schemas.DAEMON_HEARTBEAT, beat, daemon=DAEMON) and self._push(
            schemas.HEARTBEAT, values
        )

    def _say_goodbye(self) -> None:
        if self._last is not None:
            self._beat(self._last[0], "stopped", "")

    def _encode[T](self, into: dict[str, bytes], entry: schemas.Entry[T], value: T, **places: str) -> bool:
        """Put the value's JSON into `into`; one that its own schema refuses is counted and left out."""
        try:
            into[entry.at(**places)[1]] = entry.encode(value)
        except GridError as error:
            self.counts.invalid += 1
            self.counts.last_failure = str(error)
            return False
        return True

    def _push(self, name: str, values: dict[str, bytes]) -> bool:
        """One push, if the breaker lets it: whether the grid took it. Nothing to push is taken at once."""
        if not values:
            return True
        was = self.breaker
        self.breaker, allowed = was.ask(self._monotonic())
        if not allowed:
            self.counts.held_back += len(values)
            return False
        self.counts.pushes += 1
        failure = ""
        try:
            self._grid.put_many(name, values)
        except GridError as error:
            failure = self.counts.last_failure = str(error)
        self.breaker = self._standing.breaker = self.breaker.told(not failure, self._monotonic())
        if failure:
            self.counts.failed += len(values)
        else:
            self.counts.sent += len(values)
        if self.breaker.state is not was.state:
            why = f" ({failure}); files only, next try in {self.breaker.wait_s:g} s" if failure else ""
            self._tell(f"breaker {was.state} → {self.breaker.state}{why}")
        return not failure
