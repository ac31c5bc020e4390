"""The window's eigenpair against numpy: crowded, repeated and degenerate spectra, cold, mixed and free starts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.lanes import padded
from dolphin.scan.eigen import COLD, FREE, MIXED, Krylov, Window, solve_apart_nb, uses_rows_nb
from dolphin.scan.layout import MAX_BASIS
from tests.scan.cases import wide

pytestmark = pytest.mark.jit_off


class Solver:
    """Work space for N assets, and the pair that is carried from one solve to the next."""

    def __init__(self, n: int) -> None:
        m, c, z = MAX_BASIS + 1, padded(n), np.zeros
        self.krylov = Krylov(z((m, c)), z((m, c)), z(m), z(m), z(m), z(c), z(c), z(10_000))
        self.wide, self.weights, self.image = z(c), z(c), z(c)
        self.vector = self.wide[:n]

    def solve(self, window: Window, mode: int) -> tuple[float, bool]:
        members = int((window.scale > 0.0).sum())
        value, crowded = solve_apart_nb(self.krylov, window, members, mode, self.wide, self.weights, self.image)
        return float(value), bool(crowded)


def window_of(products: np.ndarray, sums: np.ndarray, scale: np.ndarray, returns: np.ndarray | None = None) -> Window:
    """A window over N assets, padded with columns of zeros; without `returns` it has no rows to go through."""
    rows = np.zeros((1, len(scale))) if returns is None else returns
    deviation = np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0.0)
    return Window(
        products=wide(products, 2),
        ring=wide(rows),
        turned=wide(wide(rows).T),
        first=0,
        length=9_999 if returns is None else len(returns),
        sums=wide(sums),
        scale=wide(scale),
        deviation=wide(deviation),
        value_only=False,
    )


def of_matrix(correlation: np.ndarray) -> Window:
    """The operator of a given correlation matrix: returns of mean zero and unit size."""
    n = len(correlation)
    return window_of(correlation, np.zeros(n), np.ones(n))


def of_returns(returns: np.ndarray) -> Window:
    """The operator of (W, N) returns, through its rows where that is cheaper; a constant column is no member."""
    w, n = returns.shape
    sums, squares = returns.sum(axis=0), (returns**2).sum(axis=0)
    variation = squares - sums**2 / w
    scale = np.where(np.ptp(returns, axis=0) > 0.0, 1.0 / np.sqrt(np.maximum(variation, 1e-300)), 0.0)
    products = np.zeros((n, n)) if uses_rows_nb(w, n) else returns.T @ returns
    return window_of(products, sums, scale, returns)


def correlation_with(values: list[float], seed: int) -> np.ndarray:
    """A correlation matrix with these eigenvalues (they sum to N): a random rotation, then turned to unit diagonal."""
    n = len(values)
    rng = np.random.default_rng(seed)
    q, _ = np.linalg.qr(rng.standard_normal((n, n)))
    c = q @ np.diag(values) @ q.T
    for _ in range(n - 1):  # Bendel and Mickey: one rotation makes one more diagonal entry 1
        d = np.diag(c)
        i, j = int(np.argmin(d)), int(np.argmax(d))
        if d[j] - d[i] < 1e-14:
            break
        a, b, e = c[j, j] - 1.0, 2.0 * c[i, j], c[i, i] - 1.0
        t = (-b + np.sqrt(b * b - 4.0 * a * e)) / (2.0 * a)
        cos = 1.0 / np.sqrt(1.0 + t * t)
        rotation = np.eye(n)
        rotation[i, i] = rotation[j, j] = cos
        rotation[i, j], rotation[j, i] = cos * t, -cos * t
        c = rotation @ c @ rotation.T
        c[i, i] = 1.0
    return (c + c.T) / 2.0


def spectrum(n: int, top: float, ratio: float) -> list[float]:
    """N eigenvalues with sum N: the two largest `top` and `top/ratio`, the rest spread below."""
    rest = np.linspace(0.5, 1.5, n - 2)
    rest *= (n - top - top / ratio) / rest.sum()
    return [*rest.tolist(), top / ratio, top]


def assert_top(solver: Solver, value: float, correlation: np.ndarray, members: np.ndarray | None = None) -> None:
    inside = np.ones(len(correlation), bool) if members is None else members
    values, vectors = np.linalg.eigh(correlation[np.ix_(inside, inside)])
    u = solver.vector
    assert abs(value / values[-1] - 1.0) <= 1e-9
    assert not u[~inside].any()
    assert u.sum() >= 0.0
    assert np.linalg.norm(u) == pytest.approx(1.0, abs=1e-8)
    top = values > values[-1] * (1.0 - 1e-4)
    assert np.linalg.norm(vectors[:, top].T @ u[inside]) >= 1.0 - 1e-8  # in the space of the (nearly) largest ones


@pytest.mark.parametrize("ratio", [3.0, 1.5, 1.15, 1.01, 1.0001, 1.0])
@pytest.mark.parametrize("n", [10, 48])
@pytest.mark.parametrize("mode", [COLD, MIXED])
def test_nearly_equal_eigenvalues(n: int, ratio: float, mode: int) -> None:
    for seed in range(4):
        correlation = correlation_with(spectrum(n, 0.3 * n, ratio), seed)
        solver = Solver(n)
        solver.vector[:] = np.linalg.eigh(correlation)[1][:, -2]  # the worst guess: the runner-up itself
        value, crowded = solver.solve(of_matrix(correlation), mode)
        assert_top(solver, value, correlation)
        if 1.0 < ratio <= 1.5:
            assert crowded
        if ratio == 3.0:
            assert not crowded


def test_block_diagonal() -> None:
    one = np.full((4, 4), 0.5) + 0.5 * np.eye(4)
    two = np.full((6, 6), 0.3) + 0.7 * np.eye(6)  # 2.5 both
    correlation = np.block([[one, np.zeros((4, 6))], [np.zeros((6, 4)), two]])
    solver = Solver(10)
    value, _ = solver.solve(of_matrix(correlation), COLD)
    assert value == pytest.approx(2.5, rel=1e-12)
    assert_top(solver, value, correlation)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_assets(n: int) -> None:
    rng = np.random.default_rng(n)
    for _ in range(30):
        returns = rng.standard_normal((60, n)) + rng.standard_normal((60, 1))
        solver = Solver(n)
        value, _ = solver.solve(of_returns(returns), COLD)
        assert_top(solver, value, np.atleast_2d(np.corrcoef(returns, rowvar=False)))
    assert n > 1 or value == pytest.approx(1.0, abs=1e-15)


@pytest.mark.parametrize("n", [2, 7, 64, 100])
def test_identical_assets(n: int) -> None:
    one = np.random.default_rng(1).standard_normal((70, 1))
    solver = Solver(n)
    value, _ = solver.solve(of_returns(np.repeat(one, n, axis=1)), COLD)
    assert value == pytest.approx(n, rel=1e-12)
    np.testing.assert_allclose(solver.vector, np.full(n, n**-0.5), atol=1e-7)


@pytest.mark.parametrize("mode", [COLD, MIXED])
def test_uncorrelated_assets_have_the_eigenvalue_one(mode: int) -> None:
    solver = Solver(20)
    solver.vector[3] = 1.0
    value, _ = solver.solve(of_matrix(np.eye(20)), mode)  # every vector is an eigenvector: one product tells
    assert value == pytest.approx(1.0, rel=1e-12)
    assert np.linalg.norm(solver.vector) == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("n", [2, 3, 10])
def test_a_free_start_that_is_the_answer(n: int) -> None:
    window = of_returns(np.repeat(np.random.default_rng(7).standard_normal((60, 1)), n, axis=1))
    solver = Solver(n)
    solver.solve(window, COLD)
    for _ in range(3):
        solver.image[:] = window.products @ solver.weights
        value, _ = solver.solve(window, FREE)
        assert value == pytest.approx(n, rel=1e-12)


def test_opposite_assets() -> None:
    one = np.random.default_rng(2).standard_normal((70, 1))
    solver = Solver(2)
    value, _ = solver.solve(of_returns(np.hstack([one, -one])), COLD)
    assert value == pytest.approx(2.0, rel=1e-12)
    assert solver.vector[0] == pytest.approx(-solver.vector[1])
    assert abs(solver.vector.sum()) <= 1e-12


def test_assets_outside_the_window_take_no_part() -> None:
    rng = np.random.default_rng(3)
    returns = rng.standard_normal((80, 9)) + rng.standard_normal((80, 1))
    returns[:, [2, 5]] = 0.0
    inside = np.array([i not in (2, 5) for i in range(9)])
    correlation = np.eye(9)
    correlation[np.ix_(inside, inside)] = np.corrcoef(returns[:, inside], rowvar=False)
    solver = Solver(9)
    value, _ = solver.solve(of_returns(returns), COLD)
    assert_top(solver, value, correlation, inside)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(10, 120), st.floats(0.0, 2.0))
def test_random_windows(seed: int, n: int, w: int, common: float) -> None:
    rng = np.random.default_rng(seed)
    returns = rng.standard_normal((w, n)) * 10.0 ** rng.uniform(-6, -1, n)
    returns += common * rng.standard_normal((w, 1)) * returns.std(axis=0)
    solver = Solver(n)
    value, _ = solver.solve(of_returns(returns), COLD)
    assert_top(solver, value, np.corrcoef(returns, rowvar=False))


def test_free_starts_follow_a_sliding_window() -> None:
    rng = np.random.default_rng(4)
    n, w = 12, 50
    returns = rng.standard_normal((w + 60, n)) * 1e-3 + rng.standard_normal((w + 60, 1)) * 1e-3
    solver = Solver(n)
    solver.solve(of_returns(returns[:w]), COLD)
    for t in range(1, 60):
        window = of_returns(returns[t : t + w])
        solver.image[:] = window.products @ solver.weights  # what the scanner carries along
        value, _ = solver.solve(window, FREE)
        assert_top(solver, value, np.corrcoef(returns[t : t + w], rowvar=False))


def test_the_carried_image_is_the_product() -> None:
    returns = np.random.default_rng(5).standard_normal((60, 8))
    window = of_returns(returns)
    solver = Solver(8)
    solver.solve(window, COLD)
    np.testing.assert_allclose(solver.image, window.products @ solver.weights, atol=1e-12)


@pytest.mark.parametrize("mode", [COLD, MIXED])
def test_rows_and_products_agree(mode: int) -> None:
    rng = np.random.default_rng(6)
    w, n = 50, 70
    assert uses_rows_nb(w, n)
    assert not uses_rows_nb(w, 50)
    returns = rng.standard_normal((w, n)) + rng.standard_normal((w, 1))
    by_rows = Solver(n)
    start = rng.standard_normal(n)
    by_rows.vector[:] = start
    value, _ = by_rows.solve(of_returns(returns), mode)
    assert_top(by_rows, value, np.corrcoef(returns, rowvar=False))
    correlation = np.corrcoef(returns, rowvar=False)
    by_products = Solver(n)
    by_products.vector[:] = start
    other, _ = by_products.solve(of_matrix(correlation), mode)
    assert value == pytest.approx(other, rel=1e-9)
