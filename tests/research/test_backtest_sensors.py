"""A backtest with sensors: what summary, files and page say, and that the run is the stack's, bar by bar."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dolphin.alpha.feed import HEALTHY, SensorFeed
from dolphin.alpha.layout import Record
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.errors import DataError
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestResult, BacktestSpec, run_backtest
from dolphin.research.results import EquityWriter, report_data, summarise, trade_columns
from dolphin.research.survival import SensorSource
from dolphin.research.why import explain
from tests.risk.survival_cases import reading
from tests.risk.test_survival_engine import broken_rules
from tests.support.report_data import drawn_charts, render
from tests.support.runs import FIRST, scan_days, write_days
from tests.support.sensors import MINUTE, Recording, as_records, by_hand, compiled, joined, recording, write_recording

near = pytest.approx
ROWS = 900


@pytest.fixture(scope="module")
def days() -> Sequence[ScanDay]:
    return scan_days(2, ROWS, drift=-0.1)


@pytest.fixture(scope="module")
def data(days: Sequence[ScanDay], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_days(tmp_path_factory.mktemp("sensors") / "days", days)


@pytest.fixture(scope="module")
def taken(days: Sequence[ScanDay]) -> Recording:
    """From the run's 41st bar to a while before its end; every posture meets an open position."""
    return recording(int(days[0].ts_ns[40]) + 7_000_000_000, 24 * 60 + 700, 6, every_s=45.0)


class Told:
    """A backtest and everything that it said of its bars."""

    def __init__(self, data: Path, sensors: SensorSource | None, **spec: Any) -> None:
        self.spec = BacktestSpec(data=data, sensors=sensors, **spec)
        kept: list[Record] = []
        self.result = run_backtest(self.spec, sink=lambda _, events: kept.append(events.copy()))
        self.events = joined(kept)
        self.columns = trade_columns(self.result.trades, self.result.assets)
        self.summary = summarise(self.result, self.columns, "dolphin backtest")

    @property
    def stack(self) -> dict[str, Any]:
        told: dict[str, Any] = self.summary["survival"]
        return told


@pytest.fixture(scope="module")
def told(data: Path, taken: Recording, tmp_path_factory: pytest.TempPathFactory) -> Told:
    return Told(data, write_recording(tmp_path_factory.mktemp("sensors") / "s.jsonl", taken))


# --- the figures ---


def test_the_summary_counts_what_the_bars_say(told: Told, taken: Recording) -> None:
    events, stack = told.events, told.stack
    counts = np.bincount(events.posture, minlength=4)
    assert (counts > 0).all()
    for posture, count in zip(Posture, counts.tolist(), strict=True):
        expected = {"bars": count, "seconds": count * 60.0, "share": count / (2 * ROWS)}
        assert stack["postures"][posture.name] == expected
    assert stack["changes"] == int(np.count_nonzero(np.diff(events.posture)))
    assert stack["lowest_rm"] == float(np.nanmin(events.rm))
    assert stack["readings"] == len(taken)
    assert stack["supplied"] == []
    assert stack["bars_before_first"] == 41
    assert stack["closed_by_halt"] == int((told.result.trades["reason"] == ExitReason.HIBERNATE_HALT).sum()) > 0
    halted = (events.gate == Gate.HALT) & (events.vel_div < -0.02) & (np.arange(2 * ROWS) % ROWS >= 100)
    assert stack["entries_blocked"] == int(halted.sum()) > 0
    assert len(stack["readings_hash"]) == 64


def test_the_equity_file_has_posture_and_rm(told: Told, days: Sequence[ScanDay], tmp_path: Path) -> None:
    with EquityWriter(tmp_path / "equity.parquet") as writer:
        for k, day in enumerate(days):
            writer.take(day, told.events[k * ROWS : (k + 1) * ROWS])
    table = pq.read_table(tmp_path / "equity.parquet")
    assert table["posture"].to_pylist() == [Posture(int(p)).name for p in told.events.posture]
    assert np.array_equal(table["rm"].to_numpy(), told.events.rm, equal_nan=True)


