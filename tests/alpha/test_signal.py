"""Signal, direction confirmation and OB-2 (SPEC §3): by hand, by property, and against the plain twin."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.layout import HISTORY
from dolphin.alpha.signal import (
    book_confidence_nb,
    clamp_nb,
    confidence_nb,
    confirm_direction_nb,
    is_extreme_nb,
    is_signal_nb,
    price_change_bps_nb,
    strength_nb,
)
from dolphin.core.codes import Confirmation, Direction
from dolphin.core.params import EngineParams
from tests.alpha.pieces import book, directions, imbalances, no_book, packed, ring, shares, vel_divs
from tests.reference import rules_ref as rule

pytestmark = pytest.mark.jit_off
NAN = math.nan
SHORT, LONG = Direction.SHORT, Direction.LONG
prices = st.floats(1e-6, 1e6)


def test_clamp_lets_the_upper_bound_win() -> None:
    assert [clamp_nb(x, 0.0, 1.0) for x in (-0.5, 0.0, 0.25, 1.0, 7.0)] == [0.0, 0.0, 0.25, 1.0, 1.0]
    assert clamp_nb(0.7, 0.5, 0.3) == 0.3  # bounds crossed: the smaller risk


@pytest.mark.parametrize(
    ("vel_div", "direction", "valid", "extreme"),
    [
        (-0.0200, SHORT, False, False),  # strictly below −0.02
        (-0.0201, SHORT, True, False),
        (-0.0499, SHORT, True, False),
        (-0.0500, SHORT, True, True),  # −0.05 itself is extreme
        (0.06, SHORT, False, False),
        (NAN, SHORT, False, False),
        (0.0100, LONG, False, False),  # strictly above 0.01
        (0.0101, LONG, True, False),
        (0.0400, LONG, True, True),
        (-0.06, LONG, False, False),
        (NAN, LONG, False, False),
    ],
)
def test_thresholds(vel_div: float, direction: Direction, valid: bool, extreme: bool) -> None:
    p = packed(direction)
    assert is_signal_nb(vel_div, p.threshold, int(direction)) == valid
    assert is_extreme_nb(vel_div, p.extreme, int(direction)) == extreme


@pytest.mark.parametrize(
    ("vel_div", "direction", "strength"),
    [
        (-0.02, SHORT, 0.0),
        (-0.035, SHORT, 0.5),  # (0.035 − 0.02)/0.03
        (-0.0275, SHORT, 0.25),  # 0.0075/0.03
        (-0.05, SHORT, 1.0),
        (-0.2, SHORT, 1.0),
        (0.3, SHORT, 0.0),
        (NAN, SHORT, 0.0),
        (0.01, LONG, 0.0),
        (0.025, LONG, 0.5),  # (0.025 − 0.01)/0.03
        (0.04, LONG, 1.0),
    ],
)
def test_strength_and_confidence_by_hand(vel_div: float, direction: Direction, strength: float) -> None:
    p = packed(direction)
    got = strength_nb(vel_div, p.threshold, p.extreme, int(direction))
    assert got == pytest.approx(strength, abs=1e-15)
    assert confidence_nb(got) == pytest.approx(0.5 + 0.4 * strength, abs=1e-15)  # 0.50 … 0.90


@given(vel_divs, directions)
@settings(deadline=None)
def test_signal_equals_the_twin(vel_div: float, direction: Direction) -> None:
    p, params, d = packed(direction), EngineParams(), int(direction)
    assert is_signal_nb(vel_div, p.threshold, d) == rule.signal_valid(vel_div, d, params)
    assert is_extreme_nb(vel_div, p.extreme, d) == rule.is_extreme(vel_div, d, params)
    strength = strength_nb(vel_div, p.threshold, p.extreme, d)
    assert strength == rule.signal_ratio(vel_div, d, params) == rule.strength(vel_div, d, params)
    assert confidence_nb(strength) == rule.signal_confidence(vel_div, d, params)


@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
@settings(deadline=None)
def test_strength_is_bounded_monotone_and_mirrored(a: float, b: float) -> None:
    weak, strong = max(a, b), min(a, b)
    low, high = strength_nb(weak, 0.02, 0.05, -1), strength_nb(strong, 0.02, 0.05, -1)
    assert 0.0 <= low <= high <= 1.0
    assert strength_nb(-strong, 0.02, 0.05, 1) == high
    assert is_signal_nb(strong, 0.02, -1) == is_signal_nb(-strong, 0.02, 1)
    if is_extreme_nb(strong, 0.05, -1):
        assert high == 1.0


def test_price_change_by_hand() -> None:
    # Ten prices; lookback 7 compares the 3rd (100) with the 10th (99.5): −0.5/100 = −50 bps.
    history, counts = ring([[7.0, 8.0, 100.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 99.5]])
    assert price_change_bps_nb(history, counts[0], 0, 7) == pytest.approx(-50.0)
    assert math.isnan(price_change_bps_nb(history, 7, 0, 7))  # seven prices: one too few
    assert not math.isnan(price_change_bps_nb(history, 8, 0, 7))


@pytest.mark.parametrize(
    ("chg", "short", "long"),
    [
        (-0.76, Confirmation.CONFIRM, Confirmation.CONTRADICT),
        (-0.75, Confirmation.NEUTRAL, Confirmation.NEUTRAL),  # the magnitude itself is not enough
        (0.0, Confirmation.NEUTRAL, Confirmation.NEUTRAL),
        (0.75, Confirmation.NEUTRAL, Confirmation.NEUTRAL),
        (0.76, Confirmation.CONTRADICT, Confirmation.CONFIRM),
        (NAN, Confirmation.NEUTRAL, Confirmation.NEUTRAL),
    ],
)
def test_confirmation(chg: float, short: Confirmation, long: Confirmation) -> None:
    assert confirm_direction_nb(chg, 0.75, -1) == short
    assert confirm_direction_nb(chg, 0.75, 1) == long


@given(st.lists(prices, min_size=1, max_size=3 * HISTORY), directions, st.integers(1, 48), st.floats(0.0, 50.0))
@settings(deadline=None)
def test_confirmation_equals_the_twin_through_the_ring(
    column: list[float], direction: Direction, lookback: int, least: float
) -> None:
    history, counts = ring([column])
    chg = price_change_bps_nb(history, counts[0], 0, lookback)
    got = confirm_direction_nb(chg, least, int(direction))
    assert got == rule.direction_confirmation(column, int(direction), lookback, least)


@pytest.mark.parametrize(
    ("imbalance", "persistence", "expected"),
    [
        # SHORT: eff = −imbalance; confidence 0.8.
        (0.0, 1.0, 0.8),
        (-0.10, 1.0, 0.8),  # 0.10 is not above 0.10
        (-0.20, 0.5, 0.84),  # 0.8·(1 + 0.2·0.5·0.5)
        (-0.90, 1.0, 0.92),  # capped at +15 %
        (0.12, 0.9, 0.76544),  # 0.8·(1 − 0.12·0.9·0.4)
        (0.20, 0.60, 0.7616),  # persistence must exceed 0.60 to forbid: 0.8·(1 − 0.2·0.6·0.4)
        (0.20, 0.61, -1.0),  # forbidden
        (0.15, 0.99, 0.75248),  # eff −0.15 is not below −0.15: 0.8·(1 − 0.15·0.99·0.4)
        (0.95, 0.60, 0.68),  # never under 85 %
    ],
)
def test_ob2_by_hand(imbalance: float, persistence: float, expected: float) -> None:
    row = book(imbalance_ma5=imbalance, imbalance_persistence=persistence)
    assert book_confidence_nb(0.8, row, -1) == pytest.approx(expected)
    mirrored = book(imbalance_ma5=-imbalance, imbalance_persistence=persistence)
    assert book_confidence_nb(0.8, mirrored, 1) == pytest.approx(expected)


def test_ob2_without_a_book_changes_nothing() -> None:
    assert book_confidence_nb(0.8, no_book(), -1) == 0.8


@given(st.floats(0.5, 0.9), imbalances, shares, directions)
@settings(deadline=None)
def test_ob2_equals_the_twin_and_stays_within_bounds(c: float, imb: float, p: float, direction: Direction) -> None:
    got = book_confidence_nb(c, book(imbalance_ma5=imb, imbalance_persistence=p), int(direction))
    want = rule.ob2(c, rule.effective_imbalance(imb, int(direction)), p)
    assert got == (-1.0 if want is None else want)
    assert got == -1.0 or c * 0.85 <= got <= c * 1.15


def test_kernels_read_and_write_nothing_else() -> None:
    history, counts = ring([[1.0, 2.0, 3.0]])
    before = history.tobytes()
    price_change_bps_nb(history, counts[0], 0, 2)
    assert history.tobytes() == before
    assert np.array_equal(counts, [3])
