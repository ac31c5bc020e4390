"""The stack's memory and its one rule: usable readings in, a verdict out (SPEC §10, §23).

    readings ─▶ five categories ─▶ target ─▶ bounded recovery ─▶ Rm ─▶ hysteresis ─▶ posture

A replay's compiled loop and `SurvivalStack` call the same kernel on the same records.
"""

from __future__ import annotations

import math

import numpy as np

from dolphin.core.jit import kernel
from dolphin.core.native import Entry
from dolphin.core.records import Record, records
from dolphin.risk.posture import APEX, HIBERNATE, acting_nb, follow_nb, hold_nb, posture_nb
from dolphin.risk.sensors import (
    book_is_warm_nb,
    cat1_nb,
    cat2_nb,
    cat4_nb,
    cat5_nb,
    degraded_nb,
    held_cat3_nb,
    recovered_nb,
    target_nb,
    usable_nb,
)

STACK = np.dtype(
    [
        ("rm", "f8"),  # NaN: the first reading is still to come and is taken as it is
        ("posture", "i8"),
        ("worse", "i8"),  # successive worse and better readings so far
        ("better", "i8"),
        ("worst_better", "i8"),
        ("last_s", "f8"),  # time of the newest reading; NaN before the first
        ("cat3", "f8"),  # the last of a warm book service; NaN before there was one
    ]
)

CATEGORY_NAMES = ("cat1", "cat2", "cat3", "cat4", "cat5")

VERDICT = np.dtype(
    [
        ("dt_min", "f8"),  # recovery time granted, minutes
        ("behind_s", "f8"),  # how far the clock is behind an earlier reading, else 0
        *((name, "f8") for name in CATEGORY_NAMES),
        ("degraded", "i8"),
        ("target", "f8"),
        ("rm", "f8"),
        ("level", "i8"),  # the posture that rm alone stands for
        ("posture", "i8"),
        ("blocked", "i8"),  # the book service warms up
        ("acting", "i8"),  # what the engine is told
    ]
)


def new_stack(*, opening: bool) -> Record:
    """A STACK record. `opening` takes its first reading as it is; otherwise it starts closed: Rm 0, HIBERNATE."""
    stack = records(STACK, 1)[0]
    stack.rm = math.nan if opening else 0.0
    stack.posture, stack.worst_better = HIBERNATE, APEX
    stack.last_s = stack.cat3 = math.nan
    return stack


@kernel
def judge_nb(stack: Record, seen: Record, verdict: Record) -> int:
    """Take one reading that `usable_nb` has passed, at `seen.now_s`; fill `verdict`, give the acting posture.

    A time at or before the newest one seen grants no recovery, but what has become worse still counts. Allocates
    nothing. Causality: this and earlier readings only.
    """
    verdict.cat1, verdict.cat2, verdict.cat3 = cat1_nb(seen), cat2_nb(seen), held_cat3_nb(seen, stack.cat3)
    verdict.cat4, verdict.cat5 = cat4_nb(seen), cat5_nb(seen)
    target = target_nb(verdict.cat1, verdict.cat2, verdict.cat3, verdict.cat4, verdict.cat5)
    ahead_s = 0.0 if math.isnan(stack.last_s) else seen.now_s - stack.last_s
    dt_min = max(0.0, ahead_s) / 60.0
    opening = math.isnan(stack.rm)
    rm = target if opening else recovered_nb(stack.rm, target, dt_min)
    level = posture_nb(rm)
    if opening or verdict.cat1 == 0.0:
        hold_nb(stack, level)
    else:
        follow_nb(stack, level)
    warm = book_is_warm_nb(seen)
    if warm:
        stack.cat3 = verdict.cat3
    stack.rm = rm
    stack.last_s = seen.now_s if math.isnan(stack.last_s) else max(seen.now_s, stack.last_s)
    verdict.degraded = degraded_nb(verdict.cat2, verdict.cat3, verdict.cat4)
    verdict.target, verdict.rm, verdict.level, verdict.posture = target, rm, level, stack.posture
    verdict.dt_min, verdict.behind_s = dt_min, max(0.0, -ahead_s)
    verdict.blocked = 0 if warm else 1
    verdict.acting = acting_nb(verdict.posture, verdict.blocked)
    return verdict.acting


@kernel
def survival_nb(stack: Record, reading: Record, seen: Record, verdict: Record) -> int:
    """One reading as it came: `seen` receives what of it can be used, `verdict` what follows."""
    usable_nb(reading, seen)
    return judge_nb(stack, seen, verdict)


SURVIVAL = Entry(survival_nb)
