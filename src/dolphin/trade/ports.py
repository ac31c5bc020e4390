"""What the trader needs from the shared memory, and nothing more (SPEC §13, §14).

The trader writes its day's result and reads the posture and the breaker's updates. It must go on when the memory is
gone: a port raises GridError, and whoever calls it here counts that and carries on.
"""

from __future__ import annotations

from typing import Protocol

from dolphin.core.codes import Posture
from dolphin.core.errors import GridError
from dolphin.grid.memory import MemoryGrid as MemoryGrid
from dolphin.grid.port import Listening, Maps, Reference
from dolphin.grid.schemas import FEATURES as FEATURES
from dolphin.grid.schemas import SAFETY as SAFETY
from dolphin.grid.schemas import SAFETY_LATEST


class GridPort(Maps, Listening, Protocol):
    """The shared memory as far as trading needs it: its maps, being told of changes, and what all agree on."""

    def reference(self, name: str) -> Reference:
        """The atomic reference of that name."""


class PostureReader:
    """The posture in force, read once a bar: the atomic reference first, the map for who never set it (SPEC §14).

    What cannot be read counts as `unread` (SPEC §10): APEX where nothing is at stake, HIBERNATE where money is. There
    the map does not stand in for a reference that cannot be asked: when the members have lost their majority, what a
    map still says may be of yesterday. `failures` counts; `reason` says why the last reading failed, "" if it did not.
    """

    def __init__(self, grid: GridPort | None, unread: Posture) -> None:
        self._grid, self._unread = grid, unread
        self._reference: Reference | None = None
        self._seen: bytes | None = None
        self._posture = unread
        self.failures = 0
        self.reason = ""

    def read(self) -> Posture:
        """The posture now."""
        if self._grid is None:
            return self._unread
        try:
            value = self._value(self._grid)
            if value is None:
                raise GridError("no posture was written")
            if value != self._seen:
                self._posture = Posture[SAFETY_LATEST.decode(value).posture]
                self._seen, self.reason = value, ""
        except GridError as error:
            self.failures += 1
            self.reason, self._seen = f"{SAFETY}['latest'] cannot be read ({error})", None
            return self._unread
        return self._posture

    def _value(self, grid: GridPort) -> bytes | None:
        try:
            if self._reference is None:
                self._reference = grid.reference(SAFETY)
            value = self._reference.get()
        except GridError:
            if self._unread is Posture.HIBERNATE:
                raise
            value = None
        return grid.get(*SAFETY_LATEST.at()) if value is None else value
