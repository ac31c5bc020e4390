"""When to leave: dynamic parameters from the book, and the order in which exits are tested (SPEC §6)."""

from __future__ import annotations

import math

from dolphin.alpha.layout import Record
from dolphin.core.codes import ExitReason, Posture
from dolphin.core.jit import inlined_kernel

HIBERNATE = int(Posture.HIBERNATE)
NONE = int(ExitReason.NONE)
HIBERNATE_HALT = int(ExitReason.HIBERNATE_HALT)
SUBDAY = int(ExitReason.SUBDAY_ACB_NORMALIZATION)
FIXED_TP = int(ExitReason.FIXED_TP)
STOP_LOSS = int(ExitReason.STOP_LOSS)
VEL_DIV_ADVERSE = int(ExitReason.VEL_DIV_ADVERSE)
TF_EXHAUST = int(ExitReason.TF_EXHAUST)
TF_FLIP = int(ExitReason.TF_FLIP)
MAX_HOLD = int(ExitReason.MAX_HOLD)
STALE_PRICE = int(ExitReason.STALE_PRICE)

STRESS_STOP = 0.10
SUBDAY_FROM, SUBDAY_TO = 1.25, 1.10


@inlined_kernel
def dynamic_exit_nb(
    params: Record, market: Record, book: Record, direction: int, pnl: float
) -> tuple[float, float, int]:
    """OB-5: (take-profit, stop-loss, maximum hold in bars) for this bar, from the base values and the book.

    `book` is the held asset's; `pnl` its open return (fraction). A stress stop never loosens a tighter base stop.
    """
    tp, sl, hold = params.fixed_tp_pct, params.stop_pct, params.max_hold_bars
    base = params.max_hold_bars
    if market.usable == 0:
        return tp, sl, hold
    eff = direction * book.imbalance_ma5 if book.usable != 0 else 0.0
    if market.cascade_count > 0:
        return tp * 1.40, sl, int(base * 0.5)
    if market.regime_signal == 1:
        if pnl > 0.0:
            tp = tp * 0.60
        if eff < -0.10:
            hold = int(base * 0.40)
        return tp, min(sl, STRESS_STOP), hold
    if market.regime_signal == -1 and eff > 0.15:
        hold = int(base * 1.5)
    if book.usable != 0 and book.withdrawal_velocity < -0.20:
        hold = min(hold, int(base * 0.40))
        if pnl > 0.0:
            tp = tp * 0.75
    return tp, sl, hold


@inlined_kernel
def count_adverse_nb(state: Record, vel_div: float, params: Record) -> None:
    """Count successive bars since entry whose vel_div stands against the trade by `vd_adverse` or more."""
    if -vel_div * params.direction >= params.vd_adverse:
        state.adverse_bars += 1
    else:
        state.adverse_bars = 0


@inlined_kernel
def tf_exit_nb(spread: float, entry_spread: float, exhaust_ratio: float, flip_ratio: float) -> int:
    """TF_EXHAUST when |v50 − v750| has shrunk to a share of its size at entry; TF_FLIP when it has changed sign and
    grown."""
    if math.isnan(spread) or math.isnan(entry_spread):
        return NONE
    size, size0 = abs(spread), abs(entry_spread)
    if size <= exhaust_ratio * size0:
        return TF_EXHAUST
    if spread * entry_spread < 0.0 and size >= flip_ratio * size0:
        return TF_FLIP
    return NONE


@inlined_kernel
def exit_reason_nb(params: Record, state: Record, bar: Record, market: Record, book: Record, price: float) -> int:
    """The first exit that applies to the open position at this bar, or NONE; `price` is NaN when there is none."""
    held = state.bar_idx - state.entry_bar
    if math.isnan(price):
        return STALE_PRICE if held >= 2 * params.max_hold_bars else NONE
    if bar.posture == HIBERNATE:
        return HIBERNATE_HALT
    if state.subday_exit != 0:
        return SUBDAY
    pnl = params.direction * (price - state.entry_price) / state.entry_price
    tp, sl, hold = dynamic_exit_nb(params, market, book, params.direction, pnl)
    if pnl >= tp:
        return FIXED_TP
    if pnl <= -sl:
        return STOP_LOSS
    if params.vd_enabled != 0 and state.adverse_bars >= params.vd_bars:
        return VEL_DIV_ADVERSE
    if params.tf_enabled != 0:
        turned = tf_exit_nb(bar.v50 - bar.v750, state.entry_spread, params.tf_exhaust_ratio, params.tf_flip_ratio)
        if turned != NONE:
            return turned
    return MAX_HOLD if held >= hold else NONE
