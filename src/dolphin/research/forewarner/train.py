"""Training from end to end: an archive in; trials, models and the card that describes them out (SPEC §11)."""

from __future__ import annotations

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np
import pyarrow as pa

import dolphin
from dolphin.core.jit import source_fingerprint
from dolphin.core.params import champion_hash
from dolphin.market.archive import Archive
from dolphin.market.forewarnerfiles import BOUND_VERSIONS, FORMAT, ModelCard
from dolphin.research.forewarner.design import TrainSpec, Trial, design, point_of, spell
from dolphin.research.forewarner.fit import Fitted
from dolphin.research.forewarner.trials import Outcome, usable_days
from dolphin.risk.forewarner.assess import Forewarner
from dolphin.risk.forewarner.space import MC_BASE_CFG, NAMES, space_table

Advance = Callable[[int], None]


@dataclass(frozen=True)
class Plan:
    """What a training will run: its trials, and what identifies it."""

    spec: TrainSpec
    trials: list[Trial]
    identity: dict[str, Any]


def plan(spec: TrainSpec) -> Plan:
    """Lay out all trials of `spec`; raises ConfigError or DataError for what cannot work, before anything is run."""
    spec.check()
    whole = Archive.open(spec.data)
    archive = whole.select(spec.first, spec.last)
    days = usable_days(archive)
    identity = {
        "format": FORMAT,
        "data": {
            # Of the whole folder: the days before the first one fill the scanner's windows.
            "hash": whole.identity(),
            "kind": archive.kind,
            "from": days[0].isoformat(),
            "to": days[-1].isoformat(),
            "days": len(days),
            "assets": len(archive.assets),
            "bar_seconds": archive.bar_seconds,
        },
        "seed": spec.seed,
        "trials": spec.trials,
        "days_per_trial": spec.days_per_trial,
        "block_days": spec.block_days,
        "capital": spec.capital,
        "champion_hash": champion_hash(),
        "kernels": source_fingerprint(),
        "space": space_table(),
    }
    return Plan(spec, design(spec, days), identity)


def trial_table(trials: list[Trial], outcomes: list[Outcome]) -> pa.Table:
    """`trials.parquet`: number, the space's parameters, the days, the outcome, and whether it was a catastrophe."""
    points = np.array([point_of(trial) for trial in trials])
    columns = {
        "trial": pa.array([trial.number for trial in trials], pa.int64()),
        **{name: pa.array(points[:, k]) for k, name in enumerate(NAMES)},
        "days": pa.array([spell(trial.blocks) for trial in trials]),
        "trades": pa.array([outcome.trades for outcome in outcomes], pa.int64()),
        "roi": pa.array([outcome.roi for outcome in outcomes]),
        "max_drawdown": pa.array([outcome.max_drawdown for outcome in outcomes]),
        "catastrophe": pa.array([outcome.catastrophe for outcome in outcomes]),
    }
    return pa.table(columns)


def card_of(planned: Plan, fitted: Fitted) -> ModelCard:
    """What `model.json` says, all but the files' hashes."""
    known = planned.identity
    return ModelCard(
        format=FORMAT,
        direction="SHORT",
        champion_hash=known["champion_hash"],
        kernels=known["kernels"],
        space=known["space"],
        versions={
            "dolphin": dolphin.__version__,
            "python": platform.python_version(),
            **{name: version(name) for name in ("numpy", *BOUND_VERSIONS)},
        },
        data=known["data"],
        seed=known["seed"],
        trials=known["trials"],
        days_per_trial=known["days_per_trial"],
        block_days=known["block_days"],
        capital=known["capital"],
        calibration=fitted.models.calibration,
        envelope_low=fitted.models.envelope_low,
        envelope_middle=fitted.models.envelope_middle,
        metrics=fitted.metrics,
        doubts=fitted.doubts,
        forced=fitted.models.forced,
        files={},
    )


def leverage_curve(fitted: Fitted) -> dict[str, list[float]]:
    """Probability and envelope score of the champion as only `max_leverage` changes, over its trained range."""
    forewarner = Forewarner(fitted.models)
    at = NAMES.index("max_leverage")
    low, high = space_table()[at]["low"], space_table()[at]["high"]
    curve: dict[str, list[float]] = {"max_leverage": [], "catastrophic_probability": [], "envelope_score": []}
    for leverage in np.linspace(low, high, 39).tolist():
        report = forewarner.assess_config_dict({**MC_BASE_CFG, "max_leverage": leverage})
        curve["max_leverage"].append(leverage)
        curve["catastrophic_probability"].append(report.catastrophic_probability)
        curve["envelope_score"].append(report.envelope_score)
    return curve
