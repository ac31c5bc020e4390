"""The compiled book against its plain twin, replay against live, and causality: bit for bit, on troubled feeds."""

from __future__ import annotations

import copy
import hashlib
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.providers import ArrayBookProvider, MockBookProvider
from dolphin.core.errors import ConfigError
from dolphin.core.records import Record
from tests.book.cases import (
    DAY,
    START_S,
    FeedProvider,
    Scripted,
    archive,
    as_now,
    even,
    live,
    random_feed,
    reference,
    stamps,
)
from tests.reference.book_ref import Snapshot

ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT")
SEEDS = range(6)
BARS = 400


def new(assets: tuple[str, ...] = ASSETS, **options: Any) -> OBFeatureEngine:
    return OBFeatureEngine(assets, Scripted(), **options)


def filled(record: Record) -> dict[str, Any]:
    """A usable record's fields, but the flag."""
    return {name: record[name].item() for name in record.dtype.names if name != "usable"}


@pytest.mark.jit_off
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("limits", [{}, {"max_stale_bars": 0, "max_age_s": 5.0}], ids=["usual", "tight"])
def test_the_book_is_its_plain_twin(seed: int, limits: dict[str, Any]) -> None:
    feed = random_feed(seed, ASSETS, BARS)
    markets, books = live(new(**limits), feed)
    seen = {"market": 0, "book": 0, "none": 0}
    for t, (market, features) in enumerate(reference(ASSETS, feed, **limits)):
        assert bool(markets[t].usable) == (market is not None), t
        if market is not None:
            assert filled(markets[t]) == market, t
            seen["market"] += 1
        for i, asset in enumerate(ASSETS):
            assert bool(books[t, i].usable) == (asset in features), (t, asset)
            if asset in features:
                assert filled(books[t, i]) == features[asset], (t, asset)
                seen["book"] += 1
            else:
                seen["none"] += 1
    assert min(seen.values()) > 0, "the feed must show usable and unusable books"


def test_feeds_meet_every_trouble() -> None:
    counts: dict[str, int] = {}
    regimes: set[int] = set()
    for seed in SEEDS:
        engine = new()
        markets, _ = live(engine, random_feed(seed, ASSETS, BARS))
        for name, count in engine.counts.items():
            counts[name] = counts.get(name, 0) + count
        regimes |= set(markets.regime_signal.tolist()) | {10 * int(markets.cascade_count.any())}
    assert min(counts.values()) > 10, counts
    assert regimes == {-1, 0, 1, 10}


@pytest.mark.jit_off
@pytest.mark.parametrize("seed", SEEDS)
def test_preloading_a_day_is_stepping_it(seed: int) -> None:
    feed = random_feed(seed, ASSETS, BARS)
    stepped, replayed = new(), OBFeatureEngine(ASSETS, FeedProvider(feed))
    want_markets, want_books = live(stepped, feed)
    markets, books = replayed.preload_date(DAY, stamps(BARS))
    assert markets.tobytes() == want_markets.tobytes()
    assert books.tobytes() == want_books.tobytes()
    assert replayed.snapshot() == stepped.snapshot()
    assert replayed.counts == stepped.counts
    for bar in (*range(0, BARS, 37), BARS - 1):
        for asset in ASSETS:
            assert replayed.get_placement(asset, bar) == stepped.get_placement(asset, bar)
            assert replayed.get_signal(asset, bar) == stepped.get_signal(asset, bar)
            assert replayed.status(asset) == stepped.status(asset)
        assert replayed.get_macro(bar) == stepped.get_macro(bar)


