"""One beat: every guard, assets that come, bars by the clock, and the bits of the engine below (SPEC §8, §23)."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import BookStatus
from dolphin.book.snapshots import make_snapshot
from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError
from dolphin.ops.obf.beat import Beat, Frame
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.state import moved
from dolphin.ops.obf.words import cat3_of, status_of
from dolphin.trade.booksound import sound_rows
from tests.ops.obf_cases import BANDS, QUICK, START_NS, Hand

BEAT_NS = 100_000_000


def status(frame: Frame, asset: str) -> str:
    return status_of(frame, frame.assets.index(asset))


def test_features_are_those_of_the_engine_bit_for_bit() -> None:
    source, told = Hand("BTCUSDT", "ETHUSDT"), []
    beat = Beat(source, QUICK, START_NS, tell=told.append)
    shown = Hand("BTCUSDT", "ETHUSDT")
    plain = OBFeatureEngine(shown.symbols, _Plain(shown), max_stale_bars=QUICK.max_stale_bars)
    rng = np.random.default_rng(5)
    for k in range(40):
        now = START_NS + k * BEAT_NS
        lean = float(rng.normal(0, 0.1))
        for hand in (source, shown):
            if k % 3:
                hand.show("BTCUSDT", now, lean, 1.0 + k / 50)
            hand.show("ETHUSDT", now - 5_000_000)
        frame = beat.take(now)
        market, books = plain.step_live(shown.symbols, now // BEAT_NS, now)
        assert frame.books.tobytes() == books.tobytes()
        assert frame.market.tobytes() == market.tobytes()
        assert frame.bar == now // BEAT_NS
    assert told == []


class _Plain:
    def __init__(self, hand: Hand) -> None:
        self.hand = hand

    def get_snapshot(self, asset: str, ts: float) -> object:
        return self.hand.now.get(asset)

    def get_all_timestamps(self, asset: str) -> list[float]:
        return []


def test_a_book_warms_up_for_sixty_seconds_after_it_was_synced() -> None:
    source = Hand("BTCUSDT", "ETHUSDT", "SOLUSDT")
    source.since = {"BTCUSDT": START_NS, "ETHUSDT": START_NS - 60 * NS_PER_S, "SOLUSDT": 0}
    beat = Beat(source, ObfSettings(), START_NS)

    def take(second: float) -> Frame:
        now = START_NS + round(second * NS_PER_S)
        source.show_all(now)
        if source.since["SOLUSDT"] == 0:
            del source.now["SOLUSDT"]
        return beat.take(now)

    frame = take(1.0)
    assert [status(frame, a) for a in source.symbols] == ["WARMING", "LIVE", "MISSING"]
    assert math.isnan(frame.snapshots["timestamp"][0]), "held back from the grid and the archive too"
    assert frame.books["usable"].tolist() == [0, 1, 0]
    assert status(take(59.9), "BTCUSDT") == "WARMING"
    assert status(take(60.0), "BTCUSDT") == "LIVE"
    source.since["BTCUSDT"] = START_NS + 70 * NS_PER_S  # it lost its place and was synced anew
    assert status(take(71.0), "BTCUSDT") == "WARMING"
    assert status(take(130.0), "BTCUSDT") == "LIVE"


def wrong(name: str) -> object:
    book = make_snapshot(START_NS / 1e9, BANDS, BANDS, BANDS, BANDS)
    match name:
        case "negative quantity":
            book.bid_depth[2] = -1.0
        case "negative notional":
            book.ask_notional[0] = -5.0
        case "price zero":
            book.ask_notional[1] = 0.0
        case "not a number":
            book.bid_notional[0] = math.nan
        case "infinite":
            book.bid_notional[4] = math.inf
        case "from the future":
            book.timestamp += 3600.0
        case "old":
            book.timestamp = -1.0
    return book


@pytest.mark.parametrize(
    "name",
    [
        "negative quantity",
        "negative notional",
        "price zero",
        "not a number",
        "infinite",
        "from the future",
        "old",
    ],
)
def test_a_wrong_snapshot_never_becomes_a_feature_and_is_counted_once(name: str) -> None:
    source, told = Hand("BTCUSDT", "ETHUSDT"), []
    beat = Beat(source, QUICK, START_NS, tell=told.append)
    source.show("ETHUSDT", START_NS)
    source.now["BTCUSDT"] = wrong(name)
    for k in range(3):
        frame = beat.take(START_NS + k * BEAT_NS)
        assert frame.books["usable"].tolist() == [0, 1]
        assert math.isnan(frame.snapshots["timestamp"][0])
    assert beat.refused == beat.snapshots["refused"] == 1
    assert len(told) == 1
    assert "BTCUSDT" in told[0]
    source.show("BTCUSDT", START_NS + 3 * BEAT_NS)
    assert beat.take(START_NS + 3 * BEAT_NS).books["usable"].tolist() == [1, 1], "a wrong stamp blocks no later one"


@given(
    st.lists(st.sampled_from([0.0, 1e-7, 1e-6, 5.0, 1e15, 2e15, -1.0, math.nan, math.inf]), min_size=20, max_size=20)
)
def test_sound_is_what_the_words_say(values: list[float]) -> None:
    row = make_snapshot(1.0, values[:5], values[5:10], values[10:15], values[15:])
    usd, base = values[:10], values[10:]
    sound = all(x == 0.0 or 1e-6 <= x <= 1e15 for x in usd) and all(0.0 <= x <= 1e15 for x in base)
    assert bool(sound_rows(row)) == (sound and not any(u == 0.0 and b > 0.0 for u, b in zip(usd, base, strict=True)))


def test_ten_empty_books_in_a_row_are_dark_as_the_engine_has_it() -> None:
    source, told = Hand("BTCUSDT", "ETHUSDT"), []
    beat = Beat(source, QUICK, START_NS, tell=told.append)
    now = START_NS
    for k in range(14):
        now += BEAT_NS
        source.show("ETHUSDT", now)
        source.show("BTCUSDT", now, depth=0.0 if k < 12 else 1.0)
        frame = beat.take(now)
        engine_says = beat._engine.status("BTCUSDT") == BookStatus.STALE_DATA
        assert (status(frame, "BTCUSDT") == "STALE_DATA") == engine_says == (9 <= k < 12)
        assert int(frame.market["assets"][0]) == (1 if engine_says else 2)
    assert [line.split(":")[0] for line in told] == ["STALE_DATA", "BTCUSDT is no longer STALE_DATA"]


def test_the_stall_watchdog_barks_once_and_tells_of_recovery() -> None:
    source, told = Hand("BTCUSDT", "ETHUSDT"), []
    beat = Beat(source, QUICK, START_NS, tell=told.append)
    source.show_all(START_NS)
    assert not beat.take(START_NS).stalled
    for second, stalled in ((29.9, False), (30.0, False), (30.1, True), (40.0, True)):
        assert beat.take(START_NS + round(second * NS_PER_S)).stalled == stalled  # the same books again and again
    source.show("ETHUSDT", START_NS + 41 * NS_PER_S)
    frame = beat.take(START_NS + 41 * NS_PER_S)
    assert not frame.stalled
    assert beat.stalls == 1
    assert told == [
        "no new snapshot of any of 2 assets for 30 s: stalled",
        "books come again after 41.0 s without any",
    ]


def test_books_that_warm_up_are_no_stall() -> None:
    source = Hand("BTCUSDT")
    source.since = {"BTCUSDT": START_NS}
    beat = Beat(source, ObfSettings(), START_NS)
    for second in range(0, 60, 5):
        source.show_all(START_NS + second * NS_PER_S)
        assert not beat.take(START_NS + second * NS_PER_S).stalled


@settings(max_examples=20)
@given(st.integers(1, 30), st.integers(1, 3))
def test_assets_that_come_cost_the_others_nothing(when: int, more: int) -> None:
    """With and without newcomers, who was there has the same bits."""
    names = ("BTCUSDT", "ETHUSDT")
    growing, fixed = Hand(*names), Hand(*names)
    one, two = Beat(growing, QUICK, START_NS), Beat(fixed, QUICK, START_NS)
    for k in range(40):
        now = START_NS + k * BEAT_NS
        if k == when:
            growing.add(f"NEW{i}USDT" for i in range(more))
        for hand in (growing, fixed):
            hand.show("BTCUSDT", now, lean=0.3 * math.sin(k), depth=1.0 + 0.5 * math.sin(k / 3))
            if k % 4:
                hand.show("ETHUSDT", now, lean=-0.1)
        a, b = one.take(now), two.take(now)
        assert a.books[:2].tobytes() == b.books.tobytes()
        assert a.market.tobytes() == b.market.tobytes(), "newcomers without a book change no market"
        assert a.last_s[:2].tolist() == b.last_s.tolist()
    assert a.assets == growing.symbols
    growing.show("NEW0USDT", now + BEAT_NS)
    assert one.take(now + BEAT_NS).books["usable"][2] == 1
    assert one.grown == 1


def test_a_memory_moves_to_other_assets() -> None:
    source = Hand("BTCUSDT", "ETHUSDT", "SOLUSDT")
    beat = Beat(source, QUICK, START_NS)
    for k in range(12):
        source.show_all(START_NS + k * BEAT_NS, lean=0.01 * k)
        source.show("SOLUSDT", START_NS + k * BEAT_NS, depth=0.0)
        beat.take(START_NS + k * BEAT_NS)
    there, streaks = moved(beat.snapshot(), ("XRPUSDT", "SOLUSDT", "BTCUSDT"), 100, 60.0)
    assert streaks == [0, 12, 0]
    back, _ = moved(there, ("BTCUSDT", "SOLUSDT"), QUICK.max_stale_bars, 60.0)
    again, _ = moved(back, ("BTCUSDT", "SOLUSDT"), QUICK.max_stale_bars, 60.0)
    assert back == again
    straight, _ = moved(beat.snapshot(), ("BTCUSDT", "SOLUSDT"), QUICK.max_stale_bars, 60.0)
    assert back == straight


def test_bars_are_the_clock_s_and_go_on_when_it_goes_back() -> None:
    source = Hand("BTCUSDT")
    beat = Beat(source, QUICK, START_NS)
    assert beat.take(START_NS).bar == START_NS // BEAT_NS
    assert beat.take(START_NS + 7 * BEAT_NS).bar == START_NS // BEAT_NS + 7, "skipped beats age what is held"
    assert beat.take(START_NS - NS_PER_S).bar == START_NS // BEAT_NS + 8


def test_cat3_is_of_books_that_may_be_used() -> None:
    source = Hand("BTCUSDT", "ETHUSDT", "SOLUSDT")
    beat = Beat(source, QUICK, START_NS)
    frame = beat.take(START_NS)
    assert cat3_of(frame).book_stale
    assert cat3_of(frame).depth_quality is None
    source.show_all(START_NS + BEAT_NS)
    known = cat3_of(beat.take(START_NS + BEAT_NS))
    assert not known.book_stale
    assert known.depth_quality == 1.0
    assert known.fill_probability == pytest.approx(0.62)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"cadence_s": 0.0}, "cadence_s 0; expected 0.001 to 60"),
        ({"cadence_s": math.nan}, "cadence_s nan"),
        ({"warm_up_s": -1.0}, "warm_up_s -1"),
        ({"failures": 0}, "failures 0"),
        ({"backoff_s": 90.0}, "backoff_cap_s 60; expected 90"),
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, float], said: str) -> None:
    with pytest.raises(ConfigError, match="^obf: " + said):
        ObfSettings(**changes)  # type: ignore[arg-type]


def test_a_source_without_assets_is_refused() -> None:
    with pytest.raises(ConfigError, match="has no assets"):
        Beat(Hand(), QUICK, START_NS)
