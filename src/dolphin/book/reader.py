"""Asking for features by bar: what the engine, the operator and the services see of the book (SPEC §8, §23)."""

from __future__ import annotations

from collections.abc import Sequence

from dolphin.book.features import (
    OBMacroFeatures,
    OBMarketFeatures,
    OBPlacementFeatures,
    OBSignalFeatures,
    read,
)
from dolphin.book.kernels import market_ob_mult_nb
from dolphin.book.shelf import Shelf
from dolphin.core.errors import ConfigError
from dolphin.core.records import Record


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
        row = self._asset_row(asset, bar)
        return None if row is None else read(OBPlacementFeatures, row)

    def get_signal(self, asset: str, bar: float | None = None) -> OBSignalFeatures | None:
        """Imbalance, persistence and withdrawal of the asset at `bar`; None when there is no usable book."""
        row = self._asset_row(asset, bar)
        return None if row is None else read(OBSignalFeatures, row)

    def get_market(self, bar: float | None = None) -> OBMarketFeatures | None:
        """Where the market's books lean at `bar`; None when there is no usable one."""
        row = self._market_row(bar)
        return None if row is None else read(OBMarketFeatures, row)

    def get_macro(self, bar: float | None = None) -> OBMacroFeatures | None:
        """Cascade, regime and depth velocity at `bar`; None when there is no usable book."""
        row = self._market_row(bar)
        return None if row is None else read(OBMacroFeatures, row)

    def get_market_multiplier(self, direction: int, bar: float | None = None) -> float:
        """OB-3's leverage multiplier at `bar` for a trade in `direction` (−1 SHORT, +1 LONG), in [0.85, 1.20]; 1
        without a usable book."""
        row = self._market_row(bar)
        return 1.0 if row is None else float(market_ob_mult_nb(row, int(direction)))

    def _asset_row(self, asset: str, bar: float | None) -> Record | None:
        column, at = self._index(asset), self.resolve_bar(bar)
        return None if at is None else self._usable(self._shelf.books[self._shelf.row_of(at), column], bar)

    def _market_row(self, bar: float | None) -> Record | None:
        at = self.resolve_bar(bar)
        return None if at is None else self._usable(self._shelf.markets[self._shelf.row_of(at)], bar)

    def _usable(self, row: Record, bar: float | None) -> Record | None:
        """The record, unless it is unusable or too old for the bar asked for: it may have been held over already."""
        asked = self.bar_idx if bar is None else int(bar)
        return row if row.usable != 0 and asked - row.bar <= self.max_stale_bars else None

    def _index(self, asset: str) -> int:
        column = self._column.get(asset)
        if column is None:
            raise ConfigError(f"order book: {asset} is not among the engine's {len(self.assets)} assets")
        return column
