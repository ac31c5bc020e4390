"""The step: one bar through every rule, compiled (SPEC §12). A replay is a loop over it; live trading calls it once a
bar."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dolphin.alpha.exits import NONE, count_adverse_nb, exit_reason_nb
from dolphin.alpha.friction import settle_nb
from dolphin.alpha.layout import F8, HISTORY, I8, STATE, VEL_DIV_HISTORY, Record, records
from dolphin.alpha.selection import Ranking, rank_assets_nb
from dolphin.alpha.signal import (
    CONFIRM,
    CONTRADICT,
    NEUTRAL,
    book_confidence_nb,
    confidence_nb,
    confirm_direction_nb,
    is_extreme_nb,
    is_signal_nb,
    price_change_bps_nb,
    strength_nb,
)
from dolphin.alpha.sizing import (
    bucket_boost_nb,
    bucket_nb,
    convex_leverage_nb,
    effective_fraction_nb,
    final_leverage_nb,
    market_ob_mult_nb,
    regime_size_mult_nb,
    streak_mult_nb,
    stressed_beta_nb,
    trend_mult_nb,
)
from dolphin.core.codes import AcbUpdate, ExitReason, Gate, Posture
from dolphin.core.jit import inlined_kernel, kernel

ENTERED = int(Gate.ENTERED)
IN_POSITION = int(Gate.IN_POSITION)
JUST_EXITED = int(Gate.JUST_EXITED)
CAPITAL = int(Gate.CAPITAL)
WARM_UP = int(Gate.WARM_UP)
HALT = int(Gate.HALT)
VOL_REGIME = int(Gate.VOL_REGIME)
VEL_DIV = int(Gate.VEL_DIV)
SELECTION = int(Gate.SELECTION)
DIRECTION_CONFIRMATION = int(Gate.DIRECTION_CONFIRMATION)
BOOK_IMBALANCE = int(Gate.BOOK_IMBALANCE)
TURTLE = int(Posture.TURTLE)
NO_UPDATE, SUBDAY_UPDATE = int(AcbUpdate.NONE), int(AcbUpdate.SUBDAY)
STALE_PRICE = int(ExitReason.STALE_PRICE)


class EngineState(NamedTuple):
    """All that the engine remembers. `core` is one STATE record; the rings belong to it."""

    core: Record
    history: F8  # (HISTORY, N) ring of each asset's valid prices
    counts: I8  # (N,) valid prices so far
    vel_divs: F8  # (VEL_DIV_HISTORY,) ring, NaN included


def new_state(n_assets: int, capital: float) -> EngineState:
    """An engine that has seen nothing and holds `capital` USDT."""
    core = records(STATE, 1)[0]
    core.bar_idx = -1
    core.last_exit_bar = -1
    core.capital = core.equity = core.peak_equity = capital
    core.boost = core.mc_scale = core.regime_size_mult = 1.0
    core.asset = -1
    return EngineState(
        core, np.full((HISTORY, n_assets), np.nan), np.zeros(n_assets, np.int64), np.full(VEL_DIV_HISTORY, np.nan)
    )


@kernel
def apply_acb_nb(core: Record, boost: float, beta: float, subday: bool) -> bool:
    """Take a circuit-breaker update; false when it is refused for want of a finite boost in [1, 3] and beta in [0, 1].

    A sub-day fall from ≥ 1.25 to < 1.10 marks the open position for closing (SPEC §6); the mark is never set while
    flat."""
    if not (boost >= 1.0 and boost <= 3.0 and beta >= 0.0 and beta <= 1.0):
        return False
    if subday and core.open != 0 and core.boost >= 1.25 and boost < 1.10:
        core.subday_exit = 1
    core.boost = boost
    core.beta = beta
    return True


@inlined_kernel
def remember_nb(state: EngineState, bar: Record, prices: F8) -> None:
    """Take the bar into the histories: valid prices, vel_div, the count of bars."""
    history, counts = state.history, state.counts
    size = history.shape[0]
    for i in range(prices.shape[0]):
        p = prices[i]
        if p > 0.0 and p < math.inf:
            history[counts[i] % size, i] = p
            counts[i] += 1
    core = state.core
    core.bar_idx += 1
    core.last_ts_ns = bar.ts_ns
    state.vel_divs[core.bar_count % state.vel_divs.shape[0]] = bar.vel_div
    core.bar_count += 1


@inlined_kernel
def last_price_nb(state: EngineState, asset: int) -> float:
    """The asset's last valid price; NaN when it has had none."""
    n = state.counts[asset]
    return state.history[(n - 1) % state.history.shape[0], asset] if n > 0 else math.nan


@inlined_kernel
def valid_nb(price: float) -> float:
    """The price, or NaN when it is none."""
    return price if price > 0.0 and price < math.inf else math.nan


