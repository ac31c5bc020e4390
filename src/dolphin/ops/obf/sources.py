"""Where the service's books come from: the port, and the sources that need no exchange (SPEC §8)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from dolphin.book.layout import F8
from dolphin.book.payload import seconds_of
from dolphin.book.providers import BulkProvider, MockBookProvider
from dolphin.book.snapshots import no_snapshots
from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.records import Record
from dolphin.market.bookarchive import BookArchive, RecordedBookProvider


class BookSource(Protocol):
    """Trusted books of several assets. `symbols` may grow while the service runs, and never shrinks."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Every asset that there is, in an order that does not change."""

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """See BulkProvider; an asset without a trusted book is left alone."""

    def synced_ns(self, symbol: str) -> int:
        """Since when the asset's book has been trusted without a break, UTC nanoseconds; 0 while it is not."""

    def add(self, symbols: Iterable[str]) -> None:
        """Follow these too, from now on."""


@runtime_checkable
class Counting(Protocol):
    """A source that counts what it refused: `crossed` books and tickers, gaps, bad messages."""

    def counts(self) -> Mapping[str, int]:
        """What was refused since the start, by kind."""


def added(symbols: tuple[str, ...], more: Iterable[str]) -> tuple[str, ...]:
    """`symbols`, then those of `more` that are new. Raises ConfigError for a name no grid key can hold."""
    for name in more:
        if not (name.isascii() and name.isalnum() and name == name.upper()):
            raise ConfigError(f"obf: symbol {name[:40]!a}; expected capital letters and digits, such as BTCUSDT")
        if name not in symbols:
            symbols = (*symbols, name)
    return symbols


class MockSource:
    """The mock's books, whole since `start_ns` and new at every beat. For plumbing; it answers to no market."""

    def __init__(self, symbols: Iterable[str], start_ns: int) -> None:
        self.symbols = added((), symbols)
        self._start_ns, self._books = start_ns, MockBookProvider()

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """The fixed books, stamped with the moments."""
        self._books.fill_snapshots(assets, ts, out)

    def synced_ns(self, symbol: str) -> int:
        """Since the start."""
        return self._start_ns

    def add(self, symbols: Iterable[str]) -> None:
        """One fixed book more."""
        self.symbols = added(self.symbols, symbols)


class ReplaySource:
    """Recorded books, played from `start_ns` on as if they came now: `speed` seconds of the recording a second.

    `books` holds the recording, which begins at `first_ns`; stamps are moved to where they would be, and are the
    recorded ones when it is played at speed 1 from its own beginning. Which symbols it has does not change with `add`.
    """

    def __init__(
        self, books: BulkProvider, symbols: Sequence[str], first_ns: int, start_ns: int, *, speed: float = 1.0
    ) -> None:
        if not 0.0 < speed < 1e6:
            raise ConfigError(f"obf: speed {speed:g}; expected above 0")
        self.symbols = added((), symbols)
        self._books, self._start_ns, self._speed = books, start_ns, speed
        self._first_s, self._start_s = seconds_of(first_ns), seconds_of(start_ns)
        self._as_recorded = first_ns == start_ns and speed == 1.0

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """What was known at the recording's moments that `ts` stands for."""
        if self._as_recorded:
            self._books.fill_snapshots(assets, ts, out)
            return
        self._books.fill_snapshots(assets, self._first_s + (ts - self._start_s) * self._speed, out)
        stamps = out["timestamp"]
        out["timestamp"] = self._start_s + (stamps - self._first_s) / self._speed

    def synced_ns(self, symbol: str) -> int:
        """Since the start: what was recorded was whole."""
        return self._start_ns

    def add(self, symbols: Iterable[str]) -> None:
        """Nothing: a recording has what it has."""


def recorded_source(
    folder: Path, symbols: Sequence[str] | None, start_ns: int, speed: float = 1.0
) -> tuple[ReplaySource, float]:
    """The recorded books in `folder`, of all their assets or of these, and how many seconds they last at that speed.

    Raises DataError for a folder that holds none, ConfigError for an asset that it does not have.
    """
    archive = BookArchive.open(folder)
    chosen = archive.assets if symbols is None else tuple(symbols)
    for name in chosen:
        if name not in archive.assets:
            raise ConfigError(f"{folder}: no books of {name[:40]}; it has {', '.join(archive.assets[:8])} …")
    days = [day for day in (archive.read(day) for day in {archive.days[0], archive.days[-1]}) if day.rows]
    if not days:
        raise DataError(f"{folder}: its first and last day hold no snapshot; record the books again")
    first_ns = min(int(day.ts_ns[0]) for day in days)
    length_s = (max(int(day.ts_ns[-1]) for day in days) - first_ns) / NS_PER_S
    books = RecordedBookProvider(archive, chosen)
    # So that the first day is read here and not at the first beat.
    books.fill_snapshots(chosen, np.array([seconds_of(first_ns)]), no_snapshots(1, len(chosen)))
    return ReplaySource(books, chosen, first_ns, start_ns, speed=speed), length_s / speed
