"""Three hourly days as tables, and imports of them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from dolphin.market.importer import Import, ImportReport, ImportSpec
from tests.market.archive_support import ASSETS, DAY, days_from, price_day, put, table

DAYS = days_from(DAY, 3)
BAR = 3600


def spec(source: Path, out: Path, **changes: Any) -> ImportSpec:
    given_: dict[str, Any] = {"source": source, "out": out, "bar_seconds": BAR, "stamp": "open"} | changes
    return ImportSpec(**given_)


def run(source: Path, out: Path, **changes: Any) -> ImportReport:
    return Import(spec(source, out, **changes)).run()


def tables(folder: Path, days: Sequence[date] = DAYS, rows: int = 24) -> Path:
    for day in days:
        put(folder, table(price_day(day, rows=rows, bar=BAR)), day)
    return folder


def csv_text(stamps: Sequence[object], *rows: Sequence[object], names: Sequence[str] = ASSETS) -> str:
    lines = [",".join(["timestamp", *names])]
    lines += [",".join([str(t), *(str(v) for v in row)]) for t, row in zip(stamps, rows, strict=True)]
    return "\n".join(lines) + "\n"
