"""The generators do what they are for: every gate, exit and drop is reached, and the same seed gives the same case."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from dolphin.core.codes import Drop, ExitReason, Gate
from tests.reference.bars_ref import Trade
from tests.reference.engine_ref import ReferenceEngine
from tests.reference.markets import asset_names, random_case, random_days, random_gaps, random_params

ASSETS, BARS = 8, 900


def replay(seed: int, seen: Counter[object]) -> ReferenceEngine:
    """One case through the reference, with days, gaps and an end; `seen` counts what happened."""
    engine = ReferenceEngine(random_params(seed), (-1, 1)[seed % 2], asset_names(ASSETS), 25_000.0)
    days, gaps = random_days(seed, BARS, 300), random_gaps(seed, BARS)
    for bar in random_case(seed, ASSETS, BARS, drift=(-0.3, 0.0, 0.3)[seed % 3], bad_rate=0.04):
        if bar["bar_idx"] in gaps:
            engine.close_open(ExitReason.DATA_GAP)
        if bar["bar_idx"] in days:
            engine.begin_day(**days[bar["bar_idx"]])
        event = engine.step(bar)
        seen.update([event["gate"], event["exit_reason"], *event.get("drops", [])])
    engine.close_open(ExitReason.END_OF_DATA)
    seen.update(trade["reason"] for trade in engine.trades)
    return engine


def books_balance(trades: list[Trade], start: float) -> None:
    """Every trade's columns add up, and capital is their running sum."""
    capital = start
    for trade in trades:
        net = trade["pnl_price"] + trade["slippage"] + trade["modelled_edge"] + trade["fees"]
        assert trade["net_pnl"] == net
        capital = capital + net
        assert trade["capital_after"] == capital
        assert trade["exit_bar"] >= trade["entry_bar"]
        assert math.isfinite(trade["entry_price"])
        assert trade["entry_price"] > 0.0


def test_every_branch_is_reached() -> None:
    seen: Counter[object] = Counter()
    trades = 0
    for seed in range(40):
        engine = replay(seed, seen)
        books_balance(engine.trades, 25_000.0)
        assert engine.draws == len(engine.trades)
        trades += len(engine.trades)
    assert trades > 500
    a_venue_alone = {ExitReason.PROTECTIVE_STOP}
    for vocabulary in (Gate, ExitReason, Drop):
        assert [code.name for code in vocabulary if seen[code] == 0 and code not in a_venue_alone] == []


@pytest.mark.parametrize("seed", [0, 3])
def test_the_same_seed_gives_the_same_case(seed: int) -> None:
    assert repr(random_case(seed, 5, 200)) == repr(random_case(seed, 5, 200))  # repr, for NaN is not itself
    assert repr(random_case(seed, 5, 200)) != repr(random_case(seed + 1, 5, 200))
    assert random_params(seed) == random_params(seed)
    assert replay(seed, Counter()).trades == replay(seed, Counter()).trades


def test_prices_of_every_bad_kind_occur() -> None:
    met = [p for seed in range(10) for bar in random_case(seed, 6, 400) for p in bar["prices"]]
    assert any(math.isnan(p) for p in met)
    for bad in (0.0, -1.0, math.inf, -math.inf):
        assert bad in met
