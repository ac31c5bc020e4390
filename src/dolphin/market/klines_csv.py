"""The exchange's kline CSV, bare or zipped: open times and closes (SPEC §1.2).

Twelve columns, of which the first (open time) and the fifth (close) are read. Files come with and without a header
line, and with stamps in milliseconds or, on spot since 2025, in microseconds.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
from numpy.typing import NDArray

import dolphin.market.arrow  # noqa: F401
from dolphin.core.errors import DataError

_COLUMNS = 12
_MICROSECONDS_FROM = 10**14
"""No millisecond stamp before the year 5138 is this large, no microsecond stamp after 1973 smaller."""
MAX_CSV = 2 << 30
"""The largest CSV that is unpacked: a month of 1 s klines is an eighth of it."""


def read_kline_file(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Open times (ms since the epoch, int64, strictly ascending) and closes (float64) of a `.csv` or `.zip`.

    Raises DataError, naming the file, when it is absent, truncated or not a kline file.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the path") from None
    if path.suffix == ".zip":
        data = unzip_single(data, str(path))
    return parse_kline_csv(data, str(path))


def unzip_single(data: bytes, where: str) -> bytes:
    """The one CSV inside a kline zip, its CRC checked; DataError names `where`."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as zipped:
            names = [info for info in zipped.infolist() if info.filename.endswith(".csv")]
            if len(names) != 1:
                raise DataError(f"{where}: holds {len(names)} CSV files, expected one; not a kline zip")
            if names[0].file_size > MAX_CSV:
                raise DataError(f"{where}: unpacks to {names[0].file_size >> 20} MiB, expected at most {MAX_CSV >> 20}")
            return zipped.read(names[0])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(f"{where}: not a whole zip file ({error}); fetch it again") from None


def parse_kline_csv(data: bytes, where: str = "kline CSV") -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Open times (ms, int64 (T,), strictly ascending) and closes (float64 (T,)) of a kline CSV.

    A header line is recognised by its first letter; stamps in microseconds become milliseconds. T may be 0. A close
    that is not a positive number is the caller's to judge. Raises DataError, naming `where` and the row (from 1,
    header not counted), for anything else than klines.
    """
    header = data[:1].isalpha() or data[:1] == b'"'
    body = data.partition(b"\n")[2] if header else data
    if not body.strip():
        return np.empty(0, np.int64), np.empty(0, np.float64)
    try:
        table = pacsv.read_csv(
            pa.py_buffer(body),
            read_options=pacsv.ReadOptions(autogenerate_column_names=True, use_threads=False),
            convert_options=pacsv.ConvertOptions(
                include_columns=["f0", "f4"], column_types={"f0": pa.int64(), "f4": pa.float64()}, null_values=[]
            ),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        columns = body.partition(b"\n")[0].count(b",") + 1
        said = " ".join(str(error).split())
        raise DataError(f"{where}: not klines of {_COLUMNS} columns ({columns} in the first row): {said}") from None
    open_ms = np.asarray(table.column("f0").to_numpy(), dtype=np.int64)
    close = np.asarray(table.column("f4").to_numpy(), dtype=np.float64)
    return _in_ms(open_ms, where), close


def _in_ms(stamps: NDArray[np.int64], where: str) -> NDArray[np.int64]:
    """Milliseconds from milliseconds or microseconds, checked to ascend."""
    micro = stamps >= _MICROSECONDS_FROM
    if micro.any():
        odd = np.flatnonzero(~micro | (stamps % 1000 != 0))
        if len(odd):
            raise DataError(f"{where}: row {odd[0] + 1}: open time {stamps[odd[0]]} among stamps in microseconds")
        stamps = stamps // 1000
    back = np.flatnonzero(np.diff(stamps) <= 0)
    if len(back):
        k = int(back[0]) + 1
        raise DataError(f"{where}: row {k + 1}: open time {stamps[k]} ms does not come after {stamps[k - 1]} ms")
    return stamps
