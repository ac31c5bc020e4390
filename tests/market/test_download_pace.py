"""The token bucket and the backoff, on a virtual clock."""

from __future__ import annotations

import asyncio
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.market.download.pace import TokenBucket, backoff_s
from tests.support.downloads import FakeTime


def takes(bucket: TokenBucket, now: FakeTime, count: int) -> list[float]:
    """When each of `count` takers, one after the other, got through."""

    async def run() -> list[float]:
        times = []
        for _ in range(count):
            await bucket.take()
            times.append(now.now)
        return times

    return asyncio.run(run())


def test_by_hand() -> None:
    now = FakeTime(now=0.0)
    assert takes(TokenBucket(4.0, now.timing()), now, 4) == [0.0, 0.25, 0.5, 0.75]
    now = FakeTime(now=0.0)
    assert takes(TokenBucket(4.0, now.timing(), burst=3), now, 5) == [0.0, 0.0, 0.0, 0.25, 0.5]


def test_a_rest_fills_the_bucket_no_higher_than_its_brim() -> None:
    now = FakeTime(now=0.0)
    bucket = TokenBucket(1.0, now.timing(), burst=2)
    takes(bucket, now, 2)
    now.now = 100.0
    assert takes(bucket, now, 4) == [100.0, 100.0, 101.0, 102.0]


def test_a_pause_holds_everybody_and_is_never_shortened() -> None:
    now = FakeTime(now=0.0)
    bucket = TokenBucket(10.0, now.timing())
    bucket.pause(5.0)
    bucket.pause(1.0)
    assert takes(bucket, now, 2) == [5.0, pytest.approx(5.1)]


@given(
    rate=st.floats(0.1, 50.0),
    burst=st.integers(1, 5),
    rests=st.lists(st.floats(0.0, 3.0), min_size=2, max_size=40),
)
def test_no_window_ever_holds_more_than_rate_and_burst(rate: float, burst: int, rests: list[float]) -> None:
    now = FakeTime(now=0.0)
    bucket = TokenBucket(rate, now.timing(), burst=burst)
    times: list[float] = []
    for rest in rests:
        now.now += rest
        times += takes(bucket, now, 1)
    for a in range(len(times)):
        for b in range(a, len(times)):
            assert b - a + 1 <= burst + (times[b] - times[a]) * rate + 1e-6


def test_waiters_that_come_together_leave_one_by_one() -> None:
    now = FakeTime(now=0.0)
    bucket = TokenBucket(2.0, now.timing())
    left: list[float] = []

    async def one() -> None:
        await bucket.take()
        left.append(now.now)

    async def run() -> None:
        await asyncio.gather(*(one() for _ in range(5)))

    asyncio.run(run())
    assert sorted(left)[-1] == pytest.approx(2.0)
    assert len(left) == 5


@given(attempt=st.integers(1, 40), seed=st.integers(0, 1000))
def test_backoff_doubles_up_to_a_cap_with_jitter(attempt: int, seed: int) -> None:
    whole = min(30.0, 0.5 * 2.0 ** (attempt - 1))
    wait = backoff_s(attempt, random.Random(seed))
    assert whole / 2 <= wait <= whole
    assert wait == backoff_s(attempt, random.Random(seed))
