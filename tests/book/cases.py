"""Snapshots for the book's tests: made by hand, and random ones with every trouble that a feed can have."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import ASSET_BOOK, MARKET_BOOK, SNAPSHOT
from dolphin.book.snapshots import make_snapshot
from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.core.records import Record, records
from tests.reference.book_ref import ReferenceBook, Snapshot

DAY = date(2024, 1, 1)
START_S = date_start_ns(DAY) // NS_PER_S
Feed = list[dict[str, Snapshot]]
BAD = (math.nan, -1.0, math.inf, 1e-9, 1e16)


class Scripted:
    """A live provider that shows, for each asset, what was put into `now`; it counts what it was asked."""

    def __init__(self) -> None:
        self.now: dict[str, Record | None] = {}
        self.asked: list[tuple[str, float]] = []

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        self.asked.append((asset, ts))
        return self.now.get(asset)

    def get_all_timestamps(self, asset: str) -> Sequence[float]:
        return []


def even(timestamp: float, depth_usd: float = 1_000_000.0, lean: float = 0.0) -> Record:
    """A book whose bands all have the same total, leaning by `lean` to the bids: imbalance `lean`."""
    bids = np.full(5, depth_usd * (1.0 + lean) / 2.0)
    asks = np.full(5, depth_usd * (1.0 - lean) / 2.0)
    return make_snapshot(timestamp, bids, asks)


def ns(second: float) -> int:
    """A moment of the day, in nanoseconds."""
    return int((START_S + second) * NS_PER_S)


def play(engine: OBFeatureEngine, provider: Scripted, bar: int, **now: Record | None) -> tuple[Record, Record]:
    """One live bar a second in which the provider shows `now`; an asset that is not named shows nothing."""
    provider.now = dict(now)
    return engine.step_live(engine.assets, bar, ns(bar))


def random_feed(seed: int, assets: Sequence[str], bars: int) -> Feed:
    """What a provider shows at each bar (one a second): walking books, gaps of all lengths, late assets, repeats,
    snapshots older than the last, torn and empty ones."""
    rng = np.random.default_rng(seed)
    n = len(assets)
    depth = 10.0 ** rng.uniform(4.0, 7.0, n)
    lean = rng.normal(0.0, 0.2, n)
    born = np.where(rng.random(n) < 0.3, rng.integers(0, bars // 2, n), 0)
    silent, dark = np.zeros(n, int), np.zeros(n, int)
    outage = 0
    shown: dict[str, Snapshot] = {}
    feed: Feed = []
    for t in range(bars):
        outage = outage - 1 if outage else int(rng.integers(1, 25)) * int(rng.random() < 0.01)
        depth *= np.exp(rng.normal(0.0, 0.08, n) - (0.25 if rng.random() < 0.05 else 0.0))
        lean = np.clip(0.9 * lean + rng.normal(0.0, 0.1, n), -1.0, 1.0)
        for i, asset in enumerate(assets):
            silent[i] = silent[i] - 1 if silent[i] else int(rng.integers(1, 20)) * int(rng.random() < 0.03)
            dark[i] = dark[i] - 1 if dark[i] else int(rng.integers(1, 15)) * int(rng.random() < 0.01)
            if t < born[i] or silent[i] or outage:
                if rng.random() < 0.5:
                    shown.pop(asset, None)
                if t < born[i] and rng.random() < 0.2:  # what a stopped service left behind
                    shown[asset] = Snapshot(float(START_S + t - 61), *_sides(rng, depth[i], lean[i]))
                continue
            bids, asks = ([0.0] * 5, [0.0] * 5) if dark[i] else _sides(rng, depth[i], lean[i])
            if rng.random() < 0.02:
                (bids if rng.random() < 0.5 else asks)[rng.integers(5)] = BAD[int(rng.integers(len(BAD)))]
            stamp = START_S + t - (rng.choice([0.0, 0.25, 3.0, 59.0], p=[0.6, 0.3, 0.06, 0.04]))
            shown[asset] = Snapshot(float(stamp), bids, asks)
        feed.append(dict(shown))
    return feed


def _sides(rng: np.random.Generator, depth: float, lean: float) -> tuple[list[float], list[float]]:
    bands = depth * np.sort(rng.uniform(0.2, 1.0, 5))[::-1]
    return (bands * (1.0 + lean)).tolist(), (bands * (1.0 - lean)).tolist()


def as_now(shown: Mapping[str, Snapshot]) -> dict[str, Record | None]:
    """A bar of a feed as records."""
    return {asset: make_snapshot(*snapshot) for asset, snapshot in shown.items()}


class FeedProvider:
    """A feed as a provider with a history: at second t it shows what the feed showed at bar t."""

    def __init__(self, feed: Feed) -> None:
        self._bars = [as_now(shown) for shown in feed]

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        return self._bars[round(ts - START_S)].get(asset)

    def get_all_timestamps(self, asset: str) -> Sequence[float]:
        return [START_S + t for t in range(len(self._bars))]


def stamps(bars: int, first: int = 0) -> np.ndarray:
    """Bar stamps, one a second."""
    return (START_S + np.arange(first, first + bars, dtype=np.int64)) * NS_PER_S


def live(engine: OBFeatureEngine, feed: Feed, first: int = 0) -> tuple[Record, Record]:
    """A feed bar by bar: copies of the (T,) markets and (T, N) books."""
    provider, n = Scripted(), len(engine.assets)
    engine.provider = provider
    markets, books = records(MARKET_BOOK, len(feed)), records(ASSET_BOOK, len(feed) * n).reshape(-1, n)
    for t, shown in enumerate(feed):
        provider.now = as_now(shown)
        markets[t], books[t] = engine.step_live(engine.assets, first + t, int(stamps(1, first + t)[0]))
    return markets, books


def reference(assets: Sequence[str], feed: Feed, **limits: Any) -> list[tuple[dict[str, Any] | None, dict[str, Any]]]:
    """The twin's answer at every bar."""
    book = ReferenceBook(assets, **limits)
    return [
        (None if market is None else dict(market), {a: dict(f) for a, f in features.items()})
        for market, features in (book.bar(t, float(START_S + t), shown) for t, shown in enumerate(feed))
    ]


def archive(feed: Feed, asset: str) -> Record:
    """The sound snapshots of an asset in a feed, in the order of their stamps, each once."""
    found = {s.timestamp: s for shown in feed for a, s in shown.items() if a == asset}
    rows = np.zeros(len(found), SNAPSHOT)
    for k, stamp in enumerate(sorted(found)):
        rows[k] = make_snapshot(*found[stamp])
    return rows.view(np.recarray)
