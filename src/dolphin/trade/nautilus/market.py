"""The simulated venue's side of a replay: which quotes it sees, how far orders reach, what funding costs.

Fifty streams of bars cost Nautilus twenty times what the trading itself does, and nearly all of them move an instrument
that nobody holds. So the scans are the one stream that always flows, and a quote is made where it can matter: of an
instrument when an order for it is sent, where latency lets an order arrive later, at the price between the two bars
around that instant, and of a held one at the bars whose price has come half the way to its stop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from nautilus_trader.backtest.config import SimulationModuleConfig
from nautilus_trader.backtest.engine import BacktestEngine
from nautilus_trader.backtest.models import FillModel
from nautilus_trader.backtest.modules import SimulationModule
from nautilus_trader.model.book import OrderBook
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import BookOrder, CustomData, QuoteTick
from nautilus_trader.model.enums import BookType, OrderSide, OrderType
from nautilus_trader.model.events import OrderInitialized, PositionClosed, PositionOpened
from nautilus_trader.model.identifiers import InstrumentId, PositionId
from nautilus_trader.model.objects import Money, Quantity
from nautilus_trader.model.orders import Order
from nautilus_trader.model.position import Position
from numpy.typing import NDArray

from dolphin.core.codes import ExitReason
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus.instruments import Traded
from dolphin.trade.nautilus.scans import CUT_TYPE, SCAN_TYPE, Cut, Scan
from dolphin.trade.quotes import beyond, bid_ask
from dolphin.trade.venue import VenueModel

_DEPTH = 1e9
"""Base units at the best bid and ask: more than any order of ours takes."""

_AHEAD = 8
"""Quotes of a held instrument made at a time."""

_NEAR = 0.5
"""The part of the way from the entry to the stop from which on quotes are made. A stop lies a tick, and a later fill of
the same entry, from where the first fill puts it: far less than the other half."""

_WIDE = 0.25
"""A spread of this part of the stop's distance, or more, has every bar quoted."""

_CUTS = 5
"""How often the end of the market is told, two latencies apart: to an entry under way, its exit and their stop
(docs/decisions/0039)."""

_NEVER = 2**63 - 1

Charge = Callable[[int, float], None]
"""Told the column and the signed USDT of every funding payment."""


class Link:
    """A block in the chain of a run's days; the next one is read when somebody asks for it."""

    __slots__ = ("_next", "_source", "block")

    def __init__(self, block: ScanBlock, source: Iterator[ScanBlock]) -> None:
        self.block, self._source = block, source
        self._next: Link | None = None

    def next(self) -> Link | None:
        """The link after this one; None at the end of the data."""
        if self._next is None:
            block = next(self._source, None)
            self._next = None if block is None else Link(block, self._source)
        return self._next


