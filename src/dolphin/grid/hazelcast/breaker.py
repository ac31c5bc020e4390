"""A circuit breaker around a cluster that does not answer, so that who calls it does not wait again and again (§22)."""

from __future__ import annotations

import threading
import time
from typing import Literal

from dolphin.core.errors import GridError

FAILURES = 3
"""Calls in a row that fail until the breaker opens."""

FIRST_S, LONGEST_S = 0.25, 2.0
"""How long it stays open: first, and at most; doubled from one failed attempt to the next."""


class Breaker:
    """CLOSED lets calls through; OPEN refuses them at once; HALF-OPEN lets one through, which decides.

    `what` names what is not answering in the refusal. Any thread may call.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._guard = threading.Lock()
        self._failures = 0
        self._pause_s = FIRST_S
        self._until = 0.0
        self._trying = False
        self._reason = ""
        self.opened = 0

    @property
    def state(self) -> Literal["CLOSED", "OPEN", "HALF-OPEN"]:
        """What it is now."""
        if self._failures < FAILURES:
            return "CLOSED"
        return "OPEN" if self._trying or time.monotonic() < self._until else "HALF-OPEN"

    def enter(self) -> None:
        """Raise GridError unless a call may go out now; each one that may must be told of to `worked` or `failed`."""
        if self._failures < FAILURES:
            return
        with self._guard:
            if self._failures < FAILURES:
                return
            left = self._until - time.monotonic()
            if left > 0.0 or self._trying:
                raise GridError(f"grid: {self._what} does not answer ({self._reason}); tried again in a moment")
            self._trying = True

    def worked(self) -> None:
        """A call was answered."""
        if self._failures:
            with self._guard:
                self._failures, self._pause_s, self._trying = 0, FIRST_S, False

    def failed(self, reason: str) -> None:
        """A call was not answered, and why."""
        with self._guard:
            self._reason = reason
            self._trying = False
            self._failures += 1
            if self._failures >= FAILURES:
                self.opened += self._failures == FAILURES
                self._until = time.monotonic() + self._pause_s
                self._pause_s = min(2.0 * self._pause_s, LONGEST_S)
