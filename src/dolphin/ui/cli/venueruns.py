"""`dolphin backtest --engine nautilus`: the run's files, and what the terminal says of the venue."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolphin.core.errors import ConfigError
from dolphin.ui.cli.compiling import ready_kernels
from dolphin.ui.cli.console import emit_json, note, print_table, progress
from dolphin.ui.cli.options import command_line
from dolphin.ui.cli.venueoptions import frictionless

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestSpec
    from dolphin.research.venue import VenueOptions

SESSION = "session"
"""The folder of the session's log in a run."""

_WORDS = {
    "fees": "fees",
    "spread_slippage": "spread and slippage",
    "latency": "latency",
    "lot_rounding": "lot rounding",
    "funding": "funding",
    "protective_stops": "protective stops",
    "sizing": "knock-on: sizing",
    "timing": "knock-on: timing",
}


def venue_backtest(
    spec: BacktestSpec, venue: VenueOptions, given: tuple[str, ...], out: Path, *, force: bool, as_json: bool
) -> None:
    """Run, write the folder, print."""
    from dolphin.market.archive import Archive
    from dolphin.research.layers import Layers
    from dolphin.research.outputs import RUN_FILES, run_folder
    from dolphin.trade.nautilus import require_nautilus

    require_nautilus()
    from dolphin.research.results import EquityWriter
    from dolphin.research.venue import VenueTerms, run_venue_backtest, with_bridge
    from dolphin.trade.nautilus.reports import REPORT_FILES
    from dolphin.ui.cli.runfiles import write_run_files

    spec, venue = friction_of(spec, venue, given)
    archive = Archive.open(spec.data).select(spec.first, spec.last)
    terms = VenueTerms.of(spec, venue)
    with run_folder(out, force=force, files=(*RUN_FILES, *REPORT_FILES, SESSION)) as folder:
        layers = Layers.of(spec)
        ready_kernels(archive.kind, quiet=as_json, book=spec.book is not None)
        bars = sum(archive.entry(day).rows for day in archive.days)
        options = replace(venue, logs=folder / SESSION, reports=folder)
        with (
            progress("trading", bars, "bars", quiet=as_json) as advance,
            EquityWriter(folder / "equity.parquet") as equity,
        ):
            result = run_venue_backtest(spec, options, advance, equity.take, layers, terms)
        summary = write_run_files(folder, with_bridge(result), command_line()).summary
    if as_json:
        emit_json(summary)
        return
    from dolphin.ui.cli.backtest import show_run

    show_run(summary, out)
    show_bridge(summary["bridge"])
    reports = " and ".join(os.path.relpath(out / name) for name in (*REPORT_FILES[:1], SESSION))
    note(f"Nautilus' own reports and the session's log stand beside it: {reports}")


def friction_of(spec: BacktestSpec, venue: VenueOptions, given: tuple[str, ...]) -> tuple[BacktestSpec, VenueOptions]:
    """The spec with the engine's friction off, and the venue that `--friction` asks for.

    Raises ConfigError for --friction modelled: the venue charges already, and never both (SPEC §7).
    """
    import click

    typed = click.get_current_context().get_parameter_source("friction") == click.core.ParameterSource.COMMANDLINE
    if typed and spec.friction == "modelled":
        raise ConfigError("--friction modelled: the venue charges its own costs; leave it out, or give none")
    free = spec.friction == "none"
    return replace(spec, friction="native"), frictionless(venue, given) if free else venue


def venue_lines(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(what, how) of the venue; empty for a replay."""
    venue = summary.get("venue")
    if venue is None:
        return []
    lines = [
        ("venue", f"Binance USDT-M, simulated; leverage {venue['leverage']}"),
        ("fills", venue["fill_model"]),
        ("latency", venue["latency_model"]),
        ("protective stop", "off" if venue["stop_pct"] is None else f"{100.0 * venue['stop_pct']:g} %"),
        ("instruments", f"{venue['instruments']['source']}, as of {venue['instruments']['as_of']}"),
    ]
    for key, what in (
        ("entries_skipped", "entries skipped"),
        ("entries_withheld", "entries withheld"),
        ("orders_refused", "orders refused"),
    ):
        counts = venue[key]
        if counts:
            lines.append((what, ", ".join(f"{name.replace('_', ' ')} {n:,}" for name, n in sorted(counts.items()))))
    funding = venue["funding"]
    if funding is not None and funding["uncovered"]:
        names = funding["uncovered"]
        shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        lines.append(("funding not recorded throughout", shown))
    return lines


def show_bridge(told: Mapping[str, Any]) -> None:
    """The way from the frictionless replay to the venue, as a table."""
    rows = [("replay without friction", f"{told['replay_net']:+,.2f}")]
    rows += [(_WORDS.get(name, name), f"{value:+,.2f}") for name, value in told["components"].items()]
    rows += [("unexplained", f"{told['remainder']:+,.2f}")] if not told["closes"] else []
    rows += [("venue", f"{told['venue_net']:+,.2f}")]
    print_table("From the replay to the venue, USDT", rows, ("part", "PnL"))
