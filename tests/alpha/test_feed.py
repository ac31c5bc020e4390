"""Sensors in a replay: which reading reaches which bar, what stands in for none, and the slow road beside the loop."""

from __future__ import annotations

import math
from datetime import date
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.feed import HEALTHY, SensorFeed
from dolphin.alpha.layout import Record, records
from dolphin.alpha.rows import day_bars
from dolphin.core.clock import date_start_ns
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.params import EngineParams
from dolphin.risk.sensors import READING
from tests.risk.survival_cases import TOP, reading
from tests.support.runs import scan_days
from tests.support.sensors import MINUTE, SECOND, as_records, by_hand, compiled, recording

pytestmark = pytest.mark.jit_off

near = pytest.approx
APEX, STALKER, TURTLE, HIBERNATE = (int(p) for p in Posture)
T0 = date_start_ns(date(2024, 1, 1))


def quiet(feed: SensorFeed, minutes: list[float], prices: Any = None, **day: Any) -> tuple[Record, NDAlphaEngine]:
    """(events, engine) of bars at these minutes of a day, without any signal."""
    ts = T0 + (np.array(minutes) * MINUTE).astype(np.int64)
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT",), Direction.SHORT, 1_000.0)
    engine.set_survival(feed)
    engine.begin_day(date(2024, 1, 1), **day)
    nothing = np.full(len(ts), np.nan)
    bars = day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing})
    events, _ = engine.process_bars(bars, np.ones((len(ts), 1)) if prices is None else prices)
    assert bars.posture.tolist() == events.posture.tolist()
    return events, engine


def fed(*taken: tuple[float, dict[str, Any]], **supply: bool) -> SensorFeed:
    """A feed of perfect readings with changes, at these minutes."""
    return SensorFeed(as_records([(T0 + int(m * MINUTE), reading(**changes)) for m, changes in taken]), **supply)


# --- by hand ---


def test_a_reading_takes_effect_at_the_first_bar_at_or_after_it() -> None:
    dead = {"grid_nodes": 0}
    feed = fed((2.0, {}), (3.0 + 1e-6, dead))
    events, _ = quiet(feed, [1.0, 2.0, 3.0, 4.0])
    assert events.posture.tolist() == [APEX, APEX, APEX, HIBERNATE]
    assert np.isnan(events.rm[0])
    assert events.rm[1:].tolist() == near([TOP, TOP, 0.0])
    assert (feed.early_bars, feed.stale_bars) == (1, 0)


def test_readings_between_two_bars_are_taken_in_order() -> None:
    """Two worse in a row lower the posture, to the latest; a better one between them breaks the row."""
    low = {"drawdown": 0.12}
    events, _ = quiet(fed((1.0, {}), (1.2, low), (1.4, low)), [1.0, 2.0])
    assert events.posture.tolist() == [APEX, TURTLE]
    # The middle reading: 12 s of recovery from 0.5 is next to nothing, so Rm is still low and the row is not broken.
    events, _ = quiet(fed((1.0, {}), (1.2, {"drawdown": 0.05}), (1.4, {}), (1.6, {"drawdown": 0.05})), [1.0, 2.0])
    assert events.posture.tolist() == [APEX, STALKER]


def test_cat1_closes_at_that_bar_and_the_way_up_takes_five() -> None:
    taken = [(0.0, {}), (1.0, {"heartbeat_age_s": 31.0}), *((1.0 + k * 3600.0 / 60.0, {}) for k in range(1, 6))]
    bars = [0.0, 1.0, *(1.0 + 60.0 * k for k in range(1, 6))]
    events, _ = quiet(fed(*taken), bars)
    assert events.posture.tolist() == [APEX, *[HIBERNATE] * 5, APEX]


def test_five_minutes_without_a_reading_and_nothing_is_known() -> None:
    feed = fed((0.0, {}), (20.0, {}))
    events, _ = quiet(feed, [0.0, 5.0, 5.001, 10.0, 19.0, 20.0])
    assert events.posture.tolist() == [APEX, APEX, HIBERNATE, HIBERNATE, HIBERNATE, HIBERNATE]
    assert events.rm.tolist()[2:5] == [0.0, 0.0, 0.0]
    assert events.rm[5] == near(0.02 * TOP)  # a minute of recovery since the bar before
    assert feed.stale_bars == 3


def test_old_readings_are_no_news_at_the_first_bar() -> None:
    feed = fed((-30.0, {}), (-29.0, {}))
    events, _ = quiet(feed, [0.0, 1.0])
    assert events.posture.tolist() == [HIBERNATE, HIBERNATE]
    assert (feed.early_bars, feed.stale_bars) == (0, 2)


def test_a_warming_book_blocks_entries_without_closing() -> None:
    events, _ = quiet(fed((0.0, {}), (1.0, {"book_service_age_s": 5.0})), [0.0, 1.0])
    assert events.posture.tolist() == [APEX, TURTLE]
    assert events.rm[1] == near(TOP)


