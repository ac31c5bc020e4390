"""The synthetic book: consistent with its streams, never crossed, the same for the same seed, of bounded size."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError, DataError
from dolphin.exchange.sim.book import Book, next_above, next_below
from dolphin.exchange.sim.faults import FaultPlan
from dolphin.exchange.sim.feed import TICK_MS, Feed
from dolphin.exchange.sim.hub import Hub, Limits
from dolphin.exchange.sim.recorded import RecordedMarket
from dolphin.exchange.sim.server import SimExchange
from dolphin.exchange.sim.symbols import Contract, fixed, whole
from dolphin.exchange.sim.synthetic import SyntheticMarket
from tests.support.loopback import BTC, DOGE, ETH, START_MS, Client, PlainBook, levels, market, play, take, walk
from tests.support.shared import recorded


class Tape:
    """A hub that keeps everything that is published, of every stream."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []

    def wants(self, _stream: str) -> bool:
        return True

    def publish(self, stream: str, payload: str) -> None:
        self.messages.append((stream, payload))

    def of(self, stream: str) -> list[dict]:
        return [json.loads(text) for name, text in self.messages if name == stream]


def run_offline(source: SyntheticMarket, ticks: int) -> tuple[Tape, Feed]:
    """The market without any server: what it publishes in so many ticks of the clock."""
    tape = Tape()
    feed = Feed(tape, source.contracts, source.start_ms)  # type: ignore[arg-type]
    source.open(feed)
    feed.opened()
    for k in range(1, ticks + 1):
        now = source.start_ms + k * TICK_MS
        source.advance(now, feed)
        feed.flush(now)
    return tape, feed


@given(whole_number=st.integers(-(10**15), 10**15), decimals=st.integers(0, 10))
def test_decimal_texts_are_exact(whole_number: int, decimals: int) -> None:
    text = fixed(whole_number, decimals)
    assert Decimal(text) == Decimal(whole_number).scaleb(-decimals)
    assert len(text.partition(".")[2]) == decimals
    if whole_number >= 0:
        assert whole(text, decimals) == whole_number


def test_decimal_texts_by_hand() -> None:
    assert [fixed(420001, 1), fixed(7, 3), fixed(-5, 2), fixed(12, 0)] == ["42000.1", "0.007", "-0.05", "12"]
    assert whole("61800.2", 2) == 6_180_020
    for bad in ("", "1.234", "-1", "1e3", "1.2.3", "١"):
        with pytest.raises(ValueError):
            whole(bad, 2)


def test_a_book_by_hand() -> None:
    book = Book()
    assert (book.best_bid, book.best_ask, book.top(5)) == (0, 0, ([], []))
    book.apply([(99, 5), (98, 7)], [(101, 1), (103, 2)], 10, 1)
    book.apply([(99, 0), (97, 0)], [(102, 4)], 12, 2)
    assert book.top(2) == ([(98, 7)], [(101, 1), (102, 4)])
    assert (book.best_bid, book.best_ask, book.last_id) == (98, 101, 12)
    assert (next_below(book.asks, 103), next_below(book.asks, 101), next_above(book.bids, 98)) == (102, 0, 0)
    assert next_above(book.asks, 1) == 101, "farther than the short walk"


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 2**32), step=st.sampled_from([0.0, 4e-4, 2e-2]))
def test_the_book_is_never_crossed_thin_or_endless_and_its_diffs_say_all(seed: int, step: float) -> None:
    contracts = (BTC, DOGE, Contract("CHEAPUSDT", 2, 0, 0.9))
    source = market(*contracts, seed=seed, step=step)
    tape, feed = Tape(), None
    feed = Feed(tape, source.contracts, source.start_ms)  # type: ignore[arg-type]
    source.open(feed)
    feed.opened()
    plain = {c.symbol: (dict(feed.lines[c.symbol].book.bids), dict(feed.lines[c.symbol].book.asks)) for c in contracts}
    last = {c.symbol: feed.lines[c.symbol].book.last_id for c in contracts}
    for k in range(1, 301):
        tape.messages.clear()
        now = source.start_ms + k * TICK_MS
        source.advance(now, feed)
        for contract in contracts:
            book = feed.lines[contract.symbol].book
            assert 0 < book.best_bid < book.best_ask
            assert all(q > 0 for q in (*book.bids.values(), *book.asks.values()))
            assert 20 <= len(book.bids) < 2000
            assert 20 <= len(book.asks) < 2000
            for diff in tape.of(f"{contract.stream}@depth@0ms"):
                assert diff["pu"] == last[contract.symbol] < diff["U"] <= diff["u"]
                last[contract.symbol] = diff["u"]
                for side, text in zip(plain[contract.symbol], (diff["b"], diff["a"]), strict=True):
                    for price, qty in text:
                        side[whole(price, contract.price_decimals)] = whole(qty, contract.qty_decimals)
            for side, truth in zip(plain[contract.symbol], (book.bids, book.asks), strict=True):
                assert {p: q for p, q in side.items() if q} == truth


