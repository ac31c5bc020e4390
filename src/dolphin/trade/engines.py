"""The engine that a trader runs: made in one place, so that an actor, a flow and a replay cannot make different ones
(SPEC §13, §15, §23)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams, champion_hash
from dolphin.market.forewarnerfiles import forewarner_or_none
from dolphin.risk.forewarner import MC_BASE_CFG

BoostMode = Literal["acb", "none"]
"""acb: boost and beta as the circuit breaker says; none: 1 and 0 whatever it says."""


def create_boost_engine(
    mode: BoostMode, params: EngineParams, assets: Sequence[str], direction: Direction, capital: float
) -> NDAlphaEngine:
    """The engine over `assets` with `capital` USDT. Raises ConfigError for a mode that there is not."""
    if mode not in ("acb", "none"):
        raise ConfigError(f"boost_mode {mode!r}: expected acb or none")
    return NDAlphaEngine(params, assets, direction, capital)


def check_champion(params: EngineParams, expected: str | None) -> None:
    """Raise ConfigError when `params` are not those whose hash is `expected`; None expects nothing (SPEC §15)."""
    met = champion_hash(params.champion)
    if expected is not None and met != expected:
        raise ConfigError(f"champion hash {met}; expected {expected}: the parameters have drifted, restore them")


def set_forewarner(engine: NDAlphaEngine, models_dir: str | Path | None, warn: Callable[[str], None]) -> bool:
    """Let the model in `models_dir` judge the frozen base configuration every day; whether there is one now.

    None or '' is no forewarner. Without a sound model the engine runs on, and `warn` is told why (SPEC §11, §13).
    """
    forewarner = forewarner_or_none(models_dir or None, warn)
    engine.set_mc_forewarner(forewarner, MC_BASE_CFG)
    return forewarner is not None


class GateSnap(NamedTuple):
    """What an entry depends on besides its bar; a change between before and after the step makes it stale."""

    acb_boost: float
    acb_beta: float
    posture: int
    mc_gate_open: bool

    def changed(self, after: GateSnap) -> Mapping[str, tuple[Any, Any]]:
        """The fields that differ, before and after."""
        pairs = zip(self._fields, self, after, strict=True)
        return {name: (one, other) for name, one, other in pairs if one != other}
