"""A backtest with factor files: when the breaker speaks, what it says, and that silence changes nothing (SPEC §9)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.rows import day_bars
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import ExitReason
from dolphin.core.errors import DataError
from dolphin.market.factorfiles import FACTORS, write_indicators, write_scan_global
from dolphin.market.factorimport import FactorImport
from dolphin.market.importer import Import, ImportSpec
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestResult, BacktestSpec, run_backtest
from dolphin.research.results import report_data, summarise, trade_columns
from dolphin.research.why import explain
from tests.support.report_data import drawn_charts, render
from tests.support.runs import FIRST, backtest, scan_days, with_last_signal, write_days
from tests.support.shared import recorded

near = pytest.approx
BEAR = {"funding_btc": -0.0005, "dvol_btc": 90.0, "fng": 10.0}
BOOST = 1.0 + 0.5 * np.log1p(3.0)


def day(k: int) -> date:
    return FIRST + timedelta(days=k)


def factors_of(folder: Path, **by_day: dict[str, float]) -> Path:
    """Factor files: d0={...}, d1={...} name days from FIRST."""
    folder.mkdir(exist_ok=True)
    for name, values in by_day.items():
        write_indicators(folder, day(int(name[1:])), 1, values)
    return folder


def history_of(folder: Path, dates: int = 20, value: float = 0.0) -> Path:
    """w750 velocities of `dates` earlier dates."""
    for k in range(dates):
        write_scan_global(folder, day(-1 - k), 1, value)
    return folder


class Watched:
    """A run, with the size multiplier of every bar."""

    def __init__(self, data: Path, factors: Path | None, **options: Any) -> None:
        mults: list[np.ndarray] = []
        self.spec = BacktestSpec(data=data, factors=factors, **options)
        self.result = run_backtest(self.spec, None, lambda _scans, ev: mults.append(np.array(ev.regime_size_mult)))
        self.mults = mults

    @property
    def acb(self) -> list[dict[str, Any]]:
        assert self.result.breaker is not None
        return [d.plain() for d in self.result.breaker.days]


@pytest.fixture(scope="module")
def days() -> Sequence[ScanDay]:
    return scan_days(3)


@pytest.fixture(scope="module")
def data(days: Sequence[ScanDay], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_days(tmp_path_factory.mktemp("factors") / "days", days)


def strength(scans: ScanDay) -> np.ndarray:
    return np.clip((-0.02 - scans.signal("vel_div")) / 0.03, 0.0, 1.0)


# --- when and what ---


def test_one_and_zero_until_day_bar_ten(data: Path, days: Sequence[ScanDay], tmp_path: Path) -> None:
    """Days 0 and 2 are bearish, day 1 has nothing; every bar's multiplier follows by hand."""
    run = Watched(data, factors_of(tmp_path / "f", d0=BEAR, d2=BEAR))
    for scans, mult, boost in zip(days, run.mults, (BOOST, 1.0, BOOST), strict=True):
        np.testing.assert_array_equal(mult[:10], 1.0)
        np.testing.assert_allclose(mult[10:], boost * (1.0 + 0.2 * strength(scans)[10:] ** 3), rtol=1e-12)
    assert [(d["boost"], d["beta"], d["signals"]) for d in run.acb] == [
        (near(1.693, abs=5e-4), 0.2, 3.0),
        (1.0, 0.2, 0.0),
        (near(1.693, abs=5e-4), 0.2, 3.0),
    ]
    assert [d["missing"] for d in run.acb] == [["taker"], list(FACTORS), ["taker"]]
    assert [d["date"] for d in run.acb] == [str(day(k)) for k in range(3)]
    assert "No factors for 1 date(s), 2024-01-02: missing, not zero, so the boost is 1 there." in run.result.notes
    assert any("On 3 day(s) fewer than 20 earlier dates had a w750" in note for note in run.result.notes)


def test_the_high_beta_needs_history_and_its_own_ten_scans(data: Path, days: Sequence[ScanDay], tmp_path: Path) -> None:
    """Twenty earlier dates at −1: every day's own median is above; the days themselves then join the history."""
    folder = history_of(factors_of(tmp_path / "f", d0=BEAR), value=-1.0)
    run = Watched(data, folder)
    assert [d["beta"] for d in run.acb] == [0.8, 0.8, 0.8]
    np.testing.assert_allclose(run.mults[0][10:], BOOST * (1.0 + 0.8 * strength(days[0])[10:] ** 3), rtol=1e-12)
    assert any("starts with 20 earlier date(s)" in note for note in run.result.notes)
    low = Watched(data, history_of(factors_of(tmp_path / "g", d0=BEAR), value=1.0))
    assert [d["beta"] for d in low.acb] == [0.2, 0.2, 0.2]
    thin = Watched(data, history_of(factors_of(tmp_path / "h", d0=BEAR), dates=18, value=-1.0))
    assert [d["beta"] for d in thin.acb] == [0.2, 0.2, 0.8], "days 0 and 1 make it twenty"


