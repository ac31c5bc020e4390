"""What everything at the venue stands on: that NautilusTrader is there and does what we take from it (Bible §18.2)."""

from __future__ import annotations

import importlib
import pkgutil
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import nautilus_trader
import numpy as np
import pytest
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.common.actor import Actor
from nautilus_trader.config import LoggingConfig, StrategyConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import Bar, BarType, CustomData, QuoteTick
from nautilus_trader.model.enums import AccountType, OmsType, OrderSide, PositionSide
from nautilus_trader.model.identifiers import InstrumentId
from nautilus_trader.model.objects import Money, Quantity
from nautilus_trader.persistence.catalog import ParquetDataCatalog
from nautilus_trader.trading.strategy import Strategy

import dolphin.trade.nautilus
from dolphin.core.codes import ExitReason
from dolphin.core.params import CHAMPION, champion_hash
from dolphin.market.instrumentfiles import load_instruments
from dolphin.trade.nautilus import require_nautilus
from dolphin.trade.nautilus.actor import DolphinActor
from dolphin.trade.nautilus.instruments import DATA_DECIMALS, VENUE, Traded, traded
from dolphin.trade.nautilus.scans import CUT_TYPE, SCAN_TYPE, Cut, Scan
from dolphin.trade.nautilus.settings import DolphinActorConfig
from dolphin.trade.ports import GridPort, MemoryGrid
from dolphin.trade.venue import FRICTIONLESS, VenueModel
from tests.support.actors import ASSET, FIRST, READY, block, days, price, run, stage

NOW = 1_704_067_200_000_000_000
MINUTE = 60_000_000_000


def perpetual(model: VenueModel = FRICTIONLESS) -> Traded:
    return traded(load_instruments().select((ASSET,)), model)[0]


def small_engine() -> BacktestEngine:
    return BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))


def add_venue(engine: BacktestEngine, one: Traded) -> None:
    engine.add_venue(
        venue=VENUE,
        oms_type=OmsType.NETTING,
        account_type=AccountType.MARGIN,
        starting_balances=[Money(100_000, USDT)],
        base_currency=USDT,
        default_leverage=Decimal(10),
    )
    engine.add_instrument(one.perpetual)


def quotes(one: Traded, prices: list[float]) -> list[QuoteTick]:
    at = [NOW + k * MINUTE for k in range(len(prices))]
    size = Quantity(1e6, one.terms.qty_decimals)
    make = one.perpetual.make_price
    return [QuoteTick(one.id, make(p), make(p), size, size, t, t) for p, t in zip(prices, at, strict=True)]


def test_the_version_is_the_one_we_know() -> None:
    assert nautilus_trader.__version__.startswith("1.231.")
    require_nautilus()


def test_every_module_of_the_room_imports() -> None:
    room = dolphin.trade.nautilus
    names = sorted(each.name for each in pkgutil.iter_modules(room.__path__))
    assert {"actor", "backtest", "desk", "instruments", "logger", "market", "scans", "settings"} <= set(names)
    for name in names:
        assert importlib.import_module(f"{room.__name__}.{name}").__doc__


