"""Hand-worked examples of every rule of the reference (SPEC §3–§7): the numbers here were done on paper."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.codes import Confirmation, Drop, ExitReason, Posture
from dolphin.core.params import Champion, EngineParams
from tests.reference import friction_ref as friction
from tests.reference import rules_ref as rule
from tests.reference.selection_ref import ars, irp, ob1_share, profile_asset, select, variance

PARAMS = EngineParams()
CHAMPION = PARAMS.champion
SHORT, LONG = -1, 1
NAN = math.nan
near = pytest.approx
FALL = [64.0 - i / 64.0 for i in range(50)]  # exact in binary: 49 moves of −1/64
RISE = [64.0 + i / 64.0 for i in range(50)]


# --- signal ---


@pytest.mark.parametrize(
    ("vel_div", "d", "valid", "ratio", "extreme", "level"),
    [
        (-0.02, SHORT, False, 0.0, False, 3),
        (-0.0201, SHORT, True, 1 / 300, False, 3),
        (-0.035, SHORT, True, 0.5, False, 2),
        (-0.05, SHORT, True, 1.0, True, 1),
        (-0.0751, SHORT, True, 1.0, True, 0),
        (0.05, SHORT, False, 0.0, False, 3),
        (0.01, LONG, False, 0.0, False, 3),
        (0.025, LONG, True, 0.5, False, 2),
        (0.04, LONG, True, 1.0, True, 1),
        (0.06, LONG, True, 1.0, True, 0),
        (-0.05, LONG, False, 0.0, False, 3),
        (NAN, SHORT, False, 0.0, False, 3),
        (NAN, LONG, False, 0.0, False, 3),
    ],
)
def test_signal(vel_div: float, d: int, valid: bool, ratio: float, extreme: bool, level: int) -> None:
    assert rule.signal_valid(vel_div, d, PARAMS) is valid
    assert rule.signal_ratio(vel_div, d, PARAMS) == near(ratio, abs=1e-12)
    assert rule.signal_confidence(vel_div, d, PARAMS) == near(0.5 + 0.4 * ratio)
    assert rule.is_extreme(vel_div, d, PARAMS) is extreme
    assert rule.strength(vel_div, d, PARAMS) == near(1.0 if extreme else ratio, abs=1e-12)
    assert rule.bucket(vel_div, d, PARAMS) == level


@pytest.mark.parametrize(
    ("last", "short", "long"),
    [
        (100.0, Confirmation.NEUTRAL, Confirmation.NEUTRAL),
        (99.993, Confirmation.NEUTRAL, Confirmation.NEUTRAL),  # −0.7 bps
        (99.992, Confirmation.CONFIRM, Confirmation.CONTRADICT),  # −0.8 bps
        (100.008, Confirmation.CONTRADICT, Confirmation.CONFIRM),
    ],
)
def test_direction_confirmation(last: float, short: Confirmation, long: Confirmation) -> None:
    prices = [1.0, 100.0, 7.0, 7.0, 7.0, 7.0, 7.0, 7.0, last]  # eight bars back is not looked at, seven is
    assert rule.direction_confirmation(prices, SHORT, 7, 0.75) == short
    assert rule.direction_confirmation(prices, LONG, 7, 0.75) == long
    assert rule.direction_confirmation(prices[-7:], SHORT, 7, 0.75) == Confirmation.NEUTRAL


@pytest.mark.parametrize(
    ("eff", "persistence", "factor"),
    [
        (0.10, 1.0, 1.0),
        (0.20, 1.0, 1.10),
        (0.40, 1.0, 1.15),
        (-0.10, 1.0, 1.0),
        (-0.12, 1.0, 0.952),
        (-0.50, 0.60, 0.88),
        (-0.80, 0.60, 0.85),
        (-0.16, 0.61, None),
    ],
)
def test_ob2(eff: float, persistence: float, factor: float | None) -> None:
    got = rule.ob2(0.8, eff, persistence)
    assert got is None if factor is None else got == near(0.8 * factor)


# --- selection ---


def test_irp_of_a_straight_fall() -> None:
    short, long = irp(FALL, SHORT), irp(FALL, LONG)
    assert short == (49 / 64, 0.0, (49 / 64) / 1e-6, 1.0, 0.0, 5)  # 4.9/64 is first reached at the fifth move
    assert long == (-1 / 64, 49 / 64, 0.0, 0.0, 0.0, 50)  # the largest sum is the first, and it is a loss
    assert ars(short) == 0.5 * math.log1p(765625.0) + 0.35
    assert ars(long) == 0.0


def test_irp_of_a_bounce() -> None:
    # Moves −1, −1, +4, 0: sums −1, −2, 2, 2; mean 0.5; squares 2.25 + 2.25 + 12.25 + 0.25.
    got = irp([10.0, 9.0, 8.0, 12.0, 12.0], LONG)
    assert got == (2.0, 2.0, 2.0 / 2.000001, 0.25, 4.25, 3)
    assert irp([10.0, 9.0, 8.0, 12.0, 12.0], LONG, relative=True) == near(
        (0.2, 0.2, 0.2 / 0.200001, 0.25, 0.0425, 3), rel=1e-12
    )
    assert ars(got) == near(0.5 * math.log1p(2.0 / 2.000001) + 0.35 * 0.25 - 0.15 * 4.25 * 1000.0)


def test_irp_of_a_flat_line() -> None:
    assert irp([5.0] * 50, SHORT) == (0.0, 0.0, 0.0, 0.0, 0.0, 50)


@given(st.lists(st.floats(1e-3, 1e6), min_size=2, max_size=60))
def test_irp_properties(prices: list[float]) -> None:
    up, down = irp(prices, LONG), irp(prices, SHORT)
    assert up.noise == down.noise == near(float(np.var(np.diff(prices))), rel=1e-9, abs=1e-9)
    assert up.mae == max(0.0, down.mfe)  # what helps one side hurts the other
    assert 0.0 <= up.alignment + down.alignment <= 1.0
    assert 1 <= up.latency <= max(50, len(prices) - 1)


def test_variance_is_the_population_s() -> None:
    assert variance([1.0, 2.0, 3.0, 4.0]) == 1.25


@pytest.mark.parametrize(
    ("depth", "share"),
    [(1.5, 0.10), (1.49, 0.05), (1.0, 0.05), (0.99, 0.0), (0.6, 0.0), (0.59, -0.05), (0.35, -0.05), (0.34, -0.10)],
)
def test_ob1(depth: float, share: float) -> None:
    assert ob1_share(depth) == share
    got = profile_asset(FALL, SHORT, False, depth)
    assert got.score == got.raw + got.raw * share
    assert profile_asset(FALL, SHORT, False, None).score == got.raw


def test_a_tie_of_directions_goes_to_direct() -> None:
    assert profile_asset([5.0] * 50, SHORT, False, None).action == SHORT
    assert profile_asset([5.0] * 50, LONG, False, None).action == LONG


def _shaped(*moves: float) -> list[float]:
    """Fifty prices from 1000 with these moves first and nothing after."""
    path = [1000.0, *(1000.0 + float(x) for x in np.cumsum(moves))]
    return path + [path[-1]] * (50 - len(path))


def test_every_reason_to_drop() -> None:
    late = [1000.0] * 22 + [1000.0 - 0.01 * i for i in range(1, 29)]
    wild = [1000.0 - 30.0 * (i % 2) - i for i in range(50)]
    weak = _shaped(*[-0.01] * 20)  # 20 of 49 moves fall: 0.408
    rare = _shaped(*[-0.01] * 9)  # 9 of 49: 0.18
    histories = [FALL, FALL[:49], wild, late, rare, weak, RISE, FALL, FALL]
    prices = [NAN, *[1.0] * 8]
    got = select(histories, prices, SHORT, 0.45, depth_quality={7: 0.19, 8: 0.20})
    assert got.drops == [
        Drop.NO_PRICE,
        Drop.SHORT_HISTORY,
        Drop.NOISE,
        Drop.LATENCY,
        Drop.ALIGNMENT,
        Drop.MIN_IRP_ALIGNMENT,
        Drop.WRONG_ACTION,
        Drop.BOOK_DEPTH,
        Drop.KEPT,
    ]
    assert got.asset == 8
    assert select(histories[:8], prices[:8], SHORT, 0.45, depth_quality={7: 0.19}) == (-1, None, got.drops[:8])


def test_ranking_is_by_score_then_column() -> None:
    steeper = [64.0 - i / 32.0 for i in range(50)]
    prices = [1.0] * 3
    assert select([FALL, steeper, FALL], prices, SHORT, 0.45).asset == 1
    assert select([FALL, FALL, FALL], prices, SHORT, 0.45).asset == 0
    assert select([FALL, FALL, FALL], [-1.0, 1.0, 1.0], SHORT, 0.45).asset == 1
    deep = {0: 0.5, 1: 1.5, 2: 1.6}
    assert select([FALL, FALL, FALL], prices, SHORT, 0.45, depth_quality=deep).asset == 1


# --- sizing ---


def test_leverage_is_cubic() -> None:
    assert [rule.leverage(s, CHAMPION) for s in (0.0, 0.5, 1.0)] == [0.5, 1.0625, 5.0]


@pytest.mark.parametrize(
    ("wins", "trades", "boost"),
    [(9, 9, 1.0), (7, 10, 1.3), (6, 10, 1.1), (11, 20, 1.0), (5, 10, 1.0), (9, 20, 1.0), (8, 20, 0.85), (3, 10, 0.7)],
)
def test_bucket_boost(wins: int, trades: int, boost: float) -> None:
    assert rule.bucket_boost(wins, trades) == boost


@pytest.mark.parametrize(("losses", "mult"), [(0, 1.1), (1, 1.1), (2, 1.0), (3, 0.7), (4, 0.5), (5, 0.5)])
def test_streak(losses: int, mult: float) -> None:
    last_five = [-1.0] * (losses - 1) + [0.0] * min(losses, 1) + [1.0] * (5 - losses)  # a net of 0 is a loss
    assert rule.streak_mult([9.0, *last_five]) == mult
    assert rule.streak_mult(last_five[:4]) == 1.0


def test_trend() -> None:
    rising = [0.0, *[NAN] * 8, 0.02]
    assert (rule.trend_mult(rising, SHORT), rule.trend_mult(rising, LONG)) == (0.7, 1.3)
    falling = [9.0, 0.0, *[0.0] * 8, -0.02]
    assert (rule.trend_mult(falling, SHORT), rule.trend_mult(falling, LONG)) == (1.3, 0.7)
    assert rule.trend_mult([0.0] * 9 + [0.01], SHORT) == 1.0
    assert rule.trend_mult(rising[1:], SHORT) == 1.0
    assert rule.trend_mult([NAN] + [0.0] * 8 + [0.02], SHORT) == 1.0


def test_effective_fraction() -> None:
    # Half strength: base 0.11; × 0.55/0.95.
    assert rule.effective_fraction(0.5, False, 1.0, 1.0, 1.0, 0.20) == near(0.11 * 0.55 / 0.95)
    assert rule.effective_fraction(0.5, False, 1.3, 0.7, 1.1, 0.20) == near(0.11 * 0.55 / 0.95 * 1.001)
    assert rule.effective_fraction(1.0, True, 1.0, 1.0, 1.0, 0.20) == 0.20  # 0.2 · 0.7/0.95 · 2 is over the cap
    assert rule.effective_fraction(1.0, True, 0.7, 0.7, 0.5, 0.20) == near(0.2 * 0.7 / 0.95 * 2.0 * 0.245)
    assert rule.effective_fraction(0.0, False, 1.0, 1.0, 1.0, 0.20) == 0.02


def test_regime_size_mult() -> None:
    half = rule.regime_size_mult(-0.035, SHORT, PARAMS, 1.5, 0.8, 0.5)
    assert half == near(1.5 * (1 + 0.8 * 0.125) * 0.5)
    assert rule.regime_size_mult(0.025, LONG, PARAMS, 1.5, 0.8, 0.5) == near(half)
    assert rule.regime_size_mult(-0.05, SHORT, PARAMS, 1.5, 0.8, 1.0, stress=1.0) == near(1.5 * 2.0)
    assert rule.regime_size_mult(-0.05, SHORT, PARAMS, 1.5, 0.0, 1.0) == 1.5
    assert rule.regime_size_mult(NAN, SHORT, PARAMS, 1.5, 0.8, 1.0) == 1.5


@pytest.mark.parametrize(
    ("signal", "velocity", "stress"), [(1, -0.1, 0.5), (1, -0.3, 1.0), (1, 0.1, 0.0), (0, -0.1, 0.0), (-1, -0.1, 0.0)]
)
def test_book_stress(signal: int, velocity: float, stress: float) -> None:
    assert rule.book_stress(signal, velocity) == stress


@pytest.mark.parametrize(
    ("eff", "agreement", "mult"),
    [(0.2, 0.6, 1.12), (0.5, 0.8, 1.2), (0.1, 1.0, 1.0), (0.5, 0.59, 1.0), (-0.12, 1.0, 0.88), (-0.5, 0.6, 0.85)],
)
def test_market_ob_mult(eff: float, agreement: float, mult: float) -> None:
    assert rule.market_ob_mult(eff, agreement) == near(mult)


def test_final_leverage() -> None:
    def final(leverage: float, rsm: float, posture: int = Posture.APEX, dc: float = 1.0, market: float = 1.0) -> float:
        return rule.final_leverage(leverage, dc, rsm, market, posture, CHAMPION)

    assert final(5.0, 1.0) == 5.0
    assert final(5.0, 1.5) == 6.0  # 7.5 against min(7.5, 6)
    assert final(3.0, 1.0, dc=1.5) == 4.5
    assert final(4.0, 1.0, dc=1.5) == 5.0
    assert final(2.0, 1.0, market=0.85) == 1.7
    assert final(5.0, 1.0, Posture.STALKER) == 2.0
    assert final(0.5, 0.5) == 0.5  # 0.25 is under the floor
    assert final(5.0, 0.05) == 0.25  # the ceiling, 0.25, is under the floor: it wins


# --- exits and friction ---


def _dynamic(pnl: float, cascade: int = 0, signal: int = 0, eff: float = 0.0, wv: float = 0.0) -> tuple[float, ...]:
    return rule.dynamic_exit_params(CHAMPION, pnl, cascade, signal, eff, wv)


def test_dynamic_exit_params() -> None:
    tp = 0.0095
    assert _dynamic(0.001) == (tp, 1.0, 120)
    assert _dynamic(0.001, cascade=3, signal=1, wv=-0.5) == (tp * 1.40, 1.0, 60)
    assert _dynamic(0.001, signal=1) == (tp * 0.60, 0.10, 120)
    assert _dynamic(0.0, signal=1, eff=-0.11, wv=-0.5) == (tp, 0.10, 48)
    assert _dynamic(0.001, signal=-1, eff=0.16) == (tp, 1.0, 180)
    assert _dynamic(0.001, signal=-1, eff=0.15) == (tp, 1.0, 120)
    assert _dynamic(0.001, signal=-1, eff=0.16, wv=-0.21) == (tp * 0.75, 1.0, 48)
    assert _dynamic(-0.001, wv=-0.21) == (tp, 1.0, 48)
    assert _dynamic(0.0, wv=-0.20) == (tp, 1.0, 120)
    tight = Champion(stop_pct=0.05, max_hold_bars=7)
    assert rule.dynamic_exit_params(tight, 0.0, 0, 1, -0.2, 0.0) == (tp, 0.05, 2)  # stress never loosens the stop


def test_adverse_turn() -> None:
    assert rule.adverse_turn(0.02, SHORT, 0.02)
    assert not rule.adverse_turn(0.0199, SHORT, 0.02)
    assert rule.adverse_turn(-0.02, LONG, 0.02)
    assert not rule.adverse_turn(0.03, LONG, 0.02)
    assert not rule.adverse_turn(NAN, SHORT, 0.02)


@pytest.mark.parametrize(
    ("spread", "reason"),
    [
        (-0.02, ExitReason.NONE),
        (-0.012, ExitReason.TF_EXHAUST),
        (0.012, ExitReason.TF_EXHAUST),
        (0.015, ExitReason.NONE),
        (0.02, ExitReason.TF_FLIP),
        (NAN, ExitReason.NONE),
    ],
)
def test_tf_exits(spread: float, reason: ExitReason) -> None:
    assert rule.tf_exit(spread, -0.04, PARAMS) == reason
    assert rule.tf_exit(spread, NAN, PARAMS) == ExitReason.NONE


def test_exit_price_is_always_against_the_trade() -> None:
    for reason in ExitReason:
        forced = reason in (ExitReason.STOP_LOSS, ExitReason.HIBERNATE_HALT, ExitReason.SUBDAY_ACB_NORMALIZATION)
        slip = friction.exit_slip(reason, True)
        assert slip == (0.0005 if forced else 0.0002)
        assert friction.exit_price(100.0, SHORT, slip) == near(100.0 + 100.0 * slip)
        assert friction.exit_price(100.0, LONG, slip) == near(100.0 - 100.0 * slip)
        assert friction.exit_slip(reason, False) == 0.0


def test_fees_are_3_14_and_3_5_basis_points() -> None:
    assert friction.fees(10_000.0, PARAMS) == near(-6.64)
    assert friction.fees(10_000.0, EngineParams(use_sp_fees=False)) == 0.0


def test_edge() -> None:
    assert friction.edge_pct(0.39, None, PARAMS) == near(5e-4)
    assert friction.edge_pct(0.40, None, PARAMS) == 0.0
    assert friction.edge_pct(0.99, (0.51, 0.62), PARAMS) == near(3.1e-4)
    assert friction.edge_pct(0.0, (0.50, 0.62), PARAMS) == 0.0
    assert friction.edge_pct(0.0, (1.0, 0.62), EngineParams(use_ob_edge=False)) == 0.0


def test_trade_pnl_splits_what_a_close_books() -> None:
    got = friction.trade_pnl(99.0, 100.0, SHORT, 25_000.0, ExitReason.FIXED_TP, 0.1, None, PARAMS)
    assert got.exit_price == near(99.0198)
    assert got[1:] == near((250.0, (-0.000198 + 0.000224) * 25_000.0, 12.5, -16.6, 246.55))
    bare = EngineParams(use_sp_fees=False, use_sp_slippage=False, use_ob_edge=False)
    got = friction.trade_pnl(99.0, 100.0, LONG, 25_000.0, ExitReason.STOP_LOSS, 0.1, (1.0, 0.6), bare)
    assert got == (99.0, -250.0, 0.0, 0.0, 0.0, -250.0)
