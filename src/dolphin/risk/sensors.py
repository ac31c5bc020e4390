"""Five sensors and how they combine into the target of the risk multiplier (SPEC §10).

Every function is pure and falls towards less risk: a sensor that is missing (None), NaN, infinite or impossible (a
negative age, a probability above 1) counts as its worst case, and `worst_cased` names it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import msgspec

MAX_HEARTBEAT_S = 30.0
WARM_UP_S = 120.0
FRESH_HOURS, STALE_TAU_HOURS = 6.0, 3.0
STALE_BOOK, WORST_CAT3 = 0.5, 0.3
SPIKE, SPIKE_TAU_MIN = 0.3, 60.0
SPIKE_RISE, SPIKE_WINDOW_S = 0.10, 3600.0
NORMAL_FILL = 0.62
DEGRADED, PENALTY = 0.8, 0.5
CLOCK_SLACK_S = 0.25
"""Clocks of two machines may differ by this much (SPEC §18): an age this little below zero is zero."""

McStatus = Literal["OK", "ORANGE", "RED"]
MC_BASE = {"OK": 1.0, "ORANGE": 0.5, "RED": 0.1}


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


class Categories(msgspec.Struct, frozen=True, kw_only=True):
    """The five categories, each in [0, 1]: kill switch, structure, microstructure, environment, capital."""

    cat1: float
    cat2: float
    cat3: float
    cat4: float
    cat5: float


_BOUNDS = {
    "grid_nodes": (0.0, 1e9),
    "heartbeat_age_s": (-CLOCK_SLACK_S, math.inf),
    "stale_hours": (-CLOCK_SLACK_S / 3600.0, math.inf),
    "depth_quality": (0.0, math.inf),
    "fill_probability": (0.0, 1.0),
    "book_service_age_s": (-CLOCK_SLACK_S, math.inf),
    "dvol_spike_age_min": (0.0, math.inf),
    "drawdown": (0.0, math.inf),
}
_FLAGS = ("book_stale", "dvol_spike")


def number(readings: Readings, name: str) -> float | None:
    """The numeric sensor `name`, or None when it is missing, NaN, infinite or impossible."""
    value = getattr(readings, name)
    low, high = _BOUNDS[name]
    return float(value) if value is not None and low <= value <= high and math.isfinite(value) else None


def worst_cased(readings: Readings) -> tuple[str, ...]:
    """The sensors that count as their worst case, in the order of the fields; what is not asked for is not named."""
    asked = [name for name in _BOUNDS if name != "dvol_spike_age_min" or readings.dvol_spike is not False]
    bad = {name for name in asked if number(readings, name) is None}
    bad |= {name for name in _FLAGS if getattr(readings, name) is None}
    if readings.mc_status not in MC_BASE:
        bad.add("mc_status")
    return tuple(name for name in Readings.__struct_fields__ if name in bad)


def cat1(readings: Readings) -> float:
    """Kill switch: 0 if grid nodes < 1 or the heartbeat is older than 30 s, else 1. Missing: 0."""
    nodes, age = number(readings, "grid_nodes"), number(readings, "heartbeat_age_s")
    return 1.0 if nodes is not None and nodes >= 1.0 and age is not None and age <= MAX_HEARTBEAT_S else 0.0


def cat2(readings: Readings) -> float:
    """Structure: {OK 1, ORANGE 0.5, RED 0.1}·exp(−max(0, stale_hours − 6)/3). Missing: RED; endlessly stale (0)."""
    hours = number(readings, "stale_hours")
    if hours is None:
        return 0.0
    base = MC_BASE.get(readings.mc_status or "RED", MC_BASE["RED"])
    return base * math.exp(-max(0.0, hours - FRESH_HOURS) / STALE_TAU_HOURS)


def cat3(readings: Readings) -> float:
    """Microstructure: clamp(0.3 + 0.7·score, 0.3, 1), score = min(1, depth_quality, fill_probability/0.62), and at most
    0.5 while the book is stale: a thin book that goes stale as well is no better for it. Missing: score 0; stale."""
    depth, fill = number(readings, "depth_quality"), number(readings, "fill_probability")
    score = 0.0 if depth is None or fill is None else min(1.0, depth, fill / NORMAL_FILL)
    value = min(1.0, max(WORST_CAT3, WORST_CAT3 + 0.7 * score))
    stale = readings.book_stale is None or bool(readings.book_stale)
    return min(STALE_BOOK, value) if stale else value


def cat4(readings: Readings) -> float:
    """Environment: 0.3 at a DVOL spike, then 0.3 + 0.7·(1 − e^(−minutes/60)); 1 without one. Missing: 0.3."""
    if readings.dvol_spike is not None and not readings.dvol_spike:
        return 1.0
    minutes = number(readings, "dvol_spike_age_min")
    if readings.dvol_spike is None or minutes is None:
        return SPIKE
    return min(1.0, SPIKE + 0.7 * (1.0 - math.exp(-minutes / SPIKE_TAU_MIN)))


def cat5(readings: Readings) -> float:
    """Capital: 1/(1 + e^(30·(drawdown − 0.12))). Missing: 0, its limit."""
    drawdown = number(readings, "drawdown")
    if drawdown is None:
        return 0.0
    x = 30.0 * (drawdown - 0.12)
    return 1.0 / (1.0 + math.exp(x)) if x < 700.0 else 0.0


def categories(readings: Readings) -> Categories:
    """All five, of the readings alone (the book service's warm-up belongs to the stack, which remembers)."""
    return Categories(
        cat1=cat1(readings), cat2=cat2(readings), cat3=cat3(readings), cat4=cat4(readings), cat5=cat5(readings)
    )


def degraded(cats: Categories) -> int:
    """How many of Cat2, Cat3 and Cat4 are below 0.8; two or more halve the target."""
    return sum(value < DEGRADED for value in (cats.cat2, cats.cat3, cats.cat4))


def target_of(cats: Categories) -> float:
    """Cat1·Cat5·min(Cat2, Cat4)·Cat3, × 0.5 if two or more of Cat2, Cat3, Cat4 are < 0.8; in [0, 1]."""
    target = cats.cat1 * cats.cat5 * min(cats.cat2, cats.cat4) * cats.cat3
    return target * PENALTY if degraded(cats) >= 2 else target


def recovered(last: float, target: float, dt_min: float) -> float:
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
