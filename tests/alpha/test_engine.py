"""NDAlphaEngine: days, gaps, circuit breaker, snapshots, draws, and the edges of its input (SPEC §6, §9, §12, §23)."""

from __future__ import annotations

import copy
import functools
import math
import pickle
from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha import engine as module
from dolphin.alpha.engine import VOL_REGIME_BARS, NDAlphaEngine, day_bars
from dolphin.alpha.layout import ASSET_BOOK, BAR, MARKET_BOOK, VEL_DIV_HISTORY, records
from dolphin.core.codes import Direction, Drop, ExitReason, Gate, Posture
from dolphin.core.errors import ConfigError
from dolphin.core.params import Champion, EngineParams
from tests.alpha.pieces import BAR_NS, CAPITAL, DEEP, ENTRY, READY, Stage, book, market

pytestmark = pytest.mark.jit_off
near = pytest.approx
NAN = math.nan
MONDAY = date(2024, 1, 1)
NO_FRICTION: dict[str, Any] = {"use_sp_fees": False, "use_sp_slippage": False, "use_ob_edge": False}


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


# --- snapshots ---


def body_of(snapshot: bytes) -> tuple[dict[str, Any], bytes]:
    """(head, arrays) of a snapshot."""
    end = 24 + int.from_bytes(snapshot[16:24], "little")
    return msgspec.json.decode(snapshot[24:end]), snapshot[end:]


def sealed(head: dict[str, Any], arrays: bytes) -> bytes:
    """A snapshot with a changed head and a digest that fits."""
    packed = msgspec.json.encode(head)
    body = len(packed).to_bytes(8, "little") + packed + arrays
    return module._digest(body) + body


@functools.cache
def sample() -> bytes:
    """The snapshot of a young engine."""
    return Stage(upto=3).engine.snapshot()


def busy() -> Stage:
    stage = Stage()
    stage.engine.begin_day(MONDAY, boost=1.5, beta=0.3, mc_scale=0.5)
    stage.enter()
    stage.engine.update_acb_boost(1.0, 0.0)
    return stage


def test_a_restored_engine_is_the_same_engine() -> None:
    stage = busy()
    value = stage.engine.snapshot()
    again = NDAlphaEngine.restore(value)
    assert again.snapshot() == value
    assert (again.day, again.assets, again.direction, again.params) == (
        stage.engine.day,
        stage.engine.assets,
        stage.engine.direction,
        stage.engine.params,
    )
    want, trade = stage.engine.step_bar(stage.t * BAR_NS, 0.0, np.array([980.0]))
    got, same = again.step_bar(stage.t * BAR_NS, 0.0, np.array([980.0]))
    assert trade is not None
    assert same is not None
    assert (got.tobytes(), same.tobytes()) == (want.tobytes(), trade.tobytes())
    assert again.state_hash() == stage.engine.state_hash()
    assert value != stage.engine.snapshot()


def test_a_restored_engine_shares_nothing_with_its_origin() -> None:
    stage = busy()
    again = NDAlphaEngine.restore(stage.engine.snapshot())
    before = again.state_hash()
    stage.step(900.0)
    assert again.state_hash() == before


@pytest.mark.parametrize("how", [copy.copy, copy.deepcopy, lambda e: pickle.loads(pickle.dumps(e))])
def test_a_copy_has_memory_of_its_own(how: Callable[[NDAlphaEngine], NDAlphaEngine]) -> None:
    """The engine keeps the addresses of its arrays: a copy that kept them too would trade on its origin's state."""
    stage = busy()
    before = stage.engine.state_hash()
    twin = how(stage.engine)
    assert twin.state_hash() == before
    event, trade = twin.step_bar(stage.t * BAR_NS, 0.0, np.array([980.0]))
    assert trade is not None
    assert stage.engine.state_hash() == before != twin.state_hash()
    assert stage.engine.is_open
    assert stage.step(980.0).tobytes() == event.tobytes()


@given(st.data())
@settings(deadline=None, max_examples=60)
def test_a_damaged_snapshot_is_refused(data: st.DataObject) -> None:
    value = bytearray(sample())
    at = data.draw(st.integers(0, len(value) - 1))
    value[at] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(ConfigError, match="engine snapshot") as caught:
        NDAlphaEngine.restore(bytes(value))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("length", [0, 1, 15, 16, 23, 24, 200, -1])
