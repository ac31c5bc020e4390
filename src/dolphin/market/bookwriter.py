"""Recording books: snapshots appended as they come, finished day by day, never half-written (SPEC §1.4, §8).

Until a day is over its rows lie in small whole files in a hidden folder, so that a recorder that is killed loses the
last minutes and not the day. The next one goes on where it stopped, and what it finds torn it sets aside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from dolphin.book.layout import MAX_AGE_S, SNAPSHOT
from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns, ns_to_date
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.records import Record, records
from dolphin.market.bookarchive import (
    RECORDING,
    make_book_manifest,
    read_book_manifest,
    unfinished_days,
    write_book_manifest,
)
from dolphin.market.bookfiles import AMOUNTS, SIDES, BookDay, book_day, book_entry, read_book_day, write_book_day
from dolphin.market.dayfile import day_path

PIECE_ROWS = 50_000
"""Rows kept in memory before they are written down."""

GRACE_NS = round(MAX_AGE_S * NS_PER_S)
"""How long after midnight a day still takes snapshots, and how far ahead of the clock a stamp may be."""

Columns = tuple[NDArray[np.int64], NDArray[np.str_], NDArray[np.float64]]


class BookWriter:
    """Records snapshots into `folder`; a context manager, one process per folder.

    A day is finished, with the manifest, a minute after its midnight, and when the block ends normally; when it raises,
    what was appended is kept in pieces, for the next writer to finish. `source` are words for the manifest of a new
    folder. `counts` says what became of snapshots: taken, repeated (not later than the asset's last), refused (an
    amount that a file may not hold, or a stamp more than a minute ahead), late (of a day that is finished). `torn`
    names the pieces that could not be read on entering.

    Raises ConfigError, on entering, for a folder that cannot be written, holds other data, or has a writer.
    """

    def __init__(self, folder: Path, source: Mapping[str, Any] | None = None, *, piece_rows: int = PIECE_ROWS) -> None:
        self.folder = Path(folder)
        self.counts = {"taken": 0, "repeated": 0, "refused": 0, "late": 0}
        self.torn: tuple[Path, ...] = ()
        self._source, self._piece_rows = dict(source or {}), piece_rows
        self._pieces = self.folder / RECORDING
        self._lock: int | None = None
        self._waiting: dict[date, list[Columns]] = {}
        self._rows = 0
        self._last: dict[str, float] = {}
        self._oldest: date | None = None

    def __enter__(self) -> Self:
        """Claim the folder, and set aside what a killed writer left torn."""
        try:
            self._pieces.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self._pieces, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._release(mine=False)
            raise ConfigError(f"{self.folder}: another process records books there; choose another folder") from None
        except OSError as error:
            self._release()
            raise ConfigError(f"{self.folder}: cannot be written ({error.strerror}); choose another folder") from None
        try:
            read_book_manifest(self.folder)
        except DataError as error:
            self._release()
            raise ConfigError(f"{error}; to record, choose another folder") from None
        self.torn = tuple(self._set_aside())
        return self

    def append(self, assets: Sequence[str], snapshots: Record, now_ns: int) -> int:
        """Take the new ones of (K,) SNAPSHOT records, of these K assets, at `now_ns`; the number taken.

        A record without a time stamp is none. Days that ended more than a minute before `now_ns` are finished.
        """
        if self._lock is None:
            raise ConfigError(f"{self.folder}: the writer is not open; use it in a with block")
        self._finish_until(ns_to_date(now_ns - GRACE_NS))
        kept = [k for k in range(len(snapshots)) if self._is_new(assets[k], snapshots[k], now_ns)]
        if kept:
            stamp = np.asarray(snapshots["timestamp"], np.float64)[kept]
            ts_ns = nanoseconds(stamp)
            names = np.array([assets[k] for k in kept], dtype=np.str_)
            amounts = np.concatenate([np.asarray(snapshots[side], np.float64)[kept] for side in SIDES], axis=1)
            for number in np.unique(ts_ns // NS_PER_DAY).tolist():
                mine = ts_ns // NS_PER_DAY == number
                rows = (ts_ns[mine], names[mine], amounts[mine])
                self._waiting.setdefault(ns_to_date(number * NS_PER_DAY), []).append(rows)
            self._rows += len(kept)
            self.counts["taken"] += len(kept)
        if self._rows >= self._piece_rows:
            self.flush()
        return len(kept)

    def flush(self) -> None:
        """Write down what is in memory: from here on a killed process loses nothing of it."""
        for day, parts in sorted(self._waiting.items()):
            number = 1 + max((int(path.name[11:17]) for path in self._pieces_of(day)), default=0)
            write_book_day(self._pieces / f"{day}.{number:06d}.parquet", _day_of(day, parts))
        self._waiting.clear()
        self._rows = 0

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Write everything down; after a normal end, finish every day."""
        try:
            self.flush()
            if error is None:
                self._finish_until(date.max)
        finally:
            self._release()

    def _is_new(self, asset: str, snapshot: Record, now_ns: int) -> bool:
        stamp = float(snapshot["timestamp"])
        if np.isnan(stamp):
            return False
        ahead = stamp * NS_PER_S > now_ns + GRACE_NS
        sides = [snapshot[side] for side in SIDES]
        if ahead or stamp < 0.0 or not all(np.isfinite(side).all() and (side >= 0.0).all() for side in sides):
            self.counts["refused"] += 1
            return False
        if stamp <= self._last.get(asset, -np.inf):
            self.counts["repeated"] += 1
            return False
        self._last[asset] = stamp
        if self._oldest is not None and stamp * NS_PER_S < date_start_ns(self._oldest):
            self.counts["late"] += 1
            return False
        return True

    def _finish_until(self, until: date) -> None:
        """Finish the days before `until`; those that a writer before this one left belong to them."""
        if self._oldest == until:
            return
        self._oldest = until
        if any(day < until for day in self._waiting):
            self.flush()
        for day in unfinished_days(self.folder):
            if day < until:
                self._finish(day)

    def _finish(self, day: date) -> None:
        pieces, path = self._pieces_of(day), day_path(self.folder, day)
        read = [read_book_day(path)] if path.exists() else []
        read += [read_book_day(piece, day) for piece in pieces]
        whole = _merged(day, read)
        write_book_day(path, whole)
        old = read_book_manifest(self.folder)
        others = [] if old is None else [entry for entry in old.days if entry.day != day]
        source = self._source if old is None else old.source
        write_book_manifest(self.folder, make_book_manifest(source, [*others, book_entry(whole)]))
        for piece in pieces:
            piece.unlink()

    def _pieces_of(self, day: date) -> list[Path]:
        return sorted(self._pieces.glob(f"{day}.??????.parquet"))

    def _set_aside(self) -> list[Path]:
        """Rename the pieces that are not whole to `*.TORN`, and clear away what was being written."""
        torn = []
        for path in self._pieces.iterdir():
            if path.name.startswith(".") and path.name.endswith(".tmp"):
                path.unlink()
        for day in unfinished_days(self.folder):
            for piece in self._pieces_of(day):
                try:
                    read_book_day(piece, day)
                except DataError:
                    torn.append(piece.rename(piece.with_name(f"{piece.name}.TORN")))
        return torn

    def _release(self, *, mine: bool = True) -> None:
        if self._lock is None:
            return
        os.close(self._lock)
        self._lock = None
        if mine:
            with contextlib.suppress(OSError):
                self._pieces.rmdir()  # only when nothing is left in it


