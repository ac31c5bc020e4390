"""JSON files that people write: one line for whatever is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dolphin.core.errors import DataError


def read_json(path: Path, what: str, *, instead: str) -> Any:
    """The value in the file `path` that should hold `what`; `instead` says what to write for NaN or an infinity.

    Raises DataError for a file that cannot be read, is no JSON, gives a name twice, or holds NaN or an infinity.
    """
    return parse_json(f"{path}", read_text(path, what), instead=instead)


def read_text(path: Path, what: str) -> str:
    """The text of a file that should hold `what`; DataError when it cannot be read or is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"{path}: cannot be read ({reason}); expected a JSON file of {what}") from None


def parse_json(where: str, text: str, *, instead: str) -> Any:
    """The value that `text` holds; DataError when it is no JSON, gives a name twice, or holds NaN or an infinity."""

    def no_constant(text: str) -> float:
        raise ValueError(f"{text} is not a JSON number; {instead}")

    try:
        return json.loads(text, object_pairs_hook=_once, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not the JSON expected: {error}") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"{name!r} is given twice; keep one")
    return dict(pairs)
