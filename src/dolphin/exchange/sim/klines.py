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

    __slots__ = ("_contract", "_past", "bar", "finished")

    def __init__(self, contract: Contract, price: int, now_ms: int) -> None:
        self._contract = contract
        self.finished: deque[Bar] = deque(maxlen=KEPT)
        # History as numbers, a row of text each would take a kilobyte: opening time, o, h, l, c, number of closes.
        self._past: NDArray[np.int64] = np.empty((0, 6), dtype=np.int64)
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
            self.finished.append(bar)
            self.bar = Bar(bar.open_ms + MINUTE_MS, bar.close, bar.close, bar.close, bar.close)
        return done

    def between(self, low_ms: int, high_ms: int, count: int, *, newest: bool) -> list[Row]:
        """Klines that open at `low_ms` … `high_ms`, the present one among them: the first `count`, or the newest."""
        first, end = np.searchsorted(self._past[:, 0], (low_ms, high_ms + 1)).tolist()
        bars = [bar for bar in (*self.finished, self.bar) if low_ms <= bar.open_ms <= high_ms]
        if newest:
            bars = bars[-count:]
            past = range(max(first, end - (count - len(bars))), end)
        else:
            past = range(first, min(end, first + count))
            bars = bars[: count - len(past)]
        return [self.row(bar) for bar in (*map(self._past_bar, past), *bars)]

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

        A kline opens where the one before closed, has the extremes of its closes, and one lot per close at the last.
        """
        minutes = len(closes) // per_minute
        units = closes[len(closes) - minutes * per_minute :].reshape(minutes, per_minute)
        units = np.rint(units * 10.0**self._contract.price_decimals)
        sound = np.isfinite(units) & (units > 0.0)
        opens_ms = self.bar.open_ms - (minutes - np.arange(minutes, dtype=np.int64)) * MINUTE_MS
        kept = sound.any(axis=1)
        units, sound, opens_ms = units[kept], sound[kept], opens_ms[kept]
        if not len(units):
            return
        row = np.arange(len(units))
        close = units[row, per_minute - 1 - np.argmax(sound[:, ::-1], axis=1)]
        opened = np.concatenate((units[:1, np.argmax(sound[0])], close[:-1]))
        high = np.maximum(opened, np.where(sound, units, -np.inf).max(axis=1))
        low = np.minimum(opened, np.where(sound, units, np.inf).min(axis=1))
        columns = (opens_ms, opened, high, low, close, sound.sum(axis=1))
        self._past = np.stack([np.asarray(c, dtype=np.int64) for c in columns], axis=1)
        if not self.bar.count:
            self.bar.open = self.bar.high = self.bar.low = self.bar.close = int(close[-1])

    def _past_bar(self, k: int) -> Bar:
        opens_ms, opened, high, low, close, count = self._past[k].tolist()
        half = count // 2
        return Bar(opens_ms, opened, high, low, close, count, close * count, count, half, close * half)


def per_minute(bar_seconds: int) -> int:
    """How many bars make a minute. Raises ConfigError when no whole number does."""
    if bar_seconds < 1 or 60 % bar_seconds:
        raise ConfigError(f"bar_seconds={bar_seconds}: expected a divisor of 60, such as 1, 5 or 60")
    return 60 // bar_seconds
