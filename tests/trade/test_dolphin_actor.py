"""DolphinActor inside NautilusTrader: champion, breaker, posture, days (SPEC §6, §9, §12, §13, §23; Bible §18.3).

Every test runs a real engine. Bar t of a run has the price 1000 − t/64; the bars in `deep` ask for a short, and a
position is held for 120 bars when nothing else ends it.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import msgspec
import pytest

from dolphin.core.codes import Direction, ExitReason, Gate
from dolphin.core.errors import ConfigError
from dolphin.core.params import CHAMPION, FRICTION_FLAGS, champion_hash
from dolphin.grid.schemas import ACB_BOOST, Decoded
from dolphin.grid.values import AcbBoost
from dolphin.trade.nautilus.settings import DolphinActorConfig
from dolphin.trade.ports import FEATURES
from dolphin.trade.venue import FRICTIONLESS
from tests.support.actors import (
    CAPITAL,
    FIRST,
    MAX_HOLD,
    READY,
    Applied,
    ScriptedGrid,
    Watch,
    block,
    boost,
    days,
    on_a_thread,
    price,
    results,
    run,
    same_trips,
    say,
    singly,
    stage,
    told,
)

near = pytest.approx
THE_HASH = "3e85f242030efb87"


class TestChampionParamInvariants:
    def test_without_overrides_the_engine_is_the_champion_s(self) -> None:
        actor = run([block()]).actor
        assert actor.engine.params.champion == CHAMPION
        assert champion_hash(actor.engine.params.champion) == THE_HASH

    def test_the_venue_charges_so_the_engine_does_not(self) -> None:
        params = run([block()]).actor.engine.params
        assert [getattr(params, flag) for flag in FRICTION_FLAGS] == [False, False, False]

    def test_the_expected_hash_is_met(self) -> None:
        assert len(run(days(2, deep=[READY]), expected_hash=THE_HASH).trips) == 1

    def test_switches_outside_the_twenty_are_no_drift(self) -> None:
        done = run([block()], expected_hash=THE_HASH, overrides={"vd_enabled": "true"})
        assert done.actor.engine.params.vd_enabled

    @pytest.mark.parametrize("overrides", [{"vel_div_threshold": "-0.021"}, {"seed": "43"}, {"stop_pct": "0.99"}])
    def test_drift_refuses_before_anything_happens(self, overrides: dict[str, str]) -> None:
        grid = ScriptedGrid()
        options: dict[str, Any] = {"grid": grid, "expected_hash": THE_HASH, "overrides": overrides}
        with stage(days(2, deep=[READY]), **options) as (engine, actor, market):
            with pytest.raises(ConfigError, match=f"expected {THE_HASH}: the parameters have drifted"):
                engine.run()
            market.finish()
            assert (market.orders, market.positions) == ([], [])
            assert (actor.counts.bars, grid.listeners, grid.readings) == (0, 0, 0)
        assert len(grid.values) == 1, "more than the posture that the test put there"

    def test_every_result_carries_the_hash(self) -> None:
        grid = ScriptedGrid()
        run(days(3), grid=grid, overrides={"max_hold_bars": "60"})
        changed = champion_hash(msgspec.structs.replace(CHAMPION, max_hold_bars=60))
        hashes = [told(grid, "DOLPHIN_PNL_BLUE", f"2024-01-0{d}_nautilus")["param_hash"] for d in (1, 2, 3)]
        assert hashes == [changed] * 3
        assert changed != THE_HASH

    def test_blue_is_short_and_green_is_long(self) -> None:
        grid = ScriptedGrid()
        blue, green = run([block()], grid=grid), run([block()], grid=grid, profile="green")
        assert [each.actor.engine.direction for each in (blue, green)] == [Direction.SHORT, Direction.LONG]
        maps = {name for name, _ in grid.values}
        assert maps >= {"DOLPHIN_PNL_BLUE", "DOLPHIN_STATE_BLUE", "DOLPHIN_PNL_GREEN", "DOLPHIN_STATE_GREEN"}
        assert told(grid, "DOLPHIN_STATE_GREEN", "latest_nautilus")["strategy"] == "green"

    def test_the_config_can_be_written_down(self) -> None:
        config = DolphinActorConfig(assets=("BTCUSDT",), overrides={"seed": "7"}, expected_hash=THE_HASH)
        assert DolphinActorConfig.parse(config.json()) == config
        with pytest.raises(msgspec.ValidationError, match="unknown field"):
            DolphinActorConfig.parse(b'{"leverage": 10, "levrage": 20}')

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"profile": "red"}, "profile 'red'; expected blue or green"),
            ({"unread_posture": "CALM"}, "unread_posture 'CALM'; expected APEX or STALKER or TURTLE or HIBERNATE"),
            ({"assets": ("ETHUSDT",)}, "1 instruments for the assets"),
        ],
    )
    def test_a_config_that_nobody_can_mean_is_refused(self, config: dict[str, Any], message: str) -> None:
        with pytest.raises(ConfigError, match=message), stage([block()], **config):
            pass

    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({"overrides": {"vel_dif": "1"}}, "vel_dif: no such parameter"),
            ({"boost_mode": "gold"}, "boost_mode 'gold': expected acb or none"),
        ],
    )
    def test_what_no_engine_can_be_made_of_is_refused_at_the_start(self, config: dict[str, Any], message: str) -> None:
        with stage([block()], **config) as (engine, _, market), pytest.raises(ConfigError, match=message):
            engine.run()
        assert market.orders == []


@pytest.fixture
def restless() -> Iterator[None]:
    """Threads change places as often as Python can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TestACBPendingFlagThreadSafety:
    def test_an_update_waits_for_the_top_of_the_next_bar(self) -> None:
        applied = Applied()
        # Bar 50 has drained its inbox when it reads the posture: what comes then is for bar 51.
        grid = ScriptedGrid({50: lambda g: on_a_thread(lambda: boost(g, 1.5, 0.8))})
        watch = Watch(applied)
        done = run([block()], grid=grid, hooks=watch)
        assert applied.values == [(51, 1.5, 0.8)]
        assert applied.threads == {threading.get_ident()}, "the listener's thread touched the engine"
        mult = watch.column("regime_size_mult")
        assert (mult[50], mult[51]) == (1.0, 1.5)
        assert (done.actor.inbox.received, done.actor.inbox.refused) == (1, 0)

    def test_of_several_the_latest_counts_and_only_once(self) -> None:
        applied = Applied()
        grid = ScriptedGrid({50: lambda g: on_a_thread(*(lambda v=v: boost(g, v) for v in (1.1, 1.9, 1.3)))})
        done = run([block()], grid=grid, hooks=Watch(applied))
        assert applied.values == [(51, 1.3, 0.2)]
        assert (done.actor.inbox.received, done.actor.inbox.replaced) == (3, 2)

    def test_parsing_and_applying_happen_outside_the_lock(self, monkeypatch: pytest.MonkeyPatch) -> None:
        applied, locked = Applied(), []
        decode = ACB_BOOST.decode

        def watched(data: bytes | None, counts: Decoded | None = None) -> AcbBoost:
            assert applied.inbox is not None
            locked.append(applied.inbox._lock.locked())
            return decode(data, counts)

        monkeypatch.setattr(ACB_BOOST, "decode", watched)
        grid = ScriptedGrid({t: lambda g: on_a_thread(lambda: boost(g, 1.2)) for t in (10, 20, 30)})
        with stage([block()], grid=grid, hooks=Watch(applied)) as (engine, actor, _):
            applied.inbox = actor.inbox
            engine.run()
        assert locked == [False] * 3
        assert len(applied.values) == 3
        assert not applied.locked

    @pytest.mark.parametrize(
        "bad", [b"", b"{", b'{"boost": 1.2}', b'{"boost": 0.9, "beta": 0.2}', b'{"boost": NaN, "beta": 0}', b"\xff"]
    )
    def test_what_is_malformed_is_refused_and_counted(self, bad: bytes) -> None:
        applied = Applied()
        grid = ScriptedGrid(
            {
                40: lambda g: on_a_thread(lambda: boost(g, 1.5)),
                50: lambda g: on_a_thread(lambda: g.put(FEATURES, "acb_boost", bad)),
            }
        )
        done = run(days(2, deep=[READY]), grid=grid, hooks=Watch(applied))
        assert applied.values == [(41, 1.5, 0.2)]
        assert (done.actor.inbox.received, done.actor.inbox.refused) == (1, 1)
        # The position opened under boost 1.5 was not closed by a boost that nobody sent.
        assert done.trips["reason"].tolist() == [ExitReason.MAX_HOLD]

    def test_a_normalising_update_closes_at_the_very_next_bar(self) -> None:
        grid = ScriptedGrid(
            {
                50: lambda g: on_a_thread(lambda: boost(g, 1.5)),
                # Bar 99 reads twice, so that bar 110's reading is number 111.
                111: lambda g: on_a_thread(lambda: boost(g, 1.0)),
            }
        )
        done = run(days(1, deep=[READY]), grid=grid)
        assert [(ExitReason(t["reason"]), t["exit_bar"]) for t in done.trips] == [
            (ExitReason.SUBDAY_ACB_NORMALIZATION, 111)
        ]

    def test_without_a_breaker_nobody_listens(self) -> None:
        grid = ScriptedGrid({50: lambda g: boost(g, 1.5)})
        done = run([block()], grid=grid, boost_mode="none")
        assert done.actor.inbox.received == 0
        assert done.actor.engine.state.core.boost == 1.0

    @pytest.mark.usefixtures("restless")
    def test_many_threads_offer_while_the_actor_runs(self) -> None:
        applied, stop, flowing = Applied(), threading.Event(), threading.Event()

        def offer(grid: ScriptedGrid, who: int) -> None:
            k = 0
            while not stop.is_set():
                number = (4 * k + who) % 1000 / 1000.0
                boost(grid, 1.3 + number, number)  # beta repeats what boost says: a torn pair would show
                if k % 16 == 0:
                    grid.put(FEATURES, "acb_boost", b'{"boost": "torn')
                k += 1
                flowing.set()

        def begin(grid: ScriptedGrid) -> None:
            for thread in threads:
                thread.start()
            assert flowing.wait(30)

        watch = Watch(applied)
        grid = ScriptedGrid({5: begin})
        threads = [threading.Thread(target=offer, args=(grid, who)) for who in range(4)]
        try:
            with stage(days(2, deep=[READY]), grid=grid, hooks=watch) as (engine, actor, _):
                engine.run()
                inbox = actor.inbox
        finally:
            stop.set()
            for thread in threads:
                thread.join(30)
        left = inbox.drain()
        assert len(applied.values) == inbox.received - inbox.replaced - (left is not None)
        assert len(applied.values) > 1
        assert inbox.refused > 0
        assert applied.threads == {threading.get_ident()}
        bars = [bar for bar, _, _ in applied.values]
        assert bars == sorted(set(bars)), "two updates at one bar"
        assert all(value == near(1.3 + beta) for _, value, beta in applied.values)
        # In force at the very bar; strength adds beta at the one that asks for a trade, midnight ends what was before.
        seen = [(bar, value) for bar, value, _ in applied.values if bar not in (READY, 130)]
        mult = watch.column("regime_size_mult")
        assert [mult[bar] for bar, _ in seen] == near([value for _, value in seen])
        assert grid.listeners == 0


