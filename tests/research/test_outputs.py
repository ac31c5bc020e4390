"""A run's folder appears whole, or not at all, and never over something that is not a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from dolphin.core.errors import DataError
from dolphin.research.outputs import RUN_FILES, run_folder
from tests.market.archive_support import tree


def fill(folder: Path, text: str) -> None:
    for name in RUN_FILES:
        (folder / name).write_text(text)


def held(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_a_run_appears_when_it_is_done(tmp_path: Path) -> None:
    out = tmp_path / "some" / "where" / "run"
    with run_folder(out, force=False) as folder:
        fill(folder, "new")
        assert not out.exists()
    assert tree(out) == dict.fromkeys(RUN_FILES, b"new")
    assert held(out.parent) == ["run", *sorted(f"run/{name}" for name in RUN_FILES)]
    assert out.stat().st_mode & 0o777 == 0o755


def fail_within(out: Path, kind: type[BaseException], *, force: bool) -> None:
    with run_folder(out, force=force) as folder:
        fill(folder, "half")
        raise kind


@pytest.mark.parametrize("kind", [RuntimeError, KeyboardInterrupt])
def test_a_failed_run_leaves_nothing(kind: type[BaseException], tmp_path: Path) -> None:
    out = tmp_path / "some" / "where" / "run"
    with pytest.raises(kind):
        fail_within(out, kind, force=False)
    assert held(tmp_path) == []


def test_force_replaces_a_run_and_a_failure_keeps_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with run_folder(out, force=False) as folder:
        fill(folder, "old")
    with pytest.raises(RuntimeError):
        fail_within(out, RuntimeError, force=True)
    assert tree(out) == dict.fromkeys(RUN_FILES, b"old")
    with run_folder(out, force=True) as folder:
        (folder / "summary.json").write_text("new")
    assert tree(out) == {"summary.json": b"new"}
    assert held(tmp_path) == ["run", "run/summary.json"]


def test_an_empty_folder_may_be_used(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with run_folder(tmp_path / "run", force=False) as folder:
        fill(folder, "x")
    assert len(tree(tmp_path / "run")) == len(RUN_FILES)


@pytest.mark.parametrize("force", [False, True])
def test_what_is_not_a_run_is_not_touched(force: bool, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    (tmp_path / "file").write_text("x")
    for name, message in (("run", "holds thesis.txt"), ("file", "is a file"), ("file/run", "cannot be written")):
        with pytest.raises(DataError, match=message), run_folder(tmp_path / name, force=force):
            pytest.fail("the block must not be entered")
    assert tree(tmp_path) == {"run/thesis.txt": b"years of work", "file": b"x"}


def test_a_run_is_not_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "summary.json").write_text("{}")
    with pytest.raises(DataError, match=r"already holds a run.*--force"), run_folder(tmp_path / "run", force=False):
        pytest.fail("the block must not be entered")


def test_the_folder_one_stands_in_cannot_be_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="cannot be replaced"), run_folder(Path(), force=False) as folder:
        fill(folder, "x")
    assert held(tmp_path) == []
