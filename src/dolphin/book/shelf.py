"""Features by bar: the newest ones of a live engine, or a whole preloaded day (SPEC §8)."""

from __future__ import annotations

import struct
from typing import Any, NamedTuple

import numpy as np

from dolphin.book.layout import ASSET_BOOK, CACHE_BARS, I8, MARKET_BOOK
from dolphin.core.records import Record, records


class MarketRow(NamedTuple):
    """A MARKET_BOOK record as plain numbers, field by field."""

    usable: int
    median_imbalance: float
    agreement: float
    cascade_count: int
    regime_signal: int
    depth_velocity: float
    depth_pressure: float
    acceleration: float
    assets: int
    bar: int


class AssetRow(NamedTuple):
    """An ASSET_BOOK record as plain numbers, field by field."""

    usable: int
    depth_quality: float
    fill_probability: float
    imbalance_ma5: float
    imbalance_persistence: float
    withdrawal_velocity: float
    depth_1pct_usd: float
    spread_proxy_bps: float
    imbalance: float
    depth_asymmetry: float
    bar: int


def _unpacker(dtype: np.dtype[Any]) -> struct.Struct:
    """Reads one record of 8-byte fields: NumPy takes ten times as long to give its fields one by one."""
    return struct.Struct("=" + "".join("q" if dtype[name].kind == "i" else "d" for name in dtype.names or ()))


_tuple = tuple.__new__
_MARKET, _ASSET = _unpacker(MARKET_BOOK).unpack_from, _unpacker(ASSET_BOOK).unpack_from


class Shelf:
    """Rows of features; bar b stands in row (b − base) % rows, so that a new bar takes the place of the oldest.

    `bars` int64 (rows,) says which bar stands there, −1 none; `markets` (rows,) MARKET_BOOK; `books` (rows, N)
    ASSET_BOOK.
    """

    def __init__(self, n_assets: int, rows: int = CACHE_BARS, base: int = 0) -> None:
        self.rows, self.base = rows, base
        self.bars: I8 = np.full(rows, -1, np.int64)
        self.markets: Record = records(MARKET_BOOK, rows)
        self.books: Record = records(ASSET_BOOK, rows * n_assets).reshape(rows, n_assets)
        self._look()

    def _look(self) -> None:
        """The same memory as bytes, and as plain numbers."""
        self._bars = memoryview(self.bars)
        self._markets, self._books = (
            memoryview(np.asarray(each).view(np.ndarray).reshape(-1).view(np.uint8))
            for each in (self.markets, self.books)
        )
        self._row_bytes = self.books.shape[1] * ASSET_BOOK.itemsize

    def __getstate__(self) -> dict[str, Any]:
        """Without the views, which a copy must not share."""
        return {name: value for name, value in self.__dict__.items() if not name.startswith("_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy looks at its own memory."""
        self.__dict__.update(state)
        self._look()

    def row_of(self, bar: int) -> int:
        """The row that `bar` takes."""
        return (bar - self.base) % self.rows

    def latest_at(self, bar: int, newest: int, back: int) -> int | None:
        """The latest bar with features at or before `bar`, not more than `back` bars before; `newest` is the last one
        taken. None without: so what is on the shelf of later bars never answers for an earlier one."""
        if bar == newest and bar >= 0 and self._bars[(bar - self.base) % self.rows] == bar:
            return bar
        for candidate in range(min(bar, newest), max(bar - back - 1, newest - self.rows, -1), -1):
            if self._bars[(candidate - self.base) % self.rows] == candidate:
                return candidate
        return None

    def market(self, bar: int, newest: int, back: int) -> MarketRow | None:
        """The market at `bar`, by `latest_at`; None when it is unusable, or older than `back` bars, for what stands
        there may have been held over already."""
        at = self.latest_at(bar, newest, back)
        if at is None:
            return None
        row = _tuple(MarketRow, _MARKET(self._markets, (at - self.base) % self.rows * MARKET_BOOK.itemsize))
        return row if row.usable and bar - row.bar <= back else None

    def asset(self, bar: int, newest: int, back: int, column: int) -> AssetRow | None:
        """One asset, likewise."""
        at = self.latest_at(bar, newest, back)
        if at is None:
            return None
        place = (at - self.base) % self.rows * self._row_bytes + column * ASSET_BOOK.itemsize
        row = _tuple(AssetRow, _ASSET(self._books, place))
        return row if row.usable and bar - row.bar <= back else None

    def moved(self, rows: int, base: int, newest: int) -> Shelf:
        """A shelf of another size and base with the last CACHE_BARS bars of this one."""
        other = Shelf(self.books.shape[1], rows, base)
        kept = np.flatnonzero((self.bars >= 0) & (self.bars > newest - min(rows, CACHE_BARS)))
        to = (self.bars[kept] - base) % rows
        other.bars[to] = self.bars[kept]
        other.markets[to] = self.markets[kept]
        other.books[to] = self.books[kept]
        return other
