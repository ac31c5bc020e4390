"""The WebSocket half: raw and combined streams, subscriptions by message, limits, pings (SPEC §8).

Paths: `/ws/<stream>`, `/ws`, `/stream?streams=a/b`, `/stream`, each also under `/public` (depth, bookTicker) and
`/market` (aggTrade, markPrice, kline), where streams of the other route stay silent.
"""

from __future__ import annotations

import asyncio
import re
import socket as system
from collections import deque
from typing import Any

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from dolphin.exchange.sim.hub import Connection, Hub, close

_STREAM = re.compile(
    r"[a-z0-9]{2,24}@(depth(5|10|20)?(@(100|250|500)ms)?|depth@0ms|bookTicker|aggTrade|trade|markPrice(@1s)?|kline_1m)"
)
_MAX_CLIENT_MESSAGE = 65_536


class _InvalidError(Exception):
    """A client's message that cannot be served; the text is told to the client."""


class Sockets:
    """Serves WebSocket connections on behalf of a hub."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """One connection, from its handshake to its end."""
        limits = self._hub.limits
        streams = _asked(request)
        if len(streams) > limits.streams:
            said = f"{len(streams)} streams; at most {limits.streams} on a connection"
            return web.json_response({"code": 2, "msg": f"Invalid request: {said}"}, status=400)
        socket = web.WebSocketResponse(autoping=False, compress=False, max_msg_size=_MAX_CLIENT_MESSAGE, timeout=1.0)
        await socket.prepare(request)
        transport = request.transport
        _bound_kernel(transport, limits.socket_bytes)
        route = request.match_info.get("route", "")
        connection = Connection(socket, transport, combined="stream" in request.path.split("/")[-1:], route=route)
        connection.opened_ms = self._hub.now_ms
        connection.pong_at = asyncio.get_running_loop().time()
        for stream in streams:
            self._hub.subscribe(connection, stream)
        self._hub.connections.add(connection)
        self._hub.counts["connections"] += 1
        writer = asyncio.create_task(connection.write(self._hub.drained))
        try:
            await self._read(connection)
        finally:
            self._hub.leave(connection)
            connection.broken = True
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
        return socket

    async def _read(self, connection: Connection) -> None:
        """Take the client's messages until it leaves, is dropped, or talks too much."""
        loop = asyncio.get_running_loop()
        recent: deque[float] = deque(maxlen=self._hub.limits.messages_per_s)
        async for message in connection.socket:
            now = loop.time()
            if message.type is WSMsgType.PONG:
                # Answers to our pings are not the client's talk.
                connection.pong_at = now
                continue
            if len(recent) == recent.maxlen and now - recent[0] < 1.0:
                self._hub.counts["talked_too_much"] += 1
                await close(connection, b"Too many requests", WSCloseCode.POLICY_VIOLATION)
                return
            recent.append(now)
            if message.type is WSMsgType.PING:
                await connection.socket.pong(message.data)
            elif message.type is WSMsgType.TEXT:
                connection.put(self._reply(connection, message.data))

    def _reply(self, connection: Connection, text: str) -> str:
        number: Any = None
        try:
            try:
                order = msgspec.json.decode(text)
            except msgspec.DecodeError as error:
                raise _InvalidError(f"Invalid JSON: {error}") from None
            if not isinstance(order, dict):
                raise _InvalidError("Invalid request: expected an object with method, params and id")
            number = order.get("id")
            return msgspec.json.encode({"result": self._obey(connection, order), "id": number}).decode()
        except _InvalidError as problem:
            said = str(problem)
            code = 3 if said.startswith("Invalid JSON") else 2
            return msgspec.json.encode({"error": {"code": code, "msg": said}, "id": number}).decode()

    def _obey(self, connection: Connection, order: dict[str, Any]) -> list[str] | None:
        method, params = order.get("method"), order.get("params", [])
        if type(order.get("id")) not in (int, str):
            raise _InvalidError("Invalid request: id must be a number or a string")
        if method == "LIST_SUBSCRIPTIONS":
            return list(connection.streams)
        if method not in ("SUBSCRIBE", "UNSUBSCRIBE"):
            raise _InvalidError(f"Invalid request: unknown method {method!r}")
        if not isinstance(params, list) or not all(isinstance(name, str) for name in params):
            raise _InvalidError("Invalid request: params must be a list of stream names")
        if method == "UNSUBSCRIBE":
            for name in params:
                self._hub.unsubscribe(connection, name)
            return None
        wrong = [name for name in params if not _STREAM.fullmatch(name)]
        if wrong:
            raise _InvalidError(f"Invalid request: no such stream {wrong[0][:60]!r}")
        most = self._hub.limits.streams
        if len(connection.streams.keys() | set(params)) > most:
            raise _InvalidError(f"Invalid request: at most {most} streams on a connection")
        for name in params:
            self._hub.subscribe(connection, name)
        return None


def _asked(request: web.Request) -> list[str]:
    """The streams named by the address; as at the venue, names that do not exist are simply silent."""
    named = request.match_info.get("stream", "") or request.query.get("streams", "")
    return list(dict.fromkeys(filter(None, named.split("/"))))


def _bound_kernel(transport: asyncio.Transport | None, size: int) -> None:
    """Let no more than `size` bytes wait in the kernel, so that a slow reader is seen here and not there."""
    sock = transport.get_extra_info("socket") if transport is not None else None
    if sock is not None:
        sock.setsockopt(system.SOL_SOCKET, system.SO_SNDBUF, size)
