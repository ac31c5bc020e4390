"""`dolphin backtest`: an archive in, a tearsheet and machine-readable results out."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.errors import ConfigError
from dolphin.ui.cli.compiling import ready_kernels
from dolphin.ui.cli.console import emit_json, json_option, note, print_table, progress
from dolphin.ui.cli.options import command_line, run_options
from dolphin.ui.cli.venueoptions import venue_options
from dolphin.ui.cli.venueruns import venue_backtest, venue_lines
from dolphin.ui.layerwords import layer_lines

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestSpec
    from dolphin.research.layers import Layers
    from dolphin.research.venue import VenueOptions

EPILOG = """\b
Examples:
  dolphin backtest --data market --out run
  dolphin backtest --data days --from 2021-04-05 --to 2021-04-12 --friction none --out run2
  dolphin backtest --data days --profile green --set max_hold_bars=60 --out run3 --force
  dolphin backtest --data days --factors factors --out run4
  dolphin backtest --data days --sensors sensors.jsonl --out run5
  dolphin backtest --data days --book books --out run6
  dolphin backtest --data days --book books --compare none,book --out books2
  dolphin backtest --data days --factors factors --forewarner model --compare none,acb,acb+mc,full --out layers
  dolphin backtest --data days --engine nautilus --out venue
  dolphin backtest --data days --engine nautilus --funding funding --latency-ms 250 --protective-stop off --out venue2
\b
--out receives summary.json, trades.parquet, trades.csv, equity.parquet and report.html, all or nothing;
with --compare summary.json and report.html over all runs, and a folder with these five files for each;
with --engine nautilus also Nautilus' own reports (nautilus_*.csv) and the session's log (session/).
"""


@click.command(epilog=EPILOG)
@run_options
@click.option(
    "--engine",
    type=click.Choice(["replay", "nautilus"]),
    default="replay",
    show_default=True,
    help="replay: the engine alone; nautilus: inside NautilusTrader, at a simulated venue with the options below.",
)
@venue_options
@click.option(
    "--out", type=click.Path(path_type=Path), required=True, help="Folder for the results; must not hold a run."
)
@click.option(
    "--compare",
    metavar="LAYERS",
    help="Runs side by side, such as none,acb,acb+mc,full: acb is the circuit breaker (--factors), mc the forewarner "
    "(--forewarner), survival the survival stack (--sensors, else the replay's own), book the order book (--book), "
    "full all of them, the book where --book is given.",
)
@click.option("--force", is_flag=True, help="Replace a run that --out already holds.")
@json_option
def backtest(
    spec: BacktestSpec,
    engine: str,
    venue: VenueOptions,
    venue_given: tuple[str, ...],
    out: Path,
    compare: str | None,
    force: bool,
    as_json: bool,
) -> None:
    """Replay the engine over an archive, alone or at a simulated venue, and write a tearsheet."""
    if engine == "nautilus":
        if compare is not None:
            raise ConfigError("--compare: not with --engine nautilus; compare replays, or run the venue alone")
        venue_backtest(spec, venue, venue_given, out, force=force, as_json=as_json)
        return
    if venue_given:
        raise ConfigError(f"{venue_given[0]}: a replay has no venue; add --engine nautilus, or leave it out")
    if compare is not None:
        _compare(spec, out, compare, force, as_json)
        return
    from dolphin.market.archive import Archive
    from dolphin.research.layers import Layers
    from dolphin.research.outputs import run_folder

    whole = Archive.open(spec.data)
    archive = whole.select(spec.first, spec.last)
    with run_folder(out, force=force) as folder:
        layers = Layers.of(spec)  # bad factors, models and sensors are refused before anything is compiled
        ready_kernels(archive.kind, quiet=as_json, book=spec.book is not None)
        bars = sum(archive.entry(day).rows for day in archive.days)
        with progress("replaying", bars, "bars", quiet=as_json) as advance:
            summary = _write_run(spec, folder, advance, layers)
    if as_json:
        emit_json(summary)
    else:
        show_run(summary, out)


def _compare(spec: BacktestSpec, out: Path, layers: str, force: bool, as_json: bool) -> None:
    from dolphin.market.archive import Archive
    from dolphin.research.comparison import layer_specs, parse_layers
    from dolphin.research.layers import Layers
    from dolphin.research.outputs import RUN_FILES, run_folder
    from dolphin.ui.cli.comparing import show_comparison, write_comparison_run

    names = parse_layers(layers, book=spec.book is not None)
    specs = layer_specs(spec, names)
    archive = Archive.open(spec.data).select(spec.first, spec.last)
    with run_folder(out, force=force, files=(*RUN_FILES, *names)) as folder:
        opened = {name: Layers.of(each) for name, each in specs.items()}
        ready_kernels(archive.kind, quiet=as_json, book=spec.book is not None)
        bars = sum(archive.entry(day).rows for day in archive.days)
        with progress(f"replaying {len(names)} times", bars, "bars", quiet=as_json) as advance:
            summary = write_comparison_run(specs, folder, command_line(), advance, opened)
    if as_json:
        emit_json(summary)
    else:
        show_comparison(summary, out)


def _write_run(spec: BacktestSpec, folder: Path, advance: Any, layers: Layers) -> dict[str, Any]:
    from dolphin.research.backtest import run_backtest
    from dolphin.research.results import EquityWriter
    from dolphin.ui.cli.runfiles import write_run_files

    with EquityWriter(folder / "equity.parquet") as equity:
        result = run_backtest(spec, advance, equity.take, layers)
    return write_run_files(folder, result, command_line()).summary


def show_run(summary: dict[str, Any], out: Path) -> None:
    """The run's figures as a table."""

    def percent(value: float | None) -> str:
        return "–" if value is None else f"{100.0 * value:+.2f} %"

    def plain(value: float | None) -> str:
        return "–" if value is None else f"{value:.2f}"

    title = f"{summary['profile'].upper()} {summary['direction']}, {summary['from']} … {summary['to']}"
    if not summary["is_champion"]:
        changed = ", ".join(f"{k}={v}" for k, v in summary["overrides"].items())
        title += f"  [NOT CHAMPION: {changed}]"
    pnl = summary["pnl"]
    rows = [
        ("bars", f"{summary['bars']:,}"),
        ("trades", f"{summary['trades']:,}"),
        ("win rate", percent(summary["win_rate"]).lstrip("+")),
        ("ROI", percent(summary["roi"])),
        ("profit factor", plain(summary["profit_factor"])),
        ("Sharpe (daily, √365)", plain(summary["sharpe"])),
        ("max drawdown", percent(summary["max_drawdown"]).lstrip("+")),
        ("exposure", percent(summary["exposure"]).lstrip("+")),
        ("PnL: price", f"{pnl['price']:+,.2f}"),
        ("PnL: fees", f"{pnl['fees']:+,.2f}"),
        ("PnL: slippage", f"{pnl['slippage']:+,.2f}"),
        *([("PnL: funding", f"{pnl['funding']:+,.2f}")] if "venue" in summary else []),
        ("PnL: modelled edge (not money)", f"{pnl['modelled_edge']:+,.2f}"),
        ("PnL: net", f"{pnl['net']:+,.2f}"),
        *layer_lines(summary),
        *venue_lines(summary),
    ]
    print_table(title, rows, ("figure", "value"))
    speed = f"{summary['bars']:,} bars in {summary['wall_s']:.2f} s"
    note(f"{speed}; the tearsheet is {os.path.relpath(out / 'report.html')}")
