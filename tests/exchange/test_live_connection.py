"""One connection against a server that answers as it is told: late, out of order, not at all."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from dolphin.core.errors import ExchangeError
from dolphin.exchange.live.connection import Connection, Talk
from tests.support.loopback import eventually

Answer = Callable[[web.WebSocketResponse, dict[str, Any]], Awaitable[None]]
LONG_S = 60.0


async def obey(socket: web.WebSocketResponse, order: dict[str, Any]) -> None:
    await socket.send_json({"result": None, "id": order["id"]})


@asynccontextmanager
async def connected(
    answer: Answer, talk: Talk, heard: list[tuple[bytes, bytes]] | None = None
) -> AsyncIterator[Connection]:
    """A connection to a server that hands every message to `answer`."""

    async def serve(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(timeout=1.0)
        await socket.prepare(request)
        async for message in socket:
            await answer(socket, json.loads(message.data))
        return socket

    app = web.Application()
    app.router.add_get("/stream", serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"ws://127.0.0.1:{runner.addresses[0][1]}/stream"
    kept = heard if heard is not None else []
    async with aiohttp.ClientSession() as session:
        one = Connection(session, url, lambda name, raw, _ts, _now: kept.append((name, raw)), talk, Counter())
        await one.open()
        try:
            yield one
        finally:
            await one.close()
            await runner.cleanup()


def test_batches_are_told_apart_by_number_and_kept_apart_in_time() -> None:
    at: list[float] = []
    waiting: list[dict[str, Any]] = []

    async def reversed_pairs(socket: web.WebSocketResponse, order: dict[str, Any]) -> None:
        at.append(asyncio.get_running_loop().time())
        waiting.append(order)
        if len(waiting) == 2:
            for one in reversed(waiting):
                await obey(socket, one)
            waiting.clear()

    async def main() -> None:
        async with connected(reversed_pairs, Talk(batch=3, messages_per_s=20.0)) as one:
            refused = await asyncio.gather(
                one.subscribe([f"a{k}" for k in range(12)]), one.subscribe([f"b{k}" for k in range(12)])
            )
            assert refused == [{}, {}]
            assert len(one.subscribed) == 24
            assert one.counts["asked"] == len(at) == 8
            assert at[-1] - at[0] >= 7 / 20.0 - 0.03, "at most twenty a second"
            await asyncio.gather(one.unsubscribe(["a0"]), one.unsubscribe(["b0"]))
            assert one.subscribed == {f"{s}{k}" for s in "ab" for k in range(1, 12)}

    asyncio.run(main())


def test_the_one_bad_stream_of_a_batch_is_found() -> None:
    async def picky(socket: web.WebSocketResponse, order: dict[str, Any]) -> None:
        if "bad" in order["params"]:
            await socket.send_json({"error": {"code": 2, "msg": "no such stream"}, "id": order["id"]})
        else:
            await obey(socket, order)

    async def main() -> None:
        async with connected(picky, Talk(messages_per_s=1000.0)) as one:
            names = [*(f"s{k}" for k in range(20)), "bad", *(f"t{k}" for k in range(20))]
            refused = await one.subscribe(names)
            assert list(refused) == ["bad"]
            assert "no such stream" in refused["bad"]
            assert one.subscribed == set(names) - {"bad"}

    asyncio.run(main())


def test_no_answer_and_an_end_instead_of_one_are_errors() -> None:
    async def silent(_socket: web.WebSocketResponse, _order: dict[str, Any]) -> None:
        return

    async def leave(socket: web.WebSocketResponse, _order: dict[str, Any]) -> None:
        await socket.close()

    async def main() -> None:
        async with connected(silent, Talk(answer_s=0.2)) as one:
            with pytest.raises(ExchangeError, match=r"no answer to SUBSCRIBE within 0\.2 s"):
                await one.subscribe(["a"])
            assert one.counts["unanswered"] == 1
            assert not one.ended
        async with connected(leave, Talk()) as one:
            with pytest.raises(ExchangeError, match="the connection has ended"):
                await one.subscribe(["a"])
            await eventually(lambda: one.ended, LONG_S)
            with pytest.raises(ExchangeError, match="the connection has ended"):
                await one.subscribe(["b"])
        nowhere = Connection(one._session, "ws://127.0.0.1:9/stream", one._handler, Talk(), Counter())
        assert nowhere.ended
        with pytest.raises(ExchangeError, match="not connected"):
            _ = nowhere.end
        async with aiohttp.ClientSession() as session:
            nowhere = Connection(session, "ws://127.0.0.1:9/stream", one._handler, Talk(), Counter())
            with pytest.raises(ExchangeError, match="cannot be connected to"):
                await nowhere.open()
            await nowhere.close()

    asyncio.run(main())


def test_what_is_held_is_handed_on_in_its_order() -> None:
    heard: list[tuple[bytes, bytes]] = []
    texts = ['{"stream":"x@depth","data":1}', "{", '{"stream":"', '{"result":1,"id":99}', "[1]"]

    async def talkative(socket: web.WebSocketResponse, order: dict[str, Any]) -> None:
        for text in texts:
            await socket.send_str(text)
        await obey(socket, order)

    async def main() -> None:
        async with connected(talkative, Talk(), heard) as one:
            one.hold()
            await one.subscribe(["a"])
            assert heard == []
            one.release()
            await one.unsubscribe(["a"])
            names = [b"x@depth", b"", b"", b"", b""]
            assert heard == [(name, text.encode()) for name, text in zip(names, texts, strict=True)] * 2
            assert one.messages == 10

    asyncio.run(main())
