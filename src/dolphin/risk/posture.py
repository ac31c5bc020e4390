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
from dolphin.core.jit import inlined_kernel
from dolphin.core.records import Record

APEX_FROM = 0.90
STALKER_FROM = 0.75
TURTLE_FROM = 0.50

DOWN_READINGS = 2
"""Successive worse readings that lower the posture, to the latest of them."""

UP_READINGS = 5
"""Successive better readings that raise the posture, to the worst of them."""

APEX, STALKER, TURTLE, HIBERNATE = (int(posture) for posture in Posture)

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


class Hysteresis(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A posture and the readings that speak against it so far, as people and snapshots see them.

    At most one of the two counters is above 0, and neither reaches its limit. `worst_better` is the worst posture among
    the better readings counted.
    """

    posture: Posture
    worse: Annotated[int, msgspec.Meta(ge=0, lt=DOWN_READINGS)] = 0
    better: Annotated[int, msgspec.Meta(ge=0, lt=UP_READINGS)] = 0
    worst_better: Posture = Posture.APEX


@inlined_kernel
def posture_nb(rm: float) -> int:
    """The posture that a risk multiplier `rm` in [0, 1] stands for; NaN is HIBERNATE."""
    if rm >= APEX_FROM:
        return APEX
    if rm >= STALKER_FROM:
        return STALKER
    return TURTLE if rm >= TURTLE_FROM else HIBERNATE


@inlined_kernel
def hold_nb(stack: Record, posture: int) -> None:
    """Take `posture` and start the counters again."""
    stack.posture, stack.worse, stack.better, stack.worst_better = posture, 0, 0, APEX


@inlined_kernel
def follow_nb(stack: Record, level: int) -> None:
    """One reading of `level`: down after 2 worse in a row, to the latest; up after 5 better in a row, to the worst of
    them; a reading that breaks the row starts the counters again."""
    if level > stack.posture:
        if stack.worse + 1 >= DOWN_READINGS:
            hold_nb(stack, level)
        else:
            stack.worse, stack.better, stack.worst_better = stack.worse + 1, 0, APEX
    elif level < stack.posture:
        worst = max(level, stack.worst_better)
        if stack.better + 1 >= UP_READINGS:
            hold_nb(stack, worst)
        else:
            stack.worse, stack.better, stack.worst_better = 0, stack.better + 1, worst
    else:
        hold_nb(stack, stack.posture)


@inlined_kernel
def acting_nb(posture: int, entries_blocked: int) -> int:
    """What the engine must be told: the posture, and at best TURTLE while entries are blocked."""
    return max(posture, TURTLE) if entries_blocked != 0 else posture
