"""NDAlphaEngine: a round trip by hand, gates, days, gaps and the circuit breaker (SPEC §6, §9, §12, §23)."""

from __future__ import annotations

import math
from datetime import date, timedelta
from typing import Any

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, BAR, records
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams
from tests.alpha.pieces import BAR_NS, CAPITAL, DEEP, ENTRY, READY, Stage, book, market

pytestmark = pytest.mark.jit_off
near = pytest.approx
NAN = math.nan
MONDAY = date(2024, 1, 1)


# --- one round trip, by hand ---


def test_a_round_trip_by_hand() -> None:
    stage = Stage()
    entered = stage.enter()
    # Extreme: strength 1, leverage 5, fraction capped at 0.2: 25,000·0.2·5 = 25,000.
    assert (entered.price, entered.notional_usd, entered.leverage, entered.fraction) == (ENTRY, 25_000.0, 5.0, 0.2)
    assert (entered.asset, entered.bucket, entered.trend_mult, entered.streak_mult) == (0, 1, 1.3, 1.0)
    closed = stage.step(ENTRY * 0.99)
    assert (ExitReason(closed.exit_reason), Gate(closed.gate)) == (ExitReason.FIXED_TP, Gate.JUST_EXITED)
    (trade,) = stage.trades
    assert (trade.entry_bar, trade.exit_bar, trade.entry_ts, trade.exit_ts) == (99, 100, 99 * BAR_NS, 100 * BAR_NS)
    # 1 % of 25,000; −1.98 + 2.24 bps; 5 bps (the first draw, 0.3745, is under 0.40); −6.64 bps.
    assert [trade.pnl_price, trade.slippage, trade.modelled_edge, trade.fees] == near([250.0, 0.65, 12.5, -16.6])
    assert trade.capital_after == stage.engine.capital == CAPITAL + trade.net_pnl == near(25_246.55)
    assert closed.equity == closed.capital == stage.engine.capital


def test_gates_in_order() -> None:
    stage = Stage(upto=READY - 1)
    shut: dict[str, Any] = {"posture": Posture.TURTLE, "vol_regime_ok": False}
    assert Gate(stage.step(NAN, 0.0, **shut).gate) == Gate.WARM_UP
    assert Gate(stage.step(NAN, 0.0, **shut).gate) == Gate.HALT
    assert Gate(stage.step(NAN, 0.0, posture=Posture.STALKER, vol_regime_ok=False).gate) == Gate.VOL_REGIME
    assert Gate(stage.step(NAN, -0.02).gate) == Gate.VEL_DIV
    assert Gate(stage.step(NAN, NAN).gate) == Gate.VEL_DIV
    assert Gate(stage.step(NAN, -0.021).gate) == Gate.SELECTION
    assert Gate(stage.step(999.5, -0.021).gate) == Gate.DIRECTION_CONFIRMATION
    against = records(ASSET_BOOK, 1)
    against[0] = book(imbalance_ma5=0.2, imbalance_persistence=0.7)
    assert Gate(stage.step(vel_div=-0.021, market=market(), books=against).gate) == Gate.BOOK_IMBALANCE
    assert Gate(stage.step(vel_div=-0.021).gate) == Gate.ENTERED
    assert Gate(stage.step(vel_div=-0.021).gate) == Gate.IN_POSITION
    counted = stage.engine.state.core.gates
    assert counted.sum() == stage.t
    assert counted[Gate.WARM_UP] == READY


def test_one_implementation_for_a_bar_and_for_many() -> None:
    rng = np.random.default_rng(4)
    closes = np.cumsum(rng.normal(-0.01, 0.05, (400, 3)), axis=0) + 100.0
    bars = records(BAR, 400)
    bars.ts_ns[:], bars.vel_div[:], bars.vol_regime_ok[:] = np.arange(400), rng.normal(-0.02, 0.03, 400), 1
    many = NDAlphaEngine(EngineParams(), ("A", "B", "C"), Direction.SHORT, CAPITAL)
    events, trades = many.process_bars(bars, closes)
    one = NDAlphaEngine(EngineParams(), ("A", "B", "C"), Direction.SHORT, CAPITAL)
    singles = [
        one.step_bar(k, float(bars[k].vel_div), closes[k], v50=float(bars[k].v50), v750=float(bars[k].v750))
        for k in range(400)
    ]
    assert len(trades) == 3
    assert b"".join(event.tobytes() for event, _ in singles) == events.tobytes()
    assert b"".join(t.tobytes() for _, t in singles if t is not None) == trades.tobytes()
    assert one.state_hash() == many.state_hash()


