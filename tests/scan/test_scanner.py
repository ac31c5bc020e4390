"""The scanner: streaming equals batch, both equal the plain twin, and nothing looks ahead (SPEC §2)."""

from __future__ import annotations

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.scan.eigen import uses_rows_nb
from dolphin.scan.layout import WINDOWS
from dolphin.scan.scanner import Scanner, ScanTable
from tests.reference.markets import random_scan_case
from tests.reference.scanner_ref import Floats, Ints, reference_scan
from tests.scan.cases import (
    MINUTE,
    absolute,
    assert_causal,
    assert_same_bits,
    compare_at,
    factor_market,
    joined,
    minutes,
    part,
    prices,
    relative,
    scan,
    slid_eigenvalues,
)


def split(closes: Floats, ts: Ints, cuts: list[int]) -> ScanTable:
    """The same bars in several calls."""
    scanner = Scanner(closes.shape[1], 60.0)
    edges = [0, *sorted(cuts), len(closes)]
    return joined(scanner.scan(ts[a:b], closes[a:b]) for a, b in itertools.pairwise(edges))


def assert_matches_reference(closes: Floats, ts: Ints, bar_seconds: float = 60.0) -> ScanTable:
    """λ within 1e-9 relative, velocities within 1e-9, instability within 3e-7, members exactly."""
    table, want = scan(closes, ts, bar_seconds), reference_scan(closes, ts, bar_seconds)
    np.testing.assert_array_equal(table.members, want["count"])
    assert relative(table.largest_eigenvalue, want["lambda"]) <= 1e-9
    assert absolute(table.velocity, want["velocity"]) <= 1e-9
    assert absolute(table.vel_div, want["vel_div"]) <= 1e-9
    assert absolute(table.instability, want["instability"]) <= 3e-7
    np.testing.assert_array_equal(table.scan_number, np.arange(len(closes)))
    return table


@pytest.mark.parametrize("seed", range(8))
def test_random_cases_match_the_twin(seed: int) -> None:
    closes, ts = random_scan_case(seed, (1, 2, 3, 5, 8, 13, 20, 30)[seed], 1100)
    table = assert_matches_reference(closes, ts)
    assert np.isfinite(table.largest_eigenvalue).any()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 112))
def test_more_random_cases_match_the_twin(seed: int) -> None:
    closes, ts = random_scan_case(seed, 2 + seed % 17, 1800, bad_rate=0.003)
    assert_matches_reference(closes, ts)


def test_five_minute_bars_match_the_twin() -> None:
    closes, ts = random_scan_case(50, 6, 1000, bar_seconds=300.0)
    assert_matches_reference(closes, ts, 300.0)


@pytest.mark.jit_off
def test_a_short_case_matches_the_twin() -> None:
    closes = factor_market(1, 140, 5)
    closes[60:70, 2] = np.nan
    closes[90, 1] = 0.0
    table = assert_matches_reference(closes, minutes(140))
    assert np.isfinite(table.instability[:, 0]).sum() == 140 - 51


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 50), st.lists(st.integers(0, 900), max_size=12))
def test_any_split_gives_the_same_bits(seed: int, cuts: list[int]) -> None:
    closes, ts = random_scan_case(seed, 2 + seed % 9, 900, gap_rate=0.003)
    assert_same_bits(split(closes, ts, cuts), scan(closes, ts))


def test_one_bar_at_a_time_gives_the_same_bits() -> None:
    closes, ts = random_scan_case(4, 7, 2300, gap_rate=0.0)  # past a refresh of the sums, and a turn of the ring
    batch, scanner = scan(closes, ts), Scanner(7, 60.0)
    for t in range(len(closes)):
        bar = scanner.update(int(ts[t]), closes[t])
        assert (bar.ts_ns, bar.scan_number) == (ts[t], t)
        np.testing.assert_array_equal(bar.vel_div, batch.vel_div[t])
        np.testing.assert_array_equal(bar.velocity, batch.velocity[t])
        np.testing.assert_array_equal(bar.instability, batch.instability[t])
        np.testing.assert_array_equal(bar.largest_eigenvalue, batch.largest_eigenvalue[t])
        np.testing.assert_array_equal(bar.members, batch.members[t])


def test_updates_leave_their_input_alone() -> None:
    closes = factor_market(2, 80, 3)
    closes[10, 1] = -1.0
    kept, ts = closes.copy(), minutes(80)
    scan(closes, ts)
    np.testing.assert_array_equal(closes, kept)
    np.testing.assert_array_equal(ts, minutes(80))


