"""The circuit breaker over a replay: factor files and the scans' velocity in, boost and beta per day out (SPEC §9)."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from dolphin.core.errors import DataError
from dolphin.market.archive import Archive
from dolphin.market.factorfiles import factor_dates, read_factors, read_w750
from dolphin.market.tables import ScanDay
from dolphin.risk.acb import FACTORS, FIRST_ACB_BAR, AcbAnswer, AdaptiveCircuitBreaker

_NAMED = 5
"""Dates that a remark names before it only counts."""


@dataclass(frozen=True)
class AcbDay:
    """What the breaker did on one day: `boost` and `beta` from day bar 10 on, made of `signals` (0 to 4).

    A day of ten bars or fewer never meets it: boost 1, beta 0, `signals` None. `missing` names the factors without a
    value.
    """

    day: date
    boost: float
    beta: float
    signals: float | None
    missing: tuple[str, ...]

    def plain(self) -> dict[str, Any]:
        """The day as `summary.json` holds it."""
        return {
            "date": self.day.isoformat(),
            "boost": self.boost,
            "beta": self.beta,
            "signals": self.signals,
            "missing": list(self.missing),
        }


@dataclass(frozen=True)
class BreakerRun:
    """The days of a run, and `identity`, a hash (hex) over every factor and velocity read from files."""

    days: tuple[AcbDay, ...]
    identity: str


class DailyBreaker:
    """A breaker, `acb`, that knows a folder's factors, for an engine to ask; and a record of what it said.

    Factors come from the files in `folder`, the w750 velocity from the scans themselves; `lambda_vel_w750` of the files
    is used for dates before the run's first only, as history. All files are read here, so that a bad one is refused
    before the replay starts.

    Raises DataError for a file that is not sound, or a folder that holds none of `days`.
    """

    def __init__(self, folder: Path, days: Sequence[date]) -> None:
        dates = factor_dates(folder)
        if not set(dates) & set(days):
            met = f"{dates[0]} to {dates[-1]}" if dates else "no YYYY-MM-DD folder"
            raise DataError(f"--factors {folder}: holds {met}; expected dates of the run, {days[0]} to {days[-1]}")
        self.acb = AdaptiveCircuitBreaker()
        self._days: list[AcbDay] = []
        self._preloaded = 0
        self._unscanned: list[date] = []
        self._short_history = 0
        self._first = days[0]
        self._learnt = 0
        digest = hashlib.sha256()
        for day in (d for d in dates if d < days[0]):
            velocities = read_w750(folder, day)
            self.acb.add_w750(day, velocities)
            self._preloaded += any(map(math.isfinite, velocities))
            digest.update(_line(day, velocities))
        for day in sorted(set(dates) & set(days)):
            factors = read_factors(folder, day)
            self.acb.set_factors(day, factors)
            digest.update(_line(day, factors))
        self._identity = digest.hexdigest()

    def learn_earlier(self, whole: Archive) -> None:
        """Take the w750 velocities of the archive's own scanned days before the run; they replace those of files."""
        if whole.kind != "scans":
            return
        for day in whole.days:
            if day >= self._first:
                break
            scans = whole.read(day, ())
            if isinstance(scans, ScanDay) and scans.rows >= FIRST_ACB_BAR:
                velocities = scans.signal("v750_lambda_max_velocity")[:FIRST_ACB_BAR].tolist()
                self.acb.add_w750(day, velocities)
                self._learnt += any(map(math.isfinite, velocities))

    def take(self, day: date, answer: AcbAnswer | None) -> None:
        """Note what the engine was told on `day`; None: the day was too short to ask."""
        if answer is None:
            self._unscanned.append(day)
            missing = tuple(self.acb.get_dynamic_boost_for_date(day)["missing"])
            self._days.append(AcbDay(day, 1.0, 0.0, None, missing))
            return
        self._short_history += answer["w750_threshold"] is None
        self._days.append(AcbDay(day, answer["boost"], answer["beta"], answer["signals"], tuple(answer["missing"])))

    def run(self) -> BreakerRun:
        """The days taken so far."""
        return BreakerRun(tuple(self._days), self._identity)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know: dates without factors, thin history, days too short."""
        lines = []
        without = [day.day for day in self._days if len(day.missing) == len(FACTORS)]
        if without:
            lines.append(f"No factors for {_named(without)}: missing, not zero, so the boost is 1 there.")
        if self._preloaded:
            lines.append(f"The breaker's w750 history starts with {self._preloaded} earlier date(s) of factor files.")
        if self._learnt:
            lines.append(f"The breaker's w750 history starts with {self._learnt} earlier date(s) of the archive.")
        if self._short_history:
            lines.append(
                f"On {self._short_history} day(s) fewer than 20 earlier dates had a w750 velocity, so beta was 0.2."
            )
        if self._unscanned:
            lines.append(f"Ten bars or fewer on {_named(self._unscanned)}: the circuit breaker never spoke there.")
        return tuple(lines)


def _named(days: list[date]) -> str:
    more = f" and {len(days) - _NAMED} more" if len(days) > _NAMED else ""
    return f"{len(days)} date(s), {', '.join(map(str, days[:_NAMED]))}{more}"


def _line(day: date, values: object) -> bytes:
    """One date's values in a form that is the same for the same values, NaN included."""
    return f"{day} {json.dumps(values, sort_keys=True)}\n".encode()
