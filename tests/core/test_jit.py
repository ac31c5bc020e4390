"""The kernel cache cannot go stale: its folder's name is the sources' fingerprint, and an old folder is removed."""

from __future__ import annotations

import ast
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import dolphin
from dolphin.core import jit
from dolphin.core.jit import inlined_kernel, kernel, source_fingerprint

PACKAGE = Path(dolphin.__file__).parent
TELL = "from dolphin.core import jit; print(jit.CACHE_DIR); print(jit.source_fingerprint())"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the rooms that hold kernels, importable from its parent."""
    for room in ("core", "scan", "book", "alpha", "exchange"):
        shutil.copytree(PACKAGE / room, tmp_path / "dolphin" / room, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PACKAGE / "__init__.py", tmp_path / "dolphin")
    return tmp_path


def tell(root: Path, **env: str) -> tuple[Path, str]:
    """(cache folder, fingerprint) as a fresh process with the copy in front sees them."""
    clean = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", TELL],
        env={**clean, "PYTHONPATH": str(root), **env},
        capture_output=True,
        text=True,
        check=True,
    )
    folder, mark = done.stdout.split()
    return Path(folder), mark


def test_an_edit_gives_a_new_folder_and_removes_the_old(copy: Path) -> None:
    old, mark = tell(copy)
    assert old == copy / "dolphin" / "__pycache__" / f"kernels-{mark}"
    old.mkdir(parents=True)
    (old / "index.nbi").write_text("compiled")
    assert tell(copy) == (old, mark)
    assert (old / "index.nbi").exists(), "the same sources keep their cache"
    with (copy / "dolphin" / "alpha" / "signal.py").open("a") as source:
        source.write("# a small rule, changed\n")
    new, changed = tell(copy)
    assert changed != mark
    assert new.parent == old.parent
    assert not old.exists()


@pytest.mark.parametrize("room", ["core", "scan", "book", "alpha", "exchange"])
def test_every_room_of_kernels_counts(room: str, copy: Path) -> None:
    before = tell(copy)[1]
    (copy / "dolphin" / room / "novelty.py").write_text("X = 1\n")
    assert tell(copy)[1] != before


def test_other_rooms_do_not(copy: Path) -> None:
    before = tell(copy)[1]
    (copy / "dolphin" / "ui").mkdir()
    (copy / "dolphin" / "ui" / "novelty.py").write_text("X = 1\n")
    assert tell(copy)[1] == before


def test_folders_without_kernels_do_not_either(copy: Path) -> None:
    (copy / "dolphin" / "risk" / "forewarner").mkdir(parents=True)
    before = tell(copy)[1]
    (copy / "dolphin" / "risk" / "forewarner" / "novelty.py").write_text("X = 1\n")
    assert tell(copy)[1] == before
    (copy / "dolphin" / "risk" / "forewarner.py").write_text("X = 1\n")
    assert tell(copy)[1] != before, "only the folder is left out, not whatever begins like it"


@pytest.mark.parametrize("folder", jit.WITHOUT_KERNELS)
def test_no_kernel_lives_where_none_is_looked_for(folder: str) -> None:
    """A kernel there would be compiled once, and its old code run for ever."""
    sources = list((PACKAGE / folder).rglob("*.py"))
    assert sources
    for path in sources:
        named = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                named |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
        assert not [name for name in named if name.startswith(("numba", "dolphin.core.jit", "dolphin.core.native"))], (
            path
        )


def test_a_chosen_folder_keeps_sources_apart_too(copy: Path, tmp_path: Path) -> None:
    """Machine code of other sources may expect records of another layout: running it would crash the process."""
    chosen = str(tmp_path / "chosen")
    old, _ = tell(copy, NUMBA_CACHE_DIR=chosen)
    with (copy / "dolphin" / "alpha" / "layout.py").open("a") as source:
        source.write("# changed\n")
    new, _ = tell(copy, NUMBA_CACHE_DIR=chosen)
    assert old.parent == new.parent == Path(chosen)
    assert old != new


def test_a_package_that_cannot_be_written_caches_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Permission bits would not stop a superuser, so the answer is given in their place.
    monkeypatch.setattr(jit.os, "access", lambda *_: False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert jit._cache_root() == tmp_path / "cache" / "dolphin"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert jit._cache_root() == tmp_path / ".cache" / "dolphin"


def test_the_fingerprint_is_stable() -> None:
    assert source_fingerprint() == source_fingerprint()
    assert len(source_fingerprint()) == 16
    assert int(source_fingerprint(), 16) >= 0


def test_kernels_divide_as_ieee_says_and_keep_the_order_of_sums() -> None:
    if jit.DISABLED:
        pytest.skip("plain Python divides by its own rules")

    def divide(a: float, b: float) -> float:
        return a / b

    def total(n: int) -> float:
        out = 0.0
        for k in range(n):
            out += 1.0 / (k + 1.0)
        return out

    for wrap in (kernel, inlined_kernel):
        assert wrap(divide).__name__ == "divide"
        assert wrap(divide)(1.0, 0.0) == math.inf
        assert wrap(total)(100_000) == total(100_000)
