"""A run's tables: the same trades in Parquet and CSV, and one row of equity for each bar."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dolphin.alpha.layout import EVENT, TRADE, records
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Direction, ExitReason, Gate
from dolphin.research.backtest import BacktestSpec, run_backtest
from dolphin.research.metrics import TRADE_COLUMNS
from dolphin.research.results import EQUITY_SCHEMA, EquityWriter, report_data, summarise, trade_columns, write_trades
from tests.support.runs import scan_archive_of, scan_days


def two_trades() -> np.ndarray:
    trades = records(TRADE, 2)
    trades.trade_id[:], trades.asset[:], trades.side[:] = [0, 1], [1, 0], [-1, 1]
    trades.reason[:] = [ExitReason.FIXED_TP, ExitReason.DATA_GAP]
    trades.entry_ts[:], trades.exit_ts[:] = [60_000_000_000, 1], [120_000_000_000, 2]
    trades.is_extreme[:] = [1, 0]
    trades.entry_price[:] = [0.1, 1e-9]
    return trades


def test_codes_become_names() -> None:
    columns = trade_columns(two_trades(), ("BTCUSDT", "ETHUSDT"))
    assert tuple(columns) == TRADE_COLUMNS
    assert columns["asset"].tolist() == ["ETHUSDT", "BTCUSDT"]
    assert columns["side"].tolist() == ["SHORT", "LONG"]
    assert columns["reason"].tolist() == ["FIXED_TP", "DATA_GAP"]
    assert columns["is_extreme"].tolist() == [True, False]


@pytest.mark.parametrize("rows", [0, 2])
def test_parquet_and_csv_hold_the_same(rows: int, tmp_path: Path) -> None:
    columns = trade_columns(two_trades()[:rows], ("BTCUSDT", "ETHUSDT"))
    write_trades(tmp_path, columns)
    table = pq.read_table(tmp_path / "trades.parquet")
    assert tuple(table.column_names) == TRADE_COLUMNS
    assert str(table.schema.field("entry_ts").type) == "timestamp[ns, tz=UTC]"
    with (tmp_path / "trades.csv").open(newline="") as file:
        head, *lines = csv.reader(file)
    assert tuple(head) == TRADE_COLUMNS
    assert len(lines) == table.num_rows == rows
    for name, column in zip(head, zip(*lines, strict=True), strict=False):
        stored = [value.value if name.endswith("_ts") else value.as_py() for value in table.column(name)]
        assert stored == columns[name].tolist()
        if name.endswith("_ts"):
            assert list(column) == [ns_to_iso(v) for v in stored]
        elif isinstance(stored[0], float):
            assert [float(v) for v in column] == stored  # every digit survives
        else:
            assert list(column) == [str(v) for v in stored]


def test_equity_is_one_row_per_bar_and_one_group_per_day(tmp_path: Path) -> None:
    days = scan_days(2, 30)
    with EquityWriter(tmp_path / "equity.parquet") as writer:
        for day in days:
            events = records(EVENT, 30)
            events.equity[:] = np.arange(30) + 0.5
            events.gate[:] = Gate.VEL_DIV
            writer.take(day, events)
    file = pq.ParquetFile(tmp_path / "equity.parquet")
    assert file.schema_arrow == EQUITY_SCHEMA
    assert (file.num_row_groups, file.metadata.num_rows) == (2, 60)
    table = file.read()
    assert table.column("gate").to_pylist() == ["VEL_DIV"] * 60
    assert table.column("equity").to_pylist() == 2 * (np.arange(30) + 0.5).tolist()
    assert [v.value for v in table.column("timestamp")] == np.concatenate([d.ts_ns for d in days]).tolist()


def test_report_data_speaks_of_the_same_run(tmp_path: Path) -> None:
    result = run_backtest(BacktestSpec(data=scan_archive_of(tmp_path / "days", 3)))
    columns = trade_columns(result.trades, result.assets)
    summary = summarise(result, columns, "dolphin backtest")
    told = report_data(result, summary, columns)
    assert told.bars.equity[-1] == told.daily.equity_close[-1] == summary["capital_end"]
    assert told.daily.pnl.sum() == pytest.approx(summary["pnl"]["net"], abs=1e-8)
    assert told.bars.drawdown.max() == pytest.approx(summary["max_drawdown"], abs=1e-15)
    assert (told.thresholds.entry, told.thresholds.extreme) == (-0.02, -0.05)
    assert told.gates == summary["gates"]
    assert summary["versions"].keys() == {"dolphin", "python", "numpy", "numba", "pyarrow"}
    long = run_backtest(BacktestSpec(data=tmp_path / "days", profile="green"))
    flipped = report_data(long, summary, trade_columns(long.trades, long.assets))
    assert long.direction == Direction.LONG
    assert (flipped.thresholds.entry, flipped.thresholds.extreme) == (0.01, 0.04)