def test_the_book_stays_of_one_size_while_prices_travel() -> None:
    source = market(BTC, DOGE, step=3e-3)
    _, feed = run_offline(source, 200)
    early = {s: len(line.book.bids) + len(line.book.asks) for s, line in feed.lines.items()}
    for k in range(201, 4001):
        source.advance(source.start_ms + k * TICK_MS, feed)
    late = {s: len(line.book.bids) + len(line.book.asks) for s, line in feed.lines.items()}
    for symbol, size in late.items():
        assert size < 2 * early[symbol] + 200, symbol


def test_bands_reach_beyond_five_percent() -> None:
    _, feed = run_offline(market(BTC, DOGE), 100)
    for line in feed.lines.values():
        mid = line.mid
        for side in (line.book.bids, line.book.asks):
            bands = [0.0] * 5
            for price, qty in side.items():
                band = int(abs(price - mid) / mid * 100)
                if band < 5:
                    bands[band] += price * qty
            assert min(bands) > 0.0


def test_the_same_seed_gives_the_same_messages_and_another_gives_others() -> None:
    first, second, other = (run_offline(market(seed=s), 60)[0].messages for s in (7, 7, 8))
    assert first == second
    assert first != other
    assert len({name.partition("@")[2] for name, _ in first}) >= 15


def test_the_price_follows_what_is_handed_in() -> None:
    # 42000 → 42420 within the 5 s of one bar: after half of it the touch is near 42210, at its end near 42420.
    source = SyntheticMarket((BTC,), [np.array([42_000.0]), np.array([42_420.0])], start_ms=START_MS, bar_seconds=5)
    _, feed = run_offline(source, 100)
    assert abs(feed.lines["BTCUSDT"].mid / 10 - 42_000.0) < 12
    for k in range(101, 151):
        source.advance(START_MS + k * TICK_MS, feed)
    assert abs(feed.lines["BTCUSDT"].mid / 10 - 42_210.0) < 12
    for k in range(151, 201):
        assert source.advance(START_MS + k * TICK_MS, feed)
    assert abs(feed.lines["BTCUSDT"].mid / 10 - 42_420.0) < 12
    assert not source.advance(START_MS + 201 * TICK_MS, feed), "the prices have ended"


def test_a_missing_price_keeps_the_last_one() -> None:
    rows = [np.array([42_000.0, np.nan]), np.array([np.nan, -1.0])]
    source = SyntheticMarket((BTC, DOGE), rows, start_ms=START_MS)
    _, feed = run_offline(source, 200)
    assert abs(feed.lines["DOGEUSDT"].mid - 9050) < 12
    assert abs(feed.lines["BTCUSDT"].mid / 10 - 42_000.0) < 12


def test_history_becomes_klines() -> None:
    # Two minutes of 30 s bars: the second kline opens where the first closed.
    history = np.array([[41_990.0], [42_010.0], [41_995.5], [np.nan]])
    source = SyntheticMarket((BTC,), walk((BTC,)), start_ms=START_MS, bar_seconds=30, history=history)
    _, feed = run_offline(source, 1)
    klines = feed.lines["BTCUSDT"].klines
    rows = klines.between(0, START_MS - 60_000, 10, newest=True)
    minute = START_MS // 60_000 * 60_000
    assert [r[:5] for r in rows] == [
        [minute - 120_000, "41990.0", "42010.0", "41990.0", "42010.0"],
        [minute - 60_000, "42010.0", "42010.0", "41995.5", "41995.5"],
    ]
    assert abs(feed.lines["BTCUSDT"].mid / 10 - 41_995.5) < 12
    # Two closes in the first of them, one in the second (the other is missing), a lot each.
    assert [(r[5], r[8]) for r in rows] == [("0.002", 2), ("0.001", 1)]
    opens = [minute - 120_000, minute - 60_000, minute]
    for low in range(3):
        for high in range(low, 3):
            for count in (1, 2, 5):
                asked = opens[low : high + 1]
                ends = {
                    newest: [r[0] for r in klines.between(opens[low], opens[high], count, newest=newest)]
                    for newest in (True, False)
                }
                assert ends == {True: asked[-count:], False: asked[:count]}


