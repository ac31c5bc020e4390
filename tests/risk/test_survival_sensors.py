"""Sensors, categories, target, recovery: the documents' numbers by hand, and what may never happen."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.risk.sensors import Readings, degraded_nb, last_spike_s, recovered_nb, target_nb, worst_cased
from tests.risk import survival_ref as ref
from tests.risk.survival_cases import (
    FIELDS,
    PERFECT,
    TOP,
    anything,
    cat1,
    cat2,
    cat3,
    cat4,
    cat5,
    categories,
    one,
    reading,
    seen,
    target_of,
)

pytestmark = pytest.mark.jit_off

near = pytest.approx


# --- by hand ---


@pytest.mark.parametrize(
    ("nodes", "age", "expected"), [(1, 30.0, 1.0), (3, 0.0, 1.0), (0, 0.0, 0.0), (1, 30.001, 0.0), (1, -0.2, 1.0)]
)
def test_cat1(nodes: int, age: float, expected: float) -> None:
    assert cat1(reading(grid_nodes=nodes, heartbeat_age_s=age)) == expected


@pytest.mark.parametrize(
    ("status", "hours", "expected"),
    [
        ("OK", 0.0, 1.0),
        ("OK", 6.0, 1.0),
        ("OK", 9.0, 0.367879441),
        ("OK", 12.0, 0.135335283),
        ("ORANGE", 0.0, 0.5),
        ("ORANGE", 9.0, 0.183939721),
        ("RED", 6.0, 0.1),
        ("RED", 9.0, 0.0367879441),
    ],
)
def test_cat2(status: str, hours: float, expected: float) -> None:
    assert cat2(reading(mc_status=status, stale_hours=hours)) == near(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("stale", "depth", "fill", "expected"),
    [
        (False, 1.0, 0.62, 1.0),
        (False, 2.0, 1.0, 1.0),
        (False, 0.5, 0.62, 0.65),
        (False, 1.0, 0.31, 0.65),
        (False, 0.2, 0.62, 0.44),
        (False, 0.0, 0.62, 0.3),
        (True, 1.0, 0.62, 0.5),
        (True, 0.1, 0.62, 0.37),  # a thin book is no better for being stale
    ],
)
def test_cat3(stale: bool, depth: float, fill: float, expected: float) -> None:
    assert cat3(reading(book_stale=stale, depth_quality=depth, fill_probability=fill)) == near(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("spike", "minutes", "expected"),
    [(False, None, 1.0), (False, 0.0, 1.0), (True, 0.0, 0.3), (True, 60.0, 0.742484391), (True, 1e9, 1.0)],
)
def test_cat4(spike: bool, minutes: float | None, expected: float) -> None:
    assert cat4(reading(dvol_spike=spike, dvol_spike_age_min=minutes)) == near(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("drawdown", "expected"), [(0.0, 0.973403006), (0.05, 0.890903179), (0.12, 0.5), (0.20, 0.0831726965), (50.0, 0.0)]
)
def test_cat5(drawdown: float, expected: float) -> None:
    """Near 1 below 5 %, a half at 12 %, near 0.1 at 20 %, as the documents say; no overflow far out."""
    assert cat5(reading(drawdown=drawdown)) == near(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("cats", "expected"),
    [
        ((1.0, 1.0, 1.0, 1.0, 1.0), 1.0),
        ((0.0, 1.0, 1.0, 1.0, 1.0), 0.0),
        ((1.0, 0.9, 1.0, 0.8, 0.5), 0.4),  # the worse of Cat2 and Cat4; 0.8 is not degraded
        ((1.0, 0.8, 0.8, 0.8, 1.0), 0.64),
        ((1.0, 0.5, 0.9, 1.0, 1.0), 0.45),  # one degraded: no penalty
        ((1.0, 0.5, 0.6, 1.0, 1.0), 0.15),  # two: halved
        ((1.0, 1.0, 0.5, 0.5, 1.0), 0.125),
        ((1.0, 0.5, 0.5, 0.5, 0.5), 0.0625),  # three: halved once
    ],
)
def test_target(cats: tuple[float, ...], expected: float) -> None:
    assert target_nb(*cats) == near(expected, rel=1e-12)
    assert target_nb(*cats) == ref.target(list(cats))


@pytest.mark.parametrize(
    ("last", "target", "dt", "expected"),
    [
        (0.9, 0.4, 0.0, 0.4),  # falls at once, whatever the time
        (0.5, 0.9, 0.0, 0.5),
        (0.5, 0.9, 1.0, 0.508),  # 0.02·0.4
        (0.5, 0.9, 10.0, 0.58),
        (0.5, 0.9, 50.0, 0.9),
        (0.5, 0.9, 1e300, 0.9),
        (0.5, 0.9, math.inf, 0.9),
        (0.5, 0.5, 1.0, 0.5),
    ],
)
def test_recovery(last: float, target: float, dt: float, expected: float) -> None:
    assert recovered_nb(last, target, dt) == near(expected, rel=1e-12)


def test_a_perfect_reading_gives_the_largest_target() -> None:
    assert target_of(reading()) == near(TOP, rel=1e-15)
    assert worst_cased(seen(reading())) == ()


def test_a_champion_s_normal_book_is_no_reason_to_hide() -> None:
    """Depth quality 1 and the champion's fill share of 62 %: with the plain minimum this would already be TURTLE."""
    assert cat3(reading(depth_quality=1.0, fill_probability=1.0 - 0.38)) == near(1.0)


