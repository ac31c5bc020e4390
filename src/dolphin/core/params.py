"""Every parameter of the engine, in one place, frozen and hashed (SPEC §16, §23).

`Champion` holds exactly the twenty validated values of the System Bible §19.1; their hash is what a run, a flow
and a node compare before they start. `EngineParams` adds the constants and switches that stand apart.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError

ProfileName = Literal["blue", "green"]
Friction = Literal["modelled", "none", "native"]


class Champion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The frozen champion (Bible §19.1): names, types and values are what the hash covers."""

    vel_div_threshold: float = -0.02
    vel_div_extreme: float = -0.05
    min_leverage: float = 0.5
    max_leverage: float = 5.0
    abs_max_leverage: float = 6.0
    leverage_convexity: float = 3.0
    fraction: float = 0.20
    fixed_tp_pct: float = 0.0095
    stop_pct: float = 1.0
    max_hold_bars: int = 120
    dc_lookback_bars: int = 7
    dc_min_magnitude_bps: float = 0.75
    dc_skip_contradicts: bool = True
    min_irp_alignment: float = 0.45
    sp_maker_entry_rate: float = 0.62
    sp_maker_exit_rate: float = 0.50
    ob_edge_bps: float = 5.0
    ob_confirm_rate: float = 0.40
    lookback: int = 100
    seed: int = 42


