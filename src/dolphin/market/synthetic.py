"""A deterministic synthetic market: for demos, benchmarks and tests that must not depend on recorded data (SPEC §1).

Log return of asset i at bar t:

    r = vol_i · day_pattern(t) · market_vol(t) · own_vol_i(t) · (√a·market + √b·sector_i + √(1−a−b)·own_i) + crash

with Student-t factors, log-AR(1) volatilities, and shares `a`, `b` that follow a regime: in calm markets every
asset goes its own way, in stress the market factor rules, and the change between them is sometimes abrupt. On
top lie a calendar of events (one crash, one outage, two assets that lose their price for hours, one listing).
Nothing here is a claim about how real markets behave; it is a market in which every rule has something to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, timedelta

import numpy as np

from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.core.errors import ConfigError
from dolphin.market import synthetic_paths as paths
from dolphin.market.synthetic_paths import Array, Segment
from dolphin.market.synthetic_universe import MAX_ASSETS, SECTORS, Universe, universe
from dolphin.market.tables import PriceDay

_DAY_S = 86_400
_MARKET_VOL_SPREAD, _OWN_VOL_SPREAD = 0.45, 0.30
_PULL_DAYS = 40.0


@dataclass(frozen=True)
class MarketSpec:
    """What market to make; two equal specs give the same bytes.

    `days` ≥ 1 UTC days from `start`; `assets` in [1, MAX_ASSETS]; `bar_seconds` a divisor of a day, at most one
    hour; `seed` ≥ 0; `outage` leaves out about 40 minutes of rows of the third day. Raises ConfigError.
    """

    days: int = 5
    assets: int = 48
    bar_seconds: int = 60
    seed: int = 7
    start: date = date(2024, 1, 1)
    outage: bool = True

    def __post_init__(self) -> None:
        """Refuse a value out of range, so that no half-made market exists."""
        bounds = (
            ("days", self.days, 1, 36_500),
            ("assets", self.assets, 1, MAX_ASSETS),
            ("bar_seconds", self.bar_seconds, 1, 3600),
            ("seed", self.seed, 0, 2**64 - 1),
        )
        for name, value, low, high in bounds:
            if not low <= value <= high:
                raise ConfigError(f"{name}={value}: expected a whole number between {low} and {high}")
        if _DAY_S % self.bar_seconds:
            raise ConfigError(f"bar_seconds={self.bar_seconds}: does not divide a day; choose 1, 5, 60, 300 …")
        last_year = self.start.year + self.days // 365 + 1
        if self.start.year < 1970 or last_year > 2262:
            raise ConfigError(f"start={self.start}: the market must lie between 1970 and 2262, where stamps fit int64")

    @property
    def bars_per_day(self) -> int:
        """Rows of a day without an outage."""
        return _DAY_S // self.bar_seconds


@dataclass
class _State:
    """What one day hands to the next: log prices, log volatilities, loadings and the open regime segment."""

    log_price: Array
    market_vol: Array
    own_vol: Array
    loading: Array
    segment: Segment = field(default_factory=lambda: Segment(0.2, 0.2, 1, 60))


def make_market(spec: MarketSpec) -> Iterator[PriceDay]:
    """The days of the market, in order; memory is that of one day.

    Shapes and units: see PriceDay; prices lie on the asset's tick and are > 0; NaN before a listing and while an
    asset is missing; an outage is rows that are not there. Stamps are close times (the instant the bar became known).
    Determinism: every day draws from its own PCG64 stream keyed by (seed, day index), so the same spec gives the
    same bytes with the same numpy, and the first k days are the same however many are asked for.
    """
    coins = universe(spec.assets)
    rng = _generator(spec.seed, 0)
    state = _State(
        log_price=np.log(coins.level) + rng.normal(0.0, 0.05, spec.assets),
        market_vol=rng.normal(0.0, _MARKET_VOL_SPREAD, 1),
        own_vol=rng.normal(0.0, _OWN_VOL_SPREAD, spec.assets),
        loading=rng.uniform(0.8, 1.15, spec.assets),
    )
    for index in range(spec.days):
        yield _make_day(spec, coins, state, index)


def _generator(seed: int, stream: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, stream])))


def _make_day(spec: MarketSpec, coins: Universe, state: _State, index: int) -> PriceDay:
    rng = _generator(spec.seed, index + 1)
    bars = spec.bars_per_day
    returns = _returns(rng, spec, coins, state, crash=_event(index) == 1)
    np.cumsum(returns, axis=0, out=returns)
    returns += state.log_price
    state.log_price = returns[-1].copy()
    scale = 10.0 ** coins.decimals.astype(np.float64)
    # Dividing a whole number by a power of ten gives the very float that the decimal text would parse to.
    closes = np.maximum(np.rint(np.exp(returns) * scale), 1.0) / scale
    _blank_missing(rng, spec, closes, index)
    first = date_start_ns(spec.start + timedelta(days=index))
    ts_ns = first + np.arange(bars, dtype=np.int64) * (spec.bar_seconds * NS_PER_S)
    keep = _rows_kept(rng, spec, index)
    day = spec.start + timedelta(days=index)
    return PriceDay(day=day, ts_ns=ts_ns[keep], assets=coins.assets, closes=np.ascontiguousarray(closes[keep]))


def _event(index: int) -> int:
    """The day's place in the calendar: 0 missing prices, 1 crash, 2 outage, 3 missing prices, then quiet days."""
    return index % paths.EVENT_CYCLE_DAYS


