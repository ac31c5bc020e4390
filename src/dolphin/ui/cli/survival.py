"""`dolphin survival`: what the survival stack makes of sensor readings, step by step."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import ns_to_iso
from dolphin.ui.cli.console import emit_json, json_option, note

if TYPE_CHECKING:
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
A file whose name ends in .jsonl holds one reading per line, without the brackets.
A sensor that is left out or null counts as its worst case.
"""


@click.group(epilog=EPILOG)
def survival() -> None:
    """Explain the survival stack: categories, target, risk multiplier, posture."""


@survival.command(epilog=EXPLAIN_EPILOG, short_help="Explain what sensor readings lead to.")
@click.option(
    "--sensors", type=click.Path(path_type=Path), required=True, help="File of sensor readings, JSON or JSON lines."
)
@json_option
def explain(sensors: Path, as_json: bool) -> None:
    """Show how the stack gets from readings to a posture, step by step.

    The first reading is taken as it is; the later ones meet bounded recovery and hysteresis.
    """
    from dolphin.market.sensorfiles import read_sensors
    from dolphin.risk.sensors import get_reading
    from dolphin.risk.stack import SURVIVAL
    from dolphin.risk.survival import SurvivalStack

    file = read_sensors(sensors)
    if not SURVIVAL.is_ready() and not as_json:
        note("First use: compiling the survival stack, a few seconds. It is kept for the next run.")
    stack = SurvivalStack.opening()
    verdicts = [stack.update(get_reading(row), float(row.now_s)) for row in file.readings]
    if as_json:
        emit_json({"sensors": str(sensors), "readings": [_document(file.timed, verdict) for verdict in verdicts]})
        return
    for k, verdict in enumerate(verdicts):
        if k:
            click.echo()
        _show(k + 1, file.timed, verdict)


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
