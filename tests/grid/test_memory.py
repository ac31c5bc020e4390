"""The grid in this process keeps the promises of every grid."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dolphin.core.errors import GridError
from dolphin.grid.memory import MemoryGrid
from dolphin.grid.port import Event, Grid
from tests.grid.conformance import Conformance


class TestMemoryGrid(Conformance):
    @pytest.fixture
    def grids(self) -> Iterator[tuple[Grid, Grid]]:
        grid = MemoryGrid()
        yield grid, grid
        grid.close()


def test_it_is_told_before_the_put_returns() -> None:
    grid = MemoryGrid()
    told: list[Event] = []
    grid.watch("m", told.append)
    grid.put("m", "k", b"1")
    assert told == [Event("m", "k", b"1", 0)]


def test_an_interrupted_listener_does_not_silence_the_others() -> None:
    grid = MemoryGrid()
    told: list[Event] = []

    def interrupted(event: Event) -> None:
        if event.value == b"1":
            raise KeyboardInterrupt

    grid.watch("m", interrupted)
    grid.watch("m", told.append)
    with pytest.raises(KeyboardInterrupt):
        grid.put("m", "k", b"1")
    grid.put("m", "k", b"2")
    assert [event.value for event in told] == [b"2"]


def test_fail_makes_every_call_raise() -> None:
    grid = MemoryGrid()
    reference, lock = grid.reference("r"), grid.lock("x")
    grid.fail = True
    for call in (
        lambda: grid.get("m", "k"),
        lambda: grid.put("m", "k", b""),
        lambda: grid.keys("m"),
        lambda: grid.watch("m", print),
        reference.get,
        lock.acquire,
    ):
        with pytest.raises(GridError, match="not reachable; start it, or go on without"):
            call()
    health = grid.health()
    assert (health.nodes, health.latency_s, health.last_success_ns, health.failures) == (0, float("inf"), 0, 6)
    grid.fail = False
    assert grid.health().nodes == 1
