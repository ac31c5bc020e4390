"""How fast, and how stubbornly, a download asks: token bucket, pauses on demand, backoff with jitter."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dolphin.core.clock import Clock, system_clock_ns

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Timing:
    """Everything of a download that touches time or chance; tests give their own and wait for nothing.

    `monotonic` gives seconds that never go back; `sleep` waits that many seconds; `wall` is UTC nanoseconds (which
    days are over, which klines are closed); `chance` spreads the retries; the timeouts are seconds.
    """

    monotonic: Callable[[], float] = time.monotonic
    sleep: Sleep = asyncio.sleep
    wall: Clock = system_clock_ns
    chance: random.Random = field(default_factory=lambda: random.Random(0))  # noqa: S311 - not a secret
    connect_timeout: float = 15.0
    read_timeout: float = 30.0


class TokenBucket:
    """At most `rate` requests per second, `burst` of them at once after a rest.

    Kept as one number, the time at which the bucket would be full again, so that waiters are served in the order
    in which they came and none needs a background task. `pause` holds everybody back, as a 429 demands.
    """

    def __init__(self, rate: float, timing: Timing, burst: int = 1) -> None:
        """A full bucket that refills at `rate` > 0 per second up to `burst` ≥ 1."""
        self._gap = 1.0 / rate
        self._slack = (burst - 1) * self._gap
        self._timing = timing
        self._full_at = timing.monotonic()
        self._closed_until = self._full_at

    async def take(self) -> None:
        """Wait for the right to send one request."""
        while True:
            now = self._timing.monotonic()
            if now < self._closed_until:
                await self._timing.sleep(self._closed_until - now)
                continue
            self._full_at = max(self._full_at, now) + self._gap
            wait = self._full_at - self._gap - self._slack - now
            if wait <= 0.0:
                return
            await self._timing.sleep(wait)
            if self._timing.monotonic() >= self._closed_until:
                return

    def pause(self, seconds: float) -> None:
        """Let nobody through for `seconds` from now; a shorter pause never cuts a longer one."""
        now = self._timing.monotonic()
        self._closed_until = max(self._closed_until, now + seconds)


def backoff_s(attempt: int, chance: random.Random, first: float = 0.5, longest: float = 30.0) -> float:
    """Seconds before the retry after failure number `attempt` ≥ 1: doubling, capped, between half and all of it.

    The jitter keeps transfers that failed together from coming back together.
    """
    whole: float = min(longest, first * 2.0 ** (attempt - 1))
    return whole * chance.uniform(0.5, 1.0)
