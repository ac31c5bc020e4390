"""The closed vocabularies of the system: what a side, posture, gate or exit reason may be.

The integers are what compiled kernels and stored records carry, so they are append-only: a value, once
published, keeps its meaning.
"""

from __future__ import annotations

from enum import IntEnum


class Direction(IntEnum):
    """Which way the regime trades (SPEC §3): BLUE is SHORT, GREEN is LONG."""

    SHORT = -1
    LONG = 1


class Posture(IntEnum):
    """The survival stack's verdict (SPEC §10), from free to closed."""

    APEX = 0
    STALKER = 1
    TURTLE = 2
    HIBERNATE = 3


class ExitReason(IntEnum):
    """Why a position was closed (SPEC §6). NONE means that this bar closed nothing."""

    NONE = 0
    HIBERNATE_HALT = 1
    SUBDAY_ACB_NORMALIZATION = 2
    FIXED_TP = 3
    STOP_LOSS = 4
    VEL_DIV_ADVERSE = 5
    TF_EXHAUST = 6
    TF_FLIP = 7
    MAX_HOLD = 8
    STALE_PRICE = 9
    DATA_GAP = 10
    END_OF_DATA = 11
    PROTECTIVE_STOP = 12  # the order that stands at the venue behind every position


class Gate(IntEnum):
    """The first gate that refused an entry at a bar (SPEC §12, §23), or ENTERED."""

    ENTERED = 0
    IN_POSITION = 1
    JUST_EXITED = 2
    CAPITAL = 3
    WARM_UP = 4
    HALT = 5
    VOL_REGIME = 6
    VEL_DIV = 7
    SELECTION = 8
    DIRECTION_CONFIRMATION = 9
    BOOK_IMBALANCE = 10


class Confirmation(IntEnum):
    """What the chosen asset's recent price says of the trade's direction (SPEC §3)."""

    NEUTRAL = 0
    CONFIRM = 1
    CONTRADICT = 2


class Drop(IntEnum):
    """Why asset selection passed over one asset (SPEC §4), or KEPT."""

    KEPT = 0
    NO_PRICE = 1
    SHORT_HISTORY = 2
    NOISE = 3
    LATENCY = 4
    ALIGNMENT = 5
    MIN_IRP_ALIGNMENT = 6
    WRONG_ACTION = 7
    BOOK_DEPTH = 8


class AcbUpdate(IntEnum):
    """What the circuit breaker brings to a bar (SPEC §9): nothing, the day's value, or a sub-day change."""

    NONE = 0
    DAILY = 1
    SUBDAY = 2
