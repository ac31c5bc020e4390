"""A SYNCED book whose market nears the end of what its snapshot showed, by hand (SPEC §8)."""

from __future__ import annotations

import pytest

from dolphin.exchange.depth import decode_rest_depth
from dolphin.exchange.depthfaults import DepthError
from dolphin.exchange.localbook import LocalBook, SyncState
from tests.exchange.streams import snapshot
from tests.exchange.test_localbook import NOW_NS, depths, load, new_book, take


def thin_book() -> LocalBook:
    """Two levels a side were asked for; the market has fallen to near the lower of the bids."""
    book = new_book()
    two = decode_rest_depth(snapshot(100, [["100.00", "1"], ["98.00", "2"]], [["100.10", "3"], ["102.10", "4"]]))
    book.load(two, NOW_NS, 2)
    take(book, 99, 105, 95, [["96.00", "6"]])  # beyond what the snapshot showed, learned from a diff
    assert not book.wants_snapshot
    take(book, 106, 110, 105, [["100.00", "0"], ["98.50", "1"]], [["99.00", "5"]])
    return book


def test_a_synced_book_asks_for_what_lies_farther_out() -> None:
    book = thin_book()
    assert book.state is SyncState.SYNCED
    assert book.wants_snapshot
    bands = book.bands()
    assert bands is not None
    assert bands.bid_coverage == pytest.approx((98.75 - 98.0) / 98.75)
    take(book, 111, 115, 110, [["97.00", "7"]])
    two = decode_rest_depth(snapshot(118, [["98.50", "1"], ["97.50", "9"]], [["99.00", "5"], ["100.10", "3"]]))
    book.load(two, NOW_NS, 2)
    assert not book.wants_snapshot
    assert book.state is SyncState.SYNCED, "the diff that joins it is still to come, and the book goes on"
    take(book, 116, 120, 115, [["98.50", "2"]])
    assert book.counts.refreshed == 1
    assert book.state is SyncState.SYNCED
    bands = book.bands()
    assert bands is not None
    assert bands.synced_ns == NOW_NS
    assert bands.bid_coverage == pytest.approx((98.75 - 97.5) / 98.75)
    assert bands.ask_coverage == pytest.approx((102.1 - 98.75) / 98.75), "what was known stays known"
    # Learned: 97.50, which never changed since before the first snapshot. Kept: 98.00 is gone in the new one.
    assert depths(book) == ([2.0, 9.0 + 7.0, 6.0, 0, 0], [5.0, 3.0, 0, 4.0, 0])


def test_a_gap_ends_the_asking_too() -> None:
    book = thin_book()
    take(book, 121, 125, 120)
    assert book.state is SyncState.RESYNC
    load(book, 122)
    assert book.state is SyncState.SYNCED
    assert book.counts.refreshed == 0


def test_a_bad_snapshot_does_not_disturb_a_synced_book() -> None:
    book = thin_book()
    with pytest.raises(DepthError, match="expected bid < ask"):
        load(book, 112, asks=[["99.90", "1"]])
    assert book.state is SyncState.SYNCED
    assert book.wants_snapshot
    assert book.counts.snapshots_refused == 1


def test_units_that_become_finer_in_the_second_book_replace_the_first() -> None:
    book = thin_book()
    load(book, 112, bids=[["98.50", "1"], ["98.45", "1"]], asks=[["99.00", "5"]])
    take(book, 111, 115, 110)
    assert book.state is SyncState.SYNCED
    assert depths(book) == ([2.0, 0, 0, 0, 0], [5.0, 0, 0, 0, 0])


def test_a_market_beyond_what_is_known_is_not_followed() -> None:
    book = thin_book()
    take(book, 111, 115, 110, [["98.50", "0"], ["98.00", "0"]], [["97.90", "1"]])
    assert book.state is SyncState.RESYNC, "96.00 is the best bid that is held; there may be a better one"
    assert book.counts.outrun == 1