def nanoseconds(seconds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Stamps in seconds as int64 nanoseconds that give the very same doubles back.

    Doubles of this age are a quarter of a microsecond apart: where a whole microsecond gives the double back, it is the
    stamp that was meant, else the nearest nanosecond is taken.
    """
    whole = np.floor(seconds)
    micro = np.rint((seconds - whole) * 1e6).astype(np.int64) * 1000
    nano = np.rint((seconds - whole) * NS_PER_S).astype(np.int64)
    meant = whole + micro / NS_PER_S == seconds
    return whole.astype(np.int64) * NS_PER_S + np.where(meant, micro, nano)


def _day_of(day: date, parts: Sequence[Columns]) -> BookDay:
    ts_ns, names, amounts = (np.concatenate(column) for column in zip(*parts, strict=True))
    return book_day(day, ts_ns, names, amounts)


def _merged(day: date, parts: Sequence[BookDay]) -> BookDay:
    """All rows of these parts; one that two of them have counts once."""
    ts_ns = np.concatenate([part.ts_ns for part in parts])
    names = np.concatenate([np.array(part.assets, dtype=np.str_)[part.asset] for part in parts])
    amounts = np.concatenate([part.amounts for part in parts])
    _, codes = np.unique(names, return_inverse=True)
    _, first = np.unique(np.column_stack((ts_ns, codes)), axis=0, return_index=True)
    return book_day(day, ts_ns[first], names[first], amounts[first])


def day_rows(day: BookDay) -> tuple[list[str], Record]:
    """A day's rows as `append` takes them: asset names and (K,) SNAPSHOT records, in the file's order."""
    found = records(SNAPSHOT, day.rows)
    whole, part = day.ts_ns // NS_PER_S, day.ts_ns % NS_PER_S
    found["timestamp"] = whole + part / NS_PER_S
    width = len(AMOUNTS) // len(SIDES)
    for k, side in enumerate(SIDES):
        found[side] = day.amounts[:, k * width : (k + 1) * width]
    return [day.assets[k] for k in day.asset], found
