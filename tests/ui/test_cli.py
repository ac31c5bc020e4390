"""The command line as people and machines meet it: help, JSON, exit codes, progress bars, speed of `--help`."""

from __future__ import annotations

import importlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from dolphin import __version__
from dolphin.core.errors import ExchangeError
from dolphin.research.outputs import RUN_FILES
from dolphin.ui.cli import LazyGroup, root, run
from tests.support.runs import price_archive_of, scan_archive_of

pytestmark = pytest.mark.usefixtures("warm")

DOLPHIN = [sys.executable, "-c", "from dolphin.ui.cli import main; main()"]
Capture = pytest.CaptureFixture[str]


def commands(group: click.Group = root, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every command of the tree, groups included, by its words."""
    yield path
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        if isinstance(command, click.Group):
            yield from commands(command, (*path, name))
        else:
            yield (*path, name)


COMMANDS = list(commands())


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return scan_archive_of(tmp_path_factory.mktemp("cli") / "scans", 2)


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return price_archive_of(tmp_path_factory.mktemp("cli") / "prices", 2, assets=4)


# --- help ---


def test_the_tree_is_the_documented_one() -> None:
    assert {" ".join(words) for words in COMMANDS} == {
        *("", "data", "data make", "data import", "data download", "data instruments", "data verify"),
        *("factors", "factors import", "survival", "survival explain"),
        *("exchange", "exchange sim", "exchange watch", "forewarner", "forewarner train", "forewarner assess"),
        *("obf", "obf run", "obf status", "rehearse"),
        *("infra", "infra hazelcast", "infra hazelcast up", "infra hazelcast status", "infra hazelcast down"),
        *("grid", "grid get", "grid put", "grid watch", "grid dump", "grid load", "grid doctor"),
        *("scan", "scan run", "scan certify", "backtest", "parity", "why"),
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_teaches_with_an_example(words: tuple[str, ...], capsys: Capture) -> None:
    assert run([*words, "--help"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith(f"Usage: {' '.join(('dolphin', *words))} ")
    assert "Example" in out
    assert f"  {' '.join(('dolphin', *words))}" in out, "the example is of this very command"
    assert max(len(line) for line in out.splitlines()) <= 120


LEAVES = [words for words in COMMANDS if not any(more[: len(words)] == words for more in COMMANDS if more != words)]


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_speaks_json(words: tuple[str, ...], capsys: Capture) -> None:
    run([*words, "--help"])
    assert "--json" in capsys.readouterr().out


@pytest.mark.parametrize("words", [(), ("data",)], ids=["root", "data"])
def test_a_group_alone_shows_its_help_and_is_bad_input(words: tuple[str, ...], capsys: Capture) -> None:
    assert run(list(words)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("Usage: dolphin")
    assert "Commands:" in err


def test_the_list_of_commands_matches_the_commands() -> None:
    """The lazy table's one-liners are what `--help` shows; each must lead to a command that is there."""
    for group in (root, importlib.import_module("dolphin.ui.cli.data").data):
        assert isinstance(group, LazyGroup)
        for name in group.list_commands(click.Context(group)):
            assert isinstance(group.get_command(click.Context(group), name), click.Command)
        assert group.get_command(click.Context(group), "warp") is None


def test_version(capsys: Capture) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.strip() == f"dolphin, version {__version__}"


def imported_by(*args: str) -> set[str]:
    code = "import sys\nfrom dolphin.ui.cli import run\nrun(sys.argv[1:])\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    return set(done.stderr.split())


HEAVY = {
    "numba",
    "pyarrow",
    "numpy",
    "plotly",
    "rich",
    "aiohttp",
    "flint",
    "lmdb",
    "llvmlite",
    "sklearn",
    "scipy",
    "skops",
}


@pytest.mark.parametrize("args", [[*words, "--help"] for words in COMMANDS], ids=" ".join)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    assert not HEAVY & imported_by(*args)


# --- JSON and pipes ---


def json_of(capsys: Capture, *args: str, code: int = 0) -> Any:
    """What stdout holds: one JSON document, and nothing else anywhere."""
    assert run(list(args)) == code
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_backtest_json_is_the_summary(scans: Path, tmp_path: Path, capsys: Capture) -> None:
    told = json_of(capsys, "backtest", "--data", str(scans), "--out", str(tmp_path / "run"), "--json")
    assert told == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["bars"] == 800


def test_why_json(scans: Path, capsys: Capture) -> None:
    told = json_of(capsys, "why", "--data", str(scans), "--at", "2024-01-01T03:00:00Z", "--asset", "XRPUSDT", "--json")
    assert set(told) == {"bar", "decision", "gates", "entry", "position", "assets", "book"}
    assert told["bar"]["timestamp"] == "2024-01-01T03:00:00Z"
    assert [row["asset"] for row in told["assets"]] == ["XRPUSDT"]


def test_why_json_where_the_signal_is_missing(prices: Path, capsys: Capture) -> None:
    told = json_of(capsys, "why", "--data", str(prices), "--at", "2024-01-01T05:00:00Z", "--json")
    assert told["bar"]["vel_div"] is None, "NaN is null"


def test_data_and_scan_json(prices: Path, tmp_path: Path, capsys: Capture) -> None:
    made = json_of(capsys, "data", "make", "--out", str(tmp_path / "m"), "--days", "1", "--assets", "3", "--json")
    assert (made["days"], made["assets"]) == (1, 3)
    args = ("--bar-seconds", "60", "--stamp", "close", "--out", str(tmp_path / "i"), "--json")
    imported = json_of(capsys, "data", "import", str(tmp_path / "m"), *args)
    assert imported["bars"] == made["bars"]
    assert json_of(capsys, "data", "verify", str(tmp_path / "i"), "--json")["ok"] is True
    scanned = json_of(capsys, "scan", "run", str(prices), "--out", str(tmp_path / "s"), "--json")
    assert scanned["days"] == 2
    certified = json_of(
        capsys,
        "scan",
        "certify",
        str(tmp_path / "s"),
        "--date",
        "2024-01-02",
        "--bars",
        "5",
        "--windows",
        "50",
        "--json",
    )
    assert isinstance(certified, dict)


def test_a_table_for_people(scans: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(["backtest", "--data", str(scans), "--out", str(tmp_path / "run")]) == 0
    out, err = capsys.readouterr()
    for words in ("BLUE SHORT", "trades", "ROI", "modelled edge (not money)"):
        assert words in out
    assert "report.html" in err
    assert run(["why", "--data", str(scans), "--at", "2024-01-01T03:00:00Z"]) == 0
    out, err = capsys.readouterr()
    assert "Decision:" in out
    assert "VEL_DIV" in out
    assert err == ""


def test_green_set_and_dates_reach_the_run(scans: Path, tmp_path: Path, capsys: Capture) -> None:
    told = json_of(
        capsys, "backtest", "--data", str(scans), "--out", str(tmp_path / "run"), "--profile", "green", "--json",
        "--from", "2024-01-02", "--to", "2024-01-02", "--set", "stop_pct=0.5", "--set", "vd_enabled=true",
        "--capital", "1000", "--friction", "none",
    )  # fmt: skip
    assert (told["profile"], told["days"], told["capital_start"], told["friction"]) == ("green", 1, 1000.0, "none")
    assert told["overrides"] == {"stop_pct": 0.5, "vd_enabled": True}


# --- terminals ---


def on_a_terminal(*args: str, **more: str) -> tuple[int, str, str]:
    """(exit code, stdout through a pipe, stderr as a terminal showed it); `more` goes into the environment."""
    master, slave = pty.openpty()
    env = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **more}
    with subprocess.Popen([*DOLPHIN, *args], stdout=subprocess.PIPE, stderr=slave, env=env) as process:
        os.close(slave)
        shown = b""
        while True:
            try:
                part = os.read(master, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.stdout is not None
        out = process.stdout.read()
    os.close(master)
    return process.returncode, out.decode(), shown.decode()


def test_a_terminal_sees_a_progress_bar(scans: Path, tmp_path: Path) -> None:
    code, out, shown = on_a_terminal("backtest", "--data", str(scans), "--out", str(tmp_path / "run"))
    assert code == 0
    assert "replaying" in shown
    assert "800/800" in shown
    assert "replaying" not in out


@pytest.mark.slow
def test_the_first_use_says_that_it_compiles(scans: Path, tmp_path: Path) -> None:
    args = ("backtest", "--data", str(scans), "--out", str(tmp_path / "run"))
    code, _, shown = on_a_terminal(*args, NUMBA_CACHE_DIR=str(tmp_path / "cold"))
    assert code == 0
    assert "First use: compiling the kernels" in shown
    assert "compiling" in shown.split("First use", 1)[1].split("\n", 1)[1], "and a bar moves meanwhile"
    code, _, shown = on_a_terminal(*args, "--force", NUMBA_CACHE_DIR=str(tmp_path / "cold"))
    assert (code, "First use" in shown) == (0, False)


def test_json_on_a_terminal_shows_no_bar(scans: Path, tmp_path: Path) -> None:
    code, out, shown = on_a_terminal("backtest", "--data", str(scans), "--out", str(tmp_path / "run"), "--json")
    assert (code, shown) == (0, "")
    assert json.loads(out)["bars"] == 800


def test_a_pipe_sees_none(scans: Path, tmp_path: Path) -> None:
    args = [*DOLPHIN, "backtest", "--data", str(scans), "--out", str(tmp_path / "run")]
    done = subprocess.run(args, capture_output=True, text=True, check=True)
    assert "replaying" not in done.stderr
    assert "\x1b" not in done.stderr + done.stdout
    assert len(done.stderr.splitlines()) == 1


# --- exit codes ---


def break_replay(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr("dolphin.research.backtest.run_backtest", broken)


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (OSError(28, "No space left on device"), 1, "dolphin: OSError: [Errno 28] No space left on device"),
        (MemoryError("too much"), 1, "dolphin: MemoryError: too much"),
        (ExchangeError("the venue is down"), 1, "dolphin: the venue is down"),
        (KeyboardInterrupt(), 130, "dolphin: interrupted; nothing half-written was kept"),
        (
            ZeroDivisionError("division\nby zero"),
            1,
            "dolphin: unexpected ZeroDivisionError: division by zero; a defect",
        ),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_failure_is_one_line_and_leaves_nothing(
    error: BaseException, code: int, line: str, scans: Path, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    break_replay(monkeypatch, error)
    assert run(["backtest", "--data", str(scans), "--out", str(tmp_path / "deep" / "run")]) == code
    out, err = capsys.readouterr()
    assert out == ""
    # After an interrupt the terminal's own ^C line is ended first.
    (told,) = [text for text in err.splitlines() if text]
    assert told.startswith(line)
    assert list(tmp_path.iterdir()) == []


def test_debug_shows_where(scans: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    break_replay(monkeypatch, OSError("disk"))
    args = ["backtest", "--data", str(scans), "--out", str(tmp_path / "run")]
    assert run(args) == 1
    assert "Traceback" not in capsys.readouterr().err
    assert run(["--debug", *args]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err
    assert "in broken" in err
    assert err.endswith("dolphin: OSError: disk\n")
    assert run(["--debug", "backtest", "--data", "nowhere", "--out", str(tmp_path / "run")]) == 2
    assert "DataError" in capsys.readouterr().err


def test_a_reader_that_stops_is_no_error(scans: Path) -> None:
    """`dolphin why … | head -1`: the pipe closes early, and nobody wants a traceback for that."""
    code = f"{sys.executable} -c 'from dolphin.ui.cli import main; main()' why --data {scans} --at 2024-01-01T03:00:00Z"
    done = subprocess.run(["bash", "-c", f"{code} | head -1"], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr


def test_exit_codes_leave_the_process(scans: Path, tmp_path: Path) -> None:
    def code(*args: str) -> int:
        return subprocess.run([*DOLPHIN, *args], capture_output=True, check=False).returncode

    assert code("--version") == 0
    assert code("warp") == 2
    assert code("data", "verify", str(tmp_path)) == 2
    assert code("data", "verify", str(scans)) == 0
    # A failed check is a failure, not bad input.
    day = next(scans.glob("*.parquet"))
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    for path in scans.iterdir():
        (spoilt / path.name).write_bytes(path.read_bytes())
    (spoilt / day.name).write_bytes(day.read_bytes()[:-9])
    assert code("data", "verify", str(spoilt)) == 1


def test_blas_runs_in_one_thread(scans: Path) -> None:
    code = (
        "import os, sys\nfrom dolphin.ui import cli\n"
        "cli.run = lambda args: print(*(os.environ[n] for n in ('OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS')))\n"
        "cli.main(['--version'])"
    )
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "1"]
    assert done.returncode == 0


def test_run_files_are_what_a_run_holds(scans: Path, tmp_path: Path) -> None:
    make: Callable[..., int] = run
    assert make(["backtest", "--data", str(scans), "--out", str(tmp_path / "run")]) == 0
    assert make(["backtest", "--data", str(scans), "--out", str(tmp_path / "run"), "--force"]) == 0
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == sorted(RUN_FILES)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
