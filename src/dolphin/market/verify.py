"""Is an archive what it should be, and what a rebuild from its source gives (SPEC §1.4)?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_S, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.market.archive import Archive, day_set_problems, entry_problem, list_days, usual_bar_seconds
from dolphin.market.daychecks import check_bar
from dolphin.market.dayfile import day_path, read_day, read_stamps
from dolphin.market.manifest import DayEntry, Manifest, entry_of, manifest_hash, read_manifest
from dolphin.market.tables import SIGNAL_COLUMNS, PriceDay, ScanDay

TOLERANCE = 1e-10
"""How far a rebuilt value may be from the archive's, absolute (SPEC §1.4)."""
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True)
class Gap:
    """Absent bars: ISO stamps of the last bar before and the first one after, and how many are missing between."""

    start: str
    end: str
    bars: int


@dataclass
class VerifyReport:
    """What a verification found.

    `rows` maps each day to its number of bars, to be held against `expected_rows`, those of a whole day; any number
    is legal. `problems` are one line each, none in a sound archive. `content_hash` is recomputed; it is None when a
    day could not be read. `set_aside` counts `*.STALE_*` files.
    """

    folder: Path
    kind: str | None = None
    bar_seconds: float | None = None
    rows: dict[date, int] = field(default_factory=dict)
    gaps: list[Gap] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    has_manifest: bool = False
    content_hash: str | None = None
    set_aside: int = 0

    @property
    def ok(self) -> bool:
        """Whether no check failed."""
        return not self.problems

    @property
    def expected_rows(self) -> int | None:
        """Bars of a whole day."""
        return round(_SECONDS_PER_DAY / self.bar_seconds) if self.bar_seconds else None


def verify_archive(folder: Path, advance: Callable[[int], None] = lambda _n: None) -> VerifyReport:
    """Check every day file of `folder` and its manifest; memory is that of one day.

    A failed check is a line in the report, and the other days are still checked. Raises DataError only when `folder`
    is no folder with day files. `advance` is told of days.
    """
    folder = Path(folder)
    report = VerifyReport(folder)
    days = list_days(folder)
    report.set_aside = sum(1 for _ in folder.glob("*.STALE_*"))
    manifest = _manifest(folder, days, report)
    report.kind = manifest.kind if manifest else None
    report.bar_seconds = manifest.bar_seconds if manifest else usual_bar_seconds(_sound_stamps(folder, days))
    listed = {entry.day: entry for entry in manifest.days} if manifest else {}
    entries: list[DayEntry] = []
    last_ns: int | None = None
    for day in days:
        advance(1)
        try:
            read = read_day(day_path(folder, day))
        except DataError as error:
            report.problems.append(str(error))
            continue
        report.rows[day] = read.rows
        entries.append(entry_of(read, with_assets=False))
        _check_day(report, read, listed.get(day), entries[-1])
        if read.rows:
            report.gaps += _gaps(read.ts_ns, last_ns, report.bar_seconds)
            last_ns = int(read.ts_ns[-1])
    report.content_hash = manifest_hash(entries) if len(entries) == len(days) else None
    return report


@dataclass(frozen=True)
class Difference:
    """The first place where an archive and its rebuild differ: day, row (from 0), column and both values, in words."""

    day: date
    row: int | None
    column: str
    archive: str
    rebuilt: str

    def line(self) -> str:
        """The difference in one line."""
        at = f", row {self.row}" if self.row is not None else ""
        return f"{self.day}{at}, {self.column}: the archive has {self.archive}, the rebuild {self.rebuilt}"


def compare_rebuild(
    archive: Archive, rebuilt: Iterable[ScanDay], advance: Callable[[int], None] = lambda _n: None
) -> Difference | None:
    """Compare a scan archive with its rebuild, day by day; None when they agree.

    Stamps and NaN patterns must be equal, signals and closes within TOLERANCE, absolute. Scan numbers are not
    compared: a live scanner's counter restarts (SPEC §1.3). Raises DataError when `archive` holds no scans.
    """
    require_scans(archive)
    for day, other in zip_longest(archive.days, rebuilt):
        if other is None or day is None or day != other.day:
            return _day_missing(day, other)
        mine = archive.read(day)
        found = compare_days(mine, other) if isinstance(mine, ScanDay) else None
        if found is not None:
            return found
        advance(1)
    return None


