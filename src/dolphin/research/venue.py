"""A backtest inside NautilusTrader: the same days, layers and results as a replay, traded at a venue (SPEC §7, §13)."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.core.clock import iso_to_ns
from dolphin.core.errors import DolphinError
from dolphin.core.params import champion_hash
from dolphin.market.archive import Archive
from dolphin.market.fundingfiles import FundingRates, read_funding
from dolphin.market.instrumentfiles import load_instruments
from dolphin.market.instruments import Instrument, InstrumentTable
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import (
    Advance,
    BacktestResult,
    BacktestSpec,
    DayRecord,
    DaySink,
    bars_of,
    run_backtest,
    stream_scans,
)
from dolphin.research.bridge import Bridge, bridge
from dolphin.research.layers import Layers
from dolphin.research.parity import Parity, compare_trades
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.ledger import as_trades
from dolphin.trade.nautilus import require_nautilus
from dolphin.trade.venue import FRICTIONLESS, VenueModel, check_leverage

CENT = 0.005
"""The account and the engine may differ by less than half a cent: Nautilus rounds money to eight decimals."""


@dataclass(frozen=True)
class VenueOptions:
    """The venue beside the spec: its terms, an instrument table (None: the bundled one), recorded funding or none, and
    folders for the session's log and for Nautilus' own reports, each None for none."""

    model: VenueModel = field(default_factory=VenueModel)
    instruments: Path | None = None
    funding: Path | None = None
    logs: Path | None = None
    reports: Path | None = None


@dataclass(frozen=True)
class VenueTerms:
    """What `VenueOptions` name, read and checked: the table, the assets' instruments in order, recorded funding."""

    table: InstrumentTable
    instruments: tuple[Instrument, ...]
    funding: FundingRates | None

    @classmethod
    def of(cls, spec: BacktestSpec, options: VenueOptions) -> VenueTerms:
        """Read them for the spec's assets. Raises ConfigError or DataError for whatever a venue run would refuse."""
        archive = Archive.open(spec.data).select(spec.first, spec.last)
        options.model.check(archive.bar_seconds)
        table = load_instruments(options.instruments)
        instruments = table.select(archive.assets)
        check_leverage(instruments, options.model)
        return cls(table, instruments, None if options.funding is None else read_funding(options.funding))


@dataclass(frozen=True)
class VenueReport:
    """What a venue run has beside a replay's results. `trips` are its ROUND_TRIP records; `bridge` leads from the
    frictionless replay of the same days to this run, None when none was made."""

    model: VenueModel
    table: InstrumentTable
    funding: FundingRates | None
    trips: NDArray[Any]
    balance: float
    skipped: Mapping[str, int]
    refused: Mapping[str, int]
    withheld: Mapping[str, int]
    logged_events: int
    lost_events: int
    uncovered: tuple[str, ...] = ()
    bridge: Bridge | None = None

    def plain(self) -> dict[str, Any]:
        """For `summary.json`."""
        return {
            **self.model.plain(),
            "engine": "nautilus",
            "instruments": self.table.plain(),
            "funding": None
            if self.funding is None
            else {"source": str(self.funding.source), "hash": self.funding.identity(), "uncovered": self.uncovered},
            "balance_end": self.balance,
            "entries_skipped": dict(self.skipped),
            "entries_withheld": dict(self.withheld),
            "orders_refused": dict(self.refused),
            "events_logged": self.logged_events,
            "events_lost": self.lost_events,
        }


class _Days:
    """The days as the venue run asks for them, and what is kept of them: the run's `Hooks`."""

    def __init__(
        self, spec: BacktestSpec, record: DayRecord, layers: Layers, advance: Advance | None, sink: DaySink | None
    ) -> None:
        self._spec, self._record, self._layers = spec, record, layers
        self._advance, self._sink = advance, sink
        self._ahead: deque[ScanDay] = deque()

    def blocks(self) -> Iterator[ScanBlock]:
        """The days, read as they are needed."""
        for scans in stream_scans(self._spec):
            self._ahead.append(scans)
            yield ScanBlock(scans.day, scans.ts_ns, bars_of(scans), scans.closes, scans.scan_number)

    def attach(self, engine: NDAlphaEngine) -> None:
        """Let the engine ask the layers."""
        self._layers.attach(engine)

    def begin_day(self, block: ScanBlock) -> None:
        """Before the day's bars run."""
        while self._ahead[0].day != block.day:
            self._ahead.popleft()
        self._layers.begin_day(self._ahead[0])

    def end_block(self, block: ScanBlock, events: Record, engine: NDAlphaEngine) -> None:
        """After the day's bars and the fills that came of them."""
        scans = self._ahead.popleft()
        self._layers.take(scans, events, engine)
        self._record.take(scans, events, float(events.equity[-1]))
        if self._sink is not None:
            self._sink(scans, events)
        if self._advance is not None:
            self._advance(block.rows)


