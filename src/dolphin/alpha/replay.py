"""The replay: the step, in a loop; and the one door through which Python reaches it."""

from __future__ import annotations

from dolphin.alpha.feed import OFF, Survival, posture_at_nb
from dolphin.alpha.layout import F8, Record
from dolphin.alpha.selection import Ranking
from dolphin.alpha.signal import is_signal_nb
from dolphin.alpha.step import (
    HALT,
    TURTLE,
    EngineState,
    apply_acb_nb,
    book_result_nb,
    close_position_nb,
    last_price_nb,
    step_nb,
)
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.native import Entry

REPLAY, CLOSE, ACB_DAILY, ACB_SUBDAY, ROW, SETTLE = 0, 1, 2, 3, 4, 5
"""What the door is asked to do."""


@inlined_kernel
def _is_blocked_nb(params: Record, bar: Record, event: Record) -> bool:
    """Whether the bar's posture, and nothing before it, kept a signal from being followed up."""
    if event.gate != HALT or bar.posture < TURTLE or bar.vol_regime_ok == 0:
        return False
    return is_signal_nb(bar.vel_div, params.threshold, params.direction)


@inlined_kernel
def _one_bar_nb(
    params: Record,
    state: EngineState,
    survival: Survival,
    bar: Record,
    prices: F8,
    market: Record,
    books: Record,
    ranking: Ranking,
    draws: F8,
    event: Record,
    trade: Record,
) -> bool:
    """One bar through `step_nb`, in the posture that the sensors give where there are any."""
    fed = survival.feed.mode != OFF
    if fed:
        bar.posture = posture_at_nb(survival, state.core, bar.ts_ns)
    closed = step_nb(params, state, bar, prices, market, books, ranking, draws, event, trade)
    if fed:
        event.rm = survival.verdict.rm
        if _is_blocked_nb(params, bar, event):
            survival.feed.blocked += 1
    return closed


@kernel
def replay_nb(
    params: Record,
    state: EngineState,
    survival: Survival,
    bars: Record,
    prices: F8,
    markets: Record,
    books: Record,
    ranking: Ranking,
    draws: F8,
    events: Record,
    trades: Record,
) -> int:
    """Run T bars through `step_nb`; give the number of trades written.

    `bars` (T,) BAR records, `prices` float64 (T, N), `events` (T,) EVENT records, `trades` at least T TRADE records.
    `markets` and `books` have T rows, or one row that serves every bar (no book). With sensors each bar's posture is
    written into `bars` before its step.
    """
    closed = 0
    still = markets.shape[0] == 1
    for t in range(bars.shape[0]):
        b = 0 if still else t
        if _one_bar_nb(
            params,
            state,
            survival,
            bars[t],
            prices[t],
            markets[b],
            books[b],
            ranking,
            draws,
            events[t],
            trades[closed],
        ):
            closed += 1
    return closed


@kernel
def engine_nb(
    action: int,
    detail: int,
    params: Record,
    state: EngineState,
    ranking: Ranking,
    survival: Survival,
    bars: Record,
    prices: F8,
    markets: Record,
    books: Record,
    draws: F8,
    events: Record,
    trades: Record,
) -> int:
    """REPLAY: run `bars`, give the trades written. ROW: run bars[detail] alone, its trade into trades[0]; give 0 or 1.
    CLOSE: close what is open at its last valid price for the reason `detail`, give 0 or 1. SETTLE: what was open is
    closed and brought trades[0].net_pnl, give 0 or 1. ACB_DAILY, ACB_SUBDAY: take the update in bars[0], give 1, or 0
    when it is refused."""
    if action == ROW:
        b = 0 if markets.shape[0] == 1 else detail
        closed = _one_bar_nb(
            params,
            state,
            survival,
            bars[detail],
            prices[detail],
            markets[b],
            books[b],
            ranking,
            draws,
            events[detail],
            trades[0],
        )
        return 1 if closed else 0
    if action == REPLAY:
        return replay_nb(params, state, survival, bars, prices, markets, books, ranking, draws, events, trades)
    core = state.core
    if action in (CLOSE, SETTLE):
        if core.open == 0:
            return 0
        if action == CLOSE:
            close_position_nb(params, state, last_price_nb(state, core.asset), detail, draws, trades[0])
        else:
            book_result_nb(core, trades[0].net_pnl)
        core.equity = core.capital
        core.peak_equity = max(core.peak_equity, core.equity)
        if core.peak_equity > 0.0:
            core.max_drawdown = max(core.max_drawdown, 1.0 - core.equity / core.peak_equity)
        return 1
    return 1 if apply_acb_nb(core, bars[0].acb_boost, bars[0].acb_beta, action == ACB_SUBDAY) else 0


ENGINE = Entry(engine_nb)
