"""Imports: stamps shifted, days regrouped, gaps kept, symbols chosen, everything illegal refused before writing."""

from __future__ import annotations

import dataclasses
import tracemalloc
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns, ns_to_iso
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.archive import Archive
from dolphin.market.sources import into_days
from tests.market.archive_support import ASSETS, DAY, days_from, price_day, put, table, tree, write_klines
from tests.market.import_support import BAR, DAYS, csv_text, run, tables
from tests.support.shared import recorded


def flat(archive: Archive) -> tuple[np.ndarray, np.ndarray]:
    days = list(archive.iter_days())
    return np.concatenate([d.ts_ns for d in days]), np.concatenate([d.closes for d in days])


def expected(days: Sequence[date] = DAYS, rows: int = 24) -> tuple[np.ndarray, np.ndarray]:
    made = [price_day(day, rows=rows, bar=BAR) for day in days]
    return np.concatenate([d.ts_ns for d in made]), np.concatenate([d.closes for d in made])


@pytest.mark.parametrize("stamp", ["open", "close"])
def test_open_times_move_on_by_a_bar(tmp_path: Path, stamp: str) -> None:
    report = run(tables(tmp_path / "src"), tmp_path / "out", stamp=stamp)
    archive = Archive.open(tmp_path / "out")
    ts_ns, closes = flat(archive)
    source_ts, source = expected()
    traded = ~np.isnan(source).all(axis=1)
    assert np.array_equal(ts_ns, source_ts[traded] + (BAR * NS_PER_S if stamp == "open" else 0))
    assert np.array_equal(closes, source[traded], equal_nan=True)
    last = date(2021, 4, 8) if stamp == "open" else DAYS[-1]
    assert (archive.days[0], archive.days[-1]) == (DAY, last)
    assert (report.days, report.bars, report.symbols) == (len(archive.days), len(ts_ns), ASSETS)
    assert archive.manifest is not None
    assert report.content_hash == archive.identity() == archive.manifest.content_hash
    assert archive.manifest.source["stamp"] == stamp
    assert (report.first, report.last) == (ns_to_iso(int(ts_ns[0])), ns_to_iso(int(ts_ns[-1])))


