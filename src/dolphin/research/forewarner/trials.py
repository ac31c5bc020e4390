"""Running trials: recorded days in memory, chained at the seams, through the engine that trades (SPEC §11, §12)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.core.codes import Direction, ExitReason
from dolphin.core.errors import DataError
from dolphin.core.params import EngineParams, build_params
from dolphin.market.archive import Archive
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestSpec, bars_of, stream_scans
from dolphin.research.forewarner.design import Blocks, TrainSpec, Trial
from dolphin.risk.forewarner.space import F8, SPACE

CATASTROPHE_DRAWDOWN, CATASTROPHE_ROI = 0.35, -0.25
NO_EDGE = {"ob_edge_bps": "0"}
"""Trials are not credited the modelled edge, which is no money: counting it would understate every risk."""

USABLE = 0.5
"""A day file with fewer than this share of the archive's usual rows is a stump, and no day to draw."""


@dataclass(frozen=True)
class Outcome:
    """What became of one trial: fractions, `max_drawdown` marked to market at every bar."""

    number: int
    roi: float
    max_drawdown: float
    trades: int

    @property
    def catastrophe(self) -> bool:
        """Drawdown beyond 35 %, or ROI below −25 %; a figure that is not finite is one too."""
        survived = self.max_drawdown <= CATASTROPHE_DRAWDOWN and self.roi >= CATASTROPHE_ROI
        return not (survived and math.isfinite(self.roi) and math.isfinite(self.max_drawdown))


@dataclass(frozen=True, eq=False)
class BankDay:
    """One recorded day, ready for the engine: BAR records (T,), closes (T, N), each asset's first and last price."""

    bars: Record
    closes: F8
    first: F8
    last: F8


@dataclass(frozen=True, eq=False)
class DayBank:
    """The recorded days of an archive in memory; read-only, shared by all workers."""

    assets: tuple[str, ...]
    days: dict[date, BankDay]


def usable_days(archive: Archive) -> tuple[date, ...]:
    """The days with at least half of the usual number of rows; the others are stumps at an archive's ends."""
    rows = {day: archive.entry(day).rows for day in archive.days}
    usual = sorted(rows.values())[len(rows) // 2]
    return tuple(day for day in archive.days if rows[day] >= USABLE * usual)


def load_days(spec: TrainSpec, advance: Callable[[int], None] | None = None) -> DayBank:
    """Read the days of `spec`, scanning them where the archive holds prices only; raises DataError for bad files.

    Memory: every day of the range, 8·T·(N + 9) bytes each."""
    archive = Archive.open(spec.data).select(spec.first, spec.last)
    wanted = set(usable_days(archive))
    days = {}
    for scans in stream_scans(BacktestSpec(data=spec.data, first=spec.first, last=spec.last)):
        if scans.day in wanted:
            days[scans.day] = _banked(scans)
        if advance is not None:
            advance(1)
    if not any(np.isfinite(d.bars.vel_div).any() for d in days.values()):
        raise DataError(f"{spec.data}: no bar has a signal, the windows never fill; expected a few whole days")
    return DayBank(archive.assets, days)


def run_trial(bank: DayBank, trial: Trial, capital: float) -> Outcome:
    """Replay one trial from scratch, SHORT, without circuit breaker and book (all multipliers 1)."""
    engine = NDAlphaEngine(trial_params(trial), bank.assets, Direction.SHORT, capital)
    trades = 0
    for contiguous, day, factors in chained(bank, trial.blocks):
        held = bank.days[day]
        trades += len(engine.begin_day(day, contiguous=contiguous))
        closes = held.closes if factors is None else held.closes * factors
        trades += len(engine.process_bars(held.bars, closes)[1])
        engine.end_day()
    trades += len(engine.close_open(ExitReason.END_OF_DATA))
    drawdown = float(engine.state.core.max_drawdown)
    return Outcome(trial.number, engine.capital / capital - 1.0, drawdown, trades)


def trial_params(trial: Trial) -> EngineParams:
    """The engine's parameters of a trial: its values, the champion's elsewhere, modelled friction without edge."""
    whole = {p.name for p in SPACE if p.integer}
    texts = {name: str(int(v)) if name in whole else repr(v) for name, v in trial.values.items()}
    return build_params({**texts, **NO_EDGE})


def chained(bank: DayBank, blocks: Blocks) -> Iterator[tuple[bool, date, F8 | None]]:
    """The trial's days in order: (follows on the day before, day, factors on its closes, float64 (N,)).

    At a seam each asset's prices are multiplied so that its first price in the new block is its last one in the old:
    histories continue and no return is made up. None stands for factors of 1. An asset without a price on one side
    keeps its recorded prices.
    """
    last = np.full(len(bank.assets), np.nan)
    for number, block in enumerate(blocks):
        factors = None if number == 0 else seam_factors(last, [bank.days[day].first for day in block])
        for k, day in enumerate(block):
            yield k > 0 or number == 0, day, factors
            closes = bank.days[day].last
            closes = closes if factors is None else closes * factors
            last = np.where(np.isfinite(closes), closes, last)


def seam_factors(last: F8, firsts: Sequence[F8]) -> F8:
    """last/first per asset, first being the block's earliest price; 1 where there is none, or no last one."""
    first = firsts[0]
    for later in firsts[1:]:
        first = np.where(np.isfinite(first), first, later)
    ratio = last / first
    return np.where(np.isfinite(ratio), ratio, 1.0)


def run_trials(bank: DayBank, trials: Sequence[Trial], spec: TrainSpec) -> Iterator[Outcome]:
    """The outcomes of `trials` in their order, computed by `spec.workers` threads: the engine's machine code lets go
    of the interpreter lock. What is not yet running is dropped when the caller stops."""
    with ThreadPoolExecutor(spec.workers, "trial") as pool:
        try:
            yield from pool.map(lambda trial: run_trial(bank, trial, spec.capital), trials)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _banked(scans: ScanDay) -> BankDay:
    closes = np.ascontiguousarray(scans.closes)
    valid = np.isfinite(closes) & (closes > 0.0)
    return BankDay(bars_of(scans), closes, _edge(closes, valid), _edge(closes[::-1], valid[::-1]))


def _edge(closes: F8, valid: NDArray[np.bool_]) -> F8:
    """Each column's first valid value, NaN where it has none, float64 (N,)."""
    rows = np.argmax(valid, axis=0)
    return np.where(valid.any(axis=0), closes[rows, np.arange(closes.shape[1])], np.nan)
