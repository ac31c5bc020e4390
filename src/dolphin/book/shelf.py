"""Features by bar: the newest ones of a live engine, or a whole preloaded day (SPEC §8)."""

from __future__ import annotations

import numpy as np

from dolphin.book.layout import ASSET_BOOK, CACHE_BARS, I8, MARKET_BOOK
from dolphin.core.records import Record, records


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

    def row_of(self, bar: int) -> int:
        """The row that `bar` takes."""
        return (bar - self.base) % self.rows

    def latest_at(self, bar: int, newest: int, back: int) -> int | None:
        """The latest bar with features at or before `bar`, not more than `back` bars before; `newest` is the last one
        taken. None without: so what is on the shelf of later bars never answers for an earlier one."""
        for candidate in range(min(bar, newest), max(bar - back - 1, newest - self.rows, -1), -1):
            if self.bars[self.row_of(candidate)] == candidate:
                return candidate
        return None

    def moved(self, rows: int, base: int, newest: int) -> Shelf:
        """A shelf of another size and base with the last CACHE_BARS bars of this one."""
        other = Shelf(self.books.shape[1], rows, base)
        kept = np.flatnonzero((self.bars >= 0) & (self.bars > newest - min(rows, CACHE_BARS)))
        to = (self.bars[kept] - base) % rows
        other.bars[to] = self.bars[kept]
        other.markets[to] = self.markets[kept]
        other.books[to] = self.books[kept]
        return other
