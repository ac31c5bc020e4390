"""The breaker of the pushes: by hand, and for whatever may happen in whatever order (SPEC §8, §23)."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dolphin.ops.obf.breaker import Breaker, BreakerState

CLOSED, OPEN, HALF_OPEN = BreakerState


def push(breaker: Breaker, worked: bool, now_s: float) -> Breaker:
    breaker, allowed = breaker.ask(now_s)
    assert allowed
    return breaker.told(worked, now_s)


def test_five_failures_open_it_and_the_back_off_doubles_up_to_a_minute() -> None:
    breaker = Breaker()
    for k in range(4):
        breaker = push(breaker, False, 0.0)
        assert (breaker.state, breaker.in_a_row) == (CLOSED, k + 1)
    breaker = push(breaker, False, 0.0)
    assert (breaker.state, breaker.opened, breaker.wait_s, breaker.retry_s) == (OPEN, 1, 1.0, 1.0)
    assert breaker.ask(0.999) == (breaker, False)
    now, waits = 0.0, []
    for _ in range(8):
        now = breaker.retry_s
        probing, allowed = breaker.ask(now)
        assert allowed
        assert probing.state is HALF_OPEN
        assert probing.ask(now) == (probing, False), "one probe at a time"
        breaker = probing.told(False, now)
        assert breaker.state is OPEN
        waits.append(breaker.wait_s)
    assert waits == [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert (breaker.opened, breaker.in_a_row) == (1, 13)
    breaker = push(breaker, True, breaker.retry_s)
    assert (breaker.state, breaker.in_a_row, breaker.wait_s) == (CLOSED, 0, 0.0)
    for _ in range(5):
        breaker = push(breaker, False, 1000.0)
    assert (breaker.state, breaker.opened, breaker.wait_s) == (OPEN, 2, 1.0), "the back-off begins anew"


def test_a_success_ends_a_row_of_failures() -> None:
    breaker = Breaker()
    for worked in (False, False, False, False, True, False, False, False, False):
        breaker = push(breaker, worked, 0.0)
        assert breaker.state is CLOSED


@given(
    st.integers(1, 6),
    st.floats(0.01, 10.0),
    st.floats(1.0, 8.0),
    st.lists(st.tuples(st.floats(0.0, 30.0), st.booleans()), max_size=200),
)
def test_whatever_happens(failures: int, backoff_s: float, factor: float, history: list[tuple[float, bool]]) -> None:
    """A model by plain counting: closed until `failures` in a row; then nothing passes until the back-off is over."""
    cap_s = backoff_s * factor
    breaker = Breaker(failures=failures, backoff_s=backoff_s, cap_s=cap_s)
    now, row, closed, opened, wait, quiet_until = 0.0, 0, True, 0, 0.0, 0.0
    for passed, works in history:
        now += passed
        breaker, allowed = breaker.ask(now)
        assert allowed == (closed or now >= quiet_until)
        if not allowed:
            continue
        assert breaker.state is (CLOSED if closed else HALF_OPEN)
        breaker = breaker.told(works, now)
        if works:
            row, closed = 0, True
        else:
            row += 1
            if not closed or row >= failures:
                wait = backoff_s if closed else min(cap_s, 2.0 * wait)
                opened += closed
                closed, quiet_until = False, now + wait
        assert (breaker.state is CLOSED) == closed
        assert (breaker.in_a_row, breaker.opened) == (row, opened)
        assert closed or breaker.retry_s == quiet_until
        assert breaker.wait_s <= cap_s
