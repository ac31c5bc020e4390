"""Certificates: the interval is proven, tight, and holds the true value; what is wrong does not pass."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from flint import arb, arb_mat, ctx
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.scan.certify import (
    Certificate,
    certify_largest,
    check,
    relative_distance,
    window_members,
)
from dolphin.scan.scanner import Scanner
from tests.scan.cases import MINUTE, factor_market, minutes, prices


def arb_interval(window: np.ndarray, bits: int = 512) -> tuple[Fraction, Fraction]:
    """λ by another way: standardised returns as balls, and the ball library's own rigorous eigenvalues."""
    with ctx.workprec(bits):
        rows, n = window.shape[0] - 1, window.shape[1]
        columns = []
        for j in range(n):
            r = [arb(float(b)).log() - arb(float(a)).log() for a, b in zip(window[:-1, j], window[1:, j], strict=True)]
            mean = sum(r, arb(0)) / rows
            d = [x - mean for x in r]
            size = sum((x * x for x in d), arb(0)).sqrt()
            columns.append([x / size for x in d])
        z = arb_mat(rows, n, [columns[j][i] for i in range(rows) for j in range(n)])
        values = [v.real for v in (z.transpose() * z).eig(multiple=True)]
        low, high = values[0].lower(), values[0].upper()
        for v in values[1:]:
            low, high = (v.lower() if v.lower() > low else low), (v.upper() if v.upper() > high else high)
        return exact(low), exact(high)


def exact(ball: arb) -> Fraction:
    mantissa, exponent = (int(x) for x in ball.man_exp())
    return Fraction(mantissa) * Fraction(2) ** exponent


def assert_sound(certificate: Certificate, window: np.ndarray) -> None:
    low, high = arb_interval(window)
    assert Fraction(certificate.lower_text) <= high
    assert low <= Fraction(certificate.upper_text)
    assert Fraction(certificate.lower) <= Fraction(certificate.lower_text) <= Fraction(certificate.upper_text)
    assert Fraction(certificate.upper_text) <= Fraction(certificate.upper)
    assert certificate.lower <= certificate.value_mid <= certificate.upper
    assert certificate.bits == 512


@pytest.mark.parametrize(("rows", "assets"), [(51, 2), (51, 8), (51, 30), (151, 12), (20, 25)])
def test_the_interval_holds_the_value_of_another_method(rows: int, assets: int) -> None:
    window = factor_market(rows + assets, rows, assets)
    certificate = certify_largest(window)
    assert_sound(certificate, window)
    assert certificate.members == assets
    assert certificate.radius <= 1e-140  # two close eigenvalues aside, as sharp as the arithmetic
    assert certificate.upper - certificate.lower <= 4.0 * math.ulp(certificate.upper)
    numpy_value = np.linalg.eigvalsh(np.corrcoef(np.diff(np.log(window), axis=0), rowvar=False))[-1]
    assert check(float(numpy_value), certificate, 1e-12)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(1, 6), st.integers(3, 30), st.floats(-6.0, -1.0))