def test_the_same_import_gives_the_same_bytes(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    for out in ("a", "b"):
        run(source, tmp_path / out)
    assert tree(tmp_path / "a") == tree(tmp_path / "b")


@given(
    steps=st.lists(st.integers(1, 30), min_size=1, max_size=60),
    cuts=st.lists(st.integers(0, 60), max_size=5),
    shift=st.sampled_from([0, 1]),
)
def test_regrouping_loses_and_adds_nothing(steps: list[int], cuts: list[int], shift: int) -> None:
    hour = 3600 * NS_PER_S
    ts_ns = date_start_ns(DAY) + np.cumsum(steps).astype(np.int64) * hour
    closes = np.arange(len(ts_ns), dtype=np.float64)[:, None] + 1.0
    edges = sorted({min(c, len(ts_ns)) for c in cuts})
    blocks = list(zip(np.split(ts_ns, edges), np.split(closes, edges), strict=True))
    days = list(into_days(blocks, ("A",), shift * hour))
    assert np.array_equal(np.concatenate([d.ts_ns for d in days]), ts_ns + shift * hour)
    assert np.array_equal(np.concatenate([d.closes for d in days]), closes)
    assert [d.day for d in days] == sorted({d.day for d in days})
    for day in days:
        assert (day.ts_ns // NS_PER_DAY == date_start_ns(day.day) // NS_PER_DAY).all()


def test_gaps_stay_gaps_and_are_counted(tmp_path: Path) -> None:
    day = price_day(rows=24, bar=BAR)
    day.closes[:] = 1.0
    day.closes[10] = [np.nan, 0.0, -1.0]  # nobody traded: an absent row
    day.closes[15, 1] = np.nan  # one did not: a missing price
    keep = np.ones(24, bool)
    keep[3:6] = False
    put(tmp_path / "src", table(dataclasses.replace(day, ts_ns=day.ts_ns[keep], closes=day.closes[keep])))
    report = run(tmp_path / "src", tmp_path / "out", stamp="close")
    ts_ns, closes = flat(Archive.open(tmp_path / "out"))
    keep[10] = False
    assert np.array_equal(ts_ns, day.ts_ns[keep])
    assert np.isnan(closes).sum() == 1
    assert (report.gaps, report.bars_missing) == (2, 4)


def test_symbols_are_chosen(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    report = run(source, tmp_path / "a", symbols=("XRPUSDT", "BTCUSDT"))
    assert Archive.open(tmp_path / "a").assets == report.symbols == ("XRPUSDT", "BTCUSDT")
    report = run(source, tmp_path / "b", drop=("BTCUSDT", "EURUSDT"))
    assert Archive.open(tmp_path / "b").assets == ("ETHUSDT", "XRPUSDT")
    assert report.not_found == ("EURUSDT",)
    for changes, says in (
        ({"symbols": ("BTCUSDT", "NOUSDT")}, "--symbols: the source has no NOUSDT; it has BTCUSDT, ETHUSDT, XRPUSDT"),
        ({"drop": ASSETS}, "leave no symbol"),
        ({"symbols": ("BTCUSDT",), "drop": ("BTCUSDT",)}, "--drop BTCUSDT: is also asked for"),
    ):
        with pytest.raises(ConfigError, match=says):
            run(source, tmp_path / "c", **changes)


def test_coverage(tmp_path: Path) -> None:
    rows = 24
    stamps = date_start_ns(DAY) + np.arange(rows) * BAR * NS_PER_S
    closes = np.ones((rows, 4))
    closes[:6, 1] = np.nan  # 18 of 24
    closes[:, 2] = 0.0  # never
    closes[0, 3] = np.nan  # 23 of 24
    names = ("AUSDT", "BUSDT", "CUSDT", "DUSDT")
    put(tmp_path / "src", table(dataclasses.replace(price_day(rows=rows), ts_ns=stamps, assets=names, closes=closes)))
    report = run(tmp_path / "src", tmp_path / "a")
    assert report.dropped == {"CUSDT": 0.0}
    report = run(tmp_path / "src", tmp_path / "b", min_coverage=0.75)
    assert report.symbols == ("AUSDT", "BUSDT", "DUSDT")
    report = run(tmp_path / "src", tmp_path / "c", min_coverage=0.8)
    assert report.dropped == {"BUSDT": 0.75, "CUSDT": 0.0}
    assert report.coverage == {"AUSDT": 1.0, "DUSDT": 23 / 24}
    assert Archive.open(tmp_path / "c").assets == ("AUSDT", "DUSDT")


def test_no_symbol_left_by_coverage(tmp_path: Path) -> None:
    closes = np.ones((24, 2))
    closes[:6, 0] = np.nan
    closes[9:, 1] = np.nan
    put(
        tmp_path / "src",
        table(dataclasses.replace(price_day(rows=24, bar=BAR), assets=("BUSDT", "CUSDT"), closes=closes)),
    )
    with pytest.raises(DataError, match=r"no symbol has prices in 1 of the bars; BUSDT comes closest with 0.7500"):
        run(tmp_path / "src", tmp_path / "out", min_coverage=1.0)
    assert not (tmp_path / "out").exists()


def test_days_are_chosen_by_close_time(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    report = run(source, tmp_path / "a", first=DAYS[1], last=DAYS[1])
    archive = Archive.open(tmp_path / "a")
    assert archive.days == (DAYS[1],)
    # The bar that opened at 23:00 the day before is this day's first.
    assert report.first == "2021-04-06T00:00:00Z"
    assert archive.read(DAYS[1]).ts_ns[0] == date_start_ns(DAYS[1])
    assert run(source, tmp_path / "b", first=date(2021, 4, 8)).bars == 1
    for changes in ({"first": date(2022, 1, 1)}, {"last": date(2020, 1, 1)}):
        with pytest.raises(
            DataError, match=r"no row from .* the source has 2021-04-05T01:00:00Z to 2021-04-08T00:00:00Z"
        ):
            run(source, tmp_path / "c", **changes)
    with pytest.raises(ConfigError, match="--from 2021-04-07: lies after --to 2021-04-06"):
        run(source, tmp_path / "c", first=DAYS[2], last=DAYS[1])


def test_one_large_file_is_cut_into_days(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    whole = pa.concat_tables([pq.read_table(path) for path in sorted(source.iterdir())])
    pq.write_table(whole, tmp_path / "all.parquet", row_group_size=7)
    run(source, tmp_path / "a")
    run(tmp_path / "all.parquet", tmp_path / "b")
    assert Archive.open(tmp_path / "a").identity() == Archive.open(tmp_path / "b").identity()


def test_columns_may_come_and_go(tmp_path: Path) -> None:
    for day, names in zip(DAYS, (("BUSDT", "AUSDT"), ("AUSDT", "CUSDT"), ("CUSDT",)), strict=True):
        put(tmp_path / "src", table(price_day(day, rows=24, bar=BAR, assets=names)), day)
    run(tmp_path / "src", tmp_path / "out")
    archive = Archive.open(tmp_path / "out")
    assert archive.assets == ("BUSDT", "AUSDT", "CUSDT")
    midnight = archive.read(DAYS[1]).closes[0]
    assert np.array_equal(
        midnight[:2], price_day(DAYS[0], rows=24, bar=BAR, assets=("BUSDT", "AUSDT")).closes[-1], equal_nan=True
    )
    assert np.isnan(midnight[2])


@pytest.mark.parametrize("style", ["iso", "offset", "space", "s", "ms", "us", "ns"])
def test_csv_tables(tmp_path: Path, style: str) -> None:
    seconds = [1617580800 + 3600 * k for k in range(4)]
    iso = [ns_to_iso(s * NS_PER_S) for s in seconds]
    written: list[object] = {
        "iso": iso,
        "offset": [t.replace("Z", "+00:00") for t in iso],
        "space": [t.replace("T", " ").replace("Z", "+00:00") for t in iso],
        "s": seconds,
        "ms": [s * 1000 for s in seconds],
        "us": [s * 10**6 for s in seconds],
        "ns": [s * 10**9 for s in seconds],
    }[style]
    text = csv_text(written, [1, 2.5, ""], ["nan", 2.5, 3], [1, 0, 3], [1.25, 2.5, "3e0"])
    for name, content in (("a.csv", text), ("bom.csv", "\ufeff" + text.replace("\n", "\r\n"))):
        (tmp_path / name).write_text(content, newline="")
        run(tmp_path / name, tmp_path / name[:-4], stamp="close")
        ts_ns, closes = flat(Archive.open(tmp_path / name[:-4]))
        assert ts_ns.tolist() == [s * NS_PER_S for s in seconds]
        nan = np.nan
        wanted = [[1, 2.5, nan], [nan, 2.5, 3], [1, nan, 3], [1.25, 2.5, 3]]
        assert np.array_equal(closes, wanted, equal_nan=True)


def test_a_csv_of_many_blocks_is_the_same_archive(tmp_path: Path) -> None:
    source = tables(tmp_path / "src", days_from(DAY, 3))
    ts_ns, closes = expected()
    text = csv_text([int(t) // 10**6 for t in ts_ns], *closes.tolist())
    (tmp_path / "all.csv").write_text(text)
    run(source, tmp_path / "a")
    run(tmp_path / "all.csv", tmp_path / "b")
    assert Archive.open(tmp_path / "a").identity() == Archive.open(tmp_path / "b").identity()


@pytest.mark.parametrize("zipped", [True, False])
def test_klines_give_the_archive_that_tables_give(tmp_path: Path, zipped: bool) -> None:
    source = tables(tmp_path / "src")
    ts_ns, closes = expected()
    for k, name in enumerate(ASSETS):
        for day in DAYS:
            own = (ts_ns // NS_PER_DAY == date_start_ns(day) // NS_PER_DAY) & ~np.isnan(closes[:, k])
            kw: dict[str, Any] = {"date_text": str(day), "interval": "1h", "zipped": zipped}
            write_klines(tmp_path / "klines", name, ts_ns[own] // 10**6, closes[own, k], **kw)
    (tmp_path / "klines" / "notes.txt").write_text("x")
    (tmp_path / "klines" / "sub").mkdir()
    run(source, tmp_path / "a")
    report = run(tmp_path / "klines", tmp_path / "b")
    assert Archive.open(tmp_path / "a").identity() == Archive.open(tmp_path / "b").identity()
    assert report.ignored == ("notes.txt",)
    one = tmp_path / "klines" / f"ETHUSDT-1h-{DAYS[1]}.{'zip' if zipped else 'csv'}"
    assert run(one, tmp_path / "c").symbols == ("ETHUSDT",)


def test_what_lies_beside_tables_is_named_and_left_alone(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    (source / "coverage.csv").write_text("symbol,bars\nBTCUSDT,1\n")
    (source / ".hidden.parquet").write_text("x")
    (source / "other").mkdir()
    (source / "other" / "2021-04-05.parquet").write_text("x")
    report = run(source, tmp_path / "out")
    assert report.ignored == ("coverage.csv",)


def test_an_archive_of_scans_is_a_source_of_closes(tmp_path: Path) -> None:
    from tests.market.archive_support import scan_day

    put(tmp_path / "src", table(scan_day(rows=24, bar=BAR)))
    assert run(tmp_path / "src", tmp_path / "out", stamp="close").symbols == ASSETS
    assert Archive.open(tmp_path / "out").kind == "prices"


@pytest.mark.slow
def test_memory_does_not_grow_with_the_source(tmp_path: Path) -> None:
    assets = [f"A{k}USDT" for k in range(20)]
    for count in (4, 16):
        for day in days_from(DAY, count):
            put(tmp_path / f"src{count}", table(price_day(day, rows=1440, bar=60, assets=assets)), day)

    def peak(count: int) -> int:
        tracemalloc.start()
        run(tmp_path / f"src{count}", tmp_path / f"out{count}", bar_seconds=60)
        used = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return used

    assert peak(16) < peak(4) * 1.3


@pytest.mark.parametrize(
    ("name", "bar", "drop", "days", "bars", "symbols", "missing"),
    [
        ("spot_1m_2021", 60, ("AUDUSDT", "GBPUSDT", "EURUSDT"), 22, 30_090, 87, 150),
        ("perp_1m_2025", 60, (), 43, None, 16, None),
        ("perp_5m_2023", 300, ("USDCUSDT",), 22, 5_766, 59, 0),
    ],
)
def test_recorded_markets(
    tmp_path: Path,
    name: str,
    bar: int,
    drop: tuple[str, ...],
    days: int,
    bars: int | None,
    symbols: int,
    missing: int | None,
) -> None:
    source = recorded(name)
    report = run(source, tmp_path / "out", bar_seconds=bar, drop=drop, min_coverage=0.9 if "spot" in name else 0.0)
    archive = Archive.open(tmp_path / "out")
    assert (report.days, len(report.symbols)) == (days, symbols)
    assert bars is None or (report.bars, report.bars_missing) == (bars, missing)
    raw = Archive.open(source)
    first = raw.read(raw.days[1], report.symbols)
    mine = archive.read(raw.days[1], report.symbols)
    inside = mine.ts_ns > date_start_ns(raw.days[1])
    assert np.array_equal(mine.ts_ns[inside], first.ts_ns[: inside.sum()] + bar * NS_PER_S)
    assert np.array_equal(mine.closes[inside], first.closes[: inside.sum()], equal_nan=True)


def test_a_single_recorded_file(tmp_path: Path) -> None:
    source = recorded("perp_1m_2025") / "other" / "close_5m_2025-03_04.parquet"
    report = run(source, tmp_path / "out", bar_seconds=300)
    assert (report.days, report.bars, len(report.symbols)) == (39, 10_905, 14)
    with pytest.raises(DataError, match="bars are 180 s apart, expected 300 s"):
        run(source.parent, tmp_path / "mixed", bar_seconds=300)
