"""Five bands of 1 % as a book gives them, with what a reader needs to judge them: checksum and coverage (SPEC §8)."""

from __future__ import annotations

import sys
import zlib

import msgspec
import numpy as np

from dolphin.book.layout import BANDS
from dolphin.core.records import Record

REACH = BANDS / 100.0
"""How far from the mid the five bands go."""

_SWAPPED = sys.byteorder != "little"


class BookBands(msgspec.Struct, frozen=True, gc=False):
    """The bands of a book at one update, and how far they can be relied on."""

    symbol: str
    snapshot: Record  # SNAPSHOT; stamped with when the last update was received
    update_id: int  # the venue's identifier of that update
    event_ms: int  # when the venue sent it
    mid: float  # USD
    checksum: int  # of the snapshot: `band_checksum`
    bid_coverage: float
    """Fraction of the mid, down from it, within which no level can be missing; bands beyond it are lower bounds."""
    ask_coverage: float
    synced_ns: int  # since when the book has been SYNCED without a break

    @property
    def whole(self) -> bool:
        """Whether all five bands of both sides lie within the coverage."""
        return min(self.bid_coverage, self.ask_coverage) >= REACH


def band_checksum(snapshot: Record) -> int:
    """CRC-32 (zlib's) of a SNAPSHOT as 21 little-endian doubles: timestamp, bid_notional, ask_notional, bid_depth,
    ask_depth.

    JSON keeps doubles exactly when they are written with as many digits as it takes, so a reader of the text can take
    it again. It detects damage, and proves no origin.
    """
    if _SWAPPED:
        snapshot = np.array(snapshot).byteswap()
    return zlib.crc32(snapshot.tobytes())
