"""A book as plainly as it can be kept: two dictionaries of whole numbers, and bands by their definition (SPEC §8).

Written from the definition alone: a band is the whole number of per cents between a level and the mid price.
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import numpy as np

Sums = list[list[int]]


class DictBook:
    """Prices are whole ticks and quantities whole lots; identifiers are the last diff's."""

    def __init__(self, tick: str, lot: str) -> None:
        self.tick, self.lot = Decimal(tick), Decimal(lot)
        self.sides: tuple[dict[int, int], dict[int, int]] = ({}, {})
        self.update_id = 0
        self.event_ms = 0

    def put(self, side: int, levels: list[list[str]]) -> None:
        """What is there now at these prices."""
        held = self.sides[side]
        for price, quantity in levels:
            tick, lots = Decimal(price) / self.tick, Decimal(quantity) / self.lot
            assert tick == int(tick)
            assert lots == int(lots)
            if lots == 0:
                held.pop(int(tick), None)
            else:
                held[int(tick)] = int(lots)

    def load(self, body: dict[str, Any]) -> None:
        """Begin with a REST snapshot."""
        self.sides[0].clear()
        self.sides[1].clear()
        self.put(0, body["bids"])
        self.put(1, body["asks"])
        self.update_id, self.event_ms = body["lastUpdateId"], body["E"]

    def apply(self, diff: dict[str, Any]) -> None:
        """One diff."""
        self.put(0, diff["b"])
        self.put(1, diff["a"])
        self.update_id, self.event_ms = diff["u"], diff["E"]

    def top(self) -> tuple[int, int]:
        """Best bid and best ask, ticks."""
        return max(self.sides[0]), min(self.sides[1])

    def sums(self) -> tuple[Sums, Sums]:
        """([bids, asks] lots per band, [bids, asks] ticks × lots per band), whole numbers added by NumPy."""
        bid, ask = self.top()
        mid2 = bid + ask
        lots, units = [], []
        for held in self.sides:
            ticks = np.fromiter(held.keys(), np.int64, len(held))
            sizes = np.fromiter(held.values(), np.int64, len(held))
            band = 100 * np.abs(2 * ticks - mid2) // mid2
            lots.append([int(sizes[band == k].sum()) for k in range(5)])
            units.append([int((sizes * ticks)[band == k].sum()) for k in range(5)])
        return lots, units

    def numbers(self) -> list[float]:
        """bid_notional, ask_notional, bid_depth, ask_depth: each the double nearest to the exact sum."""
        lots, units = self.sums()
        worth = self.tick * self.lot
        notional = [float(Decimal(x) * worth) for side in units for x in side]
        return notional + [float(Decimal(x) * self.lot) for side in lots for x in side]

    def numbers_slowly(self) -> list[float]:
        """The same from the text's own decimals, level by level, without NumPy or whole ticks."""
        bid, ask = self.top()
        mid = (bid + ask) * self.tick / 2
        depth = [[Decimal(0)] * 5 for _ in range(2)]
        notional = [[Decimal(0)] * 5 for _ in range(2)]
        for side, held in enumerate(self.sides):
            for ticks, lots in held.items():
                price, quantity = ticks * self.tick, lots * self.lot
                band = int(abs(price - mid) * 100 // mid)
                if band < 5:
                    depth[side][band] += quantity
                    notional[side][band] += price * quantity
        return [float(x) for rows in (notional, depth) for row in rows for x in row]

    def rest(self, levels: int | None = None) -> bytes:
        """The book as `GET /fapi/v1/depth` would answer, best prices first."""
        sides = [sorted(self.sides[0].items(), reverse=True), sorted(self.sides[1].items())]
        bids, asks = ([[str(t * self.tick), str(q * self.lot)] for t, q in side[:levels]] for side in sides)
        body = {"lastUpdateId": self.update_id, "E": self.event_ms, "T": self.event_ms, "bids": bids, "asks": asks}
        return json.dumps(body).encode()