def test_strided_and_integer_prices_are_taken() -> None:
    closes = np.round(factor_market(3, 120, 4) * 1000.0)
    assert_same_bits(scan(np.asfortranarray(closes)), scan(closes))
    assert_same_bits(scan(closes.astype(np.int64)), scan(closes))


def test_filling_and_scan_numbers() -> None:
    table = scan(factor_market(4, 760, 3))
    for k, window in enumerate(WINDOWS):
        assert np.flatnonzero(np.isfinite(table.largest_eigenvalue[:, k]))[0] == window  # W + 1 prices
        assert np.flatnonzero(np.isfinite(table.velocity[:, k]))[0] == window + 1  # W + 2 prices
        assert np.flatnonzero(np.isfinite(table.instability[:, k]))[0] == window + 1
        assert (table.members[:window, k] == 0).all()
        assert (table.members[window:, k] == 3).all()
    assert np.flatnonzero(np.isfinite(table.vel_div))[0] == 751
    assert table.scan_number.tolist() == list(range(760))


def test_bad_prices_of_every_kind_are_the_same() -> None:
    closes = factor_market(5, 900, 4)
    tables = []
    for bad in (np.nan, 0.0, -1.0, np.inf, -np.inf):
        spoilt = closes.copy()
        spoilt[200, 1] = spoilt[300:340, 2] = spoilt[500:, 3] = bad
        spoilt[:150, 0] = bad  # appears late
        tables.append(scan(spoilt))
    for other in tables[1:]:
        assert_same_bits(tables[0], other)
    nan = closes.copy()
    nan[200, 1] = nan[300:340, 2] = nan[500:, 3] = nan[:150, 0] = np.nan
    assert_matches_reference(nan, minutes(900))


@pytest.mark.parametrize("shape", [(0, 3), (1, 3), (2, 1)])
def test_next_to_no_input(shape: tuple[int, int]) -> None:
    table = scan(np.ones(shape))
    assert len(table.scan_number) == shape[0]
    assert np.isnan(table.vel_div).all()
    assert table.velocity.shape == (shape[0], 4)


def test_empty_calls_change_nothing() -> None:
    closes, ts = factor_market(6, 100, 2), minutes(100)
    assert_same_bits(split(closes, ts, [0, 0, 50, 50, 100]), scan(closes, ts))


def test_dead_and_sleeping_universes() -> None:
    for closes in (np.full((200, 3), np.nan), np.ones((200, 3)), np.zeros((200, 3))):
        table = scan(closes)
        assert np.isnan(table.largest_eigenvalue).all()
        assert (table.members == 0).all()


def test_one_asset() -> None:
    table = scan(factor_market(7, 300, 1))
    held = np.isfinite(table.largest_eigenvalue)
    np.testing.assert_allclose(table.largest_eigenvalue[held], 1.0, atol=1e-10)
    np.testing.assert_allclose(table.velocity[np.isfinite(table.velocity)], 0.0, atol=1e-10)


@pytest.mark.parametrize("assets", [2, 3, 10])
def test_identical_assets(assets: int) -> None:
    table = scan(np.repeat(factor_market(8, 900, 1), assets, axis=1))
    held = np.isfinite(table.largest_eigenvalue)
    assert held[50:, 0].all()
    np.testing.assert_allclose(table.largest_eigenvalue[held], assets, rtol=1e-10)
    np.testing.assert_allclose(table.instability[np.isfinite(table.instability)], 0.0, atol=1e-9)


def test_the_eigenvector_is_kept_with_its_sign_and_length() -> None:
    closes = factor_market(9, 400, 6, noise=3.0)
    returns = np.diff(np.log(closes), axis=0)
    scanner = Scanner(6, 60.0)
    for t in range(400):
        scanner.update(int(minutes(400)[t]), closes[t])
        if t >= 50 and t % 7 == 0:
            u = scanner._state.vector[0, :6]
            top = np.linalg.eigh(np.corrcoef(returns[t - 50 : t], rowvar=False))[1][:, -1]
            assert u.sum() >= 0.0
            np.testing.assert_allclose(u, top if top.sum() >= 0.0 else -top, atol=2e-5)


