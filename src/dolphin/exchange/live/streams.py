"""Any number of streams over as many connections as they take; streams come and go without disturbing the others
(SPEC §8)."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Iterable

import aiohttp
import msgspec

from dolphin.core.clock import Clock, system_clock_ns
from dolphin.core.errors import ConfigError
from dolphin.exchange.live.connection import Connection, OnMessage, Talk
from dolphin.exchange.live.endpoints import Endpoints, route_of
from dolphin.exchange.live.pulse import Patience, Pulse
from dolphin.exchange.live.shard import Gate, Life, Owner, Shard

_SPREAD = 0.05
"""Lives differ by so much, so that connections opened together do not end together."""


class StreamOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How streams are kept: at most `most` on a connection, connections opened `connect_gap_s` apart."""

    most: int = 200
    connect_gap_s: float = 0.5
    patience: Patience = Patience()
    talk: Talk = Talk()
    life: Life = Life()


class ConnectionStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One shard's connection now."""

    url: str
    is_open: bool
    streams: int
    subscribed: int
    late: int
    behind: int
    messages: int
    age_s: float  # since it was opened
    silent_s: float  # since anything came, pings included
    opened: int  # connections so far
    last_end: str


class Streams:
    """Streams by name, each read by `owner`. Call from the event loop only; connections run as tasks of `tasks`."""

    def __init__(
        self,
        endpoints: Endpoints,
        session: aiohttp.ClientSession,
        owner: Owner,
        tasks: asyncio.TaskGroup,
        options: StreamOptions,
        *,
        clock: Clock = system_clock_ns,
    ) -> None:
        if options.most < 1:
            raise ConfigError(f"streams on a connection: {options.most}; expected at least 1")
        self.counts: Counter[str] = Counter()
        """What happened to connections and streams."""
        self._endpoints, self._session, self._owner, self._clock = endpoints, session, owner, clock
        self._tasks, self._options = tasks, options
        self._gate = Gate(options.connect_gap_s)
        self._shards: dict[Shard, asyncio.Task[None]] = {}
        self._where: dict[bytes, Shard] = {}

    def add(self, names: Iterable[str]) -> None:
        """Read these streams from now on; one that is read already is left alone."""
        for name in names:
            key = name.encode()
            if key not in self._where:
                shard = self._with_room(route_of(name))
                shard.pulses[key] = Pulse(name, self._options.patience)
                self._where[key] = shard

    def remove(self, names: Iterable[str]) -> None:
        """Read these no more; a connection without streams is closed."""
        for name in names:
            shard = self._where.pop(name.encode(), None)
            if shard is None:
                continue
            shard.drop([name.encode()])
            if not shard.pulses:
                self._shards.pop(shard).cancel()

    def pulse(self, name: str) -> Pulse | None:
        """A stream's beat; None when it is not read."""
        key = name.encode()
        shard = self._where.get(key)
        return None if shard is None else shard.pulses.get(key)

    def status(self) -> tuple[ConnectionStatus, ...]:
        """Every connection, in the order in which they were first opened."""
        return tuple(_status(shard) for shard in self._shards)

    def _with_room(self, route: str) -> Shard:
        for shard in self._shards:
            if shard.route == route and len(shard.pulses) < self._options.most:
                return shard
        life = self._options.life
        shortened = life.life_s * (1.0 - _SPREAD * random.random())  # noqa: S311  no secret
        url = self._endpoints.socket_url(route)

        def connect(handler: OnMessage) -> Connection:
            return Connection(self._session, url, handler, self._options.talk, self.counts, clock=self._clock)

        life = msgspec.structs.replace(life, life_s=shortened)
        shard = Shard(route, connect, self._owner, self._gate, life, self.counts)
        self._shards[shard] = self._tasks.create_task(shard.run())
        return shard


def _status(shard: Shard) -> ConnectionStatus:
    live, now = shard.live, asyncio.get_running_loop().time()
    pulses = shard.pulses.values()
    return ConnectionStatus(
        url=live.url if live is not None else "",
        is_open=live is not None and not live.ended,
        streams=len(shard.pulses),
        subscribed=sum(pulse.subscribed for pulse in pulses),
        late=sum(pulse.is_late for pulse in pulses),
        behind=sum(pulse.behind for pulse in pulses),
        messages=live.messages if live is not None else 0,
        age_s=now - live.opened_s if live is not None else 0.0,
        silent_s=now - live.heard_s if live is not None else 0.0,
        opened=shard.opened,
        last_end=shard.last_end,
    )