def test_the_postures_are_the_stack_s(told: Told, taken: Recording, days: Sequence[ScanDay]) -> None:
    """The recording holds every sensor, so the stack alone decides, whatever the engine does."""
    events, _, _ = by_hand(days, taken)
    assert events.posture.tolist() == told.events.posture.tolist()
    assert events.rm.tobytes() == told.events.rm.tobytes()


def test_the_series_hold_every_change_and_every_extreme(told: Told) -> None:
    assert told.result.survival is not None
    series = told.result.survival.series
    stamps = told.events.ts_ns
    assert series.posture_at(stamps).tolist() == told.events.posture.tolist()
    assert len(series.spell_ns) == told.stack["changes"] + 1
    assert np.all(np.diff(series.spell_posture) != 0)
    assert series.end_ns == stamps[-1]
    at = np.searchsorted(stamps, series.ts_ns)
    assert np.array_equal(told.events.rm[at], series.rm, equal_nan=True)
    assert np.nanmin(series.rm) == np.nanmin(told.events.rm)
    assert all(np.nanmax(column) <= 1.0 for column in series.categories)


def test_its_own_sensors(data: Path) -> None:
    """Rm is Cat5 of the drawdown that the bar before left: falls are seen at once, and nothing else lowers it."""
    own = Told(data, "own")
    assert (own.stack["sensors"], own.stack["readings"], own.stack["readings_hash"]) == ("own", None, None)
    assert own.stack["supplied"] == ["drawdown", "mc_status"]
    assert "No sensors were recorded" in own.result.notes[-1]
    peak = np.maximum(np.maximum.accumulate(own.events.equity), 25_000.0)
    drawdown = np.append(0.0, 1.0 - own.events.equity / peak)[:-1]
    cat5 = 1.0 / (1.0 + np.exp(30.0 * (drawdown - 0.12)))
    assert own.events.rm[0] == near(1.0 / (1.0 + math.exp(-3.6)))
    assert np.all(own.events.rm <= cat5 + 1e-12)
    falling = np.append(False, np.diff(cat5) < -1e-9) & (np.append(1.0, own.events.rm[:-1]) >= cat5)
    assert falling.sum() > 50
    assert own.events.rm[falling] == near(cat5[falling])


def test_without_sensors_nothing_is_said(data: Path) -> None:
    bare = Told(data, None)
    assert "survival" not in bare.summary
    assert bare.result.survival is None
    assert set(bare.events.posture.tolist()) == {int(Posture.APEX)}
    assert np.isnan(bare.events.rm).all()
    page = render(report_data(bare.result, bare.summary, bare.columns))
    assert "Survival stack" not in page
    assert 'id="chart-survival"' not in page


def test_a_healthy_recording_changes_no_trade(data: Path, days: Sequence[ScanDay], tmp_path: Path) -> None:
    every = [(int(ts), HEALTHY) for day in days for ts in day.ts_ns]
    told, bare = Told(data, write_recording(tmp_path / "s.json", every)), Told(data, None)
    assert told.result.state_hash == bare.result.state_hash
    assert told.result.trades.tobytes() == bare.result.trades.tobytes()
    assert told.stack["postures"]["APEX"]["share"] == 1.0
    assert (told.stack["changes"], told.stack["entries_blocked"]) == (0, 0)


# --- what the file does not hold ---


def test_what_the_file_never_holds_is_supplied_and_said(
    data: Path, days: Sequence[ScanDay], taken: Recording, tmp_path: Path
) -> None:
    path = write_recording(tmp_path / "s.jsonl", taken, drop=("drawdown", "mc_status", "dvol_spike_age_min"))
    told = Told(data, path)
    assert told.stack["supplied"] == ["drawdown", "mc_status"]
    notes = " ".join(told.result.notes)
    assert "never holds drawdown and mc_status: the replay supplies its own" in notes
    assert "never holds dvol_spike_age_min: not known, so the worst case" in notes
    assert "41 bars before the first reading" in notes
    assert f"On {told.stack['stale_bars']} bars the newest reading was more than 5 minutes old" in notes
    quiet = [(int(ts), HEALTHY) for ts in days[0].ts_ns]
    names = ("dvol_spike_age_min", "drawdown", "mc_status")
    calm = Told(data, write_recording(tmp_path / "calm.json", quiet, drop=names), last=FIRST)
    own = Told(data, "own", last=FIRST)
    assert not any("worst case" in note for note in calm.result.notes)  # without a spike nobody asks for its age
    assert calm.events.tobytes() == own.events.tobytes()


