"""Plain-Python twins of what a close costs and earns: slip, fees, refund and modelled edge (SPEC §7, §23)."""

from __future__ import annotations

from typing import NamedTuple

from dolphin.core.codes import ExitReason
from dolphin.core.params import EngineParams
from tests.reference.rules_ref import pnl_pct

FORCED_EXITS = (ExitReason.STOP_LOSS, ExitReason.HIBERNATE_HALT, ExitReason.SUBDAY_ACB_NORMALIZATION)


class TradePnl(NamedTuple):
    """What one close books, in quote currency: signed contributions, and their sum from left to right."""

    exit_price: float
    pnl_price: float
    slippage: float
    modelled_edge: float
    fees: float
    net_pnl: float


def exit_slip(reason: ExitReason, use_sp_slippage: bool) -> float:
    """0.0005 for STOP_LOSS and forced exits, 0.0002 for all others, 0 where slippage is off."""
    if not use_sp_slippage:
        return 0.0
    return 0.0005 if reason in FORCED_EXITS else 0.0002


def exit_price(price: float, d: int, slip: float) -> float:
    """`price·(1 − d·slip)`: always against the trade."""
    return price * (1.0 - d * slip)


def fee_rate(maker_share: float) -> float:
    """`0.0002·m + 0.0005·(1 − m)`."""
    return 0.0002 * maker_share + 0.0005 * (1.0 - maker_share)


def fees(notional: float, params: EngineParams) -> float:
    """`−(entry_rate·notional + exit_rate·notional)`, both on entry notional; 0 where fees are off."""
    if not params.use_sp_fees:
        return 0.0
    entry_rate = fee_rate(params.champion.sp_maker_entry_rate)
    exit_rate = fee_rate(params.champion.sp_maker_exit_rate)
    return -(entry_rate * notional + exit_rate * notional)


def slippage(price: float, exited: float, entry: float, d: int, notional: float, params: EngineParams) -> float:
    """`(d·(exit_price − p)/entry + refund)·notional`, refund `0.0002·m_entry + 0.0002·m_exit`; 0 where it is off."""
    if not params.use_sp_slippage:
        return 0.0
    refund = 0.0002 * params.champion.sp_maker_entry_rate + 0.0002 * params.champion.sp_maker_exit_rate
    return (d * (exited - price) / entry + refund) * notional


def edge_pct(draw: float, placement: tuple[float, float] | None, params: EngineParams) -> float:
    """Modelled edge as a share of notional; `placement` is the exit bar's (depth_quality, fill_probability) or None.

    Off: 0. With a book of the asset: `fill_probability·ob_edge_bps·1e−4` if dq > 0.5, else 0.
    Without: `ob_edge_bps·1e−4` if draw < ob_confirm_rate, else 0.
    """
    champion = params.champion
    if not params.use_ob_edge:
        return 0.0
    if placement is not None:
        depth_quality, fill_probability = placement
        return fill_probability * champion.ob_edge_bps * 1e-4 if depth_quality > 0.5 else 0.0
    return champion.ob_edge_bps * 1e-4 if draw < champion.ob_confirm_rate else 0.0


def trade_pnl(
    price: float,
    entry: float,
    d: int,
    notional: float,
    reason: ExitReason,
    draw: float,
    placement: tuple[float, float] | None,
    params: EngineParams,
) -> TradePnl:
    """`net = pnl_price + slippage + modelled_edge + fees`; the tests' unslipped `price` gives pnl_price."""
    exited = exit_price(price, d, exit_slip(reason, params.use_sp_slippage))
    pnl_price = pnl_pct(price, entry, d) * notional
    slipped = slippage(price, exited, entry, d, notional, params)
    edge = edge_pct(draw, placement, params) * notional
    paid = fees(notional, params)
    return TradePnl(exited, pnl_price, slipped, edge, paid, pnl_price + slipped + edge + paid)
