"""Snapshots, copies and draws of NDAlphaEngine: the whole engine is one value (SPEC §7, §12)."""

from __future__ import annotations

import copy
import functools
import pickle
from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, records
from dolphin.core.codes import Direction, Posture
from dolphin.core.errors import ConfigError
from dolphin.core.params import Champion, EngineParams
from dolphin.core.sealed import seal
from tests.alpha.pieces import BAR_NS, CAPITAL, Stage, book, market

pytestmark = pytest.mark.jit_off
MONDAY = date(2024, 1, 1)
NO_FRICTION: dict[str, Any] = {"use_sp_fees": False, "use_sp_slippage": False, "use_ob_edge": False}


# --- snapshots ---


def body_of(snapshot: bytes) -> tuple[dict[str, Any], bytes]:
    """(head, arrays) of a snapshot."""
    end = 24 + int.from_bytes(snapshot[16:24], "little")
    return msgspec.json.decode(snapshot[24:end]), snapshot[end:]


def sealed(head: dict[str, Any], arrays: bytes) -> bytes:
    """A snapshot with a changed head and a digest that fits."""
    packed = msgspec.json.encode(head)
    body = len(packed).to_bytes(8, "little") + packed + arrays
    return seal(body)


@functools.cache
def sample() -> bytes:
    """The snapshot of a young engine."""
    return Stage(upto=3).engine.snapshot()


def busy() -> Stage:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=1.5, beta=0.3, mc_scale=0.5)
    stage.enter()
    stage.engine.update_acb_boost(1.0, 0.0)
    return stage


def test_a_restored_engine_is_the_same_engine() -> None:
    stage = busy()
    value = stage.engine.snapshot()
    again = NDAlphaEngine.restore(value)
    assert again.snapshot() == value
    assert (again.day, again.assets, again.direction, again.params) == (
        stage.engine.day,
        stage.engine.assets,
        stage.engine.direction,
        stage.engine.params,
    )
    want, trade = stage.engine.step_bar(stage.t * BAR_NS, 0.0, np.array([980.0]))
    got, same = again.step_bar(stage.t * BAR_NS, 0.0, np.array([980.0]))
    assert trade is not None
    assert same is not None
    assert (got.tobytes(), same.tobytes()) == (want.tobytes(), trade.tobytes())
    assert again.state_hash() == stage.engine.state_hash()
    assert value != stage.engine.snapshot()


def test_a_restored_engine_shares_nothing_with_its_origin() -> None:
    stage = busy()
    again = NDAlphaEngine.restore(stage.engine.snapshot())
    before = again.state_hash()
    stage.step(900.0)
    assert again.state_hash() == before


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_has_memory_of_its_own(how: Callable[[NDAlphaEngine], NDAlphaEngine]) -> None:
    """The engine keeps the addresses of its arrays: a copy that kept them too would trade on its origin's state."""
    stage = busy()
    before = stage.engine.state_hash()
    twin = how(stage.engine)
    assert twin.state_hash() == before
    event, trade = twin.step_bar(stage.t * BAR_NS, 0.0, np.array([980.0]))
    assert trade is not None
    assert stage.engine.state_hash() == before != twin.state_hash()
    assert stage.engine.is_open
    assert stage.step(980.0).tobytes() == event.tobytes()


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_damaged_snapshot_is_refused(data: st.DataObject) -> None:
    value = bytearray(sample())
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ConfigError, match="engine snapshot") as caught:
        NDAlphaEngine.restore(bytes(value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 23, 24, 200, -1])
def test_a_truncated_snapshot_is_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=r"engine snapshot.*restore"):
        NDAlphaEngine.restore(sample()[:length])
    with pytest.raises(ConfigError, match="engine snapshot"):
        NDAlphaEngine.restore(sample() + b"x" * (length + 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 3}, "version 3, expected 2"),
        ({"version": 0, "novelty": True}, "version 0, expected 2"),
        ({"novelty": True}, "not readable"),
        ({"direction": 5}, "not readable"),
        ({"day": "soon"}, "not readable"),
        ({"assets": ["A", "B"]}, "bytes of state, expected"),
        ({"assets": []}, "universe"),
        ({"sizes": [1, 2, 3, 4]}, "bytes of state, expected"),
    ],
)
def test_a_snapshot_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    head, arrays = body_of(sample())
    with pytest.raises(ConfigError, match=message):
        NDAlphaEngine.restore(sealed({**head, **change}, arrays))
    assert NDAlphaEngine.restore(sealed(head, arrays)).snapshot() == sample()


# --- draws ---


@pytest.mark.parametrize("seed", [42, 7])
def test_the_kth_close_takes_the_kth_draw(seed: int) -> None:
    stage = Stage(EngineParams(champion=Champion(seed=seed, lookback=1)))
    edges = []
    for _ in range(30):
        stage.enter()
        stage.step(posture=Posture.HIBERNATE)
        edges.append(stage.trades[-1].modelled_edge > 0.0)
        if len(edges) == 12:  # the counter is part of the state
            stage.engine = NDAlphaEngine.restore(stage.engine.snapshot())
    assert edges == [bool(x < 0.4) for x in np.random.RandomState(seed).random_sample(30)]
    assert [int(t.trade_id) for t in stage.trades] == list(range(30))


def test_every_close_takes_a_draw_with_or_without_friction_or_book() -> None:
    for params, with_book in ((EngineParams(**NO_FRICTION), False), (EngineParams(), True)):
        stage = Stage(params)
        shelf = records(ASSET_BOOK, 1)
        shelf[0] = book()
        rest: dict[str, Any] = {"market": market(), "books": shelf} if with_book else {}
        for k in range(1, 4):
            stage.enter(**rest)
            stage.step(posture=Posture.HIBERNATE, **rest)
            assert stage.engine.state.core.draws == k


def test_draws_grow_with_the_run() -> None:
    engine = NDAlphaEngine(EngineParams(), ("A",), Direction.SHORT, CAPITAL)
    (first,) = engine._draws_for(1).keep
    engine.state.core.draws = 10_000
    (grown,) = engine._draws_for(5_000).keep
    assert len(grown) > 15_000
    assert (grown[: len(first)] == first).all()
    assert (grown == np.random.RandomState(42).random_sample(len(grown))).all()
