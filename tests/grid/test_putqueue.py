"""Puts that do not wait: the latest value wins, memory is bounded, every value is accounted for (SPEC §22)."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import GridError
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.memory import MemoryGrid
from dolphin.grid.port import MAX_VALUE, Event
from dolphin.grid.putqueue import PutQueue
from tests.grid.conformance import Conformance, until


class Gated(MemoryGrid):
    """A grid whose writes wait at a gate; `batches` are what was written at once."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[tuple[str, dict[str, bytes]]] = []

    def put_many(self, name: str, values: Mapping[str, bytes]) -> None:
        self.entered.set()
        assert self.gate.wait(10.0)
        self.batches.append((name, dict(values)))
        super().put_many(name, values)


def test_the_latest_of_each_key_is_written_and_the_rest_is_counted() -> None:
    grid = Gated()
    queue = PutQueue(grid)
    queue.put("m", "first", b"1")
    assert grid.entered.wait(10.0)
    for number in range(10):
        queue.put("m", "a", b"%d" % number)
        queue.put("m", "b", b"%d" % -number)
    queue.put("n", "a", b"other map")
    assert queue.counts() == (22, 0, 18, 0, 0, 4, "")
    assert not queue.flush(0.01)
    grid.gate.set()
    assert queue.flush(10.0)
    assert grid.batches == [("m", {"first": b"1"}), ("m", {"a": b"9", "b": b"-9"}), ("n", {"a": b"other map"})]
    assert queue.counts() == (22, 4, 18, 0, 0, 0, "")
    assert queue.close()


def test_a_full_queue_drops_the_longest_waiting() -> None:
    grid = Gated()
    queue = PutQueue(grid, capacity=3)
    queue.put("m", "first", b"")
    assert grid.entered.wait(10.0)
    for key in ("a", "b", "c", "a", "d"):
        queue.put("m", key, key.encode())
    counts = queue.counts()
    assert (counts.dropped, counts.coalesced, counts.waiting) == (1, 1, 4)
    grid.gate.set()
    assert queue.close()
    assert grid.keys("m") == ["b", "c", "d", "first"]


def test_a_grid_that_fails_costs_the_caller_nothing() -> None:
    grid = MemoryGrid()
    grid.fail = True
    queue = PutQueue(grid)
    for _ in range(3):
        queue.put("m", "k", b"lost")
        assert queue.flush(10.0)
    counts = queue.counts()
    assert (counts.failed, counts.sent, counts.waiting) == (3, 0, 0)
    assert counts.last_failure == "grid: not reachable; start it, or go on without"
    grid.fail = False
    queue.put("m", "k", b"there")
    assert queue.close()
    assert grid.get("m", "k") == b"there"


def test_what_no_grid_would_take_is_refused_at_once() -> None:
    queue = PutQueue(MemoryGrid())
    for name, key, value in (("", "k", b""), ("m", "", b""), ("m", "k", None), ("m", "k", b"x" * (MAX_VALUE + 1))):
        with pytest.raises(GridError):
            queue.put(name, key, value)  # type: ignore[arg-type]
    assert queue.counts().offered == 0
    queue.close()
    with pytest.raises(GridError, match="the put queue is closed"):
        queue.put("m", "k", b"")
    assert queue.close(), "twice is once"
    with pytest.raises(GridError, match="expected at least 1"):
        PutQueue(MemoryGrid(), capacity=0)


def test_close_writes_what_waits_and_says_when_it_could_not() -> None:
    grid = Gated()
    queue = PutQueue(grid)
    queue.put("m", "k", b"1")
    assert not queue.close(0.01)
    grid.gate.set()
    assert queue.close()
    assert grid.get("m", "k") == b"1"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("kl"), st.binary(max_size=3)), max_size=60))
def test_nothing_is_unaccounted_for_and_the_last_word_stands(puts: list[tuple[str, str, bytes]]) -> None:
    grid = MemoryGrid()
    queue = PutQueue(grid)
    for name, key, value in puts:
        queue.put(name, key, value)
    assert queue.close()
    counts = queue.counts()
    assert counts.offered == len(puts) == counts.sent + counts.coalesced
    assert grid.values == {(name, key): value for name, key, value in puts}


def test_many_threads_and_a_real_grid(tmp_path: Path) -> None:
    grid = EmbeddedGrid(tmp_path / "grid")
    told: list[Event] = []
    grid.watch("DOLPHIN_OB", told.append)
    queue = PutQueue(grid)

    def work(me: int) -> None:
        for number in range(500):
            queue.put("DOLPHIN_OB", f"k{me}", b"%d" % number)

    Conformance.together([lambda me=me: work(me) for me in range(4)])  # type: ignore[misc]
    assert queue.close()
    counts = queue.counts()
    assert (counts.offered, counts.failed, counts.dropped) == (2000, 0, 0)
    until(lambda: len(told) >= counts.sent)
    for me in range(4):
        mine = [int(event.value or b"") for event in told if event.key == f"k{me}"]
        assert mine == sorted(set(mine))
        assert mine[-1] == 499
    grid.close()


def test_a_put_costs_microseconds_while_the_grid_hangs() -> None:
    queue = PutQueue(Gated())
    started = time.perf_counter()
    for number in range(20_000):
        queue.put("m", f"k{number % 100}", b"x" * 200)
    assert (time.perf_counter() - started) / 20_000 < 50e-6, "a few in bench/grid.py; here the machine may be busy"
    queue._grid.gate.set()  # type: ignore[attr-defined]
    queue.close()
