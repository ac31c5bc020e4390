"""Recorded prices from elsewhere, made an archive (SPEC §1.2).

Nothing is filled and nothing guessed: a gap stays a gap, a bar that no chosen symbol traded is an absent row, and
whether stamps are open or close times is said by whoever imports. Prices are streamed twice, once to see which symbols
are there for long enough, once to write; memory is that of a day and one file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dolphin import __version__
from dolphin.core.clock import date_start_ns, ns_to_date, ns_to_iso
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.archive_writer import ArchiveWriter
from dolphin.market.klines import KlineSource, is_kline_name
from dolphin.market.sources import Choice, PriceSource, bar_length_ns, into_days
from dolphin.market.tables import PriceDay
from dolphin.market.wide import WideSource

STAMPS = ("open", "close")
_NOTHING = 2**62
_SUFFIXES = (".parquet", ".csv", ".zip")


@dataclass(frozen=True)
class ImportSpec:
    """What to import: `stamp` says whether the source stamps a bar when it opens or when it closes.

    `symbols` (empty: all) and `drop` choose columns; symbols whose share of bars with a valid price is lower than
    `min_coverage` are left out; `first` and `last` are UTC days of close times, both included.
    """

    source: Path
    out: Path
    bar_seconds: float
    stamp: str
    symbols: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    min_coverage: float = 0.0
    first: date | None = None
    last: date | None = None
    force: bool = False


@dataclass(frozen=True)
class ImportReport:
    """What an import wrote. `dropped` maps the symbols left out for lack of prices to their coverage (share of bars).

    `ignored` names files of the source folder that were not read, `not_found` the symbols that were to be dropped and
    are not in the source; `gaps` counts stretches of absent bars between the
    first and the last, `bars_missing` the bars in them; `first` and `last` are ISO stamps.
    """

    out: Path
    days: int
    bars: int
    first: str
    last: str
    symbols: tuple[str, ...]
    coverage: dict[str, float]
    dropped: dict[str, float]
    ignored: tuple[str, ...]
    not_found: tuple[str, ...]
    gaps: int
    bars_missing: int
    content_hash: str


class Import:
    """An import whose source has been read through and found good; nothing is written before `run`."""

    def __init__(self, spec: ImportSpec) -> None:
        """Check the options, the target and the whole source; raises ConfigError or DataError."""
        _check_spec(spec)
        self.spec = spec
        self._bar_ns = bar_length_ns(spec.bar_seconds)
        self._shift_ns = self._bar_ns if spec.stamp == "open" else 0
        source = {
            "made_by": f"dolphin data import {__version__}",
            "stamp": spec.stamp,
            "min_coverage": spec.min_coverage,
            "from": str(spec.first) if spec.first else None,
            "to": str(spec.last) if spec.last else None,
        }
        self._writer = ArchiveWriter(spec.out, "prices", spec.bar_seconds, source=source, force=spec.force)
        self.source, self.ignored = open_source(spec)
        low, high = self._range_ns()
        low, high = max(low, self.source.first_ns + self._shift_ns), min(high, self.source.last_ns + self._shift_ns + 1)
        if low >= high:
            raise DataError(f"{spec.source}: no row {self._wanted()}; the source has {self._has()}")
        self.work = 2 * ((ns_to_date(high - 1) - ns_to_date(low)).days + 1)

    def run(self, advance: Callable[[int], None] = lambda _n: None) -> ImportReport:
        """Write the archive; `advance` is told of days done, `work` in all. Raises DataError when nothing is left."""
        coverage = self._coverage(advance)
        if not coverage:
            raise DataError(f"{self.spec.source}: no row with a price {self._wanted()}; the source has {self._has()}")
        at_least = self.spec.min_coverage
        kept = tuple(name for name, share in coverage.items() if share > 0.0 and share >= at_least)
        if not kept:
            best = max(coverage, key=lambda name: coverage[name])
            raise DataError(
                f"{self.spec.source}: no symbol has prices in {at_least:g} of the bars; {best} comes closest with "
                f"{coverage[best]:.4f}: lower --min-coverage"
            )
        days = bars = gaps = missing = 0
        first = last = 0
        with self._writer as writer:
            for day in self._days():
                advance(1)
                day = _restrict(day, [self.source.names.index(name) for name in kept])
                if not day.rows:
                    continue
                writer.write(day)
                stamps = day.ts_ns if not days else np.concatenate([[last], day.ts_ns])
                steps = np.diff(stamps) // self._bar_ns
                gaps, missing = gaps + int((steps > 1).sum()), missing + int((steps - 1).sum())
                first, last = first if days else int(day.ts_ns[0]), int(day.ts_ns[-1])
                days, bars = days + 1, bars + day.rows
        return ImportReport(
            out=self.spec.out,
            days=days,
            bars=bars,
            first=ns_to_iso(first),
            last=ns_to_iso(last),
            symbols=kept,
            coverage={name: coverage[name] for name in kept},
            dropped={name: share for name, share in coverage.items() if name not in kept},
            ignored=self.ignored,
            not_found=self.source.not_found,
            gaps=gaps,
            bars_missing=missing,
            content_hash=writer.manifest.content_hash if writer.manifest else "",
        )

    def _coverage(self, advance: Callable[[int], None]) -> dict[str, float]:
        """Each symbol's share of the bars that any chosen symbol traded; empty without any such bar."""
        counts: NDArray[np.int64] = np.zeros(len(self.source.names), np.int64)
        bars = 0
        for day in self._days():
            advance(1)
            valid = ~np.isnan(day.closes)
            counts += valid.sum(axis=0)
            bars += int(valid.any(axis=1).sum())
        return {name: int(n) / bars for name, n in zip(self.source.names, counts, strict=True)} if bars else {}

    def _days(self) -> Iterator[PriceDay]:
        low, high = self._range_ns()
        blocks = self.source.blocks(low - self._shift_ns, high - self._shift_ns)
        for day in into_days(blocks, self.source.names, self._shift_ns):
            if low <= date_start_ns(day.day) < high:
                yield day

    def _range_ns(self) -> tuple[int, int]:
        low = -_NOTHING if self.spec.first is None else date_start_ns(self.spec.first)
        high = _NOTHING if self.spec.last is None else date_start_ns(self.spec.last + timedelta(days=1))
        return low, high

    def _wanted(self) -> str:
        return f"from {self.spec.first or 'its start'} to {self.spec.last or 'its end'}"

    def _has(self) -> str:
        first, last = self.source.first_ns + self._shift_ns, self.source.last_ns + self._shift_ns
        return f"{ns_to_iso(first)} to {ns_to_iso(last)} (close times)"


