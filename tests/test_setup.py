"""The newcomer's path: the scripts that find an interpreter, build the environment and see to a browser.

The finder is run on a PATH made for each test, with stand-ins for Python that answer as a broken shim, an old
version, or a good one would. The real set-up (a venv, installed from the lock) is what `.ci/run` does first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPTS = ("browser", "find-python", "lock", "setup")
LOCKS = ("main", "nautilus", "dev")
TOOLS = ("sh", "dirname", "cat", "id", "mkdir", "mv", "rm")


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder to be the whole PATH: the few tools that the scripts call, and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(found)
    return folder


def put(file: Path, body: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{body}\n")
    file.chmod(0o755)
    return file


def python(file: Path, answer: str) -> Path:
    """A stand-in whose probe prints `answer`."""
    return put(file, f"echo '{answer}'")


def script(name: str, path: Path, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess[str]:
    """Run scripts/`name` (NAME ARGUMENTS) seeing only `path`, and an empty home unless `env` says otherwise."""
    program, *arguments = name.split()
    environment = {"PATH": str(path), "HOME": str(path / "home")} | env
    command = [str(cwd / "scripts" / program), *arguments]
    return subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=60)


# --- scripts/find-python


def test_a_shim_that_does_not_run_and_an_old_python_are_skipped_with_a_line_each(tools: Path) -> None:
    put(tools / "python3.13", "echo 'pyenv: python3.13: command not found' >&2; exit 127")
    python(tools / "python3.12", "ok /somewhere/python3.12")
    python(tools / "python3", "ok /never/asked")
    done = script("find-python", tools)
    assert (done.returncode, done.stdout) == (0, "/somewhere/python3.12\n")
    assert done.stderr == f"find-python: skipped {tools}/python3.13: it does not run\n"


def test_the_version_counts_not_the_name(tools: Path) -> None:
    python(tools / "python3.13", "no version 3.11.7; 3.12 or 3.13 is needed")
    python(tools / "python3", "ok /somewhere/python3")
    done = script("find-python", tools)
    assert (done.returncode, done.stdout) == (0, "/somewhere/python3\n")
    assert done.stderr == f"find-python: skipped {tools}/python3.13: version 3.11.7; 3.12 or 3.13 is needed\n"


def test_without_any_python_there_is_one_line_and_exit_code_1(tools: Path) -> None:
    done = script("find-python", tools)
    assert (done.returncode, done.stdout) == (1, "")
    assert len(done.stderr.splitlines()) == 1
    assert "no usable Python 3.12 or 3.13" in done.stderr
    assert "uv python install 3.12" in done.stderr


def test_when_all_are_too_old_the_last_line_says_how_to_get_one(tools: Path) -> None:
    python(tools / "python3", "no version 3.9.2; 3.12 or 3.13 is needed")
    done = script("find-python", tools)
    lines = done.stderr.splitlines()
    assert (done.returncode, done.stdout, len(lines)) == (1, "", 2)
    assert lines[0].endswith("python3: version 3.9.2; 3.12 or 3.13 is needed")
    assert lines[1].startswith("find-python: no usable Python")


def test_pyenv_is_looked_into_after_the_path_newest_first(tools: Path, tmp_path: Path) -> None:
    python(tools / "python3", "no version 3.11.2; 3.12 or 3.13 is needed")
    root = tmp_path / "a folder with spaces"
    for version in ("3.11.7", "3.12.1", "3.13.0"):
        python(root / "versions" / version / "bin" / "python", f"ok /pyenv/{version}")
    assert script("find-python", tools, PYENV_ROOT=str(root)).stdout == "/pyenv/3.13.0\n"
    shutil.rmtree(root / "versions" / "3.13.0")
    assert script("find-python", tools, PYENV_ROOT=str(root)).stdout == "/pyenv/3.12.1\n"
    root.rename(tmp_path / ".pyenv")
    assert script("find-python", tools, HOME=str(tmp_path)).stdout == "/pyenv/3.12.1\n"


def test_uv_is_asked_last_and_what_it_names_is_run_too(tools: Path, tmp_path: Path) -> None:
    known = tmp_path / "known-to-uv"
    put(tools / "uv", f"[ \"$1 $2\" = 'python find' ] && echo '{known}'")
    assert script("find-python", tools).returncode == 1
    python(known, "ok /uv/python")
    assert script("find-python", tools).stdout == "/uv/python\n"
    python(tools / "python3", "ok /path/python3")
    assert script("find-python", tools).stdout == "/path/python3\n"


def test_a_named_interpreter_is_the_only_candidate(tools: Path, tmp_path: Path) -> None:
    python(tools / "python3", "ok /path/python3")
    mine = python(tmp_path / "mine", "ok /mine")
    assert script("find-python", tools, DOLPHIN_PYTHON=str(mine)).stdout == "/mine\n"
    done = script("find-python", tools, DOLPHIN_PYTHON=str(tmp_path / "absent"))
    assert (done.returncode, done.stdout) == (1, "")
    assert "DOLPHIN_PYTHON=" in done.stderr.splitlines()[-1]


def test_the_probe_accepts_the_python_that_runs_these_tests(tools: Path) -> None:
    (tools / "python3").symlink_to(sys.executable)
    done = script("find-python", tools)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).exists()


@pytest.mark.parametrize(
    ("patch", "reason"),
    [
        ("sys.version_info = (3, 14, 0, 'final', 0)", "version 3.14.0; 3.12 or 3.13 is needed"),
        ("sys.version_info = (3, 11, 9, 'final', 0)", "version 3.11.9; 3.12 or 3.13 is needed"),
        ("sys.version_info = (2, 7, 18, 'final', 0)", "version 2.7.18; 3.12 or 3.13 is needed"),
        ("sys.implementation.name = 'pypy'", "CPython is needed"),
        ("sys.maxsize = 2**31 - 1", "a 64-bit one is needed"),
        ("sys.modules['ensurepip'] = None", "lacks the module ensurepip (Debian and Ubuntu: install python3."),
        ("sys.modules['ssl'] = None", "lacks the module ssl"),
        ("import sysconfig; sysconfig.get_config_var = lambda name: 1", "the usual build is needed"),
    ],
)
def test_the_probe_turns_down(tools: Path, tmp_path: Path, patch: str, reason: str) -> None:
    # The probe itself runs on the Python of these tests, told beforehand that it is another.
    shim = tmp_path / "shim.py"
    shim.write_text(f"import sys\n{patch}\nexec(sys.argv[1])\n")
    put(tools / "python3", f'while [ "$1" != -c ]; do shift; done; exec "{sys.executable}" "{shim}" "$2"')
    done = script("find-python", tools)
    assert (done.returncode, done.stdout) == (1, "")
    assert reason in done.stderr.splitlines()[0]


# --- scripts/setup and scripts/browser


@pytest.fixture
def checkout(tmp_path: Path, tools: Path) -> Path:
    """A checkout with the real scripts, and a finder that hands over a fake Python which notes what it is asked."""
    folder = tmp_path / "checkout"
    (folder / "requirements").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    for name in LOCKS:
        (folder / "requirements" / f"{name}.lock").write_text(f"{name}\n")
    (folder / "pyproject.toml").write_text("[project]\n")
    log = tmp_path / "log"
    log.touch()
    fake = f"""
