"""Sub-day circuit-breaker updates from a foreign thread, one at a time, to the thread that steps (SPEC §9, §23).

    listener thread:  offer(value)   parse, check, then swap it in under the lock
    stepping thread:  drain()        swap it out under the lock, then engine.update_acb_boost(…), before each bar

An update is applied at most once; of several that arrive between two bars only the latest counts, for it replaces
those before it."""

from __future__ import annotations

import math
import threading

import msgspec

from dolphin.core.errors import GridError


class AcbValue(msgspec.Struct, frozen=True):
    """`DOLPHIN_FEATURES["acb_boost"]` as documented: boost in [1, 3] and beta in [0, 1]; other fields are let pass."""

    boost: float
    beta: float


_decode = msgspec.json.Decoder(AcbValue).decode


def parse_acb(value: str | bytes) -> AcbValue:
    """The update that a grid value holds.

    Raises GridError for anything but finite numbers in range: a missing boost read as 1 would close positions.
    """
    try:
        update = _decode(value)
    except (msgspec.MsgspecError, UnicodeError) as error:
        raise GridError(f"acb_boost: {_shown(value)} is not readable ({error}); expected boost and beta") from None
    for name, met, low, high in (("boost", update.boost, 1.0, 3.0), ("beta", update.beta, 0.0, 1.0)):
        if not (math.isfinite(met) and low <= met <= high):
            raise GridError(f"acb_boost: {name} {met}; expected a number from {low:g} to {high:g}")
    return update


class AcbInbox:
    """A place for one update, shared by one stepping thread and any number of listeners.

    `offer` and `drain` hold the lock for the exchange of one reference and nothing else. `received`, `replaced` and
    `refused` count since the start; `last_refusal` says why.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: AcbValue | None = None
        self.received = 0
        self.replaced = 0
        self.refused = 0
        self.last_refusal = ""

    def offer(self, value: str | bytes) -> bool:
        """Take a grid value from any thread; false when it was refused, and what was pending stays."""
        try:
            update = parse_acb(value)
        except GridError as error:
            with self._lock:
                self.refused += 1
                self.last_refusal = str(error)
            return False
        with self._lock:
            self.received += 1
            self.replaced += self._pending is not None
            self._pending = update
        return True

    def drain(self) -> AcbValue | None:
        """The pending update, handed out once; None when there is none."""
        with self._lock:
            update, self._pending = self._pending, None
        return update


def _shown(value: str | bytes) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
