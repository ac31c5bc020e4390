"""scripts/nautilus-next: which imports it finds, how it judges them, and that it fails nothing."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "nautilus-next"


@pytest.fixture(scope="module")
def script() -> dict[str, Any]:
    """The script's names, loaded without running it."""
    return runpy.run_path(str(SCRIPT), run_name="nautilus_next")


SOURCE = """
from __future__ import annotations
import nautilus_trader
import nautilus_trader.model.data as data, json
from nautilus_trader.model.enums import OmsType, OrderSide as Side
from nautilus_trader_extra.model import Nothing
from .nautilus_trader import Ours
from pandas import DataFrame

def later():
    if True:
        from nautilus_trader.core.data import Data
    from nautilus_trader.live import *
"""


def test_imports_are_found_wherever_they_stand(script: dict[str, Any]) -> None:
    assert script["imports_of"](SOURCE) == {
        ("nautilus_trader", ""),
        ("nautilus_trader.model.data", ""),
        ("nautilus_trader.model.enums", "OmsType"),
        ("nautilus_trader.model.enums", "OrderSide"),
        ("nautilus_trader.core.data", "Data"),
        ("nautilus_trader.live", ""),
    }
    assert script["imports_of"]("import json\n") == set()


def test_needs_name_every_file_once(script: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "b.py").write_text("from nautilus_trader.model.enums import OmsType\n")
    (tmp_path / "a.py").write_text("from nautilus_trader.model.enums import OmsType, OrderSide\n" * 2)
    (tmp_path / "notes.txt").write_text("from nautilus_trader.model.enums import BookType\n")
    assert [tuple(need) for need in script["needs_of"](tmp_path)] == [
        ("nautilus_trader.model.enums", "OmsType", ("a.py", "b.py")),
        ("nautilus_trader.model.enums", "OrderSide", ("a.py",)),
    ]


def test_the_room_s_own_imports_are_seen(script: dict[str, Any]) -> None:
    needs = {(need.module, need.name): need.files for need in script["needs_of"](script["ROOM"])}
    assert "actor.py" in needs["nautilus_trader.trading.strategy", "Strategy"]
    assert len(needs) > 30


def test_found_moved_missing(script: dict[str, Any]) -> None:
    need = script["Need"]
    needs = [need("n.a", "Kept", ("x.py",)), need("n.a", "Gone", ("x.py", "y.py")), need("n.b", "Moved", ("z.py",))]
    places = {"Moved": ["n._hidden", "n.deep.down", "n.c"], "Kept": ["n.a"]}
    rows = script["judge"](needs, [True, False, False], places)
    assert [(row.need.name, row.state, row.place) for row in rows] == [
        ("Kept", "found", "n.a"),
        ("Gone", "missing", ""),
        ("Moved", "moved", "n.c"),
    ]
    lines = script["table"](rows)
    assert [line.split()[:2] for line in lines] == [
        ["state", "name"],
        ["missing", "Gone"],
        ["moved", "Moved"],
        ["found", "Kept"],
    ]
    assert lines[2].split() == ["moved", "Moved", "n.b", "n.c", "z.py"]
    told = script["verdict"](rows, "2.0.0rc6")
    assert told == "nautilus_trader 2.0.0rc6: 3 imports, 1 found, 1 moved, 1 missing; 3 files to touch"
    assert script["verdict"](rows[:1], "2").endswith("1 found, 0 moved, 0 missing; nothing to touch")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-I", str(SCRIPT), *arguments], capture_output=True, text=True, timeout=300)


def test_the_version_in_use_has_everything() -> None:
    """The probe, run for real in this environment."""
    done = run("--python", sys.executable)
    assert (done.returncode, done.stderr) == (0, "")
    *_, last = done.stdout.splitlines()
    assert last.startswith("nautilus_trader 1.231.")
    assert last.endswith("0 moved, 0 missing; nothing to touch")


def test_what_cannot_be_fetched_is_one_line_and_no_failure(tmp_path: Path) -> None:
    """An address that is a file of this machine: no network is asked."""
    done = run("--spec", str(tmp_path / "nowhere-2.0-py3-none-any.whl"))
    assert (done.returncode, done.stderr) == (0, "")
    (line,) = done.stdout.splitlines()
    assert line.startswith("nautilus-next: ")
    assert line.endswith("; nothing was judged")
    assert "cannot be fetched (" in line


def test_a_check_that_is_broken_says_so() -> None:
    done = run("--python", str(ROOT / "scripts" / "nowhere"))
    assert done.returncode == 1
