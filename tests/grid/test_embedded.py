"""The embedded grid keeps the promises of every grid; what it promises beyond them, in one process."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest

from dolphin.core.errors import GridError
from dolphin.grid import embedded as embedded_module
from dolphin.grid import store as store_module
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.filelock import FairLock
from dolphin.grid.port import MAX_VALUE, Event, Grid
from tests.grid.conformance import DURABLE, FAST, Conformance, until


class TestEmbeddedGrid(Conformance):
    @pytest.fixture
    def grids(self, tmp_path: Path) -> Iterator[tuple[Grid, Grid]]:
        one, two = EmbeddedGrid(tmp_path / "grid"), EmbeddedGrid(tmp_path / "grid")
        yield one, two
        one.close()
        two.close()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "grid"


def handles() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_it_is_all_there_when_it_is_opened_again(root: Path) -> None:
    grid = EmbeddedGrid(root)
    for name in (FAST, DURABLE):
        grid.put(name, "k", b"kept")
    grid.reference("r").set(b"kept")
    token = grid.lock("x").acquire()
    grid.close()
    grid = EmbeddedGrid(root)
    assert [grid.get(name, "k") for name in (FAST, DURABLE)] == [b"kept", b"kept"]
    assert grid.reference("r").get() == b"kept"
    assert grid.lock("x").acquire() == token + 1, "tokens grow over restarts"
    grid.close()


def test_a_new_boot_starts_without_the_fast_maps_and_with_the_durable_ones(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    boot = tmp_path / "boot"
    monkeypatch.setattr(embedded_module, "_BOOT_ID", boot)
    for number, left in (("11111111-x", None), ("11111111-x", b"1"), ("22222222-x", None)):
        boot.write_text(number + "\n")
        grid = EmbeddedGrid(root)
        assert grid.get(FAST, "k") == left
        assert grid.get(DURABLE, "k") == (b"1" if number[0] == "2" or left else None)
        grid.put(FAST, "k", b"1")
        grid.put(DURABLE, "k", b"1")
        grid.close()
    assert [path.name for path in root.glob("fast-*.mdb")] == ["fast-22222222.mdb"]
    boot.unlink()
    grid = EmbeddedGrid(root)
    grid.close()
    assert [path.name for path in root.glob("fast-*.mdb")] == ["fast-synced.mdb"]


def test_money_and_safety_are_synced_and_features_are_not(root: Path) -> None:
    grid = EmbeddedGrid(root)
    for name in ("DOLPHIN_SAFETY", "DOLPHIN_STATE_GREEN", "DOLPHIN_PNL_BLUE", "unheard of", "DOLPHIN_FEATURES2"):
        grid.put(name, "k", b"")
        assert grid._durable.get(b"m" + name.encode() + b"\0k") == b"", name
    for name in ("DOLPHIN_FEATURES", "DOLPHIN_FEATURES_SHARD_07", "DOLPHIN_OB", "DOLPHIN_HEARTBEAT"):
        grid.put(name, "k", b"")
        assert grid._fast.get(b"m" + name.encode() + b"\0k") == b"", name
    assert grid._durable._env.flags()["sync"]
    assert not grid._fast._env.flags()["sync"]
    grid.close()


def test_nothing_stays_open_or_running(root: Path) -> None:
    EmbeddedGrid(root).close()
    before, threads = handles(), threading.active_count()
    for _ in range(3):
        one, two = EmbeddedGrid(root), EmbeddedGrid(root)
        told: list[Event] = []
        two.watch(FAST, told.append)
        two.watch(DURABLE, told.append)
        one.put(FAST, "k", b"")
        one.put(DURABLE, "k", b"")
        assert one.lock("x").acquire()
        until(lambda told=told: len(told) == 2)  # type: ignore[misc]
        one.close()
        two.close()
    assert (handles(), threading.active_count()) == (before, threads)
    assert list((root / "listeners").iterdir()) == []


def test_a_listener_costs_nothing_while_nothing_changes(root: Path) -> None:
    grid = EmbeddedGrid(root)
    grid.watch(FAST, print)
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.02
    grid.close()


def test_changes_nobody_listens_to_are_not_kept(root: Path) -> None:
    grid = EmbeddedGrid(root)
    stop = grid.watch(FAST, print, "k")
    stop()
    grid.put(FAST, "k", b"")
    assert grid._fast.feed(0) == (0, 0, [])
    grid.close()


def test_one_that_fell_behind_is_told_the_latest(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FEED_EVENTS", 10)
    one, two = EmbeddedGrid(root), EmbeddedGrid(root)
    told: list[Event] = []
    entered, go_on = threading.Event(), threading.Event()

    def slow(event: Event) -> None:
        told.append(event)
        entered.set()
        go_on.wait(10.0)

    two.watch(FAST, slow)
    one.put(FAST, "a", b"first")
    assert entered.wait(10.0)
    for n in range(100):
        one.put(FAST, "ab"[n % 2], b"%d" % n)
    one.put(FAST, "c", b"deleted")
    one.delete(FAST, "c")
    go_on.set()
    until(lambda: len(told) >= 3)
    one.put(FAST, "a", b"after")
    until(lambda: len(told) >= 4)
    assert [(event.key, event.value) for event in told] == [
        ("a", b"first"),
        ("a", b"98"),
        ("b", b"99"),
        ("a", b"after"),
    ]
    assert two.health().missed == 92
    assert one.health().missed == 0

    one.close()
    two.close()


def test_the_feed_is_bounded_in_bytes(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "FEED_BYTES", 100_000)
    grid = EmbeddedGrid(root)
    grid.watch(FAST, print)
    for n in range(50):
        grid.put(FAST, "k", b"%05d" % n + b"x" * 20_000)
    first, following, changes = grid._fast.feed(0)
    assert (first, following) == (46, 50)
    assert [number for number, *_ in changes] == [46, 47, 48, 49]
    grid.put(FAST, "k", b"x" * MAX_VALUE)
    assert grid._fast.feed(0)[2] == [], "one that is larger than the feed is told as the latest"
    grid.close()


def test_a_full_file_says_so_and_stays_as_it_was(root: Path) -> None:
    grid = EmbeddedGrid(root, durable_bytes=1 << 18)

    def fill() -> None:
        for n in range(100):
            grid.put(DURABLE, f"k{n:02d}", b"x" * 10_000)

    with pytest.raises(GridError, match=r"durable\.mdb is full; delete keys, or open it with a larger size$"):
        fill()
    kept = grid.keys(DURABLE)
    assert 5 < len(kept) < 26
    assert all(grid.get(DURABLE, key) == b"x" * 10_000 for key in kept)
    grid.put(FAST, "k", b"the other file has room")
    for key in kept:
        grid.delete(DURABLE, key)
    grid.put(DURABLE, "k", b"x" * 10_000)
    grid.close()


@pytest.mark.parametrize("content", [b"not a grid" * 1000, b"x"])
def test_a_file_that_is_none_is_refused(root: Path, content: bytes) -> None:
    root.mkdir()
    (root / "durable.mdb").write_bytes(content)
    before = handles()
    with pytest.raises(GridError, match=r"durable\.mdb cannot be opened .*; move it away to start anew$"):
        EmbeddedGrid(root)
    assert handles() == before
    assert (root / "durable.mdb").read_bytes() == content


def test_a_later_layout_is_refused(root: Path) -> None:
    EmbeddedGrid(root).close()
    with lmdb.open(str(root / "durable.mdb"), subdir=False) as env, env.begin(write=True) as txn:
        txn.put(b"v", b"2")
    with pytest.raises(GridError, match=r"has layout b'2'; this version reads b'1'"):
        EmbeddedGrid(root)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(GridError, match=r"folder .*file/grid cannot be used \(Not a directory\)"):
        EmbeddedGrid(tmp_path / "file" / "grid")
    with pytest.raises(GridError, match="expected a number above 0"):
        EmbeddedGrid(tmp_path / "grid", timeout_s=0.0)


@pytest.mark.parametrize("name", [FAST, DURABLE])
def test_no_call_waits_longer_than_the_timeout(root: Path, name: str) -> None:
    grid = EmbeddedGrid(root, timeout_s=0.1)
    stop = FairLock((grid._fast if name == FAST else grid._durable).path.with_suffix(".mdb.write"))
    assert stop.acquire(0.0)
    for call in (lambda: grid.put(name, "k", b""), lambda: grid.delete(name, "k"), lambda: grid.watch(name, print)):
        started = time.monotonic()
        with pytest.raises(GridError, match=r"was being written by others for 0\.1 s; nothing was written"):
            call()
        assert 0.1 <= time.monotonic() - started < 1.0
    assert grid.get(name, "k") is None, "readers do not wait"
    stop.release()
    grid.put(name, "k", b"")
    stop.forget()
    grid.close()


def test_waiting_writers_take_turns(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    taken = [0, 0]
    end = time.monotonic() + 0.5

    def hog(me: int) -> None:
        lock = FairLock(path)
        while time.monotonic() < end:
            if lock.acquire(end):
                taken[me] += 1
                time.sleep(0.0005)
                lock.release()
        lock.forget()

    Conformance.together([lambda: hog(0), lambda: hog(1)])
    assert min(taken) > 0.2 * max(taken), taken


def test_after_a_fork_the_child_s_grid_is_closed_and_it_may_open_its_own(root: Path) -> None:
    grid = EmbeddedGrid(root)
    told: list[Event] = []
    grid.watch(FAST, told.append)
    lock = grid.lock("x")
    assert lock.acquire()
    source = f"""
