"""Exchange kline files, `SYMBOL-INTERVAL-DATE.csv` or `.zip`, daily or monthly, as one source (SPEC §1.2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_DAY, ns_to_iso
from dolphin.core.errors import DataError
from dolphin.market.daychecks import check_bar
from dolphin.market.klines_csv import read_kline_file
from dolphin.market.sources import Block, Choice, bar_length_ns, check_grid

_NAME = re.compile(r"([^-]+)-(\d+)([smhdw]|mo)-\d{4}-\d{2}(?:-\d{2})?\.(?:csv|zip)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "mo": 30 * 86_400}
_NS_PER_MS = 1_000_000

_Series = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Open times in ns, strictly ascending, and closes."""


@dataclass(frozen=True)
class KlineFile:
    """One file of one symbol, with its first and last open time (ns)."""

    path: Path
    first_ns: int
    last_ns: int


def is_kline_name(name: str) -> bool:
    """Whether a file name is one of the exchange's kline archive: `BTCUSDT-1m-2021-04-05.zip`."""
    return _NAME.fullmatch(name) is not None


class KlineSource:
    """Kline files of any number of symbols; stamps are open times. `names` are the chosen symbols, by name.

    Making one reads every chosen file once and checks it: whole, ascending, on the grid, of this bar length, not
    overlapping another of its symbol. Raises DataError naming file and row.
    """

    def __init__(self, paths: list[Path], bar_seconds: float, choice: Choice) -> None:
        """Read all files of the chosen symbols once; prices are read again as they are needed."""
        by_symbol: dict[str, list[Path]] = {}
        for path in sorted(paths):
            by_symbol.setdefault(_symbol(path), []).append(path)
        self.names = choice.pick(tuple(sorted(by_symbol)))
        self.not_found = choice.not_found(tuple(by_symbol))
        self._bar_seconds = bar_seconds
        self.files = {name: self._plan(by_symbol[name]) for name in self.names}
        everything = [file for files in self.files.values() for file in files]
        if not everything:
            raise DataError(f"{paths[0].parent}: no klines in {len(paths)} files; fetch them again")
        self.first_ns = min(file.first_ns for file in everything)
        self.last_ns = max(file.last_ns for file in everything)

    def blocks(self, low_ns: int, high_ns: int) -> Iterator[Block]:
        """One block a day on the union of the symbols' open times; holds at most one file of each symbol and a day."""
        low, high = max(low_ns, self.first_ns), min(high_ns, self.last_ns + 1)
        readers = [_Reader(self.files[name], low) for name in self.names]
        for start in range(low - low % NS_PER_DAY, high, NS_PER_DAY):
            cuts = [reader.day(start) for reader in readers]
            ts_ns = np.unique(np.concatenate([stamps for stamps, _ in cuts]))
            closes = np.full((len(ts_ns), len(self.names)), np.nan)
            for k, (stamps, close) in enumerate(cuts):
                closes[np.searchsorted(ts_ns, stamps), k] = close
            if len(ts_ns):
                yield ts_ns, closes

    def _plan(self, paths: list[Path]) -> list[KlineFile]:
        """The files of one symbol in the order of time; those without rows are left out."""
        files = []
        for path in paths:
            _check_interval(path, self._bar_seconds)
            ts_ns, _ = _read(path)
            if not len(ts_ns):
                continue
            check_bar(ts_ns, self._bar_seconds, str(path))
            check_grid(ts_ns, self._bar_seconds, str(path))
            files.append(KlineFile(path, int(ts_ns[0]), int(ts_ns[-1])))
        files.sort(key=lambda file: file.first_ns)
        for before, after in pairwise(files):
            if after.first_ns <= before.last_ns:
                raise DataError(
                    f"{after.path}: opens at {ns_to_iso(after.first_ns)}, which {before.path.name} reaches too; "
                    "expected files that follow each other: keep one of the two"
                )
        return files


class _Reader:
    """The klines of one symbol, day by day, forward only."""

    def __init__(self, files: list[KlineFile], low_ns: int) -> None:
        self._ahead = [file for file in reversed(files) if file.last_ns >= low_ns]
        self._held: _Series = (np.empty(0, np.int64), np.empty(0))

    def day(self, start_ns: int) -> _Series:
        """What opens in the day from `start_ns`; days are asked for in ascending order."""
        end_ns = start_ns + NS_PER_DAY
        parts = [self._held]
        while self._ahead and self._ahead[-1].first_ns < end_ns:
            parts.append(_read(self._ahead.pop().path))
        ts_ns, closes = (np.concatenate(side) for side in zip(*parts, strict=True))
        a, b = np.searchsorted(ts_ns, (start_ns, end_ns))
        self._held = (ts_ns[b:].copy(), closes[b:].copy()) if len(parts) > 1 or b else self._held
        return ts_ns[a:b], closes[a:b]


def _read(path: Path) -> _Series:
    open_ms, closes = read_kline_file(path)
    return open_ms * _NS_PER_MS, np.where(np.isfinite(closes) & (closes > 0.0), closes, np.nan)


def _symbol(path: Path) -> str:
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise DataError(f"{path}: not the name of a kline file; expected such as BTCUSDT-1m-2021-04-05.zip")
    return match[1]


def _check_interval(path: Path, bar_seconds: float) -> None:
    match = _NAME.fullmatch(path.name)
    said = int(match[2]) * _SECONDS[match[3]] if match else 0
    if said * 1_000_000_000 != bar_length_ns(bar_seconds):
        raise DataError(f"{path}: klines of {said} s by its name, expected {bar_seconds:g} s as --bar-seconds says")
