"""The weight that requests may have: never more than the venue allows, whatever minute it counts by (SPEC §8).

The venue counts weights by the minute, and does not say when its minute begins. So no 60 seconds may hold more than the
limit, and a request counts from the moment it is sent until 60 s after its answer came: the venue has counted it
somewhere in between.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Awaitable, Callable

from dolphin.core.errors import ConfigError

WINDOW_S = 60.0


class WeightBudget:
    """Grants weights in the order in which they are asked for.

    `limit` per minute, of which the fraction `reserve` is left for others at this address. `clock` gives seconds that
    never go back. Raises ConfigError for values that leave nothing.
    """

    def __init__(
        self,
        limit: int = 2400,
        reserve: float = 0.1,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if not (limit >= 1 and 0.0 <= reserve < 1.0 and limit * (1.0 - reserve) >= 1.0):
            raise ConfigError(
                f"weight budget: limit {limit} with a reserve of {reserve}; expected a limit from 1 and a reserve from "
                "0 to below 1 that leave at least 1 a minute"
            )
        self.limit, self.allowed = limit, int(limit * (1.0 - reserve))
        self._clock, self._sleep = clock, sleep
        self._open = 0  # weight of requests whose answers are still out
        self._done: deque[tuple[float, int]] = deque()  # (when it counts no more, weight)
        self._done_sum = 0
        self._others = 0
        self._others_until = -math.inf
        self._closed_until = -math.inf
        self._turn = asyncio.Lock()

    @property
    def own(self) -> int:
        """Weight of our own requests that may still count."""
        now = self._clock()
        while self._done and self._done[0][0] <= now:
            self._done_sum -= self._done.popleft()[1]
        return self._open + self._done_sum

    @property
    def used(self) -> int:
        """Weight that may count now: ours, and what the venue has told of others at our address."""
        return self.own + (self._others if self._clock() < self._others_until else 0)

    @property
    def paused_s(self) -> float:
        """For how long nobody may ask, because the venue has said so."""
        return max(0.0, self._closed_until - self._clock())

    async def take(self, weight: int, *, urgent: bool = False) -> None:
        """Wait until a request of this weight may be sent, and count it; `give` ends it.

        An urgent one passes those that wait, and may take of the reserve. Raises ConfigError for a weight beyond what a
        whole minute allows: it would wait for ever.
        """
        if weight > self.allowed:
            raise ConfigError(
                f"weight budget: a request of weight {weight}, but only {self.allowed} a minute are allowed; "
                "ask for fewer levels, or raise the limit"
            )
        async with contextlib.nullcontext() if urgent else self._turn:
            most = self.limit if urgent else self.allowed
            while (wait := self._wait_s(weight, most)) > 0.0:
                await self._sleep(wait)
            self._open += weight

    def give(self, weight: int, told: int | None = None) -> None:
        """The answer to a request is here, or will never be; `told` is the weight used by the venue's account."""
        now = self._clock()
        self._open -= weight
        self._done.append((now + WINDOW_S, weight))
        self._done_sum += weight
        if told is not None:
            # What the venue counts beyond all that can be ours belongs to somebody else, until its minute is over.
            others = max(0, told - self.own)
            if others >= self._others or now >= self._others_until:
                self._others, self._others_until = others, now + WINDOW_S

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long; a shorter pause never cuts a longer one."""
        self._closed_until = max(self._closed_until, self._clock() + seconds)

    def _wait_s(self, weight: int, most: int) -> float:
        """Seconds until it is worth looking again; 0 when the weight may be taken now."""
        if self.paused_s > 0.0:
            return self.paused_s
        if self.used + weight <= most:
            return 0.0
        now = self._clock()
        ends = [self._done[0][0]] if self._done else []
        if now < self._others_until:
            ends.append(self._others_until)
        # With nothing but open requests in the way, one of them will end sooner or later.
        return min(max(min(ends, default=now) - now, 0.02), 1.0)
