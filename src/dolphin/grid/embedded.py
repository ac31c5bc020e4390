"""The embedded grid: shared by all processes of one machine, with nothing to install or start (SPEC §14).

A folder holds it. `durable.mdb` keeps what must outlive a power cut: every commit is synced before its call returns.
`fast-….mdb` keeps the maps that are written anew all the time; its writes survive the death of any process, but not of
the machine, so its name carries the boot it belongs to and the next boot starts an empty one. Reads and writes go
straight to the files; docs/grid.md has the promises and the measurements, decision 0047 says why LMDB.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path

from dolphin.core.clock import system_clock_ns
from dolphin.core.errors import GridError
from dolphin.grid import environments
from dolphin.grid.bells import dead_bells
from dolphin.grid.checks import CLOSED, check_put, check_value, key_bytes, name_bytes
from dolphin.grid.embeddedlock import EmbeddedLock
from dolphin.grid.listeners import Subscription, values_only
from dolphin.grid.port import Health, Listener, Lock, Stop, Watcher
from dolphin.grid.store import Store, Write, keys_of
from dolphin.grid.teller import Teller

DURABLE_BYTES, FAST_BYTES = 1 << 30, 1 << 30
"""What the files may grow to."""

FAST_MAPS = ("DOLPHIN_FEATURES", "DOLPHIN_FEATURES_SHARD_*", "DOLPHIN_HEARTBEAT", "DOLPHIN_OB", "DOLPHIN_SIGNALS")
"""Maps that need not outlive a power cut; a `*` stands for any ending. Every other map is durable."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class EmbeddedGrid:
    """A `Grid` in the folder `root`, which is made if need be.

    `timeout_s` bounds the wait for other writers. `fast_maps` must be the same for all who open the folder; the default
    is. A process that forks opens its grids afterwards: in the child, those of its parent are closed.

    Raises GridError when the folder cannot be used.
    """

    def __init__(
        self,
        root: Path,
        *,
        timeout_s: float = 1.0,
        fast_maps: tuple[str, ...] = FAST_MAPS,
        durable_bytes: int = DURABLE_BYTES,
        fast_bytes: int = FAST_BYTES,
    ) -> None:
        if not 0.0 < timeout_s < math.inf:
            raise GridError(f"grid: timeout of {timeout_s} s; expected a number above 0")
        self.root, self.timeout_s = root, timeout_s
        self._fast_names = frozenset(name for name in fast_maps if not name.endswith("*"))
        self._fast_starts = tuple(name[:-1] for name in fast_maps if name.endswith("*"))
        self._routes: dict[str, Store] = {}
        self._held: set[EmbeddedLock] = set()
        self._closing, self._closed = threading.Lock(), False
        self._failures, self._last_success_ns = 0, 0
        bells = root / "listeners"
        boot = _boot()
        fast = root / f"fast-{boot or 'synced'}.mdb"
        try:
            for folder in (root, bells, root / "locks"):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in root.glob("fast-*.mdb*"):  # of an earlier boot: nobody has it open
                if not path.name.startswith(fast.name):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise GridError(f"grid: folder {root} cannot be used ({error.strerror}); check its rights") from None
        self._durable = Store(root / "durable.mdb", bells, synced=True, size=durable_bytes, timeout_s=timeout_s)
        try:
            self._fast = Store(fast, bells, synced=not boot, size=fast_bytes, timeout_s=timeout_s)
        except GridError:
            self._durable.close()
            raise
        self._stores = (self._durable, self._fast)
        self._teller = Teller(bells)
        _open_grids.add(self)
        with contextlib.suppress(GridError, OSError):  # the dead cost a system call a write, no more
            if dead := list(dead_bells(bells)):
                for store in self._stores:
                    store.unsubscribe(*dead)

    def get(self, name: str, key: str) -> bytes | None:
        """See Maps."""
        return self._call(lambda: self._store(name).get(_map_key(name, key)))

    def put(self, name: str, key: str, value: bytes) -> None:
        """See Maps."""
        self.put_many(name, {key: value})

    def put_many(self, name: str, values: Mapping[str, bytes]) -> None:
        """See Maps; all or none, in one transaction."""

        def put() -> None:
            check_put(name, values)

            def work(txn: Write, changes: list[tuple[str, bytes | None]]) -> None:
                for key, value in values.items():
                    txn.put(_map_key(name, key), value)
                    changes.append((key, value))

            self._store(name).change(name, work)

        self._write(put)

    def put_if_absent(self, name: str, key: str, value: bytes) -> bytes | None:
        """See Maps."""

        def put() -> bytes | None:
            check_put(name, {key: value})

            def work(txn: Write, changes: list[tuple[str, bytes | None]]) -> bytes | None:
                held: bytes | None = txn.get(_map_key(name, key))
                if held is None:
                    txn.put(_map_key(name, key), value)
                    changes.append((key, value))
                return held

            return self._store(name).change(name, work)

        return self._write(put)

    def replace_if_same(self, name: str, key: str, expected: bytes, value: bytes) -> bool:
        """See Maps."""

        def replace() -> bool:
            check_put(name, {key: value})
            check_value(f"{name}[{key!r}]", expected)

            def work(txn: Write, changes: list[tuple[str, bytes | None]]) -> bool:
                same: bool = txn.get(_map_key(name, key)) == expected
                if same:
                    txn.put(_map_key(name, key), value)
                    changes.append((key, value))
                return same

            return self._store(name).change(name, work)

        return self._write(replace)

    def delete(self, name: str, key: str) -> bool:
        """See Maps."""

        def delete() -> bool:
            def work(txn: Write, changes: list[tuple[str, bytes | None]]) -> bool:
                there: bool = txn.delete(_map_key(name, key))
                if there:
                    changes.append((key, None))
                return there

            return self._store(name).change(name, work)

        return self._write(delete)

    def keys(self, name: str) -> list[str]:
        """See Maps."""
        prefix = b"m" + name_bytes(name) + b"\0"
        return self._call(lambda: sorted(self._store(name).read(lambda txn: keys_of(txn, prefix))))

    def names(self) -> tuple[list[str], list[str]]:
        """The maps that hold anything and the references that are set, sorted: for tools that look at all there is."""

        def names() -> tuple[list[str], list[str]]:
            maps = {key.partition("\0")[0] for store in self._stores for key in store.read(lambda t: keys_of(t, b"m"))}
            return sorted(maps), sorted(self._durable.read(lambda txn: keys_of(txn, b"r")))

        return self._call(names)

    def watch(self, name: str, watcher: Watcher, key: str | None = None) -> Stop:
        """See Listening. The watcher is called on one thread of this grid; while it runs, no other one is told."""
        name_bytes(name)
        if key is not None:
            key_bytes(key)
        one = self._call(lambda: self._teller.add(self._store(name), name, key, watcher))
        return lambda: self._stop(one)

    def listen(self, name: str, key: str, listener: Listener) -> Stop:
        """See Listening; see watch."""
        return self.watch(name, values_only(listener), key)

    def reference(self, name: str) -> EmbeddedReference:
        """See Grid. References are durable."""
        return self._call(lambda: EmbeddedReference(self, name))

    def lock(self, name: str) -> Lock:
        """See Grid. A lock is its holder's until it is released or the process is dead; it never times out."""

        return self._call(lambda: _Lock(self, EmbeddedLock(self.root / "locks", self._durable, name, self._held)))

    def health(self) -> Health:
        """See Grid."""
        started = time.perf_counter()
        try:
            self._check()
            for store in self._stores:
                store.get(b"v")
        except GridError:
            up, latency_s = 0, math.inf
        else:
            up, latency_s = 1, time.perf_counter() - started
            self._last_success_ns = system_clock_ns()
        teller = self._teller
        return Health(up, latency_s, self._last_success_ns, self._failures, teller.subscriptions.errors, teller.missed)

    def close(self) -> None:
        """See Grid."""
        with self._closing:
            if self._closed:
                return
            self._closed = True
        _open_grids.discard(self)
        for lock in tuple(self._held):
            lock.let_go()
        self._teller.close()
        for store in self._stores:
            store.close()

    def forget(self) -> None:
        """In a forked child: closed, with the parent's locks, listeners and files left alone."""
        self._closed = True
        self._teller.forget()
        for lock in self._held:
            lock.forget()
        for store in self._stores:
            store.forget()

    def _store(self, name: str) -> Store:
        store = self._routes.get(name)
        if store is None:
            name_bytes(name)
            fast = name in self._fast_names or name.startswith(self._fast_starts)
            store = self._routes[name] = self._fast if fast else self._durable
        return store

    def _stop(self, one: Subscription) -> None:
        if not self._closed:
            self._call(lambda: self._teller.remove(one))

    def _check(self) -> None:
        if self._closed:
            raise GridError(CLOSED)

    def _call[T](self, work: Callable[[], T]) -> T:
        try:
            self._check()
            return work()
        except GridError:
            self._failures += 1
            raise

    def _write[T](self, work: Callable[[], T]) -> T:
        result = self._call(work)
        self._last_success_ns = system_clock_ns()
        return result


