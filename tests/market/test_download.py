"""Downloads from a real HTTP server on loopback: what arrives, from where, and what is said to be missing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dolphin.core.clock import iso_to_ns
from dolphin.core.errors import ConfigError, DataError, ExchangeError
from dolphin.market.archive import Archive
from dolphin.market.download import DownloadSpec, describe, download
from dolphin.market.download.plan import Piece, plan
from dolphin.ui.cli import run
from tests.support.archive_server import ArchiveServer, zip_of
from tests.support.downloads import FakeTime, Klines, klines, leftovers, spec_for, written
from tests.support.shared import recorded

JAN30, FEB2 = date(2024, 1, 30), date(2024, 2, 2)


@pytest.fixture
def server() -> Iterator[ArchiveServer]:
    with ArchiveServer().running() as running:
        yield running


@pytest.mark.parametrize(("market", "micro", "header"), [("um", False, True), ("spot", True, False)])
def test_a_complete_run(server: ArchiveServer, tmp_path: Path, market: str, micro: bool, header: bool) -> None:
    made = klines(JAN30, 4, assets=3)
    made.publish(server, market, "15m", micro=micro, header=header)
    heard: list[int] = []
    spec = spec_for(server, tmp_path / "out", made, JAN30, FEB2, market=market)
    report = download(spec, timing=FakeTime().timing(), advance=heard.append)
    # Four whole days, less the first midnight bar: its kline opened the day before.
    assert written(spec.out, made.symbols) == made.expected(JAN30, FEB2)
    assert (report.days, report.bars, report.archive_files, report.missing) == (4, 4 * 96 - 1, 12, {})
    assert sum(heard) == 12
    assert not (spec.out / "raw").exists()
    assert server.repeated() == {}


def test_the_stamp_is_open_plus_length(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=1)
    made.publish(server, "um", "15m")
    spec = spec_for(server, tmp_path, made, JAN30, JAN30)
    download(spec, timing=FakeTime().timing())
    rows = written(tmp_path, made.symbols)
    assert min(rows) == iso_to_ns("2024-01-30T00:15:00Z")
    assert rows[min(rows)] == [made.closes[0, 0]]
    assert max(rows) == iso_to_ns("2024-01-30T23:45:00Z")


def test_whole_months_come_as_one_file_and_edges_as_days(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(date(2024, 1, 30), 33, assets=2)
    made.publish(server, "um", "15m")
    spec = spec_for(server, tmp_path, made, date(2024, 1, 30), date(2024, 3, 2))
    report = download(spec, timing=FakeTime().timing())
    assert written(tmp_path, made.symbols) == made.expected(spec.first, spec.last)
    assert report.days == 33
    zips = sorted(s.path.rpartition("/")[2] for s in server.seen if s.path.endswith(".zip") and "BTC" in s.path)
    assert zips == [
        "BTCUSDT-15m-2024-01-30.zip",
        "BTCUSDT-15m-2024-01-31.zip",
        "BTCUSDT-15m-2024-02.zip",
        "BTCUSDT-15m-2024-03-01.zip",
        "BTCUSDT-15m-2024-03-02.zip",
    ]


def test_a_month_that_is_not_published_comes_as_days(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(date(2024, 2, 1), 29, assets=1)
    made.publish(server, "um", "15m")
    server.withdraw("/monthly/")
    spec = spec_for(server, tmp_path, made, date(2024, 2, 1), date(2024, 2, 29))
    report = download(spec, timing=FakeTime().timing())
    assert report.archive_files == 29
    assert written(tmp_path, made.symbols) == made.expected(spec.first, spec.last)


@pytest.mark.parametrize(("market", "path"), [("um", "/fapi/v1/klines"), ("spot", "/api/v3/klines")])
def test_the_newest_days_come_from_rest_in_pages(server: ArchiveServer, tmp_path: Path, market: str, path: str) -> None:
    made = klines(JAN30, 4, bar=60, assets=2)
    made.publish(server, market, "1m")
    server.withdraw("2024-02")
    made.publish_rest(server, "1m")
    now = FakeTime(wall_ns=iso_to_ns("2024-02-02T10:30:20Z"))
    spec = spec_for(server, tmp_path, made, JAN30, FEB2, market=market, interval="1m", keep_raw=True)
    report = download(spec, timing=now.timing())
    rows = written(tmp_path, made.symbols)
    # The kline of 10:30 is still open; that of 10:29 is closed.
    until = iso_to_ns("2024-02-02T10:30:00Z")
    assert rows == {t: row for t, row in made.expected(JAN30, FEB2).items() if t <= until}
    assert report.rest_days == 4
    # 1440 + 630 bars are three pages of at most 1000, in one run over both days.
    assert server.count(path) == 2 * 3
    kept = sorted(p.name for p in (tmp_path / "raw").rglob("*.rest*.csv") if "BTC" in p.name)
    assert kept == ["BTCUSDT-1m-2024-02-01.rest.csv", "BTCUSDT-1m-2024-02-02.rest.today.csv"]


def test_a_kline_counts_as_closed_only_after_a_margin(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, bar=60, assets=1)
    made.publish_rest(server, "1m")
    spec = spec_for(server, tmp_path, made, JAN30, JAN30, interval="1m")
    download(spec, timing=FakeTime(wall_ns=iso_to_ns("2024-01-30T10:30:05Z")).timing())
    assert max(written(tmp_path, made.symbols)) == iso_to_ns("2024-01-30T10:29:00Z")


def test_a_day_that_neither_has_stays_missing_and_is_reported(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 4, assets=2)
    made.publish(server, "um", "15m")
    server.withdraw("ETHUSDT-15m-2024-01-31")
    made.closes[96:192, 1] = np.nan
    spec = spec_for(server, tmp_path, made, JAN30, FEB2)
    report = download(spec, timing=FakeTime().timing())
    assert report.missing == {"ETHUSDT": [date(2024, 1, 31)]}
    rows, want = written(tmp_path, made.symbols), made.expected(JAN30, FEB2)
    assert list(rows) == list(want)
    assert np.array_equal(np.array(list(rows.values())), np.array(list(want.values())), equal_nan=True)


def test_a_bar_that_nobody_has_is_an_absent_row(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 2, assets=2)
    keep = np.ones(192, dtype=bool)
    keep[40:43] = False
    thin = Klines(made.symbols, made.open_s[keep], made.closes[keep], made.bar)
    thin.publish(server, "um", "15m")
    spec = spec_for(server, tmp_path, thin, JAN30, date(2024, 1, 31))
    report = download(spec, timing=FakeTime().timing())
    assert report.bars == 191 - 3
    assert written(tmp_path, thin.symbols) == thin.expected(JAN30, spec.last)


def test_an_unknown_symbol_is_reported_and_gets_no_column(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=1)
    made.publish(server, "um", "15m")
    made.publish_rest(server, "15m")
    spec = spec_for(server, tmp_path, made, JAN30, JAN30, symbols=("NOSUCHUSDT", "BTCUSDT"))
    report = download(spec, timing=FakeTime().timing())
    assert report.symbols == ("BTCUSDT",)
    assert report.missing == {"NOSUCHUSDT": [JAN30]}
    assert "NOSUCHUSDT" not in pq.ParquetFile(tmp_path / "2024-01-30.parquet").schema_arrow.names


def test_nothing_at_all_is_bad_input_and_leaves_nothing(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=1)
    spec = spec_for(server, tmp_path / "out", made, JAN30, FEB2)
    with pytest.raises(DataError, match="has no 15m klines from 2024-01-30 to 2024-02-02 on market um"):
        download(spec, timing=FakeTime().timing())
    assert not spec.out.exists()
    # Years of nothing cost one REST request, not one a day.
    assert server.count("/fapi/") == 1


def test_files_without_a_row_are_nothing_too(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=1)
    empty = Klines(made.symbols, made.open_s[:2], made.closes[:2], made.bar)
    empty.publish(server, "um", "15m")
    path = next(path for path in server.files if path.endswith("daily/klines/BTCUSDT/15m/BTCUSDT-15m-2024-01-30.zip"))
    server.put(path, zip_of(""))
    with pytest.raises(DataError, match="has no 15m klines"):
        download(spec_for(server, tmp_path, made, JAN30, JAN30), timing=FakeTime().timing())
    assert list(tmp_path.glob("*.parquet")) == []


def test_prices_that_are_no_prices_become_missing(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=2)
    made.closes[5, 1] = 0.0
    made.publish(server, "um", "15m")
    download(spec_for(server, tmp_path, made, JAN30, JAN30), timing=FakeTime().timing())
    assert [k for k, row in enumerate(written(tmp_path, made.symbols).values()) if np.isnan(row[1])] == [5]


def test_klines_off_the_grid_are_refused_though_their_checksum_holds(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=1)
    made.open_s += 7
    made.publish(server, "um", "15m")
    with pytest.raises(
        ExchangeError, match=r"BTCUSDT-15m-2024-01-30\.zip: row 1 opens at 1706572807000 ms, expected a mul"
    ):
        download(spec_for(server, tmp_path, made, JAN30, JAN30), timing=FakeTime().timing())
    assert leftovers(tmp_path) == []


def test_a_published_file_that_is_no_zip_is_a_failure_of_the_host(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 1, assets=1)
    made.publish(server, "um", "15m")
    server.put("/data/futures/um/daily/klines/BTCUSDT/15m/BTCUSDT-15m-2024-01-30.zip", b"PK-nothing-of-the-kind")
    with pytest.raises(ExchangeError, match="not a whole zip file"):
        download(spec_for(server, tmp_path, made, JAN30, JAN30), timing=FakeTime().timing())
    assert leftovers(tmp_path) == []


def test_recorded_prices_survive_the_round_trip(server: ArchiveServer, tmp_path: Path) -> None:
    folder = recorded("spot_1m_2021")
    symbols = ("BTCUSDT", "ETHUSDT", "DOGEUSDT")
    tables = [pq.ParquetFile(folder / f"2021-04-{d}.parquet").read(["timestamp", *symbols]) for d in ("19", "20", "21")]
    stamps = np.concatenate([t.column("timestamp").to_numpy().astype("datetime64[s]").astype(np.int64) for t in tables])
    closes = np.vstack([np.column_stack([t.column(s).to_numpy() for s in symbols]) for t in tables])
    made = Klines(symbols, stamps, closes, 60)
    made.publish(server, "spot", "1m")
    spec = spec_for(server, tmp_path, made, date(2021, 4, 19), date(2021, 4, 21), market="spot", interval="1m")
    report = download(spec, timing=FakeTime().timing())
    assert written(tmp_path, symbols) == made.expected(spec.first, spec.last)
    assert report.bars == 3 * 1440 - 1 - 150  # the exchange's outage of 2021-04-20 stays a gap


def test_the_archive_opens_and_says_where_it_comes_from(server: ArchiveServer, tmp_path: Path) -> None:
    made = klines(JAN30, 4, assets=2)
    made.publish(server, "um", "15m")
    server.withdraw("ETHUSDT-15m-2024-01-31")
    server.withdraw("ETHUSDT-15m-2024-02-01")
    report = download(spec_for(server, tmp_path, made, JAN30, FEB2, keep_raw=True), timing=FakeTime().timing())
    archive = Archive.open(tmp_path)
    assert report.content_hash == archive.identity()
    assert (archive.kind, archive.bar_seconds, archive.assets) == ("prices", 900.0, made.symbols)
    assert [day.rows for day in archive.iter_days()] == [95, 96, 96, 96]
    assert archive.manifest is not None
    source = archive.manifest.source
    assert (source["market"], source["interval"], source["archive_url"]) == ("um", "15m", server.url)
    assert source["missing"] == {"ETHUSDT": ["2024-01-31…2024-02-01"]}


def test_days_in_words() -> None:
    days = [date(2024, 1, d) for d in (1, 3, 4, 5, 9)]
    assert describe(days) == ["2024-01-01", "2024-01-03…2024-01-05", "2024-01-09"]
    assert describe([]) == []


# --- through the command line --------------------------------------------------------------------------------


def command(server: ArchiveServer, out: Path, **more: str) -> list[str]:
    options = {
        "symbols": "BTCUSDT,ETHUSDT",
        "from": "2024-01-30",
        "to": "2024-01-31",
        "interval": "15m",
        "out": str(out),
        "archive-url": server.url,
        "rest-url": server.url,
        "rate": "100",
        **more,
    }
    return ["data", "download", *(x for k, v in options.items() for x in (f"--{k}", v))]


def test_the_command_line(server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    klines(JAN30, 2).publish(server, "um", "15m")
    server.withdraw("ETHUSDT-15m-2024-01-31")
    assert run([*command(server, tmp_path / "out"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["bars"] == 191
    assert told["missing"] == {"ETHUSDT": ["2024-01-31"]}
    assert run(command(server, tmp_path / "again")) == 0
    said = capsys.readouterr()
    assert "2 days, 2 symbols, 191 bars" in said.out
    assert "ETHUSDT: the exchange has no klines for 2024-01-31" in said.err


def test_help_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "download", "--help"]) == 0
    assert "dolphin data download --symbols BTCUSDT,ETHUSDT" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"interval": "7m"}, "--interval 7m: expected one of"),
        ({"interval": "1s"}, "--market spot only"),
        ({"market": "coin"}, "--market coin: expected one of um, spot"),
        ({"from": "2024-02-01"}, "--from 2024-02-01: after --to 2024-01-31"),
        ({"from": "01.02.2024"}, "--from: '01.02.2024' is not a calendar date"),
        ({"to": "2500-01-01"}, "--to 2500-01-01: lies in the future"),
        ({"from": "2001-01-01", "to": "2001-01-02"}, "no klines before 2019-09-01"),
        ({"symbols": "btcusdt"}, "--symbols 'btcusdt': expected capital letters"),
        ({"symbols": "BTC/USDT"}, "--symbols 'BTC/USDT'"),
        ({"symbols": "../BTCUSDT"}, "--symbols '../BTCUSDT'"),
        ({"symbols": ","}, "--symbols: none given"),
        ({"symbols": "BTCUSDT,BTCUSDT"}, "given 2 times"),
        ({"archive-url": "ftp://x"}, "--archive-url 'ftp://x'"),
        ({"rest-url": "nowhere"}, "--rest-url 'nowhere'"),
        ({"rest-url": "http://[::1"}, "--rest-url 'http://[::1'"),
        ({"rest-url": "http://x:99999/"}, "--rest-url 'http://x:99999/'"),
        ({"rest-url": "http:///path"}, "--rest-url 'http:///path'"),
        ({"concurrency": "0"}, "--concurrency 0"),
        ({"rate": "0"}, "--rate 0"),
    ],
)
def test_bad_input_is_one_line_and_touches_nothing(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], wrong: dict[str, str], says: str
) -> None:
    assert run(command(server, tmp_path / "out", **wrong)) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert said.err.count("\n") == 1
    assert said.out == ""
    assert not (tmp_path / "out").exists()
    assert server.seen == []


def test_a_folder_that_cannot_be_written_is_bad_input(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert run(command(server, out)) == 2
        said = capsys.readouterr().err
        assert str(tmp_path / "file") in said
        assert said.count("\n") == 1
    assert server.seen == []


def test_an_archive_that_is_there_is_not_overwritten_unasked(
    server: ArchiveServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    klines(JAN30, 2).publish(server, "um", "15m")
    assert run(command(server, tmp_path)) == 0
    before, asked = leftovers(tmp_path), len(server.seen)
    assert run(command(server, tmp_path)) == 2
    assert "--force" in capsys.readouterr().err
    assert (leftovers(tmp_path), len(server.seen)) == (before, asked)
    assert run([*command(server, tmp_path), "--force"]) == 0


# --- the plan ------------------------------------------------------------------------------------------------


def spec_of(first: date, last: date) -> DownloadSpec:
    return DownloadSpec(symbols=("BTCUSDT", "1000PEPEUSDT"), first=first, last=last, out=Path("nowhere"))


def test_plan_covers_every_day_once_with_whole_months() -> None:
    pieces = plan(spec_of(date(2023, 12, 31), date(2024, 3, 1)))
    mine = [p for p in pieces if p.symbol == "BTCUSDT"]
    assert [(str(p.first), str(p.last), p.monthly) for p in mine] == [
        ("2023-12-31", "2023-12-31", False),
        ("2024-01-01", "2024-01-31", True),
        ("2024-02-01", "2024-02-29", True),
        ("2024-03-01", "2024-03-01", False),
    ]
    assert sum(p.days for p in pieces) == 2 * 62


def test_addresses_are_those_of_the_public_archive() -> None:
    day = date(2024, 1, 2)
    spec = spec_of(day, day)
    assert Piece("BTCUSDT", day, day, monthly=False).url(spec) == (
        "https://data.binance.vision/data/futures/um/daily/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01-02.zip"
    )
    spot = DownloadSpec(symbols=("BTCUSDT",), first=day, last=day, out=Path("x"), market="spot")
    assert Piece("BTCUSDT", date(2024, 1, 1), date(2024, 1, 31), monthly=True).url(spot) == (
        "https://data.binance.vision/data/spot/monthly/klines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip"
    )
    assert (spec.rest_base, spot.rest_base) == ("https://fapi.binance.com", "https://api.binance.com")


def test_a_wrong_spec_is_a_config_error() -> None:
    with pytest.raises(ConfigError, match="after --to"):
        spec_of(date(2024, 1, 2), date(2024, 1, 1))
