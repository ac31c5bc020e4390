"""The forewarner's rules: space, status table, envelope formula, memory; and what must hold for fitted models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.core.params import CHAMPION, build_params
from dolphin.risk.forewarner import MC_BASE_CFG, Forewarner, Models, mc_scale_of, status_of
from dolphin.risk.forewarner.assess import normalised, outside_penalty, probabilities
from dolphin.risk.forewarner.space import FIXED, NAMES, SPACE, Parameter, complete, units
from tests.support.forewarner import fitted

F8 = np.ndarray


class Fake:
    """A model of every kind that answers with a number that the test chose, and counts how often it is asked."""

    def __init__(self, value: float) -> None:
        self.value = value
        self.asked = 0
        self.seen: Any = None

    def predict_proba(self, features: F8) -> F8:
        self.asked += 1
        self.seen = features
        return np.tile([1.0 - self.value, self.value], (len(features), 1))

    def predict(self, features: F8) -> F8:
        return np.full(len(features), self.value)

    score_samples = predict


def models(p: float = 0.05, raw: float = -0.4, **changes: Any) -> Models:
    """Fake models: raw score −0.4 lies in the middle, −0.5 at the low end, so 0.1 raw is one point."""
    base: dict[str, Any] = {
        "classifier": Fake(p), "envelope": Fake(raw), "roi_model": Fake(0.01), "drawdown_model": Fake(0.07),
        "calibration": None, "envelope_low": -0.5, "envelope_middle": -0.4,
        "features": np.vstack([units(MC_BASE_CFG) + k / 10 for k in range(7)]),
        "roi": np.arange(7) / 100.0, "max_drawdown": np.arange(7) / 10.0, "catastrophe": np.arange(7) > 4,
    }  # fmt: skip
    return Models(**{**base, **changes})


# --- the space


def test_the_champion_lies_inside_and_is_frozen() -> None:
    assert tuple(MC_BASE_CFG) == NAMES
    for parameter in SPACE:
        assert MC_BASE_CFG[parameter.name] == getattr(CHAMPION, parameter.name)
        assert 0.0 <= parameter.unit(MC_BASE_CFG[parameter.name]) <= 1.0
    with pytest.raises(TypeError):
        MC_BASE_CFG["fraction"] = 1.0  # type: ignore[index]


def test_a_coordinate_by_hand() -> None:
    linear, log = Parameter("a", 1.0, 5.0), Parameter("b", 0.01, 1.0, log=True)
    assert [linear.unit(v) for v in (1.0, 2.0, 5.0, 7.0, -1.0)] == [0.0, 0.25, 1.0, 1.5, -0.5]
    assert [round(log.unit(v), 12) for v in (0.01, 0.1, 1.0, 10.0)] == [0.0, 0.5, 1.0, 1.5]
    assert all(math.isnan(log.unit(v)) for v in (0.0, -1.0, math.nan, math.inf))
    assert log.value(0.5) == 0.1
    assert Parameter("c", 20, 720, log=True, integer=True).value(0.5) == 120.0  # √(20·720) = 120


@given(st.lists(st.floats(0.0, 1.0), min_size=len(SPACE), max_size=len(SPACE)))
def test_the_engine_accepts_every_point_of_the_box(point: list[float]) -> None:
    values = {p.name: p.value(u) for p, u in zip(SPACE, point, strict=True)}
    texts = {p.name: str(int(values[p.name])) if p.integer else repr(values[p.name]) for p in SPACE}
    assert build_params(texts).champion.fraction == values["fraction"]
    assert ((units(values) >= 0.0) & (units(values) <= 1.0)).all()


def test_a_configuration_is_completed_by_the_champion() -> None:
    values, changed = complete({"max_leverage": 9, "lookback": 50, "ob_edge_bps": 5.0})
    assert values == {**MC_BASE_CFG, "max_leverage": 9.0}
    assert changed == ("lookback",)
    assert complete({"max_leverage": 10**400})[0]["max_leverage"] == math.inf


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"leverage": 5}, ("'leverage' is no parameter", "max_leverage")),
        ({"fraction": "0.2"}, ("fraction is '0.2'", "expected a number such as 0.2")),
        ({"fraction": True}, ("fraction is True",)),
        ({"fraction": None}, ("fraction is None",)),
    ],
)
def test_what_is_no_configuration_is_refused(config: Mapping[str, Any], words: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as refusal:
        Forewarner(models()).assess_config_dict(config)
    for word in words:
        assert word in str(refusal.value)
    assert "\n" not in str(refusal.value)


# --- the status table


@pytest.mark.parametrize(
    ("p", "score", "status"),
    [
        (0.0, 1.0, "OK"),
        (0.10, 0.0, "OK"),
        (math.nextafter(0.10, 1.0), 0.0, "ORANGE"),
        (0.0, math.nextafter(0.0, -1.0), "ORANGE"),
        (0.25, 5.0, "ORANGE"),
        (0.25, -1.0, "ORANGE"),
        (0.0, -1.0, "ORANGE"),
        (math.nextafter(0.25, 1.0), 5.0, "RED"),
        (0.0, math.nextafter(-1.0, -2.0), "RED"),
        (1.0, -9.0, "RED"),
        (math.nan, 1.0, "RED"),
        (0.0, math.nan, "RED"),
        (0.0, math.inf, "RED"),
        (math.nan, math.nan, "RED"),
    ],
)
def test_the_status_table(p: float, score: float, status: str) -> None:
    assert status_of(p, score) == status


def test_the_scale_of_each_status() -> None:
    assert (mc_scale_of("OK"), mc_scale_of("ORANGE"), mc_scale_of("RED")) == (1.0, 0.5, 1.0)


# --- the assessment


def test_a_report_by_hand() -> None:
    report = Forewarner(models(p=0.2, raw=-0.45)).assess_config_dict({})
    assert (report.catastrophic_probability, report.predicted_roi, report.predicted_max_drawdown) == (0.2, 0.01, 0.07)
    assert report.envelope_score == pytest.approx(0.5)  # half-way between the fifth percentile and the median
    assert (report.status, report.outside, report.forced) == ("ORANGE", (), False)
    assert [n.trial for n in report.nearest] == [0, 1, 2, 3, 4]
    assert report.nearest[1].distance == pytest.approx(0.1 * math.sqrt(len(SPACE)))
    assert (report.nearest[4].roi, report.nearest[4].max_drawdown, report.nearest[4].catastrophe) == (0.04, 0.4, False)


def test_outside_by_hand() -> None:
    # max_leverage runs from 1 to 20: 23.8 is 3.8 beyond, two tenths of the range. fraction from 0.05: a tenth below.
    report = Forewarner(models()).assess_config_dict({"max_leverage": 23.8, "fraction": 0.05 - 0.095})
    assert report.outside == ("max_leverage", "fraction")
    assert report.envelope_score == pytest.approx(1.0 - 2.0 - 1.0)
    assert report.status == "RED"
    fixed = Forewarner(models()).assess_config_dict({"lookback": 101})
    assert (fixed.envelope_score, fixed.outside) == (pytest.approx(1.0 - 10.0), ("lookback",))


def test_the_trees_are_shown_the_nearest_point_of_the_box() -> None:
    m = models()
    Forewarner(m).assess_config_dict({"max_leverage": 90.0, "fraction": 0.01})
    seen = dict(zip(NAMES, m.classifier.seen[0], strict=True))  # type: ignore[attr-defined]
    assert (seen["max_leverage"], seen["fraction"]) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("max_leverage", math.nan), ("max_leverage", math.inf), ("fixed_tp_pct", 0.0), ("stop_pct", -1.0)],
)
def test_a_value_without_a_place_is_red_and_nothing_is_guessed(name: str, value: float) -> None:
    m = models()
    report = Forewarner(m).assess_config_dict({name: value})
    assert report.status == "RED"
    assert math.isnan(report.catastrophic_probability)
    assert math.isnan(report.envelope_score)
    assert report.outside == (name,)
    assert m.classifier.asked == 0  # type: ignore[attr-defined]


def test_a_model_that_answers_nan_is_red() -> None:
    assert Forewarner(models(p=math.nan)).assess_config_dict({}).status == "RED"
    assert Forewarner(models(raw=math.nan)).assess_config_dict({}).status == "RED"


def test_the_same_configuration_is_assessed_once() -> None:
    m = models()
    warner = Forewarner(m)
    first = warner.assess_config_dict({"max_leverage": 7})
    assert warner.assess_config_dict({**MC_BASE_CFG, "max_leverage": 7.0}) is first
    assert warner.assess_config_dict({"max_leverage": 7, "lookback": 5}) is not first
    assert m.classifier.asked == 2  # type: ignore[attr-defined]
    for k in range(1000):
        warner.assess_config_dict({"max_leverage": 1.0 + k / 1000})
    assert len(warner._known) <= 512


def test_a_forced_model_says_so_in_every_report() -> None:
    warner = Forewarner(models(forced=True))
    assert warner.assess_config_dict({}).forced
    assert warner.assess_config_dict({"fraction": math.nan}).forced


def test_calibration_by_hand() -> None:
    # Log odds of 0.8 are ln 4; slope ½ makes ln 2, which is 2/3; an intercept of −ln 2 then makes it even.
    features = np.zeros((1, len(SPACE)))
    assert probabilities(Fake(0.8), features, None)[0] == 0.8
    assert probabilities(Fake(0.8), features, (0.5, 0.0))[0] == pytest.approx(2 / 3)
    assert probabilities(Fake(0.8), features, (0.5, -math.log(2)))[0] == pytest.approx(0.5)
    assert 0.0 < probabilities(Fake(0.0), features, (1.0, 0.0))[0] < 1e-5


def test_the_penalty_by_hand() -> None:
    assert outside_penalty(np.array([0.0, 1.0, 0.5])) == 0.0
    assert outside_penalty(np.array([-0.1, 1.3])) == pytest.approx(4.0)
    assert normalised(np.array([-0.5, -0.4, -0.7]), -0.5, -0.4) == pytest.approx(np.array([0.0, 1.0, -2.0]))


# --- what must hold for fitted models

WARNER = Forewarner(fitted().models)
POINTS = st.lists(st.floats(0.0, 1.0), min_size=len(SPACE), max_size=len(SPACE))
SIZES = st.sampled_from([p for p in SPACE if p.riskier])


def config_at(point: list[float]) -> dict[str, float]:
    return {p.name: p.value(u) for p, u in zip(SPACE, point, strict=True)}


@given(POINTS, SIZES, st.floats(0.0, 1.0))
@settings(max_examples=40, deadline=None)
def test_betting_more_never_lowers_the_probability(point: list[float], size: Parameter, unit: float) -> None:
    config = config_at(point)
    other = {**config, size.name: size.value(unit)}
    low, high = sorted((config, other), key=lambda c: c[size.name])
    a, b = (WARNER.assess_config_dict(c) for c in (low, high))
    assert a.catastrophic_probability <= b.catastrophic_probability
    assert a.predicted_max_drawdown <= b.predicted_max_drawdown


@given(POINTS, st.integers(0, len(SPACE) - 1), st.floats(0.0, 3.0), st.floats(0.0, 3.0), st.booleans())
@settings(max_examples=40, deadline=None)
def test_going_further_outside_never_raises_the_score(
    point: list[float], k: int, near: float, far: float, up: bool
) -> None:
    near, far = sorted((near, far))
    p = SPACE[k]

    def at(beyond: float) -> float:
        unit = 1.0 + beyond if up else -beyond
        if p.log:
            return float(p.low * (p.high / p.low) ** unit)
        return p.low + (p.high - p.low) * unit

    a, b = (WARNER.assess_config_dict({**config_at(point), p.name: at(d)}) for d in (near, far))
    assert b.envelope_score <= a.envelope_score + 1e-9
    assert b.envelope_score == pytest.approx(a.envelope_score - 10.0 * (far - near), abs=1e-6)


def test_a_foreign_configuration_is_red() -> None:
    assert WARNER.assess_config_dict({}).status == "OK"
    foreign = WARNER.assess_config_dict({"max_hold_bars": 100_000, "dc_lookback_bars": 48})
    assert (foreign.status, foreign.outside) == ("RED", ("max_hold_bars", "dc_lookback_bars"))


def test_no_parameter_is_both_varied_and_fixed() -> None:
    assert not set(NAMES) & set(FIXED)
    assert set(CHAMPION.__struct_fields__) <= set(NAMES) | set(FIXED)
