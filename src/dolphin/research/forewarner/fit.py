"""From trials to models: a monotone classifier, calibrated where that helps, an envelope of the survivors, medians of
the outcomes; and what the held-out quarter says of them (SPEC §11)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor, IsolationForest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from threadpoolctl import threadpool_limits

from dolphin.core.errors import DolphinError
from dolphin.research.forewarner.design import Trial
from dolphin.research.forewarner.evaluate import calibration_bins, judge
from dolphin.research.forewarner.trials import Outcome
from dolphin.risk.forewarner.assess import Models, log_odds, normalised, probabilities
from dolphin.risk.forewarner.space import F8, SPACE, units

HELD_OUT = 0.25
FOLDS = 5
FEWEST = 4
"""Of each class, without which there is nothing to split and fit, forced or not."""

ENVELOPE_PERCENTILE = 5.0
TREES: dict[str, Any] = {
    "max_iter": 200,
    "learning_rate": 0.05,
    "max_leaf_nodes": 4,
    "min_samples_leaf": 10,
    "l2_regularization": 1.0,
    "early_stopping": False,
}
"""Small trees: of five settings tried on three markets, none had a lower cross-validated Brier score on all of them."""

RISKIER = tuple(int(p.riskier) for p in SPACE)


@dataclass(frozen=True, eq=False)
class Fitted:
    """Models, what the held-out trials say of them, and why they would be no better than chance (empty: they are)."""

    models: Models
    metrics: dict[str, Any]
    doubts: tuple[str, ...]


def fit(trials: Sequence[Trial], outcomes: Sequence[Outcome], seed: int) -> Fitted:
    """Fit on three quarters of the trials, evaluate on the rest; the models given are those that were evaluated.

    Raises DolphinError with fewer than four catastrophes, or survivors. Determinism: trials, outcomes and `seed`; one
    thread, whatever the machine has.
    """
    features = np.array([units(trial.values) for trial in trials])
    lost = np.array([outcome.catastrophe for outcome in outcomes])
    roi = np.array([outcome.roi for outcome in outcomes])
    drawdown = np.array([outcome.max_drawdown for outcome in outcomes])
    if min(lost.sum(), (~lost).sum()) < FEWEST:
        raise DolphinError(
            f"{lost.sum()} of {len(lost)} trials ended in a catastrophe; at least {FEWEST} must, and {FEWEST} must "
            "not, for anything to be fitted: give more --trials, or other days"
        )
    rng = np.random.default_rng([seed, len(lost)])
    train, held = split(lost, rng)
    with threadpool_limits(limits=1):
        calibration, inner = _calibrate(features[train], lost[train], seed)
        classifier = _classifier(seed).fit(features[train], lost[train])
        envelope = IsolationForest(random_state=seed).fit(features[train][~lost[train]])
        roi_model = _regressor(seed, monotone=False).fit(features[train], roi[train])
        drawdown_model = _regressor(seed, monotone=True).fit(features[train], drawdown[train])
        raw = envelope.score_samples(features[held])
        low, middle = np.percentile(raw[~lost[held]], [ENVELOPE_PERCENTILE, 50.0])
        predicted = probabilities(classifier, features[held], calibration)
        errors = {
            "roi_median_error": _median_error(roi_model.predict(features[held]), roi[held]),
            "max_drawdown_median_error": _median_error(drawdown_model.predict(features[held]), drawdown[held]),
        }
    judged, doubts = judge(predicted, lost[held], float(lost[train].mean()), int(lost.sum()), len(lost), rng)
    metrics = {
        "trials": len(lost),
        "catastrophes": int(lost.sum()),
        "held_out": len(held),
        "held_out_catastrophes": int(lost[held].sum()),
        **judged,
        **inner,
        "calibrated": calibration is not None,
        "calibration_bins": calibration_bins(predicted, lost[held]),
        "survivors_below_0": float((normalised(raw, low, middle)[~lost[held]] < 0.0).mean()),
        "catastrophes_below_0": float((normalised(raw, low, middle)[lost[held]] < 0.0).mean()),
        **errors,
    }
    models = Models(
        classifier=classifier,
        envelope=envelope,
        roi_model=roi_model,
        drawdown_model=drawdown_model,
        calibration=calibration,
        envelope_low=float(low),
        envelope_middle=float(middle),
        features=features,
        roi=roi,
        max_drawdown=drawdown,
        catastrophe=lost,
        forced=bool(doubts),
    )
    return Fitted(models, metrics, doubts)


def split(lost: NDArray[np.bool_], rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to train on and rows held out, ascending; a quarter of each class, at least one, is held out."""
    classes = (np.flatnonzero(lost), np.flatnonzero(~lost))
    out = np.sort(np.concatenate([rng.permutation(rows)[: max(1, round(HELD_OUT * len(rows)))] for rows in classes]))
    return np.setdiff1d(np.arange(len(lost)), out), out


def _classifier(seed: int) -> HistGradientBoostingClassifier:
    return HistGradientBoostingClassifier(**TREES, monotonic_cst=RISKIER, random_state=seed)


def _regressor(seed: int, *, monotone: bool) -> HistGradientBoostingRegressor:
    directions = RISKIER if monotone else None
    return HistGradientBoostingRegressor(**TREES, loss="absolute_error", monotonic_cst=directions, random_state=seed)


def _calibrate(features: F8, lost: NDArray[np.bool_], seed: int) -> tuple[tuple[float, float] | None, dict[str, float]]:
    """Slope and intercept over the log odds, or None where they do not lower the Brier score, and both scores.

    Decided by cross-validation among the training trials: the held-out ones must not choose what they judge.
    """
    folds = min(FOLDS, int(lost.sum()), int((~lost).sum()))
    cut = StratifiedKFold(folds, shuffle=True, random_state=seed)
    raw = cross_val_predict(_classifier(seed), features, lost, cv=cut, method="predict_proba")[:, 1]
    odds = log_odds(raw).reshape(-1, 1)
    # Nearly unpenalised: two numbers over hundreds of trials need no shrinking.
    line = LogisticRegression(C=1e6)
    again = StratifiedKFold(folds, shuffle=True, random_state=seed + 1)
    straightened = cross_val_predict(line, odds, lost, cv=again, method="predict_proba")[:, 1]
    scores = {
        "cv_brier": float(np.mean((raw - lost) ** 2)),
        "cv_brier_calibrated": float(np.mean((straightened - lost) ** 2)),
    }
    fitted = line.fit(odds, lost)
    slope, intercept = float(fitted.coef_[0, 0]), float(fitted.intercept_[0])
    # A slope of zero or less would turn the order round, and with it the promise that leverage is never safer.
    better = scores["cv_brier_calibrated"] < scores["cv_brier"] and slope > 0.0
    return ((slope, intercept) if better else None), scores


def _median_error(predicted: F8, met: F8) -> float:
    return float(np.median(np.abs(predicted - met)))
