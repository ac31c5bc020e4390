"""Life of the exchange: loopback only, slow readers, load, threads, and nothing left behind."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
import urllib.request
from typing import Any

import aiohttp
import numpy as np
import pytest

from dolphin.core.errors import ConfigError, DataError, ExchangeError
from dolphin.exchange.sim.hub import Limits
from dolphin.exchange.sim.server import SimExchange, loopback
from dolphin.exchange.sim.symbols import Contract
from dolphin.exchange.sim.synthetic import SyntheticMarket
from dolphin.exchange.sim.threaded import ThreadedExchange
from tests.support.loopback import BTC, START_MS, Client, PlainBook, eventually, market, play, take, until_end


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "fapi.binance.com", "8.8.8.8"])
def test_other_machines_can_never_reach_it(host: str) -> None:
    with pytest.raises(ConfigError, match="loopback only"):
        SimExchange(market(), host=host)


def test_loopback_names() -> None:
    assert [loopback(h) for h in ("localhost", "127.0.0.1", "127.1.2.3", "::1")] == [
        "127.0.0.1",
        "127.0.0.1",
        "127.1.2.3",
        "::1",
    ]


def test_bad_arguments_are_refused() -> None:
    for options in ({"speed": -1.0}, {"speed": float("nan")}, {"port": 70_000}, {"port": -1}):
        with pytest.raises(ConfigError):
            SimExchange(market(), **options)


def test_a_port_that_is_taken_is_told_and_nothing_stays_open() -> None:
    async def main() -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ExchangeError, match=f"127.0.0.1:{port} cannot be listened on"):
                await SimExchange(market(), port=port).start()

    asyncio.run(main())


def test_a_market_that_fails_ends_the_exchange_with_its_reason() -> None:
    async def main() -> None:
        rows = [np.array([42_000.0]), np.array([1.0, 2.0])]
        async with SimExchange(SyntheticMarket((BTC,), rows, start_ms=START_MS), speed=0) as exchange:
            with pytest.raises(DataError, match="expected"):
                await exchange.wait(20.0)

    asyncio.run(main())


def test_prices_that_end_leave_a_quiet_exchange() -> None:
    async def scene(client: Client) -> None:
        await client.exchange.wait(0.3)
        assert client.exchange.ended
        assert (await client.ok("/sim/status"))["ended"] is True
        assert (await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=5))["bids"]

    rows = [np.array([42_000.0])]
    play(scene, lambda: SimExchange(SyntheticMarket((BTC,), rows, start_ms=START_MS), speed=0))


def test_simulated_time_keeps_the_pace_asked_for() -> None:
    async def scene(client: Client) -> None:
        begun, first = time.monotonic(), client.exchange.now_ms
        await asyncio.sleep(0.6)
        passed = time.monotonic() - begun
        assert client.exchange.now_ms - first == pytest.approx(20_000 * passed, rel=0.25)

    play(scene, lambda: SimExchange(market(), speed=20))


def small_buffer_socket(address: tuple[str, int]) -> socket.socket:
    """A socket whose kernel takes next to nothing for a reader that sleeps."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(True)
    sock.connect(address)
    return sock


def sleeping_reader(exchange: SimExchange, path: str) -> socket.socket:
    """A WebSocket client, by hand, that shakes hands and never reads again."""
    sock = small_buffer_socket((exchange.host, exchange.port))
    sock.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
    )
    return sock


def test_a_slow_reader_is_dropped_and_the_others_do_not_notice() -> None:
    contracts = tuple(Contract(f"C{k:02d}USDT", 2, 3, 100.0 + k) for k in range(20))
    names = "/".join(f"{c.stream}@depth@100ms" for c in contracts)

    async def scene(client: Client) -> None:
        exchange = client.exchange
        async with client.socket(f"/stream?streams={names}") as fast:
            sleeper = await asyncio.to_thread(sleeping_reader, exchange, f"/stream?streams={names}")
            try:
                most, late = 0, []
                while not exchange.hub.counts["slow_readers_dropped"]:
                    message = (await take(fast, 1))[0]
                    late.append(exchange.now_ms - message["data"]["E"])
                    most = max(most, *(len(c.queue) for c in exchange.hub.connections))
                # Its queue was full, and never more than full.
                assert most <= 400
                diffs = [m["data"] for m in await take(fast, 200)]
                last: dict[str, int] = {}
                for diff in diffs:
                    assert last.get(diff["s"], diff["pu"]) == diff["pu"]
                    last[diff["s"]] = diff["u"]
                assert np.median(late) <= 200, "milliseconds of simulated time"
            finally:
                sleeper.close()
            await eventually(lambda: len(exchange.hub.connections) == 1)
            assert exchange.hub.counts["slow_readers_dropped"] == 1

    limits = Limits(queue=400, socket_bytes=8192)
    play(scene, lambda: SimExchange(market(*contracts), speed=20, limits=limits))


