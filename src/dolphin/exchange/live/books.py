"""Live order books in a thread of their own, for code that is not asynchronous (SPEC §8, §22).

with LiveBooks(Endpoints(rest_url, ws_url), ["BTCUSDT"]) as live:
    live.wait_synced(30.0)
    live.cache.get_snapshot("BTCUSDT")
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import CancelledError, Future
from typing import Any, Self

import aiohttp
import msgspec

from dolphin.core.clock import Clock, system_clock_ns
from dolphin.core.errors import ConfigError, DolphinError, ExchangeError
from dolphin.exchange.live.cache import SnapshotCache
from dolphin.exchange.live.endpoints import Endpoints
from dolphin.exchange.live.feed import LiveFeed, LiveOptions
from dolphin.exchange.live.status import LiveStatus
from dolphin.exchange.live.telling import status_of
from dolphin.exchange.localbook import BookCounts

_PATIENCE_S = 60.0
"""How long other threads wait for the feed's: twice what its slowest answer takes."""


class LiveBooks:
    """Books of `symbols`, or of all USDT perpetuals that trade (None), kept between `__enter__` and `__exit__`.

    Raises ConfigError for options or symbols that are none. `__enter__` returns when the venue's contracts are known
    and the streams are being opened, and raises ExchangeError when the venue cannot be reached. A feed that breaks,
    which takes a defect of ours, empties the cache, says so in `status()`, and raises from every other call and from
    `__exit__`.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        symbols: Iterable[str] | None = None,
        options: LiveOptions | None = None,
        *,
        clock: Clock = system_clock_ns,
    ) -> None:
        self.cache = SnapshotCache()
        """The newest bands of every book that is right; read it from any thread."""
        self._endpoints, self._clock = endpoints, clock
        self._options = (options or LiveOptions()).checked()
        self._wanted = None if symbols is None else tuple(dict.fromkeys(symbols))
        if self._wanted is not None and not self._wanted:
            raise ConfigError("live books: no symbol; expected at least one")
        self._thread = threading.Thread(target=self._main, name="live-books", daemon=True)
        self._ready: Future[None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[None] | None = None
        self._begun = threading.Event()
        self._feed: LiveFeed | None = None
        self._last: LiveStatus | None = None
        self._failure: DolphinError | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """The symbols followed, in the cache's order."""
        return self.cache.symbols

    def __enter__(self) -> Self:
        """Start the thread, and wait until the feed has begun."""
        self._thread.start()
        try:
            self._ready.result()
        except BaseException:  # also an interrupt: nothing is left running
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """End the feed; nothing of it is left running. Raises what broke it, unless the block is already failing."""
        self._end()
        if self._thread.is_alive():
            raise ExchangeError(f"the live feed did not stop within {_PATIENCE_S:.0f} s")
        if kind is None:
            self._check()

    def add(self, symbols: Iterable[str]) -> None:
        """Follow these too, from now on. Raises ConfigError for one that the venue does not have, ExchangeError when it
        cannot be asked; nothing has changed then."""
        wanted = tuple(symbols)
        self._call(lambda feed: feed.add(wanted))

    def remove(self, symbols: Iterable[str]) -> None:
        """Follow these no more; one that is not followed is no error."""
        gone = tuple(symbols)

        async def run(feed: LiveFeed) -> None:
            feed.remove(gone)

        self._call(run)

    def status(self) -> LiveStatus:
        """Everything about the feed now; after its end, as it was then."""

        async def run(feed: LiveFeed) -> LiveStatus:
            return status_of(feed, self._clock())

        if self._last is None:
            try:
                return self._call(run)
            except ExchangeError:
                if self._last is None:
                    raise
        return self._last

    def counts(self) -> dict[str, int]:
        """What became of messages and books since the start, summed over all (`BookCounts`, `FaultKind`); does not wait
        for the feed, so that its figures may be of two moments."""
        feed = self._feed
        if feed is None:
            return {}
        total = Counter(messages=feed.messages)
        for book in list(feed.books.books.values()):
            for name in BookCounts.__slots__:
                total[name] += getattr(book.counts, name)
        for kind, count in list(feed.books.faults.items()):
            total[f"fault_{kind}"] = count
        return dict(total)

    def wait_synced(self, timeout_s: float, share: float = 1.0) -> bool:
        """Wait until this share of the books is right; False when `timeout_s` have passed first. Raises what broke the
        feed."""
        end = time.monotonic() + timeout_s
        while len(self.cache) < share * len(self.cache.symbols):
            self._check()
            if time.monotonic() >= end:
                return False
            time.sleep(0.01)
        return True

    # --- within ---------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _call[T](self, make: Callable[[LiveFeed], Coroutine[Any, Any, T]]) -> T:
        """Run in the feed's loop. Raises what it raises, and ExchangeError when the feed has not begun or has ended."""
        self._check()
        loop, feed = self._loop, self._feed
        if loop is None or feed is None:
            raise ExchangeError("live books: not begun; use them within their `with` block")
        if self._last is not None:
            raise ExchangeError("live books: the feed has ended")
        work = make(feed)
        try:
            future = asyncio.run_coroutine_threadsafe(work, loop)
        except RuntimeError:  # it has ended this very moment
            work.close()
            raise ExchangeError("live books: the feed has ended") from None
        end = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return future.result(0.1)
            except CancelledError:
                raise ExchangeError("live books: the feed has ended") from None
            except TimeoutError:
                if future.done():
                    continue
                if not self._thread.is_alive():
                    self._check()
                    raise ExchangeError("live books: the feed has ended") from None
                if time.monotonic() > end:
                    future.cancel()
                    raise ExchangeError(f"live books: the feed did not answer within {_PATIENCE_S:.0f} s") from None

    def _end(self) -> None:
        self._begun.wait(_PATIENCE_S)
        loop, task, self._task = self._loop, self._task, None
        if loop is not None and task is not None:
            with contextlib.suppress(RuntimeError):  # the loop has just been closed
                loop.call_soon_threadsafe(task.cancel)
        self._thread.join(_PATIENCE_S)

    def _main(self) -> None:
        failure: DolphinError | None = None
        try:
            asyncio.run(self._live())
        except asyncio.CancelledError:
            failure = None if self._ready.done() else ExchangeError("live books: ended before they had begun")
        except BaseException as error:
            failure = _as_ours(error)
        finally:
            self._begun.set()
            self.cache.clear()
        if failure is None:
            return
        if self._last is not None:
            self._last = msgspec.structs.replace(self._last, failure=str(failure))
        if self._ready.done():
            self._failure = failure
        else:
            self._ready.set_exception(failure)

    async def _live(self) -> None:
        self._loop, self._task = asyncio.get_running_loop(), asyncio.current_task()
        self._begun.set()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            feed = self._feed = LiveFeed(
                self._endpoints,
                session,
                self.cache,
                self._options,
                follow_all=self._wanted is None,
                clock=self._clock,
            )
            try:
                async with asyncio.TaskGroup() as tasks:
                    await feed.begin(self._wanted or (), tasks)
                    self._ready.set_result(None)
                    await asyncio.Event().wait()  # until it is cancelled, or a task fails
            finally:
                if self._ready.done():
                    # Connections are closed by now; figures of the books and counters stand.
                    self._last = msgspec.structs.replace(status_of(feed, system_clock_ns()), running=False)


def _as_ours(error: BaseException) -> DolphinError:
    """What broke the feed, as one of our errors."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, DolphinError):
        return error
    failure = ExchangeError(f"the live feed broke: {type(error).__name__}: {error}; a defect of the program")
    failure.__cause__ = error
    return failure
