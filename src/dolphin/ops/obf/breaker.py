"""The circuit breaker of the pushes: a value that moves by rules and nothing else (SPEC §8, §23).

CLOSED ──`failures` failed pushes in a row──▶ OPEN ──the back-off is over──▶ HALF_OPEN ──the probe works──▶ CLOSED
                                               ▲                                │
                                               └──it fails: twice the back-off──┘
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class BreakerState(StrEnum):
    """Whether pushes go to the grid."""

    CLOSED = "CLOSED"  # they do
    OPEN = "OPEN"  # they do not; the files go on
    HALF_OPEN = "HALF_OPEN"  # one is on its way, to see


class Breaker(msgspec.Struct, frozen=True, kw_only=True):
    """`ask` before a push and `told` of what came of it, each giving the next value; times in seconds, monotonic.

    `in_a_row` failures since the last success; `opened` how often it went from CLOSED to OPEN; `wait_s` the present
    back-off, until `retry_s`.
    """

    failures: int = 5
    backoff_s: float = 1.0
    cap_s: float = 60.0
    state: BreakerState = BreakerState.CLOSED
    in_a_row: int = 0
    opened: int = 0
    wait_s: float = 0.0
    retry_s: float = 0.0

    def ask(self, now_s: float) -> tuple[Breaker, bool]:
        """The next value, and whether to push now."""
        if self.state is BreakerState.OPEN and now_s >= self.retry_s:
            return msgspec.structs.replace(self, state=BreakerState.HALF_OPEN), True
        return self, self.state is BreakerState.CLOSED

    def told(self, worked: bool, now_s: float) -> Breaker:
        """The next value after a push that `ask` allowed."""
        if worked:
            return msgspec.structs.replace(self, state=BreakerState.CLOSED, in_a_row=0, wait_s=0.0)
        row = self.in_a_row + 1
        if self.state is BreakerState.CLOSED and row < self.failures:
            return msgspec.structs.replace(self, in_a_row=row)
        first = self.state is BreakerState.CLOSED
        wait = self.backoff_s if first else min(self.cap_s, 2.0 * self.wait_s)
        return msgspec.structs.replace(
            self,
            state=BreakerState.OPEN,
            in_a_row=row,
            opened=self.opened + first,
            wait_s=wait,
            retry_s=now_s + wait,
        )
