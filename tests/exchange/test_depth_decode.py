"""Messages that are sound, that are none of ours, and that are bad: one line each, counted, never a crash (SPEC §8)."""

from __future__ import annotations

import json

import msgspec
import pytest

from dolphin.core.errors import ConfigError
from dolphin.exchange.depth import MAX_BYTES, BookTicker, DepthDiff, Notice, decode_rest_depth, decode_stream
from dolphin.exchange.depthbooks import DepthBooks
from dolphin.exchange.depthfaults import FaultKind
from dolphin.exchange.localbook import SyncState
from tests.exchange.streams import SYMBOL, diff, is_snapshot, new_books, recording, snapshot
from tests.support.shared import recorded

NOW_NS = 1_000_000_000
LEVELS = [["100.00", "1"]]


def wrapped(body: bytes) -> bytes:
    return b'{"stream":"btcusdt@depth@100ms","data":' + body + b"}"


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("text", [False, True])
def test_a_diff_alone_and_wrapped(wrap: bool, text: bool) -> None:
    body = diff(7, 9, 5, LEVELS, [], at_ms=1234, ps="BTCUSDT", st=1, nested={"a": [1, {"b": None}]})
    raw: bytes | str = wrapped(body) if wrap else body
    found = decode_stream(raw.decode() if text else raw)
    assert isinstance(found, DepthDiff)
    assert (found.symbol, found.first_id, found.final_id, found.previous_id) == (SYMBOL, 7, 9, 5)
    assert (found.event_ms, found.transact_ms) == (1234, 1234)
    assert json.loads(bytes(found.bids)) == LEVELS
    assert bytes(found.asks) == b"[]"


def test_fields_in_another_order() -> None:
    body = json.loads(diff(7, 9, 5))
    turned = json.dumps(dict(reversed(body.items()))).encode()
    assert isinstance(decode_stream(turned), DepthDiff)
    outside_in = b'{"data":' + turned + b',"stream":"btcusdt@depth"}'
    assert isinstance(decode_stream(outside_in), DepthDiff)
    assert isinstance(decode_stream(b' { "stream" : "x", "data" : ' + turned + b"}"), DepthDiff)


def test_the_documented_shapes() -> None:
    folder = recorded("payloads") / "futures_documented"
    found = [decode_stream((folder / f"{name}.json").read_bytes()) for name in ("depth_update_stream", "trade_stream")]
    assert isinstance(found[0], DepthDiff)
    assert found[1] == Notice("trade")
    assert isinstance(decode_stream((folder / "book_ticker_stream.json").read_bytes()), BookTicker)
    assert isinstance(decode_stream((folder / "ws_futures_book_ticker.json").read_bytes()), BookTicker)
    assert decode_stream((folder / "mark_price_stream.json").read_bytes()) == Notice("markPriceUpdate")
    assert decode_rest_depth((folder / "http_futures_market_depth.json").read_bytes()).last_id == 1027024


def test_every_recorded_message_is_understood() -> None:
    counted = {DepthDiff: 0, BookTicker: 0, Notice: 0}
    for message in recording():
        if not is_snapshot(message):
            counted[type(decode_stream(message.raw))] += 1
    assert counted == {DepthDiff: 6551, BookTicker: 66089, Notice: 21313}


def test_an_older_recording_of_other_contracts_goes_in_sequence() -> None:
    """2021: other ticks, whole lots, every 100 ms; CTKUSDT has levels from a time when its tick was finer."""
    folder = recorded("payloads")
    sizes = {"SUSHIUSDT": "0.0010", "AKROUSDT": "0.00001", "KEEPUSDT": "0.0001", "CTKUSDT": "0.00100"}
    books = DepthBooks({symbol: (tick, "1") for symbol, tick in sizes.items()})
    snapshots = {}
    for line in (folder / "BINANCE_FUTURES.http.0.0").read_text().splitlines():
        url, _, rest = line.partition(" -> ")
        if not rest:
            continue
        stamp, _, body = rest.partition(": ")
        snapshots[url.split("symbol=")[1].split("&")[0]] = (int(float(stamp) * 1e9), body)
    applied = 0
    for line in (folder / "BINANCE_FUTURES.ws.1.0").read_text().splitlines()[1:]:
        stamp, _, body = line.partition(": ")
        if '"depthUpdate"' in body:
            applied += books.feed(body, int(float(stamp) * 1e9)) is not None
        for symbol, (at_ns, text) in list(snapshots.items()):
            if at_ns < float(stamp) * 1e9 and symbol in sizes and books.books[symbol].wants_snapshot:
                books.feed_snapshot(symbol, text, at_ns, 1000)
                del snapshots[symbol]
    assert applied > 100
    assert not books.faults, books.last_fault
    assert {symbol: book.state for symbol, book in books.books.items()} == dict.fromkeys(sizes, SyncState.SYNCED)
    assert [book.counts.finer for book in books.books.values()] == [0, 0, 0, 1]
    for book in books.books.values():
        assert (book.counts.gaps, book.counts.crossed) == (0, 0)
        bands = book.bands()
        assert bands is not None
        assert bands.snapshot.bid_notional.sum() > 1e4