def test_nobody_else_brings_it_along() -> None:
    """It is an extra: everything outside its room must do without."""
    code = (
        "import sys, dolphin.ui.cli, dolphin.trade.engines, dolphin.trade.ports, dolphin.trade.ledger, "
        "dolphin.research.venue; print([m for m in ('nautilus_trader', 'pandas') if m in sys.modules])"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"


def test_a_bar_type_and_its_bar() -> None:
    one = perpetual()
    kind = BarType.from_str(f"{one.id}-1-MINUTE-LAST-EXTERNAL")
    assert (str(kind.instrument_id), kind.spec.step) == ("BTCUSDT-PERP.BINANCE", 1)
    make = one.perpetual.make_price
    bar = Bar(kind, make(100.0), make(101.0), make(99.5), make(100.5), Quantity(3.0, 3), NOW, NOW)
    assert (bar.close.as_double(), bar.ts_event) == (100.5, NOW)
    with pytest.raises(ValueError, match="high"):
        Bar(kind, make(100.0), make(99.0), make(99.5), make(100.5), Quantity(3.0, 3), NOW, NOW)


def test_a_catalog_keeps_our_instruments(tmp_path: Path) -> None:
    catalog = ParquetDataCatalog(str(tmp_path))
    one = perpetual(VenueModel())
    catalog.write_data([one.perpetual])
    (back,) = catalog.instruments()
    assert (back.id, back.price_increment, back.taker_fee) == (
        one.id,
        one.perpetual.price_increment,
        one.perpetual.taker_fee,
    )


def test_every_bundled_instrument_becomes_a_perpetual_with_its_terms() -> None:
    table = load_instruments()
    terms = table.select(table.instruments)
    assert len(terms) > 40
    for one in traded(terms, VenueModel()):
        p = one.perpetual
        assert str(one.id) == f"{one.terms.symbol}-PERP.BINANCE"
        assert (p.price_increment.as_decimal(), p.size_increment.as_decimal()) == (one.terms.tick, one.terms.lot)
        assert (p.maker_fee, p.taker_fee) == (one.terms.maker_fee, one.terms.taker_fee)
        assert (p.quote_currency, p.settlement_currency, p.is_inverse) == (USDT, USDT, False)


def test_prices_as_recorded_are_finer_than_any_tick() -> None:
    p = perpetual(FRICTIONLESS).perpetual
    assert (p.price_precision, p.maker_fee, p.taker_fee) == (DATA_DECIMALS, 0, 0)
    assert DATA_DECIMALS >= 9
    assert p.make_price(price(1)).as_double() == pytest.approx(price(1), rel=2e-16)
    assert float(p.price_increment) < 1e-8


def test_an_actor_is_made_without_a_kernel() -> None:
    actor = DolphinActor(DolphinActorConfig(assets=(ASSET,)), [perpetual()])
    assert (actor.posture.name, actor.counts.bars, actor.is_running) == ("APEX", 0, False)
    assert not hasattr(actor, "engine")
    with pytest.raises(AttributeError):
        actor.log = object()


def test_the_champion_is_what_the_config_says_nothing_about() -> None:
    config = DolphinActorConfig(assets=(ASSET,))
    assert (config.profile, config.overrides, config.boost_mode, config.live_mode) == ("blue", {}, "acb", False)
    assert champion_hash() == champion_hash(CHAMPION) == "3e85f242030efb87"


def test_an_engine_with_the_actor_registered() -> None:
    with stage([block()]) as (engine, actor, _):
        assert engine.trader.strategies() == [actor]
        assert [str(v) for v in engine.list_venues()] == ["BINANCE"]
        assert str(actor.id) == "DolphinActor-000"


class Listener(Actor):
    """Keeps what reaches it, with the engine's time."""

    def on_start(self) -> None:
        self.got: list[tuple[int, Any]] = []
        self.subscribe_data(SCAN_TYPE)
        self.subscribe_data(CUT_TYPE)

    def on_data(self, data: Any) -> None:
        self.got.append((self.clock.timestamp_ns(), data))


def test_our_scans_and_cuts_go_through_a_real_engine() -> None:
    one = block(20)
    data = [CustomData(SCAN_TYPE, Scan(one, row, int(ts))) for row, ts in enumerate(one.ts_ns)]
    data.append(CustomData(CUT_TYPE, Cut(ExitReason.END_OF_DATA, int(one.ts_ns[-1]))))
    engine, listener = small_engine(), Listener()
    try:
        engine.add_actor(listener)
        engine.add_data_iterator("scans", iter([data[:7], data[7:]]))
        engine.run(start=int(one.ts_ns[0]))
    finally:
        engine.dispose()
    *scans, (last, cut) = listener.got
    assert [(now, d.row) for now, d in scans] == [(int(ts), row) for row, ts in enumerate(one.ts_ns)]
    assert all(d.block is one for _, d in scans), "the arrays were copied on their way"
    assert isinstance(cut, Cut)
    assert (last, cut.reason) == (int(one.ts_ns[-1]), ExitReason.END_OF_DATA)


class Turner(Strategy):
    """Sells 2 at the first quote, buys 3 at the second, sells 1 at the third."""

    def __init__(self, config: StrategyConfig, instrument: InstrumentId) -> None:
        super().__init__(config)
        self.instrument = instrument
        self.seen: list[tuple[str, Decimal, int]] = []
        self.turns = iter([(OrderSide.SELL, "2.000"), (OrderSide.BUY, "3.000"), (OrderSide.SELL, "1.000")])

    def on_start(self) -> None:
        self.subscribe_quote_ticks(self.instrument)

    def on_quote_tick(self, tick: QuoteTick) -> None:
        turn = next(self.turns, None)
        if turn is not None:
            side, size = turn
            self.submit_order(self.order_factory.market(self.instrument, side, Quantity.from_str(size)))

    def on_order_filled(self, event: Any) -> None:
        held = self.cache.positions_open()
        net = self.portfolio.net_position(self.instrument)
        self.seen.append((PositionSide(held[0].side).name if held else "FLAT", net, len(held)))


def test_the_venue_nets_an_instrument_into_one_position() -> None:
    one, engine = perpetual(), small_engine()
    strategy = Turner(StrategyConfig(), one.id)
    try:
        add_venue(engine, one)
        engine.add_strategy(strategy)
        engine.add_data(quotes(one, [100.0, 99.0, 101.0, 101.0]))
        engine.run()
        balance = engine.portfolio.account(VENUE).balance_total(USDT).as_double()
    finally:
        engine.dispose()
    assert strategy.seen[0] == ("SHORT", Decimal(-2), 1)
    assert strategy.seen[-1] == ("FLAT", Decimal(0), 0)
    assert ("LONG", Decimal(1), 1) in strategy.seen
    assert max(count for _, _, count in strategy.seen) == 1, "a hedging venue would hold two"
    # Short 2 from 100 to 99, long 1 from 99 to 101, nothing charged.
    assert balance == 100_000 + 2 * 1.0 + 2.0


def test_a_decision_is_filled_at_the_price_of_its_bar() -> None:
    (trip,) = run(days(2, deep=[READY])).trips
    expected = price(READY), price(READY + 120)
    assert (trip["entry_fill"], trip["exit_fill"]) == pytest.approx(expected, rel=1e-15)


def test_two_engines_in_one_process_do_not_know_each_other() -> None:
    with stage([block()]) as (one, first, _), stage([block()]) as (other, second, _):
        one.run()
        assert (first.counts.bars, second.counts.bars) == (130, 0)
        other.run()
        assert second.counts.bars == 130


def test_the_same_run_twice_is_the_same() -> None:
    one, two = (run(days(3, deep=[READY, 225]), model=VenueModel()) for _ in range(2))
    np.testing.assert_array_equal(one.trips, two.trips)
    assert (one.balance, len(one.trips)) == (two.balance, 2)


def test_a_grid_for_this_process_is_at_hand() -> None:
    grid: GridPort = MemoryGrid()
    heard: list[bytes] = []
    stop = grid.listen("DOLPHIN_FEATURES", "acb_boost", heard.append)
    grid.put("DOLPHIN_FEATURES", "acb_boost", b"1")
    stop()
    grid.put("DOLPHIN_FEATURES", "acb_boost", b"2")
    assert (grid.get("DOLPHIN_FEATURES", "acb_boost"), heard) == (b"2", [b"1"])
    assert grid.get("DOLPHIN_FEATURES", FIRST.isoformat()) is None
