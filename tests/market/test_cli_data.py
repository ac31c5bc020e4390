"""`dolphin data import` and `dolphin data verify` as they are run: exit codes, one clear line, JSON."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.clock import date_start_ns
from dolphin.market.archive import Archive
from dolphin.market.dayfile import write_scan_day
from dolphin.market.manifest import MANIFEST_NAME
from dolphin.market.tables import ScanDay
from dolphin.ui.cli import run
from tests.market.archive_support import (
    DAY,
    days_from,
    price_day,
    put,
    scan_day,
    table,
    tree,
    write_archive,
    write_klines,
)
from tests.support.shared import recorded

DAYS = days_from(DAY, 3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    for day in DAYS:
        put(tmp_path / "src", table(price_day(day, rows=1440)), day)
    return tmp_path / "src"


def import_args(source: Path, out: Path, *more: str) -> list[str]:
    return ["data", "import", str(source), "--bar-seconds", "60", "--stamp", "open", "--out", str(out), *more]


def test_an_import_tells_what_it_did(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (source / "notes.txt").write_text("x")
    assert run(import_args(source, tmp_path / "out", "--drop", "XRPUSDT,EURUSDT", "--min-coverage", "0.5")) == 0
    said = capsys.readouterr()
    assert said.out == (
        f"{tmp_path / 'out'}: 4 days, 2 symbols, {Archive.open(tmp_path / 'out').manifest.rows:,} bars of 60 s, "  # type: ignore[union-attr]
        "2021-04-05T00:01:00Z to 2021-04-08T00:00:00Z; "
        f"{said.out.rsplit('; ', 1)[1]}"
    )
    assert said.err == "--drop: the source has no EURUSDT\nnot read: notes.txt\n"


def test_an_import_for_machines(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(import_args(source, tmp_path / "out", "--symbols", "ETHUSDT,BTCUSDT", "--json")) == 0
    said = capsys.readouterr()
    result = json.loads(said.out)
    assert said.err == ""
    assert result["symbols"] == ["ETHUSDT", "BTCUSDT"]
    assert (result["days"], result["bar_seconds"], result["dropped"], result["ignored"]) == (4, 60.0, {}, [])
    assert result["content_hash"] == Archive.open(tmp_path / "out").identity()
    assert result["bars"] == 4320 - result["bars_missing"]


def test_then_verify_passes(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(import_args(source, out, "--from", "2021-04-06", "--to", "2021-04-06", "--json")) == 0
    imported = json.loads(capsys.readouterr().out)
    assert run(["data", "verify", str(out), "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert (verified["ok"], verified["problems"], verified["manifest"], verified["rebuild"]) == (True, [], True, None)
    assert verified["content_hash"] == imported["content_hash"]
    assert verified["expected_rows"] == 1440
    assert sum(verified["rows"].values()) == imported["bars"]
    assert sum(gap["bars"] for gap in verified["gaps"]) == imported["bars_missing"]
    assert run(["data", "verify", str(out)]) == 0
    assert f"{out}: sound; 1 days of prices" in " ".join(capsys.readouterr().out.split())


def test_verify_fails_clearly(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    assert run(import_args(source, out)) == 0
    path = out / "2021-04-06.parquet"
    path.write_bytes(path.read_bytes()[:-5])
    capsys.readouterr()
    assert run(["data", "verify", str(out)]) == 1
    said = capsys.readouterr().out
    assert f"FAILED  {path}: not a whole Parquet file" in said
    assert "NOT SOUND" in said
    assert run(["data", "verify", str(out), "--json", "--rebuild", str(source)]) == 1
    result = json.loads(capsys.readouterr().out)
    assert not result["ok"]
    assert len(result["problems"]) == 1
    assert result["rebuild"] == {"prices": str(source), "compared": False, "difference": None}


def test_long_lists_are_cut_on_the_terminal_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_archive(tmp_path, [price_day(day, rows=5) for day in days_from(DAY, 40)])
    assert run(["data", "verify", str(tmp_path)]) == 0
    assert "… 20 more" in capsys.readouterr().out
    assert run(["data", "verify", str(tmp_path), "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["gaps"]) == 39


def _bad_calls(tmp_path: Path) -> dict[str, tuple[list[str], str]]:
    """Command lines that are refused, and what they are told."""
    src, out = tmp_path / "src", tmp_path / "out"
    cut = write_klines(
        tmp_path / "zip", "AUSDT", date_start_ns(DAY) // 10**6 + np.arange(99) * 60000, np.ones(99), date_text=str(DAY)
    )
    cut.write_bytes(cut.read_bytes()[:-9])
    broken = put(tmp_path / "broken", table(price_day()))
    broken.write_bytes(broken.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    plain = ["data", "import", str(src), "--out", str(out)]
    return {
        "no stamp": ([*plain, "--bar-seconds", "60"], "--stamp: say whether the stamps of"),
        "no length": ([*plain, "--stamp", "open"], "--bar-seconds: say how long a bar"),
        "no out": (["data", "import", str(src), "--bar-seconds", "60", "--stamp", "open"], "Missing option '--out'"),
        "stamp": ([*plain, "--bar-seconds", "60", "--stamp", "mid"], "--stamp 'mid': expected open or close"),
        "length": ([*plain, "--bar-seconds", "1m", "--stamp", "open"], "'1m' is not a valid float"),
        "other length": ([*plain, "--bar-seconds", "300", "--stamp", "open"], "60 s apart, expected 300 s"),
        "from": (import_args(src, out, "--from", "2021-4-6"), "--from: '2021-4-6' is not a calendar date"),
        "range": (import_args(src, out, "--to", "2020-01-01"), "no row from its start to 2020-01-01"),
        "symbol": (import_args(src, out, "--symbols", "NOUSDT"), "--symbols: the source has no NOUSDT"),
        "source": (import_args(tmp_path / "absent", out), "no such file or directory"),
        "empty": (import_args(tmp_path / "empty", out), "no prices"),
        "zip": (import_args(tmp_path / "zip", out), "AUSDT-1m-2021-04-05.zip: not a whole zip file"),
        "parquet": (import_args(tmp_path / "broken", out), "2021-04-05.parquet: not a whole Parquet file"),
        "unwritable": (import_args(src, broken / "out"), "cannot be written"),
        "verify nothing": (["data", "verify", str(tmp_path / "empty")], "no day files"),
        "verify absent": (["data", "verify", str(tmp_path / "absent")], "no such directory"),
        "command": (["data", "imprt"], "No such command 'imprt'"),
    }


def test_bad_input_is_one_line_and_exit_code_2(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = _bad_calls(tmp_path)
    before = tree(tmp_path)
    for name, (args, says) in calls.items():
        assert run(args) == 2, name
        said = capsys.readouterr()
        assert said.out == "", name
        assert said.err.count("\n") == 1, name
        assert said.err.startswith("dolphin: "), name
        assert says in said.err, name
    assert tree(tmp_path) == before
    assert source.exists()


def test_an_archive_is_not_replaced_by_accident(
    source: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = import_args(source, tmp_path / "out")
    assert run(args) == 0
    before = tree(tmp_path / "out")
    assert run(args) == 2
    assert "already holds an archive" in capsys.readouterr().err
    assert run([*args, "--force"]) == 0
    assert tree(tmp_path / "out") == before, "the same content leaves nothing to set aside"


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    for args, words in (
        (["data"], ("make", "import", "download", "verify", "Example")),
        (["data", "import"], ("--stamp", "open time", "Examples:", "look ahead")),
        (["data", "verify"], ("--rebuild", "Examples:", "Exit code")),
    ):
        assert run([*args, "--help"]) == 0
        said = capsys.readouterr().out
        assert all(word in said for word in words)


def dolphin(*args: str, **kw: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", "from dolphin.ui.cli import main; main()", *args],
        capture_output=True,
        text=True,
        check=False,
        **kw,
    )


def test_as_a_process(source: Path, tmp_path: Path) -> None:
    done = dolphin(*import_args(source, tmp_path / "out"))
    assert (done.returncode, done.stdout.count("\n"), done.stderr) == (0, 1, "")
    failed = dolphin(*import_args(source, tmp_path / "out"))
    assert (failed.returncode, failed.stdout, failed.stderr.count("\n")) == (2, "", 1)
    (tmp_path / "out" / "2021-04-06.parquet").unlink()
    failed = dolphin("data", "verify", str(tmp_path / "out"))
    assert failed.returncode == 1
    assert "is in the manifest but not in the folder" in failed.stdout


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_nothing_that_opens(tmp_path: Path) -> None:
    for day in days_from(DAY, 60):
        put(tmp_path / "src", table(price_day(day, rows=1440)), day)
    out = tmp_path / "out"
    args = [sys.executable, "-c", "from dolphin.ui.cli import main; main()", *import_args(tmp_path / "src", out)]
    with subprocess.Popen(args) as process:
        while not list(tmp_path.glob(".out.partial/*.parquet")) and process.poll() is None:
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    assert not out.exists()
    assert run(import_args(tmp_path / "src", out)) == 0
    assert len(Archive.open(out).days) == 61
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "src"]


@pytest.mark.slow
def test_verify_rebuilds_scans(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from dolphin.research.scanning import scan_archive

    made = [price_day(day, rows=1440) for day in DAYS]
    for day in made:
        np.nan_to_num(day.closes, copy=False, nan=100.0)  # a window without a hole is one that fills
    days = list(scan_archive(write_archive(tmp_path / "prices", made)))
    assert np.isfinite(days[1].signals[700]).all()
    write_archive(tmp_path / "scans", days)
    args = ["data", "verify", str(tmp_path / "scans"), "--rebuild", str(tmp_path / "prices"), "--json"]
    assert run(args) == 0
    assert json.loads(capsys.readouterr().out)["rebuild"]["difference"] is None
    stale = days[1].signals.copy()
    stale[700, 0] += 2e-10
    write_scan_day(tmp_path / "scans", ScanDay(**{**vars(days[1]), "signals": stale}), stale_on=DAY)
    (tmp_path / "scans" / MANIFEST_NAME).unlink()
    assert run(args) == 1
    found = json.loads(capsys.readouterr().out)["rebuild"]["difference"]
    assert (found["day"], found["row"], found["column"]) == (str(DAYS[1]), 700, "vel_div")
    assert run(args[:-1]) == 1
    assert "FAILED  2021-04-06, row 700, vel_div: the archive has" in capsys.readouterr().out
    assert run(["data", "verify", str(tmp_path / "prices"), "--rebuild", str(tmp_path / "prices")]) == 2
    assert "holds prices; --rebuild compares scans" in capsys.readouterr().err


def test_recorded_prices_through_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = recorded("spot_1m_2021")
    more = ("--drop", "AUDUSDT,GBPUSDT,EURUSDT", "--min-coverage", "0.9", "--json")
    assert run(import_args(source, tmp_path / "out", *more)) == 0
    imported = json.loads(capsys.readouterr().out)
    assert sorted(imported["dropped"]) == ["BTGUSDT", "TKOUSDT"]
    assert (imported["bars"], imported["gaps"], imported["bars_missing"]) == (30_090, 1, 150)
    assert run(["data", "verify", str(tmp_path / "out"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["content_hash"] == imported["content_hash"]


def test_scans_of_another_kind_are_told_apart(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tmp_path, table(scan_day(DAYS[0])), DAYS[0])
    put(tmp_path, table(price_day(DAYS[1])), DAYS[1])
    assert run(["data", "verify", str(tmp_path)]) == 1
    assert "holds prices, expected scans" in capsys.readouterr().out
