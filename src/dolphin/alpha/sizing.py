"""How much: leverage, fraction of capital, and the multipliers of the risk stack (SPEC §5)."""

from __future__ import annotations

from dolphin.alpha.layout import F8, I8, Record
from dolphin.alpha.signal import clamp_nb
from dolphin.book.kernels import market_ob_mult_nb as market_ob_mult_nb
from dolphin.core.codes import Posture
from dolphin.core.jit import inlined_kernel
from dolphin.risk.acb import stressed_beta
from dolphin.risk.posture import ALLOWED, STALKER

MIN_FRACTION = 0.02
STALKER_LEVERAGE = ALLOWED[Posture.STALKER].leverage_cap
BUCKET_TRADES = 10
STREAK_TRADES = 5
TREND_VALUES = 10


@inlined_kernel
def convex_leverage_nb(strength: float, low: float, high: float, convexity: float) -> float:
    """low + strength^convexity·(high − low): 0.5 … 5.0 for the champion, before the multipliers."""
    return low + strength**convexity * (high - low)


@inlined_kernel
def bucket_nb(vel_div: float, edges: F8, direction: int) -> int:
    """0 extreme, 1 strong, 2 moderate, 3 weak, by |vel_div| against the three magnitudes in `edges`."""
    x = vel_div * direction
    if x >= edges[0]:
        return 0
    if x >= edges[1]:
        return 1
    if x >= edges[2]:
        return 2
    return 3


@inlined_kernel
def bucket_boost_nb(trades: I8, wins: I8, bucket: int) -> float:
    """1.3, 1.1, 0.7, 0.85 or 1.0 from the bucket's win rate; 1.0 until it has ten trades."""
    n = trades[bucket]
    if n < BUCKET_TRADES:
        return 1.0
    rate = wins[bucket] / n
    if rate > 0.60:
        return 1.3
    if rate > 0.55:
        return 1.1
    if rate < 0.40:
        return 0.7
    if rate < 0.45:
        return 0.85
    return 1.0


@inlined_kernel
def streak_mult_nb(recent_losses: int, trades: int) -> float:
    """0.5, 0.7, 1.1 or 1.0 from the losses among the last five trades; 1.0 until there are five.

    `recent_losses` holds one bit per trade, the latest lowest.
    """
    if trades < STREAK_TRADES:
        return 1.0
    losses = 0
    for k in range(STREAK_TRADES):
        losses += (recent_losses >> k) & 1
    if losses >= 4:
        return 0.5
    if losses == 3:
        return 0.7
    if losses <= 1:
        return 1.1
    return 1.0


@inlined_kernel
def trend_mult_nb(vel_divs: F8, count: int, direction: int) -> float:
    """1.3 while vel_div deepens by more than 0.01 over ten values, 0.7 while it recovers, else (and for NaN) 1.0."""
    if count < TREND_VALUES:
        return 1.0
    size = vel_divs.shape[0]
    trend = vel_divs[(count - 1) % size] - vel_divs[(count - TREND_VALUES) % size]
    along = trend * direction
    if along > 0.01:
        return 1.3
    if along < -0.01:
        return 0.7
    return 1.0


@inlined_kernel
def effective_fraction_nb(
    strength: float, is_extreme: bool, trend: float, bucket: float, streak: float, fraction: float
) -> float:
    """clamp(base·(conf/0.95)·boost·trend·bucket·streak, 0.02, fraction), base = 0.02 + strength·(fraction − 0.02)."""
    confidence, boost = (0.70, 2.0) if is_extreme else (0.55, 1.0)
    base = MIN_FRACTION + strength * (fraction - MIN_FRACTION)
    return clamp_nb(base * (confidence / 0.95) * boost * trend * bucket * streak, MIN_FRACTION, fraction)


@inlined_kernel
def stressed_beta_nb(beta: float, market: Record) -> float:
    """OB-4 with this bar's book: the circuit breaker's own rule, and beta as it is without a book."""
    return stressed_beta(beta, market.regime_signal, market.depth_velocity) if market.usable != 0 else beta


@inlined_kernel
def regime_size_mult_nb(strength: float, boost: float, beta: float, mc_scale: float, convexity: float) -> float:
    """boost·(1 + beta·strength^convexity)·mc_scale; without the beta term when beta ≤ 0 (ACB's scale 2)."""
    if beta <= 0.0:
        return boost * mc_scale
    # Most bars have no strength at all, and a power costs more than the rest of the rule: 0 and 1 are their own powers.
    shaped = strength if strength == 0.0 or strength == 1.0 else strength**convexity
    return boost * (1.0 + beta * shaped) * mc_scale


@inlined_kernel
def final_leverage_nb(
    leverage: float, dc_mult: float, size_mult: float, ob_mult: float, posture: int, params: Record
) -> float:
    """clamp(leverage·dc·size·ob, min_leverage, min(max_leverage·size·ob, abs_max)); STALKER caps it at 2."""
    ceiling = min(params.max_leverage * size_mult * ob_mult, params.abs_max_leverage)
    if posture == STALKER:
        ceiling = min(ceiling, STALKER_LEVERAGE)
    return clamp_nb(leverage * dc_mult * size_mult * ob_mult, params.min_leverage, ceiling)
