"""Days, archives and kline files for the tests of the market room."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.market.archive import Archive, ArchiveWriter
from dolphin.market.tables import META_COLUMNS, PriceDay, ScanDay

DAY = date(2021, 4, 5)
ASSETS = ("BTCUSDT", "ETHUSDT", "XRPUSDT")


def price_day(
    day: date = DAY, rows: int = 20, assets: Sequence[str] = ASSETS, bar: int = 60, seed: int = 1
) -> PriceDay:
    """A day of `rows` bars from midnight on, with a few missing prices."""
    rng = np.random.default_rng([seed, day.toordinal()])
    closes = np.round(100.0 * np.exp(rng.normal(0.0, 1e-3, (rows, len(assets))).cumsum(axis=0)), 4)
    closes[rng.random(closes.shape) < 0.05] = np.nan
    return PriceDay(day, date_start_ns(day) + np.arange(rows) * bar * NS_PER_S, tuple(assets), closes)


def scan_day(day: date = DAY, rows: int = 20, assets: Sequence[str] = ASSETS, bar: int = 60, seed: int = 1) -> ScanDay:
    """The same with signals, NaN in the first rows."""
    prices = price_day(day, rows, assets, bar, seed)
    signals = np.random.default_rng([seed, 7, day.toordinal()]).normal(0.0, 0.01, (rows, 7))
    signals[:3] = np.nan
    return ScanDay(day, prices.ts_ns, prices.assets, prices.closes, np.arange(rows), signals)


def days_from(first: date, count: int) -> list[date]:
    return [first + timedelta(days=k) for k in range(count)]


def write_archive(folder: Path, days: Sequence[PriceDay], *, bar: float = 60, force: bool = False) -> Archive:
    kind = "scans" if isinstance(days[0], ScanDay) else "prices"
    with ArchiveWriter(folder, kind, bar, source={"made_by": "a test"}, force=force) as writer:  # type: ignore[arg-type]
        for day in days:
            writer.write(day)
    return Archive.open(folder)


def same(a: PriceDay, b: PriceDay) -> bool:
    """Equal in everything, NaN being equal to NaN."""
    if (a.day, a.assets, type(a)) != (b.day, b.assets, type(b)):
        return False
    pairs = [(a.ts_ns, b.ts_ns), (a.closes, b.closes)]
    if isinstance(a, ScanDay) and isinstance(b, ScanDay):
        pairs += [(a.scan_number, b.scan_number), (a.signals, b.signals)]
    return all(
        x.dtype == y.dtype and np.array_equal(x, y, equal_nan=x.dtype == np.float64) and y.flags.c_contiguous
        for x, y in pairs
    )


def table(day: PriceDay, unit: str = "ms") -> pa.Table:
    """The day as an Arrow table, column by column, to be spoilt by a test."""
    stamps = pa.array(day.ts_ns, pa.timestamp("ns", tz="UTC")).cast(pa.timestamp(unit, tz="UTC"))
    columns = {"timestamp": stamps}
    if isinstance(day, ScanDay):
        columns["scan_number"] = pa.array(day.scan_number)
        columns |= {name: pa.array(day.signals[:, k].copy()) for k, name in enumerate(META_COLUMNS[2:])}
    columns |= {name: pa.array(day.closes[:, k].copy()) for k, name in enumerate(day.assets)}
    return pa.table(columns)


def put(folder: Path, content: pa.Table, day: date = DAY) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{day}.parquet"
    pq.write_table(content, path, compression="zstd")
    return path


def replaced(content: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return content.set_column(content.column_names.index(name), name, values)


def write_klines(
    folder: Path,
    symbol: str,
    stamps: NDArray[np.int64],
    closes: NDArray[np.float64],
    *,
    date_text: str,
    interval: str = "1m",
    zipped: bool = True,
    header: bool = False,
) -> Path:
    """A kline file as the exchange writes it; `stamps` in whatever unit the file is to have."""
    folder.mkdir(parents=True, exist_ok=True)
    head = "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy,taker_quote,ignore\n"
    body = (head if header else "") + "".join(
        f"{t},1.0,2.0,0.5,{c!r},10,{t},5,3,1,1,0\n" for t, c in zip(stamps.tolist(), closes.tolist(), strict=True)
    )
    name = f"{symbol}-{interval}-{date_text}"
    path = folder / (f"{name}.zip" if zipped else f"{name}.csv")
    if zipped:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{name}.csv", body)
    else:
        path.write_text(body)
    return path


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below `folder` with its bytes: what "nothing was written" is checked with."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
