"""OBFeatureEngine: snapshots in, features per bar out; replay and live by the same compiled code (SPEC §8, §23)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import date
from typing import Any

import numpy as np

from dolphin.book.day import checked_moments, snapshot_moments, snapshots_at
from dolphin.book.layout import (
    CACHE_BARS,
    DARK_BARS,
    EMPTY_BARS,
    I8,
    LIMITS,
    MAX_AGE_S,
    MAX_STALE_BARS,
    BookState,
    BookStatus,
    new_book_state,
)
from dolphin.book.payload import seconds_of
from dolphin.book.providers import BookProvider, BulkProvider
from dolphin.book.reader import FeatureReader
from dolphin.book.saved import VERSION, Head, pack, unpack
from dolphin.book.shelf import Shelf
from dolphin.book.snapshots import no_snapshots
from dolphin.book.update import BOOK
from dolphin.core.clock import Clock
from dolphin.core.errors import ConfigError
from dolphin.core.native import Flat
from dolphin.core.records import Record, records

CHUNK = 256
"""Bars of snapshots held at once while a day is preloaded."""


class OBFeatureEngine(FeatureReader):
    """Order-book features of N assets, bar after bar.

    `assets` are the columns, as the alpha engine has them. `clock` gives the time of a live step that names none.
    `on_warning` receives one line when EMPTY_BARS bars in a row brought no new snapshot, and when an asset becomes
    STALE_DATA; `empty_bars` and `status` tell the same at any time. Not thread-safe.

    Raises ConfigError for an empty universe, a repeated asset, or limits that are out of range.
    """

    def __init__(
        self,
        assets: Sequence[str],
        provider: BookProvider,
        *,
        max_stale_bars: int = MAX_STALE_BARS,
        max_age_s: float = MAX_AGE_S,
        clock: Clock | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> None:
        if not assets or len(set(assets)) != len(assets):
            raise ConfigError(f"order book: {len(assets)} assets with repetitions or none; expected distinct names")
        if not 0 <= max_stale_bars < CACHE_BARS:
            raise ConfigError(f"order book: max_stale_bars {max_stale_bars}; expected 0 to {CACHE_BARS - 1}")
        if not 0.0 < max_age_s < math.inf:
            raise ConfigError(f"order book: max_age_s {max_age_s}; expected a finite number of seconds above 0")
        super().__init__(assets, max_stale_bars)
        self.provider = provider
        self._clock, self._on_warning = clock, on_warning
        self._limits: Record = records(LIMITS, 1)[0]
        self._limits.max_stale_bars, self._limits.max_age_s = max_stale_bars, max_age_s
        self._state: BookState = new_book_state(len(assets))
        self._now_s = np.zeros(1)
        self._told = (0, 0)
        self._inbox: Record = no_snapshots(1, len(assets))
        self._flatten()

    def _flatten(self) -> None:
        """The arguments that never move, taken apart once: of every call, and of a live step."""
        # Rows of a plain structured array are assigned and cleared several times faster than those of a recarray.
        self._rows = self._inbox[0].view(np.ndarray)
        self._flat = Flat(self._state, self._limits)
        shelf = self._shelf
        self._live = Flat(self._now_s, self._inbox, shelf.bars, shelf.markets, shelf.books)

    def snapshot(self) -> bytes:
        """All that moves from bar to bar, as one value; features of past bars are not part of it."""
        head = Head(
            version=VERSION,
            assets=self.assets,
            bar_idx=self.bar_idx,
            max_stale_bars=self.max_stale_bars,
            max_age_s=float(self._limits.max_age_s),
        )
        return pack(head, self._state)

    @classmethod
    def restore(
        cls,
        value: bytes,
        provider: BookProvider,
        *,
        clock: Clock | None = None,
        on_warning: Callable[[str], None] | None = None,
    ) -> OBFeatureEngine:
        """The book that `snapshot` described; its next bars are those of a book that never stopped.

        Raises ConfigError for a value that is torn, altered, of another version, or not a snapshot.
        """
        head, state = unpack(value)
        engine = cls(
            head.assets,
            provider,
            max_stale_bars=head.max_stale_bars,
            max_age_s=head.max_age_s,
            clock=clock,
            on_warning=on_warning,
        )
        engine._state, engine.bar_idx = state, head.bar_idx
        engine._told = engine._spells()
        engine._flatten()
        return engine

    def __getstate__(self) -> dict[str, Any]:
        """Without the addresses of the arrays, which a copy must not share."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_rows", "_flat", "_live")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy has arrays of its own."""
        self.__dict__.update(state)
        self._flatten()

    @property
    def empty_bars(self) -> int:
        """Bars in a row, up to the newest, without a new snapshot of any asset."""
        return int(self._state.core[0].empty_bars)

    @property
    def counts(self) -> dict[str, int]:
        """Snapshots met so far by what became of them: taken, repeated, too_old, refused (a band that is no amount)."""
        core = self._state.core[0]
        return {name: int(core[name]) for name in ("taken", "repeated", "too_old", "refused")}

    def status(self, asset: str) -> BookStatus:
        """How far the asset's features can be relied on at the newest bar."""
        i = self._index(asset)
        known, row = self._state.assets[i], self._state.features[i]
        if known.last_s == -math.inf:
            return BookStatus.MISSING
        if self.bar_idx - row.bar > self.max_stale_bars:
            return BookStatus.STALE
        if known.dark >= DARK_BARS:
            return BookStatus.STALE_DATA
        return BookStatus.FRESH if row.bar == self.bar_idx else BookStatus.HELD

    def depth_reference(self, asset: str) -> float | None:
        """The asset's usual depth within 1 %, USD: an EMA(0.01); None before its first snapshot with any."""
        reference = float(self._state.assets[self._index(asset)].depth_ref)
        return reference if reference > 0.0 else None

    def step_live(self, assets: Sequence[str], bar_idx: int, ts_ns: int | None = None) -> tuple[Record, Record]:
        """Take the present snapshots of `assets` as bar `bar_idx`: once per scan, before `step_bar`.

        `ts_ns` is the present time, from `clock` when left out. Returns the bar's MARKET_BOOK record and N ASSET_BOOK
        records, as `step_bar` takes them; they hold for the next 500 bars. Raises ConfigError for an unknown asset, a
        bar that is not later than the newest, or no time.
        """
        if ts_ns is None:
            if self._clock is None:
                raise ConfigError(f"order book, bar {bar_idx}: no time; give ts_ns, or a clock to the engine")
            ts_ns = self._clock()
        self._check_bar(bar_idx)
        if self._shelf.rows != CACHE_BARS:
            self._put_up(self._shelf.moved(CACHE_BARS, 0, self.bar_idx))
        self._now_s[0] = seconds_of(ts_ns)
        self._fetch(tuple(assets))
        row = self._shelf.row_of(bar_idx)
        spells = BOOK(self._flat, bar_idx, row, self._live)
        self.bar_idx = bar_idx
        if spells:
            self._warn()
        return self._shelf.markets[row], self._shelf.books[row]

    def preload_date(
        self, day: date, ts_ns: I8 | None = None, *, first_bar: int | None = None
    ) -> tuple[Record, Record]:
        """Take a day's bars at once: what `step_live` would have given at each of them.

        `ts_ns` int64 (T,) are the bars' stamps, increasing and within `day`; left out, every moment at which the
        provider has a snapshot of any asset is a bar. Bars are numbered from `first_bar`, or go on. Returns (T,)
        MARKET_BOOK and (T, N) ASSET_BOOK records, as `process_bars` takes them; they are the caller's, to read, and the
        whole day can be asked for until the next one. Raises DataError for stamps out of order or a provider that looks
        ahead, ConfigError for a bar number that does not increase; the book is then as it was.

        Causality: each bar depends on snapshots stamped at or before it.
        """
        if ts_ns is None:
            now_s = snapshot_moments(self.provider, self.assets, day)
        else:
            now_s = checked_moments(day, np.asarray(ts_ns, np.int64))
        first = self.bar_idx + 1 if first_bar is None else first_bar
        self._check_bar(first)
        shelf = self._shelf.moved(len(now_s) + CACHE_BARS, first, self.bar_idx)
        remembered = [array.copy() for array in self._state]
        try:
            for start in range(0, len(now_s), CHUNK):
                moments = now_s[start : start + CHUNK]
                snapshots = snapshots_at(self.provider, self.assets, moments)
                BOOK(self._flat, first + start, start, moments, snapshots, shelf.bars, shelf.markets, shelf.books)
        except BaseException:
            for array, before in zip(self._state, remembered, strict=True):
                array[...] = before
            raise
        self._put_up(shelf)
        if len(now_s):
            self.bar_idx = first + len(now_s) - 1
        self._warn()
        return shelf.markets[: len(now_s)], shelf.books[: len(now_s)]

    def _check_bar(self, bar: int) -> None:
        if bar <= self.bar_idx:
            raise ConfigError(f"order book: bar {bar} after bar {self.bar_idx}; expected a later one, each bar once")

    def _put_up(self, shelf: Shelf) -> None:
        self._shelf = shelf
        self._flatten()

    def _fetch(self, assets: tuple[str, ...]) -> None:
        """Put the present snapshots of `assets` into the inbox."""
        self._rows["timestamp"] = np.nan
        if assets == self.assets and isinstance(self.provider, BulkProvider):
            self.provider.fill_snapshots(assets, self._now_s, self._inbox)
            return
        moment = float(self._now_s[0])
        for asset in assets:
            column, snapshot = self._index(asset), self.provider.get_snapshot(asset, moment)
            if snapshot is not None:
                self._rows[column] = snapshot

    def _spells(self) -> tuple[int, int]:
        core = self._state.core[0]
        return int(core.empty_spells), int(core.dark_spells)

    def _warn(self) -> None:
        """Tell of spells that have begun since the last telling."""
        now = self._spells()
        empty, dark = now[0] - self._told[0], now[1] - self._told[1]
        self._told = now
        if self._on_warning is None:
            return
        if empty:
            self._on_warning(
                f"order book: no new snapshot of any asset for {EMPTY_BARS} bars in a row, up to bar {self.bar_idx} or "
                f"before; expected one per bar: features are kept for {self.max_stale_bars} bars, then the "
                "engine runs without a book"
            )
        if dark:
            names = [asset for asset in self.assets if self.status(asset) == BookStatus.STALE_DATA]
            self._on_warning(
                f"order book: STALE_DATA: empty snapshots {DARK_BARS} times in a row, up to bar {self.bar_idx} or "
                f"before, from {dark} assets; still empty: {', '.join(names) or 'none'}"
            )
