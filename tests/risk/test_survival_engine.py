"""The engine obeys the table of allowed actions, bar by bar, with postures that change while a position is open."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.alpha.rows import day_bars
from dolphin.alpha.sizing import STALKER_LEVERAGE
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.params import EngineParams
from dolphin.market.archive import Archive
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import replay_signals
from dolphin.research.scanning import scan_archive
from dolphin.risk.posture import ALLOWED
from dolphin.risk.survival import SurvivalStack
from tests.research.conftest import import_spot
from tests.risk.survival_cases import reading
from tests.support.runs import scan_days

I8 = NDArray[np.int64]
DIRECTIONS = [Direction.SHORT, Direction.LONG]


def replay(days: Sequence[ScanDay], postures: I8, direction: Direction) -> tuple[Record, Record]:
    """(events, trades) of `days` with one posture per bar, at a boost that lets leverage pass every cap."""
    engine = NDAlphaEngine(EngineParams(), days[0].assets, direction, 25_000.0)
    events, trades, at = [], [], 0
    for day in days:
        trades.append(engine.begin_day(day.day, boost=1.5, beta=0.8))
        bars = day_bars(day.ts_ns, replay_signals(day))
        bars.posture[:] = postures[at : at + day.rows]
        happened, closed = engine.process_bars(bars, day.closes)
        events.append(happened)
        trades.append(closed)
        at += day.rows
    return np.concatenate(events).view(np.recarray), np.concatenate(trades).view(np.recarray)


def broken_rules(events: Record, trades: Record, postures: I8, closes: NDArray[np.float64]) -> list[str]:
    """Every bar at which the engine did what its posture does not allow; empty when it obeys."""
    wrong = []
    held = -1
    for t, posture in enumerate(postures):
        rule, event = ALLOWED[Posture(int(posture))], events[t]
        entered = event.gate == Gate.ENTERED
        if entered and not rule.entries:
            wrong.append(f"bar {t}: entered in {Posture(int(posture)).name}")
        if entered and event.leverage > rule.leverage_cap:
            wrong.append(f"bar {t}: leverage {event.leverage} in {Posture(int(posture)).name}")
        priced = held >= 0 and closes[t, held] > 0.0
        if rule.must_close and priced and event.exit_reason != ExitReason.HIBERNATE_HALT:
            wrong.append(f"bar {t}: a position stays open in {Posture(int(posture)).name}")
        if rule.must_close and event.in_position and (priced or held < 0):
            wrong.append(f"bar {t}: in a position after HIBERNATE")
        if not rule.must_close and event.exit_reason == ExitReason.HIBERNATE_HALT:
            wrong.append(f"bar {t}: closed by HIBERNATE in {Posture(int(posture)).name}")
        held = (int(event.asset) if entered else held) if event.in_position else -1
    resized = [trade for trade in trades if trade.leverage != events[int(trade.entry_bar)].leverage]
    return wrong + [f"bar {trade.exit_bar}: an open position was resized" for trade in resized]


def spells(rows: int, seed: int) -> I8:
    """Postures in spells of 5 to 60 bars, every other one APEX, so that most changes meet an open position."""
    rng = np.random.default_rng(seed)
    out: list[int] = []
    while len(out) < rows:
        out += [0] * int(rng.integers(5, 60)) + [int(rng.integers(1, 4))] * int(rng.integers(5, 60))
    return np.array(out[:rows])


def stacked(rows: int, seed: int) -> I8:
    """What the real stack says of made-up sensors, one reading a bar: drawdown that wanders, a grid that dies."""
    rng = np.random.default_rng(seed)
    stack, out, drawdown = SurvivalStack.opening(), [], 0.0
    for t in range(rows):
        drawdown = min(0.16, max(0.0, drawdown + rng.normal(0.0, 0.006)))
        nodes = 0 if rng.random() < 0.005 else 1
        out.append(int(stack.update(reading(drawdown=drawdown, grid_nodes=nodes), t * 3000.0).acting))
    return np.array(out)


def prove(days: Sequence[ScanDay], postures: I8, direction: Direction) -> None:
    closes = np.vstack([day.closes for day in days])
    events, trades = replay(days, postures, direction)
    assert broken_rules(events, trades, postures, closes) == []
    # It was put to the test: every posture met an open position, was entered in where allowed, and refused elsewhere.
    inside = np.append(False, events.in_position[:-1] != 0)
    for posture in Posture:
        here = postures == posture
        assert (here & inside).any(), posture.name
        entered = here & (events.gate == Gate.ENTERED)
        assert entered.any() == ALLOWED[posture].entries, posture.name
    assert (events.leverage[(postures == Posture.APEX) & (events.gate == Gate.ENTERED)] > 2.0).any()
    assert (events.leverage[(postures == Posture.STALKER) & (events.gate == Gate.ENTERED)] == 2.0).any()
    assert (trades.reason == ExitReason.HIBERNATE_HALT).sum() > 3
    resumed = np.flatnonzero((postures[1:] == Posture.APEX) & (postures[:-1] == Posture.HIBERNATE))
    assert len(resumed)
    assert (events.gate[resumed[0] + 1 :] == Gate.ENTERED).any()  # a posture's halt ends with the posture


def total(days: Sequence[ScanDay]) -> int:
    return sum(day.rows for day in days)


def test_the_engine_s_cap_is_the_table_s() -> None:
    assert ALLOWED[Posture.STALKER].leverage_cap == STALKER_LEVERAGE
    assert math.isinf(ALLOWED[Posture.APEX].leverage_cap)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("made", [spells, stacked])
def test_the_engine_obeys_on_made_up_days(made: Any, direction: Direction) -> None:
    days = scan_days(4, 1000, drift=-0.1 * -int(direction))
    prove(days, made(total(days), 11), direction)


@pytest.fixture(scope="module")
def recorded_scans(tmp_path_factory: pytest.TempPathFactory) -> Sequence[ScanDay]:
    """Two recorded days, scanned; the day before them fills the windows."""
    prices = import_spot(tmp_path_factory.mktemp("recorded") / "prices", date(2021, 4, 2), date(2021, 4, 4))
    return list(scan_archive(Archive.open(prices)))[1:]


@pytest.mark.slow
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("made", [spells, stacked])
def test_the_engine_obeys_on_recorded_days(recorded_scans: Sequence[ScanDay], made: Any, direction: Direction) -> None:
    prove(recorded_scans, made(total(recorded_scans), 5), direction)


def test_the_check_notices_every_kind_of_disobedience() -> None:
    """Each rule broken once: the same replay judged by other postures than it was run with."""
    days = scan_days(2, 600)
    closes = np.vstack([day.closes for day in days])
    events, trades = replay(days, np.zeros(total(days), np.int64), Direction.SHORT)
    for posture, complaint in (
        (Posture.TURTLE, "entered in TURTLE"),
        (Posture.STALKER, "in STALKER"),
        (Posture.HIBERNATE, "stays open in HIBERNATE"),
    ):
        found = broken_rules(events, trades, np.full(total(days), int(posture)), closes)
        assert any(complaint in line for line in found), posture.name
    trades.leverage[0] += 1.0
    assert any("resized" in line for line in broken_rules(events, trades, np.zeros(total(days), np.int64), closes))
