"""The loopback exchange as one object: clock, market, protocol, control, on a free port of this machine (SPEC §8, §19).

    async with SimExchange(market) as exchange:
        ...  # exchange.rest_url, exchange.ws_url

Time is simulated: it starts with the market and runs `speed` times as fast as the real one; speed 0 is as fast as
possible, at the pace of the slowest reader that keeps up at all. Only rate limits, pings and their answers are counted
in real time, since a client counts them so.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Any, Self

import msgspec
from aiohttp import web

from dolphin.core.clock import ns_to_iso
from dolphin.core.errors import ConfigError, DolphinError, ExchangeError
from dolphin.exchange.sim.faults import Fault, FaultPlan, parse_faults
from dolphin.exchange.sim.feed import TICK_MS, Feed
from dolphin.exchange.sim.hub import Hub, Limits, close
from dolphin.exchange.sim.market import Market
from dolphin.exchange.sim.rest import Rest, RestLimits, Weights
from dolphin.exchange.sim.sockets import Sockets

_QUIET_MS = 500
"""At multiples of it every cadence has spoken: books and streams agree."""


class SimExchange:
    """Binance USDT-M's market data on loopback. `start`/`stop`, or `async with`; one start per object.

    `port` 0 takes a free one. `host` must be a loopback address: anything else raises ConfigError. `speed` ≥ 0.
    `faults` is the first plan, `seed` that of its draws. A market that fails ends the exchange: `wait` raises what it
    raised.
    """

    def __init__(
        self,
        market: Market,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        speed: float = 1.0,
        faults: Iterable[Fault] = (),
        seed: int = 7,
        limits: Limits | None = None,
        rest_limits: RestLimits | None = None,
    ) -> None:
        self.host, self.port = loopback(host), port
        if not 0.0 <= speed <= 1e6:
            raise ConfigError(f"speed {speed}: expected 0 (as fast as possible) to 1000000 times real time")
        if not 0 <= port <= 65_535:
            raise ConfigError(f"port {port}: expected 0 (any free one) to 65535")
        self.market, self.speed = market, speed
        self.plan = FaultPlan(faults, seed=seed, now_ms=market.start_ms)
        self.hub = Hub(limits or Limits(), self.plan)
        self._rest_limits = rest_limits or RestLimits()
        self.now_ms = self.hub.now_ms = market.start_ms
        self.feed = Feed(self.hub, market.contracts, self.now_ms)
        self.ended = False
        self.behind_s = 0.0
        self._hold = False
        self._quiet = asyncio.Event()
        self._go = asyncio.Event()
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._closing: set[asyncio.Task[None]] = set()

    # --- life ---------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the market, listen, start the clock. Raises ExchangeError when the port is taken."""
        loop = asyncio.get_running_loop()
        self.market.open(self.feed)
        self.feed.opened()
        self.rest = Rest(self.feed, self.plan, Weights(self._rest_limits, loop.time))
        sockets = Sockets(self.hub)
        app = web.Application()
        for prefix in ("", "/{route:public|market}"):
            for path in ("/ws", "/ws/{stream:.+}", "/stream"):
                app.router.add_get(prefix + path, sockets.serve)
        app.router.add_route("*", "/fapi/{tail:.*}", self.rest.answer)
        app.router.add_get("/sim/status", self._status)
        app.router.add_get("/sim/faults", self._get_faults)
        app.router.add_route("POST", "/sim/faults", self._set_faults)
        app.router.add_post("/sim/hold", self._hold_request)
        app.router.add_post("/sim/release", self._release_request)
        app.on_shutdown.append(self._say_goodbye)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0, handler_cancellation=True)
        await runner.setup()
        try:
            await web.TCPSite(runner, self.host, self.port).start()
        except OSError as error:
            await runner.cleanup()
            self.market.close()
            raise ExchangeError(f"{self.host}:{self.port} cannot be listened on ({error}); take --port 0") from None
        self._runner = runner
        self.port = int(runner.addresses[0][1])
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self.hub.watch())]

    async def stop(self) -> None:
        """Close connections, stop the clock, let go of port and files. Nothing of it is left running."""
        tasks, self._tasks = [*self._tasks, *self._closing], []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        self.market.close()

    async def __aenter__(self) -> Self:
        """Start."""
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop."""
        await self.stop()

    async def wait(self, seconds: float | None = None) -> None:
        """Serve for `seconds` of real time, or until cancelled. Raises what broke the market or the clock."""
        done, _ = await asyncio.wait(self._tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()

    @property
    def rest_url(self) -> str:
        """`http://host:port`."""
        return f"http://{_bracketed(self.host)}:{self.port}"

    @property
    def ws_url(self) -> str:
        """`ws://host:port`."""
        return f"ws://{_bracketed(self.host)}:{self.port}"

    # --- clock --------------------------------------------------------------------------------------------------------

    async def hold(self) -> None:
        """Stop the market at the next moment at which streams and books agree (a multiple of 500 ms), and wait for it.

        Connections live on, REST answers, the clock stands. Raises what broke the market when it has broken.
        """
        self._quiet.clear()
        self._go.clear()
        self._hold = True
        quiet = asyncio.create_task(self._quiet.wait())
        await asyncio.wait((quiet, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
        if not quiet.done():
            quiet.cancel()
            await self.wait(0.0)

    def release(self) -> None:
        """Let the market go on after `hold`."""
        self._hold = False
        self._go.set()

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        origin, from_ms = loop.time(), self.now_ms
        while True:
            if self._hold and self.now_ms % _QUIET_MS == 0:
                self._quiet.set()
                await self._go.wait()
                origin, from_ms = loop.time(), self.now_ms
            if self.speed:
                due = origin + (self.now_ms + TICK_MS - from_ms) / 1000.0 / self.speed
                self.behind_s = max(0.0, loop.time() - due)
                await asyncio.sleep(max(0.0, due - loop.time()))
            else:
                await self.hub.room()
                await asyncio.sleep(0)
            self._tick()

    def _tick(self) -> None:
        self.now_ms += TICK_MS
        self.hub.now_ms = self.now_ms
        self.feed.skew_ms = self.plan.skew_ms(self.now_ms)
        if not self.ended:
            self.ended = not self.market.advance(self.now_ms, self.feed)
        self.feed.flush(self.now_ms)
        for connection in self.hub.expire():
            self.hub.leave(connection)
            task = asyncio.create_task(close(connection, b"24 hours are over"))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)

    async def _say_goodbye(self, _app: web.Application) -> None:
        await asyncio.gather(*(close(c, b"the exchange stops") for c in list(self.hub.connections)))

    # --- control ------------------------------------------------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """What `/sim/status` tells: counters since the start."""
        hub = self.hub
        names = ("connections", "messages", "slow_readers_dropped", "lost_in_stalls", "expired", "no_pong", "pings",
                 "talked_too_much", "misrouted")  # fmt: skip
        return {
            "market": self.market.title,
            "symbols": len(self.feed.lines),
            "time": ns_to_iso(self.now_ms * 1_000_000),
            "time_ms": self.now_ms,
            "speed": self.speed,
            "behind_s": round(self.behind_s, 3),
            "ended": self.ended,
            "held": self._hold,
            "open_connections": len(hub.connections),
            "streams": sum(len(c.streams) for c in hub.connections),
            "counts": {name: hub.counts[name] for name in names},
            "faults": dict(self.plan.counts),
            "requests": dict(self.rest.counts),
            "weight_used": self.rest.used,
        }

    async def _status(self, _request: web.Request) -> web.Response:
        return _json(self.status())

    async def _get_faults(self, _request: web.Request) -> web.Response:
        return _json({"faults": self.plan.faults, "counts": dict(self.plan.counts)})

    async def _set_faults(self, request: web.Request) -> web.Response:
        """The body is JSON, `{"faults": [{"kind": "drop", …}]}`, or the text form of `parse_faults`; empty: none."""
        body = await request.read()
        try:
            if body.lstrip()[:1] in (b"{", b"["):
                faults = msgspec.json.decode(body, type=_Faults).faults
            else:
                faults = parse_faults(body.decode())
            self.plan.set(faults, self.now_ms)
        except (DolphinError, msgspec.DecodeError, UnicodeDecodeError) as error:
            return _json({"error": str(error)}, 400)
        return _json({"faults": self.plan.faults})

    async def _hold_request(self, _request: web.Request) -> web.Response:
        await self.hold()
        return _json({"held": True, "time_ms": self.now_ms})

    async def _release_request(self, _request: web.Request) -> web.Response:
        self.release()
        return _json({"held": False, "time_ms": self.now_ms})


class _Faults(msgspec.Struct, forbid_unknown_fields=True):
    """The body that sets a plan."""

    faults: tuple[Fault, ...]


def loopback(host: str) -> str:
    """The address to listen on. Raises ConfigError for one that other machines could reach."""
    name = "127.0.0.1" if host == "localhost" else host
    try:
        safe = ipaddress.ip_address(name).is_loopback
    except ValueError:
        safe = False
    if not safe:
        raise ConfigError(f"host {host!r}: the exchange listens on loopback only; expected 127.0.0.1, ::1 or localhost")
    return name


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(value), status=status, content_type="application/json")