def test_as_fast_as_possible_waits_for_its_readers() -> None:
    async def scene(client: Client) -> None:
        exchange = client.exchange
        sleeper = await asyncio.to_thread(sleeping_reader, exchange, "/ws/btcusdt@depth@100ms")
        try:
            await eventually(lambda: any(len(c.queue) > 15 for c in exchange.hub.connections))
            await asyncio.sleep(0.1)
            stood = exchange.now_ms
            await asyncio.sleep(0.3)
            # Time stands until the reader reads on (or five seconds are over, and the bounds do what they do).
            assert exchange.now_ms == stood
            assert exchange.hub.counts["slow_readers_dropped"] == 0
        finally:
            sleeper.close()
        await eventually(lambda: exchange.now_ms > stood)

    play(scene, lambda: SimExchange(market(), speed=0, limits=Limits(queue=60, socket_bytes=8192)))


@pytest.mark.slow
def test_three_hundred_contracts_at_100_ms_with_one_client_reading_all() -> None:
    contracts = tuple(Contract(f"C{k:03d}USDT", 2, 3, 100.0 + k) for k in range(300))

    async def scene(client: Client) -> None:
        counts = [0]
        last: dict[str, int] = {}

        async def read(connection: aiohttp.ClientWebSocketResponse) -> None:
            async for message in connection:
                diff = json.loads(message.data)["data"]
                assert last.get(diff["s"], diff["pu"]) == diff["pu"]
                last[diff["s"]] = diff["u"]
                counts[0] += 1

        paths = ["/".join(f"{c.stream}@depth@100ms" for c in part) for part in (contracts[:150], contracts[150:])]
        async with client.socket(f"/stream?streams={paths[0]}") as a, client.socket(f"/stream?streams={paths[1]}") as b:
            readers = [asyncio.create_task(read(s)) for s in (a, b)]
            begun = client.exchange.now_ms
            await asyncio.sleep(4.0)
            simulated_s = (client.exchange.now_ms - begun) / 1000.0
            for reader in readers:
                reader.cancel()
            ends = await asyncio.gather(*readers, return_exceptions=True)
        assert [type(e) for e in ends] == [asyncio.CancelledError] * 2
        assert len(last) == 300
        # 3,000 intervals a second of simulated time; small contracts are silent in some of them.
        assert counts[0] / simulated_s > 2200
        assert client.exchange.hub.counts["slow_readers_dropped"] == 0

    play(scene, lambda: SimExchange(market(*contracts)))


def test_a_thread_serves_synchronous_code_and_ends() -> None:
    before = threading.active_count()
    with ThreadedExchange(lambda: SimExchange(market(), speed=50)) as threaded:
        url = threaded.exchange.rest_url

        def get(path: str) -> Any:
            with urllib.request.urlopen(url + path, timeout=10) as answer:
                return json.load(answer)

        first = get("/fapi/v1/time")["serverTime"]
        threaded.hold()
        stood = get("/fapi/v1/time")["serverTime"]
        time.sleep(0.05)
        assert get("/fapi/v1/time")["serverTime"] == stood >= first
        threaded.release()
        while get("/fapi/v1/time")["serverTime"] == stood:
            time.sleep(0.01)
        book = PlainBook(get("/fapi/v1/depth?symbol=BTCUSDT&limit=1000"))
        assert len(book.bids) > 100
    assert threading.active_count() == before
    with pytest.raises(OSError, match="refused"):
        get("/fapi/v1/time")


def test_a_thread_passes_on_what_went_wrong() -> None:
    with pytest.raises(ConfigError, match="loopback only"), ThreadedExchange(lambda: SimExchange(market(), host="::")):
        pass
    rows = [np.array([1.0, 2.0])]
    broken = ThreadedExchange(lambda: SimExchange(SyntheticMarket((BTC,), rows, start_ms=START_MS), speed=0))
    with pytest.raises(DataError, match="expected"), broken:
        broken._thread.join(10.0)
    assert threading.active_count() == 1 or not any(t.name == "loopback-exchange" for t in threading.enumerate())


def test_many_lives_leave_nothing_behind() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws/btcusdt@depth@100ms") as socket_:
            await take(socket_, 3)
            # The exchange stops while this client is still connected, in mid-stream.

    for _ in range(5):
        play(scene, lambda: SimExchange(market(), speed=0))
    assert not [t for t in threading.enumerate() if t.name == "loopback-exchange"]


def test_control_holds_and_releases_over_http() -> None:
    async def scene(client: Client) -> None:
        url = client.exchange.rest_url
        async with client.session.post(url + "/sim/hold") as answer:
            held = await answer.json()
        assert held["held"] is True
        assert held["time_ms"] % 500 == 0
        await asyncio.sleep(0.05)
        status = await client.ok("/sim/status")
        assert (status["time_ms"], status["held"], status["symbols"]) == (held["time_ms"], True, 2)
        async with client.session.post(url + "/sim/release") as answer:
            assert (await answer.json())["held"] is False
        await eventually(lambda: client.exchange.now_ms > held["time_ms"])

    play(scene, lambda: SimExchange(market(), speed=20))


def test_streams_end_when_the_exchange_does() -> None:
    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            async with SimExchange(market(), speed=0) as exchange:
                reader = await session.ws_connect(exchange.ws_url + "/ws/btcusdt@depth@100ms")
                await take(reader, 5)
                rest = asyncio.create_task(until_end(reader))
            await asyncio.wait_for(rest, 10.0)

    asyncio.run(main())
