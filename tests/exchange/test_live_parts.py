"""The parts of the live feed that need no exchange: addresses, budget, beats, contracts, clocks, waits."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.exchange.live.backoff import full_jitter
from dolphin.exchange.live.budget import WINDOW_S, WeightBudget
from dolphin.exchange.live.contracts import trading_sizes
from dolphin.exchange.live.endpoints import Endpoints, route_of
from dolphin.exchange.live.pulse import Patience, Pulse
from dolphin.exchange.live.venueclock import compare
from tests.support.loopback import BTC, DOGE

# --- addresses --------------------------------------------------------------------------------------------------------


def test_addresses_by_hand() -> None:
    here = Endpoints("http://127.0.0.1:80/", "ws://[::1]:81")
    assert here.url("/fapi/v1/time") == "http://127.0.0.1:80/fapi/v1/time"
    assert here.socket_url("public") == "ws://[::1]:81/public/stream"
    assert Endpoints("http://localhost", "ws://localhost", routed=False).socket_url("market") == "ws://localhost/stream"
    far = Endpoints("https://venue.example/api", "wss://streams.example", allow_remote=True)
    assert far.url("/x") == "https://venue.example/api/x"


@pytest.mark.parametrize(
    ("rest", "ws"),
    [
        ("127.0.0.1:80", "ws://127.0.0.1"),
        ("ws://127.0.0.1", "ws://127.0.0.1"),
        ("http://127.0.0.1", "http://127.0.0.1"),
        ("http://", "ws://127.0.0.1"),
        ("http://127.0.0.1:x", "ws://127.0.0.1"),
        ("http://127.0.0.1:99999", "ws://127.0.0.1"),
        ("http://me:secret@127.0.0.1", "ws://127.0.0.1"),
        ("http://127.0.0.1?x=1", "ws://127.0.0.1"),
        ("http://venue.example", "ws://127.0.0.1"),
        ("http://127.0.0.1", "ws://10.1.2.3"),
        ("http://127.0.0.1.venue.example", "ws://127.0.0.1"),
    ],
)
def test_an_address_that_is_none_or_elsewhere_is_refused(rest: str, ws: str) -> None:
    with pytest.raises(ConfigError, match=r"address .*expected"):
        Endpoints(rest, ws)


def test_routes() -> None:
    assert {route_of(name) for name in ("btcusdt@depth@100ms", "btcusdt@bookTicker", "btcusdt@depth20")} == {"public"}
    assert {route_of(name) for name in ("btcusdt@aggTrade", "btcusdt@kline_1m", "!ticker@arr")} == {"market"}


# --- weight budget ----------------------------------------------------------------------------------------------------


class Simulated:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        assert seconds > 0.0
        self.now += seconds


@settings(max_examples=60, deadline=None)
@given(
    requests=st.lists(
        st.tuples(st.integers(1, 40), st.floats(0.0, 70.0), st.floats(0.0, 1.0)), min_size=1, max_size=60
    ),
    limit=st.integers(40, 200),
)
def test_no_sixty_seconds_hold_more_than_the_limit(requests: list[tuple[int, float, float]], limit: int) -> None:
    time = Simulated()
    counted: list[tuple[float, int]] = []

    async def run() -> None:
        budget = WeightBudget(limit, 0.0, clock=time.clock, sleep=time.sleep)
        for weight, latency, when in requests:
            await budget.take(weight)
            # The venue counts the request at some moment between its sending and its answer.
            counted.append((time.now + latency * when, weight))
            time.now += latency
            budget.give(weight)

    asyncio.run(run())
    window: deque[tuple[float, int]] = deque()
    for moment, weight in sorted(counted):
        window.append((moment, weight))
        while window[0][0] <= moment - WINDOW_S:
            window.popleft()
        assert sum(each for _, each in window) <= limit


def test_the_budget_by_hand() -> None:
    time = Simulated()

    async def run() -> None:
        budget = WeightBudget(100, 0.1, clock=time.clock, sleep=time.sleep)
        assert budget.allowed == 90
        await budget.take(50)
        assert budget.used == 50
        budget.give(50, told=70)
        assert budget.used == 70, "twenty of them are somebody else's"
        await budget.take(20)
        assert time.now == 1000.0
        budget.give(20)
        await budget.take(5)
        assert time.now == pytest.approx(1060.0, abs=1.1), "the minute must be over first"
        budget.give(5)
        budget.pause(30.0)
        budget.pause(10.0)
        before = time.now
        await budget.take(1)
        assert time.now - before >= 30.0 - 1e-9
        with pytest.raises(ConfigError, match="a request of weight 91, but only 90"):
            await budget.take(91)

    asyncio.run(run())


@pytest.mark.parametrize(("limit", "reserve"), [(0, 0.0), (100, 1.0), (100, -0.1), (100, math.nan), (5, 0.9)])
def test_a_budget_of_nothing_is_refused(limit: int, reserve: float) -> None:
    with pytest.raises(ConfigError, match="weight budget"):
        WeightBudget(limit, reserve, clock=lambda: 0.0)


# --- beats ------------------------------------------------------------------------------------------------------------


def beating(gap: float, count: int = 400, patience: Patience | None = None) -> tuple[Pulse, float]:
    pulse = Pulse("btcusdt@depth@100ms", patience or Patience())
    pulse.begin(0.0)
    now = 0.0
    for _ in range(count):
        now += gap
        pulse.beat(now)
    return pulse, now


def test_a_stream_is_late_by_its_own_measure() -> None:
    fast, now = beating(0.1)
    assert fast.gap_s == pytest.approx(0.1)
    assert not fast.overdue(now + 2.9)
    assert fast.overdue(now + 3.1), "the floor"
    assert fast.is_late
    slow, now = beating(4.0)
    assert not slow.overdue(now + 79.0), "a quiet one is not punished"
    assert slow.overdue(now + 81.0)
    slow.beat(now + 82.0)
    assert not slow.is_late
    assert slow.symbol == "BTCUSDT"
    assert slow.book
    assert not Pulse("btcusdt@bookTicker", Patience()).book


def test_before_it_has_a_measure_it_has_more_time() -> None:
    pulse, now = beating(0.1, count=7)
    assert not pulse.overdue(now + 29.0)
    assert pulse.overdue(now + 31.0)
    fresh = Pulse("x@depth", Patience())
    assert not fresh.overdue(1e9), "not subscribed: nobody expects anything"


def test_one_stall_does_not_make_the_next_go_unnoticed() -> None:
    pulse, now = beating(0.1)
    pulse.beat(now + 60.0)
    assert pulse.gap_s < 0.13
    # And a stream that has really become quiet is believed before long.
    at = now + 60.0
    for _ in range(100):
        at += 5.0
        pulse.beat(at)
    assert pulse.gap_s == pytest.approx(5.0, rel=0.2)


def test_a_burst_does_not_make_a_stream_impatient_for_ever() -> None:
    pulse, now = beating(0.0, count=1000)
    assert pulse.gap_s == 0.01
    for _ in range(200):
        now += 1.0
        pulse.beat(now)
    assert pulse.gap_s == pytest.approx(1.0, rel=0.05)
    very_slow, _ = beating(500.0)
    assert very_slow.gap_s == Patience().ceiling_s


def test_after_a_reconnection_silence_counts_anew_and_the_measure_stays() -> None:
    pulse, now = beating(0.1)
    assert pulse.overdue(now + 10.0)
    pulse.end()
    assert not pulse.overdue(now + 100.0)
    pulse.begin(now + 100.0)
    assert pulse.is_late, "until it speaks"
    assert not pulse.overdue(now + 102.0)
    assert pulse.overdue(now + 104.0)


@settings(max_examples=30, deadline=None)
@given(gap=st.floats(0.05, 3.0), seed=st.integers(0, 2**32))
def test_messages_at_random_moments_are_not_taken_for_silence(gap: float, seed: int) -> None:
    import random

    rng = random.Random(seed)
    pulse, now = beating(gap)
    for _ in range(300):
        wait = min(rng.expovariate(1.0 / gap), 8.0 * gap)
        assert not pulse.overdue(now + wait), (wait, pulse.gap_s)
        now += wait
        pulse.beat(now)


# --- contracts, clocks, waits -----------------------------------------------------------------------------------------


def test_the_contracts_that_trade() -> None:
    def info(**more: object) -> dict[str, object]:
        return {**BTC.info(), **more}

    symbols = [
        BTC.info(),
        DOGE.info(),
        info(symbol="A", status="SETTLING"),
        info(symbol="B", contractType="CURRENT_QUARTER"),
        info(symbol="C", quoteAsset="USDC"),
        info(symbol="D", filters=[]),
    ]
    found = trading_sizes(json.dumps({"symbols": symbols, "other": 1}).encode())
    assert found == {"BTCUSDT": ("0.1", "0.001"), "DOGEUSDT": ("0.00001", "1")}
    for bad in (b"", b"{", b"[]", b'{"symbols": 1}', b'{"symbols": [{}]}', b"<html>", b'{"symbols": "\xff"}'):
        with pytest.raises(ExchangeError, match="exchangeInfo: "):
            trading_sizes(bad)


@given(offset=st.floats(-1e6, 1e6), out=st.floats(0.0, 3.0), back=st.floats(0.0, 3.0), at=st.floats(0.0, 1e6))
def test_the_clock_s_offset_is_within_its_uncertainty(offset: float, out: float, back: float, at: float) -> None:
    # The venue reads its clock after `out` seconds, and its answer takes `back`; it tells whole milliseconds.
    sent_ms = 1.7e12 + at
    server_ms = math.floor(sent_ms + out * 1000.0 + offset)
    sample = compare(server_ms, round(sent_ms * 1e6), out + back)
    assert abs(sample.offset_ms - offset) <= sample.uncertainty_ms + 0.01
    assert sample.uncertainty_ms == pytest.approx((out + back) * 500.0 + 0.5)


@given(tries=st.integers(0, 2000), base=st.floats(0.0, 10.0), most=st.floats(0.0, 100.0))
def test_waits_are_bounded(tries: int, base: float, most: float) -> None:
    assert 0.0 <= full_jitter(tries, base, most) <= min(most, base * 2.0 ** min(tries, 60)) + 1e-9
