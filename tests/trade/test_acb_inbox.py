"""Circuit-breaker updates across threads: none torn, none twice, the latest wins, the next bar obeys (SPEC §9, §23)."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.codes import ExitReason
from dolphin.grid.values import AcbBoost
from dolphin.trade.acb_inbox import AcbInbox
from tests.alpha.pieces import Stage


def value(boost: float, beta: float = 0.2, **more: Any) -> str:
    return json.dumps({"boost": boost, "beta": beta, **more})


def test_an_update_is_handed_out_once() -> None:
    inbox = AcbInbox()
    assert inbox.drain() is None
    assert inbox.offer(value(1.5, 0.8, date="2024-01-01"))
    assert inbox.drain() == AcbBoost(boost=1.5, beta=0.8, date="2024-01-01")
    assert inbox.drain() is None
    assert (inbox.received, inbox.replaced, inbox.refused) == (1, 0, 0)


def test_the_latest_of_several_wins() -> None:
    inbox = AcbInbox()
    for boost in (1.0, 1.3, 1.7):
        assert inbox.offer(value(boost).encode())
    assert inbox.drain() == AcbBoost(boost=1.7, beta=0.2)
    assert (inbox.received, inbox.replaced) == (3, 2)


BAD = [
    ("", "truncated"),
    ("{", "truncated"),
    ("[1.2, 0.3]", "Expected `object`, got `array`"),
    ("null", "Expected `object`, got `null`"),
    ('{"beta": 0.2}', "missing required field `boost`"),
    ('{"boost": 1.2}', "missing required field `beta`"),
    ('{"boost": "1.2", "beta": 0.2}', "got `str` - at `$.boost`"),
    ('{"boost": null, "beta": 0.2}', "got `null` - at `$.boost`"),
    ('{"boost": NaN, "beta": 0.2}', "malformed"),
    ('{"boost": 1e999, "beta": 0.2}', "out of range"),
    ('{"boost": 0.99, "beta": 0.2}', "`float` >= 1.0 - at `$.boost`"),
    ('{"boost": 3.01, "beta": 0.2}', "`float` <= 3.0 - at `$.boost`"),
    ('{"boost": 1.2, "beta": -0.1}', "`float` >= 0.0 - at `$.beta`"),
    ('{"boost": 1.2, "beta": 1.1}', "`float` <= 1.0 - at `$.beta`"),
    ('{"boost": 1.2, "beta": 0.2, "_v": 2}', "version 2; this build reads up to 1"),
    (b"\xff\xfe", "malformed"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_cannot_be_an_update_is_refused_and_nothing_is_lost(text: str | bytes, message: str) -> None:
    inbox = AcbInbox()
    inbox.offer(value(1.5))
    assert not inbox.offer(text)
    assert message in inbox.last_refusal
    assert inbox.last_refusal.startswith("DOLPHIN_FEATURES['acb_boost']: refused: ")
    assert "\n" not in inbox.last_refusal
    assert inbox.drain() == AcbBoost(boost=1.5, beta=0.2)
    assert (inbox.received, inbox.refused) == (1, 1)


def test_a_writer_that_has_lost_the_lock_is_refused() -> None:
    inbox = AcbInbox()
    for fence, taken in ((3, True), (3, True), (2, False), (None, True), (4, True), (3, False)):
        assert inbox.offer(value(1.5, **({} if fence is None else {"fence": fence}))) is taken
    assert (inbox.received, inbox.refused) == (4, 2)
    assert inbox.last_refusal.endswith("fence 3 after 4; its writer has lost the lock")


def test_fields_that_nobody_knows_are_let_pass_and_counted() -> None:
    inbox = AcbInbox()
    assert inbox.offer(value(1.5, mood="calm", moon=0.3))
    assert inbox.drain() == AcbBoost(boost=1.5, beta=0.2)
    assert inbox.unknown_fields == 2


@given(st.one_of(st.text(max_size=200), st.binary(max_size=200)))
def test_no_value_breaks_the_listener(text: str | bytes) -> None:
    assert AcbInbox().offer(text) in (True, False)


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads change places as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("restless")
def test_thousands_of_updates_from_many_threads() -> None:
    """Eight listeners offer 2,000 updates each while one thread drains: every update is handed out whole, at most once,
    each listener's in the order it sent them, and none is left over or unaccounted for."""
    inbox, listeners, each = AcbInbox(), 8, 2_000
    start, done = threading.Barrier(listeners + 1), threading.Event()

    def listen(who: int) -> None:
        start.wait()
        for k in range(each):
            # beta repeats what boost says, so that a torn pair would show.
            number = (who * each + k) / (listeners * each)
            assert inbox.offer(value(1.0 + 2.0 * number, number))
            if k % 50 == 0:
                inbox.offer('{"boost": "torn')

    threads = [threading.Thread(target=listen, args=(who,)) for who in range(listeners)]
    got: list[AcbBoost] = []

    def drain() -> None:
        start.wait()
        while not done.is_set():
            if (update := inbox.drain()) is not None:
                got.append(update)

    drainer = threading.Thread(target=drain)
    for thread in (*threads, drainer):
        thread.start()
    for thread in threads:
        thread.join(60)
    time.sleep(0.01)
    done.set()
    drainer.join(60)
    if (left := inbox.drain()) is not None:
        got.append(left)
    assert inbox.received == listeners * each
    assert inbox.refused == listeners * each // 50
    assert len(got) == inbox.received - inbox.replaced
    assert len(set(got)) == len(got), "an update was handed out twice"
    for update in got:
        assert update.boost == pytest.approx(1.0 + 2.0 * update.beta)
    numbers = np.rint(np.array([update.beta for update in got]) * listeners * each).astype(int)
    for who in range(listeners):
        mine = numbers[numbers // each == who]
        assert (np.diff(mine) > 0).all(), "a listener's updates changed places"


@pytest.mark.usefixtures("restless")
def test_an_engine_that_steps_while_updates_arrive() -> None:
    """The engine runs on whichever update was drained before each bar, from that bar on, and a normalising one closes
    the position at that very bar."""
    inbox, stage = AcbInbox(), Stage()
    stop = threading.Event()

    def listen() -> None:
        k = 0
        while not stop.is_set():
            inbox.offer(value((1.3, 1.5, 1.7)[k % 3]))
            k += 1

    stage.enter()
    thread = threading.Thread(target=listen)
    thread.start()
    while inbox.received == 0:  # sixty steps can be over before the other thread's first turn
        pass
    applied = 0
    try:
        for _ in range(60):
            update = inbox.drain()
            if update is not None:
                assert stage.engine.update_acb_boost(update.boost, update.beta)
                applied += 1
                want = update.boost
            else:
                want = float(stage.engine.state.core.boost)
            event = stage.step()
            assert event.exit_reason == ExitReason.NONE
            assert float(stage.engine.state.core.boost) == want
    finally:
        stop.set()
        thread.join(30)
    assert applied > 0
    while inbox.drain() is not None:
        pass
    stage.engine.update_acb_boost(1.5, 0.2)
    inbox.offer(value(1.0))
    update = inbox.drain()
    assert update is not None
    assert stage.engine.update_acb_boost(update.boost, update.beta)
    assert ExitReason(stage.step().exit_reason) == ExitReason.SUBDAY_ACB_NORMALIZATION
    assert not stage.engine.is_open