class TestHibernatePostureGuard:
    def test_it_closes_what_is_open_at_this_bar_through_the_venue(self) -> None:
        one = block(deep=[READY])
        grid = ScriptedGrid({111: lambda g: say(g, "HIBERNATE")})
        done = run([one], grid=grid)
        (trip,) = done.trips
        assert (ExitReason(trip["reason"]), trip["exit_bar"]) == (ExitReason.HIBERNATE_HALT, 110)
        assert trip["exit_fill_ts"] == one.ts_ns[110]
        assert trip["exit_fill"] == price(110)
        entry, out = done.orders
        assert (entry.is_reduce_only, out.is_reduce_only, out.is_closed) == (False, True, True)
        assert done.open == 0
        assert done.balance == near(done.actor.engine.capital, abs=1e-6)

    def test_the_stop_at_the_venue_goes_with_the_position(self) -> None:
        model = msgspec.structs.replace(FRICTIONLESS, stop_pct=0.05)
        grid = ScriptedGrid({111: lambda g: say(g, "HIBERNATE")})
        done = run([block(deep=[READY])], grid=grid, model=model)
        assert [(o.type_string(), o.status_string()) for o in done.orders] == [
            ("MARKET", "FILLED"),
            ("STOP_MARKET", "CANCELED"),
            ("MARKET", "FILLED"),
        ]

    def test_then_it_refuses_entries_but_goes_on_stepping(self) -> None:
        watch = Watch()
        grid = ScriptedGrid({105: lambda g: say(g, "HIBERNATE"), 121: lambda g: say(g, "APEX")})
        done = run([block(deep=range(110, 130))], grid=grid, hooks=watch)
        assert done.actor.counts.bars == 130
        assert [Gate(g) for g in watch.column("gate")[110:121]] == [Gate.HALT] * 11
        assert done.trips["entry_bar"].tolist() == [121], "free again with the posture, at the very bar"

    @pytest.mark.parametrize(("posture", "leverage"), [("APEX", 5.0), ("STALKER", 2.0), ("TURTLE", None)])
    def test_the_others_pass_as_they_may(self, posture: str, leverage: float | None) -> None:
        watch = Watch()
        done = run([block(deep=[READY])], grid=ScriptedGrid({0: lambda g: say(g, posture)}), hooks=watch)
        assert done.trips["leverage"].tolist() == ([] if leverage is None else [leverage])
        assert Gate(watch.column("gate")[READY]) == (Gate.HALT if leverage is None else Gate.ENTERED)
        assert done.actor.posture.name == posture

    def test_turtle_leaves_a_position_alone(self) -> None:
        grid = ScriptedGrid({105: lambda g: say(g, "TURTLE")})
        done = run(days(2, deep=[READY]), grid=grid)
        assert [(ExitReason(t["reason"]), t["exit_bar"]) for t in done.trips] == [
            (ExitReason.MAX_HOLD, READY + MAX_HOLD)
        ]


