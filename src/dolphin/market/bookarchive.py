"""Recorded order books: a folder of book files and its manifest, and the provider of a replay (SPEC §1.4, §8)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dolphin.book.layout import F8
from dolphin.book.providers import ArrayBookProvider
from dolphin.core.clock import NS_PER_DAY, NS_PER_S
from dolphin.core.errors import DataError
from dolphin.core.records import Record
from dolphin.market.archive import entry_problem, list_days
from dolphin.market.atomic import write_text_atomic
from dolphin.market.bookfiles import BookDay, book_entry, read_book_day
from dolphin.market.dayfile import day_path
from dolphin.market.manifest import MANIFEST_NAME, DayEntry, manifest_hash, union_of

BOOK_SCHEMA_VERSION = 1
RECORDING = ".recording"
"""Where a writer keeps the days that it has not finished."""


class BookManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a folder of books holds; `assets` is the union of the days', `source` free words about where it comes
    from."""

    schema: int
    kind: Literal["books"]
    rows: int
    content_hash: str
    source: dict[str, Any]
    assets: tuple[str, ...]
    days: tuple[DayEntry, ...]


def make_book_manifest(source: dict[str, Any], entries: Iterable[DayEntry]) -> BookManifest:
    """The manifest of these days, sorted."""
    days = tuple(sorted(entries, key=lambda entry: entry.day))
    return BookManifest(
        schema=BOOK_SCHEMA_VERSION,
        kind="books",
        rows=sum(entry.rows for entry in days),
        content_hash=manifest_hash(days),
        source=source,
        assets=tuple(sorted(union_of(entry.assets or () for entry in days))),
        days=days,
    )


def write_book_manifest(folder: Path, manifest: BookManifest) -> None:
    """Write `manifest.json` of `folder`, whole or not at all."""
    write_text_atomic(
        folder / MANIFEST_NAME, msgspec.json.format(msgspec.json.encode(manifest), indent=1).decode() + "\n"
    )


def read_book_manifest(folder: Path) -> BookManifest | None:
    """The manifest of `folder`, None without one; DataError for one of something else, or one that was edited."""
    path = folder / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=BookManifest)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check its permissions") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not the manifest of recorded books ({error}); give a folder of books") from None
    if manifest.schema != BOOK_SCHEMA_VERSION:
        raise DataError(f"{path}: schema {manifest.schema}, expected {BOOK_SCHEMA_VERSION}; record the books again")
    if manifest.content_hash != manifest_hash(manifest.days):
        raise DataError(f"{path}: its content_hash is not that of its days; it was edited: record the books again")
    return manifest


@dataclass(frozen=True, eq=False)
class BookArchive:
    """A folder of book files, or some of its days; `days` ascend and need not follow each other."""

    folder: Path
    manifest: BookManifest = field(repr=False)
    days: tuple[date, ...] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> BookArchive:
        """Open the books in `folder`; no book file is read.

        Raises DataError for a folder that is missing, has no finished day or no manifest, or is not what it says.
        """
        folder = Path(folder)
        if folder.is_dir() and unfinished_days(folder) and not (folder / MANIFEST_NAME).exists():
            raise DataError(f"{folder}: books that were never finished; start the recorder there again, or wait for it")
        days = list_days(folder)
        manifest = read_book_manifest(folder)
        if manifest is None:
            raise DataError(f"{folder}: no {MANIFEST_NAME}; expected a folder of books as a BookWriter leaves it")
        listed = tuple(entry.day for entry in manifest.days)
        for day in sorted(set(listed) ^ set(days)):
            met = "is in the manifest but not in the folder" if day in listed else "is not in the manifest"
            raise DataError(f"{day_path(folder, day)}: {met}; restore the folder, or record the books again")
        return cls(folder, manifest, days)

    def select(self, first: date, last: date) -> BookArchive:
        """The days from `first` to `last`, both included; there may be none."""
        return replace(self, days=tuple(day for day in self.days if first <= day <= last))

    @property
    def entries(self) -> tuple[DayEntry, ...]:
        """The manifest's lines for these days."""
        mine = set(self.days)
        return tuple(entry for entry in self.manifest.days if entry.day in mine)

    @property
    def assets(self) -> tuple[str, ...]:
        """Every asset that one of these days has, sorted."""
        return tuple(sorted(union_of(entry.assets or () for entry in self.entries)))

    def identity(self) -> str:
        """SHA-256 (hex) over the content of these days."""
        return manifest_hash(self.entries)

    def read(self, day: date) -> BookDay:
        """One day, checked against the manifest; DataError when it is not what it should be."""
        path = day_path(self.folder, day)
        read = read_book_day(path)
        listed = next(entry for entry in self.manifest.days if entry.day == day)
        problem = entry_problem(path, listed, book_entry(read))
        if problem:
            raise DataError(problem)
        return read


