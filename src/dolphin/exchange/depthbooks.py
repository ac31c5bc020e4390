"""Many books from one stream: whatever arrives goes to its book, and whatever is wrong is counted, never raised.

A caller's loop hands every message to `feed`, looks at `wanting` now and then, fetches those snapshots at its own pace,
and reads the bands of the books that are SYNCED (SPEC §8).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from decimal import Decimal
from types import MappingProxyType

from dolphin.core.errors import ConfigError
from dolphin.exchange.depth import MAX_BYTES, BookTicker, DepthDiff, Notice, decode_rest_depth, decode_stream
from dolphin.exchange.depthfaults import DepthError, FaultKind
from dolphin.exchange.localbook import LocalBook
from dolphin.exchange.localbook_layout import new_scratch


class DepthBooks:
    """Books by symbol. `sizes` maps a symbol to its tick size and lot size, as the venue's filters write them.

    Raises ConfigError for sizes that are none, or when there is no symbol.
    """

    def __init__(self, sizes: Mapping[str, tuple[str | Decimal, str | Decimal]], *, reach: float = 0.2) -> None:
        if not sizes:
            raise ConfigError("depth books: no symbol; expected at least one")
        self._scratch, self._reach = new_scratch(MAX_BYTES), reach
        self._books: dict[str, LocalBook] = {}
        for symbol, (tick, lot) in sizes.items():
            self.add(symbol, tick, lot)
        self.books: Mapping[str, LocalBook] = MappingProxyType(self._books)
        self.faults: Counter[str] = Counter()
        """Messages that were refused, by kind (`FaultKind`)."""
        self.notices = 0
        """Sound messages that say nothing of a book."""
        self.last_fault = ""
        """The newest refusal in one line."""

    def add(self, symbol: str, tick_size: str | Decimal, lot_size: str | Decimal) -> None:
        """Follow one more symbol from now on; an empty book takes the place of one that is there already.

        Raises ConfigError for sizes that are none.
        """
        self._books[symbol] = LocalBook(symbol, tick_size, lot_size, reach=self._reach, scratch=self._scratch)

    def remove(self, symbol: str) -> None:
        """Follow a symbol no more; one that is not followed is no error."""
        self._books.pop(symbol, None)

    def feed(self, raw: bytes | str, ts_ns: int) -> LocalBook | None:
        """Take one stream message, received at `ts_ns`; the book it was for, None when there is none.

        Never raises for what the message holds: a refused one is counted under its kind.
        """
        try:
            message = decode_stream(raw)
            if isinstance(message, Notice):
                self.notices += 1
                return None
            book = self._book(message.symbol)
            if isinstance(message, DepthDiff):
                book.apply(message, ts_ns)
            elif isinstance(message, BookTicker):
                book.check(message)
        except DepthError as fault:
            self._count(fault)
            return None
        return book

    def feed_snapshot(self, symbol: str, raw: bytes | str, ts_ns: int, limit: int) -> bool:
        """Take the body of a REST answer of at most `limit` levels a side; whether the book began anew from it.

        Never raises for what the body holds.
        """
        try:
            self._book(symbol).load(decode_rest_depth(raw), ts_ns, limit)
        except DepthError as fault:
            self._count(fault)
            return False
        return True

    def disconnect(self, symbols: Iterable[str] | None = None) -> None:
        """The connection of these symbols (of all) is gone: their books wait for snapshots from now on."""
        for symbol in self._books if symbols is None else symbols:
            self._book(symbol).disconnect()

    def wanting(self) -> list[str]:
        """Symbols whose books want a snapshot, in the order in which they were named."""
        return [symbol for symbol, book in self._books.items() if book.wants_snapshot]

    def _book(self, symbol: str) -> LocalBook:
        book = self._books.get(symbol)
        if book is None:
            raise DepthError(
                FaultKind.UNKNOWN_SYMBOL,
                f"depth stream: {symbol[:40]!a} is none of the {len(self._books)} symbols followed; "
                "the message is passed over",
            )
        return book

    def _count(self, fault: DepthError) -> None:
        self.faults[fault.kind.value] += 1
        self.last_fault = str(fault)
