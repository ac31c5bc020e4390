"""DolphinActor without its grid, through its days in replay, and at its stop (SPEC §10, §12, §13; Bible §18.3).

Every test runs a real engine. Bar t of a run has the price 1000 − t/64; the bars in `deep` ask for a short, and a
position is held for 120 bars when nothing else ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.events import OrderSubmitted

from dolphin.core.codes import ExitReason, Gate
from dolphin.core.errors import GridError
from dolphin.trade.nautilus.instruments import VENUE
from dolphin.trade.ports import SAFETY, MemoryGrid
from dolphin.trade.venue import FRICTIONLESS, VenueModel
from tests.support.actors import (
    MAX_HOLD,
    READY,
    Applied,
    ScriptedGrid,
    Watch,
    block,
    boost,
    days,
    price,
    results,
    run,
    safety,
    same_trips,
    singly,
    stage,
    told,
)

near = pytest.approx
DEEP_BARS = (READY, 225, 226, 350)
STOPPED = msgspec.structs.replace(FRICTIONLESS, stop_pct=0.05)


def fail(yes: bool) -> Callable[[ScriptedGrid], None]:
    """Take the grid away, or bring it back."""

    def change(grid: ScriptedGrid) -> None:
        grid.fail = yes

    return change


class TestHZUnavailableDegradation:
    alone = staticmethod(lambda: run(days(4, deep=DEEP_BARS)))

    def test_down_from_the_start(self) -> None:
        grid = MemoryGrid()
        grid.fail = True
        done, alone = run(days(4, deep=DEEP_BARS), grid=grid), self.alone()
        assert same_trips(done, alone)
        assert len(alone.trips) == 3
        # Listening; four days of two values each; what is left behind.
        assert done.actor.counts.grid_failures == 1 + 4 * 2 + 1
        # Every bar, and once more for every entry decided.
        assert done.actor.counts.unread_postures == 4 * 130 + 3
        assert grid.values == {}

    def test_down_for_a_while(self) -> None:
        grid = ScriptedGrid({50: fail(True), 300: fail(False)})
        done = run(days(4, deep=DEEP_BARS), grid=grid)
        assert same_trips(done, self.alone())
        assert done.actor.counts.unread_postures == 250
        assert done.actor.counts.grid_failures == 4  # the results of two days
        assert grid.listeners == 0, "listening twice"
        assert [r is None for r in results(grid, 4)] == [True, True, False, False]

    def test_a_grid_that_comes_late_is_listened_to(self) -> None:
        applied = Applied()
        grid = ScriptedGrid({20: fail(False), 40: lambda g: boost(g, 1.5)})
        grid.fail = True
        done = run([block()], grid=grid, hooks=Watch(applied))
        assert applied.values == [(41, 1.5, 0.2)]
        assert (done.actor.counts.unread_postures, done.actor.counts.grid_failures) == (20, 1)
        assert grid.listeners == 0

    def test_down_at_the_stop(self) -> None:
        last = 4 * 130 + 3 - 1
        grid = ScriptedGrid({last: fail(True)})
        done = run(days(4, deep=DEEP_BARS), grid=grid)
        assert same_trips(done, self.alone())
        assert done.actor.counts.grid_failures == 3  # the last day's result, twice, and what is left behind
        assert [r is None for r in results(grid, 4)] == [False, False, False, True]

    def test_a_grid_that_cannot_even_be_left(self) -> None:
        class Clinging(ScriptedGrid):
            def listen(self, name: str, key: str, listener: Any) -> Callable[[], None]:
                super().listen(name, key, listener)

                def stop() -> None:
                    raise GridError("grid: not reachable")

                return stop

        grid = Clinging()
        done = run(days(4, deep=DEEP_BARS), grid=grid)
        assert same_trips(done, self.alone())
        assert done.actor.counts.grid_failures == 1
        assert results(grid, 4)[3] is not None

    def test_what_is_unreadable_counts_as_configured(self) -> None:
        """APEX trades on; HIBERNATE closes what is open and stays away until the posture can be read again."""
        grid = ScriptedGrid({111: fail(True), 121: fail(False)})
        careful = run(days(2, deep=[READY, 115, 125]), grid=grid, unread_posture="HIBERNATE")
        assert [(ExitReason(t["reason"]), t["entry_bar"], t["exit_bar"]) for t in careful.trips] == [
            (ExitReason.HIBERNATE_HALT, READY, 110),
            (ExitReason.MAX_HOLD, 125, 125 + MAX_HOLD),
        ]
        grid = ScriptedGrid({111: fail(True), 121: fail(False)})
        assert run(days(2, deep=[READY, 115, 125]), grid=grid).trips["exit_bar"].tolist() == [READY + MAX_HOLD]

    @pytest.mark.parametrize(
        "value",
        [
            b"", b"{", b"{}", b"null", None, b'{"posture": "APEX"}',
            safety("CALM"), safety("APEX").replace(b'"APEX"', b"0"), safety("APEX").replace(b"APEX", b"\xff"),
            safety("APEX").replace(b"0.95", b"1.95"),
        ],
    )  # fmt: skip
    def test_a_posture_that_says_nothing_is_not_read(self, value: bytes | None) -> None:
        grid = MemoryGrid()
        if value is not None:
            grid.put(SAFETY, "latest", value)
        watch = Watch()
        done = run([block(deep=[READY])], grid=grid, hooks=watch, unread_posture="HIBERNATE")
        assert done.actor.counts.unread_postures == 130
        assert Gate(watch.column("gate")[READY]) == Gate.HALT
        assert len(done.orders) == 0

    def test_the_reference_comes_before_the_map(self) -> None:
        grid = ScriptedGrid()
        grid.reference(SAFETY).set(safety("TURTLE"))
        assert len(run([block(deep=[READY])], grid=grid).orders) == 0
        grid.reference(SAFETY).set(safety("STALKER"))
        assert run([block(deep=[READY])], grid=grid).trips["leverage"].tolist() == [2.0]

    def test_when_the_reference_cannot_be_asked_the_map_stands_in_where_no_money_is_at_stake(self) -> None:
        """A cluster that has lost its majority still has a map, which may be of yesterday."""

        class Headless(ScriptedGrid):
            def reference(self, name: str) -> Any:
                class Lost:
                    def get(self) -> bytes | None:
                        raise GridError("grid: no majority")

                return Lost()

        paper = run([block(deep=[READY])], grid=Headless())
        assert (len(paper.trips), paper.actor.counts.unread_postures) == (1, 0)
        money = run([block(deep=[READY])], grid=Headless(), unread_posture="HIBERNATE")
        assert (len(money.orders), money.actor.counts.unread_postures) == (0, 130)

    def test_without_a_grid_the_posture_is_the_configured_one(self) -> None:
        assert len(run([block(deep=[READY])]).trips) == 1
        assert len(run([block(deep=[READY])], unread_posture="HIBERNATE").orders) == 0


class TestReplayModeBarTracking:
    def test_every_bar_is_one_step(self) -> None:
        watch = Watch()
        done = run(days(3, deep=DEEP_BARS), hooks=watch)
        assert done.actor.counts.bars == 390
        assert watch.column("bar_idx").tolist() == list(range(390))
        assert done.actor.engine.state.core.bar_count == 390

    def test_the_day_s_hundredth_bar_opens_the_regime_every_day(self) -> None:
        watch = Watch()
        blocks = [
            block(130, day=each.day, start=130 * d, deep=(99, 100, 229, 230), late_regime=True)
            for d, each in enumerate(days(2))
        ]
        done = run(blocks, hooks=watch)
        gates = [Gate(watch.column("gate")[t]) for t in (99, 100, 229, 230)]
        assert gates == [Gate.VOL_REGIME, Gate.ENTERED, Gate.VOL_REGIME, Gate.ENTERED]
        assert done.trips["entry_bar"].tolist() == [100, 230]

    def test_a_replay_takes_recorded_bars_as_they_come(self) -> None:
        """Recorded scan numbers may repeat and their stamps are old by nature: neither means anything in a replay."""
        blocks = days(2, deep=[READY])
        for each in blocks:
            each.scan_number[:] = 7
        old = {7: 10**15}
        done = run(blocks, late=old)
        assert (done.actor.counts.bars, done.actor.counts.repeated_scans, done.actor.counts.stale_scans) == (260, 0, 0)
        assert len(done.trips) == 1

    def test_replay_and_live_step_the_same_bars_alike(self) -> None:
        one, other = Watch(), Watch()
        replay = run(days(2, deep=DEEP_BARS), cuts=False, hooks=one)
        live = run(singly(days(2, deep=DEEP_BARS)), cuts=False, hooks=other, live_mode=True)
        assert same_trips(replay, live)
        for name in ("bar_idx", "gate", "equity", "capital", "in_position", "regime_size_mult"):
            np.testing.assert_array_equal(one.column(name), other.column(name), name)

    def test_events_tell_what_the_venue_made_of_it(self) -> None:
        watch = Watch()
        done = run(days(2, deep=[READY]), hooks=watch)
        inside = watch.column("in_position").astype(bool)
        assert np.flatnonzero(inside).tolist() == list(range(READY, READY + MAX_HOLD))
        assert (watch.column("capital")[READY + MAX_HOLD :] == done.actor.engine.capital).all()
        size = float(done.trips["quantity"][0])
        held = watch.column("equity")[READY + 10] - watch.column("capital")[READY + 10]
        assert held == near(size * (price(READY) - price(READY + 10)))


def quiet(grid: MemoryGrid) -> bool:
    """Whether nobody hears of the breaker any more."""
    boost(grid, 1.5)
    return grid.listeners == 0


class TestOnStopCleanup:
    def test_the_listener_is_gone(self) -> None:
        grid = ScriptedGrid({50: lambda g: boost(g, 1.2)})
        done = run([block()], grid=grid)
        assert quiet(grid)
        assert (done.actor.inbox.received, done.actor.inbox.drain()) == (1, None)

    def test_the_last_day_is_written_once_with_what_the_end_closed(self) -> None:
        grid = ScriptedGrid()
        done = run(days(1, deep=[READY]), grid=grid)
        assert ExitReason(done.trips["reason"][0]) == ExitReason.END_OF_DATA
        (result,) = results(grid, 1)
        assert (result["trades"], result["pnl"]) == (1, near(done.trips["net_pnl"][0]))
        assert result["capital"] == near(done.balance, abs=1e-6)
        assert told(grid, "DOLPHIN_STATE_BLUE", "left_behind") is None
        assert ("DOLPHIN_STATE_BLUE", "left_behind") in grid.values, "an earlier session's word would stand"

    def test_what_stays_open_is_told_with_the_stop_behind_it(self) -> None:
        grid = ScriptedGrid()
        done = run(days(1, deep=[READY]), grid=grid, model=STOPPED, cuts=False)
        (stop,) = (o for o in done.orders if not o.is_closed)
        assert done.open == -stop.quantity.as_decimal() != 0
        assert stop.is_reduce_only
        expected = {
            "instrument": "BTCUSDT-PERP.BINANCE",
            "quantity": str(-done.open),
            "orders": [str(stop.client_order_id)],
        }
        assert told(grid, "DOLPHIN_STATE_BLUE", "left_behind") == done.actor.left_behind == expected
        assert results(grid, 1)[0]["trades"] == 0

    @pytest.mark.parametrize("model", [FRICTIONLESS, STOPPED])
    def test_flatten_on_stop_closes_what_is_open(self, model: VenueModel) -> None:
        grid = ScriptedGrid()
        done = run(days(1, deep=[READY]), grid=grid, model=model, cuts=False, flatten_on_stop=True)
        assert done.open == 0
        (trip,) = done.trips
        assert (ExitReason(trip["reason"]), trip["exit_bar"]) == (ExitReason.HIBERNATE_HALT, 129)
        # The venue fills it when the actor has stopped; result and engine follow all the same.
        assert done.balance == near(done.actor.engine.capital, abs=1e-6)
        assert done.balance == near(25_000.0 + trip["net_pnl"], abs=1e-6)
        (result,) = results(grid, 1)
        assert (result["trades"], result["pnl"]) == (1, near(trip["net_pnl"]))
        # A backtest's venue takes no more orders by then: the stop that could not be withdrawn is told.
        standing = [str(o.client_order_id) for o in done.orders if not o.is_closed]
        assert len(standing) == (model.stop_pct is not None)
        expected = {"instrument": "BTCUSDT-PERP.BINANCE", "quantity": "0", "orders": standing} if standing else None
        assert told(grid, "DOLPHIN_STATE_BLUE", "left_behind") == done.actor.left_behind == expected

    def test_no_order_is_left_unreported(self) -> None:
        """Latency lets the engine end before the closing order arrives: position and orders are told, all of them."""
        model = msgspec.structs.replace(STOPPED, latency_ms=500.0)
        for flatten in (False, True):
            done = run(days(1, deep=[READY]), model=model, cuts=False, flatten_on_stop=flatten)
            left = done.actor.left_behind
            assert left is not None
            assert sorted(left["orders"]) == sorted(str(o.client_order_id) for o in done.orders if not o.is_closed)
            assert len(left["orders"]) == 1 + flatten
            assert left["quantity"] == str(-done.open)

    def test_an_entry_under_way_at_the_stop_is_told(self) -> None:
        model, one = msgspec.structs.replace(FRICTIONLESS, latency_ms=500.0), block(130, deep=[129])
        with stage([one], model=model, cuts=False) as (engine, actor, market):
            engine.run(end=int(one.ts_ns[-1]))
            market.finish()
            (order,) = market.orders
            assert order.is_inflight
            assert actor.left_behind == {
                "instrument": "BTCUSDT-PERP.BINANCE",
                "quantity": "0",
                "orders": [str(order.client_order_id)],
            }

    @pytest.mark.parametrize("flatten", [False, True])
    def test_an_entry_filled_after_the_stop_is_followed(self, flatten: bool) -> None:
        """Nautilus tells a stopped strategy nothing; its engine, desk, stop order and last word follow all the same."""
        grid = ScriptedGrid()
        with stage(days(1, deep=[110]), grid=grid, model=STOPPED, cuts=False, flatten_on_stop=flatten) as built:
            engine, actor, market = built

            def stop_now(event: Any) -> None:
                if isinstance(event, OrderSubmitted) and actor.is_running:
                    actor.stop()
                    assert actor.left_behind == {
                        "instrument": "BTCUSDT-PERP.BINANCE",
                        "quantity": "0",
                        "orders": [str(event.client_order_id)],
                    }

            engine.kernel.msgbus.subscribe("events.order.*", stop_now)
            engine.run()
            market.finish()
            balance = engine.portfolio.account(VENUE).balance_total(USDT).as_double()
            held = [p for p in engine.cache.positions_open() if p.is_open]
        assert actor.counts.bars == 111, "the actor went on after its stop"
        left = told(grid, "DOLPHIN_STATE_BLUE", "left_behind")
        assert left == actor.left_behind
        assert balance == near(actor.engine.capital, abs=1e-6)
        if flatten:
            assert (held, left, len(actor.desk.trips())) == ([], None, 1)
        else:
            (stop,) = (o for o in market.orders if not o.is_closed)
            assert (left["quantity"], left["orders"]) == (str(held[0].quantity), [str(stop.client_order_id)])
            assert stop.type_string() == "STOP_MARKET"

    def test_no_thread_is_left(self) -> None:
        before = set(threading.enumerate())
        run(days(2, deep=[READY]), grid=ScriptedGrid())
        assert set(threading.enumerate()) <= before

    def test_hooks_see_the_last_block_once(self) -> None:
        watch = Watch()
        run(days(2, deep=[READY]), hooks=watch)
        assert [len(each) for each in watch.events] == [130, 130]

    def test_a_stop_before_the_first_scan_writes_no_day(self) -> None:
        grid = ScriptedGrid()
        with stage([block()], grid=grid) as (engine, actor, _):
            engine.kernel.clock.set_time(0)
            actor.on_stop()
            assert actor.left_behind is None
        assert len(grid.values) == 1

    def test_a_reset_actor_starts_anew(self) -> None:
        """The next session begins with what the account holds; listener, desk and day are its own."""
        grid = ScriptedGrid()
        first, second = days(2, deep=[READY])
        with stage([first, second], grid=grid) as (engine, actor, _):
            engine.run(end=int(first.ts_ns[-1]), streaming=True)
            before = actor.engine
            actor.stop()
            assert grid.listeners == 0
            actor.reset()
            actor.start()
            assert (grid.listeners, actor.desk.finished, actor.is_running) == (1, 0, True)
            assert actor.engine is not before
            assert actor.engine.capital == near(before.capital, abs=1e-6)
