"""ACB v6, the adaptive circuit breaker: a boost from external factors, a beta from the slow eigenvalue (SPEC §9).

Three scales. Scale 1 turns the date's factors into `boost`, scale 3 the date's w750 velocity into `beta`. Scale 2 is
the engine's, per bar: boost·(1 + beta·strength³)·mc_scale (`alpha.sizing`), and so is OB-4, which raises beta while
liquidity withdraws.

Nothing here reads a file or a clock: values come in through `set_factors` and `add_w750`.
"""

from __future__ import annotations

import datetime
import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Protocol, TypedDict

import msgspec

from dolphin.core.clock import parse_date
from dolphin.core.errors import ConfigError
from dolphin.core.jit import inlined_kernel

FACTORS = ("funding_btc", "dvol_btc", "fng", "taker")
"""The factors of scale 1: BTC funding (fraction per settlement), BTC implied volatility (percent per year), Fear &
Greed (0 to 100), taker buy/sell ratio."""


class AcbParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The breaker's parameters, frozen (Bible §19.2); each value lies strictly below its limit to count, DVOL above."""

    funding_very_bearish: float = -0.0001
    funding_bearish: float = 0.0
    dvol_extreme: float = 80.0
    dvol_elevated: float = 55.0
    fng_extreme_fear: float = 25.0
    fng_fear: float = 40.0
    taker_selling: float = 0.80
    taker_mild: float = 0.90
    strong: float = 1.0
    mild: float = 0.5
    boost_from_signals: float = 1.0
    boost_scale: float = 0.5
    beta_high: float = 0.8
    beta_low: float = 0.2
    w750_threshold_pct: float = 60.0
    min_history_dates: int = 20
    scans: int = 10


ACB_PARAMS = AcbParams()
"""The frozen values."""

FIRST_ACB_BAR = ACB_PARAMS.scans
"""Day bar (0-based) from which the day's values hold: the first after its ten scans (SPEC §9)."""


class MacroStress(Protocol):
    """What OB-4 reads of the order book's macro features (SPEC §8)."""

    @property
    def regime_signal(self) -> int:
        """+1 while liquidity withdraws."""

    @property
    def depth_velocity(self) -> float:
        """Relative change of mean depth; NaN when not known."""


class StressBook(Protocol):
    """An order-book engine, as far as the breaker knows one."""

    def get_macro(self) -> MacroStress | None:
        """The latest macro features; None without a usable book."""


class AcbAnswer(TypedDict):
    """What the breaker says of one date.

    `boost` and `beta` are what the engine takes; `factors` the medians, None where missing; `w750` the date's velocity,
    None when missing; `w750_threshold` the percentile over `history_dates` earlier dates, None when they are too few;
    `missing` names the factors without a value; `ob_beta` is beta under the book's present stress (OB-4), None when no
    book was given.
    """

    boost: float
    beta: float
    signals: float
    factors: dict[str, float | None]
    w750: float | None
    w750_threshold: float | None
    history_dates: int
    missing: list[str]
    ob_beta: float | None


class AdaptiveCircuitBreaker:
    """Boost and beta per date from factors and w750 velocities that the caller hands in (SPEC §9).

    Causality: the answer for a date depends on that date's first ten scans and on earlier dates only; whatever is
    handed in for later dates, or later on the same date, never changes it. Whoever replays must not ask before the
    date's ten scans exist. Not thread-safe.
    """

    def __init__(self, params: AcbParams = ACB_PARAMS) -> None:
        self.params = params
        self._factors: dict[datetime.date, dict[str, float | None]] = {}
        self._w750: dict[datetime.date, float | None] = {}

    def set_factors(self, date: datetime.date | str, values: Mapping[str, Sequence[float]]) -> None:
        """Take the date's factors: per name one value a scan, in the order of the scans; the first ten count.

        A scan without the factor is NaN; a name left out, or without a finite value, is missing, not zero. A second
        call for the same date replaces the first. Raises ConfigError for a name that is no factor.
        """
        unknown = sorted(set(values) - set(FACTORS))
        if unknown:
            raise ConfigError(f"factors of {date}: {unknown[0]!r} is no factor; expected {', '.join(FACTORS)}")
        self._factors[_as_date(date)] = {name: self._median(values.get(name, ())) for name in FACTORS}

    def add_w750(self, date: datetime.date | str, values: Sequence[float]) -> None:
        """Take the date's w750 velocities, one a scan in order, per bar; the median of the first ten is its value.

        NaN while windows fill is missing; a date without a finite value has none and is no history.
        """
        self._w750[_as_date(date)] = self._median(values)

    def get_dynamic_boost_for_date(self, date: datetime.date | str, ob_engine: StressBook | None = None) -> AcbAnswer:
        """Boost and beta of `date`, and what they were made of.

        `beta` is the day's own: the engine's step applies OB-4 at every bar, so it must not be in there twice. With
        `ob_engine` the stressed beta of this moment is told beside it, as `ob_beta`, for people to see.
        """
        day = _as_date(date)
        factors = self._factors.get(day) or dict.fromkeys(FACTORS)
        signals = count_signals(factors, self.params)
        w750 = self._w750.get(day)
        history = [v for earlier, v in self._w750.items() if earlier < day and v is not None]
        threshold = w750_threshold(history, self.params)
        beta = beta_for(w750, threshold, self.params)
        return AcbAnswer(
            boost=base_boost(signals, self.params),
            beta=beta,
            signals=signals,
            factors=dict(factors),
            w750=w750,
            w750_threshold=threshold,
            history_dates=len(history),
            missing=[name for name in FACTORS if factors[name] is None],
            ob_beta=None if ob_engine is None else _stressed(beta, ob_engine.get_macro()),
        )

    def _median(self, values: Sequence[float]) -> float | None:
        finite = [float(v) for v in values[: self.params.scans] if math.isfinite(v)]
        return median(finite) if finite else None


