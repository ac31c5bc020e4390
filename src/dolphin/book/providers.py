"""Where snapshots come from: the port, and the providers that need neither file nor network (SPEC §8).

`ts` is in seconds since the epoch, UTC. A provider never answers with a snapshot stamped after the `ts` asked for, when
it holds a history; one that only knows the present answers with that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

import numpy as np

from dolphin.book.layout import F8
from dolphin.book.payload import decode_snapshot, snapshot_key
from dolphin.book.snapshots import make_snapshot, no_snapshots
from dolphin.core.errors import DataError
from dolphin.core.records import Record


class BookProvider(Protocol):
    """Gives one asset's snapshot at a time."""

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        """The latest SNAPSHOT record at `ts`; None without one."""

    def get_all_timestamps(self, asset: str) -> Sequence[float] | F8:
        """The stamps of all snapshots, increasing; empty when live."""


@runtime_checkable
class BulkProvider(Protocol):
    """A provider that answers for many assets and moments at once, as `get_snapshot` would one by one."""

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """Write the snapshots of N assets at T moments to `out` (T, N); where there is none, `out` is left alone."""


MOCK_BIASES: Mapping[str, float] = {"BTCUSDT": -0.086, "ETHUSDT": -0.092, "BNBUSDT": 0.05, "SOLUSDT": 0.05}
"""The documents' fixed imbalances; an asset that is not named has 0."""

MOCK_BANDS_USD = (1_200_000.0, 950_000.0, 850_000.0, 750_000.0, 650_000.0)
MOCK_PRICE_USD = 100.0


class MockBookProvider:
    """A book that never moves: every asset has its fixed imbalance in every band, at any time.

    It answers to no market: good for plumbing and paper, never for money. `timestamps` are what `get_all_timestamps`
    tells; without them it is like a live provider.
    """

    def __init__(self, biases: Mapping[str, float] = MOCK_BIASES, timestamps: Sequence[float] = ()) -> None:
        self._biases = dict(biases)
        self._timestamps = np.asarray(timestamps, np.float64)

    def get_snapshot(self, asset: str, ts: float) -> Record:
        """The asset's fixed book, stamped `ts`."""
        bias, bands = self._biases.get(asset, 0.0), np.array(MOCK_BANDS_USD)
        bids, asks = bands * (1.0 + bias), bands * (1.0 - bias)
        return make_snapshot(ts, bids, asks, bids / MOCK_PRICE_USD, asks / MOCK_PRICE_USD)

    def get_all_timestamps(self, asset: str) -> F8:
        """The stamps given at the beginning, the same for every asset."""
        return self._timestamps

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """The fixed books at all moments."""
        for column, asset in enumerate(assets):
            out[:, column] = self.get_snapshot(asset, 0.0)
        out["timestamp"] = np.asarray(ts)[:, None]


class ArrayBookProvider:
    """Recorded snapshots in memory: per asset (K,) SNAPSHOT records with increasing stamps.

    Raises DataError for stamps that do not increase or are not finite, with asset and row.
    """

    def __init__(self, snapshots: Mapping[str, Record]) -> None:
        self._snapshots: dict[str, Record] = {}
        self._stamps: dict[str, F8] = {}
        for asset, rows in snapshots.items():
            stamps = np.ascontiguousarray(rows["timestamp"], np.float64)
            bad = ~np.isfinite(stamps)
            bad[1:] |= ~(np.diff(stamps) > 0.0)
            if bad.any():
                row = int(np.flatnonzero(bad)[0])
                raise DataError(
                    f"book snapshots of {asset}: timestamp {stamps[row]} in row {row}; expected finite seconds, each "
                    "later than the one before: sort and deduplicate them"
                )
            self._snapshots[asset], self._stamps[asset] = rows, stamps

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        """The asset's latest snapshot stamped at or before `ts`."""
        stamps = self._stamps.get(asset)
        at = -1 if stamps is None else int(np.searchsorted(stamps, ts, side="right")) - 1
        return self._snapshots[asset][at] if at >= 0 else None

    def get_all_timestamps(self, asset: str) -> F8:
        """All stamps of the asset."""
        return self._stamps.get(asset, np.empty(0))

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """`get_snapshot` for all moments: one search per asset."""
        for column, asset in enumerate(assets):
            if asset in self._stamps:
                at = np.searchsorted(self._stamps[asset], ts, side="right") - 1
                out[at >= 0, column] = self._snapshots[asset][at[at >= 0]]


class HeldBookProvider:
    """Books held still: whoever owns it writes what is to be seen into `rows`, (1, N) SNAPSHOT records of `assets`, a
    NaN stamp where there is none. Answers with that, whatever moment is asked for."""

    def __init__(self, assets: Sequence[str]) -> None:
        self.assets = tuple(assets)
        self.rows: Record = no_snapshots(1, len(self.assets))

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        """The asset's."""
        row = self.rows[0, self.assets.index(asset)]
        return None if np.isnan(row.timestamp) else row

    def get_all_timestamps(self, asset: str) -> F8:
        """Nothing: it knows one moment."""
        return np.empty(0)

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """All of them; `assets` are its own."""
        out[...] = self.rows


class MapBookProvider:
    """The present, out of a key-value map: what the ingestion has last put under `asset_{SYMBOL}_ob`.

    `read` gives a key's value, JSON as text or bytes, or None. A value that does not decode is no snapshot; `refused`
    counts them and `last_refusal` says what was wrong with the latest.
    """

    def __init__(self, read: Callable[[str], bytes | str | None]) -> None:
        self._read = read
        self.refused = 0
        self.last_refusal: str | None = None

    def get_snapshot(self, asset: str, ts: float = math.inf) -> Record | None:
        """What the map holds now, whatever `ts`."""
        key = snapshot_key(asset)
        value = self._read(key)
        if value is None:
            return None
        try:
            return decode_snapshot(value, key)
        except DataError as error:
            self.refused += 1
            self.last_refusal = str(error)
            return None

    def get_all_timestamps(self, asset: str) -> F8:
        """Nothing: a map has no history."""
        return np.empty(0)
