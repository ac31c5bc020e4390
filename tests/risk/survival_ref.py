"""The survival stack once more, slow and plain: the whole history is read again for every answer."""

from __future__ import annotations

import math
from typing import Any

ORDER = ["APEX", "STALKER", "TURTLE", "HIBERNATE"]
Reading = dict[str, Any]


def known(reading: Reading, name: str, low: float = 0.0, high: float = math.inf) -> float | None:
    value = reading.get(name)
    if value is None or math.isnan(value) or math.isinf(value) or value < low or value > high:
        return None
    return float(value)


def book_of(reading: Reading) -> float:
    dq, fill = known(reading, "depth_quality"), known(reading, "fill_probability", 0.0, 1.0)
    score = 0.0
    if dq is not None and fill is not None:
        score = min([1.0, dq, fill / 0.62])
    value = sorted([0.3, 0.3 + 0.7 * score, 1.0])[1]
    if reading.get("book_stale") is False:
        return value
    return min(0.5, value)


def five(reading: Reading, saved: float | None) -> list[float]:
    nodes, beat = known(reading, "grid_nodes"), known(reading, "heartbeat_age_s", -0.25)
    alive = nodes is not None and beat is not None and not (nodes < 1 or beat > 30)
    hours = known(reading, "stale_hours", -0.25 / 3600)
    structure = 0.0
    if hours is not None:
        structure = {"OK": 1.0, "ORANGE": 0.5}.get(reading.get("mc_status") or "", 0.1)
        structure *= math.exp(-max(0, hours - 6) / 3)
    age = known(reading, "book_service_age_s", -0.25)
    kept = 0.3 if saved is None else saved
    book = min(kept, book_of(reading)) if age is None else kept if age < 120 else book_of(reading)
    environment = 0.3
    minutes = known(reading, "dvol_spike_age_min")
    if reading.get("dvol_spike") is False:
        environment = 1.0
    elif reading.get("dvol_spike") is True and minutes is not None:
        environment = 0.3 + 0.7 * (1 - math.exp(-minutes / 60))
    dd = known(reading, "drawdown")
    capital = 0.0 if dd is None else 1 / (1 + math.exp(min(700.0, 30 * (dd - 0.12))))
    return [float(alive), structure, book, environment, capital]


def target(cats: list[float]) -> float:
    c1, c2, c3, c4, c5 = cats
    product = c1 * c5 * min(c2, c4) * c3
    return product * 0.5 if len([c for c in (c2, c3, c4) if c < 0.8]) >= 2 else product


def level(rm: float) -> int:
    return [rm >= 0.9, rm >= 0.75, rm >= 0.5, True].index(True)


def run(history: list[tuple[float, Reading]], opening: bool) -> tuple[float, float, str]:
    """(target, Rm, posture) after `history`, pairs of a time in seconds and a reading."""
    rm, saved, newest = (None, None, None) if opening else (0.0, None, None)
    posture, row, goal = 3, [], 0.0  # `row`: levels since the last change or break
    for now, reading in history:
        cats = five(reading, saved)
        goal = target(cats)
        dt = 0.0 if newest is None else max(0.0, now - newest) / 60
        first = rm is None
        rm = goal if rm is None or goal < rm else min(goal, rm + min(min(1, 0.02 * dt) * (goal - rm), 0.05 * dt))
        newest = now if newest is None else max(newest, now)
        age = known(reading, "book_service_age_s", -0.25)
        if age is not None and age >= 120:
            saved = cats[2]
        here = level(rm)
        if first or cats[0] == 0:
            posture, row = here, []
        elif here == posture:
            row = []
        else:
            if row and (row[-1] > posture) != (here > posture):
                row = []
            row.append(here)
            if here > posture and len(row) == 2:
                posture, row = row[-1], []
            elif here < posture and len(row) == 5:
                posture, row = max(row), []
    return goal, 0.0 if rm is None else rm, ORDER[posture]
