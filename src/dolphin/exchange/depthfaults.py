"""What can be wrong with a message of depth: a closed list of kinds, and the one error that carries them (SPEC §8)."""

from __future__ import annotations

from enum import StrEnum

from dolphin.core.errors import DataError


class FaultKind(StrEnum):
    """Why a message was refused; each is counted under this name."""

    MALFORMED = "malformed"  # not JSON, or cut short
    WRONG_TYPE = "wrong_type"  # JSON, but a field is missing or of another type
    UNKNOWN_SYMBOL = "unknown_symbol"
    BAD_LEVELS = "bad_levels"  # not a list of [price, quantity] pairs of text
    BAD_NUMBER = "bad_number"  # NaN, an exponent, a letter
    NEGATIVE = "negative"
    ZERO_PRICE = "zero_price"
    OFF_TICK = "off_tick"
    OFF_LOT = "off_lot"
    TOO_LARGE = "too_large"
    BAD_SEQUENCE = "bad_sequence"  # identifiers that contradict themselves
    FROM_THE_FUTURE = "from_the_future"
    TOO_OLD = "too_old"  # a snapshot from before the diffs that wait for it
    UNASKED = "unasked"  # a snapshot that nobody waits for
    CROSSED = "crossed"  # a snapshot whose best bid is not below its best ask
    VENUE_ERROR = "venue_error"  # the venue answered with an error


class DepthError(DataError):
    """A message of depth that was refused whole; nothing of it was applied. `kind` is what it is counted under."""

    def __init__(self, kind: FaultKind, text: str) -> None:
        super().__init__(text)
        self.kind = kind


def shown(raw: bytes | memoryview, at: int = 0, width: int = 40) -> str:
    """A short piece of what was met, printable and on one line."""
    piece = bytes(raw[max(at, 0) : max(at, 0) + width])
    return ascii(piece.decode("utf-8", "backslashreplace")) + ("…" if len(raw) - at > width else "")
