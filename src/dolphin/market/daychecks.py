"""What makes a day of data legal: columns, types, stamps, prices, signals (SPEC §1.2, §1.4).

Rows in messages count from 0, as the engine counts them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

import dolphin.market.arrow  # noqa: F401
from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.market.tables import META_COLUMNS, SIGNAL_COLUMNS

_NS_PER_UNIT = {"ms": 1_000_000, "us": 1_000, "ns": 1}
_UTC = {"UTC", "Etc/UTC", "+00:00", "Z"}


@dataclass(frozen=True)
class Layout:
    """What a day file's schema says: `kind` ("prices" or "scans") and its asset columns, in file order."""

    kind: str
    assets: tuple[str, ...]


def valid_prices(closes: NDArray[np.float64]) -> NDArray[np.float64]:
    """`closes` with everything that is not a price (NaN, <= 0, infinite) made one and the same NaN; C-contiguous."""
    with np.errstate(invalid="ignore"):
        return np.ascontiguousarray(np.where((closes > 0.0) & (closes < np.inf), closes, np.nan))


def check_layout(schema: Any, path: Path) -> Layout:
    """What kind of day file a schema belongs to; DataError naming the first column that is missing or wrong."""
    names = list(schema.names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there twice; expected every column once")
    scanner = META_COLUMNS[1:]
    is_scan = any(name in scanner for name in names)
    for name in META_COLUMNS if is_scan else META_COLUMNS[:1]:
        if name not in names:
            what = "a scan file needs all of " + ", ".join(META_COLUMNS) if is_scan else "a day file needs it"
            raise DataError(f"{path}: column {name!r} is missing; {what}")
    check_stamp_type(schema.field("timestamp").type, path)
    for name in names:
        met = schema.field(name).type
        wanted = pa.int64() if name == "scan_number" else pa.float64()
        if name != "timestamp" and met != wanted:
            raise DataError(
                f"{path}: column {name!r} holds {met}, expected {'int64' if wanted == pa.int64() else 'float64'}"
            )
    assets = tuple(name for name in names if name not in META_COLUMNS)
    check_assets(assets, str(path))
    return Layout("scans" if is_scan else "prices", assets)


def check_stamp_type(met: Any, path: Path, column: str = "timestamp") -> None:
    """DataError unless the Arrow type `met` is a UTC timestamp in ms, us or ns."""
    if not (pa.types.is_timestamp(met) and met.unit in _NS_PER_UNIT and met.tz in _UTC):
        raise DataError(f"{path}: column {column!r} holds {met}, expected timestamp[ms, us or ns, tz=UTC]")


def check_stamps(ts_ns: NDArray[np.int64], day: date, where: str) -> None:
    """DataError naming the first stamp that does not ascend or lies outside `day` (ns since the epoch)."""
    start = date_start_ns(day)
    outside = (ts_ns < start) | (ts_ns >= start + NS_PER_DAY)
    if outside.any():
        row = int(np.argmax(outside))
        raise DataError(
            f"{where}: column 'timestamp', row {row}: {ns_to_iso(int(ts_ns[row]))} lies outside {day}; expected stamps "
            f"from {day}T00:00:00Z until before the next midnight"
        )
    check_ascending(ts_ns, where)


def check_ascending(ts_ns: NDArray[np.int64], where: str, first_row: int = 0) -> None:
    """DataError naming the first row whose stamp is not later than the one before; rows count from `first_row`."""
    back = np.diff(ts_ns) <= 0
    if back.any():
        row = int(np.argmax(back)) + 1
        what = "twice in a row" if ts_ns[row] == ts_ns[row - 1] else f"after {ns_to_iso(int(ts_ns[row - 1]))}"
        raise DataError(
            f"{where}: column 'timestamp', row {row + first_row}: {ns_to_iso(int(ts_ns[row]))} comes {what}; "
            "expected stamps that strictly ascend"
        )


def check_assets(assets: Sequence[str], where: str) -> None:
    """DataError unless `assets` are at least one distinct name in capitals."""
    if not assets:
        raise DataError(f"{where}: no asset columns; expected one float64 close per asset, such as BTCUSDT")
    for name in assets:
        if name in META_COLUMNS or not name or name != name.upper() or not name.isprintable() or " " in name:
            raise DataError(f"{where}: column {name!r} is not an asset name; expected capitals and digits, as BTCUSDT")
    if len(set(assets)) != len(assets):
        raise DataError(f"{where}: an asset is named twice in {', '.join(assets)}")


def stamps_ns(column: Any, where: str, first_row: int = 0) -> NDArray[np.int64]:
    """An Arrow timestamp column as int64 nanoseconds; DataError naming the first row that is null or beyond int64.

    Rows count from `first_row`, that of a piece in its file.
    """
    no_null(column, "timestamp", where, first_row)
    raw = np.asarray(column.cast(pa.int64()).to_numpy(), dtype=np.int64)
    factor = _NS_PER_UNIT[column.type.unit]
    limit = np.iinfo(np.int64).max // factor
    far = (raw > limit) | (raw < -limit)
    if far.any():
        row = int(np.argmax(far))
        raise DataError(
            f"{where}: column 'timestamp', row {row + first_row}: {raw[row]} {column.type.unit} is beyond the year "
            "2262; expected UTC stamps"
        )
    return raw * factor


def no_null(column: Any, name: str, where: str, first_row: int = 0) -> None:
    """DataError naming the first row of an Arrow column that holds no value."""
    if column.null_count:
        row = column.is_null().to_pylist().index(True) + first_row
        raise DataError(f"{where}: column {name!r}, row {row}: no value; expected one in every row")


def finite_signals(signals: NDArray[np.float64], where: str) -> NDArray[np.float64]:
    """A contiguous copy with one kind of NaN; DataError at the first infinity."""
    bad = np.isinf(signals)
    if bad.any():
        row, column = (int(k) for k in np.argwhere(bad)[0])
        raise DataError(
            f"{where}: column {SIGNAL_COLUMNS[column]!r}, row {row}: {signals[row, column]}; expected a finite number, "
            "or NaN while a window fills"
        )
    return np.ascontiguousarray(np.where(np.isnan(signals), np.nan, signals))


def bar_ns(ts_ns: NDArray[np.int64]) -> int | None:
    """The usual distance of two stamps: the lower median of their differences, ns; None with fewer than two stamps."""
    if len(ts_ns) < 2:
        return None
    steps = np.sort(np.diff(ts_ns))
    return int(steps[(len(steps) - 1) // 2])


def check_bar(ts_ns: NDArray[np.int64], bar_seconds: float, where: str) -> None:
    """DataError when the stamps (ns) belong to bars of another length than `bar_seconds`.

    They fit when the usual distance is one bar within a tenth (live scans jitter), or is longer while some distance
    is one bar (a day full of gaps). Fewer than four stamps are too few to call bars longer than they should be.
    """
    usual = bar_ns(ts_ns)
    if usual is None:
        return
    steps = np.diff(ts_ns) / (bar_seconds * NS_PER_S)
    low, high = 0.9, 1.1
    gaps_only = len(steps) < 3 or bool(((steps >= low) & (steps <= high)).any())
    usual_bars = usual / (bar_seconds * NS_PER_S)
    if usual_bars < low or (usual_bars > high and not gaps_only):
        raise DataError(
            f"{where}: bars are {usual / NS_PER_S:g} s apart, expected {bar_seconds:g} s; all bars of an archive "
            "have one length: keep different lengths in different folders"
        )
