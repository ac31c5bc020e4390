"""What the trader needs from the shared memory, and nothing more (SPEC §13, §14).

The trader writes its day's result and reads the posture and the breaker's updates. It must go on when the memory is
gone: a port raises GridError, and whoever calls it here counts that and carries on.
"""

from __future__ import annotations

from typing import Protocol

import msgspec

from dolphin.core.codes import Posture
from dolphin.core.errors import GridError
from dolphin.grid.memory import MemoryGrid as MemoryGrid
from dolphin.grid.port import Listening, Maps
from dolphin.grid.schemas import FEATURES as FEATURES
from dolphin.grid.schemas import SAFETY as SAFETY


class GridPort(Maps, Listening, Protocol):
    """The shared memory as far as trading needs it: its maps, and being told of changes. Neither reference nor lock."""


class _Safety(msgspec.Struct, frozen=True):
    posture: str


_decode = msgspec.json.Decoder(_Safety).decode


class PostureReader:
    """The posture in force, read once a bar. What cannot be read counts as `unread` (SPEC §10): APEX where nothing is
    at stake, HIBERNATE where money is. `failures` counts; `reason` says why the last reading failed, "" if it did
    not."""

    def __init__(self, grid: GridPort | None, unread: Posture) -> None:
        self._grid, self._unread = grid, unread
        self._seen: bytes | None = None
        self._posture = unread
        self.failures = 0
        self.reason = ""

    def read(self) -> Posture:
        """The posture now."""
        if self._grid is None:
            return self._unread
        try:
            value = self._grid.get(SAFETY, "latest")
            if value is None:
                raise GridError("no posture was written")
            if value != self._seen:
                self._posture = Posture[_decode(value).posture]
                self._seen = value
                self.reason = ""
        except (GridError, msgspec.MsgspecError, UnicodeError, KeyError) as error:
            self.failures += 1
            self.reason, self._seen = f"{SAFETY}['latest'] cannot be read ({error})", None
            return self._unread
        return self._posture