class EmbeddedReference:
    """A `Reference` of an `EmbeddedGrid`."""

    def __init__(self, grid: EmbeddedGrid, name: str) -> None:
        self._grid, self._where = grid, f"reference {name}"
        self._key = b"r" + name_bytes(name, "reference")

    def get(self) -> bytes | None:
        """See Reference."""
        return self._grid._call(lambda: self._grid._durable.get(self._key))

    def set(self, value: bytes) -> None:
        """See Reference."""

        def set_it() -> None:
            check_value(self._where, value)
            self._grid._durable.write(lambda txn: txn.put(self._key, value))

        self._grid._write(set_it)

    def compare_and_set(self, expected: bytes | None, value: bytes) -> bool:
        """See Reference."""

        def compare() -> bool:
            check_value(self._where, value)
            if expected is not None:
                check_value(self._where, expected)
            return self._grid._durable.write(
                lambda txn: txn.get(self._key) == expected and bool(txn.put(self._key, value))
            )

        return self._grid._write(compare)


class _Lock:
    """A lock whose grid counts its failures and ends it."""

    def __init__(self, grid: EmbeddedGrid, lock: EmbeddedLock) -> None:
        self._grid, self._lock = grid, lock

    def acquire(self, timeout_s: float = 0.0) -> int:
        return self._grid._call(lambda: self._lock.acquire(timeout_s))

    def release(self, token: int) -> None:
        self._grid._call(lambda: self._lock.release(token))


def _map_key(name: str, key: str) -> bytes:
    return b"m" + name_bytes(name) + b"\0" + key_bytes(key)


def _boot() -> str:
    """This boot's identity; "" where the system has none, and then the fast maps are synced like the others."""
    try:
        return _BOOT_ID.read_text(encoding="ascii").strip()[:8]
    except OSError:
        return ""


_open_grids: weakref.WeakSet[EmbeddedGrid] = weakref.WeakSet()


def _after_fork() -> None:
    for grid in tuple(_open_grids):
        grid.forget()
    _open_grids.clear()
    environments.forget()


os.register_at_fork(after_in_child=_after_fork)
