"""A verdict of the survival stack in words: one line for each step, in the order in which it is worked out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dolphin.core.codes import Posture
from dolphin.risk.posture import ALLOWED, DOWN_READINGS, UP_READINGS, Hysteresis
from dolphin.risk.sensors import DEGRADED, MAX_HEARTBEAT_S, STALE_BOOK, WARM_UP_S, WORST_CAT3, Readings

if TYPE_CHECKING:
    from dolphin.risk.survival import Categories


def _said(seen: Readings, name: str, unit: str = "") -> str:
    value = getattr(seen, name)
    return f"{name} unknown (worst case)" if value is None else f"{name} {value:g}{unit}"


def category_lines(seen: Readings, cats: Categories, book: str) -> tuple[str, ...]:
    """Five lines, one per category: its value and the readings used for it; `book` replaces Cat3's in the warm-up."""
    status = seen.mc_status or "unknown (RED)"
    if seen.dvol_spike is None:
        spike = "dvol_spike unknown (worst case)"
    else:
        spike = _said(seen, "dvol_spike_age_min", " min") if seen.dvol_spike else "no DVOL spike"
    stale = {None: "book_stale unknown (worst case)", True: f"book stale (at most {STALE_BOOK})", False: "book live"}[
        seen.book_stale
    ]
    depth = f"{stale}, {_said(seen, 'depth_quality')}, {_said(seen, 'fill_probability')}"
    grid = f"{_said(seen, 'grid_nodes')} (needs 1), {_said(seen, 'heartbeat_age_s', ' s')}"
    return (
        f"Cat1 kill switch = {cats.cat1:g}: {grid} (at most {MAX_HEARTBEAT_S:g} s)",
        f"Cat2 structure = {cats.cat2:.4f}: mc_status {status}, {_said(seen, 'stale_hours', ' h')}",
        f"Cat3 book = {cats.cat3:.4f}: {book or depth}",
        f"Cat4 environment = {cats.cat4:.4f}: {spike}",
        f"Cat5 capital = {cats.cat5:.4f}: {_said(seen, 'drawdown')}",
    )


def warm_up_line(age_s: float | None, saved: float | None) -> str:
    """Why Cat3 is not the book's own: the service's first two minutes, or its age is not known."""
    kept = f"no saved value, so {WORST_CAT3}" if saved is None else f"saved value {saved:.4f}"
    if age_s is None:
        return f"book_service_age_s unknown (worst case): the lower of the book and the {kept}; entries blocked"
    return f"book service {age_s:g} s old, warms up for {WARM_UP_S:g} s: {kept}; entries blocked"


def target_line(target: float, degraded: int) -> str:
    """The product, and the penalty where it applies: `degraded` counts Cat2, Cat3 and Cat4 below 0.8."""
    halved = f", halved: {degraded} of Cat2, Cat3, Cat4 below {DEGRADED}" if degraded >= 2 else ""
    return f"target = {target:.4f}: Cat1·Cat5·min(Cat2, Cat4)·Cat3{halved}"


def rm_line(last: float | None, target: float, rm: float, dt_min: float, behind_s: float) -> str:
    """How the multiplier got from `last` to `rm`."""
    if last is None:
        return f"Rm = {rm:.4f}: the first reading is taken as it is"
    if target <= last:
        return f"Rm = {rm:.4f}: from {last:.4f} down to the target at once"
    late = f"; the clock is {behind_s:g} s behind an earlier reading, so no recovery" if behind_s > 0.0 else ""
    return f"Rm = {rm:.4f}: from {last:.4f} towards the target in {dt_min:g} min{late}"


def posture_line(before: Hysteresis | None, level: Posture, after: Hysteresis, *, killed: bool) -> str:
    """What the reading's level did to the posture."""
    name = after.posture.name
    if killed:
        return f"posture {name}: Cat1 = 0 hibernates at once"
    if before is None:
        return f"posture {name}: by the first reading"
    if after.posture != before.posture:
        rule = (
            f"{DOWN_READINGS} worse readings in a row, to the latest"
            if after.posture > before.posture
            else f"{UP_READINGS} better readings in a row, to the worst of them"
        )
        return f"posture {name}: from {before.posture.name} after {rule}"
    if after.worse:
        return f"posture {name}: held; {level.name} seen {after.worse} of {DOWN_READINGS} times before it falls"
    if after.better:
        return f"posture {name}: held; better ({level.name}) seen {after.better} of {UP_READINGS} times before it rises"
    return f"posture {name}: the reading agrees"


def action_line(posture: Posture, *, entries_blocked: bool) -> str:
    """What the engine may do now."""
    rule = ALLOWED[posture]
    if rule.must_close:
        return "actions: close what is open, no entries"
    if not rule.entries or entries_blocked:
        return "actions: no entries; open positions are managed"
    cap = f", leverage at most {rule.leverage_cap:g}" if rule.leverage_cap < 100.0 else ""
    return f"actions: entries{cap}"
