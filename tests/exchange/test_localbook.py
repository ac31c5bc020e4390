"""The book's states, one rule at a time, by hand (SPEC §8)."""

from __future__ import annotations

import re

import pytest

from dolphin.core.errors import ConfigError, DataError
from dolphin.exchange.depth import DepthDiff, decode_rest_depth, decode_stream
from dolphin.exchange.depthfaults import DepthError, FaultKind
from dolphin.exchange.localbook import MAX_BUFFERED, PROOF, LocalBook, SyncState, Taken
from tests.exchange.streams import SIZES, SYMBOL, diff, snapshot

NOW_NS = 1_000_000_000
BIDS, ASKS = [["100.00", "1"], ["99.00", "2"]], [["100.10", "3"], ["101.20", "4"]]


def new_book() -> LocalBook:
    return LocalBook(SYMBOL, *SIZES)


def take(book: LocalBook, *args: object, ts_ns: int = NOW_NS, **more: object) -> Taken:
    """Apply a diff by hand: first, final, previous identifier, bids, asks."""
    message = decode_stream(diff(*args, **more))
    assert isinstance(message, DepthDiff)
    return book.apply(message, ts_ns)


def load(book: LocalBook, last_id: int = 100, bids: object = BIDS, asks: object = ASKS, **more: object) -> None:
    book.load(decode_rest_depth(snapshot(last_id, bids, asks, **more)), NOW_NS, 1000)


def synced_book() -> LocalBook:
    book = new_book()
    load(book)
    assert take(book, 99, 105, 95) is Taken.APPLIED
    assert book.state is SyncState.SYNCED
    return book


def depths(book: LocalBook) -> tuple[list[float], list[float]]:
    bands = book.bands()
    assert bands is not None
    return bands.snapshot.bid_depth.tolist(), bands.snapshot.ask_depth.tolist()


def test_from_nothing_to_synced() -> None:
    book = new_book()
    assert book.state is SyncState.EMPTY
    assert book.wants_snapshot
    assert take(book, 91, 95, 90, [["98.00", "9"]]) is Taken.BUFFERED  # before the snapshot: dropped by it
    assert take(book, 96, 105, 95, [["99.00", "5"]], [["101.20", "0"]]) is Taken.BUFFERED
    assert book.state is SyncState.BUFFERING
    assert book.bands() is None
    load(book)  # 96 ≤ 100 ≤ 105
    assert book.state is SyncState.SYNCED
    assert not book.wants_snapshot
    assert (book.update_id, book.counts.old, book.counts.applied) == (105, 1, 1)
    # Mid 100.05: 99.00 is 1.05 % away, so in the second band; 101.20, 1.15 % away, is gone.
    assert depths(book) == ([1.0, 5.0, 0, 0, 0], [3.0, 0, 0, 0, 0])
    bands = book.bands()
    assert bands is not None
    assert bands.snapshot.bid_notional.tolist() == [100.0, 495.0, 0, 0, 0]
    assert bands.snapshot.ask_notional.tolist() == [300.3, 0, 0, 0, 0]
    assert bands.mid == pytest.approx(100.05, rel=1e-15)
    assert bands.snapshot.timestamp == 1.0
    assert bands.synced_ns == NOW_NS
    assert bands.whole


def test_a_snapshot_alone_is_not_synced_until_a_diff_joins_it() -> None:
    book = new_book()
    load(book)
    assert book.state is SyncState.BUFFERING
    assert not book.wants_snapshot
    assert take(book, 90, 99, 89, [["99.00", "7"]]) is Taken.OLD  # u < lastUpdateId
    assert take(book, 99, 105, 95) is Taken.APPLIED
    assert depths(book)[0] == [1.0, 2.0, 0, 0, 0]


