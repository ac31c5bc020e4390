"""What every grid does, whoever keeps it: maps, listeners, atomic references, fenced locks, health (SPEC §14).

Values are bytes; `schemas` says what they hold. Every method may raise GridError, in one line, and nothing else. A call
waits for other processes for at most the grid's `timeout_s`, a lock for as long as it is told; a disk that a durable
map is synced to takes the time it takes. Who cannot wait at all puts through a `PutQueue`.

What is promised of every implementation, and what is not, is written in docs/grid.md and proven by one test suite.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from dolphin.core.errors import GridError

MAX_VALUE = 1 << 20
"""Bytes of the largest value."""

MAX_NAME, MAX_KEY = 100, 200
"""Bytes, in UTF-8, of the longest name of a map, reference or lock, and of the longest key."""


class Event(NamedTuple):
    """One change of one key: its new value, None when it was deleted. `sequence` grows from event to event of a map."""

    name: str
    key: str
    value: bytes | None
    sequence: int


class Health(NamedTuple):
    """How the grid is. `nodes` members answer, 0 when it is not reachable; `latency_s` is what one read took just now,
    infinite when it failed. `last_success_ns` is when a write or a look at the health last worked, 0 for never. Counted
    since the start: `failures` of calls, `listener_errors` of listeners that raised, `missed` events of a listener that
    was too slow and was told the latest values instead."""

    nodes: int
    latency_s: float
    last_success_ns: int
    failures: int
    listener_errors: int
    missed: int


Watcher = Callable[[Event], object]
"""Called with every change; on any thread, so it hands over and returns."""

Listener = Callable[[bytes], object]
"""Called with every new value of one key; on any thread, so it hands over and returns."""

Stop = Callable[[], None]
"""Ends what it was returned for; a second call does nothing."""


class Maps(Protocol):
    """Named maps from text to bytes. A map is there as soon as it is named."""

    def get(self, name: str, key: str) -> bytes | None:
        """The value of `key` in the map `name`; None when there is none."""

    def put(self, name: str, key: str, value: bytes) -> None:
        """Set it. When this returns, every process gets the new value."""

    def put_many(self, name: str, values: Mapping[str, bytes]) -> None:
        """Set several, at less cost than one by one; when it raises, some may be set, each of them whole."""

    def put_if_absent(self, name: str, key: str, value: bytes) -> bytes | None:
        """Set it if there is none, and return None; else return the value that is there."""

    def replace_if_same(self, name: str, key: str, expected: bytes, value: bytes) -> bool:
        """Set it if it is `expected` now; true when it was."""

    def delete(self, name: str, key: str) -> bool:
        """Remove it; true when it was there."""

    def keys(self, name: str) -> list[str]:
        """Every key of the map, sorted."""


class Listening(Protocol):
    """Being told. Changes of one key are told in the order of the writes, each of them once; a listener that raises is
    counted and told the next one."""

    def watch(self, name: str, watcher: Watcher, key: str | None = None) -> Stop:
        """Have `watcher` called with every change, from now on, of `key`, or of every key when it is None."""

    def listen(self, name: str, key: str, listener: Listener) -> Stop:
        """Have `listener` called with every new value of `key`; deletions are not told."""


class Reference(Protocol):
    """One value that all processes agree on (Hazelcast's AtomicReference)."""

    def get(self) -> bytes | None:
        """The value; None when none was set."""

    def set(self, value: bytes) -> None:
        """Set it."""

    def compare_and_set(self, expected: bytes | None, value: bytes) -> bool:
        """Set it if it is `expected` now, None meaning unset; true when it was."""


class Lock(Protocol):
    """Mutual exclusion among all processes (Hazelcast's FencedLock), not reentrant, freed when its holder dies."""

    def acquire(self, timeout_s: float = 0.0) -> int:
        """Wait for it for up to `timeout_s`; the token, greater than every one before it, or 0 when it was not free."""

    def release(self, token: int) -> None:
        """Give it back. Raises GridError when `token` does not hold it."""


class Grid(Maps, Listening, Protocol):
    """All of it."""

    def reference(self, name: str) -> Reference:
        """The atomic reference of that name; it has nothing to do with a map of the same name."""

    def lock(self, name: str) -> Lock:
        """A handle of the lock of that name; every handle competes with every other."""

    def health(self) -> Health:
        """How the grid is now; never raises."""

    def close(self) -> None:
        """Stop listening and give locks back; every call after it raises GridError, another close does nothing."""


@contextlib.contextmanager
def held(lock: Lock, timeout_s: float, what: str) -> Iterator[int]:
    """Hold `lock` for a block, which gets the token; GridError, naming `what` is locked, when it was not free in time.

    Whoever writes under a lock writes the token along, so that a reader can refuse a writer that came too late.
    """
    token = lock.acquire(timeout_s)
    if not token:
        raise GridError(f"grid: lock of {what} still held by another after {timeout_s:g} s; nothing was written")
    try:
        yield token
    finally:
        lock.release(token)