class VenueMarket(SimulationModule):
    """Feeds scans and quotes to the engine, and charges funding. One per run.

    A held instrument's quote is stamped one nanosecond before the bar that it belongs to: a stop at the venue goes off
    before the scan made from that price is known. Causality: a decision at a bar sees nothing of this; only an order
    under way is moved, by the price between this bar and the next. `funding` are FUNDING_EVENT records in time order.
    `scans` counts the bars handed out, and `ended` says that those were all.
    """

    def __init__(self, first: Link, assets: Sequence[Traded], model: VenueModel, funding: NDArray[Any]) -> None:
        super().__init__(SimulationModuleConfig())
        self._assets, self._model, self._funding = assets, model, funding
        self._columns = {each.id: column for column, each in enumerate(assets)}
        self._at = first
        self._last = np.full(len(assets), np.nan)  # prices of the days before: never of a bar that is yet to come
        self._quoted = np.full(len(assets), -1, np.int64)
        self._held: dict[int, int] = {}
        self._streams = 0
        self._due = 0
        self._due_ns = int(funding["ts_ns"][0]) if len(funding) else _NEVER
        self._engine: BacktestEngine | None = None
        self._charge: Charge | None = None
        self._closed: list[PositionId] = []
        self.scans, self.ended = 0, False
        self.orders: list[Order] = []
        self.positions: list[Position] = []

    def attach(self, engine: BacktestEngine, charge: Charge) -> None:
        """Join a run: its data are the scans; its orders and positions are listened to."""
        self._engine, self._charge = engine, charge
        engine.add_data_iterator("scans", self._scans())
        self.msgbus.subscribe("events.order.*", self._on_order)
        self.msgbus.subscribe("events.position.*", self._on_position)

    def _scans(self) -> Iterator[list[CustomData]]:
        link: Link | None = self._at
        while link is not None:
            block, after = link.block, link.next()
            data = [CustomData(SCAN_TYPE, Scan(block, row, ts)) for row, ts in enumerate(block.ts_ns.tolist())]
            if after is None or (after.block.day - block.day).days != 1:
                reason = ExitReason.END_OF_DATA if after is None else ExitReason.DATA_GAP
                step = 2 * latency_ns(self._model)
                cuts = range(_CUTS if step else 1)
                data += [CustomData(CUT_TYPE, Cut(reason, int(block.ts_ns[-1]) + k * step)) for k in cuts]
            self.scans += block.rows
            yield data
            # Asked for more as the last of these is handed out: the days before are done with.
            for column in self._held:
                known = block.closes[block.closes[:, column] > 0.0, column]
                if len(known):
                    self._last[column] = known[-1]
            self._at, link = link, after
        self.ended = True

    def _on_order(self, event: Any) -> None:
        """An order is on its way: the venue must have a price for it, now and when it arrives."""
        if not isinstance(event, OrderInitialized) or self._engine is None:
            return
        self._put_away()
        column, now = self._columns[event.instrument_id], int(self.clock.timestamp_ns())
        if self._quoted[column] != now:
            quote = self._quotes(column, np.array([self._price(column, now)]), np.array([now]))[0]
            self.exchange.process_quote_tick(quote)
            self._engine.kernel.data_engine.process(quote)
        if self._model.latency_ms > 0.0:
            then = now + latency_ns(self._model)
            self._stream(iter([self._quotes(column, np.array([self._price(column, then)]), np.array([then]))]))

    def _on_position(self, event: Any) -> None:
        if isinstance(event, PositionOpened):
            column = self._columns[event.instrument_id]
            self._held[column] = self._streams
            if self._model.stop_pct is not None:
                self._stream(self._while_held(column, self._streams, event.avg_px_open, event.entry == OrderSide.BUY))
        elif isinstance(event, PositionClosed):
            self._held.pop(self._columns[event.instrument_id], None)
            self._closed.append(event.position_id)

    def _put_away(self) -> None:
        """Take what is done with out of Nautilus' cache, into `orders` and `positions`.

        Under netting a position that opens again is pickled three times and read back for every figure of its
        instrument, and every query of orders walks through all there ever were: a run's cost would grow with its
        square.
        """
        if not self._closed:
            return
        for position_id in self._closed:
            position = self.cache.position(position_id)
            if position is not None and position.is_closed:
                self.positions.append(position)
                self.cache.purge_position(position_id)
        self._closed.clear()
        for order in self.cache.orders_closed():
            self.orders.append(order)
            self.cache.purge_order(order.client_order_id)

    def finish(self) -> None:
        """After the run: what the cache still holds joins `orders` and `positions`."""
        self.orders += self.cache.orders()
        self.positions += self.cache.positions()

    def _while_held(self, column: int, number: int, entry: float, long: bool) -> Iterator[list[QuoteTick]]:
        """The quotes that could set off the instrument's stop, from the next bar on, a few at a time, until stream
        `number` is not wanted; and each day's last one, with which the next day is asked for."""
        now = int(self.clock.timestamp_ns())
        link: Link | None = self._locate(now)
        row = int(np.searchsorted(link.block.ts_ns, now + 1, "right")) if link is not None else 0
        while link is not None:
            block = link.block
            prices = block.closes[row:, column]
            rows = np.flatnonzero(self._is_near(prices, entry, long))
            valid = np.flatnonzero(prices > 0.0)
            if len(valid) and (not len(rows) or rows[-1] != valid[-1]):
                rows = np.append(rows, valid[-1])
            for start in range(0, len(rows), _AHEAD):
                if self._held.get(column) != number:
                    return
                some = rows[start : start + _AHEAD]
                yield self._quotes(column, prices[some], block.ts_ns[row + some] - 1)
            if self._held.get(column) != number:
                return
            link, row = link.next(), 0

    def _is_near(self, prices: NDArray[np.float64], entry: float, long: bool) -> NDArray[np.bool_]:
        """Which prices are near the stop of a position entered at `entry`; one that is missing is not."""
        stop = self._model.stop_pct or 0.0
        if self._model.spread_bps * 1e-4 >= _WIDE * stop:
            return prices > 0.0
        if long:
            return (prices > 0.0) & (prices <= entry * (1.0 - _NEAR * stop))
        return prices >= entry * (1.0 + _NEAR * stop)

    def _stream(self, quotes: Iterator[list[QuoteTick]]) -> None:
        self._streams += 1
        if self._engine is not None:
            self._engine.add_data_iterator(f"quotes-{self._streams}", quotes)

    def _locate(self, now: int) -> Link:
        """The day that `now` falls into, or the one before when it falls between two."""
        link, after = self._at, self._at.next()
        while after is not None and after.block.ts_ns[0] <= now:
            link, after = after, after.next()
        return link

    def _price(self, column: int, now: int) -> float:
        """The asset's price at `now`: a bar's close at its instant, and on a straight line between two of them."""
        link, row, price = self._close(column, now)
        self._last[column] = price
        ts, follows = int(link.block.ts_ns[row]), self._follows(link, row, column)
        if now > ts and follows is not None:
            price += (follows[1] - price) * (now - ts) / (follows[0] - ts)
        return price

    def _close(self, column: int, now: int) -> tuple[Link, int, float]:
        """The bar at or before `now`, and the asset's last known close then."""
        link = self._locate(now)
        row = int(np.searchsorted(link.block.ts_ns, now, "right")) - 1
        known = link.block.closes[: row + 1, column]
        valid = np.flatnonzero(known > 0.0)
        return link, row, float(known[valid[-1]]) if len(valid) else float(self._last[column])

    def _follows(self, link: Link, row: int, column: int) -> tuple[int, float] | None:
        """Stamp and close of the bar after `row`; None when the market has a gap there or the asset no price."""
        if row + 1 >= link.block.rows:
            after = link.next()
            if after is None or (after.block.day - link.block.day).days != 1:
                return None
            link, row = after, -1
        stamp, close = int(link.block.ts_ns[row + 1]), float(link.block.closes[row + 1, column])
        return (stamp, close) if close > 0.0 else None

    def _quotes(self, column: int, prices: NDArray[np.float64], stamps: NDArray[np.int64]) -> list[QuoteTick]:
        """Bid and ask around `prices`, on the tick where the model asks for that."""
        perpetual = self._assets[column].perpetual
        tick = float(self._assets[column].terms.tick) if self._model.grid == "venue" else None
        bid, ask = bid_ask(prices, stamps, self._model.spread_bps, tick)
        self._quoted[column] = stamps[-1]
        depth, at = np.full(len(prices), _DEPTH), stamps.astype(np.uint64)
        made: list[QuoteTick] = QuoteTick.from_raw_arrays_to_list(
            perpetual.id, perpetual.price_precision, perpetual.size_precision, bid, ask, depth, depth, at, at
        )
        return made

    def pre_process(self, data: Any) -> None:
        """Before a quote reaches the book: what was due until then is charged on what is held until then. Whoever is
        filled by this quote, a stop say, must find it in the cache, where Nautilus puts it only afterwards."""
        if data.ts_init >= self._due_ns:
            self._settle_funding(data.ts_init)
        if isinstance(data, QuoteTick):
            self.cache.add_quote_tick(data)

    def process(self, ts_now: int) -> None:
        """After everything that happened at `ts_now`."""
        if ts_now >= self._due_ns:
            self._settle_funding(ts_now)

    def _settle_funding(self, now: int) -> None:
        """Charge what is due until `now`: longs pay a positive rate. Who opened at the very instant pays nothing."""
        funding = self._funding
        while self._due_ns <= now:
            payment, due = funding[self._due], self._due_ns
            self._due += 1
            self._due_ns = int(funding["ts_ns"][self._due]) if self._due < len(funding) else _NEVER
            column = int(payment["column"])
            if column not in self._held:
                continue
            for position in self.cache.positions_open(None, self._assets[column].id):
                if position.ts_opened >= due:
                    continue
                mark = float(payment["mark"])
                price = mark if mark > 0.0 else self._close(column, due)[2]
                paid = Money(-float(payment["rate"]) * position.signed_qty * price, USDT)
                self.exchange.adjust_account(paid)
                if self._charge is not None:
                    self._charge(column, paid.as_double())

    def log_diagnostics(self, logger: Any) -> None:
        """Nothing to add: funding is in the trades."""

    def reset(self) -> None:
        """A market serves one run."""