@pytest.mark.parametrize(
    ("first", "final", "previous"),
    [
        (96, 100, 95),  # u = lastUpdateId: what it changes is in the snapshot already, and harmless
        (100, 110, 95),  # U = lastUpdateId
        (103, 110, 95),  # lastUpdateId in the gap between two diffs' identifiers: nothing can be missing
        (103, 110, 100),  # pu = lastUpdateId
    ],
)
@pytest.mark.parametrize("early", [False, True])
def test_what_joins_a_snapshot(first: int, final: int, previous: int, early: bool) -> None:
    book = new_book()
    if early:
        take(book, first, final, previous)
        load(book)
    else:
        load(book)
        take(book, first, final, previous)
    assert book.state is SyncState.SYNCED
    assert book.update_id == final


def test_a_diff_that_begins_after_the_snapshot_does_not_join_it() -> None:
    book = new_book()
    load(book)
    assert take(book, 103, 110, 101) is Taken.GAP
    assert book.state is SyncState.BUFFERING
    assert book.wants_snapshot
    with pytest.raises(DepthError, match="expected 101 or later") as refused:
        load(book)
    assert refused.value.kind is FaultKind.TOO_OLD
    load(book, 104)
    assert book.state is SyncState.SYNCED


def test_a_gap_asks_for_a_snapshot_and_keeps_what_comes() -> None:
    book = synced_book()
    assert take(book, 111, 115, 110, [["100.00", "8"]]) is Taken.GAP
    assert book.state is SyncState.RESYNC
    assert book.bands() is None
    assert take(book, 116, 120, 115, [["99.90", "1"]]) is Taken.BUFFERED
    load(book, 112)
    assert book.state is SyncState.SYNCED
    assert (book.update_id, book.counts.gaps) == (120, 1)
    assert depths(book)[0] == [9.0, 2.0, 0, 0, 0]


def test_a_gap_among_the_kept_ones_forgets_those_before_it() -> None:
    book = new_book()
    take(book, 91, 95, 90)
    take(book, 111, 115, 110)
    assert book.counts.gaps == 1
    with pytest.raises(DepthError, match="expected 110 or later"):
        load(book, 100)
    assert take(book, 111, 115, 110) is Taken.OLD
    load(book, 113)
    assert book.state is SyncState.SYNCED


def test_duplicates_and_old_ones_are_passed_over() -> None:
    book = synced_book()
    take(book, 106, 110, 105, [["99.90", "1"]])
    assert take(book, 106, 110, 105, [["99.90", "5"]]) is Taken.OLD
    assert take(book, 99, 105, 95, [["99.90", "5"]]) is Taken.OLD
    assert book.state is SyncState.SYNCED
    assert depths(book)[0][0] == 2.0
    assert book.counts.old == 2


def test_identifiers_that_begin_anew_are_no_duplicates() -> None:
    book = synced_book()
    assert take(book, 3, 5, 2, at_ms=1001) is Taken.GAP
    assert book.state is SyncState.RESYNC
    load(book, 4, at_ms=1001)
    assert book.state is SyncState.SYNCED
    assert book.update_id == 5


def test_a_snapshot_of_another_count_is_found_out() -> None:
    """Its identifier is so large that every diff would be an old one for ever."""
    book = new_book()
    load(book, 10**9)
    assert take(book, 106, 110, 105, at_ms=2000) is Taken.OLD  # within a second: the stream may lag
    assert take(book, 111, 115, 110, at_ms=2001) is Taken.GAP
    assert book.wants_snapshot


def test_a_snapshot_from_the_future_is_refused() -> None:
    book = new_book()
    load(book, at_ms=1000 + 60_000)
    other = new_book()
    with pytest.raises(DepthError, match=r"stamped 60\.0 s after its receipt; expected at most 60 s") as refused:
        load(other, at_ms=1001 + 60_000)
    assert refused.value.kind is FaultKind.FROM_THE_FUTURE
    assert other.counts.snapshots_refused == 1
    assert other.state is SyncState.EMPTY


def test_nobody_asked_for_it() -> None:
    book = synced_book()
    with pytest.raises(DepthError, match="nobody waits for it") as refused:
        load(book, 106)
    assert refused.value.kind is FaultKind.UNASKED
    assert book.state is SyncState.SYNCED
    assert book.update_id == 105


