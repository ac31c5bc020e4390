"""`dolphin survival explain`: what it prints, what it refuses, and that its page shows what it prints."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dolphin.risk.survival import SurvivalStack
from dolphin.ui.cli import run
from tests.risk.survival_cases import PERFECT, TOP, reading

Capture = pytest.CaptureFixture[str]
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "survival.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """The kernel ready, so that no line announces its compiling."""
    SurvivalStack().update(reading(), 0.0)


def fenced(language: str) -> list[str]:
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    return [body for kind, body in blocks if kind == language]


def put(folder: Path, value: Any) -> str:
    file = folder / "sensors.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return str(file)


def explained(folder: Path, value: Any, capsys: Capture) -> list[dict[str, Any]]:
    assert run(["survival", "explain", "--sensors", put(folder, value), "--json"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    readings: list[dict[str, Any]] = json.loads(out)["readings"]
    return readings


def test_one_reading_needs_no_time(tmp_path: Path, capsys: Capture) -> None:
    assert run(["survival", "explain", "--sensors", put(tmp_path, PERFECT)]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0] == "reading 1: APEX, Rm 0.9734"
    heads = ("Cat1", "Cat2", "Cat3", "Cat4", "Cat5", "target =", "Rm =", "posture APEX", "actions: entries")
    assert len(lines) == 1 + len(heads)
    assert all(line.startswith(f"  {head}") for line, head in zip(lines[1:], heads, strict=True))


def test_the_document_for_machines(tmp_path: Path, capsys: Capture) -> None:
    one = explained(tmp_path, PERFECT, capsys)[0]
    assert one["time"] is None
    assert one["categories"] == {"cat1": 1.0, "cat2": 1.0, "cat3": 1.0, "cat4": 1.0, "cat5": pytest.approx(TOP)}
    assert one["target"] == one["rm"] == pytest.approx(TOP)
    assert (one["level"], one["posture"], one["acting_posture"]) == ("APEX", "APEX", "APEX")
    assert (one["entries_blocked"], one["halved"], one["worst_cased"]) == (False, False, [])
    assert len(one["reasons"]) == 9


def test_times_in_seconds_and_in_iso_are_one(tmp_path: Path, capsys: Capture) -> None:
    low = {**PERFECT, "drawdown": 0.12}
    later = {**PERFECT, "time": "2024-01-02T16:31:00+02:00"}
    iso = explained(tmp_path, [{**low, "time": "2024-01-02T14:30:00Z"}, later], capsys)
    numbers = explained(tmp_path, [{**low, "time": 1704205800}, {**PERFECT, "time": 1704205860.0}], capsys)
    assert iso == numbers
    assert [r["time"] for r in iso] == ["2024-01-02T14:30:00Z", "2024-01-02T14:31:00Z"]
    assert iso[1]["rm"] == pytest.approx(0.5 + 0.02 * (TOP - 0.5))


def test_a_crash_and_the_way_back(tmp_path: Path, capsys: Capture) -> None:
    rows = [{**PERFECT, "time": 0.0}, {**PERFECT, "heartbeat_age_s": 31, "time": 60.0}]
    rows += [{**PERFECT, "time": 60.0 + 3600.0 * k} for k in range(1, 6)]
    seen = [r["posture"] for r in explained(tmp_path, rows, capsys)]
    assert seen == ["APEX"] + ["HIBERNATE"] * 5 + ["APEX"]


def test_an_empty_reading_names_every_sensor(tmp_path: Path, capsys: Capture) -> None:
    one = explained(tmp_path, {}, capsys)[0]
    assert one["worst_cased"] == list(PERFECT)[: len(one["worst_cased"])]
    assert len(one["worst_cased"]) == len(PERFECT)
    assert (one["rm"], one["posture"]) == (0.0, "HIBERNATE")
    assert run(["survival", "explain", "--sensors", put(tmp_path, [{}])]) == 0
    assert "counted as worst case: grid_nodes, heartbeat_age_s" in capsys.readouterr().out


@pytest.mark.parametrize("odd", ["1e999", "-1e999", "-5"])
def test_impossible_numbers_are_worst_cased_not_refused(odd: str, tmp_path: Path, capsys: Capture) -> None:
    text = json.dumps(PERFECT).replace('"drawdown": 0.0', f'"drawdown": {odd}')
    one = explained(tmp_path, text, capsys)[0]
    assert (one["categories"]["cat5"], one["worst_cased"]) == (0.0, ["drawdown"])


# --- the page ---


def test_the_page_shows_what_the_command_prints(tmp_path: Path, capsys: Capture) -> None:
    assert run(["survival", "explain", "--sensors", put(tmp_path, fenced("json")[0])]) == 0
    shown = next(block for block in fenced("") if block.startswith("reading 2"))
    assert shown in capsys.readouterr().out


def test_the_page_s_python_runs() -> None:
    for body in fenced("python"):
        exec(compile(body, "docs/survival.md", "exec"), {})


# --- bad input ---

T0, T1 = "2024-01-02T14:30:00Z", "2024-01-02T14:31:00Z"
DEEP = "[" * 100_000


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        ("", ["not the JSON expected"]),
        ("{", ["not the JSON expected"]),
        (DEEP, ["not the JSON expected"]),
        ("[]", ["empty list", "at least one reading"]),
        ("3", ["int", "expected an object"]),
        ('["x"]', ["reading 1", "str", "expected an object"]),
        ('{"drawdown": NaN}', ["NaN is not a JSON number", "null"]),
        ('{"drawdown": 0.1, "drawdown": 0.2}', ["'drawdown' is given twice"]),
        ({"mood": 1}, ["'mood' is not a sensor", "known: time, grid_nodes"]),
        ({"drawdown": "0.1"}, ["Expected `float | null`, got `str`", "$.drawdown"]),
        ({"drawdown": True}, ["got `bool`", "$.drawdown"]),
        ({"grid_nodes": 1.5}, ["$.grid_nodes"]),
        ({"mc_status": "GREEN"}, ["GREEN", "$.mc_status"]),
        ({"book_stale": 0}, ["Expected `bool | null`", "$.book_stale"]),
        ({"time": "yesterday"}, ["'yesterday' is not a time"]),
        ({"time": True}, ["time True", "ISO 8601"]),
        ({"time": -1}, ["time -1", "seconds since 1970"]),
        ({"time": 1e300}, ["time 1e+300", "seconds since 1970"]),
        ([{"time": T0}, {}], ["reading 2", "no time"]),
        ([{"time": T0}, {"time": None}], ["reading 2", "no time"]),
        ([{"time": T1}, {"time": T0}], ["reading 2", T0, T1, "sort the readings"]),
        ([{"time": T0}, {"time": T0}], ["reading 2", "is not after"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(value: Any, parts: list[str], tmp_path: Path, capsys: Capture) -> None:
    file = put(tmp_path, value)
    assert run(["survival", "explain", "--sensors", file]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"dolphin: {file}: ")
    assert err.count("\n") == 1
    assert len(err) < 600
    for part in parts:
        assert part in err


def test_numbers_of_any_size_break_nothing(tmp_path: Path, capsys: Capture) -> None:
    for name in ("grid_nodes", "drawdown", "time"):
        text = json.dumps({**PERFECT, name: None}).replace(f'"{name}": null', f'"{name}": 1{"0" * 400}')
        code = run(["survival", "explain", "--sensors", put(tmp_path, text)])
        err = capsys.readouterr().err
        assert "unexpected" not in err
        assert code in (0, 2)


def test_files_that_cannot_be_read(tmp_path: Path, capsys: Capture) -> None:
    latin = tmp_path / "latin.json"
    latin.write_bytes(b'{"mc_status": "\xff"}')
    for path, why in ((tmp_path / "absent.json", "No such file"), (tmp_path, "directory"), (latin, "not UTF-8")):
        assert run(["survival", "explain", "--sensors", str(path)]) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        assert str(path) in err
        assert why in err
