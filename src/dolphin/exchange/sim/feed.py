"""What happened becomes messages: depth at its cadences, best prices, trades, marks and klines (SPEC §8).

Shapes, field for field, are those of the venue's documented examples. A payload is built once, and only when somebody
reads it. Prices and quantities are exact decimals, stamps are the exchange's milliseconds.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence

from dolphin.exchange.sim.book import Book, Level
from dolphin.exchange.sim.hub import Hub
from dolphin.exchange.sim.klines import MINUTE_MS, Bar, Klines
from dolphin.exchange.sim.symbols import Contract, fixed

TICK_MS = 50
"""The clock's step: every cadence is a multiple of it."""
CADENCES = (100, 250, 500)
FUNDING_MS = 8 * 3_600_000
PARTIAL = (5, 10, 20)
_DEFAULT_CADENCE = 250
_RATE_DECIMALS = 8


class Pending:
    """What changed in a book since a cadence last spoke: prices, and the numbers of the first and last update."""

    __slots__ = ("asks", "bids", "first_id", "last_id", "names", "spoken_id", "t_ms")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self.first_id = self.last_id = self.spoken_id = self.t_ms = 0


class Line:
    """One contract on the exchange: its book, klines, counters, and the names of its streams."""

    __slots__ = (
        "agg_id",
        "book",
        "closed",
        "contract",
        "kline_moved",
        "klines",
        "names",
        "partials",
        "pending",
        "spoken_id",
        "trade_id",
    )

    def __init__(self, contract: Contract, now_ms: int) -> None:
        self.contract = contract
        self.book = Book()
        self.klines = Klines(contract, round(contract.price * 10**contract.price_decimals), now_ms)
        self.kline_moved = False
        self.closed: list[Bar] = []
        self.trade_id = self.agg_id = self.spoken_id = 0
        s = contract.stream
        self.names = {
            word: f"{s}@{word}"
            for word in ("depth@0ms", "bookTicker", "aggTrade", "trade", "markPrice", "markPrice@1s", "kline_1m")
        }
        self.pending = {ms: Pending(_named(f"{s}@depth", ms)) for ms in CADENCES}
        self.partials = {ms: [(n, _named(f"{s}@depth{n}", ms)) for n in PARTIAL] for ms in CADENCES}

    @property
    def mid(self) -> float:
        """The middle of the book in units; the last kline's close when a side is empty."""
        bid, ask = self.book.best_bid, self.book.best_ask
        return (bid + ask) / 2.0 if bid and ask else float(self.klines.bar.close)

    def funding_rate(self, slot_ms: int) -> int:
        """The rate of the payment at `slot_ms`, in 1e-8: −0.01 % to 0.03 %, the same for the same slot."""
        return zlib.crc32(f"{self.contract.symbol}{slot_ms // FUNDING_MS}".encode()) % 40_001 - 10_000

    def marks(self, now_ms: int) -> tuple[str, str, str, int]:
        """Mark price, index price, funding rate, and the time of the next payment."""
        slot = (now_ms // FUNDING_MS + 1) * FUNDING_MS
        rate = self.funding_rate(slot)
        decimals = max(_RATE_DECIMALS, self.contract.price_decimals)
        mark = round(self.mid * 10 ** (decimals - self.contract.price_decimals))
        index = round(mark * (1.0 - rate * 1e-8))
        return fixed(mark, decimals), fixed(index, decimals), fixed(rate, _RATE_DECIMALS), slot


class Feed:
    """The desk between a market and the hub. A market changes `lines[…].book` and reports here what it did.

    `skew_ms` is added to every stamp that is built here.
    """

    def __init__(self, hub: Hub, contracts: Sequence[Contract], now_ms: int) -> None:
        self.hub = hub
        self.now_ms = now_ms
        self.skew_ms = 0
        self.lines = {c.symbol: Line(c, now_ms) for c in contracts}

    @property
    def stamp(self) -> int:
        """The exchange's clock as clients see it, milliseconds."""
        return self.now_ms + self.skew_ms

    def opened(self) -> None:
        """The books stand: what follows is counted from their numbers."""
        for line in self.lines.values():
            line.spoken_id = line.book.last_id
            for pending in line.pending.values():
                pending.spoken_id = line.book.last_id

    # --- what markets report --------------------------------------------------------------------------------------

    def changed(self, line: Line, bids: Sequence[Level], asks: Sequence[Level], first_id: int) -> None:
        """Levels of `line.book` that have changed, `first_id` … `book.last_id`; the book holds them already."""
        last, t_ms = line.book.last_id, self.now_ms
        name = line.names["depth@0ms"]
        if self.hub.wants(name):
            before = line.spoken_id or first_id - 1
            self.hub.publish(name, self._diff(line, sorted(bids), sorted(asks), t_ms, first_id, last, before))
        line.spoken_id = last
        for pending in line.pending.values():
            pending.bids.update(bids)
            pending.asks.update(asks)
            pending.first_id = pending.first_id or first_id
            pending.last_id, pending.t_ms = last, t_ms

    def touched(self, line: Line, bid: Level, ask: Level) -> None:
        """The best prices, or what waits there, have changed."""
        name = line.names["bookTicker"]
        if not self.hub.wants(name):
            return
        c, t = line.contract, self.stamp
        self.hub.publish(
            name,
            f'{{"e":"bookTicker","u":{line.book.last_id},"E":{t},"T":{t},"s":"{c.symbol}",'
            f'"b":"{c.price_text(bid[0])}","B":"{c.qty_text(bid[1])}",'
            f'"a":"{c.price_text(ask[0])}","A":"{c.qty_text(ask[1])}","st":1,"ps":"{c.symbol}"}}',
        )

    def traded(self, line: Line, price: int, lots: int, *, buyer_made: bool, trade_id: int = 0, t_ms: int = 0) -> None:
        """One trade, which is also one aggregate trade; its number is given or counted."""
        line.trade_id = trade_id or line.trade_id + 1
        line.agg_id += 1
        line.kline_moved = True
        # A trade on the stroke of the minute is the new minute's; the old one is told when klines are due.
        line.closed += line.klines.roll(t_ms or self.now_ms)
        line.klines.trade(price, lots, line.trade_id, buyer_made=buyer_made)
        name = line.names["aggTrade"]
        if self.hub.wants(name):
            c, n = line.contract, line.trade_id
            self.hub.publish(
                name,
                f'{{"e":"aggTrade","E":{self.stamp},"a":{line.agg_id},"s":"{c.symbol}","p":"{c.price_text(price)}",'
                f'"q":"{c.qty_text(lots)}","f":{n},"l":{n},"T":{(t_ms or self.now_ms) + self.skew_ms},'
                f'"m":{"true" if buyer_made else "false"},"st":1}}',
            )

    def untouched_diff(self, line: Line, payload: str) -> None:
        """A recorded diff: sent as it is on every diff stream of the contract, whatever cadence was asked for."""
        self.hub.publish(line.names["depth@0ms"], payload)
        for pending in line.pending.values():
            for name in pending.names:
                self.hub.publish(name, payload)

    # --- what the clock brings --------------------------------------------------------------------------------------

    def flush(self, now_ms: int) -> None:
        """Speak on every stream whose time has come; `now_ms` is a multiple of TICK_MS."""
        self.now_ms = now_ms
        due = [ms for ms in CADENCES if now_ms % ms == 0]
        second, kline_due = now_ms % 1000 == 0, now_ms % 250 == 0
        for line in self.lines.values():
            for ms in due:
                self._speak(line, line.pending[ms])
                for count, names in line.partials[ms]:
                    if any(self.hub.wants(name) for name in names):
                        self._publish(names, self._partial(line, count))
            if kline_due:
                self._klines(line)
            if second:
                self._mark(line)

    def _speak(self, line: Line, pending: Pending) -> None:
        if not pending.first_id:
            return
        if any(self.hub.wants(name) for name in pending.names):
            before = pending.spoken_id or pending.first_id - 1
            bids, asks = sorted(pending.bids.items()), sorted(pending.asks.items())
            text = self._diff(line, bids, asks, pending.t_ms, pending.first_id, pending.last_id, before)
            self._publish(pending.names, text)
        pending.spoken_id = pending.last_id
        pending.first_id = 0
        pending.bids.clear()
        pending.asks.clear()

    def _diff(
        self, line: Line, bids: Iterable[Level], asks: Iterable[Level], t_ms: int, first: int, last: int, before: int
    ) -> str:
        c = line.contract
        return (
            f'{{"e":"depthUpdate","E":{self.stamp},"T":{t_ms + self.skew_ms},"s":"{c.symbol}","ps":"{c.symbol}",'
            f'"st":1,"U":{first},"u":{last},"pu":{before},"b":{levels_text(c, bids)},"a":{levels_text(c, asks)}}}'
        )

    def _partial(self, line: Line, count: int) -> str:
        bids, asks = line.book.top(count)
        last = line.book.last_id
        return self._diff(line, bids, asks, line.book.changed_ms, last, last, last - 1)

    def _klines(self, line: Line) -> None:
        name = line.names["kline_1m"]
        done, line.closed = line.closed + line.klines.roll(self.now_ms), []
        if self.hub.wants(name):
            for bar in done:
                self.hub.publish(name, self._kline(line, bar, closed=True))
            if line.kline_moved:
                self.hub.publish(name, self._kline(line, line.klines.bar, closed=False))
        line.kline_moved = False

    def _kline(self, line: Line, bar: Bar, *, closed: bool) -> str:
        s = line.contract.symbol
        row = line.klines.row(bar)
        return (
            f'{{"e":"kline","E":{self.stamp},"s":"{s}","k":{{"t":{bar.open_ms},"T":{bar.open_ms + MINUTE_MS - 1},'
            f'"s":"{s}","i":"1m","f":{bar.first_id},"L":{bar.last_id},"o":"{row[1]}","c":"{row[4]}","h":"{row[2]}",'
            f'"l":"{row[3]}","v":"{row[5]}","n":{bar.count},"x":{"true" if closed else "false"},"q":"{row[7]}",'
            f'"V":"{row[9]}","Q":"{row[10]}","B":"0"}}}}'
        )

    def _mark(self, line: Line) -> None:
        wanted = [line.names["markPrice@1s"]]
        if self.now_ms % 3000 == 0:
            wanted.append(line.names["markPrice"])
        if any(self.hub.wants(name) for name in wanted):
            mark, index, rate, slot = line.marks(self.now_ms)
            text = (
                f'{{"e":"markPriceUpdate","E":{self.stamp},"s":"{line.contract.symbol}","p":"{mark}","i":"{index}",'
                f'"P":"{mark}","r":"{rate}","T":{slot},"st":1}}'
            )
            self._publish(wanted, text)

    def _publish(self, names: Iterable[str], payload: str) -> None:
        for name in names:
            self.hub.publish(name, payload)


def levels_text(contract: Contract, levels: Iterable[Level]) -> str:
    """Levels as the venue writes them: [["price","quantity"],…]."""
    price, qty = contract.price_text, contract.qty_text
    return "[" + ",".join([f'["{price(p)}","{qty(q)}"]' for p, q in levels]) + "]"


def _named(stem: str, cadence_ms: int) -> tuple[str, ...]:
    """The names of a depth stream at a cadence; 250 ms is what it has when none is named."""
    name = f"{stem}@{cadence_ms}ms"
    return (stem, name) if cadence_ms == _DEFAULT_CADENCE else (name,)
