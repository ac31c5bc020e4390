"""Snapshots for books that want one: within the weight budget, the one that has waited longest first (SPEC §8)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from dolphin.core.clock import Clock
from dolphin.core.errors import ExchangeError
from dolphin.exchange.depthbooks import DepthBooks
from dolphin.exchange.live.rest import RestClient

_LOOK_S = 0.05
_AGAIN_S, _AGAIN_MOST_S = 0.25, 30.0
_GOOD_S = 60.0
"""A book that has wanted nothing for so long has no bad record any more."""


class _Want:
    """One symbol's wish."""

    __slots__ = ("fetched_s", "not_before_s", "open", "since_s", "tries")

    def __init__(self, now: float) -> None:
        self.since_s = now
        self.not_before_s = now
        self.fetched_s = now - _GOOD_S
        self.tries = 0
        self.open = True


class Fetcher:
    """Looks what `books` want, and fetches it.

    `may` says whether a symbol's stream is on: a snapshot from before that could not be joined to it. `loaded` is told
    the symbol whose book has begun anew. A book that wants one again and again gets it less and less often.
    """

    def __init__(
        self,
        books: DepthBooks,
        rest: RestClient,
        *,
        limit: int,
        workers: int,
        may: Callable[[str], bool],
        loaded: Callable[[str], None],
        clock: Clock,
    ) -> None:
        self.counts: Counter[str] = Counter()
        self.last_problem = ""
        self._books, self._rest, self._limit, self._workers = books, rest, limit, workers
        self._may, self._loaded, self._clock = may, loaded, clock
        self._wants: dict[str, _Want] = {}
        self._busy: set[str] = set()

    def waiting_s(self, symbol: str) -> float:
        """For how long a symbol has waited for its snapshot; 0 when it does not."""
        want = self._wants.get(symbol)
        return asyncio.get_running_loop().time() - want.since_s if want is not None and want.open else 0.0

    @property
    def waiting(self) -> int:
        """How many symbols wait."""
        return len(self._books.wanting())

    async def run(self, tasks: asyncio.TaskGroup) -> None:
        """Fetch for ever; requests are tasks of `tasks`."""
        time = asyncio.get_running_loop().time
        while True:
            for symbol in self._due(time()):
                self._busy.add(symbol)
                tasks.create_task(self._fetch(symbol))
            await asyncio.sleep(_LOOK_S)

    def _due(self, now: float) -> list[str]:
        """The symbols to ask for now, as many as there are free workers."""
        wanting = self._books.wanting()
        for symbol in self._wants.keys() - set(wanting):
            self._wants[symbol].open = False
            if symbol not in self._books.books:
                del self._wants[symbol]
        ready = []
        for symbol in wanting:
            want = self._wants.get(symbol)
            if want is None:
                want = self._wants[symbol] = _Want(now)
            elif not want.open:
                want.open, want.since_s = True, now
                if now - want.fetched_s > _GOOD_S:
                    want.tries, want.not_before_s = 0, now
            if symbol not in self._busy and now >= want.not_before_s and self._may(symbol):
                ready.append((want.since_s, symbol))
        ready.sort(key=lambda one: one[0])
        return [symbol for _, symbol in ready[: max(0, self._workers - len(self._busy))]]

    async def _fetch(self, symbol: str) -> None:
        try:
            self.counts["fetched"] += 1
            body = await self._rest.depth(symbol, self._limit)
            if symbol not in self._books.books:
                return
            if self._books.feed_snapshot(symbol, body, self._clock(), self._limit):
                self.counts["loaded"] += 1
                self._loaded(symbol)
        except ExchangeError as error:
            self.counts["failed"] += 1
            self.last_problem = str(error)
        finally:
            self._busy.discard(symbol)
            want = self._wants.get(symbol)
            if want is not None:
                now = asyncio.get_running_loop().time()
                want.fetched_s = now
                want.not_before_s = now + min(_AGAIN_MOST_S, _AGAIN_S * 2.0 ** min(want.tries, 20))
                want.tries += 1
