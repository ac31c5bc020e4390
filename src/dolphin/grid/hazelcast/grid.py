"""A `Grid` on a Hazelcast cluster (SPEC §14): what docs/grid.md promises, and what a cluster cannot."""

from __future__ import annotations

import contextlib
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from hazelcast.protocol.codec import client_create_proxy_codec, client_get_distributed_objects_codec
from hazelcast.proxy import MAP_SERVICE
from hazelcast.proxy.map import Map

from dolphin.core.clock import system_clock_ns
from dolphin.core.errors import GridError
from dolphin.grid.checks import CLOSED, check_put, check_value, key_bytes, name_bytes
from dolphin.grid.hazelcast.cp import HazelcastLock, HazelcastReference, Subsystem
from dolphin.grid.hazelcast.link import Link, check_timeout
from dolphin.grid.hazelcast.near import NearCache
from dolphin.grid.hazelcast.teller import EntryHandler, Teller
from dolphin.grid.hazelcast.wire import pack, pack_key, pack_other, unpack
from dolphin.grid.listeners import values_only
from dolphin.grid.port import Health, Listener, Lock, Reference, Stop, Watcher

ADDRESSES = ("127.0.0.1:5701",)
CLUSTER = "dolphin"

NEAR_MAPS = ("DOLPHIN_FEATURES_SHARD_",)
"""Beginnings of the names of maps that are kept near."""

_PROBE = "dolphin-probe"


class Cluster(NamedTuple):
    """What a look at the cluster shows: address and version of each member, whether references and locks are only as
    safe as a map (no CP subsystem; None: not known), the breakers' states, near caches' hits and misses, and values
    that were refused because they are neither text nor bytes."""

    members: list[tuple[str, str]]
    unsafe: bool | None
    breaker: str
    cp_breaker: str
    near_hits: int
    near_misses: int
    refused: int


