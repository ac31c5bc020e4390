"""`dolphin scan run` and `dolphin scan certify`, end to end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.clock import date_start_ns
from dolphin.market.archive import Archive, ArchiveWriter
from dolphin.market.tables import SIGNAL_COLUMNS, PriceDay, ScanDay
from dolphin.research.scanning import scan_archive
from dolphin.scan.layout import WINDOWS
from dolphin.ui.cli import run
from tests.reference.scanner_ref import Floats
from tests.scan.cases import MINUTE, assert_same_bits, factor_market, part, scan

FIRST = date(2024, 1, 1)
ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
ROWS = 1440
DAYS = 3


@pytest.fixture(scope="module")
def closes() -> Floats:
    closes = factor_market(31, DAYS * ROWS, len(ASSETS))
    closes[2000:2010, 1] = np.nan
    return closes


@pytest.fixture(scope="module")
def market(closes: Floats, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three whole days of prices, but for a hole of twenty minutes on the third."""
    folder = tmp_path_factory.mktemp("scan") / "prices"
    with ArchiveWriter(folder, "prices", 60.0, source={"made_by": "a test"}) as writer:
        for k in range(DAYS):
            day = FIRST + timedelta(days=k)
            rows = np.arange(ROWS)
            if k == 2:
                rows = np.delete(rows, slice(600, 620))
            stamps = date_start_ns(day) + rows.astype(np.int64) * MINUTE
            writer.write(PriceDay(day, stamps, ASSETS, np.ascontiguousarray(closes[k * ROWS + rows])))
    return folder


@pytest.fixture(scope="module")
def scans(market: Path) -> Path:
    folder = market.parent / "scans"
    assert run(["scan", "run", str(market), "--out", str(folder)]) == 0
    return folder


