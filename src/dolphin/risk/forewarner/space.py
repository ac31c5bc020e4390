"""The space of configurations in which the forewarner is trained, and the champion's place in it (SPEC §11, §16)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import ConfigError
from dolphin.core.params import CHAMPION, settable_names

F8 = NDArray[np.float64]

DIGITS = 6
"""Significant digits of a sampled value, so that a trial can be typed again."""


@dataclass(frozen=True)
class Parameter:
    """One parameter and its trained range, both ends included; `riskier` says that a catastrophe can only get likelier
    as the value rises."""

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    riskier: bool = False

    def unit(self, value: float) -> float:
        """Where `value` lies in the range: 0 at the low end, 1 at the high one, beyond them outside; NaN where the
        scale has no place for it."""
        if not math.isfinite(value) or (self.log and value <= 0.0):
            return math.nan
        low, high, at = (math.log(v) if self.log else v for v in (self.low, self.high, value))
        return (at - low) / (high - low)

    def value(self, unit: float) -> float:
        """The value at `unit` (0 to 1), to six significant digits; a whole number where the parameter is one."""
        low, high = (math.log(v) if self.log else v for v in (self.low, self.high))
        at = low + (high - low) * unit
        raw = math.exp(at) if self.log else at
        rounded = round(raw) if self.integer else float(f"{raw:.{DIGITS}g}")
        return float(min(max(rounded, self.low), self.high))


SPACE: tuple[Parameter, ...] = (
    Parameter("vel_div_threshold", -0.035, -0.010),
    Parameter("vel_div_extreme", -0.100, -0.040),
    Parameter("min_leverage", 0.1, 1.0, riskier=True),
    Parameter("max_leverage", 1.0, 20.0, riskier=True),
    Parameter("abs_max_leverage", 1.0, 20.0, riskier=True),
    Parameter("leverage_convexity", 1.0, 6.0),
    Parameter("fraction", 0.05, 1.0, riskier=True),
    Parameter("fixed_tp_pct", 0.002, 0.040, log=True),
    Parameter("stop_pct", 0.005, 1.0, log=True),
    Parameter("max_hold_bars", 20, 720, log=True, integer=True),
    Parameter("dc_lookback_bars", 3, 20, integer=True),
    Parameter("dc_min_magnitude_bps", 0.0, 5.0),
    Parameter("min_irp_alignment", 0.30, 0.60),
)
"""What training varies, in the order of the features. Any point of the box is a configuration that `core.params`
accepts: the ranges of the two thresholds do not touch, nor do those of the two leverages cross. The order, the names
and the ranges belong to a model's identity."""

NAMES: tuple[str, ...] = tuple(p.name for p in SPACE)

MC_BASE_CFG: Mapping[str, float] = MappingProxyType({name: getattr(CHAMPION, name) for name in NAMES})
"""The champion's values over the space, frozen: what the engine multiplies `max_leverage` in, day by day."""

FIXED: Mapping[str, Any] = MappingProxyType({k: v for k, v in settable_names().items() if k not in NAMES})
"""The parameters that training leaves at the champion's values; a model knows nothing about others."""


def space_table() -> list[dict[str, Any]]:
    """The space as plain values: what a model file carries and is compared with."""
    return [
        {"name": p.name, "low": float(p.low), "high": float(p.high), "log": p.log, "integer": p.integer} for p in SPACE
    ]


def complete(config: Mapping[str, Any]) -> tuple[dict[str, float], tuple[str, ...]]:
    """`config` over the champion's values, by name in the space's order, and the fixed parameters that it changes.

    Raises ConfigError for a name that is no parameter, or a value of the space that is no number. NaN and infinities
    pass: they are for the assessment to judge.
    """
    changed = []
    for name, value in config.items():
        if name in FIXED:
            if value != FIXED[name]:
                changed.append(name)
        elif name not in MC_BASE_CFG:
            known = ", ".join((*NAMES, *FIXED))
            raise ConfigError(f"configuration: {name!r} is no parameter; known names: {known}")
        elif isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)):
            raise ConfigError(f"configuration: {name} is {value!r}; expected a number such as {MC_BASE_CFG[name]:g}")
    return {name: _float(config.get(name, default)) for name, default in MC_BASE_CFG.items()}, tuple(changed)


def units(values: Mapping[str, float]) -> F8:
    """The features of one complete configuration, float64 (P,): its unit coordinates in the space's order."""
    return np.array([p.unit(values[p.name]) for p in SPACE])


def _float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number of more than 308 digits, as JSON may hold
        return math.inf
