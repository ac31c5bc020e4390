"""`dolphin why`: one bar explained."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import iso_to_ns
from dolphin.ui.cli.compiling import ready_kernels
from dolphin.ui.cli.console import emit_json, json_option
from dolphin.ui.cli.options import run_options

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestSpec
    from dolphin.research.why import Explanation

EPILOG = """\b
Examples:
  dolphin why --data market --at 2024-01-02T14:31:00Z
  dolphin why --data market --at 2024-01-02T14:31:00Z --asset SOLUSDT --json
\b
The replay runs from the first day (or --from) up to that bar, so the answer is the one the backtest acted on.
"""


@click.command(epilog=EPILOG)
@run_options
@click.option("--at", required=True, metavar="TIME", help="The bar's stamp, ISO 8601, UTC.")
@click.option("--asset", help="Also show how the selection judged this asset.")
@json_option
def why(spec: BacktestSpec, at: str, asset: str | None, as_json: bool) -> None:
    """Explain the decision at one bar, or the first gate that refused an entry."""
    from dolphin.market.archive import Archive
    from dolphin.research.layers import Layers
    from dolphin.research.why import explain

    at_ns = iso_to_ns(at, "--at")
    archive = Archive.open(spec.data)
    layers = Layers.of(spec)  # bad factors, models and sensors are refused before anything is compiled
    ready_kernels(archive.kind, quiet=as_json, book=spec.book is not None)
    told = explain(spec, at_ns, asset, layers)
    if as_json:
        emit_json(asdict(told))
    else:
        _show(told)


_MARKS = {"passed": "+", "refused": "x", "not reached": " "}


def _show(told: Explanation) -> None:
    bar = told.bar
    click.echo(f"{bar['timestamp']}  bar {bar['bar_idx']} (day bar {bar['day_bar']})  vel_div {bar['vel_div']:.6f}")
    if bar["rm"] is not None:
        click.echo(f"Posture: {bar['posture']}, Rm {bar['rm']:.4f}")
    click.echo(f"Decision: {told.decision}")
    click.echo("\nGates, in the order of testing (+ passed, x refused):")
    for gate in told.gates:
        met = "not reached" if gate["met"] is None else gate["met"]
        click.echo(f"  {_MARKS[gate['verdict']]} {gate['gate']:<23} {met:<28} needs {gate['needed']}")
    for title, values in (("Position held", told.position), ("Entry numbers", told.entry), ("Order book", told.book)):
        if values:
            click.echo(f"\n{title}:")
            for name, value in values.items():
                click.echo(f"    {name:<21} {_text(value)}")
    click.echo("\nThe selection's view of the assets at this bar:")
    names = ("asset", "verdict", "action", "ars", "alignment", "noise", "latency", "chg_bps", "confirmation")
    rows = [[_text(row[name]) for name in names] for row in told.assets]
    widths = [max(len(text) for text in column) for column in zip(names, *rows, strict=True)]
    for row in (names, *rows):
        click.echo("    " + "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip())


def _text(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
