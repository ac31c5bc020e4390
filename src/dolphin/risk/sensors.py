"""Five sensors and how they combine into the target of the risk multiplier (SPEC §10).

Every rule is a small kernel over one READING record, and falls towards less risk: a sensor that is missing, NaN,
infinite or impossible (a negative age, a probability above 1) counts as its worst case, and `worst_cased` names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from dolphin.core.jit import inlined_kernel
from dolphin.core.records import Record

MAX_HEARTBEAT_S = 30.0
WARM_UP_S = 120.0
FRESH_HOURS, STALE_TAU_HOURS = 6.0, 3.0
STALE_BOOK, WORST_CAT3 = 0.5, 0.3
SPIKE, SPIKE_TAU_MIN = 0.3, 60.0
SPIKE_RISE, SPIKE_WINDOW_S = 0.10, 3600.0
NORMAL_FILL = 0.62
DEGRADED, PENALTY = 0.8, 0.5
MAX_NODES = 1e9
CLOCK_SLACK_S = 0.25
"""Clocks of two machines may differ by this much (SPEC §18): an age this little below zero is zero."""
CLOCK_SLACK_H = CLOCK_SLACK_S / 3600.0

McStatus = Literal["OK", "ORANGE", "RED"]
MC_STATUSES: tuple[McStatus, ...] = ("OK", "ORANGE", "RED")
"""The forewarner's verdicts; a record holds the place in this list."""

OK, ORANGE, RED = range(3)
ORANGE_BASE, RED_BASE = 0.5, 0.1
UNKNOWN = -1
"""A status or flag that is not known; a number that is not known is NaN."""


class Readings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the sensors say at one moment; None is "not known", for every field.

    Cat1: `grid_nodes` (members of the grid) and `heartbeat_age_s` of the scanner. Cat2: `mc_status` of the forewarner
    and `stale_hours`, the age of the newest scan or factor data. Cat3: `book_stale`, the medians over assets of
    `depth_quality` and `fill_probability`, and `book_service_age_s`, seconds since the book service started. Cat4:
    `dvol_spike`, whether there has been one, and `dvol_spike_age_min`, minutes since. Cat5: `drawdown`, 1 −
    equity/peak equity, marked to market.
    """

    grid_nodes: int | None = None
    heartbeat_age_s: float | None = None
    mc_status: McStatus | None = None
    stale_hours: float | None = None
    book_stale: bool | None = None
    depth_quality: float | None = None
    fill_probability: float | None = None
    book_service_age_s: float | None = None
    dvol_spike: bool | None = None
    dvol_spike_age_min: float | None = None
    drawdown: float | None = None


SENSORS = Readings.__struct_fields__
_CODED = ("mc_status", "book_stale", "dvol_spike")
_CODES: dict[str, int] = {status: code for code, status in enumerate(MC_STATUSES)}

READING = np.dtype(
    [
        ("ts_ns", "i8"),  # UTC; which bar a recorded reading reaches
        ("now_s", "f8"),  # the same moment as the stack is told it, seconds
        *((name, "i8" if name in _CODED else "f8") for name in SENSORS),
    ]
)
"""One reading as kernels read it: NaN and UNKNOWN are "not known"."""


def put_reading(row: Record, readings: Readings) -> None:
    """Write `readings` into one READING record; its times are left alone."""
    for name in SENSORS:
        row[name] = sensor_value(name, getattr(readings, name))


def sensor_value(name: str, value: Any) -> float:
    """What a READING record holds for one sensor's `value`; None, or a status that is none, is not known."""
    if name == "mc_status":
        return UNKNOWN if value is None else _CODES.get(value, UNKNOWN)
    if name in _CODED:
        return UNKNOWN if value is None else int(bool(value))
    return math.nan if value is None else _float(value)


