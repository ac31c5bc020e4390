"""The survival stack: sensor readings in, a risk multiplier and a posture out (SPEC §10, §23).

    readings ─▶ five categories ─▶ target ─▶ bounded recovery ─▶ Rm ─▶ hysteresis ─▶ posture

The stack remembers four things: the last multiplier, the posture with its counters, the time of the newest reading, and
the last Cat3 of a warm book service. `snapshot` saves them, and a stack restored from it continues as if it had never
stopped. A stack that has nothing to restore starts closed.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import msgspec

from dolphin.core import sealed
from dolphin.core.codes import Posture
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.native import Flat
from dolphin.core.records import Record, records
from dolphin.risk import reasons as say
from dolphin.risk.posture import ALLOWED, Hysteresis
from dolphin.risk.sensors import READING, WARM_UP_S, Readings, get_reading, put_reading, worst_cased
from dolphin.risk.stack import CATEGORY_NAMES, SURVIVAL, VERDICT, new_stack

SNAPSHOT_VERSION = 1
_BOOK_SENSORS = ("book_stale", "depth_quality", "fill_probability")


class Categories(msgspec.Struct, frozen=True, kw_only=True):
    """The five categories, each in [0, 1]: kill switch, structure, microstructure, environment, capital."""

    cat1: float
    cat2: float
    cat3: float
    cat4: float
    cat5: float


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one reading led to.

    `rm` and `target` in [0, 1]; `level` is the posture that `rm` alone stands for, `posture` the one in force;
    `reasons` tells every step in words; `worst_cased` names the sensors that counted as their worst case;
    `entries_blocked` is set while the book service warms up; `dt_min` is the recovery time granted, minutes. `acting`
    is what the engine must be told: the posture, and at best TURTLE while entries are blocked.
    """

    now_s: float
    dt_min: float
    categories: Categories
    target: float
    halved: bool
    rm: float
    level: Posture
    posture: Posture
    acting: Posture
    entries_blocked: bool
    reasons: tuple[str, ...]
    worst_cased: tuple[str, ...]

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


class SurvivalStack:
    """The stack. `SurvivalStack()` starts closed (Rm 0, HIBERNATE) and must earn its posture; `opening()` takes its
    first reading as it is, for replays; `restore` continues where a snapshot stopped."""

    def __init__(self) -> None:
        self._hold(new_stack(opening=False))

    def _hold(self, stack: Record) -> None:
        """Remember in this record from now on, and take the kernel's arguments apart once."""
        self._stack = stack
        self._reading, self._seen, self._verdict = (records(dtype, 1)[0] for dtype in (READING, READING, VERDICT))
        self._flat = Flat(self._stack, self._reading, self._seen, self._verdict)

    @classmethod
    def opening(cls) -> SurvivalStack:
        """A stack whose first reading is taken whole: Rm its target, the posture that of Rm. For replays and
        explanations; a live service that has lost its snapshot must start with `SurvivalStack()`."""
        stack = cls()
        stack._hold(new_stack(opening=True))
        return stack

    @property
    def posture(self) -> Posture:
        """The posture in force; HIBERNATE before the first reading."""
        return Posture(int(self._stack.posture))

    @property
    def rm(self) -> float:
        """The risk multiplier in [0, 1]; 0 before the first reading."""
        return _known(float(self._stack.rm)) or 0.0

    def update(self, readings: Readings, now_s: float) -> Verdict:
        """Take one reading at `now_s` (seconds, any fixed origin).

        A time at or before the newest one seen grants no recovery, but what has become worse still counts. Raises
        DataError, with nothing remembered, for a time that is not finite. Causality: this and earlier readings only.
        """
        if not math.isfinite(now_s):
            raise DataError(f"survival stack: time {now_s} s; expected a finite number of seconds: check the clock")
        was = _state_of(self._stack)
        put_reading(self._reading, readings)
        self._reading.now_s = now_s
        SURVIVAL(self._flat)
        seen, v = get_reading(self._seen), dict(zip(VERDICT.names or (), self._verdict.item(), strict=True))
        cats = Categories(**{name: v[name] for name in CATEGORY_NAMES})
        target, rm, level, blocked = v["target"], v["rm"], Posture(v["level"]), bool(v["blocked"])
        after = _state_of(self._stack).hysteresis
        return Verdict(
            now_s=now_s,
            dt_min=v["dt_min"],
            categories=cats,
            target=target,
            halved=v["degraded"] >= 2,
            rm=rm,
            level=level,
            posture=after.posture,
            acting=Posture(v["acting"]),
            entries_blocked=blocked,
            reasons=(
                *say.category_lines(seen, cats, say.warm_up_line(seen.book_service_age_s, was.cat3) if blocked else ""),
                say.target_line(target, v["degraded"]),
                say.rm_line(was.rm, target, rm, v["dt_min"], v["behind_s"]),
                say.posture_line(None if was.rm is None else was.hysteresis, level, after, killed=cats.cat1 == 0.0),
                say.action_line(after.posture, entries_blocked=blocked),
            ),
            worst_cased=_named(seen),
        )

    def snapshot(self) -> bytes:
        """All that the stack remembers, with a digest in front."""
        return sealed.seal(msgspec.json.encode(_Saved(version=SNAPSHOT_VERSION, state=_state_of(self._stack))))

    @classmethod
    def restore(cls, value: bytes) -> SurvivalStack:
        """The stack that `snapshot` described: same posture, same counters, same clock.

        Raises ConfigError for a value that is torn, altered, of another version or out of range; the caller then
        starts with `SurvivalStack()`, which is closed.
        """
        body = sealed.unseal(value, "survival", "start with a closed stack")
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
        stack._hold(_record_of(saved.state))
        return stack

    def __reduce__(self) -> tuple[Callable[[bytes], SurvivalStack], tuple[bytes]]:
        """Copying and pickling go through the snapshot: the addresses kept in `_flat` are this stack's alone."""
        return SurvivalStack.restore, (self.snapshot(),)


def _known(value: float) -> float | None:
    """A record's NaN as None."""
    return None if math.isnan(value) else value


def _state_of(stack: Record) -> _State:
    """A STACK record as what a snapshot holds."""
    rm, posture, worse, better, worst_better, last_s, cat3 = stack.item()
    held = Hysteresis(posture=Posture(posture), worse=worse, better=better, worst_better=Posture(worst_better))
    return _State(rm=_known(rm), hysteresis=held, last_s=_known(last_s), cat3=_known(cat3))


def _record_of(state: _State) -> Record:
    """The STACK record of what a snapshot holds."""
    stack, held = new_stack(opening=True), state.hysteresis
    stack.posture, stack.worst_better = int(held.posture), int(held.worst_better)
    stack.worse, stack.better = held.worse, held.better
    for name in ("rm", "last_s", "cat3"):
        value = getattr(state, name)
        stack[name] = math.nan if value is None else value
    return stack


def _check_range(name: str, value: float | None) -> None:
    if value is not None and not 0.0 <= value <= 1.0:
        raise ConfigError(f"survival snapshot: {name} {value}, expected 0 to 1; start with a closed stack")


def _named(seen: Readings) -> tuple[str, ...]:
    """The worst-cased sensors, without those of a book that nobody looks at while its service warms up."""
    age = seen.book_service_age_s
    warming = age is not None and age < WARM_UP_S
    return tuple(name for name in worst_cased(seen) if not (warming and name in _BOOK_SENSORS))
