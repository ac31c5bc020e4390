"""The loopback exchange in a thread of its own, for synchronous code (SPEC §19)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Self

from dolphin.core.errors import ExchangeError
from dolphin.exchange.sim.server import SimExchange

_PATIENCE_S = 30.0


class ThreadedExchange:
    """Runs an exchange in a thread between `__enter__` and `__exit__`; no thread is left after it.

    `make` builds the exchange; it is called in the thread, inside its event loop. What it or the start raises is raised
    by `__enter__`, and what broke the market while running by `__exit__`.
    """

    def __init__(self, make: Callable[[], SimExchange]) -> None:
        self._make = make
        self._thread = threading.Thread(target=self._main, name="loopback-exchange", daemon=True)
        self._ready: Future[SimExchange] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None
        self._failure: BaseException | None = None

    @property
    def exchange(self) -> SimExchange:
        """The exchange; read its addresses and status, leave the rest to its thread."""
        return self._ready.result(0.0)

    def hold(self) -> None:
        """`SimExchange.hold`, from this thread."""
        if self._loop is not None:
            asyncio.run_coroutine_threadsafe(self.exchange.hold(), self._loop).result(_PATIENCE_S)

    def release(self) -> None:
        """`SimExchange.release`, from this thread."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.exchange.release)

    def __enter__(self) -> Self:
        """Start the thread and wait until the exchange listens."""
        self._thread.start()
        self._ready.result(_PATIENCE_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop the exchange and wait for its thread."""
        if self._loop is not None and self._stop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(_PATIENCE_S)
        if self._thread.is_alive():
            raise ExchangeError(f"the loopback exchange did not stop within {_PATIENCE_S:.0f} s")
        if self._failure is not None:
            raise self._failure

    def _main(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            if self._ready.done():
                self._failure = error
            else:
                self._ready.set_exception(error)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        async with self._make() as exchange:
            self._ready.set_result(exchange)
            stopped = asyncio.create_task(self._stop.wait())
            served = asyncio.create_task(exchange.wait())
            await asyncio.wait((stopped, served), return_when=asyncio.FIRST_COMPLETED)
            if not served.done():
                served.cancel()
            stopped.cancel()
            results = await asyncio.gather(served, return_exceptions=True)
            if isinstance(results[0], Exception):
                raise results[0]
