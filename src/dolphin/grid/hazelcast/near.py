"""Values kept near: read in this process until the cluster says that they changed (SPEC §8)."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict

TTL_S, SIZE = 300.0, 5000
"""How long a value is kept, and how many of a map, the least recently read going first."""


class NearCache:
    """One map's. `get` may be called on any thread and takes no lock.

    A value that comes from the cluster is kept only if nothing changed its key since it was asked for: `ask` before,
    `keep` with what that returned. `registration` is the cluster's name for the listener that calls `drop`.
    """

    def __init__(self, ttl_s: float = TTL_S, size: int = SIZE) -> None:
        self._ttl_s, self._size = ttl_s, size
        self._values: OrderedDict[str, tuple[bytes | None, float]] = OrderedDict()
        self._asked: dict[str, object] = {}
        self._guard = threading.Lock()
        self.hits = self.misses = 0
        self.registration = ""

    def get(self, key: str) -> tuple[bytes | None, float] | None:
        """The value, which may be None, and until when it holds (`time.monotonic`); None when it is not kept."""
        held = self._values.get(key)
        if held is None or held[1] < time.monotonic():
            self.misses += 1
            return None
        self.hits += 1
        try:
            self._values.move_to_end(key)
        except KeyError:  # it changed just now, after it was read; what was read was true a moment ago
            return held
        return held

    def ask(self, key: str) -> object:
        """Say that the value of `key` is being fetched; what `keep` wants."""
        ticket = object()
        with self._guard:
            self._asked[key] = ticket
        return ticket

    def keep(self, key: str, value: bytes | None, ticket: object) -> None:
        """Keep what was fetched, unless it may have changed meanwhile."""
        with self._guard:
            if self._asked.get(key) is not ticket:
                return
            del self._asked[key]
            self._values[key] = (value, time.monotonic() + self._ttl_s)
            self._values.move_to_end(key)
            while len(self._values) > self._size:
                self._values.popitem(last=False)

    def drop(self, key: str) -> None:
        """The key changed, or is about to."""
        with self._guard:
            self._asked.pop(key, None)
            self._values.pop(key, None)

    def clear(self) -> None:
        """Nothing is sure any more."""
        with self._guard:
            self._asked.clear()
            self._values.clear()

    def __len__(self) -> int:
        """How many are kept."""
        return len(self._values)
