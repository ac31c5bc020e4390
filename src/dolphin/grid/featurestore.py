"""Numbers by asset and name, spread over the grid's ten shards (SPEC §8; the Bible's §15.2 to §15.4)."""

from __future__ import annotations

from collections.abc import Mapping

from dolphin.core.errors import GridError
from dolphin.grid.port import Maps
from dolphin.grid.schemas import FEATURES, SHARD_FEATURE, SHARDS, Decoded, shard_map, shard_of, symbols_in

SHARD_MAPS = tuple(f"{FEATURES}_SHARD_{number:02d}" for number in range(SHARDS))
"""The ten maps."""


class ShardedFeatureStore:
    """Features of assets in `grid`. An asset's shard is the sum of its characters' code points modulo 10, in every
    process; a feature's key there is `"{feature}_{symbol}"`.

    Reading costs what the grid's `get` costs: on a cluster the shards have a near cache (five minutes, 5,000 values a
    map, dropped when they change), the embedded grid is a microsecond away. `counts` tells of values that did not
    decode. Raises GridError for names that cannot be keys, and for what the grid raises.
    """

    def __init__(self, grid: Maps) -> None:
        self._grid = grid
        self._places: dict[tuple[str, str], tuple[str, str]] = {}
        self.counts = Decoded()

    def put(self, symbol: str, feature: str, value: float | None) -> None:
        """Set a feature; None is a number that is not known."""
        self._grid.put(*self._place(symbol, feature), SHARD_FEATURE.encode(value))

    def put_many(self, symbol: str, values: Mapping[str, float | None]) -> None:
        """Set several of one asset, which are all in one shard."""
        encoded = {self._place(symbol, name)[1]: SHARD_FEATURE.encode(value) for name, value in values.items()}
        if encoded:
            self._grid.put_many(shard_map(symbol), encoded)

    def get(self, symbol: str, feature: str, default: float | None = None) -> float | None:
        """The feature, which may be None; `default` when it is not there. One that does not decode is refused with
        GridError, and counted."""
        value = self._grid.get(*self._place(symbol, feature))
        return default if value is None else SHARD_FEATURE.decode(value, self.counts)

    def delete(self, symbol: str, feature: str) -> bool:
        """Remove it; true when it was there."""
        return self._grid.delete(*self._place(symbol, feature))

    def features(self, symbol: str) -> list[str]:
        """The names of the features that the asset has, sorted."""
        end = f"_{symbol}"
        return [key.removesuffix(end) for key in self._grid.keys(shard_map(symbol)) if key.endswith(end)]

    def symbols(self) -> tuple[str, ...]:
        """Every asset whose order book is in a shard, sorted: nobody needs a list of them."""
        return tuple(sorted(symbol for name in SHARD_MAPS for symbol in symbols_in(self._grid.keys(name))))

    def _place(self, symbol: str, feature: str) -> tuple[str, str]:
        place = self._places.get((symbol, feature))
        if place is None:
            if not symbol:
                raise GridError("grid: a feature without a symbol; expected one such as BTCUSDT")
            place = SHARD_FEATURE.at(SYMBOL=symbol, feature=feature, NN=f"{shard_of(symbol):02d}")
            self._places[symbol, feature] = place
        return place
