"""Recorded funding: which mark belongs to which payment, stamps, units, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.clock import iso_to_ns
from dolphin.core.errors import DataError
from dolphin.market.fundingfiles import (
    FUNDING_EVENT,
    MARKS_NAME,
    RATES_NAME,
    FundingRates,
    FundingSeries,
    read_funding,
)
from tests.support.shared import recorded

NAN = float("nan")
MS = 1_000_000
HOUR = 3_600_000 * MS
T0 = iso_to_ns("2024-03-01T00:00:00Z")
EIGHT = [T0, T0 + 8 * HOUR, T0 + 16 * HOUR, T0 + 24 * HOUR]


def write(path: Path, stamps: Sequence[int], columns: Mapping[str, Sequence[float | None]], unit: str = "ms") -> Path:
    """A wide table; `stamps` in nanoseconds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    factor = {"ms": MS, "ns": 1}[unit]
    arrays = [pa.array([stamp // factor for stamp in stamps], pa.timestamp(unit, tz="UTC"))]
    arrays += [pa.array(list(values), pa.float64()) for values in columns.values()]
    pq.write_table(pa.table(arrays, names=["timestamp", *columns]), path)
    return path


def folder_of(folder: Path, rates: Mapping[str, Sequence[float]], marks: Mapping[str, Sequence[float]]) -> Path:
    write(folder / RATES_NAME, EIGHT, rates)
    write(folder / MARKS_NAME, EIGHT, marks)
    return folder


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read_funding(path)
    said = str(caught.value)
    assert "\n" not in said
    return said


# --- what is read


def test_the_mark_of_a_payment_is_the_close_of_the_kline_that_ends_there(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path / "f", {"AUSDT": [1e-4, 2e-4, -3e-4, 4e-4]}, {"AUSDT": [101.0, 102.0, NAN, 104.0], "B": [1, 1, 1, 1]}
    )
    one = read_funding(folder).series["AUSDT"]
    assert one.ts_ns.tolist() == EIGHT
    assert one.rate.tolist() == [1e-4, 2e-4, -3e-4, 4e-4]
    # The kline that opens at T0 closes at T0 + 8 h: its 101 is the mark of the second payment.
    np.testing.assert_array_equal(one.mark, [NAN, 101.0, 102.0, NAN])


def test_payments_between_the_marks_have_none(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    write(folder / RATES_NAME, [T0 + 4 * HOUR, T0 + 8 * HOUR, T0 + 9 * HOUR], {"AUSDT": [1e-4, 2e-4, 3e-4]})
    write(folder / MARKS_NAME, [T0], {"AUSDT": [50.0]})
    np.testing.assert_array_equal(read_funding(folder).series["AUSDT"].mark, [NAN, 50.0, NAN])


def test_marks_may_be_absent(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", {"AUSDT": [1e-4] * 4}, {"BUSDT": [1.0] * 4})
    assert np.isnan(read_funding(folder).series["AUSDT"].mark).all()
    assert np.isnan(read_funding(folder / RATES_NAME).series["AUSDT"].mark).all()
    (folder / MARKS_NAME).unlink()
    rates = read_funding(folder)
    assert np.isnan(rates.series["AUSDT"].mark).all()
    assert rates.source == folder


def test_stamps_a_little_off_the_hour_are_that_hour_s(tmp_path: Path) -> None:
    stamps = [T0 + 5 * MS, T0 + 8 * HOUR - 2 * MS, T0 + 8 * HOUR + 16 * MS, T0 + 16 * HOUR + 4999 * MS]
    columns = {"AUSDT": [1e-4, 2e-4, NAN, 3e-4], "BUSDT": [None, None, 4e-4, NAN]}
    rates = read_funding(write(tmp_path / "r.parquet", stamps, columns))
    assert rates.series["AUSDT"].ts_ns.tolist() == EIGHT[:3]
    assert rates.series["BUSDT"].ts_ns.tolist() == EIGHT[1:2]
    assert rates.series["BUSDT"].rate.tolist() == [4e-4]


def test_nanosecond_stamps_are_read(tmp_path: Path) -> None:
    path = write(tmp_path / "r.parquet", [T0 + 1], {"AUSDT": [1e-4]}, unit="ns")
    assert read_funding(path).series["AUSDT"].ts_ns.tolist() == [T0]


# --- events


def rates_of(**columns: Sequence[tuple[int, float, float]]) -> FundingRates:
    series = {}
    for symbol, rows in columns.items():
        ts, rate, mark = zip(*rows, strict=True) if rows else ((), (), ())
        series[symbol] = FundingSeries(np.array(ts, np.int64), np.array(rate, float), np.array(mark, float))
    return FundingRates(Path("x"), series)


def test_events_come_by_time_then_by_column() -> None:
    rates = rates_of(
        AUSDT=[(EIGHT[0], 1e-4, 10.0), (EIGHT[1], 2e-4, 11.0)],
        BUSDT=[(EIGHT[1], 3e-4, NAN), (EIGHT[2], 4e-4, 12.0)],
    )
    events = rates.events(["BUSDT", "ZUSDT", "AUSDT"], EIGHT[0], EIGHT[2])
    assert events.dtype == FUNDING_EVENT
    assert events["ts_ns"].tolist() == [EIGHT[0], EIGHT[1], EIGHT[1], EIGHT[2]]
    assert events["column"].tolist() == [2, 0, 2, 0]
    assert events["rate"].tolist() == [1e-4, 3e-4, 2e-4, 4e-4]
    np.testing.assert_array_equal(events["mark"], [10.0, NAN, 11.0, 12.0])
    assert rates.events(["AUSDT"], EIGHT[0] + 1, EIGHT[1] - 1).tolist() == []
    assert len(rates.events(["AUSDT"], EIGHT[1], EIGHT[1])) == 1
    assert len(rates.events([], EIGHT[0], EIGHT[2])) == 0


@given(
    st.lists(st.lists(st.integers(0, 30), unique=True).map(sorted), min_size=1, max_size=4),
    st.integers(0, 30),
    st.integers(0, 30),
)
def test_events_are_what_a_plain_loop_finds(hours: list[list[int]], first: int, last: int) -> None:
    names = [f"A{k}USDT" for k in range(len(hours))]
    rates = rates_of(**{name: [(h * HOUR, h * 1e-5, 1.0) for h in own] for name, own in zip(names, hours, strict=True)})
    expected = [(h * HOUR, k, h * 1e-5, 1.0) for h in range(31) for k, own in enumerate(hours) if h in own]
    expected = [row for row in expected if first * HOUR <= row[0] <= last * HOUR]
    assert rates.events(names, first * HOUR, last * HOUR).tolist() == expected


def test_a_missing_payment_is_seen() -> None:
    rates = rates_of(
        FULL=[(t, 1e-4, NAN) for t in EIGHT],
        GAP=[(t, 1e-4, NAN) for t in EIGHT if t != EIGHT[2]],
        LATE=[(t, 1e-4, NAN) for t in EIGHT[2:]],
        NONE=[],
    )
    names = ["FULL", "GAP", "LATE", "NONE", "ABSENT"]
    assert rates.uncovered(names, EIGHT[0] - HOUR, EIGHT[3] + HOUR) == ("GAP", "LATE", "NONE", "ABSENT")
    assert rates.uncovered(names, EIGHT[2], EIGHT[3]) == ("GAP", "NONE", "ABSENT")
    assert rates.uncovered(names, EIGHT[2] + 1, EIGHT[3]) == ("NONE", "ABSENT")
    assert rates.uncovered(names, EIGHT[2] + 1, EIGHT[3] - 1) == ()


def test_the_identity_is_that_of_the_values(tmp_path: Path) -> None:
    one = folder_of(tmp_path / "1", {"A": [1e-4] * 4, "B": [2e-4] * 4}, {"A": [1.0] * 4})
    two = folder_of(tmp_path / "2", {"B": [2e-4] * 4, "A": [1e-4] * 4}, {"A": [1.0] * 4})
    three = folder_of(tmp_path / "3", {"A": [1e-4] * 4, "B": [2e-4] * 4}, {"A": [1.0, 1.0, 1.5, 1.0]})
    four = folder_of(tmp_path / "4", {"A": [1e-4] * 3 + [2e-4], "B": [2e-4] * 4}, {"A": [1.0] * 4})
    found = [read_funding(path).identity() for path in (one, two, three, four)]
    assert found[0] == found[1]
    assert len({found[0], found[2], found[3]}) == 3
    assert len(found[0]) == 16


# --- refusals


def test_absurd_rates_and_wrong_units_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    many = [T0 + 8 * HOUR * k for k in range(40)]
    write(path, EIGHT, {"AUSDT": [1e-4] * 4, "BUSDT": [1e-4, NAN, -0.0501, 1.0]})
    said = "column 'BUSDT', row 2: a rate of -0.0501; expected a fraction within ±0.05, 0.0001 for one basis point"
    assert refusal(path) == f"{path}: {said}"
    write(path, EIGHT, {"AUSDT": [1e-4, float("inf"), 1e-4, 1e-4]})
    assert "column 'AUSDT', row 1: a rate of inf" in refusal(path)
    write(path, many, {"AUSDT": [0.01] * 40})  # one basis point, in percent
    assert "rates are typically 0.01 in size; expected fractions" in refusal(path)
    write(path, many, {"AUSDT": [1e-6] * 40})
    assert "divided by a hundred once too often" in refusal(path)
    write(path, EIGHT, {"AUSDT": [NAN] * 4})
    assert "no rate in any column" in refusal(path)


def test_stamps_that_are_no_funding_times_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    write(path, [T0, T0 + 8 * HOUR + 6000 * MS], {"AUSDT": [1e-4, 1e-4]})
    assert "column 'timestamp', row 1: 2024-03-01T08:00:06Z is no funding time; expected a full hour" in refusal(path)
    write(path, [T0, T0], {"AUSDT": [1e-4, 1e-4]})
    assert "column 'timestamp', row 1: 2024-03-01T00:00:00Z comes twice in a row" in refusal(path)
    write(path, [T0 + HOUR, T0], {"AUSDT": [1e-4, 1e-4]})
    assert "row 1: 2024-03-01T00:00:00Z comes after 2024-03-01T01:00:00Z" in refusal(path)
    write(path, [T0, T0 + 7 * MS], {"AUSDT": [1e-4, 1e-4]})
    assert "column 'AUSDT', row 1: a second value at 2024-03-01T00:00:00Z" in refusal(path)


def test_tables_that_are_none_of_funding_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "r.parquet"
    assert "no such file" in refusal(path)
    path.write_bytes(b"PAR1 not really")
    assert "not a whole Parquet file" in refusal(path)
    stamps = pa.array([T0 // MS], pa.timestamp("ms", tz="UTC"))
    cases = [
        (pa.table({"AUSDT": [1e-4]}), "column 'timestamp' is missing"),
        (pa.table({"timestamp": stamps}), "no asset columns"),
        (pa.table({"timestamp": [T0 // MS], "AUSDT": [1e-4]}), "column 'timestamp' holds int64"),
        (pa.table({"timestamp": stamps, "AUSDT": ["x"]}), "column 'AUSDT' holds string, expected float64"),
        (pa.table({"timestamp": stamps, "a usdt": [1e-4]}), "column 'a usdt' is not an asset name"),
        (pa.table([stamps, [1e-4], [1e-4]], names=["timestamp", "A", "A"]), "column 'A' is there twice"),
        (pa.table({"timestamp": stamps, "A": [1e-4]}).slice(0, 0), "no rows"),
    ]
    for table, said in cases:
        pq.write_table(table, path)
        assert said in refusal(path)
    folder = tmp_path / "empty"
    folder.mkdir()
    assert f"no {RATES_NAME}" in refusal(folder)


def test_marks_that_are_no_prices_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "f", {"AUSDT": [1e-4] * 4}, {"AUSDT": [1.0, 2.0, 0.0, 1.0]})
    assert refusal(folder) == (
        f"{folder / MARKS_NAME}: column 'AUSDT', row 2: a mark price of 0; expected a number above 0"
    )


# --- recorded


@pytest.mark.parametrize(("name", "bar_s"), [("perp_1m_2025", 60), ("perp_5m_2023", 300)])
def test_recorded_marks_are_the_prices_of_their_payments(name: str, bar_s: int) -> None:
    folder = recorded(name)
    rates = read_funding(folder / "funding_mark")
    symbols = list(rates.series)
    known: dict[int, dict[str, float]] = {}
    for path in sorted(folder.glob("*.parquet")):
        table = pq.read_table(path)
        # Klines are stamped with their open: a close is known one bar later.
        stamps = table.column("timestamp").cast(pa.int64()).to_numpy() * MS + bar_s * 1000 * MS
        at = np.flatnonzero(stamps % (8 * HOUR) == 0)
        for k in at:
            known[int(stamps[k])] = {s: table.column(s)[int(k)].as_py() for s in table.column_names if s != "timestamp"}
    off = []
    for event in rates.events(symbols, min(known), max(known)):
        close = known.get(int(event["ts_ns"]), {}).get(symbols[event["column"]])
        if close and np.isfinite(close) and np.isfinite(event["mark"]):
            off.append(abs(event["mark"] / close - 1.0))
    assert len(off) > 1000
    # One mark later or earlier would lie about one per cent off.
    assert np.median(off) < 2e-4
    assert max(off) < 5e-3


def test_recorded_funding() -> None:
    rates = read_funding(recorded("perp_1m_2025") / "funding_mark")
    assert len(rates.series) == 19
    layer, btc = rates.series["LAYERUSDT"], rates.series["BTCUSDT"]
    assert np.abs(layer.rate).max() == 0.02
    assert set(np.unique(np.diff(layer.ts_ns)) // HOUR) == {1, 4}
    assert set(np.unique(np.diff(btc.ts_ns)) // HOUR) == {8}
    first, last = iso_to_ns("2025-05-10"), iso_to_ns("2025-06-03")
    symbols = list(rates.series)
    assert rates.uncovered(symbols, first, last) == ("ALGOUSDT", "BSVUSDT", "EOSUSDT")  # they end before
    assert len(rates.events(["BTCUSDT"], first, last)) == 3 * 24 + 1
    assert np.isfinite(rates.events(["BTCUSDT"], first, last)["mark"]).all()