# --- spikes ---


@pytest.mark.parametrize(
    ("times", "values", "expected"),
    [
        ([], [], None),
        ([0.0], [50.0], None),
        ([0.0, 600.0], [50.0, 54.9], None),
        ([0.0, 600.0], [50.0, 55.0], 600.0),  # exactly 10 %
        ([0.0, 3600.0], [50.0, 55.0], 3600.0),
        ([0.0, 3600.1], [50.0, 55.0], None),  # over more than 60 minutes
        ([0.0, 600.0, 1200.0], [50.0, 60.0, 50.0], 600.0),  # a fall is no spike
        ([0.0, 600.0, 1200.0], [60.0, math.nan, 50.0], None),
        ([0.0, 600.0, 1200.0], [50.0, -1.0, 56.0], 1200.0),
    ],
)
def test_dvol_spikes(times: list[float], values: list[float], expected: float | None) -> None:
    assert last_spike_s(times, values) == expected


def test_dvol_columns_of_two_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        last_spike_s([0.0], [])


# --- properties ---


def target(fields: dict[str, Any]) -> float:
    return target_of(Readings(**fields))


@given(anything)
def test_categories_and_target_stay_within_0_and_1_and_agree_with_the_twin(fields: dict[str, Any]) -> None:
    values = categories(Readings(**fields))
    assert all(0.0 <= value <= 1.0 for value in values)
    twin = ref.five({**fields, "book_service_age_s": 1e6}, None)
    assert values == near(twin, rel=1e-14, abs=1e-300)
    assert target_nb(*values) == near(ref.target(twin), rel=1e-13, abs=1e-300)
    assert degraded_nb(*values[1:4]) == sum(value < 0.8 for value in values[1:4])


ORDERED: dict[str, st.SearchStrategy[Any]] = {
    "grid_nodes": st.integers(0, 5).map(lambda n: (n, -n)),
    "heartbeat_age_s": st.floats(0.0, 100.0).map(lambda x: (x, x)),
    "mc_status": st.sampled_from([("OK", 0), ("ORANGE", 1), ("RED", 2)]),
    "stale_hours": st.floats(0.0, 100.0).map(lambda x: (x, x)),
    "book_stale": st.sampled_from([(False, 0), (True, 1)]),
    "depth_quality": st.floats(0.0, 3.0).map(lambda x: (x, -x)),
    "fill_probability": st.floats(0.0, 1.0).map(lambda x: (x, -x)),
    "dvol_spike": st.sampled_from([(False, 0), (True, 1)]),
    "dvol_spike_age_min": st.floats(0.0, 1000.0).map(lambda x: (x, -x)),
    "drawdown": st.floats(0.0, 60.0).map(lambda x: (x, x)),
}
"""Per sensor: values with a rank that grows as they get worse."""


