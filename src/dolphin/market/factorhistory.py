"""Recorded histories of external factors, read and checked: Fear & Greed, DVOL, funding (SPEC §1.3, §9).

Every value carries the stamp under which it was published. Which date may use it is `factorimport`'s business.
"""

from __future__ import annotations

import csv
import json
import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dolphin.core.clock import NS_PER_S, iso_to_ns, ns_to_iso
from dolphin.core.errors import ConfigError, DataError

_MS = NS_PER_S // 1000
_EARLIEST, _LATEST = iso_to_ns("2009-01-01"), iso_to_ns("2100-01-01")

FUNDING_LIMIT = 0.03
"""Largest believable funding of one settlement, a fraction; venues cap it at or below three percent."""

FUNDING_TYPICAL = (4e-6, 2e-3)
"""Where the median size of a funding history must lie, a fraction: below it the file was no percent to begin with (one
more division by a hundred), above it the file holds basis points."""

_ENOUGH = 30
"""Settlements from which a median says something of the unit."""


@dataclass(frozen=True)
class History:
    """One factor's history: `stamps_ns` ascending, UTC, and `values` in the unit of the factor files."""

    name: str
    source: Path
    stamps_ns: tuple[int, ...]
    values: tuple[float, ...]


def read_fear_greed(path: Path) -> History:
    """Fear & Greed from CSV: columns `timestamp` (ISO 8601) and `value` (0 to 100), one row a day.

    Raises DataError naming file and line for a missing column, a stamp or value that is none, or rows out of order.
    """
    rows: list[tuple[int, float]] = []
    try:
        with path.open(newline="", encoding="utf-8") as file:
            table = csv.DictReader(file, strict=True)
            lacking = [name for name in ("timestamp", "value") if name not in (table.fieldnames or ())]
            if lacking:
                raise DataError(f"{path}: no column {lacking[0]!r}; expected timestamp and value")
            for row in table:
                where = f"{path}: line {table.line_num}"
                rows.append((_iso(row["timestamp"], where), _text_number(row["value"], where)))
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error}); expected UTF-8 text with a header") from None
    return _checked("fng", path, rows, 0.0, 100.0)


def read_dvol(path: Path) -> History:
    """DVOL from JSON: `[[milliseconds, percent per year], …]`; raises DataError as above, and outside 5 … 400."""
    return _checked("dvol_btc", path, _pairs(path), 5.0, 400.0)


def read_funding(path: Path) -> History:
    """Funding from JSON: `[[milliseconds, PERCENT per settlement], …]`, given back as fractions (0.01 becomes 0.0001).

    Raises DataError as above, for a size over 3 %, and for a history whose typical size shows another unit.
    """
    rows = [(stamp, percent / 100.0) for stamp, percent in _pairs(path)]
    history = _checked("funding_btc", path, rows, -FUNDING_LIMIT, FUNDING_LIMIT)
    typical = statistics.median(abs(v) for v in history.values)
    low, high = FUNDING_TYPICAL
    if len(history.values) >= _ENOUGH and not low <= typical <= high:
        unit = "fractions" if typical < low else "basis points"
        raise DataError(
            f"{path}: funding is typically {typical * 100:.2g} as given, read as percent; expected {low * 100:g} to "
            f"{high * 100:g}: the file seems to hold {unit}, convert it to percent"
        )
    return history


SOURCES: dict[str, Callable[[Path], History]] = {
    "fear_greed_index.csv": read_fear_greed,
    "dvol_btc.json": read_dvol,
    "funding_rate_btc.json": read_funding,
}
"""The files that a folder of recorded histories may hold, and who reads them."""


def read_histories(folder: Path) -> list[History]:
    """The histories in `folder`, those of SOURCES that are there; DataError when it holds none, or one is not sound."""
    try:
        names = {path.name for path in folder.iterdir()}
    except FileNotFoundError:
        raise DataError(f"{folder}: no such directory; check the path") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); expected a folder of histories") from None
    found = [read(folder / name) for name, read in SOURCES.items() if name in names]
    if not found:
        raise DataError(f"{folder}: no history; expected one or more of {', '.join(SOURCES)}")
    return found


def _pairs(path: Path) -> list[tuple[int, float]]:
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read as JSON ({error}); expected [[milliseconds, value], …]") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: holds a {type(rows).__name__}; expected a list of [milliseconds, value]")
    found = []
    for k, row in enumerate(rows):
        if not (isinstance(row, list) and len(row) == 2 and type(row[0]) is int and type(row[1]) in (int, float)):
            raise DataError(f"{path}: entry {k} is {json.dumps(row)[:60]}; expected [milliseconds, value]")
        found.append((row[0] * _MS, float(row[1])))
    return found


def _checked(name: str, path: Path, rows: list[tuple[int, float]], low: float, high: float) -> History:
    """The rows as a history, if they rise in time and every value can be true."""
    if not rows:
        raise DataError(f"{path}: holds no value; expected at least one")
    before = _EARLIEST
    for k, (stamp, value) in enumerate(rows):
        if not _EARLIEST <= stamp <= _LATEST:
            raise DataError(f"{path}: entry {k} has stamp {stamp // _MS} ms; expected milliseconds from 2009 to 2100")
        if k and stamp <= before:
            raise DataError(
                f"{path}: entry {k}, {ns_to_iso(stamp)}, is not later than the one before; sort the history"
            )
        if not (math.isfinite(value) and low <= value <= high):
            raise DataError(
                f"{path}: entry {k}, {ns_to_iso(stamp)}, gives {name} {value:g}; expected {low:g} to {high:g}: "
                "check its unit"
            )
        before = stamp
    stamps, values = zip(*rows, strict=True)
    return History(name, path, stamps, values)


def _iso(text: str | None, where: str) -> int:
    try:
        return iso_to_ns(text or "", where)
    except ConfigError as error:
        raise DataError(str(error)) from None


def _text_number(text: str | None, where: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise DataError(f"{where}: value {text!r} is no number; expected 0 to 100") from None
