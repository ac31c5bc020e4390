"""Kline files as a source: symbols, intervals, days and months, units of time, gaps."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns
from dolphin.core.errors import DataError
from dolphin.market.klines import KlineSource, is_kline_name
from dolphin.market.sources import Choice, into_days
from tests.market.archive_support import DAY, days_from, write_klines

MS = 1_000_000
START_MS = date_start_ns(DAY) // MS


def stamps(day: date = DAY, rows: int = 1440, bar_s: int = 60) -> np.ndarray:
    return date_start_ns(day) // MS + np.arange(rows, dtype=np.int64) * bar_s * 1000


def closes(rows: int, level: float) -> np.ndarray:
    return level + np.arange(rows) / 100.0


def everything(source: KlineSource) -> tuple[np.ndarray, np.ndarray]:
    parts = list(source.blocks(-(2**62), 2**62))
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


@pytest.mark.parametrize(
    ("name", "is_one"),
    [
        ("BTCUSDT-1m-2021-04-05.zip", True),
        ("BTCUSDT-1m-2021-04.csv", True),
        ("BTCUSDT-1mo-2021-04.zip", True),
        ("1000SHIBUSDT-15m-2021-04-05.csv", True),
        ("BTCUSDT_250627-1s-2025-04-05.csv", True),
        ("2021-04-05.csv", False),
        ("BTCUSDT-1m-2021-04-05.zip.CHECKSUM", False),
        ("BTCUSDT.csv", False),
        ("coverage.csv", False),
    ],
)
def test_names(name: str, is_one: bool) -> None:
    assert is_kline_name(name) is is_one


def test_symbols_meet_on_the_union_of_their_stamps(tmp_path: Path) -> None:
    all_ms = stamps(rows=6)
    write_klines(tmp_path, "ETHUSDT", all_ms[[0, 1, 4]], np.array([1.0, 2.0, 5.0]), date_text="2021-04-05")
    write_klines(
        tmp_path, "BTCUSDT", all_ms[[1, 2, 4]], np.array([20.0, 0.0, 50.0]), date_text="2021-04-05", header=True
    )
    source = KlineSource(sorted(tmp_path.iterdir()), 60, Choice())
    assert source.names == ("BTCUSDT", "ETHUSDT")
    ts_ns, values = everything(source)
    assert ((ts_ns - date_start_ns(DAY)) // (60 * NS_PER_S)).tolist() == [0, 1, 2, 4]
    nan = np.nan
    assert np.array_equal(values, [[nan, 1.0], [20.0, 2.0], [nan, nan], [50.0, 5.0]], equal_nan=True)
    assert (source.first_ns, source.last_ns) == (ts_ns[0], ts_ns[-1])


@pytest.mark.parametrize("zipped", [True, False])
def test_months_and_days_and_microseconds_follow_each_other(tmp_path: Path, zipped: bool) -> None:
    month = np.concatenate([stamps(day, 24, 3600) for day in days_from(date(2024, 12, 1), 31)])
    days = days_from(date(2025, 1, 1), 3)
    kw = {"interval": "1h", "zipped": zipped}
    write_klines(tmp_path, "BTCUSDT", month, closes(len(month), 10.0), date_text="2024-12", **kw)  # type: ignore[arg-type]
    for k, day in enumerate(days):
        ms = stamps(day, 24, 3600)
        write_klines(tmp_path, "BTCUSDT", ms * 1000, closes(24, 50.0 + k), date_text=str(day), **kw)  # type: ignore[arg-type]
    source = KlineSource(sorted(tmp_path.iterdir()), 3600, Choice())
    ts_ns, values = everything(source)
    assert np.array_equal(ts_ns, date_start_ns(date(2024, 12, 1)) + np.arange(34 * 24) * 3600 * NS_PER_S)
    assert np.array_equal(values[: 31 * 24, 0], closes(31 * 24, 10.0))
    assert np.array_equal(values[-24:, 0], closes(24, 52.0))
    one = list(source.blocks(date_start_ns(days[1]), date_start_ns(days[2])))
    assert len(one) == 1
    assert np.array_equal(one[0][1][:, 0], closes(24, 51.0))


def test_a_file_may_cover_more_than_its_neighbours(tmp_path: Path) -> None:
    """One symbol by the month, one by the day, one with a hole of a day: each lands where it belongs."""
    days = days_from(date(2021, 4, 1), 4)
    month = np.concatenate([stamps(day, 24, 3600) for day in days])
    write_klines(tmp_path, "AUSDT", month, closes(96, 1.0), date_text="2021-04", interval="1h")
    for k in (0, 1, 2, 3):
        write_klines(tmp_path, "BUSDT", stamps(days[k], 24, 3600), closes(24, k), date_text=str(days[k]), interval="1h")
    for k in (0, 3):
        write_klines(tmp_path, "CUSDT", stamps(days[k], 24, 3600), closes(24, k), date_text=str(days[k]), interval="1h")
    source = KlineSource(sorted(tmp_path.iterdir()), 3600, Choice())
    ts_ns, values = everything(source)
    assert len(ts_ns) == 96
    assert np.array_equal(values[:, 0], closes(96, 1.0))
    assert np.array_equal(values[1:24, 1], closes(24, 0)[1:])
    assert np.array_equal(values[24:, 1], np.concatenate([closes(24, k) for k in (1, 2, 3)]))
    assert np.isnan(values[24:72, 2]).all()
    assert np.array_equal(values[72:, 2], closes(24, 3))
    shifted = list(into_days(source.blocks(-(2**62), 2**62), source.names, 3600 * NS_PER_S))
    assert [day.rows for day in shifted] == [23, 24, 24, 24, 1]
    assert all((day.ts_ns // NS_PER_DAY == day.ts_ns[0] // NS_PER_DAY).all() for day in shifted)


def test_files_without_rows_are_a_symbol_without_prices(tmp_path: Path) -> None:
    write_klines(tmp_path, "AUSDT", stamps(rows=5), closes(5, 1.0), date_text="2021-04-05")
    write_klines(tmp_path, "BUSDT", stamps(rows=0), closes(0, 1.0), date_text="2021-04-05", header=True)
    source = KlineSource(sorted(tmp_path.iterdir()), 60, Choice())
    assert source.names == ("AUSDT", "BUSDT")
    assert np.isnan(everything(source)[1][:, 1]).all()
    with pytest.raises(DataError, match="no klines in 1 files"):
        KlineSource(sorted(tmp_path.glob("BUSDT*")), 60, Choice())


def test_illegal_files_are_refused_by_name(tmp_path: Path) -> None:
    good = write_klines(tmp_path / "cut", "AUSDT", stamps(rows=500), closes(500, 1.0), date_text="2021-04-05")
    good.write_bytes(good.read_bytes()[:-30])
    write_klines(tmp_path / "interval", "AUSDT", stamps(rows=5), closes(5, 1.0), date_text="2021-04-05", interval="5m")
    write_klines(tmp_path / "longer", "AUSDT", stamps(rows=5, bar_s=300), closes(5, 1.0), date_text="2021-04-05")
    write_klines(tmp_path / "off", "AUSDT", stamps(rows=5) + 500, closes(5, 1.0), date_text="2021-04-05")
    write_klines(tmp_path / "twice", "AUSDT", stamps(rows=5), closes(5, 1.0), date_text="2021-04-05")
    write_klines(tmp_path / "twice", "AUSDT", stamps(rows=9), closes(9, 1.0), date_text="2021-04")
    backward = stamps(rows=5)[[0, 1, 3, 2, 4]]
    write_klines(tmp_path / "backward", "AUSDT", backward, closes(5, 1.0), date_text="2021-04-05", zipped=False)
    for name, says in {
        "cut": "AUSDT-1m-2021-04-05.zip: not a whole zip file",
        "interval": "AUSDT-5m-2021-04-05.zip: klines of 300 s by its name, expected 60 s",
        "longer": "AUSDT-1m-2021-04-05.zip: bars are 300 s apart, expected 60 s",
        "off": "row 0: 2021-04-05T00:00:00.5Z is not on the grid of 60 s bars",
        "twice": "opens at 2021-04-05T00:00:00Z, which AUSDT-1m-2021-04.* reaches too",
        "backward": "row 4: open time .* does not come after",
    }.items():
        with pytest.raises(DataError, match=says):
            KlineSource(sorted((tmp_path / name).iterdir()), 60, Choice())
    with pytest.raises(DataError, match="not the name of a kline file"):
        KlineSource([tmp_path / "x.csv"], 60, Choice())
