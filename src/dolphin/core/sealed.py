"""State as one value: a digest in front of whatever is remembered, and a JSON head before raw arrays (SPEC §12)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

import msgspec

from dolphin.core.errors import ConfigError

_DIGEST = 16
_LENGTH = 8


def seal(body: bytes) -> bytes:
    """`body` behind its digest."""
    return hashlib.blake2b(body, digest_size=_DIGEST).digest() + body


def unseal(value: bytes, what: str, instead: str) -> bytes:
    """The body that `seal` was given. Raises ConfigError for a torn or altered value: `what` it should have been, and
    what to do `instead`."""
    body = value[_DIGEST:]
    if seal(body) != value:
        raise ConfigError(
            f"{what} snapshot: {len(value)} bytes that do not match their digest, so torn or altered; expected what "
            f"snapshot() gave: {instead}"
        )
    return body


def pack(head: msgspec.Struct, blocks: Iterable[bytes]) -> bytes:
    """One sealed value of a JSON head and raw blocks."""
    packed = msgspec.json.encode(head)
    return seal(b"".join((len(packed).to_bytes(_LENGTH, "little"), packed, *blocks)))


def unpack(value: bytes, what: str, instead: str) -> tuple[bytes, memoryview]:
    """The head, still JSON, and the joined blocks of a value that `pack` gave; raises as `unseal` does."""
    body = unseal(value, what, instead)
    if len(body) < _LENGTH:
        raise ConfigError(f"{what} snapshot: {len(value)} bytes, too few for a head; {instead}")
    end = _LENGTH + int.from_bytes(body[:_LENGTH], "little")
    return body[_LENGTH:end], memoryview(body)[end:]
