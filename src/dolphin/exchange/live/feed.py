"""The whole live feed within one event loop: contracts, streams, books, snapshots, clock, cache (SPEC §8).

From a message's receipt to its row in the cache is one chain of calls: there is no queue in which it could grow old.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Iterable, Sequence

import aiohttp
import msgspec

from dolphin.core.clock import Clock
from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.exchange.depthbooks import DepthBooks
from dolphin.exchange.live.budget import WeightBudget
from dolphin.exchange.live.cache import SnapshotCache
from dolphin.exchange.live.contracts import Sizes, trading_sizes
from dolphin.exchange.live.endpoints import Endpoints
from dolphin.exchange.live.fetching import Fetcher
from dolphin.exchange.live.pulse import Pulse
from dolphin.exchange.live.rest import DEPTH_WEIGHTS, RestClient
from dolphin.exchange.live.streams import StreamOptions, Streams
from dolphin.exchange.live.venueclock import VenueClock
from dolphin.exchange.localbook import SyncState

_CLOCK_AGAIN_S = 5.0
"""After a comparison of the clocks that failed."""
_CLOCK_REST_S = 1.0
"""After any; less than it takes for a connection to be replaced for what may be our own clock's fault."""


class LiveOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a live feed behaves. Raises ConfigError (`checked`)."""

    cadence: str = "100ms"
    """Of the depth streams: 100ms, 250ms or 500ms."""
    tickers: bool = False
    """Also read bookTicker, which can contradict a book that is wrong."""
    snapshot_limit: int = 1000
    """Levels a side of a snapshot; fewer weigh less, and show less of the book beyond the touch."""
    fetchers: int = 4
    """Requests under way at once."""
    reach: float = 0.2
    weight_per_minute: int = 2400
    weight_reserve: float = 0.1
    max_lag_s: float = 10.0
    """A book whose newest message was older than this when it came is not trusted; infinite: never mind."""
    clock_every_s: float = 300.0
    contracts_every_s: float = 600.0
    """How often new and delisted contracts are looked for, when all are followed."""
    streams: StreamOptions = StreamOptions()

    def checked(self) -> LiveOptions:
        """The options, or a ConfigError that names the value at fault."""
        if self.cadence not in ("100ms", "250ms", "500ms"):
            raise ConfigError(f"cadence {self.cadence!r}: expected 100ms, 250ms or 500ms")
        weight = DEPTH_WEIGHTS.get(self.snapshot_limit)
        if weight is None:
            wanted = ", ".join(map(str, DEPTH_WEIGHTS))
            raise ConfigError(f"snapshot limit {self.snapshot_limit}: expected one of {wanted}")
        if int(self.weight_per_minute * (1.0 - self.weight_reserve)) < weight:
            raise ConfigError(
                f"weight per minute {self.weight_per_minute} with a reserve of {self.weight_reserve}: a snapshot of "
                f"{self.snapshot_limit} levels weighs {weight}; expected room for one"
            )
        for name, low in (("fetchers", 1.0), ("max_lag_s", 0.1), ("clock_every_s", 1.0), ("contracts_every_s", 1.0)):
            if not getattr(self, name) >= low:
                raise ConfigError(f"{name} {getattr(self, name)}: expected {low:g} or more")
        return self


class LiveFeed:
    """Everything behind `LiveBooks`, in the event loop that it is made in. `symbols` None follows all contracts."""

    def __init__(
        self,
        endpoints: Endpoints,
        session: aiohttp.ClientSession,
        cache: SnapshotCache,
        options: LiveOptions,
        *,
        follow_all: bool,
        clock: Clock,
    ) -> None:
        self.cache, self.options = cache, options
        self.venue_clock = VenueClock()
        self.budget = WeightBudget(
            options.weight_per_minute, options.weight_reserve, clock=asyncio.get_running_loop().time
        )
        self.rest = RestClient(endpoints, session, self.budget, clock=clock)
        self.messages = self.strays = 0
        self.last_problem = ""
        self.books: DepthBooks
        self.fetcher: Fetcher
        self.streams: Streams
        self._endpoints, self._session, self._clock = endpoints, session, clock
        self._follow_all = follow_all
        self._known: Sizes = {}
        self._tickers: dict[str, bytes] = {}
        self._oldest_ms = math.nan
        """What must be added to our clock, ms, for the oldest stamp that is still news; NaN while unknown."""
        self._doubt = asyncio.Event()

    async def begin(self, symbols: Sequence[str], tasks: asyncio.TaskGroup) -> None:
        """Read the contracts, then start everything. Raises ExchangeError, and ConfigError for an unknown symbol."""
        self._known = trading_sizes(await self.rest.exchange_info())
        chosen = tuple(self._known) if self._follow_all else tuple(dict.fromkeys(symbols))
        if not chosen:
            raise ConfigError("live books: no symbol; expected at least one")
        self._check_known(chosen)
        options = self.options
        self.books = DepthBooks({symbol: self._known[symbol] for symbol in chosen}, reach=options.reach)
        self.streams = Streams(self._endpoints, self._session, self, tasks, options.streams, clock=self._clock)
        self.fetcher = Fetcher(
            self.books,
            self.rest,
            limit=options.snapshot_limit,
            workers=options.fetchers,
            may=self._is_subscribed,
            loaded=self._show,
            clock=self._clock,
        )
        self.cache.set_symbols(chosen)
        self.streams.add(name for symbol in chosen for name in self._names(symbol))
        tasks.create_task(self._keep_time())
        tasks.create_task(self.fetcher.run(tasks))
        if self._follow_all:
            tasks.create_task(self._keep_contracts())

    async def add(self, symbols: Iterable[str]) -> None:
        """Follow these too. Raises ExchangeError, and ConfigError, before anything has changed, for an unknown
        symbol."""
        wanted = [symbol for symbol in dict.fromkeys(symbols) if symbol not in self.books.books]
        if any(symbol not in self._known for symbol in wanted):
            self._known = trading_sizes(await self.rest.exchange_info())
        self._check_known(wanted)
        self._add_known(wanted)

    def remove(self, symbols: Iterable[str]) -> None:
        """Follow these no more; one that is not followed is no error."""
        gone = set(symbols)
        self.streams.remove(name for symbol in gone for name in self._names(symbol))
        for symbol in gone:
            self.books.remove(symbol)
            self._tickers.pop(symbol, None)
        self.cache.set_symbols(symbol for symbol in self.cache.symbols if symbol not in gone)

    # --- what the streams bring (shard.Owner) -----------------------------------------------------------------------

    def message(self, pulse: Pulse | None, stream: bytes, raw: bytes, ts_ns: int) -> None:
        """A message into its book, and the book into the cache."""
        self.messages += 1
        if pulse is None:
            if stream:
                self.strays += 1
            else:
                self.books.feed(raw, ts_ns)  # not even its stream can be read: refused, and counted by kind
            return
        book = self.books.feed(raw, ts_ns)
        if book is None:
            self._show(pulse.symbol, withdraw_only=True)
            return
        if not pulse.book:
            self._tickers[book.symbol] = raw
            self._show(book.symbol, withdraw_only=True)
            return
        if book.symbol in self._tickers:
            # A ticker comes before the diff that ends with its update: now is the time to compare the two.
            self.books.feed(self._tickers.pop(book.symbol), ts_ns)
        bands = book.bands()
        behind = bands is not None and bands.event_ms < ts_ns * 1e-6 + self._oldest_ms
        if behind and not pulse.behind:
            self._doubt.set()  # either the line is slow, or our clock has jumped
        pulse.behind = behind
        if bands is None or behind:
            self.cache.drop(book.symbol)
        else:
            self.cache.put(bands, ts_ns)

    def late(self, pulse: Pulse) -> None:
        """What a silent stream last said is no snapshot of the present."""
        if pulse.book:
            self.cache.drop(pulse.symbol)

    def lost(self, pulses: Iterable[Pulse]) -> None:
        """Books of a connection that is gone begin anew."""
        symbols = {pulse.symbol for pulse in pulses if pulse.book and pulse.symbol in self.books.books}
        self.books.disconnect(symbols)
        for symbol in symbols:
            self.cache.drop(symbol)

    # --- within ---------------------------------------------------------------------------------------------------

    def depth_stream(self, symbol: str) -> str:
        """The name of a symbol's depth stream."""
        return f"{symbol.lower()}@depth@{self.options.cadence}"

    def _names(self, symbol: str) -> list[str]:
        return [self.depth_stream(symbol), *([f"{symbol.lower()}@bookTicker"] if self.options.tickers else [])]

    def _is_subscribed(self, symbol: str) -> bool:
        pulse = self.streams.pulse(self.depth_stream(symbol))
        return pulse is not None and pulse.subscribed

    def _show(self, symbol: str, *, withdraw_only: bool = False) -> None:
        """Bring the cache up to what the book is now, after something other than a diff of it."""
        book = self.books.books.get(symbol)
        if book is None or book.state is not SyncState.SYNCED:
            self.cache.drop(symbol)
            return
        pulse = self.streams.pulse(self.depth_stream(symbol))
        if withdraw_only or pulse is None or pulse.is_late or pulse.behind:
            return
        bands = book.bands()
        if bands is not None:
            self.cache.put(bands, book.updated_ns)

    def _check_known(self, symbols: Iterable[str]) -> None:
        for symbol in symbols:
            if symbol not in self._known:
                raise ConfigError(
                    f"symbol {symbol[:40]!r}: none of the {len(self._known)} USDT perpetuals that trade at "
                    f"{self._endpoints.rest}; expected one such as {next(iter(self._known), 'BTCUSDT')}"
                )

    def _add_known(self, symbols: Sequence[str]) -> None:
        for symbol in symbols:
            self.books.add(symbol, *self._known[symbol])
        self.cache.set_symbols((*self.cache.symbols, *symbols))
        self.streams.add(name for symbol in symbols for name in self._names(symbol))

    async def _keep_time(self) -> None:
        while True:
            self._doubt.clear()
            wait = self.options.clock_every_s
            try:
                await self.venue_clock.measure(self.rest)
                self._oldest_ms = self.venue_clock.offset_ms - self.options.max_lag_s * 1000.0
            except ExchangeError as error:
                self.last_problem = str(error)
                wait = min(wait, _CLOCK_AGAIN_S)
            await asyncio.sleep(_CLOCK_REST_S)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._doubt.wait(), wait - _CLOCK_REST_S)

    async def _keep_contracts(self) -> None:
        while True:
            await asyncio.sleep(self.options.contracts_every_s)
            try:
                self._known = trading_sizes(await self.rest.exchange_info())
            except ExchangeError as error:
                self.last_problem = str(error)
                continue
            if self._known:  # an empty list is a fault of the venue's, and no reason to let go of everything
                self.remove([symbol for symbol in self.cache.symbols if symbol not in self._known])
                self._add_known([symbol for symbol in self._known if symbol not in self.books.books])
