"""A recorded perpetual's book, second by second: the features of a real market are sane, and replay is live (SPEC §8).

Building a book from a stream is the ingestion's work; here it is done with a dictionary, slowly.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import BANDS, SNAPSHOT
from dolphin.book.providers import ArrayBookProvider
from dolphin.core.clock import NS_PER_S, ns_to_date
from dolphin.core.records import Record
from dolphin.market.bookarchive import BookArchive, RecordedBookProvider
from dolphin.market.bookwriter import BookWriter
from tests.support.shared import recorded

ASSET = "BTCUSDT"


def bands(levels: dict[float, float], mid: float) -> tuple[np.ndarray, np.ndarray]:
    """(USD, base units) of one side in bands of 1 % around the mid price."""
    price, size = np.array(list(levels)), np.array(list(levels.values()))
    band = np.floor(np.abs(price / mid - 1.0) * 100.0).astype(int)
    near = band < BANDS
    return (
        np.bincount(band[near], (price * size)[near], BANDS)[:BANDS],
        np.bincount(band[near], size[near], BANDS)[:BANDS],
    )


def seconds() -> Iterator[Record]:
    """One snapshot at the end of every second of the local clock."""
    sides: tuple[dict[float, float], dict[float, float]] = ({}, {})
    last_id, due = 0, 0
    with gzip.open(recorded("book_2024") / "usdm_btcusdt_20240808.gz", "rt") as lines:
        for line in lines:
            stamp, _, body = line.partition(" ")
            if last_id and int(stamp) >= due:
                mid = (max(sides[0]) + min(sides[1])) / 2.0
                row = np.zeros(1, SNAPSHOT).view(np.recarray)[0]
                row.timestamp = due / NS_PER_S
                (row.bid_notional, row.bid_depth), (row.ask_notional, row.ask_depth) = (bands(s, mid) for s in sides)
                yield row
                due += NS_PER_S
            if "lastUpdateId" in body:
                data = json.loads(body)
                last_id, due = data["lastUpdateId"], (int(stamp) // NS_PER_S + 1) * NS_PER_S
                changes = data["bids"], data["asks"]
            elif last_id and "depthUpdate" in body:
                data = json.loads(body)["data"]
                if data["u"] <= last_id:
                    continue
                changes = data["b"], data["a"]
            else:
                continue
            for side, levels in zip(sides, changes, strict=True):
                for price, size in levels:
                    side[float(price)] = float(size)
                    if float(size) == 0.0:
                        del side[float(price)]


@pytest.fixture(scope="module")
def snapshots() -> Record:
    """Without the first minute: a snapshot of a thousand levels does not reach 1 % from the mid, and the stream fills
    the rest in, which is what the ingestion's delay of 60 s is for."""
    return np.array(list(seconds())[60:]).view(np.recarray)


def test_a_real_book_has_sane_features(snapshots: Record) -> None:
    ts_ns = np.round(snapshots.timestamp).astype(np.int64) * NS_PER_S
    assert len(ts_ns) > 240
    engine = OBFeatureEngine([ASSET], ArrayBookProvider({ASSET: snapshots}))
    markets, books = engine.preload_date(ns_to_date(int(ts_ns[0])), ts_ns)
    books = books[:, 0]
    assert books.usable.all()
    assert markets.usable.all()
    assert engine.counts["refused"] == 0
    # The nearest per cent of BTCUSDT held tens of millions of dollars, and did not halve or double in five minutes.
    assert ((books.depth_1pct_usd > 1e6) & (books.depth_1pct_usd < 1e9)).all()
    assert ((books.depth_quality > 0.5) & (books.depth_quality < 2.0)).all()
    assert ((books.fill_probability > 0.38) & (books.fill_probability < 0.86)).all()
    assert (np.abs(books.imbalance) < 0.5).all()
    assert books.imbalance.std() > 1e-3, "a real book moves"
    assert (np.abs(books.withdrawal_velocity) < 0.5).all()
    stepped = OBFeatureEngine([ASSET], ArrayBookProvider({ASSET: snapshots}))
    rows = [stepped.step_live([ASSET], k, int(at)) for k, at in enumerate(ts_ns)]
    assert b"".join(row.tobytes() for _, row in rows) == books.tobytes()


def test_recorded_and_replayed_from_files_the_features_are_the_same(tmp_path: Path) -> None:
    rows = np.array(list(seconds())).view(np.recarray)
    with BookWriter(tmp_path, {"made_by": "a test"}, piece_rows=40) as writer:
        for row in rows:
            writer.append([ASSET], np.array([row]).view(np.recarray), round(row.timestamp * NS_PER_S))
    assert writer.counts["taken"] == len(rows)
    archive = BookArchive.open(tmp_path)
    engines = [
        OBFeatureEngine([ASSET], provider)
        for provider in (ArrayBookProvider({ASSET: rows}), RecordedBookProvider(archive, [ASSET]))
    ]
    day = ns_to_date(round(rows.timestamp[0] * NS_PER_S))
    one, other = (engine.preload_date(day) for engine in engines)
    assert len(one[0]) == len(rows)
    assert one[0].tobytes() == other[0].tobytes()
    assert one[1].tobytes() == other[1].tobytes()
