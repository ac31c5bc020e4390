"""A backtest: an archive through the scanner and the engine, day by day, into results that fit in memory (SPEC §12,
§20)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.alpha.rows import day_bars
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Direction, ExitReason
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.params import DIRECTIONS, EngineParams, Friction, build_params
from dolphin.market.archive import Archive
from dolphin.market.tables import ScanDay
from dolphin.research.books import BookRun, BookSource, no_book_notes
from dolphin.research.circuit import BreakerRun
from dolphin.research.layers import Layers
from dolphin.research.reportdata import MAX_POINTS, decimate
from dolphin.research.scanning import scan_archive, warm_up_days
from dolphin.research.survival import SensorSource, SurvivalRun
from dolphin.scan.layout import GAP_BARS

if TYPE_CHECKING:
    from dolphin.research.gate import GateRun
    from dolphin.research.venue import VenueReport

Advance = Callable[[int], None]
DaySink = Callable[[ScanDay, Record], None]
"""Called after every day with its scans and its EVENT records, for whoever writes them down."""


@dataclass(frozen=True)
class BacktestSpec:
    """What to run. `overrides` are `--set` texts; `first` and `last` are days, both included.

    Four layers, each off when None: `factors`, a folder of factor files, turns the circuit breaker on (else boost 1
    and beta 0); `forewarner`, a model's folder, has every day judged; `sensors` turns the survival stack on (else
    APEX); `book`, recorded books or the mock, gives the engine its order book (else the legacy draw applies).
    """

    data: Path
    profile: str = "blue"
    capital: float = 25_000.0
    friction: Friction = "modelled"
    first: date | None = None
    last: date | None = None
    overrides: Mapping[str, str] = field(default_factory=dict)
    factors: Path | None = None
    forewarner: Path | None = None
    sensors: SensorSource | None = None
    book: BookSource | None = None

    def direction(self) -> Direction:
        """The profile's direction; ConfigError for an unknown profile."""
        if self.profile not in DIRECTIONS:
            raise ConfigError(f"--profile {self.profile}: no such profile; expected {' or '.join(DIRECTIONS)}")
        return DIRECTIONS[self.profile]

    def params(self) -> EngineParams:
        """The engine's parameters; ConfigError for a bad override, friction or capital."""
        if self.friction not in ("modelled", "none", "native"):
            raise ConfigError(f"--friction {self.friction}: expected modelled, none or native")
        if not (np.isfinite(self.capital) and self.capital > 0.0):
            raise ConfigError(f"--capital {self.capital:g}: expected a positive number of USDT")
        return build_params(self.overrides, self.friction)


@dataclass
class BacktestResult:
    """What a run leaves behind; memory grows with trades and days, not with bars."""

    spec: BacktestSpec
    params: EngineParams
    direction: Direction
    archive: Archive
    assets: tuple[str, ...]
    trades: NDArray[Any]
    days: list[date]
    day_equity: list[float]
    points: dict[str, NDArray[Any]]
    gates: NDArray[np.int64]
    bars: int
    bars_in_position: int
    max_drawdown: float
    capital_end: float
    state_hash: str
    wall_s: float
    notes: tuple[str, ...]
    breaker: BreakerRun | None = None
    gate: GateRun | None = None
    survival: SurvivalRun | None = None
    book: BookRun | None = None
    venue: VenueReport | None = None


def run_backtest(
    spec: BacktestSpec, advance: Advance | None = None, sink: DaySink | None = None, layers: Layers | None = None
) -> BacktestResult:
    """Replay `spec.data` and give the results.

    `layers` are those of `spec`, fresh, when they have been read already. `advance` is called with the number of bars
    done after each day. What is open at the end closes at the last price, reason END_OF_DATA; between files that are
    not consecutive days, reason DATA_GAP (SPEC §6). Raises DataError or ConfigError for bad input. Determinism: a
    function of the archive and the spec alone."""
    replay = Replay(spec, layers)
    for scans in stream_scans(spec):
        events = replay.take(scans)
        if sink is not None:
            sink(scans, events)
        if advance is not None:
            advance(scans.rows)
    return replay.result()