def test_a_null_is_not_known_and_not_supplied(data: Path, days: Sequence[ScanDay], tmp_path: Path) -> None:
    blind = [(int(ts), reading(drawdown=None)) for ts in days[0].ts_ns]
    told = Told(data, write_recording(tmp_path / "s.json", blind), last=FIRST)
    assert told.stack["supplied"] == []
    assert told.stack["postures"]["HIBERNATE"]["share"] == 1.0
    assert told.summary["trades"] == 0


def test_readings_before_the_run_are_taken_at_its_first_bar(
    data: Path, days: Sequence[ScanDay], tmp_path: Path
) -> None:
    start = int(days[1].ts_ns[0])
    before = [(start - k * MINUTE, reading(drawdown=0.09)) for k in (3, 2, 1)]
    told = Told(data, write_recording(tmp_path / "s.json", before), first=FIRST + timedelta(days=1))
    assert told.events.posture[0] == Posture.TURTLE
    assert (told.stack["bars_before_first"], told.stack["stale_bars"]) == (0, ROWS - 5)


@pytest.mark.parametrize("shift", [-timedelta(days=3), timedelta(days=3)])
def test_readings_of_other_days_are_refused(data: Path, shift: timedelta, tmp_path: Path) -> None:
    ns = int(shift.total_seconds() * 1e9)
    path = write_recording(tmp_path / "s.json", [(k * MINUTE + ns + 1704067200 * 10**9, HEALTHY) for k in range(3)])
    with pytest.raises(DataError, match=r"s\.json: readings from .* expected some of the run's days, 2024-01-01 to"):
        run_backtest(BacktestSpec(data=data, sensors=path))


def test_a_reading_without_a_time_is_refused(data: Path, tmp_path: Path) -> None:
    path = tmp_path / "one.json"
    path.write_text("{}")
    with pytest.raises(DataError, match="no time; a replay needs one"):
        run_backtest(BacktestSpec(data=data, sensors=path))


# --- why, and the page ---


def test_why_explains_the_same_run(told: Told) -> None:
    events = told.events
    for posture in Posture:
        for gate in (Gate.HALT, Gate.ENTERED, Gate.IN_POSITION):
            rows = np.flatnonzero((events.posture == posture) & (events.gate == gate))[:1]
            for k in rows.tolist():
                answer = explain(told.spec, int(events.ts_ns[k]))
                assert (answer.bar["posture"], answer.bar["equity"]) == (posture.name, float(events.equity[k]))
                assert answer.bar["rm"] == (None if np.isnan(events.rm[k]) else float(events.rm[k]))
                if gate == Gate.HALT:
                    row = next(row for row in answer.gates if row["gate"] == "HALT")
                    assert (row["verdict"], row["met"]) == ("refused", posture.name)


def drawn(result: BacktestResult, told: Told) -> tuple[dict[str, Any], str]:
    data = report_data(result, told.summary, told.columns)
    return drawn_charts(data)["survival"], render(data)


