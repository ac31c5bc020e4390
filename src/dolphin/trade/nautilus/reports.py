"""Nautilus' own reports as CSV files, beside ours: what its engine says of the same run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nautilus_trader.backtest.engine import BacktestEngine

from dolphin.trade.nautilus.instruments import VENUE

REPORTS = ("orders", "order_fills", "positions", "account")


def write_venue_reports(engine: BacktestEngine, folder: Path) -> tuple[Path, ...]:
    """Write `nautilus_<report>.csv` for each of REPORTS into `folder`; the files' paths."""
    trader = engine.trader
    frames: dict[str, Any] = {
        "orders": trader.generate_orders_report(),
        "order_fills": trader.generate_order_fills_report(),
        "positions": trader.generate_positions_report(),
        "account": trader.generate_account_report(VENUE),
    }
    made = []
    for name in REPORTS:
        path = folder / f"nautilus_{name}.csv"
        frames[name].to_csv(path)
        made.append(path)
    return tuple(made)
