"""Each threshold of the reference from both sides, and on it: the SPEC's strict and non-strict signs are kept."""

from __future__ import annotations

import math

import pytest

from dolphin.core.codes import Confirmation, Drop, ExitReason
from dolphin.core.params import EngineParams
from tests.reference import rules_ref as rule
from tests.reference.selection_ref import Irp, Profile, drop_reason, irp

PARAMS = EngineParams()
CHAMPION = PARAMS.champion
SHORT, LONG = -1, 1
near = pytest.approx


@pytest.mark.parametrize("price", [0.05, 5e-324, 1e308])
def test_any_finite_positive_price_is_valid(price: float) -> None:
    assert rule.valid_price(price)


@pytest.mark.parametrize("price", [0.0, -0.0, -1.0, math.inf, -math.inf, math.nan])
def test_every_other_price_is_missing(price: float) -> None:
    assert not rule.valid_price(price)


@pytest.mark.parametrize(
    ("vel_div", "d", "level"),
    [(-0.0345, SHORT, 3), (-0.033, SHORT, 3), (-0.0365, SHORT, 2), (0.024, LONG, 3), (0.0255, LONG, 2)],
)
def test_moderate_begins_halfway(vel_div: float, d: int, level: int) -> None:
    assert rule.bucket(vel_div, d, PARAMS) == level


def test_confirmation_is_strict_and_needs_lookback_and_one_prices() -> None:
    # Powers of two: the change is exactly ±1/16384·10000 bps.
    bps = 10000.0 / 16384.0
    for last, d, beyond in (
        (16385.0, SHORT, Confirmation.CONTRADICT),
        (16385.0, LONG, Confirmation.CONFIRM),
        (16383.0, SHORT, Confirmation.CONFIRM),
        (16383.0, LONG, Confirmation.CONTRADICT),
    ):
        prices = [16384.0] * 7 + [last]
        assert rule.direction_confirmation(prices, d, 7, bps) == Confirmation.NEUTRAL
        assert rule.direction_confirmation(prices, d, 7, bps * 0.999) == beyond
        assert rule.direction_confirmation(prices[-7:], d, 7, bps * 0.999) == Confirmation.NEUTRAL
        assert rule.direction_confirmation(prices[-6:], d, 7, bps * 0.999) == Confirmation.NEUTRAL


@pytest.mark.parametrize(
    ("eff", "persistence", "factor"),
    [(0.105, 1.0, 1.0525), (-0.105, 1.0, 0.958), (-0.15, 0.7, 0.958), (0.10, 1.0, 1.0), (-0.10, 1.0, 1.0)],
)
def test_ob2(eff: float, persistence: float, factor: float) -> None:
    assert rule.ob2(1.0, eff, persistence) == near(factor)


@pytest.mark.parametrize(("wins", "boost"), [(62, 1.3), (60, 1.1), (56, 1.1), (55, 1.0), (45, 1.0), (44, 0.85)])
def test_bucket_boost(wins: int, boost: float) -> None:
    assert rule.bucket_boost(wins, 100) == boost


@pytest.mark.parametrize(("wins", "boost"), [(40, 0.85), (39, 0.7)])
def test_a_poor_bucket(wins: int, boost: float) -> None:
    assert rule.bucket_boost(wins, 100) == boost


def test_a_small_gain_is_no_loss_and_five_trades_are_enough() -> None:
    assert rule.streak_mult([0.05] * 5) == 1.1
    assert rule.streak_mult([0.0] * 5) == 0.5


@pytest.mark.parametrize(
    ("first", "last", "short", "long"),
    [
        (0.0, 0.01, 1.0, 1.0),
        (0.0, -0.01, 1.0, 1.0),
        (0.0, 0.0105, 0.7, 1.3),
        (0.0, -0.0105, 1.3, 0.7),
        (-0.05, -0.045, 1.0, 1.0),
        (0.05, 0.045, 1.0, 1.0),
        (-0.05, -0.039, 0.7, 1.3),
        (-0.039, -0.05, 1.3, 0.7),
    ],
)
def test_trend(first: float, last: float, short: float, long: float) -> None:
    history = [9.0, first, *[0.5] * 8, last]
    assert (rule.trend_mult(history, SHORT), rule.trend_mult(history, LONG)) == (short, long)


def test_regime_size_mult_without_beta_keeps_the_scale() -> None:
    assert rule.regime_size_mult(-0.05, SHORT, PARAMS, 1.5, 0.0, 0.5) == 0.75
    assert rule.regime_size_mult(-0.05, SHORT, PARAMS, 1.5, 0.05, 0.5) == near(0.7875)


@pytest.mark.parametrize(
    ("eff", "agreement", "mult"),
    [(0.105, 1.0, 1.105), (-0.105, 1.0, 0.895), (-0.10, 1.0, 1.0), (-0.14, 0.8, 0.888), (-0.5, 0.59, 1.0)],
)
def test_market_ob_mult(eff: float, agreement: float, mult: float) -> None:
    assert rule.market_ob_mult(eff, agreement) == near(mult)


def test_dynamic_exits_need_more_than_the_threshold() -> None:
    tp = CHAMPION.fixed_tp_pct
    assert rule.dynamic_exit_params(CHAMPION, 0.0, 0, 1, -0.10, 0.0) == (tp, 0.10, 120)
    assert rule.dynamic_exit_params(CHAMPION, 0.0, 0, 1, -0.105, 0.0) == (tp, 0.10, 48)
    assert rule.dynamic_exit_params(CHAMPION, 0.0, 0, 0, 0.0, -0.21) == (tp, 1.0, 48)
    assert rule.dynamic_exit_params(CHAMPION, 0.0, 0, 0, 0.5, 0.0) == (tp, 1.0, 120)


def test_a_flip_is_seen_from_either_side() -> None:
    assert rule.tf_exit(-0.02, 0.04, PARAMS) == ExitReason.TF_FLIP
    assert rule.tf_exit(0.02, 0.04, PARAMS) == ExitReason.NONE
    assert rule.tf_exit(0.0, 0.0, PARAMS) == ExitReason.TF_EXHAUST


def _judged(*, noise: float = 0.0, latency: int = 5, alignment: float = 1.0, minimum: float = 0.45) -> Drop:
    metrics = Irp(mfe=1.0, mae=0.0, efficiency=1e6, alignment=alignment, noise=noise, latency=latency)
    return drop_reason(Profile(SHORT, 1.0, 1.0, metrics), SHORT, minimum, None)


def test_filters_keep_what_sits_on_them() -> None:
    assert (_judged(noise=500.0), _judged(noise=500.1), _judged(noise=math.nan)) == (Drop.KEPT, Drop.NOISE, Drop.NOISE)
    assert (_judged(latency=20), _judged(latency=21)) == (Drop.KEPT, Drop.LATENCY)
    assert (_judged(alignment=0.20), _judged(alignment=0.19)) == (Drop.MIN_IRP_ALIGNMENT, Drop.ALIGNMENT)
    assert (_judged(alignment=0.45), _judged(alignment=0.44)) == (Drop.KEPT, Drop.MIN_IRP_ALIGNMENT)
    assert _judged(alignment=0.21, minimum=0.0) == Drop.KEPT


def test_latency_counts_the_bar_that_sits_on_a_tenth() -> None:
    # Sums 1, 2, … 10 and then 10: a tenth of 10.0 is 1.0 exactly, reached by the first move.
    assert irp([20.0 - i for i in range(11)], SHORT).latency == 1
