"""Sizing (SPEC §5) and OB-3, OB-4: every value of the tables, properties, and the plain twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.layout import VEL_DIV_HISTORY
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
from dolphin.core.codes import Direction, Posture
from dolphin.core.params import Champion, EngineParams
from tests.alpha.pieces import directions, imbalances, market, no_market, packed, ring_of, shares, vel_divs
from tests.reference import rules_ref as rule

pytestmark = pytest.mark.jit_off
NAN = math.nan
CHAMPION = Champion()
SHORT, LONG = Direction.SHORT, Direction.LONG
near = pytest.approx
strengths = st.floats(0.0, 1.0)


@pytest.mark.parametrize(
    ("strength", "expected"),
    [(0.0, 0.5), (0.5, 1.0625), (0.25, 0.5703125), (1.0, 5.0)],  # 0.5 + s³·4.5: 0.125·4.5 = 0.5625
)
def test_leverage_by_hand(strength: float, expected: float) -> None:
    assert convex_leverage_nb(strength, 0.5, 5.0, 3.0) == expected


@given(strengths, st.sampled_from([1.0, 1.5, 2.0, 3.0]))
@settings(deadline=None)
def test_leverage_equals_the_twin(strength: float, convexity: float) -> None:
    champion = Champion(leverage_convexity=convexity)
    assert convex_leverage_nb(strength, 0.5, 5.0, convexity) == rule.leverage(strength, champion)


@pytest.mark.parametrize(
    ("vel_div", "direction", "bucket"),
    [
        (-0.10, SHORT, 0),
        (-0.0751, SHORT, 0),
        (-0.0749, SHORT, 1),
        (-0.05, SHORT, 1),
        (-0.0499, SHORT, 2),
        (-0.0351, SHORT, 2),
        (-0.0349, SHORT, 3),
        (-0.021, SHORT, 3),
        (0.06, LONG, 0),
        (0.0599, LONG, 1),
        (0.04, LONG, 1),
        (0.0399, LONG, 2),
        (0.025, LONG, 2),
        (0.0249, LONG, 3),
    ],
)
def test_buckets(vel_div: float, direction: Direction, bucket: int) -> None:
    assert bucket_nb(vel_div, packed(direction).bucket_edge, int(direction)) == bucket


def test_bucket_edges_are_the_documents() -> None:
    assert list(packed(SHORT).bucket_edge) == near([0.075, 0.05, 0.035])
    assert list(packed(LONG).bucket_edge) == near([0.06, 0.04, 0.025])


@given(vel_divs, directions)
@settings(deadline=None)
def test_bucket_equals_the_twin(vel_div: float, direction: Direction) -> None:
    got = bucket_nb(vel_div, packed(direction).bucket_edge, int(direction))
    assert got == rule.bucket(vel_div, int(direction), EngineParams())


@pytest.mark.parametrize(
    ("wins", "trades", "boost"),
    [
        (9, 9, 1.0),  # fewer than ten trades
        (0, 9, 1.0),
        (10, 10, 1.3),
        (61, 100, 1.3),
        (60, 100, 1.1),  # .60 itself is not above .60
        (56, 100, 1.1),
        (55, 100, 1.0),
        (50, 100, 1.0),
        (45, 100, 1.0),  # .45 itself is not below .45
        (44, 100, 0.85),
        (40, 100, 0.85),
        (39, 100, 0.7),
        (0, 10, 0.7),
    ],
)
def test_bucket_boost(wins: int, trades: int, boost: float) -> None:
    n, w = np.zeros(4, np.int64), np.zeros(4, np.int64)
    n[2], w[2] = trades, wins
    assert bucket_boost_nb(n, w, 2) == boost == rule.bucket_boost(wins, trades)
    assert bucket_boost_nb(n, w, 1) == 1.0  # another bucket's trades do not count


@given(st.integers(0, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
@settings(deadline=None)
def test_bucket_boost_equals_the_twin(counts: tuple[int, int]) -> None:
    wins, trades = counts
    n, w = np.full(4, trades, np.int64), np.full(4, wins, np.int64)
    assert bucket_boost_nb(n, w, 3) == rule.bucket_boost(wins, trades)


@pytest.mark.parametrize(
    ("losses", "mult"), [("", 1.0), ("LLLL", 1.0), ("LLLLL", 0.5), ("LLLLW", 0.5), ("LWLWL", 0.7), ("WLWLW", 1.0)]
)
def test_streak_by_hand(losses: str, mult: float) -> None:
    bits = 0
    for c in losses:
        bits = bits << 1 | (c == "L")
    assert streak_mult_nb(bits, len(losses)) == mult


@given(st.lists(st.booleans(), max_size=40))
@settings(deadline=None)
def test_streak_equals_the_twin(lost: list[bool]) -> None:
    bits = 0
    for one in lost:
        bits = (bits << 1 | one) & 0xFFFF  # as the engine keeps them
    nets = [-1.0 if one else 1.0 for one in lost]
    assert streak_mult_nb(bits, len(lost)) == rule.streak_mult(nets)
    if len(lost) >= 5 and sum(lost[-5:]) <= 1:
        assert streak_mult_nb(bits, len(lost)) == 1.1


@pytest.mark.parametrize(
    ("first", "last", "short", "long"),
    [
        (0.0, -0.0101, 1.3, 0.7),
        (0.0, -0.01, 1.0, 1.0),
        (0.0, 0.01, 1.0, 1.0),
        (0.0, 0.0101, 0.7, 1.3),
        (NAN, -0.5, 1.0, 1.0),
        (0.0, NAN, 1.0, 1.0),
    ],
)
def test_trend(first: float, last: float, short: float, long: float) -> None:
    values = [5.0, first, *[NAN] * 8, last]  # the tenth value back, not the oldest; what lies between does not matter
    ring = ring_of(values, VEL_DIV_HISTORY)
    assert trend_mult_nb(ring, 11, -1) == short
    assert trend_mult_nb(ring, 11, 1) == long
    assert trend_mult_nb(ring, 9, -1) == 1.0  # nine values: none yet


@given(st.lists(vel_divs, max_size=450), directions)
@settings(deadline=None)
def test_trend_equals_the_twin_through_the_ring(values: list[float], direction: Direction) -> None:
    got = trend_mult_nb(ring_of(values, VEL_DIV_HISTORY), len(values), int(direction))
    assert got == rule.trend_mult(values, int(direction))


@pytest.mark.parametrize(
    ("strength", "extreme", "trend", "bucket", "streak", "expected"),
    [
        # 0.02·0.55/0.95 = 0.01158 is under the floor.
        (0.0, False, 1.0, 1.0, 1.0, 0.02),
        # (0.02 + 0.5·0.18)·0.55/0.95 = 0.11·0.578947
        (0.5, False, 1.0, 1.0, 1.0, 0.0636842105),
        # the same, every multiplier at its best: ·1.3·1.3·1.1 = 1.859
        (0.5, False, 1.3, 1.3, 1.1, 0.1183889474),
        # and at its worst: ·0.7·0.7·0.5 = 0.245 → 0.0156, floored
        (0.5, False, 0.7, 0.7, 0.5, 0.02),
        # extreme: 0.2·0.70/0.95·2 = 0.294737, capped
        (1.0, True, 1.0, 1.0, 1.0, 0.20),
        # extreme in a bad spell: 0.294737·0.7·0.85·0.5
        (1.0, True, 0.7, 0.85, 0.5, 0.0876842105),
    ],
)
def test_fraction_by_hand(
    strength: float, extreme: bool, trend: float, bucket: float, streak: float, expected: float
) -> None:
    assert effective_fraction_nb(strength, extreme, trend, bucket, streak, 0.20) == near(expected, rel=1e-8)


@given(
    strengths,
    st.booleans(),
    st.sampled_from([0.7, 1.0, 1.3]),
    st.sampled_from([0.7, 0.85, 1.0, 1.1, 1.3]),
    st.sampled_from([0.5, 0.7, 1.0, 1.1]),
    st.sampled_from([0.02, 0.2, 0.9]),
)
@settings(deadline=None)
def test_fraction_equals_the_twin_and_stays_in_bounds(
    s: float, extreme: bool, trend: float, bucket: float, streak: float, fraction: float
) -> None:
    got = effective_fraction_nb(s, extreme, trend, bucket, streak, fraction)
    assert got == rule.effective_fraction(s, extreme, trend, bucket, streak, fraction)
    assert 0.02 <= got <= fraction
    assert effective_fraction_nb(min(1.0, s + 0.1), extreme, trend, bucket, streak, fraction) >= got


@pytest.mark.parametrize(
    ("regime", "depth_velocity", "beta", "expected"),
    [
        (1, -0.10, 0.8, 0.9),  # stress 0.5: 0.8·(1 + 0.25·0.5)
        (1, -0.20, 0.8, 1.0),
        (1, -0.90, 0.8, 1.0),  # stress stops at 1
        (1, 0.10, 0.8, 0.8),
        (1, NAN, 0.8, 0.8),
        (0, -0.90, 0.8, 0.8),  # only while liquidity withdraws
        (-1, -0.90, 0.8, 0.8),
        (1, -0.90, 0.0, 0.0),
    ],
)
def test_ob4_by_hand(regime: int, depth_velocity: float, beta: float, expected: float) -> None:
    assert stressed_beta_nb(beta, market(regime_signal=regime, depth_velocity=depth_velocity)) == near(expected)
    assert stressed_beta_nb(beta, no_market()) == beta


@pytest.mark.parametrize(
    ("strength", "boost", "beta", "scale", "expected"),
    [
        (1.0, 1.0, 0.0, 1.0, 1.0),
        (1.0, 1.5, 0.8, 1.0, 2.7),  # 1.5·1.8
        (0.5, 1.5, 0.8, 1.0, 1.65),  # 1.5·(1 + 0.8·0.125)
        (0.5, 1.5, 0.8, 0.5, 0.825),
        (1.0, 1.5, -0.1, 0.5, 0.75),  # no beta term at beta ≤ 0
        (0.0, 1.3466, 0.2, 1.0, 1.3466),
    ],
)
def test_regime_size_mult_by_hand(strength: float, boost: float, beta: float, scale: float, expected: float) -> None:
    assert regime_size_mult_nb(strength, boost, beta, scale, 3.0) == near(expected)


@given(vel_divs, directions, st.floats(1.0, 3.0), shares, shares, st.sampled_from([-1, 0, 1]), st.floats(-1.0, 1.0))
@settings(deadline=None)
def test_regime_size_mult_equals_the_twin(
    vel_div: float, direction: Direction, boost: float, beta: float, scale: float, regime: int, velocity: float
) -> None:
    params, d = EngineParams(), int(direction)
    strength = rule.signal_ratio(vel_div, d, params)
    stressed = stressed_beta_nb(beta, market(regime_signal=regime, depth_velocity=velocity))
    got = regime_size_mult_nb(strength, boost, stressed, scale, 3.0)
    stress = rule.book_stress(regime, velocity)
    assert got == rule.regime_size_mult(vel_div, d, params, boost, beta, scale, stress)
    assert 0.0 <= got <= boost * 2.25
    assert beta <= stressed <= 1.25 * beta


@pytest.mark.parametrize(
    ("median", "agreement", "expected"),
    [
        # SHORT: eff = −median
        (0.0, 1.0, 1.0),
        (-0.10, 1.0, 1.0),
        (-0.15, 0.8, 1.12),
        (-0.50, 0.8, 1.20),  # capped at +20 %
        (-0.50, 0.59, 1.0),  # too little agreement
        (-0.15, 0.60, 1.09),
        (0.12, 0.9, 0.892),  # 1 − 0.12·0.9
        (0.50, 0.9, 0.85),  # never under 85 %
        (0.50, 0.59, 1.0),
        (NAN, 0.9, 1.0),
    ],
)
def test_ob3_by_hand(median: float, agreement: float, expected: float) -> None:
    assert market_ob_mult_nb(market(median_imbalance=median, agreement=agreement), -1) == near(expected)
    assert market_ob_mult_nb(market(median_imbalance=-median, agreement=agreement), 1) == near(expected)
    assert market_ob_mult_nb(no_market(), -1) == 1.0


@given(imbalances, shares, directions)
@settings(deadline=None)
def test_ob3_equals_the_twin(imbalance: float, agreement: float, direction: Direction) -> None:
    got = market_ob_mult_nb(market(median_imbalance=imbalance, agreement=agreement), int(direction))
    assert got == rule.market_ob_mult(rule.effective_imbalance(imbalance, int(direction)), agreement)
    assert 0.85 <= got <= 1.20


@pytest.mark.parametrize(
    ("leverage", "dc", "size", "ob", "posture", "expected"),
    [
        (5.0, 1.0, 1.0, 1.0, Posture.APEX, 5.0),
        (5.0, 1.0, 2.0, 1.2, Posture.APEX, 6.0),  # min(5·2·1.2, 6)
        (5.0, 1.5, 1.0, 1.0, Posture.APEX, 5.0),  # a confirmed direction does not lift the ceiling
        (2.0, 1.5, 1.0, 1.0, Posture.APEX, 3.0),
        (5.0, 1.0, 0.5, 1.0, Posture.APEX, 2.5),
        (0.5, 1.0, 0.5, 1.0, Posture.APEX, 0.5),  # the floor
        (5.0, 1.0, 2.0, 1.0, Posture.STALKER, 2.0),
        (1.0, 1.0, 1.0, 1.0, Posture.STALKER, 1.0),
        (5.0, 1.0, 0.05, 1.0, Posture.APEX, 0.25),  # ceiling 5·0.05 under the floor: the ceiling holds
    ],
)
def test_final_leverage_by_hand(
    leverage: float, dc: float, size: float, ob: float, posture: Posture, expected: float
) -> None:
    assert final_leverage_nb(leverage, dc, size, ob, int(posture), packed()) == near(expected)


@given(
    st.floats(0.5, 5.0),
    st.floats(0.5, 2.0),
    st.floats(0.01, 6.0),
    st.floats(0.85, 1.2),
    st.sampled_from(list(Posture)),
)
@settings(deadline=None)
def test_final_leverage_equals_the_twin_and_never_passes_its_ceiling(
    leverage: float, dc: float, size: float, ob: float, posture: Posture
) -> None:
    got = final_leverage_nb(leverage, dc, size, ob, int(posture), packed())
    assert got == rule.final_leverage(leverage, dc, size, ob, posture, CHAMPION)
    assert 0.0 < got <= CHAMPION.abs_max_leverage
    if posture == Posture.STALKER:
        assert got <= 2.0