def run_venue_backtest(
    spec: BacktestSpec,
    options: VenueOptions,
    advance: Advance | None = None,
    sink: DaySink | None = None,
    layers: Layers | None = None,
    terms: VenueTerms | None = None,
) -> BacktestResult:
    """Trade `spec.data` at a simulated venue and give the results, as `run_backtest` does for a replay.

    `layers` and `terms` are those of `spec` and `options` when they have been read already. The engine's own friction
    is off whatever `spec.friction` says: the venue charges (SPEC §7). Raises ConfigError without NautilusTrader,
    DataError for an instrument that is missing, DolphinError when engine and account disagree.
    """
    require_nautilus()
    spec.params(), spec.direction()  # a bad spec is refused before data are read
    started = time.perf_counter()
    whole = Archive.open(spec.data)
    archive = whole.select(spec.first, spec.last)
    terms = terms or VenueTerms.of(spec, options)
    rates, span = terms.funding, _span(archive)
    from dolphin.trade.nautilus.backtest import VenueSpec, run_venue

    native = replace(spec, friction="native")
    record = DayRecord(whole, archive, spec.capital)
    layers = layers or Layers.of(native)
    days = _Days(native, record, layers, advance, sink)
    venue = VenueSpec(
        instruments=terms.instruments,
        model=options.model,
        capital=spec.capital,
        profile=spec.profile,
        overrides=spec.overrides,
        bar_seconds=archive.bar_seconds,
        **({} if rates is None else {"funding": rates.events(archive.assets, *span)}),
        logs=options.logs,
        settings=_settings(native, options, terms.table),
        reports=options.reports,
    )
    run = run_venue(days.blocks(), venue, days)
    if abs(run.balance - run.engine.capital) >= CENT:
        raise DolphinError(
            f"venue run: the account holds {run.balance:.4f} USDT and the engine {run.engine.capital:.4f}; expected "
            "the same to the cent"
        )
    trades = as_trades(run.trips, spec.capital)
    result = record.result(native, run.engine, layers, trades, time.perf_counter() - started)
    report = VenueReport(
        model=options.model,
        table=terms.table,
        funding=rates,
        trips=run.trips,
        balance=run.balance,
        skipped=run.skipped,
        refused=run.refused,
        withheld=run.counts.withheld,
        logged_events=run.logged_events,
        lost_events=run.lost_events,
        uncovered=() if rates is None else rates.uncovered(archive.assets, *span),
    )
    return replace(result, venue=report)


def frictionless_replay(
    spec: BacktestSpec, advance: Advance | None = None, layers: Layers | None = None
) -> BacktestResult:
    """The replay of the same days that a venue run is held against."""
    return run_backtest(replace(spec, friction="none"), advance, layers=layers)


def with_bridge(result: BacktestResult, replayed: BacktestResult | None = None) -> BacktestResult:
    """The venue run with the bridge from `replayed`, the frictionless replay of its days, which is run if not given."""
    if result.venue is None:
        return result
    plain = replayed or frictionless_replay(result.spec)
    crossed = bridge(plain.trades, result.venue.trips, result.assets)
    return replace(result, venue=replace(result.venue, bridge=crossed))


def check_parity(
    spec: BacktestSpec,
    options: VenueOptions,
    advance: Advance | None = None,
    replayed: BacktestResult | None = None,
) -> Parity:
    """Compare the replay without friction, run here if not given, with a venue that costs nothing: the same trades are
    expected (SPEC §13)."""
    model = msgspec.structs.replace(FRICTIONLESS, leverage=options.model.leverage)
    free = replace(options, model=model, funding=None, logs=None, reports=None)
    replayed = replayed or frictionless_replay(spec, advance)
    traded = run_venue_backtest(spec, free, advance)
    if traded.venue is None:
        raise DolphinError("parity: the venue run left no report")
    return compare_trades(replayed.trades, traded.venue.trips, replayed.assets)


def _span(archive: Archive) -> tuple[int, int]:
    """The first and the last bar's instant, UTC ns."""
    stamps = [stamp for day in archive.days for stamp in (archive.entry(day).first, archive.entry(day).last)]
    known = [iso_to_ns(stamp, "manifest") for stamp in stamps if stamp is not None]
    return (known[0], known[-1]) if known else (0, 0)


def _settings(spec: BacktestSpec, options: VenueOptions, table: InstrumentTable) -> dict[str, Any]:
    """What the session's log says that it was started with."""
    params = spec.params()
    return {
        "profile": spec.profile,
        "direction": spec.direction().name,
        "champion_hash": champion_hash(params.champion),
        "overrides": dict(spec.overrides),
        "capital": spec.capital,
        "data": str(spec.data),
        "venue": dict(options.model.plain()),
        "instruments": table.plain(),
        "funding": None if options.funding is None else str(options.funding),
    }
