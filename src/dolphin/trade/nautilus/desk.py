"""The order desk: a wish of the engine becomes orders, and what comes of them becomes the engine's position (SPEC §13).

One position at a time. Entry and exit are market orders, immediate or cancel: what a thin market leaves of them dies at
once, so that no part of an order can be filled when nobody waits for it any more (docs/decisions/0038). Behind every
position stands a reduce-only stop at the venue. The engine hears of a position when it is filled, at the price and in
the quantity that it was filled.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from operator import mul
from typing import Any

import numpy as np
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.enums import OrderSide, TimeInForce
from nautilus_trader.model.objects import Quantity
from nautilus_trader.trading.strategy import Strategy
from numpy.typing import NDArray

from dolphin.alpha.fills import Fills, Wanted
from dolphin.core.codes import ExitReason
from dolphin.trade.ledger import ROUND_TRIP
from dolphin.trade.nautilus.instruments import VENUE, Traded

_SAME_PRICE = 1e-12
"""Relative difference below which a fill was made at the decision's price: Nautilus keeps prices as whole numbers."""


class _Leg:
    """One side of a round trip as it fills."""

    def __init__(self, decided: float) -> None:
        self.decided = decided
        self.quantity = Decimal(0)
        self.fees = 0.0
        self.ts_ns = 0
        self._prices: list[float] = []
        self._mids: list[float] = []
        self._amounts: list[float] = []

    def take(self, quantity: Decimal, price: float, mid: float, fee: float, ts_ns: int) -> None:
        if abs(price - self.decided) <= _SAME_PRICE * self.decided:
            price = self.decided
        self.quantity += quantity
        self._prices.append(price)
        self._mids.append(mid)
        self._amounts.append(float(quantity))
        self.fees -= fee
        self.ts_ns = ts_ns

    @property
    def price(self) -> float:
        """Mean price paid."""
        return self._mean(self._prices)

    @property
    def mid(self) -> float:
        """Mean of the market's middle at the fills."""
        return self._mean(self._mids)

    def _mean(self, values: list[float]) -> float:
        if min(values) == max(values):  # exactly that and no quotient, whatever the quantity
            return values[0]
        return sum(map(mul, values, self._amounts)) / float(self.quantity)


class _Position:
    """What is held, or on its way in or out."""

    def __init__(self, wanted: Wanted, asset: Traded, order: Any) -> None:
        self.wanted, self.asset, self.entry_order = wanted, asset, order
        self.entry = _Leg(wanted.price)
        self.exit = _Leg(float("nan"))
        self.stop_order: Any = None  # the one that stands, or is on its way; those it replaced are in `stops`
        self.exit_order: Any = None
        self.stops: dict[Any, Any] = {}
        self.reason = ExitReason.NONE
        self.exit_bar, self.exit_ts = -1, 0
        self.funding = 0.0

    @property
    def held(self) -> Decimal:
        """Base units open."""
        return self.entry.quantity - self.exit.quantity


