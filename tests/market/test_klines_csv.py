"""The exchange's kline CSV: headers, units of time, zips, and everything that is none."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.market.klines_csv import parse_kline_csv, read_kline_file, unzip_single
from tests.support.archive_server import HEADER

ROW = "{0},1.0,2.0,0.5,{1},10,{0},5,3,1,1,0"


def csv(stamps: list[int], closes: list[str], *, header: bool = False, end: str = "\n") -> bytes:
    rows = [ROW.format(t, c) for t, c in zip(stamps, closes, strict=True)]
    return (end.join([HEADER, *rows] if header else rows) + end).encode()


def zipped(*names: str, body: bytes = b"x") -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names:
            archive.writestr(name, body)
    return packed.getvalue()


@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_open_time_and_close_are_read(header: bool, end: str) -> None:
    stamps, closes = parse_kline_csv(
        csv([1704067200000, 1704067260000], ["42000.10", "0.00001234"], header=header, end=end)
    )
    assert stamps.tolist() == [1704067200000, 1704067260000]
    assert closes.tolist() == [42000.10, 0.00001234]
    assert (stamps.dtype, closes.dtype) == (np.int64, np.float64)


def test_microseconds_become_milliseconds() -> None:
    stamps, _ = parse_kline_csv(csv([1735689600000000, 1735689660000000], ["1", "2"]))
    assert stamps.tolist() == [1735689600000, 1735689660000]


@given(
    start=st.integers(1_500_000_000, 2_000_000_000),
    closes=st.lists(st.floats(1e-9, 1e9), min_size=1, max_size=30),
    micro=st.booleans(),
    header=st.booleans(),
)
def test_what_is_written_is_what_is_read(start: int, closes: list[float], micro: bool, header: bool) -> None:
    unit = 1_000_000 if micro else 1000
    stamps = [(start + 60 * k) * unit for k in range(len(closes))]
    got_stamps, got = parse_kline_csv(csv(stamps, [repr(c) for c in closes], header=header))
    assert got_stamps.tolist() == [(start + 60 * k) * 1000 for k in range(len(closes))]
    assert got.tolist() == closes


@pytest.mark.parametrize("data", [b"", b"\n", HEADER.encode(), HEADER.encode() + b"\n"])
def test_no_rows_is_no_error(data: bytes) -> None:
    stamps, closes = parse_kline_csv(data)
    assert len(stamps) == len(closes) == 0


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"<html><body>no</body></html>", "not klines of 12 columns"),
        (b"1,2,3\n", r"not klines of 12 columns \(3 in the first row\)"),
        (csv([1704067200000], ["dear"]), "here: not klines"),
        (csv([1704067200000, 1704067200000], ["1", "2"]), "row 2: open time 1704067200000 ms does not come after"),
        (csv([1704067260000, 1704067200000], ["1", "2"]), "row 2: open time 1704067200000 ms does not come after"),
        (csv([1735689600000, 1735689660000000], ["1", "2"]), "row 1: open time 1735689600000 among stamps in micro"),
        (csv([1735689600000001], ["1"]), "row 1: open time 1735689600000001 among"),
        (csv([1704067200000], ["1"]) + b"1704067260000,1.0\n", "here: not klines"),
    ],
)
def test_anything_else_is_refused_by_name(data: bytes, says: str) -> None:
    with pytest.raises(DataError, match=says) as refused:
        parse_kline_csv(data, "here")
    assert str(refused.value).startswith("here: ")
    assert "\n" not in str(refused.value)


def test_files_bare_and_zipped(tmp_path: Path) -> None:
    body = csv([1704067200000], ["7.5"])
    (tmp_path / "a.csv").write_bytes(body)
    (tmp_path / "a.zip").write_bytes(zipped("a.csv", body=body))
    for name in ("a.csv", "a.zip"):
        stamps, closes = read_kline_file(tmp_path / name)
        assert (stamps.tolist(), closes.tolist()) == ([1704067200000], [7.5])
    with pytest.raises(DataError, match="cannot be read"):
        read_kline_file(tmp_path / "absent.zip")


@pytest.mark.parametrize("cut", [0, 1, 30, -1, -23])
def test_a_truncated_zip_is_refused(cut: int) -> None:
    with pytest.raises(DataError, match="here: not a whole zip"):
        unzip_single(zipped("a.csv", body=csv([1], ["1"]) * 50)[:cut], "here")


def test_a_zip_with_a_flipped_byte_is_refused() -> None:
    data = bytearray(zipped("a.csv", body=csv([1704067200000], ["1"]) * 50))
    data[60] ^= 0xFF
    with pytest.raises(DataError, match="here: not a whole zip"):
        unzip_single(bytes(data), "here")


@pytest.mark.parametrize("names", [(), ("a.txt",), ("a.csv", "b.csv")])
def test_a_zip_of_other_things_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="expected one; not a kline zip"):
        unzip_single(zipped(*names), "here")