def test_windows_that_fill_give_no_velocity(days: Sequence[ScanDay], tmp_path: Path) -> None:
    signals = days[0].signals.copy()
    signals[:10] = np.nan
    data = write_days(tmp_path / "days", [dataclasses.replace(days[0], signals=signals), *days[1:]])
    run = Watched(data, history_of(factors_of(tmp_path / "f", d0=BEAR), value=-1.0))
    assert [d["beta"] for d in run.acb] == [0.2, 0.8, 0.8]


def test_short_days_never_meet_the_breaker(tmp_path: Path) -> None:
    for rows in (10, 11):
        short = scan_days(2, rows=rows)
        run = Watched(write_days(tmp_path / f"days{rows}", short), factors_of(tmp_path / "f", d0=BEAR, d1=BEAR))
        assert [len(m) for m in run.mults] == [rows, rows]
        assert [m[-1] > 1.5 for m in run.mults] == [rows == 11] * 2
        if rows == 10:
            assert [(d["boost"], d["beta"], d["signals"]) for d in run.acb] == [(1.0, 0.0, None)] * 2
            assert any("Ten bars or fewer on 2 date(s)" in note for note in run.result.notes)


def test_a_falling_boost_over_midnight_forces_no_exit(data: Path, tmp_path: Path) -> None:
    """Boost 1.69 falls to 1 at begin_day and stays there: that is a new day, not a sub-day normalisation."""
    run = Watched(data, factors_of(tmp_path / "f", d0=BEAR, d1=BEAR))
    assert len(run.result.trades) > 5
    assert not (run.result.trades["reason"] == ExitReason.SUBDAY_ACB_NORMALIZATION).any()


def test_the_replay_is_the_engine_with_its_updates_set_by_hand(
    data: Path, days: Sequence[ScanDay], tmp_path: Path
) -> None:
    run = Watched(data, factors_of(tmp_path / "f", d0=BEAR, d2={"dvol_btc": 60.0, "taker": 0.85}))
    engine = NDAlphaEngine(run.result.params, run.result.assets, run.result.direction, 25_000.0)
    for scans, told in zip(days, run.acb, strict=True):
        engine.begin_day(scans.day)
        signals = {
            "vel_div": scans.signal("vel_div"),
            "v50": scans.signal("v50_lambda_max_velocity"),
            "v750": scans.signal("v750_lambda_max_velocity"),
        }
        bars = day_bars(scans.ts_ns, signals)
        engine.process_bars(bars[:10], scans.closes[:10])
        bars.acb_update[10], bars.acb_boost[10], bars.acb_beta[10] = 1, told["boost"], told["beta"]
        engine.process_bars(bars[10:], scans.closes[10:])
        if scans is days[-1]:
            engine.close_open(ExitReason.END_OF_DATA)
        engine.end_day()
    assert engine.state_hash() == run.result.state_hash


# --- silence ---