def test_random_windows(seed: int, assets: int, rows: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    window = prices(rng.standard_normal((rows, assets)) * 10.0**size)
    certificate = certify_largest(window)
    assert_sound(certificate, window)
    assert certificate.upper >= 1.0
    assert certificate.lower <= assets


def test_two_assets_by_hand() -> None:
    # Returns (1, 0, −1)·ln 2 and (1, −1, 0)·ln 2 from exact powers of two: ρ = ½ exactly, λ = 3/2.
    window = np.array([[1.0, 1.0], [2.0, 2.0], [2.0, 1.0], [1.0, 1.0]])
    certificate = certify_largest(window)
    assert Fraction(certificate.lower_text) <= Fraction(3, 2) <= Fraction(certificate.upper_text)
    assert certificate.radius <= 1e-140


def test_one_asset_is_exactly_one() -> None:
    certificate = certify_largest(factor_market(1, 60, 1))
    assert (certificate.lower, certificate.upper, certificate.radius) == (1.0, 1.0, 0.0)


@pytest.mark.parametrize("assets", [2, 5])
def test_identical_assets(assets: int) -> None:
    certificate = certify_largest(np.repeat(factor_market(2, 60, 1), assets, axis=1))
    assert Fraction(certificate.lower_text) <= assets <= Fraction(certificate.upper_text)
    assert check(float(assets), certificate, 1e-15)


def test_exactly_repeated_largest_eigenvalues() -> None:
    # Two assets move in the first half, two in the second, each half with mean 0: blocks [[1, 1], [1, 1]] twice, λ = 2.
    up, still = [1.0, 2.0, 1.0, 0.5, 1.0], [1.0] * 4
    one, two = np.array(up + still), np.array(still + up)
    certificate = certify_largest(np.column_stack([one, one, two, two]))
    assert Fraction(certificate.lower_text) <= 2 <= Fraction(certificate.upper_text)
    assert certificate.upper - certificate.lower <= 1e-12
    assert check(2.0, certificate, 1e-12)


def test_nearly_repeated_largest_eigenvalues() -> None:
    rng = np.random.default_rng(3)
    half = rng.standard_normal((40, 1)) * 1e-2
    for tiny in (1e-3, 1e-7, 1e-11):
        quiet = np.zeros((40, 2))
        one = np.concatenate([np.repeat(half, 2, axis=1), quiet])
        two = np.concatenate([quiet, np.repeat(half, 2, axis=1) + tiny * rng.standard_normal((40, 2)) * 1e-2])
        window = prices(np.hstack([one, two]))
        certificate = certify_largest(window)
        assert_sound(certificate, window)
        assert certificate.upper / certificate.lower - 1.0 <= 1e-11


def test_members_are_the_scanner_s() -> None:
    closes = factor_market(4, 60, 9)
    closes[55, 1] = np.nan
    closes[20, 2] = 0.0
    closes[59, 3] = -1.0
    closes[40, 4] = np.inf
    closes[9:, 5] = closes[9, 5]  # asleep in the whole window
    closes[:9, 6] = np.nan  # born just in time
    closes[:10, 7] = np.nan  # a bar too late
    window = closes[-51:]
    scanner = Scanner(9, 60.0)
    table = scanner.scan(minutes(60), closes)
    assert window_members(window) == [0, 6, 8]
    certificate = certify_largest(window)
    assert certificate.members == table.members[-1, 0] == 3
    assert check(float(table.largest_eigenvalue[-1, 0]), certificate)


def test_a_doubling_asset_does_not_move() -> None:
    assert window_members(np.column_stack([2.0 ** np.arange(10), 3.0 ** np.arange(10)])) == []
    assert window_members(np.column_stack([[1e-300, 1e300, 1e-300]])) == [0]


@pytest.mark.parametrize(
    ("window", "message"),
    [
        (np.ones((51, 3)), "none of 3 assets"),
        (np.full((51, 2), np.nan), "none of 2 assets"),
        (np.ones(5), "shape"),
        (np.ones((2, 2)), "shape"),
    ],
)
def test_what_has_no_certificate(window: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        certify_largest(window)


def test_precision_of_the_library_is_set_back() -> None:
    before = ctx.prec
    window = factor_market(5, 30, 3)
    wide, narrow = certify_largest(window, 128), certify_largest(window)
    with pytest.raises(DataError):
        certify_largest(np.ones((30, 3)))
    assert ctx.prec == before
    assert wide.bits == 128
    assert wide.radius > narrow.radius
    assert Fraction(wide.lower_text) <= Fraction(narrow.upper_text)


def test_the_prices_enter_exactly() -> None:
    """One unit in the last place of one price moves λ by far more than the interval is wide."""
    window = factor_market(6, 51, 4)
    moved = window.copy()
    moved[25, 1] = math.nextafter(moved[25, 1], math.inf)
    a, b = certify_largest(window), certify_largest(moved)
    assert Fraction(a.upper_text) < Fraction(b.lower_text) or Fraction(b.upper_text) < Fraction(a.lower_text)


def test_check_is_strict() -> None:
    certificate = certify_largest(factor_market(7, 60, 6))
    value = certificate.value_mid
    assert check(value, certificate)
    assert check(value * (1.0 + 9.9e-10), certificate)
    assert not check(value * (1.0 + 1.01e-9), certificate)
    assert not check(value * (1.0 - 1.01e-9), certificate)
    assert check(value * (1.0 + 1.01e-9), certificate, rel_tol=2e-9)
    for wrong in (math.nan, math.inf, -math.inf, 0.0, -value):
        assert not check(wrong, certificate)
    assert relative_distance(math.nan, certificate) == math.inf
    assert relative_distance(value * 1.5, certificate) == pytest.approx(0.5)


def test_a_wide_window_of_many_assets() -> None:
    window = factor_market(8, 751, 50)
    certificate = certify_largest(window)
    table = Scanner(50, 60.0).scan(np.arange(751, dtype=np.int64) * MINUTE, window)
    assert check(float(table.largest_eigenvalue[-1, -1]), certificate)
    assert certificate.radius <= 1e-140
