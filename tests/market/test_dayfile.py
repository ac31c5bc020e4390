"""Day files: what is written is what is read, and everything illegal is refused by file, column and row."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns
from dolphin.core.errors import DataError
from dolphin.market.atomic import atomic_path, write_json_atomic
from dolphin.market.daychecks import bar_ns, check_bar
from dolphin.market.dayfile import checked, day_of, read_day, read_stamps, write_price_day, write_scan_day
from dolphin.market.manifest import day_hash
from dolphin.market.tables import META_COLUMNS, PriceDay, ScanDay
from tests.market.archive_support import ASSETS, DAY, price_day, put, replaced, same, scan_day, table
from tests.support.shared import recorded


def test_prices_come_back(tmp_path: Path) -> None:
    day = price_day()
    path = write_price_day(tmp_path, day)
    assert path == tmp_path / "2021-04-05.parquet"
    assert same(read_day(path), day)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_scans_come_back_in_the_columns_of_the_specification(tmp_path: Path) -> None:
    day = scan_day()
    path = write_scan_day(tmp_path, day)
    assert same(read_day(path), day)
    schema = pq.read_schema(path)
    assert schema.names == [*META_COLUMNS, *ASSETS]
    assert schema.field("timestamp").type == pa.timestamp("ns", tz="UTC")
    assert schema.field("scan_number").type == pa.int64()
    assert {str(schema.field(k).type) for k in range(2, len(schema))} == {"double"}
    assert pq.ParquetFile(path).metadata.row_group(0).column(3).compression == "ZSTD"


def test_a_scan_written_as_prices_keeps_stamps_and_closes_only(tmp_path: Path) -> None:
    path = write_price_day(tmp_path, scan_day())
    assert pq.read_schema(path).names == ["timestamp", *ASSETS]
    assert type(read_day(path)) is PriceDay


@given(
    closes=hnp.arrays(np.float64, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=6)),
    gaps=st.lists(st.integers(1, 10**12), min_size=6, max_size=6),
)
def test_any_floats_come_back_as_prices_or_nan(
    tmp_path_factory: pytest.TempPathFactory, closes: np.ndarray, gaps: list[int]
) -> None:
    rows, columns = closes.shape
    ts_ns = date_start_ns(DAY) + np.cumsum([0, *gaps])[:rows]
    day = PriceDay(DAY, ts_ns.astype(np.int64), tuple(f"A{k}" for k in range(columns)), closes)
    read = read_day(write_price_day(tmp_path_factory.mktemp("day"), day))
    valid = np.isfinite(closes) & (closes > 0)
    assert np.array_equal(read.closes, np.where(valid, closes, np.nan), equal_nan=True)
    assert np.array_equal(read.ts_ns, ts_ns)
    assert day_hash(read) == day_hash(checked(day))


@pytest.mark.parametrize("missing", [0.0, -0.0, -1.0, np.nan, np.inf, -np.inf, None])
def test_a_missing_price_is_nan_in_memory(tmp_path: Path, missing: float | None) -> None:
    values = [1.5] * 20
    values[4] = missing  # type: ignore[call-overload]
    read = read_day(put(tmp_path, replaced(table(price_day()), "ETHUSDT", pa.array(values, pa.float64()))))
    assert np.flatnonzero(np.isnan(read.closes[:, 1])).tolist() == [4]


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_stamps_of_any_unit(tmp_path: Path, unit: str) -> None:
    day = price_day()
    assert same(read_day(put(tmp_path, table(day, unit))), day)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_day_of_hardly_any_rows_is_a_day(tmp_path: Path, rows: int) -> None:
    prices, scans = price_day(rows=rows), scan_day(rows=rows)
    assert same(read_day(write_price_day(tmp_path, prices)), prices)
    assert same(read_day(write_scan_day(tmp_path, scans, stale_on=DAY)), scans)


def test_columns_are_mapped_onto_a_universe(tmp_path: Path) -> None:
    day = scan_day()
    path = write_scan_day(tmp_path, day)
    read = read_day(path, ["XRPUSDT", "NEWUSDT", "BTCUSDT"])
    assert isinstance(read, ScanDay)
    assert read.assets == ("XRPUSDT", "NEWUSDT", "BTCUSDT")
    expected = np.column_stack([day.closes[:, 2], np.full(20, np.nan), day.closes[:, 0]])
    assert np.array_equal(read.closes, expected, equal_nan=True)
    assert np.array_equal(read.signals, day.signals, equal_nan=True)
    assert np.isnan(read_day(path, ["NEWUSDT"]).closes).all()
    assert read_day(path, []).closes.shape == (20, 0)


def test_the_layout_and_stamps_alone(tmp_path: Path) -> None:
    day = scan_day()
    layout, ts_ns = read_stamps(write_scan_day(tmp_path, day))
    assert (layout.kind, layout.assets) == ("scans", ASSETS)
    assert np.array_equal(ts_ns, day.ts_ns)


def _spoilt(name: str) -> pa.Table:
    """A scan file that is wrong in one way."""
    day = scan_day()
    good = table(day)
    stamps = good.column("timestamp").to_pylist()
    stamp_type = good.schema.field("timestamp").type
    swapped, twice, late, early = (list(stamps) for _ in range(4))
    swapped[5], swapped[6] = swapped[6], swapped[5]
    twice[7] = twice[6]
    late[19] = stamps[0].replace(day=6)
    early[0] = stamps[0].replace(day=4)
    infinite = day.signals[:, 0].copy()
    infinite[9] = -np.inf
    return {
        "no timestamp": good.drop_columns(["timestamp"]),
        "no vel_div": good.drop_columns(["vel_div"]),
        "no scan_number": good.drop_columns(["scan_number"]),
        "no assets": good.drop_columns(list(ASSETS)),
        "naive": replaced(good, "timestamp", pa.array(day.ts_ns, pa.timestamp("ns"))),
        "elsewhere": replaced(good, "timestamp", pa.array(day.ts_ns, pa.timestamp("ns", tz="Europe/Paris"))),
        "whole numbers": replaced(good, "timestamp", pa.array(day.ts_ns)),
        "int price": replaced(good, "ETHUSDT", pa.array([1] * 20)),
        "text price": replaced(good, "ETHUSDT", pa.array(["1"] * 20)),
        "float32 price": replaced(good, "ETHUSDT", pa.array([1.0] * 20, pa.float32())),
        "float scan": replaced(good, "scan_number", pa.array([1.0] * 20)),
        "float32 signal": replaced(good, "instability_50", pa.array([1.0] * 20, pa.float32())),
        "backward": replaced(good, "timestamp", pa.array(swapped, stamp_type)),
        "duplicate": replaced(good, "timestamp", pa.array(twice, stamp_type)),
        "late": replaced(good, "timestamp", pa.array(late, stamp_type)),
        "early": replaced(good, "timestamp", pa.array(early, stamp_type)),
        "no stamp": replaced(good, "timestamp", pa.array([*stamps[:3], None, *stamps[4:]], stamp_type)),
        "no number": replaced(good, "scan_number", pa.array([0, None, *range(2, 20)])),
        "infinite": replaced(good, "vel_div", pa.array(infinite)),
        "lower case": good.rename_columns([*META_COLUMNS, "BTCUSDT", "volume", "XRPUSDT"]),
        "column twice": good.append_column("BTCUSDT", good.column("BTCUSDT")),
    }[name]


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("no timestamp", "column 'timestamp' is missing"),
        ("no vel_div", "column 'vel_div' is missing; a scan file needs all of timestamp, scan_number"),
        ("no scan_number", "column 'scan_number' is missing"),
        ("no assets", "no asset columns"),
        ("naive", r"column 'timestamp' holds timestamp\[ns\], expected timestamp\[ms, us or ns, tz=UTC\]"),
        ("elsewhere", "tz=Europe/Paris"),
        ("whole numbers", "column 'timestamp' holds int64"),
        ("int price", "column 'ETHUSDT' holds int64, expected float64"),
        ("text price", "column 'ETHUSDT' holds string, expected float64"),
        ("float32 price", "column 'ETHUSDT' holds float, expected float64"),
        ("float scan", "column 'scan_number' holds double, expected int64"),
        ("float32 signal", "column 'instability_50' holds float"),
        ("backward", "row 6: 2021-04-05T00:05:00Z comes after 2021-04-05T00:06:00Z"),
        ("duplicate", "row 7: 2021-04-05T00:06:00Z comes twice in a row"),
        ("late", "row 19: 2021-04-06T00:00:00Z lies outside 2021-04-05"),
        ("early", "row 0: 2021-04-04T00:00:00Z lies outside 2021-04-05"),
        ("no stamp", "column 'timestamp', row 3: no value"),
        ("no number", "column 'scan_number', row 1: no value"),
        ("infinite", "column 'vel_div', row 9: -inf; expected a finite number"),
        ("lower case", "column 'volume' is not an asset name"),
        ("column twice", "column 'BTCUSDT' is there twice"),
    ],
)
def test_an_illegal_file_is_refused_by_name(tmp_path: Path, name: str, says: str) -> None:
    path = put(tmp_path, _spoilt(name))
    with pytest.raises(DataError, match=says) as refused:
        read_day(path)
    assert str(refused.value).startswith(f"{path}: ")
    assert "\n" not in str(refused.value)


def test_a_stamp_beyond_nanoseconds_is_refused(tmp_path: Path) -> None:
    stamps = pa.array([2**62] * 20, pa.timestamp("us", tz="UTC"))
    with pytest.raises(DataError, match=r"row 0: .* is beyond the year 2262"):
        read_day(put(tmp_path, replaced(table(price_day()), "timestamp", stamps)))


@pytest.mark.parametrize("cut", [0, 3, 200, -1, -300])
def test_a_truncated_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = write_price_day(tmp_path, price_day(rows=200))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DataError, match="not a whole Parquet file"):
        read_day(path)


def test_flipped_bytes_never_end_in_another_error(tmp_path: Path) -> None:
    path = write_price_day(tmp_path, price_day(rows=200))
    good = path.read_bytes()
    rng = np.random.default_rng(3)
    refused = 0
    for _ in range(150):
        bad = bytearray(good)
        bad[int(rng.integers(len(bad)))] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(bad))
        try:
            read_day(path)
        except DataError:
            refused += 1
    assert refused > 50


def test_an_absent_file_and_a_wrong_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_day(tmp_path / "2021-04-05.parquet")
    for name in ("prices.parquet", "2021-13-05.parquet", "2021-4-5.parquet", "2021-04-05.csv"):
        with pytest.raises(DataError, match="not the name of a day file"):
            day_of(tmp_path / name)
    assert day_of(Path("2021-04-05.parquet.STALE_20260102")) == DAY
    assert day_of(Path("2021-04-05.parquet.STALE_20260102.2")) == DAY


def test_an_illegal_day_is_not_written(tmp_path: Path) -> None:
    day = scan_day()
    infinite = day.signals.copy()
    infinite[2, 1] = np.inf
    spoilt = [
        dataclasses.replace(day, ts_ns=day.ts_ns[::-1].copy()),
        dataclasses.replace(day, ts_ns=day.ts_ns + NS_PER_DAY),
        dataclasses.replace(day, closes=day.closes[:, :2]),
        dataclasses.replace(day, closes=day.closes.astype(np.float32)),
        dataclasses.replace(day, signals=infinite),
        dataclasses.replace(day, signals=day.signals[:, :6]),
        dataclasses.replace(day, scan_number=day.scan_number[:5]),
        dataclasses.replace(day, assets=("A", "B", "A")),
        dataclasses.replace(day, assets=("A", "B", "vel_div")),
        dataclasses.replace(day, assets=("A", "B", "")),
    ]
    for bad in spoilt:
        with pytest.raises(DataError):
            write_scan_day(tmp_path, bad)
    assert not [p for p in tmp_path.iterdir() if p.is_file()]


def test_a_rebuild_keeps_the_old_file(tmp_path: Path) -> None:
    old, new, newest = (price_day(seed=k) for k in (1, 2, 3))
    path = write_price_day(tmp_path, old)
    with pytest.raises(DataError, match="exists; say on which date"):
        write_price_day(tmp_path, new)
    assert same(read_day(path), old)
    write_price_day(tmp_path, old, stale_on=date(2026, 1, 2))
    assert not list(tmp_path.glob("*STALE*")), "the same content is no rebuild"
    write_price_day(tmp_path, new, stale_on=date(2026, 1, 2))
    write_price_day(tmp_path, newest, stale_on=date(2026, 1, 2))
    kept = sorted(tmp_path.glob("*STALE*"))
    assert [p.name for p in kept] == ["2021-04-05.parquet.STALE_20260102", "2021-04-05.parquet.STALE_20260102.2"]
    assert same(read_day(kept[0]), old)
    assert same(read_day(kept[1]), new)
    assert same(read_day(path), newest)


def _stop_half_way(target: Path) -> None:
    with atomic_path(target) as temp:
        assert temp.parent == target.parent
        temp.write_text("half")
        target.parent.read_text()


def test_atomic_files_are_whole_or_absent(tmp_path: Path) -> None:
    target = tmp_path / "a.json"
    write_json_atomic(target, {"a": 1})
    with pytest.raises(ValueError):
        write_json_atomic(target, {"a": float("nan")})
    with pytest.raises(IsADirectoryError):
        _stop_half_way(target)
    with pytest.raises(FileNotFoundError), atomic_path(target):
        pass
    assert target.read_text() == '{\n  "a": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["a.json"]


def test_the_hash_is_of_the_content(tmp_path: Path) -> None:
    day = scan_day()
    first = day_hash(day)
    assert day_hash(read_day(write_scan_day(tmp_path, day))) == first
    assert day_hash(read_day(put(tmp_path, table(day)))) == first, "another writer, another unit of stamps"
    changed = day.closes.copy()
    changed[11, 1] = np.nextafter(changed[11, 1], np.inf) if np.isfinite(changed[11, 1]) else 5.0
    others = {
        day_hash(dataclasses.replace(day, closes=changed)),
        day_hash(dataclasses.replace(day, assets=("BTCUSDT", "ETHUSDT", "XRPUSD"))),
        day_hash(dataclasses.replace(day, scan_number=day.scan_number + 1)),
        day_hash(dataclasses.replace(day, ts_ns=day.ts_ns + 1)),
        day_hash(PriceDay(day.day, day.ts_ns, day.assets, day.closes)),
        first,
    }
    assert len(others) == 6


def test_bar_lengths() -> None:
    def stamps(*steps: float) -> np.ndarray:
        return np.cumsum([0, *(int(s * NS_PER_S) for s in steps)]).astype(np.int64)

    assert bar_ns(stamps()) is None
    assert bar_ns(stamps(60, 60, 120, 120)) == 60 * NS_PER_S
    check_bar(stamps(5.01, 4.98, 5.02, 5.0), 5.0, "x")  # live scans jitter
    check_bar(stamps(600, 600, 60, 600, 600), 60.0, "x")  # full of gaps
    check_bar(stamps(600, 600), 60.0, "x")  # too little to tell
    for steps in ([300] * 4, [1] * 4, [30], [1, 1, 60, 1]):
        with pytest.raises(DataError, match=r"x: bars are \d+ s apart, expected 60 s"):
            check_bar(stamps(*steps), 60.0, "x")


def test_recorded_days_are_read(tmp_path: Path) -> None:
    path = recorded("spot_1m_2021") / "2021-04-20.parquet"
    day = read_day(path)
    assert (day.rows, len(day.assets)) == (1290, 91)
    assert same(read_day(write_price_day(tmp_path, day)), day)
