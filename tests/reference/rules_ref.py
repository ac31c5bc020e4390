"""Plain-Python twins of the engine's rules: signal, sizing and exits (SPEC §3, §5, §6, §9 OB-4, §23).

One function per rule, formula in its docstring, no state. They are slow and obvious on purpose: compiled kernels
are compared with them. `d` is the trade's direction, −1 for SHORT and +1 for LONG; products and sums run left to
right, as written in the formula.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from dolphin.core.codes import Confirmation, ExitReason, Posture
from dolphin.core.params import Champion, EngineParams


def clamp(x: float, lo: float, hi: float) -> float:
    """`min(max(x, lo), hi)`: where the bounds cross, the upper one holds."""
    return min(max(x, lo), hi)


def valid_price(price: float) -> bool:
    """A price is usable iff it is finite and > 0; everything else is missing (SPEC §1.2, §23)."""
    return math.isfinite(price) and price > 0.0


# --- signal (SPEC §3) ---


def signal_valid(vel_div: float, d: int, params: EngineParams) -> bool:
    """SHORT: `vel_div < vel_div_threshold`; LONG: `vel_div > long_threshold`. NaN is never a signal."""
    if d < 0:
        return vel_div < params.champion.vel_div_threshold
    return vel_div > params.long_threshold


def is_extreme(vel_div: float, d: int, params: EngineParams) -> bool:
    """SHORT: `vel_div <= vel_div_extreme`; LONG: `vel_div >= long_extreme`."""
    if d < 0:
        return vel_div <= params.champion.vel_div_extreme
    return vel_div >= params.long_extreme


def signal_ratio(vel_div: float, d: int, params: EngineParams) -> float:
    """`clamp((threshold − vel_div)/(threshold − extreme), 0, 1)`, LONG `(vel_div − threshold)/(extreme − threshold)`.

    A NaN vel_div counts as 0.
    """
    if math.isnan(vel_div):
        return 0.0
    if d < 0:
        threshold, extreme = params.champion.vel_div_threshold, params.champion.vel_div_extreme
        return clamp((threshold - vel_div) / (threshold - extreme), 0.0, 1.0)
    threshold, extreme = params.long_threshold, params.long_extreme
    return clamp((vel_div - threshold) / (extreme - threshold), 0.0, 1.0)


def signal_confidence(vel_div: float, d: int, params: EngineParams) -> float:
    """`0.50 + 0.40·ratio`: recorded with the trade, never used to size it."""
    return 0.50 + 0.40 * signal_ratio(vel_div, d, params)


def direction_confirmation(prices: Sequence[float], d: int, lookback: int, min_bps: float) -> Confirmation:
    """`chg = (P[n−1] − P[n−1−lookback])/P[n−1−lookback]·10000` against ±min_bps; too short a history is NEUTRAL."""
    n = len(prices)
    if n < lookback + 1:
        return Confirmation.NEUTRAL
    before, now = prices[n - lookback - 1], prices[n - 1]
    chg_bps = (now - before) / before * 10000.0
    falls, rises = chg_bps < -min_bps, chg_bps > min_bps
    if (falls and d < 0) or (rises and d > 0):
        return Confirmation.CONFIRM
    if falls or rises:
        return Confirmation.CONTRADICT
    return Confirmation.NEUTRAL


def effective_imbalance(imbalance: float, d: int) -> float:
    """`−imbalance` for SHORT, `+imbalance` for LONG: positive helps the trade."""
    return -imbalance if d < 0 else imbalance


def ob2(confidence: float, eff: float, persistence: float) -> float | None:
    """OB-2: the confidence after the book's word on the asset, or None where the book forbids the entry.

    `eff > 0.10`: × (1 + min(0.15, eff·p·0.5)); `eff < −0.15 and p > 0.60`: None;
    `eff < −0.10`: × max(0.85, 1 − |eff|·p·0.4).
    """
    if eff > 0.10:
        return confidence * (1.0 + min(0.15, eff * persistence * 0.5))
    if eff < -0.15 and persistence > 0.60:
        return None
    if eff < -0.10:
        return confidence * max(0.85, 1.0 - abs(eff) * persistence * 0.4)
    return confidence


# --- sizing (SPEC §5) ---


def strength(vel_div: float, d: int, params: EngineParams) -> float:
    """1 if extreme, else the signal ratio."""
    return 1.0 if is_extreme(vel_div, d, params) else signal_ratio(vel_div, d, params)


def leverage(strength_: float, champion: Champion) -> float:
    """`min_leverage + strength^convexity·(max_leverage − min_leverage)`."""
    span = champion.max_leverage - champion.min_leverage
    power = float(strength_**champion.leverage_convexity)
    return champion.min_leverage + power * span


def bucket(vel_div: float, d: int, params: EngineParams) -> int:
    """0 extreme (`≤ 1.5·extreme`), 1 strong (`≤ extreme`), 2 moderate (`≤ (threshold + extreme)/2`), 3 weak; LONG ≥."""
    if d < 0:
        threshold, extreme = params.champion.vel_div_threshold, params.champion.vel_div_extreme
        cuts = (extreme * 1.5, extreme, (threshold + extreme) / 2.0)
        return next((i for i, cut in enumerate(cuts) if vel_div <= cut), 3)
    threshold, extreme = params.long_threshold, params.long_extreme
    cuts = (extreme * 1.5, extreme, (threshold + extreme) / 2.0)
    return next((i for i, cut in enumerate(cuts) if vel_div >= cut), 3)


def bucket_boost(wins: int, trades: int) -> float:
    """Win rate `wins/trades`: > .60 1.3, > .55 1.1, < .40 0.7, < .45 0.85, else 1; 1 before ten trades."""
    if trades < 10:
        return 1.0
    rate = wins / trades
    if rate > 0.60:
        return 1.3
    if rate > 0.55:
        return 1.1
    if rate < 0.40:
        return 0.7
    if rate < 0.45:
        return 0.85
    return 1.0


def streak_mult(net_pnls: Sequence[float]) -> float:
    """Losses (net ≤ 0) among the last five trades: ≥ 4 0.5, 3 0.7, ≤ 1 1.1, else 1; 1 before five trades."""
    if len(net_pnls) < 5:
        return 1.0
    losses = sum(1 for net in net_pnls[-5:] if net <= 0.0)
    if losses >= 4:
        return 0.5
    if losses == 3:
        return 0.7
    if losses <= 1:
        return 1.1
    return 1.0


def trend_mult(vel_divs: Sequence[float], d: int) -> float:
    """`vel_div[−1] − vel_div[−10]`: < −0.01 1.3, > 0.01 0.7, else 1 (LONG mirrors); NaN or under ten values: 1."""
    if len(vel_divs) < 10:
        return 1.0
    trend = vel_divs[-1] - vel_divs[-10]
    if math.isnan(trend):
        return 1.0
    deepening = trend < -0.01 if d < 0 else trend > 0.01
    recovering = trend > 0.01 if d < 0 else trend < -0.01
    if deepening:
        return 1.3
    if recovering:
        return 0.7
    return 1.0


def effective_fraction(
    strength_: float, extreme: bool, trend: float, bucket_: float, streak: float, fraction: float
) -> float:
    """`clamp(base·(conf/0.95)·boost·trend·bucket·streak, 0.02, fraction)`, `base = 0.02 + strength·(fraction − 0.02)`.

    conf 0.70 and boost 2 when extreme, else 0.55 and 1.
    """
    conf, boost = (0.70, 2.0) if extreme else (0.55, 1.0)
    base = 0.02 + strength_ * (fraction - 0.02)
    return clamp(base * (conf / 0.95) * boost * trend * bucket_ * streak, 0.02, fraction)


def book_stress(regime_signal: int, depth_velocity: float) -> float:
    """OB-4: `clamp(−depth_velocity/0.20, 0, 1)` while regime_signal = +1, else 0."""
    return clamp(-depth_velocity / 0.20, 0.0, 1.0) if regime_signal == 1 else 0.0


def regime_size_mult(
    vel_div: float, d: int, params: EngineParams, boost: float, beta: float, mc_scale: float, stress: float = 0.0
) -> float:
    """`boost·(1 + beta'·ratio^convexity)·mc_scale`, `beta' = beta·(1 + 0.25·stress)`; `boost·mc_scale` if beta ≤ 0."""
    if beta <= 0.0:
        return boost * mc_scale
    cubic = float(signal_ratio(vel_div, d, params) ** params.champion.leverage_convexity)
    effective_beta = beta * (1.0 + 0.25 * stress)
    return boost * (1.0 + effective_beta * cubic) * mc_scale


def market_ob_mult(eff: float, agreement: float) -> float:
    """OB-3, `eff` from the median imbalance; 1 unless agreement ≥ 0.6.

    `eff > 0.10`: 1 + min(0.20, eff·agreement); `eff < −0.10`: max(0.85, 1 − |eff|·agreement); else 1.
    """
    if eff > 0.10 and agreement >= 0.6:
        return 1.0 + min(0.20, eff * agreement)
    if eff < -0.10 and agreement >= 0.6:
        return max(0.85, 1.0 - abs(eff) * agreement)
    return 1.0


def max_leverage(rsm: float, market_mult: float, posture: int, champion: Champion) -> float:
    """`min(max_leverage·rsm·market_mult, abs_max_leverage)`; STALKER: and at most 2."""
    ceiling = min(champion.max_leverage * rsm * market_mult, champion.abs_max_leverage)
    return min(ceiling, 2.0) if posture == Posture.STALKER else ceiling


def final_leverage(
    leverage_: float, dc_lev: float, rsm: float, market_mult: float, posture: int, champion: Champion
) -> float:
    """`clamp(leverage·dc_lev·rsm·market_mult, min_leverage, max_lev)`: a ceiling under the floor wins."""
    ceiling = max_leverage(rsm, market_mult, posture, champion)
    return clamp(leverage_ * dc_lev * rsm * market_mult, champion.min_leverage, ceiling)


# --- exits (SPEC §6) ---


def pnl_pct(price: float, entry: float, d: int) -> float:
    """`d·(price − entry)/entry`: what the exit tests see, without slip or fees."""
    return d * (price - entry) / entry


def dynamic_exit_params(
    champion: Champion, pnl: float, cascade_count: int, regime_signal: int, eff_imb: float, withdrawal_velocity: float
) -> tuple[float, float, int]:
    """(tp, sl, max_hold) of this bar, from the base values and the book (OB-5, the block of SPEC §6)."""
    tp, sl, hold = champion.fixed_tp_pct, champion.stop_pct, champion.max_hold_bars
    if cascade_count > 0:
        return tp * 1.40, sl, int(champion.max_hold_bars * 0.50)
    if regime_signal == 1:
        if pnl > 0.0:
            tp = tp * 0.60
        if eff_imb < -0.10:
            hold = int(champion.max_hold_bars * 0.40)
        return tp, min(sl, 0.10), hold
    if regime_signal == -1 and eff_imb > 0.15:
        hold = int(champion.max_hold_bars * 1.50)
    if withdrawal_velocity < -0.20:
        hold = min(hold, int(champion.max_hold_bars * 0.40))
        if pnl > 0.0:
            tp = tp * 0.75
    return tp, sl, hold


def adverse_turn(vel_div: float, d: int, vd_adverse: float) -> bool:
    """SHORT: `vel_div ≥ vd_adverse`; LONG: `vel_div ≤ −vd_adverse`; NaN is not adverse."""
    return vel_div >= vd_adverse if d < 0 else vel_div <= -vd_adverse


def tf_exit(spread: float, entry_spread: float, params: EngineParams) -> ExitReason:
    """`|s| ≤ exhaust·|s0|` TF_EXHAUST; opposite sign and `|s| ≥ flip·|s0|` TF_FLIP; NaN: NONE. `s = v50 − v750`."""
    if math.isnan(spread) or math.isnan(entry_spread):
        return ExitReason.NONE
    size, size0 = abs(spread), abs(entry_spread)
    if size <= params.tf_exhaust_ratio * size0:
        return ExitReason.TF_EXHAUST
    turned = (spread > 0.0 > entry_spread) or (spread < 0.0 < entry_spread)
    if turned and size >= params.tf_flip_ratio * size0:
        return ExitReason.TF_FLIP
    return ExitReason.NONE
