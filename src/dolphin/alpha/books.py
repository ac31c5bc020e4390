"""Where the step's order book comes from: what a caller hands over with the bars, else an engine of features that is
asked (SPEC §8, §12)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import NamedTuple, Protocol

import numpy as np

from dolphin.alpha.layout import ASSET_BOOK, F8, I8, MARKET_BOOK, Record, records
from dolphin.core.clock import ns_to_date
from dolphin.core.errors import ConfigError
from dolphin.core.native import Flat


class BookEngine(Protocol):
    """The order book's features, as far as the alpha engine knows them: `book.engine.OBFeatureEngine` is one."""

    @property
    def assets(self) -> Sequence[str]:
        """The columns, in order."""

    def step_live(self, assets: Sequence[str], bar_idx: int, ts_ns: int | None = None) -> tuple[Record, Record]:
        """Bar `bar_idx` at `ts_ns`: one MARKET_BOOK record and N ASSET_BOOK records."""

    def preload_date(
        self, day: date, ts_ns: I8 | None = None, *, first_bar: int | None = None
    ) -> tuple[Record, Record]:
        """The bars stamped `ts_ns` of `day`, numbered from `first_bar`: (T,) MARKET_BOOK and (T, N) ASSET_BOOK."""


class Shelves(NamedTuple):
    """The book beside T bars: `markets` (T,) MARKET_BOOK and `books` (T, N) ASSET_BOOK records; None says "no book"."""

    markets: Record | None
    books: Record | None


class Books:
    """The engine of features that stands beside an alpha engine of these assets, or none."""

    def __init__(self, assets: Sequence[str]) -> None:
        self._assets = tuple(assets)
        self._source: BookEngine | None = None

    def set(self, source: BookEngine | None) -> None:
        """Ask `source` from now on, None nobody. Raises ConfigError when its columns are not the engine's."""
        if source is not None and tuple(source.assets) != self._assets:
            raise ConfigError(
                f"order book: {len(source.assets)} assets from {source.assets[0]} on; expected the engine's "
                f"{len(self._assets)} in the same order, from {self._assets[0]} on"
            )
        self._source = source

    def is_asked(self, markets: Record | None, books: Record | None) -> bool:
        """Whether the source is to be asked; what a caller gives wins."""
        return self._source is not None and markets is None and books is None

    def at_bar(self, bar_idx: int, ts_ns: int) -> tuple[Record, Record]:
        """The source's book at one bar, before its step. Raises ConfigError without a source."""
        if self._source is None:
            raise ConfigError("order book: asked without one; call set_ob_engine first")
        return self._source.step_live(self._assets, bar_idx, ts_ns)

    def beside(self, bars: Record, first_bar: int, given: Shelves) -> Shelves:
        """What was given, else the source's book at these bars of one day, the first numbered `first_bar`.

        Raises whatever the source raises, before any bar is stepped.
        """
        if self._source is None or not len(bars) or given.markets is not None or given.books is not None:
            return given
        ts_ns = np.ascontiguousarray(bars["ts_ns"], np.int64)
        return Shelves(*self._source.preload_date(ns_to_date(int(ts_ns[0])), ts_ns, first_bar=first_bar))


def flat_shelves(shelves: Shelves, first: int, end: int, n_assets: int) -> Flat | None:
    """Rows `first` … `end` as the step reads them; a side that is not there says "no book" at every bar."""
    markets, books = shelves
    if markets is None and books is None:
        return None
    rows = end - first
    market = records(MARKET_BOOK, rows) if markets is None else np.ascontiguousarray(markets[first:end])
    assets = records(ASSET_BOOK, rows * n_assets).reshape(rows, n_assets) if books is None else books[first:end]
    return Flat(market, np.ascontiguousarray(assets))


def check_shapes(n_assets: int, bars: Record, closes: F8, beside: Shelves) -> None:
    """Raise ConfigError unless `closes` and what stands beside belong to these bars and `n_assets` columns."""
    rows = len(bars)
    check_shape("closes", np.shape(closes), (rows, n_assets))
    if beside.markets is not None:
        check_shape("markets", np.shape(beside.markets), (rows,))
    if beside.books is not None:
        check_shape("books", np.shape(beside.books), (rows, n_assets))


def check_shape(what: str, met: tuple[int, ...], expected: tuple[int, ...]) -> None:
    """Raise ConfigError for another shape: compiled code does not check bounds, and would read foreign memory."""
    if met != expected:
        raise ConfigError(f"engine: {what} of shape {met}, expected {expected} for the engine's assets")
