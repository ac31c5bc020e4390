"""Small runs inside a real NautilusTrader engine: markets of a few bars, where the engine enters when a test says so.

Asset selection, warm-up and direction confirmation are off, so that the first asset is sold (or bought) at every bar
whose signal is `ENTER`, for the whole capital: what happens at the venue can be worked by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.backtest.models import FillModel
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BookOrder
from nautilus_trader.model.enums import BookType, OrderSide
from nautilus_trader.model.objects import Quantity

from dolphin.alpha.layout import EVENT
from dolphin.alpha.rows import day_bars
from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.market.fundingfiles import FUNDING_EVENT
from dolphin.market.instruments import Instrument
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import bars_of
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus.actor import DolphinActor, DolphinActorConfig
from dolphin.trade.nautilus.backtest import VenueSpec, add_venue
from dolphin.trade.nautilus.instruments import VENUE, traded
from dolphin.trade.nautilus.market import Link, VenueMarket
from dolphin.trade.venue import FRICTIONLESS, VenueModel

DAY = date(2024, 1, 1)
DAY_NS = date_start_ns(DAY)
BAR_NS = 60 * NS_PER_S
CAPITAL = 10_000.0
SYMBOL = "BTCUSDT"
ENTER = -0.05
"""A signal of full strength for SHORT: fraction 0.2, leverage 5, a notional of the whole capital."""

OVERRIDES = {
    "use_asset_selection": "false",
    "lookback": "0",
    "dc_skip_contradicts": "false",
    "max_hold_bars": "3",
    "fixed_tp_pct": "0.5",
}
FREE = FRICTIONLESS
"""A venue without any cost, and no stop."""


def model(**terms: Any) -> VenueModel:
    """A venue that costs nothing but what `terms` say."""
    usual: dict[str, Any] = dict.fromkeys(("spread_bps", "slippage_bps", "latency_ms"), 0.0)
    return VenueModel(**{**usual, "fees": False, "stop_pct": None, **terms})


def instrument(symbol: str = SYMBOL, **terms: Any) -> Instrument:
    """A perpetual with a tick of 0.1 USDT and lots of 0.001, fees of 2 and 5 bps."""
    usual: dict[str, Any] = {"tick": "0.1", "lot": "0.001", "min_qty": "0.001", "max_qty": "1000", "min_notional": "5"}
    exact = {name: Decimal(str(value)) for name, value in {**usual, **terms}.items() if name != "max_leverage"}
    return Instrument(
        symbol=symbol,
        base=symbol.removesuffix("USDT"),
        quote="USDT",
        max_leverage=terms.get("max_leverage", 20),
        maint_margin=Decimal("0.005"),
        **exact,
    )


def block(
    closes: Sequence[Any] | np.ndarray,
    enter: Iterable[int] = (),
    day: date = DAY,
    *,
    signal: float = ENTER,
    first: int = 0,
) -> ScanBlock:
    """Minute bars of `day` from its row `first` on: `closes` (T,) of one asset or (T, N), entries wanted at `enter`."""
    prices = np.asarray(closes, dtype=np.float64)
    prices = prices.reshape(len(prices), -1)
    rows = len(prices)
    vel_div = np.zeros(rows)
    vel_div[list(enter)] = signal
    ts_ns = date_start_ns(day) + (first + np.arange(rows, dtype=np.int64)) * BAR_NS
    bars = day_bars(ts_ns, {"vel_div": vel_div, "v50": vel_div, "v750": np.zeros(rows)})
    bars.vol_regime_ok[:] = 1
    return ScanBlock(day, ts_ns, bars, prices, np.arange(rows, dtype=np.int64))


def scan_blocks(days: Sequence[ScanDay]) -> list[ScanBlock]:
    """Scan days as the venue run takes them, signals and all; the volatility regime is known from the start."""
    made = []
    for day in days:
        bars = bars_of(day)
        bars.vol_regime_ok[:] = 1
        made.append(ScanBlock(day.day, day.ts_ns, bars, day.closes, day.scan_number))
    return made


def after(days: int) -> date:
    """The day that comes `days` after the first."""
    return DAY + timedelta(days=days)


def at(row: int, offset_ns: int = 0, days: int = 0) -> int:
    """The instant of a bar of the first day, or of one `days` later."""
    return date_start_ns(after(days)) + row * BAR_NS + offset_ns


def payments(*rows: tuple[int, int, float, float]) -> np.ndarray:
    """FUNDING_EVENT records from (instant, column, rate, mark)."""
    return np.array(list(rows), FUNDING_EVENT)


def spec(terms: VenueModel = FREE, instruments: Sequence[Instrument] | None = None, **options: Any) -> VenueSpec:
    """What `run_venue` is given."""
    overrides = {**OVERRIDES, **options.pop("overrides", {})}
    usual: dict[str, Any] = {"capital": CAPITAL, "profile": "blue", "bar_seconds": 60.0}
    return VenueSpec(
        instruments=tuple(instruments or [instrument()]), model=terms, overrides=overrides, **{**usual, **options}
    )


class Thin(FillModel):
    """Whoever takes more than `size` base units at once gets no more than that."""

    def __init__(self, size: float) -> None:
        super().__init__(prob_fill_on_limit=1.0, prob_slippage=0.0)
        self.size = size

    def get_orderbook_for_fill_simulation(self, instrument: Any, order: Any, best_bid: Any, best_ask: Any) -> Any:
        """`size` at the best price of each side."""
        book = OrderBook(instrument_id=instrument.id, book_type=BookType.L2_MBP)
        size = Quantity(self.size, instrument.size_precision)
        book.add(BookOrder(OrderSide.BUY, best_bid, size, 1), 0, 0)
        book.add(BookOrder(OrderSide.SELL, best_ask, size, 2), 0, 0)
        return book


class Deep(FillModel):
    """A book of several prices a side: `sizes` base units, each `step` further away than the one before."""

    def __init__(self, sizes: Sequence[float], step: float) -> None:
        super().__init__(prob_fill_on_limit=1.0, prob_slippage=0.0)
        self._sizes, self._step = tuple(sizes), step

    def get_orderbook_for_fill_simulation(self, instrument: Any, order: Any, best_bid: Any, best_ask: Any) -> Any:
        """The book."""
        book = OrderBook(instrument_id=instrument.id, book_type=BookType.L2_MBP)
        for k, each in enumerate(self._sizes):
            size, beyond = Quantity(each, instrument.size_precision), k * self._step
            bid, ask = best_bid.as_double() - beyond, best_ask.as_double() + beyond
            book.add(BookOrder(OrderSide.BUY, instrument.make_price(bid), size, 2 * k + 1), 0, 0)
            book.add(BookOrder(OrderSide.SELL, instrument.make_price(ask), size, 2 * k + 2), 0, 0)
        return book


class LastEvent:
    """Hooks that keep the days' events: what the results are made of."""

    def __init__(self) -> None:
        self.events: list[np.ndarray] = []

    def attach(self, engine: Any) -> None:
        """See Hooks."""

    def begin_day(self, block: ScanBlock) -> None:
        """See Hooks."""

    def end_block(self, block: ScanBlock, events: Any, engine: Any) -> None:
        """See Hooks."""
        self.events.append(np.array(events, EVENT))


