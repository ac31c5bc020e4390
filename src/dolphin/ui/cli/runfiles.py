"""The files of one run beside its `equity.parquet`, which is written while it runs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestResult
    from dolphin.research.metrics import TradeTable
    from dolphin.research.reportdata import ReportData


class RunFiles(NamedTuple):
    """What the files of a run were written from."""

    summary: dict[str, Any]
    trades: TradeTable
    page: ReportData


def write_run_files(folder: Path, result: BacktestResult, command: str) -> RunFiles:
    """Write trades, `summary.json` and `report.html` of `result` into `folder`."""
    from dolphin.market.atomic import write_json_atomic
    from dolphin.research.results import report_data, summarise, trade_columns, write_trades
    from dolphin.ui.report import write_report

    columns = trade_columns(result.trades, result.assets)
    summary = summarise(result, columns, command)
    page = report_data(result, summary, columns)
    write_trades(folder, columns)
    write_json_atomic(folder / "summary.json", summary)
    write_report(folder / "report.html", page)
    return RunFiles(summary, columns, page)
