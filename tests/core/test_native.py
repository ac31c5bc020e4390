"""Entries kept as machine code: what they accept, what they refuse, and that a fresh process needs no compiler."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from dolphin.core import native
from dolphin.core.errors import DolphinError
from dolphin.core.jit import DISABLED, kernel
from dolphin.core.native import Entry, Flat

compiled_only = pytest.mark.skipif(DISABLED, reason="the JIT is off: entries run as plain Python")


class Pair(NamedTuple):
    left: np.ndarray
    right: np.ndarray


@kernel
def weigh_nb(pair: Pair, row: np.record, scale: float, extra: int) -> int:
    """Sum pair and record into the record; give the number of elements."""
    total = 0.0
    for i in range(pair.left.shape[0]):
        total += pair.left[i] * pair.right[i]
    row.total = total * scale
    return pair.left.shape[0] + extra


def row() -> np.record:
    return np.zeros(1, np.dtype([("total", "f8")])).view(np.recarray)[0]


@pytest.fixture
def entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Entry:
    monkeypatch.setattr(native, "CACHE_DIR", tmp_path)
    return Entry(weigh_nb)


def test_runs_and_writes_into_the_arguments(entry: Entry) -> None:
    target = row()
    pair = Pair(np.array([1.0, 2.0]), np.array([3.0, 4.0]))
    assert entry(pair, target, 10.0, 5) == 7
    assert target.total == 110.0
    assert entry(Flat(pair, target), 1.0, 0) == 2
    assert target.total == 11.0


@compiled_only
def test_a_second_entry_loads_what_the_first_compiled(entry: Entry, tmp_path: Path) -> None:
    pair = Pair(np.ones(3), np.ones(3))
    assert not entry.is_ready()
    entry(pair, row(), 1.0, 0)
    (file,) = tmp_path.glob("native-weigh_nb-*.bin")
    stamp = file.stat().st_mtime_ns
    again, target = Entry(weigh_nb), row()
    assert again.is_ready()
    assert again(pair, target, 2.0, 0) == 3
    assert target.total == 6.0
    assert file.stat().st_mtime_ns == stamp


@compiled_only
@pytest.mark.parametrize("damage", [b"", b"\xff" * 40, None], ids=["empty", "noise", "flipped bit"])
def test_a_torn_file_is_compiled_anew(entry: Entry, tmp_path: Path, damage: bytes | None) -> None:
    pair = Pair(np.ones(3), np.ones(3))
    entry(pair, row(), 1.0, 0)
    (file,) = tmp_path.glob("native-weigh_nb-*.bin")
    raw = bytearray(file.read_bytes())
    raw[-1] ^= 1
    file.write_bytes(bytes(raw) if damage is None else damage)
    assert Entry(weigh_nb)(pair, row(), 1.0, 0) == 3
    assert native._read(file) is not None


@compiled_only
def test_other_types_are_an_error_and_not_a_guess(entry: Entry) -> None:
    pair = Pair(np.ones(3), np.ones(3))
    entry(pair, row(), 1.0, 0)
    with pytest.raises(DolphinError, match="other argument types"):
        entry(Pair(np.ones(3, np.float32), np.ones(3)), row(), 1.0, 0)
    with pytest.raises(DolphinError, match="other argument types"):
        entry(pair, row(), 1, 0)
    with pytest.raises(DolphinError, match="not contiguous"):
        entry(Pair(np.ones(6)[::2], np.ones(3)), row(), 1.0, 0)
    with pytest.raises(DolphinError, match="cannot be passed"):
        entry(pair, row(), "1.0", 0)


@compiled_only
def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setattr(native, "CACHE_DIR", blocked / "below")
    assert Entry(weigh_nb)(Pair(np.ones(2), np.ones(2)), row(), 1.0, 0) == 2


@compiled_only
@pytest.mark.slow
def test_a_fresh_process_runs_without_importing_the_compiler() -> None:
    program = textwrap.dedent(
        """
        import sys
        from dolphin.research.warm import compile_engine, compile_scanner
        compile_engine(); compile_scanner()
        print("numba" in sys.modules)
        """
    )
    runs = [subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True) for _ in "ab"]
    assert runs[1].stdout.split() == ["False"]
