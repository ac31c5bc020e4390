"""Asking for features by bar: what the engine, the operator and the services see of the book (SPEC §8, §23)."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dolphin.book.features import OBMacroFeatures, OBMarketFeatures, OBPlacementFeatures, OBSignalFeatures
from dolphin.book.kernels import market_ob_mult_nb
from dolphin.book.shelf import AssetRow, MarketRow, Shelf
from dolphin.core.errors import ConfigError

_MULTIPLIER: Callable[[MarketRow, int], float] = getattr(market_ob_mult_nb, "py_func", market_ob_mult_nb)
"""The kernel's own source, run as it stands: for one row that is quicker than handing it to compiled code."""


class FeatureReader:
    """Answers from a shelf of features; whoever fills it moves `bar_idx` on.

    `bar` is a bar's number, the newest when left out. A bar that is not on the shelf is answered by the latest before
    it. Nothing answers that is more than `max_stale_bars` older than the bar asked for, and no later bar answers for an
    earlier one.
    """

    def __init__(self, assets: Sequence[str], max_stale_bars: int) -> None:
        self.assets = tuple(assets)
        self.max_stale_bars = max_stale_bars
        self.bar_idx = -1
        """The newest bar taken; −1 before the first."""
        self._column = {asset: i for i, asset in enumerate(self.assets)}
        self._shelf = Shelf(len(assets))

    def resolve_bar(self, bar: float | None = None) -> int | None:
        """The bar whose features answer for `bar`: itself, else the latest before it; None without."""
        asked = self.bar_idx if bar is None else int(bar)
        return self._shelf.latest_at(asked, self.bar_idx, self.max_stale_bars)

    def get_placement(self, asset: str, bar: float | None = None) -> OBPlacementFeatures | None:
        """Depth, fill probability and spread of the asset at `bar`; None when there is no usable book."""
        row = self._asset(asset, bar)
        if row is None:
            return None
        return OBPlacementFeatures(
            depth_1pct_usd=row.depth_1pct_usd,
            depth_quality=row.depth_quality,
            fill_probability=row.fill_probability,
            spread_proxy_bps=row.spread_proxy_bps,
        )

    def get_signal(self, asset: str, bar: float | None = None) -> OBSignalFeatures | None:
        """Imbalance, persistence and withdrawal of the asset at `bar`; None when there is no usable book."""
        row = self._asset(asset, bar)
        if row is None:
            return None
        return OBSignalFeatures(
            imbalance=row.imbalance,
            imbalance_ma5=row.imbalance_ma5,
            imbalance_persistence=row.imbalance_persistence,
            depth_asymmetry=row.depth_asymmetry,
            withdrawal_velocity=row.withdrawal_velocity,
        )

    def get_market(self, bar: float | None = None) -> OBMarketFeatures | None:
        """Where the market's books lean at `bar`; None when there is no usable one."""
        row = self._market(bar)
        if row is None:
            return None
        return OBMarketFeatures(
            median_imbalance=row.median_imbalance, agreement=row.agreement, depth_pressure=row.depth_pressure
        )

    def get_macro(self, bar: float | None = None) -> OBMacroFeatures | None:
        """Cascade, regime and depth velocity at `bar`; None when there is no usable book."""
        row = self._market(bar)
        if row is None:
            return None
        return OBMacroFeatures(
            median_imbalance=row.median_imbalance,
            agreement=row.agreement,
            depth_pressure=row.depth_pressure,
            cascade_count=row.cascade_count,
            depth_velocity=row.depth_velocity,
            acceleration=row.acceleration,
            regime_signal=row.regime_signal,
        )

    def get_market_multiplier(self, direction: int, bar: float | None = None) -> float:
        """OB-3's leverage multiplier at `bar` for a trade in `direction` (−1 SHORT, +1 LONG), in [0.85, 1.20]; 1
        without a usable book."""
        row = self._market(bar)
        return 1.0 if row is None else float(_MULTIPLIER(row, int(direction)))

    def _asset(self, asset: str, bar: float | None) -> AssetRow | None:
        column = self._column.get(asset)
        if column is None:
            column = self._index(asset)
        asked = self.bar_idx if bar is None else int(bar)
        return self._shelf.asset(asked, self.bar_idx, self.max_stale_bars, column)

    def _market(self, bar: float | None) -> MarketRow | None:
        asked = self.bar_idx if bar is None else int(bar)
        return self._shelf.market(asked, self.bar_idx, self.max_stale_bars)

    def _index(self, asset: str) -> int:
        column = self._column.get(asset)
        if column is None:
            raise ConfigError(f"order book: {asset} is not among the engine's {len(self.assets)} assets")
        return column
