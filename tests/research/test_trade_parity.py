"""Parity of two runs: what counts as the same trade, what does not, and that lots alone never break it."""

from __future__ import annotations

import json
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
from dolphin.research.parity import Parity, compare_trades
from tests.support.runs import scan_archive_of, write_days
from tests.support.two_runs import ASSETS, CAPITAL, Trades, changed, in_lots, random_runs, replayed, round_trips

near = pytest.approx


def compared(replay: Trades, venue: Trades, **options: int) -> Parity:
    return compare_trades(replay, venue, ASSETS, **options)


class TestOneField:
    replay = replayed({}, {"asset": 2}, {})
    venue = round_trips(replay, lot=0.001)

    def words(self, **values: float) -> list[str]:
        done = compared(self.replay, changed(self.venue, 1, **values))
        assert not done.ok
        assert done.matched == 2
        return done.plain()["mismatches"]

    def test_the_same(self) -> None:
        done = compared(self.replay, self.venue)
        assert done.ok
        assert (done.matched, done.replay_trades, done.venue_trades) == (3, 3, 3)
        assert (done.mismatches, done.more, done.price_bps) == ((), 0, 0.0)
        assert done.notional_lots == near(0.0, abs=1e-9)
        assert done.raw_notional_usd == near(0.0, abs=1e-9)

    def test_asset(self) -> None:
        assert self.words(asset=3) == ["trade 1: asset is SOLUSDT in the replay, XRPUSDT at the venue"]

    def test_side(self) -> None:
        assert self.words(side=1) == ["trade 1: side is SHORT in the replay, LONG at the venue"]

    def test_exit_bar_and_reason(self) -> None:
        assert self.words(exit_bar=117, reason=int(ExitReason.PROTECTIVE_STOP)) == [
            "trade 1: exit_bar is 130 in the replay, 117 at the venue",
            "trade 1: reason is FIXED_TP in the replay, PROTECTIVE_STOP at the venue",
        ]

    def test_entry_bar(self) -> None:
        assert self.words(entry_bar=111) == ["trade 1: entry_bar is 110 in the replay, 111 at the venue"]

    def test_notional(self) -> None:
        # 10 units wanted, 9.997 filled: three lots of 0.001, 0.30 USDT.
        (line,) = self.words(quantity=9.997)
        assert line.startswith("trade 1: notional is 1,000.00 USDT (1,000.00 × 1.000000 for the capital) in the replay")
        assert line.endswith("999.70 USDT, 3.00 lots off at the venue")

    def test_a_decision_price_is_told_and_not_judged(self) -> None:
        done = compared(self.replay, changed(self.venue, 1, exit_price=99.099))
        assert done.ok
        assert done.price_bps == near(10.0)


class TestNotional:
    def test_within_a_lot(self) -> None:
        replay = replayed({})
        for quantity, ok in ((9.999, True), (10.001, True), (9.9985, False), (10.0015, False)):
            done = compared(replay, changed(round_trips(replay, lot=0.001), quantity=quantity))
            assert done.ok is ok, quantity
            assert done.notional_lots == near(abs(quantity - 10.0) / 0.001)
            assert done.notional_usd == near(abs(quantity - 10.0) * 100.0)

    def test_the_capital_s_drift_is_taken_out(self) -> None:
        # The venue has 1 % less capital and so asks for 990 USDT, of which 9.9 units are bought.
        replay = replayed({})
        venue = changed(round_trips(replay, 0.001), capital_before=0.99 * CAPITAL, wanted_usd=990.0, quantity=9.9)
        done = compared(replay, venue)
        assert done.ok
        assert done.notional_lots == near(0.0, abs=1e-6)
        assert done.raw_notional_usd == near(10.0)
        # With the replay's capital the same quantity is a hundred lots short.
        assert not compared(replay, changed(venue, capital_before=CAPITAL)).ok

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(0, 3))
    def test_lots_alone_never_break_parity(self, seed: int, digits: int) -> None:
        rng = np.random.default_rng(seed)
        rows = [
            {
                "entry_price": (price := float(rng.uniform(1, 50))),
                "exit_price": price * float(np.exp(0.01 * rng.standard_normal())),
                "notional_usd": float(rng.uniform(1_000, 20_000)),
                "asset": int(rng.integers(4)),
            }
            for _ in range(30)
        ]
        replay = replayed(*rows)
        venue = in_lots(replay, 10.0**-digits)
        done = compared(replay, venue)
        assert done.ok, done.plain()["mismatches"]
        assert 0.0 < done.notional_lots <= 1.0 + 1e-6
        # Two lots less are seen, in any trade.
        row = int(rng.integers(30))
        fewer = changed(venue, row, quantity=float(venue["quantity"][row]) - 2.0 * 10.0**-digits)
        (mismatch,) = compared(replay, fewer).mismatches
        assert (mismatch.trade, mismatch.field) == (row, "notional")


