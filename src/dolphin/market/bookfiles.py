"""Book files: one UTC day of order-book snapshots in one Parquet file (SPEC §1.4, §8).

A file is named after its day, `YYYY-MM-DD.parquet`, and holds one row per asset and snapshot, sorted by time and, at
one time, by symbol: `timestamp` (UTC, ns), `symbol`, and five bands on each side as `bid_notional_0` … `ask_depth_4`.
Rows in messages count from 0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dolphin.book.layout import BANDS, SNAPSHOT
from dolphin.book.payload import seconds_of
from dolphin.core.clock import NS_PER_DAY, date_start_ns, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.core.records import Record, records
from dolphin.market.atomic import atomic_path
from dolphin.market.daychecks import check_assets, no_null
from dolphin.market.dayfile import BROKEN_PARQUET, day_of, not_parquet, open_parquet
from dolphin.market.manifest import DayEntry

SIDES = ("bid_notional", "ask_notional", "bid_depth", "ask_depth")
AMOUNTS = tuple(f"{side}_{band}" for side in SIDES for band in range(BANDS))
BOOK_SCHEMA = pa.schema(
    [
        ("timestamp", pa.timestamp("ns", tz="UTC")),
        ("symbol", pa.dictionary(pa.int16(), pa.string())),
        *((name, pa.float64()) for name in AMOUNTS),
    ]
)


@dataclass(frozen=True, eq=False)
class BookDay:
    """The snapshots of one UTC day.

    `ts_ns` int64 (K,), non-decreasing, all within `day`, each the instant the snapshot was taken; `asset` int16 (K,) is
    the column of `assets` (sorted by name, each with at least one row), increasing where stamps are equal; `amounts`
    float64 (K, 20) in the order of AMOUNTS: USD and base units per band, finite and not negative.
    """

    day: date
    ts_ns: NDArray[np.int64]
    assets: tuple[str, ...]
    asset: NDArray[np.int16]
    amounts: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """K."""
        return len(self.ts_ns)

    def snapshots(self, asset: str) -> Record:
        """The asset's (k,) SNAPSHOT records in order of time; none for an asset that the day does not have."""
        if asset not in self.assets:
            return records(SNAPSHOT, 0)
        at = np.flatnonzero(self.asset == self.assets.index(asset))
        found = records(SNAPSHOT, len(at))
        found["timestamp"] = seconds_of(self.ts_ns[at])  # type: ignore[arg-type]  # works on arrays as on numbers
        for k, side in enumerate(SIDES):
            found[side] = self.amounts[at, k * BANDS : (k + 1) * BANDS]
        return found


def book_day(
    day: date, ts_ns: NDArray[np.int64], symbols: Sequence[str] | NDArray[Any], amounts: NDArray[np.float64]
) -> BookDay:
    """A legal day of these rows, sorted; raises DataError for rows that a file may not hold.

    `ts_ns` int64 (K,), `symbols` (K,) names, `amounts` float64 (K, 20).
    """
    where = f"book of {day}"
    names, codes = np.unique(np.asarray(symbols, dtype=np.str_), return_inverse=True)
    order = np.lexsort((codes, ts_ns))
    made = BookDay(
        day,
        np.ascontiguousarray(ts_ns[order], np.int64),
        tuple(str(name) for name in names),
        codes[order].astype(np.int16),
        np.ascontiguousarray(amounts[order], np.float64),
    )
    return _checked(made, where)


def read_book_day(path: Path, day: date | None = None) -> BookDay:
    """Read and check one book file, that of `day` or of the day in its name. Raises DataError naming the file, and the
    column and first bad row."""
    day = day_of(path) if day is None else day
    with open_parquet(path) as file:
        _check_columns(file.schema_arrow, path)
        try:
            table = file.read(columns=list(BOOK_SCHEMA.names), use_threads=False).combine_chunks()
        except BROKEN_PARQUET as error:
            raise not_parquet(path, error) from None
    for name in BOOK_SCHEMA.names:
        no_null(table.column(name), name, str(path))
    rows = table.num_rows
    if rows == 0:
        return BookDay(day, np.empty(0, np.int64), (), np.empty(0, np.int16), np.empty((0, len(AMOUNTS))))
    ts_ns = np.asarray(table.column("timestamp").cast(pa.int64()).to_numpy(), np.int64)
    symbol = table.column("symbol").combine_chunks()
    listed = [str(name) for name in symbol.dictionary.to_pylist()]
    used = np.asarray(symbol.indices.to_numpy())
    names, place = np.unique(np.array(listed, dtype=np.str_), return_inverse=True)
    codes = place[used].astype(np.int16)
    present = np.unique(codes)
    amounts = table.select(list(AMOUNTS)).to_batches()[0].to_tensor(row_major=True).to_numpy()
    made = BookDay(
        day,
        ts_ns,
        tuple(str(names[k]) for k in present),
        np.searchsorted(present, codes).astype(np.int16),
        np.ascontiguousarray(amounts, np.float64),
    )
    return _checked(made, str(path))


