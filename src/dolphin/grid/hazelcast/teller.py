"""Listeners of a cluster's maps: each change once and in order while the connections hold, the latest after a break.

Every watch has a registration of its own with the cluster, so that it is told what comes after it and nothing before.
A change arrives on the library's thread, which only puts it into a queue; one thread of this grid's tells. When a
connection opens or closes, changes may have been missed: every watch registers anew, reads what is there now, and is
told what differs from the last it heard of.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from dolphin.core.errors import GridError
from dolphin.grid.hazelcast.wire import unpack
from dolphin.grid.listeners import Subscription, Subscriptions
from dolphin.grid.port import Event, Watcher

QUEUED = 4096
"""Changes that wait for one listener; then only the latest of each key is told, and `missed` counts the others."""

_AGAIN_S = 0.5
_JOIN_S = 2.0

EntryHandler = Callable[[Any], None]


class Source(Protocol):
    """What the teller asks of the grid."""

    def register(self, name: str, key: str | None, changed: EntryHandler, cleared: EntryHandler) -> str:
        """Have `changed` called with every entry event from now on; an identity for `deregister`."""

    def deregister(self, registration: str) -> None:
        """End it; does not wait and does not raise."""

    def snapshot(self, name: str, key: str | None) -> Mapping[str, bytes]:
        """What is there now."""


class Watch:
    """One listener and what it is yet to be told."""

    def __init__(self, one: Subscription) -> None:
        self.one = one
        self.turn = 0
        self.registration = ""
        self.queue: deque[Event] = deque()
        self.known: dict[str, bytes | None] = {}
        self.unsure = False
        self.stopped = False


class Teller:
    """Listeners of one grid. `missed` counts changes that were not told one by one."""

    def __init__(self, source: Source, refused: Callable[[], object]) -> None:
        self.subscriptions = Subscriptions()
        self.missed = 0
        self._source, self._refused = source, refused
        self._condition = threading.Condition(threading.Lock())
        self._watches: list[Watch] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, name: str, key: str | None, watcher: Watcher) -> Watch:
        """Have it told every change from now on."""
        watch = Watch(Subscription(name, key, watcher, 0))
        self._register(watch)
        with self._condition:
            if self._stopped:
                watch.stopped = True
                return watch
            self.subscriptions.add(watch.one)
            self._watches.append(watch)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="grid-teller", daemon=True)
                self._thread.start()
            self._condition.notify_all()
        return watch

    def remove(self, watch: Watch) -> None:
        """Tell it no more."""
        with self._condition:
            if watch.stopped:
                return
            watch.stopped = True
            self._watches.remove(watch)
            self.subscriptions.remove(watch.one)
        self._source.deregister(watch.registration)

    def unsettle(self) -> None:
        """Changes may have been missed; called on a thread that must not wait."""
        with self._condition:
            for watch in self._watches:
                watch.unsure = True
            self._condition.notify_all()

    def close(self) -> None:
        """End the thread, and wait for the listener it is calling just now."""
        with self._condition:
            self._stopped = True
            for watch in self._watches:
                watch.stopped = True
            self._watches = []
            self.subscriptions.clear()
            self._condition.notify_all()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)

    def _register(self, watch: Watch) -> None:
        turn = watch.turn = watch.turn + 1
        name, key = watch.one.name, watch.one.key

        def changed(entry: Any) -> None:
            self._arrived(watch, turn, entry)

        def cleared(_: Any) -> None:
            with self._condition:
                watch.unsure = True
                self._condition.notify_all()

        watch.registration = self._source.register(name, key, changed, cleared)

    def _arrived(self, watch: Watch, turn: int, entry: Any) -> None:
        name = watch.one.name
        try:
            key = unpack(entry.key, f"{name}: a key")
            value = unpack(entry.value, f"{name}: a change")
            place = (key or b"").decode()
        except (GridError, UnicodeDecodeError):
            self._refused()
            return
        with self._condition:
            if turn == watch.turn and not watch.stopped:
                self._queue(watch, place, value)
                self._condition.notify_all()

    def _queue(self, watch: Watch, key: str, value: bytes | None) -> None:
        if len(watch.queue) >= QUEUED:
            latest = {event.key: event for event in watch.queue}
            kept = deque(sorted(latest.values(), key=lambda event: event.sequence), maxlen=QUEUED // 2)
            self.missed += len(watch.queue) - len(kept)
            watch.queue = deque(kept)
        watch.known[key] = value
        watch.queue.append(Event(watch.one.name, key, value, next(self._numbers)))

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._stopped and not any(watch.queue or watch.unsure for watch in self._watches):
                    self._condition.wait()
                if self._stopped:
                    return
                unsure = [watch for watch in self._watches if watch.unsure]
                ready = [(watch, watch.queue.popleft()) for watch in self._watches if watch.queue]
            ready.sort(key=lambda pair: pair[1].sequence)
            for watch, event in ready:
                if not watch.stopped:
                    self.subscriptions.call(watch.one, event)
            if unsure and not self._catch_up(unsure) and not ready:
                with self._condition:
                    self._condition.wait(_AGAIN_S)  # the cluster is away

    def _catch_up(self, unsure: list[Watch]) -> bool:
        """Register anew and queue what changed meanwhile; False when the cluster did not answer."""
        for watch in unsure:
            old = watch.registration
            watch.unsure = False
            try:
                self._register(watch)
                now = self._source.snapshot(watch.one.name, watch.one.key)
            except GridError:
                watch.unsure = True
                return False
            finally:
                if watch.registration != old:
                    self._source.deregister(old)
            if watch.stopped:
                self._source.deregister(watch.registration)
                continue
            with self._condition:
                # A key that is in the queue is told by its changes, which are as new as what was read, or newer.
                told = {event.key for event in watch.queue}
                gone = [key for key, value in watch.known.items() if value is not None and key not in now]
                for key, value in [*now.items(), *((key, None) for key in gone)]:
                    if key not in told and watch.known.get(key) != value:
                        self.missed += 1
                        self._queue(watch, key, value)
        return True