def require_scans(archive: Archive) -> Archive:
    """`archive` itself; DataError when it holds prices, which no rebuild can be compared with."""
    if archive.kind != "scans":
        raise DataError(
            f"{archive.folder}: holds prices; --rebuild compares scans: give a folder of 'dolphin scan run'"
        )
    return archive


def compare_days(mine: ScanDay, other: ScanDay, tolerance: float = TOLERANCE) -> Difference | None:
    """The first difference of two scans of one day, by row and then by column, or None."""
    if mine.assets != other.assets:
        return Difference(mine.day, None, "assets", ",".join(mine.assets), ",".join(other.assets))
    if mine.rows != other.rows:
        return Difference(mine.day, None, "rows", str(mine.rows), str(other.rows))
    if not np.array_equal(mine.ts_ns, other.ts_ns):
        row = int(np.argmax(mine.ts_ns != other.ts_ns))
        stamps = (ns_to_iso(int(side.ts_ns[row])) for side in (mine, other))
        return Difference(mine.day, row, "timestamp", *stamps)
    left, right = (np.hstack([side.signals, side.closes]) for side in (mine, other))
    with np.errstate(invalid="ignore"):
        near = (np.abs(left - right) <= tolerance) | (np.isnan(left) & np.isnan(right))
    if near.all():
        return None
    row, column = (int(k) for k in np.argwhere(~near)[0])
    name = (*SIGNAL_COLUMNS, *mine.assets)[column]
    return Difference(mine.day, row, name, repr(float(left[row, column])), repr(float(right[row, column])))


def _day_missing(day: date | None, other: ScanDay | None) -> Difference:
    other_day = other.day if other is not None else None
    first = min(d for d in (day, other_day) if d is not None)
    here, there = ("a day file" if d == first else "none" for d in (day, other_day))
    return Difference(first, None, "day", here, there)


def _manifest(folder: Path, days: tuple[date, ...], report: VerifyReport) -> Manifest | None:
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        report.has_manifest = True
        report.problems.append(str(error))
        return None
    if manifest is not None:
        report.has_manifest = True
        report.problems += day_set_problems(folder, days, manifest)
    return manifest


def _sound_stamps(folder: Path, days: tuple[date, ...]) -> Iterator[NDArray[np.int64]]:
    for day in days:
        try:
            yield read_stamps(day_path(folder, day))[1]
        except DataError:
            continue  # reported when the day is read in full


def _check_day(report: VerifyReport, read: PriceDay, listed: DayEntry | None, found: DayEntry) -> None:
    path = day_path(report.folder, read.day)
    kind = "scans" if isinstance(read, ScanDay) else "prices"
    report.kind = report.kind or kind
    if kind != report.kind:
        report.problems.append(f"{path}: holds {kind}, expected {report.kind} as in the rest of the folder")
    if report.bar_seconds:
        try:
            check_bar(read.ts_ns, report.bar_seconds, str(path))
        except DataError as error:
            report.problems.append(str(error))
    problem = entry_problem(path, listed, found) if listed is not None else None
    if problem:
        report.problems.append(problem)


def _gaps(ts_ns: NDArray[np.int64], before_ns: int | None, bar_seconds: float | None) -> list[Gap]:
    """Stretches without bars, the one since the day before included; stamps may jitter by half a bar."""
    if not bar_seconds:
        return []
    stamps = ts_ns if before_ns is None else np.concatenate([[before_ns], ts_ns])
    missing = np.rint(np.diff(stamps) / (bar_seconds * NS_PER_S)).astype(np.int64) - 1
    return [
        Gap(ns_to_iso(int(stamps[k])), ns_to_iso(int(stamps[k + 1])), int(missing[k]))
        for k in np.flatnonzero(missing > 0)
    ]
