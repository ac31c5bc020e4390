"""Days of a made market with their books, told bar by bar as a live market would tell them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dolphin.book.layout import F8
from dolphin.book.providers import ArrayBookProvider
from dolphin.core.records import Record
from dolphin.market.bookfiles import BookDay
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.market.tables import PriceDay
from tests.support.books import book_days, in_memory


class Played:
    """A `Market` that stands at one bar; `clock` tells that bar's stamp."""

    def __init__(self, days: Sequence[PriceDay], books: ArrayBookProvider) -> None:
        self.ts_ns = np.concatenate([day.ts_ns for day in days])
        self.closes = np.concatenate([day.closes for day in days])
        self.books, self.at = books, 0

    def clock(self) -> int:
        return int(self.ts_ns[self.at])

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        self.books.fill_snapshots(assets, np.array([self.clock() / 1e9]), out)

    def mids(self, out: F8, assets: Sequence[str]) -> None:
        out[:] = self.closes[self.at]


def made(days: int = 2, assets: int = 8, **options: int) -> tuple[list[PriceDay], list[BookDay]]:
    """Days with an outage and silent books."""
    prices = list(make_market(MarketSpec(days=days, assets=assets, **options)))
    return prices, book_days(prices)


def played(prices: Sequence[PriceDay], books: Sequence[BookDay]) -> Played:
    """Them as a market."""
    return Played(prices, in_memory(books, prices[0].assets))