@inlined_kernel
def book_result_nb(core: Record, net_pnl: float) -> None:
    """The open position is closed on the last processed bar and brought `net_pnl` USDT."""
    core.draws += 1
    core.capital += net_pnl
    won = net_pnl > 0.0
    core.bucket_trades[core.bucket] += 1
    if won:
        core.bucket_wins[core.bucket] += 1
    core.recent_losses = ((core.recent_losses << 1) | (0 if won else 1)) & 0xFFFF
    core.open = 0
    core.asset = -1
    core.subday_exit = 0
    core.last_exit_bar = core.bar_idx


@kernel
def close_position_nb(params: Record, state: EngineState, price: float, reason: int, draws: F8, trade: Record) -> None:
    """Close the open position at the unslipped `price`, on the last processed bar, and write its `trade` record."""
    core = state.core
    settle_nb(params, core, price, reason, draws[core.draws], trade)
    trade.trade_id = core.draws
    trade.asset, trade.side, trade.reason = core.asset, params.direction, reason
    trade.entry_ts, trade.exit_ts = core.entry_ts_ns, core.last_ts_ns
    trade.entry_bar, trade.exit_bar = core.entry_bar, core.bar_idx
    trade.entry_price, trade.notional_usd = core.entry_price, core.notional_usd
    trade.leverage, trade.fraction = core.leverage, core.used_fraction
    trade.bucket, trade.confidence, trade.is_extreme = core.bucket, core.confidence, core.is_extreme
    book_result_nb(core, trade.net_pnl)
    trade.capital_after = core.capital


@inlined_kernel
def note_book_nb(core: Record, market: Record, book: Record) -> None:
    """Keep the held asset's book of this bar: a close after the last bar (DATA_GAP, END_OF_DATA) still needs it."""
    core.book_usable = 1 if market.usable != 0 and book.usable != 0 else 0
    core.depth_quality = book.depth_quality
    core.fill_probability = book.fill_probability


@inlined_kernel
def _manage_nb(
    params: Record,
    state: EngineState,
    bar: Record,
    price: float,
    market: Record,
    book: Record,
    draws: F8,
    trade: Record,
) -> int:
    """Test the open position's exits; close it when one applies; give the reason or NONE."""
    core = state.core
    note_book_nb(core, market, book)
    count_adverse_nb(core, bar.vel_div, params)
    reason = exit_reason_nb(params, core, bar, market, book, price)
    if reason != NONE:
        at = last_price_nb(state, core.asset) if reason == STALE_PRICE else price
        close_position_nb(params, state, at, reason, draws, trade)
    return reason


@inlined_kernel
def _standing_gate_nb(params: Record, core: Record, bar: Record) -> int:
    """The first gate that refuses before any asset is looked at, or ENTERED."""
    if core.open != 0:
        return IN_POSITION
    if core.bar_idx <= core.last_exit_bar:
        return JUST_EXITED
    if not core.capital > 0.0:
        return CAPITAL
    if core.bar_count < params.lookback:
        return WARM_UP
    if bar.posture >= TURTLE or core.mc_red != 0:
        return HALT
    if bar.vol_regime_ok == 0:
        return VOL_REGIME
    if not is_signal_nb(bar.vel_div, params.threshold, params.direction):
        return VEL_DIV
    return ENTERED


@inlined_kernel
def choose_nb(params: Record, state: EngineState, prices: F8, books: Record, ranking: Ranking, event: Record) -> int:
    """The asset to trade, or −1: the ranking's first, or the fallback column when selection is off."""
    if params.use_asset_selection == 0:
        asset = params.fallback_asset
        return asset if asset >= 0 and not math.isnan(valid_nb(prices[asset])) else -1
    asset, passed = rank_assets_nb(params, state.history, state.counts, prices, books, ranking)
    event.ranked = passed
    if asset >= 0:
        event.ars = ranking.profiles[asset].ars
    return asset


@inlined_kernel
def leverage_nb(
    params: Record, strength: float, confirmation: int, size_mult: float, ob_mult: float, posture: int
) -> float:
    """The leverage of an entry, from its strength and every multiplier of it."""
    dc_mult = params.dc_leverage_boost if confirmation == CONFIRM else 1.0
    base = convex_leverage_nb(strength, params.min_leverage, params.max_leverage, params.leverage_convexity)
    return final_leverage_nb(base, dc_mult, size_mult, ob_mult, posture, params)