class TestDateChangeHandling:
    def test_a_day_begins_and_ends_once(self) -> None:
        blocks = days(3)
        written: list[str] = []

        class Counting(ScriptedGrid):
            def put(self, name: str, key: str, value: bytes) -> None:
                written.append(f"{name}/{key}")
                super().put(name, key, value)

        watch = Watch()
        done = run(blocks, grid=Counting(), hooks=watch)
        assert done.actor.counts.days == 3
        assert watch.begun == [b.day for b in blocks]
        assert [w for w in written if "PNL" in w] == [f"DOLPHIN_PNL_BLUE/{b.day.isoformat()}_nautilus" for b in blocks]

    def test_blocks_of_one_bar_make_the_same_days(self) -> None:
        blocks, grid, single = days(3, deep=[READY, 225, 300]), ScriptedGrid(), ScriptedGrid()
        whole, one_by_one = run(blocks, grid=grid, cuts=False), run(singly(blocks), grid=single, cuts=False)
        assert one_by_one.actor.counts.days == 3
        assert same_trips(whole, one_by_one)
        assert len(whole.trips) == 2
        assert results(single, 3) == results(grid, 3)

    def test_each_day_has_its_own_result(self) -> None:
        grid = ScriptedGrid()
        done = run(days(4, deep=[READY, 230]), grid=grid)
        assert done.trips["exit_bar"].tolist() == [READY + MAX_HOLD, 230 + MAX_HOLD]  # on the second and third day
        found = results(grid, 4)
        assert [r["trades"] for r in found] == [0, 1, 1, 0]
        first, second = done.trips["net_pnl"]
        assert [r["pnl"] for r in found] == near([0.0, first, second, 0.0])
        assert [r["capital"] for r in found] == near(
            [CAPITAL, CAPITAL + first, CAPITAL + first + second, CAPITAL + first + second]
        )
        assert told(grid, "DOLPHIN_STATE_BLUE", "latest_nautilus") == {**found[-1], "strategy": "blue"}
        assert all(r["posture"] == "APEX" and r["mc_status"] == "OK" and "stale_state" not in r for r in found)

    def test_histories_survive_midnight(self) -> None:
        # The first bar of the second day has 130 bars behind it: enough to enter on, if they were kept.
        assert run(days(2, deep=[130])).trips["entry_bar"].tolist() == [130]
        assert len(run([block(130, deep=[0])]).trips) == 0

    def test_a_position_survives_midnight(self) -> None:
        grid = ScriptedGrid()
        done = run(days(2, deep=[125]), grid=grid)
        (trip,) = done.trips
        assert (trip["entry_bar"], trip["exit_bar"]) == (125, 125 + MAX_HOLD)
        assert ExitReason(trip["reason"]) == ExitReason.MAX_HOLD
        assert len(done.orders) == 2

    def test_the_day_s_boost_ends_with_it(self) -> None:
        grid = ScriptedGrid({50: lambda g: boost(g, 1.5)})
        run(days(2), grid=grid)
        assert [(r["boost"], r["beta"]) for r in results(grid, 2)] == [(1.5, 0.2), (1.0, 0.0)]

    def test_an_update_over_midnight_was_for_the_day_before(self) -> None:
        # Bar 129, the day's last, has drained its inbox when the update comes (docs/decisions/0037).
        applied, watch = Applied(), Watch()
        watch.attach = applied  # type: ignore[method-assign]
        run(days(2), grid=ScriptedGrid({129: lambda g: boost(g, 1.5)}), hooks=watch)
        assert applied.values == [(130, 1.5, 0.2)]
        assert watch.column("regime_size_mult")[128:132].tolist() == [1.0] * 4

    def test_a_normalising_update_over_midnight_still_closes(self) -> None:
        # Bar 120 reads twice: bar 129's reading is number 130.
        grid = ScriptedGrid({50: lambda g: boost(g, 1.5), 130: lambda g: boost(g, 1.0)})
        (trip,) = run(days(2, deep=[120]), grid=grid).trips
        assert (ExitReason(trip["reason"]), trip["exit_bar"]) == (ExitReason.SUBDAY_ACB_NORMALIZATION, 130)

    def test_before_a_gap_what_is_open_closes_at_the_last_price(self) -> None:
        late = block(130, day=FIRST + timedelta(days=2), start=130, deep=[140])
        done = run([block(130, deep=[125]), late])
        gap, end = done.trips
        assert (ExitReason(gap["reason"]), gap["exit_bar"], gap["exit_fill"]) == (ExitReason.DATA_GAP, 129, price(129))
        assert (ExitReason(end["reason"]), end["entry_bar"]) == (ExitReason.END_OF_DATA, 140)

    def test_a_gap_that_nobody_announced_closes_through_the_venue_too(self) -> None:
        """A live feed that was away for a day: the position is still there, and leaves at what it finds."""
        away = singly([block(130, day=FIRST + timedelta(days=2), start=130, deep=[140])])
        done = run([*singly([block(130, deep=[125])]), *away], cuts=False)
        (gap,) = done.trips
        assert (ExitReason(gap["reason"]), gap["exit_bar"]) == (ExitReason.DATA_GAP, 129)
        assert (gap["exit_price"], gap["exit_fill"]) == near((price(129), price(130)), rel=1e-12)
        assert gap["exit_fill_ts"] == away[0].ts_ns[0]
        # Venue and engine agree after it, and the next entry is not taken for one too many.
        assert done.balance == near(done.actor.engine.capital, abs=1e-6)
        assert done.actor.desk.skipped == {}
        assert done.open == -done.orders[2].quantity.as_decimal()
