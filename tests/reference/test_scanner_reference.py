"""Worked examples of the reference scanner: members, gaps, velocity across a change, instability (SPEC §2)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.reference.markets import random_scan_case
from tests.reference.scanner_ref import Floats, change, is_gap, log_return, log_returns, reference_scan, smoothed

near = pytest.approx
BAR_NS = 60_000_000_000


def stamps(*skips: tuple[int, int], rows: int) -> NDArray[np.int64]:
    """One stamp a minute; each (row, bars) leaves that many bars out before the row."""
    extra = np.zeros(rows, dtype=np.int64)
    for row, bars in skips:
        extra[row] = bars
    return (np.arange(rows, dtype=np.int64) + np.cumsum(extra)) * BAR_NS


def walk(seed: int, rows: int, assets: int) -> Floats:
    rng = np.random.default_rng(seed)
    common = rng.standard_normal((rows, 1))
    return np.asarray(
        100.0 * np.exp(np.cumsum((common + rng.standard_normal((rows, assets))) * 1e-3, axis=0)), dtype=np.float64
    )


def test_log_return() -> None:
    assert log_return(1.0, math.e) == 1.0
    assert log_return(2.0, 4.0) == log_return(8.0, 16.0) == math.log(2.0)
    for bad in (0.0, -1.0, math.nan, math.inf):
        assert math.isnan(log_return(bad, 1.0))
        assert math.isnan(log_return(1.0, bad))
    assert log_return(1e-300, 1e300) == near(600 * math.log(10.0))  # the ratio overflows, the return does not


def test_two_assets_by_hand() -> None:
    # Returns (1, 0, −1) and (1, −1, 0): each sums to 0, ρ = 1/(√2·√2) = ½, so λ = 1 + ½ and u = (1, 1)/√2.
    path = np.cumsum([[0.0, 0.0], [1.0, 1.0], [0.0, -1.0], [-1.0, 0.0]], axis=0)
    got = reference_scan(np.exp(path), stamps(rows=4), 60.0, windows=(3,))
    assert got["count"].ravel().tolist() == [0, 0, 0, 2]
    assert got["lambda"][3, 0] == near(1.5)
    assert got["loadings"][3, 0] == near([math.sqrt(0.5)] * 2)
    assert np.isnan(got["lambda"][:3]).all()
    assert np.isnan(got["velocity"]).all()


def test_opposite_assets_have_a_negative_correlation_s_vector() -> None:
    path = np.cumsum([[0.0, 0.0], [1.0, -1.0], [2.0, -2.0], [-3.0, 3.0], [1.0, -1.0]], axis=0)
    got = reference_scan(np.exp(path), stamps(rows=5), 60.0, windows=(3,))
    assert got["lambda"][3:, 0] == near(2.0)
    assert got["velocity"][4, 0] == near(0.0, abs=1e-12)
    assert np.abs(got["loadings"][4, 0]) == near([math.sqrt(0.5)] * 2)


def test_one_asset() -> None:
    got = reference_scan(walk(1, 12, 1), stamps(rows=12), 60.0, windows=(5,))
    assert got["lambda"][5:, 0].tolist() == [1.0] * 7
    assert got["velocity"][6:, 0].tolist() == [0.0] * 6
    assert got["instability"][6:, 0].tolist() == [0.0] * 6


def test_first_usable_bar() -> None:
    got = reference_scan(walk(2, 30, 4), stamps(rows=30), 60.0, windows=(5, 20))
    for column, window in ((0, 5), (1, 20)):
        assert np.flatnonzero(np.isfinite(got["lambda"][:, column]))[0] == window  # W + 1 prices
        assert np.flatnonzero(np.isfinite(got["velocity"][:, column]))[0] == window + 1  # W + 2 prices
        assert np.flatnonzero(np.isfinite(got["instability"][:, column]))[0] == window + 1
    assert np.flatnonzero(np.isfinite(got["vel_div"]))[0] == 21
    expected = got["velocity"][:, 0] - got["velocity"][:, 1]
    np.testing.assert_array_equal(got["vel_div"], expected)


def test_lambda_is_numpy_s() -> None:
    closes = walk(3, 40, 6)
    got = reference_scan(closes, stamps(rows=40), 60.0, windows=(10,))
    returns = np.diff(np.log(closes), axis=0)
    for t in range(10, 40):
        values = np.linalg.eigvalsh(np.corrcoef(returns[t - 10 : t], rowvar=False))
        assert got["lambda"][t, 0] == near(values[-1], rel=1e-11)


def test_a_missing_price_costs_two_returns() -> None:
    closes = walk(4, 40, 3)
    closes[15, 1] = 0.0
    got = reference_scan(closes, stamps(rows=40), 60.0, windows=(5,))
    # Returns 15 and 16 are missing, so windows ending at 15 … 20 lack asset 1.
    assert got["count"][5:, 0].tolist() == [3] * 10 + [2] * 6 + [3] * 19
    assert np.isnan(got["loadings"][15:21, 0, 1]).all()


def test_an_asleep_asset_leaves_the_window() -> None:
    closes = walk(5, 40, 3)
    closes[10:20, 2] = closes[10, 2]  # returns 11 … 19 are zero: windows ending at 15 … 19
    got = reference_scan(closes, stamps(rows=40), 60.0, windows=(5,))
    assert got["count"][5:, 0].tolist() == [3] * 10 + [2] * 5 + [3] * 20
    doubling = closes.copy()
    doubling[10:20, 2] = 2.0 ** np.arange(10)
    assert reference_scan(doubling, stamps(rows=40), 60.0, windows=(5,))["count"][15, 0] == 2


def test_velocity_across_a_change_compares_the_common_members() -> None:
    closes = walk(6, 30, 4)
    closes[20, 3] = math.nan  # asset 3 leaves at row 20, and is back at row 26
    got = reference_scan(closes, stamps(rows=30), 60.0, windows=(5,))
    alone = reference_scan(closes[:, :3], stamps(rows=30), 60.0, windows=(5,))
    assert got["lambda"][20:26] == near(alone["lambda"][20:26])
    assert got["velocity"][20:27] == near(alone["velocity"][20:27])
    assert got["lambda"][26, 0] != near(alone["lambda"][26, 0])  # what is reported is the full set
    jump = math.log(got["lambda"][26, 0]) - math.log(got["lambda"][25, 0])
    assert got["velocity"][26, 0] != near(jump)


def test_no_common_members_gives_nan_and_keeps_the_average() -> None:
    closes = walk(7, 40, 1)
    closes[20, 0] = math.inf
    got = reference_scan(closes, stamps(rows=40), 60.0, windows=(5,))
    assert got["count"][19:28, 0].tolist() == [1, 0, 0, 0, 0, 0, 0, 1, 1]
    assert np.isnan(got["velocity"][20:27]).all()
    assert np.isnan(got["instability"][20:27]).all()
    assert got["velocity"][27, 0] == 0.0


def test_gaps() -> None:
    assert not is_gap(0, 10 * BAR_NS, 60.0)
    assert not is_gap(0, int(10.5 * BAR_NS), 60.0)
    assert is_gap(0, 11 * BAR_NS, 60.0)
    closes = walk(8, 40, 3)
    np.testing.assert_array_equal(
        reference_scan(closes, stamps((20, 9), rows=40), 60.0, windows=(5,))["lambda"],
        reference_scan(closes, stamps(rows=40), 60.0, windows=(5,))["lambda"],
    )
    got = reference_scan(closes, stamps((20, 10), rows=40), 60.0, windows=(5,))
    fresh = reference_scan(closes[20:], stamps(rows=20), 60.0, windows=(5,))
    for name in ("lambda", "count", "velocity", "instability", "loadings"):
        np.testing.assert_array_equal(got[name][20:], fresh[name])  # as if nothing had been before
    assert np.isnan(log_returns(closes, stamps((20, 10), rows=40), 60.0)[20]).all()


def test_change_by_hand() -> None:
    now, before = (2.0, np.array([0.6, 0.8])), (1.5, np.array([0.8, -0.6]))
    assert change(now, before) == near((math.log(2.0 / 1.5), 0.25 + 1.0 - 0.0))
    assert change((1.5, np.array([1.0, 0.0])), (1.5, np.array([-1.0, 0.0]))) == (0.0, 0.0)


def test_smoothed_by_hand() -> None:
    nan = math.nan
    terms = [nan, 4.0, 1.0, nan, 4.0, 2.0, 5.0]  # window 10: alpha 2/3
    restarts = [False, False, False, False, False, True, False]
    assert smoothed(terms, restarts, 10) == near([nan, 4.0, 2.0, nan, 10 / 3, 2.0, 4.0], nan_ok=True)


def test_random_cases_are_reproducible_and_eventful() -> None:
    gaps = changes = 0
    for seed in range(6):
        closes, ts = random_scan_case(seed, 6, 300, bad_rate=0.01)
        again, same = random_scan_case(seed, 6, 300, bad_rate=0.01)
        np.testing.assert_array_equal(closes, again)
        np.testing.assert_array_equal(ts, same)
        got = reference_scan(closes, ts, 60.0, windows=(20, 50))
        held = np.isfinite(got["lambda"])
        assert (got["lambda"][held] >= 1.0 - 1e-12).all()
        assert (got["lambda"][held] <= got["count"][held] + 1e-9).all()
        assert (np.nansum(got["loadings"], axis=2) >= 0.0).all()
        norms = np.nansum(got["loadings"] ** 2, axis=2)
        assert norms[held] == near(np.ones(int(held.sum())))
        gaps += sum(is_gap(int(a), int(b), 60.0) for a, b in itertools.pairwise(ts))
        changes += int((np.diff(got["count"], axis=0) != 0).sum())
    assert gaps > 0
    assert changes > 20
