"""A run of the engine inside Nautilus' BacktestEngine, over recorded scans (SPEC §13)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.backtest.models import FillModel, LatencyModel
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.enums import AccountType, OmsType
from nautilus_trader.model.objects import Money
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.core.clock import ns_to_iso
from dolphin.core.errors import DataError, DolphinError
from dolphin.market.fundingfiles import FUNDING_EVENT
from dolphin.market.instruments import Instrument
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus.actor import DolphinActor
from dolphin.trade.nautilus.instruments import VENUE, Traded, traded
from dolphin.trade.nautilus.logger import TradeLoggerActor, TradeLoggerConfig
from dolphin.trade.nautilus.market import BpsSlippage, Link, VenueMarket, latency_ns
from dolphin.trade.nautilus.reports import write_venue_reports
from dolphin.trade.nautilus.settings import Counts, DolphinActorConfig, Hooks
from dolphin.trade.ports import GridPort
from dolphin.trade.venue import VenueModel, check_leverage


@dataclass(frozen=True)
class VenueSpec:
    """What a venue run needs beside its bars.

    `funding` (FUNDING_EVENT records) is charged; with `logs` a TradeLoggerActor writes there, `settings` among it; with
    `reports` Nautilus' own reports are written there.
    """

    instruments: tuple[Instrument, ...]
    model: VenueModel
    capital: float
    profile: str
    overrides: Mapping[str, str]
    bar_seconds: float
    funding: NDArray[Any] = field(default_factory=lambda: np.empty(0, FUNDING_EVENT))
    logs: Path | None = None
    settings: Mapping[str, Any] | None = None
    reports: Path | None = None


@dataclass(frozen=True, eq=False)
class VenueRun:
    """What the run left. `trips` are ROUND_TRIP records; `balance` the account's USDT at the end; `skipped` and
    `refused` count entries not made and orders turned down, by reason; `lost_events` those that the log could not
    take."""

    trips: NDArray[Any]
    engine: NDAlphaEngine
    balance: float
    counts: Counts
    skipped: Mapping[str, int]
    refused: Mapping[str, int]
    left_behind: Mapping[str, Any] | None
    logged_events: int
    lost_events: int = 0


def run_venue(
    blocks: Iterator[ScanBlock], spec: VenueSpec, hooks: Hooks | None = None, grid: GridPort | None = None
) -> VenueRun:
    """Trade `blocks`, one a day and in order, at the simulated venue; what is open at the end closes at its last price.

    Determinism: a function of blocks and spec. Raises ConfigError or DataError for what cannot be traded, DolphinError
    when a rule of the run is broken inside Nautilus.
    """
    spec.model.check(spec.bar_seconds)
    check_leverage(spec.instruments, spec.model)
    first = next(blocks, None)
    if first is None:
        raise DataError("venue run: no day to trade; expected at least one")
    assets = traded(spec.instruments, spec.model)
    market = VenueMarket(Link(first, blocks), assets, spec.model, spec.funding)
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))
    try:
        add_venue(engine, assets, spec.model, spec.capital, market)
        actor, logger = _add_traders(engine, assets, spec, hooks, grid)
        market.attach(engine, actor.on_funding)
        # Its statistics grow by concatenating pandas series, one a trade, and nobody reads them: ours are elsewhere.
        engine.portfolio.analyzer.record_trade = lambda *_: None
        engine.run(start=int(first.ts_ns[0]))
        market.finish()
        account = engine.portfolio.account(VENUE)
        if not market.ended or actor.counts.bars != market.scans:  # Nautilus stops in silence when an account fails
            raise DolphinError(
                f"venue run: NautilusTrader stopped after {actor.counts.bars} bars, at "
                f"{ns_to_iso(engine.kernel.clock.timestamp_ns())}; expected all of them"
            )
        if spec.reports is not None:
            write_venue_reports(market.orders, market.positions, account, spec.reports)
        return VenueRun(
            trips=actor.desk.trips(),
            engine=actor.engine,
            balance=float(account.balance_total(USDT).as_double()),
            counts=actor.counts,
            skipped=dict(actor.desk.skipped),
            refused=dict(actor.desk.refused),
            left_behind=actor.left_behind,
            logged_events=0 if logger is None else logger.events - logger.lost,
            lost_events=0 if logger is None else logger.lost,
        )
    finally:
        engine.dispose()


def add_venue(
    engine: BacktestEngine,
    assets: Sequence[Traded],
    model: VenueModel,
    capital: float,
    market: VenueMarket,
    **worse: Any,
) -> None:
    """Put Binance USDT-M with these assets into `engine`: a margin account of `capital` USDT, one-way netting.

    `worse` are arguments of Nautilus' own `add_venue` that stand in for the model's: venues that no model describes.
    """
    ticks = {one.id: float(one.terms.tick) for one in assets} if model.grid == "venue" else {}
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[Money(capital, USDT)],
        base_currency=USDT,
        default_leverage=Decimal(model.leverage),
        modules=[market],
        latency_model=LatencyModel(latency_ns(model)) if model.latency_ms > 0.0 else None,
        **{"fill_model": BpsSlippage(model.slippage_bps, ticks) if model.slippage_bps > 0.0 else FillModel(), **worse},
    )
    for one in assets:
        engine.add_instrument(one.perpetual)


def _add_traders(
    engine: BacktestEngine, assets: Sequence[Traded], spec: VenueSpec, hooks: Hooks | None, grid: GridPort | None
) -> tuple[DolphinActor, TradeLoggerActor | None]:
    config = DolphinActorConfig(
        assets=tuple(one.terms.symbol for one in assets),
        profile=spec.profile,
        overrides=dict(spec.overrides),
        bar_seconds=spec.bar_seconds,
        leverage=spec.model.leverage,
        stop_pct=spec.model.stop_pct,
        largest_order=spec.model.largest_order,
    )
    actor = DolphinActor(config, assets, grid, hooks)
    engine.add_strategy(actor)
    logger = None
    if spec.logs is not None:
        logger = TradeLoggerActor(TradeLoggerConfig(folder=str(spec.logs), settings=dict(spec.settings or {})))
        engine.add_actor(logger)
    return actor, logger
