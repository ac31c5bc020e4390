"""Processes killed at any moment: no acknowledged write lost or torn, nobody blocked, no lock left (SPEC §14)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dolphin.core.errors import GridError
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.port import Event
from tests.grid.conformance import DURABLE, FAST, until
from tests.grid.processes import Process, pattern, running

# A write that was under way when its process was killed may show only with the next write, whoever's it is.
WRITE = """
grid.put({name!r}, "settle", b"")
start = int((grid.get({name!r}, {key!r}) or b"0" * 20)[:20])
say(start)
for number in range(start + 1, 10**9):
    grid.put({name!r}, {key!r}, pattern(number))
    say(number)
"""


@pytest.fixture
def grid(tmp_path: Path) -> Iterator[EmbeddedGrid]:
    grid = EmbeddedGrid(tmp_path / "grid", timeout_s=5.0)
    yield grid
    grid.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", [FAST, DURABLE])
def test_no_acknowledged_write_is_lost_or_torn_however_often_writers_are_killed(grid: EmbeddedGrid, name: str) -> None:
    draws = random.Random(f"{name} 1")
    told: list[Event] = []
    grid.watch(name, told.append)
    # Not at full speed: 16 MiB of feed are a fifth of a second of it, and a busy machine keeps us away for longer.
    unhurried = WRITE.format(name=name, key="survivor") + "    time.sleep(0.002)\n"
    with running(unhurried, grid.root) as survivor:
        survivor.listen()
        acknowledged = 0
        for _ in range(12):
            with running(WRITE.format(name=name, key="victim"), grid.root) as victim:
                assert int(victim.listen()) >= acknowledged, "what was acknowledged before the last kill is there"
                victim.listen()
                time.sleep(draws.uniform(0.0, 0.03))
                acknowledged = int(victim.kill()[-1])
            grid.put(name, "settle", b"")
            value = grid.get(name, "victim")
            assert value is not None
            number = int(value[:20])
            assert value == pattern(number), "not torn"
            assert acknowledged <= number <= acknowledged + 1, "at most the one under way came on top"
            survivor.listen()
        final = int((grid.get(name, "victim") or b"")[:20])
        last = int(survivor.kill()[-1])
    until(lambda: [e for e in told if e.key == "survivor" and int((e.value or b"")[:20]) >= last])
    assert grid.health().missed == 0
    numbers = [int((event.value or b"")[:20]) for event in told if event.key == "victim"]
    assert numbers == list(range(1, final + 1)), "every write is told, once and in order, kills or not"


def test_a_writer_killed_inside_a_write_leaves_the_state_before_it(grid: EmbeddedGrid) -> None:
    for name, store in ((FAST, "_fast"), (DURABLE, "_durable")):
        grid.put(name, "k", b"before")
        source = f"""
def work(txn, changes):
    txn.put(b"m{name}\\0k", b"half")
    changes.append(("k", b"half"))
    say("inside")
    time.sleep(60)
grid.{store}.change({name!r}, work)
"""
        with running(source, grid.root) as victim:
            assert victim.listen() == "inside"
            assert grid.get(name, "k") == b"before"
            victim.kill()
        started = time.monotonic()
        grid.put(name, "other", b"1")
        assert time.monotonic() - started < 2.0, "the dead writer blocks nobody"
        assert grid.get(name, "k") == b"before"


def test_a_writer_that_hangs_blocks_nobody_longer_than_the_timeout(tmp_path: Path) -> None:
    grid = EmbeddedGrid(tmp_path / "grid", timeout_s=0.2)
    source = f"""
def work(txn):
    txn.put(b"m{FAST}\\0k", b"done")
    say("inside")
    time.sleep(1.0)
grid._fast.write(work)
say("written")
"""
    with running(source, grid.root) as other:
        assert other.listen() == "inside"
        other.stop(signal.SIGSTOP)
        started = time.monotonic()
        with pytest.raises(GridError, match=r"being written by others for 0\.2 s; nothing was written"):
            grid.put(FAST, "k", b"mine")
        assert 0.2 <= time.monotonic() - started < 2.0
        assert grid.get(FAST, "k") is None, "readers go on"
        grid.put(DURABLE, "k", b"the other file is free")
        other.stop(signal.SIGCONT)
        assert other.listen() == "written"
        assert grid.get(FAST, "k") == b"done"
        grid.put(FAST, "k", b"mine")
    grid.close()


def test_a_lock_is_free_when_its_holder_dies_and_its_token_is_never_given_again(grid: EmbeddedGrid) -> None:
    tokens = []
    for _ in range(5):
        with running('say(grid.lock("acb_lock").acquire(10.0))\ntime.sleep(60)', grid.root) as holder:
            tokens.append(int(holder.listen()))
            assert grid.lock("acb_lock").acquire() == 0
            holder.kill()
        lock = grid.lock("acb_lock")
        token = lock.acquire(2.0)
        tokens.append(token)
        lock.release(token)
    assert all(token > 0 for token in tokens)
    assert tokens == sorted(set(tokens))


def test_a_fork_of_the_holder_does_not_keep_its_lock_alive(grid: EmbeddedGrid) -> None:
    source = """
