"""What a round trip costs, and what it is modelled to gain: fees, slippage, refund, book edge (SPEC §7)."""

from __future__ import annotations

from dolphin.alpha.exits import HIBERNATE_HALT, STOP_LOSS, SUBDAY
from dolphin.alpha.layout import Record
from dolphin.core.jit import inlined_kernel

MAKER_FEE = 0.0002
TAKER_FEE = 0.0005
FORCED_SLIP = 0.0005
USUAL_SLIP = 0.0002
REFUND = 0.0002


@inlined_kernel
def blended_fee_nb(maker_share: float) -> float:
    """0.0002·m + 0.0005·(1 − m), a fraction of the notional: 3.14 bps at m = 0.62."""
    return MAKER_FEE * maker_share + TAKER_FEE * (1.0 - maker_share)


@inlined_kernel
def exit_slip_nb(reason: int) -> float:
    """5 bps for stops and forced exits, 2 bps otherwise."""
    return FORCED_SLIP if reason in (STOP_LOSS, HIBERNATE_HALT, SUBDAY) else USUAL_SLIP


@inlined_kernel
def edge_nb(params: Record, state: Record, draw: float) -> float:
    """Modelled edge as a fraction of the notional: from the held asset's book at the exit bar, else from the k-th
    draw."""
    if params.use_ob_edge == 0:
        return 0.0
    if state.book_usable != 0:
        return state.fill_probability * params.ob_edge_bps * 1e-4 if state.depth_quality > 0.5 else 0.0
    return params.ob_edge_bps * 1e-4 if draw < params.ob_confirm_rate else 0.0


@inlined_kernel
def settle_nb(params: Record, state: Record, price: float, reason: int, draw: float, trade: Record) -> None:
    """Fill the money columns of `trade` for closing the open position at the unslipped `price`.

    Every column is a signed contribution: net = price + slippage + edge + fees, in that order, left to right.
    """
    d, entry, notional = params.direction, state.entry_price, state.notional_usd
    trade.pnl_price = d * (price - entry) / entry * notional
    trade.exit_price = price
    trade.slippage = 0.0
    if params.use_sp_slippage != 0:
        trade.exit_price = price * (1.0 - d * exit_slip_nb(reason))
        refund = REFUND * params.sp_maker_entry_rate + REFUND * params.sp_maker_exit_rate
        trade.slippage = (d * (trade.exit_price - price) / entry + refund) * notional
    trade.modelled_edge = edge_nb(params, state, draw) * notional
    trade.fees = 0.0
    if params.use_sp_fees != 0:
        paid = blended_fee_nb(params.sp_maker_entry_rate) * notional
        trade.fees = -(paid + blended_fee_nb(params.sp_maker_exit_rate) * notional)
    trade.funding = 0.0
    trade.net_pnl = trade.pnl_price + trade.slippage + trade.modelled_edge + trade.fees