@dataclass
class Run:
    """A run with everything still in reach. `events` are Nautilus' order and position events, `quotes` the venue's."""

    engine: BacktestEngine
    actor: DolphinActor
    market: VenueMarket
    events: list[Any] = field(default_factory=list)
    quotes: list[Any] = field(default_factory=list)

    @property
    def trips(self) -> np.ndarray:
        """The desk's round trips."""
        return self.actor.desk.trips()

    @property
    def balance(self) -> float:
        """The account's USDT."""
        return float(self.engine.portfolio.account(VENUE).balance_total(USDT).as_double())

    @property
    def orders(self) -> list[Any]:
        """Every order, in the order of their making."""
        return sorted(self.market.orders, key=lambda order: str(order.client_order_id).rsplit("-", 1)[-1].zfill(6))

    def of(self, kind: str) -> list[Any]:
        """The events of a type."""
        return [event for event in self.events if type(event).__name__ == kind]

    def check_closed(self) -> None:
        """Nothing is left: no position, no order, and the account holds what the engine and the trips say."""
        assert self.actor.left_behind is None
        assert not self.engine.cache.positions_open()
        assert [order for order in self.orders if not order.is_closed] == []
        capital = self.actor.engine.capital
        assert abs(self.balance - capital) < 1e-6
        assert abs(CAPITAL + self.trips["net_pnl"].sum() - capital) < 1e-6


class EveryBar(VenueMarket):
    """Quotes a held instrument with a stop at every bar, needed or not."""

    def _is_near(self, prices: np.ndarray, entry: float, long: bool) -> np.ndarray:
        return prices > 0.0


@contextmanager
def venue_run(
    blocks: Sequence[ScanBlock],
    given: VenueSpec,
    *,
    fill_model: FillModel | None = None,
    market_type: type[VenueMarket] = VenueMarket,
    book_type: BookType = BookType.L1_MBP,
    hooks: Any = None,
    prepare: Callable[[Run], None] = lambda run: None,
    handlers: Mapping[str, Callable[[Run, Any], None]] | None = None,
) -> Iterator[Run]:
    """Run `blocks` as `run_venue` does, at a venue that may be worse than any of its models.

    `handlers` are called with the run and every event of a topic, while it runs.
    """
    terms = given.model
    assets = traded(given.instruments, terms)
    days = iter(blocks)
    market = market_type(Link(next(days), days), assets, terms, given.funding)
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))
    try:
        worse = {} if fill_model is None else {"fill_model": fill_model}
        add_venue(engine, assets, terms, given.capital, market, book_type=book_type, **worse)
        config = DolphinActorConfig(
            assets=tuple(one.terms.symbol for one in assets),
            profile=given.profile,
            overrides=dict(given.overrides),
            leverage=terms.leverage,
            stop_pct=terms.stop_pct,
        )
        actor = DolphinActor(config, assets, None, hooks)
        engine.add_strategy(actor)
        market.attach(engine, actor.on_funding)
        run = Run(engine, actor, market)
        for topic in ("events.order.*", "events.position.*"):
            engine.kernel.msgbus.subscribe(topic, run.events.append)
        engine.kernel.msgbus.subscribe("data.quotes.*", run.quotes.append)
        for topic, handler in (handlers or {}).items():
            engine.kernel.msgbus.subscribe(topic, lambda event, handler=handler: handler(run, event))
        prepare(run)
        engine.run(start=int(blocks[0].ts_ns[0]))
        market.finish()
        yield run
    finally:
        engine.dispose()