import warnings
warnings.simplefilter("ignore")
lock = grid.lock("x")
token = lock.acquire()
child = os.fork()
if child:
    say(child)
    time.sleep(60)
else:
    say("child")
    time.sleep(60)
"""
    with running(source, grid.root) as holder:
        said = {holder.listen(), holder.listen()}
        (child,) = (int(word) for word in said if word != "child")
        try:
            assert grid.lock("x").acquire() == 0
            os.kill(holder.process.pid, signal.SIGKILL)
            assert grid.lock("x").acquire(5.0) == 2
            os.kill(child, 0)  # it is still there
        finally:
            os.kill(child, signal.SIGKILL)


def test_a_holder_that_hangs_keeps_the_lock(grid: EmbeddedGrid) -> None:
    with running('say(grid.lock("x").acquire())\ntime.sleep(60)', grid.root) as holder:
        assert int(holder.listen()) == 1
        holder.stop(signal.SIGSTOP)
        assert grid.lock("x").acquire(0.1) == 0, "it may go on writing at any moment"


def test_processes_that_increment_under_a_lock_lose_nothing(grid: EmbeddedGrid) -> None:
    source = f"""
from dolphin.grid.port import held
for _ in range(40):
    with held(grid.lock("x"), 30.0, "the count"):
        grid.put({FAST!r}, "n", b"%d" % (int(grid.get({FAST!r}, "n") or b"0") + 1))
say("done")
"""
    processes = [Process(source, grid.root) for _ in range(3)]
    try:
        assert [process.listen(60.0) for process in processes] == ["done"] * 3
    finally:
        for process in processes:
            process.close()
    assert grid.get(FAST, "n") == b"120"


LISTEN = f"""
grid.watch({FAST!r}, lambda event: say(event.key, event.value.decode()))
say("ready")
time.sleep(60)
"""


def test_listeners_of_other_processes_hear_everything_once_and_in_order(grid: EmbeddedGrid) -> None:
    with running(LISTEN, grid.root) as one, running(LISTEN, grid.root) as two:
        assert [one.listen(), two.listen()] == ["ready", "ready"]
        for number in range(500):
            grid.put(FAST, f"k{number % 7}", b"%d" % number)
        for other in (one, two):
            while len(other.said) < 501:
                other.listen()
            assert other.said[1:] == [f"k{number % 7} {number}" for number in range(500)]


def test_a_dead_listener_is_forgotten_and_a_hanging_one_holds_nobody_up(grid: EmbeddedGrid) -> None:
    with running(LISTEN, grid.root) as dead, running(LISTEN, grid.root) as hanging:
        dead.listen()
        hanging.listen()
        hanging.stop(signal.SIGSTOP)
        dead.kill()
        started = time.monotonic()
        for number in range(1000):
            grid.put(FAST, "k", b"%d" % number)
        assert time.monotonic() - started < 5.0
        assert len(grid._fast._ringers) == 1
        hanging.stop(signal.SIGCONT)
        while hanging.said[-1] != "k 999":
            hanging.listen()
        assert hanging.said[1:] == [f"k {number}" for number in range(1000)]


def test_what_dead_listeners_leave_is_swept_up(grid: EmbeddedGrid) -> None:
    for _ in range(3):
        with running(LISTEN, grid.root) as dead:
            dead.listen()
            dead.kill()
    folder = grid.root / "listeners"
    os.mkfifo(folder / "1-half.making")
    os.utime(folder / "1-half.making", (1.0, 1.0))
    assert len(list(folder.iterdir())) == 2, "each process that opens the grid sweeps up those before"
    EmbeddedGrid(grid.root).close()
    assert list(folder.iterdir()) == []
    grid.put(FAST, "k", b"")
    assert grid._fast.feed(0)[2] == [], "nobody listens any more"


def test_a_change_whose_writer_died_before_it_rang_is_told_all_the_same(grid: EmbeddedGrid) -> None:
    told: list[Event] = []
    grid.watch(FAST, told.append)
    source = f"""
from dolphin.grid import bells
bells.Ringer.ring = lambda self: os.kill(os.getpid(), 9)
say("now")
grid.put({FAST!r}, "k", b"committed")
"""
    with running(source, grid.root) as victim:
        victim.listen()
        with contextlib.suppress(AssertionError):
            victim.listen(5.0)
    until(lambda: told)
    assert [event.value for event in told] == [b"committed"]


def test_readers_that_are_killed_while_reading_leave_no_trace(grid: EmbeddedGrid) -> None:
    source = """
def work(txn):
    txn.get(b"v")
    say("reading")
    time.sleep(60)
grid._fast.read(work)
"""
    grid.put(FAST, "k", b"x" * 100_000)
    for _ in range(3):
        with running(source, grid.root) as reader:
            reader.listen()
            reader.kill()
    EmbeddedGrid(grid.root).close()
    for number in range(50):
        grid.put(FAST, "k", b"%d" % number * 50_000)
    size = grid._fast._env.info()["last_pgno"]
    for number in range(200):
        grid.put(FAST, "k", b"%d" % (number % 10) * 100_000)
    assert grid._fast._env.info()["last_pgno"] <= size + 60, "old pages are used again"
