"""One WebSocket from its handshake to its end: subscriptions by message, answers by number, pings, silence (SPEC §8).

It lives once; whoever wants it back makes another one (`shard`).
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import aiohttp
import msgspec

from dolphin.core.clock import Clock, system_clock_ns
from dolphin.core.errors import ExchangeError
from dolphin.exchange.depth import MAX_BYTES

OnMessage = Callable[[bytes, bytes, int, float], None]
"""Stream name (empty when it cannot be read), the message, UTC ns of its receipt, the loop's seconds of it."""

_PREFIX = b'{"stream":"'
_BURST = 64
"""Messages handled in a row before other tasks have their turn."""


class Talk(msgspec.Struct, frozen=True, kw_only=True):
    """How a connection is spoken to. The venue takes ten messages a second; half of that is enough."""

    connect_s: float = 10.0
    answer_s: float = 10.0
    batch: int = 50
    messages_per_s: float = 5.0
    ping_after_s: float = 20.0  # without any frame, ours included in what it may answer
    dead_after_s: float = 10.0  # without an answer to that ping


class _Reply(msgspec.Struct, frozen=True):
    id: int | str | None = None
    result: Any = None
    error: Any = None


_reply = msgspec.json.Decoder(_Reply).decode


class Connection:
    """A connection of combined streams.

    `handler` is called for every message, in the order of receipt, and must not block. While `hold` is on, messages
    wait for `release`.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        handler: OnMessage,
        talk: Talk,
        counts: Counter[str],
        *,
        clock: Clock = system_clock_ns,
    ) -> None:
        self.url, self.counts = url, counts
        self.subscribed: set[str] = set()
        """Streams that the venue has confirmed."""
        self.messages = 0
        self.opened_s = self.heard_s = 0.0
        self._session, self._handler, self._talk, self._clock = session, handler, talk, clock
        self._loop = asyncio.get_running_loop()
        self._socket: aiohttp.ClientWebSocketResponse[bool] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._held: deque[tuple[bytes, bytes, int, float]] | None = None
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future[_Reply]] = {}
        self._said_s = -1.0
        self._pinged_s: float | None = None

    async def open(self) -> None:
        """Connect. Raises ExchangeError."""
        try:
            async with asyncio.timeout(self._talk.connect_s):
                self._socket = await self._session.ws_connect(
                    self.url,
                    autoping=False,
                    compress=0,
                    max_msg_size=MAX_BYTES,
                    decode_text=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=2.0),
                )
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise ExchangeError(f"{self.url} cannot be connected to ({type(error).__name__} {error})") from None
        self.opened_s = self.heard_s = self._loop.time()
        self._reader = asyncio.create_task(self._read(self._socket))

    async def close(self) -> None:
        """End it; nothing of it is left running. Raises what the handler raised, if it did."""
        if self._socket is not None:
            await self._socket.close()
        if self._reader is not None:
            self._reader.cancel()
            (outcome,) = await asyncio.gather(self._reader, return_exceptions=True)
            if isinstance(outcome, Exception):
                raise outcome

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more."""
        return self._reader is None or self._reader.done()

    @property
    def end(self) -> asyncio.Task[None]:
        """The reading; done when the connection has ended."""
        if self._reader is None:
            raise ExchangeError(f"{self.url}: not connected")
        return self._reader

    def hold(self) -> None:
        """Keep messages until `release`: another connection still says the same."""
        self._held = deque()

    def release(self) -> None:
        """Hand on what was kept, in its order, and from now on what comes."""
        held, self._held = self._held, None
        for stream, raw, ts_ns, now_s in held or ():
            self._handler(stream, raw, ts_ns, now_s)

    def is_dead(self) -> bool:
        """Whether it has been silent, pings included, for so long that nobody can be there; asks with a ping first."""
        now = self._loop.time()
        if now - self.heard_s < self._talk.ping_after_s:
            self._pinged_s = None
            return False
        if self._pinged_s is None:
            self._pinged_s = now
            self.counts["pings_sent"] += 1
            task = asyncio.create_task(self._send_ping())
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
            return False
        return now - self._pinged_s > self._talk.dead_after_s

    async def subscribe(self, streams: Sequence[str]) -> dict[str, str]:
        """Subscribe, in batches; streams that the venue refuses, each with its words. Raises ExchangeError when the
        connection ends meanwhile or does not answer."""
        refused: dict[str, str] = {}
        for batch in itertools.batched(streams, self._talk.batch):
            await self._subscribe(batch, refused)
        return refused

    async def unsubscribe(self, streams: Iterable[str]) -> None:
        """The reverse of `subscribe`."""
        for batch in itertools.batched(streams, self._talk.batch):
            await self._ask("UNSUBSCRIBE", batch)
            self.subscribed.difference_update(batch)

    async def _subscribe(self, batch: Sequence[str], refused: dict[str, str]) -> None:
        reply = await self._ask("SUBSCRIBE", batch)
        if reply.error is None:
            self.subscribed.update(batch)
        elif len(batch) == 1:
            refused[batch[0]] = ascii(reply.error)[:120]
        else:
            # The venue refuses a batch whole: halves find the stream that is at fault.
            middle = len(batch) // 2
            await self._subscribe(batch[:middle], refused)
            await self._subscribe(batch[middle:], refused)

    async def _ask(self, method: str, streams: Sequence[str]) -> _Reply:
        number = next(self._numbers)
        answer: asyncio.Future[_Reply] = self._loop.create_future()
        self._answers[number] = answer
        try:
            await self._pace()
            if self._socket is None or self.ended:
                raise ExchangeError(f"{self.url}: the connection has ended")
            self.counts["asked"] += 1
            async with asyncio.timeout(self._talk.answer_s):
                await self._socket.send_str(
                    msgspec.json.encode({"method": method, "params": streams, "id": number}).decode()
                )
                return await answer
        except TimeoutError:
            self.counts["unanswered"] += 1
            raise ExchangeError(f"{self.url}: no answer to {method} within {self._talk.answer_s:g} s") from None
        except (aiohttp.ClientError, OSError) as error:
            raise ExchangeError(f"{self.url}: {method} could not be sent ({type(error).__name__})") from None
        finally:
            del self._answers[number]
            if answer.done() and not answer.cancelled():
                answer.exception()  # an end that came while nobody waited yet has been told by `ended`

    async def _pace(self) -> None:
        """Keep our messages apart."""
        gap = 1.0 / self._talk.messages_per_s
        now = self._loop.time()
        self._said_s = max(now, self._said_s + gap)
        if self._said_s > now:
            await asyncio.sleep(self._said_s - now)

    async def _send_ping(self) -> None:
        if self._socket is not None:
            await self._socket.ping()

    async def _read(self, socket: aiohttp.ClientWebSocketResponse[bool]) -> None:
        time, clock = self._loop.time, self._clock
        text = aiohttp.WSMsgType.TEXT
        row = 0
        try:
            while True:
                message = await socket.receive()
                now_s = self.heard_s = time()
                if message.type is text:
                    self._take(message.data, clock(), now_s)
                    row += 1
                    if row >= _BURST:
                        row = 0
                        await asyncio.sleep(0)
                elif message.type is aiohttp.WSMsgType.PING:
                    self.counts["pings_answered"] += 1
                    await socket.pong(message.data)
                elif message.type is not aiohttp.WSMsgType.PONG:
                    return
        except (aiohttp.ClientError, ConnectionError):
            return
        finally:
            for answer in self._answers.values():
                if not answer.done():
                    answer.set_exception(ExchangeError(f"{self.url}: the connection has ended"))

    def _take(self, raw: bytes, ts_ns: int, now_s: float) -> None:
        stream = b""
        if raw.startswith(_PREFIX):
            stream = raw[11 : max(raw.find(b'"', 11, 80), 11)]
        elif self._is_answer(raw):
            return
        self.messages += 1
        if self._held is not None:
            self._held.append((stream, raw, ts_ns, now_s))
        else:
            self._handler(stream, raw, ts_ns, now_s)

    def _is_answer(self, raw: bytes) -> bool:
        """Whether it answers a question of ours, which is told."""
        try:
            reply = _reply(raw)
        except (msgspec.MsgspecError, UnicodeError, RecursionError):
            return False
        answer = self._answers.get(reply.id) if isinstance(reply.id, int) else None
        if answer is None or answer.done():
            return False
        answer.set_result(reply)
        return True
