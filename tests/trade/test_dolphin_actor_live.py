"""DolphinActor where time matters: gates that change while a bar is decided, scans that come late, and what a session
starts with (SPEC §10, §11, §13, §23; Bible §14.3, §14.4, §18.3).

Every test runs a real engine. Bar t of a run has the price 1000 − t/64; the bars in `deep` ask for a short, and a
position is held for 120 bars when nothing else ends it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.core.codes import ExitReason, Gate, Posture
from dolphin.core.errors import ConfigError
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.engines import GateSnap
from dolphin.trade.venue import FRICTIONLESS, VenueModel
from tests.support.actors import (
    CAPITAL,
    MAX_HOLD,
    READY,
    Run,
    ScriptedGrid,
    Watch,
    block,
    boost,
    days,
    meddle,
    results,
    run,
    same_trips,
    say,
    singly,
    stage,
)
from tests.support.forewarner import write_small_model

near = pytest.approx
Change = Callable[[NDAlphaEngine], object]
S = 1_000_000_000


def behind_its_back(at: dict[int, Change]) -> Watch:
    """Hooks under which somebody who does not go by the inbox changes the engine during these bars' steps."""
    return Watch(lambda engine: meddle(engine, at))


def new_boost(value: float) -> Change:
    return lambda engine: engine.update_acb_boost(value, 0.2)


def close_mc_gate(engine: NDAlphaEngine) -> None:
    engine.state.core.mc_red = 1


class TestStaleStateGuard:
    def test_a_snap_names_what_changed(self) -> None:
        before = GateSnap(1.5, 0.2, Posture.APEX, True)
        assert before.changed(before) == {}
        assert before.changed(before._replace(acb_boost=1.0)) == {"acb_boost": (1.5, 1.0)}
        assert before.changed(GateSnap(1.5, 0.8, Posture.TURTLE, False)) == {
            "acb_beta": (0.2, 0.8),
            "posture": (Posture.APEX, Posture.TURTLE),
            "mc_gate_open": (True, False),
        }

    @pytest.mark.parametrize("posture", ["STALKER", "TURTLE", "HIBERNATE"])
    def test_a_posture_that_changes_during_the_step_withholds_the_entry(self, posture: str) -> None:
        # Bar 99 reads the posture as number 99 and, since it wants to enter, again as number 100.
        grid = ScriptedGrid({READY + 1: lambda g: say(g, posture)})
        done = run([block(deep=[READY])], grid=grid)
        assert len(done.orders) == 0
        assert done.actor.counts.stale_state_events == 1
        assert done.actor.counts.withheld == {"stale_state": 1}
        assert not done.actor.engine.is_open

    def test_the_next_bar_decides_anew(self) -> None:
        grid = ScriptedGrid({READY + 1: lambda g: say(g, "STALKER")})
        done = run([block(deep=[READY, READY + 1])], grid=grid)
        (trip,) = done.trips
        assert (trip["entry_bar"], trip["leverage"]) == (READY + 1, 2.0)  # as STALKER allows
        assert done.actor.counts.withheld == {"stale_state": 1}
        grid = ScriptedGrid({READY + 1: lambda g: say(g, "TURTLE")})
        watch = Watch()
        done = run([block(deep=[READY, READY + 1])], grid=grid, hooks=watch)
        assert len(done.orders) == 0
        assert Gate(watch.column("gate")[READY + 1]) == Gate.HALT

    def test_a_posture_that_comes_back_was_a_change_too(self) -> None:
        grid = ScriptedGrid({READY + 1: lambda g: say(g, "STALKER"), READY + 2: lambda g: say(g, "APEX")})
        done = run([block(deep=[READY, READY + 1])], grid=grid)
        assert [(t["entry_bar"], t["leverage"]) for t in done.trips] == [(READY + 1, 5.0)]

    def test_a_boost_that_changes_during_the_step_withholds_the_entry(self) -> None:
        watch = behind_its_back({READY: new_boost(1.5)})
        done = run([block(deep=[READY, READY + 1])], hooks=watch)
        assert done.actor.counts.withheld == {"stale_state": 1}
        (trip,) = done.trips
        assert (trip["entry_bar"], len(done.orders)) == (READY + 1, 2)
        assert watch.column("regime_size_mult")[READY + 1] > 1.5, "sized as the new boost asks"

    def test_a_forewarner_that_closes_its_gate_during_the_step_withholds_the_entry(self) -> None:
        watch = behind_its_back({READY: close_mc_gate})
        done = run([block(deep=[READY, READY + 1])], hooks=watch)
        assert len(done.orders) == 0
        assert done.actor.counts.withheld == {"stale_state": 1}
        assert Gate(watch.column("gate")[READY + 1]) == Gate.HALT

    def test_a_grid_that_goes_during_the_step_is_a_change_where_it_counts_as_one(self) -> None:
        def away(grid: ScriptedGrid) -> None:
            grid.fail = True

        careful = run([block(deep=[READY])], grid=ScriptedGrid({READY + 1: away}), unread_posture="HIBERNATE")
        assert (len(careful.orders), careful.actor.counts.stale_state_events) == (0, 1)
        careless = run([block(deep=[READY])], grid=ScriptedGrid({READY + 1: away}))
        assert (len(careless.trips), careless.actor.counts.stale_state_events) == (1, 0)

    def test_exits_go_ahead(self) -> None:
        out = READY + MAX_HOLD
        done = run(days(2, deep=[READY]), hooks=behind_its_back({out: new_boost(1.5), out - 1: close_mc_gate}))
        assert [(ExitReason(t["reason"]), t["exit_bar"]) for t in done.trips] == [(ExitReason.MAX_HOLD, out)]
        assert done.actor.counts.stale_state_events == 0

    def test_nothing_of_a_withheld_entry_stays(self) -> None:
        """The engine is as if the bar had not asked: the rest of the run is that of a run in which it did not."""
        grid = ScriptedGrid({READY + 1: lambda g: say(g, "STALKER"), READY + 2: lambda g: say(g, "APEX")})
        stale, never = Watch(), Watch()
        one = run(days(2, deep=[READY, 140]), grid=grid, hooks=stale)
        blocks = days(2, deep=[READY, 140])
        blocks[0].bars.vol_regime_ok[READY] = 0
        other = run(blocks, hooks=never)
        assert same_trips(one, other)
        for name in ("in_position", "equity", "capital", "regime_size_mult"):
            np.testing.assert_array_equal(stale.column(name), never.column(name), name)
        assert one.actor.engine.state.core.bars_in_position == other.actor.engine.state.core.bars_in_position

    def test_the_day_s_result_says_so_and_the_next_day_s_does_not(self) -> None:
        grid = ScriptedGrid({READY + 1: lambda g: say(g, "STALKER")})
        run(days(2, deep=[READY]), grid=grid)
        assert [r.get("stale_state") for r in results(grid, 2)] == [True, None]


