"""What the sources of an import share: which symbols are wanted, what a grid of bars is, and days from pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, ns_to_date, ns_to_iso
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.tables import PriceDay

Block = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Stamps, int64 ns (T,), ascending within and between blocks, and closes, float64 (T, N); a missing price is NaN."""


class PriceSource(Protocol):
    """Recorded closes on the columns `names`, with stamps as the source writes them (ns), first and last known.

    `not_found` are the symbols that were to be dropped and are not there.
    """

    names: tuple[str, ...]
    not_found: tuple[str, ...]
    first_ns: int
    last_ns: int

    def blocks(self, low_ns: int, high_ns: int) -> Iterator[Block]:
        """Closes in ascending pieces; what lies outside [low, high) may be left out. Can be called again."""
        ...


@dataclass(frozen=True)
class Choice:
    """Which symbols are wanted: `only` these, in this order (empty: all), without those in `drop`."""

    only: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()

    def pick(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The wanted ones of `names`; ConfigError when one of `only` is not there, or none is left."""
        absent = [name for name in self.only if name not in names]
        if absent:
            some = ", ".join(names[:8]) + (", …" if len(names) > 8 else "")
            raise ConfigError(f"--symbols: the source has no {', '.join(absent)}; it has {some}")
        picked = tuple(name for name in self.only or names if name not in self.drop)
        if not picked:
            raise ConfigError("--symbols and --drop leave no symbol; ask for at least one")
        return picked

    def not_found(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """The ones to be dropped that `names` lacks: no error, as one list serves many sources, but worth saying."""
        return tuple(name for name in self.drop if name not in names)


def bar_length_ns(bar_seconds: float) -> int:
    """`bar_seconds` as whole nanoseconds; ConfigError unless a day is a whole number of such bars."""
    length = round(bar_seconds * NS_PER_S) if 0.0 < bar_seconds <= 86_400.0 else 0
    if length <= 0 or NS_PER_DAY % length:
        raise ConfigError(
            f"--bar-seconds {bar_seconds:g}: a day is not a whole number of such bars; expected 60, 300, 5, 0.1 …"
        )
    return length


def check_grid(ts_ns: NDArray[np.int64], bar_seconds: float, where: str) -> None:
    """DataError naming the first stamp (ns) that is no multiple of the bar length since midnight, UTC."""
    off = ts_ns % bar_length_ns(bar_seconds) != 0
    if off.any():
        row = int(np.argmax(off))
        raise DataError(
            f"{where}: column 'timestamp', row {row}: {ns_to_iso(int(ts_ns[row]))} is not on the grid of "
            f"{bar_seconds:g} s bars; check --bar-seconds"
        )


def into_days(blocks: Iterable[Block], names: tuple[str, ...], shift_ns: int) -> Iterator[PriceDay]:
    """Regroup pieces into UTC days after adding `shift_ns` to every stamp; holds one day and one piece.

    A bar that opens at 23:59 and is shifted by its minute is the 00:00 bar of the next day (SPEC §1.2).
    """
    held: list[Block] = []
    for ts_ns, closes in blocks:
        shifted = ts_ns + shift_ns
        days = shifted // NS_PER_DAY
        cuts = np.flatnonzero(np.diff(days)) + 1
        for part, values in zip(np.split(shifted, cuts), np.split(closes, cuts), strict=True):
            if not len(part):
                continue
            if held and held[0][0][0] // NS_PER_DAY != part[0] // NS_PER_DAY:
                yield _day(held, names)
                held = []
            held.append((part, values))
    if held:
        yield _day(held, names)


def _day(held: list[Block], names: tuple[str, ...]) -> PriceDay:
    ts_ns = np.concatenate([ts for ts, _ in held])
    return PriceDay(ns_to_date(int(ts_ns[0])), ts_ns, names, np.concatenate([closes for _, closes in held]))
