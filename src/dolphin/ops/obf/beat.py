"""One beat: the source's books through the guards into the engine of features, and out as a frame (SPEC §8, §23).

Nothing here touches the grid, a disk or a log. What happens is told in one line each through `tell`, which must not
wait either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import DARK_BARS, F8
from dolphin.book.payload import seconds_of
from dolphin.book.providers import HeldBookProvider, MockBookProvider
from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.sources import BookSource
from dolphin.ops.obf.state import moved
from dolphin.trade.booksound import sound_rows

Rows = NDArray[Any]
Flags = NDArray[np.bool_]


@dataclass(frozen=True, eq=False, slots=True)
class Frame:
    """What one beat saw, of N assets; copies, so that it can be kept and read on any thread.

    `snapshots` (N,) SNAPSHOT, of the assets whose books may be used now, NaN stamps elsewhere; `books` (N,) ASSET_BOOK
    and `market` (1,) MARKET_BOOK, the features; `last_s` (N,) the newest stamp met of each asset, −inf before the
    first; `warming` (N,) synced for less than the warm-up; `dark` (N,) STALE_DATA.
    """

    beat: int
    bar: int
    now_ns: int
    assets: tuple[str, ...]
    snapshots: Rows
    books: Rows
    market: Rows
    last_s: F8
    warming: Flags
    dark: Flags
    stalled: bool


class Beat:
    """Takes the source's books, beat after beat. `engine` is a snapshot to go on from, `now_ns` the present.

    The assets are the source's and grow with them: the others keep their histories. `refused` counts snapshots that
    hold what is no amount, or come from the future, each once; `grown` how often assets came. Raises ConfigError for a
    source without assets. Not thread-safe.
    """

    def __init__(
        self,
        source: BookSource,
        settings: ObfSettings,
        now_ns: int,
        *,
        engine: bytes | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.source, self.settings, self._tell = source, settings, tell
        # The first step of a process loads the machine code, or compiles it: not at a deadline.
        OBFeatureEngine(("A",), MockBookProvider()).step_live(("A",), 0, 0)
        self.assets: tuple[str, ...] = source.symbols
        if not self.assets:
            raise ConfigError("obf: the source has no assets; expected at least one")
        self.refused = self.grown = self.beats = 0
        self.stalls = 0
        self._alive_ns, self._stalled = now_ns, False
        self._moment = np.zeros(1)
        self._last_s, self._bad_s = np.full(0, -np.inf), np.full(0, -np.inf)
        self._streak = np.zeros(0, np.int64)
        self._engine = self._fitted(engine)

    @property
    def snapshots(self) -> dict[str, int]:
        """What became of snapshots: taken, repeated, too_old, refused."""
        counts = self._engine.counts
        return {**counts, "refused": counts["refused"] + self.refused}

    def snapshot(self) -> bytes:
        """All that the features remember; see OBFeatureEngine."""
        return self._engine.snapshot()

    def take(self, now_ns: int) -> Frame:
        """One beat at `now_ns`, UTC nanoseconds. Features are kept by bars of the clock, so that beats that were left
        out, and a restart, age them as much as beats that found nothing."""
        if self.source.symbols != self.assets:
            self._grow()
        rows = self._shown.rows[0].view(np.ndarray)
        now_s = seconds_of(now_ns)
        self._fetch(rows, now_s)
        self._watch(now_ns, rows)
        warming = self._hold_back(rows, now_ns)
        bar = max(self._engine.bar_idx + 1, now_ns // self.settings.cadence_ns)
        market, books = self._engine.step_live(self.assets, bar, now_ns)
        self.beats += 1
        features = np.array(books.view(np.ndarray))
        self._look_for_darkness(rows, features, bar)
        return Frame(
            beat=self.beats,
            bar=bar,
            now_ns=now_ns,
            assets=self.assets,
            snapshots=rows.copy(),
            books=features,
            market=np.array([market]),
            last_s=self._last_s.copy(),
            warming=warming,
            dark=self._streak >= DARK_BARS,
            stalled=self._stalled,
        )

    def _fetch(self, rows: Rows, now_s: float) -> None:
        """The source's present books into `rows`; what is not sound, or from the future, is counted and taken out."""
        self._moment[0] = now_s
        rows["timestamp"] = np.nan
        self.source.fill_snapshots(self.assets, self._moment, self._shown.rows)
        stamps = rows["timestamp"]
        bad = ~np.isnan(stamps) & (~sound_rows(rows) | ~(stamps <= now_s + self.settings.max_age_s) | (stamps < 0.0))
        if bad.any():
            new = bad & (stamps != self._bad_s)
            self._bad_s[bad] = stamps[bad]
            self.refused += int(new.sum())
            for k in np.flatnonzero(new)[:3]:
                self._tell(f"refused a snapshot of {self.assets[k]} stamped {stamps[k]:.3f}: not sound, or ahead")
            stamps[bad] = np.nan

    def _watch(self, now_ns: int, rows: Rows) -> None:
        """The stall watchdog: new snapshots of any asset keep it quiet, those of books that still warm up too."""
        stamps = rows["timestamp"]
        arrived = stamps > self._last_s
        if arrived.any():
            self._last_s[arrived] = stamps[arrived]
            if self._stalled:
                self._tell(f"books come again after {(now_ns - self._alive_ns) / NS_PER_S:.1f} s without any")
            self._alive_ns, self._stalled = now_ns, False
        elif not self._stalled and now_ns - self._alive_ns > self.settings.stall_s * NS_PER_S:
            self._stalled = True
            self.stalls += 1
            self._tell(f"no new snapshot of any of {len(self.assets)} assets for {self.settings.stall_s:g} s: stalled")

    def _hold_back(self, rows: Rows, now_ns: int) -> Flags:
        """Take out the books that have not been synced for the warm-up; who has a book among them is warming."""
        since = np.array([self.source.synced_ns(asset) for asset in self.assets], np.int64)
        ready = (since > 0) & (now_ns - since >= round(self.settings.warm_up_s * NS_PER_S))
        rows["timestamp"][~ready] = np.nan
        return np.asarray((since > 0) & ~ready)

    def _look_for_darkness(self, rows: Rows, books: Rows, bar: int) -> None:
        """The dark-streak detector: the engine's own rule, counted here because it tells only when one begins."""
        fresh = books["bar"] == bar
        nothing = (rows["bid_notional"].sum(axis=1) + rows["ask_notional"].sum(axis=1)) == 0.0
        was = self._streak
        self._streak = np.where(fresh, np.where(nothing, was + 1, 0), was)
        self._streak[books["usable"] == 0] = 0
        for k in np.flatnonzero((was < DARK_BARS) & (self._streak >= DARK_BARS)):
            self._tell(f"STALE_DATA: {self.assets[k]} has shown an empty book {DARK_BARS} times in a row")
        for k in np.flatnonzero((was >= DARK_BARS) & (self._streak < DARK_BARS)):
            self._tell(f"{self.assets[k]} is no longer STALE_DATA")

    def _grow(self) -> None:
        """Take in the assets that came. The engine's columns are fixed, so another is put up that remembers all."""
        new = [asset for asset in self.source.symbols if asset not in self.assets]
        kept = self._engine.snapshot()
        places = [self.assets.index(asset) for asset in self.source.symbols if asset in self.assets]
        at = [k for k, asset in enumerate(self.source.symbols) if asset in self.assets]
        last, bad = self._last_s, self._bad_s
        self.assets = self.source.symbols
        self._engine = self._fitted(kept)
        self._last_s[at], self._bad_s[at] = last[places], bad[places]
        self.grown += 1
        self._tell(f"{len(new)} assets came: {', '.join(new[:8])}; now {len(self.assets)}")

    def _fitted(self, engine: bytes | None) -> OBFeatureEngine:
        """An engine of the present assets, that goes on from a snapshot of perhaps other ones."""
        n, limits = len(self.assets), (self.settings.max_stale_bars, self.settings.max_age_s)
        self._shown = HeldBookProvider(self.assets)
        self._last_s, self._bad_s = np.full(n, -np.inf), np.full(n, -np.inf)
        self._streak = np.zeros(n, np.int64)
        if engine is None:
            return OBFeatureEngine(self.assets, self._shown, max_stale_bars=limits[0], max_age_s=limits[1])
        value, streaks = moved(engine, self.assets, *limits)
        self._streak[:] = streaks
        return OBFeatureEngine.restore(value, self._shown)
