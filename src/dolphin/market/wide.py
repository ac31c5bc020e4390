"""Wide tables of closes, Parquet or CSV: one `timestamp` column and one column of prices per symbol (SPEC §1.2)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

from dolphin.core.errors import DataError
from dolphin.market.daychecks import (
    check_ascending,
    check_assets,
    check_bar,
    check_stamp_type,
    no_null,
    stamps_ns,
    valid_prices,
)
from dolphin.market.dayfile import BROKEN_PARQUET, not_parquet, open_parquet
from dolphin.market.manifest import union_of
from dolphin.market.sources import Block, Choice, check_grid
from dolphin.market.tables import META_COLUMNS

_CELLS = 2_000_000
"""Prices held at once while a large file is read: 16 MB."""
_EPOCH_UNITS = ((10**11, "s"), (10**14, "ms"), (10**17, "us"), (10**20, "ns"))
"""Whole numbers below the first of each are epoch stamps in the second: unambiguous from 1973 to 2262."""


@dataclass(frozen=True)
class WideFile:
    """One table: its symbol columns that were chosen, and its first and last stamp as written (ns)."""

    path: Path
    columns: tuple[str, ...]
    first_ns: int
    last_ns: int


class WideSource:
    """Wide tables that follow each other in time; `names` are their chosen symbols, in order of first appearance.

    Making one reads every file's columns and stamps and checks them: types, order, bar length, grid, overlap. Raises
    DataError naming file, column and row.
    """

    def __init__(self, paths: list[Path], bar_seconds: float, choice: Choice) -> None:
        """Read columns and stamps of all `paths`; no prices yet."""
        listed = {path: _columns(path) for path in paths}
        universe = choice.pick(union_of(listed.values()))
        self.not_found = choice.not_found(union_of(listed.values()))
        chosen = set(universe)
        files = []
        for path, columns in listed.items():
            wanted = tuple(name for name in columns if name in chosen)
            _check_columns(path, wanted)
            ts_ns = _all_stamps(path)
            check_ascending(ts_ns, str(path))
            check_bar(ts_ns, bar_seconds, str(path))
            check_grid(ts_ns, bar_seconds, str(path))
            files.append(WideFile(path, wanted, int(ts_ns[0]), int(ts_ns[-1])))
        self.files = sorted(files, key=lambda file: file.first_ns)
        _check_overlap(self.files)
        # Columns appear in the order of time, which need not be the order of file names.
        self.names = choice.pick(union_of(listed[file.path] for file in self.files))
        self.first_ns, self.last_ns = self.files[0].first_ns, self.files[-1].last_ns

    def blocks(self, low_ns: int, high_ns: int) -> Iterator[Block]:
        """Stamps and closes (T, len(names)) in ascending pieces; files wholly outside [low, high) are not read."""
        for file in self.files:
            if file.last_ns < low_ns or file.first_ns >= high_ns:
                continue
            for batch in _batches(file.path, ["timestamp", *file.columns]):
                ts_ns = _stamps(batch.column("timestamp"), str(file.path))
                closes = np.full((len(ts_ns), len(self.names)), np.nan)
                for name in file.columns:
                    values = batch.column(name).to_numpy(zero_copy_only=False)
                    closes[:, self.names.index(name)] = values
                yield ts_ns, valid_prices(closes)


def _columns(path: Path) -> tuple[str, ...]:
    """The columns of a wide table that may be symbols, in file order."""
    if path.suffix == ".csv":
        names = _csv_header(path)
    else:
        with open_parquet(path) as file:
            names = list(file.schema_arrow.names)
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there twice; expected every column once")
    if "timestamp" not in names:
        raise DataError(
            f"{path}: column 'timestamp' is missing; expected a table of timestamp and one close per symbol, or klines "
            "in files named SYMBOL-INTERVAL-DATE"
        )
    return tuple(name for name in names if name not in META_COLUMNS)


def _check_columns(path: Path, columns: tuple[str, ...]) -> None:
    if columns:
        check_assets(columns, str(path))
    if path.suffix == ".csv":
        return
    with open_parquet(path) as file:
        schema = file.schema_arrow
    check_stamp_type(schema.field("timestamp").type, path)
    for name in columns:
        if schema.field(name).type != pa.float64():
            met = schema.field(name).type
            raise DataError(f"{path}: column {name!r} holds {met}, expected float64 closes; --drop it if it is none")


def _check_overlap(files: list[WideFile]) -> None:
    for before, after in pairwise(files):
        if after.first_ns <= before.last_ns:
            raise DataError(
                f"{after.path}: begins before {before.path.name} ends; expected files that follow each other in time: "
                "import them one at a time"
            )


def _all_stamps(path: Path) -> NDArray[np.int64]:
    parts: list[NDArray[np.int64]] = []
    rows = 0
    for batch in _batches(path, ["timestamp"]):
        parts.append(_stamps(batch.column("timestamp"), str(path), rows))
        rows += batch.num_rows
    if not rows:
        raise DataError(f"{path}: no rows; remove the file, or fetch it again")
    return np.concatenate(parts)


def _batches(path: Path, columns: list[str]) -> Iterator[Any]:
    """The columns in pieces of a bounded number of rows; DataError when the file turns out to be broken."""
    try:
        if path.suffix == ".csv":
            yield from _csv_batches(path, columns)
            return
        with open_parquet(path) as file:
            yield from file.iter_batches(max(1024, _CELLS // len(columns)), columns=columns, use_threads=False)
    except BROKEN_PARQUET as error:
        if path.suffix != ".csv":
            raise not_parquet(path, error) from None
        said = " ".join(str(error).split())[:200]
        raise DataError(f"{path}: not a table of prices ({said}); expected stamps and numbers below a header") from None


def _stamps(column: Any, where: str, first_row: int = 0) -> NDArray[np.int64]:
    """Stamps of one piece in nanoseconds, from a timestamp column or a CSV's whole numbers."""
    if pa.types.is_timestamp(column.type):
        return stamps_ns(column, where, first_row)
    no_null(column, "timestamp", where, first_row)
    if not len(column):
        return np.empty(0, np.int64)
    largest = int(np.abs(np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.int64)).max())
    unit = next(unit for below, unit in _EPOCH_UNITS if largest < below)
    return stamps_ns(column.cast(pa.timestamp(unit, tz="UTC")).cast(pa.timestamp("ns", tz="UTC")), where, first_row)


def _csv_header(path: Path) -> list[str]:
    try:
        with path.open(encoding="utf-8-sig") as lines:
            line = lines.readline().rstrip("\r\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not a text file; expected a CSV table of timestamp and closes") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    return [name.strip().strip('"') for name in line.split(",")]


def _csv_batches(path: Path, columns: list[str]) -> Iterator[Any]:
    header = _csv_header(path)
    with path.open(encoding="utf-8-sig") as lines:
        lines.readline()
        first = lines.readline().strip()
    if not first:
        return
    cell = first.split(",")[header.index("timestamp")].strip().strip('"')
    stamp = pa.int64() if cell.lstrip("-").isdigit() else pa.timestamp("ns", tz="UTC")
    types = {name: stamp if name == "timestamp" else pa.float64() for name in columns}
    reader = pacsv.open_csv(
        path,
        read_options=pacsv.ReadOptions(column_names=header, skip_rows=1, use_threads=False, block_size=4 << 20),
        convert_options=pacsv.ConvertOptions(column_types=types, include_columns=columns),
    )
    with reader:
        yield from reader
