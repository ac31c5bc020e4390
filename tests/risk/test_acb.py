"""ACB: every table value of SPEC §9 by hand, properties, and causality."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.market import factorfiles
from dolphin.risk.acb import (
    ACB_PARAMS,
    FACTORS,
    FIRST_ACB_BAR,
    AcbAnswer,
    AcbParams,
    AdaptiveCircuitBreaker,
    base_boost,
    beta_for,
    count_signals,
    possible_boosts,
    stressed_beta,
    w750_threshold,
)

DAY = date(2024, 3, 1)
near = pytest.approx
nan = math.nan


def answer(
    factors: Mapping[str, list[float]] | None = None,
    w750: list[float] | None = None,
    history: list[float] | None = None,
) -> AcbAnswer:
    acb = AdaptiveCircuitBreaker()
    if factors is not None:
        acb.set_factors(DAY, factors)
    if w750 is not None:
        acb.add_w750(DAY, w750)
    for k, value in enumerate(history or []):
        acb.add_w750(DAY - timedelta(days=k + 1), [value])
    return acb.get_dynamic_boost_for_date(DAY)


# --- the frozen values ---


def test_the_documents_parameters_are_the_frozen_ones() -> None:
    p = ACB_PARAMS
    assert (p.beta_high, p.beta_low, p.w750_threshold_pct) == (0.8, 0.2, 60.0)
    assert (p.funding_very_bearish, p.dvol_extreme, p.fng_extreme_fear, p.taker_selling) == (-0.0001, 80.0, 25.0, 0.8)
    assert FIRST_ACB_BAR == p.scans == factorfiles.FIRST_SCANS == 10
    assert factorfiles.FACTORS == FACTORS
    with pytest.raises(AttributeError):
        p.beta_high = 0.9  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"beta_hihg": 0.8}, AcbParams)


# --- scale 1: the tables ---


@pytest.mark.parametrize(
    ("name", "value", "score"),
    [
        ("funding_btc", -0.00010001, 1.0),
        ("funding_btc", -0.0001, 0.5),
        ("funding_btc", -1e-12, 0.5),
        ("funding_btc", 0.0, 0.0),
        ("funding_btc", 0.0003, 0.0),
        ("dvol_btc", 80.001, 1.0),
        ("dvol_btc", 80.0, 0.5),
        ("dvol_btc", 55.001, 0.5),
        ("dvol_btc", 55.0, 0.0),
        ("taker", 0.7999, 1.0),
        ("taker", 0.80, 0.5),
        ("taker", 0.8999, 0.5),
        ("taker", 0.90, 0.0),
    ],
)
def test_a_factor_alone(name: str, value: float, score: float) -> None:
    assert count_signals({name: value}) == score
    told = answer({name: [value] * 10})
    assert told["signals"] == score
    assert told["factors"][name] == value
    assert told["missing"] == [other for other in FACTORS if other != name]


@pytest.mark.parametrize(("fng", "score"), [(24.99, 1.0), (25.0, 0.5), (39.99, 0.5), (40.0, 0.0), (0.0, 1.0)])
def test_fear_counts_only_when_another_factor_agrees(fng: float, score: float) -> None:
    assert count_signals({"fng": fng}) == 0.0
    assert count_signals({"fng": fng, "dvol_btc": 55.0, "funding_btc": 0.0, "taker": 0.9}) == 0.0
    assert count_signals({"fng": fng, "dvol_btc": 56.0}) == 0.5 + score
    assert count_signals({"fng": fng, "funding_btc": -1e-9}) == 0.5 + score
    assert count_signals({"fng": fng, "taker": 0.85}) == 0.5 + score


@pytest.mark.parametrize(("signals", "boost"), [(1.0, 1.347), (2.0, 1.549), (3.0, 1.693)])
def test_the_documented_boosts(signals: float, boost: float) -> None:
    assert base_boost(signals) == near(boost, abs=5e-4)


@pytest.mark.parametrize(
    ("factors", "signals", "boost"),
    [
        ({"dvol_btc": 90.0}, 1.0, 1.347),
        ({"dvol_btc": 90.0, "fng": 10.0}, 2.0, 1.549),
        ({"dvol_btc": 90.0, "fng": 10.0, "taker": 0.5}, 3.0, 1.693),
        ({"dvol_btc": 90.0, "fng": 10.0, "taker": 0.5, "funding_btc": -0.001}, 4.0, 1.805),
        ({"dvol_btc": 60.0}, 0.5, 1.0),
        ({"dvol_btc": 60.0, "fng": 30.0}, 1.0, 1.347),
        ({"dvol_btc": 60.0, "funding_btc": -0.0005}, 1.5, 1.458),
        ({}, 0.0, 1.0),
    ],
)
def test_boosts_from_factors(factors: dict[str, float], signals: float, boost: float) -> None:
    told = answer({name: [value] for name, value in factors.items()})
    assert (told["signals"], told["boost"]) == (signals, near(boost, abs=5e-4))


def test_the_median_of_the_first_ten_scans() -> None:
    told = answer({"dvol_btc": [50.0] * 5 + [90.0] * 5 + [200.0] * 90, "taker": [0.5, nan, 0.7, nan, 0.95]})
    assert told["factors"] == {"funding_btc": None, "dvol_btc": 70.0, "fng": None, "taker": 0.7}
    assert told["missing"] == ["funding_btc", "fng"]
    # A scan without the factor still is a scan: an eleventh never moves up.
    late = answer({"taker": [nan] * 10 + [0.5]})
    assert (late["factors"]["taker"], late["signals"]) == (None, 0.0)


@pytest.mark.parametrize("values", [[], [nan], [nan] * 10, [math.inf], [-math.inf, nan]])
def test_missing_is_not_zero(values: list[float]) -> None:
    """Zero would be extreme fear and a selling taker: a boost out of nothing."""
    told = answer(dict.fromkeys(FACTORS, values))
    assert (told["signals"], told["boost"], told["missing"]) == (0.0, 1.0, list(FACTORS))
    assert set(told["factors"].values()) == {None}


def test_a_date_nobody_spoke_of() -> None:
    told = AdaptiveCircuitBreaker().get_dynamic_boost_for_date("2024-03-01")
    assert told == {
        "boost": 1.0, "beta": 0.2, "signals": 0.0, "factors": dict.fromkeys(FACTORS), "w750": None,
        "w750_threshold": None, "history_dates": 0, "missing": list(FACTORS), "ob_beta": None,
    }  # fmt: skip


def test_an_unknown_factor_and_a_wrong_date_are_refused() -> None:
    acb = AdaptiveCircuitBreaker()
    with pytest.raises(ConfigError, match="factors of 2024-03-01: 'vix' is no factor; expected funding_btc"):
        acb.set_factors(DAY, {"vix": [20.0]})
    with pytest.raises(ConfigError, match="not a calendar date"):
        acb.get_dynamic_boost_for_date("2024-02-30")


def test_texts_and_dates_name_the_same_day() -> None:
    acb = AdaptiveCircuitBreaker()
    acb.set_factors("2024-03-01", {"dvol_btc": [90.0]})
    assert acb.get_dynamic_boost_for_date(DAY)["signals"] == 1.0


# --- scale 3 ---


def test_beta_by_hand() -> None:
    history = [float(k) for k in range(21)]  # 60th percentile, linear: 0.6·20 = 12
    for value, beta in ((12.0, 0.8), (11.999, 0.2), (30.0, 0.8), (-1.0, 0.2)):
        told = answer(w750=[value], history=history)
        assert (told["beta"], told["w750"], told["w750_threshold"], told["history_dates"]) == (beta, value, 12.0, 21)


@pytest.mark.parametrize("known", [0, 1, 19])
def test_fewer_than_twenty_dates_give_the_low_beta(known: int) -> None:
    told = answer(w750=[1e9], history=[0.0] * known)
    assert (told["beta"], told["w750_threshold"], told["history_dates"]) == (0.2, None, known)
    assert answer(w750=[1e9], history=[0.0] * 20)["beta"] == 0.8


def test_dates_whose_windows_fill_are_no_history() -> None:
    told = answer(w750=[nan] * 3 + [5.0], history=[nan] * 30 + [1.0] * 19)
    assert (told["w750"], told["history_dates"], told["beta"]) == (5.0, 19, 0.2)
    assert answer(w750=[nan] * 10 + [5.0], history=[1.0] * 30)["beta"] == 0.2


def test_the_threshold_interpolates() -> None:
    values = [0.0] * 10 + [1.0] * 10 + [2.0]
    assert w750_threshold(values) == np.percentile(values, 60)
    ragged = [float(k * k) for k in range(20)]  # 0.6·19 = 11.4: between 121 and 144
    assert w750_threshold(ragged) == near(121 + 0.4 * 23)


@given(st.lists(st.floats(-1e3, 1e3), min_size=20, max_size=120), st.sampled_from([0, 1, 25, 33, 50, 60, 75, 99, 100]))
def test_the_threshold_is_numpys_percentile_to_the_last_bit(values: list[float], pct: float) -> None:
    params = msgspec.structs.replace(ACB_PARAMS, w750_threshold_pct=pct)
    assert w750_threshold(values, params) == np.percentile(values, pct)


def test_every_boost_there_is() -> None:
    boosts = possible_boosts()
    assert boosts == tuple(sorted(set(boosts)))
    assert boosts[0] == 1.0
    assert [round(b, 3) for b in boosts[1:]] == [1.347, 1.458, 1.549, 1.626, 1.693, 1.752, 1.805]


# --- OB-4 ---


@dataclass(frozen=True)
class Macro:
    regime_signal: int
    depth_velocity: float


@dataclass(frozen=True)
class Book:
    macro: Macro | None

    def get_macro(self) -> Macro | None:
        return self.macro


@pytest.mark.parametrize(
    ("signal", "velocity", "factor"),
    [
        (1, -0.20, 1.25),
        (1, -0.10, 1.125),
        (1, -9.0, 1.25),
        (1, 0.3, 1.0),
        (0, -0.2, 1.0),
        (-1, -0.2, 1.0),
        (1, nan, 1.0),
    ],
)
def test_the_book_s_stress(signal: int, velocity: float, factor: float) -> None:
    assert stressed_beta(0.8, signal, velocity) == near(0.8 * factor)
    told = AdaptiveCircuitBreaker().get_dynamic_boost_for_date(DAY, Book(Macro(signal, velocity)))
    assert told["beta"] == 0.2, "the engine's step applies OB-4; here it is told, not applied"
    assert told["ob_beta"] == near(0.2 * factor)


def test_a_book_without_macro_features() -> None:
    assert AdaptiveCircuitBreaker().get_dynamic_boost_for_date(DAY, Book(None))["ob_beta"] == 0.2


def test_ob_4_is_the_engine_s() -> None:
    """The figure told to people is the one that the step computes."""
    from dolphin.alpha.layout import MARKET_BOOK, records
    from dolphin.alpha.sizing import stressed_beta_nb

    for signal, velocity in itertools.product((-1, 0, 1), (-0.5, -0.2, -0.07, 0.0, 0.4, nan)):
        market = records(MARKET_BOOK, 1)[0]
        market.usable, market.regime_signal, market.depth_velocity = 1, signal, velocity
        assert stressed_beta(0.8, signal, velocity) == stressed_beta_nb(0.8, market)


# --- properties ---

FLOATS = st.floats(allow_nan=True, allow_infinity=True)
SCANS = st.lists(FLOATS, max_size=14)
ANY_FACTORS = st.dictionaries(st.sampled_from(FACTORS), SCANS)


@given(ANY_FACTORS, SCANS, st.lists(FLOATS, max_size=30))
def test_the_engine_never_refuses_an_answer(
    factors: dict[str, list[float]], w750: list[float], history: list[float]
) -> None:
    with np.errstate(all="ignore"):
        told = answer(factors, w750, history)
    assert 1.0 <= told["boost"] <= base_boost(4.0) < 3.0
    assert told["beta"] in (0.2, 0.8)
    assert 0.0 <= told["signals"] <= 4.0
    assert (told["signals"] * 2).is_integer()
    assert (told["boost"] > 1.0) == (told["signals"] >= 1.0)
    assert told["missing"] == [name for name in FACTORS if told["factors"][name] is None]


@given(
    st.fixed_dictionaries({name: st.floats(-1e3, 1e3) for name in FACTORS}),
    st.sampled_from(FACTORS),
)
def test_losing_a_factor_never_raises_the_boost(factors: dict[str, float], lost: str) -> None:
    """Fail towards less risk: what is missing cannot add a signal, nor confirm one."""
    less = {name: value for name, value in factors.items() if name != lost}
    assert count_signals(less) <= count_signals(factors)


@given(st.dictionaries(st.sampled_from(FACTORS), st.floats(-200, 200)), st.floats(0.0, 50.0))
def test_worse_factors_never_lower_the_signals(factors: dict[str, float], step: float) -> None:
    worse = {name: value + (step if name == "dvol_btc" else -step) for name, value in factors.items()}
    assert count_signals(worse) >= count_signals(factors)


@given(st.floats(0, 4), st.floats(0, 4))
def test_boost_rises_with_signals(a: float, b: float) -> None:
    assert base_boost(min(a, b)) <= base_boost(max(a, b))


@given(st.permutations(list(range(10))), st.lists(FLOATS, min_size=10, max_size=10))
def test_the_order_of_the_ten_scans_does_not_matter(order: list[int], values: list[float]) -> None:
    with np.errstate(all="ignore"):
        assert answer({"taker": values}) == answer({"taker": [values[k] for k in order]})


# --- causality ---

MOVES = st.lists(st.tuples(st.integers(0, 40), ANY_FACTORS, SCANS), max_size=40)


@given(MOVES, MOVES, st.integers(0, 40))
def test_later_dates_never_change_an_earlier_answer(
    before: list[tuple[int, dict[str, list[float]], list[float]]],
    later: list[tuple[int, dict[str, list[float]], list[float]]],
    at: int,
) -> None:
    day = DAY + timedelta(days=at)
    acb = AdaptiveCircuitBreaker()
    with np.errstate(all="ignore"):
        for k, factors, w750 in before:
            acb.set_factors(DAY + timedelta(days=k), factors)
            acb.add_w750(DAY + timedelta(days=k), w750)
        told = acb.get_dynamic_boost_for_date(day)
        for k, factors, w750 in later:
            acb.set_factors(day + timedelta(days=1 + k), factors)
            acb.add_w750(day + timedelta(days=1 + k), w750)
        assert acb.get_dynamic_boost_for_date(day) == told


@given(st.lists(st.floats(-1, 1), min_size=20, max_size=40), st.floats(-1, 1), st.floats(-1, 1))
def test_the_date_s_own_velocity_is_no_history(history: list[float], own: float, other: float) -> None:
    a, b = answer(w750=[own], history=history), answer(w750=[other], history=history)
    assert a["w750_threshold"] == b["w750_threshold"] == np.percentile(history, 60)
    assert a["beta"] == beta_for(own, a["w750_threshold"])


@given(st.lists(FLOATS, min_size=10, max_size=10), SCANS, SCANS)
def test_scans_after_the_tenth_do_not_count(first: list[float], some: list[float], more: list[float]) -> None:
    with np.errstate(all="ignore"):
        a = answer({"dvol_btc": first + some}, first + some)
        assert a == answer({"dvol_btc": first + more}, first + more)


def test_asking_does_not_change_anything() -> None:
    acb = AdaptiveCircuitBreaker()
    acb.set_factors(DAY, {"dvol_btc": [90.0]})
    told = acb.get_dynamic_boost_for_date(DAY)
    told["factors"]["dvol_btc"] = 1.0
    told["missing"].clear()
    assert acb.get_dynamic_boost_for_date(DAY)["signals"] == 1.0
    assert acb.get_dynamic_boost_for_date(DAY)["factors"]["dvol_btc"] == 90.0
