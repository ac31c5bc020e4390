"""The recorded stream: never crossed, no diff missing, and at every message the reference's bands (SPEC §8)."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dolphin.book.layout import BANDS
from dolphin.core.records import Record
from dolphin.exchange.bands import band_checksum
from dolphin.exchange.localbook import LocalBook, SyncState
from tests.exchange.streams import LIMIT, SIZES, SYMBOL, Message, is_diff, is_snapshot, new_books, recording
from tests.reference.depth_ref import DictBook

FIELDS = ("bid_notional", "ask_notional", "bid_depth", "ask_depth")


def numbers(row: Record) -> list[float]:
    return [x for field in FIELDS for x in row[field].tolist()]


def same(book: LocalBook, reference: DictBook, message: Message, expected: list[float]) -> None:
    """The book is SYNCED at the reference's update, with its numbers."""
    bands = book.bands()
    assert bands is not None, book.counts
    assert bands.update_id == reference.update_id
    assert bands.snapshot.timestamp == pytest.approx(message.ts_ns / 1e9, abs=1e-6)
    assert bands.checksum == band_checksum(bands.snapshot)
    bid, ask = reference.top()
    assert bid < ask, "the recorded book is never crossed"
    assert bands.mid == pytest.approx((bid + ask) * 0.05, rel=1e-15)
    assert numbers(bands.snapshot) == expected


@pytest.mark.slow
def test_the_bands_are_the_references_at_every_message() -> None:
    """Two books: one takes the snapshot for all there is; the other knows that it is cut short, and asks again when the
    market, which fell by 0.25 % in these minutes, nears its end."""
    (books, once), (others, again) = new_books(), new_books()
    reference = DictBook(*SIZES)
    before: list[dict[str, Any]] = []
    compared, diffs = 0, 0
    for message in recording():
        if is_snapshot(message):
            reference.load(json.loads(message.raw))
            for data in before:
                if data["u"] >= reference.update_id:
                    reference.apply(data)
            assert books.feed_snapshot(SYMBOL, message.raw, message.ts_ns, LIMIT + 1)
            assert others.feed_snapshot(SYMBOL, message.raw, message.ts_ns, LIMIT)
            assert once.state is again.state is SyncState.SYNCED, "the diff that joins it had come before it"
            continue
        books.feed(message.raw, message.ts_ns)
        others.feed(message.raw, message.ts_ns)
        if not is_diff(message):
            continue
        diffs += 1
        data = json.loads(message.raw)["data"]
        if not reference.update_id:
            before.append(data)
            continue
        assert data["pu"] == reference.update_id, "no diff is missing from the recording"
        reference.apply(data)
        expected = reference.numbers()
        same(once, reference, message, expected)
        same(again, reference, message, expected)
        if again.wants_snapshot and not once.wants_snapshot:
            assert others.feed_snapshot(SYMBOL, reference.rest(LIMIT), message.ts_ns, LIMIT)
        if compared % 100 == 0:
            assert expected == reference.numbers_slowly()
            for book in (once, again):
                assert book._cells.recounted().tobytes() == book._cells.core.tobytes()
        compared += 1
    assert (diffs, compared) == (6551, 6545)
    for book in (once, again):
        assert book.counts.applied == 6547  # two of the six that came before the snapshot reach beyond it
        assert book.counts.old == 4
        assert book.counts.gaps == book.counts.crossed == book.counts.one_sided == book.counts.refused == 0
        assert book.counts.confirmed > 100, "tickers of the same update show the same best prices and quantities"
        assert book.counts.contradicted == book.counts.outrun == 0
    assert once.counts.refreshed == 0
    assert again.counts.refreshed >= 1
    assert not books.faults, books.last_fault
    assert not others.faults, others.last_fault


def test_a_market_that_leaves_what_the_snapshot_showed_is_not_followed_blindly() -> None:
    """Nobody fetches the snapshot that the book asks for: it stops being SYNCED before a best price can be missing."""
    books, book = new_books()
    asked = outrun = 0
    for i, message in enumerate(recording()):
        if is_snapshot(message):
            books.feed_snapshot(SYMBOL, message.raw, message.ts_ns, LIMIT)
            known = json.loads(message.raw)["bids"][-1][0]
        elif is_diff(message):
            books.feed(message.raw, message.ts_ns)
            asked = asked or (i if book.state is SyncState.SYNCED and book.wants_snapshot else 0)
            if book.counts.outrun:
                outrun = i
                break
    assert 0 < asked < outrun
    assert book.state is SyncState.RESYNC
    assert book._cells.top()[0] * 0.1 < float(known)


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
