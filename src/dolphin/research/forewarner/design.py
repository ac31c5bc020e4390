"""What each trial is: a point of the parameter space and a sequence of blocks of recorded days (SPEC §11).

Everything here is a function of the seed and the trial's number, so a trial is the same whoever runs it, and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np

from dolphin.core.errors import ConfigError, DataError
from dolphin.risk.forewarner.space import F8, MC_BASE_CFG, NAMES, SPACE

KEEP = 0.5
"""The chance that a parameter of a trial keeps the champion's value, those that set the size of bets excepted: what is
asked about lies near the champion, and so must half of what is learnt from."""

_SPACE_STREAM, _TRIAL_STREAM = 0, 1
"""Independent streams of random numbers from one seed; the second has one for each trial."""

Blocks = tuple[tuple[date, ...], ...]
"""The days of a trial, in order; each block holds consecutive recorded days."""


@dataclass(frozen=True)
class TrainSpec:
    """What to train on. Days both included, None for that end of the archive; `capital` in USDT; `workers` threads."""

    data: Path
    trials: int = 2000
    days_per_trial: int = 5
    block_days: int = 2
    capital: float = 25_000.0
    seed: int = 7
    workers: int = 2
    first: date | None = None
    last: date | None = None

    def check(self) -> None:
        """Refuse what can be refused before a file is opened; ConfigError in the words of the command line."""
        for name, value, low, high in (
            ("--trials", self.trials, 40, 1_000_000),
            ("--days-per-trial", self.days_per_trial, 1, 365),
            ("--block-days", self.block_days, 1, self.days_per_trial),
            ("--seed", self.seed, 0, 2**32 - 1),
            ("--workers", self.workers, 1, 256),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} {value}: expected {low} to {high}")
        if not (np.isfinite(self.capital) and self.capital > 0.0):
            raise ConfigError(f"--capital {self.capital:g}: expected a positive number of USDT")
        if self.first is not None and self.last is not None and self.first > self.last:
            raise ConfigError(f"--from {self.first}: after --to {self.last}; swap them")


@dataclass(frozen=True)
class Trial:
    """One trial: its number, the sampled parameters by name, and its days."""

    number: int
    values: dict[str, float]
    blocks: Blocks


def design(spec: TrainSpec, days: Sequence[date]) -> list[Trial]:
    """All trials of `spec` over the recorded `days` (ascending).

    Raises DataError when no block fits into the days. Determinism: seed, numbers of `spec` and `days` alone.
    """
    starts = block_starts(days, spec.block_days)
    points = latin_hypercube(spec.trials, len(SPACE), np.random.default_rng([spec.seed, _SPACE_STREAM]))
    trials = []
    for number, point in enumerate(points):
        rng = np.random.default_rng([spec.seed, _TRIAL_STREAM, number])
        kept = rng.random(len(SPACE)) < KEEP
        values = {
            p.name: MC_BASE_CFG[p.name] if keep and not p.riskier else p.value(float(u))
            for p, u, keep in zip(SPACE, point, kept, strict=True)
        }
        trials.append(Trial(number, values, bootstrap(starts, spec.days_per_trial, spec.block_days, rng)))
    return trials


def latin_hypercube(count: int, dimensions: int, rng: np.random.Generator) -> F8:
    """`count` points of the unit box, float64 (count, dimensions): each of `count` equal slices of every axis holds
    exactly one."""
    ranks = rng.permuted(np.tile(np.arange(count), (dimensions, 1)), axis=1).T
    return np.asarray((ranks + rng.random((count, dimensions))) / count)


def block_starts(days: Sequence[date], block_days: int) -> list[date]:
    """The days on which a block of `block_days` consecutive recorded days can start; DataError when there is none."""
    have = set(days)
    starts = [d for d in days if all(d + timedelta(days=k) in have for k in range(block_days))]
    if not starts:
        raise DataError(
            f"--block-days {block_days}: the archive's {len(days)} usable day(s) hold no {block_days} in a row; give "
            "fewer, or more days"
        )
    return starts


def bootstrap(starts: Sequence[date], length: int, block_days: int, rng: np.random.Generator) -> Blocks:
    """Blocks drawn with replacement until they hold `length` days; the last one is cut to fit."""
    blocks: list[tuple[date, ...]] = []
    left = length
    while left:
        first = starts[int(rng.integers(len(starts)))]
        blocks.append(tuple(first + timedelta(days=k) for k in range(min(block_days, left))))
        left -= len(blocks[-1])
    return tuple(blocks)


def point_of(trial: Trial) -> list[float]:
    """The trial's parameter values in the space's order."""
    return [trial.values[name] for name in NAMES]


def spell(blocks: Blocks) -> str:
    """The days as text: spaces within a block, a bar at a seam."""
    return " | ".join(" ".join(day.isoformat() for day in block) for block in blocks)
