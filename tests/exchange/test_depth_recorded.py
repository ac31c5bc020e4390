"""The recorded stream: never crossed, no diff missing, and at every message the reference's bands (SPEC §8)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dolphin.book.layout import BANDS
from dolphin.core.records import Record
from dolphin.exchange.bands import band_checksum
from dolphin.exchange.localbook import SyncState
from tests.exchange.streams import LIMIT, SIZES, SYMBOL, is_diff, is_snapshot, new_books, recording
from tests.reference.depth_ref import DictBook

FIELDS = ("bid_notional", "ask_notional", "bid_depth", "ask_depth")


def numbers(row: Record) -> list[float]:
    return [x for field in FIELDS for x in row[field].tolist()]


@pytest.mark.slow
def test_the_bands_are_the_references_at_every_message() -> None:
    books, book = new_books()
    reference = DictBook(*SIZES)
    before: list[dict[str, Any]] = []
    compared, slowly, diffs = 0, 0, 0
    for message in recording():
        if is_snapshot(message):
            reference.load(json.loads(message.raw))
            for data in before:
                if data["u"] >= reference.update_id:
                    reference.apply(data)
            assert books.feed_snapshot(SYMBOL, message.raw, message.ts_ns, LIMIT)
            assert book.state is SyncState.SYNCED, "the diff that joins it had come before it"
            continue
        assert books.feed(message.raw, message.ts_ns) is (book if b'"e":"trade"' not in message.raw else None)
        if not is_diff(message):
            continue
        diffs += 1
        data = json.loads(message.raw)["data"]
        if reference.update_id:
            assert data["pu"] == reference.update_id, "no diff is missing from the recording"
            reference.apply(data)
        else:
            before.append(data)
        bands = book.bands()
        if bands is None:
            assert not reference.update_id
            continue
        assert bands.update_id == data["u"] == reference.update_id
        assert bands.snapshot.timestamp == pytest.approx(message.ts_ns / 1e9, abs=1e-6)
        assert bands.checksum == band_checksum(bands.snapshot)
        bid, ask = reference.top()
        assert bid < ask, "the recorded book is never crossed"
        assert bands.mid == pytest.approx((bid + ask) * 0.05, rel=1e-15)
        assert numbers(bands.snapshot) == reference.numbers()
        if compared % 100 == 0:
            assert numbers(bands.snapshot) == reference.numbers_slowly()
            assert book._cells.recounted().tobytes() == book._cells.core.tobytes()
            slowly += 1
        compared += 1
    assert (diffs, compared, slowly) == (6551, 6545, 66)
    assert book.counts.applied == 6547  # two of the six that came before the snapshot were after it
    assert book.counts.old == 4
    assert book.counts.gaps == book.counts.crossed == book.counts.one_sided == book.counts.refused == 0
    assert book.counts.confirmed > 100, "tickers of the same update show the same best prices and quantities"
    assert book.counts.contradicted == 0
    assert not books.faults, books.last_fault


def test_a_thousand_levels_do_not_reach_one_per_cent_and_the_coverage_says_so() -> None:
    books, book = new_books()
    for message in recording()[:80]:
        if is_snapshot(message):
            books.feed_snapshot(SYMBOL, message.raw, message.ts_ns, LIMIT)
        else:
            books.feed(message.raw, message.ts_ns)
    bands = book.bands()
    assert bands is not None
    # The snapshot goes from 61653.40 to 61976.20 around 61800.25.
    assert bands.bid_coverage == pytest.approx((61800.25 - 61653.40) / 61800.25, rel=1e-3)
    assert bands.ask_coverage == pytest.approx((61976.20 - 61800.25) / 61800.25, rel=1e-3)
    assert not bands.whole
    assert len(bands.snapshot.bid_notional) == BANDS
    assert np.isfinite(numbers(bands.snapshot)).all()


def test_a_snapshot_that_was_not_cut_short_covers_everything() -> None:
    books, book = new_books()
    for message in recording()[:80]:
        if is_snapshot(message):
            books.feed_snapshot(SYMBOL, message.raw, message.ts_ns, LIMIT + 1)
        else:
            books.feed(message.raw, message.ts_ns)
    bands = book.bands()
    assert bands is not None
    assert bands.whole
    assert bands.bid_coverage == pytest.approx(0.2, rel=0.02)
