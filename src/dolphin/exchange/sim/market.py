"""What the loopback exchange asks of a market that drives it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from dolphin.exchange.sim.feed import Feed
from dolphin.exchange.sim.symbols import Contract


class Market(Protocol):
    """Moves books in simulated time. Two exist: `SyntheticMarket` and `RecordedMarket`."""

    @property
    def contracts(self) -> Sequence[Contract]:
        """The contracts traded, in the order of `exchangeInfo`."""

    @property
    def start_ms(self) -> int:
        """Simulated milliseconds since 1970 at which the exchange opens."""

    @property
    def title(self) -> str:
        """One line for people: what drives the exchange."""

    def open(self, feed: Feed) -> None:
        """Put the first books (and klines) into `feed.lines`; called once, before the clock starts."""

    def advance(self, now_ms: int, feed: Feed) -> bool:
        """Let happen what happens up to `now_ms` and report it; False once there is nothing more to come."""

    def close(self) -> None:
        """Let go of files; called once, when the exchange stops."""