def test_a_truncated_snapshot_is_refused(length: int) -> None:
    with pytest.raises(ConfigError, match=r"engine snapshot.*restore"):
        NDAlphaEngine.restore(sample()[:length])
    with pytest.raises(ConfigError, match="engine snapshot"):
        NDAlphaEngine.restore(sample() + b"x" * (length + 2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"version": 2}, "version 2, expected 1"),
        ({"version": 0, "novelty": True}, "version 0, expected 1"),
        ({"novelty": True}, "not readable"),
        ({"direction": 5}, "not readable"),
        ({"day": "soon"}, "not readable"),
        ({"assets": ["A", "B"]}, "bytes of state, expected"),
        ({"assets": []}, "universe"),
        ({"sizes": [1, 2, 3, 4]}, "bytes of state, expected"),
    ],
)
def test_a_snapshot_of_another_kind_is_refused(change: dict[str, Any], message: str) -> None:
    head, arrays = body_of(sample())
    with pytest.raises(ConfigError, match=message):
        NDAlphaEngine.restore(sealed({**head, **change}, arrays))
    assert NDAlphaEngine.restore(sealed(head, arrays)).snapshot() == sample()


# --- draws ---


@pytest.mark.parametrize("seed", [42, 7])
def test_the_kth_close_takes_the_kth_draw(seed: int) -> None:
    stage = Stage(EngineParams(champion=Champion(seed=seed, lookback=1)))
    edges = []
    for _ in range(30):
        stage.enter()
        stage.step(posture=Posture.HIBERNATE)
        edges.append(stage.trades[-1].modelled_edge > 0.0)
        if len(edges) == 12:  # the counter is part of the state
            stage.engine = NDAlphaEngine.restore(stage.engine.snapshot())
    assert edges == [bool(x < 0.4) for x in np.random.RandomState(seed).random_sample(30)]
    assert [int(t.trade_id) for t in stage.trades] == list(range(30))


def test_every_close_takes_a_draw_with_or_without_friction_or_book() -> None:
    for params, with_book in ((EngineParams(**NO_FRICTION), False), (EngineParams(), True)):
        stage = Stage(params)
        shelf = records(ASSET_BOOK, 1)
        shelf[0] = book()
        rest: dict[str, Any] = {"market": market(), "books": shelf} if with_book else {}
        for k in range(1, 4):
            stage.enter(**rest)
            stage.step(posture=Posture.HIBERNATE, **rest)
            assert stage.engine.state.core.draws == k


def test_draws_grow_with_the_run() -> None:
    engine = NDAlphaEngine(EngineParams(), ("A",), Direction.SHORT, CAPITAL)
    first = engine._draws_for(1).copy()
    engine.state.core.draws = 10_000
    grown = engine._draws_for(5_000)
    assert len(grown) > 15_000
    assert (grown[: len(first)] == first).all()
    assert (grown == np.random.RandomState(42).random_sample(len(grown))).all()


# --- edges of the input ---


@pytest.mark.parametrize("assets", [(), ("A", "A"), ("A", "B", "A")])
def test_a_universe_is_distinct_names(assets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="universe"):
        NDAlphaEngine(EngineParams(), assets, Direction.SHORT, CAPITAL)


@pytest.mark.parametrize("capital", [NAN, math.inf, -math.inf])
def test_capital_is_finite(capital: float) -> None:
    with pytest.raises(ConfigError, match="capital"):
        NDAlphaEngine(EngineParams(), ("A",), Direction.SHORT, capital)


def test_wrong_shapes_are_refused_before_compiled_code_sees_them() -> None:
    engine = NDAlphaEngine(EngineParams(), ("A", "B"), Direction.SHORT, CAPITAL)
    before = engine.state_hash()
    bars = records(BAR, 3)
    for call in (
        lambda: engine.step_bar(0, 0.0, np.ones(3)),
        lambda: engine.step_bar(0, 0.0, np.ones((1, 2))),
        lambda: engine.step_bar(0, 0.0, np.ones(2), market=market(), books=records(ASSET_BOOK, 1)),
        lambda: engine.process_bars(bars, np.ones((3, 3))),
        lambda: engine.process_bars(bars, np.ones((2, 2))),
        lambda: engine.process_bars(bars, np.ones((3, 2)), records(MARKET_BOOK, 2)),
        lambda: engine.process_bars(bars, np.ones((3, 2)), None, records(ASSET_BOOK, 4).reshape(2, 2)),
    ):
        with pytest.raises(ConfigError, match=r"shape .*expected"):
            call()
    assert engine.state_hash() == before


def test_exhausted_capital_refuses_for_good() -> None:
    # 50,000 USDT short (fraction 0.4 of 25,000, times 5); the price doubles: stopped at −100 %, 25,000 in debt.
    stage = Stage(EngineParams(champion=Champion(fraction=0.4), **NO_FRICTION))
    entered = stage.enter()
    assert entered.notional_usd == near(CAPITAL * entered.fraction * 5.0)
    event = stage.step(ENTRY * 2.0)
    assert ExitReason(event.exit_reason) == ExitReason.STOP_LOSS
    assert stage.engine.capital == near(CAPITAL - entered.notional_usd)
    assert stage.engine.capital <= 0.0
    assert stage.engine.state.core.max_drawdown == near(entered.notional_usd / CAPITAL)
    later = [Gate(stage.step(vel_div=DEEP).gate) for _ in range(100)]
    assert set(later) == {Gate.CAPITAL}


