"""What a DolphinActor is told, who watches its days, and what it counts beside its trades (SPEC §13)."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Protocol

import msgspec
from nautilus_trader.config import StrategyConfig

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.engines import BoostMode


class DolphinActorConfig(StrategyConfig, frozen=True):
    """What a DolphinActor is told; everything in it can be written down.

    `profile` is "blue" or "green"; `overrides` are parameter texts as `--set` takes them; `expected_hash` the champion
    hash that must be met. `live_mode`: scans are now, not recorded. `unread_posture`: what an unreadable posture counts
    as. `leverage`: the account's setting. `stop_pct`: distance of the protective stop (fraction), None for none.
    `largest_order`: entries are cut to the largest market order that the venue takes.
    `flatten_on_stop`: close what is held when stopped, instead of leaving it to its protective stop.
    """

    assets: tuple[str, ...] = ()
    profile: str = "blue"
    overrides: dict[str, str] = msgspec.field(default_factory=dict)
    expected_hash: str | None = None
    boost_mode: BoostMode = "acb"
    mc_models_dir: str | None = None
    live_mode: bool = False
    bar_seconds: float = 60.0
    unread_posture: str = "APEX"
    leverage: int = 10
    stop_pct: float | None = 0.05
    largest_order: bool = True
    flatten_on_stop: bool = False


class Hooks(Protocol):
    """Who wants to see the days go by, and may add layers to the engine."""

    def attach(self, engine: NDAlphaEngine) -> None:
        """Before the first bar."""

    def begin_day(self, block: ScanBlock) -> None:
        """After the engine's day has begun, before the block's first bar."""

    def end_block(self, block: ScanBlock, events: Record, engine: NDAlphaEngine) -> None:
        """After the block's bars; `events` hold capital and equity as the venue's fills left them."""


@dataclass
class Counts:
    """What happened beside trades. `unread_postures`: readings that failed. `withheld`: entries not sent, by reason."""

    bars: int = 0
    days: int = 0
    stale_state_events: int = 0
    stale_scans: int = 0
    repeated_scans: int = 0
    grid_failures: int = 0
    unread_postures: int = 0
    withheld: Counter[str] = field(default_factory=Counter)