def test_bad_markets_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected \(1,\) closes"):
        run_offline(SyntheticMarket((BTC,), [np.array([1.0, 2.0])], start_ms=START_MS), 3)
    with pytest.raises(ConfigError, match="divisor of 60"):
        SyntheticMarket((BTC,), [], start_ms=START_MS, bar_seconds=7)
    with pytest.raises(DataError, match=r"expected \(bars, 1\)"):
        SyntheticMarket((BTC,), [], start_ms=START_MS, history=np.zeros((3, 2)))
    for bad in ({"symbol": "btc"}, {"price_decimals": 11}, {"price": 0.0}, {"price": float("nan")}):
        with pytest.raises(ConfigError):
            Contract(**({"symbol": "BTCUSDT", "price_decimals": 1, "qty_decimals": 3, "price": 1.0} | bad))


@pytest.mark.parametrize("cadence", ["@0ms", "@100ms", "", "@250ms", "@500ms"])
def test_a_book_built_from_snapshot_and_diffs_is_the_server_s(cadence: str) -> None:
    async def scene(client: Client) -> None:
        symbols = ("BTCUSDT", "DOGEUSDT", "ETHUSDT")
        names = "/".join(f"{s.lower()}@depth{cadence}" for s in symbols)
        async with client.socket(f"/stream?streams={names}") as socket:
            buffered = [m["data"] for m in await take(socket, 12)]
            books = {s: PlainBook(await client.ok("/fapi/v1/depth", symbol=s, limit=1000)) for s in symbols}
            for diff in [*buffered, *(m["data"] for m in await take(socket, 150))]:
                books[diff["s"]].take(diff)
            for _ in range(3):
                await client.exchange.hold()
                truth = {s: await client.ok("/fapi/v1/depth", symbol=s, limit=1000) for s in symbols}
                while any(books[s].last != truth[s]["lastUpdateId"] for s in symbols):
                    diff = (await take(socket, 1))[0]["data"]
                    books[diff["s"]].take(diff)
                for s in symbols:
                    assert books[s].top(1000) == (levels(truth[s]["bids"]), levels(truth[s]["asks"]))
                    assert not books[s].first
                client.exchange.release()
                for message in await take(socket, 60):
                    books[message["data"]["s"]].take(message["data"])

    play(scene, lambda: SimExchange(market(BTC, DOGE, ETH), speed=0, limits=Limits(queue=200)))


def test_a_snapshot_may_lie_within_a_diff() -> None:
    # The book moves every 50 ms and a stream speaks every 500: a snapshot between them is newer than the last diff.
    async def scene(client: Client) -> None:
        inside = 0
        async with client.socket("/ws/btcusdt@depth@500ms") as socket:
            for _ in range(20):
                await take(socket, 1)
                await asyncio.sleep(0.011)
                snapshot = await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=5)
                while (diff := (await take(socket, 1))[0])["u"] < snapshot["lastUpdateId"]:
                    pass
                inside += diff["U"] <= snapshot["lastUpdateId"] < diff["u"]
        assert inside > 0

    play(scene, lambda: SimExchange(market(), speed=20))


@pytest.mark.parametrize("name", ["btcusdt@depth@0ms", "btcusdt@depth@100ms"])
def test_the_recorded_stream_is_passed_on_untouched(name: str) -> None:
    path = recorded("book_2024") / "usdm_btcusdt_20240808.gz"
    import gzip

    with gzip.open(path, "rt") as file:
        lines = [json.loads(line.partition(" ")[2]) for line in file]
    diffs = [m["data"] for m in lines if m.get("stream") == "btcusdt@depth@0ms"]
    snapshot = next(m for m in lines if "lastUpdateId" in m)

    async def scene(client: Client) -> None:
        await client.exchange.hold()
        async with client.socket(f"/ws/{name}") as socket:
            before = await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
            assert (before["lastUpdateId"], before["bids"], before["asks"]) == (
                snapshot["lastUpdateId"],
                snapshot["bids"],
                snapshot["asks"],
            )
            client.exchange.release()
            assert await take(socket, len(diffs)) == diffs
            after = await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
        book = PlainBook(before)
        for diff in diffs:
            book.take(diff)
        assert after["lastUpdateId"] == diffs[-1]["u"]
        assert book.top(1000) == (levels(after["bids"]), levels(after["asks"]))
        info = await client.ok("/fapi/v1/exchangeInfo")
        assert info["symbols"][0]["filters"][0]["tickSize"] == "0.10"
        assert client.exchange.ended

    play(scene, lambda: held(SimExchange(RecordedMarket(path), speed=0)))


