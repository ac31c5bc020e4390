"""A grid in this process: for runs that share nothing, and for tests (SPEC §14)."""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

from dolphin.core.clock import system_clock_ns
from dolphin.core.errors import GridError
from dolphin.grid.checks import CLOSED, check_put, check_value, key_bytes, name_bytes
from dolphin.grid.listeners import Subscription, Subscriptions, values_only
from dolphin.grid.port import Event, Health, Listener, Stop, Watcher

UNREACHABLE = "grid: not reachable; start it, or go on without"


def _counted[**P, R](method: Callable[P, R]) -> Callable[P, R]:
    """The method of a grid, or of a part that has one, with its failures counted."""

    @functools.wraps(method)
    def counted(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(*args, **kwargs)
        except GridError:
            first: Any = args[0]
            getattr(first, "_grid", first)._failures += 1
            raise

    return counted


class MemoryGrid:
    """A `Grid` in this process. `fail` makes every call raise; `values` is what the maps hold.

    Listeners are called on the thread that writes, before its call returns, unless another thread is telling just then,
    which then tells this event too.
    """

    def __init__(self) -> None:
        self.values: dict[tuple[str, str], bytes] = {}
        self.fail = False
        self.references: dict[str, bytes] = {}
        self._guard = threading.RLock()
        self._subscriptions = Subscriptions()
        self._events: deque[Event] = deque()
        self._telling = False
        self._sequence = 0
        self._locks: dict[str, _Holder] = {}
        self._closed = False
        self._failures, self._last_success_ns = 0, 0

    @property
    def listeners(self) -> int:
        """How many are listening."""
        return len(self._subscriptions)

    @_counted
    def get(self, name: str, key: str) -> bytes | None:
        """See Maps."""
        self._check()
        name_bytes(name)
        key_bytes(key)
        return self.values.get((name, key))

    def put(self, name: str, key: str, value: bytes) -> None:
        """See Maps."""
        self.put_many(name, {key: value})

    @_counted
    def put_many(self, name: str, values: Mapping[str, bytes]) -> None:
        """See Maps; all or none."""
        self._check()
        check_put(name, values)
        with self._guard:
            for key, value in values.items():
                self._set(name, key, value)
        self._tell()

    @_counted
    def put_if_absent(self, name: str, key: str, value: bytes) -> bytes | None:
        """See Maps."""
        self._check()
        check_put(name, {key: value})
        with self._guard:
            held = self.values.get((name, key))
            if held is None:
                self._set(name, key, value)
        self._tell()
        return held

    @_counted
    def replace_if_same(self, name: str, key: str, expected: bytes, value: bytes) -> bool:
        """See Maps."""
        self._check()
        check_put(name, {key: value})
        check_value(f"{name}[{key!r}]", expected)
        with self._guard:
            same = self.values.get((name, key)) == expected
            if same:
                self._set(name, key, value)
        self._tell()
        return same

    @_counted
    def delete(self, name: str, key: str) -> bool:
        """See Maps."""
        self._check()
        name_bytes(name)
        key_bytes(key)
        with self._guard:
            there = (name, key) in self.values
            if there:
                self._set(name, key, None)
        self._tell()
        return there

    @_counted
    def keys(self, name: str) -> list[str]:
        """See Maps."""
        self._check()
        name_bytes(name)
        with self._guard:
            return sorted(key for held, key in self.values if held == name)

    @_counted
    def watch(self, name: str, watcher: Watcher, key: str | None = None) -> Stop:
        """See Listening."""
        self._check()
        name_bytes(name)
        if key is not None:
            key_bytes(key)
        with self._guard:
            one = Subscription(name, key, watcher, self._sequence)
            self._subscriptions.add(one)
        return lambda: (self._subscriptions.remove(one), None)[1]

    def listen(self, name: str, key: str, listener: Listener) -> Stop:
        """See Listening."""
        return self.watch(name, values_only(listener), key)

    @_counted
    def reference(self, name: str) -> MemoryReference:
        """See Grid."""
        self._check()
        name_bytes(name, "reference")
        return MemoryReference(self, name)

    @_counted
    def lock(self, name: str) -> MemoryLock:
        """See Grid."""
        self._check()
        name_bytes(name, "lock")
        with self._guard:
            return MemoryLock(self, self._locks.setdefault(name, _Holder()), name)

    def health(self) -> Health:
        """See Grid."""
        started = time.perf_counter()
        try:
            self._check()
        except GridError:
            up, latency_s = 0, math.inf
        else:
            up, latency_s = 1, time.perf_counter() - started
            self._last_success_ns = system_clock_ns()
        return Health(up, latency_s, self._last_success_ns, self._failures, self._subscriptions.errors, 0)

    def close(self) -> None:
        """See Grid."""
        with self._guard:
            self._closed = True
            self._subscriptions.clear()
            for holder in self._locks.values():
                holder.token = 0

    def _set(self, name: str, key: str, value: bytes | None) -> None:
        if value is None:
            del self.values[name, key]
        else:
            self.values[name, key] = value
        if self._subscriptions.of(name):
            self._events.append(Event(name, key, value, self._sequence))
        self._sequence += 1
        self._last_success_ns = system_clock_ns()

    def _tell(self) -> None:
        # One thread tells at a time, so that nobody is told two changes in the wrong order; a listener that writes
        # only adds to the queue.
        with self._guard:
            if self._telling:
                return
            self._telling = True
        try:
            while event := self._next():
                self._subscriptions.tell(event)
        except BaseException:  # an interrupt: the next write goes on telling
            self._telling = False
            raise

    def _next(self) -> Event | None:
        with self._guard:
            if self._events:
                return self._events.popleft()
            self._telling = False
            return None

    def _check(self) -> None:
        if self._closed or self.fail:
            raise GridError(CLOSED if self._closed else UNREACHABLE)


class MemoryReference:
    """A `Reference` of a `MemoryGrid`."""

    def __init__(self, grid: MemoryGrid, name: str) -> None:
        self._grid, self._name = grid, name

    @_counted
    def get(self) -> bytes | None:
        """See Reference."""
        self._grid._check()
        return self._grid.references.get(self._name)

    @_counted
    def set(self, value: bytes) -> None:
        """See Reference."""
        self._grid._check()
        check_value(f"reference {self._name}", value)
        with self._grid._guard:
            self._grid.references[self._name] = value

    @_counted
    def compare_and_set(self, expected: bytes | None, value: bytes) -> bool:
        """See Reference."""
        self._grid._check()
        check_value(f"reference {self._name}", value)
        if expected is not None:
            check_value(f"reference {self._name}", expected)
        with self._grid._guard:
            same = self._grid.references.get(self._name) == expected
            if same:
                self._grid.references[self._name] = value
        return same


class _Holder:
    """Who holds a lock: a token, 0 for nobody."""

    def __init__(self) -> None:
        self.tokens = count(1)
        self.token = 0


class MemoryLock:
    """A `Lock` of a `MemoryGrid`."""

    def __init__(self, grid: MemoryGrid, holder: _Holder, name: str) -> None:
        self._grid, self._holder, self._name = grid, holder, name
        self._token = 0

    @_counted
    def acquire(self, timeout_s: float = 0.0) -> int:
        """See Lock."""
        end = time.monotonic() + timeout_s
        while True:
            self._grid._check()
            with self._grid._guard:
                if not self._holder.token:
                    self._token = self._holder.token = next(self._holder.tokens)
                    return self._token
            left = end - time.monotonic()
            if left <= 0.0:
                return 0
            time.sleep(min(left, 0.001))

    @_counted
    def release(self, token: int) -> None:
        """See Lock."""
        self._grid._check()
        with self._grid._guard:
            if not token or token != self._token or token != self._holder.token:
                raise GridError(f"grid: lock {self._name} is not held with token {token}; it was released or lost")
            self._token = self._holder.token = 0
