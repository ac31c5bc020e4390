"""Every kind of fault is seen by a client, counted, and gone when the plan is."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from typing import Any

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.exchange.sim.faults import Fault, FaultPlan, Kind, parse_faults
from dolphin.exchange.sim.hub import Limits
from dolphin.exchange.sim.server import SimExchange
from tests.support.loopback import START_MS, Client, market, play, take, until_end

DIFFS = "/ws/btcusdt@depth@100ms"


def at_speed(speed: float, text: str = "", **options: Any) -> Any:
    return lambda: SimExchange(market(), speed=speed, faults=parse_faults(text), **options)


def breaks(diffs: list[dict[str, Any]]) -> int:
    """Places at which a diff does not continue the one before."""
    return sum(b["pu"] != a["u"] for a, b in itertools.pairwise(diffs))


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_the_text_form_by_hand() -> None:
    plan = parse_faults(
        " drop:p=0.01 ; stall:at=30,for=5,streams=btcusdt@*|eth*; http5xx:p=1,amount=502 ;skew:amount=-250;"
    )
    assert plan == (
        Fault(kind=Kind.DROP, probability=0.01),
        Fault(kind=Kind.STALL, probability=1.0, at_s=30.0, for_s=5.0, streams=("btcusdt@*", "eth*")),
        Fault(kind=Kind.HTTP_5XX, probability=1.0, amount=502.0),
        Fault(kind=Kind.SKEW, probability=1.0, amount=-250.0),
    )
    assert parse_faults("") == ()
    assert parse_faults("http418:at=1")[0].amount == 120.0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("dorp:p=1", "unknown; expected one of drop, duplicate"),
        ("drop", "neither p nor at"),
        ("drop:p=2", "p is 2.0; expected 0 to 1"),
        ("drop:p=nan", "p is nan"),
        ("drop:p=x", "p='x' is no number"),
        ("drop:p", "'p' is not understood"),
        ("drop:p=1,p=1", "there twice"),
        ("drop:p=1,when=3", "'when=3' is not understood"),
        ("drop:at=-1", "at is -1"),
        ("stall:p=0.1", "no for is given"),
        ("http5xx:p=1,amount=404", "a status from 500 to 599"),
        ("slow:amount=-1", "expected 0 or more"),
    ],
)
def test_a_plan_that_cannot_be_is_refused_in_one_line(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        parse_faults(text)
    assert "\n" not in str(caught.value)


@settings(max_examples=60, deadline=None)
@given(p=st.floats(0.0, 1.0), seed=st.integers(0, 2**31))
def test_the_draws_are_the_seed_s_and_have_the_probability_asked_for(p: float, seed: int) -> None:
    def strikes() -> list[int]:
        plan = FaultPlan([Fault(kind=Kind.DROP, probability=p)], seed=seed)
        return [len(plan.strikes("x@depth", k)) for k in range(400)]

    met = strikes()
    assert met == strikes()
    # Five standard deviations of a binomial count.
    assert abs(sum(met) - 400 * p) <= 5 * (400 * p * (1 - p)) ** 0.5 + 1e-9


def test_windows_and_single_shots() -> None:
    plan = FaultPlan(parse_faults("drop:at=10,for=5;corrupt:at=12;http429:at=10,for=1"), now_ms=START_MS)

    def kinds(second: float, name: str = "btcusdt@depth") -> list[str]:
        return [f.kind for f in plan.strikes(name, START_MS + round(second * 1000))]

    assert [kinds(9.9), kinds(10.0), kinds(14.9), kinds(15.0)] == [[], ["drop"], ["drop", "corrupt"], []]
    assert kinds(16.0) == []
    assert kinds(10.5, "/fapi/v1/depth") == ["http429"]
    assert plan.counts == {"drop": 2, "corrupt": 1, "http429": 1}
    plan.set(parse_faults("drop:at=1"), START_MS + 100_000)
    assert [kinds(100.5), kinds(101.0), kinds(101.1)] == [[], ["drop"], []]
    with pytest.raises(ConfigError):
        plan.set([Fault(kind=Kind.DROP)], 0)
    assert plan.faults == parse_faults("drop:at=1"), "a plan that is refused leaves the old one"


def test_patterns_choose_streams_and_paths() -> None:
    plan = FaultPlan(parse_faults("drop:p=1,streams=btc*@depth*|*@kline_1m;http5xx:p=1,streams=/fapi/v1/depth"))
    struck = {n: bool(plan.strikes(n, 0)) for n in ("btcusdt@depth@100ms", "btcusdt@aggTrade", "ethusdt@kline_1m",
                                                    "/fapi/v1/depth", "/fapi/v1/time")}  # fmt: skip
    assert list(struck.values()) == [True, False, True, True, False]


# --- what a client sees -----------------------------------------------------------------------------------------------


def test_drop() -> None:
    async def scene(client: Client) -> None:
        async with client.socket(DIFFS) as socket, client.socket("/ws/dogeusdt@depth@100ms") as spared:
            assert breaks(await take(socket, 200)) > 5
            assert breaks(await take(spared, 200)) == 0
        assert client.exchange.plan.counts["drop"] > 5

    play(scene, at_speed(0, "drop:p=0.1,streams=btcusdt@*"))


def test_duplicate() -> None:
    async def scene(client: Client) -> None:
        async with client.socket(DIFFS) as socket:
            diffs = await take(socket, 200)
        twice = sum(a == b for a, b in itertools.pairwise(diffs))
        assert twice > 5
        assert breaks([d for k, d in enumerate(diffs) if k == 0 or d != diffs[k - 1]]) == 0

    play(scene, at_speed(0, "duplicate:p=0.1"))


def test_reorder() -> None:
    async def scene(client: Client) -> None:
        async with client.socket(DIFFS) as socket:
            diffs = await take(socket, 300)
        swapped = [k for k, (a, b) in enumerate(itertools.pairwise(diffs)) if b["u"] < a["u"]]
        assert len(swapped) > 5
        # Nothing is lost: in order of their numbers the messages are whole, but for one that may still be held.
        assert breaks(sorted(diffs, key=lambda d: d["u"])[:-2]) == 0

    play(scene, at_speed(0, "reorder:p=0.1"))


def test_corrupt() -> None:
    async def scene(client: Client) -> None:
        broken = strange = 0
        async with client.socket(DIFFS) as socket:
            before = None
            for _ in range(200):
                message = await socket.receive(timeout=10.0)
                assert message.type is aiohttp.WSMsgType.TEXT
                try:
                    diff = json.loads(message.data)
                except ValueError:
                    broken += 1
                    before = None
                    continue
                strange += before is not None and diff.get("pu") != before
                before = diff.get("u")
        assert broken > 10
        assert client.exchange.plan.counts["corrupt"] >= broken

    play(scene, at_speed(0, "corrupt:p=0.2"))


def test_stall_while_connected() -> None:
    async def scene(client: Client) -> None:
        async with client.socket(DIFFS, autoping=False) as socket, client.socket("/ws/dogeusdt@depth@100ms") as other:
            diffs: list[dict[str, Any]] = []
            pings_in_silence = 0
            while len(diffs) < 60:
                message = await socket.receive(timeout=10.0)
                if message.type is aiohttp.WSMsgType.PING:
                    await socket.pong(message.data)
                    pings_in_silence += 2500 < client.exchange.now_ms - START_MS < 6000
                else:
                    diffs.append(json.loads(message.data))
            assert pings_in_silence > 0
            steps = [b["E"] - a["E"] for a, b in itertools.pairwise(diffs)]
            # Silence from second 2 to second 6 of the exchange's time, and what was said meanwhile is lost.
            assert max(steps) >= 4000
            assert breaks(diffs) == 1
            assert not [d for d in diffs if 2000 <= d["E"] - START_MS < 6000]
            assert breaks(await take(other, 60)) == 0
            assert client.exchange.hub.counts["lost_in_stalls"] >= 30

    limits = Limits(ping_s=0.05)
    play(scene, at_speed(10, "stall:at=2,for=4,streams=btcusdt@*", limits=limits))


def test_disconnect_without_a_goodbye() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws/dogeusdt@depth@100ms") as other:
            async with client.socket(DIFFS) as socket:
                texts = await until_end(socket)
                assert socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
            assert json.loads(texts[-1])["E"] < START_MS + 2000
            async with client.socket(DIFFS) as again:
                assert breaks(await take(again, 20)) == 0
            assert breaks(await take(other, 20)) == 0
        assert client.exchange.plan.counts["disconnect"] == 1

    play(scene, at_speed(10, "disconnect:at=2,streams=btcusdt@*"))


def test_a_slow_line_falls_behind_and_is_cut() -> None:
    async def scene(client: Client) -> None:
        async with client.socket(DIFFS) as slow, client.socket("/ws/dogeusdt@depth@100ms") as other:
            texts = await until_end(slow)
            # 40 messages a second for a stream of 100: sixty more in a second than the line carries.
            assert 0 < len(texts) < 200
            assert len(await take(other, 50)) == 50
        assert client.exchange.hub.counts["slow_readers_dropped"] == 1
        assert client.exchange.plan.counts["slow"] > 0

    play(scene, at_speed(10, "slow:amount=40,streams=btcusdt@*", limits=Limits(queue=30)))


@pytest.mark.parametrize(
    ("text", "status", "retry"),
    [
        ("http429:p=1,amount=7", 429, "7"),
        ("http418:p=1", 418, "120"),
        ("http5xx:p=1", 503, None),
        ("http5xx:p=1,amount=502", 502, None),
    ],
)
def test_requests_are_refused(text: str, status: int, retry: str | None) -> None:
    async def scene(client: Client) -> None:
        met, body, headers = await client.get("/fapi/v1/depth", symbol="BTCUSDT", limit=5)
        assert (met, headers.get("Retry-After")) == (status, retry)
        assert (body["code"] == -1003) if retry else isinstance(body, str)
        assert await client.ok("/fapi/v1/ping") == {}
        assert client.exchange.plan.counts[text.partition(":")[0]] == 1

    play(scene, at_speed(0, f"{text},streams=/fapi/v1/depth"))


def test_clock_skew_shows_in_every_stamp_and_ends() -> None:
    async def scene(client: Client) -> None:
        names = "btcusdt@depth@100ms/btcusdt@bookTicker/btcusdt@aggTrade/btcusdt@markPrice@1s"
        async with client.socket(f"/stream?streams={names}") as socket:
            ahead = set()
            while client.exchange.now_ms < START_MS + 3000:
                message = (await take(socket, 1))[0]
                if message["data"]["E"] > START_MS + 60_000:
                    ahead.add(message["stream"])
            assert ahead == set(names.split("/"))
        await client.exchange.hold()
        assert (await client.ok("/fapi/v1/time"))["serverTime"] == client.exchange.now_ms
        await client.faults("skew:amount=-1500")
        client.exchange.release()
        await asyncio.sleep(0.2)
        await client.exchange.hold()
        assert (await client.ok("/fapi/v1/time"))["serverTime"] == client.exchange.now_ms - 1500
        assert (await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=5))["E"] == client.exchange.now_ms - 1500

    play(scene, at_speed(5, "skew:amount=90000,at=0,for=2.2"))


def test_a_plan_is_changed_shown_and_cleared_while_running() -> None:
    async def scene(client: Client) -> None:
        url = client.exchange.rest_url + "/sim/faults"
        async with client.socket(DIFFS) as socket:
            assert breaks(await take(socket, 50)) == 0
            body = {"faults": [{"kind": "drop", "probability": 0.3}]}
            async with client.session.post(url, json=body) as answer:
                assert answer.status == 200
            assert breaks(await take(socket, 100)) > 3
            shown = await client.ok("/sim/faults")
            assert msgspec.convert(shown["faults"], list[Fault])[0].probability == 0.3
            for bad in ('{"faults":[{"kind":"nope"}]}', '{"faults":[{"kind":"drop","x":1}]}', "drop:p=7", "{"):
                async with client.session.post(url, data=bad) as answer:
                    assert answer.status == 400
                    assert (await answer.json())["error"]
            assert len((await client.ok("/sim/faults"))["faults"]) == 1
            await client.faults("")
            struck = client.exchange.plan.counts["drop"]
            await take(socket, 250)
            assert breaks(await take(socket, 50)) == 0
            assert (await client.ok("/sim/status"))["faults"] == {"drop": struck}

    play(scene, at_speed(0, "", limits=Limits(queue=200)))


def test_without_faults_nothing_is_lost_in_a_simulated_hour() -> None:
    async def scene(client: Client) -> None:
        started = time.monotonic()
        async with client.socket("/ws/btcusdt@depth@500ms") as socket:
            diffs = await take(socket, 1200)
        assert breaks(diffs) == 0
        assert diffs[-1]["E"] - diffs[0]["E"] == 1199 * 500
        assert time.monotonic() - started < 60.0

    play(scene, at_speed(0))
