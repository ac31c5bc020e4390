"""The survival stack over a replay: sensors in, a posture per bar out, and what that did in figures (SPEC §10)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.feed import STALE_AFTER_S, SensorFeed
from dolphin.alpha.layout import Record
from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns, ns_to_iso
from dolphin.core.codes import Posture
from dolphin.core.errors import DataError
from dolphin.market.archive import Archive
from dolphin.market.sensorfiles import SensorFile, read_sensors
from dolphin.market.tables import ScanDay
from dolphin.research.reportdata import SurvivalSeries, decimate
from dolphin.risk.posture import ALLOWED
from dolphin.risk.sensors import SENSORS
from dolphin.risk.stack import CATEGORY_NAMES

SensorSource = Path | Literal["own"]
"""A file of readings, or the replay's own sensors alone."""

SUPPLIED = ("drawdown", "mc_status")
"""What a replay knows itself, and supplies where a file never holds it."""

_OWN_NOTE = (
    "No sensors were recorded: at most once a minute the replay read its own drawdown and forewarner gate, and "
    "everything else counts as healthy. This shows what these two alone would have done."
)

_POINTS = 12_000
"""How many points of Rm and the categories a page carries."""


@dataclass(frozen=True, eq=False)
class SurvivalRun:
    """What the stack did over a run.

    `bars` counts bars per posture, in the order of `Posture`; `changes` counts bars whose posture differs from that of
    the bar before; `lowest_rm` is None when no bar had a reading; `blocked` counts bars with a signal, flat and in the
    volatility regime, at which the posture allowed no entry; `identity` is a hash over the readings, None for the
    replay's own.
    """

    readings: int | None
    identity: str | None
    supplied: tuple[str, ...]
    bars: tuple[int, ...]
    changes: int
    lowest_rm: float | None
    blocked: int
    early_bars: int
    stale_bars: int
    series: SurvivalSeries

    def plain(self, source: SensorSource, bar_seconds: float, closed_by_halt: int) -> dict[str, Any]:
        """The run as `summary.json` holds it."""
        total = sum(self.bars)
        return {
            "sensors": str(source),
            "readings": self.readings,
            "readings_hash": self.identity,
            "supplied": list(self.supplied),
            "postures": {
                posture.name: {
                    "bars": count,
                    "seconds": count * bar_seconds,
                    "share": count / total if total else 0.0,
                }
                for posture, count in zip(Posture, self.bars, strict=True)
            },
            "changes": self.changes,
            "lowest_rm": self.lowest_rm,
            "entries_blocked": self.blocked,
            "closed_by_halt": closed_by_halt,
            "bars_before_first": self.early_bars,
            "stale_bars": self.stale_bars,
        }


