"""What a local book remembers: one dense window of whole ticks per side, and the sums of its bands (SPEC §8)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.book.layout import BANDS

I8 = NDArray[np.int64]
I1 = NDArray[np.int8]

BID, ASK = 0, 1

MAX_LEVELS = 16_384
"""Levels of one side in one message; a message with more is refused. Recorded: at most 1226 on both sides together."""

MAX_CELLS = 1 << 21
"""Ticks that a window spans at most: 16 MB a side. A finer tick narrows the reach, which the coverage then says."""

MAX_TICKS = 1 << 40
"""A price of more ticks than this is refused, so that 200·price cannot overflow."""

MAX_UNITS = 1 << 61
"""Ticks × lots of one level, and of one side: two of them still add up within 64 bits."""

GOOD, THIN, ONE_SIDED, CROSSED, OVERFLOW, OUTRUN = 0, 1, 2, 3, 4, 5
"""How a book stands after a change. THIN is good, but the best price has come near where the known levels end; OUTRUN
is beyond it, where levels that never changed since before the snapshot may be missing."""

RULES = np.dtype(
    [
        ("price_digits", "i8"),  # decimals of the tick
        ("tick_units", "i8"),  # the tick, in units of its last decimal
        ("lot_digits", "i8"),
        ("lot_units", "i8"),
        ("tick_usd", "f8"),
        ("depth_units", "f8"),  # base units = lots·depth_units/depth_scale, and so on: one exact product, one division
        ("depth_scale", "f8"),
        ("notional_units", "f8"),
        ("notional_scale", "f8"),
    ]
)

CORE = np.dtype(
    [
        ("origin", "i8"),  # tick of the window's first cell
        ("best", "i8", (2,)),  # ticks; 0: that side is empty
        ("total", "i8", (2,)),  # ticks × lots of each side within the window
        ("levels", "i8", (2,)),
        ("known", "i8", (2,)),  # ticks, lowest and highest, between which nothing is missing
        ("thin", "i8", (2,)),  # ticks from the best price to the end of what is known, under which the book is THIN
        ("mid2", "i8"),  # best bid + best ask, ticks, that the edges belong to; 0: there never was one
        ("outside", "i8"),  # changes beyond the window, which were dropped
        ("moved", "i8"),  # how often the window followed the market
        ("edges", "i8", (2, BANDS)),  # the farthest tick of each band
        ("lots", "i8", (2, BANDS)),  # per band
        ("units", "i8", (2, BANDS)),  # ticks × lots per band
    ]
)


class Scratch(NamedTuple):
    """Levels of one message, on their way from text into the book; may be shared by books that take turns."""

    text: I1  # (bytes,) the message's two lists; signed, so that a byte beyond ASCII is negative
    ticks: I8  # (2, MAX_LEVELS)
    lots: I8  # (2, MAX_LEVELS)
    where: I8  # (1,) the byte at which a fault was met


def new_scratch(size: int) -> Scratch:
    """Room for `size` bytes of levels."""
    levels = np.zeros((2, MAX_LEVELS), np.int64), np.zeros((2, MAX_LEVELS), np.int64)
    return Scratch(np.zeros(size, np.int8), *levels, np.zeros(1, np.int64))