# --- days ---


def test_a_position_survives_midnight() -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY)
    stage.enter()
    closed = stage.engine.end_day()
    assert closed["date"] == "2024-01-01"
    assert closed["open"]
    assert len(stage.engine.begin_day(MONDAY + timedelta(days=1))) == 0
    assert stage.engine.is_open
    assert Gate(stage.step().gate) == Gate.IN_POSITION
    # Bars are counted over the run: the maximum hold is reached 120 bars after the entry, midnight or not.
    for _ in range(118):
        stage.step(ENTRY)
    assert ExitReason(stage.step(ENTRY).exit_reason) == ExitReason.MAX_HOLD
    assert stage.trades[0].exit_bar - stage.trades[0].entry_bar == 120


@pytest.mark.parametrize(
    ("then", "contiguous"),
    [
        (MONDAY + timedelta(days=2), True),  # a day is missing
        (MONDAY + timedelta(days=1), False),  # the caller knows of a gap
        (MONDAY, True),  # the same day again
        (MONDAY - timedelta(days=1), True),
    ],
)
def test_a_gap_closes_at_the_last_price(then: date, contiguous: bool) -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY)
    stage.enter()
    stage.step(990.0)
    stage.step(NAN)
    (trade,) = stage.engine.begin_day(then, contiguous=contiguous)
    assert ExitReason(trade.reason) == ExitReason.DATA_GAP
    # The last valid price, 2 bps of slip; the bar and stamp of the last processed bar.
    assert trade.exit_price == near(990.0 * 1.0002)
    assert (trade.exit_bar, trade.exit_ts) == (101, 101 * BAR_NS)
    assert not stage.engine.is_open
    assert stage.engine.day == then
    assert stage.engine.end_day()["equity"] == stage.engine.capital == trade.capital_after
    # The next bar may enter again: its index lies after the exit's.
    assert Gate(stage.step(vel_div=DEEP).gate) not in (Gate.JUST_EXITED, Gate.IN_POSITION)


def test_the_first_day_is_no_gap_and_a_flat_engine_has_nothing_to_close() -> None:
    stage = Stage(upto=0)
    assert len(stage.engine.begin_day(MONDAY, contiguous=False)) == 0
    assert len(stage.engine.begin_day(MONDAY + timedelta(days=9))) == 0
    assert len(stage.engine.close_open(ExitReason.END_OF_DATA)) == 0
    assert stage.engine.state.core.draws == 0


def test_end_of_data_closes_what_is_open() -> None:
    stage = Stage()
    stage.enter()
    (trade,) = stage.engine.close_open(ExitReason.END_OF_DATA)
    assert (ExitReason(trade.reason), trade.entry_bar, trade.exit_bar) == (ExitReason.END_OF_DATA, 99, 99)
    assert trade.pnl_price == 0.0
    assert trade.net_pnl == near(25_000.0 * (-2e-4 + 2.24e-4 + 5e-4 - 6.64e-4))
    core = stage.engine.state.core
    assert core.equity == core.capital == trade.capital_after
    assert core.max_drawdown == near(1.0 - core.capital / CAPITAL)


def test_histories_buckets_and_streak_survive_days_and_gaps() -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY)
    stage.enter()
    before = stage.engine.state
    counts, vel_divs, bar_count = before.counts.copy(), before.vel_divs.copy(), int(before.core.bar_count)
    stage.engine.begin_day(MONDAY + timedelta(days=30))
    after = stage.engine.state
    assert (after.counts == counts).all()
    assert after.vel_divs.tobytes() == vel_divs.tobytes()
    assert after.core.bar_count == bar_count
    assert after.core.bucket_trades.tolist() == [0, 1, 0, 0]
    assert after.core.recent_losses == 1  # costs without a move: a loss
    # No warm-up again, and fifty prices are there: the very next bar enters.
    assert Gate(stage.step(vel_div=DEEP).gate) == Gate.ENTERED


