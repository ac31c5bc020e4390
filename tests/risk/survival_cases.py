"""Readings for the survival tests: a perfect one, and strategies that reach every corner."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from dolphin.core.records import Record, records
from dolphin.risk.sensors import (
    READING,
    Readings,
    cat1_nb,
    cat2_nb,
    cat3_nb,
    cat4_nb,
    cat5_nb,
    get_reading,
    put_reading,
    target_nb,
    usable_nb,
)

PERFECT: dict[str, Any] = {
    "grid_nodes": 3,
    "heartbeat_age_s": 4.0,
    "mc_status": "OK",
    "stale_hours": 0.1,
    "book_stale": False,
    "depth_quality": 1.1,
    "fill_probability": 0.65,
    "book_service_age_s": 7200.0,
    "dvol_spike": False,
    "dvol_spike_age_min": None,
    "drawdown": 0.0,
}
TOP = 1.0 / (1.0 + math.exp(-3.6))
"""The largest target there is: perfect sensors and no drawdown."""

ODD = [None, math.nan, math.inf, -math.inf, -1.0, -0.1, -1e-9]


def reading(**changes: Any) -> Readings:
    """A perfect reading with changes."""
    return Readings(**{**PERFECT, **changes})


def usable(readings: Readings) -> Record:
    """The READING record that the rules see of `readings`."""
    given, seen = (records(READING, 1)[0] for _ in range(2))
    put_reading(given, readings)
    usable_nb(given, seen)
    return seen


def seen(readings: Readings) -> Readings:
    """`readings` without what cannot be used."""
    return get_reading(usable(readings))


def rule(kernel: Callable[[Record], float]) -> Callable[[Readings], float]:
    """A category's kernel as a function of readings."""
    return lambda readings: kernel(usable(readings))


cat1, cat2, cat3, cat4, cat5 = map(rule, (cat1_nb, cat2_nb, cat3_nb, cat4_nb, cat5_nb))


def categories(readings: Readings) -> list[float]:
    """All five, of the readings alone (the book service's warm-up belongs to the stack, which remembers)."""
    record = usable(readings)
    return [kernel(record) for kernel in (cat1_nb, cat2_nb, cat3_nb, cat4_nb, cat5_nb)]


def target_of(readings: Readings) -> float:
    """The target of the readings alone."""
    return target_nb(*categories(readings))


def _numbers(*corners: float, high: float) -> st.SearchStrategy[float | None]:
    return st.one_of(st.sampled_from([*corners, *ODD]), st.floats(0.0, high))


FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "grid_nodes": st.sampled_from([None, 0, 1, 3, -1]),
    "heartbeat_age_s": _numbers(0.0, 30.0, 30.001, high=60.0),
    "mc_status": st.sampled_from(["OK", "OK", "ORANGE", "RED", None]),
    "stale_hours": _numbers(0.0, 6.0, high=20.0),
    "book_stale": st.sampled_from([False, False, True, None]),
    "depth_quality": _numbers(0.0, 0.7, 1.0, high=3.0),
    "fill_probability": _numbers(0.0, 0.62, 1.0, high=1.0),
    "book_service_age_s": _numbers(0.0, 119.9, 120.0, high=300.0),
    "dvol_spike": st.sampled_from([False, False, True, None]),
    "dvol_spike_age_min": _numbers(0.0, 60.0, high=600.0),
    "drawdown": _numbers(0.0, 0.05, 0.12, 0.2, 50.0, high=0.5),
}
anything = st.fixed_dictionaries(FIELDS)
"""Any reading, most of them with several sensors out of order."""


@st.composite
def mostly_good(draw: st.DrawFn) -> dict[str, Any]:
    """A perfect reading with at most two sensors drawn anew: the postures in between need these."""
    names = draw(st.lists(st.sampled_from(sorted(FIELDS)), max_size=2))
    drawdown = draw(st.sampled_from([0.0, 0.0, 0.03, 0.06, 0.1]))
    return {**PERFECT, "drawdown": drawdown, **{name: draw(FIELDS[name]) for name in names}}


one = st.one_of(anything, mostly_good(), st.just(PERFECT))
gaps = st.one_of(st.sampled_from([0.0, 1.0, 60.0, 300.0, 3600.0, -30.0, 1e12, -1e12]), st.floats(-1e3, 1e5))
histories = st.lists(st.tuples(gaps, one), min_size=1, max_size=25)
"""(seconds since the reading before, reading), clocks that jump included."""
