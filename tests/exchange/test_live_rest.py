"""The REST client against the loopback exchange, and against servers that answer as none should."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web

from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.exchange.depth import MAX_BYTES, decode_rest_depth
from dolphin.exchange.live.budget import WeightBudget
from dolphin.exchange.live.contracts import trading_sizes
from dolphin.exchange.live.endpoints import Endpoints
from dolphin.exchange.live.rest import RestClient
from dolphin.exchange.live.venueclock import VenueClock
from dolphin.exchange.sim.faults import parse_faults
from dolphin.exchange.sim.rest import RestLimits
from dolphin.exchange.sim.server import SimExchange
from tests.support.loopback import START_MS, Client, eventually, market, play

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def client_of(url: str, session: aiohttp.ClientSession, *, limit: int = 2400, tries: int = 5) -> RestClient:
    budget = WeightBudget(limit, 0.0, clock=asyncio.get_running_loop().time)
    return RestClient(Endpoints(url, url.replace("http", "ws")), session, budget, tries=tries, backoff_s=0.01)


def ask(scene: Callable[[RestClient, SimExchange], Awaitable[None]], faults: str = "", **limits: int) -> None:
    """A scene with a client of a loopback exchange whose clock stands still."""

    async def run(client: Client) -> None:
        await client.exchange.hold()
        await scene(client_of(client.exchange.rest_url, client.session), client.exchange)

    play(run, lambda: SimExchange(market(), faults=parse_faults(faults), rest_limits=RestLimits(**limits)))


def serve(handler: Handler, scene: Callable[[RestClient], Awaitable[None]], tries: int = 2) -> None:
    """A scene with a client of a server that answers everything with `handler`."""

    @asynccontextmanager
    async def server():  # type: ignore[no-untyped-def]
        app = web.Application()
        app.router.add_route("*", "/{tail:.*}", handler)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()

    async def main() -> None:
        async with server() as url, aiohttp.ClientSession() as session:
            await scene(client_of(url, session, tries=tries))

    asyncio.run(main())


def answers(status: int = 200, body: bytes = b"{}", **headers: str) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(status=status, body=body, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handler


def test_what_the_exchange_tells() -> None:
    async def scene(rest: RestClient, exchange: SimExchange) -> None:
        assert list(trading_sizes(await rest.exchange_info())) == ["BTCUSDT", "DOGEUSDT"]
        server_ms, answer = await rest.server_time()
        assert server_ms == exchange.now_ms
        assert answer.took_s > 0.0
        depth = decode_rest_depth(await rest.depth("BTCUSDT", 5))
        assert depth.last_id == exchange.feed.lines["BTCUSDT"].book.last_id
        klines = await rest.klines("BTCUSDT", limit=3)
        assert klines[-1].open_ms <= exchange.now_ms <= klines[-1].close_ms
        assert float(klines[-1].low) <= float(klines[-1].close) <= float(klines[-1].high)
        assert await rest.klines("BTCUSDT", limit=500, start_ms=START_MS + 10**9) == []
        # Two of weight 1, 5 levels of weight 2, candles of weight 1 and 5: ours and the exchange's account agree.
        assert rest.budget.used == exchange.rest.used == 10
        assert rest.counts["requests"] == 5

    ask(scene)


def test_a_refusal_is_told_and_not_tried_again() -> None:
    async def scene(rest: RestClient, _exchange: SimExchange) -> None:
        with pytest.raises(ExchangeError, match=r"depth at http.*: 400, code -1121, 'Invalid symbol.'"):
            await rest.depth("NOPE")
        assert (rest.counts["requests"], rest.counts["refused"]) == (1, 1)
        for call in (rest.depth("BTCUSDT", 7), rest.klines("BTCUSDT", limit=0)):
            with pytest.raises(ConfigError, match="expected"):
                await call
        assert rest.counts["requests"] == 1

    ask(scene)


def test_weights_told_by_the_venue_count() -> None:
    async def scene(rest: RestClient, exchange: SimExchange) -> None:
        async with aiohttp.ClientSession() as other:
            for _ in range(3):
                async with other.get(f"{exchange.rest_url}/fapi/v1/depth?symbol=BTCUSDT&limit=1000"):
                    pass
        await rest.server_time()
        assert rest.budget.used == exchange.rest.used == 61

    ask(scene)


@pytest.mark.parametrize("fault", ["http429:at=0,amount=1", "http418:at=0,amount=1"])
def test_all_requests_wait_as_long_as_the_venue_says(fault: str) -> None:
    async def scene(rest: RestClient, _exchange: SimExchange) -> None:
        begun = time.monotonic()
        first = asyncio.create_task(rest.server_time())
        await eventually(lambda: rest.budget.paused_s > 0.0, 60.0)
        await rest.depth("BTCUSDT")
        assert time.monotonic() - begun >= 1.0
        await first
        assert rest.counts["retried"] == 1

    ask(scene, fault)


@pytest.mark.parametrize(("status", "pause"), [(429, 60.0), (418, 120.0)])
def test_without_retry_after_it_waits_for_the_longest(status: int, pause: float) -> None:
    async def scene(rest: RestClient) -> None:
        task = asyncio.create_task(rest.server_time())
        await eventually(lambda: rest.budget.paused_s > 0.0, 60.0)
        assert pause - 30.0 < rest.budget.paused_s <= pause
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    serve(answers(status), scene)
    serve(answers(status, Retry_After="soon"), scene)


def test_failures_are_tried_again_and_not_for_ever() -> None:
    async def scene(rest: RestClient) -> None:
        with pytest.raises(ExchangeError, match="the venue answered 503; tried 3 times"):
            await rest.server_time()
        assert (rest.counts["requests"], rest.counts["http_5xx"], rest.counts["retried"]) == (3, 3, 2)
        assert rest.budget.used == 3, "the venue may have counted them all"

    serve(answers(503, b"<html>"), scene, tries=3)

    async def hang_up(request: web.Request) -> web.Response:
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def lost(rest: RestClient) -> None:
        with pytest.raises(ExchangeError, match="tried 2 times"):
            await rest.server_time()
        assert rest.counts["network"] == 2

    serve(hang_up, lost)


@pytest.mark.parametrize(
    ("handler", "said"),
    [
        (answers(body=b"<html>"), "not what the venue's documentation says"),
        (answers(body=b'{"serverTime": "x"}'), "not what the venue's documentation says"),
        (answers(body=b"\xff\xfe"), "not what the venue's documentation says"),
        (answers(302, Location="http://127.0.0.1:9/"), ": 302, "),
        (answers(403, b'{"code": 1, "msg": "no\\nway"}'), r"403, code 1, 'no\\nway'"),
        (answers(body=b"x" * 5000), "the answer goes on after 4096 bytes"),
    ],
)
def test_an_answer_that_none_should_give_is_one_line(handler: Handler, said: str) -> None:
    async def scene(rest: RestClient) -> None:
        with pytest.raises(ExchangeError, match=said) as caught:
            await rest.server_time()
        assert "\n" not in str(caught.value)

    serve(handler, scene)


def test_an_endless_answer_is_given_up() -> None:
    async def endless(request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse()
        await answer.prepare(request)
        for _ in range(MAX_BYTES // 65_536 + 2):
            await answer.write(b" " * 65_536)
        return answer

    async def scene(rest: RestClient) -> None:
        with pytest.raises(ExchangeError, match="the answer goes on after"):
            await rest.depth("BTCUSDT")

    serve(endless, scene)


def test_the_clock_is_found_through_a_slow_and_crooked_line() -> None:
    ahead_ms = 123_456.0
    waits = iter([0.03, 0.0, 0.08, 0.0, 0.01] * 2)

    async def tell(_request: web.Request) -> web.Response:
        # The question travels quickly, the answer does not: half of the round trip is no good guess of either.
        now_ms = math.floor(time.time() * 1000.0 + ahead_ms)
        await asyncio.sleep(next(waits))
        return web.json_response({"serverTime": now_ms})

    async def scene(rest: RestClient) -> None:
        clock = VenueClock()
        assert math.isnan(clock.offset_ms)
        assert clock.uncertainty_ms == math.inf
        await clock.measure(rest)
        assert abs(clock.offset_ms - ahead_ms) <= clock.uncertainty_ms
        assert clock.measured == 1
        before = clock.offset_ms
        with pytest.raises(ExchangeError):
            await clock.measure(client_of("http://127.0.0.1:9", rest._session, tries=1))
        assert clock.offset_ms == before, "a failure changes nothing"

    serve(tell, scene)
