"""Parameters: frozen, typed, hashed, and nothing accepted that is not understood (SPEC §16, §23)."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.core.params import (
    CHAMPION,
    DIRECTIONS,
    FRICTION_FLAGS,
    RANGES,
    Champion,
    EngineParams,
    Range,
    build_params,
    champion_hash,
    overridden,
    settable_names,
)

DOCUMENTED = {
    "vel_div_threshold": -0.02,
    "vel_div_extreme": -0.05,
    "min_leverage": 0.5,
    "max_leverage": 5.0,
    "abs_max_leverage": 6.0,
    "leverage_convexity": 3.0,
    "fraction": 0.20,
    "fixed_tp_pct": 0.0095,
    "stop_pct": 1.0,
    "max_hold_bars": 120,
    "dc_lookback_bars": 7,
    "dc_min_magnitude_bps": 0.75,
    "dc_skip_contradicts": True,
    "min_irp_alignment": 0.45,
    "sp_maker_entry_rate": 0.62,
    "sp_maker_exit_rate": 0.50,
    "ob_edge_bps": 5.0,
    "ob_confirm_rate": 0.40,
    "lookback": 100,
    "seed": 42,
}


def other(value: bool | int | float) -> bool | int | float:
    """A value of the same type that is not `value`."""
    return not value if isinstance(value, bool) else value + 1 if isinstance(value, int) else math.nextafter(value, 0.0)


def test_the_champion_is_the_documented_twenty() -> None:
    values = msgspec.structs.asdict(CHAMPION)
    assert values == DOCUMENTED
    assert [type(values[name]) for name in DOCUMENTED] == [type(value) for value in DOCUMENTED.values()]
    assert champion_hash() == champion_hash(Champion()) == "3e85f242030efb87"


@pytest.mark.parametrize("name", DOCUMENTED)
def test_any_change_changes_the_hash(name: str) -> None:
    changed = Champion(**{name: other(DOCUMENTED[name])})
    assert champion_hash(changed) != champion_hash()


def test_types_are_part_of_the_hash() -> None:
    assert champion_hash(msgspec.structs.replace(CHAMPION, max_leverage=5)) != champion_hash()
    assert champion_hash(msgspec.structs.replace(CHAMPION, dc_skip_contradicts=1)) != champion_hash()  # type: ignore[arg-type]


def test_parameters_are_frozen() -> None:
    with pytest.raises(AttributeError):
        CHAMPION.seed = 1  # type: ignore[misc]
    with pytest.raises(AttributeError):
        EngineParams().vd_enabled = True  # type: ignore[misc]
    with pytest.raises(TypeError):
        Champion(warp=9)  # type: ignore[call-arg]


def test_what_the_documents_switch_off_is_off() -> None:
    plain = EngineParams()
    assert not plain.vd_enabled
    assert not plain.tf_enabled
    assert plain.dc_leverage_boost == 1.0
    assert (plain.long_threshold, plain.long_extreme, plain.irp_returns) == (0.01, 0.04, "absolute")
    assert {name: int(d) for name, d in DIRECTIONS.items()} == {"blue": -1, "green": 1}


def test_friction() -> None:
    assert build_params() == build_params({}, "modelled") == EngineParams()
    off = build_params({}, "none")
    assert [getattr(off, flag) for flag in FRICTION_FLAGS] == [False] * 3
    assert overridden(off) == {}, "the friction model is no change of the champion"
    assert champion_hash(off.champion) == champion_hash()


def test_every_number_has_bounds_and_its_default_lies_within() -> None:
    for name, value in settable_names().items():
        if isinstance(value, (bool, str)):
            assert name not in RANGES
        else:
            assert RANGES[name].holds(value), name
    assert not set(FRICTION_FLAGS) & set(settable_names())


@pytest.mark.parametrize("name", settable_names())
def test_every_name_can_be_set_and_is_then_not_the_champion(name: str) -> None:
    value = settable_names()[name]
    if isinstance(value, bool):
        text, typed = str(not value).lower(), not value
    elif isinstance(value, str):
        text, typed = "relative", "relative"
    else:
        typed = other(value)
        text = repr(typed)
    assert overridden(build_params({name: text})) == {name: typed}
    assert overridden(build_params({name: str(value).lower()})) == {}


def bounds() -> list[tuple[str, str]]:
    """(name, value just outside) for every bound."""
    out = []
    for name, bound in RANGES.items():
        step = 1 if isinstance(settable_names()[name], int) else 1e-6
        out += [(name, repr(bound.low - step))] if bound.low is not None else []
        out += [(name, repr(bound.high + step))] if bound.high is not None else []
    return out


@pytest.mark.parametrize(("name", "text"), bounds())
def test_out_of_range(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_params({name: text})
    assert str(caught.value) == f"--set {name}={text}: out of range, expected {RANGES[name].describe()}"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("warp", "9", "--set warp: no such parameter; known names: abs_max_leverage, "),
        ("use_sp_fees", "false", "friction is chosen with --friction"),
        ("champion", "x", "no such parameter"),
        ("max_hold_bars", "60.0", "expected a whole number between 1 and 1e+06"),
        ("max_hold_bars", "", "expected a whole number"),
        ("stop_pct", "much", "expected a number between 0.0001 and 1"),
        ("stop_pct", "nan", "out of range"),
        ("stop_pct", "inf", "out of range"),
        ("vd_enabled", "1", "expected true or false"),
        ("irp_returns", "both", "expected absolute or relative"),
        ("vel_div_extreme", "-0.02", "it must lie below vel_div_threshold"),
        ("long_extreme", "0.01", "it must lie above long_threshold"),
        ("min_leverage", "5.5", "above max_leverage 5"),
    ],
)
def test_refusals(name: str, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        build_params({name: text})
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"--set {name}")
    assert "\n" not in str(caught.value)


@given(st.dictionaries(st.sampled_from(sorted(settable_names())), st.text(max_size=8), max_size=4))
def test_any_text_is_taken_or_refused(values: dict[str, str]) -> None:
    with contextlib.suppress(ConfigError):
        assert set(overridden(build_params(values))) <= set(values)


@given(st.floats(allow_nan=True), st.floats(-10, 10), st.floats(-10, 10))
def test_range(value: float, a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    assert Range(low, high).holds(value) == (math.isfinite(value) and low <= value <= high)
    assert Range().holds(value) == math.isfinite(value)


def test_range_in_words() -> None:
    described: dict[str, Any] = {
        "between 0 and 1": Range(0.0, 1.0),
        "at least 2": Range(2.0),
        "at most 3": Range(None, 3),
    }
    for words, bound in described.items():
        assert bound.describe() == words
