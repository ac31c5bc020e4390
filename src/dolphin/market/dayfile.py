"""Day files: one UTC day of prices, or of scans, in one Parquet file (SPEC §1.2, §1.4).

A file is named after its day, `YYYY-MM-DD.parquet`, and holds `timestamp` (UTC), for scans `scan_number` and the seven
signal columns, then one float64 close per asset. A missing price is NaN, zero, negative or infinite in the file and
NaN in memory. Rows in messages count from 0, as the engine counts them.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dolphin.core.errors import DataError
from dolphin.market.atomic import atomic_path
from dolphin.market.daychecks import (
    Layout,
    check_assets,
    check_layout,
    check_stamps,
    finite_signals,
    no_null,
    stamps_ns,
    valid_prices,
)
from dolphin.market.tables import META_COLUMNS, SIGNAL_COLUMNS, PriceDay, ScanDay

DAY_NAME = re.compile(r"(\d{4}-\d{2}-\d{2})\.parquet")
"""The name of a day file; one that a rebuild set aside has `.STALE_YYYYMMDD` after it."""

BROKEN_PARQUET = (pa.ArrowException, OSError, ValueError)
"""What the Parquet reader raises on damaged files; column names that are no UTF-8 give a ValueError."""

_SET_ASIDE = re.compile(r"(\d{4}-\d{2}-\d{2})\.parquet\.STALE_\d{8}(\.\d+)?")


def day_path(folder: Path, day: date) -> Path:
    """Where the day file of `day` lies in `folder`."""
    return folder / f"{day.isoformat()}.parquet"


def read_day(path: Path, assets: Sequence[str] | None = None) -> PriceDay | ScanDay:
    """Read and check one day file (SPEC §1.2, §1.4): a ScanDay when it has the scanner's columns, else a PriceDay.

    With `assets` the closes are mapped onto that universe: absent assets are NaN, others are left out. Raises
    DataError naming the file, and the column and first bad row where there are any.
    """
    day = day_of(path)
    with open_parquet(path) as file:
        layout = check_layout(file.schema_arrow, path)
        table = _read_table(file, path)
    ts_ns = _stamps(table, day, path)
    closes = valid_prices(_matrix(table, layout.assets))
    read: PriceDay | ScanDay
    if layout.kind == "scans":
        signals = finite_signals(_matrix(table, SIGNAL_COLUMNS), str(path))
        read = ScanDay(day, ts_ns, layout.assets, closes, _int64(table, "scan_number", path), signals)
    else:
        read = PriceDay(day, ts_ns, layout.assets, closes)
    return read if assets is None else on_universe(read, assets)


def read_stamps(path: Path) -> tuple[Layout, NDArray[np.int64]]:
    """Layout and stamps (int64 ns (T,)) of a day file without its prices, checked like `read_day`'s."""
    day = day_of(path)
    with open_parquet(path) as file:
        layout = check_layout(file.schema_arrow, path)
        table = _read_table(file, path, ["timestamp"])
    return layout, _stamps(table, day, path)


def write_price_day(folder: Path, day: PriceDay, *, stale_on: date | None = None) -> Path:
    """Write `timestamp` and closes of `day` as a day file of `folder`, atomically; give its path.

    A file of that day that holds something else is kept as `*.STALE_YYYYMMDD`, dated `stale_on`; without `stale_on`
    it is a DataError. So is a day that `read_day` would refuse. The folder must exist.
    """
    prices = PriceDay(day.day, day.ts_ns, day.assets, day.closes)
    return _write(folder, checked(prices, str(day_path(folder, day.day))), stale_on)


def write_scan_day(folder: Path, day: ScanDay, *, stale_on: date | None = None) -> Path:
    """Write all of `day` as a day file of `folder`; otherwise as `write_price_day`."""
    return _write(folder, checked(day, str(day_path(folder, day.day))), stale_on)


def checked[D: PriceDay](day: D, where: str = "") -> D:
    """`day` as a reader would get it back: contiguous, every missing price NaN; DataError where it is not legal."""
    where = where or f"day {day.day}"
    rows = len(day.ts_ns)
    if day.closes.shape != (rows, len(day.assets)) or day.closes.dtype != np.float64 or day.ts_ns.dtype != np.int64:
        raise DataError(
            f"{where}: closes {day.closes.dtype} {day.closes.shape} and stamps {day.ts_ns.dtype} ({rows},), expected "
            f"float64 ({rows}, {len(day.assets)}) and int64"
        )
    check_assets(day.assets, where)
    check_stamps(day.ts_ns, day.day, where)
    changes: dict[str, Any] = {"closes": valid_prices(day.closes), "assets": tuple(day.assets)}
    if isinstance(day, ScanDay):
        shape = (rows, len(SIGNAL_COLUMNS))
        if day.signals.shape != shape or day.signals.dtype != np.float64 or day.scan_number.shape != (rows,):
            raise DataError(
                f"{where}: signals {day.signals.dtype} {day.signals.shape}, scan numbers {day.scan_number.shape}, "
                f"expected float64 {shape} and ({rows},)"
            )
        changes["signals"] = finite_signals(day.signals, where)
        changes["scan_number"] = day.scan_number.astype(np.int64)
    return dataclasses.replace(day, **changes)


