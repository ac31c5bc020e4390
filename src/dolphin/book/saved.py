"""The book's memory as one value: a digest, a JSON head, and the raw arrays (SPEC §12 asks it of all state)."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from dolphin.book.layout import BookState, new_book_state
from dolphin.core.errors import ConfigError

VERSION = 1
_DIGEST = 16
_FIRST = 8 + _DIGEST


class Head(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a saved book says about itself before the arrays."""

    version: int
    assets: tuple[str, ...]
    bar_idx: int
    max_stale_bars: int
    max_age_s: float


def pack(head: Head, state: BookState) -> bytes:
    """The value that `unpack` takes; work space is left out."""
    packed = msgspec.json.encode(head)
    body = b"".join((len(packed).to_bytes(8, "little"), packed, *(array.tobytes() for array in state[:-1])))
    return _digest(body) + body


def unpack(value: bytes) -> tuple[Head, BookState]:
    """Head and arrays of their own. Raises ConfigError for a value that is torn, altered, or of another version."""
    body = value[_DIGEST:]
    if len(value) < _FIRST or _digest(body) != value[:_DIGEST]:
        raise ConfigError(
            f"order book snapshot: {len(value)} bytes that do not match their digest, so torn or altered; expected "
            "what snapshot() gave: start with an empty book"
        )
    end = 8 + int.from_bytes(body[:8], "little")
    try:
        head = msgspec.json.decode(body[8:end], type=Head)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"order book snapshot: not readable ({error}); start with an empty book") from None
    state = new_book_state(len(head.assets))
    wanted = sum(array.nbytes for array in state[:-1])
    if head.version != VERSION or len(body) - end != wanted:
        raise ConfigError(
            f"order book snapshot: version {head.version} with {len(body) - end} bytes of state, expected version "
            f"{VERSION} with {wanted}; start with an empty book"
        )
    for array in state[:-1]:
        array[...] = np.frombuffer(body[end : end + array.nbytes], array.dtype).reshape(array.shape)
        end += array.nbytes
    return head, state


def _digest(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()
