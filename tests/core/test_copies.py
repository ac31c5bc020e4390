"""What keeps addresses of its arrays must not keep them when it is copied: a copy would write into its origin."""

from __future__ import annotations

import copy
import pickle
import struct
from collections.abc import Callable

import numpy as np
import pytest

from dolphin.alpha.feed import SensorFeed
from dolphin.core.codes import Posture
from dolphin.core.native import Flat
from dolphin.risk.survival import SurvivalStack
from dolphin.scan.scanner import Scanner
from tests.risk.survival_cases import reading
from tests.support.runs import scan_days
from tests.support.sensors import as_records, compiled, recording

HOW = [copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))]


@pytest.mark.parametrize("how", HOW, ids=["deepcopy", "pickle"])
def test_a_copied_argument_points_at_its_own_arrays(how: Callable[[Flat], Flat]) -> None:
    flat = Flat(np.arange(3.0), np.zeros((2, 2), np.int64))
    twin = how(flat)
    assert twin.types == flat.types
    (mine, _), (yours, _) = flat.keep, twin.keep
    assert mine.ctypes.data in struct.unpack(f"={flat.kinds}", flat.raw)
    assert yours.ctypes.data in struct.unpack(f"={twin.kinds}", twin.raw)
    assert not np.shares_memory(mine, yours)


@pytest.mark.parametrize("how", HOW, ids=["deepcopy", "pickle"])
def test_a_copied_scanner_goes_its_own_way(how: Callable[[Scanner], Scanner]) -> None:
    closes = np.exp(np.random.default_rng(3).normal(0.0, 1e-3, (900, 4)).cumsum(axis=0))
    ts = np.arange(900, dtype=np.int64) * 60_000_000_000
    scanner = Scanner(4, 60.0)
    scanner.scan(ts[:800], closes[:800])
    twin = how(scanner)
    ahead = twin.scan(ts[800:], closes[800:] ** 2)
    plain = scanner.scan(ts[800:], closes[800:])
    whole = Scanner(4, 60.0).scan(ts, closes)
    assert plain.vel_div.tobytes() == whole.vel_div[800:].tobytes(), "the copy's bars left a trace"
    assert ahead.vel_div.tobytes() != plain.vel_div.tobytes()


@pytest.mark.parametrize("how", HOW, ids=["deepcopy", "pickle"])
def test_a_copied_stack_goes_its_own_way(how: Callable[[SurvivalStack], SurvivalStack]) -> None:
    stack = SurvivalStack.opening()
    stack.update(reading(), 0.0)
    twin = how(stack)
    twin.update(reading(grid_nodes=0), 60.0)
    assert (stack.posture, twin.posture) == (Posture.APEX, Posture.HIBERNATE)
    assert how(stack).snapshot() == stack.snapshot()


@pytest.mark.parametrize("how", HOW, ids=["deepcopy", "pickle"])
def test_a_copied_feed_goes_its_own_way(how: Callable[[SensorFeed], SensorFeed]) -> None:
    days = scan_days(1, 200)
    taken = recording(int(days[0].ts_ns[0]), 200, 6)
    feed = SensorFeed(as_records(taken))
    twin = how(feed)
    first, _, _ = compiled(days, feed)
    second, _, _ = compiled(days, twin)
    assert first.tobytes() == second.tobytes(), "the first run had moved the copy on"
