"""`dolphin survival`: what the survival stack makes of sensor readings, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import NS_PER_S, iso_to_ns, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.ui.cli.console import emit_json, json_option
from dolphin.ui.cli.jsonfile import read_json

if TYPE_CHECKING:
    from dolphin.risk.sensors import Readings
    from dolphin.risk.survival import Verdict

EPILOG = """\b
Example, what one set of readings leads to:
  dolphin survival explain --sensors sensors.json
"""
EXPLAIN_EPILOG = """\b
Examples:
  dolphin survival explain --sensors sensors.json
  dolphin survival explain --sensors sensors.json --json
\b
sensors.json holds one reading, or a list of readings with increasing times:
  [{"time": "2024-01-02T14:30:00Z", "grid_nodes": 1, "heartbeat_age_s": 4, "mc_status": "OK",
    "stale_hours": 0.1, "book_stale": false, "depth_quality": 1.1, "fill_probability": 0.65,
    "book_service_age_s": 7200, "dvol_spike": false, "drawdown": 0.02}]
A sensor that is left out or null counts as its worst case.
"""
_LATEST_S = 253_402_300_800.0  # the year 10000: later times cannot be written as ISO 8601


@click.group(epilog=EPILOG)
def survival() -> None:
    """Explain the survival stack: categories, target, risk multiplier, posture."""


@survival.command(epilog=EXPLAIN_EPILOG, short_help="Explain what sensor readings lead to.")
@click.option("--sensors", type=click.Path(path_type=Path), required=True, help="JSON file of sensor readings.")
@json_option
def explain(sensors: Path, as_json: bool) -> None:
    """Show how the stack gets from readings to a posture, step by step.

    The first reading is taken as it is; the later ones meet bounded recovery and hysteresis.
    """
    from dolphin.risk.survival import SurvivalStack

    readings = _read(sensors)
    stack = SurvivalStack.opening()
    verdicts = [(timed, stack.update(reading, now_s)) for timed, now_s, reading in readings]
    if as_json:
        emit_json({"sensors": str(sensors), "readings": [_document(timed, verdict) for timed, verdict in verdicts]})
        return
    for k, (timed, verdict) in enumerate(verdicts):
        if k:
            click.echo()
        _show(k + 1, timed, verdict)


def _show(number: int, timed: bool, verdict: Verdict) -> None:
    when = f" at {_iso(verdict.now_s)}" if timed else ""
    click.echo(f"reading {number}{when}: {verdict.posture.name}, Rm {verdict.rm:.4f}")
    for line in verdict.reasons:
        click.echo(f"  {line}")
    if verdict.worst_cased:
        click.echo(f"  counted as worst case: {', '.join(verdict.worst_cased)}")


def _document(timed: bool, verdict: Verdict) -> dict[str, Any]:
    import msgspec

    return {
        "time": _iso(verdict.now_s) if timed else None,
        "categories": msgspec.structs.asdict(verdict.categories),
        "target": verdict.target,
        "halved": verdict.halved,
        "rm": verdict.rm,
        "level": verdict.level.name,
        "posture": verdict.posture.name,
        "acting_posture": verdict.acting.name,
        "entries_blocked": verdict.entries_blocked,
        "worst_cased": list(verdict.worst_cased),
        "reasons": list(verdict.reasons),
    }


def _iso(seconds: float) -> str:
    return ns_to_iso(round(seconds * 1e6) * 1000)


def _read(path: Path) -> list[tuple[bool, float, Readings]]:
    """(has a time, its seconds, reading) of every reading of the file; DataError for whatever is wrong with it."""
    value = read_json(path, "sensor readings", instead="write null for a sensor that is not known")
    listed = isinstance(value, list)
    items = value if isinstance(value, list) else [value]
    if not items:
        raise DataError(f"{path}: an empty list; expected at least one reading")
    read = []
    before: float | None = None
    for k, item in enumerate(items):
        where = f"{path}: reading {k + 1}" if listed else f"{path}"
        timed, now_s, reading = _reading(where, item, listed and len(items) > 1)
        if before is not None and now_s <= before:
            raise DataError(
                f"{where}: time {_iso(now_s)} is not after the one before, {_iso(before)}; sort the readings by time"
            )
        before = now_s
        read.append((timed, now_s, reading))
    return read


def _reading(where: str, item: object, needs_time: bool) -> tuple[bool, float, Readings]:
    import msgspec

    from dolphin.risk.sensors import Readings

    if not isinstance(item, dict):
        raise DataError(f'{where}: {type(item).__name__}; expected an object of sensors such as {{"grid_nodes": 1}}')
    fields = {name: value for name, value in item.items() if name != "time"}
    known = ", ".join(("time", *Readings.__struct_fields__))
    unknown = sorted(set(fields) - set(Readings.__struct_fields__))
    if unknown:
        raise DataError(f"{where}: {unknown[0]!r} is not a sensor; known: {known}")
    if needs_time and item.get("time") is None:
        raise DataError(f"{where}: no time; every reading of a list needs one, such as 2024-01-02T14:30:00Z")
    try:
        reading = msgspec.convert(fields, Readings, strict=True)
    except (msgspec.ValidationError, OverflowError) as error:
        raise DataError(f"{where}: {error}; null means not known") from None
    if item.get("time") is None:
        return False, 0.0, reading
    return True, _seconds(where, item["time"]), reading


def _seconds(where: str, value: object) -> float:
    if isinstance(value, str):
        return iso_to_ns(value, f"{where}: time") / NS_PER_S
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0.0 <= value < _LATEST_S:
        return float(value)
    raise DataError(f"{where}: time {value!r}; expected ISO 8601 such as 2024-01-02T14:30:00Z, or seconds since 1970")
