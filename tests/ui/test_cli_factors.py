"""`dolphin factors import` and `--factors`, as a person meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from dolphin.core.clock import iso_to_ns
from dolphin.market.factorfiles import factor_dates, read_factors
from dolphin.ui.cli import run
from tests.support.runs import FIRST, scan_archive_of
from tests.support.shared import recorded

Capture = pytest.CaptureFixture[str]


def ms(day: date) -> int:
    return iso_to_ns(str(day)) // 1_000_000


@pytest.fixture
def src(tmp_path: Path) -> Path:
    """Histories that serve the first two days of the made-up archives: extreme fear, DVOL 90, negative funding."""
    folder = tmp_path / "histories"
    folder.mkdir()
    before = [FIRST + timedelta(days=k) for k in (-1, 0)]
    rows = "".join(f"{day} 00:00:00+00:00,{value}\n" for day, value in zip(before, (10.0, 70.0), strict=True))
    (folder / "fear_greed_index.csv").write_text("timestamp,value\n" + rows)
    (folder / "dvol_btc.json").write_text(json.dumps([[ms(day), 90.0] for day in before]))
    (folder / "funding_rate_btc.json").write_text(json.dumps([[ms(before[0]), -0.02]]))
    return folder


def refused(args: list[str], capsys: Capture, *words: str) -> None:
    capsys.readouterr()
    assert run(args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dolphin: ")
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_from_histories_to_a_run(src: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "factors"
    assert run(["factors", "import", str(src), "--out", str(out)]) == 0
    told = capsys.readouterr()
    assert told.out == f"{out}: 2 dates, 2024-01-01 to 2024-01-02; funding_btc, dvol_btc, fng\n"
    assert told.err == "funding_btc: missing on 1 of 2 dates\ntaker: missing on 2 of 2 dates\n"
    assert read_factors(out, FIRST)["funding_btc"] == [-0.0002]
    data = scan_archive_of(tmp_path / "days", 3)
    args = ["--data", str(data), "--factors", str(out)]
    assert run(["backtest", *args, "--out", str(tmp_path / "run"), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert [(day["signals"], day["missing"]) for day in summary["acb"]] == [
        (3.0, ["taker"]),
        (1.0, ["funding_btc", "taker"]),
        (0.0, ["funding_btc", "dvol_btc", "fng", "taker"]),
    ]
    assert run(["why", *args, "--at", "2024-01-01T00:20:00Z", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["bar"]["regime_size_mult"] > 1.69


def test_json(src: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "factors"
    assert (
        run(["factors", "import", str(src), "--out", str(out), "--from", str(FIRST), "--to", str(FIRST), "--json"]) == 0
    )
    told = capsys.readouterr()
    assert told.err == ""
    assert json.loads(told.out) == {
        "out": str(out), "dates": 1, "first": "2024-01-01", "last": "2024-01-01",
        "have": {"funding_btc": 1, "dvol_btc": 1, "fng": 1, "taker": 0},
        "missing": {"funding_btc": 0, "dvol_btc": 0, "fng": 0, "taker": 1},
        "sources": {
            "fng": "fear_greed_index.csv", "dvol_btc": "dvol_btc.json", "funding_btc": "funding_rate_btc.json",
        },
    }  # fmt: skip


def test_bad_input_is_one_line(src: Path, tmp_path: Path, capsys: Capture) -> None:
    out = str(tmp_path / "factors")
    base = ["factors", "import", str(src), "--out", out]
    refused(["factors", "import", str(tmp_path / "absent"), "--out", out], capsys, "no such directory")
    refused(["factors", "import", str(src)], capsys, "--out")
    refused([*base, "--from", "yesterday"], capsys, "--from: 'yesterday' is not a calendar date")
    refused([*base, "--from", "2024-02-01"], capsys, "no date from 2024-02-01", "2024-01-01 to 2024-01-02")
    (src / "dvol_btc.json").write_text("[[1, 2]")
    refused(base, capsys, "dvol_btc.json: cannot be read as JSON")
    assert not Path(out).exists()


def test_force(src: Path, tmp_path: Path, capsys: Capture) -> None:
    base = ["factors", "import", str(src), "--out", str(tmp_path / "factors")]
    assert run(base) == 0
    refused(base, capsys, "already holds factor files", "--force")
    assert run([*base, "--force"]) == 0
    assert len(list(tmp_path.glob("factors.STALE_*"))) == 1
    assert len(factor_dates(tmp_path / "factors")) == 2


def test_a_backtest_with_bad_factors_writes_nothing(src: Path, tmp_path: Path, capsys: Capture) -> None:
    data = scan_archive_of(tmp_path / "days", 1)
    base = ["backtest", "--data", str(data), "--out", str(tmp_path / "run"), "--factors"]
    refused([*base, str(tmp_path / "absent")], capsys, "no such directory")
    refused([*base, str(data)], capsys, "holds no YYYY-MM-DD folder")
    home = tmp_path / "factors" / str(FIRST)
    home.mkdir(parents=True)
    (home / "scan_000001__Indicators.npz").write_bytes(b"PK")
    refused([*base, str(home.parent)], capsys, "scan_000001__Indicators.npz: not readable as .npz")
    assert not (tmp_path / "run").exists()


def test_a_group_alone_shows_its_help(capsys: Capture) -> None:
    assert run(["factors"]) == 2
    assert "import" in capsys.readouterr().err


def test_in_a_process_of_its_own(src: Path, tmp_path: Path) -> None:
    code = "from dolphin.ui.cli import main; main()"
    args = ["factors", "import", str(src), "--out", str(tmp_path / "factors")]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 1)
    again = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert (again.returncode, again.stdout, again.stderr.count("\n")) == (2, "", 1)


def test_the_recorded_histories(tmp_path: Path, capsys: Capture) -> None:
    """July 2023, calm: three weeks whose factors are all there, none of them a signal by itself."""
    out = tmp_path / "factors"
    args = ["--from", "2023-07-03", "--to", "2023-07-23", "--json"]
    assert run(["factors", "import", str(recorded("factors")), "--out", str(out), *args]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["dates"], told["have"]["dvol_btc"], told["have"]["funding_btc"]) == (21, 21, 21)
    assert {path.name for path in out.iterdir()} == {f"2023-07-{k:02}" for k in range(3, 24)}
