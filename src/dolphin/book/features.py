"""The features as people and services read them; the engine's step reads the records (SPEC §8, §23)."""

from __future__ import annotations

import msgspec


class OBPlacementFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """How well an order would be placed in one asset's book.

    `depth_1pct_usd` ≥ 0; `depth_quality` ≥ 0, 1 is the asset's usual depth; `fill_probability` in [0, 1];
    `spread_proxy_bps` in [0, 10].
    """

    depth_1pct_usd: float
    depth_quality: float
    fill_probability: float
    spread_proxy_bps: float


class OBSignalFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """Where one asset's book leans.

    `imbalance`, `imbalance_ma5` and `depth_asymmetry` in [−1, 1], positive when bids outweigh asks;
    `imbalance_persistence` in (0, 1]; `withdrawal_velocity` ≥ −1, negative while the book thins out.
    """

    imbalance: float
    imbalance_ma5: float
    imbalance_persistence: float
    depth_asymmetry: float
    withdrawal_velocity: float


class OBMarketFeatures(msgspec.Struct, frozen=True, kw_only=True):
    """Where the books of all assets lean.

    `median_imbalance` in [−1, 1]; `agreement` in [0, 1], the share of assets with its sign; `depth_pressure` the sum of
    imbalances, in [−N, N].
    """

    median_imbalance: float
    agreement: float
    depth_pressure: float

    @property
    def agreement_pct(self) -> float:
        """The documents' other name of `agreement`: a fraction, too."""
        return self.agreement


class OBMacroFeatures(OBMarketFeatures, frozen=True, kw_only=True):
    """What liquidity does across the market, beside where it leans.

    `cascade_count` 0, or 3 and more; `depth_velocity` ≥ −1, the change of mean depth; `acceleration` its change since
    the bar before; `regime_signal` +1 stress, −1 calm, else 0.
    """

    cascade_count: int
    depth_velocity: float
    acceleration: float
    regime_signal: int

    @property
    def cascade_regime(self) -> int:
        """The documents' other name of `cascade_count`."""
        return self.cascade_count