class TestOrder:
    replay = replayed(*({"asset": k % 4} for k in range(8)))
    venue = round_trips(replay)

    def test_a_missing_trade_is_one_mismatch(self) -> None:
        done = compared(self.replay, np.delete(self.venue, 3))
        assert done.plain()["mismatches"] == [
            "trade 3: trade is SHORT XRPUSDT from bar 310 to 330 in the replay, missing at the venue"
        ]
        assert (done.matched, done.replay_trades, done.venue_trades) == (7, 8, 7)

    def test_a_trade_too_many_is_one_mismatch(self) -> None:
        done = compared(np.delete(self.replay, 3), self.venue)
        assert done.plain()["mismatches"] == [
            "trade 3: trade is missing in the replay, SHORT XRPUSDT from bar 310 to 330 at the venue"
        ]

    def test_ends(self) -> None:
        assert compared(self.replay, self.venue[2:]).matched == 6
        assert compared(self.replay, self.venue[:-2]).matched == 6
        assert compared(self.replay[:0], self.venue).matched == 0
        assert compared(self.replay[:0], self.venue[:0]).ok

    def test_all_else_is_counted(self) -> None:
        late = self.venue.copy()
        late["exit_bar"] += 1
        done = compared(self.replay, late, listed=3)
        assert [m.trade for m in done.mismatches] == [0, 1, 2]
        assert (done.more, done.matched, done.ok) == (5, 0, False)
        assert not compared(self.replay, late, listed=0).ok
        told = json.loads(json.dumps(done.plain()))
        assert (len(told["mismatches"]), told["mismatches_not_listed"], told["ok"]) == (3, 5, False)

    @settings(max_examples=50, deadline=None)
    @given(st.integers(0, 2**32 - 1), st.integers(0, 25))
    def test_every_trade_is_judged_once(self, seed: int, count: int) -> None:
        replay, venue = random_runs(np.random.default_rng(seed), count)
        done = compared(replay, venue)
        shared = {int(b) for b in replay["entry_bar"]} & {int(b) for b in venue["entry_bar"]}
        assert done.matched <= len(shared)
        judged = {m.trade for m in compared(replay, venue, listed=10_000).mismatches}
        assert done.matched + len(judged) >= len(replay)
        same = [
            all(replay[a][n] == venue[b][n] for n in ("asset", "side", "exit_bar", "reason"))
            for a, b in ((list(replay["entry_bar"]).index(k), list(venue["entry_bar"]).index(k)) for k in shared)
        ]
        assert done.matched <= sum(same)
        assert compared(replay, round_trips(replay)).matched == len(replay)


def test_refuses_what_the_bridge_refuses() -> None:
    replay = replayed({})
    with pytest.raises(DataError, match="venue trade 0: lot is 0, expected a finite number above 0"):
        compared(replay, round_trips(replay, lot=0.0))
    with pytest.raises(DataError, match="asset is 0, expected a column 0 … -1"):
        compare_trades(replay, round_trips(replay), ())


def test_two_runs_of_the_engine(tmp_path: Path) -> None:
    judge_engine_runs(scan_archive_of(tmp_path / "days", 6))


def test_two_runs_over_recorded_days(recorded_scans: Sequence[ScanDay], tmp_path: Path) -> None:
    judge_engine_runs(write_days(tmp_path / "days", recorded_scans))


def judge_engine_runs(data: Path) -> None:
    """The engine's trades in lots are in parity; those of an engine with a stop are not, and the stops say so."""
    free = run_backtest(BacktestSpec(data, friction="none"))
    done = compare_trades(free.trades, in_lots(free.trades, 0.01), free.assets)
    assert done.ok
    assert done.matched == len(free.trades) > 20
    assert done.raw_notional_usd > done.notional_usd > 0.0
    held = run_backtest(BacktestSpec(data, friction="none", overrides={"stop_pct": "0.003"}))
    other = compare_trades(free.trades, round_trips(held.trades), free.assets)
    assert not other.ok
    assert any("reason is" in str(m) and "STOP_LOSS at the venue" in str(m) for m in other.mismatches)
