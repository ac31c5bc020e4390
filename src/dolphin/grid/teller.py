"""The one thread of an embedded grid that tells its listeners what changed."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

from dolphin.core.errors import GridError
from dolphin.grid.bells import Bell
from dolphin.grid.listeners import Subscription, Subscriptions
from dolphin.grid.port import Event, Watcher
from dolphin.grid.store import Store

LOOK_ANYWAY_S = 0.5
"""How often the feed is looked at though nothing rang: a writer may be killed between its commit and its ring."""

_JOIN_S = 2.0


class Teller:
    """Listeners of one grid. The thread starts with the first of them and sleeps until a change wakes it.

    `missed` counts changes that had left a feed before this process came to read them: their listeners were told the
    latest values instead, each as a change, deletions left out.
    """

    def __init__(self, folder: Path) -> None:
        self.subscriptions = Subscriptions()
        self.missed = 0
        self._folder = folder
        # Held for registering and for reading the feeds, so that no change is read before its listener is known; never
        # while listeners are called.
        self._guard = threading.Lock()
        self._places: dict[Store, int] = {}
        self._maps: dict[Store, set[str]] = {}
        self._bell: Bell | None = None
        self._thread: threading.Thread | None = None
        self._stopped = False

    def add(self, store: Store, name: str, key: str | None, watcher: Watcher) -> Subscription:
        """Have it told every change of the map `name` of `store` from now on."""
        with self._guard:
            if self._bell is None:
                self._bell = Bell(self._folder)
            names = self._maps.setdefault(store, set())
            start = store.subscribe(self._bell.name, sorted({*names, name}))
            names.add(name)
            self._places.setdefault(store, start)
            one = Subscription(name, key, watcher, start)
            self.subscriptions.add(one)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, args=(self._bell,), name="grid-teller", daemon=True)
                self._thread.start()
        return one

    def remove(self, one: Subscription) -> None:
        """Tell it no more."""
        with self._guard:
            if not self.subscriptions.remove(one) or self.subscriptions.of(one.name) or self._bell is None:
                return
            for store, names in self._maps.items():
                if one.name in names:
                    names.discard(one.name)
                    if names:
                        store.subscribe(self._bell.name, sorted(names))
                    else:
                        store.unsubscribe(self._bell.name)
                        del self._places[store]

    def close(self) -> None:
        """End the thread, and wait for the listener it is calling just now."""
        self._stopped = True
        self.subscriptions.clear()
        if self._bell is None:
            return
        self._bell.ring()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_JOIN_S)
        with self._guard:
            for store in self._places:
                with contextlib.suppress(GridError):  # what cannot be taken back is found dead by the next writer
                    store.unsubscribe(self._bell.name)
            self._places = {}

    def forget(self) -> None:
        """In a forked child: the thread is not here, and the bell is the parent's."""
        self.subscriptions.clear()
        if self._bell is not None:
            self._bell.forget()
            self._bell = None

    def _run(self, bell: Bell) -> None:
        try:
            while not self._stopped:
                bell.wait(LOOK_ANYWAY_S)
                while not self._stopped and self._tell_some():
                    pass
        finally:
            bell.close()

    def _tell_some(self) -> bool:
        """Tell what the feeds hold, up to a bound; whether there may be more."""
        events: list[Event] = []
        late: list[tuple[Subscription, Event]] = []
        with self._guard:
            for store, place in self._places.items():
                try:
                    first, following, changes = store.feed(place)
                    if first > place:
                        self.missed += first - place
                        following = self._latest(store, late)
                        changes = []
                except GridError:
                    continue  # looked at again soon; whoever uses the grid is told what is wrong with it
                self._places[store] = following
                events += [Event(name, key, value, number) for number, name, key, value in changes]
        for one, event in late:
            self.subscriptions.call(one, event)
        for event in events:
            if self._stopped:
                return False
            self.subscriptions.tell(event)
        return bool(events or late)

    def _latest(self, store: Store, late: list[tuple[Subscription, Event]]) -> int:
        following, state = store.state(sorted(self._maps[store]))
        for name, values in state.items():
            told = [Event(name, key, value, following - 1) for key, value in values.items()]
            late += [(one, event) for one in self.subscriptions.of(name) for event in told if one.wants(event)]
        return following
