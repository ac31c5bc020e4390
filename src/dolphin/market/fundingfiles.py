"""Recorded funding of perpetuals, from wide Parquet tables (SPEC §7 native friction).

    funding_8h.parquet       timestamp, and one column per symbol: the rate settled at that instant, a fraction
    mark_8h_close.parquet    timestamp, and one column per symbol: close of the mark price's 8 h kline that OPENS then

**Which mark belongs to which funding.** Funding of time T is paid on the mark price at T. A kline's close is known when
it ends, so that is the close of the kline that opened at T − 8 h: the row stamped T − 8 h, not the row stamped T, which
holds the price eight hours after the payment (docs/decisions/0033). Payments between the 8 h marks (contracts that pay
every four hours, or every hour) have no mark there: NaN, and whoever charges them takes a price of that instant.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_S, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.market.daychecks import check_ascending, check_assets, check_stamp_type, stamps_ns
from dolphin.market.dayfile import BROKEN_PARQUET, not_parquet, open_parquet
from dolphin.market.factorhistory import FUNDING_TYPICAL

RATES_NAME, MARKS_NAME = "funding_8h.parquet", "mark_8h_close.parquet"
"""The files of a folder of funding; the second may be absent."""

FUNDING_EVENT = np.dtype([("ts_ns", "i8"), ("column", "i8"), ("rate", "f8"), ("mark", "f8")])
"""One payment: when (UTC ns), which of the symbols asked for, its rate (a fraction of the notional; a long pays a
positive one), and the mark price (USDT, NaN when not recorded)."""

ABSURD_RATE = 0.05
"""A rate of one settlement beyond this, as a fraction, is no rate: the venue caps it at 0.03 and below."""

_HOUR = 3600 * NS_PER_S
_MARK_NS = 8 * _HOUR
_OFFSET_NS = 5 * NS_PER_S  # the venue's stamps come up to some tens of milliseconds after the hour
_ENOUGH = 30  # rates from which a median says something of the unit


@dataclass(frozen=True, eq=False)
class FundingSeries:
    """The payments of one symbol: `ts_ns` int64 (K,) ascending full hours, UTC; `rate`, `mark` float64 (K,)."""

    ts_ns: NDArray[np.int64]
    rate: NDArray[np.float64]
    mark: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class FundingRates:
    """Recorded funding: per symbol the payments that are known. `source` is the file or folder they were read from."""

    source: Path
    series: Mapping[str, FundingSeries]

    def identity(self) -> str:
        """A hash over symbols, stamps, rates and marks, 16 hex digits; the order of columns does not matter."""
        digest = hashlib.sha256()
        for symbol in sorted(self.series):
            one = self.series[symbol]
            digest.update(f"{symbol},{len(one.ts_ns)}\n".encode())
            for column in (one.ts_ns, one.rate, one.mark):
                digest.update(column.tobytes())
        return digest.hexdigest()[:16]

    def events(self, symbols: Sequence[str], first_ns: int, last_ns: int) -> NDArray[np.void]:
        """The payments of `symbols` with first_ns ≤ ts_ns ≤ last_ns, as FUNDING_EVENT records (K,).

        Ordered by time, then by column, which counts in `symbols`. A symbol without funding gives no event: ask
        `uncovered`.
        """
        parts = [np.empty(0, FUNDING_EVENT)]
        for column, symbol in enumerate(symbols):
            one = self.series.get(symbol)
            if one is None:
                continue
            inside = (one.ts_ns >= first_ns) & (one.ts_ns <= last_ns)
            part = np.empty(int(inside.sum()), FUNDING_EVENT)
            part["ts_ns"], part["rate"], part["mark"] = one.ts_ns[inside], one.rate[inside], one.mark[inside]
            part["column"] = column
            parts.append(part)
        found = np.concatenate(parts)
        return found[np.lexsort((found["column"], found["ts_ns"]))]

    def uncovered(self, symbols: Sequence[str], first_ns: int, last_ns: int) -> tuple[str, ...]:
        """Those of `symbols` that lack a payment between the two instants (both included): costs would be understated.

        Every contract pays at 00:00, 08:00 and 16:00 UTC, whatever its interval; these are looked for. Payments that a
        contract makes in between can be missing unseen.
        """
        due = np.arange(-(-first_ns // _MARK_NS) * _MARK_NS, last_ns + 1, _MARK_NS)
        none = np.empty(0, np.int64)
        known = {symbol: one.ts_ns for symbol, one in self.series.items()}
        return tuple(symbol for symbol in symbols if not np.isin(due, known.get(symbol, none)).all())


def read_funding(path: Path) -> FundingRates:
    """The funding in a Parquet file of rates (no marks then), or in a folder of RATES_NAME and, if there, MARKS_NAME.

    A stamp up to 5 s off a full hour is that hour's. A rate or mark that is NaN or null is not known. Raises DataError
    in one line, naming file, column and row, for stamps that do not ascend or lie off the hour, two rates of a symbol
    in one hour, a rate beyond ±0.05, rates whose typical size shows percent or basis points, a mark that is no price,
    or a file that is no such table.
    """
    folder = path.is_dir()
    rates_path, marks_path = (path / RATES_NAME, path / MARKS_NAME) if folder else (path, path)
    if folder and not rates_path.exists():
        raise DataError(f"{path}: no {RATES_NAME}; expected it, with or without {MARKS_NAME}")
    rates = _read_table(rates_path)
    _check_rates(rates, rates_path)
    marks = _read_table(marks_path) if folder and marks_path.exists() else {}
    _check_marks(marks, marks_path)
    return FundingRates(path, {symbol: _joined(one, marks.get(symbol)) for symbol, one in rates.items()})


_Column = tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.int64]]
"""What is known of a symbol: full hours (ns), values, and rows in the file."""


def _read_table(path: Path) -> dict[str, _Column]:
    with open_parquet(path) as file:
        schema = file.schema_arrow
        _check_schema(schema, path)
        try:
            table = file.read(use_threads=False)
        except BROKEN_PARQUET as error:
            raise not_parquet(path, error) from None
    stamps = stamps_ns(table.column("timestamp"), str(path))
    if not len(stamps):
        raise DataError(f"{path}: no rows; expected one per funding time")
    check_ascending(stamps, str(path))
    hours = _full_hours(stamps, path)
    columns: dict[str, _Column] = {}
    for name in schema.names:
        if name == "timestamp":
            continue
        values = np.array(table.column(name).to_numpy(), dtype=np.float64)
        rows = np.flatnonzero(~np.isnan(values))
        again = np.flatnonzero(np.diff(hours[rows]) == 0)
        if len(again):
            row = int(rows[again[0] + 1])
            raise DataError(
                f"{path}: column {name!r}, row {row}: a second value at {ns_to_iso(int(hours[row]))}; expected one an "
                "hour at most"
            )
        columns[name] = (hours[rows], values[rows], rows)
    return columns


def _check_schema(schema: Any, path: Path) -> None:
    names = list(schema.names)
    twice = [name for k, name in enumerate(names) if name in names[:k]]
    if twice:
        raise DataError(f"{path}: column {twice[0]!r} is there twice; expected every column once")
    if "timestamp" not in names:
        raise DataError(f"{path}: column 'timestamp' is missing; expected it and one float64 column per symbol")
    check_stamp_type(schema.field("timestamp").type, path)
    symbols = [name for name in names if name != "timestamp"]
    check_assets(symbols, str(path))
    for name in symbols:
        if schema.field(name).type != pa.float64():
            raise DataError(f"{path}: column {name!r} holds {schema.field(name).type}, expected float64")


def _full_hours(stamps: NDArray[np.int64], path: Path) -> NDArray[np.int64]:
    hours: NDArray[np.int64] = (stamps + _HOUR // 2) // _HOUR * _HOUR
    off = np.abs(stamps - hours) > _OFFSET_NS
    if off.any():
        row = int(np.argmax(off))
        raise DataError(
            f"{path}: column 'timestamp', row {row}: {ns_to_iso(int(stamps[row]))} is no funding time; expected a full "
            f"hour, within {_OFFSET_NS // NS_PER_S} s"
        )
    return hours


def _check_rates(rates: dict[str, _Column], path: Path) -> None:
    for name, (_, values, rows) in rates.items():
        absurd = np.abs(values) > ABSURD_RATE
        if absurd.any():
            k = int(np.argmax(absurd))
            raise DataError(
                f"{path}: column {name!r}, row {int(rows[k])}: a rate of {values[k]:g}; expected a fraction within "
                f"±{ABSURD_RATE:g}, 0.0001 for one basis point"
            )
    known = np.abs(np.concatenate([values for _, values, _ in rates.values()]))
    if not len(known):
        raise DataError(f"{path}: no rate in any column; expected fractions such as 0.0001")
    typical, (low, high) = float(np.median(known)), FUNDING_TYPICAL
    if len(known) >= _ENOUGH and not low <= typical <= high:
        unit = "were divided by a hundred once too often" if typical < low else "seem to be percent or basis points"
        raise DataError(
            f"{path}: rates are typically {typical:.2g} in size; expected fractions, {low:g} to {high:g}: they {unit}"
        )


def _check_marks(marks: dict[str, _Column], path: Path) -> None:
    for name, (_, values, rows) in marks.items():
        wrong = ~((values > 0.0) & (values < np.inf))
        if wrong.any():
            k = int(np.argmax(wrong))
            raise DataError(
                f"{path}: column {name!r}, row {int(rows[k])}: a mark price of {values[k]:g}; expected a number above 0"
            )


def _joined(rates: _Column, marks: _Column | None) -> FundingSeries:
    """Rates with the mark of the kline that closes at each payment; NaN where there is none."""
    ts_ns, values, _ = rates
    mark = np.full(len(ts_ns), np.nan)
    if marks is not None:
        closes_at = marks[0] + _MARK_NS
        _, here, there = np.intersect1d(ts_ns, closes_at, assume_unique=True, return_indices=True)
        mark[here] = marks[1][there]
    return FundingSeries(ts_ns, values, mark)
