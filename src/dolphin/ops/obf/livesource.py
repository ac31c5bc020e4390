"""Books of a running exchange as the service's source (SPEC §8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dolphin.book.layout import F8
from dolphin.core.records import Record
from dolphin.exchange.live.books import LiveBooks


class LiveSource:
    """A `BookSource` over `live`, which somebody else begins and ends.

    Contracts that the exchange lists later appear in `symbols`; one that it delists stays there, without a book: the
    service's columns do not move.
    """

    def __init__(self, live: LiveBooks) -> None:
        self._live = live
        self._symbols: tuple[str, ...] = ()
        self._told: tuple[str, ...] = ()

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every asset that there was, in the order in which they came."""
        told = self._live.symbols
        if told is not self._told:
            known = set(self._symbols)
            self._symbols += tuple(symbol for symbol in told if symbol not in known)
            self._told = told
        return self._symbols

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """See BulkProvider; only books that are right at this moment."""
        self._live.cache.fill_snapshots(assets, ts, out)

    def synced_ns(self, symbol: str) -> int:
        """Since when the book has been right without a break; 0 while it is not."""
        return self._live.cache.synced_ns(symbol)

    def add(self, symbols: Iterable[str]) -> None:
        """Follow these too. Raises ConfigError for one that the exchange does not have."""
        self._live.add(symbols)

    def counts(self) -> Mapping[str, int]:
        """What became of messages and books, summed over all."""
        return self._live.counts()
