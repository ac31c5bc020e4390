"""What may be a name, a key and a value: the same refusals, word for word, from every grid."""

from __future__ import annotations

from collections.abc import Mapping

from dolphin.core.errors import GridError
from dolphin.grid.port import MAX_KEY, MAX_NAME, MAX_VALUE

CLOSED = "grid: closed; open it again"


def name_bytes(name: str, what: str = "map") -> bytes:
    """A name in UTF-8. Raises GridError when it is empty, too long, or holds what cannot be printed."""
    return _text(name, f"name of a {what}", MAX_NAME)


def key_bytes(key: str) -> bytes:
    """A key in UTF-8. Raises GridError when it is empty, too long, or holds what cannot be printed."""
    return _text(key, "key", MAX_KEY)


def check_value(where: str, value: object) -> None:
    """Raise GridError unless `value` is bytes and not too many; `where` is the map's name and the key, or so."""
    if type(value) is not bytes:
        raise GridError(f"grid: {where}: value is {type(value).__name__}; expected bytes")
    if len(value) > MAX_VALUE:
        raise GridError(f"grid: {where}: value of {len(value)} bytes; expected at most {MAX_VALUE}")


def check_put(name: str, values: Mapping[str, bytes]) -> None:
    """Raise GridError unless all of it may be put."""
    name_bytes(name)
    for key, value in values.items():
        key_bytes(key)
        check_value(f"{name}[{key!r}]", value)


def _text(text: object, what: str, limit: int) -> bytes:
    if isinstance(text, str) and text.isprintable() and text:
        encoded = text.encode("utf-8", "surrogatepass")
        if len(encoded) <= limit:
            return encoded
        raise GridError(f"grid: {what} of {len(encoded)} bytes; expected at most {limit}")
    shown = repr(text)
    raise GridError(f"grid: {what} is {shown if len(shown) <= 60 else shown[:59] + '…'}; expected printable text")
