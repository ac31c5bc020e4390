"""The order book in plain Python, written from the rules (SPEC §8, §23): lists instead of rings, whole sums each time.

Compiled features are compared with it bit for bit, so sums run left to right, as the formulas are written.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple


class Snapshot(NamedTuple):
    """Stamp in seconds, USD per band on either side."""

    timestamp: float
    bids: Sequence[float]
    asks: Sequence[float]


@dataclass
class AssetMemory:
    """What the twin knows of one asset."""

    last_s: float = -math.inf
    reference: float | None = None
    imbalances: list[float] = field(default_factory=list)
    depths: list[float] = field(default_factory=list)
    dark: int = 0
    bar: int = -1
    features: dict[str, Any] | None = None


def total(bands: Sequence[float]) -> float:
    """Left to right; `sum` would keep more digits of floats than that."""
    result = 0.0
    for value in bands:
        result += value
    return result


def ratio(part: float, whole: float) -> float:
    return part / whole if whole != 0.0 else 0.0


def sign(x: float) -> int:
    return 1 if x > 0.0 else -1 if x < 0.0 else 0


def median(values: Sequence[float]) -> float:
    ordered, n = sorted(values), len(values)
    if n == 0:
        return 0.0
    return ordered[n // 2] if n % 2 else (ordered[n // 2 - 1] + ordered[n // 2]) / 2.0


def share_of_sign(values: Sequence[float], of: float) -> float:
    return sum(1 for v in values if sign(v) == sign(of)) / len(values) if values else 0.0


def withdrawal(history: Sequence[float]) -> float:
    """`d[-1]/d[-1-k] − 1`, k = min(5, len − 1)."""
    k = min(5, len(history) - 1)
    if k < 1 or history[-1 - k] <= 0.0:
        return 0.0
    return history[-1] / history[-1 - k] - 1.0


def is_sound(snapshot: Snapshot) -> bool:
    if not math.isfinite(snapshot.timestamp):
        return False
    return all(v == 0.0 or 1e-6 <= v <= 1e15 for v in (*snapshot.bids, *snapshot.asks))


def cascade(velocities: Sequence[float]) -> int:
    falling = sum(1 for v in velocities if v < -0.30)
    return falling if falling >= 3 else 0


def regime(velocities: Sequence[float], depth_velocity: float, agreement: float) -> int:
    if median(velocities) < -0.10:
        return 1
    return -1 if depth_velocity >= -0.02 and agreement >= 0.6 else 0


class ReferenceBook:
    """Features bar by bar; `bar` gives (market or None, features by asset with a usable book)."""

    def __init__(self, assets: Sequence[str], max_stale_bars: int = 12, max_age_s: float = 60.0) -> None:
        self.assets = list(assets)
        self.max_stale, self.max_age = max_stale_bars, max_age_s
        self.memory = {asset: AssetMemory() for asset in assets}
        self.by_bar: list[dict[str, float]] = []
        self.market: dict[str, Any] | None = None
        self.market_bar = -1
        self.velocity = 0.0
        self.empty = 0

    def bar(
        self, bar: int, now_s: float, snapshots: Mapping[str, Snapshot]
    ) -> tuple[dict[str, Any] | None, dict[str, dict[str, Any]]]:
        fresh = 0
        for asset in self.assets:
            memory = self.memory[asset]
            if memory.features is not None and bar - memory.bar > self.max_stale:
                memory.features, memory.imbalances, memory.depths, memory.dark = None, [], [], 0
            snapshot = snapshots.get(asset)
            if snapshot is not None and self._is_new(memory, snapshot, now_s):
                self._take(memory, snapshot, bar)
                fresh += 1
        if bar - self.market_bar > self.max_stale:
            self.market, self.by_bar = None, []
        self.empty = 0 if fresh else self.empty + 1
        if fresh:
            self._market(bar)
        return self.market, {a: m.features for a, m in self.memory.items() if m.features is not None}

    def _is_new(self, memory: AssetMemory, snapshot: Snapshot, now_s: float) -> bool:
        if not is_sound(snapshot) or snapshot.timestamp - now_s > self.max_age:
            return False
        return snapshot.timestamp > memory.last_s and now_s - snapshot.timestamp <= self.max_age

    def _take(self, memory: AssetMemory, snapshot: Snapshot, bar: int) -> None:
        b, a = total(snapshot.bids), total(snapshot.asks)
        near_b, near_a = snapshot.bids[0], snapshot.asks[0]
        depth = near_b + near_a
        if depth > 0.0:
            memory.reference = depth if memory.reference is None else (1.0 - 0.01) * memory.reference + 0.01 * depth
        memory.last_s, memory.bar = snapshot.timestamp, bar
        memory.imbalances.append(ratio(b - a, b + a))
        memory.depths.append(depth)
        memory.dark = 0 if b + a > 0.0 else memory.dark + 1
        quality = ratio(depth, memory.reference or 0.0)
        latest = memory.imbalances[-5:]
        memory.features = {
            "depth_1pct_usd": depth,
            "depth_quality": quality,
            "fill_probability": 1.0 - math.exp(math.log(0.38) * quality),
            "spread_proxy_bps": max(0.0, 10.0 * (1.0 - depth / (b + a))) if b + a > 0.0 else 0.0,
            "imbalance": memory.imbalances[-1],
            "imbalance_ma5": total(latest) / len(latest),
            "imbalance_persistence": share_of_sign(memory.imbalances[-10:], memory.imbalances[-1]),
            "depth_asymmetry": ratio(near_b - near_a, near_b + near_a),
            "withdrawal_velocity": withdrawal(memory.depths),
            "bar": bar,
        }

    def _market(self, bar: int) -> None:
        used = {a: m.features for a, m in self.memory.items() if m.features is not None and m.dark < 10}
        imbalances = [f["imbalance"] for f in used.values()]
        velocities = [f["withdrawal_velocity"] for f in used.values()]
        self.by_bar.append({a: f["depth_1pct_usd"] for a, f in used.items()})
        middle = median(imbalances)
        agreement = share_of_sign(imbalances, middle)
        velocity, previous = self._depth_velocity(), self.velocity
        self.velocity, self.market_bar = velocity, bar
        if not used:
            self.market = None
            return
        self.market = {
            "median_imbalance": middle,
            "agreement": agreement,
            "depth_pressure": total(imbalances),
            "cascade_count": cascade(velocities),
            "depth_velocity": velocity,
            "acceleration": velocity - previous if len(self.by_bar) > 1 else 0.0,
            "regime_signal": regime(velocities, velocity, agreement),
            "assets": len(used),
            "bar": bar,
        }

    def _depth_velocity(self) -> float:
        """The withdrawal of mean depth between two bars, over the assets that both have."""
        k = min(5, len(self.by_bar) - 1)
        now, before = self.by_bar[-1], self.by_bar[-1 - k]
        common = [a for a in self.assets if a in now and a in before]
        if k < 1 or not common:
            return 0.0
        return withdrawal(
            [total([before[a] for a in common]) / len(common), total([now[a] for a in common]) / len(common)]
        )
