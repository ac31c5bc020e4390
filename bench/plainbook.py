"""The peer of the order book's kernels: the same features by NumPy, all assets at once, as one writes them first."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


class NumpyBook:
    """N assets whose every snapshot is new and sound; the features of the latest step as attributes."""

    def __init__(self, n: int) -> None:
        self.reference = np.zeros(n)
        self.imbalances = np.zeros((0, n))
        self.depths = np.zeros((0, n))

    def step(self, bids: Array, asks: Array) -> None:
        """Take one bar's bands, USD, float64 (N, 5)."""
        b, a = bids.sum(axis=1), asks.sum(axis=1)
        depth = bids[:, 0] + asks[:, 0]
        self.imbalance = (b - a) / (b + a)
        self.reference = np.where(self.reference > 0.0, 0.99 * self.reference + 0.01 * depth, depth)
        self.depth_quality = depth / self.reference
        self.fill_probability = 1.0 - 0.38**self.depth_quality
        self.spread_proxy_bps = 10.0 * (1.0 - depth / (b + a))
        self.depth_asymmetry = (bids[:, 0] - asks[:, 0]) / depth
        self.imbalances = np.vstack((self.imbalances, self.imbalance))[-10:]
        self.depths = np.vstack((self.depths, depth))[-6:]
        self.imbalance_ma5 = self.imbalances[-5:].mean(axis=0)
        self.imbalance_persistence = (np.sign(self.imbalances) == np.sign(self.imbalance)).mean(axis=0)
        self.withdrawal_velocity = depth / self.depths[0] - 1.0
        self.median_imbalance = float(np.median(self.imbalance))
        self.agreement = float(np.mean(np.sign(self.imbalance) == np.sign(self.median_imbalance)))
        self.depth_pressure = float(self.imbalance.sum())
        cascade = int(np.count_nonzero(self.withdrawal_velocity < -0.30))
        self.cascade_count = cascade if cascade >= 3 else 0
        self.depth_velocity = float(depth.mean() / self.depths[0].mean() - 1.0)
        calm = self.depth_velocity >= -0.02 and self.agreement >= 0.6
        self.regime_signal = 1 if np.median(self.withdrawal_velocity) < -0.10 else -int(calm)


OF_ASSETS = (
    "imbalance",
    "depth_quality",
    "fill_probability",
    "spread_proxy_bps",
    "depth_asymmetry",
    "imbalance_ma5",
    "imbalance_persistence",
    "withdrawal_velocity",
)
OF_MARKET = ("median_imbalance", "agreement", "depth_pressure", "cascade_count", "depth_velocity", "regime_signal")
