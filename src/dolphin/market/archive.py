"""Archives: folders of day files that belong together, streamed one day at a time (SPEC §1)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import date
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import DataError
from dolphin.market.archive_writer import REWRITING, ArchiveWriter
from dolphin.market.daychecks import bar_ns, check_bar
from dolphin.market.dayfile import DAY_NAME, day_of, day_path, on_universe, read_day, read_stamps
from dolphin.market.manifest import DayEntry, Kind, Manifest, entry_of, manifest_hash, read_manifest, union_of
from dolphin.market.tables import PriceDay, ScanDay

__all__ = ["Archive", "ArchiveWriter"]


@dataclass(frozen=True, eq=False)
class Archive:
    """A folder of day files of one kind and one bar length, or some of its days.

    `kind` is "prices" or "scans"; `days` ascend; `assets` is the universe: the union of the days' columns in order of
    first appearance. `manifest` is that of the whole folder, None where there is none.
    """

    folder: Path
    kind: Kind
    bar_seconds: float
    days: tuple[date, ...] = field(repr=False)
    assets: tuple[str, ...] = field(repr=False)
    manifest: Manifest | None = field(repr=False)
    _columns: Mapping[date, tuple[str, ...]] = field(repr=False)
    _entries: dict[date, DayEntry] = field(repr=False)

    @classmethod
    def open(cls, folder: Path) -> Archive:
        """Open the archive in `folder`.

        With a manifest no day file is read; without one the stamps of all are, and the bar length is the usual
        distance between them. Raises DataError for a folder that is missing, empty, half-written, not what its
        manifest says, or a mixture of kinds or bar lengths.
        """
        folder = Path(folder)
        days = list_days(folder)
        manifest = read_manifest(folder)
        if manifest is None:
            return _without_manifest(folder, days)
        for problem in day_set_problems(folder, days, manifest):
            raise DataError(problem)
        entries = {entry.day: entry for entry in manifest.days}
        columns = {entry.day: entry.assets or manifest.assets for entry in manifest.days}
        return cls(folder, manifest.kind, manifest.bar_seconds, days, manifest.assets, manifest, columns, entries)

    def select(self, first: date | None = None, last: date | None = None) -> Archive:
        """The days from `first` to `last`, both included, None leaving that end open; DataError if none is left."""
        days = tuple(d for d in self.days if (first is None or d >= first) and (last is None or d <= last))
        if not days:
            wanted = f"from {first or 'its start'} to {last or 'its end'}"
            raise DataError(
                f"{self.folder}: no day {wanted}; the archive has {len(self.days)}, {self.days[0]} to {self.days[-1]}"
            )
        return replace(self, days=days, assets=union_of(self._columns[day] for day in days))

    def read(self, day: date, assets: Sequence[str] | None = None) -> PriceDay | ScanDay:
        """Read one day, on its own columns or on those of `assets`; DataError when it is not what it should be.

        With a manifest the content hash is compared (0.3 ms for 1,440 rows of 57 columns), so that what is computed
        from an archive belongs to the `identity` reported with it.
        """
        path = day_path(self.folder, day)
        read = read_day(path)
        kind = "scans" if isinstance(read, ScanDay) else "prices"
        if kind != self.kind:
            raise DataError(f"{path}: holds {kind}, expected {self.kind} as in the rest of the folder")
        check_bar(read.ts_ns, self.bar_seconds, str(path))
        if self.manifest is not None:
            problem = entry_problem(path, self._entries[day], entry_of(read))
            if problem:
                raise DataError(problem)
        return read if assets is None else on_universe(read, assets)

    def iter_days(self, assets: Sequence[str] | None = None, *, prefetch: int = 1) -> Iterator[PriceDay | ScanDay]:
        """The days in order, each on the columns of `assets` (default: the archive's universe, `self.assets`).

        At most `prefetch` days are read ahead, in one thread, so memory does not grow with the number of days; 0
        reads in the calling thread.
        """
        universe = self.assets if assets is None else tuple(assets)
        if prefetch <= 0:
            for day in self.days:
                yield self.read(day, universe)
            return
        remaining = iter(self.days)
        ahead: deque[Future[PriceDay | ScanDay]] = deque()
        with ThreadPoolExecutor(1, "archive-read") as reader:
            try:
                ahead.extend(reader.submit(self.read, day, universe) for day in islice(remaining, prefetch))
                while ahead:
                    current = ahead.popleft().result()
                    ahead.extend(reader.submit(self.read, day, universe) for day in islice(remaining, 1))
                    yield current
            finally:
                for waiting in ahead:
                    waiting.cancel()

    def identity(self) -> str:
        """SHA-256 (hex) of the content of these days; with or without a manifest the same. Without, it reads them."""
        return manifest_hash(self.entry(day) for day in self.days)

    def entry(self, day: date) -> DayEntry:
        """Rows, first and last stamp and content hash of one day; from the manifest, else read and remembered."""
        if day not in self._entries:
            self._entries[day] = entry_of(read_day(day_path(self.folder, day)))
        return self._entries[day]


def list_days(folder: Path) -> tuple[date, ...]:
    """The days that have a day file in `folder`, ascending; DataError when there is none, or no such folder."""
    try:
        names = [path.name for path in folder.iterdir()]
    except FileNotFoundError:
        raise DataError(f"{folder}: no such directory; check the path") from None
    except NotADirectoryError:
        raise DataError(f"{folder}: not a directory; an archive is a folder of YYYY-MM-DD.parquet files") from None
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}); check its permissions") from None
    if REWRITING in names:
        raise DataError(f"{folder}: was being rewritten when the writer stopped; write it again with --force")
    days = tuple(sorted(day_of(folder / name) for name in names if DAY_NAME.fullmatch(name)))
    if not days:
        raise DataError(f"{folder}: no day files; expected YYYY-MM-DD.parquet (make some with 'dolphin data import')")
    return days


def day_set_problems(folder: Path, days: tuple[date, ...], manifest: Manifest) -> Iterator[str]:
    """One line for each day that is only in the manifest, or only in the folder."""
    listed, found = {entry.day for entry in manifest.days}, set(days)
    for day in sorted(listed ^ found):
        met = "is in the manifest but not in the folder" if day in listed else "is not in the manifest"
        yield f"{day_path(folder, day)}: {met}; the archive was changed: write it again"


def _without_manifest(folder: Path, days: tuple[date, ...]) -> Archive:
    layouts = {}
    stamps = {}
    for day in days:
        layouts[day], stamps[day] = read_stamps(day_path(folder, day))
        if layouts[day].kind != layouts[days[0]].kind:
            raise DataError(
                f"{day_path(folder, day)}: holds {layouts[day].kind}, but {days[0]}.parquet holds "
                f"{layouts[days[0]].kind}; keep prices and scans in different folders"
            )
    bar_seconds = usual_bar_seconds(stamps.values())
    if bar_seconds is None:
        raise DataError(f"{folder}: no file has two rows, so the bar length is unknown; expected whole days")
    for day in days:
        check_bar(stamps[day], bar_seconds, str(day_path(folder, day)))
    columns = {day: layouts[day].assets for day in days}
    kind: Kind = "scans" if layouts[days[0]].kind == "scans" else "prices"
    return Archive(folder, kind, bar_seconds, days, union_of(columns.values()), None, columns, {})


def usual_bar_seconds(stamps: Iterable[NDArray[np.int64]]) -> float | None:
    """The bar length that the stamps of several days speak for: the lower median of the days' own, seconds.

    Days of fewer than four stamps are asked only when there are no others; None when no day has two.
    """
    found = [(len(ts), step) for ts in stamps if (step := bar_ns(ts))]
    usual = sorted(step for rows, step in found if rows > 3) or sorted(step for _, step in found)
    return usual[(len(usual) - 1) // 2] / NS_PER_S if usual else None


def entry_problem(path: Path, listed: DayEntry, found: DayEntry) -> str | None:
    """One line when a day is not what the manifest lists, else None."""
    for what in ("rows", "first", "last", "hash"):
        met, expected = getattr(found, what), getattr(listed, what)
        if met != expected:
            return (
                f"{path}: {what} {met}, but the manifest says {expected}; the file was changed after the archive was "
                "written: write the archive again"
            )
    return None