class BpsSlippage(FillModel):
    """Market orders, and stops once triggered, are filled `bps` beyond the best price, to the nearest tick."""

    def __init__(self, bps: float, ticks: dict[InstrumentId, float]) -> None:
        super().__init__(prob_fill_on_limit=1.0, prob_slippage=0.0)
        self._bps, self._ticks = bps, ticks

    def get_orderbook_for_fill_simulation(self, instrument: Any, order: Any, best_bid: Any, best_ask: Any) -> Any:
        """A book with one price a side; None, the quotes themselves, for orders that wait for a price."""
        if order.order_type not in (OrderType.MARKET, OrderType.STOP_MARKET):
            return None
        tick = self._ticks.get(instrument.id)
        bid, ask = beyond(best_bid.as_double(), -self._bps, tick), beyond(best_ask.as_double(), self._bps, tick)
        book = OrderBook(instrument_id=instrument.id, book_type=BookType.L2_MBP)
        size = Quantity(_DEPTH, instrument.size_precision)
        book.add(BookOrder(OrderSide.BUY, instrument.make_price(bid), size, 1), 0, 0)
        book.add(BookOrder(OrderSide.SELL, instrument.make_price(ask), size, 2), 0, 0)
        return book


def latency_ns(model: VenueModel) -> int:
    """The model's latency in nanoseconds."""
    return round(model.latency_ms * 1e6)
