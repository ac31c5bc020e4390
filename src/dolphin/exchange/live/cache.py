"""The newest bands of every book, read by any thread within a microsecond (SPEC §8, §22).

One thread writes, at every message; any number read. Two forms are kept: an object per symbol, which is swapped whole
and needs no lock, and one block of all symbols, which is written and copied under a lock, so that no reader sees half a
row. A book that is not right has no row at all: `drop` takes it out at once.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.book.layout import F8, SNAPSHOT
from dolphin.core.errors import DataError
from dolphin.core.records import Record
from dolphin.exchange.bands import BookBands

_DOUBLES = SNAPSHOT.itemsize // 8
_BYTES = SNAPSHOT.itemsize


class _Block(NamedTuple):
    """Rows of all symbols; another block takes its place when symbols come or go."""

    symbols: tuple[str, ...]
    place: dict[str, int]
    rows: F8  # (N, 21): SNAPSHOT records as doubles; the stamp is NaN where there is none
    bytes: memoryview  # the same
    mids: F8  # (N,)


def _new_block(symbols: Sequence[str]) -> _Block:
    rows = np.full((len(symbols), _DOUBLES), np.nan)
    flat: memoryview = memoryview(rows.reshape(-1)).cast("B") if len(symbols) else memoryview(bytearray())
    return _Block(tuple(symbols), {s: k for k, s in enumerate(symbols)}, rows, flat, np.full(len(symbols), np.nan))


class SnapshotCache:
    """A `BookProvider` and `BulkProvider` of the present.

    Records that it gives are shared: read them, copy what you want to change. A reader keeps what it has when symbols
    come or go.
    """

    def __init__(self, symbols: Iterable[str] = ()) -> None:
        self._newest: dict[str, BookBands] = {}
        self._received: dict[str, int] = {}
        self._lock = threading.Lock()
        self._block = _new_block(tuple(dict.fromkeys(symbols)))
        self._asked: tuple[_Block, Sequence[str], NDArray[np.intp], NDArray[np.bool_]] | None = None

    @property
    def symbols(self) -> tuple[str, ...]:
        """All symbols, with a book or without, in the order in which `fill_snapshots` and `mids` are quickest."""
        return self._block.symbols

    def __len__(self) -> int:
        """How many of them have a book that is right."""
        return len(self._newest)

    # --- reading --------------------------------------------------------------------------------------------------

    def get_snapshot(self, asset: str, ts: float = 0.0) -> Record | None:
        """The newest SNAPSHOT record, whatever `ts`; None when the asset's book is not right at this moment."""
        bands = self._newest.get(asset)
        return None if bands is None else bands.snapshot

    def get_bands(self, asset: str) -> BookBands | None:
        """The same with mid, checksum (`band_checksum`), coverage, `update_id` and `synced_ns`."""
        return self._newest.get(asset)

    def get_all_timestamps(self, asset: str) -> F8:
        """Nothing: a live provider has no history."""
        return np.empty(0)

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """The present at all T moments of `ts` to `out` (T, N); an asset without a book leaves its column alone."""
        rows = self._copied(assets)
        sound = rows[:, 0] == rows[:, 0]
        target = _doubles(out, len(ts), len(assets))
        if sound.all():
            target[:] = rows
        else:
            target[:, sound] = rows[sound]

    def mids(self, out: F8, assets: Sequence[str] | None = None) -> None:
        """The mid prices, USD, of `assets` (all, in `symbols`' order) to `out` (N,); NaN for a book that is not right.

        Raises DataError when `out` has another length: without `assets`, symbols may have come or gone.
        """
        with self._lock:
            block = self._block
            mids = block.mids.copy()
        if assets is not None and assets is not block.symbols:
            places, known = self._places(block, assets)
            mids = np.where(known, mids[places], np.nan) if len(mids) else np.full(len(places), np.nan)
        if len(out) != len(mids):
            raise DataError(f"mids: room for {len(out)} prices, but there are {len(mids)} symbols; name the assets")
        out[:] = mids

    def synced_ns(self, asset: str) -> int:
        """Since when the asset's book has been right without a break, UTC ns; 0 when it is not."""
        bands = self._newest.get(asset)
        return 0 if bands is None else bands.synced_ns

    def received_ns(self, asset: str) -> int:
        """When the message was received that the asset's row is of, UTC ns; 0 when there is no row."""
        return self._received.get(asset, 0)

    # --- writing, from one thread ---------------------------------------------------------------------------------

    def put(self, bands: BookBands, received_ns: int) -> None:
        """A book's newest bands, of a message received at `received_ns`; passed over for a symbol that is not there."""
        symbol = bands.symbol
        block = self._block
        place = block.place.get(symbol)
        if place is None:
            return
        row = bands.snapshot.tobytes()
        start = place * _BYTES
        with self._lock:
            block.bytes[start : start + _BYTES] = row
            block.mids[place] = bands.mid
        self._received[symbol] = received_ns
        self._newest[symbol] = bands

    def drop(self, symbol: str) -> None:
        """The symbol's book is not right: it has no row from now on."""
        if self._newest.pop(symbol, None) is None:
            return
        self._received.pop(symbol, None)
        block = self._block
        place = block.place[symbol]
        with self._lock:
            block.rows[place] = block.mids[place] = np.nan

    def clear(self) -> None:
        """No book is right."""
        for symbol in list(self._newest):
            self.drop(symbol)

    def set_symbols(self, symbols: Iterable[str]) -> None:
        """Exactly these symbols from now on, in this order; the rows of those that stay are kept."""
        fresh = _new_block(tuple(dict.fromkeys(symbols)))
        for symbol in list(self._newest):
            if symbol not in fresh.place:
                self.drop(symbol)
        before = self._block
        kept = [symbol for symbol in fresh.symbols if symbol in before.place]
        to, frm = [fresh.place[s] for s in kept], [before.place[s] for s in kept]
        fresh.rows[to], fresh.mids[to] = before.rows[frm], before.mids[frm]
        with self._lock:
            self._block = fresh

    # --- within ---------------------------------------------------------------------------------------------------

    def _copied(self, assets: Sequence[str]) -> F8:
        """Rows of `assets` as they are now; NaN for one that is not there."""
        with self._lock:
            block = self._block
            if assets is block.symbols or tuple(assets) == block.symbols:
                return block.rows.copy()
            places, known = self._places(block, assets)
            rows: F8 = block.rows[places] if len(block.symbols) else np.full((len(places), _DOUBLES), np.nan)
        rows[~known] = np.nan
        return rows

    def _places(self, block: _Block, assets: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
        """Where each asset's row is, 0 for an unknown one, and which are known; the last question is remembered."""
        asked = self._asked
        if asked is not None and asked[0] is block and asked[1] == assets:
            return asked[2], asked[3]
        found = [block.place.get(asset, -1) for asset in assets]
        places = np.array(found, np.intp)
        known = places >= 0
        places[~known] = 0
        self._asked = block, tuple(assets) if isinstance(assets, tuple) else list(assets), places, known
        return places, known


def _doubles(out: Any, moments: int, assets: int) -> F8:
    """`out` as (T, N, 21) doubles. Raises DataError for another shape or layout."""
    if out.shape != (moments, assets) or out.dtype.itemsize != _BYTES or not out.flags.c_contiguous:
        raise DataError(
            f"snapshots: `out` is {out.dtype.itemsize} bytes × {out.shape}; expected contiguous SNAPSHOT records of "
            f"shape ({moments}, {assets})"
        )
    view: F8 = np.ndarray((moments, assets, _DOUBLES), np.float64, out)
    return view
