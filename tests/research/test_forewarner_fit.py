"""Fitting and judging: figures by hand, what is better than chance and what is not, and that fitting repeats itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import brier_score_loss, roc_auc_score

from dolphin.core.errors import DolphinError
from dolphin.research.forewarner.evaluate import auc, auc_interval, calibration_bins, judge, wilson
from dolphin.research.forewarner.fit import fit, split
from dolphin.research.forewarner.train import leverage_curve
from dolphin.risk.forewarner import Forewarner
from dolphin.risk.forewarner.assess import normalised, probabilities
from tests.support.forewarner import fitted, luck, made_up

RNG = np.random.default_rng


# --- judging


def test_auc_by_hand() -> None:
    # Pairs (catastrophe, survivor): .9 beats both; .4 ties with .4 and beats .1: (2 + 1.5)/4.
    predicted, lost = np.array([0.9, 0.4, 0.4, 0.1]), np.array([True, True, False, False])
    assert auc(predicted, lost) == 3.5 / 4


@given(st.integers(0, 10_000))
def test_auc_is_the_library_s(seed: int) -> None:
    rng = RNG(seed)
    lost = rng.random(60) < 0.3
    lost[:2] = True, False
    predicted = np.round(rng.random(60), 1)
    assert auc(predicted, lost) == pytest.approx(roc_auc_score(lost, predicted))
    low, high = auc_interval(predicted, lost, RNG(0))
    assert 0.0 <= low <= high <= 1.0


def test_the_interval_narrows_with_trials() -> None:
    def width(n: int) -> float:
        rng = RNG(5)
        lost = rng.random(n) < 0.3
        low, high = auc_interval(np.clip(0.3 * lost + rng.random(n), 0, 1), lost, RNG(1))
        return high - low

    assert width(2000) < 0.5 * width(200)


def test_wilson_by_hand() -> None:
    # Five of ten: the middle stays ½, the half-width is z/(1 + z²/n)·√(1/(4n) + z²/(4n²)) = 0.2634.
    assert wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    assert wilson(0, 10)[0] == 0.0
    assert wilson(10, 10)[1] == pytest.approx(1.0)


def test_bins_by_hand() -> None:
    predicted = np.array([0.0, 0.05, 0.1, 0.95, 1.0])
    bins = calibration_bins(predicted, np.array([False, True, False, True, True]))
    assert [(b["low"], b["count"], b["catastrophes"]) for b in bins] == [(0.0, 2, 1), (0.1, 1, 0), (0.9, 2, 2)]
    assert bins[0]["predicted"] == 0.025
    assert bins[2]["frequency"] == 1.0


def test_every_reason_to_doubt() -> None:
    lost = RNG(0).random(400) < 0.3
    good = np.clip(0.8 * lost + 0.1, 0, 1)
    assert judge(good, lost, 0.3, 120, 400, RNG(1))[1] == ()
    figures, doubts = judge(np.full(400, 0.3), lost, 0.3, 120, 400, RNG(1))
    assert figures["auc"] == 0.5
    assert len(doubts) == 2
    assert "AUC 0.500 with a 95 % lower bound of 0.500" in doubts[0]
    assert "Brier score" in doubts[1]
    # In the right order, but everything shouted: only the Brier score objects.
    (loud,) = judge(np.where(lost, 1.0, 0.9), lost, 0.3, 120, 400, RNG(1))[1]
    assert "Brier" in loud
    assert "9 catastrophes among 400" in judge(good, lost, 0.3, 9, 400, RNG(1))[1][0]
    assert "9 survivors among 400" in judge(good, lost, 0.3, 391, 400, RNG(1))[1][0]
    assert judge(good, lost, 0.3, 10, 20, RNG(1))[1] == ()


# --- fitting


def test_a_quarter_of_each_class_is_held_out() -> None:
    lost = np.arange(100) % 5 == 0
    train, held = split(lost, RNG(1))
    assert (len(held), int(lost[held].sum())) == (25, 5)
    assert sorted([*train, *held]) == list(range(100))


def test_made_up_trials_are_learnt() -> None:
    done = fitted()
    assert done.doubts == ()
    assert not done.models.forced
    m = done.metrics
    assert (m["trials"], m["held_out"]) == (400, 100)
    assert 0.7 < m["auc_low"] <= m["auc"] <= m["auc_high"] <= 1.0
    assert m["brier"] < 0.7 * m["brier_base_rate"]
    assert sum(b["count"] for b in m["calibration_bins"]) == 100
    assert m["survivors_below_0"] == pytest.approx(0.05, abs=0.02)


def test_the_figures_are_those_of_the_held_out_trials() -> None:
    done = fitted()
    models = done.models
    _, held = split(models.catastrophe, RNG([3, 400]))
    predicted = probabilities(models.classifier, models.features[held], models.calibration)
    assert done.metrics["brier"] == pytest.approx(brier_score_loss(models.catastrophe[held], predicted))
    assert done.metrics["auc"] == pytest.approx(roc_auc_score(models.catastrophe[held], predicted))
    raw = models.envelope.score_samples(models.features[held][~models.catastrophe[held]])
    scores = normalised(raw, models.envelope_low, models.envelope_middle)
    assert np.percentile(scores, [5, 50]) == pytest.approx([0.0, 1.0])


def test_calibration_is_used_only_where_cross_validation_says_so() -> None:
    m = fitted().metrics
    assert m["calibrated"] is (m["cv_brier_calibrated"] < m["cv_brier"])


def test_fitting_again_gives_the_same_probabilities() -> None:
    again = fit(*made_up(400), seed=3)
    one, two = (probabilities(f.models.classifier, f.models.features, f.models.calibration) for f in (fitted(), again))
    assert np.array_equal(one, two)
    assert again.metrics == fitted().metrics


def test_luck_is_not_learnt() -> None:
    done = fit(*luck(300), seed=3)
    assert done.doubts
    assert done.models.forced
    assert Forewarner(done.models).assess_config_dict({}).forced


def test_too_few_of_a_class_cannot_be_fitted() -> None:
    trials, outcomes = made_up(60)
    calm = [replace(o, roi=0.0, max_drawdown=0.1) for o in outcomes]
    with pytest.raises(DolphinError, match=r"0 of 60 trials ended in a catastrophe; at least 4 must"):
        fit(trials, calm, seed=3)
    lost = [replace(o, max_drawdown=0.9) for o in outcomes]
    with pytest.raises(DolphinError, match="60 of 60"):
        fit(trials, lost, seed=3)
    few = [replace(o, max_drawdown=0.9) for o in calm[:5]] + calm[5:]
    assert "5 catastrophes among 60 trials, 10 needed" in fit(trials, few, seed=3).doubts[0]


def test_the_curve_rises_with_leverage() -> None:
    curve = leverage_curve(fitted())
    assert (curve["max_leverage"][0], curve["max_leverage"][-1]) == (1.0, 20.0)
    assert np.all(np.diff(curve["catastrophic_probability"]) >= 0.0)
    assert len(curve["envelope_score"]) == len(curve["max_leverage"])
