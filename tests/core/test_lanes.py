"""Groups of lanes: each primitive by itself, compiled, against plain numbers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dolphin.core.jit import DISABLED, kernel
from dolphin.core.lanes import (
    LANES,
    fused_nb,
    load_nb,
    load_row_nb,
    padded,
    plus_nb,
    spread_nb,
    store_nb,
    store_row_nb,
    times_nb,
    total_nb,
)
from tests.support.arithmetic import fused

pytestmark = pytest.mark.jit_off

numbers = st.floats(-1e100, 1e100, allow_subnormal=False)
groups = hnp.arrays(np.float64, LANES, elements=numbers)


@kernel
def _elementwise_nb(x: np.ndarray, y: np.ndarray, z: np.ndarray, out: np.ndarray) -> float:
    a, b, c = load_nb(x, 0), load_nb(y, 0), load_nb(z, 0)
    store_row_nb(out, 0, 0, fused_nb(a, b, c))
    store_row_nb(out, 1, 0, times_nb(a, b))
    store_row_nb(out, 2, 0, plus_nb(a, b))
    return total_nb(a)


@kernel
def _move_nb(rows: np.ndarray, j: int, i: int, c: float, line: np.ndarray) -> int:
    store_nb(line, 2, load_row_nb(rows, j, i))
    store_nb(line, 10, spread_nb(c))
    return 0


@settings(max_examples=100, deadline=None)
@given(groups, groups, groups)
def test_arithmetic_lane_by_lane(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> None:
    out = np.full((3, LANES), np.nan)
    total = _elementwise_nb(x, y, z, out)
    pairs = zip(x.tolist(), y.tolist(), z.tolist(), strict=True)
    assert out[0].tolist() == [a * b + c if DISABLED else fused(a, b, c) for a, b, c in pairs]
    np.testing.assert_array_equal(out[1], x * y)
    np.testing.assert_array_equal(out[2], x + y)
    a0, a1, a2, a3, a4, a5, a6, a7 = x.tolist()
    assert total == ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))


def test_loads_and_stores_touch_eight_values_and_no_more() -> None:
    rows = np.arange(60.0).reshape(3, 20)
    line = np.full(20, -1.0)
    _move_nb(rows, 1, 5, 0.5, line)
    assert line.tolist() == [-1.0, -1.0, *range(25, 33), *[0.5] * 8, -1.0, -1.0]


def test_a_group_loaded_is_a_copy() -> None:
    x, out = np.arange(8.0), np.zeros((3, 8))
    _elementwise_nb(x, x, x, out)
    assert x.tolist() == list(range(8))


def test_padding() -> None:
    assert [padded(n) for n in (0, 1, 7, 8, 9, 50, 400)] == [0, 8, 8, 8, 16, 56, 400]