def test_replies_and_other_events_are_notices() -> None:
    books, _ = new_books()
    for raw in (b'{"result":null,"id":1}', b'{"stream":"x","data":{"e":"trade","p":"1"}}', b'{"e":"kline","k":{}}'):
        assert books.feed(raw, NOW_NS) is None
    assert books.notices == 3
    assert not books.faults


BAD = {
    "empty": (b"", FaultKind.MALFORMED),
    "cut short": (diff(1, 2, 0)[:-3], FaultKind.MALFORMED),
    "two": (diff(1, 2, 0) * 2, FaultKind.MALFORMED),
    "no json": (b"\xff\xfe\x00\x01\n", FaultKind.MALFORMED),
    "very deep": (b'{"x":' + b"[" * 100_000, FaultKind.MALFORMED),
    "a list": (b"[1,2]", FaultKind.WRONG_TYPE),
    "nothing known": (b"{}", FaultKind.WRONG_TYPE),
    "wrapped nothing": (b'{"stream":"x","data":{}}', FaultKind.WRONG_TYPE),
    "wrapped null": (b'{"stream":"x","data":null}', FaultKind.WRONG_TYPE),
    "an identifier as text": (diff("1", 2, 0), FaultKind.WRONG_TYPE),
    "a fractional identifier": (diff(1.5, 2, 0), FaultKind.WRONG_TYPE),
    "a negative identifier": (diff(1, 2, -1), FaultKind.WRONG_TYPE),
    "an enormous identifier": (diff(1, 2**70, 0), FaultKind.WRONG_TYPE),
    "an identifier of NaN": (diff(1, 2, 0).replace(b'"pu": 0', b'"pu": NaN'), FaultKind.MALFORMED),
    "no identifier": (diff(1, 2, 0).replace(b'"pu"', b'"px"'), FaultKind.WRONG_TYPE),
    "no bids": (diff(1, 2, 0).replace(b'"b"', b'"c"'), FaultKind.WRONG_TYPE),
    "a symbol of null": (diff(1, 2, 0, s=None), FaultKind.WRONG_TYPE),
    "another symbol": (diff(1, 2, 0, s="ETHUSDT"), FaultKind.UNKNOWN_SYMBOL),
    "a symbol of line ends": (diff(1, 2, 0, s="ETH\nUSDT\u2028"), FaultKind.UNKNOWN_SYMBOL),
    "U after u": (diff(3, 2, 0), FaultKind.BAD_SEQUENCE),
    "pu after u": (diff(1, 2, 3), FaultKind.BAD_SEQUENCE),
    "too long": (b" " * (MAX_BYTES + 1), FaultKind.TOO_LARGE),
    "an error": (b'{"error":{"code":2,"msg":"Invalid request"},"id":1}', FaultKind.VENUE_ERROR),
    "a rest error": (b'{"code":-1121,"msg":"Invalid symbol."}', FaultKind.VENUE_ERROR),
    "levels of null": (diff(1, 2, 0, None), FaultKind.BAD_LEVELS),
    "levels of text": (diff(1, 2, 0, "100"), FaultKind.BAD_LEVELS),
    "levels of objects": (diff(1, 2, 0, [{"p": "1"}]), FaultKind.BAD_LEVELS),
    "a level of one": (diff(1, 2, 0, [["1"]]), FaultKind.BAD_LEVELS),
    "a level of three": (diff(1, 2, 0, [["1", "2", "3"]]), FaultKind.BAD_LEVELS),
    "numbers without quotes": (diff(1, 2, 0, [[100.1, 1]]), FaultKind.BAD_LEVELS),
    "a price of zero": (diff(1, 2, 0, [], [["0.00", "1"]]), FaultKind.ZERO_PRICE),
    "a negative price": (diff(1, 2, 0, [["-1.00", "1"]]), FaultKind.NEGATIVE),
    "a negative quantity": (diff(1, 2, 0, [["1.00", "-1"]]), FaultKind.NEGATIVE),
    "NaN in quotes": (diff(1, 2, 0, [["NaN", "1"]]), FaultKind.BAD_NUMBER),
    "NaN without": (diff(1, 2, 0, [[float("nan"), "1"]]), FaultKind.MALFORMED),
    "infinity": (diff(1, 2, 0, [["1.0", "inf"]]), FaultKind.BAD_NUMBER),
    "an exponent": (diff(1, 2, 0, [["1e3", "1"]]), FaultKind.BAD_NUMBER),
    "off the tick": (diff(1, 2, 0, [["100.05123", "1"]]), FaultKind.OFF_TICK),
    "off the lot": (diff(1, 2, 0, [["100.00", "0.0000005"]]), FaultKind.OFF_LOT),
    "a price beyond counting": (diff(1, 2, 0, [["9" * 30, "1"]]), FaultKind.TOO_LARGE),
    "a value beyond counting": (diff(1, 2, 0, [["9" * 10, "9" * 10]]), FaultKind.TOO_LARGE),
    "too many levels": (diff(1, 2, 0, [["1.0", "1"]] * 16_385), FaultKind.TOO_LARGE),
}