class OrderDesk:
    """Turns wishes into orders for `strategy`, and fills into the engine's position.

    `skipped` counts entries that became no position, by reason; `refused` orders that the venue turned down or filled
    in part only, and entries cut to the largest order that it takes. `trips` are the finished round trips. `touched` is
    set by everything that moves the engine's position.
    """

    def __init__(
        self,
        strategy: Strategy,
        fills: Fills,
        assets: Sequence[Traded],
        *,
        side: int,
        leverage: int,
        stop_pct: float | None,
        largest_order: bool = True,
    ) -> None:
        self._strategy, self._fills, self._assets = strategy, fills, assets
        self._side, self._leverage, self._stop_pct, self._cut = side, leverage, stop_pct, largest_order
        self._position: _Position | None = None
        self._trips: list[tuple[Any, ...]] = []
        self.skipped: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.touched = False

    @property
    def finished(self) -> int:
        """How many round trips are complete."""
        return len(self._trips)

    def enter(self, wanted: Wanted) -> None:
        """Send the entry, whole lots of it; skipped with a reason where the venue would not take it."""
        asset = self._assets[wanted.asset]
        terms = asset.terms
        quantity, most = terms.round_qty_down(wanted.notional_usd / wanted.price), terms.round_qty_down(terms.max_qty)
        if self._cut and quantity > most:
            self.refused["cut_to_largest_order"] += 1
            quantity = most
        if self._position is not None:
            self._skip("order_in_flight", wanted, "an order is on its way")
        elif quantity < terms.min_qty or quantity * Decimal(repr(wanted.price)) < terms.min_notional:
            self._skip("below_minimum", wanted, f"{quantity} {terms.base} is below the venue's minimum")
        elif float(quantity) * wanted.price > self._leverage * self._free():
            self._skip("insufficient_margin", wanted, f"{self._free():.2f} USDT free at leverage {self._leverage}")
        else:
            order = self._market(asset, self._side, quantity, reduce_only=False)
            self._position = _Position(wanted, asset, order)
            self._strategy.submit_order(order)

    def leave(self, reason: ExitReason, price: float, bar_idx: int, ts_ns: int) -> None:
        """Close what is held: the first decision counts, and is kept until the venue has filled it."""
        position = self._position
        if position is None or position.reason != ExitReason.NONE:
            return
        position.reason, position.exit.decided = reason, price
        position.exit_bar, position.exit_ts = bar_idx, ts_ns
        if not position.entry_order.is_closed:
            self._strategy.cancel_order(position.entry_order)
        self.retry()

    def retry(self) -> None:
        """Send again what the venue refused or left undone: an exit, or the stop behind a position."""
        position = self._position
        if position is None or position.held == 0:
            return
        if position.reason != ExitReason.NONE:
            if position.exit_order is None or position.exit_order.is_closed:
                self._send_exit(position)
        elif position.stop_order is None:
            self._protect(position)

    def on_filled(self, event: Any) -> None:
        """A fill of one of our orders."""
        position = self._position
        if position is None:
            self.refused["fill_of_no_position"] += 1
            self._strategy.log.error(f"fill without a position: {event}")
            return
        quantity, price = event.last_qty.as_decimal(), event.last_px.as_double()
        quote = self._strategy.cache.quote_tick(event.instrument_id)
        mid = price if quote is None else 0.5 * (quote.bid_price.as_double() + quote.ask_price.as_double())
        fee = 0.0 if event.commission is None else event.commission.as_double()
        self.touched = True
        if event.client_order_id == position.entry_order.client_order_id:
            position.entry.take(quantity, price, mid, fee, event.ts_event)
            self._fills.opened(position.wanted, position.entry.price, float(position.held) * position.entry.price)
            self._protect(position)
            if position.reason != ExitReason.NONE:  # decided while the entry was under way
                self.retry()
            return
        stop = position.stops.get(event.client_order_id)
        if position.reason == ExitReason.NONE and stop is not None:
            self._stopped(position, stop, event.ts_event)
        position.exit.take(quantity, price, mid, fee, event.ts_event)
        if position.held > 0:
            self._fills.reduced(float(position.held) * position.entry.price)
            if stop is None:  # what is left of a stop is the size of what is left of the position
                self._protect(position)
            if position.exit_order is not None and position.exit_order.is_closed:
                self.retry()  # it was sent before all of the entry was filled
        else:
            self._finish(position)

    def on_dead(self, event: Any, reason: str) -> None:
        """One of our orders will not be filled any further: denied, rejected, canceled or expired."""
        position, order_id = self._position, event.client_order_id
        if reason != "canceled":
            self.refused[reason] += 1
        if position is None:
            return
        if order_id == position.entry_order.client_order_id:
            if position.entry.quantity == 0:
                self._skip(reason, position.wanted, getattr(event, "reason", reason))
                self._position = None
                return
            self.refused["partly_filled"] += 1
            if position.held == 0:
                self._finish(position)
        elif position.exit_order is not None and order_id == position.exit_order.client_order_id:
            if position.exit_order.filled_qty > 0:
                self.refused["partly_filled"] += 1
            position.exit_order = None  # sent again at the next bar
        elif position.stop_order is not None and order_id == position.stop_order.client_order_id:
            self._unprotected(position, event, reason)

    def _unprotected(self, position: _Position, event: Any, reason: str) -> None:
        """The stop is gone: close at once where the market is beyond it, else put it there again at the next bar."""
        stop, position.stop_order = position.stop_order, None
        if position.held == 0 or position.reason != ExitReason.NONE:
            return
        self._strategy.log.error(f"no protective stop behind {position.asset.id}: {reason}")
        quote = self._strategy.cache.quote_tick(position.asset.id)
        if quote is None:
            return
        beyond = quote.ask_price >= stop.trigger_price if self._side < 0 else quote.bid_price <= stop.trigger_price
        if beyond:
            self._stopped(position, stop, event.ts_event)
            self._send_exit(position)

    def _stopped(self, position: _Position, stop: Any, ts_ns: int) -> None:
        """The market reached the stop before the engine decided anything."""
        position.reason, position.exit.decided = ExitReason.PROTECTIVE_STOP, stop.trigger_price.as_double()
        position.exit_bar, position.exit_ts = int(self._fills.core.bar_idx), ts_ns

    def on_funding(self, column: int, paid: float) -> None:
        """A funding payment, signed USDT."""
        position = self._position
        if position is not None and position.wanted.asset == column:
            position.funding += paid

    def left_behind(self) -> dict[str, Any] | None:
        """What is still held or on its way; None when nothing is."""
        position = self._position
        if position is None:
            return None
        orders = [o for o in (position.entry_order, position.exit_order, position.stop_order) if o is not None]
        return {
            "instrument": str(position.asset.id),
            "quantity": str(position.held),
            "orders": [str(o.client_order_id) for o in orders if not o.is_closed],
        }

    def trips(self) -> NDArray[Any]:
        """The finished round trips, ROUND_TRIP records in the order of their exits."""
        return np.array(self._trips, ROUND_TRIP)

    def _free(self) -> float:
        account = self._strategy.portfolio.account(VENUE)
        free = None if account is None else account.balance_free(USDT)
        return 0.0 if free is None else float(free.as_double())

    def _skip(self, reason: str, wanted: Wanted, why: str) -> None:
        self.skipped[reason] += 1
        self.touched = True
        self._strategy.log.info(f"no entry in {self._assets[wanted.asset].id}: {why}")

    def _market(self, asset: Traded, side: int, quantity: Decimal, *, reduce_only: bool) -> Any:
        return self._strategy.order_factory.market(
            asset.id,
            OrderSide.BUY if side > 0 else OrderSide.SELL,
            Quantity.from_str(f"{quantity:.{asset.terms.qty_decimals}f}"),
            time_in_force=TimeInForce.IOC,
            reduce_only=reduce_only,
        )

    def _send_exit(self, position: _Position) -> None:
        position.exit_order = self._market(position.asset, -self._side, position.held, reduce_only=True)
        self._strategy.submit_order(position.exit_order)

    def _protect(self, position: _Position) -> None:
        """Put a stop behind all that is held, in place of the one before."""
        if self._stop_pct is None:
            return
        self._withdraw_stop(position)
        asset = position.asset
        level = position.entry.price * (1.0 - self._side * self._stop_pct)
        tick = asset.perpetual.price_increment.as_double()
        stop = position.stop_order = self._strategy.order_factory.stop_market(
            asset.id,
            OrderSide.SELL if self._side > 0 else OrderSide.BUY,
            Quantity.from_str(f"{position.held:.{asset.terms.qty_decimals}f}"),
            asset.perpetual.make_price(max(1, round(level / tick)) * tick),
            reduce_only=True,
        )
        position.stops[stop.client_order_id] = stop
        self._strategy.submit_order(stop)

    def _withdraw_stop(self, position: _Position) -> None:
        stop, position.stop_order = position.stop_order, None
        if stop is not None and not stop.is_closed:
            self._strategy.cancel_order(stop)

    def _finish(self, position: _Position) -> None:
        """Nothing is held: book the round trip, unless more of the entry may still be filled."""
        self._withdraw_stop(position)
        if not position.entry_order.is_closed:
            self._strategy.cancel_order(position.entry_order)
            return
        wanted, entry, leg = position.wanted, position.entry, position.exit
        fees, quantity = entry.fees + leg.fees, float(entry.quantity)
        net = self._side * quantity * (leg.price - entry.price) + fees + position.funding
        self._trips.append(
            (
                *(len(self._trips), wanted.asset, self._side, int(position.reason), wanted.bar_idx, position.exit_bar),
                *(wanted.ts_ns, position.exit_ts, entry.ts_ns, leg.ts_ns, wanted.capital, wanted.notional_usd),
                *(wanted.price, leg.decided, entry.mid, leg.mid, entry.price, leg.price),
                *(quantity, float(position.asset.terms.lot), fees, position.funding, net),
                *(wanted.leverage, wanted.fraction, wanted.bucket, wanted.confidence, int(wanted.is_extreme)),
            )
        )
        self._position = None
        self._fills.closed(net)
