"""A recorded stream replayed: diffs with their own sequence numbers, best prices and trades as they came (SPEC §8).

The file is text, gzipped when its name ends in .gz; a line is `<local ns> <json>`, the JSON a combined-stream message
({"stream": …, "data": …}) or a REST depth snapshot, all of one contract. It may hold depthUpdate, bookTicker and
trade (or aggTrade) events. Payloads of diffs and best prices are passed on byte for byte.
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from dolphin.core.errors import DataError
from dolphin.exchange.sim.book import Level
from dolphin.exchange.sim.feed import Feed, Line
from dolphin.exchange.sim.symbols import Contract, whole

_EVENTS = ("depthUpdate", "bookTicker", "trade", "aggTrade")


class _Event(msgspec.Struct):
    """The fields in use of any event."""

    e: str
    E: int
    s: str
    T: int = 0
    U: int = 0
    u: int = 0
    b: Any = ()
    a: Any = ()
    p: str = ""
    q: str = ""
    t: int = 0
    m: bool = False
    X: str = "MARKET"


class _Message(msgspec.Struct):
    """A line of the file: a combined-stream message, or a snapshot."""

    data: msgspec.Raw = msgspec.Raw(b"")
    last_id: int = msgspec.field(name="lastUpdateId", default=0)
    bids: list[tuple[str, str]] = []
    asks: list[tuple[str, str]] = []


_message = msgspec.json.Decoder(_Message).decode
_event = msgspec.json.Decoder(_Event).decode


class RecordedMarket:
    """The stream in a recorded file, in its own time. The file is checked to its last line when it is opened.

    Raises DataError, which names the line, for a file that cannot be read or holds something else: lines of another
    form, no snapshot, two contracts, levels that are no numbers.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._snapshot: _Message | None = None
        symbols: set[str] = set()
        self.start_ms, self.end_ms, self._lines = 0, 0, 0
        decimals = [0, 0]
        ticks: list[tuple[str, str]] = []
        for number, message, event in _read(path):
            self._lines = number
            if event is None:
                self._snapshot = self._snapshot or message
                ticks += [*message.bids, *message.asks]
                continue
            symbols.add(event.s)
            if len(symbols) > 1:
                raise DataError(f"{path}: line {number} is of {event.s}; expected one contract, {min(symbols)}")
            self.start_ms = self.start_ms or event.E
            self.end_ms = max(self.end_ms, event.E)
            if event.e == "depthUpdate":
                for price, qty in (*event.b, *event.a):
                    decimals = [max(decimals[0], _places(price)), max(decimals[1], _places(qty))]
        if self._snapshot is None or not symbols or not ticks:
            raise DataError(f"{path}: no depth snapshot, or no events; expected a recorded stream with both")
        self.start_ms -= self.start_ms % 500
        decimals = [max(d, *(_places(level[k]) for level in ticks)) for k, d in enumerate(decimals)]
        units = [whole(price, decimals[0]) for price, _ in ticks]
        self.contracts = (
            Contract(symbols.pop(), decimals[0], decimals[1], float(ticks[0][0]), math.gcd(*units)),
        )  # fmt: skip
        self.title = f"recorded stream {path.name}, {self._lines:,} lines, {(self.end_ms - self.start_ms) / 1000:.0f} s"
        self._events: Iterator[tuple[int, _Message, _Event | None]] = iter(())
        self._ahead: tuple[_Message, _Event] | None = None

    def open(self, feed: Feed) -> None:
        """Start from the file's snapshot; diffs that it holds already change nothing when they come by."""
        contract = self.contracts[0]
        book = feed.lines[contract.symbol].book
        snapshot = self._snapshot
        if snapshot is not None:
            bids, asks = (_levels(contract, side) for side in (snapshot.bids, snapshot.asks))
            book.apply(bids, asks, snapshot.last_id, self.start_ms)
        self._events = _read(self.path)
        self._ahead = self._following()

    def advance(self, now_ms: int, feed: Feed) -> bool:
        """Pass on what was recorded up to `now_ms`, in the file's order."""
        line = feed.lines[self.contracts[0].symbol]
        while self._ahead is not None:
            message, event = self._ahead
            if now_ms < event.E:
                break
            feed.now_ms = event.E
            self._pass_on(feed, line, message, event)
            self._ahead = self._following()
        feed.now_ms = now_ms
        return self._ahead is not None

    def close(self) -> None:
        """Close the file."""
        self._events = iter(())
        self._ahead = None

    def _following(self) -> tuple[_Message, _Event] | None:
        return next(((message, event) for _, message, event in self._events if event is not None), None)

    def _pass_on(self, feed: Feed, line: Line, message: _Message, event: _Event) -> None:
        contract = line.contract
        match event.e:
            case "depthUpdate":
                if event.u >= line.book.last_id:
                    line.book.apply(_levels(contract, event.b), _levels(contract, event.a), event.u, event.T or event.E)
                feed.untouched_diff(line, bytes(message.data).decode())
            case "bookTicker":
                feed.hub.publish(line.names["bookTicker"], bytes(message.data).decode())
            case _:
                if event.e == "trade":
                    feed.hub.publish(line.names["trade"], bytes(message.data).decode())
                # Insurance fund and liquidation prints are no trades of the market; the venue keeps them out as well.
                if event.X == "MARKET":
                    price, lots = whole(event.p, contract.price_decimals), whole(event.q, contract.qty_decimals)
                    feed.traded(line, price, lots, buyer_made=event.m, trade_id=event.t, t_ms=event.T)


def _read(path: Path) -> Iterator[tuple[int, _Message, _Event | None]]:
    """Line number, message, and its event (None for a snapshot). Raises DataError."""
    number = 0
    try:
        with _opened(path) as file:
            for number, text in enumerate(file, 1):
                stamp, _, body = text.partition(b" ")
                if not stamp.isdigit():
                    raise DataError(f"{path}: line {number} begins with {text[:30]!r}; expected `<local ns> <json>`")
                message = _message(body)
                if message.last_id:
                    yield number, message, None
                    continue
                event = _event(message.data)
                if event.e not in _EVENTS:
                    raise DataError(f"{path}: line {number} is a {event.e!r} event; expected {', '.join(_EVENTS)}")
                yield number, message, event
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: cannot be read as a recorded stream ({error}); check the file") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: line {number} is no recorded message ({error}); cut the line out") from None


@contextmanager
def _opened(path: Path) -> Iterator[Iterable[bytes]]:
    with path.open("rb") as file:
        if path.suffix != ".gz":
            yield file
            return
        with gzip.GzipFile(fileobj=file) as unpacked:
            yield unpacked


def _places(text: str) -> int:
    return len(text.partition(".")[2])


def _levels(contract: Contract, levels: list[tuple[str, str]]) -> list[Level]:
    return [(whole(p, contract.price_decimals), whole(q, contract.qty_decimals)) for p, q in levels]
