"""The whole live loop against an exchange, timed and proven: does this machine keep up, and does a replay agree?

Stream → books → features → scan → step, a bar at a time (SPEC §8, §12, §22). Nothing is ordered anywhere.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.core.clock import NS_PER_DAY, NS_PER_S, Clock, ns_to_date, system_clock_ns
from dolphin.core.codes import Direction, Gate
from dolphin.core.errors import ConfigError
from dolphin.core.params import DIRECTIONS, EngineParams, build_params
from dolphin.market.archive import ArchiveWriter
from dolphin.market.atomic import write_json_atomic
from dolphin.market.bookfiles import SIDES, BookDay, book_day
from dolphin.market.bookfolder import BookFolder
from dolphin.market.bookwriter import nanoseconds
from dolphin.ops.undisturbed import undisturbed
from dolphin.trade.live.loop import LiveLoop, Market
from dolphin.trade.live.pace import Pace
from dolphin.trade.live.tape import Tape

PERCENTILES = (50.0, 99.0, 99.9, 100.0)


class Spread(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds: the median, two high percentiles, the longest."""

    p50: float
    p99: float
    p999: float
    max: float


class Rehearsal(msgspec.Struct, frozen=True, kw_only=True):
    """What came of it. `ready` is from the moment a bar was due to its decision: begun late, read, features, scan,
    step. `event_to_feature` is the first three of these, for an event that came just before the bar was due.

    `book_age`: how old the books were that a bar used, of all assets. `first_difference` is empty when a replay of what
    the bars saw decided the same, bit for bit, and None when it was not replayed.
    """

    assets: int
    bar_seconds: float
    bars: int
    missed: int
    seconds: float
    ready: Spread
    event_to_feature: Spread
    late: Spread
    read: Spread
    features: Spread
    scan: Spread
    step: Spread
    book_age: Spread
    books_share: float
    bars_with_book: int
    gates: dict[str, int]
    trades: int
    capital: float
    first_difference: str | None

    @property
    def kept_up(self) -> bool:
        """Whether no bar was missed."""
        return self.missed == 0


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What to rehearse. Raises ConfigError (`checked`) for what is out of range."""

    bars: int
    bar_seconds: float = 0.1
    profile: str = "blue"
    capital: float = 25_000.0
    replayed: bool = True

    def checked(self) -> Plan:
        """The plan, if it is one."""
        if self.bars < 1:
            raise ConfigError(f"rehearsal: {self.bars} bars; expected at least 1")
        if not 0.01 <= self.bar_seconds <= 3600.0:
            raise ConfigError(f"rehearsal: bars of {self.bar_seconds:g} s; expected 0.01 to 3600")
        if self.profile not in DIRECTIONS:
            raise ConfigError(f"rehearsal: profile {self.profile!r}; expected {' or '.join(DIRECTIONS)}")
        if not 0.0 < self.capital < np.inf:
            raise ConfigError(f"rehearsal: capital {self.capital:g}; expected a finite number above 0")
        return self

    def engine(self, assets: Sequence[str]) -> NDAlphaEngine:
        """A champion of these assets, with a venue's costs left out: nothing is bought."""
        params: EngineParams = build_params({}, "none")
        direction: Direction = DIRECTIONS[self.profile]
        return NDAlphaEngine(params, assets, direction, self.capital)


