"""One LMDB file as several processes share it: transactions with a bounded wait, and a feed of changes (SPEC §14).

Keys of the file:

    m NAME 0 KEY      a map's value                      r NAME    a reference's value
    t NAME            a lock's latest token              s BELL    JSON: the maps that this listener wants
    h                 the feed's head (`_HEAD`)          f SEQ     one change, of a map somebody listens to
    v                 the layout's version

A change, its place in the feed and the list of who must be woken are one transaction: whoever registered before it
committed is told, whoever registered after it read the new value or gets it from `get`. LMDB's commit is one page
written last, so a writer that is killed leaves the state before or after, never between.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import lmdb
import msgspec

from dolphin.core.errors import GridError
from dolphin.grid import environments
from dolphin.grid.bells import Ringer
from dolphin.grid.filelock import FairLock

T = TypeVar("T")

Write = Any
"""An LMDB transaction (the library carries no types)."""

LAYOUT = b"1"
FEED_EVENTS, FEED_BYTES = 8192, 16 << 20
"""What the feed holds at most; a listener that is further behind is told the latest values instead."""

_HEAD = struct.Struct(">QQQQ")  # bells' version, first and next sequence number, bytes held
_SEQ = struct.Struct(">Q")


class Store:
    """One grid's way to one file. Reads and writes from any thread; `timeout_s` bounds the wait for other writers."""

    def __init__(self, path: Path, bells: Path, *, synced: bool, size: int, timeout_s: float) -> None:
        self.path, self.timeout_s, self._bells_folder = path, timeout_s, bells
        self._thread_lock = threading.Lock()
        self._version = -1
        self._ringers: dict[str, Ringer] = {}
        self._wanted: dict[str, tuple[Ringer, ...]] = {}
        self._lock = FairLock(path.with_name(path.name + ".write"))
        try:
            self._env = environments.take(path, synced=synced, size=size)
        except GridError:
            self._lock.forget()
            raise
        try:
            self._env.reader_check()
            layout = self.write(lambda txn: txn.get(b"v") or (txn.put(b"v", LAYOUT), LAYOUT)[1])
            if layout != LAYOUT:
                raise GridError(f"grid: {path} has layout {layout!r}; this version reads {LAYOUT!r}: move it away")
        except GridError:
            self.close()
            raise

    def read(self, work: Callable[[Write], T]) -> T:
        """What `work` makes of one consistent state."""
        env = self._env
        try:
            with env.begin() as txn:
                return work(txn)
        except lmdb.ReadersFullError:
            env.reader_check()  # places of readers that were killed
        except lmdb.Error as error:
            raise self._error(error) from None
        try:
            with env.begin() as txn:
                return work(txn)
        except lmdb.Error as error:
            raise self._error(error) from None

    def get(self, key: bytes) -> bytes | None:
        """The value of one key."""
        return self.read(lambda txn: txn.get(key))  # type: ignore[no-any-return]

    def write(self, work: Callable[[Write], T]) -> T:
        """Run `work` in a transaction, alone among all processes; it is all done when this returns, or none of it.

        Raises GridError when others write for longer than `timeout_s`, or the file is full.
        """
        end = time.monotonic() + self.timeout_s
        if not self._thread_lock.acquire(timeout=self.timeout_s):
            raise self._busy()
        try:
            if not self._lock.acquire(end):
                raise self._busy()
            try:
                return self._transact(work)
            finally:
                self._lock.release()
        finally:
            self._thread_lock.release()

    def _transact(self, work: Callable[[Write], T]) -> T:
        env = self._env
        try:
            with env.begin(write=True) as txn:
                return work(txn)
        except lmdb.MapFullError:
            env.reader_check()  # one that was killed while reading keeps old pages from being used again
        except lmdb.Error as error:
            raise self._error(error) from None
        try:
            with env.begin(write=True) as txn:
                return work(txn)
        except lmdb.Error as error:
            raise self._error(error) from None

    def change(self, name: str, work: Callable[[Write, list[tuple[str, bytes | None]]], T]) -> T:
        """Run `work` in a transaction; what it appends to its second argument, key and new value, is a change of the
        map `name`: it goes to the feed, and its listeners are woken before this returns."""

        def published(txn: Write) -> tuple[T, tuple[Ringer, ...]]:
            changes: list[tuple[str, bytes | None]] = []
            result = work(txn, changes)
            return result, self._publish(txn, name, changes) if changes else ()

        result, ringers = self.write(published)
        dead = [one.name for one in ringers if not one.ring()]
        if dead:
            self.unsubscribe(*dead)
        return result

    def _publish(self, txn: Write, name: str, changes: list[tuple[str, bytes | None]]) -> tuple[Ringer, ...]:
        head = txn.get(b"h")
        if head is None:
            return ()
        version, first, following, held = _HEAD.unpack(head)
        if version != self._version:
            self._load(txn, version)
        ringers = self._wanted.get(name, ())
        if not ringers:
            return ()
        for key, value in changes:
            record = b"\0".join((name.encode(), key.encode(), b"-" if value is None else b"+" + value))
            txn.put(b"f" + _SEQ.pack(following), record)
            following += 1
            held += len(record)
        while following - first > FEED_EVENTS or held > FEED_BYTES:
            held -= len(txn.pop(b"f" + _SEQ.pack(first)))
            first += 1
        txn.put(b"h", _HEAD.pack(version, first, following, held))
        return ringers

    def _load(self, txn: Write, version: int) -> None:
        wanted: dict[str, list[Ringer]] = {}
        before, self._ringers = self._ringers, {}
        for bell, names in scan(txn, b"s"):
            ringer = before.pop(bell, None) or Ringer(self._bells_folder, bell)
            self._ringers[bell] = ringer
            for name in msgspec.json.decode(names, type=list[str]):
                wanted.setdefault(name, []).append(ringer)
        for gone in before.values():
            gone.close()
        self._wanted = {name: tuple(ringers) for name, ringers in wanted.items()}
        self._version = version

    def subscribe(self, bell: str, names: list[str]) -> int:
        """Have `bell` rung for changes of these maps; the sequence number from which on that holds."""

        def register(txn: Write) -> int:
            version, first, following, held = _HEAD.unpack(txn.get(b"h") or _HEAD.pack(0, 0, 0, 0))
            txn.put(b"s" + bell.encode(), msgspec.json.encode(names))
            txn.put(b"h", _HEAD.pack(version + 1, first, following, held))
            return int(following)

        return self.write(register)

    def unsubscribe(self, *bells: str) -> None:
        """Have these bells rung no more."""

        def remove(txn: Write) -> None:
            head = txn.get(b"h")
            if head is not None and any([txn.delete(b"s" + bell.encode()) for bell in bells]):
                version, *rest = _HEAD.unpack(head)
                txn.put(b"h", _HEAD.pack(version + 1, *rest))

        self.write(remove)

    def feed(self, start: int, limit: int = 1024) -> tuple[int, int, list[tuple[int, str, str, bytes | None]]]:
        """At most `limit` changes from sequence number `start` on: the first number still held, the one to go on from,
        and the changes, each with its number, map, key and value."""

        def read(txn: Write) -> tuple[int, int, list[tuple[int, str, str, bytes | None]]]:
            _, first, following, _ = _HEAD.unpack(txn.get(b"h") or _HEAD.pack(0, 0, 0, 0))
            begin = max(start, first)
            end = min(following, begin + limit)
            changes = []
            for number in range(begin, end):
                name, key, value = txn.get(b"f" + _SEQ.pack(number)).split(b"\0", 2)
                changes.append((number, name.decode(), key.decode(), value[1:] if value[:1] == b"+" else None))
            return first, max(start, end), changes

        return self.read(read)

    def state(self, names: list[str]) -> tuple[int, dict[str, dict[str, bytes]]]:
        """What these maps hold, and the sequence number of the first change after that."""

        def read(txn: Write) -> tuple[int, dict[str, dict[str, bytes]]]:
            _, _, following, _ = _HEAD.unpack(txn.get(b"h") or _HEAD.pack(0, 0, 0, 0))
            return following, {name: dict(scan(txn, b"m" + name.encode() + b"\0")) for name in names}

        return self.read(read)

    def forget(self) -> None:
        """What a forked child must do: let go of its copies, and write no more."""
        self._env = environments.GONE
        self._lock.forget()

    def close(self) -> None:
        """Close it, once the last write of another thread is done."""
        with self._thread_lock:
            self._env = environments.GONE
            environments.give_back(self.path)
            self._lock.forget()
            for ringer in self._ringers.values():
                ringer.close()
            self._ringers, self._wanted, self._version = {}, {}, -1

    def _busy(self) -> GridError:
        return GridError(f"grid: {self.path} was being written by others for {self.timeout_s:g} s; nothing was written")

    def _error(self, error: Exception) -> GridError:
        if isinstance(error, lmdb.MapFullError):
            return GridError(f"grid: {self.path} is full; delete keys, or open it with a larger size")
        return GridError(f"grid: {self.path} failed ({' '.join(str(error).split())}); nothing was written")


def scan(txn: Write, prefix: bytes) -> Iterator[tuple[str, bytes]]:
    """Every key that begins with `prefix`, without it, and its value, in order of bytes."""
    cursor = txn.cursor()
    there = cursor.set_range(prefix)
    while there and cursor.key().startswith(prefix):
        yield cursor.key()[len(prefix) :].decode(), cursor.value()
        there = cursor.next()


def keys_of(txn: Write, prefix: bytes) -> list[str]:
    """Every key that begins with `prefix`, without it, in order of bytes; values are not touched."""
    cursor = txn.cursor()
    found: list[str] = []
    there = cursor.set_range(prefix)
    while there and cursor.key().startswith(prefix):
        found.append(cursor.key()[len(prefix) :].decode())
        there = cursor.next()
    return found
