"""Worked scenarios of the reference engine: one falling asset, and what each bar does to it (SPEC §6, §12, §23)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from dolphin.core.codes import Drop, ExitReason, Gate, Posture
from dolphin.core.params import Champion, EngineParams
from tests.reference.engine_ref import Event, ReferenceEngine
from tests.reference.scenes import ENTRY, READY, bar, book, engine, held, reasons

NAN = math.nan
near = pytest.approx
NO_FRICTION = {"use_sp_fees": False, "use_sp_slippage": False, "use_ob_edge": False}


# --- entry ---


def test_an_entry_by_hand() -> None:
    made = engine()
    event = made.step(bar(READY, vel_div=-0.06))
    # Extreme: strength 1, leverage 5; base 0.2 × 0.7/0.95 × 2 × trend 1.3 is over the cap of 0.2; 25,000 · 0.2 · 5.
    assert event["gate"] == Gate.ENTERED
    assert (event["asset"], event["leverage"], event["fraction"], event["bucket"]) == (0, 5.0, 0.2, 1)
    assert (event["notional_usd"], event["entry_price"], event["trend_mult"]) == (25_000.0, ENTRY, 1.3)
    assert event["confidence"] == near(0.9)
    assert (event["capital"], event["equity"], event["regime_size_mult"]) == (25_000.0, 25_000.0, 1.0)


def test_a_round_trip_by_hand() -> None:
    made = held()
    price = ENTRY * 0.99
    event = made.step(bar(READY + 1, price, vel_div=-0.06))
    assert (event["gate"], event["exit_reason"], event["asset"]) == (Gate.JUST_EXITED, ExitReason.FIXED_TP, 0)
    (trade,) = made.trades
    assert (trade["entry_bar"], trade["exit_bar"], trade["entry_ts"], trade["exit_ts"]) == (99, 100, 495e9, 500e9)
    assert trade["exit_price"] == near(price * 1.0002)
    assert trade["pnl_price"] == near(250.0)
    assert trade["slippage"] == near((-0.000198 + 0.000224) * 25_000.0)
    assert trade["modelled_edge"] == near(12.5)  # the first draw of seed 42 is 0.3745
    assert trade["fees"] == near(-16.6)
    assert trade["net_pnl"] == near(246.55)
    assert trade["capital_after"] == made.capital == event["equity"] == 25_000.0 + trade["net_pnl"]
    # The next bar is free again, but a tenth of the profile's fall now comes too late in it.
    later = made.step(bar(READY + 2, price - 1.0, vel_div=-0.06))
    assert (later["gate"], later["drops"]) == (Gate.SELECTION, [Drop.LATENCY])


def test_gates_in_order() -> None:
    made = engine(upto=READY - 1)
    shut: dict[str, Any] = {"posture": Posture.TURTLE, "vol_ok": False}
    made.capital = 0.0
    assert made.step(bar(98, NAN, 0.0, **shut))["gate"] == Gate.CAPITAL
    made = engine(upto=READY - 1)
    assert made.step(bar(98, NAN, 0.0, **shut))["gate"] == Gate.WARM_UP
    assert made.step(bar(99, NAN, 0.0, **shut))["gate"] == Gate.HALT
    assert made.step(bar(100, NAN, 0.0, vol_ok=False))["gate"] == Gate.VOL_REGIME
    assert made.step(bar(101, NAN, -0.02))["gate"] == Gate.VEL_DIV
    assert made.step(bar(102, NAN, NAN))["gate"] == Gate.VEL_DIV
    assert made.step(bar(103, NAN, -0.021))["gate"] == Gate.SELECTION
    assert made.step(bar(104, 999.5, -0.021))["gate"] == Gate.DIRECTION_CONFIRMATION
    against = book(imbalance_ma5=0.2, imbalance_persistence=0.7)
    assert made.step(bar(105, vel_div=-0.021, book=against))["gate"] == Gate.BOOK_IMBALANCE
    assert made.step(bar(106, vel_div=-0.021))["gate"] == Gate.ENTERED
    assert made.step(bar(107, vel_div=-0.021))["gate"] == Gate.IN_POSITION


def test_halts() -> None:
    made = engine()
    made.begin_day(mc_red=True)
    assert made.step(bar(99, vel_div=-0.06))["gate"] == Gate.HALT
    made.begin_day()
    assert made.step(bar(100, vel_div=-0.06, posture=Posture.HIBERNATE))["gate"] == Gate.HALT
    assert made.step(bar(101, vel_div=-0.06))["gate"] == Gate.ENTERED  # a posture's halt ends with the posture


def test_a_contradiction_may_be_tolerated() -> None:
    params = EngineParams(champion=Champion(dc_skip_contradicts=False), dc_leverage_boost=1.5)
    event = engine(params).step(bar(READY, 999.0, -0.035))  # +5.6 bps over seven bars, but one rise in 49 moves
    assert event["gate"] == Gate.ENTERED
    assert event["leverage"] == near(1.0625)  # no boost, which is for CONFIRM
    assert engine(params).step(bar(READY, vel_div=-0.035))["leverage"] == near(1.0625 * 1.5)


def test_without_selection_only_btc_is_traded() -> None:
    params = EngineParams(use_asset_selection=False)
    assert engine(params).step(bar(READY, vel_div=-0.06))["gate"] == Gate.ENTERED
    assert engine(params).step(bar(READY, NAN, vel_div=-0.06))["gate"] == Gate.SELECTION
    assert engine(params, name="ETHUSDT").step(bar(READY, vel_div=-0.06))["gate"] == Gate.SELECTION


def test_the_long_profile_mirrors() -> None:
    made = ReferenceEngine(EngineParams(), 1, ["X"], 25_000.0)
    for t in range(READY):
        made.step(bar(t, 1000.0 + t / 64.0))
    event = made.step(bar(READY, 1000.0 + READY / 64.0, vel_div=0.041))
    assert (event["gate"], event["notional_usd"], event["bucket"]) == (Gate.ENTERED, 25_000.0, 1)
    assert made.step(bar(100, event["entry_price"] * 1.0096))["exit_reason"] == ExitReason.FIXED_TP
    assert made.trades[0]["exit_price"] == near(event["entry_price"] * 1.0096 * 0.9998)


def test_the_book_at_entry() -> None:
    helped = engine().step(bar(READY, vel_div=-0.06, book=book({"median_imbalance": -0.15}, imbalance_ma5=-0.2)))
    assert helped["market_ob_mult"] == near(1.15)
    assert helped["leverage"] == near(5.75)
    assert helped["confidence"] == near(0.9 * 1.05)
    assert engine().step(bar(READY, vel_div=-0.06, book=book(depth_quality=0.19)))["gate"] == Gate.SELECTION
    stressed = book({"regime_signal": 1, "depth_velocity": -0.2})
    made = engine()
    made.begin_day(boost=1.2, beta=0.8)
    assert made.step(bar(READY, vel_div=-0.06, book=stressed))["regime_size_mult"] == near(1.2 * 2.0)
    empty = book()
    empty["assets"] = {}
    assert engine().step(bar(READY, vel_div=-0.06, book=empty))["confidence"] == near(0.9)


# --- exits ---


def test_exit_priority() -> None:
    made = held(EngineParams(champion=Champion(stop_pct=0.01)))
    fallen, risen = ENTRY * 0.98, ENTRY * 1.02
    made.begin_day(boost=1.3)
    drop: dict[str, Any] = {"acb": ("subday", 1.0, 0.2)}
    assert made.step(bar(100, NAN, posture=Posture.HIBERNATE, **drop))["exit_reason"] == ExitReason.NONE
    assert made.step(bar(101, fallen, posture=Posture.HIBERNATE))["exit_reason"] == ExitReason.HIBERNATE_HALT
    made = held()
    made.begin_day(boost=1.3)
    assert made.step(bar(100, fallen, **drop))["exit_reason"] == ExitReason.SUBDAY_ACB_NORMALIZATION
    assert held().step(bar(100, fallen))["exit_reason"] == ExitReason.FIXED_TP
    stop = EngineParams(champion=Champion(stop_pct=0.01))
    made = held(stop)
    assert made.step(bar(100, risen))["exit_reason"] == ExitReason.STOP_LOSS
    assert made.trades[0]["exit_price"] == near(risen * 1.0005)


def test_take_profit_and_stop_sit_on_their_thresholds() -> None:
    assert held().step(bar(100, ENTRY * (1 - 0.0094)))["exit_reason"] == ExitReason.NONE
    assert held().step(bar(100, ENTRY * 2.0))["exit_reason"] == ExitReason.STOP_LOSS  # exactly −100 %
    assert held().step(bar(100, ENTRY * 1.99))["exit_reason"] == ExitReason.NONE


def test_max_hold() -> None:
    got = reasons(held(), (bar(t, ENTRY) for t in range(100, 220)))
    assert got == [ExitReason.NONE] * 119 + [ExitReason.MAX_HOLD]


def test_the_book_moves_the_exits() -> None:
    cascade = book({"cascade_count": 3})
    assert reasons(held(), (bar(t, ENTRY, book=cascade) for t in range(100, 160)))[58:] == [0, ExitReason.MAX_HOLD]
    assert held().step(bar(100, ENTRY * 0.99, book=cascade))["exit_reason"] == ExitReason.NONE  # 1 % < 1.33 %
    stress = book({"regime_signal": 1})
    assert held().step(bar(100, ENTRY * 0.994, book=stress))["exit_reason"] == ExitReason.FIXED_TP  # over 0.57 %
    assert held().step(bar(100, ENTRY * 1.11, book=stress))["exit_reason"] == ExitReason.STOP_LOSS
    calm = book({"regime_signal": -1}, imbalance_ma5=-0.16)
    assert reasons(held(), (bar(t, ENTRY, book=calm) for t in range(100, 280)))[178:] == [0, ExitReason.MAX_HOLD]
    thinning = book(withdrawal_velocity=-0.3)
    assert held().step(bar(100, ENTRY * 0.9925, book=thinning))["exit_reason"] == ExitReason.FIXED_TP  # over 0.71 %


def test_the_edge_comes_from_the_book_of_the_exit_bar() -> None:
    made = held(book=book(depth_quality=2.0))
    made.step(bar(100, ENTRY * 0.98, book=book(depth_quality=0.51, fill_probability=0.5)))
    assert made.trades[0]["modelled_edge"] == near(0.5 * 5e-4 * made.trades[0]["notional_usd"])
    made = held()
    made.step(bar(100, ENTRY * 0.98, book=book(depth_quality=0.5)))
    assert (made.trades[0]["modelled_edge"], made.draws) == (0.0, 1)


def test_draws_are_the_seed_s_in_order() -> None:
    made, edges = engine(), []
    for t in range(READY, READY + 20, 2):
        assert made.step(bar(t, vel_div=-0.06))["gate"] == Gate.ENTERED
        made.step(bar(t + 1, posture=Posture.HIBERNATE))
        edges.append(made.trades[-1]["modelled_edge"] > 0.0)
    assert edges == [bool(x < 0.4) for x in np.random.RandomState(42).random_sample(10)]


def test_the_adverse_turn_needs_successive_bars() -> None:
    params = EngineParams(vd_enabled=True)
    signal = (0.02, 0.03, NAN, 0.02, 0.02, 0.0, 0.02, 0.02, 0.02)
    got = reasons(held(params), (bar(100 + i, ENTRY, vd) for i, vd in enumerate(signal)))
    assert got == [ExitReason.NONE] * 8 + [ExitReason.VEL_DIV_ADVERSE]
    assert set(reasons(held(), (bar(100 + i, ENTRY, 0.05) for i in range(9)))) == {ExitReason.NONE}


def test_tf_exits_come_before_max_hold() -> None:
    params = EngineParams(champion=Champion(max_hold_bars=1), tf_enabled=True)
    assert held(params).step(bar(100, ENTRY, -0.06))["exit_reason"] == ExitReason.MAX_HOLD
    assert held(params).step(bar(100, ENTRY, -0.018))["exit_reason"] == ExitReason.TF_EXHAUST
    assert held(params).step(bar(100, ENTRY, 0.03))["exit_reason"] == ExitReason.TF_FLIP


def test_stale_price() -> None:
    made = held(EngineParams(champion=Champion(max_hold_bars=3), **NO_FRICTION))  # type: ignore[arg-type]
    made.step(bar(100, 999.0))
    events: list[Event] = [made.step(bar(t, 0.0, posture=Posture.HIBERNATE)) for t in range(101, 106)]
    assert [e["exit_reason"] for e in events] == [0, 0, 0, 0, ExitReason.STALE_PRICE]
    (trade,) = made.trades
    assert (trade["exit_bar"], trade["exit_price"]) == (105, 999.0)
    assert [e["equity"] for e in events[:4]] == [25_000.0 - (999.0 - ENTRY) / ENTRY * 25_000.0] * 4


def test_a_late_price_exits_in_the_ordinary_way() -> None:
    made = held(EngineParams(champion=Champion(max_hold_bars=3)))
    got = reasons(made, [*(bar(t, NAN) for t in range(100, 105)), bar(105, ENTRY)])
    assert got == [*[ExitReason.NONE] * 5, ExitReason.MAX_HOLD]


@pytest.mark.parametrize("reason", [ExitReason.DATA_GAP, ExitReason.END_OF_DATA])
def test_closing_what_is_open(reason: ExitReason) -> None:
    made = held()
    made.step(bar(100, 990.0))
    made.step(bar(101, NAN))
    trade = made.close_open(reason)
    assert trade is not None
    assert (trade["reason"], trade["exit_bar"], trade["exit_ts"]) == (reason, 101, 505_000_000_000)
    assert trade["exit_price"] == near(990.0 * 1.0002)
    assert made.close_open(reason) is None
    assert made.step(bar(102, vel_div=-0.06))["gate"] != Gate.JUST_EXITED


# --- circuit breaker ---


def test_updates_apply_from_their_bar() -> None:
    made = engine()
    assert made.step(bar(99, acb=("daily", 1.5, 0.0)))["regime_size_mult"] == 1.5
    assert made.step(bar(100, acb=("subday", 2.0, 0.0)))["regime_size_mult"] == 2.0
    for boost, beta in ((0.99, 0.2), (3.01, 0.2), (NAN, 0.2), (math.inf, 0.2), (1.0, NAN), (1.0, -0.1), (1.0, 1.01)):
        assert made.step(bar(101, acb=("subday", boost, beta)))["regime_size_mult"] == 2.0


@pytest.mark.parametrize(
    ("old", "kind", "new", "flagged"),
    [
        (1.25, "subday", 1.0999, True),
        (1.2499, "subday", 1.0, False),
        (1.25, "subday", 1.10, False),
        (1.5, "daily", 1.0, False),
        (1.5, "subday", NAN, False),
    ],
)
def test_the_subday_flag(old: float, kind: str, new: float, flagged: bool) -> None:
    made = held()
    made.begin_day(boost=old)
    assert made.step(bar(100, NAN, acb=(kind, new, 0.2)))["exit_reason"] == ExitReason.NONE  # no price: it waits
    expected = ExitReason.SUBDAY_ACB_NORMALIZATION if flagged else ExitReason.NONE
    assert made.step(bar(101, ENTRY))["exit_reason"] == expected


def test_the_subday_flag_is_cleared_while_flat() -> None:
    made = engine()
    made.begin_day(boost=1.5)
    assert made.step(bar(99, vel_div=-0.06, acb=("subday", 1.0, 0.0)))["gate"] == Gate.ENTERED
    assert made.step(bar(100, ENTRY))["exit_reason"] == ExitReason.NONE


def test_a_new_day_keeps_histories_and_the_flag() -> None:
    made = held()
    made.begin_day(boost=1.5)
    made.step(bar(100, NAN, acb=("subday", 1.0, 0.0)))
    made.begin_day()
    assert made.bar_count == 101
    assert made.step(bar(101, ENTRY))["exit_reason"] == ExitReason.SUBDAY_ACB_NORMALIZATION