def test_the_chart_and_the_table(told: Told) -> None:
    figure, page = drawn(told.result, told)
    assert figure["link"] == "time"
    names = [trace["name"] for trace in figure["data"]]
    assert names == [*(p.name for p in Posture for _ in range(2)), "Rm", *names[9:]]
    assert [name[:4] for name in names[9:]] == ["Cat1", "Cat2", "Cat3", "Cat4", "Cat5"]
    assert [shape["y0"] for shape in figure["layout"]["shapes"]] == [0.90, 0.75, 0.50]
    rm = next(trace for trace in figure["data"] if trace["name"] == "Rm")
    assert set(rm["text"]) == {p.name for p in Posture}
    for words in ("<h2>Survival stack</h2>", 'id="chart-survival"', "<h2>Postures</h2>"):
        assert words in page
    table = page.split("<h2>Postures</h2>")[1].split("</table>")[0]
    rows = [row.split('data-key="')[1:] for row in table.split("<tr>")[2:]]
    keys = [[float(cell.split('"')[0].replace("–", "nan")) for cell in row] for row in rows]
    assert [row[0] for row in keys] == [0, 1, 2, 3]
    assert sum(row[1] for row in keys) == near(1.0)
    assert sum(row[2] for row in keys) == near(2 * ROWS / 60)
    assert sum(row[3] for row in keys) == told.summary["trades"]
    assert sum(row[5] for row in keys) == near(told.summary["pnl"]["net"])
    assert keys[1][4] <= 2.0
    assert keys[2][3] == keys[3][3] == 0


def test_no_bars_no_chart(told: Told) -> None:
    empty = np.empty(0)
    assert told.result.survival is not None
    none = replace(
        told.result.survival.series,
        **{name: empty.astype(np.int64) for name in ("ts_ns", "spell_ns", "spell_posture")},
        rm=empty,
        categories=(empty,) * 5,
    )
    bare = {name: column[:0] for name, column in told.columns.items()}
    data = replace(report_data(told.result, told.summary, told.columns), survival=none, trades=bare)
    assert "survival" not in drawn_charts(data)
    assert "No bar was stepped." in render(data)


# --- recorded days ---


@pytest.fixture(scope="module")
def recorded_taken(recorded_scans: Sequence[ScanDay]) -> Recording:
    """A made-up recording over recorded days, from the first bar on."""
    return recording(int(recorded_scans[1].ts_ns[0]), 3 * 24 * 60, 18)


@pytest.mark.slow
@pytest.mark.parametrize("direction", [Direction.SHORT, Direction.LONG])
def test_recorded_days_bar_by_bar(
    recorded_scans: Sequence[ScanDay], recorded_taken: Recording, direction: Direction
) -> None:
    """Trade for trade and state for state the slow road's; and the engine does only what each posture allows."""
    days = recorded_scans[1:4]
    events, trades, engine = compiled(days, SensorFeed(as_records(recorded_taken)), direction)
    slow_events, slow_trades, slow_engine = by_hand(days, recorded_taken, direction)
    assert trades.tobytes() == slow_trades.tobytes()
    assert events.tobytes() == slow_events.tobytes()
    assert engine.state_hash() == slow_engine.state_hash()
    postures = np.array(events.posture)
    assert broken_rules(events, trades, postures, np.vstack([day.closes for day in days])) == []
    inside = np.append(False, events.in_position[:-1] != 0)
    for posture in Posture:
        assert ((postures == posture) & inside).any(), f"{posture.name} never met an open position"
    changed = np.append(False, postures[1:] != postures[:-1])
    assert (changed & inside).sum() > 10, "postures changed in mid-position"
    entered = events.gate == Gate.ENTERED
    assert (entered & (postures == Posture.STALKER)).any()
    assert (trades.reason == ExitReason.HIBERNATE_HALT).sum() > 3


@pytest.mark.slow
def test_recorded_days_ignore_what_comes_later(recorded_scans: Sequence[ScanDay], recorded_taken: Recording) -> None:
    days = recorded_scans[1:3]
    whole, _, _ = compiled(days, SensorFeed(as_records(recorded_taken)))
    for at in (500, 2_000):
        cut = int(whole.ts_ns[at])
        rng = np.random.default_rng(at)
        before = [pair for pair in recorded_taken if pair[0] <= cut]
        later = [ns for ns, _ in recorded_taken if ns > cut]
        order = rng.permutation(len(later))
        scrambled = before + [(ns, recorded_taken[len(before) + int(j)][1]) for ns, j in zip(later, order, strict=True)]
        for other in (before, scrambled):
            events, _, _ = compiled(days, SensorFeed(as_records(other)))
            assert events[: at + 1].tobytes() == whole[: at + 1].tobytes(), ns_to_iso(cut)