def test_each_asset_s_history_holds_its_valid_prices_only() -> None:
    engine = NDAlphaEngine(EngineParams(), ("A", "B"), Direction.SHORT, CAPITAL)
    for k, other in enumerate([NAN, 0.0, -5.0, math.inf, -math.inf, 2.0]):
        engine.step_bar(k, 0.0, np.array([1.0 + k, other]))
    assert engine.state.counts.tolist() == [6, 1]
    assert engine.state.history[0, 1] == 2.0
    assert engine.state.history[:6, 0].tolist() == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]


def test_a_new_day_ends_the_halt_and_takes_the_day_s_multipliers() -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY, mc_red=True, boost=1.5, beta=0.8, mc_scale=0.5)
    event = stage.step(vel_div=DEEP)
    assert Gate(event.gate) == Gate.HALT
    assert event.regime_size_mult == near(1.5 * 1.8 * 0.5)
    assert stage.engine.end_day()["mc_red"]
    stage.engine.begin_day(MONDAY + timedelta(days=1))
    event = stage.step(vel_div=DEEP)
    assert (Gate(event.gate), event.regime_size_mult) == (Gate.ENTERED, 1.0)


@pytest.mark.parametrize(
    "values",
    [
        {"boost": 0.99},
        {"boost": 3.01},
        {"boost": NAN},
        {"beta": -0.1},
        {"beta": 1.1},
        {"beta": NAN},
        {"mc_scale": 1.1},
        {"mc_scale": -0.1},
        {"mc_scale": NAN},
    ],
)
def test_a_day_that_cannot_begin_changes_nothing(values: dict[str, float]) -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=1.2)
    stage.enter()
    before = stage.engine.state_hash()
    with pytest.raises(ConfigError, match=r"2024-03-01: .*expected"):
        stage.engine.begin_day(date(2024, 3, 1), **values)  # would also be a gap
    assert stage.engine.state_hash() == before


def test_an_empty_day() -> None:
    stage = Stage()
    stage.enter()
    before = stage.engine.state.core.tobytes()
    events, trades = stage.engine.process_bars(records(BAR, 0), np.empty((0, 1)))
    assert (len(events), len(trades)) == (0, 0)
    assert stage.engine.state.core.tobytes() == before


# --- circuit breaker ---


@pytest.mark.parametrize(
    ("boost", "beta"),
    [(0.99, 0.2), (3.01, 0.2), (NAN, 0.2), (math.inf, 0.2), (1.0, NAN), (1.0, -0.1), (1.0, 1.01), (1.0, math.inf)],
)
def test_a_bad_update_is_refused_and_forces_no_exit(boost: float, beta: float) -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=1.5)
    stage.enter()
    assert not stage.engine.update_acb_boost(boost, beta)
    event = stage.step()
    assert (ExitReason(event.exit_reason), event.regime_size_mult) == (ExitReason.NONE, 1.5)


@pytest.mark.parametrize(
    ("old", "new", "closes"), [(1.25, 1.0999, True), (1.2499, 1.0, False), (1.25, 1.10, False), (3.0, 1.0, True)]
)
def test_a_subday_fall_closes_on_the_next_bar(old: float, new: float, closes: bool) -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=old)
    stage.enter()
    assert stage.engine.update_acb_boost(new, 0.0)
    assert stage.engine.is_open  # at most once, and on a bar
    event = stage.step()
    assert event.regime_size_mult == new
    want = ExitReason.SUBDAY_ACB_NORMALIZATION if closes else ExitReason.NONE
    assert ExitReason(event.exit_reason) == want
    if closes:
        assert stage.trades[0].exit_price == near(stage.engine.state.history[100 % 64, 0] * 1.0005)  # a forced exit


def test_the_forced_exit_waits_for_a_price_and_outlives_midnight() -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=1.5)
    stage.enter()
    stage.engine.update_acb_boost(1.0, 0.0)
    assert ExitReason(stage.step(NAN).exit_reason) == ExitReason.NONE
    stage.engine.begin_day(MONDAY + timedelta(days=1), boost=1.5)
    assert ExitReason(stage.step().exit_reason) == ExitReason.SUBDAY_ACB_NORMALIZATION


def test_an_update_while_flat_leaves_no_mark() -> None:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=1.5)
    stage.engine.update_acb_boost(1.0, 0.0)
    stage.enter()
    assert ExitReason(stage.step(ENTRY).exit_reason) == ExitReason.NONE
