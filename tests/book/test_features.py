"""How long features live: gaps, late assets, feeds that stop, repeat or go dark; and what is refused (SPEC §8, §23)."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import CACHE_BARS, DARK_BARS, BookStatus
from dolphin.book.providers import ArrayBookProvider, MockBookProvider
from dolphin.book.snapshots import make_snapshot
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.records import Record
from tests.book.cases import DAY, START_S, Scripted, even, ns, play, stamps

near = pytest.approx
pytestmark = pytest.mark.jit_off
ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")


@pytest.fixture
def provider() -> Scripted:
    return Scripted()


@pytest.fixture
def engine(provider: Scripted) -> OBFeatureEngine:
    return OBFeatureEngine(ASSETS, provider)


def at(bar: int, **options: float) -> Record:
    """An even book stamped at its bar."""
    return even(START_S + bar, **options)


def dark(bar: int) -> Record:
    return make_snapshot(START_S + bar, np.zeros(5), np.zeros(5))


# --- staleness


def test_features_are_held_for_twelve_bars_and_then_lost(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 0, BTCUSDT=at(0), ETHUSDT=at(0))
    for bar in range(1, 13):
        market, books = play(engine, provider, bar, ETHUSDT=at(bar))
        assert books.usable.tolist() == [1, 1, 0]
        assert books.bar.tolist() == [0, bar, -1]
        assert engine.status("BTCUSDT") == BookStatus.HELD
        assert market.assets == 2
    market, books = play(engine, provider, 13, ETHUSDT=at(13))
    assert books.usable.tolist() == [0, 1, 0]
    assert market.assets == 1
    assert [engine.status(a) for a in ASSETS] == [BookStatus.STALE, BookStatus.FRESH, BookStatus.MISSING]
    assert engine.get_placement("BTCUSDT") is None
    held = engine.get_placement("BTCUSDT", 12)
    assert held is not None
    assert held.depth_1pct_usd == 1e6


def test_the_market_is_held_and_lost_likewise(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 0, BTCUSDT=at(0, lean=0.3))
    for bar in range(1, 13):
        market, _ = play(engine, provider, bar)
        assert (market.usable, market.bar) == (1, 0)
    assert engine.get_market_multiplier(1) == near(1.2)
    market, books = play(engine, provider, 13)
    assert market.usable == 0
    assert not books.usable.any()
    assert engine.get_macro() is None
    assert engine.get_market() is None
    assert engine.get_market_multiplier(1) == 1.0


def test_held_features_do_not_answer_for_twelve_more_bars(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 0, BTCUSDT=at(0))
    play(engine, provider, 9)
    assert engine.get_placement("BTCUSDT", 12) is not None
    assert engine.resolve_bar(13) == 9
    assert engine.get_placement("BTCUSDT", 13) is None, "bar 9's are those of bar 0"
    assert engine.get_macro(13) is None


def test_a_book_that_comes_back_begins_its_histories_anew(engine: OBFeatureEngine, provider: Scripted) -> None:
    for bar in range(6):
        play(engine, provider, bar, BTCUSDT=at(bar, depth_usd=1e6, lean=-0.4))
    _, books = play(engine, provider, 40, BTCUSDT=at(40, depth_usd=1e5, lean=0.2))
    assert books[0].withdrawal_velocity == 0.0, "nobody saw the depth go"
    assert books[0].imbalance_ma5 == near(0.2)
    assert books[0].imbalance_persistence == 1.0
    assert books[0].depth_quality == near(1e5 / (0.99e6 + 1e3)), "what is usual is remembered"
    macro = engine.get_macro()
    assert macro is not None
    assert (macro.depth_velocity, macro.acceleration) == (0.0, 0.0)


def test_a_gap_that_is_spanned_keeps_them(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 0, BTCUSDT=at(0, depth_usd=1e6))
    _, books = play(engine, provider, 12, BTCUSDT=at(12, depth_usd=4e5))
    assert books[0].withdrawal_velocity == near(-0.6)


def test_a_feed_that_repeats_itself_has_stopped(engine: OBFeatureEngine, provider: Scripted) -> None:
    frozen = at(0)
    for bar in range(13):
        _, books = play(engine, provider, bar, BTCUSDT=frozen)
        assert books[0].usable == 1
    assert engine.empty_bars == 12
    _, books = play(engine, provider, 13, BTCUSDT=frozen)
    assert books[0].usable == 0
    assert engine.counts == {"taken": 1, "repeated": 13, "too_old": 0, "refused": 0}


def test_an_older_snapshot_is_not_taken_back(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 5, BTCUSDT=at(5, depth_usd=1e6))
    _, books = play(engine, provider, 6, BTCUSDT=at(4, depth_usd=5e5))
    assert books[0].depth_1pct_usd == 1e6


def test_a_snapshot_from_before_the_start_is_too_old(provider: Scripted) -> None:
    engine = OBFeatureEngine(ASSETS, provider, max_age_s=30.0)
    _, books = play(engine, provider, 100, BTCUSDT=at(70), ETHUSDT=at(69))
    assert books.usable.tolist() == [1, 0, 0]
    assert engine.counts["too_old"] == 1
    assert engine.status("ETHUSDT") == BookStatus.MISSING


def test_a_snapshot_ahead_of_the_clock_is_live_s_own(engine: OBFeatureEngine, provider: Scripted) -> None:
    # An exchange's clock may run ahead of ours by a second; live, what has come has come.
    _, books = play(engine, provider, 0, BTCUSDT=even(START_S + 1.27))
    assert books[0].usable == 1


@pytest.mark.parametrize("ahead_s", [61.0, 1e12, math.inf])
def test_a_stamp_from_far_ahead_does_not_blind_the_book(
    engine: OBFeatureEngine, provider: Scripted, ahead_s: float
) -> None:
    _, books = play(engine, provider, 0, BTCUSDT=even(START_S + ahead_s))
    assert books[0].usable == 0
    assert engine.counts["refused"] == 1
    _, books = play(engine, provider, 1, BTCUSDT=at(1))
    assert books[0].usable == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -5.0])
def test_a_torn_snapshot_says_nothing(engine: OBFeatureEngine, provider: Scripted, bad: float) -> None:
    play(engine, provider, 0, BTCUSDT=at(0))
    torn = at(1, depth_usd=7e5)
    torn.ask_notional[3] = bad
    _, books = play(engine, provider, 1, BTCUSDT=torn)
    assert (books[0].bar, books[0].depth_1pct_usd) == (0, 1e6)
    assert engine.counts["refused"] == 1
    _, books = play(engine, provider, 2, BTCUSDT=at(1, depth_usd=7e5))
    assert books[0].withdrawal_velocity == near(-0.3), "the sound one of the same stamp is taken"


def test_an_empty_book_trades_nothing_and_becomes_stale_data(provider: Scripted) -> None:
    told: list[str] = []
    engine = OBFeatureEngine(ASSETS, provider, on_warning=told.append)
    play(engine, provider, 0, BTCUSDT=at(0), ETHUSDT=at(0, lean=0.1))
    for bar in range(1, DARK_BARS):
        market, books = play(engine, provider, bar, BTCUSDT=dark(bar), ETHUSDT=at(bar, lean=0.1))
        assert (books[0].usable, books[0].depth_quality, books[0].fill_probability) == (1, 0.0, 0.0)
        assert market.assets == 2
        assert engine.status("BTCUSDT") == BookStatus.FRESH
    assert told == []
    market, books = play(engine, provider, 10, BTCUSDT=dark(10), ETHUSDT=at(10, lean=0.1))
    assert engine.status("BTCUSDT") == BookStatus.STALE_DATA
    assert books[0].depth_quality == 0.0, "no entry into nothing: OB-1 refuses under 0.20"
    assert (market.assets, market.median_imbalance) == (1, near(0.1))
    assert len(told) == 1
    assert "STALE_DATA" in told[0]
    assert "BTCUSDT" in told[0]
    play(engine, provider, 11, BTCUSDT=dark(11))
    assert len(told) == 1
    assert engine.depth_reference("BTCUSDT") == 1e6
    _, books = play(engine, provider, 12, BTCUSDT=at(12))
    assert engine.status("BTCUSDT") == BookStatus.FRESH
    assert (books[0].depth_quality, books[0].withdrawal_velocity) == (1.0, 0.0)


def test_when_every_book_is_dark_there_is_no_market(engine: OBFeatureEngine, provider: Scripted) -> None:
    for bar in range(DARK_BARS):
        market, _ = play(engine, provider, bar, BTCUSDT=dark(bar))
        assert market.usable == int(bar < DARK_BARS - 1)
    assert (market.assets, market.agreement, market.regime_signal) == (0, 0.0, 0)


def test_an_asset_that_comes_or_goes_does_not_move_the_mean_depth(engine: OBFeatureEngine, provider: Scripted) -> None:
    for bar in range(3):
        play(engine, provider, bar, ETHUSDT=at(bar, depth_usd=1e5))
    market, _ = play(engine, provider, 3, ETHUSDT=at(3, depth_usd=1e5), BTCUSDT=at(3, depth_usd=1e8))
    assert market.depth_velocity == 0.0
    for bar in range(4, 7):
        market, _ = play(engine, provider, bar, ETHUSDT=at(bar, depth_usd=9e4), BTCUSDT=at(bar, depth_usd=1e8))
        assert market.depth_velocity == near(-0.1), "bars before 3 know no BTCUSDT"
    for bar in (7, 8):
        market, _ = play(engine, provider, bar, ETHUSDT=at(bar, depth_usd=9e4), BTCUSDT=at(bar, depth_usd=1e8))
    assert market.depth_velocity == near(1.0009e8 / 1.001e8 - 1.0)


def test_acceleration_is_the_first_difference(engine: OBFeatureEngine, provider: Scripted) -> None:
    velocities = []
    for bar, depth in enumerate([1e6, 9e5, 7e5, 8e5]):
        market, _ = play(engine, provider, bar, BTCUSDT=at(bar, depth_usd=depth))
        velocities.append(float(market.depth_velocity))
        if bar:
            assert market.acceleration == velocities[-1] - velocities[-2]
    assert velocities == near([0.0, -0.1, -0.3, -0.2])


def test_a_bar_that_is_not_on_the_shelf_is_answered_by_the_one_before(
    engine: OBFeatureEngine, provider: Scripted
) -> None:
    for bar in (3, 4, 8):
        play(engine, provider, bar, BTCUSDT=at(bar))
    assert [engine.resolve_bar(bar) for bar in (2, 3, 4, 5, 7, 8, 9)] == [None, 3, 4, 4, 4, 8, 8]
    play(engine, provider, 8 + CACHE_BARS, BTCUSDT=at(8 + CACHE_BARS))
    assert engine.resolve_bar(8) is None, "500 bars later it has gone, whoever stands in its row"


def test_what_the_engine_is_shown_at_a_bar_can_be_asked_again(engine: OBFeatureEngine, provider: Scripted) -> None:
    for bar in range(20):
        market, books = play(engine, provider, bar, BTCUSDT=at(bar, lean=bar / 40.0), ETHUSDT=at(bar))
    for name in ("median_imbalance", "agreement", "depth_pressure", "cascade_count", "depth_velocity", "acceleration"):
        assert getattr(engine.get_macro(19), name) == market[name]
    for features in (engine.get_placement("BTCUSDT"), engine.get_signal("BTCUSDT")):
        assert features is not None
        for name in features.__struct_fields__:
            assert getattr(features, name) == books[0][name]


def test_only_the_assets_named_are_asked_for(engine: OBFeatureEngine, provider: Scripted) -> None:
    provider.now = {asset: at(0) for asset in ASSETS}
    _, books = engine.step_live(["SOLUSDT"], 0, ns(0))
    assert [asset for asset, _ in provider.asked] == ["SOLUSDT"]
    assert books.usable.tolist() == [0, 0, 1]


def test_a_clock_gives_the_time_of_a_step_that_names_none(provider: Scripted) -> None:
    engine = OBFeatureEngine(ASSETS, provider, clock=lambda: ns(7))
    engine.step_live(ASSETS, 0)
    assert provider.asked[0] == ("BTCUSDT", START_S + 7.0)


# --- whole days


def test_a_day_without_stamps_has_a_bar_for_every_snapshot() -> None:
    hour = 3600.0
    moments = {"BTCUSDT": [0.0, hour, 3 * hour, 90_000.0], "ETHUSDT": [-hour, hour, 2 * hour]}
    rows = {a: np.array([even(START_S + s) for s in at_s]).view(np.recarray) for a, at_s in moments.items()}
    engine = OBFeatureEngine(ASSETS, ArrayBookProvider(rows))
    _, books = engine.preload_date(DAY)
    assert books.usable.tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 0]]
    assert books.bar[:, 0].tolist() == [0, 1, 1, 3]
    _, books = engine.preload_date(DAY + timedelta(days=1))
    assert (engine.bar_idx, len(books)) == (4, 1)


def test_a_provider_without_a_history_makes_an_empty_day(engine: OBFeatureEngine) -> None:
    markets, books = engine.preload_date(DAY)
    assert (len(markets), books.shape, engine.bar_idx) == (0, (0, 3), -1)


def test_a_preloaded_day_tells_of_its_silences_too() -> None:
    told: list[str] = []
    rows = {"BTCUSDT": np.array([even(START_S + s) for s in (0, 1, 10)]).view(np.recarray)}
    engine = OBFeatureEngine(ASSETS, ArrayBookProvider(rows), on_warning=told.append)
    engine.preload_date(DAY, stamps(12))
    assert len(told) == 1
    assert "for 3 bars in a row" in told[0]
    engine.preload_date(DAY, stamps(3, first=12))
    assert len(told) == 2
    assert engine.empty_bars == 4


def test_a_whole_day_can_be_asked_for_until_the_next() -> None:
    engine = OBFeatureEngine(ASSETS, MockBookProvider())
    engine.preload_date(DAY, stamps(900))
    assert engine.get_placement("BTCUSDT", 0) is not None
    engine.preload_date(DAY + timedelta(days=1), stamps(10, first=86_400))
    assert engine.resolve_bar(905) == 905
    assert engine.resolve_bar(400) == 400
    assert engine.resolve_bar(399) is None


def test_bars_are_numbered_on_or_as_told() -> None:
    engine = OBFeatureEngine(ASSETS, MockBookProvider())
    engine.preload_date(DAY, stamps(5), first_bar=10)
    assert (engine.bar_idx, engine.resolve_bar(10), engine.resolve_bar(9)) == (14, 10, None)
    engine.preload_date(DAY, stamps(5, first=5))
    assert engine.bar_idx == 19


def test_a_refused_day_leaves_the_book_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dolphin.book.engine.CHUNK", 4)

    class Ahead(MockBookProvider):
        def fill_snapshots(self, assets: Any, ts: Any, out: Record) -> None:
            super().fill_snapshots(assets, ts, out)
            out["timestamp"][ts > START_S + 10] += 1.0

    engine = OBFeatureEngine(ASSETS, Ahead())
    engine.preload_date(DAY, stamps(6))
    was = engine.snapshot()
    with pytest.raises(DataError, match=r"order book of BTCUSDT: a snapshot stamped .* expected none after the bar"):
        engine.preload_date(DAY, stamps(10, first=6))
    assert engine.snapshot() == was
    assert engine.resolve_bar() == 5


# --- what is refused


def made(**options: Any) -> OBFeatureEngine:
    return OBFeatureEngine(ASSETS, MockBookProvider(), **options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: OBFeatureEngine([], MockBookProvider()), "0 assets with repetitions or none"),
        (lambda: OBFeatureEngine(["A", "A"], MockBookProvider()), "2 assets with repetitions"),
        (lambda: made(max_stale_bars=-1), "max_stale_bars -1; expected 0 to 499"),
        (lambda: made(max_stale_bars=500), "max_stale_bars 500"),
        (lambda: made(max_age_s=0.0), "max_age_s 0.0; expected a finite number"),
        (lambda: made(max_age_s=math.inf), "max_age_s inf"),
        (lambda: made(max_age_s=math.nan), "max_age_s nan"),
        (lambda: made().step_live(ASSETS, 0), "no time; give ts_ns, or a clock"),
        (lambda: made().step_live(["DOGEUSDT"], 0, 0), "DOGEUSDT is not among the engine's 3 assets"),
        (lambda: made().step_live(ASSETS, -1, 0), "bar -1 after bar -1"),
        (lambda: made().get_placement("DOGEUSDT"), "DOGEUSDT is not among"),
        (lambda: made().status("DOGEUSDT"), "DOGEUSDT is not among"),
    ],
)
def test_bad_calls_are_refused_in_one_line(wrong: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        wrong()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_bar_is_taken_once(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 3)
    with pytest.raises(ConfigError, match="bar 3 after bar 3; expected a later one, each bar once"):
        play(engine, provider, 3)
    with pytest.raises(ConfigError, match="bar 2 after bar 3"):
        engine.preload_date(DAY, stamps(2), first_bar=2)


@pytest.mark.parametrize(
    ("day", "ts_ns", "row"),
    [(DAY, [ns(0), ns(0)], 1), (DAY, [ns(2), ns(1)], 1), (DAY, [ns(-1)], 0), (DAY, [ns(0), ns(86_400)], 1),
     (date(2024, 1, 2), [ns(0)], 0)],
)  # fmt: skip
def test_stamps_out_of_order_or_day_are_refused(day: date, ts_ns: list[int], row: int) -> None:
    with pytest.raises(DataError, match=f"order book of {day}: stamp .* in row {row}; expected increasing, on that"):
        made().preload_date(day, np.array(ts_ns))
