"""What a day brings: the breaker asked after ten scans, the forewarner at the day's beginning (SPEC §9, §11)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.alpha.rows import day_bars
from dolphin.core.codes import Direction, Gate, Posture
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams
from dolphin.risk.acb import AdaptiveCircuitBreaker

pytestmark = pytest.mark.jit_off

MONDAY = date(2024, 1, 1)
BARS = 260
BOOST = 1.0 + 0.5 * math.log1p(1.0)
BASE = {"max_leverage": 5.0, "fraction": 0.2}


class Day(NamedTuple):
    bars: Record
    closes: np.ndarray


def market(days: int, seed: int = 1) -> list[Day]:
    """Falling assets and a signal that often goes deep: entries, exits, streaks."""
    rng = np.random.default_rng(seed)
    steps = 1e-3 * rng.standard_normal((days * BARS, 3)) - 2e-4
    closes = 100.0 * np.exp(np.cumsum(steps, axis=0))
    made = []
    for k in range(days):
        rows = slice(k * BARS, (k + 1) * BARS)
        ts = (np.arange(BARS, dtype=np.int64) + k * 1440) * 60_000_000_000
        v750 = rng.normal(0.01 * k, 0.02, BARS)
        signals = {"vel_div": rng.normal(-0.02, 0.03, BARS), "v50": rng.normal(0, 0.02, BARS), "v750": v750}
        made.append(Day(day_bars(ts, signals), np.ascontiguousarray(closes[rows])))
    return made


def breaker(days: int) -> AdaptiveCircuitBreaker:
    """One signal on even days, none on odd ones, and twenty earlier dates at 0."""
    acb = AdaptiveCircuitBreaker()
    for k in range(20):
        acb.add_w750(MONDAY - timedelta(days=k + 1), [0.0])
    for k in range(0, days, 2):
        acb.set_factors(MONDAY + timedelta(days=k), {"dvol_btc": [81.0]})
    return acb


def engine_with(acb: AdaptiveCircuitBreaker | None = None) -> NDAlphaEngine:
    engine = NDAlphaEngine(EngineParams(), ("A", "B", "C"), Direction.SHORT, 25_000.0)
    engine.set_acb(acb)
    return engine


class Judge:
    """A forewarner by rule: one status up to a leverage, another above it; remembers what it was asked."""

    def __init__(self, below: str, above: str = "RED", limit: float = 6.0) -> None:
        self.below, self.above, self.limit = below, above, limit
        self.asked: list[dict[str, Any]] = []

    def assess_config_dict(self, cfg: Mapping[str, Any]) -> Judge.Said:
        self.asked.append(dict(cfg))
        return Judge.Said(self.below if cfg["max_leverage"] <= self.limit else self.above)

    class Said(NamedTuple):
        status: Any


# --- the circuit breaker ---


def test_boost_and_beta_hold_from_the_eleventh_bar_on() -> None:
    engine = engine_with(breaker(2))
    for k, (bars, closes) in enumerate(market(2)):
        engine.begin_day(MONDAY + timedelta(days=k))
        assert engine.acb_answer is None
        engine.process_bars(bars[:10], closes[:10])
        assert (engine.end_day()["boost"], engine.end_day()["beta"]) == (1.0, 0.0)
        engine.process_bars(bars[10:11], closes[10:11])
        answer = engine.acb_answer
        assert answer is not None
        assert answer["w750"] == pytest.approx(float(np.median(bars.v750[:10])))
        assert engine.end_day()["boost"] == (pytest.approx(BOOST) if k == 0 else 1.0)
        assert engine.end_day()["beta"] == (0.8 if answer["w750"] >= 0.0 else 0.2)
        engine.process_bars(bars[11:], closes[11:])


def test_the_days_velocity_is_history_for_the_next_day_only() -> None:
    acb, days = breaker(3), market(3)
    engine = engine_with(acb)
    for k, (bars, closes) in enumerate(days):
        engine.begin_day(MONDAY + timedelta(days=k))
        engine.process_bars(bars, closes)
        answer = engine.acb_answer
        assert answer is not None
        assert answer["history_dates"] == 20 + k


def test_a_day_of_ten_bars_is_history_but_is_never_asked() -> None:
    acb, (first, second) = breaker(2), market(2)
    engine = engine_with(acb)
    engine.begin_day(MONDAY)
    engine.process_bars(first.bars[:10], first.closes[:10])
    assert engine.acb_answer is None
    engine.begin_day(MONDAY + timedelta(days=1))
    engine.process_bars(second.bars, second.closes)
    assert engine.acb_answer is not None
    assert engine.acb_answer["history_dates"] == 21


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 60), max_size=12), st.integers(0, 40))
def test_any_split_into_calls_gives_the_same_engine(sizes: list[int], cut: int) -> None:
    """Whole days, any pieces, bar by bar, and a restart at any bar among the first forty: one state, bit for bit."""
    days = market(2)
    whole, pieces = engine_with(breaker(2)), engine_with(breaker(2))
    for k, (bars, closes) in enumerate(days):
        day = MONDAY + timedelta(days=k)
        whole.begin_day(day)
        whole.process_bars(bars, closes)
        pieces.begin_day(day)
        done = 0
        for size in [*sizes, BARS]:
            end = min(BARS, done + size)
            pieces.process_bars(bars[done:end], closes[done:end])
            done = end
    assert pieces.state_hash() == whole.state_hash()
    split = engine_with(breaker(2))
    split.begin_day(MONDAY)
    split.process_bars(days[0].bars[:cut], days[0].closes[:cut])
    restored = NDAlphaEngine.restore(split.snapshot())
    restored.set_acb(breaker(2))  # a fresh one: it must learn the velocities seen before the restart
    restored.process_bars(days[0].bars[cut:], days[0].closes[cut:])
    restored.begin_day(MONDAY + timedelta(days=1))
    restored.process_bars(*days[1])
    assert restored.state_hash() == whole.state_hash()


def test_step_bar_asks_as_the_replay_does() -> None:
    ((bars, closes),) = market(1)
    replayed, stepped = engine_with(breaker(1)), engine_with(breaker(1))
    for engine in (replayed, stepped):
        engine.begin_day(MONDAY)
    replayed.process_bars(bars, closes)
    for t, bar in enumerate(bars):
        stepped.step_bar(
            int(bar.ts_ns), bar.vel_div, closes[t], v50=bar.v50, v750=bar.v750, vol_regime_ok=bool(bar.vol_regime_ok)
        )
    assert stepped.state_hash() == replayed.state_hash()


def test_a_breaker_that_says_too_much_is_refused() -> None:
    class Wild(AdaptiveCircuitBreaker):
        def get_dynamic_boost_for_date(self, date: Any, ob_engine: Any = None) -> Any:
            return {**super().get_dynamic_boost_for_date(date, ob_engine), "boost": 7.0}

    ((bars, closes),) = market(1)
    engine = engine_with(Wild())
    engine.begin_day(MONDAY)
    with pytest.raises(ConfigError, match=r"boost 7\.0.*expected boost in \[1, 3\]"):
        engine.process_bars(bars, closes)


# --- the forewarner ---


def test_red_forbids_the_days_entries_and_no_others() -> None:
    days = market(3)
    judge = Judge("RED", limit=5.0)
    engine = engine_with()
    gates = []
    for k, (bars, closes) in enumerate(days):
        judge.below = "RED" if k == 1 else "OK"
        engine.set_mc_forewarner(judge, BASE)
        engine.begin_day(MONDAY + timedelta(days=k))
        events, _ = engine.process_bars(bars, closes)
        gates.append(np.asarray(events.gate))
        assert engine.end_day()["mc_red"] == (k == 1)
    entered = [int((g == Gate.ENTERED).sum()) for g in gates]
    assert entered[0] > 0
    assert entered[1] == 0
    assert entered[2] > 0
    assert judge.asked == [BASE] * 3


def test_orange_halves_the_size() -> None:
    ((bars, closes),) = market(1)
    mults = []
    for status in ("OK", "ORANGE"):
        engine = engine_with()
        engine.set_mc_forewarner(Judge(status), BASE)
        engine.begin_day(MONDAY)
        events, _ = engine.process_bars(bars, closes)
        mults.append(np.asarray(events.regime_size_mult))
    np.testing.assert_array_equal(mults[1], 0.5 * mults[0])


def test_the_boosted_leverage_is_judged_as_soon_as_it_is_known() -> None:
    """5 is fine, 5 boosted to 6.7 is not: the day is open for ten bars, then closed."""
    ((bars, closes),) = market(1)
    judge = Judge("OK", "RED", limit=6.0)
    engine = engine_with(breaker(1))
    engine.set_mc_forewarner(judge, BASE)
    engine.begin_day(MONDAY)
    engine.process_bars(bars[:10], closes[:10])
    assert not engine.end_day()["mc_red"]
    events, trades = engine.process_bars(bars[10:], closes[10:])
    assert engine.end_day()["mc_red"]
    assert not len(trades)
    assert not (np.asarray(events.gate) == Gate.ENTERED).any()
    assert [cfg["max_leverage"] for cfg in judge.asked] == [5.0, pytest.approx(5.0 * BOOST)]
    assert [cfg["fraction"] for cfg in judge.asked] == [0.2, 0.2]


def test_a_red_halt_outlives_the_posture() -> None:
    ((bars, closes),) = market(1)
    engine = engine_with()
    engine.set_mc_forewarner(Judge("RED"), BASE)
    engine.begin_day(MONDAY)
    bars.posture[:130] = int(Posture.TURTLE)
    events, _ = engine.process_bars(bars, closes)
    assert not (np.asarray(events.gate) == Gate.ENTERED).any()


@pytest.mark.parametrize("status", ["PURPLE", None, ""])
def test_an_unknown_status_counts_as_red(status: Any) -> None:
    engine = engine_with()
    engine.set_mc_forewarner(Judge(status), BASE)
    engine.begin_day(MONDAY)
    assert engine.end_day()["mc_red"]


def test_without_a_forewarner_the_callers_gate_holds() -> None:
    engine = engine_with()
    engine.set_mc_forewarner(Judge("RED"), BASE)
    engine.begin_day(MONDAY, mc_scale=0.5)
    assert engine.mc_report is not None
    engine.set_mc_forewarner(None, {})
    engine.begin_day(MONDAY + timedelta(days=1), mc_scale=0.5)
    assert engine.mc_report is None
    assert (engine.end_day()["mc_scale"], engine.end_day()["mc_red"]) == (0.5, False)


def test_a_base_configuration_without_leverage_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_leverage"):
        engine_with().set_mc_forewarner(Judge("OK"), {"fraction": 0.2})


def test_bars_are_given_back_as_they_came() -> None:
    """The day's values ride on one bar while it runs; a second engine must not find them there."""
    ((bars, closes),) = market(1)
    before = bars.acb_update.copy()
    first, second = engine_with(breaker(1)), engine_with()
    for engine in (first, second):
        engine.begin_day(MONDAY)
        engine.process_bars(bars, closes)
    assert (bars.acb_update == before).all()
    assert second.end_day()["boost"] == 1.0
    assert first.end_day()["boost"] == pytest.approx(BOOST)


def test_an_update_that_the_bar_brings_itself_comes_after_the_days() -> None:
    ((bars, closes),) = market(1)
    bars[10].acb_update, bars[10].acb_boost, bars[10].acb_beta = 2, 1.1, 0.5
    engine = engine_with(breaker(1))
    engine.begin_day(MONDAY)
    engine.process_bars(bars, closes)
    assert (engine.end_day()["boost"], engine.end_day()["beta"]) == (1.1, 0.5)
