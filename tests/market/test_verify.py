"""Verification: a sound archive passes, each kind of damage is a line, a rebuild is compared value by value."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.market.archive import Archive
from dolphin.market.dayfile import read_day, write_price_day, write_scan_day
from dolphin.market.manifest import MANIFEST_NAME
from dolphin.market.tables import SIGNAL_COLUMNS, ScanDay
from dolphin.market.verify import Gap, compare_days, compare_rebuild, verify_archive
from tests.market.archive_support import ASSETS, DAY, days_from, price_day, put, scan_day, table, write_archive
from tests.support.shared import recorded

DAYS = days_from(DAY, 4)


@pytest.mark.parametrize("manifest", [True, False])
def test_a_sound_archive(tmp_path: Path, manifest: bool) -> None:
    archive = write_archive(tmp_path, [scan_day(day, rows=24, bar=3600) for day in DAYS], bar=3600)
    if not manifest:
        (tmp_path / MANIFEST_NAME).unlink()
    counted: list[int] = []
    report = verify_archive(tmp_path, counted.append)
    assert report.ok
    assert (report.kind, report.bar_seconds, report.expected_rows) == ("scans", 3600.0, 24)
    assert report.rows == dict.fromkeys(DAYS, 24)
    assert (report.gaps, report.has_manifest, report.content_hash) == ([], manifest, archive.identity())
    assert sum(counted) == 4


def test_gaps_within_and_between_days_are_listed(tmp_path: Path) -> None:
    first, second, third = (price_day(day, rows=24, bar=3600) for day in (DAYS[0], DAYS[1], DAYS[3]))
    keep = np.ones(24, bool)
    keep[[4, 5, 9, 22, 23]] = False
    first = dataclasses.replace(first, ts_ns=first.ts_ns[keep], closes=first.closes[keep])
    second = dataclasses.replace(second, ts_ns=second.ts_ns[1:], closes=second.closes[1:])
    write_archive(tmp_path, [first, second, third], bar=3600)
    report = verify_archive(tmp_path)
    assert report.ok, "any number of rows is legal"
    assert report.rows == {DAYS[0]: 19, DAYS[1]: 23, DAYS[3]: 24}
    assert report.gaps == [
        Gap("2021-04-05T03:00:00Z", "2021-04-05T06:00:00Z", 2),
        Gap("2021-04-05T08:00:00Z", "2021-04-05T10:00:00Z", 1),
        Gap("2021-04-05T21:00:00Z", "2021-04-06T01:00:00Z", 3),
        Gap("2021-04-06T23:00:00Z", "2021-04-08T00:00:00Z", 24),
    ]


def test_every_damage_is_a_line_and_the_rest_is_still_checked(tmp_path: Path) -> None:
    write_archive(tmp_path, [price_day(day) for day in days_from(DAY, 7)])
    paths = [tmp_path / f"{day}.parquet" for day in days_from(DAY, 7)]
    changed = price_day(DAYS[0])
    changed.closes[3, 1] = 9.0
    write_price_day(tmp_path, changed, stale_on=DAY)
    paths[1].write_bytes(paths[1].read_bytes()[:-9])
    put(tmp_path, table(scan_day(DAYS[2])), DAYS[2])
    paths[3].unlink()
    write_price_day(tmp_path, price_day(date(2021, 5, 1), bar=300))
    put(tmp_path, table(scan_day(date(2021, 4, 9))).drop_columns(["vel_div"]), date(2021, 4, 9))
    report = verify_archive(tmp_path)
    assert not report.ok
    assert len(report.rows) == 5
    assert report.content_hash is None
    assert report.set_aside == 1
    for path, says in {
        paths[3]: "is in the manifest but not in the folder",
        tmp_path / "2021-05-01.parquet": "is not in the manifest",
        paths[0]: "but the manifest says",
        paths[1]: "not a whole Parquet file",
        paths[2]: "holds scans, expected prices",
        paths[4]: "column 'vel_div' is missing",
    }.items():
        assert [line for line in report.problems if line.startswith(f"{path}: ") and says in line], says
    assert any("bars are 300 s apart, expected 60 s" in line for line in report.problems)
    assert not [line for line in report.problems if line.startswith((str(paths[5]), str(paths[6])))]


def test_a_broken_manifest_is_a_failed_check(tmp_path: Path) -> None:
    write_archive(tmp_path, [price_day(day) for day in DAYS])
    path = tmp_path / MANIFEST_NAME
    path.write_text(path.read_text().replace('"rows": 20', '"rows": "many"', 1))
    report = verify_archive(tmp_path)
    assert [line for line in report.problems if "not an archive's manifest" in line]
    assert report.has_manifest
    assert report.bar_seconds == 60


def test_nothing_to_verify(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no day files"):
        verify_archive(tmp_path)
    with pytest.raises(DataError, match="no such directory"):
        verify_archive(tmp_path / "absent")
    (tmp_path / "2021-04-05.parquet").write_bytes(b"PAR1")
    report = verify_archive(tmp_path)
    assert (report.ok, report.bar_seconds, report.expected_rows, report.kind) == (False, None, None, None)
    write_price_day(tmp_path, price_day(DAYS[1], rows=1))
    assert not verify_archive(tmp_path).gaps


def rebuilt(archive: Archive) -> Iterator[ScanDay]:
    for day in archive.iter_days():
        assert isinstance(day, ScanDay)
        yield dataclasses.replace(day, signals=day.signals + 4e-11, scan_number=day.scan_number + 5)


def test_a_rebuild_that_agrees(tmp_path: Path) -> None:
    archive = write_archive(tmp_path, [scan_day(day) for day in DAYS])
    counted: list[int] = []
    assert compare_rebuild(archive, rebuilt(archive), counted.append) is None
    assert sum(counted) == 4


@given(
    row=st.integers(0, 19),
    column=st.integers(0, 9),
    size=st.sampled_from([2e-10, -1e-6, 5.0, np.nan]),
    lost=st.booleans(),
)
def test_the_first_difference_is_found(row: int, column: int, size: float, lost: bool) -> None:
    mine = scan_day()
    values = np.hstack([mine.signals, mine.closes])
    before = values[row, column]
    values[row, column] = 1.25 if np.isnan(before) else before + size
    if row < 19:
        values[19, 9] = 77.0  # a later one is not reported
    other = dataclasses.replace(mine, signals=values[:, :7].copy(), closes=values[:, 7:].copy())
    a, b = (other, mine) if lost else (mine, other)
    found = compare_days(a, b)
    assert found is not None
    assert (found.day, found.row, found.column) == (DAY, row, (*SIGNAL_COLUMNS, *ASSETS)[column])
    expected = (repr(float(values[row, column])), repr(float(before)))
    assert (found.archive, found.rebuilt) == (expected if lost else expected[::-1])
    assert found.line().startswith(
        f"2021-04-05, row {row}, {found.column}: the archive has {found.archive}, the rebuild"
    )


def test_other_differences(tmp_path: Path) -> None:
    mine = scan_day()
    later = mine.ts_ns.copy()
    later[6:] += 1
    short = dataclasses.replace(
        mine, ts_ns=mine.ts_ns[:9], closes=mine.closes[:9], signals=mine.signals[:9], scan_number=mine.scan_number[:9]
    )
    for other, row, column, values in (
        (
            dataclasses.replace(mine, ts_ns=later),
            6,
            "timestamp",
            ("2021-04-05T00:06:00Z", "2021-04-05T00:06:00.000000001Z"),
        ),
        (short, None, "rows", ("20", "9")),
        (dataclasses.replace(mine, assets=("A", "B", "C")), None, "assets", (",".join(ASSETS), "A,B,C")),
    ):
        found = compare_days(mine, other)
        assert found is not None
        assert (found.row, found.column, found.archive, found.rebuilt) == (row, column, *values)
    archive = write_archive(tmp_path, [scan_day(day) for day in DAYS])
    for rebuild, day, archived, made in (
        ([scan_day(d) for d in DAYS[:3]], DAYS[3], "a day file", "none"),
        ([scan_day(d) for d in days_from(DAY, 5)], date(2021, 4, 9), "none", "a day file"),
        ([scan_day(d) for d in DAYS[1:]], DAYS[0], "a day file", "none"),
        ([scan_day(d) for d in days_from(date(2021, 4, 4), 5)], date(2021, 4, 4), "none", "a day file"),
    ):
        found = compare_rebuild(archive, rebuild)
        assert found is not None
        assert (found.day, found.column, found.archive, found.rebuilt) == (day, "day", archived, made)
    prices = write_archive(tmp_path / "prices", [price_day()])
    with pytest.raises(DataError, match="holds prices; --rebuild compares scans"):
        compare_rebuild(prices, [])


def test_a_stale_day_shows_in_the_rebuild(tmp_path: Path) -> None:
    """The documents' hazard: one day of an archive was computed by an older scanner."""
    archive = write_archive(tmp_path, [scan_day(day) for day in DAYS])
    fresh = list(rebuilt(archive))
    stale = scan_day(DAYS[2])
    stale.signals[11, 4] += 3e-10
    write_scan_day(tmp_path, stale, stale_on=DAY)
    (tmp_path / MANIFEST_NAME).unlink()
    found = compare_rebuild(Archive.open(tmp_path), fresh)
    assert found is not None
    assert (found.day, found.row, found.column) == (DAYS[2], 11, "v750_lambda_max_velocity")


def test_recorded_outage() -> None:
    report = verify_archive(recorded("spot_1m_2021"))
    assert report.ok
    assert report.gaps == [Gap("2021-04-20T01:59:00Z", "2021-04-20T04:30:00Z", 150)]
    assert (report.rows[date(2021, 4, 20)], report.expected_rows) == (1290, 1440)
    path = recorded("spot_1m_2021") / "2021-04-20.parquet"
    assert read_day(path).rows == pq.ParquetFile(path).metadata.num_rows