@kernel
def _try_entry_nb(
    params: Record,
    state: EngineState,
    bar: Record,
    prices: F8,
    market: Record,
    books: Record,
    ranking: Ranking,
    event: Record,
) -> int:
    """Selection, confirmation, book, sizing; opens the position or gives the gate that refused."""
    core, d = state.core, params.direction
    asset = choose_nb(params, state, prices, books, ranking, event)
    if asset < 0:
        return SELECTION
    event.asset = asset
    event.chg_bps = price_change_bps_nb(state.history, state.counts[asset], asset, params.dc_lookback_bars)
    event.confirmation = confirm_direction_nb(event.chg_bps, params.dc_min_magnitude_bps, d)
    if event.confirmation == CONTRADICT and params.dc_skip_contradicts != 0:
        return DIRECTION_CONFIRMATION
    strength = strength_nb(bar.vel_div, params.threshold, params.extreme, d)
    event.strength = strength
    event.confidence = confidence_nb(strength)
    if market.usable != 0:
        event.confidence = book_confidence_nb(event.confidence, books[asset], d)
        if event.confidence < 0.0:
            event.confidence = math.nan
            return BOOK_IMBALANCE
    extreme = is_extreme_nb(bar.vel_div, params.extreme, d)
    event.bucket = bucket_nb(bar.vel_div, params.bucket_edge, d)
    event.bucket_boost = bucket_boost_nb(core.bucket_trades, core.bucket_wins, event.bucket)
    event.streak_mult = streak_mult_nb(core.recent_losses, core.draws)
    event.trend_mult = trend_mult_nb(state.vel_divs, core.bar_count, d)
    event.fraction = effective_fraction_nb(
        strength, extreme, event.trend_mult, event.bucket_boost, event.streak_mult, params.fraction
    )
    event.market_ob_mult = market_ob_mult_nb(market, d)
    event.leverage = leverage_nb(
        params, strength, event.confirmation, core.regime_size_mult, event.market_ob_mult, bar.posture
    )
    event.notional_usd = core.capital * event.fraction * event.leverage
    event.price = prices[asset]
    core.open, core.asset, core.entry_bar, core.entry_ts_ns = 1, asset, core.bar_idx, bar.ts_ns
    core.entry_price, core.notional_usd = event.price, event.notional_usd
    core.leverage, core.used_fraction, core.bucket = event.leverage, event.fraction, event.bucket
    core.confidence, core.is_extreme = event.confidence, 1 if extreme else 0
    core.entry_spread = bar.v50 - bar.v750
    core.adverse_bars = 0
    note_book_nb(core, market, books[asset])
    return ENTERED


@inlined_kernel
def _blank_nb(event: Record, core: Record, bar: Record) -> None:
    event.bar_idx, event.ts_ns, event.vel_div = core.bar_idx, bar.ts_ns, bar.vel_div
    event.exit_reason, event.asset, event.ranked, event.confirmation, event.bucket = NONE, -1, 0, NEUTRAL, -1
    event.regime_size_mult = core.regime_size_mult
    event.posture, event.rm = bar.posture, math.nan
    event.ars = event.chg_bps = event.confidence = event.strength = math.nan
    event.trend_mult = event.bucket_boost = event.streak_mult = event.market_ob_mult = math.nan
    event.fraction = event.leverage = event.notional_usd = event.price = math.nan


@inlined_kernel
def _mark_nb(params: Record, state: EngineState, event: Record) -> None:
    """Mark equity to the held asset's last valid price and keep the running peak and drawdown."""
    core = state.core
    core.equity = core.capital
    if core.open != 0:
        last = last_price_nb(state, core.asset)
        core.equity += params.direction * (last - core.entry_price) / core.entry_price * core.notional_usd
        core.bars_in_position += 1
    core.peak_equity = max(core.peak_equity, core.equity)
    if core.peak_equity > 0.0:  # an engine that never had capital has nothing to lose
        core.max_drawdown = max(core.max_drawdown, 1.0 - core.equity / core.peak_equity)
    event.capital, event.equity, event.in_position = core.capital, core.equity, core.open


@kernel
def step_nb(
    params: Record,
    state: EngineState,
    bar: Record,
    prices: F8,
    market: Record,
    books: Record,
    ranking: Ranking,
    draws: F8,
    event: Record,
    trade: Record,
) -> bool:
    """Take one bar: update, remember, size, exit, enter; true when `trade` was written.

    `prices` float64 (N,), missing = NaN, ≤ 0 or infinite; `market` and `books` (N,) are the order book's features, with
    `usable` 0 when there is no book; `draws` are RandomState(seed).random_sample values, more than `core.draws`.
    Allocates nothing. Causality: reads only this bar and the state.
    """
    core = state.core
    if bar.acb_update != NO_UPDATE:
        apply_acb_nb(core, bar.acb_boost, bar.acb_beta, bar.acb_update == SUBDAY_UPDATE)
    remember_nb(state, bar, prices)
    strength = strength_nb(bar.vel_div, params.threshold, params.extreme, params.direction)
    beta = stressed_beta_nb(core.beta, market)
    core.regime_size_mult = regime_size_mult_nb(strength, core.boost, beta, core.mc_scale, params.leverage_convexity)
    _blank_nb(event, core, bar)
    if core.open != 0:
        held = core.asset
        event.exit_reason = _manage_nb(params, state, bar, valid_nb(prices[held]), market, books[held], draws, trade)
    else:
        core.subday_exit = 0
    gate = _standing_gate_nb(params, core, bar)
    if gate == ENTERED:
        gate = _try_entry_nb(params, state, bar, prices, market, books, ranking, event)
    event.gate = gate
    core.gates[gate] += 1
    _mark_nb(params, state, event)
    return event.exit_reason != NONE
