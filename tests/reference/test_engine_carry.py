"""What the reference engine carries from bar to bar, and the switches that only the engine reads (SPEC §5, §6, §23)."""

from __future__ import annotations

import pytest

from dolphin.core.codes import ExitReason, Gate, Posture
from dolphin.core.params import Champion, EngineParams
from tests.reference.bars_ref import Trade
from tests.reference.engine_ref import ReferenceEngine
from tests.reference.scenes import ENTRY, READY, bar, book, engine, held, reasons

near = pytest.approx


def test_the_win_rate_is_that_of_the_entry_s_bucket() -> None:
    made = held()
    made.step(bar(100, posture=Posture.HIBERNATE))
    (trade,) = made.trades
    won, lost = Trade(**{**trade, "net_pnl": 0.05}), Trade(**{**trade, "net_pnl": 0.0})
    weak = [Trade(**{**trade, "bucket": 3, "net_pnl": -1.0})] * 20
    made.trades = [*weak, *[lost] * 3, *[won] * 7, *weak[:3]]
    event = made.step(bar(101, vel_div=-0.06))  # bucket 1: 7 of 10; of the last five, three lost
    assert (event["bucket"], event["bucket_boost"], event["streak_mult"]) == (1, 1.3, 0.7)


def test_a_position_s_bucket_is_its_entry_s() -> None:
    made = held(vel_div=-0.03)
    made.step(bar(100, vel_div=-0.09, posture=Posture.HIBERNATE))
    assert made.trades[0]["bucket"] == 3


def test_relative_returns_are_the_engine_s_to_switch() -> None:
    def zigzag(params: EngineParams) -> Gate:
        made = ReferenceEngine(params, -1, ["X"], 25_000.0)
        steps = (bar(t, 100_000.0 - 100.0 * (t // 2), -0.06 if t == READY else 0.0) for t in range(READY + 1))
        gates: list[Gate] = [made.step(b)["gate"] for b in steps]
        return gates[-1]

    # Half the moves are 0 and half are −100: variance near 2500, alignment near one half.
    assert zigzag(EngineParams()) == Gate.SELECTION
    assert zigzag(EngineParams(irp_returns="relative")) == Gate.ENTERED


def test_any_capital_above_zero_trades() -> None:
    made = engine()
    made.capital = 0.05
    assert made.step(bar(READY, vel_div=-0.06))["notional_usd"] == near(0.05)


def test_take_profit_is_reached_at_equality() -> None:
    half = EngineParams(champion=Champion(fixed_tp_pct=0.5))
    assert held(half).step(bar(100, ENTRY / 2.0))["exit_reason"] == ExitReason.FIXED_TP


def test_the_spread_is_v50_less_v750() -> None:
    params = EngineParams(tf_enabled=True)
    made = held(params, v50=-0.01, v750=0.05)
    assert made.step(bar(100, ENTRY, v50=-0.05, v750=-0.03))["exit_reason"] == ExitReason.NONE
    assert made.step(bar(101, ENTRY, v50=-0.05, v750=-0.04))["exit_reason"] == ExitReason.TF_EXHAUST
    made = held(params, v50=-0.01, v750=0.05)
    assert made.step(bar(100, ENTRY, v50=0.02, v750=-0.02))["exit_reason"] == ExitReason.TF_FLIP


def test_an_asset_without_a_snapshot_is_neutral() -> None:
    calm, stress = book({"regime_signal": -1}), book({"regime_signal": 1})
    calm["assets"], stress["assets"] = {}, {}
    assert reasons(held(), (bar(t, ENTRY, book=calm) for t in range(100, 220)))[118:] == [0, ExitReason.MAX_HOLD]
    made = held()
    assert made.step(bar(100, ENTRY * 1.11, book=stress))["exit_reason"] == ExitReason.STOP_LOSS
    assert made.trades[0]["modelled_edge"] == near(12.5)  # no book of this asset: the draw decides
    thin = held()
    assert thin.step(bar(100, ENTRY * 0.9925, book=calm))["exit_reason"] == ExitReason.NONE


def test_the_book_s_stress_waits_for_its_signal() -> None:
    made = engine()
    made.begin_day(beta=0.8)
    calm = book({"regime_signal": 0, "depth_velocity": -0.2})
    assert made.step(bar(READY, vel_div=-0.06, book=calm))["regime_size_mult"] == near(1.8)
    assert made.step(bar(READY + 1, vel_div=-0.06))["regime_size_mult"] == near(1.8)