def test_without_factors_nothing_changes(data: Path, days: Sequence[ScanDay], tmp_path: Path) -> None:
    """The replay without the option is the plain engine, to the last bit, and its summary has no new key."""
    bare = Watched(data, None).result
    engine = NDAlphaEngine(bare.params, bare.assets, bare.direction, 25_000.0)
    for scans in days:
        engine.begin_day(scans.day)
        signals = {
            "vel_div": scans.signal("vel_div"),
            "v50": scans.signal("v50_lambda_max_velocity"),
            "v750": scans.signal("v750_lambda_max_velocity"),
        }
        engine.process_bars(day_bars(scans.ts_ns, signals), scans.closes)
    engine.close_open(ExitReason.END_OF_DATA)
    assert engine.state_hash() == bare.state_hash
    assert bare.breaker is None
    summary = backtest(data, tmp_path / "out")
    assert "acb" not in summary
    assert "factors" not in summary["data"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Circuit breaker" not in page
    assert summary["state_hash"] == bare.state_hash


def test_neutral_factors_give_boost_one_but_a_beta(data: Path, tmp_path: Path) -> None:
    run = Watched(data, factors_of(tmp_path / "f", d0={"dvol_btc": 30.0, "funding_btc": 0.0001}))
    assert [(d["boost"], d["beta"]) for d in run.acb] == [(1.0, 0.2)] * 3


# --- causality ---


def trades_until(result: BacktestResult, bar: int) -> bytes:
    trades = result.trades
    return bytes(trades[trades["exit_bar"] < bar].tobytes())


def test_a_date_s_files_change_nothing_before_its_eleventh_bar(data: Path, tmp_path: Path) -> None:
    a = Watched(data, factors_of(tmp_path / "a", d0=BEAR))
    b = Watched(data, factors_of(tmp_path / "b", d0=BEAR, d2=BEAR))
    assert trades_until(a.result, 810) == trades_until(b.result, 810)
    for k in range(2):
        np.testing.assert_array_equal(a.mults[k], b.mults[k])
    np.testing.assert_array_equal(a.mults[2][:10], b.mults[2][:10])
    assert (a.mults[2][10:] != b.mults[2][10:]).all()
    assert a.acb[:2] == b.acb[:2]


@pytest.mark.parametrize("row", [10, 11, 399])
def test_bars_after_the_tenth_do_not_reach_the_day_s_answer(row: int, days: Sequence[ScanDay], tmp_path: Path) -> None:
    signals = days[1].signals.copy()
    signals[row:, 4] = 9.0
    folder = history_of(factors_of(tmp_path / "f", d0=BEAR), value=0.0)
    changed = write_days(tmp_path / "b", [days[0], dataclasses.replace(days[1], signals=signals), days[2]])
    a, b = (Watched(write_days(tmp_path / "a", days), folder), Watched(changed, folder))
    assert a.acb == b.acb
    early = days[1].signals.copy()
    early[:10, 4] = 9.0
    c = Watched(write_days(tmp_path / "c", [days[0], dataclasses.replace(days[1], signals=early), days[2]]), folder)
    assert c.acb[0] == a.acb[0]
    assert c.acb[1]["beta"] == 0.8


def test_a_run_cut_short_says_the_same_of_its_days(data: Path, tmp_path: Path) -> None:
    folder = history_of(factors_of(tmp_path / "f", d0=BEAR, d2=BEAR), value=0.0)
    assert Watched(data, folder, last=day(1)).acb == Watched(data, folder).acb[:2]


# --- what is refused ---


def test_a_folder_that_serves_no_day_of_the_run(data: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder, words in (
        (tmp_path / "absent", "no such directory"),
        (empty, "holds no YYYY-MM-DD folder; expected dates of the run, 2024-01-01 to 2024-01-03"),
        (factors_of(tmp_path / "late", d9=BEAR), "holds 2024-01-10 to 2024-01-10"),
    ):
        with pytest.raises(DataError, match=words):
            run_backtest(BacktestSpec(data=data, factors=folder))


def test_a_torn_file_stops_the_run_before_its_first_bar(data: Path, tmp_path: Path) -> None:
    folder = factors_of(tmp_path / "f", d0=BEAR, d2=BEAR)
    path = folder / str(day(2)) / "scan_000001__Indicators.npz"
    path.write_bytes(path.read_bytes()[:100])
    stepped: list[int] = []
    with pytest.raises(DataError, match=r"2024-01-03/scan_000001__Indicators\.npz: not readable"):
        run_backtest(BacktestSpec(data=data, factors=folder), stepped.append)
    assert stepped == []


# --- what a reader sees ---


def test_summary_and_page(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = factors_of(tmp_path / "f", d0=BEAR, d2=BEAR)
    summary = backtest(data, tmp_path / "out", "--factors", str(folder))
    assert "boost on 2 of 3 days, at most 1.693" in " ".join(capsys.readouterr().out.split())
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["acb"] == summary["acb"]
    assert set(summary["acb"][0]) == {"date", "boost", "beta", "signals", "missing"}
    assert summary["data"]["factors"] == str(folder)
    assert len(summary["data"]["factors_hash"]) == 64
    page = (tmp_path / "out" / "report.html").read_text()
    for words in ("<h2>Circuit breaker</h2>", 'id="chart-breaker"', "<h2>Days by boost</h2>", "No factors for 1 date"):
        assert words in page
    again = backtest(data, tmp_path / "again", "--factors", str(factors_of(tmp_path / "g", d0=BEAR)))
    assert again["data"]["factors_hash"] != summary["data"]["factors_hash"]
    assert again["state_hash"] != summary["state_hash"]


def test_the_chart_steps_through_the_days_and_the_table_adds_up(data: Path, tmp_path: Path) -> None:
    result = Watched(data, factors_of(tmp_path / "f", d0=BEAR, d2=BEAR)).result
    columns = trade_columns(result.trades, result.assets)
    summary = summarise(result, columns, "dolphin backtest")
    report = report_data(result, summary, columns)
    boost, beta = drawn_charts(report)["breaker"]["data"]
    assert (boost["name"], beta["name"]) == ("boost", "beta")
    assert boost["line"]["shape"] == beta["line"]["shape"] == "hv"
    page = render(report)
    table = page.split("<h2>Days by boost</h2>")[1].split("</table>")[0]
    rows = [row.split('data-key="')[1:] for row in table.split("<tr>")[2:]]
    keys = [[float(cell.split('"')[0]) for cell in row] for row in rows]
    assert [row[0] for row in keys] == [1.0, near(BOOST)]
    assert [row[2] for row in keys] == [1, 2]
    assert sum(row[3] for row in keys) == summary["trades"]
    assert sum(row[5] for row in keys) == near(summary["pnl"]["net"])
    middle = result.trades[(result.trades["entry_bar"] >= 400) & (result.trades["entry_bar"] < 800)]
    assert keys[0][3:] == [len(middle), near(middle["leverage"].mean()), near(middle["net_pnl"].sum())]


def test_why_explains_the_same_run(data: Path, days: Sequence[ScanDay], tmp_path: Path) -> None:
    """`dolphin why` with the same options meets the same boost at the same bar."""
    folder = factors_of(tmp_path / "f", d0=BEAR, d2=BEAR)
    run = Watched(data, folder)
    for k, row in ((0, 9), (0, 10), (1, 50), (2, 300)):
        told = explain(run.spec, int(days[k].ts_ns[row]))
        assert told.bar["regime_size_mult"] == run.mults[k][row], ns_to_iso(int(days[k].ts_ns[row]))


def test_a_boost_makes_positions_larger(tmp_path: Path) -> None:
    """At the last bar of a day a moderate signal opens; its leverage is the plain one times the multiplier."""
    made = [with_last_signal(d, -0.04) for d in scan_days(1)]
    calm = made[0].signals.copy()
    calm[:-1, 0] = 0.0
    data = write_days(tmp_path / "days", [dataclasses.replace(made[0], signals=calm)])
    folder = factors_of(tmp_path / "f", d0=BEAR)
    backtest(data, tmp_path / "a")
    backtest(data, tmp_path / "b", "--factors", str(folder))
    (plain,), (boosted,) = (pq.read_table(tmp_path / k / "trades.parquet")["leverage"].to_pylist() for k in "ab")
    share = (0.02 / 0.03) ** 3
    assert plain == near(0.5 + share * 4.5)
    assert boosted == near(plain * BOOST * (1.0 + 0.2 * share))


# --- recorded ---


def test_recorded_factors_over_recorded_prices(tmp_path: Path) -> None:
    """Four calm days of July 2023: no boost, the low beta, so the multiplier stays within a fifth."""
    spec = ImportSpec(
        source=recorded("perp_5m_2023"), out=tmp_path / "prices", bar_seconds=300, stamp="open", drop=("USDCUSDT",),
        first=date(2023, 7, 6), last=date(2023, 7, 9),
    )  # fmt: skip
    Import(spec).run()
    FactorImport(recorded("factors"), tmp_path / "f", date(2023, 7, 6), date(2023, 7, 9)).run()
    bare, run = (Watched(tmp_path / "prices", f) for f in (None, tmp_path / "f"))
    assert [(d["boost"], d["beta"], d["missing"]) for d in run.acb] == [(1.0, 0.2, ["taker"])] * 4
    # The last settlement of the 7th, 16:00, was negative: that is the 8th's signal, not the 7th's. Nothing else scores.
    assert [d["signals"] for d in run.acb] == [0.0, 0.0, 0.5, 0.0]
    for plain, scaled in zip(bare.mults, run.mults, strict=True):
        np.testing.assert_array_equal(plain, 1.0)
        np.testing.assert_array_equal(scaled[:10], 1.0)
        assert (scaled <= 1.2).all()
    assert max(float(m.max()) for m in run.mults) > 1.0