def held(exchange: SimExchange) -> SimExchange:
    """An exchange that waits at its first tick until it is released."""
    exchange._hold = True
    return exchange


def trade_line(symbol: str) -> str:
    return f'12 {{"data":{{"e":"trade","E":1,"s":"{symbol}"}}}}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nonsense\n", "line 1 begins with"),
        ("12 {oops\n", "line 1 is no recorded message"),
        ('12 {"data":{"e":"liquidation","E":1,"s":"X"}}\n', "line 1 is a 'liquidation' event"),
        (trade_line("AUSDT") + trade_line("BUSDT"), "line 2 is of BUSDT"),
        (trade_line("AUSDT"), "no depth snapshot"),
        ("", "no depth snapshot"),
    ],
)  # fmt: skip
def test_a_bad_recording_is_refused_in_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "stream.txt"
    path.write_text(text)
    with pytest.raises(DataError, match=said) as caught:
        RecordedMarket(path)
    assert "\n" not in str(caught.value)
    cut = tmp_path / "cut.gz"
    cut.write_bytes(b"\x1f\x8b\x08\x00rubbish")
    with pytest.raises(DataError, match="cannot be read"):
        RecordedMarket(cut)


def test_nothing_is_built_for_nobody() -> None:
    source = market()
    hub = Hub.__new__(Hub)
    hub._readers, hub.plan, hub.limits = {}, FaultPlan(), Limits()
    feed = Feed(hub, source.contracts, source.start_ms)
    source.open(feed)
    feed._diff = feed._partial = None  # type: ignore[assignment,method-assign]
    for k in range(1, 41):
        source.advance(source.start_ms + k * TICK_MS, feed)
        feed.flush(source.start_ms + k * TICK_MS)


def test_diffs_that_the_snapshot_holds_already_change_nothing(tmp_path: Path) -> None:
    # Update 10 took the bid at 98 away; the snapshot (12) was made after it. Update 9 came before and still had it.
    def diff(stamp: int, first: int, last: int, bids: list[list[str]]) -> str:
        data = {"e": "depthUpdate", "E": stamp, "T": stamp, "s": "AUSDT", "U": first, "u": last, "pu": first - 1}
        return f"1 {json.dumps({'stream': 'ausdt@depth@0ms', 'data': data | {'b': bids, 'a': []}})}\n"

    snapshot = {"lastUpdateId": 12, "E": START_MS, "T": START_MS, "bids": [["99.0", "1"]], "asks": [["101.5", "2"]]}
    path = tmp_path / "stream.txt"
    path.write_text(
        diff(START_MS, 9, 9, [["98.0", "5"]])
        + f"1 {json.dumps(snapshot)}\n"
        + diff(START_MS + 100, 11, 13, [["99.0", "4"]])
        + diff(START_MS + 200, 14, 15, [["97.5", "3"]])
    )
    source = RecordedMarket(path)
    assert [(c.symbol, c.price_decimals, c.qty_decimals, c.tick_units) for c in source.contracts] == [
        ("AUSDT", 1, 0, 5)
    ]
    tape = Tape()
    feed = Feed(tape, source.contracts, source.start_ms)  # type: ignore[arg-type]
    source.open(feed)
    book = feed.lines["AUSDT"].book
    met = []
    for now in (START_MS + 50, START_MS + 100, START_MS + 200):
        more = source.advance(now, feed)
        met.append((book.last_id, dict(book.bids), more))
    assert met == [(12, {990: 1}, True), (13, {990: 4}, True), (15, {990: 4, 975: 3}, False)]
    assert [d["u"] for d in tape.of("ausdt@depth@500ms")] == [9, 13, 15]