@pytest.mark.parametrize("capital", [0.0, -1.0])
def test_an_engine_without_capital_never_trades(capital: float) -> None:
    stage = Stage(capital=capital)
    assert Gate(stage.step(vel_div=DEEP).gate) == Gate.CAPITAL
    assert stage.engine.state.core.gates[Gate.CAPITAL] == stage.t  # before warm-up: the first gate refuses first


def test_all_assets_filtered() -> None:
    """A market that rises, sleeps, or has no price leaves nothing to short: no trade, no fallback."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT", "UPUSDT", "GONEUSDT"), Direction.SHORT, CAPITAL)
    gates = []
    for k in range(150):
        prices = np.array([50.0, 10.0 + k / 64.0, NAN if k > 120 else 5.0])
        event, _ = engine.step_bar(k, DEEP, prices)
        gates.append(Gate(event.gate))
    assert set(gates[READY:]) == {Gate.SELECTION}
    assert [Drop(int(row.drop)) for row in engine.ranking.profiles] == [Drop.LATENCY, Drop.WRONG_ACTION, Drop.NO_PRICE]
    assert engine.capital == CAPITAL


def test_an_asset_that_appears_and_one_that_vanishes() -> None:
    engine = NDAlphaEngine(EngineParams(), ("OLDUSDT", "NEWUSDT"), Direction.SHORT, CAPITAL)

    def run(k: int, old: bool, new: bool, vel_div: float = 0.0) -> Any:
        fall, steep = 1000.0 - k / 64.0, 1000.0 - k / 16.0
        return engine.step_bar(k, vel_div, np.array([fall if old else NAN, steep if new else NAN]))[0]

    for k in range(100):
        run(k, old=True, new=k >= 60)
    # NEW falls faster but has 40 prices; OLD is taken.
    assert (run(100, old=True, new=True, vel_div=DEEP).asset, engine.state.counts[1]) == (0, 41)
    # OLD vanishes: its exit waits, and equity stays at its last price.
    waiting = [run(k, old=False, new=True, vel_div=DEEP) for k in range(101, 110)]
    assert {Gate(e.gate) for e in waiting} == {Gate.IN_POSITION}
    assert len({float(e.equity) for e in waiting}) == 1
    stale = [run(k, old=False, new=True) for k in range(110, 341)]
    assert ExitReason(stale[-1].exit_reason) == ExitReason.STALE_PRICE  # bar 340: 240 bars held
    assert {ExitReason(e.exit_reason) for e in stale[:-1]} == {ExitReason.NONE}
    assert run(341, old=False, new=True, vel_div=DEEP).asset == 1


def test_selection_off_trades_bitcoin_or_nothing() -> None:
    params = EngineParams(use_asset_selection=False)
    assert Gate(Stage(params).step(vel_div=DEEP).gate) == Gate.ENTERED
    assert Gate(Stage(params).step(NAN, vel_div=DEEP).gate) == Gate.SELECTION
    assert Gate(Stage(params, assets=("ETHUSDT",)).step(vel_div=DEEP).gate) == Gate.SELECTION


def test_long_mirrors_short() -> None:
    """A falling market for SHORT, the same rising for LONG: the same notional, the same bars, the same reasons."""
    short, long = Stage(), Stage(direction=Direction.LONG)
    down, up = short.enter(-0.055), long.enter(0.055)
    assert (down.notional_usd, down.leverage, down.bucket) == (up.notional_usd, up.leverage, up.bucket)
    short.step(ENTRY * (1.0 - 0.0096))
    long.step(float(up.price) * (1.0 + 0.0096))
    assert ExitReason(short.trades[0].reason) == ExitReason(long.trades[0].reason) == ExitReason.FIXED_TP
    assert short.trades[0].pnl_price == near(long.trades[0].pnl_price)


def test_vel_div_history_is_capped() -> None:
    stage = Stage(upto=VEL_DIV_HISTORY + 7)
    assert len(stage.engine.state.vel_divs) == VEL_DIV_HISTORY
    assert not np.isnan(stage.engine.state.vel_divs).any()


def test_day_bars_open_the_volatility_gate_at_bar_100() -> None:
    signals = {name: np.zeros(150) for name in ("vel_div", "v50", "v750")}
    bars = day_bars(np.arange(150, dtype=np.int64), signals)
    assert VOL_REGIME_BARS == 100
    assert bars.vol_regime_ok.tolist() == [0] * 100 + [1] * 50
