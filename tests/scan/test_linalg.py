"""Dense kernels against plain sums: exact where the order of the sum is theirs, else to rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dolphin.core.jit import DISABLED
from dolphin.scan.linalg import (
    IN_CACHE,
    add_nb,
    combine_rows_nb,
    dot_nb,
    fresh_products_nb,
    slide_products_nb,
    sum_nb,
)
from tests.scan.cases import wide
from tests.support.arithmetic import fused

pytestmark = pytest.mark.jit_off

SIZES = (0, 1, 7, 8, 9, 16, 23, 50)
numbers = st.floats(-1e6, 1e6, allow_nan=False, allow_subnormal=False)


def dot_ref(a: list[float], b: list[float]) -> float:
    """Eight lanes of fused products and sums, then the pairs of lanes: the order that the kernel promises."""
    lanes = [0.0] * 8
    for i, (x, y) in enumerate(zip(a, b, strict=True)):
        lanes[i % 8] = x * y + lanes[i % 8] if DISABLED else fused(x, y, lanes[i % 8])
    s0, s1, s2, s3, s4, s5, s6, s7 = lanes
    return ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))


@pytest.mark.parametrize("n", SIZES)
def test_dot_has_the_promised_order_to_the_last_bit(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(20):
        a, b = wide(rng.standard_normal((2, n)) * 10.0 ** rng.uniform(-8, 8, (2, n)))
        assert dot_nb(a, b) == dot_ref(a.tolist(), b.tolist())


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40).flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=numbers)] * 2)))
def test_dot_and_sum_are_near_the_exact_ones(pair: tuple[np.ndarray, np.ndarray]) -> None:
    a, b = pair
    terms = [x * y for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert abs(dot_nb(wide(a), wide(b)) - math.fsum(terms)) <= 1e-14 * (math.fsum(map(abs, terms)) + 1e-300)
    assert abs(sum_nb(wide(a)) - math.fsum(a)) <= 1e-14 * (math.fsum(map(abs, a)) + 1e-300)


def test_dot_by_hand() -> None:
    assert dot_nb(wide(np.array([1.0, 2.0, 3.0])), wide(np.array([4.0, 5.0, 6.0]))) == 32.0
    assert dot_nb(wide(np.ones(9)), wide(np.arange(9.0))) == 36.0
    assert math.isnan(dot_nb(wide(np.array([math.nan, 1.0])), wide(np.ones(2))))


def test_add_by_hand() -> None:
    y = wide(np.array([1.0, 2.0, 3.0]))
    add_nb(2.0, wide(np.array([10.0, 0.0, -1.0])), y)
    assert y.tolist() == [21.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize("n", [0, 1, 3, 4, 7, 8, 9, 50, 600])
@pytest.mark.parametrize("width", [8, 16, 24, 56])
def test_combined_rows_are_a_matrix_product(n: int, width: int) -> None:
    assert (n * width > IN_CACHE) == (n == 600 and width > 8)  # both ways through memory are met
    rng = np.random.default_rng([n, width])
    rows, x = rng.standard_normal((n + 5, width + 4)), rng.standard_normal(n)
    out = np.full(width, np.nan)
    combine_rows_nb(rows, 2, 3, x, n, out)
    np.testing.assert_allclose(out, x @ rows[2 : n + 2, 3 : width + 3], rtol=0.0, atol=1e-12)


def test_sliding_is_exact_on_whole_numbers() -> None:
    rng = np.random.default_rng(1)
    rows = wide(rng.integers(-1000, 1000, (60, 11)).astype(np.float64))
    p = rows[:40].T @ rows[:40]
    for t in range(40, 60):
        slide_products_nb(p, rows[t], rows[t - 40], 11)
    np.testing.assert_array_equal(p, rows[20:].T @ rows[20:])


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5, 50, 151])
@pytest.mark.parametrize("n", [1, 2, 9, 30])
def test_fresh_products(window: int, n: int) -> None:
    rows = np.random.default_rng([window, n]).standard_normal((window, n))
    p = np.full((n, n), np.nan)
    fresh_products_nb(p, rows)
    np.testing.assert_allclose(p, rows.T @ rows, rtol=0.0, atol=1e-12)
    np.testing.assert_array_equal(p, p.T)


def test_a_slid_matrix_stays_symmetric_to_the_last_bit() -> None:
    rng = np.random.default_rng(3)
    p = np.zeros((8, 8))
    fresh_products_nb(p, wide(rng.standard_normal((20, 7))))
    for _ in range(500):
        slide_products_nb(p, wide(rng.standard_normal(7)), wide(rng.standard_normal(7)), 7)
    np.testing.assert_array_equal(p, p.T)