def get_reading(row: Record) -> Readings:
    """The readings that one READING record holds; NaN and UNKNOWN become None."""
    values: dict[str, Any] = {}
    for name, value in zip(SENSORS, row.item()[-len(SENSORS) :], strict=True):
        if name == "mc_status":
            values[name] = MC_STATUSES[value] if value in (OK, ORANGE, RED) else None
        elif name in _CODED:
            values[name] = bool(value) if value in (0, 1) else None
        else:
            values[name] = None if math.isnan(value) else value
    return Readings(**values)


def _float(value: float) -> float:
    """A whole number that no float64 holds is as impossible as an infinite one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


@inlined_kernel
def known_nb(value: float, low: float, high: float) -> float:
    """`value`, or NaN when it is missing, infinite or outside [low, high]."""
    return value if low <= value <= high and value < math.inf else math.nan


@inlined_kernel
def known_flag_nb(value: int) -> int:
    """0, 1, or UNKNOWN for anything else."""
    return value if value == 0 or value == 1 else UNKNOWN


@inlined_kernel
def usable_nb(reading: Record, seen: Record) -> None:
    """Copy `reading` to `seen`, with NaN and UNKNOWN for whatever cannot be used: every rule below reads `seen`."""
    seen.ts_ns, seen.now_s = reading.ts_ns, reading.now_s
    seen.grid_nodes = known_nb(reading.grid_nodes, 0.0, MAX_NODES)
    seen.heartbeat_age_s = known_nb(reading.heartbeat_age_s, -CLOCK_SLACK_S, math.inf)
    seen.mc_status = reading.mc_status if OK <= reading.mc_status <= RED else UNKNOWN
    seen.stale_hours = known_nb(reading.stale_hours, -CLOCK_SLACK_H, math.inf)
    seen.book_stale = known_flag_nb(reading.book_stale)
    seen.depth_quality = known_nb(reading.depth_quality, 0.0, math.inf)
    seen.fill_probability = known_nb(reading.fill_probability, 0.0, 1.0)
    seen.book_service_age_s = known_nb(reading.book_service_age_s, -CLOCK_SLACK_S, math.inf)
    seen.dvol_spike = known_flag_nb(reading.dvol_spike)
    seen.dvol_spike_age_min = known_nb(reading.dvol_spike_age_min, 0.0, math.inf)
    seen.drawdown = known_nb(reading.drawdown, 0.0, math.inf)


def worst_cased(seen: Readings) -> tuple[str, ...]:
    """The sensors of usable readings that count as their worst case, in the order of the fields; what is not asked for
    is not named."""
    asked = (name for name in SENSORS if name != "dvol_spike_age_min" or seen.dvol_spike is not False)
    return tuple(name for name in asked if getattr(seen, name) is None)


@inlined_kernel
def cat1_nb(seen: Record) -> float:
    """Kill switch: 0 if grid nodes < 1 or the heartbeat is older than 30 s, else 1. Missing: 0."""
    return 1.0 if seen.grid_nodes >= 1.0 and seen.heartbeat_age_s <= MAX_HEARTBEAT_S else 0.0


@inlined_kernel
def cat2_nb(seen: Record) -> float:
    """Structure: {OK 1, ORANGE 0.5, RED 0.1}·exp(−max(0, stale_hours − 6)/3). Missing: RED; endlessly stale (0)."""
    if math.isnan(seen.stale_hours):
        return 0.0
    base = RED_BASE
    if seen.mc_status == OK:
        base = 1.0
    elif seen.mc_status == ORANGE:
        base = ORANGE_BASE
    late = seen.stale_hours - FRESH_HOURS
    return base * math.exp(-late / STALE_TAU_HOURS) if late > 0.0 else base  # e⁰ is 1: nothing to compute


@inlined_kernel
def cat3_nb(seen: Record) -> float:
    """Microstructure: clamp(0.3 + 0.7·score, 0.3, 1), score = min(1, depth_quality, fill_probability/0.62), and at most
    0.5 while the book is stale: a thin book that goes stale as well is no better for it. Missing: score 0; stale."""
    score = 0.0
    if not (math.isnan(seen.depth_quality) or math.isnan(seen.fill_probability)):
        score = min(1.0, seen.depth_quality, seen.fill_probability / NORMAL_FILL)
    value = min(1.0, max(WORST_CAT3, WORST_CAT3 + 0.7 * score))
    return value if seen.book_stale == 0 else min(STALE_BOOK, value)


@inlined_kernel
def book_is_warm_nb(seen: Record) -> bool:
    """Whether the book service is known to be past its first 120 s; entries are blocked until then."""
    return seen.book_service_age_s >= WARM_UP_S


@inlined_kernel
def held_cat3_nb(seen: Record, saved: float) -> float:
    """Cat3, or the `saved` value (NaN: none, 0.3) in the book service's first 120 s; the lower of both when its age is
    not known."""
    if book_is_warm_nb(seen):
        return cat3_nb(seen)
    kept = WORST_CAT3 if math.isnan(saved) else saved
    return min(kept, cat3_nb(seen)) if math.isnan(seen.book_service_age_s) else kept


@inlined_kernel
def cat4_nb(seen: Record) -> float:
    """Environment: 0.3 at a DVOL spike, then 0.3 + 0.7·(1 − e^(−minutes/60)); 1 without one. Missing: 0.3."""
    if seen.dvol_spike == 0:
        return 1.0
    if seen.dvol_spike == UNKNOWN or math.isnan(seen.dvol_spike_age_min):
        return SPIKE
    return min(1.0, SPIKE + 0.7 * (1.0 - math.exp(-seen.dvol_spike_age_min / SPIKE_TAU_MIN)))


@inlined_kernel
def cat5_nb(seen: Record) -> float:
    """Capital: 1/(1 + e^(30·(drawdown − 0.12))). Missing: 0, its limit."""
    if math.isnan(seen.drawdown):
        return 0.0
    x = 30.0 * (seen.drawdown - 0.12)
    return 1.0 / (1.0 + math.exp(x)) if x < 700.0 else 0.0


@inlined_kernel
def degraded_nb(cat2: float, cat3: float, cat4: float) -> int:
    """How many of Cat2, Cat3 and Cat4 are below 0.8; two or more halve the target."""
    return (1 if cat2 < DEGRADED else 0) + (1 if cat3 < DEGRADED else 0) + (1 if cat4 < DEGRADED else 0)


@inlined_kernel
def target_nb(cat1: float, cat2: float, cat3: float, cat4: float, cat5: float) -> float:
    """Cat1·Cat5·min(Cat2, Cat4)·Cat3, × 0.5 if two or more of Cat2, Cat3, Cat4 are < 0.8; in [0, 1]."""
    target = cat1 * cat5 * min(cat2, cat4) * cat3
    return target * PENALTY if degraded_nb(cat2, cat3, cat4) >= 2 else target


@inlined_kernel
def recovered_nb(last: float, target: float, dt_min: float) -> float:
    """The multiplier after `dt_min` minutes (≥ 0): it falls at once and rises by
    min(min(1, 0.02·dt)·(target − last), 0.05·dt), never beyond the target."""
    if target <= last:
        return target
    step = min(min(1.0, 0.02 * dt_min) * (target - last), 0.05 * dt_min)
    return min(target, last + step)


def last_spike_s(times_s: Sequence[float], dvol: Sequence[float]) -> float | None:
    """When DVOL last stood 10 % or more above a value of the 60 minutes before; None without such a rise (SPEC §23).

    `times_s` seconds, increasing, and `dvol` (index points), of one length; values that are not positive numbers are
    passed over. Causality: a spike at one time depends on values up to that time. Raises ValueError for two lengths.
    """
    kept: list[tuple[float, float]] = []
    spike = None
    for time, value in zip(times_s, dvol, strict=True):
        if not (math.isfinite(value) and value > 0.0):
            continue
        kept = [(t, v) for t, v in kept if time - t <= SPIKE_WINDOW_S]
        low = min((v for _, v in kept), default=value)
        if value - low >= SPIKE_RISE * low - 1e-9:  # rounding must not hide a rise of exactly 10 %
            spike = time
        kept.append((time, value))
    return spike
