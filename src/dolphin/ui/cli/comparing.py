"""`dolphin backtest --compare`: one pass over the days, one run per set of layers, one page for all."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dolphin.ui.cli.console import note, print_table

if TYPE_CHECKING:
    from dolphin.research.backtest import Advance, BacktestSpec
    from dolphin.research.layers import Layers


_SHARED = (
    *("profile", "direction", "champion_hash", "is_champion", "overrides", "friction"),
    *("from", "to", "days", "bars"),
)
"""What all runs of a comparison have in common."""


def write_comparison_run(
    specs: Mapping[str, BacktestSpec], folder: Path, command: str, advance: Advance, layers: Mapping[str, Layers]
) -> dict[str, Any]:
    """Run every spec and fill `folder`: one whole run per name in a folder of that name, `summary.json` and
    `report.html` over all; give the summary."""
    from dolphin.market.atomic import write_json_atomic
    from dolphin.research.comparison import compared, run_comparison
    from dolphin.research.results import EquityWriter
    from dolphin.ui.cli.runfiles import write_run_files
    from dolphin.ui.report.comparison import write_comparison

    with ExitStack() as stack:
        sinks = {}
        for name in specs:
            (folder / name).mkdir()
            sinks[name] = stack.enter_context(EquityWriter(folder / name / "equity.parquet")).take
        results = run_comparison(specs, advance, sinks, layers)
    runs = {name: write_run_files(folder / name, result, command) for name, result in results.items()}
    rows = compared({name: run.summary for name, run in runs.items()}, {name: run.trades for name, run in runs.items()})
    first = next(iter(runs.values())).summary
    summary = {**{key: first[key] for key in _SHARED}, "layers": rows, "command": command}
    write_json_atomic(folder / "summary.json", summary)
    write_comparison(folder / "report.html", {name: run.page for name, run in runs.items()}, rows, command)
    return summary


def show_comparison(summary: Mapping[str, Any], out: Path) -> None:
    """Two tables for the terminal: what came out, and what every layer costs and saves."""
    rows: Sequence[Mapping[str, Any]] = summary["layers"]
    title = f"{summary['profile'].upper()} {summary['direction']}, {summary['from']} … {summary['to']}"
    if not summary["is_champion"]:
        title += "  [NOT CHAMPION]"
    print_table(
        title,
        [
            (
                row["layers"],
                f"{row['trades']:,}",
                _percent(row["roi"]),
                f"{row['net_pnl']:+,.2f}",
                _percent(row["max_drawdown"]).lstrip("+"),
                "–" if row["sharpe"] is None else f"{row['sharpe']:.2f}",
            )
            for row in rows
        ],
        ("layers", "trades", "ROI", "net PnL", "max drawdown", "Sharpe"),
    )
    print_table(
        "What every layer costs and saves, USDT",
        [
            (
                f"{row['against']} → {row['layers']}",
                f"{told['dropped']:,}",
                f"{told['losses_avoided']:+,.0f}",
                f"{0.0 - told['gains_missed']:+,.0f}",
                f"{told['added_pnl'] + told['changed_pnl']:+,.0f}",
                f"{told['net']:+,.0f}",
                _percent(told["drawdown"]),
            )
            for row in rows
            if (told := row.get("difference")) is not None
        ],
        ("layers", "dropped", "avoided", "missed", "others", "net PnL", "max drawdown"),
    )
    note(f"the comparison is {os.path.relpath(out / 'report.html')}; each run has its own beside it")


def _percent(value: float) -> str:
    return f"{100.0 * value:+.2f} %"
