"""A backtest with a forewarner: judged every day at the day's leverage, halved or halted, and told (SPEC §11)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Gate
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.factorfiles import write_indicators
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestResult, BacktestSpec, run_backtest
from dolphin.research.gate import DailyGate
from dolphin.research.results import report_data, summarise, trade_columns
from dolphin.research.why import explain
from dolphin.risk.forewarner import MC_BASE_CFG, Report
from tests.support.forewarner import write_small_model
from tests.support.report_data import drawn_charts, render
from tests.support.runs import FIRST, scan_days, write_days

BEAR = {"funding_btc": -0.0005, "dvol_btc": 90.0, "fng": 10.0}
BOOST = 1.0 + 0.5 * np.log1p(3.0)


@pytest.fixture(scope="module")
def days() -> Sequence[ScanDay]:
    return scan_days(3)


@pytest.fixture(scope="module")
def data(days: Sequence[ScanDay], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_days(tmp_path_factory.mktemp("gate") / "days", days)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gate") / "model"
    write_small_model(folder)
    return folder


@pytest.fixture(scope="module")
def factors(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first date is bearish, the others have nothing."""
    folder = tmp_path_factory.mktemp("gate") / "factors"
    write_indicators(folder, FIRST, 1, BEAR)
    return folder


def told(result: BacktestResult) -> dict[str, Any]:
    return summarise(result, trade_columns(result.trades, result.assets), "dolphin backtest")


def saying(monkeypatch: pytest.MonkeyPatch, status: Mapping[float, str]) -> list[float]:
    """The model says `status` by leverage, as if it were so trained; gives the leverages that it was asked of."""
    asked: list[float] = []

    def assess(self: Any, config: Mapping[str, Any]) -> Report:
        asked.append(config["max_leverage"])
        p = {"OK": 0.01, "ORANGE": 0.15, "RED": 0.5}[status[round(config["max_leverage"], 3)]]
        return Report(
            catastrophic_probability=p,
            envelope_score=1.0,
            predicted_roi=0.0,
            predicted_max_drawdown=0.1,
            status=status[round(config["max_leverage"], 3)],  # type: ignore[arg-type]
        )

    monkeypatch.setattr("dolphin.risk.forewarner.assess.Forewarner.assess_config_dict", assess)
    return asked


def test_the_model_judges_every_day_at_its_boost(data: Path, factors: Path, model: Path) -> None:
    """The numbers in the summary are those that the model gives when asked by hand."""
    result = run_backtest(BacktestSpec(data=data, factors=factors, forewarner=model))
    warner = DailyGate(model, result.params, result.direction).warner
    summary = told(result)
    assert [day["max_leverage"] for day in summary["mc"]] == [pytest.approx(5.0 * BOOST), 5.0, 5.0]
    for day in summary["mc"]:
        said = warner.assess_config_dict({**MC_BASE_CFG, "max_leverage": day["max_leverage"]})
        assert day["catastrophic_probability"] == said.catastrophic_probability
        assert day["envelope_score"] == said.envelope_score
        assert day["status"] == said.status
    assert summary["data"]["forewarner"] == str(model)
    assert summary["data"]["forewarner_hash"] == warner.identity


def test_a_red_day_has_no_entries_and_an_orange_one_half_the_size(
    data: Path, days: Sequence[ScanDay], factors: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = saying(monkeypatch, {5.0: "ORANGE", round(5.0 * BOOST, 3): "RED"})
    gates: list[np.ndarray] = []
    mults: list[np.ndarray] = []

    def keep(_scans: ScanDay, events: Any) -> None:
        gates.append(np.array(events.gate))
        mults.append(np.array(events.regime_size_mult))

    result = run_backtest(BacktestSpec(data=data, factors=factors, forewarner=model), None, keep)
    assert asked == [5.0, pytest.approx(5.0 * BOOST), 5.0, 5.0, 5.0, 5.0]  # at midnight, and once the boost is known
    entered = [int((g == Gate.ENTERED).sum()) for g in gates]
    assert entered[0] == 0
    assert min(entered[1:]) > 0
    strength = [np.clip((-0.02 - d.signal("vel_div")) / 0.03, 0.0, 1.0) for d in days]
    np.testing.assert_allclose(mults[1][10:], 0.5 * (1.0 + 0.2 * strength[1][10:] ** 3), rtol=1e-12)
    np.testing.assert_array_equal(mults[1][:10], 0.5)
    summary = told(result)
    assert [(day["status"], day["mc_scale"]) for day in summary["mc"]] == [
        ("RED", 1.0),
        ("ORANGE", 0.5),
        ("ORANGE", 0.5),
    ]


def test_an_ok_day_changes_nothing(data: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, {5.0: "OK"})
    gated = run_backtest(BacktestSpec(data=data, forewarner=model))
    bare = run_backtest(BacktestSpec(data=data))
    assert gated.state_hash == bare.state_hash
    assert "mc" not in told(bare)
    assert "Forewarner" not in render(report_data(bare, told(bare), trade_columns(bare.trades, bare.assets)))


def test_the_runs_own_parameters_are_judged(data: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = saying(monkeypatch, {9.0: "RED"})
    run_backtest(BacktestSpec(data=data, forewarner=model, overrides={"max_leverage": "9"}))
    assert set(asked) == {9.0}


def test_a_foreign_configuration_is_red_by_the_model_itself(data: Path, model: Path) -> None:
    result = run_backtest(BacktestSpec(data=data, forewarner=model, overrides={"lookback": "50"}))
    assert {day["status"] for day in told(result)["mc"]} == {"RED"}
    assert len(result.trades) == 0


def test_the_page_draws_what_was_said(data: Path, factors: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    saying(monkeypatch, {5.0: "OK", round(5.0 * BOOST, 3): "RED"})
    result = run_backtest(BacktestSpec(data=data, factors=factors, forewarner=model))
    columns = trade_columns(result.trades, result.assets)
    page = report_data(result, told(result), columns)
    chance, score = drawn_charts(page)["gate"]["data"]
    assert (chance["name"], score["name"]) == ("probability", "envelope score")
    text = render(page)
    assert 'id="chart-gate"' in text
    table = text.split("word</h2>")[1].split("</table>")[0]
    rows = [[cell.split('"')[0] for cell in row.split('data-key="')[1:]] for row in table.split("<tr>")[2:]]
    assert [(row[1], row[3]) for row in rows] == [("2.0", f"{len(result.trades):.1f}"), ("1.0", "0.0")]


def test_why_meets_the_same_gate(
    data: Path, days: Sequence[ScanDay], factors: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saying(monkeypatch, {5.0: "OK", round(5.0 * BOOST, 3): "RED"})
    spec = BacktestSpec(data=data, factors=factors, forewarner=model)
    deep = [k for k in range(120, days[0].rows) if days[0].signal("vel_div")[k] < -0.05]
    answer = explain(spec, int(days[0].ts_ns[deep[0]]))
    (halt,) = [row for row in answer.gates if row["gate"] == "HALT"]
    assert halt["verdict"] == "refused"
    assert "RED" in halt["met"]
    assert answer.bar["timestamp"] == ns_to_iso(int(days[0].ts_ns[deep[0]]))


def test_what_cannot_be_used_is_refused(data: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="trained for SHORT, this run is LONG"):
        run_backtest(BacktestSpec(data=data, forewarner=model, profile="green"))
    with pytest.raises(DataError, match="no model here"):
        run_backtest(BacktestSpec(data=data, forewarner=tmp_path / "nowhere"))
    card = json.loads((model / "model.json").read_text())
    assert card["direction"] == "SHORT"
