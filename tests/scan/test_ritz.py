"""The tridiagonal's largest eigenpair against numpy, tiny couplings and overtaking eigenvalues included."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dolphin.scan.ritz import (
    count_above_nb,
    find_top_ritz_nb,
    grow_top_ritz_nb,
    last_entry_nb,
    ritz_vector_nb,
)

pytestmark = pytest.mark.jit_off


def tridiagonal(alpha: list[float], beta: list[float]) -> np.ndarray:
    return np.diag(alpha) + np.diag(beta, 1) + np.diag(beta, -1)


def grown(alpha: list[float], beta: list[float]) -> tuple[float, float]:
    """The largest eigenvalue row by row, as Lanczos does it, each step starting from the last one's result."""
    a, b = np.array([*alpha, 0.0]), np.array([*beta, 0.0])
    theta, last = alpha[0], 1.0
    for j in range(1, len(alpha)):
        theta, last = grow_top_ritz_nb(a, b, j, theta, last)
        if count_above_nb(a, b, j + 1, theta * (1.0 + 1e-10)) > 0:  # as the solver does before it believes it
            theta, last = find_top_ritz_nb(a, b, j + 1, theta)
    return theta, last


def assert_is_top(alpha: list[float], beta: list[float]) -> None:
    """The value to the promised 1e-10; the last entry to rounding, times what a small first entry amplifies."""
    values, vectors = np.linalg.eigh(tridiagonal(alpha, beta))
    theta, last = grown(alpha, beta)
    assert abs(theta - values[-1]) <= 1.01e-10 * values[-1]
    gap = values[-1] - values[-2] if len(values) > 1 else values[-1]
    assert abs(last - abs(vectors[-1, -1])) <= 1e-9 * values[-1] / max(gap, 1e-12) + 1e-13 / max(
        vectors[0, -1] ** 2, 1e-300
    )


@st.composite
def tridiagonals(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Diagonals of a positive semidefinite T: those of LLᵀ for a lower bidiagonal L, couplings from 1e-9 to 1."""
    m = draw(st.integers(1, 30))
    main = [draw(st.floats(0.05, 3.0)) for _ in range(m)]
    below = [10.0 ** draw(st.floats(-9.0, 0.0)) for _ in range(m - 1)]
    alpha = [x * x + (below[i - 1] ** 2 if i else 0.0) for i, x in enumerate(main)]
    return alpha, [main[i] * below[i] for i in range(m - 1)]


@settings(max_examples=150, deadline=None)
@given(tridiagonals())
@example(([4.0, 1.0], [1e-9]))
@example(([1.0, 4.0], [1e-9]))
@example(([2.0, 2.0, 2.0], [1e-8, 1e-8]))
def test_growing_finds_the_largest(case: tuple[list[float], list[float]]) -> None:
    assert_is_top(*case)


@pytest.mark.parametrize("m", [2, 5, 20, 60])
def test_growing_long_after_convergence(m: int) -> None:
    rng = np.random.default_rng(m)
    for _ in range(20):
        alpha = [4.0, *(0.5 + rng.random(m - 1)).tolist()]
        beta = [0.8, *(0.2 + 0.5 * rng.random(m - 1)).tolist()][: m - 1]
        assert_is_top(alpha, beta)


def test_a_hidden_eigenvalue_that_overtakes_late_is_found() -> None:
    # Lanczos from a start almost orthogonal to the answer: 3.0 is settled to the last bit, coupled by 1e-10 and less,
    # before a row brings the larger 3.05; near a settled value Newton's steps are too short to leave it.
    alpha = [3.0, 0.4, 0.5, 2.2, 1.9, 0.6]
    for tiny in (1e-3, 1e-6, 1e-8, 1e-10, 1e-13):
        beta = [tiny, 0.2, 0.9, 1.1, 0.3]
        assert np.linalg.eigvalsh(tridiagonal(alpha, beta))[-1] > 3.05
        assert_is_top(alpha, beta)


def test_growing_by_hand() -> None:
    # [[2, 1], [1, 2]]: 3 with (1, 1)/√2. [[1, 2], [2, 1]]: 3 as well.
    assert grown([2.0, 2.0], [1.0]) == pytest.approx((3.0, np.sqrt(0.5)))
    assert grown([1.0, 1.0], [2.0]) == pytest.approx((3.0, np.sqrt(0.5)))
    assert grown([5.0], []) == (5.0, 1.0)


@settings(max_examples=100, deadline=None)
@given(tridiagonals())
@example(([1.0, 2.0, 2.0, 2.0, 9.0], [1.0, 1.0, 1.0, 1e-4]))
def test_vector_is_an_eigenvector(case: tuple[list[float], list[float]]) -> None:
    """To rounding, times what the way from its largest entry up to the first one amplifies."""
    alpha, beta = case
    m, matrix = len(alpha), tridiagonal(alpha, beta)
    values, vectors = np.linalg.eigh(matrix)
    theta = float(values[-1])
    y = np.full(m + 1, np.nan)
    ritz_vector_nb(np.array([*alpha, 0.0]), np.array([*beta, 1.0]), m, theta, y)
    assert np.linalg.norm(y[:m]) == pytest.approx(1.0, abs=1e-13)
    assert last_entry_nb(np.array(alpha), np.array([*beta, 1.0]), m, theta) == pytest.approx(y[m - 1], rel=1e-9)
    if m == 1 or values[-1] - values[-2] > 1e-4 * theta:  # else any mixture of the two is as good
        assert np.linalg.norm(matrix @ y[:m] - theta * y[:m]) <= 1e-13 * theta / max(vectors[0, -1] ** 2, 1e-300)


def test_a_long_vector_does_not_overflow() -> None:
    m = 64
    alpha, beta = [10.0] + [1e-3] * (m - 1), [1e-6] * (m - 1)  # each entry 1e7 times smaller than the one before
    y = np.zeros(m)
    ritz_vector_nb(np.array(alpha), np.array(beta), m, 10.0 + 1e-13, y)
    assert y[0] == pytest.approx(1.0)
    assert np.isfinite(y).all()
    assert last_entry_nb(np.array(alpha), np.array([*beta, 0.0]), m, 10.0) <= 1e-100


@settings(max_examples=100, deadline=None)
@given(tridiagonals(), st.floats(0.0, 12.0))
def test_count_above(case: tuple[list[float], list[float]], x: float) -> None:
    alpha, beta = case
    values = np.linalg.eigvalsh(tridiagonal(alpha, beta))
    low, high = int((values > x + 1e-12).sum()), int((values > x - 1e-12).sum())
    assert low <= count_above_nb(np.array(alpha), np.array([*beta, 0.0]), len(alpha), x) <= high


def test_count_above_at_an_exact_eigenvalue() -> None:
    alpha, beta = np.array([2.0, 2.0]), np.array([1.0, 0.0])
    assert [count_above_nb(alpha, beta, 2, x) for x in (0.5, 1.5, 2.0, 3.5)] == [2, 1, 1, 0]
