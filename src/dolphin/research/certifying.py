"""Scanner results of chosen bars, recomputed and held against certificates (SPEC §2, `dolphin scan certify`)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.archive import Archive
from dolphin.research.scanning import warm_up_days
from dolphin.scan.certify import REL_TOL, Certificate, certify_largest, check, relative_distance, window_members
from dolphin.scan.layout import GAP_BARS, WINDOWS
from dolphin.scan.scanner import Scanner

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

Status = Literal["pass", "fail", "filling", "empty"]
"""`filling`: fewer than W + 1 prices since the start or the last gap; `empty`: enough, but no asset in the window."""


@dataclass(frozen=True)
class BarCheck:
    """One window at one bar: the scanner's float64 `value` (NaN where there is none) beside its certificate.

    `bar` counts the day's rows from 0; `ts_ns` is its stamp; `members` the scanner's count; `distance` is relative, NaN
    without a certificate.
    """

    bar: int
    ts_ns: int
    window: int
    members: int
    value: float
    status: Status
    certificate: Certificate | None
    distance: float


@dataclass(frozen=True)
class CertifyTask:
    """A day whose bars can be checked.

    Closes (T, N) and stamps (T,) begin with the warm-up days, the day's rows with `first`; `begins` (rows,) is where
    the prices that each of them may use begin. `value` and `members` (rows, K) are the scanner's, over the same prices.
    """

    day: date
    ts_ns: I8
    closes: F8
    first: int
    begins: I8
    value: F8
    members: F8

    @property
    def rows(self) -> int:
        """Bars of the day."""
        return len(self.value)

    def check(
        self, bars: Sequence[int], windows: Sequence[int] = WINDOWS, rel_tol: float = REL_TOL
    ) -> Iterator[BarCheck]:
        """Check every window at every bar, bar by bar; ConfigError for a bar or window that is not there."""
        for bar in bars:
            if not 0 <= bar < self.rows:
                raise ConfigError(f"--bars {bar}: {self.day} has the bars 0 to {self.rows - 1}; choose among them")
        for window in windows:
            if window not in WINDOWS:
                raise ConfigError(f"--windows {window}: the scanner's windows are {', '.join(map(str, WINDOWS))}")
        return (self._check(bar, window, rel_tol) for bar in bars for window in windows)

    def _check(self, bar: int, window: int, rel_tol: float) -> BarCheck:
        at, k = self.first + bar, WINDOWS.index(window)
        value, members = float(self.value[bar, k]), int(self.members[bar, k])
        certificate = None
        status: Status = "filling"
        distance = float("nan")
        if at - self.begins[bar] >= window:
            prices = self.closes[at - window : at + 1]
            if window_members(prices):
                certificate = certify_largest(prices)
                distance = relative_distance(value, certificate)
                agrees = members == certificate.members and check(value, certificate, rel_tol)
                status = "pass" if agrees else "fail"
            else:
                status = "fail" if members else "empty"
        elif members:
            status = "fail"
        return BarCheck(bar, int(self.ts_ns[at]), window, members, value, status, certificate, distance)


def prepare(archive: Archive, day: date) -> CertifyTask:
    """Read `day` and the days that warm it up from an archive of prices or of scans, and stream the scanner over them.

    Raises DataError when the archive lacks the day or its files are not what they should be.
    """
    if day not in archive.days:
        raise DataError(
            f"{archive.folder}: no day {day}; the archive has {len(archive.days)}, {archive.days[0]} to "
            f"{archive.days[-1]}"
        )
    before = warm_up_days(archive, day)
    chosen = archive.select(before[0] if before else day, day)
    scanner = Scanner(len(chosen.assets), archive.bar_seconds)
    days = []
    for prices in chosen.iter_days():
        table = scanner.scan(prices.ts_ns, prices.closes)
        days.append(prices)
    ts_ns = np.concatenate([prices.ts_ns for prices in days])
    first = len(ts_ns) - days[-1].rows
    return CertifyTask(
        day=day,
        ts_ns=ts_ns,
        closes=np.concatenate([prices.closes for prices in days]),
        first=first,
        begins=_begins(ts_ns, archive.bar_seconds)[first:],
        value=table.largest_eigenvalue,
        members=table.members,
    )


def _begins(ts_ns: I8, bar_seconds: float) -> I8:
    """For each row the first row since the last gap that restarts the windows: more than ten and a half bars."""
    rows = np.arange(len(ts_ns), dtype=np.int64)
    limit = int((GAP_BARS + 0.5) * bar_seconds * NS_PER_S)
    gap = np.concatenate([[False], np.diff(ts_ns) > limit])
    return np.maximum.accumulate(np.where(gap, rows, 0))
