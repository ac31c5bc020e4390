"""The order desk in front of a real venue: sizes, refusals, parts, and the stop behind every position."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from nautilus_trader.model.data import QuoteTick
from nautilus_trader.model.enums import BookType, OrderSide, OrderType, TimeInForce, TradingState

from dolphin.core.clock import NS_PER_S
from dolphin.core.codes import ExitReason
from dolphin.trade.nautilus.market import VenueMarket
from tests.support.venue_runs import (
    BAR_NS,
    CAPITAL,
    Deep,
    EveryBar,
    Run,
    Thin,
    at,
    block,
    instrument,
    model,
    spec,
    venue_run,
)

near = pytest.approx
UP = (100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0)
"""Sold at bar 1 for 101, bought back at bar 4 for 104, unless the venue has it otherwise."""

SLOW = 15_000.0
"""Latency of a quarter of a bar, ms."""


def stops(run: Run) -> list[Any]:
    return [order for order in run.orders if order.order_type == OrderType.STOP_MARKET]


def markets(run: Run) -> list[Any]:
    return [order for order in run.orders if order.order_type == OrderType.MARKET]


def set_state(run: Run, state: TradingState) -> None:
    run.engine.kernel.risk_engine.set_trading_state(state)


def watch(run: Run, event: Any) -> None:
    """At no event is more protected than is held, nor protected twice; the engine holds what the venue holds."""
    name = type(event).__name__
    if not name.startswith(("Order", "Position")) or name == "OrderFilled":  # a fill's position event follows
        return
    standing = [order for order in run.engine.cache.orders_open() if order.order_type == OrderType.STOP_MARKET]
    held = sum(position.quantity.as_decimal() for position in run.engine.cache.positions_open())
    firm = [order for order in standing if not order.is_pending_cancel]
    assert len(firm) <= 1
    assert sum(order.leaves_qty.as_decimal() for order in firm) <= held
    core = run.actor.engine.state.core
    if name.startswith("Position"):  # the order's events, which come before it, are heard of while the desk is at work
        assert bool(core.open) == (held > 0)
    if name.startswith("Position") and core.open:
        assert float(core.notional_usd) == near(float(held) * float(core.entry_price))


WATCHED = {"events.*": watch}


class TestSizes:
    @pytest.mark.parametrize(
        ("lot", "quantity"),
        # 10,000 USDT at 101 are 99.00990… BTC.
        [
            ("0.001", "99.009"),
            ("0.01", "99.00"),
            ("0.1", "99.0"),
            ("1", "99"),
            ("0.5", "99.0"),
            ("10", "90"),
            ("4", "96"),
        ],
    )
    def test_whole_lots_rounded_down(self, lot: str, quantity: str) -> None:
        asset = instrument(lot=lot, min_qty=lot)
        with venue_run([block(UP, [1])], spec(model(), [asset])) as run:
            run.check_closed()
            assert [order.quantity.as_decimal() for order in markets(run)] == [Decimal(quantity)] * 2
            assert run.trips["quantity"] == float(quantity)
            assert (run.trips["wanted_usd"], run.trips["lot"]) == (CAPITAL, float(lot))

    @pytest.mark.parametrize("price", [0.7, 3.3, 9.9, 101.1, 999.9])
    def test_never_above_what_was_wanted_and_never_a_lot_below(self, price: float) -> None:
        with venue_run([block([price] * 6, [1])], spec(model(), [instrument(max_qty="100000")])) as run:
            (trip,) = run.trips
        short = trip["wanted_usd"] - trip["quantity"] * price
        assert -1e-9 <= short < 0.001 * price

    @pytest.mark.parametrize(
        "terms", [{"min_notional": "10000"}, {"min_qty": "99.01"}, {"lot": "100", "min_qty": "0.001"}]
    )
    def test_below_the_venue_s_minimum_nothing_is_sent(self, terms: dict[str, str]) -> None:
        with venue_run([block(UP, [1, 2, 5])], spec(model(), [instrument(**terms)])) as run:
            run.check_closed()
            assert dict(run.actor.desk.skipped) == {"below_minimum": 3}
            assert (run.orders, run.balance) == ([], CAPITAL)

    def test_at_the_minimum_it_is_sent(self) -> None:
        asset = instrument(min_notional="9999.909", min_qty="99.009")
        with venue_run([block(UP, [1])], spec(model(), [asset])) as run:
            assert len(run.trips) == 1

    @pytest.mark.parametrize(("most", "quantity"), [("50", 50.0), ("50.0009", 50.0), ("99.009", 99.009)])
    def test_the_largest_order_in_whole_lots(self, most: str, quantity: float) -> None:
        with venue_run([block(UP, [1])], spec(model(), [instrument(max_qty=most)])) as run:
            run.check_closed()
            assert run.trips["quantity"] == quantity
            assert run.actor.desk.refused["cut_to_largest_order"] == (quantity < 99.009)

    @pytest.mark.parametrize(("leverage", "trips"), [(2, 0), (3, 1)])
    def test_more_than_the_account_can_carry_is_skipped(self, leverage: int, trips: int) -> None:
        # Half the capital at leverage 5 are 25,000 USDT.
        given = spec(model(leverage=leverage), overrides={"fraction": "0.5"})
        with venue_run([block(UP, [1])], given) as run:
            run.check_closed()
            assert len(run.trips) == trips
            assert dict(run.actor.desk.skipped) == ({} if trips else {"insufficient_margin": 1})

    def test_one_position_at_a_time(self) -> None:
        twice: list[Any] = []

        def again(run: Run, event: Any) -> None:
            if type(event).__name__ == "OrderSubmitted" and not twice:
                desk = run.actor.desk
                twice.append(desk._position.wanted)
                desk.enter(twice[0])

        given = spec(model(latency_ms=SLOW))
        with venue_run([block(UP, [1])], given, handlers={"events.order.*": again}) as run:
            run.check_closed()
            assert dict(run.actor.desk.skipped) == {"order_in_flight": 1}
            assert len(run.trips) == 1


class TestOrders:
    def test_whatever_closes_is_reduce_only_and_no_market_order_outlives_its_instant(self) -> None:
        with venue_run([block(UP, [1])], spec(model(stop_pct=0.04))) as run:
            run.check_closed()
            entry, stop, leave = run.orders
        assert (entry.is_reduce_only, stop.is_reduce_only, leave.is_reduce_only) == (False, True, True)
        assert (entry.side, stop.side, leave.side) == (OrderSide.SELL, OrderSide.BUY, OrderSide.BUY)
        assert entry.time_in_force == leave.time_in_force == TimeInForce.IOC


class TestRefused:
    def test_a_denied_entry_is_no_position_and_is_decided_anew(self) -> None:
        def resume(run: Run, event: Any) -> None:
            if type(event).__name__ == "OrderDenied":
                set_state(run, TradingState.ACTIVE)

        with venue_run(
            [block(UP, [1, 2])],
            spec(model()),
            prepare=lambda run: set_state(run, TradingState.HALTED),
            handlers={"events.order.*": resume},
        ) as run:
            run.check_closed()
            assert dict(run.actor.desk.skipped) == dict(run.actor.desk.refused) == {"denied": 1}
            assert [trip["entry_bar"] for trip in run.trips] == [2]

    def test_a_venue_without_a_market_rejects_and_nothing_happens(self) -> None:
        with venue_run([block(UP, [1, 4])], spec(model(stop_pct=0.05)), book_type=BookType.L2_MBP) as run:
            run.check_closed()
            assert dict(run.actor.desk.skipped) == dict(run.actor.desk.refused) == {"rejected": 2}
            assert (len(run.trips), run.balance, run.actor.engine.capital) == (0, CAPITAL, CAPITAL)
            assert len(run.of("OrderRejected")) == 2

    def test_a_denied_exit_is_sent_again_at_every_bar(self) -> None:
        def halt(run: Run, event: Any) -> None:
            if type(event).__name__ == "PositionOpened":
                set_state(run, TradingState.HALTED)

        def resume(run: Run, quote: Any) -> None:
            if quote.ts_event == at(6, -1):
                set_state(run, TradingState.ACTIVE)

        handlers = {"events.position.*": halt, "data.quotes.*": resume}
        given = spec(model(stop_pct=0.9))
        with venue_run([block(UP, [1])], given, market_type=EveryBar, handlers=handlers) as run:
            run.check_closed()
            (trip,) = run.trips
            assert dict(run.actor.desk.refused) == {"denied": 2}
            assert [(event.ts_event - at(0)) // BAR_NS for event in run.of("OrderDenied")] == [4, 5]
        # What was decided stays what was decided; what it brought is the venue's.
        assert (trip["exit_bar"], trip["exit_price"], trip["reason"]) == (4, 104.0, ExitReason.MAX_HOLD)
        assert (trip["exit_fill"], trip["exit_fill_ts"]) == (106.0, at(6))

    def test_a_rejected_exit_is_sent_again(self) -> None:
        with venue_run([block(UP, [1])], spec(model(stop_pct=0.2)), market_type=EmptyBook, handlers=WATCHED) as run:
            run.check_closed()
            (trip,) = run.trips
            assert dict(run.actor.desk.refused) == {"rejected": 1}
        assert (trip["exit_bar"], trip["exit_price"]) == (4, 104.0)
        assert (trip["exit_fill"], trip["exit_fill_ts"]) == (105.0, at(5))

    def test_a_denied_stop_is_put_there_at_the_next_bar(self) -> None:
        def halt(run: Run, event: Any) -> None:
            if type(event).__name__ == "OrderSubmitted" and len(run.of("OrderSubmitted")) == 1:
                set_state(run, TradingState.HALTED)  # the entry has passed, the stop has not

        def resume(run: Run, quote: Any) -> None:
            if quote.ts_event == at(3, -1):
                set_state(run, TradingState.ACTIVE)

        closes = [100.0, 101.0, 102.0, 103.0, 110.0, 111.0]
        handlers = {"events.order.*": halt, "data.quotes.*": resume}
        given = spec(model(stop_pct=0.04), overrides={"max_hold_bars": "100"})
        with venue_run([block(closes, [1])], given, market_type=EveryBar, handlers=handlers) as run:
            run.check_closed()
            (trip,) = run.trips
            assert dict(run.actor.desk.refused) == {"denied": 2}
            assert [event.ts_event for event in run.of("OrderDenied")] == [at(1), at(2)]
            assert [order.trigger_price.as_double() for order in stops(run)] == [105.0] * 3
        assert (trip["reason"], trip["exit_fill"]) == (ExitReason.PROTECTIVE_STOP, 110.0)

    def test_what_could_not_be_closed_by_the_end_is_told_with_its_stop(self) -> None:
        def halt(run: Run, event: Any) -> None:
            if type(event).__name__ == "OrderAccepted":
                set_state(run, TradingState.HALTED)

        given = spec(model(stop_pct=0.2))
        with venue_run([block(UP, [1])], given, handlers={"events.order.*": halt, **WATCHED}) as run:
            (stop,) = stops(run)
            assert run.actor.left_behind == {
                "instrument": "BTCUSDT-PERP.BINANCE",
                "quantity": "99.009",
                "orders": [str(stop.client_order_id)],
            }
            assert len(run.trips) == 0
            # Sent again at each bar from 4 to 7.
            assert dict(run.actor.desk.refused) == {"denied": 4}
            assert run.actor.engine.is_open

    def test_a_fill_that_nobody_waits_for_is_counted_and_moves_nothing(self) -> None:
        with venue_run([block(UP, [1])], spec(model())) as run:
            before = run.actor.engine.state_hash()
            run.actor.desk.on_filled(run.of("OrderFilled")[0])
            assert dict(run.actor.desk.refused) == {"fill_of_no_position": 1}
            assert run.actor.engine.state_hash() == before
            assert len(run.trips) == 1


class EmptyBook(VenueMarket):
    """A market that nobody offers anything in, from bar 4 until the next."""

    def _quotes(self, column: int, prices: np.ndarray, stamps: np.ndarray) -> list[QuoteTick]:
        made = super()._quotes(column, prices, stamps)
        for k, quote in enumerate(made):
            if at(4, -1) <= quote.ts_event < at(5, -1):
                one = QuoteTick.to_dict(quote)
                one["ask_size"] = "0.000"
                made[k] = QuoteTick.from_dict(one)
        return made


class TestParts:
    def test_what_a_thin_market_leaves_of_an_entry_is_given_up(self) -> None:
        given = spec(model(stop_pct=0.2, fees=True))
        with venue_run([block(UP, [1])], given, fill_model=Thin(30.0), handlers=WATCHED) as run:
            run.check_closed()
            (trip,) = run.trips
            assert dict(run.actor.desk.refused) == {"partly_filled": 1}
            assert [order.quantity.as_double() for order in run.orders] == [99.009, 30.0, 30.0]
        assert (trip["quantity"], trip["wanted_usd"]) == (30.0, CAPITAL)
        assert trip["fees"] == near(-0.0005 * 30.0 * (101.0 + 104.0))

    def test_what_it_leaves_of_an_exit_is_sent_again_until_nothing_is_held(self) -> None:
        thin = Thin(1000.0)

        def thinner(run: Run, event: Any) -> None:
            thin.size = 40.0

        handlers = {"events.position.*": thinner, **WATCHED}
        with venue_run([block(UP, [1])], spec(model(stop_pct=0.2)), fill_model=thin, handlers=handlers) as run:
            run.check_closed()
            (trip,) = run.trips
            assert [order.quantity.as_double() for order in markets(run)] == [99.009, 99.009, 59.009, 19.009]
            assert [order.quantity.as_double() for order in stops(run)] == [99.009, 59.009, 19.009]
            assert dict(run.actor.desk.refused) == {"partly_filled": 2}
        assert trip["exit_fill"] == near((40.0 * 104.0 + 40.0 * 105.0 + 19.009 * 106.0) / 99.009)
        assert (trip["exit_bar"], trip["exit_price"], trip["reason"]) == (4, 104.0, ExitReason.MAX_HOLD)
        assert trip["exit_fill_ts"] == at(6)

    def test_the_rest_of_a_position_is_closed_even_below_the_least_that_may_be_opened(self) -> None:
        thin = Thin(1000.0)

        def thinner(run: Run, event: Any) -> None:
            thin.size = 99.0

        asset = instrument(min_qty="5", min_notional="500")
        handlers = {"events.position.*": thinner, **WATCHED}
        with venue_run([block(UP, [1])], spec(model(stop_pct=0.2), [asset]), fill_model=thin, handlers=handlers) as run:
            run.check_closed()
            assert [order.quantity.as_double() for order in markets(run)] == [99.009, 99.009, 0.009]

    @pytest.mark.parametrize("latency", [0.0, 50.0])
    def test_several_prices_are_one_position_at_their_mean(self, latency: float) -> None:
        deep = Deep([40.0, 40.0, 40.0], 0.5)
        given = spec(model(stop_pct=0.2, latency_ms=latency, grid="data"), [instrument(tick="0.1")])
        with venue_run([block([101.0] * 7, [1])], given, fill_model=deep, handlers=WATCHED) as run:
            run.check_closed()
            (trip,) = run.trips
            assert [order.quantity.as_double() for order in stops(run)][:3] == [40.0, 80.0, 99.009]
        mean = (40.0 * 101.0 + 40.0 * 100.5 + 19.009 * 100.0) / 99.009
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(mean), near(202.0 - mean))
        assert trip["entry_mid"] == near(101.0)

    def test_an_exit_decided_while_the_entry_is_under_way_follows_it(self) -> None:
        def leave(run: Run, event: Any) -> None:
            if type(event).__name__ == "OrderSubmitted" and event.ts_event == at(1):
                run.actor.desk.leave(ExitReason.HIBERNATE_HALT, 101.0, 1, at(1))

        given = spec(model(latency_ms=SLOW, stop_pct=0.2, grid="data"))
        with venue_run([block(UP, [1])], given, handlers={"events.order.*": leave}) as run:
            run.check_closed()
            (trip,) = run.trips
        assert (trip["reason"], trip["exit_bar"]) == (ExitReason.HIBERNATE_HALT, 1)
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(101.25), near(101.5))

    @pytest.mark.parametrize("rows", [2, 8])
    def test_an_exit_under_way_before_all_of_the_entry_was_filled_is_followed_by_another(self, rows: int) -> None:
        def leave(run: Run, event: Any) -> None:
            if type(event).__name__ == "OrderSubmitted" and event.ts_event == at(1):
                run.actor.desk.leave(ExitReason.HIBERNATE_HALT, 101.0, 1, at(1))

        given = spec(model(latency_ms=5_000.0, stop_pct=0.2, grid="data"))
        deep = Deep([40.0, 40.0, 40.0], 0.5)
        with venue_run([block(UP[:rows], [1])], given, fill_model=deep, handlers={"events.order.*": leave}) as run:
            run.check_closed()
            (trip,) = run.trips
            assert [order.quantity.as_double() for order in markets(run)] == [99.009, 40.0, 59.009]
        assert (trip["reason"], trip["exit_bar"], trip["quantity"]) == (ExitReason.HIBERNATE_HALT, 1, 99.009)


class TestProtectiveStop:
    @pytest.mark.parametrize(
        ("profile", "signal", "pct", "tick", "trigger"),
        [
            ("blue", -0.05, 0.04, "0.1", "105.0"),  # 105.04
            ("green", 0.05, 0.04, "0.1", "97.0"),  # 96.96
            ("blue", -0.05, 0.0375, "0.25", "104.75"),  # 104.7875
            ("green", 0.05, 0.0375, "0.5", "97.0"),  # 97.2125
        ],
    )
    def test_side_distance_and_tick(self, profile: str, signal: float, pct: float, tick: str, trigger: str) -> None:
        given = spec(model(stop_pct=pct), [instrument(tick=tick)], profile=profile)
        with venue_run([block([101.0] * 6, [1], signal=signal)], given, handlers=WATCHED) as run:
            run.check_closed()
            (stop,) = stops(run)
            assert [type(event).__name__ for event in run.events if event.ts_event == at(1)].count("OrderAccepted") == 1
        assert stop.trigger_price.as_decimal() == Decimal(trigger)
        assert stop.side == (OrderSide.BUY if profile == "blue" else OrderSide.SELL)
        assert stop.quantity.as_double() == 99.009
        assert stop.status_string() == "CANCELED"

    def test_it_is_measured_from_the_fill(self) -> None:
        with venue_run([block([101.0] * 6, [1])], spec(model(stop_pct=0.04, spread_bps=500.0))) as run:
            # Sold at 98.4 or 98.5, the ticks around 98.475: 102.336 or 102.44.
            (trip,) = run.trips
            assert trip["entry_fill"] in (near(98.4), near(98.5))
            assert stops(run)[0].trigger_price.as_double() == near(102.3 if trip["entry_fill"] < 98.45 else 102.4)

    @pytest.mark.parametrize(("slippage", "paid"), [(0.0, 110.0), (10.0, 110.1)])
    def test_between_two_bars_it_closes_and_the_engine_is_flat_before_the_next_step(
        self, slippage: float, paid: float
    ) -> None:
        closes = [100.0, 101.0, 102.0, 110.0, 109.0, 108.0, 107.0]
        given = spec(model(stop_pct=0.04, slippage_bps=slippage))
        with venue_run([block(closes, [1, 3])], given, handlers=WATCHED) as run:
            run.check_closed()
            first, second = run.trips
        assert (first["reason"], first["exit_bar"]) == (ExitReason.PROTECTIVE_STOP, 2)
        assert first["exit_ts"] == first["exit_fill_ts"] == at(3, -1)
        assert (first["exit_price"], first["exit_fill"]) == (near(104.9 if slippage else 105.0), near(paid))
        assert first["exit_mid"] == 110.0  # of the quote that set it off, not of the one before
        # Bar 3 could enter again, so the engine was flat when it came.
        assert (second["entry_bar"], second["reason"]) == (3, ExitReason.MAX_HOLD)

    def test_in_the_market_when_it_arrives_it_closes_at_once(self) -> None:
        # Sold at 15 s for 103.25; the stop at 104.3 arrives at 30 s, when the price is 105.5: the venue refuses it.
        closes = [100.0, 101.0, 110.0, 110.0, 110.0, 110.0]
        given = spec(model(stop_pct=0.01, latency_ms=SLOW, grid="data"))
        with venue_run([block(closes, [1])], given, handlers=WATCHED) as run:
            run.check_closed()
            (trip,) = run.trips
            assert dict(run.actor.desk.refused) == {"rejected": 1}
        assert (trip["reason"], trip["exit_bar"]) == (ExitReason.PROTECTIVE_STOP, 1)
        assert trip["entry_fill"] == near(103.25)
        assert trip["exit_price"] == near(103.25 * 1.01)
        assert (trip["exit_fill"], trip["exit_fill_ts"]) == (near(107.75), at(1, 45 * NS_PER_S))

    def test_whichever_of_stop_and_exit_is_first_the_other_opens_nothing(self) -> None:
        # The exit of bar 4 arrives at 104.25; the stop goes off at that very quote, at 104.2, and is there before it.
        given = spec(model(stop_pct=0.0291, latency_ms=SLOW, grid="data"))
        with venue_run([block(UP, [1])], given, handlers=WATCHED) as run:
            run.check_closed()
            (trip,) = run.trips
            assert stops(run)[0].status_string() == "FILLED"
            assert markets(run)[1].status_string() == "REJECTED"
            assert dict(run.actor.desk.refused) == {"rejected": 1}
        assert (trip["reason"], trip["exit_bar"], trip["exit_fill"]) == (ExitReason.MAX_HOLD, 4, near(104.25))

    @pytest.mark.parametrize("latency", [1.0, SLOW, 59_000.0])
    def test_a_stop_whose_cancel_is_under_way_opens_nothing(self, latency: float) -> None:
        closes = [*UP[:5], 130.0, 131.0, 132.0, 133.0]
        given = spec(model(stop_pct=0.28, latency_ms=latency, grid="data"))
        with venue_run([block(closes, [1])], given) as run:
            run.check_closed()
            assert len(run.trips) == 1
            assert len(run.of("PositionOpened")) == 1

    def test_filled_in_parts_the_rest_is_closed_at_the_next_bar(self) -> None:
        thin = Thin(1000.0)

        def thinner(run: Run, event: Any) -> None:
            thin.size = 40.0

        closes = [100.0, 101.0, 102.0, 110.0, 109.0, 108.0, 107.0]
        with venue_run(
            [block(closes, [1])],
            spec(model(stop_pct=0.04)),
            fill_model=thin,
            handlers={"events.position.*": thinner, **WATCHED},
        ) as run:
            run.check_closed()
            (trip,) = run.trips
        # An exhausted book is worth one more tick to Nautilus' stops.
        assert (trip["reason"], trip["exit_bar"]) == (ExitReason.PROTECTIVE_STOP, 2)
        assert trip["exit_fill"] == near((40.0 * 110.0 + 59.009 * 110.1) / 99.009)

    def test_many_trades_leave_no_order_behind(self) -> None:
        rng = np.random.default_rng(7)
        closes = 100.0 * np.exp(np.cumsum(0.01 * rng.standard_normal(400)))
        given = spec(model(stop_pct=0.012, latency_ms=SLOW, spread_bps=3.0, slippage_bps=2.0, fees=True))
        with venue_run([block(closes, range(0, 400, 2))], given, handlers=WATCHED) as run:
            run.check_closed()
            assert len(run.trips) > 60
            assert np.count_nonzero(run.trips["reason"] == ExitReason.PROTECTIVE_STOP) > 10
            assert {order.status_string() for order in stops(run)} <= {"FILLED", "CANCELED", "REJECTED"}