for last; do :; done
case "$*" in
    *"-m venv"*) rm -rf "$last"; mkdir -p "$last/bin"; cp "$0" "$last/bin/python"; echo venv >>'{log}' ;;
    *"-m pip install"*) [ -z "${{FAIL:-}}" ] || exit 1; echo "pip $last" >>'{log}' ;;
    *"-m pip check"*) echo "pip check" >>'{log}' ;;
    *"-m pip --version"*) ;;
    *) exec '{sys.executable}' "$@" ;;
esac"""
    (tools / "cp").symlink_to(shutil.which("cp") or "")
    mine = put(tmp_path / "fake-python", fake)
    put(folder / "scripts" / "find-python", f'set -e; "${{DOLPHIN_PYTHON:-{mine}}}" -c "" ; echo "{mine}"')
    return folder


def steps(checkout: Path) -> list[str]:
    """What was done since the last look."""
    log = checkout.parent / "log"
    lines = log.read_text().splitlines()
    log.write_text("")
    return lines


def test_setup_installs_once_and_then_ends_at_once(checkout: Path, tools: Path) -> None:
    assert script("setup", tools, checkout).returncode == 0
    assert steps(checkout) == ["venv", "pip requirements/main.lock", "pip .", "pip check"]
    done = script("setup", tools, checkout)
    assert (done.returncode, done.stdout, done.stderr, steps(checkout)) == (0, "", "", [])
    # The tests' set goes on top of the main one; from nothing it is installed alone, for it holds the main one.
    assert script("setup dev", tools, checkout).returncode == 0
    assert steps(checkout) == ["pip requirements/dev.lock", "pip .", "pip check"]
    assert script("setup main", tools, checkout).returncode == 0
    assert steps(checkout) == []
    assert script("setup nautilus", tools, checkout).returncode == 0
    assert steps(checkout) == []
    shutil.rmtree(checkout / ".venv")
    assert script("setup nautilus", tools, checkout).returncode == 0
    assert steps(checkout) == ["venv", "pip requirements/nautilus.lock", "pip .", "pip check"]
    shutil.rmtree(checkout / ".venv")
    assert script("setup dev", tools, checkout).returncode == 0
    assert steps(checkout) == ["venv", "pip requirements/dev.lock", "pip .", "pip check"]
    assert script("setup main", tools, checkout).returncode == 0
    assert steps(checkout) == []


def test_setup_redoes_only_what_a_change_touches(checkout: Path, tools: Path) -> None:
    script("setup", tools, checkout)
    steps(checkout)
    (checkout / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert script("setup", tools, checkout).returncode == 0
    assert steps(checkout) == ["pip .", "pip check"]
    (checkout / "requirements" / "main.lock").write_text("newer\n")
    assert script("setup", tools, checkout).returncode == 0
    assert steps(checkout) == ["venv", "pip requirements/main.lock", "pip .", "pip check"]
    # A checkout that was moved has an environment whose scripts point elsewhere.
    moved = checkout.rename(checkout.parent / "moved")
    assert script("setup", tools, moved).returncode == 0
    assert steps(moved) == ["venv", "pip requirements/main.lock", "pip .", "pip check"]


def test_an_environment_made_elsewhere_is_kept(checkout: Path, tools: Path) -> None:
    mine = shutil.copy(checkout.parent / "fake-python", tools / "mine")
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    shutil.copy(mine, python)
    for _ in range(2):
        assert script("setup", tools, checkout).returncode == 0
        assert steps(checkout) == ["pip requirements/main.lock", "pip .", "pip check"]
        (checkout / "requirements" / "main.lock").write_text("newer\n")
    # One that does not run is replaced.
    put(python, "exit 127")
    assert script("setup", tools, checkout).returncode == 0
    assert steps(checkout) == ["venv", "pip requirements/main.lock", "pip .", "pip check"]


def test_an_interrupted_setup_is_begun_again(checkout: Path, tools: Path) -> None:
    done = script("setup", tools, checkout, FAIL="1")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("setup: installing requirements/main.lock failed")
    assert steps(checkout) == ["venv"]
    assert script("setup", tools, checkout).returncode == 0
    assert steps(checkout) == ["venv", "pip requirements/main.lock", "pip .", "pip check"]


def test_setup_takes_no_other_set_and_passes_on_that_there_is_no_python(checkout: Path, tools: Path) -> None:
    done = script("setup everything", tools, checkout)
    assert (done.returncode, done.stderr) == (2, "setup: unknown set 'everything'; main, nautilus or dev is expected\n")
    shutil.copy(ROOT / "scripts" / "find-python", checkout / "scripts" / "find-python")
    done = script("setup", tools, checkout)
    assert done.returncode == 1
    assert done.stderr.startswith("find-python: no usable Python")
    assert not (checkout / ".venv").exists()


def test_the_browser_is_installed_only_where_there_is_none_and_we_may(tools: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    (tools / "id").unlink()
    put(tools / "id", "echo 0")
    put(tools / "apt-get", f'echo "$1" >>"{log}"')
    assert script("browser", tools).returncode == 0
    assert log.read_text().split() == ["update", "install"]
    log.unlink()
    put(tools / "apt-get", "exit 100")
    done = script("browser", tools)
    assert (done.returncode, len(done.stderr.splitlines())) == (0, 1)
    put(tools / "id", "echo 1000")
    done = script("browser", tools)
    assert (done.returncode, done.stdout) == (0, "")
    assert "apt-get install chromium" in done.stderr
    put(tools / "chromium", "exit 0")
    done = script("browser", tools)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_locks_are_replaced_only_by_whole_ones(checkout: Path, tools: Path) -> None:
    for name in ("cp", "grep", "mktemp"):
        (tools / name).unlink(missing_ok=True)
        (tools / name).symlink_to(shutil.which(name) or "")
    folder = checkout / "requirements"
    # It says half a line and fails; then, for good, it adds to the pins that it found in its output file.
    file = 'while [ "$1" != --output-file ]; do shift; done; file=$2'
    put(tools / "uv", f'{file}; echo half >"$file"; exit 1')
    assert script("lock", tools, checkout).returncode == 1
    assert {item.name: item.read_text() for item in folder.iterdir()} == {f"{name}.lock": f"{name}\n" for name in LOCKS}
    put(tools / "uv", f'{file}; echo "numpy==9.9" >>"$file"')
    done = script("lock", tools, checkout)
    assert (done.returncode, done.stderr) == (0, "")
    assert sorted(item.name for item in folder.iterdir()) == sorted(f"{name}.lock" for name in LOCKS)
    assert (folder / "dev.lock").read_text() == "dev\nnumpy==9.9\n"
    assert done.stdout.splitlines()[0] == "lock: requirements/main.lock: 1 packages"


@pytest.mark.parametrize("name", [*(f"scripts/{name}" for name in SCRIPTS), ".ci/run"])
def test_scripts_are_executable_and_parse(name: str) -> None:
    file = ROOT / name
    assert os.access(file, os.X_OK)
    shell = "bash" if file.read_text().startswith("#!/usr/bin/env bash\n") else "sh"
    subprocess.run([shell, "-n", file], check=True, capture_output=True)