def _returns(rng: np.random.Generator, spec: MarketSpec, coins: Universe, state: _State, *, crash: bool) -> Array:
    """One day of log returns, (T, N); moves `state` on, log prices excepted."""
    bars, n = spec.bars_per_day, spec.assets
    level, state.segment = paths.regime_levels(rng, state.segment, bars)
    drift, rule = paths.crash_path(rng, bars) if crash else (np.zeros(bars), np.zeros(bars))

    market_vol = paths.log_vol(rng, state.market_vol, bars, _MARKET_VOL_SPREAD)
    own_vol = paths.log_vol(rng, state.own_vol, bars, _OWN_VOL_SPREAD)
    state.market_vol, state.own_vol = market_vol[-1].copy(), own_vol[-1].copy()

    loading = _drifting(rng, state, bars)
    a = np.clip((0.12 + 0.62 * level)[:, None] * loading, 0.02, 0.85)
    b = (0.16 * (1.0 - level))[:, None] * np.ones(n)
    ruled = rule[:, None]
    a += (0.95 - a) * ruled
    b *= 1.0 - ruled

    out = paths.fat_tailed(rng, (bars, n), 5.0)
    out *= np.sqrt(1.0 - a - b)
    out += np.sqrt(a) * paths.fat_tailed(rng, (bars, 1), 4.0)
    out += np.sqrt(b) * paths.fat_tailed(rng, (bars, SECTORS), 5.0)[:, coins.sector]

    common = np.exp(market_vol[:, 0] - _MARKET_VOL_SPREAD**2) * (0.75 + 0.7 * level) * paths.day_pattern(bars)
    out *= np.exp(own_vol - _OWN_VOL_SPREAD**2)
    out *= common[:, None] * (coins.day_vol / np.sqrt(bars))
    out += drift[:, None] * coins.beta
    # A weak pull towards the level keeps a market of years on sensible ticks; within a day it is a mere drift.
    out -= (state.log_price - np.log(coins.level)) / (_PULL_DAYS * bars)
    return out


def _drifting(rng: np.random.Generator, state: _State, bars: int) -> Array:
    """Each asset's multiplier of the market share, (T, N), moving in a line to where it will be at midnight."""
    before = state.loading
    after = np.clip(before + rng.normal(0.0, 0.12, len(before)), 0.55, 1.25)
    state.loading = after
    weight = (np.arange(1, bars + 1) / bars)[:, None]
    moving: Array = before + (after - before) * weight
    return moving


def _blank_missing(rng: np.random.Generator, spec: MarketSpec, closes: Array, index: int) -> None:
    """Put NaN where an asset has no price: the last one before its listing, another for some hours of days 0 and 3.

    The first asset (BTCUSDT) always has its price, and a universe of fewer than three keeps all of them.
    """
    if spec.assets < 3:
        return
    bars = len(closes)
    if index == 0:
        closes[: bars // 2, -1] = np.nan
    if _event(index) in (0, 3):
        asset = int(rng.integers(1, spec.assets - 1))
        first = int(rng.integers(bars // 4, bars // 2))
        closes[first : first + max(1, int(bars * rng.uniform(0.08, 0.2))), asset] = np.nan


def _rows_kept(rng: np.random.Generator, spec: MarketSpec, index: int) -> slice | np.ndarray:
    bars = spec.bars_per_day
    if not spec.outage or _event(index) != 2:
        return slice(None)
    first = int(rng.integers(int(bars * 0.3), int(bars * 0.6)))
    kept = np.ones(bars, dtype=np.bool_)
    kept[first : first + max(1, paths.OUTAGE_S // spec.bar_seconds)] = False
    return kept