def unfinished_days(folder: Path) -> tuple[date, ...]:
    """The days of which a writer has kept pieces in `folder` without finishing them, ascending."""
    pieces = (folder / RECORDING).glob("????-??-??.*.parquet")
    return tuple(sorted({date.fromisoformat(path.name[:10]) for path in pieces}))


class RecordedBookProvider:
    """The books of an archive, one day in memory at a time (and the day before's last snapshots).

    `get_snapshot` and `fill_snapshots` answer with the latest snapshot at a time, from that UTC day or the one before:
    older ones are none, as they are to the engine of features. Days are read when they are asked for, best in order.
    Raises DataError for a day that is not sound.
    """

    def __init__(self, archive: BookArchive, assets: Sequence[str]) -> None:
        self.archive = archive
        self._assets = tuple(assets)
        self._days = frozenset(archive.days)
        self._day: date | None = None
        self._known = ArrayBookProvider({})
        self._last: dict[str, Record] = {}
        self._stamps: dict[str, F8] | None = None

    def get_snapshot(self, asset: str, ts: float) -> Record | None:
        """The asset's latest snapshot stamped at or before `ts` (seconds)."""
        return self._at(_day_of(ts)).get_snapshot(asset, ts)

    def get_all_timestamps(self, asset: str) -> F8:
        """The stamps of all the asset's snapshots, seconds; the first call reads every day once."""
        if self._stamps is None:
            found: dict[str, list[F8]] = {name: [np.empty(0)] for name in self._assets}
            for day in self._days:
                for name, rows in self._read(day).items():
                    found[name].append(np.array(rows["timestamp"]))
            self._stamps = {name: np.sort(np.concatenate(parts)) for name, parts in found.items()}
        return self._stamps.get(asset, np.empty(0))

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        """`get_snapshot` for all moments (T,) and assets (N,), into `out` (T, N)."""
        moments = np.asarray(ts, np.float64)
        numbers: NDArray[np.int64] = np.floor(moments / (NS_PER_DAY // NS_PER_S)).astype(np.int64)
        for number in np.unique(numbers).tolist():
            mine = np.flatnonzero(numbers == number)
            known = self._at(date(1970, 1, 1) + timedelta(days=number))
            if len(mine) == len(moments):
                known.fill_snapshots(assets, moments, out)
                return
            part = out[mine]
            known.fill_snapshots(assets, moments[mine], part)
            out[mine] = part

    def _at(self, day: date) -> ArrayBookProvider:
        """What is known during `day`: its snapshots, and the last ones of the day before."""
        if day == self._day:
            return self._known
        before = day - timedelta(days=1)
        last = self._last if self._day == before else {}
        if self._day != before and before in self._days:
            last = {asset: rows[-1:] for asset, rows in self._read(before).items()}
        today = self._read(day) if day in self._days else {}
        both = {
            asset: [rows for rows in (last.get(asset), today.get(asset)) if rows is not None]
            for asset in {**last, **today}
        }
        self._known = ArrayBookProvider(
            {asset: np.concatenate(parts).view(np.recarray) for asset, parts in both.items()}
        )
        self._last = {asset: rows[-1:].copy() for asset, rows in today.items()}
        self._day = day
        return self._known

    def _read(self, day: date) -> dict[str, Record]:
        read = self.archive.read(day)
        found = ((asset, read.snapshots(asset)) for asset in self._assets)
        return {asset: rows for asset, rows in found if len(rows)}


def _day_of(ts: float) -> date:
    return date(1970, 1, 1) + timedelta(days=int(ts // (NS_PER_DAY // NS_PER_S)))
