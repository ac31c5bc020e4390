"""What a day brings beside its bars: the circuit breaker's boost and beta, and the forewarner's gate (SPEC §9, §11).

Both are asked once a day, outside the step: the breaker when the day's first ten scans exist, the forewarner when the
day begins and again when the breaker has spoken, since leverage is what it judges. What they say enters the step as
plain numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import ConfigError
from dolphin.risk.acb import FIRST_ACB_BAR, AcbAnswer
from dolphin.risk.forewarner.report import Status, mc_scale_of

_NOT_DUE = 2**62


class Breaker(Protocol):
    """The circuit breaker, as far as the engine knows it: `risk.acb.AdaptiveCircuitBreaker` is one."""

    def add_w750(self, date: date, values: Sequence[float], /) -> None:
        """Take a date's first w750 velocities."""

    def get_dynamic_boost_for_date(self, date: date, /) -> AcbAnswer:
        """Boost and beta of a date."""


class McReport(Protocol):
    """What the forewarner says of one configuration."""

    @property
    def status(self) -> Status:
        """RED: no entries that day; ORANGE: half the size."""


class Forewarner[R: McReport](Protocol):
    """The Monte-Carlo forewarner, as far as the engine knows it."""

    def assess_config_dict(self, cfg: Mapping[str, Any], /) -> R:
        """Judge a configuration, parameter names and values."""


class Due(NamedTuple):
    """What is to hold from day bar 10 on: boost, beta, and (mc_scale, red); the last None without a forewarner."""

    boost: float
    beta: float
    gate: tuple[float, bool] | None


class DayPlan:
    """Counts the day's bars, keeps its first ten w750 velocities, and knows when the breaker is to be asked."""

    def __init__(self) -> None:
        self.day: date | None = None
        self.bars = 0
        self.w750: list[float] = []
        self.answer: AcbAnswer | None = None
        self.report: McReport | None = None
        self._breaker: Breaker | None = None
        self._forewarner: Forewarner[McReport] | None = None
        self._base: dict[str, Any] = {}

    def set_breaker(self, breaker: Breaker | None) -> None:
        """Ask `breaker` from now on; None asks nobody. It learns the day's ten velocities if they are complete."""
        self._breaker = breaker
        self._tell()

    def set_forewarner(self, forewarner: Forewarner[McReport] | None, base: Mapping[str, Any]) -> None:
        """Ask `forewarner` of `base` from the next day on; None asks nobody.

        Raises ConfigError without max_leverage.
        """
        if forewarner is not None and not isinstance(base.get("max_leverage"), (int, float)):
            raise ConfigError("forewarner: the base configuration has no number max_leverage; expected one to boost")
        self._forewarner, self._base, self.report = forewarner, dict(base), None

    def begin(self, day: date) -> None:
        """A new day."""
        self.day, self.bars, self.w750, self.answer = day, 0, [], None

    def restore(self, day: date | None, bars: int, w750: Sequence[float | None]) -> None:
        """Continue a day where a snapshot stopped."""
        self.day, self.bars, self.w750 = day, bars, [math.nan if v is None else v for v in w750]

    def is_due(self) -> bool:
        """Whether the breaker is to be asked before the next bar."""
        return self._may_ask() and self.bars == FIRST_ACB_BAR and self.answer is None

    def bars_until_due(self) -> int:
        """How many bars may be stepped before anybody is to be asked."""
        return FIRST_ACB_BAR - self.bars if self._may_ask() and self.bars < FIRST_ACB_BAR else _NOT_DUE

    def _may_ask(self) -> bool:
        return self._breaker is not None and self.day is not None

    def ask(self) -> Due:
        """The breaker's answer for the day, remembered, and the forewarner's at that boost.

        Raises ConfigError for a boost outside [1, 3] or a beta outside [0, 1].
        """
        if self._breaker is None or self.day is None:
            raise ConfigError("circuit breaker: asked before a day began; call begin_day and set_acb first")
        self.answer = self._breaker.get_dynamic_boost_for_date(self.day)
        boost, beta = self.answer["boost"], self.answer["beta"]
        if not (1.0 <= boost <= 3.0 and 0.0 <= beta <= 1.0):
            raise ConfigError(
                f"{self.day}: circuit breaker said boost {boost}, beta {beta}; expected boost in [1, 3], beta in [0, 1]"
            )
        return Due(boost, beta, self.assess(boost))

    def count(self, w750: NDArray[np.float64]) -> None:
        """Take the w750 velocities of the bars just stepped."""
        missing = FIRST_ACB_BAR - len(self.w750)
        if missing > 0 and len(w750):
            self.w750 += w750[:missing].tolist()
            self._tell()
        self.bars += len(w750)

    def _tell(self) -> None:
        if self._breaker is not None and self.day is not None and len(self.w750) == FIRST_ACB_BAR:
            self._breaker.add_w750(self.day, self.w750)

    def assess(self, boost: float) -> tuple[float, bool] | None:
        """(mc_scale, red) for the base configuration at this boost; None without a forewarner."""
        if self._forewarner is None:
            return None
        boosted = {**self._base, "max_leverage": self._base["max_leverage"] * boost}
        self.report = self._forewarner.assess_config_dict(boosted)
        status = self.report.status
        return mc_scale_of(status), status not in ("OK", "ORANGE")  # a word that nobody knows is the worst one