def line_of(capsys: pytest.CaptureFixture[str]) -> str:
    """The one line of an error, nothing on stdout."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dolphin: ")
    assert err.count("\n") == 1
    return err


def days_of(folder: Path, first: date | None = None) -> list[ScanDay]:
    days = list(Archive.open(folder).select(first).iter_days())
    assert all(isinstance(day, ScanDay) for day in days)
    return days  # type: ignore[return-value]


def certify(capsys: pytest.CaptureFixture[str], *args: object, code: int = 0) -> dict[str, Any]:
    assert run(["scan", "certify", *map(str, args), "--json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


def test_the_archive_of_scans_is_the_scanner_s(scans: Path, market: Path) -> None:
    archive = Archive.open(scans)
    assert (archive.kind, archive.bar_seconds, archive.assets) == ("scans", 60.0, ASSETS)
    prices = list(Archive.open(market).iter_days())
    ts = np.concatenate([day.ts_ns for day in prices])
    table = scan(np.concatenate([day.closes for day in prices]), ts)
    signals = np.column_stack((table.vel_div, table.velocity, table.instability[:, :2]))
    days = days_of(scans)
    np.testing.assert_array_equal(np.concatenate([day.signals for day in days]), signals)
    np.testing.assert_array_equal(np.concatenate([day.scan_number for day in days]), np.arange(len(ts)))
    for day, before in zip(days, prices, strict=True):
        np.testing.assert_array_equal(day.closes, before.closes)
        np.testing.assert_array_equal(day.ts_ns, before.ts_ns)
        assert day.signals.shape == (day.rows, len(SIGNAL_COLUMNS))


def test_where_signals_begin(scans: Path) -> None:
    first, second, third = (day.signal("vel_div") for day in days_of(scans))
    assert np.flatnonzero(np.isfinite(first))[0] == 751
    assert np.isfinite(second).all()  # warmed up by the day before
    assert np.isfinite(third[:600]).all()
    assert np.isnan(third[600 : 600 + 751]).all()  # the hole
    assert np.isfinite(third[600 + 751 :]).all()


def test_a_later_day_alone_is_warmed_up(market: Path, scans: Path) -> None:
    second = FIRST + timedelta(days=1)
    alone = next(scan_archive(Archive.open(market), second, second))
    assert np.isfinite(alone.signal("vel_div")).all()
    whole = days_of(scans, second)[0]
    np.testing.assert_allclose(alone.signals[:, :5], whole.signals[:, :5], rtol=0.0, atol=1e-9)


def test_what_a_manifest_tells(scans: Path, market: Path) -> None:
    manifest = json.loads((scans / "manifest.json").read_text())
    assert manifest["source"]["prices"] == Archive.open(market).identity()
    assert manifest["source"]["windows"] == list(WINDOWS)
    assert manifest["source"]["version"]
    assert (manifest["source"]["prices_from"], manifest["source"]["prices_to"]) == ("2024-01-01", "2024-01-03")


def test_run_reports_in_json(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "some"
    args = ["scan", "run", str(market), "--out", str(out), "--from", "2024-01-02", "--to", "2024-01-02", "--json"]
    assert run(args) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["days"] == 1
    assert document["bars"] == document["signals"] == ROWS
    assert document["assets"] == len(ASSETS)
    assert document["first_signal"] == "2024-01-02T00:00:00Z"
    assert document["source"]["prices_from"] == "2024-01-01"  # what it was warmed up with is part of what it is
    assert document["content_hash"] == Archive.open(out).identity()
    assert run(args) == 2
    assert "--force" in line_of(capsys)
    assert run([*args, "--force"]) == 0
    assert json.loads(capsys.readouterr().out) == document


def test_run_speaks_one_line(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", "run", str(market), "--out", str(tmp_path / "out")]) == 0
    out, err = capsys.readouterr()
    assert "3 days, 4 assets, 4,300 bars of 60 s" in out
    assert "with a signal from 2024-01-01T12:31:00Z on" in out
    assert out.count("\n") == 1
    assert err == ""


def test_two_processes_write_the_same_bytes(market: Path, scans: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dolphin.ui.cli", "scan", "run", str(market), "--out", str(tmp_path / "again")]
    program = "import sys; from dolphin.ui.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", program, *command[3:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    for path in sorted(scans.iterdir()):
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--from", "2024-02-30"], "not a calendar date"),
        (["--from", "2024-01-03", "--to", "2024-01-01"], "swap them"),
        (["--from", "2025-01-01"], "no day from 2025-01-01"),
    ],
)
def test_run_refuses_days(
    args: list[str], message: str, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scan", "run", str(market), "--out", str(tmp_path / "out"), *args]) == 2
    assert message in line_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_run_refuses_what_is_no_archive_of_prices(
    scans: Path, market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    (tmp_path / "empty").mkdir()
    for source, message in (
        (tmp_path / "absent", "no such directory"),
        (tmp_path / "empty", "no day files"),
        (scans, "holds scans"),
    ):
        assert run(["scan", "run", str(source), "--out", str(out)]) == 2
        assert message in line_of(capsys)
    before = sorted(p.name for p in market.iterdir())
    assert run(["scan", "run", str(market), "--out", str(market), "--force"]) == 2
    assert "the archive of prices itself" in line_of(capsys)
    assert sorted(p.name for p in market.iterdir()) == before
    assert not out.exists()


def test_a_broken_day_leaves_nothing_behind(market: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    copy = tmp_path / "prices"
    copy.mkdir()
    for path in market.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    last = copy / "2024-01-03.parquet"
    last.write_bytes(last.read_bytes()[:-100])
    assert run(["scan", "run", str(copy), "--out", str(tmp_path / "out")]) == 2
    assert "2024-01-03.parquet" in line_of(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["prices"]


@pytest.mark.parametrize("which", ["scans", "prices"])
def test_certify(which: str, scans: Path, market: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = scans if which == "scans" else market
    document = certify(capsys, folder, "--date", "2024-01-02", "--bars", "0,700,1439")
    assert (document["pass"], document["fail"], document["filling"]) == (12, 0, 0)
    assert [(c["bar"], c["window"]) for c in document["checks"]] == [(b, w) for b in (0, 700, 1439) for w in WINDOWS]
    for item in document["checks"]:
        assert item["status"] == "pass"
        assert float(item["certified"]["lower"]) == pytest.approx(item["float64"], rel=1e-9)
        assert item["relative_distance"] <= 1e-9
        assert item["certified"]["bits"] == 512
        assert item["certified"]["radius"] <= 1e-140
        assert item["certified"]["members"] == item["members"] in (3, 4)
    assert {c["members"] for c in document["checks"]} == {3, 4}  # the asset that was missing at bars 560 to 569


def test_a_window_that_fills_is_no_pass(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = certify(capsys, scans, "--date", "2024-01-01", "--bars", "49,50,150,749,750")
    status = {(c["bar"], c["window"]): c["status"] for c in document["checks"]}
    for (bar, window), found in status.items():
        assert found == ("pass" if bar >= window else "filling")
    assert document["pass"] == 1 + 2 + 3 + 4
    assert document["filling"] == 20 - document["pass"]
    after_hole = certify(capsys, scans, "--date", "2024-01-03", "--bars", "599,600,649,650")
    assert [c["status"] for c in after_hole["checks"] if c["window"] == 50] == ["pass", "filling", "filling", "pass"]


def test_nothing_certified_is_a_failure(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = certify(capsys, scans, "--date", "2024-01-01", "--bars", "0", code=1)
    assert (document["pass"], document["filling"]) == (0, 4)


def test_certify_chooses_bars_and_windows(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    day = (scans, "--date", "2024-01-02")
    every = certify(capsys, *day, "--every", 400, "--windows", "50")
    assert [(c["bar"], c["window"]) for c in every["checks"]] == [(0, 50), (400, 50), (800, 50), (1200, 50)]
    drawn = [certify(capsys, *day, "--random", 5, "--seed", 3, "--windows", "50") for _ in range(2)]
    assert drawn[0] == drawn[1]
    bars = [c["bar"] for c in drawn[0]["checks"]]
    assert len(set(bars)) == 5
    assert bars == sorted(bars)
    other = certify(capsys, *day, "--random", 5, "--seed", 4, "--windows", "50")
    assert [c["bar"] for c in other["checks"]] != bars


def test_certify_prints_every_window(scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", "certify", str(scans), "--date", "2024-01-01", "--bars", "60", "--windows", "50,750"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert "2024-01-01T01:00:00Z" in lines[0]
    assert "certified [" in lines[0]
    assert lines[0].endswith("pass")
    assert lines[1].endswith("filling")
    assert lines[2].startswith("1 pass, 1 filling; off by ")


def test_a_wrong_value_fails(scans: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    import dolphin.research.certifying as certifying

    class Off(certifying.Scanner):
        def scan(self, ts_ns: Any, closes: Any) -> Any:
            table = super().scan(ts_ns, closes)
            table.largest_eigenvalue[700, 1] *= 1.0 + 2e-9
            return table

    monkeypatch.setattr(certifying, "Scanner", Off)
    document = certify(capsys, scans, "--date", "2024-01-02", "--bars", "699,700", code=1)
    assert document["fail"] == 1
    wrong = [c for c in document["checks"] if c["status"] == "fail"]
    assert [(c["bar"], c["window"]) for c in wrong] == [(700, 150)]
    assert wrong[0]["relative_distance"] == pytest.approx(2e-9, rel=0.1)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--date", "2024-01-09", "--bars", "1"], "no day 2024-01-09"),
        (["--date", "yesterday", "--bars", "1"], "not a calendar date"),
        (["--date", "2024-01-02", "--bars", "1440"], "0 to 1439"),
        (["--date", "2024-01-02", "--bars=-1"], "0 to 1439"),
        (["--date", "2024-01-02", "--bars", "one"], "whole numbers"),
        (["--date", "2024-01-02", "--bars", "1", "--windows", "50,51"], "--windows 51"),
        (["--date", "2024-01-02"], "say which bars"),
        (["--date", "2024-01-02", "--bars", "1", "--every", "5"], "say which bars"),
        (["--date", "2024-01-02", "--every", "0"], "--every 0"),
        (["--date", "2024-01-02", "--random", "0"], "--random 0"),
        (["--date", "2024-01-02", "--random", "1441"], "1 to 1440"),
        (["--date", "2024-01-02", "--random", "2", "--seed=-1"], "--seed -1"),
        (["--date", "2024-01-02", "--bars", "1", "--seed", "1"], "--random only"),
        (["--bars", "1"], "--date"),
    ],
)
def test_certify_refuses(args: list[str], message: str, scans: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", "certify", str(scans), *args]) == 2
    assert message in line_of(capsys)


@pytest.mark.parametrize("command", [[], ["run"], ["certify"]])
def test_help_teaches_with_an_example(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["scan", *command, "--help"]) == 0
    assert "dolphin scan run market --out" in capsys.readouterr().out or command == ["certify"]


def test_an_archive_whose_assets_change(tmp_path: Path, closes: Floats, capsys: pytest.CaptureFixture[str]) -> None:
    """An asset that is listed on the second day: NaN before, and a member of a window once that holds none of it."""
    folder = tmp_path / "prices"
    with ArchiveWriter(folder, "prices", 60.0) as writer:
        for k, names in enumerate((ASSETS[:3], ASSETS)):
            day, rows = FIRST + timedelta(days=k), slice(k * ROWS, (k + 1) * ROWS)
            stamps = date_start_ns(day) + np.arange(ROWS, dtype=np.int64) * MINUTE
            writer.write(PriceDay(day, stamps, names, np.ascontiguousarray(closes[rows, : len(names)])))
    assert run(["scan", "run", str(folder), "--out", str(tmp_path / "scans"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["assets"] == 4
    day = days_of(tmp_path / "scans")[1]
    padded = closes[: 2 * ROWS].copy()
    padded[:ROWS, 3] = np.nan
    table = scan(padded, np.concatenate([d.ts_ns for d in days_of(tmp_path / "scans")]))
    np.testing.assert_array_equal(day.signal("vel_div"), table.vel_div[ROWS:])
    assert_same_bits(part(table, slice(0, ROWS)), scan(padded[:ROWS]))
    document = certify(capsys, tmp_path / "scans", "--date", "2024-01-02", "--bars", "49,50,51", "--windows", "50")
    assert [c["members"] for c in document["checks"]] == [3, 4, 4]