def open_source(spec: ImportSpec) -> tuple[PriceSource, tuple[str, ...]]:
    """The source that a folder or file is, and the names in it that are not part of it.

    A folder of Parquet files is read as such and CSV files beside them are ignored; otherwise it holds klines, by
    their names, or wide CSV. Subfolders and hidden files are never read. Raises DataError for a mixture.
    """
    paths, others = _candidates(spec.source)
    choice = Choice(spec.symbols, spec.drop)
    klines = [path for path in paths if is_kline_name(path.name)]
    tables = [path for path in paths if path.suffix == ".parquet"]
    if klines and tables:
        raise DataError(
            f"{spec.source}: holds kline files ({klines[0].name}) and Parquet tables ({tables[0].name}); import them "
            "from different folders"
        )
    if klines:
        others += [path.name for path in paths if path not in klines]
        return KlineSource(klines, spec.bar_seconds, choice), tuple(sorted(others))
    if tables:
        others += [path.name for path in paths if path not in tables]
    else:
        tables = [path for path in paths if path.suffix == ".csv"]
        others += [path.name for path in paths if path not in tables]
    if not tables:
        raise DataError(
            f"{spec.source}: no prices; expected .parquet or .csv tables, or kline files such as "
            "BTCUSDT-1m-2021-04-05.zip"
        )
    return WideSource(tables, spec.bar_seconds, choice), tuple(sorted(others))


def _candidates(source: Path) -> tuple[list[Path], list[str]]:
    """Files that may hold prices, by name, and the names of the other visible files."""
    if source.is_file():
        if source.suffix not in _SUFFIXES:
            raise DataError(f"{source}: not a file of prices; expected {', '.join(_SUFFIXES)}")
        return [source], []
    try:
        files = sorted(path for path in source.iterdir() if path.is_file() and not path.name.startswith("."))
    except FileNotFoundError:
        raise DataError(f"{source}: no such file or directory; check the path") from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({error.strerror}); check its permissions") from None
    wanted = [path for path in files if path.suffix in _SUFFIXES]
    return wanted, [path.name for path in files if path.suffix not in _SUFFIXES and path.name != "manifest.json"]


def _restrict(day: PriceDay, columns: list[int]) -> PriceDay:
    """`day` on some of its columns, without the bars that none of them traded."""
    closes = day.closes[:, columns]
    traded = ~np.isnan(closes).all(axis=1)
    names = tuple(day.assets[k] for k in columns)
    return PriceDay(day.day, day.ts_ns[traded], names, np.ascontiguousarray(closes[traded]))


def _check_spec(spec: ImportSpec) -> None:
    if spec.stamp not in STAMPS:
        raise ConfigError(f"--stamp {spec.stamp!r}: expected open or close, whichever the source's stamps are")
    bar_length_ns(spec.bar_seconds)
    if not 0.0 <= spec.min_coverage <= 1.0:
        raise ConfigError(f"--min-coverage {spec.min_coverage:g}: expected a share from 0 to 1")
    if spec.first and spec.last and spec.first > spec.last:
        raise ConfigError(f"--from {spec.first}: lies after --to {spec.last}; expected the earlier day first")
    both = [name for name in spec.symbols if name in spec.drop]
    if both:
        raise ConfigError(f"--drop {both[0]}: is also asked for by --symbols; leave it out of one of them")
    if spec.out.resolve() == spec.source.resolve():
        raise ConfigError(f"--out {spec.out}: is the source itself; choose another folder")