@pytest.mark.parametrize("wrap", [False, True])
@pytest.mark.parametrize("name", BAD)
def test_bad_messages_are_counted_in_one_line_and_the_next_one_is_taken(name: str, wrap: bool) -> None:
    raw, kind = BAD[name]
    books, book = new_books()
    assert books.feed(wrapped(raw) if wrap and raw else raw, NOW_NS) is None
    if not (wrap and name in ("a rest error", "an error", "a list", "two", "nothing known", "very deep", "too long")):
        assert books.faults == {kind.value: 1}, books.last_fault
    assert books.faults.total() == 1
    assert books.last_fault.isprintable()
    assert 20 < len(books.last_fault) < 330
    assert book.counts.applied == book.counts.buffered == 0
    assert books.feed(diff(99, 105, 95), NOW_NS) is book
    assert books.feed_snapshot(SYMBOL, snapshot(100, LEVELS, [["100.10", "1"]]), NOW_NS, 1000)
    assert book.state is SyncState.SYNCED


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        (b"", FaultKind.MALFORMED),
        (b"<html>502</html>", FaultKind.MALFORMED),
        (b"{}", FaultKind.WRONG_TYPE),
        (b'{"code":-1003,"msg":"Too many requests"}', FaultKind.VENUE_ERROR),
        (snapshot(1, [["1.0", "x"]], []), FaultKind.BAD_NUMBER),
        (snapshot(1, [["1.0", "1"]], [["0.9", "1"]]), FaultKind.CROSSED),
        (snapshot(1, LEVELS, [], at_ms=10**6), FaultKind.FROM_THE_FUTURE),
        (snapshot(1, LEVELS, [], at_ms="x"), FaultKind.WRONG_TYPE),
        (b" " * (MAX_BYTES + 1), FaultKind.TOO_LARGE),
    ],
)
def test_bad_snapshots_are_counted_and_still_wanted(raw: bytes, kind: FaultKind) -> None:
    books, _ = new_books()
    assert not books.feed_snapshot(SYMBOL, raw, NOW_NS, 1000)
    assert books.faults == {kind.value: 1}, books.last_fault
    assert books.last_fault.isprintable()
    assert books.wanting() == [SYMBOL]


def test_books_of_several_symbols() -> None:
    books = DepthBooks({"BTCUSDT": ("0.1", "0.001"), "ETHUSDT": ("0.01", "0.001")})
    books.feed(diff(99, 105, 95), NOW_NS)
    assert books.feed_snapshot("BTCUSDT", snapshot(100, LEVELS, [["100.10", "1"]]), NOW_NS, 1000)
    assert books.wanting() == ["ETHUSDT"]
    assert not books.feed_snapshot("SOLUSDT", snapshot(1, [], []), NOW_NS, 1000)
    assert books.faults == {"unknown_symbol": 1}
    books.disconnect()
    assert books.wanting() == ["BTCUSDT", "ETHUSDT"]
    with pytest.raises(ConfigError, match="no symbol"):
        DepthBooks({})


def test_a_contradicting_ticker_is_no_fault_of_the_message() -> None:
    books, book = new_books()
    books.feed(diff(99, 105, 95), NOW_NS)
    books.feed_snapshot(SYMBOL, snapshot(100, LEVELS, [["100.10", "1"]]), NOW_NS, 1000)
    ticker = {"e": "bookTicker", "u": 105, "s": SYMBOL, "b": "100.00", "B": "1", "a": "100.20", "A": "1"}
    assert books.feed(json.dumps(ticker), NOW_NS) is book
    assert book.state is SyncState.UNTRUSTED
    assert not books.faults
    for bad in ({**ticker, "b": "x"}, {**ticker, "b": 1}, {**ticker, "b": '"]]'}):
        fresh, whole = new_books()
        fresh.feed(diff(99, 105, 95), NOW_NS)
        fresh.feed_snapshot(SYMBOL, snapshot(100, LEVELS, [["100.10", "1"]]), NOW_NS, 1000)
        fresh.feed(json.dumps(bad), NOW_NS)
        assert fresh.faults.total() == 1
        assert whole.state is SyncState.SYNCED


def test_messages_cannot_be_changed() -> None:
    found = decode_stream(diff(1, 2, 0))
    with pytest.raises(AttributeError, match="immutable"):
        found.symbol = "X"  # type: ignore[union-attr,misc]
    assert isinstance(found, msgspec.Struct)
