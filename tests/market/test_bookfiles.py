"""Book files, folders of them, the recorder and the replay's provider: round trips, midnight, kills, and refusals in
one line (SPEC §1.4, §8)."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.book.layout import SNAPSHOT
from dolphin.book.snapshots import make_snapshot, no_snapshots
from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.records import Record, records
from dolphin.market.bookarchive import RECORDING, BookArchive, RecordedBookProvider, unfinished_days
from dolphin.market.bookfiles import AMOUNTS, BookDay, book_day, read_book_day, write_book_day
from dolphin.market.bookfolder import BookFolder
from dolphin.market.bookwriter import BookWriter, day_rows, nanoseconds
from tests.reference.bookaccount_ref import shown
from tests.support.books import book_days, in_memory, write_books
from tests.support.runs import ASSETS, FIRST, scan_days

DAYS = scan_days(3, 200)
BOOKS = book_days(DAYS, 3)
NEXT = FIRST + timedelta(days=1)


def same(one: BookDay, other: BookDay) -> bool:
    arrays = zip((one.ts_ns, one.asset, one.amounts), (other.ts_ns, other.asset, other.amounts), strict=True)
    return one.day == other.day and one.assets == other.assets and all(np.array_equal(a, b) for a, b in arrays)


def flat(at_s: float, usd: float = 5.0) -> Record:
    """A book of `usd` in every band, stamped `at_s` seconds after the first midnight."""
    return make_snapshot(date_start_ns(FIRST) / NS_PER_S + at_s, [usd] * 5, [usd] * 5)


def one_by_one(*snapshots: Record) -> Record:
    rows = records(SNAPSHOT, len(snapshots))
    for k, snapshot in enumerate(snapshots):
        rows[k] = snapshot
    return rows


def now(at_s: float) -> int:
    return date_start_ns(FIRST) + round(at_s * NS_PER_S)


# --- one file ---


def test_a_day_comes_back_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / f"{FIRST}.parquet"
    write_book_day(path, BOOKS[0])
    assert same(read_book_day(path), BOOKS[0])
    assert BOOKS[0].rows > 700
    names = pq.ParquetFile(path).schema_arrow.names
    assert names == ["timestamp", "symbol", *AMOUNTS]


def test_snapshots_of_an_asset_are_its_rows() -> None:
    day = BOOKS[0]
    rows = day.snapshots("ETHUSDT")
    mine = [k for k in range(day.rows) if day.assets[day.asset[k]] == "ETHUSDT"]
    assert len(rows) == len(mine)
    assert rows[7].timestamp == int(day.ts_ns[mine[7]]) / NS_PER_S
    assert rows[7].bid_notional.tolist() == day.amounts[mine[7], :5].tolist()
    assert rows[7].ask_depth.tolist() == day.amounts[mine[7], 15:].tolist()
    assert len(day.snapshots("NONEUSDT")) == 0


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["AUSDT", "BUSDT"]), st.floats(0.0, 1e12)),
        unique_by=lambda r: r[:2],
        min_size=1,
    )
)
def test_rows_in_any_order_make_the_same_day(rows: list[tuple[int, str, float]]) -> None:
    def made(listed: list[tuple[int, str, float]]) -> BookDay:
        start = date_start_ns(FIRST)
        stamps = np.array([start + r[0] for r in listed], np.int64)
        return book_day(FIRST, stamps, [r[1] for r in listed], np.array([[r[2]] * 20 for r in listed]))

    assert same(made(rows), made(rows[::-1]))
    assert made(rows).ts_ns.tolist() == sorted(date_start_ns(FIRST) + r[0] for r in rows)


def table_of(day: BookDay, path: Path) -> pa.Table:
    write_book_day(path, day)
    return pq.ParquetFile(path).read()


def cell(table: pa.Table, name: str, row: int, value: float | None) -> pa.Table:
    values = table.column(name).to_pylist()
    values[row] = value
    return table.set_column(
        table.schema.get_field_index(name), table.schema.field(name), pa.array(values, pa.float64())
    )


REFUSALS: list[tuple[Callable[[pa.Table], pa.Table], str]] = [
    (lambda t: t.drop_columns(["ask_notional_3"]), "column 'ask_notional_3' is missing"),
    (lambda t: t.append_column("extra", t.column("ask_depth_0")), "column 'extra' is none of a book file"),
    (lambda t: t.append_column("symbol", t.column("symbol")), "column 'symbol' is there twice"),
    (
        lambda t: t.set_column(0, "timestamp", t.column(0).cast(pa.timestamp("us", "UTC"), safe=False)),
        "'timestamp' holds",
    ),
    (lambda t: t.set_column(1, "symbol", pa.array([1] * t.num_rows)), "column 'symbol' holds int64"),
    (lambda t: cell(t, "bid_notional_2", 5, float("nan")), "column 'bid_notional_2', row 5: nan; expected a finite"),
    (lambda t: cell(t, "ask_depth_4", 6, -1.0), "column 'ask_depth_4', row 6: -1.0; expected a finite"),
    (lambda t: cell(t, "ask_depth_4", 6, float("inf")), "column 'ask_depth_4', row 6: inf"),
    (lambda t: cell(t, "ask_depth_4", 6, None), "column 'ask_depth_4', row 6: no value"),
    (lambda t: pa.concat_tables([t.slice(0, 5), t.slice(4)]), "row 5: a second snapshot of"),
    (lambda t: pa.concat_tables([t.slice(10), t.slice(0, 10)]), "is out of order: 2024-01-01T"),
]


@pytest.mark.parametrize(("change", "words"), REFUSALS)
def test_a_bad_file_is_refused_in_one_line(change: Callable[[pa.Table], pa.Table], words: str, tmp_path: Path) -> None:
    path = tmp_path / f"{FIRST}.parquet"
    pq.write_table(change(table_of(BOOKS[0], path)), path)
    with pytest.raises(DataError) as refused:
        read_book_day(path)
    said = str(refused.value)
    assert words in said
    assert said.startswith(str(path))
    assert "\n" not in said


def test_rows_of_another_day_and_torn_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{NEXT}.parquet"
    write_book_day(path, BOOKS[0])
    with pytest.raises(DataError, match="row 0: 2024-01-01T00:00:00Z lies outside 2024-01-02"):
        read_book_day(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        read_book_day(path)


# --- a folder ---


def test_a_folder_says_what_it_holds(tmp_path: Path) -> None:
    folder = write_books(tmp_path / "books", BOOKS)
    archive = BookArchive.open(folder)
    assert archive.days == tuple(day.day for day in BOOKS)
    assert archive.assets == tuple(sorted(ASSETS))
    assert same(archive.read(NEXT), BOOKS[1])
    assert archive.manifest.rows == sum(day.rows for day in BOOKS)
    part = archive.select(NEXT, NEXT)
    assert part.days == (NEXT,)
    assert part.identity() != archive.identity()
    again = write_books(tmp_path / "again", book_days(DAYS, 3))
    assert BookArchive.open(again).identity() == archive.identity()


def spoil(folder: Path, what: str) -> None:
    path = folder / f"{NEXT}.parquet"
    if what == "gone":
        path.unlink()
    elif what == "more":
        (folder / "2024-02-01.parquet").write_bytes(path.read_bytes())
    elif what == "no manifest":
        (folder / "manifest.json").unlink()
    elif what == "edited":
        told = json.loads((folder / "manifest.json").read_text())
        told["days"][0]["rows"] += 1
        told["content_hash"] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(told))
    elif what == "prices":
        (folder / "manifest.json").write_text('{"schema": 1, "kind": "prices"}')
    elif what == "version":
        told = json.loads((folder / "manifest.json").read_text())
        (folder / "manifest.json").write_text(json.dumps({**told, "schema": 9}))
    elif what == "empty":
        for each in folder.iterdir():
            each.unlink()


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("gone", "2024-01-02.parquet: is in the manifest but not in the folder"),
        ("more", "2024-02-01.parquet: is not in the manifest"),
        ("no manifest", "no manifest.json"),
        ("edited", "it was edited"),
        ("prices", "not the manifest of recorded books"),
        ("version", "schema 9, expected 1"),
        ("empty", "no day files"),
    ],
)
def test_a_folder_that_is_not_what_it_says_is_refused(what: str, words: str, tmp_path: Path) -> None:
    folder = write_books(tmp_path / "books", BOOKS)
    spoil(folder, what)
    with pytest.raises(DataError) as refused:
        BookArchive.open(folder)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_day_that_was_changed_is_noticed(tmp_path: Path) -> None:
    folder = write_books(tmp_path / "books", BOOKS)
    day = BOOKS[1]
    amounts = day.amounts.copy()
    amounts[100, 0] += 1.0
    write_book_day(folder / f"{NEXT}.parquet", BookDay(day.day, day.ts_ns, day.assets, day.asset, amounts))
    with pytest.raises(DataError, match=r"hash .* but the manifest says"):
        BookArchive.open(folder).read(NEXT)


def test_a_folder_is_whole_or_absent(tmp_path: Path) -> None:
    def interrupted() -> None:
        with BookFolder(tmp_path / "books", {}) as shelf:
            shelf.write(BOOKS[0])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert list(tmp_path.iterdir()) == []
    folder = write_books(tmp_path / "books", BOOKS[:1])
    with pytest.raises(ConfigError, match=r"already holds 2 files; .* --force"):
        BookFolder(folder, {})
    with BookFolder(folder, {}, force=True) as shelf:
        shelf.write(BOOKS[1])
    assert BookArchive.open(folder).days == (NEXT,)
    assert list(tmp_path.iterdir()) == [folder]
    (folder / "mine.txt").write_text("x")
    with pytest.raises(ConfigError, match=r"holds mine.txt, which is no book"):
        BookFolder(folder, {}, force=True)


# --- the replay's provider ---


def test_the_provider_shows_what_a_plain_search_finds(tmp_path: Path) -> None:
    provider = RecordedBookProvider(BookArchive.open(write_books(tmp_path / "b", BOOKS)), ASSETS)
    memory = in_memory(BOOKS, ASSETS)
    for day in DAYS:
        moments = day.ts_ns / NS_PER_S
        found, plain = no_snapshots(day.rows, len(ASSETS)), no_snapshots(day.rows, len(ASSETS))
        provider.fill_snapshots(ASSETS, moments, found)
        memory.fill_snapshots(ASSETS, moments, plain)
        assert found.tobytes() == plain.tobytes()
    for k, want in enumerate(shown(BOOKS[:1], ASSETS, DAYS[0].ts_ns.tolist())):
        for asset in ASSETS:
            snapshot = provider.get_snapshot(asset, float(DAYS[0].ts_ns[k]) / NS_PER_S)
            assert (snapshot is None) == (asset not in want)
            if snapshot is not None:
                assert (snapshot.timestamp, snapshot.bid_notional.tolist()) == want[asset][:2]
    assert np.array_equal(provider.get_all_timestamps("BTCUSDT"), memory.get_all_timestamps("BTCUSDT"))


def test_the_evening_before_reaches_over_midnight_and_no_further(tmp_path: Path) -> None:
    evening = date_start_ns(NEXT) - 5 * NS_PER_S
    day = book_day(FIRST, np.array([evening]), ["BTCUSDT"], np.ones((1, 20)))
    provider = RecordedBookProvider(BookArchive.open(write_books(tmp_path / "b", [day])), ("BTCUSDT",))
    midnight = date_start_ns(NEXT) / NS_PER_S
    assert provider.get_snapshot("BTCUSDT", midnight - 6.0) is None
    for later in (midnight, midnight + 80_000.0):
        snapshot = provider.get_snapshot("BTCUSDT", later)
        assert snapshot is not None
        assert snapshot.timestamp == midnight - 5.0
    assert provider.get_snapshot("BTCUSDT", midnight + 86_400.0) is None
    both = no_snapshots(2, 1)
    provider.fill_snapshots(("BTCUSDT",), np.array([midnight - 1.0, midnight + 1.0]), both)
    assert both["timestamp"].ravel().tolist() == [midnight - 5.0] * 2


# --- the recorder ---


def record(folder: Path, books: list[BookDay], **options: int) -> BookWriter:
    with BookWriter(folder, {"made_by": "a test"}, **options) as writer:
        for day in books:
            names, rows = day_rows(day)
            for first in range(0, len(rows), 97):
                part = slice(first, first + 97)
                writer.append(names[part], rows[part], int(day.ts_ns[part][-1]))
    return writer


@pytest.mark.parametrize("piece_rows", [10, 300, 50_000])
def test_recorded_row_by_row_the_folder_is_the_same(piece_rows: int, tmp_path: Path) -> None:
    writer = record(tmp_path / "a", BOOKS, piece_rows=piece_rows)
    archive = BookArchive.open(tmp_path / "a")
    assert all(same(archive.read(day.day), day) for day in BOOKS)
    assert writer.counts == {"taken": archive.manifest.rows, "repeated": 0, "refused": 0, "late": 0}
    assert archive.identity() == BookArchive.open(write_books(tmp_path / "b", BOOKS)).identity()
    assert not (tmp_path / "a" / RECORDING).exists()


def test_a_killed_recorder_loses_no_finished_piece_and_its_torn_one_is_set_aside(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    writer = BookWriter(folder, piece_rows=100).__enter__()
    names, rows = day_rows(BOOKS[0])
    for first in range(0, 250, 10):
        writer.append(names[first : first + 10], rows[first : first + 10], int(BOOKS[0].ts_ns[first + 9]))
    writer._release()  # killed: 200 rows in two pieces, 50 in memory, and a third piece torn
    (folder / RECORDING / f"{FIRST}.000003.parquet").write_bytes(b"PAR1 half")
    (folder / RECORDING / f".{FIRST}.000004.parquet.1.0.tmp").write_bytes(b"PAR1")
    assert unfinished_days(folder) == (FIRST,)
    with pytest.raises(DataError, match="never finished; start the recorder there again"):
        BookArchive.open(folder)
    with BookWriter(folder) as again:
        assert [path.name for path in again.torn] == [f"{FIRST}.000003.parquet.TORN"]
        again.append(names[190:300], rows[190:300], int(BOOKS[0].ts_ns[299]))  # ten rows once more
    found = BookArchive.open(folder).read(FIRST)
    assert found.rows == 300
    assert np.array_equal(found.ts_ns, BOOKS[0].ts_ns[:300])
    assert np.array_equal(found.amounts, BOOKS[0].amounts[:300])


def test_a_day_is_finished_a_minute_after_midnight_and_goes_on_after_a_stop(tmp_path: Path) -> None:
    folder = tmp_path / "books"
    one = ["BTCUSDT"]
    with BookWriter(folder) as writer:
        writer.append(one, one_by_one(flat(86_390.0)), now(86_391.0))
        writer.append(one, one_by_one(flat(86_405.0)), now(86_406.0))
        assert writer.append(["ETHUSDT"], one_by_one(flat(86_399.0)), now(86_430.0)) == 1, "within the minute"
        assert not (folder / f"{FIRST}.parquet").exists()
        writer.append(one, one_by_one(flat(86_460.0)), now(86_460.0))
        assert read_book_day(folder / f"{FIRST}.parquet").rows == 2
        assert writer.append(["SOLUSDT"], one_by_one(flat(86_399.0)), now(86_461.0)) == 0
        assert writer.counts["late"] == 1
    assert BookArchive.open(folder).read(NEXT).rows == 2
    with BookWriter(folder) as writer:
        writer.append(one, one_by_one(flat(86_470.0)), now(86_470.0))
    assert BookArchive.open(folder).read(NEXT).rows == 3
    assert BookArchive.open(folder).days == (FIRST, NEXT)


def test_only_new_and_sound_snapshots_are_recorded(tmp_path: Path) -> None:
    bad = flat(30.0)
    bad.ask_depth[2] = -1.0
    with BookWriter(tmp_path / "b") as writer:
        assert writer.append(["BTCUSDT"], one_by_one(flat(10.0)), now(10.0)) == 1
        assert writer.append(["BTCUSDT"] * 2, one_by_one(flat(10.0), flat(9.0)), now(11.0)) == 0
        assert writer.append(["BTCUSDT"] * 2, one_by_one(bad, flat(95.0)), now(30.0)) == 0, "unsound; 65 s ahead"
        assert writer.append(["BTCUSDT"], no_snapshots(1, 1)[0], now(31.0)) == 0
        assert writer.counts == {"taken": 1, "repeated": 2, "refused": 2, "late": 0}
        with pytest.raises(ConfigError, match="another process records books there"), BookWriter(tmp_path / "b"):
            pass


def test_an_error_keeps_what_was_recorded_for_the_next_recorder(tmp_path: Path) -> None:
    def broken() -> None:
        with BookWriter(tmp_path) as writer:
            writer.append(["BTCUSDT"], one_by_one(flat(10.0)), now(10.0))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        broken()
    assert unfinished_days(tmp_path) == (FIRST,)
    with BookWriter(tmp_path):
        pass
    assert BookArchive.open(tmp_path).read(FIRST).rows == 1


def test_a_recorder_keeps_out_of_other_data(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"schema": 1, "kind": "prices"}')
    with pytest.raises(ConfigError, match="to record, choose another folder"), BookWriter(tmp_path):
        pass
    (tmp_path / "file").write_text("x")
    with pytest.raises(ConfigError, match="cannot be written"), BookWriter(tmp_path / "file"):
        pass


@settings(max_examples=200, deadline=None)
@given(st.one_of(st.integers(0, 86_400 * 10**9 - 1), st.integers(0, 86_400 * 10**3 - 1).map(lambda ms: ms * 10**6)))
def test_a_stamp_survives_the_way_through_seconds(offset: int) -> None:
    """Nanoseconds to the double that a snapshot carries, and back by the recorder's rule: the same double again."""
    ns = date_start_ns(date(2026, 1, 1)) + offset
    seconds = ns // NS_PER_S + ns % NS_PER_S / NS_PER_S
    back = int(nanoseconds(np.array([seconds]))[0])
    assert back // NS_PER_S + back % NS_PER_S / NS_PER_S == seconds
    if ns % 1000 == 0:
        assert back == ns