class Replay:
    """One engine and its risk layers on their way through the days of an archive; `take` wants them in order."""

    def __init__(self, spec: BacktestSpec, layers: Layers | None = None) -> None:
        self._started = time.perf_counter()
        self.spec, params, direction = spec, spec.params(), spec.direction()
        whole = Archive.open(spec.data)
        self.archive = whole.select(spec.first, spec.last)
        self._layers = layers or Layers.of(spec)
        self._engine = NDAlphaEngine(params, self.archive.assets, direction, spec.capital)
        self._layers.attach(self._engine)
        self._trades: list[NDArray[Any]] = []
        self._record = DayRecord(whole, self.archive, spec.capital)

    def take(self, scans: ScanDay) -> Record:
        """Step one day's bars; give its EVENT records (T,)."""
        engine = self._engine
        self._trades.append(engine.begin_day(scans.day))
        self._layers.begin_day(scans)
        events, closed = engine.process_bars(bars_of(scans), scans.closes)
        self._trades.append(closed)
        self._layers.take(scans, events, engine)
        if scans.day == self.archive.days[-1]:
            self._trades.append(_close_at_end(engine, events))
        self._record.take(scans, events, float(engine.end_day()["equity"]))
        return events

    def result(self) -> BacktestResult:
        """What the days have come to."""
        trades = np.concatenate([np.asarray(t) for t in self._trades])
        return self._record.result(self.spec, self._engine, self._layers, trades, time.perf_counter() - self._started)