class SurvivalReplay:
    """Readings for one replay of `archive`, and the account of what they led to.

    The file is read here, so that a bad one is refused before the replay starts. Raises DataError for a file that is
    not sound, has no times, or whose readings all lie outside the run.
    """

    def __init__(self, source: SensorSource, archive: Archive) -> None:
        self._file = None if source == "own" else _file_for(Path(source), archive)
        if self._file is None:
            self._supplied: tuple[str, ...] = SUPPLIED
            self.feed = SensorFeed.own()
        else:
            self._supplied = tuple(name for name in SUPPLIED if name not in self._file.given)
            self.feed = SensorFeed(
                self._file.readings,
                supply_drawdown="drawdown" in self._supplied,
                supply_mc="mc_status" in self._supplied,
            )
        self._per_day = max(40, _POINTS // len(archive.days))
        self._bars = np.zeros(len(Posture), np.int64)
        self._posture: int | None = None
        self._lowest = math.inf
        none = np.empty(0)
        self._spells = [(none.astype(np.int64), none.astype(np.int64))]
        self._points: list[dict[str, NDArray[Any]]] = [
            {"ts_ns": none.astype(np.int64), "rm": none, **dict.fromkeys(CATEGORY_NAMES, none)}
        ]
        self._end_ns = 0

    def begin_day(self, scans: ScanDay) -> None:
        """Make room for the day's bars, before they run."""
        self._trace: Record = self.feed.open_trace(scans.rows)

    def take(self, scans: ScanDay, events: Record) -> None:
        """Account for the day's bars, after they have run; `events` (T,) EVENT records."""
        if not scans.rows:
            return
        postures, rm = np.array(events.posture), np.array(events.rm)
        before = postures[0] if self._posture is None else self._posture
        changed = np.flatnonzero(np.diff(postures, prepend=before))
        starts = changed if self._posture is not None else np.union1d([0], changed)
        self._spells.append((scans.ts_ns[starts], postures[starts]))
        self._posture, self._end_ns = int(postures[-1]), int(scans.ts_ns[-1])
        self._bars += np.bincount(postures, minlength=len(Posture))
        self._lowest = min(self._lowest, float(np.min(rm, initial=math.inf, where=np.isfinite(rm))))
        columns = {"rm": rm, **{name: np.array(self._trace[name]) for name in CATEGORY_NAMES}}
        ts, thin = decimate(scans.ts_ns, columns, self._per_day)
        self._points.append({"ts_ns": ts, **thin})

    def run(self) -> SurvivalRun:
        """The account of the days taken."""
        stamps, postures = (np.concatenate(part) for part in zip(*self._spells, strict=True))
        points = {name: np.concatenate([p[name] for p in self._points]) for name in ("ts_ns", "rm", *CATEGORY_NAMES)}
        return SurvivalRun(
            readings=None if self._file is None else len(self._file.readings),
            identity=None if self._file is None else self._file.identity,
            supplied=self._supplied,
            bars=tuple(int(count) for count in self._bars),
            changes=max(len(stamps) - 1, 0),
            lowest_rm=self._lowest if math.isfinite(self._lowest) else None,
            blocked=self.feed.entries_blocked,
            early_bars=self.feed.early_bars,
            stale_bars=self.feed.stale_bars,
            series=SurvivalSeries(
                ts_ns=points["ts_ns"],
                rm=points["rm"],
                categories=tuple(points[name] for name in CATEGORY_NAMES),
                spell_ns=stamps,
                spell_posture=postures,
                end_ns=self._end_ns,
            ),
        )

    def notes(self) -> tuple[str, ...]:
        """What a reader must know: what stands in for sensors that were not recorded, and when."""
        if self._file is None:
            return (_OWN_NOTE, *self._locked())
        lines = list(self._locked())
        if self._supplied:
            lines.append(f"The sensor file never holds {_and(self._supplied)}: the replay supplies its own.")
        spiked = bool(np.any(self._file.readings.dvol_spike != 0))  # without a spike nobody asks for its age
        known = (*self._file.given, *self._supplied, *(() if spiked else ("dvol_spike_age_min",)))
        absent = [name for name in SENSORS if name not in known]
        if absent:
            lines.append(f"The sensor file never holds {_and(absent)}: not known, so the worst case throughout.")
        if self.feed.early_bars:
            first = ns_to_iso(int(self._file.readings[0].ts_ns))
            lines.append(f"{self.feed.early_bars:,} bars before the first reading, {first}, ran in APEX.")
        if self.feed.stale_bars:
            lines.append(
                f"On {self.feed.stale_bars:,} bars the newest reading was more than {STALE_AFTER_S // 60} minutes old: "
                "the sensors counted as not known, which is HIBERNATE."
            )
        return tuple(lines)

    def _locked(self) -> tuple[str, ...]:
        """A last spell without entries of a day or more, where the replay's own drawdown is read: it cannot end."""
        stamps, postures = (np.concatenate(part) for part in zip(*self._spells, strict=True))
        if not len(stamps):
            return ()
        since, posture = int(stamps[-1]), Posture(int(postures[-1]))
        if "drawdown" not in self._supplied or ALLOWED[posture].entries or self._end_ns - since < NS_PER_DAY:
            return ()
        line = (
            f"{posture.name} from {ns_to_iso(since)} to the end: without entries the drawdown cannot recover, and as "
            "long as it does not, the posture stays. A person has to decide there."
        )
        return (line,)


def _file_for(path: Path, archive: Archive) -> SensorFile:
    file = read_sensors(path)
    if not file.timed:
        raise DataError(f"{path}: no time; a replay needs one in every reading, such as 2024-01-02T14:30:00Z")
    first, last = (int(file.readings[k].ts_ns) for k in (0, -1))
    opens, closes = date_start_ns(archive.days[0]), date_start_ns(archive.days[-1]) + NS_PER_DAY
    if first >= closes or last + STALE_AFTER_S * NS_PER_S < opens:
        raise DataError(
            f"{path}: readings from {ns_to_iso(first)} to {ns_to_iso(last)}; expected some of the run's days, "
            f"{archive.days[0]} to {archive.days[-1]}"
        )
    return file


def _and(names: tuple[str, ...] | list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
