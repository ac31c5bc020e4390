"""The WebSocket half: paths, routes, subscriptions, limits, pings, the 24 hours, goodbyes."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from typing import Any

import aiohttp
import pytest

from dolphin.exchange.sim.hub import Limits, route_of
from dolphin.exchange.sim.server import SimExchange
from tests.support.loopback import Client, eventually, market, play, take, until_end


@pytest.mark.parametrize("prefix", ["", "/public", "/market"])
@pytest.mark.parametrize("stream", ["btcusdt@depth@100ms", "btcusdt@aggTrade"])
def test_raw_and_combined_and_routed(prefix: str, stream: str) -> None:
    silent = prefix and prefix != f"/{route_of(stream)}"

    async def scene(client: Client) -> None:
        async with (
            client.socket(f"{prefix}/ws/{stream}") as raw,
            client.socket(f"{prefix}/stream?streams={stream}") as combined,
        ):
            if silent:
                with pytest.raises(TimeoutError):
                    await raw.receive(timeout=0.2)
                assert (await client.ok("/sim/status"))["counts"]["misrouted"] == 2
                return
            assert all(m["s"] == "BTCUSDT" and "e" in m for m in await take(raw, 5))
            wrapped = await take(combined, 5)
            assert {m["stream"] for m in wrapped} == {stream}
            assert all(m["data"]["s"] == "BTCUSDT" for m in wrapped)

    play(scene)  # fmt: skip


@pytest.mark.parametrize(
    "stream",
    [f"btcusdt@{kind}" for kind in (
        "depth", "depth@0ms", "depth@100ms", "depth@250ms", "depth@500ms", "depth5", "depth10@100ms", "depth20@250ms",
        "depth20@500ms", "bookTicker", "aggTrade", "markPrice", "markPrice@1s", "kline_1m",
    )],
)  # fmt: skip
def test_every_stream_speaks_at_its_cadence(stream: str) -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws") as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": [stream], "id": 1})
            answer, *messages = await take(socket, 9)
            assert answer == {"result": None, "id": 1}
        kind = stream.partition("@")[2]
        if kind.startswith("depth"):
            cadence = int(kind.partition("@")[2].removesuffix("ms") or 250)
            assert all(m["E"] % (cadence or 50) == 0 for m in messages)
            assert all(b["E"] - a["E"] >= cadence for a, b in itertools.pairwise(messages))
            if kind.startswith(("depth5", "depth10", "depth20")):
                count = int(kind.partition("@")[0].removeprefix("depth"))
                assert all(len(m["b"]) == len(m["a"]) == count for m in messages)
            else:
                assert all(b["pu"] == a["u"] for a, b in itertools.pairwise(messages))
        elif kind.startswith("markPrice"):
            step = 1000 if kind.endswith("1s") else 3000
            assert all(b["E"] - a["E"] == step for a, b in itertools.pairwise(messages))

    play(scene)


def test_subscriptions_are_made_listed_and_ended() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/stream") as socket:

            async def order(method: str, params: Any = None, number: Any = 7) -> Any:
                await socket.send_json({"method": method, "params": params or [], "id": number})
                while True:
                    (message,) = await take(socket, 1)
                    if "stream" not in message:
                        return message

            both = ["btcusdt@bookTicker", "dogeusdt@depth@100ms"]
            assert await order("SUBSCRIBE", both) == {"result": None, "id": 7}
            assert await order("LIST_SUBSCRIPTIONS", number="x") == {"result": both, "id": "x"}
            seen = {m["stream"] for m in await take(socket, 30)}
            assert seen == set(both)
            assert await order("SUBSCRIBE", both) == {"result": None, "id": 7}, "twice is once"
            assert await order("UNSUBSCRIBE", [both[0], "btcusdt@kline_1m"]) == {"result": None, "id": 7}
            assert {m["stream"] for m in await take(socket, 30)} == {both[1]}
            assert await order("SUBSCRIBE", ["nousdt@depth@100ms"]) == {"result": None, "id": 7}, "silent, as there"
            assert (await order("SUBSCRIBE", ["btcusdt@deepth"]))["error"]["code"] == 2

    play(scene, lambda: SimExchange(market(), speed=20))


@pytest.mark.parametrize(
    ("sent", "code", "said"),
    [
        ("{", 3, "Invalid JSON"),
        ("[1]", 2, "expected an object"),
        ('{"method":"SUBSCRIBE","params":["btcusdt@depth"]}', 2, "id must be"),
        ('{"method":"SUBSCRIBE","params":["btcusdt@depth"],"id":1.5}', 2, "id must be"),
        ('{"method":"DANCE","id":1}', 2, "unknown method 'DANCE'"),
        ('{"method":"SUBSCRIBE","params":"btcusdt@depth","id":1}', 2, "list of stream names"),
        ('{"method":"SUBSCRIBE","params":[3],"id":1}', 2, "list of stream names"),
        ('{"method":"SUBSCRIBE","params":["BTCUSDT@depth"],"id":1}', 2, "no such stream 'BTCUSDT@depth'"),
        ('{"method":"SUBSCRIBE","params":["btcusdt@depth7@100ms"],"id":1}', 2, "no such stream"),
        ('{"method":"SUBSCRIBE","params":["btcusdt@depth@100s"],"id":1}', 2, "no such stream"),
    ],
)
def test_what_a_client_says_wrongly_is_told(sent: str, code: int, said: str) -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws") as socket:
            await socket.send_str(sent)
            (answer,) = await take(socket, 1)
            assert answer["error"]["code"] == code
            assert said in answer["error"]["msg"]
            await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@depth"], "id": 2})
            assert (await take(socket, 1))[0] == {"result": None, "id": 2}, "the connection lives on"

    play(scene)


def test_two_hundred_streams_and_not_one_more() -> None:
    names = [f"c{k:03d}usdt@depth" for k in range(201)]

    async def scene(client: Client) -> None:
        async with client.socket("/ws") as socket:
            for params, fine in ((names[:200], True), (names[200:], False), (names[:5], True)):
                await socket.send_json({"method": "SUBSCRIBE", "params": params, "id": 1})
                assert ("result" in (await take(socket, 1))[0]) is fine
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 2})
            assert (await take(socket, 1))[0]["result"] == names[:200]
        async with client.socket("/stream?streams=" + "/".join(names[:200])):
            pass
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            async with client.socket("/stream?streams=" + "/".join(names)):
                pass
        assert caught.value.status == 400

    play(scene)


def test_eleven_messages_in_a_second_end_the_connection() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws") as quiet, client.socket("/ws") as socket:
            for k in range(11):
                await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": k})
            answers = await until_end(socket)
            assert len(answers) <= 10
            assert socket.close_code == aiohttp.WSCloseCode.POLICY_VIOLATION
            await quiet.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 1})
            assert (await take(quiet, 1))[0]["id"] == 1
            assert client.exchange.hub.counts["talked_too_much"] == 1

    play(scene)


def test_ten_messages_in_a_second_are_fine() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws") as socket:
            for k in range(10):
                await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": k})
            assert [m["id"] for m in await take(socket, 10)] == list(range(10))

    play(scene)


def test_the_exchange_pings_and_answers_pings() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws", autoping=False) as socket:
            pings = [await socket.receive(timeout=5.0) for _ in range(3)]
            assert {m.type for m in pings} == {aiohttp.WSMsgType.PING}
            for message in pings:
                await socket.pong(message.data)
            await socket.ping(b"there?")
            while (message := await socket.receive(timeout=5.0)).type is aiohttp.WSMsgType.PING:
                await socket.pong(message.data)
            assert (message.type, bytes(message.data)) == (aiohttp.WSMsgType.PONG, b"there?")

    limits = Limits(ping_s=0.1, pong_s=30.0)
    play(scene, lambda: SimExchange(market(), limits=limits))


def test_who_never_answers_a_ping_is_dropped_and_who_does_stays() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws", autoping=False) as deaf, client.socket("/ws/btcusdt@bookTicker") as alive:
            reader = asyncio.create_task(until_end(alive))
            message = await deaf.receive(timeout=5.0)
            while message.type is aiohttp.WSMsgType.PING:
                message = await deaf.receive(timeout=5.0)
            assert message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR)
            await asyncio.sleep(0.5)
            assert not reader.done()
            assert client.exchange.hub.counts["no_pong"] == 1
            reader.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reader

    play(scene, lambda: SimExchange(market(), limits=Limits(ping_s=0.1, pong_s=0.5)))


def test_a_connection_lives_a_day_of_the_exchange_s_time() -> None:
    # 3 s of simulated time here; 24 hours by default.
    assert Limits().life_s == 86_400.0

    async def scene(client: Client) -> None:
        async with client.socket("/ws/btcusdt@depth@100ms") as first:
            messages = [json.loads(text) for text in await until_end(first)]
            assert first.close_code == aiohttp.WSCloseCode.GOING_AWAY
        assert 2700 <= messages[-1]["E"] - messages[0]["E"] <= 3000
        async with client.socket("/ws/btcusdt@depth@100ms") as again:
            assert await take(again, 3)
        assert client.exchange.hub.counts["expired"] >= 1

    play(scene, lambda: SimExchange(market(), speed=10, limits=Limits(life_s=3.0)))


def test_the_exchange_says_goodbye_when_it_stops() -> None:
    async def main() -> None:
        exchange = SimExchange(market(), speed=10)
        await exchange.start()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(exchange.ws_url + "/ws/btcusdt@depth@100ms") as socket,
        ):
            await take(socket, 2)
            stopping = asyncio.create_task(exchange.stop())
            await until_end(socket)
            assert socket.close_code == aiohttp.WSCloseCode.GOING_AWAY
            await stopping
            with pytest.raises(aiohttp.ClientConnectionError):
                await session.get(exchange.rest_url + "/fapi/v1/ping")
        await exchange.stop()

    asyncio.run(main())  # fmt: skip


def test_unsubscribing_frees_what_subscribing_took() -> None:
    async def scene(client: Client) -> None:
        for _ in range(3):
            async with client.socket("/stream?streams=btcusdt@depth/btcusdt@bookTicker") as socket:
                await take(socket, 3)
        await eventually(lambda: not client.exchange.hub.connections)
        assert not client.exchange.hub._readers

    play(scene, lambda: SimExchange(market(), speed=20))
