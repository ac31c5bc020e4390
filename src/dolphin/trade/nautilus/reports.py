"""Nautilus' own reports as CSV files, beside ours: what its engine says of the same run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nautilus_trader.analysis.reporter import ReportProvider
from nautilus_trader.model.orders import Order
from nautilus_trader.model.position import Position

REPORTS = ("orders", "order_fills", "positions", "account")
REPORT_FILES = tuple(f"nautilus_{name}.csv" for name in REPORTS)


def write_venue_reports(
    orders: Sequence[Order], positions: Sequence[Position], account: Any, folder: Path
) -> tuple[Path, ...]:
    """Write `nautilus_<report>.csv` for each of REPORTS into `folder`; the files' paths."""
    frames: dict[str, Any] = {
        "orders": ReportProvider.generate_orders_report(list(orders)),
        "order_fills": ReportProvider.generate_order_fills_report(list(orders)),
        "positions": ReportProvider.generate_positions_report(list(positions)),
        "account": ReportProvider.generate_account_report(account),
    }
    made = []
    for name in REPORTS:
        path = folder / f"nautilus_{name}.csv"
        frames[name].to_csv(path)
        made.append(path)
    return tuple(made)
