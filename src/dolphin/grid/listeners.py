"""Who is told what, and a listener's failure kept to itself."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from dolphin.grid.port import Event, Listener, Watcher


@dataclass(frozen=True, eq=False, slots=True)
class Subscription:
    """One listener: of one key of a map, or of all, from sequence number `start` on."""

    name: str
    key: str | None
    watcher: Watcher
    start: int

    def wants(self, event: Event) -> bool:
        """Whether the event is for this one."""
        return (self.key is None or self.key == event.key) and event.sequence >= self.start


class Subscriptions:
    """All listeners of one grid, by map. Any thread may add, remove and tell."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._by_name: dict[str, tuple[Subscription, ...]] = {}
        self._errors = itertools.count()
        self.errors = 0

    def __len__(self) -> int:
        """How many there are."""
        return sum(len(each) for each in self._by_name.values())

    def names(self) -> list[str]:
        """The maps that somebody listens to, sorted."""
        return sorted(self._by_name)

    def of(self, name: str) -> Sequence[Subscription]:
        """The listeners of a map, in order of registration."""
        return self._by_name.get(name, ())

    def add(self, one: Subscription) -> None:
        """Tell it from now on."""
        with self._lock:
            self._by_name[one.name] = (*self._by_name.get(one.name, ()), one)

    def remove(self, one: Subscription) -> bool:
        """Tell it no more; false when it was removed before."""
        with self._lock:
            before = self._by_name.get(one.name, ())
            left = tuple(each for each in before if each is not one)
            if left:
                self._by_name[one.name] = left
            else:
                self._by_name.pop(one.name, None)
            return len(left) < len(before)

    def clear(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            self._by_name = {}

    def tell(self, event: Event) -> None:
        """Call whoever wants the event. What a listener raises is counted, and the next one is called."""
        for one in self._by_name.get(event.name, ()):
            if one.wants(event):
                self.call(one, event)

    def call(self, one: Subscription, event: Event) -> None:
        """Call one listener, whether it wants the event or not; what it raises is counted."""
        try:
            one.watcher(event)
        except Exception:  # whatever a listener does wrong must not stop the others
            self.errors = next(self._errors) + 1


def values_only(listener: Listener) -> Watcher:
    """A watcher that calls `listener` with new values."""

    def watcher(event: Event) -> None:
        if event.value is not None:
            listener(event.value)

    return watcher