def on_universe[D: PriceDay](day: D, assets: Sequence[str]) -> D:
    """`day` with its closes mapped onto the columns `assets`: absent ones NaN, others left out."""
    if tuple(assets) == day.assets:
        return day
    at = {name: k for k, name in enumerate(day.assets)}
    pairs = [(k, at[name]) for k, name in enumerate(assets) if name in at]
    closes = np.full((day.rows, len(assets)), np.nan)
    if pairs:
        to, fro = (list(side) for side in zip(*pairs, strict=True))
        closes[:, to] = day.closes[:, fro]
    return dataclasses.replace(day, assets=tuple(assets), closes=closes)


def set_aside(path: Path, stale_on: date, same_as: Path | None = None) -> None:
    """Keep what `path` holds under `*.STALE_YYYYMMDD`, unless `same_as` holds the same bytes.

    The file itself stays, so that its name always leads to something whole. Two on one day are told apart by a count.
    """
    if same_as is not None and same_as.read_bytes() == path.read_bytes():
        return
    name = f"{path.name}.STALE_{stale_on:%Y%m%d}"
    kept, count = path.with_name(name), 1
    while kept.exists():
        count += 1
        kept = path.with_name(f"{name}.{count}")
    os.link(path, kept)


def day_of(path: Path) -> date:
    """The day that a day file's name stands for; DataError when it stands for none."""
    match = DAY_NAME.fullmatch(path.name) or _SET_ASIDE.fullmatch(path.name)
    try:
        if match:
            return date.fromisoformat(match[1])
    except ValueError:
        pass
    raise DataError(f"{path}: not the name of a day file; expected YYYY-MM-DD.parquet")


def open_parquet(path: Path) -> Any:
    """`path` as an open ParquetFile; DataError when it is absent or no Parquet file."""
    try:
        # Plain reads: a mapped file that another process truncates would kill this one instead of raising.
        return pq.ParquetFile(path, memory_map=False, pre_buffer=False)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; check the path") from None
    except BROKEN_PARQUET as error:
        raise not_parquet(path, error) from None


def not_parquet(path: Path, error: Exception) -> DataError:
    """The one line for a Parquet file that cannot be read."""
    reason = " ".join(str(error).split())[:160]
    return DataError(f"{path}: not a whole Parquet file ({reason}); write or fetch it again")


def _read_table(file: Any, path: Path, columns: list[str] | None = None) -> Any:
    try:
        return file.read(columns=columns, use_threads=False)
    except BROKEN_PARQUET as error:
        raise not_parquet(path, error) from None


def _stamps(table: Any, day: date, path: Path) -> NDArray[np.int64]:
    ts_ns = stamps_ns(table.column("timestamp"), str(path))
    check_stamps(ts_ns, day, str(path))
    return ts_ns


def _int64(table: Any, name: str, path: Path) -> NDArray[np.int64]:
    column = table.column(name)
    no_null(column, name, str(path))
    return np.array(column.to_numpy(), dtype=np.int64)


def _matrix(table: Any, names: Sequence[str]) -> NDArray[np.float64]:
    """The float64 columns `names` as one C-contiguous (T, len(names)) matrix; null is NaN."""
    if table.num_rows == 0:
        return np.empty((0, len(names)))
    batch = table.select(list(names)).combine_chunks().to_batches()[0]
    matrix: NDArray[np.float64] = batch.to_tensor(null_to_nan=True, row_major=True).to_numpy()
    return matrix


def _write(folder: Path, day: PriceDay, stale_on: date | None) -> Path:
    path = day_path(folder, day.day)
    names = ["timestamp"]
    columns = [pa.array(day.ts_ns, pa.timestamp("ns", tz="UTC"))]
    if isinstance(day, ScanDay):
        names += META_COLUMNS[1:]
        columns.append(pa.array(day.scan_number))
        columns += [pa.array(column) for column in np.ascontiguousarray(day.signals.T)]
    names += day.assets
    columns += [pa.array(column) for column in np.ascontiguousarray(day.closes.T)]
    with atomic_path(path) as temp:
        # One row group and no dictionaries: a day is read whole, and closes hardly repeat.
        pq.write_table(
            pa.table(columns, names=names),
            temp,
            compression="zstd",
            use_dictionary=False,
            write_statistics=False,
            row_group_size=max(1, day.rows),
        )
        if path.exists():
            if stale_on is None:
                raise DataError(f"{path}: exists; say on which date the old file is set aside, or remove it")
            set_aside(path, stale_on, same_as=temp)
    return path
