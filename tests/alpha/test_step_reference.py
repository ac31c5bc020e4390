"""The compiled step against its plain-Python twin, bit for bit, over adversarial cases."""

from __future__ import annotations

import math

import numpy as np
import pytest

from dolphin.core.codes import Direction, ExitReason, Gate
from tests.alpha.cases import run_engine, run_reference
from tests.reference.markets import random_case, random_days, random_gaps, random_params

TRADE_FIELDS = (
    *("asset", "side", "entry_ts", "exit_ts", "entry_bar", "exit_bar", "entry_price", "exit_price", "notional_usd"),
    *("leverage", "fraction", "bucket", "confidence", "is_extreme", "reason", "pnl_price", "fees", "slippage"),
    *("funding", "modelled_edge", "net_pnl", "capital_after"),
)


def compare(seed: int, direction: Direction, n: int = 6, t: int = 900, **knobs: float) -> tuple[set, set]:
    """Assert that twin and engine agree on every event and trade; give the gates and reasons that came up."""
    params, days, gaps = random_params(seed), random_days(seed, t), random_gaps(seed, t)
    drift = -0.15 if direction == Direction.SHORT else 0.15
    case = random_case(seed, n, t, drift=drift, **knobs)
    want_events, want_trades, twin = run_reference(params, direction, case, n, days, gaps)
    events, trades, engine = run_engine(params, direction, case, n, days, gaps)
    for k, want in enumerate(want_events):
        got = events[k]
        assert Gate(got["gate"]) == want["gate"], (seed, k)
        assert ExitReason(got["exit_reason"]) == want["exit_reason"], (seed, k)
        assert got["regime_size_mult"] == want["regime_size_mult"], (seed, k)
        assert got["capital"] == want["capital"], (seed, k)
        assert got["equity"] == want["equity"], (seed, k)
    assert len(trades) == len(want_trades)
    for k, want in enumerate(want_trades):
        for name in TRADE_FIELDS:
            assert float(trades[k][name]) == float(want[name]), (seed, k, name)
    assert engine.capital == twin.capital
    return {Gate(g) for g in events["gate"]}, {ExitReason(r) for r in trades["reason"]}


@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.name)
@pytest.mark.parametrize("seed", range(12))
def test_step_equals_twin(seed: int, direction: Direction) -> None:
    compare(seed, direction)


@pytest.mark.slow
def test_step_equals_twin_on_many_cases_and_every_branch_comes_up() -> None:
    gates: set[Gate] = set()
    reasons: set[ExitReason] = set()
    for seed in range(12, 60):
        direction = Direction.SHORT if seed % 2 else Direction.LONG
        g, r = compare(seed, direction, n=2 + seed % 9, t=700)
        gates |= g
        reasons |= r
    assert gates >= set(Gate) - {Gate.CAPITAL}
    assert reasons == set(ExitReason) - {ExitReason.NONE, ExitReason.PROTECTIVE_STOP}  # a venue's alone


def test_no_book_and_clean_prices() -> None:
    gates, reasons = compare(0, Direction.SHORT, n=8, t=1500, book_rate=0.0, bad_rate=0.0, acb_rate=0.0)
    assert Gate.ENTERED in gates
    assert ExitReason.MAX_HOLD in reasons


def test_one_asset() -> None:
    compare(3, Direction.SHORT, n=1, t=600)


def test_restoring_at_any_bar_changes_nothing() -> None:
    params, days, gaps = random_params(5), random_days(5, 900), random_gaps(5, 900)
    case = random_case(5, 6, 900, drift=-0.15)
    events, trades, engine = run_engine(params, Direction.SHORT, case, 6, days, gaps)
    cuts = frozenset(int(x) for x in np.random.default_rng(5).integers(1, 900, 25))
    again, trades2, engine2 = run_engine(params, Direction.SHORT, case, 6, days, gaps, cuts)
    assert events.tobytes() == again.tobytes()
    assert trades.tobytes() == trades2.tobytes()
    assert engine.state_hash() == engine2.state_hash()
    assert math.isfinite(engine.capital)


@pytest.mark.jit_off
@pytest.mark.parametrize("direction", list(Direction), ids=lambda d: d.name)
def test_a_short_case_with_and_without_the_jit(direction: Direction) -> None:
    """Short enough to run as plain Python, where the very same functions must give the very same bits."""
    gates, reasons = compare(0, direction, n=3, t=260, vol_off_rate=0.01)
    assert {Gate.ENTERED, Gate.IN_POSITION, Gate.WARM_UP, Gate.VEL_DIV} <= gates
    assert reasons