import os, sys
from pathlib import Path
from dolphin.core.errors import GridError
from dolphin.grid.embedded import EmbeddedGrid
grid = EmbeddedGrid(Path({str(root)!r}))
lock = grid.lock("y")
token = lock.acquire()
child = os.fork()
if not child:
    try:
        for call in (lambda: grid.get("m", "k"), lambda: lock.release(token)):
            try:
                call()
                os._exit(1)
            except GridError as error:
                assert "closed; open it again" in str(error)
        mine = EmbeddedGrid(Path({str(root)!r}))
        mine.put("m", "child", b"1")
        assert mine.lock("y").acquire() == 0, "the parent's still"
        assert mine.lock("x").acquire() == 0
        mine.close()
        os._exit(0)
    except BaseException as error:
        import traceback; traceback.print_exc()
        os._exit(2)
assert os.waitpid(child, 0)[1] == 0
assert grid.get("m", "child") == b"1"
lock.release(token)
grid.close()
"""
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", source], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    grid.put(FAST, "k", b"")
    until(lambda: told)
    grid.close()


def test_files_are_for_the_user_alone(root: Path) -> None:
    grid = EmbeddedGrid(root)
    grid.lock("x").acquire()
    for path in (root, *root.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
    grid.close()
    assert [path.name for path in (root / "locks").iterdir()] == ["lock-x"]
