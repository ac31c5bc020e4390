"""Connections and who reads what: bounded queues, one writer each, faults on the way out (SPEC §8, §22).

A client that reads too slowly costs nobody but itself: at the bound its connection is broken, the others never wait.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable

import msgspec
from aiohttp import WSCloseCode, web

from dolphin.exchange.sim.faults import Fault, FaultPlan, Kind

PUBLIC, MARKET = "public", "market"
_MARKET_WORDS = ("aggTrade", "trade", "markPrice", "kline")


def route_of(stream: str) -> str:
    """Which of the venue's two routes carries a stream: `public` (book) or `market` (trades, marks, klines)."""
    return MARKET if stream.partition("@")[2].startswith(_MARKET_WORDS) else PUBLIC


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a connection may do. Defaults are the venue's; queues and times are configurable so that tests see them.

    `ping_s`, `pong_s` in real seconds; `life_s` in simulated ones. `queue` messages and `queue_bytes` bytes may wait
    for a client, `socket_bytes` more in the kernel.
    """

    streams: int = 200
    messages_per_s: int = 10
    ping_s: float = 180.0
    pong_s: float = 600.0
    life_s: float = 86_400.0
    queue: int = 20_000
    queue_bytes: int = 16_000_000
    socket_bytes: int = 1_000_000


class Connection:
    """One WebSocket: its subscriptions, what waits for it, and what it has missed.

    `combined` wraps payloads as {"stream": …, "data": …}; `route` is `public`, `market`, or empty for all streams.
    """

    def __init__(
        self, socket: web.WebSocketResponse, transport: asyncio.Transport | None, *, combined: bool, route: str
    ) -> None:
        self.socket, self.transport = socket, transport
        self.combined, self.route = combined, route
        self.streams: dict[str, None] = {}
        self.opened_ms = 0
        self.pong_at = 0.0
        self.stalled_until_ms = 0
        self.pause_s = 0.0
        self.broken = False
        self.queued_bytes = 0
        self.queue: deque[str | bytes] = deque()
        self.held: dict[str, str] = {}
        self._wake = asyncio.Event()

    def put(self, text: str | bytes) -> None:
        """Queue one message for the writer."""
        self.queue.append(text)
        self.queued_bytes += len(text)
        self._wake.set()

    def break_off(self) -> None:
        """Break the connection without a close frame."""
        self.broken = True
        if self.transport is not None:
            self.transport.abort()
        self._wake.set()

    async def write(self, drained: Callable[[], None]) -> None:
        """Send what is queued, until the connection ends; `drained` is called whenever the queue has run empty."""
        try:
            while not self.broken:
                if not self.queue:
                    drained()
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                if self.pause_s:
                    await asyncio.sleep(self.pause_s)
                text = self.queue.popleft()
                self.queued_bytes -= len(text)
                if isinstance(text, str):
                    await self.socket.send_str(text)
                else:
                    # A text frame whatever the bytes are: a corrupted message need not be UTF-8.
                    await self.socket.send_frame(text, web.WSMsgType.TEXT)
        except ConnectionError:
            self.broken = True


class Hub:
    """All connections; `publish` brings one payload to everybody who subscribed its stream."""

    def __init__(self, limits: Limits, plan: FaultPlan) -> None:
        self.limits, self.plan = limits, plan
        self.connections: set[Connection] = set()
        self.counts: Counter[str] = Counter()
        self.now_ms = 0
        self._readers: dict[str, dict[Connection, None]] = {}
        self._drained = asyncio.Event()

    def wants(self, stream: str) -> bool:
        """Whether anybody reads the stream, so that nothing is built for nobody."""
        return stream in self._readers

    def subscribe(self, connection: Connection, stream: str) -> None:
        """Let the connection read the stream; one of the other route is accepted, counted, and stays silent."""
        connection.streams[stream] = None
        if connection.route and connection.route != route_of(stream):
            self.counts["misrouted"] += 1
            return
        self._readers.setdefault(stream, {})[connection] = None

    def unsubscribe(self, connection: Connection, stream: str) -> None:
        """The reverse of `subscribe`; a stream that was not subscribed is no error."""
        connection.streams.pop(stream, None)
        readers = self._readers.get(stream)
        if readers is not None:
            readers.pop(connection, None)
            if not readers:
                del self._readers[stream]

    def leave(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        for stream in list(connection.streams):
            self.unsubscribe(connection, stream)
        self.connections.discard(connection)
        self._drained.set()

    def publish(self, stream: str, payload: str) -> None:
        """Queue one payload (JSON text) for all readers of the stream."""
        readers = self._readers.get(stream)
        if not readers:
            return
        wrapped = ""
        for connection in readers:
            if connection.combined:
                wrapped = wrapped or f'{{"stream":"{stream}","data":{payload}}}'
                text = wrapped
            else:
                text = payload
            if self.plan.on_messages or connection.stalled_until_ms or connection.held or connection.pause_s:
                self._offer(connection, stream, text)
            else:
                self._put(connection, text)

    def _put(self, connection: Connection, text: str | bytes) -> None:
        if connection.broken:
            return
        if len(connection.queue) >= self.limits.queue or connection.queued_bytes >= self.limits.queue_bytes:
            self.counts["slow_readers_dropped"] += 1
            connection.break_off()
            return
        self.counts["messages"] += 1
        connection.put(text)

    def _offer(self, connection: Connection, stream: str, text: str) -> None:
        """Queue a message, or do to it what the faults that meet it say."""
        if self.now_ms < connection.stalled_until_ms:
            self.counts["lost_in_stalls"] += 1
            return
        connection.stalled_until_ms = 0
        connection.pause_s = 0.0
        out: list[str | bytes] = [text]
        for fault in self.plan.strikes(stream, self.now_ms):
            if not self._line_stands(connection, fault):
                return
            out = self._changed(connection, stream, fault, out)
        if out and stream in connection.held:
            out.append(connection.held.pop(stream))
        for message in out:
            self._put(connection, message)

    def _line_stands(self, connection: Connection, fault: Fault) -> bool:
        """Faults of the connection rather than of a message; False when the message goes no further."""
        match fault.kind:
            case Kind.STALL:
                connection.stalled_until_ms = self.plan.until_ms(fault, self.now_ms)
                return False
            case Kind.DISCONNECT:
                connection.break_off()
                return False
            case Kind.SLOW:
                connection.pause_s = 1.0 / fault.amount
                self.plan.counts[Kind.SLOW] += 1
        return True

    def _changed(self, connection: Connection, stream: str, fault: Fault, out: list[str | bytes]) -> list[str | bytes]:
        if not out:
            return out
        match fault.kind:
            case Kind.DROP:
                return []
            case Kind.DUPLICATE:
                return out + out
            case Kind.CORRUPT:
                return [self.plan.spoil(m) if isinstance(m, str) else m for m in out]
            case Kind.REORDER if stream not in connection.held and isinstance(out[0], str):
                connection.held[stream] = out[0]
                return []
        return out

    async def room(self, patience_s: float = 5.0) -> None:
        """Wait until no client is far behind: how a market that runs as fast as possible keeps to its readers' pace.

        After `patience_s` real seconds it goes on; the bounds then do what they do.
        """
        end = asyncio.get_running_loop().time() + patience_s
        while any(len(c.queue) > min(256, self.limits.queue // 4) for c in self.connections):
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            self._drained.clear()
            try:
                await asyncio.wait_for(self._drained.wait(), left)
            except TimeoutError:
                return

    def drained(self) -> None:
        """A writer's queue has run empty."""
        self._drained.set()

    async def watch(self) -> None:
        """Once a tick of real time: pings, answers that stay out, and connections whose day is over."""
        loop = asyncio.get_running_loop()
        next_ping = loop.time() + self.limits.ping_s
        while True:
            await asyncio.sleep(min(0.5, self.limits.ping_s / 4, self.limits.pong_s / 4))
            now = loop.time()
            due = now >= next_ping
            if due:
                next_ping = now + self.limits.ping_s
            for connection in list(self.connections):
                if now - connection.pong_at > self.limits.pong_s:
                    self.counts["no_pong"] += 1
                    connection.break_off()
                elif due and not connection.broken:
                    self.counts["pings"] += 1
                    await _ping(connection, self.now_ms)

    def expire(self) -> list[Connection]:
        """Connections that have lived `life_s` simulated seconds, to be closed."""
        age = self.limits.life_s * 1000.0
        old = [c for c in self.connections if not c.broken and self.now_ms - c.opened_ms >= age]
        self.counts["expired"] += len(old)
        return old


async def _ping(connection: Connection, now_ms: int) -> None:
    # A client that reads nothing must not hold up everybody's pings.
    try:
        await asyncio.wait_for(connection.socket.ping(str(now_ms).encode()), 1.0)
    except (ConnectionError, TimeoutError):
        connection.break_off()


async def close(connection: Connection, message: bytes, code: int = WSCloseCode.GOING_AWAY) -> None:
    """Close with a close frame; break off when the client does not answer within a second."""
    try:
        await asyncio.wait_for(connection.socket.close(code=code, message=message), 1.0)
    except (ConnectionError, TimeoutError):
        connection.break_off()
