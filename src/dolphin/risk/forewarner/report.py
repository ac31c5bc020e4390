"""What the forewarner says of a configuration, and the rule that turns its numbers into a status (SPEC §11)."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

Status = Literal["OK", "ORANGE", "RED"]

RED_PROBABILITY, ORANGE_PROBABILITY = 0.25, 0.10
RED_SCORE, ORANGE_SCORE = -1.0, 0.0
ORANGE_SCALE = 0.5


class Neighbour(msgspec.Struct, frozen=True, kw_only=True):
    """A trial near the configuration: `distance` in the unit box, Euclidean; outcomes as fractions."""

    trial: int
    distance: float
    roi: float
    max_drawdown: float
    catastrophe: bool


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """The assessment of one configuration.

    `catastrophic_probability` in [0, 1]; `envelope_score` is 1 for a typical survivor, 0 at the fifth percentile of
    survivors, lower the more foreign; `predicted_roi` and `predicted_max_drawdown` are medians over a trial's length,
    fractions. A value that cannot be known is NaN, and the status then RED. `outside` names the parameters beyond what
    was trained; `forced` marks a model that was saved although it was no better than chance.
    """

    catastrophic_probability: float
    envelope_score: float
    predicted_roi: float
    predicted_max_drawdown: float
    status: Status
    nearest: tuple[Neighbour, ...] = ()
    outside: tuple[str, ...] = ()
    forced: bool = False


def status_of(catastrophic_probability: float, envelope_score: float) -> Status:
    """RED: p > 0.25 or score < −1. ORANGE: score < 0 or p > 0.10. Else OK; RED too when either is not finite."""
    if not (math.isfinite(catastrophic_probability) and math.isfinite(envelope_score)):
        return "RED"
    if catastrophic_probability > RED_PROBABILITY or envelope_score < RED_SCORE:
        return "RED"
    if envelope_score < ORANGE_SCORE or catastrophic_probability > ORANGE_PROBABILITY:
        return "ORANGE"
    return "OK"


def mc_scale_of(status: Status) -> float:
    """The engine's `mc_scale`: 0.5 for ORANGE, else 1. RED is a halt of entries, not a size."""
    return ORANGE_SCALE if status == "ORANGE" else 1.0
