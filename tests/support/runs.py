"""Small made-up archives for tests of backtest and commands: seeded, quick, and never a claim about markets."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.market.archive import ArchiveWriter
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.market.tables import PriceDay, ScanDay
from dolphin.ui.cli import run

FIRST = date(2024, 1, 1)
ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
BAR_S = 60


def scan_days(
    count: int = 3,
    rows: int = 400,
    assets: Sequence[str] = ASSETS,
    *,
    seed: int = 1,
    drift: float = -0.4,
    first: date = FIRST,
) -> list[ScanDay]:
    """Days of coins that drift (deviations per bar), with a signal that often says go; prices go on over midnight."""
    rng = np.random.default_rng(seed)
    n, level, days = len(assets), np.zeros(len(assets)), []
    for d in range(count):
        steps = 1e-3 * (rng.standard_normal((rows, n)) + drift)
        log_price = level + np.cumsum(steps, axis=0)
        level = log_price[-1]
        v50, v750 = rng.normal(0.0, 0.03, rows), rng.normal(0.0, 0.004, rows)
        signals = np.column_stack((v50 - v750, v50, v50 / 2.0, v750 * 2.0, v750, np.abs(v50), np.abs(v50) / 2.0))
        day = first + timedelta(days=d)
        ts_ns = date_start_ns(day) + np.arange(rows, dtype=np.int64) * BAR_S * NS_PER_S
        number = np.arange(d * rows, (d + 1) * rows)
        days.append(ScanDay(day, ts_ns, tuple(assets), np.exp(log_price), number, signals))
    return days


def with_last_signal(day: ScanDay, vel_div: float) -> ScanDay:
    """`day` with `vel_div` at its last bar: deep enough, it opens a position that the end of the data closes."""
    signals = day.signals.copy()
    signals[-1, 0] = vel_div
    return replace(day, signals=signals)


def write_days(folder: Path, days: Sequence[PriceDay]) -> Path:
    """These days as an archive."""
    kind = "scans" if isinstance(days[0], ScanDay) else "prices"
    with ArchiveWriter(folder, kind, BAR_S, source={"made_by": "a test"}) as writer:  # type: ignore[arg-type]
        for day in days:
            writer.write(day)
    return folder


def scan_archive_of(folder: Path, count: int = 3, **options: Any) -> Path:
    """An archive of `scan_days`."""
    return write_days(folder, scan_days(count, **options))


def price_archive_of(folder: Path, count: int = 2, assets: int = 6) -> Path:
    """An archive of synthetic prices, whole days of 1440 bars."""
    return write_days(folder, list(make_market(MarketSpec(days=count, assets=assets, outage=False, start=FIRST))))


def backtest(data: Path, out: Path, *options: str) -> dict[str, Any]:
    """Run the command and give the summary it wrote."""
    assert run(["backtest", "--data", str(data), "--out", str(out), *options]) == 0
    summary: dict[str, Any] = json.loads((out / "summary.json").read_text())
    return summary