class EngineParams(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The champion, the LONG mirror's thresholds and the switches that are not part of the hash."""

    champion: Champion = Champion()
    long_threshold: float = 0.01
    long_extreme: float = 0.04
    dc_leverage_boost: float = 1.0
    use_asset_selection: bool = True
    irp_returns: Literal["absolute", "relative"] = "absolute"
    use_sp_fees: bool = True
    use_sp_slippage: bool = True
    use_ob_edge: bool = True
    vd_enabled: bool = False
    vd_adverse: float = 0.02
    vd_bars: int = 3
    tf_enabled: bool = False
    tf_exhaust_ratio: float = 0.30
    tf_flip_ratio: float = 0.50


@dataclass(frozen=True)
class Range:
    """Closed bounds of a numeric parameter; `None` leaves a side open."""

    low: float | None = None
    high: float | None = None

    def describe(self) -> str:
        """The bounds in words, for an error message."""
        if self.low is not None and self.high is not None:
            return f"between {self.low:g} and {self.high:g}"
        return f"at least {self.low:g}" if self.low is not None else f"at most {self.high:g}"

    def holds(self, value: float) -> bool:
        """Whether `value` is finite and within the bounds."""
        return (
            math.isfinite(value)
            and (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
        )


RANGES: Mapping[str, Range] = {
    "vel_div_threshold": Range(-1.0, 0.0),
    "vel_div_extreme": Range(-1.0, 0.0),
    "min_leverage": Range(0.0, 20.0),
    "max_leverage": Range(0.1, 20.0),
    "abs_max_leverage": Range(0.1, 20.0),
    "leverage_convexity": Range(0.1, 10.0),
    "fraction": Range(0.02, 1.0),
    "fixed_tp_pct": Range(1e-4, 1.0),
    "stop_pct": Range(1e-4, 1.0),
    "max_hold_bars": Range(1, 1_000_000),
    "dc_lookback_bars": Range(1, 48),
    "dc_min_magnitude_bps": Range(0.0, 1000.0),
    "min_irp_alignment": Range(0.0, 1.0),
    "sp_maker_entry_rate": Range(0.0, 1.0),
    "sp_maker_exit_rate": Range(0.0, 1.0),
    "ob_edge_bps": Range(0.0, 100.0),
    "ob_confirm_rate": Range(0.0, 1.0),
    "lookback": Range(0, 1_000_000),
    "seed": Range(0, 2**32 - 1),
    "long_threshold": Range(0.0, 1.0),
    "long_extreme": Range(0.0, 1.0),
    "dc_leverage_boost": Range(0.0, 5.0),
    "vd_adverse": Range(0.0, 1.0),
    "vd_bars": Range(1, 1000),
    "tf_exhaust_ratio": Range(0.0, 1.0),
    "tf_flip_ratio": Range(0.0, 100.0),
}

CHAMPION = Champion()
DIRECTIONS: Mapping[str, Direction] = {"blue": Direction.SHORT, "green": Direction.LONG}
FRICTION_FLAGS = ("use_sp_fees", "use_sp_slippage", "use_ob_edge")
_SWITCHED_BY_FRICTION = frozenset(FRICTION_FLAGS)


def champion_hash(champion: Champion = CHAMPION) -> str:
    """Sixteen hex digits over the twenty names and values: `sha256(json.dumps(params, sort_keys=True))[:16]`."""
    text = json.dumps(msgspec.structs.asdict(champion), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def settable_names() -> dict[str, Any]:
    """Every name that `--set` accepts, with its default."""
    values = {**msgspec.structs.asdict(CHAMPION), **msgspec.structs.asdict(EngineParams())}
    return {k: v for k, v in values.items() if k != "champion" and k not in _SWITCHED_BY_FRICTION}


def build_params(overrides: Mapping[str, str] | None = None, friction: Friction = "modelled") -> EngineParams:
    """The champion with `overrides` (text values, as typed on a command line) and one friction model (SPEC §7).

    Raises ConfigError for an unknown name, a value of the wrong type or out of range, or inconsistent values.
    """
    typed: dict[str, Any] = {name: _typed_value(name, text) for name, text in (overrides or {}).items()}
    frozen = {k: v for k, v in typed.items() if k in Champion.__struct_fields__}
    free = {k: v for k, v in typed.items() if k not in frozen}
    free |= dict.fromkeys(FRICTION_FLAGS, friction == "modelled")
    params = EngineParams(champion=Champion(**frozen), **free)
    _check_consistent(params)
    return params


def overridden(params: EngineParams) -> dict[str, Any]:
    """The parameters that differ from the champion's; empty means that this is the champion."""
    defaults = settable_names()
    values = {**msgspec.structs.asdict(params.champion), **msgspec.structs.asdict(params)}
    return {name: values[name] for name, default in defaults.items() if values[name] != default}


def _typed_value(name: str, text: str) -> bool | int | float | str:
    defaults = settable_names()
    if name not in defaults:
        hint = "; friction is chosen with --friction" if name in _SWITCHED_BY_FRICTION else ""
        known = ", ".join(sorted(defaults))
        raise ConfigError(f"--set {name}: no such parameter{hint}; known names: {known}")
    default = defaults[name]
    if isinstance(default, bool):
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        raise ConfigError(f"--set {name}={text}: expected true or false")
    if isinstance(default, str):
        if text in ("absolute", "relative"):
            return text
        raise ConfigError(f"--set {name}={text}: expected absolute or relative")
    return _number(name, text, integer=isinstance(default, int))


def _number(name: str, text: str, *, integer: bool) -> int | float:
    try:
        value: int | float = int(text) if integer else float(text)
    except ValueError:
        kind = "a whole number" if integer else "a number"
        raise ConfigError(f"--set {name}={text}: expected {kind} {RANGES[name].describe()}") from None
    if not RANGES[name].holds(value):
        raise ConfigError(f"--set {name}={text}: out of range, expected {RANGES[name].describe()}")
    return value


def _check_consistent(params: EngineParams) -> None:
    c = params.champion
    pairs = (
        ("vel_div_extreme", c.vel_div_extreme, "below vel_div_threshold", c.vel_div_threshold - c.vel_div_extreme),
        ("long_extreme", params.long_extreme, "above long_threshold", params.long_extreme - params.long_threshold),
    )
    for name, value, want, gap in pairs:
        if gap <= 0.0:
            raise ConfigError(f"--set {name}={value:g}: it must lie {want}, or strength would divide by zero")
    if c.min_leverage > c.max_leverage:
        raise ConfigError(f"--set min_leverage={c.min_leverage:g}: above max_leverage {c.max_leverage:g}")
