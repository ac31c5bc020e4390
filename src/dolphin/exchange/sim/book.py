"""The exchange's own book of one contract: whole prices and quantities, exact (SPEC §8)."""

from __future__ import annotations

import heapq
from collections.abc import Iterable

Level = tuple[int, int]
"""Price in units and quantity in lots; quantity 0 takes the level away."""


class Book:
    """Price → quantity of either side, and the number of the last update.

    Prices in units, quantities in lots, as `Contract` defines them. The touch is read off the levels, so a book may be
    one-sided or empty: `best_bid` and `best_ask` are then 0.
    """

    __slots__ = ("asks", "bids", "changed_ms", "last_id")

    def __init__(self) -> None:
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.last_id = 0
        self.changed_ms = 0

    def apply(self, bids: Iterable[Level], asks: Iterable[Level], last_id: int, t_ms: int) -> None:
        """Take the levels of one update over."""
        for side, levels in ((self.bids, bids), (self.asks, asks)):
            for price, qty in levels:
                if qty:
                    side[price] = qty
                else:
                    side.pop(price, None)
        self.last_id, self.changed_ms = last_id, t_ms

    @property
    def best_bid(self) -> int:
        """Highest bid in units, 0 without any."""
        return max(self.bids, default=0)

    @property
    def best_ask(self) -> int:
        """Lowest ask in units, 0 without any."""
        return min(self.asks, default=0)

    def top(self, count: int) -> tuple[list[Level], list[Level]]:
        """The best `count` levels of either side, best first."""
        if count >= len(self.bids) // 4:
            bids, asks = sorted(self.bids, reverse=True)[:count], sorted(self.asks)[:count]
        else:
            bids, asks = heapq.nlargest(count, self.bids), heapq.nsmallest(count, self.asks)
        return [(p, self.bids[p]) for p in bids], [(p, self.asks[p]) for p in asks]


def next_below(levels: dict[int, int], price: int, reach: int = 48) -> int:
    """The highest level under `price`, 0 without any: a short walk where levels are dense, else a full look."""
    for p in range(price - 1, price - 1 - reach, -1):
        if p in levels:
            return p
    return max((p for p in levels if p < price), default=0)


def next_above(levels: dict[int, int], price: int, reach: int = 48) -> int:
    """The lowest level over `price`, 0 without any."""
    for p in range(price + 1, price + 1 + reach):
        if p in levels:
            return p
    return min((p for p in levels if p > price), default=0)
