"""Sub-day circuit-breaker updates from a foreign thread, one at a time, to the thread that steps (SPEC §9, §23).

    listener thread:  offer(value)   parse, check, then swap it in under the lock
    stepping thread:  drain()        swap it out under the lock, then engine.update_acb_boost(…), before each bar

An update is applied at most once; of several that arrive between two bars only the latest counts, for it replaces
those before it."""

from __future__ import annotations

import threading

from msgspec import UNSET

from dolphin.core.errors import GridError
from dolphin.grid.schemas import ACB_BOOST, Decoded
from dolphin.grid.values import AcbBoost


class AcbInbox:
    """A place for one update, shared by one stepping thread and any number of listeners.

    `offer` and `drain` hold the lock for the exchange of one reference and nothing else. `received`, `replaced`,
    `refused` and `unknown_fields` count since the start; `last_refusal` says why. Anything but two numbers in range is
    refused, for a missing boost read as 1 would close positions; so is a writer that has lost the lock since (decision
    0049).
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: AcbBoost | None = None
        self.received = 0
        self.replaced = 0
        self.refused = 0
        self.unknown_fields = 0
        self.last_refusal = ""
        self._fence = -1

    def offer(self, value: str | bytes) -> bool:
        """Take a grid value from any thread; false when it was refused, and what was pending stays."""
        found = Decoded()
        try:
            update = ACB_BOOST.decode(value.encode(errors="replace") if isinstance(value, str) else value, found)
        except GridError as error:
            with self._lock:
                self._refuse(str(error))
            return False
        fence = -1 if update.fence is UNSET else update.fence
        with self._lock:
            self.unknown_fields += found.unknown_fields
            if 0 <= fence < self._fence:
                self._refuse(f"{ACB_BOOST}: refused: fence {fence} after {self._fence}; its writer has lost the lock")
                return False
            self._fence = max(self._fence, fence)
            self.received += 1
            self.replaced += self._pending is not None
            self._pending = update
        return True

    def _refuse(self, why: str) -> None:
        self.refused += 1
        self.last_refusal = why

    def drain(self) -> AcbBoost | None:
        """The pending update, handed out once; None when there is none."""
        with self._lock:
            update, self._pending = self._pending, None
        return update