def test_gaps_restart_the_windows_and_short_ones_do_not() -> None:
    closes = factor_market(10, 400, 4)
    whole = scan(closes)
    for skipped in (1, 9):  # stamps two and ten bars apart
        ts = np.concatenate([minutes(200), minutes(200, 200 + skipped)])
        assert_same_bits(scan(closes, ts), whole)
    just_under = np.concatenate([minutes(200), minutes(200, 199) + int(10.5 * MINUTE)])
    assert_same_bits(scan(closes, just_under), whole)
    for skipped in (10, 150, 5000):
        table = scan(closes, np.concatenate([minutes(200), minutes(200, 200 + skipped)]))
        assert_same_bits(part(table, slice(0, 200)), part(whole, slice(0, 200)))
        assert_same_bits(part(table, slice(200, None)), scan(closes[200:]), numbers=False)
        assert table.scan_number.tolist() == list(range(400))


def test_stamps_must_increase() -> None:
    closes, ts = factor_market(11, 10, 2), minutes(10)
    for wrong in (ts[::-1], ts * 0, np.concatenate([ts[:5], ts[4:9]]), ts[[0, 2, 1, 3, 4, 5, 6, 7, 8, 9]]):
        with pytest.raises(ConfigError, match="must increase"):
            scan(closes, wrong.copy())
    scanner = Scanner(2, 60.0)
    scanner.scan(ts, closes)
    for again in (ts[-1], ts[-1] - 1):
        with pytest.raises(ConfigError, match="must increase"):
            scanner.update(int(again), closes[0])
    assert scanner.update(int(ts[-1]) + MINUTE, closes[0]).scan_number == 10  # what was refused left no trace


