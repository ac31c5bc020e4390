"""Values as a Hazelcast cluster keeps them: text as a String, other bytes as a byte array, nothing else ever.

The client would turn a value back into whatever object its writer chose, by `pickle` too. Here its serialisation is
left out: what goes in and comes out is the library's own envelope around bytes, and this module opens it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

from hazelcast.serialization.data import Data
from hazelcast.serialization.serialization_const import (
    CONSTANT_TYPE_BYTE_ARRAY,
    CONSTANT_TYPE_NULL,
    CONSTANT_TYPE_STRING,
)

from dolphin.core.errors import GridError
from dolphin.grid.port import MAX_VALUE

_HEAD = struct.Struct(">iii")  # partition hash, left to the library as 0; type; number of bytes


def pack(value: bytes) -> Data:
    """The value in its envelope. JSON is text, so other tools read and write it as they would a string."""
    return _sealed(CONSTANT_TYPE_STRING if _is_text(value) else CONSTANT_TYPE_BYTE_ARRAY, value)


def pack_other(value: bytes) -> Data | None:
    """The envelope that somebody else may have put the same bytes into, None when there is no other."""
    return _sealed(CONSTANT_TYPE_BYTE_ARRAY, value) if _is_text(value) else None


@lru_cache(maxsize=8192)
def pack_key(key: str) -> Data:
    """A key in its envelope."""
    return _sealed(CONSTANT_TYPE_STRING, key.encode())


def unpack(data: Any, where: str) -> bytes | None:
    """The value; None for null. Raises GridError for anything but text or bytes, which is not looked at further."""
    if data is None:
        return None
    buffer = data.buffer
    if len(buffer) < _HEAD.size:
        if not buffer:
            return None
        raise GridError(f"grid: {where}: refused: {len(buffer)} bytes are no value")
    _, kind, length = _HEAD.unpack_from(buffer)
    if kind == CONSTANT_TYPE_NULL:
        return None
    if kind not in (CONSTANT_TYPE_STRING, CONSTANT_TYPE_BYTE_ARRAY):
        raise GridError(f"grid: {where}: refused: a value of Hazelcast's type {kind}; expected text or bytes")
    if length > MAX_VALUE or length != len(buffer) - _HEAD.size:
        raise GridError(f"grid: {where}: refused: value of {length} bytes; expected at most {MAX_VALUE}")
    return bytes(buffer[_HEAD.size :])


def _sealed(kind: int, value: bytes) -> Data:
    return Data(_HEAD.pack(0, kind, len(value)) + value)


def _is_text(value: bytes) -> bool:
    if value.isascii():
        return True
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