@pytest.mark.parametrize("chunk", [1, 7, 256])
def test_any_split_gives_the_same_bits(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    feed = random_feed(9, ASSETS, BARS)
    want_markets, want_books = live(new(), feed)
    monkeypatch.setattr("dolphin.book.engine.CHUNK", chunk)
    engine = OBFeatureEngine(ASSETS, FeedProvider(feed))
    whole = engine.preload_date(DAY, stamps(BARS))
    assert (whole[0].tobytes(), whole[1].tobytes()) == (want_markets.tobytes(), want_books.tobytes())


def test_live_goes_on_where_a_preload_ends_and_the_other_way_round() -> None:
    feed = random_feed(3, ASSETS, BARS)
    want_markets, want_books = live(new(), feed)
    engine = OBFeatureEngine(ASSETS, FeedProvider(feed))
    first = engine.preload_date(DAY, stamps(150))
    kept = first[1].tobytes()
    middle = live(engine, feed[150:250], first=150)
    engine.provider = FeedProvider(feed)
    last = engine.preload_date(DAY, stamps(150, first=250))
    assert first[1].tobytes() == kept, "what was handed out must not change under its owner"
    assert b"".join(part[0].tobytes() for part in (first, middle, last)) == want_markets.tobytes()
    assert b"".join(part[1].tobytes() for part in (first, middle, last)) == want_books.tobytes()
    assert engine.resolve_bar(100) == 100, "bars of before the preload are still on the shelf"


def test_bulk_and_single_answers_are_one() -> None:
    feed = random_feed(5, ASSETS, BARS)
    recorded = ArrayBookProvider({asset: archive(feed, asset) for asset in ASSETS[:4]})

    class OneByOne:
        get_snapshot = staticmethod(recorded.get_snapshot)
        get_all_timestamps = staticmethod(recorded.get_all_timestamps)

    for bulk, single in ((recorded, OneByOne()), (MockBookProvider(), _single(MockBookProvider()))):
        ts = stamps(BARS)
        want = OBFeatureEngine(ASSETS, single).preload_date(DAY, ts)
        got = OBFeatureEngine(ASSETS, bulk).preload_date(DAY, ts)
        stepped = OBFeatureEngine(ASSETS, bulk)
        rows = [stepped.step_live(ASSETS, t, int(at)) for t, at in enumerate(ts)]
        assert got[0].tobytes() == want[0].tobytes() == b"".join(market.tobytes() for market, _ in rows)
        assert got[1].tobytes() == want[1].tobytes() == b"".join(books.tobytes() for _, books in rows)


def _single(mock: MockBookProvider) -> Any:
    class OneByOne:
        get_snapshot = staticmethod(mock.get_snapshot)
        get_all_timestamps = staticmethod(mock.get_all_timestamps)

    return OneByOne()


@pytest.mark.parametrize("seed", [0, 1])
def test_later_snapshots_change_nothing_earlier(seed: int) -> None:
    feed = random_feed(seed, ASSETS, BARS)
    recorded = {asset: archive(feed, asset) for asset in ASSETS}
    ts = stamps(BARS)
    want_markets, want_books = OBFeatureEngine(ASSETS, ArrayBookProvider(recorded)).preload_date(DAY, ts)
    rng = np.random.default_rng([seed, 1])
    for t in rng.integers(1, BARS - 1, 6).tolist():
        scrambled = {}
        for asset, rows in recorded.items():
            later = rows.copy()
            after = later["timestamp"] > START_S + t
            later["bid_notional"][after] = rng.uniform(0.0, 1e9, (int(after.sum()), 5))
            scrambled[asset] = later[rng.random(len(later)) < np.where(after, 0.7, 1.1)]
        engine = OBFeatureEngine(ASSETS, ArrayBookProvider(scrambled))
        markets, books = engine.preload_date(DAY, ts)
        assert markets[: t + 1].tobytes() == want_markets[: t + 1].tobytes(), t
        assert books[: t + 1].tobytes() == want_books[: t + 1].tobytes(), t
        assert markets.tobytes() != want_markets.tobytes(), "the scrambling must be felt after t"
        assert engine.get_macro(t) == macro_at(scrambled, t), "asking for bar t must not see later ones"


def macro_at(recorded: dict[str, Record], t: int) -> Any:
    """The macro features of bar t from an engine that has never seen a later bar."""
    engine = OBFeatureEngine(ASSETS, ArrayBookProvider(recorded))
    engine.preload_date(DAY, stamps(t + 1))
    return engine.get_macro(t)


def test_bids_and_asks_are_each_other_s_mirror() -> None:
    feed = random_feed(2, ASSETS, BARS)
    turned = [{a: Snapshot(s.timestamp, s.asks, s.bids) for a, s in shown.items()} for shown in feed]
    markets, books = live(new(), feed)
    mirrored_markets, mirrored_books = live(new(), turned)
    for name in ("imbalance", "imbalance_ma5", "depth_asymmetry"):
        assert np.array_equal(mirrored_books[name], -books[name])
    for name in (
        "depth_quality",
        "fill_probability",
        "imbalance_persistence",
        "withdrawal_velocity",
        "spread_proxy_bps",
    ):
        assert np.array_equal(mirrored_books[name], books[name])
    for name in ("median_imbalance", "depth_pressure"):
        assert np.array_equal(mirrored_markets[name], -markets[name])
    for name in ("agreement", "cascade_count", "regime_signal", "depth_velocity", "acceleration", "usable"):
        assert np.array_equal(mirrored_markets[name], markets[name])


@pytest.mark.jit_off
@pytest.mark.parametrize("seed", SEEDS)
def test_every_feature_is_finite_and_in_its_range(seed: int) -> None:
    markets, books = live(new(), random_feed(seed, ASSETS, BARS))
    for table in (markets, books):
        for name in table.dtype.names:
            assert np.isfinite(table[name]).all(), name
    for name in ("imbalance", "imbalance_ma5", "depth_asymmetry"):
        assert (np.abs(books[name]) <= 1.0).all(), name
    for name in ("fill_probability", "imbalance_persistence"):
        assert ((books[name] >= 0.0) & (books[name] <= 1.0)).all(), name
    assert (books.withdrawal_velocity >= -1.0).all()
    assert (markets.depth_velocity >= -1.0).all()
    assert ((markets.agreement >= 0.0) & (markets.agreement <= 1.0)).all()
    assert not set(markets.cascade_count.tolist()) & {1, 2}
    blank = books[books.usable == 0]
    assert all(not blank[name].any() for name in blank.dtype.names if name != "bar"), "no book, no numbers"


# --- state as a value


def test_a_restored_book_never_stopped() -> None:
    feed = random_feed(4, ASSETS, BARS)
    want_markets, want_books = live(new(), feed)
    engine = new()
    live(engine, feed[:200])
    restored = OBFeatureEngine.restore(engine.snapshot(), Scripted())
    markets, books = live(restored, feed[200:], first=200)
    assert markets.tobytes() == want_markets[200:].tobytes()
    assert books.tobytes() == want_books[200:].tobytes()


@pytest.mark.parametrize("spoil", [lambda v: v[:-1], lambda v: v[:40] + b"x" + v[41:], lambda v: b"", lambda v: b"{}"])
def test_a_spoilt_snapshot_is_refused(spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(ConfigError, match=r"order book snapshot: .*torn or altered"):
        OBFeatureEngine.restore(spoil(new().snapshot()), Scripted())


def test_a_snapshot_of_another_version_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dolphin.book.engine.VERSION", 2)
    value = new().snapshot()
    with pytest.raises(ConfigError, match=r"version 2 with .* bytes of state, expected version 1 with"):
        OBFeatureEngine.restore(value, Scripted())


def test_a_head_that_does_not_decode_is_refused() -> None:
    body = (2).to_bytes(8, "little") + b"{}"
    value = hashlib.blake2b(body, digest_size=16).digest() + body
    with pytest.raises(ConfigError, match="order book snapshot: not readable"):
        OBFeatureEngine.restore(value, Scripted())


@pytest.mark.parametrize("how", [copy.deepcopy, lambda v: pickle.loads(pickle.dumps(v))], ids=["deepcopy", "pickle"])
def test_a_copied_book_goes_its_own_way(how: Callable[[OBFeatureEngine], OBFeatureEngine]) -> None:
    engine = new()
    feed = random_feed(6, ASSETS, 120)
    live(engine, feed[:60])
    twin = how(engine)
    was = engine.snapshot(), engine.get_macro(), engine.get_placement("ETHUSDT")
    live(twin, [{a: Snapshot(*_row(even(START_S + t))) for a in ASSETS} for t in range(60, 90)], first=60)
    assert (engine.snapshot(), engine.get_macro(), engine.get_placement("ETHUSDT")) == was
    assert twin.snapshot() != was[0]
    assert live(engine, feed[60:], first=60)[1].tobytes() == live(new(), feed)[1][60:].tobytes()


def _row(record: Record) -> tuple[float, list[float], list[float]]:
    return float(record.timestamp), record.bid_notional.tolist(), record.ask_notional.tolist()


def test_the_same_snapshots_give_the_same_features_whatever_their_provider() -> None:
    feed = random_feed(8, ASSETS, 50)
    provider = Scripted()
    engine = OBFeatureEngine(ASSETS, provider)
    for t, shown in enumerate(feed):
        provider.now = as_now(shown)
        # A subset of the assets is asked for one by one, all of them at once: no difference.
        engine.step_live(ASSETS[::-1], t, int(stamps(1, t)[0]))
    other = new()
    live(other, feed)
    assert engine.snapshot() == other.snapshot()
