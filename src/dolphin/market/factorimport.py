"""From recorded histories of factors to per-date factor files, without a look into the future (SPEC §1.3, §9).

**What a date may know.** A file of date D holds values published before D's midnight (00:00 UTC, when D begins), and of
those the latest, if it is not older than a day:

- Daily values (Fear & Greed, DVOL) are stamped with the midnight that opens their day. The recorded DVOL is that day's
  last value, known only when the day is over, and Fear & Greed of a day is announced during its first minutes. So the
  value stamped S belongs to the date after S's. A stamp within the day says when the value became known, and leads to
  the same date.
- Funding is settled every eight hours and stamped when it is. D gets D − 1's last settlement, usually that of 16:00.
  The one at D 00:00:00 sharp, or some milliseconds later, is not known before midnight and belongs to D + 1's day.

A day without a value leaves the factor missing on the next date: nothing is carried further. The taker ratio has no
recorded history and stays missing.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

from dolphin.core.clock import Clock, ns_to_date, system_clock_ns
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.atomic import remove_empty, sync_folder
from dolphin.market.factorfiles import FACTORS, factor_dates, write_indicators
from dolphin.market.factorhistory import History, read_histories

DayFactors = dict[date, dict[str, float]]
"""Per date the factors known before its midnight, by name."""


@dataclass(frozen=True)
class FactorReport:
    """What an import wrote: `dates` folders from `first` to `last`; per factor the dates that have it."""

    out: Path
    dates: int
    first: date
    last: date
    have: dict[str, int]
    sources: dict[str, str]

    @property
    def missing(self) -> dict[str, int]:
        """Per factor, how many of the dates are without it."""
        return {name: self.dates - count for name, count in self.have.items()}


class FactorImport:
    """The histories of `source`, cut into dates; nothing is written before `run`.

    `first` and `last` are dates, both included. Raises DataError for histories that are not sound or leave no date,
    ConfigError for a range that is none.
    """

    def __init__(self, source: Path, out: Path, first: date | None = None, last: date | None = None) -> None:
        if first is not None and last is not None and first > last:
            raise ConfigError(f"--from {first}: after --to {last}; swap them")
        if out.resolve() == source.resolve():
            raise ConfigError(f"--out {out}: is the source itself; choose another folder")
        self.out = out
        self.histories = read_histories(source)
        known = by_date(self.histories)
        self.days = {
            day: known[day]
            for day in sorted(known)
            if (first is None or day >= first) and (last is None or day <= last)
        }
        if not self.days:
            raise DataError(
                f"{source}: no date from {first or 'its start'} to {last or 'its end'}; the histories serve "
                f"{min(known)} to {max(known)}"
            )

    def run(
        self, advance: Callable[[int], None] | None = None, *, force: bool = False, clock: Clock = system_clock_ns
    ) -> FactorReport:
        """Write the dates into a fresh folder that becomes `out`, all or nothing; `advance` counts dates.

        Factor files that `out` holds are replaced with `force` only, and the old folder is kept as
        `*.STALE_YYYYMMDD`. Raises DataError when `out` holds anything else or cannot be written.
        """
        _check_out(self.out, force=force)
        absent = [folder for folder in (self.out.parent, *self.out.parent.parents) if not folder.exists()]
        fresh: Path | None = None
        try:
            self.out.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{self.out.name}.", dir=self.out.parent))
            for day, values in self.days.items():
                write_indicators(fresh, day, 1, values)
                if advance is not None:
                    advance(1)
            fresh.chmod(0o755)
            _put(fresh, self.out, ns_to_date(clock()))
        except OSError as error:
            raise DataError(f"--out {self.out}: cannot be written ({error.strerror}); choose another folder") from None
        finally:
            if fresh is not None:
                shutil.rmtree(fresh, ignore_errors=True)
            remove_empty(absent)
        return self._report()

    def _report(self) -> FactorReport:
        dates = list(self.days)
        return FactorReport(
            out=self.out,
            dates=len(dates),
            first=dates[0],
            last=dates[-1],
            have={name: sum(name in values for values in self.days.values()) for name in FACTORS},
            sources={history.name: history.source.name for history in self.histories},
        )


def by_date(histories: list[History]) -> DayFactors:
    """Per date, the latest value of each history published on the day before it: nothing from its own day."""
    days: DayFactors = {}
    for history in histories:
        # Ascending, so that a later value of the same day replaces an earlier one.
        for stamp, value in zip(history.stamps_ns, history.values, strict=True):
            days.setdefault(ns_to_date(stamp) + timedelta(days=1), {})[history.name] = value
    return days


def _check_out(out: Path, *, force: bool) -> None:
    if not out.exists():
        return
    if not out.is_dir():
        raise DataError(f"--out {out}: is a file; expected a folder for factor files")
    dates = {day.isoformat() for day in factor_dates(out)}
    strange = sorted(path.name for path in out.iterdir() if path.name not in dates)
    if strange:
        raise DataError(f"--out {out}: holds {strange[0]}, which is no date of factor files; choose another folder")
    if dates and not force:
        raise DataError(f"--out {out}: already holds factor files; give another folder, or --force to replace them")


def _put(fresh: Path, out: Path, today: date) -> None:
    """Rename `fresh` to `out`; what was there steps aside first."""
    if out.exists() and any(out.iterdir()):
        name = f"{out.name}.STALE_{today:%Y%m%d}"
        aside, k = out.with_name(name), 1
        while aside.exists():
            aside, k = out.with_name(f"{name}.{k}"), k + 1
        out.rename(aside)
    elif out.exists():
        out.rmdir()
    fresh.rename(out)
    sync_folder(out.parent)
