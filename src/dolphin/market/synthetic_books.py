"""Order books beside a synthetic market, so that every rule of the book has something to do (SPEC §8).

One snapshot per asset and bar, taken up to two seconds before the bar became known. Depth wanders slowly, shrinks after
large moves, and is withdrawn in episodes: of one asset, or of many at once. Books lean with the market and with the
returns just past, for some stretches one side is empty, some assets fall silent for an hour, and every third day the
whole feed stops. Nothing here knows a later price, and nothing here is a claim about how real books behave.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dolphin.book.layout import BANDS
from dolphin.core.clock import date_start_ns
from dolphin.market.bookfiles import BookDay, book_day
from dolphin.market.synthetic_paths import Array, log_vol
from dolphin.market.tables import PriceDay

_STREAM = 1_000_003
"""Keeps the books' random streams apart from those of the prices with the same seed."""

_BAND_SHARE = np.array([1.0, 0.85, 0.75, 0.65, 0.55])
_TOP_DEPTH_USD = 20e6
_DEPTH_SPREAD, _LEAN_SPREAD = 0.25, 0.30
_RECOVERY_BARS = 40


@dataclass
class _State:
    """What one day hands to the next: log depths, leans of the assets and of the market, the last prices."""

    depth: Array
    lean: Array
    market_lean: Array
    price: Array


class BookMaker:
    """Makes the books beside days of a market, one after the other, all of the same assets.

    Determinism: each day draws from its own stream keyed by (seed, day's place), so the first days do not depend on how
    many follow. Causality: a snapshot depends on its own bar's price and earlier ones.
    """

    def __init__(self, seed: int) -> None:
        self._seed, self._made = seed, 0
        self._state: _State | None = None

    def make(self, day: PriceDay) -> BookDay:
        """The books beside the next day: amounts are whole USD and thousandths of a base unit; an asset without a price
        has no snapshot."""
        stream = np.random.SeedSequence([self._seed, _STREAM, self._made])
        rng = np.random.Generator(np.random.PCG64(stream))
        if self._state is None:
            depth, lean = (rng.normal(0.0, spread, len(day.assets)) for spread in (_DEPTH_SPREAD, _LEAN_SPREAD))
            self._state = _State(depth, lean, np.zeros(1), day.closes[0])
        outage = self._made % 3 == 2
        self._made += 1
        return _make_day(rng, day, self._state, outage=outage)


def _make_day(rng: np.random.Generator, day: PriceDay, state: _State, *, outage: bool) -> BookDay:
    bars, n = day.closes.shape
    moved = _recent_return(day.closes, state.price)
    depth = log_vol(rng, state.depth, bars, _DEPTH_SPREAD)
    lean = log_vol(rng, state.lean, bars, _LEAN_SPREAD)
    market = log_vol(rng, state.market_lean, bars, _LEAN_SPREAD)
    state.depth, state.lean, state.market_lean = depth[-1].copy(), lean[-1].copy(), market[-1].copy()
    state.price = day.closes[-1]
    base = np.log(_TOP_DEPTH_USD / (1.0 + np.arange(n)) ** 0.8)
    level = np.exp(base + depth - 25.0 * np.abs(moved) + _withdrawn(rng, bars, n))
    leaning = np.tanh(lean + market + 12.0 * moved)
    noise = np.exp(0.04 * rng.standard_normal((2, bars, n, BANDS)))
    bids = level[..., None] * _BAND_SHARE * (1.0 + leaning[..., None]) / 2.0 * noise[0]
    asks = level[..., None] * _BAND_SHARE * (1.0 - leaning[..., None]) / 2.0 * noise[1]
    _empty_sides(rng, bids, asks)
    return _rows(rng, day, np.rint(bids), np.rint(asks), _kept(rng, day.closes, outage))


def _recent_return(closes: Array, before: Array) -> Array:
    """The return over the last five bars, 0 where it is not known."""
    padded = np.vstack([np.broadcast_to(before, (5, closes.shape[1])), closes])
    moved = closes / padded[:-5] - 1.0
    return np.where(np.isfinite(moved), np.clip(moved, -0.05, 0.05), 0.0)


def _withdrawn(rng: np.random.Generator, bars: int, n: int) -> Array:
    """Episodes in which liquidity leaves within a few bars and comes back slowly: log multipliers, (T, N)."""
    out = np.zeros((bars, n))
    shared = [(rng.random(n) < rng.uniform(0.3, 0.9), rng.uniform(0.8, 1.6)) for _ in range(max(1, bars // 240))]
    single = [(np.arange(n) == int(rng.integers(n)), rng.uniform(0.4, 1.0)) for _ in range(max(1, bars * n // 720))]
    for who, size in (*shared, *single):
        first, falls = int(rng.integers(bars)), int(rng.integers(2, 8))
        shape = np.concatenate([np.linspace(0.0, 1.0, falls + 1)[1:], np.linspace(1.0, 0.0, _RECOVERY_BARS)])
        part = shape[: bars - first]
        out[first : first + len(part)] -= size * part[:, None] * who
    return out


def _empty_sides(rng: np.random.Generator, bids: Array, asks: Array) -> None:
    """For some stretches of one asset each, one side holds nothing."""
    bars, n, _ = bids.shape
    for _ in range(max(1, bars // 480)):
        first, side = int(rng.integers(bars)), bids if rng.random() < 0.5 else asks
        side[first : first + int(rng.integers(5, 20)), int(rng.integers(n))] = 0.0


def _kept(rng: np.random.Generator, closes: Array, outage: bool) -> NDArray[np.bool_]:
    """Where there is a snapshot, (T, N)."""
    bars, n = closes.shape
    kept = np.isfinite(closes) & (rng.random((bars, n)) >= 0.01)
    for _ in range(max(1, n // 12)):
        first = int(rng.integers(bars))
        kept[first : first + int(rng.integers(15, 60)), int(rng.integers(n))] = False
    first, length = int(rng.integers(bars // 4, max(bars // 4 + 1, bars // 2))), int(rng.integers(20, 40))
    if outage:
        kept[first : first + length] = False
    return kept


def _rows(rng: np.random.Generator, day: PriceDay, bids: Array, asks: Array, kept: NDArray[np.bool_]) -> BookDay:
    bars, n = kept.shape
    age_ns = rng.integers(50, 2000, (bars, n)) * 1_000_000
    step = np.diff(day.ts_ns, prepend=date_start_ns(day.day))[:, None]
    ts_ns = day.ts_ns[:, None] - np.minimum(age_ns, np.maximum(step - 1_000_000, 0))
    price = np.where(kept, day.closes, 1.0)[..., None]
    both = (bids, asks, np.round(bids / price, 3), np.round(asks / price, 3))
    amounts = np.concatenate(both, axis=2)[kept]
    names = np.broadcast_to(np.array(day.assets), (bars, n))[kept]
    return book_day(day.day, ts_ns[kept], names, amounts)
