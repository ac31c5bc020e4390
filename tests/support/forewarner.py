"""Made-up trials and a small model fitted on them: for tests of whatever reads a model, never a claim about markets."""

from __future__ import annotations

import functools
from datetime import timedelta
from pathlib import Path

import numpy as np

from dolphin.core.params import champion_hash
from dolphin.market.forewarnerfiles import FORMAT, REPORT, ModelCard, write_model
from dolphin.research.forewarner.design import TrainSpec, Trial, design
from dolphin.research.forewarner.fit import Fitted, fit
from dolphin.research.forewarner.train import Plan, card_of, trial_table
from dolphin.research.forewarner.trials import Outcome
from dolphin.risk.forewarner.space import space_table
from tests.support.runs import FIRST

DAYS = [FIRST + timedelta(days=k) for k in range(8)]


def made_up(count: int, seed: int = 3) -> tuple[list[Trial], list[Outcome]]:
    """Trials whose drawdown grows with what they may bet, give or take luck."""
    trials = design(TrainSpec(data=Path("nowhere"), trials=count, seed=seed), DAYS)
    rng = np.random.default_rng(seed)
    outcomes = []
    for trial in trials:
        bet = trial.values["fraction"] * min(trial.values["max_leverage"], trial.values["abs_max_leverage"])
        drawdown = float(abs(0.045 * bet * (1.0 + 0.5 * rng.standard_normal())))
        outcomes.append(Outcome(trial.number, 0.02 - 0.8 * drawdown, drawdown, 10))
    return trials, outcomes


def luck(count: int, seed: int = 3) -> tuple[list[Trial], list[Outcome]]:
    """Trials whose outcome has nothing to do with their parameters: one in five is a catastrophe."""
    trials = design(TrainSpec(data=Path("nowhere"), trials=count, seed=seed), DAYS)
    rng = np.random.default_rng(seed)
    return trials, [Outcome(t.number, 0.0, 0.9 if rng.random() < 0.2 else 0.05, 5) for t in trials]


@functools.cache
def fitted() -> Fitted:
    """Models of 400 made-up trials; fitted once per process."""
    return fit(*made_up(400), seed=3)


def plan_of(trials: list[Trial]) -> Plan:
    """A plan that these trials could come from."""
    data = {"hash": "ab" * 32, "kind": "scans", "from": "2024-01-01", "to": "2024-01-08", "days": 8, "assets": 4}
    identity = {
        "format": FORMAT, "data": {**data, "bar_seconds": 60.0}, "seed": 3, "trials": len(trials),
        "days_per_trial": 5, "block_days": 2, "capital": 25_000.0, "champion_hash": champion_hash(),
        "kernels": "0" * 16, "space": space_table(),
    }  # fmt: skip
    return Plan(TrainSpec(data=Path("nowhere"), trials=len(trials), seed=3), trials, identity)


def write_small_model(folder: Path) -> ModelCard:
    """The fitted models as a model folder."""
    trials, outcomes = made_up(400)
    folder.mkdir(parents=True)
    (folder / REPORT).write_text("<!doctype html><title>no page</title>")
    return write_model(folder, card_of(plan_of(trials), fitted()), fitted().models, trial_table(trials, outcomes))