@pytest.mark.parametrize(
    ("assets", "bar", "message"), [(0, 60.0, "at least one"), (2, 0.0, "positive"), (2, float("nan"), "positive")]
)
def test_what_a_scanner_refuses(assets: int, bar: float, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scanner(assets, bar)
    with pytest.raises(ConfigError, match="shape"):
        Scanner(3, 60.0).scan(minutes(5), np.ones((5, 2)))


def leaky(ts: Ints, closes: Floats, *, ahead: int) -> ScanTable:
    """A scanner that looks ahead: prices are divided by their mean over the bars around them, later ones included."""
    filled = np.where(np.isfinite(closes) & (closes > 0.0), closes, 1.0)
    late = np.concatenate([filled[ahead:], np.repeat(filled[-1:], ahead, axis=0)])
    return scan(closes / np.sqrt(filled * late), ts)


def test_causality() -> None:
    closes, ts = random_scan_case(21, 6, 1300, gap_rate=0.001)
    cuts = np.random.default_rng(21).integers(60, 1299, 8)
    assert_causal(scan_at, ts, closes, cuts, seed=21)


@pytest.mark.parametrize("ahead", [1, 5])
def test_the_same_check_catches_a_leak(ahead: int) -> None:
    closes, ts = random_scan_case(22, 6, 500, gap_rate=0.0)
    with pytest.raises(AssertionError):
        assert_causal(functools.partial(leaky, ahead=ahead), ts, closes, [300], seed=22)


def scan_at(ts: Ints, closes: Floats) -> ScanTable:
    return scan(closes, ts)


def test_many_assets_are_solved_through_the_rows() -> None:
    assert [uses_rows_nb(w, 400) for w in WINDOWS] == [True, True, True, False]
    assert not any(uses_rows_nb(w, 50) for w in WINDOWS)
    closes = factor_market(12, 800, 400)
    closes[300:, 7] = np.nan
    table = scan(closes)
    values, velocities = compare_at(table, closes, minutes(800), [51, 300, 301, 799], 60.0)
    assert (values, velocities) == (1 + 3 + 3 + 4, 1 + 2 + 3 + 4)
    # 48 of the assets are solved through their products: the same market, the same eigenvalue.
    few = closes[:, :48]
    assert relative(scan(few).largest_eigenvalue[50:, 0], slid(few, 50)) <= 1e-9


def slid(closes: Floats, window: int) -> Floats:
    alive = np.isfinite(closes).all(axis=0)
    if alive.all():
        return slid_eigenvalues(closes, window)
    returns = np.diff(np.log(closes), axis=0)
    rows = [returns[t : t + window] for t in range(len(returns) - window + 1)]
    return np.array([np.linalg.eigvalsh(np.corrcoef(r[:, np.isfinite(r).all(axis=0)], rowvar=False))[-1] for r in rows])


def two_factor_market(seed: int, noise: float) -> Floats:
    """Two groups of ten assets that take turns at being the more correlated one: their eigenvectors overtake."""
    rng = np.random.default_rng([seed, 13])
    loads = np.kron(np.eye(2), np.ones((1, 10)))
    swing = 0.9 * np.sin(np.arange(2500) / 60.0)
    factors = rng.standard_normal((2500, 2)) * np.column_stack([1.0 + swing, 1.0 - swing])
    return prices((factors @ loads + noise * rng.standard_normal((2500, 20))) * 1e-3)


@pytest.mark.parametrize("noise", [1e-3, 0.1, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_eigenvectors_that_overtake_each_other(seed: int, noise: float) -> None:
    closes = two_factor_market(seed, noise)
    table = scan(closes)
    for k, window in enumerate(WINDOWS[:3]):
        assert relative(table.largest_eigenvalue[window:, k], slid_eigenvalues(closes, window)) <= 1e-9


@pytest.mark.parametrize("seed", range(6))
def test_a_runner_up_that_a_few_products_do_not_show(seed: int) -> None:
    """Two unequal groups with fat tails: the second eigenvalue comes and goes between a tenth and half of the first."""
    rng = np.random.default_rng([seed, 18])
    assets = int(rng.integers(8, 50))
    larger = int(assets * rng.uniform(0.6, 0.9))
    loads = np.zeros((2, assets))
    loads[0, :larger] = loads[1, larger:] = 1.0
    noise = rng.uniform(0.2, 1.5) * rng.standard_normal((1800, assets))
    closes = prices((rng.standard_t(3, (1800, 2)) @ loads + noise) * 1e-3)
    table = scan(closes)
    for k, window in enumerate(WINDOWS):
        want = slid_eigenvalues(closes, window)
        assert relative(table.largest_eigenvalue[window:, k], want) <= 1e-9
        assert absolute(table.velocity[window + 1 :, k], np.diff(np.log(want))) <= 1e-9


def test_prices_whose_ratio_is_no_number() -> None:
    closes = factor_market(19, 200, 3)
    closes[60, 1], closes[61, 1] = 1e-300, 1e300
    closes[62, 1] = 5e-324
    assert_matches_reference(closes, minutes(200))


@pytest.mark.parametrize("assets", [6, 40])
def test_markets_of_noise_alone(assets: int) -> None:
    for seed in range(2):
        closes = prices(np.random.default_rng([seed, 14]).standard_normal((1500, assets)) * 1e-3)
        table = scan(closes)
        for k, window in enumerate(WINDOWS[:3]):
            assert relative(table.largest_eigenvalue[window:, k], slid_eigenvalues(closes, window)) <= 1e-9


@pytest.mark.parametrize("factor", [2.0, 1e3, 1.0001])
def test_a_spike_that_enters_and_leaves(factor: float) -> None:
    closes = factor_market(15, 2000, 5)
    closes[700, 2] *= factor  # up at one bar, back at the next
    table = scan(closes)
    for k, window in enumerate(WINDOWS):
        assert relative(table.largest_eigenvalue[window:, k], slid_eigenvalues(closes, window)) <= 1e-9


def test_quiet_assets_beside_wild_ones() -> None:
    rng = np.random.default_rng(16)
    size = 10.0 ** np.linspace(-8.0, -1.5, 12)  # per bar: from a pegged coin to a crash every bar
    common = rng.standard_normal((1600, 1))
    closes = prices(np.clip((common + rng.standard_normal((1600, 12))) * size, -0.5, 0.5))
    table = scan(closes)
    for k, window in enumerate(WINDOWS):
        assert relative(table.largest_eigenvalue[window:, k], slid_eigenvalues(closes, window)) <= 1e-7
    assert np.isfinite(table.vel_div[751:]).all()


@pytest.mark.slow
def test_no_drift_in_a_hundred_thousand_bars() -> None:
    closes = factor_market(17, 100_000, 12)
    table = scan(closes)
    rng = np.random.default_rng(17)
    for start in [*rng.integers(2_000, 99_000, 12).tolist(), 99_000]:
        rows = slice(start, start + 1000)
        fresh = scan(closes[rows], minutes(1000))
        drifted = part(table, rows)
        for k, window in enumerate(WINDOWS):
            assert relative(drifted.largest_eigenvalue[window:, k], fresh.largest_eigenvalue[window:, k]) <= 1e-9
            moved = absolute(drifted.velocity[window + 1 :, k], fresh.velocity[window + 1 :, k])
            assert moved <= 1e-9
        want = [slid_eigenvalues(closes[start + 999 - w : start + 1000], w)[-1] for w in WINDOWS]
        np.testing.assert_allclose(table.largest_eigenvalue[start + 999], want, rtol=1e-9)