def count_signals(factors: Mapping[str, float | None], params: AcbParams = ACB_PARAMS) -> float:
    """Scale 1's signal count, 0 to 4: funding, dvol and taker by their tables; fng only with another at ≥ 0.5.

    `factors` holds a median per name; None or an absent name scores nothing.
    """
    p = params
    others = (
        _low(factors.get("funding_btc"), p.funding_very_bearish, p.funding_bearish, p),
        _high(factors.get("dvol_btc"), p.dvol_extreme, p.dvol_elevated, p),
        _low(factors.get("taker"), p.taker_selling, p.taker_mild, p),
    )
    confirmed = max(others) >= p.mild
    fear = _low(factors.get("fng"), p.fng_extreme_fear, p.fng_fear, p) if confirmed else 0.0
    return sum(others) + fear


def base_boost(signals: float, params: AcbParams = ACB_PARAMS) -> float:
    """1 + 0.5·log1p(signals) from one signal on, else 1: 1 → 1.347, 2 → 1.549, 3 → 1.693."""
    return 1.0 + params.boost_scale * math.log1p(signals) if signals >= params.boost_from_signals else 1.0


def possible_boosts(params: AcbParams = ACB_PARAMS) -> tuple[float, ...]:
    """Every boost that a date can have, ascending: four factors score 0, mild or strong each."""
    scores = (0.0, params.mild, params.strong)
    sums = {a + b + c + d for a in scores for b in scores for c in scores for d in scores}
    return tuple(sorted({base_boost(signals, params) for signals in sums}))


def w750_threshold(history: Sequence[float], params: AcbParams = ACB_PARAMS) -> float | None:
    """The 60th percentile (linear) of one value per earlier date; None for fewer than 20 dates."""
    if len(history) < params.min_history_dates:
        return None
    # What `np.percentile` computes, bit for bit, in a tenth of its time: it is asked on every day of a replay.
    ordered = sorted(history)
    place = params.w750_threshold_pct / 100.0 * (len(ordered) - 1)
    k = int(place)
    low, high, share = ordered[k], ordered[min(k + 1, len(ordered) - 1)], place - k
    step = high - low
    return high - step * (1.0 - share) if share >= 0.5 else low + step * share


def beta_for(w750: float | None, threshold: float | None, params: AcbParams = ACB_PARAMS) -> float:
    """Scale 3: 0.8 for a velocity at or above the threshold, else (and when either is not known) 0.2."""
    return params.beta_high if w750 is not None and threshold is not None and w750 >= threshold else params.beta_low


@inlined_kernel
def stressed_beta(beta: float, regime_signal: int, depth_velocity: float) -> float:
    """OB-4: beta·(1 + 0.25·stress), stress = clamp(−depth_velocity/0.20, 0, 1) while regime_signal = +1."""
    if regime_signal != 1 or math.isnan(depth_velocity):
        return beta
    return beta * (1.0 + 0.25 * min(max(-depth_velocity / 0.20, 0.0), 1.0))


def _stressed(beta: float, macro: MacroStress | None) -> float:
    return beta if macro is None else stressed_beta(beta, macro.regime_signal, macro.depth_velocity)


def _low(value: float | None, strong: float, mild: float, params: AcbParams) -> float:
    """The weight of a factor that is bearish when low."""
    if value is None or value >= mild:
        return 0.0
    return params.strong if value < strong else params.mild


def _high(value: float | None, strong: float, mild: float, params: AcbParams) -> float:
    """The weight of a factor that is bearish when high."""
    if value is None or value <= mild:
        return 0.0
    return params.strong if value > strong else params.mild


def _as_date(date: datetime.date | str) -> datetime.date:
    return parse_date(date) if isinstance(date, str) else date
