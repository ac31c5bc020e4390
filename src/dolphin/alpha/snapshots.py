"""The engine as one value: a digest, a JSON head that says what it is, and the raw arrays (SPEC §12)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import msgspec

from dolphin.core import sealed
from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams

SNAPSHOT_VERSION = 2


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
    return sealed.pack(Head(version=SNAPSHOT_VERSION, sizes=sizes, **head), blocks)


def unpack(value: bytes) -> tuple[Head, memoryview]:
    """Head and raw arrays of a value that `pack` gave; direction and day are known to be readable.

    Raises ConfigError, in one line, for a value that is torn, altered, of another version, or no snapshot at all.
    """
    packed, state = sealed.unpack(value, "engine", "restore an older one")
    try:
        version = msgspec.json.decode(packed, type=_Version).version
        if version != SNAPSHOT_VERSION:
            raise ConfigError(
                f"engine snapshot: version {version}, expected {SNAPSHOT_VERSION}; restore it with the release "
                "that wrote it"
            )
        head = msgspec.json.decode(packed, type=Head)
        Direction(head.direction)
        if head.day:
            date.fromisoformat(head.day)
    except (msgspec.MsgspecError, ValueError) as error:
        raise ConfigError(f"engine snapshot: not readable ({error}); restore an older one") from None
    return head, state
