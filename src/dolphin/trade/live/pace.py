"""When the next bar is due: on the clock's grid, late when the machine is, never twice to make up for it (SPEC §22)."""

from __future__ import annotations

import time
from collections.abc import Callable

from dolphin.core.errors import ConfigError


class Pace:
    """Bars every `bar_ns` nanoseconds, at the multiples of it on the monotonic clock.

    A bar whose time has passed entirely when it would begin is missed: it is counted and left out, since a bar is the
    market's present and the past is gone. `lag_ns` is how late the latest bar began.
    """

    def __init__(
        self,
        bar_ns: int,
        *,
        now: Callable[[], int] = time.monotonic_ns,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if bar_ns < 1:
            raise ConfigError(f"pace: bars of {bar_ns} ns; expected at least 1")
        self.bar_ns, self.missed, self.lag_ns = bar_ns, 0, 0
        self._now, self._sleep = now, sleep
        self._due = (now() // bar_ns + 1) * bar_ns

    def wait(self) -> int:
        """Wait for the next bar; how late it begins, nanoseconds."""
        while (left := self._due - self._now()) > 0:
            self._sleep(left / 1e9)
        self.lag_ns = -left
        behind = self.lag_ns // self.bar_ns
        self.missed += behind
        self._due += (behind + 1) * self.bar_ns
        return self.lag_ns
