"""The moving parts of a synthetic market: regimes, volatility, crash and the clock of the day (SPEC §1).

Each function makes one UTC day of one ingredient from a generator and a carried state, so that a market of any
length needs the memory of one day and its first days do not depend on how many follow.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

CRASH_BARS = 30
RECOVERY_BARS = 120
OUTAGE_S = 2400
EVENT_CYCLE_DAYS = 20
"""The calendar of events repeats after this many days."""

VOL_HALF_LIFE_BARS = 120.0


@dataclass
class Segment:
    """A stretch of the correlation regime: from level `start` to `target` within `ramp` bars, `length` bars in all.

    Levels run from 0 (every asset for itself) to 1 (one market); `at` counts the bars already used.
    """

    start: float
    target: float
    ramp: int
    length: int
    at: int = 0

    def level(self, bar: int) -> float:
        """The regime's level after `bar` bars of this segment."""
        return float(_ramped(self, np.array([bar], dtype=np.float64))[0])


def regime_levels(rng: np.random.Generator, segment: Segment, bars: int) -> tuple[Array, Segment]:
    """`bars` levels in [0, 1], float64 (bars,), continuing `segment`; gives the segment that is open at the end.

    Calm and stress alternate with a drift towards change; a third of the transitions are abrupt (three bars or
    fewer), the others take between half a short window and three of them.
    """
    out = np.empty(bars)
    done = 0
    while done < bars:
        if segment.at >= segment.length:
            segment = _next_segment(rng, segment)
        n = min(bars - done, segment.length - segment.at)
        out[done : done + n] = _ramped(segment, np.arange(segment.at + 1, segment.at + n + 1, dtype=np.float64))
        segment = Segment(segment.start, segment.target, segment.ramp, segment.length, segment.at + n)
        done += n
    return out, segment


def _ramped(segment: Segment, bars: Array) -> Array:
    x = np.clip(bars / segment.ramp, 0.0, 1.0)
    levels: Array = segment.start + (segment.target - segment.start) * (x * x * (3.0 - 2.0 * x))
    return levels


def _next_segment(rng: np.random.Generator, last: Segment) -> Segment:
    here = last.level(last.length)
    to_stress = rng.random() < (0.8 if here < 0.5 else 0.2)
    target = rng.uniform(0.6, 0.95) if to_stress else rng.uniform(0.0, 0.35)
    abrupt = rng.random() < 1.0 / 3.0
    ramp = int(rng.integers(1, 4)) if abrupt else int(rng.integers(25, 150))
    return Segment(here, target, ramp, ramp + 40 + int(rng.exponential(220.0)))


def ar1(noise: Array, start: Array, phi: float) -> Array:
    """`x[t] = phi·x[t-1] + noise[t]` from `x[-1] = start`, over (T, K) noise and (K,) start."""
    out = np.empty_like(noise)
    x = start.copy()
    for t in range(len(noise)):
        x *= phi
        x += noise[t]
        out[t] = x
    return out


def log_vol(rng: np.random.Generator, start: Array, bars: int, spread: float) -> Array:
    """Log volatility, (bars, K): stationary, standard deviation `spread`, half-life VOL_HALF_LIFE_BARS."""
    phi = float(0.5 ** (1.0 / VOL_HALF_LIFE_BARS))
    noise = rng.standard_normal((bars, len(start))) * (spread * np.sqrt(1.0 - phi * phi))
    return ar1(noise, start, phi)


def fat_tailed(rng: np.random.Generator, shape: tuple[int, ...], freedom: float) -> Array:
    """Student-t draws scaled to unit variance and cut at ±15, beyond which no order book would let a price go."""
    draws = rng.standard_t(freedom, shape) * np.sqrt((freedom - 2.0) / freedom)
    cut: Array = np.clip(draws, -15.0, 15.0)
    return cut


def day_pattern(bars: int) -> Array:
    """Volatility multiplier by time of day, (bars,), mean about 1: quiet at 04 UTC, busy at 15, spikes at funding."""
    hour = np.arange(bars) * (24.0 / bars)
    pattern = 1.0 + 0.28 * np.cos((hour - 15.0) * (2.0 * np.pi / 24.0))
    for funding in (0.0, 8.0, 16.0, 24.0):
        pattern += 0.5 * np.exp(-(((hour - funding) / 0.12) ** 2))
    return pattern


def crash_path(rng: np.random.Generator, bars: int) -> tuple[Array, Array]:
    """BTCUSDT's crash of the day: log return per bar (bars,) and how far the crash rules each bar, (bars,) in [0, 1].

    A fall of 7 to 9 % in CRASH_BARS and a recovery of about half of it in RECOVERY_BARS (less in a day of few
    bars), each in uneven steps; while it lasts, all assets move together.
    """
    drift, rule = np.zeros(bars), np.zeros(bars)
    fall, back = min(CRASH_BARS, max(1, bars // 8)), min(RECOVERY_BARS, max(1, bars // 4))
    first = int(rng.integers(int(bars * 0.4), int(bars * 0.55) + 1))
    depth = rng.uniform(0.07, 0.09)
    recovered = rng.uniform(0.45, 0.6)
    hump = np.sin(np.pi * (np.arange(fall) + 0.5) / fall) + 0.15
    steps = hump * rng.gamma(2.0, 1.0, fall)
    drift[first : first + fall] = -depth * steps / steps.sum()
    steps = np.exp(-np.arange(back) / (back / 3.0)) * rng.gamma(2.0, 1.0, back)
    drift[first + fall : first + fall + back] = depth * recovered * steps / steps.sum()
    rule[first : first + fall] = 1.0
    rule[first + fall : first + fall + back] = np.linspace(1.0, 0.0, back)
    return drift, rule
