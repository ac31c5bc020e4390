"""The tables of docs/grid.md, made from the catalogue so that page and code cannot differ."""

from __future__ import annotations

from typing import Any

import msgspec

from dolphin.grid.schemas import CATALOGUE
from dolphin.grid.values import Value


def markdown() -> str:
    """Two tables: every key with its value, writers and readers; every value's fields with their types."""
    lines = ["| map | key | value | writer | reader | |", "|---|---|---|---|---|---|"]
    for entry in CATALOGUE:
        note = " ".join(part for part in (entry.note, "**Moves money.**" if entry.moves_money else "") if part)
        cells = (f"`{entry.name}`", f"`{entry.key}`", _kind(entry.kind), entry.writers, entry.readers, note)
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| value | field | JSON | |", "|---|---|---|---|"]
    done: list[type] = []
    for entry in CATALOGUE:
        for struct in _structs(entry.kind):
            if struct not in done:
                done.append(struct)
                lines += [line for one in (struct, *_parts(struct)) for line in _rows(one)]
    return "\n".join(lines) + "\n"


def _parts(struct: type[msgspec.Struct]) -> list[type[msgspec.Struct]]:
    """The objects inside of its lists."""
    info: Any = msgspec.inspect.type_info(struct)
    inner = [item.type.item_type for item in info.fields if isinstance(item.type, msgspec.inspect.ListType)]
    return [one.cls for one in inner if isinstance(one, msgspec.inspect.StructType)]


def _structs(kind: Any) -> list[type[Value]]:
    members = getattr(kind, "__args__", (kind,))
    return [one for one in members if isinstance(one, type) and issubclass(one, Value)]


def _kind(kind: Any) -> str:
    structs = _structs(kind)
    if not structs:
        return _words(msgspec.inspect.type_info(kind))
    return f"`{structs[0].__name__}`" + (" or null" if kind is not structs[0] else "")


def _rows(struct: type[msgspec.Struct]) -> list[str]:
    info: Any = msgspec.inspect.type_info(struct)
    rows = []
    for item in info.fields:
        if item.encode_name != "_v":
            optional = "" if item.required else "optional"
            rows.append(f"| `{struct.__name__}` | `{item.encode_name}` | {_words(item.type)} | {optional} |")
    return rows


def _words(info: Any) -> str:
    if isinstance(info, msgspec.inspect.UnionType):
        return " or ".join(_plain(one) for one in info.types)
    return _plain(info)


def _plain(info: Any) -> str:
    match info:
        case msgspec.inspect.FloatType():
            return "number" + _range(info)
        case msgspec.inspect.IntType():
            return "whole number" + _range(info)
        case msgspec.inspect.StrType():
            return _TEXTS.get(info.pattern or "", "text")
        case msgspec.inspect.LiteralType():
            return ", ".join(f"`{one}`" for one in info.values)
        case msgspec.inspect.ListType():
            length = f"{info.min_length} × " if info.min_length is not None else ""
            return f"list of {length}{_words(info.item_type)}"
        case msgspec.inspect.StructType():
            return f"`{info.cls.__name__}`"
        case msgspec.inspect.DictType():
            return f"object of {_words(info.value_type)}"
        case msgspec.inspect.BoolType():
            return "true or false"
        case msgspec.inspect.BytesType():
            return "base64 text"
        case msgspec.inspect.NoneType():
            return "null"
        case _:
            raise TypeError(f"{info}: no words for it")


def _range(info: Any) -> str:
    low, high = info.ge, info.le
    if low is not None and high is not None:
        return f", {low:g} to {high:g}"
    if low is not None:
        return f" ≥ {low:g}"
    return "" if info.gt is None else f" > {info.gt:g}"


_TEXTS = {
    r"^[A-Z0-9]{1,30}$": "symbol",
    r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$": "date",
    r"^[0-9a-f]{16}$": "16 hex digits",
    r"^-?\d+(\.\d+)?$": "decimal text",
    r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?$": "ISO 8601 time",
}
