"""What tests of the loopback exchange share: small markets, a client, and a plain book built by the venue's rules."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any

import aiohttp
import numpy as np

from dolphin.exchange.sim.server import SimExchange
from dolphin.exchange.sim.symbols import Contract
from dolphin.exchange.sim.synthetic import SyntheticMarket

START_MS = 1_700_000_000_000
BTC = Contract("BTCUSDT", 1, 3, 42_000.0)
DOGE = Contract("DOGEUSDT", 5, 0, 0.0905)
ETH = Contract("ETHUSDT", 2, 3, 2300.0)


def walk(contracts: tuple[Contract, ...], seed: int = 3, step: float = 4e-4) -> Iterator[np.ndarray]:
    """Prices that walk at random, for ever."""
    rng = np.random.default_rng(seed)
    price = np.array([c.price for c in contracts])
    while True:
        price = price * np.exp(rng.normal(0.0, step, len(price)))
        yield price


def market(*contracts: Contract, seed: int = 7, step: float = 4e-4, **options: Any) -> SyntheticMarket:
    """A synthetic market of these contracts (BTCUSDT and DOGEUSDT when none is given)."""
    chosen = contracts or (BTC, DOGE)
    return SyntheticMarket(chosen, walk(chosen, step=step), start_ms=START_MS, seed=seed, **options)


class Client:
    """An aiohttp client of one exchange."""

    def __init__(self, exchange: SimExchange, session: aiohttp.ClientSession) -> None:
        self.exchange, self.session = exchange, session

    async def get(self, path: str, **query: Any) -> tuple[int, Any, Any]:
        """Status, decoded body (text when it is no JSON), headers."""
        params = {name: str(value) for name, value in query.items()}
        async with self.session.get(self.exchange.rest_url + path, params=params) as answer:
            text = await answer.text()
            try:
                return answer.status, json.loads(text), answer.headers
            except ValueError:
                return answer.status, text, answer.headers

    async def ok(self, path: str, **query: Any) -> Any:
        """The body of a request that must succeed."""
        status, body, _ = await self.get(path, **query)
        assert status == 200, (path, query, status, body)
        return body

    async def faults(self, text: str) -> None:
        """Set the plan through the control endpoint."""
        async with self.session.post(self.exchange.rest_url + "/sim/faults", data=text) as answer:
            assert answer.status == 200, await answer.text()

    @asynccontextmanager
    async def socket(self, path: str, **options: Any) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
        """A WebSocket that is closed at the end of the block."""
        async with self.session.ws_connect(self.exchange.ws_url + path, max_msg_size=0, **options) as socket:
            yield socket


def play(scene: Callable[[Client], Awaitable[None]], exchange: Callable[[], SimExchange] | None = None) -> None:
    """Run a scene against an exchange of its own, and see that nothing of it is left."""

    async def main() -> None:
        made = (exchange or (lambda: SimExchange(market(), speed=0)))()
        async with made, aiohttp.ClientSession() as session:
            await asyncio.wait_for(scene(Client(made, session)), 60.0)
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left

    asyncio.run(main())


async def take(socket: aiohttp.ClientWebSocketResponse, count: int) -> list[Any]:
    """The next `count` text messages, decoded."""
    return [json.loads(await socket.receive_str(timeout=20.0)) for _ in range(count)]


async def until_end(socket: aiohttp.ClientWebSocketResponse) -> list[str]:
    """Every text message up to the end of the connection."""
    found = []
    async for message in socket:
        assert message.type is aiohttp.WSMsgType.TEXT
        found.append(message.data)
    return found


async def eventually(met: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until a condition holds; AssertionError when it does not in time."""
    end = asyncio.get_running_loop().time() + seconds
    for _ in iter(met, True):
        assert asyncio.get_running_loop().time() < end, "it never came to hold"
        await asyncio.sleep(0.01)


class PlainBook:
    """A book by the venue's rules, slow and obvious: snapshot, buffered diffs, U ≤ lastUpdateId ≤ u, then pu = u."""

    def __init__(self, snapshot: dict[str, Any]) -> None:
        self.last = snapshot["lastUpdateId"]
        self.first = True
        self.bids = {Decimal(p): Decimal(q) for p, q in snapshot["bids"]}
        self.asks = {Decimal(p): Decimal(q) for p, q in snapshot["asks"]}

    def take(self, diff: dict[str, Any]) -> None:
        """Apply a diff; AssertionError when its numbers do not continue the book."""
        if diff["u"] < self.last:
            assert self.first, "an old diff after a new one"
            return
        if self.first:
            # A contract that was quiet has its next diff begin after the snapshot, with pu at or before it.
            assert diff["U"] <= self.last or diff["pu"] <= self.last, (diff["U"], diff["pu"], self.last)
        else:
            assert diff["pu"] == self.last, (diff["pu"], self.last)
        self.first = False
        for side, levels in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, qty in levels:
                if Decimal(qty):
                    side[Decimal(price)] = Decimal(qty)
                else:
                    side.pop(Decimal(price), None)
        self.last = diff["u"]

    def top(self, count: int) -> tuple[list[tuple[Decimal, Decimal]], list[tuple[Decimal, Decimal]]]:
        """The best levels of either side."""
        bids, asks = sorted(self.bids.items(), reverse=True)[:count], sorted(self.asks.items())[:count]
        return bids, asks


def levels(side: list[list[str]]) -> list[tuple[Decimal, Decimal]]:
    """Levels of a message as exact numbers."""
    return [(Decimal(p), Decimal(q)) for p, q in side]