class DayRecord:
    """What is kept of a run's days, whoever steps them: day's ends, drawable series, remarks."""

    def __init__(self, whole: Archive, archive: Archive, capital: float) -> None:
        self._archive = archive
        self._points: list[dict[str, NDArray[Any]]] = []
        self._day_equity: list[float] = []
        self._notes = _Notes(whole, archive)
        self._per_day = max(40, MAX_POINTS // len(archive.days))
        self._peak = capital

    def take(self, scans: ScanDay, events: Record, equity: float) -> None:
        """One day, its EVENT records (T,) and the equity it ended with, USDT."""
        self._day_equity.append(equity)
        thinned, self._peak = _thin(scans, events, self._peak, self._per_day)
        self._points.append(thinned)
        self._notes.take(scans)

    def result(
        self, spec: BacktestSpec, engine: NDAlphaEngine, layers: Layers, trades: NDArray[Any], wall_s: float
    ) -> BacktestResult:
        """The run as a whole, after its last day; `trades` are TRADE records."""
        core = engine.state.core
        bookless = no_book_notes(spec.friction) if layers.book is None else ()
        return BacktestResult(
            spec=spec,
            params=engine.params,
            direction=engine.direction,
            archive=self._archive,
            assets=self._archive.assets,
            trades=trades,
            days=list(self._archive.days),
            day_equity=self._day_equity,
            points={name: np.concatenate([p[name] for p in self._points]) for name in self._points[0]},
            gates=np.array(core.gates),
            bars=int(core.bar_count),
            bars_in_position=int(core.bars_in_position),
            max_drawdown=float(core.max_drawdown),
            capital_end=engine.capital,
            state_hash=engine.state_hash(),
            wall_s=wall_s,
            notes=(*self._notes.lines(), *bookless, *layers.notes()),
            breaker=None if layers.breaker is None else layers.breaker.run(),
            gate=None if layers.gate is None else layers.gate.run(),
            survival=None if layers.survival is None else layers.survival.run(),
            book=None if layers.book is None else layers.book.run(),
        )


def bars_of(scans: ScanDay) -> Record:
    """The day's BAR records."""
    return day_bars(scans.ts_ns, replay_signals(scans))


def _close_at_end(engine: NDAlphaEngine, events: Record) -> Record:
    """Close what is open, and let the last bar's event show the capital after it: the curve ends where the run ends."""
    closed = engine.close_open(ExitReason.END_OF_DATA)
    if len(events):
        events[-1].capital, events[-1].equity = engine.capital, engine.state.core.equity
    return closed


def stream_scans(spec: BacktestSpec) -> Iterator[ScanDay]:
    """The days of `spec`, scanned on the fly where the archive holds prices only."""
    whole = Archive.open(spec.data)
    if whole.kind == "prices":
        yield from scan_archive(whole, spec.first, spec.last)
        return
    for day in whole.select(spec.first, spec.last).iter_days():
        if not isinstance(day, ScanDay):
            raise DataError(f"{whole.folder}/{day.day}.parquet: holds prices among scans")
        yield day


def replay_signals(scans: ScanDay) -> dict[str, NDArray[np.float64]]:
    """The signal columns that the engine reads, float64 (T,) each."""
    return {
        "vel_div": scans.signal("vel_div"),
        "v50": scans.signal("v50_lambda_max_velocity"),
        "v750": scans.signal("v750_lambda_max_velocity"),
    }


def _thin(scans: ScanDay, events: Record, peak: float, limit: int) -> tuple[dict[str, NDArray[Any]], float]:
    """The day's drawable series, no spike lost, and the running equity peak."""
    equity = np.array(events.equity)
    peaks = np.maximum.accumulate(np.maximum(equity, peak)) if len(equity) else equity
    columns = {
        "equity": equity,
        "drawdown": 1.0 - equity / peaks,
        "vel_div": np.array(events.vel_div),
        "in_position": np.array(events.in_position) != 0,
    }
    entries = np.flatnonzero(np.asarray(events.gate) == 0)
    ts, thin = decimate(scans.ts_ns, columns, limit, keep=entries)
    return {"ts_ns": ts, **thin}, float(peaks[-1]) if len(peaks) else peak


class _Notes:
    """Remarks that a reader of the result must see: late starts, gaps, missing days."""

    def __init__(self, whole: Archive, archive: Archive) -> None:
        self._gap_ns = int((GAP_BARS + 0.5) * archive.bar_seconds * 1e9)
        self._lines: list[str] = []
        self._last_ts = 0
        self._signal_seen = False
        self._bars_before_signal = 0
        if whole.kind == "prices":
            warm = warm_up_days(whole, archive.days[0])
            if warm:
                self._lines.append(f"Scanner warmed up on {len(warm)} earlier day(s) from {warm[0]}.")

    def take(self, scans: ScanDay) -> None:
        """Look at one day's stamps and signal."""
        ts = np.concatenate(([self._last_ts], scans.ts_ns)) if self._last_ts else scans.ts_ns
        for k in np.flatnonzero(np.diff(ts) > self._gap_ns):
            before, after = ns_to_iso(int(ts[k])), ns_to_iso(int(ts[k + 1]))
            self._lines.append(f"Gap: no bars between {before} and {after}; the windows restart after it.")
        if not self._signal_seen:
            known = np.flatnonzero(np.isfinite(scans.signal("vel_div")))
            if len(known):
                self._signal_seen = True
                row = int(known[0])
                if self._bars_before_signal + row:
                    self._lines.append(
                        f"The first {self._bars_before_signal + row} bars have no signal: the windows fill until "
                        f"{ns_to_iso(int(scans.ts_ns[row]))}."
                    )
            else:
                self._bars_before_signal += scans.rows
        if scans.rows:
            self._last_ts = int(scans.ts_ns[-1])

    def lines(self) -> tuple[str, ...]:
        """The remarks, the endless ones cut short."""
        if not self._signal_seen:
            self._lines.append("No bar has a signal: the windows never fill. Nothing could be traded.")
        if len(self._lines) > 20:
            return (*self._lines[:20], f"… and {len(self._lines) - 20} more remarks of this kind.")
        return tuple(self._lines)
