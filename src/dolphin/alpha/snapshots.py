"""The engine as one value: a digest, a JSON head that says what it is, and the raw arrays (SPEC §12)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams

SNAPSHOT_VERSION = 2
_DIGEST = 16


class _Version(msgspec.Struct, frozen=True):
    version: int


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a snapshot says about itself before the raw arrays."""

    version: int
    champion_hash: str
    params: EngineParams
    direction: int
    assets: tuple[str, ...]
    day: str | None
    day_bars: int
    day_w750: tuple[float | None, ...]
    sizes: tuple[int, ...]


def pack(blocks: Sequence[bytes], **head: Any) -> bytes:
    """The value of `blocks` behind a head with these fields."""
    sizes = tuple(len(block) for block in blocks)
    packed = msgspec.json.encode(Head(version=SNAPSHOT_VERSION, sizes=sizes, **head))
    body = b"".join((len(packed).to_bytes(8, "little"), packed, *blocks))
    return digest(body) + body


def unpack(value: bytes) -> tuple[Head, memoryview]:
    """Head and raw arrays of a value that `pack` gave; direction and day are known to be readable.

    Raises ConfigError, in one line, for a value that is torn, altered, of another version, or no snapshot at all.
    """
    body = value[_DIGEST:]
    if len(body) < 8 or digest(body) != value[:_DIGEST]:
        raise ConfigError(
            f"engine snapshot: {len(value)} bytes that do not match their digest, so torn or altered; expected "
            "what snapshot() gave: restore an older one"
        )
    end = 8 + int.from_bytes(body[:8], "little")
    try:
        version = msgspec.json.decode(body[8:end], type=_Version).version
        if version != SNAPSHOT_VERSION:
            raise ConfigError(
                f"engine snapshot: version {version}, expected {SNAPSHOT_VERSION}; restore it with the release "
                "that wrote it"
            )
        head = msgspec.json.decode(body[8:end], type=Head)
        Direction(head.direction)
        if head.day:
            date.fromisoformat(head.day)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"engine snapshot: not readable ({error}); restore an older one") from None
    return head, memoryview(body)[end:]


def digest(body: bytes) -> bytes:
    """What stands before a body, and tells a torn or altered one."""
    return hashlib.blake2b(body, digest_size=_DIGEST).digest()