def rehearse(
    plan: Plan,
    market: Market,
    assets: Sequence[str],
    *,
    advance: Callable[[int], object] = lambda _: None,
    stop: Callable[[], bool] = lambda: False,
    clock: Clock = system_clock_ns,
    wait: Callable[[], int] | None = None,
) -> tuple[Rehearsal, Tape]:
    """Take `plan.bars` bars of `market`, fewer when `stop` says so between two; what came of them, and their tape.

    `wait` waits for the next bar and says how late it is, nanoseconds; by default on this machine's clock.
    """
    plan.checked()
    loop = LiveLoop(plan.engine(assets), market, bar_seconds=plan.bar_seconds, clock=clock)
    tape = Tape(assets, plan.bar_seconds)
    times = np.zeros((plan.bars, 5), np.int64)
    gates: Counter[int] = Counter()
    with undisturbed():
        pace = Pace(round(plan.bar_seconds * NS_PER_S))
        begun = time.monotonic()
        for k in range(plan.bars):
            if stop():
                break
            late = pace.wait() if wait is None else wait()
            bar = loop.bar()
            times[k] = (late, *bar.laps)
            gates[int(bar.event.gate)] += 1
            tape.add(bar)
            advance(1)
        seconds = time.monotonic() - begun
    return _told(plan, tape, times[: len(tape)], gates, pace.missed, seconds, loop), tape


def save(folder: Path, done: Rehearsal, tape: Tape, source: dict[str, Any], *, force: bool = False) -> None:
    """Write the tape to `folder`: `prices` and `books`, as `dolphin backtest --data … --book …` takes them, and the
    figures in `rehearsal.json`. Raises ConfigError for folders that hold something and no `force`."""
    with ArchiveWriter(folder / "prices", "prices", tape.bar_seconds, source, force) as prices:
        for day in tape.price_days():
            prices.write(day)
    with BookFolder(folder / "books", source, force=force) as books:
        for book in _book_days(tape):
            books.write(book)
    write_json_atomic(folder / "rehearsal.json", {**msgspec.to_builtins(done), "source": source})


def _told(
    plan: Plan,
    tape: Tape,
    times: NDArray[np.int64],
    gates: Counter[int],
    missed: int,
    seconds: float,
    loop: LiveLoop,
) -> Rehearsal:
    difference = tape.compare(lambda: plan.engine(tape.assets)) if plan.replayed else None
    seen = tape.seen()["timestamp"]
    ages = (tape.ts_ns[:, None] / NS_PER_S - seen)[~np.isnan(seen)]
    return Rehearsal(
        assets=len(tape.assets),
        bar_seconds=plan.bar_seconds,
        bars=len(tape),
        missed=missed,
        seconds=seconds,
        ready=_spread(times.sum(axis=1) / 1e6),
        event_to_feature=_spread(times[:, :3].sum(axis=1) / 1e6),
        late=_spread(times[:, 0] / 1e6),
        read=_spread(times[:, 1] / 1e6),
        features=_spread(times[:, 2] / 1e6),
        scan=_spread(times[:, 3] / 1e6),
        step=_spread(times[:, 4] / 1e6),
        book_age=_spread(ages * 1e3),
        books_share=float(np.mean(~np.isnan(seen))) if seen.size else 0.0,
        bars_with_book=int((~np.isnan(seen)).any(axis=1).sum()),
        gates={Gate(gate).name: count for gate, count in sorted(gates.items())},
        trades=len(tape.trades),
        capital=loop.engine.capital,
        first_difference=None if not plan.replayed else "" if difference is None else str(difference),
    )


def _spread(values: NDArray[np.float64]) -> Spread:
    if not len(values):
        return Spread(p50=0.0, p99=0.0, p999=0.0, max=0.0)
    return Spread(**dict(zip(Spread.__struct_fields__, np.percentile(values, PERCENTILES).tolist(), strict=True)))


def _book_days(tape: Tape) -> Iterator[BookDay]:
    found = tape.snapshots()
    names = np.concatenate([np.full(len(rows), asset) for asset, rows in found.items()])
    rows = np.concatenate(list(found.values()))
    ts_ns = nanoseconds(rows["timestamp"])
    amounts = np.concatenate([rows[side] for side in SIDES], axis=1)
    for number in np.unique(ts_ns // NS_PER_DAY).tolist():
        mine = ts_ns // NS_PER_DAY == number
        yield book_day(ns_to_date(number * NS_PER_DAY), ts_ns[mine], names[mine], amounts[mine])
