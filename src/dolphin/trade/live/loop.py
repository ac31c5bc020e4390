"""One bar after the other: books and prices as they are now → features → scan → step (SPEC §8, §12, §22)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import date
from typing import NamedTuple, Protocol

import numpy as np

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.rows import VOL_REGIME_BARS
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import F8
from dolphin.book.providers import HeldBookProvider
from dolphin.core.clock import Clock, ns_to_date, system_clock_ns
from dolphin.core.errors import ConfigError
from dolphin.core.records import Record
from dolphin.scan.scanner import Scan, Scanner


class Market(Protocol):
    """The present of the assets that a loop trades: `exchange.live`'s cache of snapshots is one. Never waits."""

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """Write the newest snapshots of N assets to `out` (1, N) SNAPSHOT; where there is none, `out` is left alone."""

    def mids(self, out: F8, assets: Sequence[str]) -> None:
        """Write the N mid prices, USDT, to `out` (N,); NaN where no book is trusted."""


class Laps(NamedTuple):
    """What the parts of a bar took, nanoseconds."""

    read: int
    features: int
    scan: int
    step: int

    @property
    def total(self) -> int:
        """From the first look at the market to the decision."""
        return sum(self)


class LiveBar(NamedTuple):
    """A bar that was taken: what was seen, `prices` (N,) and `snapshots` (N,) SNAPSHOT, which the next bar overwrites,
    and what came of it: the EVENT record, and the TRADE record of a close."""

    ts_ns: int
    prices: F8
    snapshots: Record
    scan: Scan
    event: Record
    trade: Record | None
    laps: Laps


class LiveLoop:
    """Drives an engine through the present, a bar at each call.

    `engine` is new, with its capital, parameters and layers; its book is made here, over `market`. `bar_seconds` is
    the length of a bar. Both histories begin empty: the longest window and the engine's warm-up must pass before the
    first entry. `on_book_warning` hears what the book has to say of itself. Not thread-safe.

    Causality: a bar is stamped after all it uses was read, so that it depends on nothing stamped later than itself.
    """

    def __init__(
        self,
        engine: NDAlphaEngine,
        market: Market,
        *,
        bar_seconds: float,
        clock: Clock = system_clock_ns,
        on_book_warning: Callable[[str], None] | None = None,
    ) -> None:
        self.engine, self.market = engine, market
        self.assets = engine.assets
        self.scanner = Scanner(len(self.assets), bar_seconds)
        self.bar_seconds = bar_seconds
        self.bars = 0
        self._seen = HeldBookProvider(self.assets)
        self._stamps = self._seen.rows.view(np.ndarray)["timestamp"]
        self.book = OBFeatureEngine(self.assets, self._seen, on_warning=on_book_warning)
        self._clock = clock
        self._prices = np.full(len(self.assets), np.nan)
        self._now_s = np.zeros(1)
        self._last_ns = 0
        self._day: date | None = None
        self._day_bars = 0

    def bar(self) -> LiveBar:
        """Take the present as the next bar. Raises ConfigError when the clock stands before the last bar."""
        begun = time.perf_counter_ns()
        self._stamps[:] = np.nan
        self.market.fill_snapshots(self.assets, self._now_s, self._seen.rows)
        self.market.mids(self._prices, self.assets)
        ts_ns = self._clock()
        if ts_ns <= self._last_ns:
            raise ConfigError(
                f"live loop: the clock says {ts_ns}, the last bar was at {self._last_ns}; expected a later time: wait "
                "until the clock has caught up"
            )
        self._last_ns = ts_ns
        read = time.perf_counter_ns()
        market, books = self.book.step_live(self.assets, self.bars, ts_ns)
        featured = time.perf_counter_ns()
        scan = self.scanner.update(ts_ns, self._prices)
        scanned = time.perf_counter_ns()
        self._turn(ns_to_date(ts_ns))
        event, trade = self.engine.step_bar(
            ts_ns,
            scan.vel_div,
            self._prices,
            v50=float(scan.velocity[0]),
            v750=float(scan.velocity[-1]),
            vol_regime_ok=self._day_bars >= VOL_REGIME_BARS,
            market=market,
            books=books,
        )
        self._day_bars += 1
        self.bars += 1
        stepped = time.perf_counter_ns()
        laps = Laps(read - begun, featured - read, scanned - featured, stepped - scanned)
        return LiveBar(ts_ns, self._prices, self._seen.rows[0], scan, event, trade, laps)

    def _turn(self, day: date) -> None:
        """Open the day that this bar is the first of."""
        if day == self._day:
            return
        if self._day is not None:
            self.engine.end_day()
        self.engine.begin_day(day)
        self._day, self._day_bars = day, 0
