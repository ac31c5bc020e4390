"""One-minute klines made of trades, and the finished ones that REST gives out (SPEC §1, §8)."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import ConfigError
from dolphin.exchange.sim.symbols import Contract, fixed

MINUTE_MS = 60_000
KEPT = 3_000
"""Finished klines kept per contract: twice what one request can ask for."""

Row = list[int | str]


@dataclass(slots=True)
class Bar:
    """A kline in the making: prices in units, volumes in lots and in units·lots; `first_id` −1 without a trade."""

    open_ms: int
    open: int
    high: int
    low: int
    close: int
    lots: int = 0
    quote: int = 0
    count: int = 0
    buy_lots: int = 0
    buy_quote: int = 0
    first_id: int = -1
    last_id: int = -1


class Klines:
    """The klines of one contract; a minute without trades repeats the price before, with no volume."""

    __slots__ = ("_contract", "bar", "rows")

    def __init__(self, contract: Contract, price: int, now_ms: int) -> None:
        self._contract = contract
        self.rows: deque[Row] = deque(maxlen=KEPT)
        self.bar = Bar(now_ms // MINUTE_MS * MINUTE_MS, price, price, price, price)

    def trade(self, price: int, lots: int, trade_id: int, *, buyer_made: bool) -> None:
        """Add one trade of the present minute; `buyer_made` when the buyer's order had been waiting."""
        bar = self.bar
        if not bar.count:
            bar.open = bar.high = bar.low = price
            bar.first_id = trade_id
        bar.high, bar.low, bar.close = max(bar.high, price), min(bar.low, price), price
        bar.lots += lots
        bar.quote += price * lots
        bar.count += 1
        bar.last_id = trade_id
        if not buyer_made:
            bar.buy_lots += lots
            bar.buy_quote += price * lots

    def roll(self, now_ms: int) -> list[Bar]:
        """Finish the minutes that are over at `now_ms`; those finished, oldest first."""
        done = []
        while self.bar.open_ms + MINUTE_MS <= now_ms:
            bar = self.bar
            done.append(bar)
            self.rows.append(self.row(bar))
            self.bar = Bar(bar.open_ms + MINUTE_MS, bar.close, bar.close, bar.close, bar.close)
        return done

    def row(self, bar: Bar) -> Row:
        """The kline as REST gives it."""
        c = self._contract
        prices = [c.price_text(p) for p in (bar.open, bar.high, bar.low, bar.close)]
        both = c.price_decimals + c.qty_decimals
        return [
            bar.open_ms,
            *prices,
            c.qty_text(bar.lots),
            bar.open_ms + MINUTE_MS - 1,
            fixed(bar.quote, both),
            bar.count,
            c.qty_text(bar.buy_lots),
            fixed(bar.buy_quote, both),
            "0",
        ]

    def fill(self, closes: NDArray[np.float64], per_minute: int) -> None:
        """Put history before the present minute: closes float64 (T,), `per_minute` of them to a minute, NaN dropped.

        A kline opens where the one before closed, has the extremes of its closes, and one lot per close.
        """
        minutes = len(closes) // per_minute
        units = closes[len(closes) - minutes * per_minute :].reshape(minutes, per_minute)
        units = np.rint(units * 10.0**self._contract.price_decimals)
        first_ms = self.bar.open_ms - minutes * MINUTE_MS
        before = 0
        for k, row in enumerate(units):
            seen = [int(v) for v in row if v == v and v > 0]
            if not seen:
                continue
            start = before or seen[0]
            before = seen[-1]
            bar = Bar(first_ms + k * MINUTE_MS, start, max(start, *seen), min(start, *seen), before)
            bar.lots = bar.count = len(seen)
            bar.quote = sum(seen)
            bar.buy_lots, bar.buy_quote = bar.lots // 2, sum(seen[: bar.lots // 2])
            self.rows.append(self.row(bar))
        if before and not self.bar.count:
            self.bar.open = self.bar.high = self.bar.low = self.bar.close = before


def per_minute(bar_seconds: int) -> int:
    """How many bars make a minute. Raises ConfigError when no whole number does."""
    if bar_seconds < 1 or 60 % bar_seconds:
        raise ConfigError(f"bar_seconds={bar_seconds}: expected a divisor of 60, such as 1, 5 or 60")
    return 60 // bar_seconds
