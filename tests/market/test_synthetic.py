"""The synthetic market: deterministic, extendable, and restless enough for every rule to have something to do."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import Iterable
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.clock import NS_PER_S, date_start_ns, ns_to_date
from dolphin.core.errors import ConfigError
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.market.synthetic_paths import Segment, ar1, day_pattern, fat_tailed, regime_levels
from dolphin.market.synthetic_universe import MAX_ASSETS, universe
from dolphin.market.tables import PriceDay


def fingerprint(days: Iterable[PriceDay]) -> str:
    digest = hashlib.sha256()
    for day in days:
        digest.update(f"{day.day}|{','.join(day.assets)}".encode())
        digest.update(day.ts_ns.tobytes())
        digest.update(day.closes.tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def market() -> list[PriceDay]:
    return list(make_market(MarketSpec()))


@pytest.fixture(scope="module")
def returns(market: list[PriceDay]) -> np.ndarray:
    """Log returns of the assets that always have a price, (T, n)."""
    closes = np.vstack([day.closes for day in market])
    return np.diff(np.log(closes[:, ~np.isnan(closes).any(axis=0)]), axis=0)


def largest_share(returns: np.ndarray, window: int, step: int) -> np.ndarray:
    """Largest eigenvalue of the rolling correlation matrix over the number of assets."""
    ends = range(window, len(returns) + 1, step)
    return np.array([np.linalg.eigvalsh(np.corrcoef(returns[e - window : e].T))[-1] for e in ends]) / returns.shape[1]


def test_same_seed_same_bytes_and_another_seed_other_bytes() -> None:
    spec = MarketSpec(days=2, assets=6)
    assert fingerprint(make_market(spec)) == fingerprint(make_market(MarketSpec(days=2, assets=6)))
    assert fingerprint(make_market(spec)) != fingerprint(make_market(MarketSpec(days=2, assets=6, seed=8)))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**64 - 1),
    few=st.integers(1, 4),
    more=st.integers(1, 3),
    assets=st.integers(1, 9),
    bar_seconds=st.sampled_from([300, 900, 3600]),
)
def test_days_do_not_depend_on_how_many_follow(seed: int, few: int, more: int, assets: int, bar_seconds: int) -> None:
    short = MarketSpec(days=few, assets=assets, bar_seconds=bar_seconds, seed=seed)
    long = MarketSpec(days=few + more, assets=assets, bar_seconds=bar_seconds, seed=seed)
    assert fingerprint(make_market(short)) == fingerprint(list(make_market(long))[:few])


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    assets=st.integers(1, 60),
    bar_seconds=st.sampled_from([60, 240, 3600]),
    start=st.dates(date(1971, 1, 1), date(2200, 1, 1)),
)
def test_every_day_keeps_the_contract_of_a_price_day(seed: int, assets: int, bar_seconds: int, start: date) -> None:
    spec = MarketSpec(days=4, assets=assets, bar_seconds=bar_seconds, seed=seed, start=start)
    days = list(make_market(spec))
    assert [(d.day - start).days for d in days] == [0, 1, 2, 3]
    for day in days:
        assert day.closes.flags.c_contiguous
        assert day.closes.dtype == np.float64
        assert day.ts_ns.dtype == np.int64
        assert day.closes.shape == (day.rows, assets)
        assert (np.diff(day.ts_ns) > 0).all()
        assert np.all((day.ts_ns - date_start_ns(day.day)) % (bar_seconds * NS_PER_S) == 0)
        assert ns_to_date(int(day.ts_ns[0])) == ns_to_date(int(day.ts_ns[-1])) == day.day
        assert np.isfinite(day.closes[:, 0]).all()
        prices = day.closes[np.isfinite(day.closes)]
        assert (prices > 0).all()


def test_prices_lie_on_ticks(market: list[PriceDay]) -> None:
    decimals = universe(48).decimals
    for day in market:
        for k in range(48):
            column = day.closes[:, k]
            column = column[np.isfinite(column)]
            assert [float(f"{x:.{decimals[k]}f}") for x in column[::97]] == column[::97].tolist()


def test_the_table_is_of_distinct_usdt_perpetuals_and_goes_on_beyond_itself() -> None:
    names = universe(MAX_ASSETS).assets
    assert len(set(names)) == MAX_ASSETS
    assert names[0] == "BTCUSDT"
    assert "ETHUSDT" in names
    assert all(name.endswith("USDT") and name.isalnum() and name.isupper() for name in names)
    assert not any(name.startswith("SYN") for name in names[:48])
    assert universe(5).assets == names[:5]


def test_tails_are_fat(returns: np.ndarray) -> None:
    z = (returns - returns.mean(axis=0)) / returns.std(axis=0)
    kurtosis = (z**4).mean(axis=0)
    assert kurtosis.min() > 6.0  # a normal market has 3
    assert np.median(returns.std(axis=0)) * 1e4 == pytest.approx(12.0, abs=5.0)  # bps a minute


def test_volatility_clusters(returns: np.ndarray) -> None:
    size = np.abs(returns)
    for lag in (1, 10, 60):
        here, later = size[:-lag], size[lag:]
        memory = np.array([np.corrcoef(here[:, k], later[:, k])[0, 1] for k in range(size.shape[1])])
        assert np.median(memory) > 0.08, lag
    # ... while the returns themselves, the crash day left out, hardly remember anything.
    quiet = returns[2 * 1440 :]
    plain = [np.corrcoef(quiet[:-1, k], quiet[1:, k])[0, 1] for k in range(quiet.shape[1])]
    assert abs(np.median(plain)) < 0.03


def test_correlation_really_moves(returns: np.ndarray) -> None:
    short, long = largest_share(returns, 50, 10), largest_share(returns, 750, 50)
    low, mid, high = np.percentile(short, [5, 50, 95])
    assert low < 0.25
    assert 0.3 < mid < 0.6
    assert high > 0.6
    assert long.max() - long.min() > 0.3


@pytest.mark.parametrize("seed", [1, 7, 2024])
def test_the_crash_is_deep_common_and_partly_undone(seed: int) -> None:
    day = list(make_market(MarketSpec(days=2, seed=seed)))[1]
    log_btc = np.log(day.closes[:, 0])
    falls = log_btc[30:] - log_btc[:-30]
    first = int(np.argmin(falls))
    assert -0.13 < falls[first] < -0.05
    assert 0.2 < (log_btc[first + 150] - log_btc[first + 30]) / -falls[first] < 0.9
    window = np.diff(np.log(day.closes[first - 10 : first + 41]), axis=0)
    assert largest_share(window, 50, 1)[0] > 0.9
    end = np.log(day.closes[first + 30] / day.closes[first])
    assert np.nanmax(end) < -0.03  # nobody was spared


def test_the_outage_is_a_gap_of_forty_minutes_for_everyone(market: list[PriceDay]) -> None:
    stamps = np.concatenate([day.ts_ns for day in market])
    steps = np.diff(stamps) // NS_PER_S
    assert sorted(set(steps.tolist())) == [60, 2460]
    assert int((steps == 2460).sum()) == 1
    whole = list(make_market(MarketSpec(outage=False)))
    assert [day.rows for day in whole] == [1440] * 5
    kept = np.isin(whole[2].ts_ns, market[2].ts_ns)
    assert np.array_equal(whole[2].closes[kept], market[2].closes, equal_nan=True)


def test_one_asset_is_listed_midway_and_two_lose_their_price(market: list[PriceDay]) -> None:
    closes = np.vstack([day.closes for day in market])
    missing = np.isnan(closes)
    assert missing[: 1440 // 2, -1].all()
    assert not missing[1440 // 2 :, -1].any()
    spells = missing[:, :-1]
    assert len(np.flatnonzero(spells.any(axis=0))) == 2
    assert (spells.sum(axis=0)[spells.any(axis=0)] > 100).all()


def test_bars_of_five_seconds() -> None:
    days = list(make_market(MarketSpec(days=3, assets=5, bar_seconds=5)))
    assert [day.rows for day in days] == [17_280, 17_280, 17_280 - 480]
    assert set(np.diff(days[0].ts_ns).tolist()) == {5 * NS_PER_S}


def test_memory_is_that_of_one_day() -> None:
    def peak(days: int) -> int:
        tracemalloc.start()
        for _ in make_market(MarketSpec(days=days, assets=10)):
            pass
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    peak(2)
    assert peak(12) < 1.1 * peak(3)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"days": 0}, "days=0"),
        ({"assets": 0}, "assets=0"),
        ({"assets": MAX_ASSETS + 1}, "assets="),
        ({"bar_seconds": 7}, "does not divide a day"),
        ({"bar_seconds": 7200}, "bar_seconds=7200"),
        ({"seed": -1}, "seed=-1"),
        ({"start": date(2262, 1, 1)}, "start=2262"),
    ],
)
def test_a_spec_out_of_range_is_refused(wrong: dict[str, int], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        MarketSpec(**wrong)  # type: ignore[arg-type]


def test_autoregression_matches_its_recurrence() -> None:
    noise = np.array([[1.0, -2.0], [0.5, 0.0], [0.0, 4.0]])
    assert ar1(noise, np.array([2.0, 0.0]), 0.5).tolist() == [[2.0, -2.0], [1.5, -1.0], [0.75, 3.5]]


def test_fat_tailed_draws_have_unit_variance_and_a_bound() -> None:
    draws = fat_tailed(np.random.default_rng(3), (200_000,), 5.0)
    assert draws.std() == pytest.approx(1.0, abs=0.03)
    assert np.abs(draws).max() <= 15.0


def test_the_day_pattern_averages_to_one() -> None:
    pattern = day_pattern(1440)
    assert pattern.mean() == pytest.approx(1.0, abs=0.05)
    assert pattern[15 * 60] > 1.4 * pattern[4 * 60]


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), cuts=st.lists(st.integers(1, 400), min_size=1, max_size=5))
def test_regime_levels_stay_in_bounds_and_change_both_slowly_and_at_once(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    segment = Segment(0.2, 0.2, 1, 60)
    pieces = []
    for bars in cuts:
        levels, segment = regime_levels(rng, segment, bars)
        assert levels.shape == (bars,)
        pieces.append(levels)
    whole = np.concatenate(pieces)
    assert whole.min() >= 0.0
    assert whole.max() <= 1.0
    long, _ = regime_levels(rng, segment, 60_000)
    steps = np.abs(np.diff(long))
    assert steps.max() > 0.2  # abrupt
    assert 0.0 < np.percentile(steps[steps > 0], 50) < 0.02  # smooth