def live(blocks: Sequence[ScanBlock], **options: Any) -> Run:
    """A session as it would be live: one bar a block, no cuts, old scans are old."""
    return run(singly(blocks), live_mode=True, cuts=False, **options)


class TestLiveMode:
    @pytest.mark.parametrize(
        ("bar_seconds", "age_ns", "stale"),
        [
            (60.0, 120 * S, False),
            (60.0, 120 * S + 1, True),
            (1.0, 10 * S, False),
            (1.0, 10 * S + 1, True),
            (5.0, 10 * S + 1, True),
            (6.0, 12 * S, False),
        ],
    )
    def test_an_old_scan_is_counted_and_enters_nothing(self, bar_seconds: float, age_ns: int, stale: bool) -> None:
        done = live([block(deep=[READY])], late={READY: age_ns}, bar_seconds=bar_seconds)
        assert done.actor.counts.stale_scans == int(stale)
        assert done.actor.counts.withheld == ({"stale_scan": 1} if stale else {})
        assert len(done.orders) == int(not stale)

    def test_the_next_fresh_scan_decides_anew(self) -> None:
        done = live([block(deep=[READY, READY + 1])], late={READY: 300 * S})
        assert done.actor.desk.left_behind() is not None
        assert done.actor.engine.state.core.entry_bar == READY + 1

    def test_exits_and_histories_go_on_with_old_scans(self) -> None:
        out, watch, fresh = READY + MAX_HOLD, Watch(), Watch()
        late = {t: 300 * S for t in range(READY + 1, 260)}
        done = live(days(2, deep=[READY]), late=late, hooks=watch)
        assert [(ExitReason(t["reason"]), t["exit_bar"]) for t in done.trips] == [(ExitReason.MAX_HOLD, out)]
        assert (done.actor.counts.bars, done.actor.counts.stale_scans) == (260, len(late))
        live(days(2, deep=[READY]), hooks=fresh)
        for name in ("gate", "equity", "regime_size_mult"):
            np.testing.assert_array_equal(watch.column(name), fresh.column(name), name)

    def test_a_repeated_scan_is_not_a_bar(self) -> None:
        blocks = singly(days(2, deep=[READY]))
        again = [
            ScanBlock(b.day, b.ts_ns + S, b.bars.copy(), b.closes, b.scan_number)
            for b in (blocks[50], blocks[READY], blocks[150])
        ]
        fed = sorted([*blocks, *again], key=lambda b: int(b.ts_ns[0]))
        done = run(fed, live_mode=True, cuts=False)
        assert (done.actor.counts.bars, done.actor.counts.repeated_scans) == (260, 3)
        assert same_trips(done, live(days(2, deep=[READY])))
        assert len(done.trips) == 1

    def test_a_counter_that_starts_again_is_no_repetition(self) -> None:
        first, second = days(2, deep=[READY])
        second.scan_number[:] -= 130
        done = live([first, second])
        assert (done.actor.counts.bars, done.actor.counts.repeated_scans) == (260, 0)

    def test_a_skipped_scan_does_not_shift_those_after_it(self) -> None:
        """Several bars in a block, one of them a repetition: each scan is still its own row."""
        one = block(deep=[READY])
        one.scan_number[50] = 49
        watch = Watch()
        done = run([one], live_mode=True, cuts=False, hooks=watch)
        assert (done.actor.counts.bars, done.actor.counts.repeated_scans) == (129, 1)
        assert watch.column("vel_div")[READY] == one.bars.vel_div[READY] < 0.0
        assert watch.column("bar_idx")[-1] == 128

    def test_postures_and_updates_reach_a_live_session(self) -> None:
        grid = ScriptedGrid({50: lambda g: boost(g, 1.5), 111: lambda g: say(g, "HIBERNATE")})
        done = live([block(deep=[READY])], grid=grid, unread_posture="HIBERNATE")
        assert [(ExitReason(t["reason"]), t["exit_bar"]) for t in done.trips] == [(ExitReason.HIBERNATE_HALT, 110)]
        assert done.actor.engine.state.core.boost == 1.5


