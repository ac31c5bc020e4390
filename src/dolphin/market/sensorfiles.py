"""Files of sensor readings: JSON (one reading, or a list of them), or JSON lines for long recordings.

    {"time": "2024-01-02T14:30:00Z", "grid_nodes": 1, "heartbeat_age_s": 4, ..., "drawdown": 0.02}

A sensor that is left out or null is not known. A sound file is decoded straight into typed values; whatever that
refuses is read once more, slowly, for a message that names the reading and the value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from dolphin.core.clock import NS_PER_S, iso_to_ns, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.core.records import Record, records
from dolphin.market.jsonfile import parse_json, read_text
from dolphin.risk.sensors import READING, SENSORS, McStatus, sensor_value

_LATEST_S = 253_402_300_800.0  # the year 10000: later times cannot be written as ISO 8601


class _Item(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """One reading as the file has it: left out, null, or a value."""

    time: str | float | int | UnsetType | None = UNSET
    grid_nodes: int | UnsetType | None = UNSET
    heartbeat_age_s: float | UnsetType | None = UNSET
    mc_status: McStatus | UnsetType | None = UNSET
    stale_hours: float | UnsetType | None = UNSET
    book_stale: bool | UnsetType | None = UNSET
    depth_quality: float | UnsetType | None = UNSET
    fill_probability: float | UnsetType | None = UNSET
    book_service_age_s: float | UnsetType | None = UNSET
    dvol_spike: bool | UnsetType | None = UNSET
    dvol_spike_age_min: float | UnsetType | None = UNSET
    drawdown: float | UnsetType | None = UNSET


class _Place(NamedTuple):
    """Where a file's readings stand, for messages: by line, by number, or the file alone."""

    path: Path
    by: str
    numbers: Sequence[int]

    def of(self, k: int) -> str:
        return f"{self.path}: {self.by} {self.numbers[k]}" if self.by else f"{self.path}"


@dataclass(frozen=True, eq=False)
class SensorFile:
    """The readings of one file.

    `readings` (K,) READING records, K ≥ 1, times strictly increasing; `given` names the sensors that any reading holds,
    null included; `timed` is false for a single reading without a time, whose times are then 0. `identity` is a hash
    (hex) over the values.
    """

    path: Path
    readings: Record
    given: frozenset[str]
    timed: bool
    identity: str


def read_sensors(path: Path) -> SensorFile:
    """The readings of `path`; a name that ends in .jsonl holds one per line.

    Raises DataError (ConfigError for a time in words), in one line with the reading named, for a file that cannot be
    read, is not JSON, holds an unknown sensor, one twice, a value of the wrong kind, no time where one is needed, or
    times that do not increase. Complexity: linear, under a second for 100,000 readings.
    """
    text = read_text(path, "sensor readings")
    if path.suffix == ".jsonl":
        lines = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
        place = _Place(path, "line", [n for n, _ in lines])
        items = _fast(text, msgspec.json.Decoder(_Item).decode_lines)
        if items is None:
            items = [_item(place.of(k), _parsed(place.of(k), line)) for k, (_, line) in enumerate(lines)]
    else:
        items = _fast(text, msgspec.json.Decoder(_Item | list[_Item]).decode)
        value = _parsed(f"{path}", text) if items is None else items
        listed = isinstance(value, list)
        place = _Place(path, "reading" if listed else "", range(1, len(value) + 1 if listed else 2))
        if items is None:
            items = [_item(place.of(k), one) for k, one in enumerate(value if listed else [value])]
        elif isinstance(items, _Item):
            items = [items]
    if not items:
        what = "an empty list" if path.suffix != ".jsonl" else "an empty file"
        raise DataError(f"{path}: {what}; expected at least one reading")
    return _file(place, items)


def _fast(text: str, decode: Callable[[str], Any]) -> Any:
    """`text` decoded in one go; None where that refuses, or could pass over a sensor that is given twice."""
    if "\\" in text:  # a name may be spelled with escapes, and then counting cannot see it
        return None
    try:
        value = decode(text)
    except (msgspec.MsgspecError, RecursionError):
        return None
    items = value if isinstance(value, list) else [value]
    for name in _Item.__struct_fields__:
        if text.count(f'"{name}"') != len(items) - _column(items, name).count(UNSET):
            return None
    return value


def _column(items: list[_Item], name: str) -> list[Any]:
    return list(map(attrgetter(name), items))


def _parsed(where: str, text: str) -> Any:
    """Any JSON value, by the slow road: no name twice, no NaN."""
    return parse_json(where, text, instead="write null for a sensor that is not known")


def _item(where: str, value: Any) -> _Item:
    if not isinstance(value, dict):
        raise DataError(f'{where}: {type(value).__name__}; expected an object of sensors such as {{"grid_nodes": 1}}')
    unknown = sorted(set(value) - set(_Item.__struct_fields__))
    if unknown:
        raise DataError(f"{where}: {unknown[0]!r} is not a sensor; known: {', '.join(_Item.__struct_fields__)}")
    try:
        item = msgspec.convert({**value, "time": None}, _Item, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise DataError(f"{where}: {error}; null means not known") from None
    item.time = value.get("time")  # whatever it is: one place looks at times
    return item


def _file(place: _Place, items: list[_Item]) -> SensorFile:
    """The items as records, their times checked one by one and against each other."""
    timed = len(items) > 1 or items[0].time not in (UNSET, None)
    times = [_time(place, k, item.time) for k, item in enumerate(items)] if timed else [(0.0, 0)]
    for k in range(1, len(times)):
        if times[k][0] <= times[k - 1][0]:
            now, before = ns_to_iso(times[k][1]), ns_to_iso(times[k - 1][1])
            raise DataError(
                f"{place.of(k)}: time {now} is not after the one before, {before}; sort the readings by time"
            )
    rows = records(READING, len(items))
    rows.now_s[:], rows.ts_ns[:] = [seconds for seconds, _ in times], [ns for _, ns in times]
    given = []
    for name in SENSORS:
        values = _column(items, name)
        # Sensors repeat themselves: each different value is looked at once.
        known = {value: sensor_value(name, None if value is UNSET else value) for value in set(values)}
        rows[name][:] = [known[value] for value in values]
        if known.keys() != {UNSET}:
            given.append(name)
    digest = hashlib.sha256(np.asarray(rows).tobytes() + ",".join(given).encode())
    return SensorFile(place.path, rows, frozenset(given), timed, digest.hexdigest())


def _time(place: _Place, k: int, value: Any) -> tuple[float, int]:
    """A reading's time in seconds, as the stack is told it, and in nanoseconds."""
    if isinstance(value, str):
        ns = iso_to_ns(value, f"{place.of(k)}: time")
        return ns / NS_PER_S, ns
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value < _LATEST_S:
        return float(value), round(value * 1e6) * 1000
    if value is None or value is UNSET:
        raise DataError(f"{place.of(k)}: no time; each of several readings needs one, such as 2024-01-02T14:30:00Z")
    raise DataError(
        f"{place.of(k)}: time {value!r}; expected ISO 8601 such as 2024-01-02T14:30:00Z, or seconds since 1970"
    )
