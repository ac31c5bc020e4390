"""The scanner on recorded markets: against the twin at sampled bars, through outages and late listings (SPEC §2)."""

from __future__ import annotations

import itertools
from datetime import date

import numpy as np
import pytest

from dolphin.scan.certify import certify_largest, check
from dolphin.scan.layout import WINDOWS
from dolphin.scan.scanner import Scanner, ScanTable
from tests.reference.scanner_ref import Floats, Ints, reference_scan
from tests.scan.cases import (
    absolute,
    assert_causal,
    assert_same_bits,
    compare_at,
    joined,
    recorded_days,
    relative,
    scan,
)

MARKETS = {
    "outage": ("spot_1m_2021", date(2021, 4, 19), date(2021, 4, 21)),
    "calm": ("spot_1m_2021", date(2021, 4, 5), date(2021, 4, 6)),
    "late listings": ("perp_1m_2025", date(2025, 5, 8), date(2025, 5, 10)),
    "five minutes": ("perp_5m_2023", date(2023, 7, 3), date(2023, 7, 9)),
}
Market = tuple[Ints, Floats, float]


@pytest.fixture(params=list(MARKETS))
def market(request: pytest.FixtureRequest) -> Market:
    return recorded_days(*MARKETS[request.param])


def test_sampled_bars_match_the_twin(market: Market) -> None:
    ts, closes, bar_seconds = market
    table = scan(closes, ts, bar_seconds)
    members = table.members
    changed = np.flatnonzero((np.diff(members, axis=0) != 0).any(axis=1)) + 1
    rng = np.random.default_rng(1)
    drawn = rng.integers(60, len(ts), 40)
    eventful = rng.choice(changed, min(15, len(changed)), replace=False)
    bars = sorted({int(t) for t in [*drawn, *eventful, len(ts) - 1]})
    values, velocities = compare_at(table, closes, ts, bars, bar_seconds)
    assert values >= 100
    assert velocities >= 90


def test_every_bar_of_some_assets_matches_the_twin() -> None:
    """Instability needs every bar before, so the twin runs over all of them: a dozen assets, with the outage inside."""
    ts, closes, bar_seconds = recorded_days("spot_1m_2021", date(2021, 4, 19), date(2021, 4, 20), 12)
    table, want = scan(closes, ts, bar_seconds), reference_scan(closes, ts, bar_seconds)
    np.testing.assert_array_equal(table.members, want["count"])
    assert relative(table.largest_eigenvalue, want["lambda"]) <= 1e-9
    assert absolute(table.velocity, want["velocity"]) <= 1e-9
    assert absolute(table.instability, want["instability"]) <= 3e-7


def test_the_outage_restarts_the_windows() -> None:
    ts, closes, bar_seconds = recorded_days(*MARKETS["outage"])
    steps = np.diff(ts) / (bar_seconds * 1e9)
    back = int(np.argmax(steps)) + 1
    assert steps[back - 1] == 151.0  # 02:00 to 04:29 are missing
    table = scan(closes, ts, bar_seconds)
    assert np.isfinite(table.vel_div[back - 1])
    assert np.isnan(table.vel_div[back : back + 751]).all()
    assert np.isfinite(table.vel_div[back + 751])
    assert (table.members[back] == 0).all()
    after = slice(back, None)
    fresh = scan(closes[after], ts[after], bar_seconds)
    assert_same_bits(ScanTable(*(c[after] for c in table)), fresh, numbers=False)


def test_late_listings_join_their_windows_one_by_one() -> None:
    ts, closes, bar_seconds = recorded_days(*MARKETS["late listings"])
    born = np.argmax(np.isfinite(closes), axis=0)
    late = np.flatnonzero(born > 750)
    assert len(late) > 0
    table = scan(closes, ts, bar_seconds)
    last = int(born[late].max())
    for k, window in enumerate(WINDOWS):
        if last + window < len(ts):
            assert table.members[last + window, k] > table.members[last - 1, k]
    assert np.isfinite(table.velocity[last : last + 60, 0]).all()  # joining costs no velocity


def test_streaming_equals_batch(market: Market) -> None:
    ts, closes, bar_seconds = market
    rng = np.random.default_rng(2)
    scanner = Scanner(closes.shape[1], bar_seconds)
    edges = [0, *np.sort(rng.integers(0, len(ts), 20)).tolist(), len(ts)]
    pieces = [scanner.scan(ts[a:b], closes[a:b]) for a, b in itertools.pairwise(edges)]
    assert_same_bits(joined(pieces), scan(closes, ts, bar_seconds))


def test_causality(market: Market) -> None:
    ts, closes, bar_seconds = market
    cuts = np.random.default_rng(3).integers(800, len(ts) - 1, 3)
    assert_causal(lambda stamps, p: scan(p, stamps, bar_seconds), ts, closes, cuts, seed=3)


def test_certificates_agree(market: Market) -> None:
    ts, closes, bar_seconds = market
    table = scan(closes, ts, bar_seconds)
    full = np.flatnonzero(np.isfinite(table.largest_eigenvalue[:, -1]))
    for t in np.random.default_rng(4).choice(full, 2, replace=False):
        for k, window in enumerate(WINDOWS):
            certificate = certify_largest(closes[t - window : t + 1])
            assert certificate.members == table.members[t, k]
            assert check(float(table.largest_eigenvalue[t, k]), certificate)