VENUE = VenueModel(stop_pct=0.05)


class TestWhatASessionStartsWith:
    @pytest.mark.parametrize("capital", [2_000.0, 1_000_000.0, 12_345.67])
    def test_capital_is_the_account_s(self, capital: float) -> None:
        done = run(days(2, deep=[READY]), capital=capital)
        (trip,) = done.trips
        assert (trip["capital_before"], trip["wanted_usd"]) == (capital, near(capital))  # fraction 0.2, leverage 5
        assert done.balance == near(capital + trip["net_pnl"], abs=1e-6)

    def test_engine_and_account_agree_to_the_cent_under_fees_spread_and_latency(self) -> None:
        grid = ScriptedGrid()
        done = run(days(4, deep=[READY, 230, 360]), model=VENUE, grid=grid)
        assert len(done.trips) == 3
        assert (done.trips["fees"] < 0.0).all()
        assert done.balance == near(done.actor.engine.capital, abs=0.005)
        assert results(grid, 4)[-1]["capital"] == near(done.balance, abs=0.005)
        assert sum(r["pnl"] for r in results(grid, 4)) == near(done.balance - CAPITAL, abs=0.005)

    def test_an_empty_account_is_refused(self) -> None:
        with stage([block()], capital=0.0) as (engine, actor, _):
            with pytest.raises(ConfigError, match="the account at BINANCE holds 0 USDT; expected more than 0"):
                engine.run()
            assert actor.counts.bars == 0

    @pytest.mark.parametrize("folder", [None, ""])
    def test_without_a_forewarner(self, folder: str | None) -> None:
        grid = ScriptedGrid()
        done = run([block()], mc_models_dir=folder, grid=grid)
        assert done.actor.engine.mc_report is None
        assert results(grid, 1)[0]["mc_status"] == "OK"

    @pytest.mark.parametrize("name", ["nothing here", "empty"])
    def test_a_folder_without_a_model_is_gone_on_without(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "empty").mkdir()
        done = run(days(2, deep=[READY]), mc_models_dir=str(tmp_path / name))
        assert done.actor.engine.mc_report is None
        assert same_trips(done, run(days(2, deep=[READY])))

    def test_a_model_judges_every_day(self, tmp_path: Path) -> None:
        write_small_model(tmp_path / "model")
        grid = ScriptedGrid()
        done = run(days(2, deep=[READY]), mc_models_dir=str(tmp_path / "model"), grid=grid)
        report = done.actor.engine.mc_report
        assert report is not None
        assert [r["mc_status"] for r in results(grid, 2)] == [report.status] * 2
        assert len(done.trips) == (report.status != "RED")

    def test_an_altered_model_is_not_used(self, tmp_path: Path) -> None:
        write_small_model(tmp_path / "model")
        with (tmp_path / "model" / "classifier.skops").open("ab") as file:
            file.write(b"x")
        assert run([block()], mc_models_dir=str(tmp_path / "model")).actor.engine.mc_report is None

    @pytest.mark.parametrize("unread", [each.name for each in Posture])
    def test_an_unreadable_posture_counts_as_configured(self, unread: str) -> None:
        grid = ScriptedGrid()
        grid.values.clear()
        done = run([block(deep=[READY])], grid=grid, unread_posture=unread)
        assert done.actor.posture == Posture[unread]
        expected = {"APEX": [5.0], "STALKER": [2.0]}.get(unread, [])
        assert done.trips["leverage"].tolist() == expected
        assert done.actor.counts.unread_postures == 130 + len(expected)

    def test_leverage_that_the_account_does_not_have(self) -> None:
        model = msgspec.structs.replace(FRICTIONLESS, leverage=1)
        overrides = {"max_leverage": "9.0", "abs_max_leverage": "12.0"}
        done = run([block(deep=[READY])], model=model, overrides=overrides)
        assert len(done.orders) == 0
        assert done.actor.desk.skipped == {"insufficient_margin": 1}
