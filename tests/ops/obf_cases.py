"""A source whose books a test moves by hand, and a clock that it turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np

from dolphin.book.layout import F8
from dolphin.book.snapshots import make_snapshot
from dolphin.core.clock import NS_PER_S
from dolphin.core.records import Record
from dolphin.grid.port import Maps
from dolphin.ops.obf.service import ObfService
from dolphin.ops.obf.settings import ObfSettings

START_NS = 1_774_528_496 * NS_PER_S
"""2026-03-26T12:34:56Z."""
QUICK = ObfSettings(warm_up_s=0.0)
BANDS = (2_000_000.0, 1_500_000.0, 1_000_000.0, 800_000.0, 600_000.0)


class Hand:
    """Shows `now[symbol]`; synced since `since[symbol]`, the epoch's first nanosecond when it is not there."""

    def __init__(self, *symbols: str) -> None:
        self.symbols = tuple(symbols)
        self.now: dict[str, Record] = {}
        self.since: dict[str, int] = {}
        self.counted: dict[str, int] = {}

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        for column, asset in enumerate(assets):
            if asset in self.now:
                out[:, column] = self.now[asset]

    def synced_ns(self, symbol: str) -> int:
        return self.since.get(symbol, 1)

    def add(self, symbols: Iterable[str]) -> None:
        self.symbols = (*self.symbols, *symbols)

    def counts(self) -> dict[str, int]:
        return self.counted

    def show(self, symbol: str, at_ns: int, lean: float = 0.0, depth: float = 1.0) -> None:
        """A sound book, leaning by `lean` to the bids, `depth` times its usual size."""
        bids, asks = np.array(BANDS) * depth * (1.0 + lean), np.array(BANDS) * depth * (1.0 - lean)
        self.now[symbol] = make_snapshot(at_ns / 1e9, bids, asks, bids / 100.0, asks / 100.0)

    def show_all(self, at_ns: int, lean: float = 0.0, depth: float = 1.0) -> None:
        for symbol in self.symbols:
            self.show(symbol, at_ns, lean, depth)


class Time:
    """A clock that goes only when it is told to, or slept on; wall and monotonic agree."""

    def __init__(self, ns: int = START_NS) -> None:
        self.ns = ns

    def __call__(self) -> int:
        return self.ns

    def seconds(self) -> float:
        return (self.ns - START_NS) / 1e9

    def pass_(self, seconds: float) -> int:
        self.ns += round(seconds * 1e9)
        return self.ns

    def sleep(self, seconds: float) -> None:
        self.ns = START_NS + round((self.seconds() + seconds) * 1e6) * 1000


def service(source: Hand, folder: Path, clock: Time, grid: Maps | None = None, **more: object) -> ObfService:
    """A service on that clock; `settings`, `archive` and `log` may be among `more`."""
    return ObfService(
        source,
        folder,
        grid=grid,
        clock=clock,
        monotonic=clock.seconds,
        sleep=clock.sleep,
        **{"settings": QUICK, **more},  # type: ignore[arg-type]
    )


def until(met: Callable[[], bool], what: str, limit_s: float = 60.0) -> None:
    """Wait for a condition, for as long as a busy machine may take."""
    end = time.monotonic() + limit_s
    while not met():
        assert time.monotonic() < end, f"never came: {what}"
        time.sleep(0.005)