@pytest.mark.parametrize("ask", ["100.00", "99.50"])
def test_a_crossed_book_wants_a_snapshot_and_ten_good_updates(ask: str) -> None:
    """Also a locked one: the venue would have matched the two."""
    book = synced_book()
    assert take(book, 106, 110, 105, [], [[ask, "1"]]) is Taken.APPLIED
    assert book.state is SyncState.UNTRUSTED
    assert book.wants_snapshot
    assert book.bands() is None
    assert book.counts.crossed == 1
    assert take(book, 111, 115, 110) is Taken.BUFFERED
    load(book, 112)  # and one good update
    for k in range(2, PROOF + 1):
        assert book.state is SyncState.UNTRUSTED
        assert not book.wants_snapshot
        at = 106 + 5 * k
        take(book, at, at + 4, at - 1)
    assert book.state is SyncState.SYNCED
    assert depths(book) == ([1.0, 2.0, 0, 0, 0], [3.0, 4.0, 0, 0, 0])


def test_a_one_sided_book_is_proven_by_ten_good_updates() -> None:
    book = synced_book()
    take(book, 106, 110, 105, [], [["100.10", "0"], ["101.20", "0"]])
    assert book.state is SyncState.UNTRUSTED
    assert not book.wants_snapshot, "there may really be none"
    assert book.bands() is None
    for k in range(PROOF):
        assert book.state is SyncState.UNTRUSTED
        at = 111 + 5 * k
        take(book, at, at + 4, at - 1, [], [["100.50", "1"]], ts_ns=5 * NOW_NS)
    bands = book.bands()
    assert bands is not None
    assert bands.synced_ns == 5 * NOW_NS
    assert bands.mid == pytest.approx(100.25)


def test_good_updates_count_in_a_row() -> None:
    book = synced_book()
    asks = [[["100.10", "0"], ["101.20", "0"]], [["100.50", "1"]], [["100.50", "0"]], [["100.50", "1"]]]
    for k in range(2 + PROOF):
        at = 106 + 5 * k
        take(book, at, at + 4, at - 1, [], asks[min(k, 3)])
    assert book.state is SyncState.UNTRUSTED
    take(book, 200, 204, book.update_id)
    assert book.state is SyncState.SYNCED


def test_ten_one_sided_updates_ask_for_a_snapshot() -> None:
    book = synced_book()
    for k in range(PROOF):
        assert not book.wants_snapshot
        at = 106 + 5 * k
        take(book, at, at + 4, at - 1, [], [["100.10", "0"], ["101.20", "0"]])
    assert book.wants_snapshot
    assert book.state is SyncState.UNTRUSTED


@pytest.mark.parametrize(("bids", "asks"), [([], ASKS), (BIDS, []), ([], [])])
def test_a_one_sided_snapshot_is_untrusted(bids: object, asks: object) -> None:
    book = new_book()
    load(book, bids=bids, asks=asks)
    assert book.state is SyncState.UNTRUSTED
    take(book, 99, 105, 95)
    assert book.state is SyncState.UNTRUSTED
    assert book.bands() is None


def test_a_crossed_snapshot_is_refused() -> None:
    book = new_book()
    with pytest.raises(DepthError, match=r"best bid 100, best ask 99.9; expected bid < ask") as refused:
        load(book, asks=[["99.90", "1"]])
    assert refused.value.kind is FaultKind.CROSSED
    assert book.wants_snapshot


def test_a_diff_that_is_not_sound_is_refused_whole() -> None:
    book = synced_book()
    with pytest.raises(DepthError, match="level '-1") as refused:
        take(book, 106, 110, 105, [["100.00", "7"], ["99.50", "-1"]])
    assert refused.value.kind is FaultKind.NEGATIVE
    assert book.state is SyncState.RESYNC, "what it had to say is missing"
    assert book.counts.refused == 1
    load(book, 112)
    take(book, 111, 115, 110)
    assert depths(book)[0] == [1.0, 2.0, 0, 0, 0]


def test_a_disconnection_is_a_gap() -> None:
    book = synced_book()
    book.disconnect()
    assert book.state is SyncState.RESYNC
    assert book.wants_snapshot


