"""The book's formulas: worked by hand, and what must hold for any book (SPEC §8)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.book import kernels as book
from dolphin.book.layout import DEPTHS, IMBALANCES, MARKET_BOOK
from dolphin.core.records import Record, records
from tests.reference import book_ref as ref

pytestmark = pytest.mark.jit_off

near = pytest.approx
BIDS = np.array([300.0, 200.0, 100.0, 50.0, 50.0])  # 700
ASKS = np.array([100.0, 100.0, 50.0, 25.0, 25.0])  # 300
NOTHING = np.zeros(5)

usd = st.one_of(st.just(0.0), st.floats(1e-6, 1e15))
sides = st.lists(usd, min_size=5, max_size=5).map(np.array)
leans = st.one_of(st.floats(-1.0, 1.0), st.just(0.0))


def ring_of(values: list[float], size: int) -> np.ndarray:
    """The last values, each where a ring of this size has it."""
    ring = np.zeros(size)
    for k, value in enumerate(values):
        ring[k % size] = value
    return ring


def test_a_book_by_hand() -> None:
    assert book.imbalance_nb(BIDS, ASKS) == near(0.4)  # (700 − 300)/1000
    assert book.depth_1pct_nb(BIDS, ASKS) == 400.0  # 300 + 100
    assert book.depth_quality_nb(400.0, 800.0) == 0.5
    assert book.spread_proxy_bps_nb(BIDS, ASKS) == near(6.0)  # 10·(1 − 400/1000)
    assert book.depth_asymmetry_nb(BIDS, ASKS) == near(0.5)  # (300 − 100)/400


def test_fill_probability_by_hand() -> None:
    assert book.fill_probability_nb(0.0) == 0.0
    assert book.fill_probability_nb(1.0) == near(0.62)
    assert book.fill_probability_nb(2.0) == near(0.8556)  # 1 − 0.1444
    assert book.fill_probability_nb(0.5) == near(0.38356, abs=1e-5)  # 1 − √0.38


def test_the_reference_moves_by_a_hundredth_and_ignores_outages() -> None:
    assert book.depth_ref_nb(0.0, 500.0) == 500.0
    assert book.depth_ref_nb(500.0, 600.0) == near(501.0)
    assert book.depth_ref_nb(500.0, 0.0) == 500.0
    assert book.depth_ref_nb(0.0, 0.0) == 0.0


def test_histories_by_hand() -> None:
    values = [0.9, -0.1, 0.2, -0.3, 0.4, 0.5]
    ring = ring_of(values, IMBALANCES)
    assert book.moving_average_nb(ring, 6, 5) == near(0.14)  # (−0.1 + 0.2 − 0.3 + 0.4 + 0.5)/5
    assert book.moving_average_nb(ring, 2, 5) == near(0.4)  # (0.9 − 0.1)/2
    assert book.persistence_nb(ring, 6) == near(4 / 6)
    assert book.persistence_nb(ring_of([*values, -0.1, -0.1, -0.1, -0.1, -0.1], IMBALANCES), 11) == near(7 / 10)
    depths = [100.0, 90.0, 80.0, 70.0, 60.0, 50.0, 45.0]
    assert book.withdrawal_velocity_nb(ring_of(depths[:1], DEPTHS), 1) == 0.0  # k = 0
    assert book.withdrawal_velocity_nb(ring_of(depths[:2], DEPTHS), 2) == near(-0.1)
    assert book.withdrawal_velocity_nb(ring_of(depths[:6], DEPTHS), 6) == near(-0.5)  # 50/100 − 1
    assert book.withdrawal_velocity_nb(ring_of(depths, DEPTHS), 7) == near(-0.5)  # 45/90 − 1


def test_the_market_by_hand() -> None:
    imbalances = np.array([0.3, -0.2, 0.1, 0.2])
    assert book.median_nb(imbalances.copy(), 4) == near(0.15)
    assert book.median_nb(imbalances.copy(), 3) == near(0.1)
    assert book.agreement_nb(imbalances, 4, 0.15) == 0.75
    assert book.agreement_nb(np.array([0.0, 0.1, -0.1]), 3, 0.0) == near(1 / 3)  # no side: only a balanced book agrees


@pytest.mark.parametrize(
    ("velocities", "count"),
    [([-0.31, -0.4, -0.9, 0.0], 3), ([-0.31, -0.4, -0.30, 0.0], 0), ([-0.5] * 4, 4), ([], 0)],
)
def test_a_cascade_takes_three(velocities: list[float], count: int) -> None:
    assert book.cascade_count_nb(np.array([*velocities, 0.0]), len(velocities)) == count


@pytest.mark.parametrize(
    ("withdrawal", "depth_velocity", "agreement", "signal"),
    [
        (-0.11, 0.5, 1.0, 1),  # stress comes before calm
        (-0.10, -0.02, 0.6, -1),
        (-0.10, -0.021, 0.6, 0),
        (0.3, 0.0, 0.59, 0),
    ],
)
def test_the_regime_at_its_edges(withdrawal: float, depth_velocity: float, agreement: float, signal: int) -> None:
    velocities = np.array([withdrawal, -0.9, withdrawal, 0.9])
    assert book.regime_signal_nb(velocities, 4, depth_velocity, agreement) == signal
    assert book.regime_signal_nb(velocities, 1, depth_velocity, agreement) == signal


def test_nothing_divides_by_nothing() -> None:
    assert book.imbalance_nb(NOTHING, NOTHING) == 0.0
    assert book.spread_proxy_bps_nb(NOTHING, NOTHING) == 0.0
    assert book.depth_asymmetry_nb(NOTHING, NOTHING) == 0.0
    assert book.depth_quality_nb(5.0, 0.0) == 0.0
    assert book.withdrawal_nb(5.0, 0.0) == 0.0
    assert book.withdrawal_nb(0.0, 5.0) == -1.0
    assert book.moving_average_nb(np.zeros(IMBALANCES), 0, 5) == 0.0
    assert book.persistence_nb(np.zeros(IMBALANCES), 0) == 0.0
    assert book.withdrawal_velocity_nb(np.zeros(DEPTHS), 0) == 0.0
    assert book.median_nb(np.zeros(1), 0) == 0.0
    assert book.agreement_nb(np.zeros(1), 0, 0.0) == 0.0
    assert book.imbalance_nb(BIDS, NOTHING) == 1.0
    assert book.imbalance_nb(NOTHING, ASKS) == -1.0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -1e-300, 9e-7, 1.1e15])
def test_one_bad_band_spoils_a_book(bad: float) -> None:
    assert book.is_sound_nb(BIDS, ASKS)
    assert book.is_sound_nb(NOTHING, NOTHING)
    for band in range(5):
        spoilt = BIDS.copy()
        spoilt[band] = bad
        assert not book.is_sound_nb(spoilt, ASKS)
        assert not book.is_sound_nb(ASKS, spoilt)


@given(sides, sides)
def test_ranges_and_the_mirror_of_bids_and_asks(bids: np.ndarray, asks: np.ndarray) -> None:
    imbalance, asymmetry = book.imbalance_nb(bids, asks), book.depth_asymmetry_nb(bids, asks)
    assert -1.0 <= imbalance <= 1.0
    assert -1.0 <= asymmetry <= 1.0
    assert book.imbalance_nb(asks, bids) == -imbalance
    assert book.depth_asymmetry_nb(asks, bids) == -asymmetry
    spread = book.spread_proxy_bps_nb(bids, asks)
    assert 0.0 <= spread <= 10.0
    assert book.spread_proxy_bps_nb(asks, bids) == spread
    depth = book.depth_1pct_nb(bids, asks)
    assert depth == book.depth_1pct_nb(asks, bids) >= 0.0
    reference = book.depth_ref_nb(0.0, depth)
    assert book.depth_quality_nb(depth, reference) == (1.0 if depth > 0.0 else 0.0)


@given(st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_a_deeper_book_fills_more(a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert 0.0 <= book.fill_probability_nb(low) <= book.fill_probability_nb(high) <= 1.0


@given(st.lists(leans, min_size=1, max_size=25))
def test_histories_against_the_plain_twin(values: list[float]) -> None:
    ring = ring_of(values, IMBALANCES)
    latest = values[-5:]
    assert book.moving_average_nb(ring, len(values), 5) == ref.total(latest) / len(latest)
    assert book.persistence_nb(ring, len(values)) == ref.share_of_sign(values[-10:], values[-1])
    depths = [1e9 * v * v if abs(v) > 1e-6 else 0.0 for v in values]  # as sound bands have them
    assert book.withdrawal_velocity_nb(ring_of(depths, DEPTHS), len(depths)) == ref.withdrawal(depths)
    assert 1 / 10 <= book.persistence_nb(ring, len(values)) <= 1.0


@given(st.lists(st.one_of(leans, st.sampled_from([0.1, -0.1])), max_size=60))
def test_median_and_agreement_against_the_plain_twin(values: list[float]) -> None:
    work = np.array([*values, 9.0])
    middle = book.median_nb(work, len(values))
    assert middle == ref.median(values)
    assert work[-1] == 9.0
    assert sorted(work[:-1].tolist()) == sorted(values), "a selection only reorders"
    assert book.agreement_nb(work, len(values), middle) == ref.share_of_sign(values, middle)
    assert book.cascade_count_nb(work, len(values)) == ref.cascade(values)


@given(st.lists(leans, min_size=1, max_size=40), st.data())
def test_any_rank_can_be_selected(values: list[float], data: st.DataObject) -> None:
    rank = data.draw(st.integers(0, len(values) - 1))
    assert book.select_nb(np.array(values), len(values), rank) == sorted(values)[rank]


@given(
    st.lists(st.sampled_from([-1.0, -0.1, -0.05, 0.0, 0.1, 0.2]) | st.floats(-1.0, 1.0), min_size=1, max_size=12),
    st.sampled_from([-0.1, 0.0, 0.1]) | st.floats(-1.0, 1.0),
)
def test_counting_knows_whether_the_median_is_below(values: list[float], threshold: float) -> None:
    work = np.array(values)
    expected = book.median_nb(work.copy(), len(values)) < threshold
    assert book.is_median_below_nb(work, len(values), threshold) == expected
    assert not book.is_median_below_nb(work, 0, threshold)


def test_selecting_ends_whatever_it_is_given() -> None:
    assert np.isnan(book.select_nb(np.array([np.nan, np.nan, np.nan]), 3, 1))


def market(imbalance: float, agreement: float) -> Record:
    """A usable market book."""
    row = records(MARKET_BOOK, 1)[0]
    row.usable, row.median_imbalance, row.agreement = 1, imbalance, agreement
    return row


def test_the_multiplier_by_hand() -> None:
    assert book.market_ob_mult_nb(market(-0.15, 0.8), -1) == near(1.12)  # 1 + 0.15·0.8
    assert book.market_ob_mult_nb(market(0.12, 0.75), -1) == near(0.91)  # 1 − 0.12·0.75
    assert book.market_ob_mult_nb(market(-0.15, 0.59), -1) == 1.0
    assert book.market_ob_mult_nb(records(MARKET_BOOK, 1)[0], -1) == 1.0


@given(st.floats(-1.0, 1.0), st.floats(0.0, 1.0))
def test_the_multiplier_s_range_and_mirror(imbalance: float, agreement: float) -> None:
    mult = book.market_ob_mult_nb(market(imbalance, agreement), -1)
    assert 0.85 <= mult <= 1.20
    assert book.market_ob_mult_nb(market(-imbalance, agreement), 1) == mult
