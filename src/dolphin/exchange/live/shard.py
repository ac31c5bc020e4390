"""Up to 200 streams that are kept alive together: one connection after the other, planned ends without a gap (SPEC §8).

A connection ends because its socket does, because nothing at all comes (pings included), because the greater part of
its streams is late or brings old news though it answers pings, or because its day is nearly over. Only in the last case
the next one speaks before the old one is closed.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Protocol

import msgspec

from dolphin.core.errors import ExchangeError
from dolphin.exchange.live.backoff import full_jitter
from dolphin.exchange.live.connection import Connection, OnMessage
from dolphin.exchange.live.pulse import Pulse

_TICK_S = 0.1
_HELD_UP_S = 1.0
"""Between two looks; longer, and it was us who did not listen: suspended, or starved of the processor."""
_HEALTHY_S = 10.0
"""A connection that has spoken for so long was a good one: the next failure counts as the first."""
_RESUBSCRIBE_S = (30.0, 600.0)
"""How soon a late stream is asked for a second time, doubling up to the second number."""


class Owner(Protocol):
    """Who reads the streams; called in the event loop, must not block."""

    def message(self, pulse: Pulse | None, stream: bytes, raw: bytes, ts_ns: int) -> None:
        """A message; `pulse` is None when no stream of ours has that name."""

    def late(self, pulse: Pulse) -> None:
        """A stream has been silent for too long."""

    def lost(self, pulses: Iterable[Pulse]) -> None:
        """The connection of these streams is gone; what they say next may have a gap before it."""


class Gate:
    """Lets one connection be opened at a time, and none within `gap_s` of the last."""

    def __init__(self, gap_s: float) -> None:
        self._gap_s = gap_s
        self._lock = asyncio.Lock()
        self._next_s = 0.0

    async def turn(self) -> None:
        """Wait for the right to connect."""
        async with self._lock:
            now = asyncio.get_running_loop().time()
            await asyncio.sleep(max(0.0, self._next_s - now))
            self._next_s = max(self._next_s, now) + self._gap_s


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """How long a connection lives, and how it is succeeded; seconds."""

    life_s: float = 82_800.0  # the venue ends it after 86,400
    overlap_s: float = 1.0  # both speak: how far the old one may lag behind the new one without a gap
    speak_s: float = 30.0  # the new one must have said something by then
    behind_s: float = 3.0  # with old news for so long, it is the line: our own clock would have been set right
    backoff_s: float = 0.5
    backoff_most_s: float = 30.0


class Shard:
    """Streams that share a connection. `run` keeps them alive until it is cancelled."""

    def __init__(
        self,
        route: str,
        connect: Callable[[OnMessage], Connection],
        owner: Owner,
        gate: Gate,
        life: Life,
        counts: Counter[str],
    ) -> None:
        self.route, self.counts = route, counts
        self.pulses: dict[bytes, Pulse] = {}
        """Streams by name."""
        self.live: Connection | None = None
        self.opened = 0
        """Connections that there have been."""
        self.last_end = ""
        """Why the connection before this one ended."""
        self._connect, self._owner, self._gate, self._life = connect, owner, gate, life
        self._failures = 0
        self._behind_s = 0.0  # when it was not behind for the last time
        self._roll_at_s = 0.0

    async def run(self) -> None:
        """Connect, read, and do it again, for ever. Raises what the owner raises."""
        try:
            while True:
                await self._gate.turn()
                why = await self._one_life()
                self.counts[why] += 1
                await asyncio.sleep(full_jitter(self._failures, self._life.backoff_s, self._life.backoff_most_s))
                self._failures += 1
        finally:
            if self.live is not None:
                await self.live.close()

    def drop(self, names: Iterable[bytes]) -> None:
        """Read these no more; the connection is told at the next look."""
        for name in names:
            self.pulses.pop(name, None)

    async def _one_life(self) -> str:
        """One connection, and those that succeed it by plan; why the last one ended."""
        connection = self._connect(self._hear)
        for pulse in self.pulses.values():
            pulse.refused = ""  # it may have come to be
        try:
            await connection.open()
            self._opened(connection)
            why = await self._live_through()
        except ExchangeError as error:
            why, self.last_end = "failed", str(error)
        else:
            self.last_end = why
        finally:
            connection, self.live = self.live or connection, None
            for pulse in self.pulses.values():
                pulse.end()
            self._owner.lost(self.pulses.values())
            await connection.close()
        return why

    def _opened(self, connection: Connection) -> None:
        self.live = connection
        self.opened += 1
        self.counts["opened"] += 1
        self._behind_s = connection.opened_s
        self._roll_at_s = connection.opened_s + self._life.life_s

    async def _live_through(self) -> str:
        time = asyncio.get_running_loop().time
        looked = time()
        while (live := self.live) is not None:
            await self._reconcile(live)
            before, looked = looked, time()
            now = looked
            if live.ended:
                return "closed"
            if live.is_dead():
                return "silent"
            # Who was held up himself must read first what has come meanwhile, and not call it silence.
            if now - before < _HELD_UP_S and (why := await self._tend(live, now)):
                return why
            if live.messages and now - live.opened_s > _HEALTHY_S:
                self._failures = 0
            if now >= self._roll_at_s:
                await self._roll(live)
                continue
            await asyncio.wait((live.end,), timeout=_TICK_S)
        return "closed"

    async def _reconcile(self, connection: Connection) -> None:
        """Tell the venue what is wanted and what no more."""
        wanted = {pulse.stream: pulse for pulse in self.pulses.values() if not pulse.refused}
        extra = [name for name in connection.subscribed if name not in wanted]
        if extra:
            await connection.unsubscribe(extra)
        missing = [name for name in wanted if name not in connection.subscribed]
        if not missing:
            return
        refused = await connection.subscribe(missing)
        now = asyncio.get_running_loop().time()
        for name in missing:
            if name in refused:
                wanted[name].refused = refused[name]
                self.counts["refused"] += 1
            else:
                wanted[name].begin(now)

    async def _tend(self, live: Connection, now: float) -> str:
        """Look after silent streams; why the connection must go, if it must."""
        heard = [pulse for pulse in self.pulses.values() if pulse.subscribed]
        late: list[Pulse] = []
        for pulse in heard:
            known = pulse.is_late
            if pulse.overdue(now):
                late.append(pulse)
                if not known:
                    self.counts["late"] += 1
                    self._owner.late(pulse)
        if 2 * len(late) > len(heard):
            return "stalled"
        if 2 * sum(pulse.behind for pulse in heard) <= len(heard):
            self._behind_s = now
        elif now - self._behind_s > self._life.behind_s:
            return "behind"
        again = [pulse for pulse in late if now >= pulse.retry_at_s]
        if again:
            for pulse in again:
                pulse.retry_at_s = now + min(_RESUBSCRIBE_S[0] * 2.0 ** min(pulse.resubscribed, 9), _RESUBSCRIBE_S[1])
                pulse.resubscribed += 1
                pulse.end()
            self.counts["resubscribed"] += len(again)
            await live.unsubscribe([pulse.stream for pulse in again])
            await self._reconcile(live)
        return ""

    async def _roll(self, old: Connection) -> None:
        """Succeed a connection whose day is nearly over: the next one is subscribed and speaks before the old one goes.

        Until then what the next one says is kept, and the old one is read; then it is handed on from its beginning. A
        book passes over what it has had, so it sees one stream without a gap.
        """
        fresh = self._connect(self._hear)
        fresh.hold()
        try:
            await self._gate.turn()
            await fresh.open()
            await fresh.subscribe([p.stream for p in self.pulses.values() if not p.refused])
            await self._until_it_speaks(fresh)
            await asyncio.sleep(self._life.overlap_s)
            if fresh.ended:
                raise ExchangeError(f"{fresh.url}: ended before it could take over")
        except ExchangeError as error:
            self.counts["rolls_failed"] += 1
            self.last_end = str(error)
            self._roll_at_s = asyncio.get_running_loop().time() + self._life.backoff_most_s
            await fresh.close()
            return
        except BaseException:
            await fresh.close()
            raise
        self._opened(fresh)
        self.counts["rolled"] += 1
        self.last_end = "rolled"
        fresh.release()
        await old.close()

    async def _until_it_speaks(self, fresh: Connection) -> None:
        end = asyncio.get_running_loop().time() + self._life.speak_s
        while not fresh.messages:
            if fresh.ended or asyncio.get_running_loop().time() > end:
                raise ExchangeError(f"{fresh.url}: said nothing within {self._life.speak_s:g} s")
            await asyncio.sleep(_TICK_S / 2)

    def _hear(self, stream: bytes, raw: bytes, ts_ns: int, now_s: float) -> None:
        pulse = self.pulses.get(stream)
        if pulse is not None:
            pulse.beat(now_s)
        self._owner.message(pulse, stream, raw, ts_ns)
