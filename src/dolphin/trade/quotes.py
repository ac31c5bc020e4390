"""Bid and ask around a price that is only known as a close, on a venue's tick (SPEC §7 native friction).

A close lies somewhere in the spread, mostly at one of its ends. Rounding bid and ask away from it would charge coins
with a coarse tick twice what they cost, rounding to the nearest nothing. So both are placed by a draw that depends on
the instant alone: on average the close is the middle, and the spread as wide as asked for, but never less than a tick
(docs/decisions/0040).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]

_TINY = 1e-9  # ticks: a price that lies on the tick but for floating point stays there
_NS_PER_S = 1_000_000_000
_ELSEWHERE = 7919 * _NS_PER_S  # a second draw, unrelated to the first
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def draws_of(stamps: NDArray[np.int64]) -> F8:
    """A number in [0, 1) for every stamp (UTC ns), the same for all of one second; a nanosecond before counts to it."""
    seconds = ((stamps + 1) // _NS_PER_S).astype(np.uint64)
    with np.errstate(over="ignore"):
        mixed = (seconds + np.uint64(1)) * _GOLDEN
        mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX
        mixed ^= mixed >> np.uint64(31)
    draws: F8 = (mixed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return draws


def bid_ask(prices: F8, stamps: NDArray[np.int64], spread_bps: float, tick: float | None) -> tuple[F8, F8]:
    """Bid and ask (T,) around `prices` (T,) at `stamps` (T,), both multiples of `tick` and at least one tick.

    Without a tick they stand half the spread away, unrounded. Without a spread a price between two ticks has the one
    below as its bid and the one above as its ask. Determinism: a function of the arguments.
    """
    width = prices * spread_bps * 1e-4
    if tick is None:
        return prices - 0.5 * width, prices + 0.5 * width
    steps = prices / tick
    if spread_bps == 0.0:
        low = np.maximum(np.floor(steps + _TINY), 1.0)
        return low * tick, np.maximum(np.ceil(steps - _TINY), low) * tick
    apart = np.maximum(np.floor(width / tick + draws_of(stamps)), 1.0)
    low = np.maximum(np.floor(steps - 0.5 * apart + draws_of(stamps + _ELSEWHERE) + _TINY), 1.0)
    return low * tick, (low + apart) * tick


def beyond(best: float, bps: float, tick: float | None) -> float:
    """The price `bps` above `best` (below for a negative one), to the nearest tick, at least one tick."""
    price = best * (1.0 + bps * 1e-4)
    return price if tick is None else max(1.0, float(np.rint(price / tick))) * tick
