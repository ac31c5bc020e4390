"""Exits (SPEC §6): dynamic parameters, their order, adverse turns and TF exits, by hand and against the plain twin."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.exits import count_adverse_nb, dynamic_exit_nb, exit_reason_nb, tf_exit_nb
from dolphin.core.codes import Direction, ExitReason, Posture
from dolphin.core.params import Champion, EngineParams
from tests.alpha.pieces import a_bar, book, directions, held, imbalances, market, no_book, no_market, packed, vel_divs
from tests.reference import rules_ref as rule

pytestmark = pytest.mark.jit_off
NAN = math.nan
near = pytest.approx
SHORT, LONG = Direction.SHORT, Direction.LONG


@pytest.mark.parametrize(
    ("on_market", "on_asset", "pnl", "expected"),
    [
        # tp 0.0095, sl 1.0, hold 120 are the base values
        ({}, {}, 0.005, (0.0095, 1.0, 120)),
        ({"cascade_count": 3}, {}, 0.005, (0.0133, 1.0, 60)),  # tp·1.40, hold·0.5
        ({"cascade_count": 3, "regime_signal": 1}, {"imbalance_ma5": 0.9}, 0.005, (0.0133, 1.0, 60)),  # cascade first
        ({"regime_signal": 1}, {}, 0.005, (0.0057, 0.10, 120)),  # tp·0.60 in profit
        ({"regime_signal": 1}, {}, 0.0, (0.0095, 0.10, 120)),  # 0 is no profit
        ({"regime_signal": 1}, {"imbalance_ma5": 0.11}, -0.01, (0.0095, 0.10, 48)),  # SHORT: eff −0.11: hold·0.40
        ({"regime_signal": 1}, {"imbalance_ma5": 0.10}, -0.01, (0.0095, 0.10, 120)),
        ({"regime_signal": 1}, {"withdrawal_velocity": -0.5}, 0.005, (0.0057, 0.10, 120)),  # stress: not per asset
        ({"regime_signal": -1}, {"imbalance_ma5": -0.16}, 0.005, (0.0095, 1.0, 180)),  # calm and eff 0.16: hold·1.5
        ({"regime_signal": -1}, {"imbalance_ma5": -0.15}, 0.005, (0.0095, 1.0, 120)),
        ({}, {"withdrawal_velocity": -0.21}, 0.005, (0.007125, 1.0, 48)),  # tp·0.75, min(hold, 0.40·base)
        ({}, {"withdrawal_velocity": -0.21}, -0.005, (0.0095, 1.0, 48)),
        ({}, {"withdrawal_velocity": -0.20}, 0.005, (0.0095, 1.0, 120)),
        ({"regime_signal": -1}, {"imbalance_ma5": -0.3, "withdrawal_velocity": -0.3}, 0.005, (0.007125, 1.0, 48)),
    ],
)
def test_ob5_by_hand(
    on_market: dict[str, float], on_asset: dict[str, float], pnl: float, expected: tuple[float, float, int]
) -> None:
    got = dynamic_exit_nb(packed(), market(**on_market), book(**on_asset), -1, pnl)
    assert got == (near(expected[0]), expected[1], expected[2])
    mirrored = {k: -v if k == "imbalance_ma5" else v for k, v in on_asset.items()}
    assert dynamic_exit_nb(packed(LONG), market(**on_market), book(**mirrored), 1, pnl) == got


def test_ob5_without_a_book() -> None:
    stress = {"regime_signal": 1, "cascade_count": 9}
    assert dynamic_exit_nb(packed(), no_market(), book(withdrawal_velocity=-0.9), -1, 0.01) == (0.0095, 1.0, 120)
    # An asset without a snapshot is neutral, the market's word still holds.
    assert dynamic_exit_nb(packed(), market(**stress), no_book(), -1, 0.01)[2] == 60
    assert dynamic_exit_nb(packed(), market(regime_signal=-1), no_book(), -1, 0.01) == (0.0095, 1.0, 120)


def test_a_stress_stop_never_loosens_a_tighter_one() -> None:
    tight = packed(champion={"stop_pct": 0.03})
    assert dynamic_exit_nb(tight, market(regime_signal=1), book(), -1, 0.0)[1] == 0.03


def test_scaled_holds_are_truncated() -> None:
    odd = packed(champion={"max_hold_bars": 7})
    assert dynamic_exit_nb(odd, market(cascade_count=1), book(), -1, 0.0)[2] == 3  # int(3.5)
    assert dynamic_exit_nb(odd, market(), book(withdrawal_velocity=-0.3), -1, 0.0)[2] == 2  # int(2.8)
    assert dynamic_exit_nb(odd, market(regime_signal=-1), book(imbalance_ma5=-0.2), -1, 0.0)[2] == 10  # int(10.5)


@given(
    directions,
    st.floats(-0.5, 0.5),
    st.sampled_from([0, 0, 3]),
    st.sampled_from([-1, 0, 1]),
    imbalances,
    st.floats(-1.0, 1.0),
    st.sampled_from([1, 7, 120]),
    st.sampled_from([0.03, 1.0]),
)
@settings(deadline=None)
def test_ob5_equals_the_twin(
    direction: Direction, pnl: float, cascade: int, regime: int, imb: float, velocity: float, hold: int, stop: float
) -> None:
    champion = Champion(max_hold_bars=hold, stop_pct=stop)
    p = packed(direction, {"max_hold_bars": hold, "stop_pct": stop})
    shelf = book(imbalance_ma5=imb, withdrawal_velocity=velocity)
    got = dynamic_exit_nb(p, market(cascade_count=cascade, regime_signal=regime), shelf, int(direction), pnl)
    eff = rule.effective_imbalance(imb, int(direction))
    assert got == rule.dynamic_exit_params(champion, pnl, cascade, regime, eff, velocity)
    assert 0.0 < got[0] <= 1.4 * champion.fixed_tp_pct
    assert 0.0 < got[1] <= stop
    assert 0 <= got[2] <= int(1.5 * hold)


# --- the order ---


def reason(price: float, params: Any = None, bars_held: int = 1, market_: Any = None, **bar: Any) -> ExitReason:
    """The exit of a SHORT from 1000, held for `bars_held` bars, at `price`."""
    state = held(bar_idx=bars_held, **bar.pop("state", {}))
    shelf = no_market() if market_ is None else market_
    return ExitReason(exit_reason_nb(params or packed(), state, a_bar(**bar), shelf, book(), price))


def test_take_profit_and_stop_by_hand() -> None:
    assert reason(990.5) == ExitReason.FIXED_TP  # (1000 − 990.5)/1000 = 0.0095 exactly
    assert reason(990.51) == ExitReason.NONE
    assert reason(1999.0) == ExitReason.NONE
    assert reason(2000.0) == ExitReason.STOP_LOSS  # −100 %
    assert reason(1050.0, packed(champion={"stop_pct": 0.05})) == ExitReason.STOP_LOSS


def test_long_exits_mirror() -> None:
    assert reason(1009.5, packed(LONG)) == ExitReason.FIXED_TP
    assert reason(1009.4, packed(LONG)) == ExitReason.NONE
    assert reason(950.0, packed(LONG, {"stop_pct": 0.05})) == ExitReason.STOP_LOSS


def test_max_hold_by_hand() -> None:
    assert reason(1000.0, bars_held=119) == ExitReason.NONE
    assert reason(1000.0, bars_held=120) == ExitReason.MAX_HOLD
    assert reason(1000.0, bars_held=60, market_=market(cascade_count=3)) == ExitReason.MAX_HOLD


def test_the_order_of_exits() -> None:
    """Every exit at once; each one taken away shows the next."""
    p = packed(champion={"fixed_tp_pct": 0.0095, "stop_pct": 0.01}, vd_enabled=True, tf_enabled=True)
    flags: dict[str, Any] = {"subday_exit": 1, "adverse_bars": 3, "entry_spread": 0.1}
    sleepy: dict[str, Any] = {"v50": 0.0, "v750": 0.0}
    assert reason(980.0, p, 120, posture=Posture.HIBERNATE, state=flags, **sleepy) == ExitReason.HIBERNATE_HALT
    assert reason(980.0, p, 120, state=flags, **sleepy) == ExitReason.SUBDAY_ACB_NORMALIZATION
    flags["subday_exit"] = 0
    assert reason(980.0, p, 120, state=flags, **sleepy) == ExitReason.FIXED_TP
    assert reason(1020.0, p, 120, state=flags, **sleepy) == ExitReason.STOP_LOSS
    assert reason(1000.0, p, 120, state=flags, **sleepy) == ExitReason.VEL_DIV_ADVERSE
    flags["adverse_bars"] = 2
    assert reason(1000.0, p, 120, state=flags, **sleepy) == ExitReason.TF_EXHAUST
    assert reason(1000.0, p, 120, state=flags, v50=-0.06, v750=0.0) == ExitReason.TF_FLIP
    assert reason(1000.0, p, 120, state=flags, v50=0.1, v750=0.0) == ExitReason.MAX_HOLD
    assert reason(1000.0, p, 119, state=flags, v50=0.1, v750=0.0) == ExitReason.NONE


def test_other_postures_close_nothing() -> None:
    for posture in (Posture.APEX, Posture.STALKER, Posture.TURTLE):
        assert reason(1000.0, posture=posture) == ExitReason.NONE


def test_without_a_price_only_staleness_closes() -> None:
    assert reason(NAN, bars_held=239, posture=Posture.HIBERNATE, state={"subday_exit": 1}) == ExitReason.NONE
    assert reason(NAN, bars_held=240) == ExitReason.STALE_PRICE
    # Twice the base hold, whatever the book says of the hold.
    assert reason(NAN, bars_held=120, market_=market(cascade_count=3)) == ExitReason.NONE


@given(directions, st.floats(0.5, 1.5), st.integers(0, 260), st.sampled_from(list(Posture)), st.booleans())
@settings(deadline=None)
def test_order_equals_the_twin(
    direction: Direction, ratio: float, bars_held: int, posture: Posture, flagged: bool
) -> None:
    champion, d = Champion(stop_pct=0.2), int(direction)
    state = held(bar_idx=bars_held, subday_exit=int(flagged))
    p = packed(direction, {"stop_pct": 0.2})
    got = exit_reason_nb(p, state, a_bar(posture=posture), no_market(), no_book(), 1000.0 * ratio)
    pnl = rule.pnl_pct(1000.0 * ratio, 1000.0, d)
    want = ExitReason.MAX_HOLD if bars_held >= champion.max_hold_bars else ExitReason.NONE
    if posture == Posture.HIBERNATE:
        want = ExitReason.HIBERNATE_HALT
    elif flagged:
        want = ExitReason.SUBDAY_ACB_NORMALIZATION
    elif pnl >= champion.fixed_tp_pct:
        want = ExitReason.FIXED_TP
    elif pnl <= -champion.stop_pct:
        want = ExitReason.STOP_LOSS
    assert got == want


# --- adverse turns and TF exits ---


def test_adverse_bars_must_follow_each_other() -> None:
    state, p, seen = held(), packed(), []
    for vel_div in (0.02, 0.03, NAN, 0.02, 0.0199, 0.02, 0.02, 0.02):
        count_adverse_nb(state, vel_div, p)
        seen.append(int(state.adverse_bars))
    assert seen == [1, 2, 0, 1, 0, 1, 2, 3]


@given(vel_divs, directions, st.integers(0, 5))
@settings(deadline=None)
def test_adverse_turn_equals_the_twin(vel_div: float, direction: Direction, before: int) -> None:
    state = held(adverse_bars=before)
    count_adverse_nb(state, vel_div, packed(direction))
    assert state.adverse_bars == (before + 1 if rule.adverse_turn(vel_div, int(direction), 0.02) else 0)


@pytest.mark.parametrize(
    ("spread", "at_entry", "expected"),
    [
        (-0.018, -0.06, ExitReason.TF_EXHAUST),  # 30 % of the size at entry
        (-0.0181, -0.06, ExitReason.NONE),
        (0.030, -0.06, ExitReason.TF_FLIP),  # turned, half the size
        (0.0299, -0.06, ExitReason.NONE),
        (-0.030, 0.06, ExitReason.TF_FLIP),
        (-0.09, -0.06, ExitReason.NONE),  # larger, but not turned
        (0.01, -0.06, ExitReason.TF_EXHAUST),  # turned and small: exhausted first
        (NAN, -0.06, ExitReason.NONE),
        (0.0, NAN, ExitReason.NONE),
    ],
)
def test_tf_exit_by_hand(spread: float, at_entry: float, expected: ExitReason) -> None:
    assert tf_exit_nb(spread, at_entry, 0.30, 0.50) == expected


spreads = st.one_of(st.floats(-0.2, 0.2), st.just(NAN))


@given(spreads, spreads, st.floats(0.0, 1.0), st.floats(0.0, 2.0))
@settings(deadline=None)
def test_tf_exit_equals_the_twin_and_is_symmetric(s: float, s0: float, exhaust: float, flip: float) -> None:
    params = EngineParams(tf_exhaust_ratio=exhaust, tf_flip_ratio=flip)
    got = tf_exit_nb(s, s0, exhaust, flip)
    if abs(s * s0) > 0.0 or s == 0.0 or s0 == 0.0 or math.isnan(s * s0):  # not where the product underflows
        assert got == rule.tf_exit(s, s0, params)
    assert got == tf_exit_nb(-s, -s0, exhaust, flip)
