"""Bid and ask around closes: on the tick, never crossed, and right on average."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.trade.quotes import beyond, bid_ask, draws_of

SECOND = 1_000_000_000
MANY = np.arange(200_000, dtype=np.int64) * 60 * SECOND


def test_draws_are_uniform_and_unrelated_from_minute_to_minute() -> None:
    draws = draws_of(MANY)
    assert draws.min() >= 0.0
    assert draws.max() < 1.0
    counts, _ = np.histogram(draws, bins=20, range=(0.0, 1.0))
    assert np.abs(counts / len(draws) - 0.05).max() < 0.003
    assert abs(np.corrcoef(draws[:-1], draws[1:])[0, 1]) < 0.01


def test_all_of_a_second_and_the_nanosecond_before_it_draw_alike() -> None:
    at = 1_700_000_000 * SECOND
    same = draws_of(np.array([at - 1, at, at + 50_000_000, at + SECOND - 2]))
    assert len(set(same.tolist())) == 1
    assert draws_of(np.array([at + SECOND]))[0] != same[0]


@pytest.mark.parametrize(
    ("price", "spread_bps", "tick", "width"),
    [
        (0.0125, 1.0, 1e-5, 1e-5),  # a tick is 8 bps: the spread is one tick
        (100.0, 1.0, 0.01, 0.01),  # the spread asked for is one tick
        (100.0, 2.5, 0.01, 0.025),  # two and a half ticks, on average
        (101.037, 10.0, 0.1, 0.101037),  # a close between two ticks
    ],
)
def test_on_average_the_close_is_the_middle_and_the_spread_as_wide_as_asked(
    price: float, spread_bps: float, tick: float, width: float
) -> None:
    bid, ask = bid_ask(np.full(len(MANY), price), MANY, spread_bps, tick)
    assert (ask - bid).mean() == pytest.approx(width, rel=0.01)
    assert 0.5 * (bid + ask).mean() == pytest.approx(price, abs=0.01 * tick)
    assert bid.max() <= price + tick
    assert ask.min() >= price - tick


def test_without_a_tick_nothing_is_rounded() -> None:
    bid, ask = bid_ask(np.array([100.0]), MANY[:1], 10.0, None)
    assert (bid[0], ask[0]) == (pytest.approx(99.95), pytest.approx(100.05))


def test_without_a_spread_a_close_on_the_tick_is_both_sides() -> None:
    prices = np.array([0.7, 1.1, 100.1, 1234.7])
    bid, ask = bid_ask(prices, MANY[:4], 0.0, 0.1)
    np.testing.assert_array_equal(bid, ask)
    np.testing.assert_allclose(bid, prices, rtol=1e-15)
    bid, ask = bid_ask(np.array([101.25]), MANY[:1], 0.0, 0.1)
    assert (bid[0], ask[0]) == (pytest.approx(101.2), pytest.approx(101.3))


@given(
    price=st.floats(1e-4, 1e5),
    spread_bps=st.floats(0.0, 200.0),
    tick=st.sampled_from([1e-5, 1e-3, 0.05, 0.1, 1.0]),
    second=st.integers(0, 4_000_000_000),
)
def test_quotes_lie_on_the_tick_and_are_never_crossed_or_nothing(
    price: float, spread_bps: float, tick: float, second: int
) -> None:
    bid, ask = bid_ask(np.array([price]), np.array([second * SECOND]), spread_bps, tick)
    assert tick * (1.0 - 1e-12) <= bid[0] <= ask[0]
    for side in (bid[0], ask[0]):
        steps = side / tick
        assert abs(steps - round(steps)) < 1e-6 * max(1.0, steps * 1e-6)
    if spread_bps > 0.0:
        assert ask[0] - bid[0] >= tick - 1e-15 * price
    bound = price * spread_bps * 1e-4 + 2.0 * tick
    assert ask[0] - price <= bound
    assert price - bid[0] <= bound


def test_an_order_reaches_to_the_nearest_tick_and_not_to_nothing() -> None:
    assert beyond(101.0, 7.0, 0.1) == pytest.approx(101.1)
    assert beyond(101.0, -7.0, 0.1) == pytest.approx(100.9)
    assert beyond(101.0, 3.0, 0.1) == pytest.approx(101.0)
    assert beyond(101.0, -7.0, None) == pytest.approx(100.9293)
    assert beyond(0.1, -5000.0, 0.1) == pytest.approx(0.1)