def held(feed: SensorFeed, path: list[float], **day: Any) -> tuple[Record, NDAlphaEngine]:
    """A short position of 1,000 USDT at 1.0 (capital 1,000), then a bar per price of `path`."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT",), Direction.SHORT, 1_000.0)
    engine.set_survival(feed)
    engine.begin_day(date(2024, 1, 1), **day)
    core = engine.state.core
    core.open, core.asset, core.entry_price, core.notional_usd, core.leverage = 1, 0, 1.0, 1_000.0, 1.0
    ts = T0 + np.arange(len(path), dtype=np.int64) * MINUTE
    nothing = np.full(len(ts), np.nan)
    events, _ = engine.process_bars(
        day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing}), np.array(path).reshape(-1, 1)
    )
    return events, engine


LOW = 1.0 / (1.0 + math.exp(30.0 * (0.11 - 0.12)))
"""Cat5 at a drawdown of 11 %: 0.574, which is TURTLE."""


def test_the_drawdown_supplied_is_that_of_the_bar_before() -> None:
    path = [1.0, 1.11, 1.11, 1.11, 1.0]
    feed = fed(*((float(k), {"drawdown": None}) for k in range(5)), supply_drawdown=True)
    trace = feed.open_trace(5)
    events, _ = held(feed, path)
    assert events.equity.tolist() == near([1000.0, 890.0, 890.0, 890.0, 1000.0])
    assert trace.cat5.tolist() == near([TOP, TOP, LOW, LOW, LOW])
    assert events.rm.tolist() == near([TOP, TOP, LOW, LOW, LOW])
    assert events.posture.tolist() == [APEX, APEX, APEX, TURTLE, TURTLE]  # the second worse reading, at the fourth bar


def test_a_drawdown_that_the_file_holds_is_the_file_s() -> None:
    events, _ = held(fed(*((float(k), {"drawdown": 0.0}) for k in range(3))), [1.0, 1.5, 1.5])
    assert events.rm.tolist() == near([TOP] * 3)


@pytest.mark.parametrize(
    ("day", "expected"), [({}, TOP), ({"mc_scale": 0.5}, TOP / 2.0), ({"mc_red": True}, TOP / 10.0)]
)
def test_the_forewarner_s_gate_is_supplied(day: dict[str, Any], expected: float) -> None:
    events, _ = quiet(fed((0.0, {"mc_status": None}), supply_mc=True), [0.0], **day)
    assert events.rm[0] == near(expected)
    events, _ = quiet(SensorFeed.own(), [0.0], **day)
    assert events.rm[0] == near(expected)


def test_its_own_sensors_are_read_once_a_minute_at_most() -> None:
    """Bars of 20 seconds: a fall in equity is seen at the next whole minute, and the posture at the second."""
    feed = SensorFeed.own()
    feed.open_trace(8)
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT",), Direction.SHORT, 1_000.0)
    engine.set_survival(feed)
    core = engine.state.core
    core.open, core.asset, core.entry_price, core.notional_usd, core.leverage = 1, 0, 1.0, 1_000.0, 1.0
    ts = T0 + np.arange(8, dtype=np.int64) * 20 * SECOND
    nothing = np.full(8, np.nan)
    bars = day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing})
    events, _ = engine.process_bars(bars, np.array([1.0] + [1.11] * 7).reshape(-1, 1))
    assert events.rm.tolist() == near([TOP] * 3 + [LOW] * 5)
    assert events.posture.tolist() == [APEX] * 6 + [TURTLE] * 2
    assert feed.early_bars == feed.stale_bars == 0


def test_healthy_is_healthy() -> None:
    events, _ = quiet(SensorFeed.own(), [0.0, 1.0, 2.0])
    assert events.rm.tolist() == near([TOP] * 3)
    assert HEALTHY.dvol_spike is False


def test_without_a_feed_every_bar_keeps_its_posture_and_none_counts_as_blocked() -> None:
    days = scan_days(1, 300)
    engine = NDAlphaEngine(EngineParams(), days[0].assets, Direction.SHORT, 1_000.0)
    engine.set_survival(SensorFeed(records(READING, 0)))
    engine.set_survival(None)
    bars = day_bars(days[0].ts_ns, {name: np.full(300, -0.06) for name in ("vel_div", "v50", "v750")})
    bars.posture[:] = TURTLE
    events, trades = engine.process_bars(bars, days[0].closes)
    assert set(events.posture.tolist()) == {TURTLE}
    assert np.isnan(events.rm).all()
    assert len(trades) == 0


@pytest.mark.parametrize(
    ("drawdown", "red", "posture", "blocked"),
    [(0.11, False, TURTLE, 50), (0.0, True, APEX, 0), (0.11, True, TURTLE, 50)],
)
def test_blocked_counts_signals_that_the_posture_refused(
    drawdown: float, red: bool, posture: int, blocked: int
) -> None:
    """200 bars, a signal on the first 150: 99 of warm-up, then day bar 100 on in the volatility regime. What the
    forewarner's RED alone refuses is not the posture's."""
    day = scan_days(1, 200)[0]
    engine = NDAlphaEngine(EngineParams(), day.assets, Direction.SHORT, 1_000.0)
    feed = SensorFeed(as_records([(int(t), reading(drawdown=drawdown)) for t in day.ts_ns]))
    engine.set_survival(feed)
    engine.begin_day(day.day, mc_red=red)
    signal = np.full(200, -0.06)
    signal[150:] = 0.0
    bars = day_bars(day.ts_ns, {"vel_div": signal, "v50": signal, "v750": signal})
    events, _ = engine.process_bars(bars, day.closes)
    assert set(events.posture.tolist()) == {posture}
    assert (events.gate == Gate.HALT).sum() == 101
    assert feed.entries_blocked == blocked


# --- the slow road ---


def same(one: tuple[Record, Record, NDAlphaEngine], other: tuple[Record, Record, NDAlphaEngine]) -> None:
    """Trade for trade, event for event, state for state: the same bytes."""
    (events, trades, engine), (slow_events, slow_trades, slow_engine) = one, other
    assert events.posture.tolist() == slow_events.posture.tolist()
    assert events.tobytes() == slow_events.tobytes()
    assert trades.tobytes() == slow_trades.tobytes()
    assert engine.state_hash() == slow_engine.state_hash()


@pytest.mark.parametrize("seed", [6, 8])
def test_the_compiled_replay_is_the_stack_bar_by_bar(seed: int) -> None:
    days = scan_days(2, 900, drift=-0.1)
    taken = recording(int(days[0].ts_ns[40]) + 7 * SECOND, 24 * 60 + 800, seed, every_s=45.0)
    fast = compiled(days, SensorFeed(as_records(taken)))
    same(fast, by_hand(days, taken))
    events, trades, _ = fast
    inside = np.append(False, events.in_position[:-1] != 0)
    assert len(set(events.posture[inside].tolist())) == 4, "every posture met an open position"
    assert (trades.reason == ExitReason.HIBERNATE_HALT).any()


@pytest.mark.parametrize("mc_scale", [1.0, 0.5])
def test_so_it_is_with_what_the_replay_supplies(mc_scale: float) -> None:
    days = scan_days(2, 400, drift=0.05)
    taken = recording(int(days[0].ts_ns[0]), 24 * 60 + 400, 5)
    feed = SensorFeed(as_records(taken), supply_drawdown=True, supply_mc=True)
    slow = by_hand(days, taken, supplied=("drawdown", "mc_status"), mc_scale=mc_scale)
    same(compiled(days, feed, mc_scale=mc_scale), slow)
    same(compiled(days, SensorFeed.own(), mc_scale=mc_scale), by_hand(days, None, mc_scale=mc_scale))


def test_how_a_day_is_cut_changes_nothing() -> None:
    """One call or many: the feed goes on where it was, its trace too."""
    day = scan_days(1, 400, drift=-0.1)[0]
    taken = as_records(recording(int(day.ts_ns[0]), 400, 9))

    def run(cuts: list[int]) -> tuple[bytes, bytes]:
        engine = NDAlphaEngine(EngineParams(), day.assets, Direction.SHORT, 25_000.0)
        feed = SensorFeed(taken.copy())
        engine.set_survival(feed)
        trace = feed.open_trace(day.rows)
        signals = {n: day.signal(c) for n, c in (("vel_div", "vel_div"), ("v50", "v50_lambda_max_velocity"))}
        bars = day_bars(day.ts_ns, {**signals, "v750": day.signal("v750_lambda_max_velocity")})
        events = [engine.process_bars(bars[a:b], day.closes[a:b])[0] for a, b in pairwise(cuts)]
        return np.concatenate(events).tobytes(), trace.tobytes()

    assert run([0, 400]) == run([0, 10, 11, 200, 400])


def test_what_comes_later_changes_nothing_before() -> None:
    days = scan_days(2, 300, drift=-0.1)
    taken = recording(int(days[0].ts_ns[0]), 24 * 60 + 300, 3)
    whole, _, _ = compiled(days, SensorFeed(as_records(taken)))
    cut = int(days[1].ts_ns[150])
    before = [pair for pair in taken if pair[0] <= cut]
    scrambled = before + [(ns, reading(grid_nodes=0)) for ns, _ in taken if ns > cut]
    until = 300 + 151
    for other in (before, scrambled):
        events, _, _ = compiled(days, SensorFeed(as_records(other)))
        assert events[:until].tobytes() == whole[:until].tobytes()
    assert events[until:].tobytes() != whole[until:].tobytes()
