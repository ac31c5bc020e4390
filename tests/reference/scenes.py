"""One falling asset, bar by bar: the small stage on which the engine's scenarios are played."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dolphin.core.codes import ExitReason, Gate, Posture
from dolphin.core.params import EngineParams
from tests.reference.bars_ref import AssetBook, Bar, Book
from tests.reference.engine_ref import ReferenceEngine

READY = 99  # the hundredth bar, the first on which the champion may enter
ENTRY = 1000.0 - READY / 64.0


def bar(t: int, price: float | None = None, vel_div: float = 0.0, **changes: Any) -> Bar:
    """Bar t of a market whose one asset falls by 1/64 a bar from 1000, with `changes`."""
    price = 1000.0 - t / 64.0 if price is None else price
    plain = Bar(
        bar_idx=t,
        ts_ns=t * 5_000_000_000,
        vel_div=vel_div,
        v50=vel_div,
        v750=0.0,
        prices=[price],
        vol_ok=True,
        posture=Posture.APEX,
        acb=None,
        book=None,
    )
    return Bar(**{**plain, **changes})  # type: ignore[typeddict-item]


def book(market: dict[str, float] | None = None, **asset: float) -> Book:
    """A neutral book with some features changed."""
    neutral = {"median_imbalance": 0.0, "agreement": 1.0, "cascade_count": 0, "regime_signal": 0, "depth_velocity": 0.0}
    snapshot = AssetBook(
        depth_quality=0.8,
        fill_probability=0.5,
        imbalance_ma5=0.0,
        imbalance_persistence=0.5,
        withdrawal_velocity=0.0,
    )
    return {"market": {**neutral, **(market or {})}, "assets": {0: {**snapshot, **asset}}}  # type: ignore[typeddict-item]


def engine(
    params: EngineParams | None = None, d: int = -1, upto: int = READY, name: str = "BTCUSDT"
) -> ReferenceEngine:
    """An engine that has seen bars 0 … upto − 1 and is flat."""
    made = ReferenceEngine(params or EngineParams(), d, [name], 25_000.0)
    for t in range(upto):
        made.step(bar(t))
    return made


def held(params: EngineParams | None = None, vel_div: float = -0.06, **changes: Any) -> ReferenceEngine:
    """An engine that entered at bar READY."""
    made = engine(params)
    assert made.step(bar(READY, vel_div=vel_div, **changes))["gate"] == Gate.ENTERED
    return made


def reasons(made: ReferenceEngine, bars: Iterable[Bar]) -> list[ExitReason]:
    """The exit reason of each bar."""
    return [made.step(b)["exit_reason"] for b in bars]
