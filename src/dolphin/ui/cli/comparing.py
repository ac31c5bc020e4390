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


_SHARED = (
    *("profile", "direction", "champion_hash", "is_champion", "overrides", "friction"),
    *("from", "to", "days", "bars", "bar_seconds"),
)
"""What all runs of a comparison have in common."""


def write_comparison_run(
    specs: Mapping[str, BacktestSpec], folder: Path, command: str, advance: Advance
) -> dict[str, Any]:
    """Run every spec and fill `folder`: one whole run per name in a folder of that name, `summary.json` and
    `report.html` over all; give the summary."""
    from dolphin.market.atomic import write_json_atomic
    from dolphin.research.comparison import compared, run_comparison
    from dolphin.research.results import EquityWriter, report_data, summarise, trade_columns, write_trades
    from dolphin.ui.report import write_report
    from dolphin.ui.report.comparison import write_comparison

    with ExitStack() as stack:
        sinks = {}
        for name in specs:
            (folder / name).mkdir()
            sinks[name] = stack.enter_context(EquityWriter(folder / name / "equity.parquet")).take
        results = run_comparison(specs, advance, sinks)
    tables = {name: trade_columns(result.trades, result.assets) for name, result in results.items()}
    summaries = {name: summarise(result, tables[name], command) for name, result in results.items()}
    pages = {name: report_data(result, summaries[name], tables[name]) for name, result in results.items()}
    for name, page in pages.items():
        write_trades(folder / name, tables[name])
        write_json_atomic(folder / name / "summary.json", summaries[name])
        write_report(folder / name / "report.html", page)
    rows = compared(summaries, tables)
    first = next(iter(summaries.values()))
    shared = (
        "profile",
        "direction",
        "champion_hash",
        "is_champion",
        "overrides",
        "friction",
        "from",
        "to",
        "days",
        "bars",
    )
    summary = {**{key: first[key] for key in shared}, "layers": rows, "command": command}
    write_json_atomic(folder / "summary.json", summary)
    write_comparison(folder / "report.html", pages, rows, command)
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