@pytest.mark.parametrize("name", sorted(ORDERED))
@given(base=one, data=st.data())
def test_a_worse_sensor_never_raises_the_target(name: str, base: dict[str, Any], data: st.DataObject) -> None:
    (better, _), (worse, _) = sorted((data.draw(ORDERED[name]), data.draw(ORDERED[name])), key=lambda pair: pair[1])
    assert target({**base, name: worse}) <= target({**base, name: better})


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"book_service_age_s"}))
@pytest.mark.parametrize("odd", [None, math.nan, math.inf, -math.inf, -1.0])
@given(base=one, data=st.data())
def test_an_unusable_sensor_is_its_worst_case(
    name: str, odd: float | None, base: dict[str, Any], data: st.DataObject
) -> None:
    if odd is not None and name in ("mc_status", "book_stale", "dvol_spike"):
        odd = None
    assert target({**base, name: odd}) <= target({**base, name: data.draw(FIELDS[name])})


@pytest.mark.parametrize("odd", [None, math.nan, math.inf, -1.0])
@pytest.mark.parametrize("name", sorted(FIELDS))
def test_an_unusable_sensor_is_named_and_alone(name: str, odd: Any) -> None:
    if odd is not None and name in ("mc_status", "book_stale", "dvol_spike"):
        odd = None
    spiked = {"dvol_spike": True, "dvol_spike_age_min": 5.0} if name == "dvol_spike_age_min" else {}
    got = worst_cased(seen(reading(**{**spiked, name: odd})))
    assert got == (("dvol_spike", "dvol_spike_age_min") if name == "dvol_spike" else (name,))


def test_impossible_values_are_unusable_and_clocks_may_differ_a_little() -> None:
    assert worst_cased(seen(reading(fill_probability=1.0 + 1e-9))) == ("fill_probability",)
    assert cat3(reading(fill_probability=1.0 + 1e-9)) == 0.3
    assert worst_cased(seen(reading(heartbeat_age_s=-0.25, stale_hours=-0.25 / 3600.0, book_service_age_s=-0.25))) == ()
    assert worst_cased(seen(reading(heartbeat_age_s=-0.26))) == ("heartbeat_age_s",)
    assert worst_cased(seen(reading(stale_hours=-0.26 / 3600.0))) == ("stale_hours",)
    assert worst_cased(seen(reading(book_service_age_s=-0.26))) == ("book_service_age_s",)


def test_nothing_known_is_nothing_allowed() -> None:
    assert worst_cased(seen(Readings())) == Readings.__struct_fields__
    assert target_of(Readings()) == 0.0


def test_the_reading_is_frozen_and_refuses_names_it_does_not_know() -> None:
    with pytest.raises(AttributeError):
        reading().drawdown = 0.0  # type: ignore[misc]
    with pytest.raises(msgspec.ValidationError, match="unknown field"):
        msgspec.convert({**PERFECT, "weather": 1}, Readings)


unit = st.floats(0.0, 1.0)


@given(unit, unit, st.one_of(st.floats(0.0, 1e9), st.just(math.inf)))
def test_recovery_is_bounded(last: float, goal: float, dt: float) -> None:
    rm = recovered_nb(last, goal, dt)
    assert 0.0 <= rm <= 1.0
    if goal <= last:
        assert rm == goal
    else:
        assert last <= rm <= goal
        assert rm - last <= min(min(1.0, 0.02 * dt) * (goal - last), 0.05 * dt) + 1e-16
