"""The book's memory as one value: a digest, a JSON head, and the raw arrays (SPEC §12 asks it of all state)."""

from __future__ import annotations

import msgspec
import numpy as np

from dolphin.book.layout import BookState, new_book_state
from dolphin.core import sealed
from dolphin.core.errors import ConfigError

VERSION = 1


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a saved book says about itself before the arrays."""

    version: int
    assets: tuple[str, ...]
    bar_idx: int
    max_stale_bars: int
    max_age_s: float


def pack(head: Head, state: BookState) -> bytes:
    """The value that `unpack` takes; work space is left out."""
    return sealed.pack(head, (array.tobytes() for array in state[:-1]))


def unpack(value: bytes) -> tuple[Head, BookState]:
    """Head and arrays of their own. Raises ConfigError for a value that is torn, altered, or of another version."""
    packed, blocks = sealed.unpack(value, "order book", "start with an empty book")
    try:
        head = msgspec.json.decode(packed, type=Head)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"order book snapshot: not readable ({error}); start with an empty book") from None
    state = new_book_state(len(head.assets))
    wanted = sum(array.nbytes for array in state[:-1])
    if head.version != VERSION or len(blocks) != wanted:
        raise ConfigError(
            f"order book snapshot: version {head.version} with {len(blocks)} bytes of state, expected version "
            f"{VERSION} with {wanted}; start with an empty book"
        )
    at = 0
    for array in state[:-1]:
        array[...] = np.frombuffer(blocks[at : at + array.nbytes], array.dtype).reshape(array.shape)
        at += array.nbytes
    return head, state
