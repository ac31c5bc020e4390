"""Archives: opened, selected, streamed and written whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import threading
import tracemalloc
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.archive import Archive, ArchiveWriter
from dolphin.market.archive_writer import REWRITING
from dolphin.market.dayfile import read_day, write_price_day, write_scan_day
from dolphin.market.manifest import MANIFEST_NAME, manifest_hash, read_manifest
from dolphin.market.tables import PriceDay, ScanDay
from tests.market.archive_support import (
    ASSETS,
    DAY,
    days_from,
    price_day,
    put,
    same,
    scan_day,
    table,
    tree,
    write_archive,
)
from tests.support.shared import recorded

DAYS = days_from(DAY, 4)


def test_what_is_written_is_what_is_streamed(tmp_path: Path) -> None:
    written = [scan_day(day) for day in DAYS]
    archive = write_archive(tmp_path / "a", written)
    assert (archive.kind, archive.bar_seconds, archive.assets) == ("scans", 60.0, ASSETS)
    assert archive.days == tuple(DAYS)
    for prefetch in (0, 1, 3, 10):
        assert all(same(a, b) for a, b in zip(archive.iter_days(prefetch=prefetch), written, strict=True))
    assert same(archive.read(DAYS[2]), written[2])
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_without_a_manifest_it_is_the_same_archive(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [price_day(day) for day in DAYS])
    (tmp_path / "a" / MANIFEST_NAME).unlink()
    bare = Archive.open(tmp_path / "a")
    assert bare.manifest is None
    assert (bare.kind, bare.bar_seconds, bare.days, bare.assets) == ("prices", 60.0, archive.days, archive.assets)
    assert bare.identity() == archive.identity()
    assert archive.manifest is not None
    assert archive.identity() == archive.manifest.content_hash


def test_the_universe_is_in_order_of_first_appearance(tmp_path: Path) -> None:
    columns = [("B", "A"), ("A", "C"), ("C", "B"), ("D",)]
    archive = write_archive(tmp_path / "a", [price_day(d, assets=c) for d, c in zip(DAYS, columns, strict=True)])
    for opened in (archive, _bare(archive)):
        assert opened.assets == ("B", "A", "C", "D")
        assert opened.select(DAYS[1], DAYS[2]).assets == ("A", "C", "B")
        assert opened.select(last=DAYS[0]).assets == ("B", "A")
        assert [day.assets for day in opened.iter_days()] == [("B", "A", "C", "D")] * 4
        assert opened.read(DAYS[1]).assets == ("A", "C")
        assert np.isnan(opened.read(DAYS[1], ("B",)).closes).all()
        assert [day.assets for day in opened.iter_days(("C",), prefetch=0)] == [("C",)] * 4


def _bare(archive: Archive) -> Archive:
    (archive.folder / MANIFEST_NAME).unlink()
    return Archive.open(archive.folder)


def test_select(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [price_day(day) for day in DAYS])
    part = archive.select(DAYS[1], DAYS[2])
    assert part.days == tuple(DAYS[1:3])
    assert [day.day for day in part.iter_days()] == DAYS[1:3]
    assert part.identity() != archive.identity()
    assert archive.select().identity() == archive.identity()
    assert part.identity() == manifest_hash(archive.entry(day) for day in DAYS[1:3])
    with pytest.raises(
        DataError, match="no day from 2022-01-01 to its end; the archive has 4, 2021-04-05 to 2021-04-08"
    ):
        archive.select(date(2022, 1, 1))


def test_an_identity_is_of_the_content_alone(tmp_path: Path) -> None:
    days = [price_day(day) for day in DAYS]
    a = write_archive(tmp_path / "a", days)
    for day in days:
        put(tmp_path / "b", table(day, "us"), day.day)
    assert Archive.open(tmp_path / "b").identity() == a.identity()
    days[3].closes[7, 1] = 1.0
    assert write_archive(tmp_path / "c", days).identity() != a.identity()
    assert tree(a.folder) == tree(write_archive(tmp_path / "d", [price_day(day) for day in DAYS]).folder)


@given(bar=st.sampled_from([0.1, 1, 5, 60, 300, 3600]), rows=st.integers(4, 20), drop=st.sets(st.integers(5, 19)))
def test_the_bar_length_is_inferred(
    tmp_path_factory: pytest.TempPathFactory, bar: float, rows: int, drop: set[int]
) -> None:
    folder = tmp_path_factory.mktemp("bars")
    kept = np.array([k for k in range(rows) if k not in drop])
    ts_ns = date_start_ns(DAY) + kept * round(bar * NS_PER_S)
    write_price_day(folder, PriceDay(DAY, ts_ns, ("A",), np.ones((len(kept), 1))))
    assert Archive.open(folder).bar_seconds == bar


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such directory"):
        Archive.open(tmp_path / "absent")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="not a directory"):
        Archive.open(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "prices.parquet").write_text("x")
    with pytest.raises(DataError, match="no day files"):
        Archive.open(tmp_path / "empty")
    (tmp_path / "empty" / "2021-02-30.parquet").write_text("x")
    with pytest.raises(DataError, match=r"2021-02-30.parquet: not the name of a day file"):
        Archive.open(tmp_path / "empty")


def test_mixed_kinds_and_bar_lengths_are_refused(tmp_path: Path) -> None:
    for name in ("kinds", "bars", "one"):
        (tmp_path / name).mkdir()
    write_price_day(tmp_path / "kinds", price_day(DAYS[0]))
    write_scan_day(tmp_path / "kinds", scan_day(DAYS[1]))
    with pytest.raises(DataError, match=r"2021-04-06.parquet: holds scans, but 2021-04-05.parquet holds prices"):
        Archive.open(tmp_path / "kinds")
    for day, bar in zip(DAYS, (60, 60, 300, 60), strict=True):
        write_price_day(tmp_path / "bars", price_day(day, bar=bar))
    with pytest.raises(DataError, match=r"2021-04-07.parquet: bars are 300 s apart, expected 60 s"):
        Archive.open(tmp_path / "bars")
    write_price_day(tmp_path / "one", price_day(rows=1))
    with pytest.raises(DataError, match="the bar length is unknown"):
        Archive.open(tmp_path / "one")


def test_a_corrupt_file_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [price_day(day) for day in DAYS])
    path = tmp_path / "a" / "2021-04-06.parquet"
    path.write_bytes(path.read_bytes()[:-50])
    for prefetch in (0, 1):
        with pytest.raises(DataError, match=r"2021-04-06.parquet: not a whole Parquet file"):
            list(archive.iter_days(prefetch=prefetch))
    (tmp_path / "a" / MANIFEST_NAME).unlink()
    with pytest.raises(DataError, match=r"2021-04-06.parquet: not a whole Parquet file"):
        Archive.open(tmp_path / "a")


def test_an_altered_archive_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [price_day(day) for day in DAYS])
    stale = price_day(DAYS[1])
    stale.closes[4, 0] = 3.0
    write_price_day(archive.folder, stale, stale_on=DAY)
    with pytest.raises(
        DataError, match=r"2021-04-06.parquet: hash \w+, but the manifest says \w+; the file was changed"
    ):
        Archive.open(archive.folder).read(DAYS[1])
    write_price_day(archive.folder, price_day(DAYS[1], rows=19), stale_on=DAY)
    with pytest.raises(DataError, match="rows 19, but the manifest says 20"):
        list(archive.iter_days())
    put(archive.folder, table(scan_day(DAYS[1])), DAYS[1])
    with pytest.raises(DataError, match="holds scans, expected prices"):
        archive.read(DAYS[1])
    write_price_day(archive.folder, price_day(date(2021, 5, 1)))
    with pytest.raises(DataError, match=r"2021-05-01.parquet: is not in the manifest"):
        Archive.open(archive.folder)
    (archive.folder / "2021-05-01.parquet").unlink()
    (archive.folder / "2021-04-08.parquet").unlink()
    with pytest.raises(DataError, match=r"2021-04-08.parquet: is in the manifest but not in the folder"):
        Archive.open(archive.folder)


def test_a_broken_manifest_is_refused(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [price_day(day) for day in DAYS])
    path = archive.folder / MANIFEST_NAME
    good = path.read_text()
    assert archive.manifest is not None
    digest = archive.manifest.days[0].hash
    spoilt = {
        "": "not an archive's manifest",
        good[:200]: "not an archive's manifest",
        "{}": "not an archive's manifest",
        good.replace('"schema": 1', '"schema": 2'): "schema 2, expected 1",
        good.replace('"prices"', '"books"'): "not an archive's manifest",
        good.replace('"source"', '"origin"'): "not an archive's manifest",
        good.replace(digest, "0" * 64): "it was edited",
        good.replace("2021-04-08", "2021-04-04"): "its days do not ascend",
    }
    for text, says in spoilt.items():
        path.write_text(text)
        with pytest.raises(DataError, match=says):
            Archive.open(archive.folder)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(DataError, match="not an archive's manifest"):
        Archive.open(archive.folder)
    path.write_text(good)
    assert read_manifest(archive.folder) == archive.manifest


def stop_writing(writer: ArchiveWriter, error: type[BaseException], *days: PriceDay) -> None:
    """Write some days, then fail."""
    with writer:
        for day in days:
            writer.write(day)
        raise error


def test_nothing_is_left_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "er" / "a"
    for error in (RuntimeError, KeyboardInterrupt):
        with pytest.raises(error):
            stop_writing(ArchiveWriter(target, "prices", 60), error, price_day())
    with pytest.raises(DataError, match="no day to write"), ArchiveWriter(target, "prices", 60):
        pass
    assert not list(tmp_path.iterdir())
    assert write_archive(target, [price_day()]).days == (DAY,)


def test_days_that_do_not_belong_are_refused(tmp_path: Path) -> None:
    day, scans = price_day(), scan_day()
    for kind, bar, says, days in (
        ("scans", 60, "holds prices, expected scans", [day]),
        ("prices", 60, "holds scans, expected prices", [scans]),
        ("prices", 60, "expected days that ascend", [day, price_day()]),
        ("prices", 60, "expected days that ascend", [day, price_day(date(2021, 4, 4))]),
        ("prices", 5, "bars are 60 s apart, expected 5 s", [day]),
    ):
        with pytest.raises(DataError, match=says):
            stop_writing(ArchiveWriter(tmp_path / "a", kind, bar), AssertionError, *days)  # type: ignore[arg-type]
    for bar in (0.0, -1.0, 90_000.0, float("nan")):
        with pytest.raises(ConfigError, match="bar_seconds"):
            ArchiveWriter(tmp_path / "a", "prices", bar)
    with pytest.raises(ConfigError, match="kind 'books'"):
        ArchiveWriter(tmp_path / "a", "books", 60)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_an_archive_is_replaced_only_by_force(tmp_path: Path) -> None:
    folder = tmp_path / "a"
    old = write_archive(folder, [price_day(day) for day in DAYS[:3]])
    before = tree(folder)
    with pytest.raises(ConfigError, match=r"already holds an archive of 4 files; .* --force"):
        ArchiveWriter(folder, "prices", 60)
    with pytest.raises(RuntimeError):
        stop_writing(ArchiveWriter(folder, "prices", 60, force=True), RuntimeError, price_day(seed=2))
    assert tree(folder) == before
    (folder / "notes.txt").write_text("mine")
    (folder / "raw").mkdir()
    with ArchiveWriter(folder, "prices", 60, force=True, stale_on=date(2026, 1, 2)) as writer:
        writer.write(price_day(DAYS[1]))  # as it was
        writer.write(price_day(DAYS[2], seed=2))
        writer.write(price_day(DAYS[3]))
    new = Archive.open(folder)
    assert new.days == tuple(DAYS[1:])
    assert (
        list(map(same, new.iter_days(), [price_day(DAYS[1]), price_day(DAYS[2], seed=2), price_day(DAYS[3])]))
        == [True] * 3
    )
    assert sorted(p.name for p in folder.iterdir()) == [
        "2021-04-05.parquet.STALE_20260102",
        "2021-04-06.parquet",
        "2021-04-07.parquet",
        "2021-04-07.parquet.STALE_20260102",
        "2021-04-08.parquet",
        "manifest.json",
        "manifest.json.STALE_20260102",
        "notes.txt",
        "raw",
    ]
    kept = read_day(folder / "2021-04-07.parquet.STALE_20260102")
    assert same(kept, price_day(DAYS[2]))
    assert old.manifest != new.manifest


def test_a_folder_of_other_things_takes_an_archive(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "x").write_text("x")
    write_archive(tmp_path, [price_day()])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["2021-04-05.parquet", "manifest.json", "raw"]


def test_a_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigError, match="cannot be written"):
            ArchiveWriter(target, "prices", 60)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigError, match=r"cannot be written .permission denied."):
        ArchiveWriter(tmp_path / "a", "prices", 60)
    monkeypatch.undo()

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "mkdir", full)
    with pytest.raises(ConfigError, match=r"cannot be written .No space"), ArchiveWriter(tmp_path / "a", "prices", 60):
        pass


def test_two_writers_do_not_share_a_folder(tmp_path: Path) -> None:
    with ArchiveWriter(tmp_path / "a", "prices", 60) as first:
        first.write(price_day())
        with (
            pytest.raises(ConfigError, match="another process is writing"),
            ArchiveWriter(tmp_path / "a", "prices", 60),
        ):
            pass
    assert Archive.open(tmp_path / "a").days == (DAY,)


def _die_writing(folder: Path) -> None:
    with ArchiveWriter(folder, "prices", 60) as writer:
        writer.write(price_day())
        os._exit(9)


@pytest.mark.parametrize("exists", [False, True])
def test_a_killed_writer_is_cleared_away_by_the_next(tmp_path: Path, exists: bool) -> None:
    folder = tmp_path / "a"
    if exists:
        folder.mkdir()
    process = multiprocessing.get_context("spawn").Process(target=_die_writing, args=(folder,))
    process.start()
    process.join()
    assert process.exitcode == 9
    with pytest.raises(DataError):
        Archive.open(folder)
    assert write_archive(folder, [price_day(DAYS[1])]).days == (DAYS[1],)
    assert sorted(tree(tmp_path)) == ["a/2021-04-06.parquet", "a/manifest.json"]


def test_an_interrupted_replacement_is_refused_until_it_is_done_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "a"
    write_archive(folder, [price_day(day) for day in DAYS])
    replace = Path.replace

    def cut(self: Path, target: Path) -> Path:
        if target.name == "2021-04-07.parquet" and target.parent == folder:
            raise KeyboardInterrupt
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        write_archive(folder, [price_day(day, seed=2) for day in DAYS], force=True)
    monkeypatch.undo()
    assert (folder / REWRITING).exists()
    with pytest.raises(DataError, match="was being rewritten when the writer stopped"):
        Archive.open(folder)
    with pytest.raises(ConfigError, match="--force"):
        ArchiveWriter(folder, "prices", 60)
    again = write_archive(folder, [price_day(day, seed=2) for day in DAYS], force=True)
    assert all(same(a, price_day(a.day, seed=2)) for a in again.iter_days())
    # every old day is still there, aside
    assert len(list(folder.glob("2021-*.STALE_*"))) >= 4


def test_the_universe_of_a_scan_is_mapped_with_its_signals(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [scan_day(DAYS[0]), scan_day(DAYS[1], assets=("NEWUSDT", *ASSETS))])
    days = list(archive.iter_days())
    assert [type(day) for day in days] == [ScanDay, ScanDay]
    assert archive.assets == (*ASSETS, "NEWUSDT")
    assert np.array_equal(
        days[1].closes[:, :3], scan_day(DAYS[1], assets=("NEWUSDT", *ASSETS)).closes[:, 1:], equal_nan=True
    )


def test_leaving_a_stream_early_leaves_no_thread(tmp_path: Path) -> None:
    archive = write_archive(tmp_path / "a", [price_day(day) for day in DAYS])
    before = threading.active_count()
    stream = archive.iter_days(prefetch=2)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


@pytest.mark.slow
def test_a_year_streams_in_the_memory_of_a_week(tmp_path: Path) -> None:
    first = write_archive(tmp_path / "a", [scan_day(day, rows=1440) for day in days_from(DAY, 14)])
    files = {day: first.folder / f"{day}.parquet" for day in first.days}

    def peak(days: int) -> int:
        part = first.select(last=first.days[days - 1])
        tracemalloc.start()
        for _ in part.iter_days():
            pass
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    peak(2)
    assert peak(14) < peak(5) * 1.2
    assert all(path.exists() for path in files.values())


def test_recorded_markets_open_without_a_manifest() -> None:
    for name, bar, days in (("spot_1m_2021", 60, 21), ("perp_1m_2025", 60, 43), ("perp_5m_2023", 300, 21)):
        archive = Archive.open(recorded(name))
        assert (archive.kind, archive.bar_seconds, len(archive.days)) == ("prices", bar, days)
    day = next(archive.iter_days())
    assert day.assets == archive.assets
    assert pq.read_schema(archive.folder / f"{day.day}.parquet").names[1:] == list(archive.read(day.day).assets)
