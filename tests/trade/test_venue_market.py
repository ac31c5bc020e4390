"""The simulated venue, by hand: where orders are filled, which quotes there are, what funding costs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dolphin.core.clock import NS_PER_S
from dolphin.core.codes import ExitReason
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus.backtest import run_venue
from dolphin.trade.quotes import beyond, bid_ask
from tests.support.runs import scan_days
from tests.support.venue_runs import (
    BAR_NS,
    CAPITAL,
    DAY_NS,
    Run,
    after,
    at,
    block,
    instrument,
    model,
    payments,
    scan_blocks,
    spec,
    venue_run,
)

near = pytest.approx
UP = (100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0)
"""Entered at bar 1, held for three bars, left at bar 4: sold at 101 and bought back at 104, but for the venue."""


def one_trip(terms: Any, closes: Any = UP, enter: tuple[int, ...] = (1,), **options: Any) -> Any:
    """The only round trip of a day, after its run has been checked to the end."""
    signal = options.pop("signal", -0.05)
    with venue_run([block(closes, enter, signal=signal)], spec(terms, **options)) as run:
        run.check_closed()
        (trip,) = run.trips
        return trip


class TestFills:
    def test_a_venue_without_friction_fills_at_the_decision_price(self) -> None:
        closes = [100.0, 100.0 + 1.0 / 3.0, 102.0, 103.0, 100.0 * np.pi / 3.0, 105.0]
        trip = one_trip(model(grid="data"), closes)
        assert trip["entry_fill"] == trip["entry_mid"] == near(trip["entry_price"], rel=1e-11)
        assert trip["exit_fill"] == trip["exit_mid"] == near(trip["exit_price"], rel=1e-11)
        assert (trip["entry_price"], trip["exit_price"]) == (closes[1], closes[4])
        assert (trip["entry_bar"], trip["exit_bar"], trip["reason"]) == (1, 4, ExitReason.MAX_HOLD)
        assert (trip["entry_fill_ts"], trip["exit_fill_ts"]) == (at(1), at(4)) == (trip["entry_ts"], trip["exit_ts"])
        # 10,000 USDT at 100.333…: 99.667 whole lots of 0.001 that fit in.
        assert trip["quantity"] == 99.667
        assert trip["net_pnl"] == near(-99.667 * (closes[4] - closes[1]), abs=1e-6)
        assert (trip["fees"], trip["funding"]) == (0.0, 0.0)

    @pytest.mark.parametrize(("profile", "signal"), [("blue", -0.05), ("green", 0.05)])
    @pytest.mark.parametrize("spread_bps", [0.5, 10.0, 40.0])
    def test_who_sells_gets_the_bid_and_who_buys_pays_the_ask_of_that_bar(
        self, profile: str, signal: float, spread_bps: float
    ) -> None:
        closes = [100.0, 101.03, 102.0, 103.0, 104.07, 105.0]
        trip = one_trip(model(spread_bps=spread_bps), closes, profile=profile, signal=signal)
        bid, ask = bid_ask(np.array([closes[1], closes[4]]), np.array([at(1), at(4)]), spread_bps, 0.1)
        entry, leave = (bid[0], ask[1]) if profile == "blue" else (ask[0], bid[1])
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(entry, abs=1e-12), near(leave, abs=1e-12))
        assert (trip["entry_mid"], trip["exit_mid"]) == (near(0.5 * (bid[0] + ask[0])), near(0.5 * (bid[1] + ask[1])))
        assert trip["net_pnl"] == near(trip["side"] * trip["quantity"] * (leave - entry), abs=1e-6)

    @pytest.mark.parametrize("price", [0.7, 1.1, 100.1, 100.3, 1234.7])
    def test_a_price_on_the_tick_stays_where_it_is(self, price: float) -> None:
        trip = one_trip(model(), [price] * 6)
        assert trip["entry_fill"] == trip["exit_fill"] == price

    def test_slippage_goes_on_from_the_quote_and_ends_on_the_tick(self) -> None:
        # Sold 7 bps below 101: 100.9293, nearest to 100.9; bought 7 bps above 104: 104.0728, nearest to 104.1.
        trip = one_trip(model(slippage_bps=7.0))
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(100.9), near(104.1))
        assert (trip["entry_mid"], trip["exit_mid"]) == (101.0, 104.0)
        # Beyond a spread of 20 bps: from the bid of that bar, again to the nearest tick.
        (bid,), _ = bid_ask(np.array([101.0]), np.array([at(1)]), 20.0, 0.1)
        assert one_trip(model(slippage_bps=7.0, spread_bps=20.0))["entry_fill"] == near(beyond(bid, -7.0, 0.1))
        # On the recorded grid nothing is rounded but to nine decimals.
        assert one_trip(model(slippage_bps=7.0, grid="data"))["entry_fill"] == near(100.9293, abs=1e-9)

    def test_a_price_of_one_tick_does_not_slip_to_nothing(self) -> None:
        trip = one_trip(model(slippage_bps=50.0, spread_bps=50.0), [0.1] * 6)
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(0.1), near(0.2))

    def test_fees_are_the_taker_s_of_each_leg(self) -> None:
        trip = one_trip(model(fees=True))
        assert trip["quantity"] == 99.009
        assert trip["fees"] == near(-0.0005 * 99.009 * (101.0 + 104.0), abs=1e-7)
        assert trip["net_pnl"] == near(-99.009 * 3.0 + trip["fees"], abs=1e-9)


class TestLatency:
    def test_the_price_moves_on_in_a_straight_line_until_the_order_arrives(self) -> None:
        # 15 s are a quarter of a bar: from 101 to 102 that is 101.25, from 104 to 105 it is 104.25.
        trip = one_trip(model(latency_ms=15_000.0, grid="data"))
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(101.25), near(104.25))
        assert (trip["entry_price"], trip["exit_price"]) == (101.0, 104.0)
        assert (trip["entry_fill_ts"], trip["exit_fill_ts"]) == (at(1, BAR_NS // 4), at(4, BAR_NS // 4))
        assert (trip["entry_bar"], trip["exit_bar"]) == (1, 4)

    def test_on_the_tick_it_is_rounded_as_any_price_is(self) -> None:
        trip = one_trip(model(latency_ms=15_000.0))
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(101.2), near(104.3))

    def test_over_midnight_the_next_bar_is_the_next_day_s_first(self) -> None:
        days = [block([100.0, 101.0], [1], first=1438), block([105.0, 104.0, 103.0, 102.0], day=after(1))]
        with venue_run(days, spec(model(latency_ms=15_000.0, grid="data"))) as run:
            run.check_closed()
            (trip,) = run.trips
        assert (trip["entry_fill"], trip["exit_fill"]) == (near(102.0), near(102.75))

    @pytest.mark.parametrize("latency", [0.0, 50.0, 15_000.0, 59_999.0])
    def test_at_the_last_bar_there_is_nothing_to_move_to(self, latency: float) -> None:
        trip = one_trip(model(latency_ms=latency, grid="data", stop_pct=0.05), UP[:4])
        assert (trip["exit_fill"], trip["reason"], trip["exit_bar"]) == (103.0, ExitReason.END_OF_DATA, 3)

    @pytest.mark.parametrize("latency", [0.0, 50.0, 15_000.0, 59_999.0])
    def test_an_entry_at_the_last_bar_is_filled_and_left_there(self, latency: float) -> None:
        trip = one_trip(model(latency_ms=latency, stop_pct=0.05), UP, enter=(7,))
        assert (trip["entry_fill"], trip["exit_fill"]) == (107.0, 107.0)
        assert (trip["entry_bar"], trip["exit_bar"], trip["reason"]) == (7, 7, ExitReason.END_OF_DATA)

    @pytest.mark.parametrize("enter", [1, 3])
    @pytest.mark.parametrize("latency", [0.0, 50.0, 15_000.0, 59_999.0])
    def test_before_a_gap_the_last_price_holds(self, latency: float, enter: int) -> None:
        days = [block(UP[:4], [enter]), block([50.0, 51.0, 52.0, 53.0, 54.0], [1], after(2))]
        with venue_run(days, spec(model(latency_ms=latency, stop_pct=0.2))) as run:
            run.check_closed()
            first, second = run.trips
        assert (first["exit_fill"], first["reason"], first["exit_bar"]) == (103.0, ExitReason.DATA_GAP, 3)
        assert (second["entry_bar"], second["entry_price"]) == (5, 51.0)


class TestMissingPrices:
    nan = float("nan")

    def test_a_bar_without_a_price_has_no_quote_and_the_exit_waits(self) -> None:
        closes = [100.0, 101.0, 102.0, self.nan, 0.0, 105.0, 106.0]
        with venue_run([block(closes, [1])], spec(model())) as run:
            run.check_closed()
            (trip,) = run.trips
            assert stamps(run) == [at(1), at(5)]
        assert (trip["exit_bar"], trip["exit_fill"], trip["reason"]) == (5, 105.0, ExitReason.MAX_HOLD)

    def test_a_stale_price_closes_at_the_last_valid_one(self) -> None:
        closes = [100.0, 101.0, 102.0, *([self.nan] * 6), 150.0]
        with venue_run([block(closes, [1])], spec(model(latency_ms=15_000.0, grid="data"))) as run:
            run.check_closed()
            (trip,) = run.trips
        assert (trip["exit_bar"], trip["reason"]) == (7, ExitReason.STALE_PRICE)
        assert (trip["exit_price"], trip["exit_mid"], trip["exit_fill"]) == (102.0, 102.0, 102.0)

    def test_an_asset_without_any_price_on_a_later_day(self) -> None:
        days = [block([100.0, 101.0], [1], first=1438), block([self.nan] * 12, day=after(1))]
        with venue_run(days, spec(model())) as run:
            run.check_closed()
            (trip,) = run.trips
        assert (trip["exit_bar"], trip["exit_fill"], trip["reason"]) == (7, 101.0, ExitReason.STALE_PRICE)

    def test_a_price_that_comes_back_later_is_not_known_before(self) -> None:
        days = [block([100.0, 101.0], [1], first=1438), block([*([self.nan] * 7), 300.0, 301.0], day=after(1))]
        with venue_run(days, spec(model())) as run:
            run.check_closed()
            (trip,) = run.trips
        assert (trip["exit_bar"], trip["exit_fill"], trip["reason"]) == (7, 101.0, ExitReason.STALE_PRICE)


class TestQuotes:
    def test_a_held_instrument_has_one_just_before_every_bar_near_its_stop(self) -> None:
        """Sold at 101, stopped 10 % higher, which is far away until half of that: 106.05."""
        given = spec(model(stop_pct=0.1), overrides={"max_hold_bars": "100"})
        with venue_run([block(UP, [1])], given) as run:
            assert stamps(run) == [at(1), at(7, -1), at(7)]
        near_all_the_time = spec(model(stop_pct=0.0101, spread_bps=26.0), overrides={"max_hold_bars": "100"})
        with venue_run([block([100.0, 101.0, 100.9, 100.8], [1])], near_all_the_time) as run:
            assert stamps(run) == [at(1), at(2, -1), at(3, -1), at(3)]

    def test_a_held_instrument_without_a_stop_has_none_between_its_orders(self) -> None:
        with venue_run([block(UP, [1])], spec(model(), overrides={"max_hold_bars": "100"})) as run:
            assert stamps(run) == [at(1), at(7)]
            assert [quote.bid_price.as_double() for quote in run.quotes] == [101.0, 107.0]

    def test_a_days_last_price_wakes_the_next_day(self) -> None:
        """Nothing is near the stop on the first day; on the second the price goes through it."""
        days = [block([100.0, 101.0, 101.5], [1], first=1437), block([101.0, 140.0, 101.0], day=after(1))]
        given = spec(model(stop_pct=0.1), overrides={"max_hold_bars": "100"})
        with venue_run(days, given) as run:
            run.check_closed()
            (trip,) = run.trips
            assert stamps(run)[:2] == [at(1438), at(1439, -1)]
        assert trip["reason"] == ExitReason.PROTECTIVE_STOP

    def test_what_nobody_holds_is_never_quoted(self) -> None:
        assets = [instrument(symbol) for symbol in ("ETHUSDT", "BTCUSDT", "SOLUSDT")]
        closes = np.outer(100.0 + np.arange(200), [10.0, 1.0, 0.1])
        with venue_run([block(closes, [50])], spec(model(), assets)) as run:
            run.check_closed()
            assert {str(quote.instrument_id) for quote in run.quotes} == {"BTCUSDT-PERP.BINANCE"}
            assert stamps(run) == [at(50), at(53)]
        with venue_run([block(closes)], spec(model(), assets)) as run:
            assert run.quotes == []
            assert len(run.trips) == 0


class TestFunding:
    """0.1 % on 99.009 BTC sold at 101."""

    quantity = 99.009

    def paid(self, *events: tuple[int, int, float, float], enter: int = 1, **options: Any) -> Any:
        return one_trip(model(**options.pop("terms", {})), UP, (enter,), funding=payments(*events), **options)

    def test_shorts_receive_a_positive_rate_and_longs_pay_it(self) -> None:
        due = at(2, 30 * NS_PER_S)
        trip = self.paid((due, 0, 0.001, 99.5))
        assert trip["funding"] == near(0.001 * self.quantity * 99.5, abs=1e-8)
        assert trip["net_pnl"] == near(-3.0 * self.quantity + trip["funding"], abs=1e-7)
        trip = self.paid((due, 0, 0.001, 99.5), profile="green", signal=0.05)
        assert trip["funding"] == near(-0.001 * self.quantity * 99.5, abs=1e-8)
        assert self.paid((due, 0, -0.001, 99.5))["funding"] == near(-0.001 * self.quantity * 99.5, abs=1e-8)

    @pytest.mark.parametrize(
        ("row", "pays"), [(0, False), (1, False), (2, True), (3, True), (4, True), (5, False), (7, False)]
    )
    def test_who_opens_at_the_instant_does_not_pay_and_who_closes_then_does(self, row: int, pays: bool) -> None:
        trip = self.paid((at(row), 0, 0.001, 100.0))
        assert trip["funding"] == near(0.1 * self.quantity if pays else 0.0, abs=1e-8)

    def test_with_latency_it_is_the_fill_that_counts(self) -> None:
        late = {"latency_ms": 15_000.0}
        trip = self.paid((at(1), 0, 0.001, 100.0), (at(1, 15 * NS_PER_S), 0, 0.001, 100.0), terms=late)
        assert trip["funding"] == 0.0
        trip = self.paid((at(1, 16 * NS_PER_S), 0, 0.001, 100.0), (at(4, 15 * NS_PER_S), 0, 0.001, 100.0), terms=late)
        assert trip["funding"] == near(0.2 * trip["quantity"], abs=1e-7)
        assert self.paid((at(4, 16 * NS_PER_S), 0, 0.001, 100.0), terms=late)["funding"] == 0.0

    @pytest.mark.parametrize(("row", "price"), [(2, 102.0), (3, 103.0), (4, 104.0)])
    @pytest.mark.parametrize("unknown", [float("nan"), 0.0])
    def test_without_a_mark_the_last_close_is_taken(self, row: int, price: float, unknown: float) -> None:
        trip = self.paid((at(row), 0, 0.001, unknown))
        assert trip["funding"] == near(0.001 * self.quantity * price, abs=1e-8)
        # Half a minute later the market is where it was.
        if row < 4:
            trip = self.paid((at(row, BAR_NS // 2), 0, 0.001, unknown), terms={"spread_bps": 19.0})
            assert trip["funding"] == near(0.001 * trip["quantity"] * price, abs=1e-8)

    def test_several_payments_add_up_and_other_assets_payments_are_theirs(self) -> None:
        assets = [instrument("ETHUSDT"), instrument("BTCUSDT")]
        closes = np.column_stack((10.0 * np.array(UP), UP))
        events = payments(
            (at(2), 0, 0.01, 1000.0), (at(2), 1, 0.001, 100.0), (at(2, 1), 1, 0.002, 100.0), (at(3), 1, -0.0005, 200.0)
        )
        given = spec(model(fees=True), assets, funding=events)
        with venue_run([block(closes, [1])], given) as run:
            run.check_closed()
            (trip,) = run.trips
        assert trip["asset"] == 1
        assert trip["funding"] == near(self.quantity * (0.1 + 0.2 - 0.1), abs=1e-7)

    def test_payments_before_the_first_bar_and_after_the_last_cost_nothing(self) -> None:
        trip = self.paid((DAY_NS - 1, 0, 0.03, 100.0), (at(7, 1), 0, 0.03, 100.0), (at(9000), 0, 0.03, 100.0), enter=6)
        assert (trip["funding"], trip["exit_bar"]) == (0.0, 7)

    def test_account_engine_and_trips_agree_over_days(self) -> None:
        days = scan_blocks(scan_days(3, 300, ("BTCUSDT", "ETHUSDT"), seed=3))
        events = [
            (at(row, days=d), column, 1e-4 * (row % 7 - 3), float("nan") if row % 2 else 1.0)
            for d in range(3)
            for row in range(0, 300, 13)
            for column in range(2)
        ]
        fine = {"tick": "0.00001"}
        assets = [instrument("BTCUSDT", **fine), instrument("ETHUSDT", **fine)]
        given = spec(model(fees=True, spread_bps=1.0), assets, funding=payments(*events))
        with venue_run(days, given) as run:
            run.check_closed()
            assert len(run.trips) > 30
            assert np.count_nonzero(run.trips["funding"]) > 5


def test_a_loss_beyond_the_capital_is_one_in_account_and_engine_and_the_end_of_trading() -> None:
    closes = [100.0, 101.0, 102.0, 303.0, 303.0, 200.0, 150.0, 140.0, 130.0]
    with venue_run([block(closes, [1, 6])], spec(model())) as run:
        run.check_closed()
        (trip,) = run.trips
        assert trip["reason"] == ExitReason.STOP_LOSS
        assert run.balance == near(CAPITAL - 99.009 * 202.0)
        assert run.actor.counts.bars == 9


@pytest.mark.parametrize("rows", [100, 333, 499])
@pytest.mark.parametrize("latency", [0.0, 20_000.0])
def test_nothing_depends_on_bars_that_are_yet_to_come(rows: int, latency: float) -> None:
    (day,) = scan_days(1, 500, ("BTCUSDT", "ETHUSDT"), seed=5)
    (whole,) = scan_blocks([day])
    assets = [instrument("BTCUSDT", tick="0.00001"), instrument("ETHUSDT", tick="0.00001")]
    given = spec(model(fees=True, spread_bps=2.0, slippage_bps=1.0, latency_ms=latency, stop_pct=0.004), assets)
    all_of_it = run_venue(iter([whole]), given).trips
    cut = run_venue(iter([whole_until(whole, rows)]), given).trips
    known = all_of_it[all_of_it["exit_bar"] < rows - 1]
    assert len(known) > 5
    np.testing.assert_array_equal(known, cut[: len(known)])
    opened = all_of_it[all_of_it["entry_bar"] < rows]
    assert len(cut) == len(opened)
    for name in ("asset", "side", "entry_bar", "entry_price", "wanted_usd", "quantity", "capital_before"):
        np.testing.assert_array_equal(opened[name], cut[name])
    assert run_venue(iter([whole]), given).balance == near(CAPITAL + all_of_it["net_pnl"].sum(), abs=1e-6)


def whole_until(whole: ScanBlock, rows: int) -> ScanBlock:
    """The first `rows` bars of a day."""
    parts = (whole.ts_ns, whole.bars, whole.closes, whole.scan_number)
    return ScanBlock(whole.day, *(part[:rows] for part in parts))


def stamps(run: Run) -> list[int]:
    """When the venue was quoted."""
    return [int(quote.ts_event) for quote in run.quotes]
