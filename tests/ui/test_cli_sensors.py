"""`--sensors`, as a person meets it: a run with its posture time line, and one line for whatever is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dolphin.core.codes import Posture
from dolphin.ui.cli import run
from tests.risk.survival_cases import PERFECT, reading
from tests.support.browser import dump_dom
from tests.support.runs import backtest, scan_archive_of, scan_days, write_days
from tests.support.sensors import recording, write_recording

pytestmark = pytest.mark.usefixtures("warm")

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_days(tmp_path_factory.mktemp("cli") / "days", scan_days(2, 900, drift=-0.1))


@pytest.fixture(scope="module")
def sensors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    start = int(scan_days(1, 1)[0].ts_ns[0])
    return write_recording(tmp_path_factory.mktemp("cli") / "s.jsonl", recording(start, 24 * 60 + 900, 6))


def test_from_a_recording_to_a_page(data: Path, sensors: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    summary = backtest(data, out, "--sensors", str(sensors))
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for name, row in summary["survival"]["postures"].items():
        assert (f"{name} {100.0 * row['share']:.1f} %" in told) == (row["bars"] > 0)
    assert f"signals halted by the posture {summary['survival']['entries_blocked']:,}" in told
    assert summary["survival"]["sensors"] == str(sensors)
    table = pq.read_table(out / "equity.parquet")
    names = table["posture"].to_pylist()
    for posture in Posture:
        assert names.count(posture.name) == summary["survival"]["postures"][posture.name]["bars"]
    page = (out / "report.html").read_text()
    assert "<h2>Survival stack</h2>" in page
    assert "bars before the first reading" not in page


@pytest.mark.slow
def test_the_time_line_draws(data: Path, sensors: Path, tmp_path: Path) -> None:
    backtest(data, tmp_path / "run", "--sensors", str(sensors))
    dom, console = dump_dom(tmp_path / "run" / "report.html", tmp_path)
    assert 'data-charts="drawn"' in dom
    part = dom.split('id="chart-survival"')[1].split("</section>")[0]
    assert part.count('class="main-svg"') >= 2
    assert part.count('class="scatterlayer') >= 3, "three panels"
    for name in (*(p.name for p in Posture), "Cat1 kill switch", "Cat5 capital"):
        assert name in part
    assert not [line for line in console if "Uncaught" in line]


def test_json_and_its_own_sensors(data: Path, tmp_path: Path, capsys: Capture) -> None:
    args = ["backtest", "--data", str(data), "--sensors", "own", "--out", str(tmp_path / "run"), "--json"]
    assert run(args) == 0
    told = capsys.readouterr()
    assert told.err == ""
    stack = json.loads(told.out)["survival"]
    assert (stack["sensors"], stack["readings"]) == ("own", None)
    assert sum(row["bars"] for row in stack["postures"].values()) == 1800
    assert "No sensors were recorded" in (tmp_path / "run" / "report.html").read_text()


def test_a_file_called_own_is_reached_by_its_path(
    data: Path, sensors: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = [json.loads(line) for line in sensors.read_text().splitlines()]
    Path("own").write_text(json.dumps(rows))
    assert backtest(data, tmp_path / "run", "--sensors", "./own")["survival"]["readings"] == len(rows)


def test_why_tells_posture_and_rm(data: Path, sensors: Path, tmp_path: Path, capsys: Capture) -> None:
    at = ["why", "--data", str(data), "--at", "2024-01-01T10:00:00Z"]
    assert run([*at, "--sensors", str(sensors)]) == 0
    assert "\nPosture: " in capsys.readouterr().out
    assert run([*at, "--sensors", str(sensors), "--json"]) == 0
    bar = json.loads(capsys.readouterr().out)["bar"]
    backtest(data, tmp_path / "run", "--sensors", str(sensors))
    table = pq.read_table(tmp_path / "run" / "equity.parquet").slice(600, 1)
    assert (bar["posture"], bar["rm"]) == (table["posture"][0].as_py(), table["rm"][0].as_py())
    capsys.readouterr()
    assert run(at) == 0
    assert "Posture: " not in capsys.readouterr().out


T0, T1, LATE = "2024-01-01T10:00:00Z", "2024-01-01T10:01:00Z", "2025-01-01T10:00:00Z"


@pytest.mark.parametrize(
    ("name", "value", "parts"),
    [
        ("s.json", None, ["cannot be read"]),
        ("s.json", "", ["not the JSON expected"]),
        ("s.json", "[]", ["an empty list"]),
        ("s.json", PERFECT, ["no time; a replay needs one"]),
        ("s.json", [PERFECT], ["no time; a replay needs one"]),
        ("s.json", [{"time": T1}, {"time": T0}], ["reading 2", "sort the readings"]),
        ("s.json", [{"time": T0}, {"time": T0}], ["reading 2", "is not after"]),
        ("s.json", [{"time": T0}, {"drawdown": 0.1}], ["reading 2", "no time"]),
        ("s.json", [{"time": T0, "mood": 1}], ["reading 1", "'mood' is not a sensor"]),
        ("s.json", [{"time": T0, "drawdown": "low"}], ["reading 1", "$.drawdown"]),
        ("s.json", [{"time": LATE}], ["readings from 2025-01-01T10:00:00Z", "2024-01-01 to 2024-01-02"]),
        ("s.jsonl", f'{{"time": "{T0}"}}\n{{"time": "{T1}"', ["line 2", "not the JSON expected"]),
        ("s.jsonl", f'{{"time": "{T0}"}}\n{{"time": "{T1}", "mc_status": "BLUE"}}', ["line 2", "$.mc_status"]),
    ],
)
def test_bad_files_are_one_line_and_leave_nothing(
    name: str, value: Any, parts: list[str], data: Path, tmp_path: Path, capsys: Capture
) -> None:
    file, out = tmp_path / name, tmp_path / "new" / "run"
    if value is not None:
        file.write_text(value if isinstance(value, str) else json.dumps(value))
    for command in (["backtest", "--out", str(out)], ["why", "--at", T1]):
        capsys.readouterr()
        assert run([*command, "--data", str(data), "--sensors", str(file)]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert told.err.startswith(f"dolphin: {file}: ")
        assert told.err.count("\n") == 1
        for part in parts:
            assert part in told.err
    assert not out.parent.exists()


def test_a_bad_file_leaves_an_old_run_alone(data: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "run"
    backtest(data, out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    args = ["--data", str(data), "--out", str(out), "--force", "--sensors", str(tmp_path / "absent")]
    assert run(["backtest", *args]) == 2
    assert "cannot be read" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def test_both_commands_take_the_same_file(tmp_path: Path, capsys: Capture) -> None:
    """What `survival explain` says of the readings is what the replay acts on."""
    days = scan_days(1, 200)
    taken = [(int(days[0].ts_ns[k]), reading(drawdown=0.0 if k < 50 else 0.12)) for k in range(100)]
    file = write_recording(tmp_path / "s.jsonl", taken)
    assert run(["survival", "explain", "--sensors", str(file), "--json"]) == 0
    said = [row["acting_posture"] for row in json.loads(capsys.readouterr().out)["readings"]]
    backtest(scan_archive_of(tmp_path / "days", 1, rows=200), tmp_path / "run", "--sensors", str(file))
    acted = pq.read_table(tmp_path / "run" / "equity.parquet")["posture"].to_pylist()
    assert acted[:100] == said
    assert acted[:51] + acted[51:105] == ["APEX"] * 51 + ["TURTLE"] * 54
    assert set(acted[105:]) == {"HIBERNATE"}
