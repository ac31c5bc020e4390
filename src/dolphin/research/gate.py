"""The forewarner over a replay: one judgement per day, remembered for the report (SPEC §11)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams, overridden
from dolphin.market.forewarnerfiles import DolphinForewarner
from dolphin.risk.acb import possible_boosts
from dolphin.risk.forewarner import MC_BASE_CFG, Report, mc_scale_of


@dataclass(frozen=True)
class McDay:
    """What the forewarner said of one day's configuration last, and the leverage that it judged."""

    day: date
    max_leverage: float
    report: Report

    def plain(self) -> dict[str, Any]:
        """The day as `summary.json` holds it; what is not finite is null."""
        said = self.report
        return {
            "date": self.day.isoformat(),
            "status": said.status,
            "mc_scale": mc_scale_of(said.status),
            "max_leverage": self.max_leverage,
            "catastrophic_probability": _finite(said.catastrophic_probability),
            "envelope_score": _finite(said.envelope_score),
        }


@dataclass(frozen=True)
class GateRun:
    """The days of a run, and `identity`: the hash over the model's files."""

    days: tuple[McDay, ...]
    identity: str
    forced: bool


class DailyGate:
    """The model in a folder and the configuration that it is to judge; and a record of what it said.

    The configuration is the champion's with the run's own changes, so that a changed parameter is judged as well.
    Raises DataError for a folder without a sound model, ConfigError for a run in the direction that no model knows.
    """

    def __init__(self, folder: Path, params: EngineParams, direction: Direction) -> None:
        self.warner = DolphinForewarner(folder)
        if direction.name != self.warner.card.direction:
            raise ConfigError(
                f"--forewarner {folder}: trained for {self.warner.card.direction}, this run is {direction.name}; leave "
                "it out, or run the profile blue"
            )
        self.base: Mapping[str, Any] = {**MC_BASE_CFG, **overridden(params)}
        # Every boost that the breaker can give, in one go: asking the trees eight times takes eight times as long.
        leverage = float(self.base["max_leverage"])
        self.warner.assess_many([{**self.base, "max_leverage": leverage * boost} for boost in possible_boosts()])
        self._days: list[McDay] = []

    def take(self, day: date, boost: float, report: Report) -> None:
        """Note the last judgement of `day`, made at `boost`."""
        self._days.append(McDay(day, float(self.base["max_leverage"]) * boost, report))

    def run(self) -> GateRun:
        """The days taken so far."""
        return GateRun(tuple(self._days), self.warner.identity, self.warner.card.forced)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the model."""
        if not self.warner.card.forced:
            return ()
        return ("The forewarner's model was saved although it was no better than chance: do not lean on its gate.",)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
