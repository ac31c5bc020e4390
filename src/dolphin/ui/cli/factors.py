"""`dolphin factors`: external factors for the circuit breaker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolphin.ui.cli import LazyGroup
from dolphin.ui.cli.console import emit_json, json_option, note, progress

if TYPE_CHECKING:
    from dolphin.market.factorimport import FactorReport

COMMANDS = {
    "import": ("dolphin.ui.cli.factors:import_", "Turn recorded histories into per-date factor files."),
}

GROUP_EPILOG = """\b
Example, from recorded histories to a run with the circuit breaker:
  dolphin factors import histories/ --out factors
  dolphin backtest --data market --factors factors --out run
"""

EPILOG = """\b
Examples:
  dolphin factors import histories/ --out factors
  dolphin factors import histories/ --out factors --from 2023-07-03 --to 2023-07-23 --json

\b
SRC holds one or more of:
  fear_greed_index.csv     columns timestamp and value (0 to 100), daily
  dvol_btc.json            [[milliseconds, percent per year], ...], daily
  funding_rate_btc.json    [[milliseconds, PERCENT per settlement], ...], every 8 hours; 0.01 is 0.01 %
"""


@click.command(cls=LazyGroup, lazy=COMMANDS, epilog=GROUP_EPILOG)
def factors() -> None:
    """Prepare the external factors that the circuit breaker reads.

    Factor files lie in one folder per date, YYYY-MM-DD, and hold what was known before that date began.
    """


@click.command("import", epilog=EPILOG)
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the per-date folders.")
@click.option("--from", "first", default="", help="First date to write, YYYY-MM-DD.")
@click.option("--to", "last", default="", help="Last date to write, included.")
@click.option("--force", is_flag=True, help="Replace factor files that are already there; they are set aside.")
@json_option
def import_(src: Path, out: Path, first: str, last: str, force: bool, as_json: bool) -> None:
    """Turn recorded histories of factors into per-date files.

    A date gets what was published on the day before it: the daily values of that day and its last funding. Nothing
    from the date itself is written, and nothing is carried over a missing day. Funding becomes a fraction.
    """
    from dolphin.core.clock import parse_date
    from dolphin.market.factorimport import FactorImport

    task = FactorImport(
        src, out, parse_date(first, "--from") if first else None, parse_date(last, "--to") if last else None
    )
    with progress("importing", len(task.days), "dates", quiet=as_json) as advance:
        report = task.run(advance, force=force)
    _show(report, as_json=as_json)


def _show(report: FactorReport, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "out": str(report.out),
                "dates": report.dates,
                "first": report.first.isoformat(),
                "last": report.last.isoformat(),
                "have": report.have,
                "missing": report.missing,
                "sources": report.sources,
            }
        )
        return
    for name, count in report.missing.items():
        if count:
            note(f"{name}: missing on {count} of {report.dates} dates")
    held = ", ".join(name for name, count in report.have.items() if count)
    click.echo(f"{report.out}: {report.dates} dates, {report.first} to {report.last}; {held}")
