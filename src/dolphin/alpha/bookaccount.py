"""What the order book changed: OB-1 … OB-5 asked once more, with the book and without it, after the bars have run.

Nothing here decides anything. The account follows a run by its events, keeps the price histories and the position that
the rules need, and asks the step's own kernels at every bar what they would have said without a book (SPEC §3–§7).
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.exits import NONE, count_adverse_nb, dynamic_exit_nb, exit_reason_nb
from dolphin.alpha.layout import ASSET_BOOK, EVENT, F8, I8, MARKET_BOOK, Record, records
from dolphin.alpha.selection import BOOK_DEPTH, KEPT, Ranking, depth_adjusted_nb, new_ranking
from dolphin.alpha.signal import book_confidence_nb, confidence_nb
from dolphin.alpha.sizing import regime_size_mult_nb, stressed_beta_nb
from dolphin.alpha.step import (
    BOOK_IMBALANCE,
    ENTERED,
    IN_POSITION,
    SELECTION,
    EngineState,
    choose_nb,
    leverage_nb,
    new_state,
    note_book_nb,
    remember_nb,
    valid_nb,
)
from dolphin.core.codes import ExitReason
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.native import Entry, Flat
from dolphin.risk.acb import FIRST_ACB_BAR

HIBERNATE_HALT = int(ExitReason.HIBERNATE_HALT)
SUBDAY = int(ExitReason.SUBDAY_ACB_NORMALIZATION)

ACCOUNT = np.dtype(
    [
        ("bars", "i8"),
        ("usable_bars", "i8"),  # with a usable market
        ("stress_bars", "i8"),  # of which in each regime; the rest is in neither
        ("calm_bars", "i8"),
        ("cascade_bars", "i8"),
        # OB-1, at bars at which assets were ranked
        ("ob1_asked", "i8"),
        ("ob1_fired", "i8"),  # the book moved a score or dropped an asset that had passed every other filter
        ("ob1_changed", "i8"),  # another asset was chosen than without the book, or none, or one instead of none
        ("ob1_to_none", "i8"),
        ("ob1_dropped", "i8"),  # assets dropped for depth, all bars together
        ("ob1_entries", "i8"),  # entries among the changed
        # OB-2, at bars at which a chosen asset came as far as the book
        ("ob2_asked", "i8"),
        ("ob2_raised", "i8"),
        ("ob2_lowered", "i8"),
        ("ob2_refused", "i8"),
        ("ob2_change", "f8"),  # of the confidence, summed over raised and lowered
        # OB-3, at entries
        ("ob3_asked", "i8"),
        ("ob3_raised", "i8"),
        ("ob3_lowered", "i8"),
        ("ob3_mult", "f8"),  # sum of the multiplier
        ("ob3_notional", "f8"),  # USDT that it added to notionals, less what it took away
        # OB-4, at all bars
        ("ob4_bars", "i8"),  # with a beta above the day's own
        ("ob4_entries", "i8"),
        ("ob4_notional", "f8"),
        # OB-5, at bars at which a position was managed
        ("ob5_asked", "i8"),
        ("ob5_fired", "i8"),  # take-profit, stop or hold differ from their base
        ("ob5_cascade", "i8"),
        ("ob5_stress", "i8"),
        ("ob5_calm", "i8"),
        ("ob5_withdrawal", "i8"),  # calm and withdrawal may both apply
        ("ob5_closed", "i8"),  # positions closed at a bar at which the base would have held on
        ("ob5_other", "i8"),  # positions closed for another reason than the base's
        ("ob5_kept", "i8"),  # positions held beyond a bar at which the base would have closed
        ("kept", "i8"),  # whether the position followed now has been counted there
    ]
)


class Blank(NamedTuple):
    """What the rules are asked with when there is to be no book, and room for what they write."""

    market: Record  # (1,)
    books: Record  # (N,)
    book: Record  # (1,) a copy of the held asset's
    event: Record  # (1,)


@inlined_kernel
def _selection_nb(
    params: Record,
    state: EngineState,
    prices: F8,
    books: Record,
    blank: Blank,
    ranking: Ranking,
    acct: Record,
    event: Record,
) -> None:
    """OB-1: the choice without the book, and what the book did to those that had passed every other filter."""
    acct.ob1_asked += 1
    without = choose_nb(params, state, prices, blank.books, ranking, blank.event[0])
    chosen = choose_nb(params, state, prices, books, ranking, blank.event[0])
    fired = False
    for i in range(books.shape[0]):
        drop = ranking.profiles[i].drop
        if drop == BOOK_DEPTH:
            acct.ob1_dropped += 1
            fired = True
        elif drop == KEPT and depth_adjusted_nb(1.0, books[i]) != 1.0:
            fired = True
    if fired:
        acct.ob1_fired += 1
    if chosen != without:
        acct.ob1_changed += 1
        if chosen < 0:
            acct.ob1_to_none += 1
        if event.gate == ENTERED:
            acct.ob1_entries += 1


@inlined_kernel
def _confidence_nb(params: Record, market: Record, book: Record, acct: Record, event: Record) -> None:
    """OB-2: the confidence with and without the book."""
    if market.usable == 0 or book.usable == 0:
        return
    acct.ob2_asked += 1
    plain = confidence_nb(event.strength)
    leaning = book_confidence_nb(plain, book, params.direction)
    if leaning < 0.0:
        acct.ob2_refused += 1
        return
    if leaning > plain:
        acct.ob2_raised += 1
    elif leaning < plain:
        acct.ob2_lowered += 1
    acct.ob2_change += leaning - plain


@inlined_kernel
def _size_nb(
    params: Record, bar: Record, market: Record, stack: F8, stressed: bool, acct: Record, event: Record
) -> None:
    """OB-3 and OB-4 at an entry: the notional less what it would have been without the one, and without the other."""
    margin = event.capital * event.fraction
    if market.usable != 0:
        acct.ob3_asked += 1
        if event.market_ob_mult > 1.0:
            acct.ob3_raised += 1
        elif event.market_ob_mult < 1.0:
            acct.ob3_lowered += 1
        acct.ob3_mult += event.market_ob_mult
        plain = leverage_nb(params, event.strength, event.confirmation, event.regime_size_mult, 1.0, bar.posture)
        acct.ob3_notional += margin * (event.leverage - plain)
    if stressed:
        acct.ob4_entries += 1
        size = regime_size_mult_nb(event.strength, stack[0], stack[1], stack[2], params.leverage_convexity)
        calm = leverage_nb(params, event.strength, event.confirmation, size, event.market_ob_mult, bar.posture)
        acct.ob4_notional += margin * (event.leverage - calm)


@inlined_kernel
def _same_nb(one: tuple[float, float, int], other: tuple[float, float, int]) -> bool:
    return one[0] == other[0] and one[1] == other[1] and one[2] == other[2]


@inlined_kernel
def _exit_nb(
    params: Record,
    core: Record,
    bar: Record,
    price: float,
    market: Record,
    book: Record,
    blank: Blank,
    acct: Record,
    event: Record,
) -> None:
    """OB-5: take-profit, stop and hold against their base, and whether the base would have closed the position."""
    acct.ob5_asked += 1
    if event.exit_reason in (HIBERNATE_HALT, SUBDAY) or math.isnan(price):
        return
    d, nothing = params.direction, blank.market[0]
    pnl = d * (price - core.entry_price) / core.entry_price
    base = dynamic_exit_nb(params, nothing, blank.books[0], d, pnl)
    moved = dynamic_exit_nb(params, market, book, d, pnl)
    if not _same_nb(base, moved):
        acct.ob5_fired += 1
        if market.cascade_count > 0:
            acct.ob5_cascade += 1
        elif market.regime_signal == 1:
            acct.ob5_stress += 1
        else:
            still = blank.book[0]
            still.usable, still.imbalance_ma5, still.withdrawal_velocity = book.usable, book.imbalance_ma5, 0.0
            calm = dynamic_exit_nb(params, market, still, d, pnl)
            if not _same_nb(calm, base):
                acct.ob5_calm += 1
            if not _same_nb(calm, moved):
                acct.ob5_withdrawal += 1
    without = exit_reason_nb(params, core, bar, nothing, blank.books[0], price)
    if event.exit_reason != NONE:
        if without == NONE:
            acct.ob5_closed += 1
        elif without != event.exit_reason:
            acct.ob5_other += 1
    elif without != NONE and acct.kept == 0:
        acct.ob5_kept += 1
        acct.kept = 1


@inlined_kernel
def _follow_nb(core: Record, bar: Record, market: Record, book: Record, acct: Record, event: Record) -> None:
    """The entry of this bar is the position from now on."""
    core.open, core.asset, core.entry_bar, core.entry_price = 1, event.asset, core.bar_idx, event.price
    core.entry_spread = bar.v50 - bar.v750
    core.adverse_bars = acct.kept = 0
    note_book_nb(core, market, book)


@kernel
def account_nb(
    params: Record,
    state: EngineState,
    ranking: Ranking,
    blank: Blank,
    bars: Record,
    prices: F8,
    markets: Record,
    books: Record,
    stacks: F8,
    events: Record,
    account: Record,
    closes: I8,
) -> int:
    """Account for T bars that were stepped; give the number of positions closed, and for each in `closes` (≥ T + 1)
    whether its book was usable at the last bar it was managed at.

    `stacks` float64 (T, 3): boost, beta and mc_scale in force at each bar. `state` and `account` are the account's own.
    """
    core, acct = state.core, account[0]
    closed = 0
    for t in range(bars.shape[0]):
        bar, market, event = bars[t], markets[t], events[t]
        remember_nb(state, bar, prices[t])
        acct.bars += 1
        if market.usable != 0:
            acct.usable_bars += 1
            acct.stress_bars += 1 if market.regime_signal == 1 else 0
            acct.calm_bars += 1 if market.regime_signal == -1 else 0
            acct.cascade_bars += 1 if market.cascade_count > 0 else 0
        stressed = stressed_beta_nb(stacks[t, 1], market) > stacks[t, 1]
        acct.ob4_bars += 1 if stressed else 0
        if core.open != 0:
            gone = event.exit_reason == NONE and event.gate != IN_POSITION  # closed between the bars
            if not gone:
                asset = core.asset
                note_book_nb(core, market, books[t, asset])
                count_adverse_nb(core, bar.vel_div, params)
                _exit_nb(params, core, bar, valid_nb(prices[t, asset]), market, books[t, asset], blank, acct, event)
            if gone or event.exit_reason != NONE:
                closes[closed] = core.book_usable
                closed += 1
                core.open = 0
        gate = event.gate
        if gate == ENTERED or gate >= SELECTION:
            if params.use_asset_selection != 0:
                _selection_nb(params, state, prices[t], books[t], blank, ranking, acct, event)
            if gate in (ENTERED, BOOK_IMBALANCE):
                _confidence_nb(params, market, books[t, event.asset], acct, event)
            if gate == ENTERED:
                _size_nb(params, bar, market, stacks[t], stressed, acct, event)
                _follow_nb(core, bar, market, books[t, event.asset], acct, event)
    return closed


BOOK_ACCOUNT = Entry(account_nb)


class BookAccount:
    """Follows one run of an engine, day by day."""

    def __init__(self, engine: NDAlphaEngine) -> None:
        n = len(engine.assets)
        self._state = new_state(n, engine.capital)
        self._params: Record = engine.packed_params
        self._account: Record = records(ACCOUNT, 1)
        self._blank = Blank(records(MARKET_BOOK, 1), records(ASSET_BOOK, n), records(ASSET_BOOK, 1), records(EVENT, 1))
        self._flat = Flat(self._params, self._state, new_ranking(n), self._blank)
        self._by_book: list[NDArray[Any]] = []

    def take(
        self, bars: Record, closes: F8, markets: Record, books: Record, events: Record, engine: NDAlphaEngine
    ) -> None:
        """Account for one day's bars, stepped by `engine` with these books; the day's own values are still in force."""
        rows, core = len(bars), engine.state.core
        if not rows:
            return
        asked = bars.copy()
        asked["posture"] = events["posture"]
        stacks = np.tile([float(core.boost), float(core.beta), float(core.mc_scale)], (rows, 1))
        stacks[:FIRST_ACB_BAR, :2] = 1.0, 0.0
        room = np.zeros(rows + 1, np.int64)
        closed = BOOK_ACCOUNT(
            self._flat,
            asked,
            np.ascontiguousarray(closes, np.float64),
            np.ascontiguousarray(markets),
            np.ascontiguousarray(books),
            stacks,
            np.ascontiguousarray(events),
            self._account,
            room,
        )
        self._by_book.append(room[:closed])

    @property
    def counts(self) -> dict[str, int | float]:
        """The fields of ACCOUNT but the last, as they stand."""
        return {name: self._account[0][name].item() for name in (ACCOUNT.names or ())[:-1]}

    def closes_by_book(self) -> NDArray[np.bool_]:
        """For each position closed so far, the one that is open included, whether its book was usable at its last bar:
        whether the book decided its modelled edge, or the draw."""
        last = [np.array([self._state.core.book_usable])] if self._state.core.open else []
        flags: NDArray[np.bool_] = np.concatenate([np.empty(0, np.int64), *self._by_book, *last]) != 0
        return flags
