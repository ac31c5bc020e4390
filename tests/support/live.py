"""What tests of the live feed share: an exchange in a thread, its control, and the truth about its books."""

from __future__ import annotations

import math
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any, NamedTuple

import msgspec

from dolphin.book.layout import BANDS
from dolphin.exchange.bands import BookBands
from dolphin.exchange.live.books import LiveBooks
from dolphin.exchange.live.endpoints import Endpoints
from dolphin.exchange.live.feed import LiveOptions
from dolphin.exchange.live.pulse import Patience
from dolphin.exchange.live.shard import Life
from dolphin.exchange.live.streams import StreamOptions
from dolphin.exchange.sim.server import SimExchange
from dolphin.exchange.sim.symbols import Contract
from dolphin.exchange.sim.threaded import ThreadedExchange

LONG_S = 60.0
"""How long a test waits for what must happen; a shared machine can be slow."""


class Levels(NamedTuple):
    """A book at one update: lots by price in units."""

    bids: dict[int, int]
    asks: dict[int, int]


class Witness(SimExchange):
    """An exchange that remembers every book that it has had."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.seen: dict[tuple[str, int], Levels] = {}

    def _tick(self) -> None:
        super()._tick()
        for symbol, line in self.feed.lines.items():
            key = symbol, line.book.last_id
            if key not in self.seen:
                self.seen[key] = Levels(dict(line.book.bids), dict(line.book.asks))


class Venue:
    """A running exchange as a test sees it, from another thread."""

    def __init__(self, thread: ThreadedExchange) -> None:
        self.thread, self.exchange = thread, thread.exchange
        self.endpoints = Endpoints(self.exchange.rest_url, self.exchange.ws_url)

    def faults(self, text: str) -> None:
        """Set the plan."""
        urllib.request.urlopen(self.exchange.rest_url + "/sim/faults", data=text.encode(), timeout=LONG_S).close()

    def status(self) -> dict[str, Any]:
        with urllib.request.urlopen(self.exchange.rest_url + "/sim/status", timeout=LONG_S) as answer:
            return msgspec.json.decode(answer.read())

    def say(self, stream: str, payload: str) -> None:
        """Have the exchange publish this, whatever it is."""
        loop = self.thread._loop
        assert loop is not None
        loop.call_soon_threadsafe(self.exchange.hub.publish, stream, payload)

    def is_at(self, live: LiveBooks, symbols: Iterable[str] | None = None) -> bool:
        """Whether every trusted book is at the exchange's last update; only while it is held."""
        lines = self.exchange.feed.lines
        chosen = tuple(symbols) if symbols is not None else live.symbols
        found = [live.cache.get_bands(symbol) for symbol in chosen]
        return all(
            bands is not None and bands.update_id == lines[symbol].book.last_id
            for symbol, bands in zip(chosen, found, strict=True)
        )

    @contextmanager
    def held(self) -> Iterator[None]:
        """The market stands still within the block."""
        self.thread.hold()
        try:
            yield
        finally:
            self.thread.release()

    def compare(self, live: LiveBooks) -> None:
        """Hold the market, wait until the books have all of it, and compare them with the exchange's own.

        A book that waits for a diff cannot go on while the market is held, so it is let go and held again.
        """
        end = time.monotonic() + LONG_S
        while True:
            with self.held():
                given_up = time.monotonic() + 2.0
                while not self.is_at(live) and time.monotonic() < given_up:
                    time.sleep(0.01)
                if self.is_at(live):
                    for symbol in live.symbols:
                        line = self.exchange.feed.lines[symbol]
                        bands = live.cache.get_bands(symbol)
                        assert bands is not None
                        same_bands(bands, Levels(line.book.bids, line.book.asks), line.contract)
                    return
            assert time.monotonic() < end, "the books never had all of it"
            live.wait_synced(2.0)


@contextmanager
def venue(make: Callable[[], SimExchange]) -> Iterator[Venue]:
    """An exchange in a thread."""
    with ThreadedExchange(make) as thread:
        yield Venue(thread)


def until(met: Callable[[], bool], seconds: float = LONG_S) -> None:
    """Wait until a condition holds; AssertionError when it does not in time."""
    end = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < end, "it never came to hold"
        time.sleep(0.01)


def options(*, floor_s: float = 300.0, most: int = 200, life: Life | None = None, **more: Any) -> LiveOptions:
    """Options for tests: silence is no fault unless a floor is given, and nothing waits longer than it must."""
    quick = life or Life(backoff_s=0.05, backoff_most_s=0.5)
    patience = Patience(floor_s=floor_s, first_s=max(floor_s, 5.0))
    streams = StreamOptions(most=most, connect_gap_s=0.0, patience=patience, life=quick)
    return LiveOptions(streams=streams, **more)


def same_bands(bands: BookBands, levels: Levels, contract: Contract) -> None:
    """The bands are those of these levels: every sum the double nearest to the exact one."""
    mid = Fraction(max(levels.bids) + min(levels.asks), 2)
    unit, lot = Fraction(10) ** -contract.price_decimals, Fraction(10) ** -contract.qty_decimals
    for side, notional, depth in (
        (levels.bids, bands.snapshot.bid_notional, bands.snapshot.bid_depth),
        (levels.asks, bands.snapshot.ask_notional, bands.snapshot.ask_depth),
    ):
        usd, base = [Fraction(0)] * BANDS, [Fraction(0)] * BANDS
        for price, lots in side.items():
            band = int(abs(price - mid) * 100 / mid)
            if band < BANDS:
                usd[band] += price * lots * unit * lot
                base[band] += lots * lot
        where = f"{bands.symbol} at {bands.update_id}"
        assert notional.tolist() == [float(x) for x in usd], where
        assert depth.tolist() == [float(x) for x in base], where
    assert math.isclose(bands.mid, mid * unit, rel_tol=1e-15)
