"""The bridge closes: every component by hand, against exact arithmetic, over random runs and over recorded days."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.codes import ExitReason
from dolphin.core.errors import DataError
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestSpec, run_backtest
from dolphin.research.bridge import BRIDGE_TRADE, COMPONENTS, Bridge, bridge
from tests.support.runs import scan_archive_of, write_days
from tests.support.two_runs import (
    ASSETS,
    Trades,
    bridge_ref,
    changed,
    random_runs,
    replayed,
    roughened,
    round_trips,
)

STOP = int(ExitReason.PROTECTIVE_STOP)
near = pytest.approx


def only(done: Bridge) -> dict[str, float]:
    """The components that are not zero, to a billionth of a dollar."""
    return {name: round(value, 9) for name, value in done.components.items() if abs(value) > 1e-9}


def checked(replay: Trades, venue: Trades, assets: Sequence[str] = ASSETS) -> Bridge:
    """The bridge, after what holds for every one: it adds up, per trade and as a whole, and is what the slow way
    gives."""
    done = bridge(replay, venue, assets)
    scale = 1.0 + sum(float(np.abs(done.trades[name]).sum()) for name in (*COMPONENTS, "replay_net", "venue_net"))
    assert done.venue_net == near(math.fsum(venue["net_pnl"]), abs=1e-12 * scale)
    assert done.replay_net == near(math.fsum(replay["net_pnl"]), abs=1e-12 * scale)
    assert done.replay_net + sum(done.components.values()) == near(done.venue_net, abs=1e-9 * scale)
    for row in done.trades:
        total = row["replay_net"] + sum(row[name] for name in COMPONENTS)
        assert total == near(row["venue_net"], abs=1e-9 * scale)
    exact = bridge_ref(replay, venue)
    for name, value in done.components.items():
        assert value == near(float(exact.get(name, 0)), abs=1e-9 * scale), name
    assert done.closes
    return done


class TestOneByOne:
    """A short of 1,000 USDT from 100 to 99: 10 units, 10 USDT."""

    replay = replayed({})
    venue = round_trips(replay)

    def after(self, **values: float) -> dict[str, float]:
        return only(checked(self.replay, changed(self.venue, **values)))

    def test_nothing(self) -> None:
        done = checked(self.replay, self.venue)
        assert (done.replay_net, done.venue_net) == (10.0, 10.0)
        assert only(done) == {}
        assert len(done.largest()) == 0

    def test_fees(self) -> None:
        assert self.after(fees=-0.9) == {"fees": -0.9}

    def test_funding(self) -> None:
        assert self.after(funding=0.3) == {"funding": 0.3}

    def test_spread_and_slippage(self) -> None:
        # Sold 0.05 below the middle, bought 0.07 above it: 10 · 0.12.
        assert self.after(entry_fill=99.95, exit_fill=99.07) == {"spread_slippage": -1.2}

    def test_latency(self) -> None:
        # Filled in the middle, but of markets that had gone on: sold at 99.9 for 100, bought at 99.2 for 99.
        values = {"entry_mid": 99.9, "entry_fill": 99.9, "exit_mid": 99.2, "exit_fill": 99.2}
        assert self.after(**values) == {"latency": -3.0}

    def test_latency_and_slippage_are_told_apart(self) -> None:
        values = {"entry_mid": 99.9, "entry_fill": 99.8, "exit_mid": 98.5, "exit_fill": 98.6}
        assert self.after(**values) == {"latency": 4.0, "spread_slippage": -2.0}

    def test_lot_rounding(self) -> None:
        assert self.after(quantity=9.5) == {"lot_rounding": -0.5}

    def test_protective_stop(self) -> None:
        # Stopped at 105: −5 % instead of +1 % of 1,000.
        values = {"exit_price": 105.0, "exit_mid": 105.0, "exit_fill": 105.0, "exit_bar": 12, "reason": STOP}
        assert self.after(**values) == {"protective_stops": -60.0}

    def test_a_stop_that_slips_is_a_stop_and_slippage(self) -> None:
        values = {"exit_price": 105.0, "exit_mid": 105.2, "exit_fill": 105.25, "exit_bar": 12, "reason": STOP}
        assert self.after(**values) == {"protective_stops": -60.0, "latency": -2.0, "spread_slippage": -0.5}

    def test_sizing(self) -> None:
        assert self.after(wanted_usd=1100.0, quantity=11.0) == {"sizing": 1.0}

    def test_timing_of_a_pair(self) -> None:
        done = checked(self.replay, changed(self.venue, exit_price=98.0, exit_mid=98.0, exit_fill=98.0, exit_bar=40))
        assert only(done) == {"timing": 10.0}
        assert done.moved == 1

    def test_a_trade_that_only_the_replay_made(self) -> None:
        done = checked(self.replay, self.venue[:0])
        assert only(done) == {"timing": -10.0}
        assert done.plain()["trades"] == {
            "replay": 1, "venue": 0, "matched": 0, "left_on_another_bar": 0, "stopped": 0, "replay_only": 1,
            "venue_only": 0,
        }  # fmt: skip

    def test_a_trade_that_only_the_venue_run_made(self) -> None:
        # Fills are still told apart: 10 as decided, −0.9 of fees.
        done = checked(self.replay[:0], changed(self.venue, fees=-0.9))
        assert only(done) == {"timing": 10.0, "fees": -0.9}
        assert done.plain()["trades"]["venue_only"] == 1

    def test_a_stop_without_a_pair_is_timing(self) -> None:
        done = checked(self.replay[:0], changed(self.venue, reason=STOP))
        assert only(done) == {"timing": 10.0}
        assert done.stopped == 1

    def test_the_same_bar_and_another_asset_is_no_pair(self) -> None:
        done = checked(self.replay, changed(self.venue, asset=2))
        assert only(done) == {}
        assert done.trades["asset"].tolist() == [0, 2]
        assert done.trades["timing"].tolist() == [-10.0, 10.0]

    def test_all_at_once_on_the_long_side(self) -> None:
        # 2,000 wanted where the replay had 1,000; 18 of 20 units; out at 103 for 102, and everything has its price.
        replay = replayed({"side": 1, "exit_price": 102.0})
        values = {
            "wanted_usd": 2000.0, "quantity": 18.0, "entry_mid": 100.1, "entry_fill": 100.2, "exit_bar": 50,
            "exit_price": 103.0, "exit_mid": 102.8, "exit_fill": 102.7, "fees": -1.5, "funding": -0.25,
        }  # fmt: skip
        done = checked(replay, changed(round_trips(replay), **values))
        assert only(done) == {
            "fees": -1.5, "spread_slippage": -3.6, "latency": -5.4, "lot_rounding": -6.0, "funding": -0.25,
            "sizing": 20.0, "timing": 20.0,
        }  # fmt: skip
        assert (done.replay_net, done.venue_net) == (20.0, near(43.25))

    def test_the_page_s_example(self) -> None:
        values = {
            "wanted_usd": 1100.0, "quantity": 10.9, "entry_mid": 99.95, "entry_fill": 99.9, "exit_mid": 99.05,
            "exit_fill": 99.12, "fees": -1.08,
        }  # fmt: skip
        done = checked(self.replay, changed(self.venue, **values))
        assert done.venue_net == near(7.422)
        shown = {"sizing": 1.0, "lot_rounding": -0.1, "latency": -1.09, "spread_slippage": -1.308, "fees": -1.08}
        assert only(done) == near(shown)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_random_runs_always_add_up(seed: int, count: int) -> None:
    checked(*random_runs(np.random.default_rng(seed), count))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_run_against_itself_is_all_zero(seed: int) -> None:
    replay, _ = random_runs(np.random.default_rng(seed), 25)
    done = checked(replay, round_trips(replay))
    # A quantity of notional/price, times a price, is the notional but for rounding in its last digit.
    size = 1e-12 * float(replay["notional_usd"].sum())
    assert all(abs(value) <= size for value in done.components.values())


class TestWhatItTells:
    done = bridge(*random_runs(np.random.default_rng(5), 60), ASSETS)

    def test_plain_is_json_and_holds_the_totals(self) -> None:
        told = json.loads(json.dumps(self.done.plain(), allow_nan=False))
        assert list(told["components"]) == list(COMPONENTS)
        assert told["replay_net"] + sum(told["components"].values()) == near(told["venue_net"], abs=1e-6)
        assert abs(told["remainder"]) < 1e-6
        assert told["closes"] is True

    def test_the_largest_come_first(self) -> None:
        rows = self.done.plain()["largest"]
        off = [abs(row["difference"]) for row in rows]
        every = np.sort(np.abs(self.done.trades["venue_net"] - self.done.trades["replay_net"]))[::-1]
        assert off == near(every[:10].tolist())
        for row in rows:
            assert sum(row["components"].values()) == near(row["difference"], abs=1e-6)
            assert {row["replay_trade"] is None, row["replay_net"] is None} in ({True}, {False})
            assert row["asset"] in ASSETS
            assert row["entry"].endswith("Z")

    def test_days_end_at_the_totals(self) -> None:
        days, sums = self.done.daily()
        assert len(days) > 2
        assert (np.diff(days) > np.timedelta64(0, "D")).all()
        for name, total in self.done.components.items():
            assert sums[name][-1] == near(total, abs=1e-6)
        assert sums["difference"] == near(sum(sums[name] for name in COMPONENTS), abs=1e-6)

    def test_a_trade_counts_on_the_day_the_venue_run_left_it(self) -> None:
        replay = replayed({"exit_bar": 60}, {"entry_bar": 1500})
        venue = changed(round_trips(replay), 0, exit_bar=1450, fees=-1.0)
        days, sums = bridge(replay, changed(venue, 1, fees=-2.0), ASSETS).daily()
        assert days.astype(str).tolist() == ["2024-01-02"]
        assert sums["fees"].tolist() == [-3.0]

    def test_traded_is_both_legs(self) -> None:
        replay = replayed({})
        assert bridge(replay, changed(round_trips(replay), exit_fill=98.0), ASSETS).traded_usd == 10 * 100 + 10 * 98

    def test_no_trades(self) -> None:
        done = checked(replayed(), round_trips(replayed()))
        assert done.trades.dtype == BRIDGE_TRADE
        told = done.plain()
        assert (told["difference"], told["remainder"], told["largest"]) == (0.0, 0.0, [])


class TestItDoesNotClose:
    def test_a_record_that_contradicts_itself(self) -> None:
        replay = replayed({}, {})
        venue = round_trips(replay)
        venue["net_pnl"][1] += 0.02
        done = bridge(replay, venue, ASSETS)
        assert done.remainder == near(0.02)
        assert not done.closes
        assert done.plain()["closes"] is False
        assert done.trades["remainder"].tolist() == near([0.0, 0.02])

    def test_contradictions_that_cancel(self) -> None:
        replay = replayed({}, {})
        venue = round_trips(replay)
        venue["net_pnl"] += [1.0, -1.0]
        done = bridge(replay, venue, ASSETS)
        assert abs(done.remainder) < 1e-9
        assert not done.closes

    def test_rounding_is_no_contradiction(self) -> None:
        replay = replayed({})
        venue = round_trips(replay)
        venue["net_pnl"] += 0.004
        assert bridge(replay, venue, ASSETS).closes


class TestBadInput:
    replay = replayed({}, {})
    venue = round_trips(replay)

    @pytest.mark.parametrize(
        ("column", "value", "message"),
        [
            ("entry_price", np.nan, "replay trade 1: entry_price is nan, expected a finite number"),
            ("entry_price", 0.0, "replay trade 1: entry_price is 0, expected a number above 0"),
            ("asset", 4, "replay trade 1: asset is 4, expected a column 0 … 3"),
            ("side", 0, "replay trade 1: side is 0, expected −1 or"),
            ("entry_bar", 10, "replay trade 1: entry_bar is 10, expected a bar after the entry before it"),
            ("exit_bar", 3, "replay trade 1: exit_bar is 3, expected a bar not before the entry"),
            ("capital_after", 10.0, "replay trade 1: capital_after is 10, expected more than net_pnl alone"),
            ("net_pnl", 9.5, "replay trade 1: net_pnl is 9.5, expected the price move alone; replay with --friction"),
        ],
    )
    def test_replay(self, column: str, value: float, message: str) -> None:
        bad = self.replay.copy()
        bad[column][1] = value
        with pytest.raises(DataError, match=message):
            bridge(bad, self.venue, ASSETS)

    @pytest.mark.parametrize("column", ["quantity", "lot", "entry_mid", "exit_fill", "wanted_usd", "capital_before"])
    @pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, -1.0])
    def test_venue(self, column: str, value: float) -> None:
        bad = self.venue.copy()
        bad[column][1] = value
        with pytest.raises(
            DataError, match=rf"venue trade 1: {column} is {value:.10g}, expected a finite number above"
        ):
            bridge(self.replay, bad, ASSETS)

    @pytest.mark.parametrize("column", ["fees", "funding", "net_pnl"])
    def test_venue_money(self, column: str) -> None:
        bad = self.venue.copy()
        bad[column][0] = np.inf
        with pytest.raises(DataError, match=rf"venue trade 0: {column} is inf, expected a finite number"):
            bridge(self.replay, bad, ASSETS)

    def test_runs_taken_for_each_other(self) -> None:
        with pytest.raises(DataError, match="replay trades: no column 'notional_usd'"):
            bridge(self.venue, self.replay, ASSETS)
        with pytest.raises(DataError, match="venue trades: no column 'entry_fill_ts'"):
            bridge(self.replay, self.replay, ASSETS)


def test_two_runs_of_the_engine(tmp_path: Path) -> None:
    """The engine twice over the same bars, once with a stop and less capital, as a rough venue would settle it."""
    judge_engine_runs(scan_archive_of(tmp_path / "days", 6))


def test_two_runs_over_recorded_days(recorded_scans: Sequence[ScanDay], tmp_path: Path) -> None:
    judge_engine_runs(write_days(tmp_path / "days", recorded_scans))


def judge_engine_runs(data: Path) -> None:
    free = run_backtest(BacktestSpec(data, friction="none"))
    held = run_backtest(BacktestSpec(data, friction="none", capital=24_000.0, overrides={"stop_pct": "0.003"}))
    assert len(free.trades) > 20
    assert not any(only(checked(free.trades, round_trips(free.trades), free.assets)).values())
    venue = round_trips(held.trades)
    venue["reason"][venue["reason"] == int(ExitReason.STOP_LOSS)] = STOP
    done = checked(free.trades, roughened(venue, np.random.default_rng(3)), free.assets)
    counts = done.plain()["trades"]
    assert counts["stopped"] > 0
    assert counts["venue_only"] > 0
    assert all(value != 0.0 for value in done.components.values())