class HazelcastGrid:
    """A `Grid` on the cluster that answers at `addresses`.

    `timeout_s` bounds every wait for the cluster. Only addresses of this machine are taken unless `remote`. Raises
    GridError when nobody answers within `connect_timeout_s`; later outages end by themselves, and calls fail at once
    while they last.
    """

    def __init__(
        self,
        addresses: Sequence[str] = ADDRESSES,
        *,
        cluster: str = CLUSTER,
        timeout_s: float = 1.0,
        connect_timeout_s: float = 10.0,
        remote: bool = False,
        near_maps: tuple[str, ...] = NEAR_MAPS,
    ) -> None:
        check_timeout(timeout_s, "timeout")
        check_timeout(connect_timeout_s, "time to connect")
        self.timeout_s = timeout_s
        self.closed = False
        self.refused = 0
        self._near_maps = near_maps
        self._near: dict[str, NearCache] = {}
        self._near_guard, self._turn = threading.Lock(), 0
        self._maps: dict[str, Any] = {}
        self._held: set[HazelcastLock] = set()
        self._failures, self._last_success_ns = 0, 0
        self._teller = Teller(self, self._count_refused)
        self._link = Link(
            addresses,
            cluster,
            timeout_s=timeout_s,
            connect_timeout_s=connect_timeout_s,
            remote=remote,
            changed=self._connections_changed,
        )
        self._cp = Subsystem(self._link)

    def get(self, name: str, key: str) -> bytes | None:
        """See Maps. A value of a near map may be as old as the cluster's word that it changed is under way."""
        near = self._near.get(name)
        if near is not None and (held := near.get(key)) is not None:
            return held[0]
        return self._counted(lambda: self._get(name, key))

    def put(self, name: str, key: str, value: bytes) -> None:
        """See Maps."""

        def put() -> None:
            check_put(name, {key: value})
            one = self._map(name)
            with self._changing(name, (key,)):
                self._ask(lambda: one.set(pack_key(key), pack(value)))

        self._counted(put, wrote=True)

    def put_many(self, name: str, values: Mapping[str, bytes]) -> None:
        """See Maps."""

        def put() -> None:
            check_put(name, values)
            one = self._map(name)
            if values:
                with self._changing(name, values):
                    self._ask(lambda: one.put_all({pack_key(key): pack(value) for key, value in values.items()}))

        self._counted(put, wrote=True)

    def put_if_absent(self, name: str, key: str, value: bytes) -> bytes | None:
        """See Maps."""

        def put() -> bytes | None:
            check_put(name, {key: value})
            one = self._map(name)
            with self._changing(name, (key,)):
                return self._open(name, key, self._ask(lambda: one.put_if_absent(pack_key(key), pack(value))))

        return self._counted(put, wrote=True)

    def replace_if_same(self, name: str, key: str, expected: bytes, value: bytes) -> bool:
        """See Maps."""

        def replace() -> bool:
            check_put(name, {key: value})
            check_value(f"{name}[{key!r}]", expected)
            one, place, new, other = self._map(name), pack_key(key), pack(value), pack_other(expected)
            with self._changing(name, (key,)):
                return bool(
                    self._ask(lambda: one.replace_if_same(place, pack(expected), new))
                    or (other is not None and self._ask(lambda: one.replace_if_same(place, other, new)))
                )

        return self._counted(replace, wrote=True)

    def delete(self, name: str, key: str) -> bool:
        """See Maps."""

        def delete() -> bool:
            name_bytes(name)
            key_bytes(key)
            one = self._map(name)
            with self._changing(name, (key,)):
                return self._ask(lambda: one.remove(pack_key(key))) is not None

        return self._counted(delete, wrote=True)

    def keys(self, name: str) -> list[str]:
        """See Maps. Keys that are no text, another program's, are left out and counted."""

        def keys() -> list[str]:
            name_bytes(name)
            one = self._map(name)
            return sorted(key for data in self._ask(one.key_set) if (key := self._key(name, data)) is not None)

        return self._counted(keys)

    def names(self) -> tuple[list[str], list[str]]:
        """The maps that hold anything and the references of ours that are set, sorted: for tools that look at all there
        is. A cluster cannot list its references: only the posture's is looked for."""
        from dolphin.grid.schemas import SAFETY

        def names() -> tuple[list[str], list[str]]:
            codec = client_get_distributed_objects_codec
            found = self._ask(lambda: self._link.invoke(codec.encode_request(), codec.decode_response))
            maps = {one.name for one in found if one.service_name == MAP_SERVICE}
            set_ = [SAFETY] if self.reference(SAFETY).get() is not None else []
            return sorted(name for name in maps if self._ask(self._map(name).size)), set_

        return self._counted(names)

    def watch(self, name: str, watcher: Watcher, key: str | None = None) -> Stop:
        """See Listening. The watcher is called on one thread of this grid; while it runs, no other one is told."""

        def watch() -> Stop:
            name_bytes(name)
            if key is not None:
                key_bytes(key)
            one = self._teller.add(name, key, watcher)
            return lambda: self._teller.remove(one)

        return self._counted(watch)

    def listen(self, name: str, key: str, listener: Listener) -> Stop:
        """See Listening; see watch."""
        return self.watch(name, values_only(listener), key)

    def reference(self, name: str) -> Reference:
        """See Grid."""
        return self._counted(lambda: HazelcastReference(self, self._cp_name(name, "reference")))

    def lock(self, name: str) -> Lock:
        """See Grid."""
        return self._counted(lambda: HazelcastLock(self, self._cp_name(name, "lock")))

    def health(self) -> Health:
        """See Grid."""
        started = time.perf_counter()
        nodes, latency_s = 0, math.inf
        with contextlib.suppress(GridError):
            self._ask(lambda: self._map(_PROBE).get(pack_key(_PROBE)))
            latency_s = time.perf_counter() - started
            nodes = max(1, len(self._link.members()))
            self._last_success_ns = system_clock_ns()
        teller = self._teller
        return Health(
            nodes, latency_s, self._last_success_ns, self._failures, teller.subscriptions.errors, teller.missed
        )

    def cluster(self) -> Cluster:
        """What a look at the cluster shows. Raises GridError when it is not reachable."""
        with contextlib.suppress(GridError):
            self._cp.group()
        return Cluster(
            self._link.members(),
            self._cp.unsafe,
            self._link.maps.state,
            self._link.cp.state,
            sum(near.hits for near in self._near.values()),
            sum(near.misses for near in self._near.values()),
            self.refused,
        )

    def close(self) -> None:
        """See Grid. When the cluster does not answer, its locks end with the session."""
        if self.closed:
            return
        for lock in tuple(self._held):
            with contextlib.suppress(GridError):
                lock.give_back()
        self.closed = True
        self._near = {}
        self._teller.close()
        self._link.close()

    def register(self, name: str, key: str | None, changed: EntryHandler, cleared: EntryHandler) -> str:
        """For the teller: have `changed` called with every entry event, `cleared` when a map was emptied at once."""
        one = self._map(name)
        return str(
            self._ask(
                lambda: one.add_entry_listener(
                    include_value=True,
                    key=None if key is None else pack_key(key),
                    added_func=changed,
                    updated_func=changed,
                    merged_func=changed,
                    loaded_func=changed,
                    removed_func=changed,
                    evicted_func=changed,
                    expired_func=changed,
                    clear_all_func=cleared,
                    evict_all_func=cleared,
                )
            )
        )

    def deregister(self, registration: str) -> None:
        """For the teller: end it, without waiting for an answer."""
        if registration and not self.closed:
            self._link.deregister(registration)

    def snapshot(self, name: str, key: str | None) -> Mapping[str, bytes]:
        """For the teller: what the map holds, or the one key."""
        one = self._map(name)
        if key is not None:
            value = self._open(name, key, self._ask(lambda: one.get(pack_key(key))))
            return {} if value is None else {key: value}
        found: dict[str, bytes] = {}
        for key_data, value_data in self._ask(one.entry_set):
            with contextlib.suppress(GridError):
                place, value = self._key(name, key_data), self._open(name, "…", value_data)
                if place is not None and value is not None:
                    found[place] = value
        return found

    def _get(self, name: str, key: str) -> bytes | None:
        name_bytes(name)
        key_bytes(key)
        one = self._map(name)
        near = self._near_of(name)
        if near is None:
            return self._open(name, key, self._ask(lambda: one.get(pack_key(key))))
        ticket = near.ask(key)
        try:
            value = self._open(name, key, self._ask(lambda: one.get(pack_key(key))))
        except GridError:
            near.drop(key)
            raise
        near.keep(key, value, ticket)
        return value

    def _near_of(self, name: str) -> NearCache | None:
        """The map's near cache, with the cluster's word on changes arranged for; None when it has none."""
        if not name.startswith(self._near_maps):
            return None
        with self._near_guard:
            near = self._near.get(name)
            if near is not None:
                return near
            turn, near = self._turn, NearCache()
            near.registration = self.register(name, None, lambda entry: self._drop(near, entry), lambda _: near.clear())
            if turn != self._turn:  # a connection came or went meanwhile: not every member may know of it
                self.deregister(near.registration)
                return None
            self._near[name] = near
            return near

    def _drop(self, near: NearCache, entry: Any) -> None:
        key = self._key("a near map", entry.key)
        if key is not None:
            near.drop(key)

    def _connections_changed(self) -> None:
        """A near cache ends with any connection that opens or closes, and the next get starts another."""
        self._turn += 1
        ended, self._near = self._near, {}
        self._maps = {}
        for near in ended.values():
            near.clear()
            self.deregister(near.registration)
        self._teller.unsettle()

    @contextlib.contextmanager
    def _changing(self, name: str, keys: Any) -> Any:
        """Around a write of ours: what is near of these keys is over, before and after."""
        near = self._near.get(name)
        if near is None:
            yield
            return
        for key in keys:
            near.drop(key)
        try:
            yield
        finally:
            for key in keys:
                near.drop(key)

    def _map(self, name: str) -> Any:
        """The library's handle of a map; the first use makes the map known to the cluster."""
        if self.closed:
            raise GridError(CLOSED)
        one = self._maps.get(name)
        if one is None:
            request = client_create_proxy_codec.encode_request(name, MAP_SERVICE)
            self._ask(lambda: self._link.invoke(request, lambda _: None))
            one = self._maps[name] = Map(MAP_SERVICE, name, self._link.client._context)
        return one

    def _ask(self, start: Callable[[], Any]) -> Any:
        return self._link.call(self._link.maps, start)

    def _open(self, name: str, key: str, data: Any) -> bytes | None:
        try:
            return unpack(data, f"{name}[{key!r}]")
        except GridError:
            self.refused += 1
            raise

    def _key(self, name: str, data: Any) -> str | None:
        try:
            return (unpack(data, f"{name}: a key") or b"").decode()
        except (GridError, UnicodeDecodeError):
            self.refused += 1
            return None

    def _cp_name(self, name: str, what: str) -> str:
        name_bytes(name, what)
        if self.closed:
            raise GridError(CLOSED)
        if "@" in name or name != name.strip():
            raise GridError(f"grid: name of a {what} is {name!r}; expected no @, nor a space at an end")
        return name

    def _count_refused(self) -> None:
        self.refused += 1

    def _counted[T](self, work: Callable[[], T], *, wrote: bool = False) -> T:
        try:
            if self.closed:
                raise GridError(CLOSED)
            result = work()
        except GridError:
            self._failures += 1
            raise
        if wrote:
            self._last_success_ns = system_clock_ns()
        return result
