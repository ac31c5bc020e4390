"""`dolphin grid`: what it prints, what it refuses, and that nothing that moves money moves by mistake."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dolphin.grid.embedded import EmbeddedGrid
from dolphin.ui.cli import run

Capture = pytest.CaptureFixture[str]
POSTURE = '{"posture":"TURTLE","Rm":0.6,"sensors":{"Cat1":1.0}}'
SWITCH = '{"engaged": true, "reason": "drill", "by": "me", "updated_at": "2026-03-22T14:05:09Z"}'


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOLPHIN_GRID", str(tmp_path / "grid"))
    return tmp_path / "grid"


@pytest.fixture
def grid(folder: Path) -> Iterator[EmbeddedGrid]:
    one = EmbeddedGrid(folder)
    yield one
    one.close()


def refused(arguments: list[str], capsys: Capture, code: int = 2) -> str:
    assert run(["grid", *arguments]) == code
    _, err = capsys.readouterr()
    assert err.startswith("dolphin: ")
    assert err.count("\n") == 1
    return err


def test_get_prints_the_value_as_it_is_or_the_keys(grid: EmbeddedGrid, capsys: Capture) -> None:
    grid.put("DOLPHIN_FEATURES", "acb_boost", b'{"boost": 1.50,  "beta": 0.2}')
    grid.put("DOLPHIN_FEATURES", "a", b"")
    assert run(["grid", "get", "DOLPHIN_FEATURES", "acb_boost"]) == 0
    assert capsys.readouterr().out == '{"boost": 1.50,  "beta": 0.2}\n'
    assert run(["grid", "get", "DOLPHIN_FEATURES"]) == 0
    assert capsys.readouterr().out == "a\nacb_boost\n"
    assert run(["grid", "get", "NOTHING"]) == 0
    assert "there is no value" in refused(["get", "DOLPHIN_SAFETY", "latest"], capsys, 1)


def test_get_of_a_value_that_does_not_decode_prints_it_and_fails(grid: EmbeddedGrid, capsys: Capture) -> None:
    grid.put("DOLPHIN_SAFETY", "latest", b'{"posture": "FINE"}')
    assert run(["grid", "get", "DOLPHIN_SAFETY", "latest"]) == 1
    out, err = capsys.readouterr()
    assert out == '{"posture": "FINE"}\n'
    assert "refused" in err


@pytest.mark.parametrize("command", [["get", "M"], ["put", "M", "k", "v", "--any"], ["watch", "M"], ["doctor"]])
def test_a_folder_without_a_grid_is_refused_and_left_as_it_is(
    command: list[str], folder: Path, capsys: Capture
) -> None:
    assert "holds no grid; give the folder of one with --grid" in refused(command, capsys)
    assert not folder.exists()


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("DOLPHIN_SAFETY", "latest", POSTURE),
        ("DOLPHIN_SAFETY", "kill_switch", SWITCH),
        ("DOLPHIN_FEATURES", "acb_boost", '{"boost": 1.0, "beta": 0.2}'),
    ],
)
def test_what_moves_money_needs_a_yes(grid: EmbeddedGrid, name: str, key: str, value: str, capsys: Capture) -> None:
    assert "add --yes" in refused(["put", name, key, value, "--any"], capsys)
    assert grid.get(name, key) is None
    assert run(["grid", "put", name, key, value, "--yes"]) == 0
    assert grid.get(name, key) == value.encode()


def test_a_posture_goes_into_the_reference_too(grid: EmbeddedGrid) -> None:
    assert run(["grid", "put", "DOLPHIN_SAFETY", "latest", POSTURE, "--yes"]) == 0
    assert grid.reference("DOLPHIN_SAFETY").get() == POSTURE.encode()
    assert run(["grid", "put", "DOLPHIN_SAFETY", "kill_switch", SWITCH, "--yes"]) == 0
    assert grid.reference("DOLPHIN_SAFETY").get() == POSTURE.encode()


def test_put_takes_what_the_schema_takes(grid: EmbeddedGrid, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = '{"boost": 9.0, "beta": 0.2}'
    assert "refused" in refused(["put", "DOLPHIN_FEATURES", "acb_boost", wrong, "--yes", "--any"], capsys)
    assert "no schema knows this key; --any" in refused(["put", "MINE", "k", "v"], capsys)
    assert "name of a map" in refused(["put", "", "k", "v", "--any"], capsys)
    assert grid.names() == ([], [])
    assert run(["grid", "put", "MINE", "k", "v", "--any"]) == 0
    assert grid.get("MINE", "k") == b"v"
    standard_input = io.TextIOWrapper(io.BytesIO(b"from a pipe\n"))
    monkeypatch.setattr(sys, "stdin", standard_input)
    assert run(["grid", "put", "MINE", "k", "-", "--any"]) == 0
    assert grid.get("MINE", "k") == b"from a pipe"


def test_watch_prints_what_other_processes_change(grid: EmbeddedGrid, folder: Path) -> None:

    code = "import sys; from dolphin.ui.cli import main; main(sys.argv[1:])"
    command = [sys.executable, "-c", code, "grid", "watch", "M", "--count", "3"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert b"watching M in " in process.stderr.readline()
        grid.put("M", "k", b"1")
        grid.put("other", "k", b"2")
        grid.put("M", "l", b"\xff")
        grid.delete("M", "k")
        assert process.stdout.read() == b"k\t1\nl\t\xff\nk\tdeleted\n"
        assert process.wait(20.0) == 0


def test_watch_ends_in_time(grid: EmbeddedGrid, capsys: Capture) -> None:
    assert run(["grid", "watch", "M", "k", "--seconds", "0.05"]) == 0
    assert capsys.readouterr().out == ""


def test_what_is_dumped_loads_again(grid: EmbeddedGrid, tmp_path: Path, capsys: Capture) -> None:
    grid.put("DOLPHIN_SAFETY", "latest", POSTURE.encode())
    grid.put("MINE", "ü", b"\xff\x00")
    grid.put("MINE", "separators", "\u2028\x85\r\n".encode())
    grid.put("MINE", "text", "line\nä".encode())
    grid.reference("DOLPHIN_SAFETY").set(POSTURE.encode())
    file, other = tmp_path / "d.jsonl", tmp_path / "other"
    assert run(["grid", "dump", "--out", str(file)]) == 0
    before = file.read_text()
    assert len(before.splitlines()) >= 4
    capsys.readouterr()
    assert "is there already" in refused(["dump", "--out", str(file)], capsys)
    assert run(["grid", "dump", "--out", str(file), "--force"]) == 0
    assert file.read_text() == before
    capsys.readouterr()
    assert "add --yes" in refused(["load", str(file), "--grid", str(other)], capsys)
    assert not other.exists()
    assert run(["grid", "load", str(file), "--grid", str(other), "--yes"]) == 0
    assert run(["grid", "dump", "--out", str(file), "--grid", str(other), "--force"]) == 0
    assert file.read_text() == before


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("not json", "line 2: "),
        ('{"map": "M", "key": "k"}', "neither value nor base64"),
        ('{"map": "M", "value": "v"}', "expected map and key"),
        ('{"map": "M", "key": "k", "base64": "?"}', "line 2: "),
        ('{"map": "DOLPHIN_SAFETY", "key": "latest", "value": "{}"}', "line 2: DOLPHIN_SAFETY"),
        ('{"reference": "DOLPHIN_SAFETY", "value": "{}"}', "line 2: DOLPHIN_SAFETY"),
    ],
)
def test_a_wrong_line_loads_nothing(line: str, message: str, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "d.jsonl"
    file.write_text('{"map": "M", "key": "k", "value": "v"}\n' + line + "\n")
    assert message in refused(["load", str(file), "--yes"], capsys)
    assert not folder.exists()


def test_every_command_tells_it_as_json(grid: EmbeddedGrid, folder: Path, tmp_path: Path, capsys: Capture) -> None:
    file = str(tmp_path / "d.jsonl")
    for arguments, expected in (
        (["put", "M", "k", "v", "--any"], {"map": "M", "key": "k", "value": "v"}),
        (["get", "M", "k"], {"map": "M", "key": "k", "value": "v"}),
        (["get", "M"], {"map": "M", "keys": ["k"]}),
        (["dump", "--out", file], {"file": file, "values": 1}),
        (["load", file], {"file": file, "values": 1}),
    ):
        assert run(["grid", *arguments, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == expected


def test_doctor_tells_what_is_wrong(grid: EmbeddedGrid, capsys: Capture) -> None:
    grid.put("DOLPHIN_FEATURES", "acb_boost", b'{"boost": 1.5, "beta": 0.2, "extra": 1}')
    grid.put("MINE", "k", b"")
    assert run(["grid", "doctor", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [(row["map"], row["keys"], row["unknown_keys"], row["refused"]) for row in told["maps"]] == [
        ("DOLPHIN_FEATURES", 1, 0, 0),
        ("MINE", 1, 1, 0),
    ]
    assert (told["nodes"], told["unknown_fields"], told["refused"]) == (1, 1, [])
    grid.put("DOLPHIN_SAFETY", "latest", b"{}")
    assert run(["grid", "doctor"]) == 1
    out, err = capsys.readouterr()
    assert "DOLPHIN_SAFETY['latest']" in out
    assert err.endswith("1 value is refused\n")
