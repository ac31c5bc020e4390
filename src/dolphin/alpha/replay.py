"""The replay: the step, in a loop."""

from __future__ import annotations

from dolphin.alpha.layout import F8, Record
from dolphin.alpha.selection import Ranking
from dolphin.alpha.step import EngineState, step_nb
from dolphin.core.jit import kernel


@kernel
def replay_nb(
    params: Record,
    state: EngineState,
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
    `markets` and `books` have T rows, or one row that serves every bar (no book).
    """
    closed = 0
    still = markets.shape[0] == 1
    for t in range(bars.shape[0]):
        b = 0 if still else t
        if step_nb(
            params, state, bars[t], prices[t], markets[b], books[b], ranking, draws, events[t], trades[closed]
        ):
            closed += 1
    return closed
