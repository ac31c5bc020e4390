"""A synthetic market with a consistent order book, around prices that are handed in (SPEC §8, §22).

Prices come as rows of closes, one per `bar_seconds`; between two rows the price moves in a straight line with a little
noise. Around it stands a book: levels on the tick, dense near the price and sparse to 6 % away, sizes with a heavy
tail, thin at times (one contract, or all of them). Trades hit it. It is never crossed and never one-sided. It is a
book on which everything can be tried; it says nothing about real ones.

Determinism: the same contracts, prices and seed give the same messages, whatever the speed and whoever listens.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import DataError
from dolphin.exchange.sim.book import next_above, next_below
from dolphin.exchange.sim.feed import Feed, Line
from dolphin.exchange.sim.klines import per_minute
from dolphin.exchange.sim.symbols import Contract

_PRICE_MS = 100
"""How often the price moves; the book churns at every step of the clock."""
_REACH = 0.06
"""How far the book reaches from the price: beyond the fifth band of 1 %."""
_NEAR = 40
"""Ticks from the touch within which every tick may hold a level; farther out levels stand on a coarser grid."""
_TABLE = 4096
_CHURN = 5
_SWEEP_STEPS = 120
_FIRST_ID = 1_000_000_000


class _Coin:
    """One contract's moving parts: its touch, its scale of sizes, its own generator of draws."""

    __slots__ = ("ask", "base", "bid", "coarse", "line", "pace", "quiet", "rng", "span", "step", "thin")

    def __init__(self, line: Line, rank: int, seed: int) -> None:
        contract = line.contract
        unit = 10.0**-contract.price_decimals
        price_units = max(2.0, contract.price / unit)
        self.line = line
        self.rng = random.Random(f"{seed}:{contract.symbol}")  # noqa: S311  a market, not secrets
        self.span = max(50, int(price_units * _REACH))
        self.coarse = max(1, self.span // 400)
        # The first contracts are the liquid ones: USD per level and trades per second fall with the rank.
        usd = 40_000.0 / (1.0 + rank) ** 0.6
        self.base = max(2.0, usd / contract.price * 10.0**contract.qty_decimals)
        self.pace = 0.5 / (1.0 + rank) ** 0.25
        # Small contracts are silent in some intervals, which builders of books must bear.
        self.quiet = min(0.5, rank / 400.0)
        self.bid = self.ask = 0
        self.thin = 1.0
        self.step = rank * 7 % _SWEEP_STEPS


class SyntheticMarket:
    """Books and trades around given prices.

    `prices` yields rows of closes, float64 (N,), USDT, `bar_seconds` apart; NaN keeps the price before. `history`,
    float64 (H, N), are closes before the start, of the same bar length, for REST klines. The market ends with `prices`.
    Raises DataError when a row has not N columns, ConfigError when `bar_seconds` does not divide a minute.
    """

    def __init__(
        self,
        contracts: Sequence[Contract],
        prices: Iterable[Sequence[float] | NDArray[np.float64]],
        *,
        start_ms: int,
        bar_seconds: int = 5,
        history: NDArray[np.float64] | None = None,
        seed: int = 7,
    ) -> None:
        self.contracts: Sequence[Contract] = tuple(contracts)
        self.start_ms = start_ms - start_ms % 500
        self.title = f"synthetic market, {len(self.contracts)} contracts, seed {seed}"
        self._per_minute = per_minute(bar_seconds)
        self._bar_ms = bar_seconds * 1000
        self._rows: Iterator[Sequence[float] | NDArray[np.float64]] = iter(prices)
        self._history = history
        self._seed = seed
        noise = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, 0xB00C])))
        self._noise = noise
        # Draws per level would cost more than the levels: sizes and distances come from tables of draws.
        self._sizes: list[float] = np.minimum(noise.lognormal(-0.6, 1.1, _TABLE), 60.0).tolist()
        self._distances: list[float] = (noise.random(_TABLE) ** 3).tolist()
        self._units = 10.0 ** np.array([c.price_decimals for c in self.contracts], dtype=np.float64)
        self._last = np.array([c.price for c in self.contracts], dtype=np.float64)
        if history is not None and len(history):
            self._last = _filled(self._last, history)
        self._next = self._last
        self._next_ms = self.start_ms
        self._wiggle = np.zeros(len(self.contracts))
        self._thin_all = 1.0
        self._coins: list[_Coin] = []
        self._next_id = _FIRST_ID

    def open(self, feed: Feed) -> None:
        """Fill the books and the klines of the history."""
        for k, contract in enumerate(self.contracts):
            line = feed.lines[contract.symbol]
            coin = _Coin(line, k, self._seed)
            price = float(self._last[k])
            line.klines.bar.close = max(1, round(price * self._units[k]))
            if self._history is not None:
                line.klines.fill(self._history[:, k], self._per_minute)
            bar = line.klines.bar
            bar.open = bar.high = bar.low = bar.close
            self._first_book(coin, price * float(self._units[k]))
            self._coins.append(coin)

    def advance(self, now_ms: int, feed: Feed) -> bool:
        """Move every book one step of the clock on; False when the prices have ended."""
        while now_ms > self._next_ms:
            row = next(self._rows, None)
            if row is None:
                return False
            self._take(np.asarray(row, dtype=np.float64))
        targets = self._targets(now_ms) if now_ms % _PRICE_MS == 0 else None
        feed.now_ms = now_ms
        for k, coin in enumerate(self._coins):
            self._step(feed, coin, targets[k] if targets is not None else None)
        return True

    def close(self) -> None:
        """Nothing is held open."""

    # --- prices -------------------------------------------------------------------------------------------------------

    def _take(self, row: NDArray[np.float64]) -> None:
        if row.shape != self._last.shape:
            raise DataError(f"prices of the synthetic market: a row of {row.shape}; expected {self._last.shape} closes")
        self._last = self._next
        self._next = np.where(np.isfinite(row) & (row > 0.0), row, self._last)
        self._next_ms += self._bar_ms

    def _targets(self, now_ms: int) -> list[float]:
        weight = 1.0 - (self._next_ms - now_ms) / self._bar_ms
        self._wiggle = 0.9 * self._wiggle + 2e-5 * self._noise.standard_normal(len(self._wiggle))
        if self._noise.random() < 0.0005:
            self._thin_all = 0.25 if self._thin_all == 1.0 else 1.0
        price = self._last + (self._next - self._last) * weight
        targets: list[float] = (price * (1.0 + self._wiggle) * self._units).tolist()
        return targets

    # --- one book -----------------------------------------------------------------------------------------------------

    def _first_book(self, coin: _Coin, target: float) -> None:
        book = coin.line.book
        coin.bid = max(1, int(target))
        coin.ask = coin.bid + 1
        draw = coin.rng.random
        for side, best, way in ((book.bids, coin.bid, -1), (book.asks, coin.ask, 1)):
            for away in range(min(_NEAR, coin.span)):
                if away < 5 or draw() < 0.7:
                    side[best + way * away] = self._lots(coin, away)
            edge = best + way * _NEAR
            grid = edge - edge % coin.coarse
            for away in range(coin.coarse, coin.span, coin.coarse):
                if draw() < 0.6:
                    side[grid + way * away] = self._lots(coin, away + _NEAR)
        for price in [p for p in book.bids if p < 1]:
            del book.bids[price]
        book.last_id, book.changed_ms = self._next_id, self.start_ms
        self._next_id += 1

    def _lots(self, coin: _Coin, away: int) -> int:
        size = self._sizes[coin.rng.getrandbits(12)]
        # Far levels are round numbers where many orders rest, so a band far out is not empty beside the near ones.
        return int(coin.base * size * coin.thin * self._thin_all * (1.0 + 2.0 * away / coin.span)) + 1

    def _step(self, feed: Feed, coin: _Coin, target: float | None) -> None:
        line, rng = coin.line, coin.rng
        book = line.book
        bids: dict[int, int] = {}
        asks: dict[int, int] = {}
        touch = (coin.bid, book.bids[coin.bid], coin.ask, book.asks[coin.ask])
        if target is not None:
            if rng.random() < 0.001:
                coin.thin = 0.15 if coin.thin == 1.0 else 1.0
            self._follow(coin, target, bids, asks)
        hit = None
        if rng.random() >= coin.quiet:
            hit = self._hit(coin, bids, asks) if rng.random() < coin.pace else None
            self._churn(coin, bids, asks)
        coin.step += 1
        if coin.step % _SWEEP_STEPS == 0:
            self._sweep(coin, bids, asks)
        first = self._next_id
        self._next_id += len(bids) + len(asks)
        if self._next_id == first:
            return
        # Numbers are the whole exchange's, as the venue's are: a contract's own have gaps.
        book.last_id, book.changed_ms = self._next_id - 1, feed.now_ms
        if hit is not None:
            feed.traded(line, hit[0], hit[1], buyer_made=hit[2])
        feed.changed(line, list(bids.items()), list(asks.items()), first)
        bid, ask = book.bids[coin.bid], book.asks[coin.ask]
        if touch != (coin.bid, bid, coin.ask, ask):
            feed.touched(line, (coin.bid, bid), (coin.ask, ask))

    def _follow(self, coin: _Coin, target: float, out_bids: dict[int, int], out_asks: dict[int, int]) -> None:
        """Bring the touch to the price: levels on the wrong side of it go, new ones come."""
        bid, ask = coin.bid, coin.ask
        if bid <= target <= ask:
            if ask - bid > 3:
                bid, ask = (bid + 1, ask) if target - bid > ask - target else (bid, ask - 1)
        else:
            spread = 1 if coin.rng.random() < 0.8 else 1 + coin.rng.getrandbits(2)
            bid = max(1, int(target) - spread // 2)
            ask = bid + spread
        book = coin.line.book
        _clear(book.bids, out_bids, range(bid + 1, coin.bid + 1))
        _clear(book.asks, out_asks, range(coin.ask, ask))
        for p in range(bid, max(coin.bid, bid - 6), -1):
            self._put(coin, book.bids, out_bids, p, bid - p)
        for p in range(ask, min(coin.ask, ask + 6)):
            self._put(coin, book.asks, out_asks, p, p - ask)
        # After a jump the levels that now stand at the touch may be a trade's leavings: the touch itself must exist.
        for side, out, p in ((book.bids, out_bids, bid), (book.asks, out_asks, ask)):
            if p not in side:
                self._put(coin, side, out, p, 0)
        coin.bid, coin.ask = bid, ask

    def _hit(self, coin: _Coin, out_bids: dict[int, int], out_asks: dict[int, int]) -> tuple[int, int, bool]:
        """A market order against the touch: price, lots, and whether the buyer's order had been waiting."""
        sells = coin.rng.random() < 0.5
        side, out = (coin.line.book.bids, out_bids) if sells else (coin.line.book.asks, out_asks)
        price = coin.bid if sells else coin.ask
        lots = int(self._sizes[coin.rng.getrandbits(12)] * coin.base * 0.08) + 1
        waiting = side[price]
        if lots < waiting or len(side) < 20:
            lots = min(lots, waiting)
            side[price] = out[price] = max(1, waiting - lots)
            return price, lots, sells
        del side[price]
        out[price] = 0
        if sells:
            coin.bid = next_below(side, price)
        else:
            coin.ask = next_above(side, price)
        return price, waiting, sells

    def _churn(self, coin: _Coin, out_bids: dict[int, int], out_asks: dict[int, int]) -> None:
        """Orders come and go: a few levels of either side are set anew or taken away, the touch excepted."""
        draw, book = coin.rng.getrandbits, coin.line.book
        distances, span, coarse = self._distances, coin.span, coin.coarse
        for side, out, best, way in ((book.bids, out_bids, coin.bid, -1), (book.asks, out_asks, coin.ask, 1)):
            for _ in range(_CHURN):
                bits = draw(14)
                away = int(distances[bits & 4095] * span)
                price = best + way * away
                if away > _NEAR:
                    price -= price % coarse
                if price < 1 or (price >= best if way < 0 else price <= best):
                    # The coarse grid may round onto the touch or past it; the touch only changes in size.
                    self._put(coin, side, out, best, 0)
                elif bits >> 12 == 0:
                    if side.pop(price, 0):
                        out[price] = 0
                else:
                    self._put(coin, side, out, price, away)

    def _sweep(self, coin: _Coin, out_bids: dict[int, int], out_asks: dict[int, int]) -> None:
        """Levels that the price has left far behind, or off the coarse grid, are cancelled: memory stays flat."""
        book, reach = coin.line.book, int(coin.span * 1.2)
        for side, out, best in ((book.bids, out_bids, coin.bid), (book.asks, out_asks, coin.ask)):
            gone = [p for p in side if (d := abs(p - best)) > reach or (d > 2 * _NEAR and p % coin.coarse)]
            for price in gone:
                del side[price]
                out[price] = 0

    def _put(self, coin: _Coin, side: dict[int, int], out: dict[int, int], price: int, away: int) -> None:
        side[price] = out[price] = self._lots(coin, away)


def _clear(side: dict[int, int], out: dict[int, int], prices: range) -> None:
    """Take the levels at these prices away."""
    gone: Iterable[int] = prices if len(prices) < len(side) else [p for p in side if p in prices]
    for price in gone:
        if side.pop(price, 0):
            out[price] = 0


def _filled(first: NDArray[np.float64], history: NDArray[np.float64]) -> NDArray[np.float64]:
    """The last price of each column, `first` where it has none."""
    if history.ndim != 2 or history.shape[1] != len(first):
        raise DataError(f"history of the synthetic market: shape {history.shape}; expected (bars, {len(first)})")
    sound = np.isfinite(history) & (history > 0.0)
    index = len(history) - 1 - np.argmax(sound[::-1], axis=0)
    last: NDArray[np.float64] = np.where(sound.any(axis=0), history[index, np.arange(len(first))], first)
    return last
