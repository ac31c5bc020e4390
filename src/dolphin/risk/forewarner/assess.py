"""From a configuration to a report: features, probability, envelope, outcomes, neighbours (SPEC §11)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from dolphin.risk.forewarner.report import Neighbour, Report, status_of
from dolphin.risk.forewarner.space import F8, SPACE, complete, units

NEAREST = 5
TENTH = 10.0
"""Envelope points that one range's width beyond the range costs: one point for each tenth."""

FIXED_PENALTY = TENTH
"""What a changed fixed parameter costs: it has no range to measure by, so it counts as a whole range's width."""

_LOGIT_BOUND = 1e-6
_REMEMBERED = 512


class Classifier(Protocol):
    """Gives probabilities of (survival, catastrophe), float64 (n, 2), for features (n, P)."""

    def predict_proba(self, features: F8) -> F8: ...  # noqa: D102 - scikit-learn's name


class Regressor(Protocol):
    """Gives predictions, float64 (n,), for features (n, P)."""

    def predict(self, features: F8) -> F8: ...  # noqa: D102 - scikit-learn's name


class OneClass(Protocol):
    """Gives scores, float64 (n,), higher for what is more ordinary."""

    def score_samples(self, features: F8) -> F8: ...  # noqa: D102 - scikit-learn's name


@dataclass(frozen=True, eq=False)
class Models:
    """What training left behind.

    `calibration` is slope and intercept over the classifier's log odds, None when it is used as it is.
    `envelope_low` and `envelope_middle` are the fifth percentile and the median of held-out survivors' raw scores. Of
    the K trials: `features` (K, P) unit coordinates, `roi` and `max_drawdown` fractions (K,), `catastrophe` bool (K,).
    """

    classifier: Classifier
    envelope: OneClass
    roi_model: Regressor
    drawdown_model: Regressor
    calibration: tuple[float, float] | None
    envelope_low: float
    envelope_middle: float
    features: F8
    roi: F8
    max_drawdown: F8
    catastrophe: NDArray[np.bool_]
    forced: bool = False


class Forewarner:
    """Assesses configurations with `models`; remembers what it has assessed, since an engine asks the same few daily.

    Determinism: a function of models and configuration. Not thread-safe.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        # By complete values, and by the question word for word: the second spares an engine's daily one the completing.
        self._known: dict[tuple[Any, ...], Report] = {}
        self._asked: dict[tuple[tuple[str, Any], ...], Report] = {}

    def assess_config_dict(self, config: Mapping[str, Any]) -> Report:
        """The report on `config`, parameters by name; what it leaves out has the champion's value.

        Raises ConfigError for an unknown name or a value that is no number. A value that is not finite, or has no
        place on its logarithmic scale, gives NaN everywhere and RED.
        """
        key = tuple(config.items())
        try:
            known = self._asked.get(key)
        except TypeError:  # a list, say: `complete` will name it
            return self.assess_many([config])[0]
        if known is None:
            if len(self._asked) >= _REMEMBERED:
                self._asked.clear()
            known = self._asked[key] = self.assess_many([config])[0]
        return known

    def assess_many(self, configs: Sequence[Mapping[str, Any]]) -> list[Report]:
        """The reports on several configurations at once: the trees take as long for a dozen rows as for one."""
        asked = [complete(config) for config in configs]
        keys = [(*values.values(), changed) for values, changed in asked]
        new = {key: one for key, one in zip(keys, asked, strict=True) if key not in self._known}
        if len(self._known) + len(new) > _REMEMBERED:
            self._known.clear()
            new = dict(zip(keys, asked, strict=True))
        if new:
            self._known |= dict(zip(new, self._assess(list(new.values())), strict=True))
        return [self._known[key] for key in keys]

    def _assess(self, asked: Sequence[tuple[Mapping[str, float], tuple[str, ...]]]) -> list[Report]:
        at = np.array([units(values) for values, _ in asked])
        known = np.isfinite(at).all(axis=1)
        answers = iter(self._ask(np.clip(at[known], 0.0, 1.0)) if known.any() else ())
        return [
            self._report(u, changed, next(answers) if sound else (math.nan,) * 4)
            for u, sound, (_, changed) in zip(at, known, asked, strict=True)
        ]

    def _ask(self, inside: F8) -> list[tuple[float, ...]]:
        """Probability, envelope score inside the box, ROI and drawdown of each row."""
        m = self.models
        # A few rows: starting a pool of threads would cost more than the trees.
        with threadpool_limits(limits=1):
            columns = (
                probabilities(m.classifier, inside, m.calibration),
                normalised(m.envelope.score_samples(inside), m.envelope_low, m.envelope_middle),
                m.roi_model.predict(inside),
                m.drawdown_model.predict(inside),
            )
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _report(self, at: F8, changed: tuple[str, ...], answer: tuple[float, ...]) -> Report:
        probability, score, roi, drawdown = answer
        score -= outside_penalty(at) + FIXED_PENALTY * len(changed)
        return Report(
            catastrophic_probability=probability,
            envelope_score=score,
            predicted_roi=roi,
            predicted_max_drawdown=drawdown,
            status=status_of(probability, score),
            nearest=self._nearest(at) if np.isfinite(at).all() else (),
            outside=(*(p.name for p, u in zip(SPACE, at, strict=True) if not 0.0 <= u <= 1.0), *changed),
            forced=self.models.forced,
        )

    def _nearest(self, at: F8) -> tuple[Neighbour, ...]:
        m = self.models
        distances = np.sqrt(((m.features - at) ** 2).sum(axis=1))
        rows = np.argsort(distances, kind="stable")[:NEAREST]
        return tuple(
            Neighbour(
                trial=int(k),
                distance=float(distances[k]),
                roi=float(m.roi[k]),
                max_drawdown=float(m.max_drawdown[k]),
                catastrophe=bool(m.catastrophe[k]),
            )
            for k in rows
        )


def probabilities(classifier: Classifier, features: F8, calibration: tuple[float, float] | None) -> F8:
    """Catastrophe probabilities (n,): the classifier's, or 1/(1 + exp(−(slope·log odds + intercept))) of them."""
    raw = np.asarray(classifier.predict_proba(features)[:, 1], np.float64)
    if calibration is None:
        return raw
    slope, intercept = calibration
    return np.asarray(1.0 / (1.0 + np.exp(-(slope * log_odds(raw) + intercept))))


def log_odds(probability: F8) -> F8:
    """ln(p/(1 − p)), with p kept a millionth away from 0 and 1."""
    p = np.clip(probability, _LOGIT_BOUND, 1.0 - _LOGIT_BOUND)
    return np.asarray(np.log(p / (1.0 - p)))


def normalised(raw: F8, low: float, middle: float) -> F8:
    """Raw one-class scores so that survivors' fifth percentile is 0 and their median 1."""
    return np.asarray((raw - low) / (middle - low))


def outside_penalty(at: F8) -> float:
    """Points taken off the envelope score: how far each coordinate lies outside [0, 1], in tenths of its range, summed.

    The trees see the nearest point of the box instead, so moving further out never raises the score, and there is no
    bound below.
    """
    return TENTH * float(np.maximum(np.maximum(-at, at - 1.0), 0.0).sum())
