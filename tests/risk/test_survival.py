"""The stack: recovery, hysteresis, warm-up, snapshots, by hand; its promises for any history; its slow twin."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.codes import Posture
from dolphin.core.errors import ConfigError, DataError
from dolphin.risk.posture import ALLOWED, UNREADABLE, follow_nb, hold_nb, posture_nb
from dolphin.risk.sensors import Readings
from dolphin.risk.stack import new_stack
from dolphin.risk.survival import SurvivalStack, Verdict
from tests.risk import survival_ref as ref
from tests.risk.survival_cases import FIELDS, TOP, gaps, histories, one, reading

pytestmark = pytest.mark.jit_off

near = pytest.approx
APEX, STALKER, TURTLE, HIBERNATE = Posture
MINUTE = 60.0


def opened(**changes: Any) -> SurvivalStack:
    """A stack that has seen one reading, at time 0."""
    stack = SurvivalStack.opening()
    stack.update(reading(**changes), 0.0)
    return stack


# --- postures ---


@pytest.mark.parametrize(
    ("rm", "expected"),
    [
        (1.0, APEX),
        (0.90, APEX),
        (math.nextafter(0.90, 0.0), STALKER),
        (0.75, STALKER),
        (math.nextafter(0.75, 0.0), TURTLE),
        (0.50, TURTLE),
        (math.nextafter(0.50, 0.0), HIBERNATE),
        (0.0, HIBERNATE),
        (math.nan, HIBERNATE),
    ],
)
def test_thresholds(rm: float, expected: Posture) -> None:
    assert posture_nb(rm) == expected


def test_the_table_of_allowed_actions() -> None:
    assert list(ALLOWED) == list(Posture)
    assert [ALLOWED[p].entries for p in Posture] == [True, True, False, False]
    assert [ALLOWED[p].leverage_cap for p in Posture] == [math.inf, 2.0, math.inf, math.inf]
    assert [ALLOWED[p].must_close for p in Posture] == [False, False, False, True]
    with pytest.raises(TypeError):
        ALLOWED[TURTLE] = ALLOWED[APEX]  # type: ignore[index]


def test_an_unreadable_posture_closes_what_can_reach_money() -> None:
    assert dict(UNREADABLE) == {"replay": APEX, "paper": APEX, "live": HIBERNATE}


def path(start: Posture, levels: Iterable[Posture]) -> list[Posture]:
    stack, seen = new_stack(opening=False), []
    hold_nb(stack, int(start))
    for level in levels:
        follow_nb(stack, int(level))
        seen.append(Posture(int(stack.posture)))
    return seen


def test_down_after_two_worse_to_the_latest() -> None:
    assert path(APEX, [TURTLE, APEX, TURTLE, HIBERNATE]) == [APEX, APEX, APEX, HIBERNATE]
    assert path(APEX, [HIBERNATE, STALKER]) == [APEX, STALKER]
    assert path(APEX, [STALKER, STALKER, TURTLE, TURTLE]) == [APEX, STALKER, STALKER, TURTLE]


def test_up_after_five_better_to_the_worst_of_them() -> None:
    assert path(HIBERNATE, [APEX] * 5) == [HIBERNATE] * 4 + [APEX]
    assert path(HIBERNATE, [APEX, TURTLE, APEX, STALKER, APEX])[-1] == TURTLE
    assert path(HIBERNATE, [APEX] * 4 + [HIBERNATE] + [APEX] * 4) == [HIBERNATE] * 9
    assert path(TURTLE, [APEX] * 4 + [HIBERNATE] + [APEX] * 5)[-1] == APEX
    assert path(TURTLE, [APEX] * 4 + [HIBERNATE] + [APEX] * 5)[:-1] == [TURTLE] * 9


# --- the stack by hand ---


def test_a_stack_with_nothing_to_restore_starts_closed_and_earns_its_posture() -> None:
    stack = SurvivalStack()
    assert (stack.rm, stack.posture) == (0.0, HIBERNATE)
    postures = [stack.update(reading(), k * MINUTE).posture for k in range(200)]
    # Rm after k minutes is TOP·(1 − 0.98^k); five readings beyond a threshold before the posture follows.
    for threshold, posture in ((0.5, TURTLE), (0.75, STALKER), (0.9, APEX)):
        k = next(k for k in range(200) if TOP * (1.0 - 0.98**k) >= threshold)
        assert postures.index(posture) == k + 4
    assert 120 < postures.index(APEX) < 140  # "a little over two hours"
    assert postures == sorted(postures, reverse=True)


def test_the_first_reading_of_an_opening_stack_is_taken_whole() -> None:
    stack = SurvivalStack.opening()
    assert (stack.rm, stack.posture) == (0.0, HIBERNATE)
    verdict = stack.update(reading(drawdown=0.08), 5.0)
    assert verdict.rm == verdict.target == near(1.0 / (1.0 + math.exp(-1.2)))
    assert (verdict.posture, stack.posture, stack.rm) == (STALKER, STALKER, verdict.rm)


def test_a_fall_is_at_once_and_the_posture_follows_with_the_second_reading() -> None:
    stack = opened()
    first = stack.update(reading(drawdown=0.12), 60.0)
    assert (first.rm, first.level, first.posture) == (0.5, TURTLE, APEX)
    second = stack.update(reading(drawdown=0.13), 60.0)
    assert (second.level, second.posture) == (HIBERNATE, HIBERNATE)


def test_a_rise_is_bounded_by_the_minutes_gone() -> None:
    stack = opened(drawdown=0.12)
    assert stack.update(reading(), 60.0).rm == near(0.5 + 0.02 * (TOP - 0.5))
    assert stack.update(reading(), 60.0).rm == near(0.5 + 0.02 * (TOP - 0.5))


@pytest.mark.parametrize("dead", [{"grid_nodes": 0}, {"heartbeat_age_s": 31.0}, {"heartbeat_age_s": math.nan}])
def test_cat1_hibernates_on_that_very_reading(dead: dict[str, Any]) -> None:
    stack = opened()
    verdict = stack.update(reading(**dead), 1.0)
    assert (verdict.rm, verdict.posture) == (0.0, HIBERNATE)
    assert "at once" in " ".join(verdict.reasons)
    assert stack.update(reading(), 1e9).posture == HIBERNATE  # up takes five, as ever


def test_a_clock_that_goes_back_grants_nothing_until_it_has_caught_up() -> None:
    stack = opened(drawdown=0.12)
    stack.update(reading(drawdown=0.12), 600.0)
    back = stack.update(reading(), 0.0)
    assert (back.dt_min, back.rm) == (0.0, 0.5)
    assert "behind" in " ".join(back.reasons)
    assert stack.update(reading(), 600.0).rm == 0.5
    assert stack.update(reading(), 660.0).rm == near(0.5 + 0.02 * (TOP - 0.5))
    assert stack.update(reading(drawdown=0.2), 0.0).rm < 0.1  # what is worse counts at any time


@pytest.mark.parametrize("now", [math.nan, math.inf, -math.inf])
def test_a_time_that_is_none_is_refused_and_nothing_is_remembered(now: float) -> None:
    stack = opened()
    before = stack.snapshot()
    with pytest.raises(DataError, match="finite number of seconds"):
        stack.update(reading(grid_nodes=0), now)
    assert stack.snapshot() == before


def test_the_warm_up_keeps_cat3_and_blocks_entries() -> None:
    stack = opened(depth_quality=0.9)
    assert stack.update(reading(depth_quality=0.9), 1.0).categories.cat3 == near(0.93)
    blank = {"book_stale": None, "depth_quality": None, "fill_probability": None}
    for age in (0.0, 60.0, 119.9):
        verdict = stack.update(reading(**blank, book_service_age_s=age), 2.0)
        assert verdict.categories.cat3 == near(0.93)
        assert (verdict.entries_blocked, verdict.entries_allowed, verdict.acting) == (True, False, TURTLE)
        assert (verdict.posture, verdict.worst_cased) == (APEX, ())  # a restart of the book closes nothing
    over = stack.update(reading(**blank, book_service_age_s=120.0), 3.0)
    assert (over.categories.cat3, over.entries_blocked) == (0.3, False)
    assert over.worst_cased == tuple(blank)


def test_the_warm_up_without_a_saved_value_is_the_worst_case() -> None:
    verdict = SurvivalStack.opening().update(reading(book_service_age_s=5.0), 0.0)
    assert (verdict.categories.cat3, verdict.entries_blocked) == (0.3, True)


def test_an_unknown_age_of_the_book_service_takes_the_lower_of_both() -> None:
    stack = opened(depth_quality=0.9)
    low = stack.update(reading(depth_quality=0.5, book_service_age_s=None), 1.0)
    high = stack.update(reading(book_service_age_s=None), 1.0)
    assert (low.categories.cat3, high.categories.cat3) == (near(0.65), near(0.93))
    assert (low.entries_blocked, low.worst_cased) == (True, ("book_service_age_s",))


def test_acting_is_never_freer_than_the_posture() -> None:
    stack = opened()
    stack.update(reading(grid_nodes=0, book_service_age_s=1.0), 1.0)
    verdict = stack.update(reading(book_service_age_s=1.0), 2.0)
    assert (verdict.acting, verdict.entries_allowed) == (HIBERNATE, False)
    free = opened().update(reading(), 1.0)
    assert (free.acting, free.entries_allowed) == (APEX, True)


def test_the_reasons_tell_every_step() -> None:
    stack = opened()
    verdict = stack.update(reading(mc_status="ORANGE", depth_quality=0.5, drawdown=None), 60.0)
    heads = ["Cat1 ", "Cat2 ", "Cat3 ", "Cat4 ", "Cat5 ", "target ", "Rm ", "posture ", "actions: "]
    assert [line[: len(head)] for line, head in zip(verdict.reasons, heads, strict=True)] == heads
    told = " ".join(verdict.reasons)
    for part in ("ORANGE", "halved: 2 of", "drawdown unknown", "HIBERNATE seen 1 of 2 times"):
        assert part in told
    assert (verdict.worst_cased, verdict.halved) == (("drawdown",), True)
    falls = stack.update(reading(drawdown=1.0), 61.0)
    assert "from APEX after 2 worse readings in a row" in " ".join(falls.reasons)
    assert falls.reasons[-1] == "actions: close what is open, no entries"


# --- snapshots ---


def test_a_restart_keeps_posture_and_counters() -> None:
    stack = opened(grid_nodes=0)
    for k in range(1, 5):
        stack.update(reading(), k * 3600.0)
    stack = SurvivalStack.restore(stack.snapshot())
    assert (stack.posture, stack.rm) == (HIBERNATE, near(TOP))
    assert stack.update(reading(), 5 * 3600.0).posture == APEX  # the fifth better reading, of five
    low = opened()
    low.update(reading(drawdown=0.2), 1.0)
    again = SurvivalStack.restore(low.snapshot())
    assert again.update(reading(drawdown=0.2), 2.0).posture == HIBERNATE  # the second worse one, of two


def test_a_restart_of_everything_keeps_cat3_through_the_warm_up() -> None:
    stack = SurvivalStack.restore(opened().snapshot())
    verdict = stack.update(reading(book_stale=True, book_service_age_s=3.0), 30.0)
    assert (verdict.posture, verdict.rm, verdict.categories.cat3) == (APEX, near(TOP), 1.0)


def resealed(**changes: Any) -> bytes:
    """A snapshot with changed fields and a matching digest."""
    import hashlib

    saved = msgspec.json.decode(opened().snapshot()[16:])
    saved["version"] = changes.pop("version", saved["version"])
    saved["state"] |= changes
    body = msgspec.json.encode(saved)
    return hashlib.blake2b(body, digest_size=16).digest() + body


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (b"", "digest"),
        (b"x" * 60, "digest"),
        (opened().snapshot()[:-1], "digest"),
        (opened().snapshot() + b" ", "digest"),
        (opened().snapshot().replace(b'"posture":0', b'"posture":1'), "digest"),
        (resealed(version=2), "version 2, expected 1"),
        (resealed(rm=1.5), "rm 1.5, expected 0 to 1"),
        (resealed(cat3=-0.1), "cat3 -0.1, expected 0 to 1"),
        (resealed(rm="high"), "not readable"),
        (resealed(mood=1), "not readable"),
        (resealed(hysteresis={"posture": 3, "better": 5}), "not readable"),
        (resealed(hysteresis={"posture": 4}), "not readable"),
    ],
)
def test_a_snapshot_that_is_none_is_refused(value: bytes, match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        SurvivalStack.restore(value)


# --- for any history ---


def played(stack: SurvivalStack, history: list[tuple[float, dict[str, Any]]]) -> list[Verdict]:
    now, verdicts = 0.0, []
    for gap, fields in history:
        now += gap
        verdicts.append(stack.update(Readings(**fields), now))
    return verdicts


def timed(history: list[tuple[float, dict[str, Any]]]) -> list[tuple[float, dict[str, Any]]]:
    now, out = 0.0, []
    for gap, fields in history:
        now += gap
        out.append((now, fields))
    return out


def start(opening: bool) -> SurvivalStack:
    return SurvivalStack.opening() if opening else SurvivalStack()


@given(histories, st.booleans())
def test_the_slow_twin_agrees_at_every_reading(history: list[tuple[float, dict[str, Any]]], opening: bool) -> None:
    known = timed(history)
    for k, verdict in enumerate(played(start(opening), history)):
        goal, rm, posture = ref.run(known[: k + 1], opening)
        assert (verdict.target, verdict.rm) == near((goal, rm), rel=1e-12, abs=1e-300)
        assert verdict.posture.name == posture


@given(histories, st.booleans())
def test_what_never_happens(history: list[tuple[float, dict[str, Any]]], opening: bool) -> None:
    stack = start(opening)
    last, posture, newest = (1.0 if opening else 0.0), HIBERNATE, None
    for k, ((now, _), verdict) in enumerate(zip(timed(history), played(stack, history), strict=True)):
        assert 0.0 <= verdict.rm <= 1.0
        assert 0.0 <= verdict.target <= 1.0
        dt = 0.0 if newest is None else max(0.0, now - newest) / 60.0
        if verdict.target <= last:
            assert verdict.rm == verdict.target  # falls at once
        else:
            rise = min(min(1.0, 0.02 * dt) * (verdict.target - last), 0.05 * dt)
            assert last <= verdict.rm <= min(verdict.target, last + rise + 1e-15)
        if verdict.categories.cat1 == 0.0:
            assert verdict.posture == HIBERNATE
        if not (opening and k == 0) and verdict.posture < posture:
            assert k >= (5 if opening else 4)  # nobody rises before the fifth better reading
        assert verdict.acting >= verdict.posture
        assert len(verdict.reasons) == 9
        last, posture = verdict.rm, verdict.posture
        newest = now if newest is None else max(newest, now)


@given(histories, histories, st.booleans())
def test_a_restart_changes_nothing(
    before: list[tuple[float, dict[str, Any]]], after: list[tuple[float, dict[str, Any]]], opening: bool
) -> None:
    stack = start(opening)
    played(stack, before)
    again = SurvivalStack.restore(stack.snapshot())
    assert (again.posture, again.rm, again.snapshot()) == (stack.posture, stack.rm, stack.snapshot())
    assert played(again, after) == played(stack, after)


@given(histories, gaps, one, st.booleans())
def test_a_restart_never_loosens(
    before: list[tuple[float, dict[str, Any]]], gap: float, fields: dict[str, Any], opening: bool
) -> None:
    """Restored, or closed for want of a snapshot: no freer than the stack that went on."""
    stack = start(opening)
    now = sum(gap for gap, _ in before) + gap
    played(stack, before)
    restored, lost = SurvivalStack.restore(stack.snapshot()), SurvivalStack()
    went_on, again, closed = (s.update(Readings(**fields), now) for s in (stack, restored, lost))
    assert again.posture >= went_on.posture
    assert again.rm <= went_on.rm
    assert (closed.posture, closed.rm) == (HIBERNATE, 0.0)


@pytest.mark.parametrize("name", sorted(FIELDS))
@given(histories, one, st.data())
def test_an_unusable_sensor_never_raises_the_target_of_any_history(
    name: str, before: list[tuple[float, dict[str, Any]]], fields: dict[str, Any], data: st.DataObject
) -> None:
    stack = SurvivalStack.opening()
    played(stack, before)
    other = SurvivalStack.restore(stack.snapshot())
    blind = stack.update(Readings(**{**fields, name: None}), 1e13)
    seeing = other.update(Readings(**{**fields, name: data.draw(FIELDS[name])}), 1e13)
    assert blind.target <= seeing.target
