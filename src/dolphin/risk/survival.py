"""The survival stack: sensor readings in, a risk multiplier and a posture out (SPEC §10, §23).

    readings ─▶ five categories ─▶ target ─▶ bounded recovery ─▶ Rm ─▶ hysteresis ─▶ posture

The stack remembers four things: the last multiplier, the posture with its counters, the time of the newest reading, and
the last Cat3 of a warm book service. `snapshot` saves them, and a stack restored from it continues as if it had never
stopped. A stack that has nothing to restore starts closed.
"""

from __future__ import annotations

import hashlib
import math

import msgspec

from dolphin.core.codes import Posture
from dolphin.core.errors import ConfigError, DataError
from dolphin.risk import reasons as say
from dolphin.risk.posture import ALLOWED, Hysteresis, posture_of
from dolphin.risk.sensors import (
    WARM_UP_S,
    WORST_CAT3,
    Categories,
    Readings,
    cat3,
    categories,
    degraded,
    number,
    recovered,
    target_of,
    worst_cased,
)

SNAPSHOT_VERSION = 1
_DIGEST = 16
_BOOK_SENSORS = ("book_stale", "depth_quality", "fill_probability")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading led to.

    `rm` and `target` in [0, 1]; `level` is the posture that `rm` alone stands for, `posture` the one in force;
    `reasons` tells every step in words; `worst_cased` names the sensors that counted as their worst case;
    `entries_blocked` is set while the book service warms up; `dt_min` is the recovery time granted, minutes.
    """

    now_s: float
    dt_min: float
    categories: Categories
    target: float
    halved: bool
    rm: float
    level: Posture
    posture: Posture
    entries_blocked: bool
    reasons: tuple[str, ...]
    worst_cased: tuple[str, ...]

    @property
    def acting(self) -> Posture:
        """What the engine must be told: the posture, and at best TURTLE while entries are blocked."""
        return max(self.posture, Posture.TURTLE) if self.entries_blocked else self.posture

    @property
    def entries_allowed(self) -> bool:
        """Whether the engine may enter at all."""
        return ALLOWED[self.acting].entries


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All that the stack remembers; `rm` None: the first reading is still to come and is taken as it is."""

    rm: float | None
    hysteresis: Hysteresis
    last_s: float | None = None
    cat3: float | None = None


class _Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    version: int
    state: _State


_CLOSED = _State(rm=0.0, hysteresis=Hysteresis(posture=Posture.HIBERNATE))
_OPENING = _State(rm=None, hysteresis=Hysteresis(posture=Posture.HIBERNATE))


class SurvivalStack:
    """The stack. `SurvivalStack()` starts closed (Rm 0, HIBERNATE) and must earn its posture; `opening()` takes its
    first reading as it is, for replays; `restore` continues where a snapshot stopped."""

    def __init__(self) -> None:
        self._state = _CLOSED

    @classmethod
    def opening(cls) -> SurvivalStack:
        """A stack whose first reading is taken whole: Rm its target, the posture that of Rm. For replays and
        explanations; a live service that has lost its snapshot must start with `SurvivalStack()`."""
        stack = cls()
        stack._state = _OPENING
        return stack

    @property
    def posture(self) -> Posture:
        """The posture in force; HIBERNATE before the first reading."""
        return self._state.hysteresis.posture

    @property
    def rm(self) -> float:
        """The risk multiplier in [0, 1]; 0 before the first reading."""
        return self._state.rm or 0.0

    def update(self, readings: Readings, now_s: float) -> Verdict:
        """Take one reading at `now_s` (seconds, any fixed origin).

        A time at or before the newest one seen grants no recovery, but what has become worse still counts. Raises
        DataError, with nothing remembered, for a time that is not finite. Causality: this and earlier readings only.
        """
        if not math.isfinite(now_s):
            raise DataError(f"survival stack: time {now_s} s; expected a finite number of seconds: check the clock")
        was = self._state
        age = number(readings, "book_service_age_s")
        warm = age is not None and age >= WARM_UP_S
        cats = msgspec.structs.replace(categories(readings), cat3=self._cat3(readings, age))
        target = target_of(cats)
        ahead_s = 0.0 if was.last_s is None else now_s - was.last_s
        dt_min = max(0.0, ahead_s) / 60.0
        rm = target if was.rm is None else recovered(was.rm, target, dt_min)
        level, killed = posture_of(rm), cats.cat1 == 0.0
        after = Hysteresis(posture=level) if killed or was.rm is None else was.hysteresis.after(level)
        self._state = _State(
            rm=rm,
            hysteresis=after,
            last_s=now_s if was.last_s is None else max(now_s, was.last_s),
            cat3=cats.cat3 if warm else was.cat3,
        )
        return Verdict(
            now_s=now_s,
            dt_min=dt_min,
            categories=cats,
            target=target,
            halved=degraded(cats) >= 2,
            rm=rm,
            level=level,
            posture=after.posture,
            entries_blocked=not warm,
            reasons=(
                *say.category_lines(readings, cats, "" if warm else say.warm_up_line(age, was.cat3)),
                say.target_line(cats, target),
                say.rm_line(was.rm, target, rm, dt_min, max(0.0, -ahead_s)),
                say.posture_line(None if was.rm is None else was.hysteresis, level, after, killed=killed),
                say.action_line(after.posture, entries_blocked=not warm),
            ),
            worst_cased=_named(readings, age),
        )

    def _cat3(self, readings: Readings, age_s: float | None) -> float:
        """Cat3, or the saved value in the book service's first 120 s; the lower of both when its age is not known."""
        if age_s is not None and age_s >= WARM_UP_S:
            return cat3(readings)
        saved = WORST_CAT3 if self._state.cat3 is None else self._state.cat3
        return saved if age_s is not None else min(saved, cat3(readings))

    def snapshot(self) -> bytes:
        """All that the stack remembers, with a digest in front."""
        body = msgspec.json.encode(_Saved(version=SNAPSHOT_VERSION, state=self._state))
        return hashlib.blake2b(body, digest_size=_DIGEST).digest() + body

    @classmethod
    def restore(cls, value: bytes) -> SurvivalStack:
        """The stack that `snapshot` described: same posture, same counters, same clock.

        Raises ConfigError for a value that is torn, altered, of another version or out of range; the caller then
        starts with `SurvivalStack()`, which is closed.
        """
        body = value[_DIGEST:]
        if hashlib.blake2b(body, digest_size=_DIGEST).digest() != value[:_DIGEST]:
            raise ConfigError(
                f"survival snapshot: {len(value)} bytes that do not match their digest, so torn or altered; expected "
                "what snapshot() gave: start with a closed stack"
            )
        try:
            saved = msgspec.json.decode(body, type=_Saved)
        except msgspec.MsgspecError as error:
            raise ConfigError(f"survival snapshot: not readable ({error}); start with a closed stack") from None
        if saved.version != SNAPSHOT_VERSION:
            raise ConfigError(
                f"survival snapshot: version {saved.version}, expected {SNAPSHOT_VERSION}; start with a closed stack"
            )
        _check_range("rm", saved.state.rm)
        _check_range("cat3", saved.state.cat3)
        stack = cls()
        stack._state = saved.state
        return stack


def _check_range(name: str, value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise ConfigError(f"survival snapshot: {name} {value}, expected 0 to 1; start with a closed stack")


def _named(readings: Readings, age_s: float | None) -> tuple[str, ...]:
    """The worst-cased sensors, without those of a book that nobody looks at while its service warms up."""
    warming = age_s is not None and age_s < WARM_UP_S
    return tuple(name for name in worst_cased(readings) if not (warming and name in _BOOK_SENSORS))