def write_book_day(path: Path, day: BookDay) -> None:
    """Write `day` as the book file `path`, whole or not at all, over one that is there."""
    columns = [
        pa.array(day.ts_ns, BOOK_SCHEMA.field(0).type),
        pa.DictionaryArray.from_arrays(pa.array(day.asset, pa.int16()), pa.array(day.assets, pa.string())),
        *(pa.array(column) for column in np.ascontiguousarray(day.amounts.T)),
    ]
    with atomic_path(path) as temp:
        pq.write_table(
            pa.Table.from_arrays(columns, schema=BOOK_SCHEMA),
            temp,
            compression="zstd",
            use_dictionary=["symbol"],
            write_statistics=False,
        )


def book_entry(day: BookDay) -> DayEntry:
    """The manifest's line for one day: rows, ends, the assets it has, and a SHA-256 (hex) over its content."""
    digest = hashlib.sha256(json.dumps([str(day.day), day.rows, list(day.assets), list(AMOUNTS)]).encode())
    for values, kind in ((day.ts_ns, "<i8"), (day.asset, "<i2"), (day.amounts, "<f8")):
        digest.update(np.ascontiguousarray(values, dtype=kind).tobytes())
    first, last = (ns_to_iso(int(day.ts_ns[k])) for k in (0, -1)) if day.rows else (None, None)
    return DayEntry(day=day.day, rows=day.rows, first=first, last=last, hash=digest.hexdigest(), assets=day.assets)


def _check_columns(schema: Any, path: Path) -> None:
    names = list(schema.names)
    for wanted in BOOK_SCHEMA:
        if names.count(wanted.name) != 1:
            met = "is missing" if wanted.name not in names else "is there twice"
            raise DataError(f"{path}: column {wanted.name!r} {met}; a book file has it once")
        met = schema.field(wanted.name).type
        same = pa.types.is_dictionary(met) and met.value_type == pa.string() if wanted.name == "symbol" else False
        if not (same or met == wanted.type):
            raise DataError(f"{path}: column {wanted.name!r} holds {met}, expected {wanted.type}")
    strange = [name for name in names if name not in BOOK_SCHEMA.names]
    if strange:
        raise DataError(f"{path}: column {strange[0]!r} is none of a book file; expected {len(BOOK_SCHEMA)} columns "
                        "as docs/data-formats.md has them")  # fmt: skip


def _checked(day: BookDay, where: str) -> BookDay:
    if day.rows:
        check_assets(day.assets, where)
    start = date_start_ns(day.day)
    outside = (day.ts_ns < start) | (day.ts_ns >= start + NS_PER_DAY)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"{where}: column 'timestamp', row {row}: {ns_to_iso(int(day.ts_ns[row]))} lies outside {day.day}; "
            "expected the stamps of that UTC day"
        )
    step, next_asset = np.diff(day.ts_ns), np.diff(day.asset.astype(np.int64))
    unsorted = (step < 0) | ((step == 0) & (next_asset <= 0))
    if unsorted.any():
        row = int(np.argmax(unsorted)) + 1
        again = step[row - 1] == 0 and next_asset[row - 1] == 0
        met = f"a second snapshot of {day.assets[day.asset[row]]} at" if again else "is out of order:"
        raise DataError(
            f"{where}: column 'timestamp', row {row}: {met} {ns_to_iso(int(day.ts_ns[row]))}; expected rows sorted by "
            "time and symbol, each pair once"
        )
    bad = ~(np.isfinite(day.amounts) & (day.amounts >= 0.0))
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise DataError(
            f"{where}: column {AMOUNTS[column]!r}, row {row}: {day.amounts[row, column]}; expected a finite "
            "amount, 0 or more"
        )
    return day
