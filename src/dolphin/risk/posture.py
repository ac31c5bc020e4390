"""Postures: thresholds, hysteresis, and what each posture allows (SPEC §10, §23).

The thresholds and the two counts are frozen: they may not be loosened, so they are constants and not parameters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

import msgspec

from dolphin.core.codes import Posture

APEX_FROM = 0.90
STALKER_FROM = 0.75
TURTLE_FROM = 0.50

DOWN_READINGS = 2
"""Successive worse readings that lower the posture, to the latest of them."""

UP_READINGS = 5
"""Successive better readings that raise the posture, to the worst of them."""

Mode = Literal["replay", "paper", "live"]


class Allowed(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine may do in a posture: enter, up to which leverage, and whether it must close what is open."""

    entries: bool
    leverage_cap: float = math.inf
    must_close: bool = False


ALLOWED: Mapping[Posture, Allowed] = MappingProxyType(
    {
        Posture.APEX: Allowed(entries=True),
        Posture.STALKER: Allowed(entries=True, leverage_cap=2.0),
        Posture.TURTLE: Allowed(entries=False),
        Posture.HIBERNATE: Allowed(entries=False, must_close=True),
    }
)
"""The actions allowed per posture (SPEC §10), in this one place. `leverage_cap` comes on top of the parameters' own
limits and never resizes an open position (SPEC §23)."""

UNREADABLE: Mapping[Mode, Posture] = MappingProxyType(
    {"replay": Posture.APEX, "paper": Posture.APEX, "live": Posture.HIBERNATE}
)
"""What holds when the posture cannot be read (SPEC §10): `live` is anything that can reach an exchange with money."""


def posture_of(rm: float) -> Posture:
    """The posture that a risk multiplier `rm` in [0, 1] stands for; NaN is HIBERNATE."""
    if rm >= APEX_FROM:
        return Posture.APEX
    if rm >= STALKER_FROM:
        return Posture.STALKER
    return Posture.TURTLE if rm >= TURTLE_FROM else Posture.HIBERNATE


class Hysteresis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A posture and the readings that speak against it so far.

    At most one of the two counters is above 0, and neither reaches its limit. `worst_better` is the worst posture among
    the better readings counted.
    """

    posture: Posture
    worse: Annotated[int, msgspec.Meta(ge=0, lt=DOWN_READINGS)] = 0
    better: Annotated[int, msgspec.Meta(ge=0, lt=UP_READINGS)] = 0
    worst_better: Posture = Posture.APEX

    def after(self, level: Posture) -> Hysteresis:
        """The state after one reading of `level`: down after 2 worse in a row, to the latest; up after 5 better in a
        row, to the worst of them; a reading that breaks the row starts the counters again."""
        if level > self.posture:
            if self.worse + 1 >= DOWN_READINGS:
                return Hysteresis(posture=level)
            return Hysteresis(posture=self.posture, worse=self.worse + 1)
        if level < self.posture:
            worst = max(level, self.worst_better)
            if self.better + 1 >= UP_READINGS:
                return Hysteresis(posture=worst)
            return Hysteresis(posture=self.posture, better=self.better + 1, worst_better=worst)
        return Hysteresis(posture=self.posture)