def test_a_ticker_of_the_same_update_confirms_or_contradicts() -> None:
    book = synced_book()
    ticker = b'{"e":"bookTicker","u":%d,"s":"BTCUSDT","b":"100.00","B":"%d","a":"100.10","A":"3","T":1,"E":1}'
    assert book.check(decode_stream(ticker % (104, 5))) is None
    assert book.check(decode_stream(ticker % (105, 1))) is True
    assert book.state is SyncState.SYNCED
    assert book.check(decode_stream(ticker % (105, 2))) is False
    assert book.state is SyncState.UNTRUSTED
    assert book.wants_snapshot
    assert (book.counts.confirmed, book.counts.contradicted) == (1, 1)


def test_the_buffer_is_bounded_and_keeps_the_newest() -> None:
    book = new_book()
    for k in range(MAX_BUFFERED + 5):
        take(book, 10 * k + 1, 10 * k + 10, 10 * k)
    assert book.counts.forgotten == 5
    with pytest.raises(DepthError, match="expected 50 or later"):
        load(book, 45)
    load(book, 50)
    assert book.state is SyncState.SYNCED
    assert book.update_id == 10 * (MAX_BUFFERED + 5)


def test_levels_beyond_the_window_are_dropped_and_counted() -> None:
    book = synced_book()
    take(book, 106, 110, 105, [["1.00", "5"]], [["100000.00", "5"]])
    assert book.outside == 2
    assert depths(book) == ([1.0, 2.0, 0, 0, 0], [3.0, 4.0, 0, 0, 0])


def test_levels_finer_than_tick_and_lot_make_the_units_finer() -> None:
    """Orders outlive a change of the tick; the recorded CTKUSDT has some at 0.50579 with a tick of 0.001."""
    book = new_book()
    assert take(book, 91, 105, 90, [["99.90", "1"]]) is Taken.BUFFERED
    load(book, bids=[["100.00", "1"], ["99.95", "0.0005"]])
    assert book.state is SyncState.SYNCED, "the diff that was kept has followed"
    assert depths(book)[0] == [2.0005, 0, 0, 0, 0]
    assert take(book, 106, 110, 105, [["99.995", "1"]]) is Taken.BUFFERED
    assert book.state is SyncState.RESYNC
    load(book, 108)
    assert book.state is SyncState.SYNCED
    assert depths(book)[0] == [2.0, 2.0, 0, 0, 0]
    assert book.counts.finer == 2
    bands = book.bands()
    assert bands is not None
    assert bands.mid == pytest.approx(100.05, rel=1e-15)
    assert bands.snapshot.bid_notional[0] == 199.995
    with pytest.raises(DepthError, match="whole ticks"):
        take(book, 111, 115, 110, [["99.9912345", "1"]])
    load(book, 115)
    take(book, 111, 115, 110)
    assert depths(book)[0] == [1.0, 2.0, 0, 0, 0], "a level that is too fine changes nothing"


def test_values_beyond_counting_end_the_trust() -> None:
    book = synced_book()
    large = str((1 << 61) // 1000 // 1000 - 1)  # one level may be that much; two are too much
    take(book, 106, 110, 105, [["100.00", large], ["99.90", large]])
    assert book.state is SyncState.UNTRUSTED
    assert book.wants_snapshot


@pytest.mark.parametrize("size", ["0", "-0.1", "NaN", "x", "", "0.0000000000001", "1e9"])
def test_sizes_that_are_none(size: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"BTCUSDT: tick size {size}; expected a decimal number above 0")):
        LocalBook(SYMBOL, size, "0.001")
    with pytest.raises(ConfigError, match="lot size"):
        LocalBook(SYMBOL, "0.1", size)


@pytest.mark.parametrize("reach", [0.05, 0.6, float("nan")])
def test_a_reach_that_is_none(reach: float) -> None:
    with pytest.raises(ConfigError, match=r"expected 0\.06 to 0\.5"):
        LocalBook(SYMBOL, *SIZES, reach=reach)


def test_a_fault_is_bad_input() -> None:
    assert issubclass(DepthError, DataError)
    assert DepthError(FaultKind.CROSSED, "x").exit_code == 2
