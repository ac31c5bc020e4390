"""A backtest's results agree with themselves and with the data they came from (SPEC §6, §7, §12)."""

from __future__ import annotations

import json
import math
import tracemalloc
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolphin.core.codes import ExitReason, Gate
from dolphin.core.errors import ConfigError, DataError
from dolphin.core.params import champion_hash
from dolphin.market.archive import Archive
from dolphin.market.tables import ScanDay
from dolphin.research import backtest as module
from dolphin.research.backtest import BacktestResult, BacktestSpec, run_backtest, stream_scans
from dolphin.research.outputs import RUN_FILES
from tests.support.runs import (
    FIRST,
    backtest,
    price_archive_of,
    scan_archive_of,
    scan_days,
    with_last_signal,
    write_days,
)

near = pytest.approx
DEEP = -0.06


class Run:
    """A finished run, its folder and everything that went into it."""

    def __init__(self, data: Path, out: Path, *options: str) -> None:
        self.summary = backtest(data, out, *options)
        self.out = out
        self.trades = pq.read_table(out / "trades.parquet").to_pydict()
        self.equity = pq.read_table(out / "equity.parquet").to_pydict()
        self.days: list[ScanDay] = list(stream_scans(BacktestSpec(data=data)))
        self.ts = np.concatenate([day.ts_ns for day in self.days])
        self.closes = np.concatenate([day.closes for day in self.days])

    def column(self, name: str) -> np.ndarray:
        return np.array(self.trades[name])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Four days that end in an open position."""
    folder = tmp_path_factory.mktemp("run")
    days = scan_days(4)
    # Calm before the end, so that the position opened at the very last bar is a new one.
    calm = days[-1].signals.copy()
    calm[-130:, 0] = 0.0
    days[-1] = with_last_signal(replace(days[-1], signals=calm), DEEP)
    return Run(write_days(folder / "days", days), folder / "out")


# --- the summary adds up ---


def test_net_is_the_sum_of_its_parts_and_the_change_of_capital(done: Run) -> None:
    pnl = done.summary["pnl"]
    parts = [pnl[name] for name in ("price", "fees", "slippage", "funding", "modelled_edge")]
    assert math.fsum(parts) == near(pnl["net"], abs=1e-8)
    assert done.summary["capital_end"] - done.summary["capital_start"] == near(pnl["net"], abs=1e-8)
    assert done.summary["roi"] == near(pnl["net"] / 25_000.0, abs=1e-12)
    for name, column in (("price", "pnl_price"), ("fees", "fees"), ("net", "net_pnl")):
        assert math.fsum(done.trades[column]) == pnl[name]


def test_trades_chain(done: Run) -> None:
    net, after = done.column("net_pnl"), done.column("capital_after")
    assert len(net) == done.summary["trades"] > 10
    assert after[0] == 25_000.0 + net[0]
    assert (after[1:] == after[:-1] + net[1:]).all()
    assert after[-1] == done.summary["capital_end"]
    assert done.trades["trade_id"] == list(range(len(net)))
    entry, exit_ = done.column("entry_bar"), done.column("exit_bar")
    assert (entry <= exit_).all()
    assert (entry[1:] > exit_[:-1]).all()
    before = np.concatenate(([25_000.0], after[:-1]))
    notional = before * done.column("fraction") * done.column("leverage")
    assert (done.column("notional_usd") == notional).all()


def test_bars_and_stamps_are_those_of_the_data(done: Run) -> None:
    """entry_bar and exit_bar count rows over the whole run; entries and plain exits happen at that row's price."""
    entry, exit_ = done.column("entry_bar"), done.column("exit_bar")
    assert exit_.max() > 400, "trades beyond the first day"
    names = list(done.days[0].assets)
    for k, asset in enumerate(done.trades["asset"]):
        a = names.index(asset)
        assert pa.scalar(done.trades["entry_ts"][k]).cast(pa.int64()).as_py() * 1000 == done.ts[entry[k]]
        assert pa.scalar(done.trades["exit_ts"][k]).cast(pa.int64()).as_py() * 1000 == done.ts[exit_[k]]
        assert done.trades["entry_price"][k] == done.closes[entry[k], a]
        assert done.trades["exit_price"][k] == near(done.closes[exit_[k], a] * 1.0002, rel=1e-12)


def test_every_bar_is_counted_once(done: Run) -> None:
    summary = done.summary
    assert summary["bars"] == len(done.ts) == sum(summary["gates"].values()) == len(done.equity["equity"])
    assert set(summary["gates"]) == {gate.name for gate in Gate}
    assert summary["gates"]["ENTERED"] == summary["trades"]
    assert summary["exposure"] == near(sum(done.equity["in_position"]) / summary["bars"])
    counted: dict[str, int] = {}
    for name in done.equity["gate"]:
        counted[name] = counted.get(name, 0) + 1
    assert counted == {name: n for name, n in summary["gates"].items() if n}
    assert sum(group["count"] for group in summary["by_reason"].values()) == summary["trades"]
    assert sum(group["count"] for group in summary["by_asset"].values()) == summary["trades"]


def test_the_curve_ends_where_the_summary_ends(done: Run) -> None:
    assert done.trades["reason"][-1] == "END_OF_DATA"
    assert done.equity["equity"][-1] == done.equity["capital"][-1] == done.summary["capital_end"]
    assert done.equity["equity"][0] == 25_000.0
    curve = np.array([25_000.0, *done.equity["equity"]])
    deepest = (1.0 - curve / np.maximum.accumulate(curve)).max()
    assert done.summary["max_drawdown"] == near(deepest, abs=1e-15)


def test_end_of_data_by_hand(done: Run) -> None:
    """Opened and closed at the last bar: no price PnL, 2 bps of slip less 2.24 refund, 6.64 of fees, a draw."""
    last = {name: values[-1] for name, values in done.trades.items()}
    assert last["entry_bar"] == last["exit_bar"] == len(done.ts) - 1
    assert last["pnl_price"] == 0.0
    assert last["fees"] == near(-6.64e-4 * last["notional_usd"])
    assert last["slippage"] == near(0.24e-4 * last["notional_usd"])
    k = last["trade_id"]
    edge = 5e-4 if np.random.RandomState(42).random_sample(k + 1)[k] < 0.4 else 0.0
    assert last["modelled_edge"] == near(edge * last["notional_usd"])


def test_all_files_are_there_and_agree(done: Run) -> None:
    assert sorted(path.name for path in done.out.iterdir()) == sorted(RUN_FILES)
    page = (done.out / "report.html").read_text()
    assert "This is not the champion" not in page
    assert done.summary["is_champion"]
    assert done.summary["champion_hash"] == "3e85f242030efb87"


# --- what may be chosen ---


def test_from_and_to_choose_days(tmp_path: Path) -> None:
    data = scan_archive_of(tmp_path / "days", 5)
    low, high = FIRST + timedelta(days=1), FIRST + timedelta(days=3)
    part = backtest(data, tmp_path / "a", "--from", str(low), "--to", str(high))
    assert (part["from"], part["to"], part["days"], part["bars"]) == (str(low), str(high), 3, 1200)
    # The same three days by themselves: the selection is all that counts.
    alone = write_days(tmp_path / "alone", scan_days(5)[1:4])
    again = backtest(alone, tmp_path / "b")
    assert again["state_hash"] == part["state_hash"]
    assert again["data"]["manifest_hash"] == part["data"]["manifest_hash"] != Archive.open(data).identity()
    with pytest.raises(DataError, match="no day from 2030-01-01"):
        run_backtest(BacktestSpec(data=data, first=FIRST.replace(year=2030)))


def test_prices_are_warmed_up_on_the_day_before(tmp_path: Path) -> None:
    data = price_archive_of(tmp_path / "prices", 2)
    second = FIRST + timedelta(days=1)
    whole = list(stream_scans(BacktestSpec(data=data)))
    (part,) = stream_scans(BacktestSpec(data=data, first=second))
    # Cold, the first signal is that of the 752nd price; warm, the first bar of the day has one.
    assert np.flatnonzero(np.isfinite(whole[0].signal("vel_div")))[0] == 751
    assert np.isfinite(part.signal("vel_div")).all()
    np.testing.assert_allclose(part.signals, whole[1].signals, rtol=0.0, atol=1e-9)
    result = run_backtest(BacktestSpec(data=data, first=second))
    assert result.bars == 1440, "warm-up bars are not part of the run"
    assert result.notes[0] == f"Scanner warmed up on 1 earlier day(s) from {FIRST}."
    assert "The first 751 bars have no signal" in run_backtest(BacktestSpec(data=data)).notes[0]


def test_prices_and_their_scans_give_the_same_run(tmp_path: Path) -> None:
    prices = price_archive_of(tmp_path / "prices", 2)
    scans = write_days(tmp_path / "scans", list(stream_scans(BacktestSpec(data=prices))))
    on_the_fly, stored = (run_backtest(BacktestSpec(data=data)) for data in (prices, scans))
    assert on_the_fly.state_hash == stored.state_hash
    assert on_the_fly.trades.tobytes() == stored.trades.tobytes()


def test_a_missing_day_closes_what_is_open(tmp_path: Path) -> None:
    days = scan_days(4)
    days[1] = with_last_signal(days[1], DEEP)
    result = run_backtest(BacktestSpec(data=write_days(tmp_path / "days", [days[0], days[1], days[3]])))
    gaps = result.trades[result.trades["reason"] == ExitReason.DATA_GAP]
    assert len(gaps) == 1
    assert (gaps[0]["exit_bar"], gaps[0]["exit_ts"]) == (799, days[1].ts_ns[-1])
    assert gaps[0]["exit_price"] == near(days[1].closes[-1, gaps[0]["asset"]] * 1.0002)
    assert result.bars == 1200
    assert any(note.startswith("Gap: no bars between 2024-01-02T06:39:00Z") for note in result.notes)
    whole = run_backtest(BacktestSpec(data=write_days(tmp_path / "whole", days)))
    assert not (whole.trades["reason"] == ExitReason.DATA_GAP).any(), "midnight alone closes nothing"
    assert ((whole.trades["entry_bar"] < 800) & (whole.trades["exit_bar"] >= 800)).any()


def test_green_goes_long(tmp_path: Path) -> None:
    data = scan_archive_of(tmp_path / "days", 3, drift=0.4)
    run = Run(data, tmp_path / "out", "--profile", "green")
    assert (run.summary["profile"], run.summary["direction"]) == ("green", "LONG")
    assert set(run.trades["side"]) == {"LONG"}
    vel_div = np.concatenate([day.signal("vel_div") for day in run.days])
    assert (vel_div[run.column("entry_bar")] > 0.01).all()
    assert (vel_div[run.column("entry_bar")][run.column("is_extreme")] >= 0.04).all()
    assert run.summary["is_champion"]


def test_blue_goes_short_below_its_threshold(done: Run) -> None:
    vel_div = np.concatenate([day.signal("vel_div") for day in done.days])
    entries = vel_div[done.column("entry_bar")]
    assert set(done.trades["side"]) == {"SHORT"}
    assert (entries < -0.02).all()
    assert ((entries <= -0.05) == done.column("is_extreme")).all()
    assert ((entries <= -0.075) == (done.column("bucket") == 0)).all()


def test_without_friction_only_the_price_counts(tmp_path: Path) -> None:
    run = Run(scan_archive_of(tmp_path / "days"), tmp_path / "out", "--friction", "none")
    for name in ("fees", "slippage", "modelled_edge", "funding"):
        assert set(run.trades[name]) == {0.0}
    assert run.trades["net_pnl"] == run.trades["pnl_price"]
    names = list(run.days[0].assets)
    at = [names.index(asset) for asset in run.trades["asset"]]
    assert (run.column("exit_price") == run.closes[run.column("exit_bar"), at]).all()
    assert run.summary["friction"] == "none"


@pytest.mark.parametrize(
    ("option", "value", "same_hash"), [("max_hold_bars=60", 60, False), ("vd_enabled=true", True, True)]
)
def test_a_changed_parameter_is_not_the_champion(option: str, value: Any, same_hash: bool, tmp_path: Path) -> None:
    summary = backtest(scan_archive_of(tmp_path / "days", 2), tmp_path / "out", "--set", option)
    name = option.partition("=")[0]
    assert summary["is_champion"] is False
    assert summary["overrides"] == {name: value}
    assert (summary["champion_hash"] == champion_hash()) is same_hash
    page = (tmp_path / "out" / "report.html").read_text()
    assert "This is not the champion" in page
    assert name in page


def test_the_terminal_says_so_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    backtest(scan_archive_of(tmp_path / "days", 1), tmp_path / "out", "--set", "stop_pct=0.5")
    assert "NOT CHAMPION: stop_pct=0.5" in " ".join(capsys.readouterr().out.split())


def test_setting_a_champion_s_own_value_is_the_champion(tmp_path: Path) -> None:
    summary = backtest(scan_archive_of(tmp_path / "days", 1), tmp_path / "out", "--set", "max_hold_bars=120")
    assert summary["is_champion"]
    assert summary["overrides"] == {}


# --- edges ---


def test_capital_can_be_exhausted(tmp_path: Path) -> None:
    """All of the capital five times over, and a market that triples: one stop, a debt, and no trade after it."""
    days = scan_days(2)
    closes = days[0].closes.copy()
    closes[250:] *= 3.0
    signals = days[0].signals.copy()
    signals[150:250, 0] = DEEP
    later = replace(days[1], closes=days[1].closes * 3.0)
    data = write_days(tmp_path / "days", [replace(days[0], closes=closes, signals=signals), later])
    run = Run(
        data, tmp_path / "out", "--set", "fraction=1.0", "--set", "fixed_tp_pct=0.9", "--set", "max_hold_bars=500"
    )
    assert run.trades["reason"] == ["STOP_LOSS"]
    assert run.summary["capital_end"] < 0.0
    assert run.summary["max_drawdown"] > 1.0
    assert run.summary["gates"]["CAPITAL"] == run.summary["bars"] - run.trades["exit_bar"][0] - 1


def test_nothing_to_trade_is_a_result(tmp_path: Path) -> None:
    """A market that only rises: every asset is filtered, nothing trades, and every file is still there."""
    summary = backtest(scan_archive_of(tmp_path / "days", 2, drift=6.0), tmp_path / "out")
    assert summary["trades"] == 0
    assert summary["gates"]["SELECTION"] > 0
    assert (summary["roi"], summary["win_rate"], summary["sharpe"], summary["max_drawdown"]) == (0.0, None, None, 0.0)
    assert pq.read_table(tmp_path / "out" / "trades.parquet").num_rows == 0
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(RUN_FILES)


def test_one_asset(tmp_path: Path) -> None:
    run = Run(scan_archive_of(tmp_path / "days", 2, assets=("BTCUSDT",)), tmp_path / "out")
    assert set(run.trades["asset"]) == {"BTCUSDT"}
    # Prices of one asset have a correlation matrix of one entry: no velocity, so no signal, so no trade, and no crash.
    summary = backtest(price_archive_of(tmp_path / "prices", 1, assets=1), tmp_path / "out1")
    assert summary["trades"] == 0


def test_an_empty_day_in_the_middle(tmp_path: Path) -> None:
    days = scan_days(3)
    none = replace(
        days[1], ts_ns=days[1].ts_ns[:0], closes=days[1].closes[:0], scan_number=days[1].scan_number[:0],
        signals=days[1].signals[:0],
    )  # fmt: skip
    for k, some in enumerate(([days[0], none, days[2]], [none, days[1].__class__(*_fields(days[2]))], [days[0], none])):
        summary = backtest(write_days(tmp_path / f"days{k}", some), tmp_path / f"out{k}")
        assert summary["bars"] == 400 * (len(some) - 1)


def _fields(day: ScanDay) -> tuple[Any, ...]:
    return day.day, day.ts_ns, day.assets, day.closes, day.scan_number, day.signals


def test_an_asset_listed_later_joins_the_universe(tmp_path: Path) -> None:
    first, second = scan_days(1), scan_days(2, assets=("BTCUSDT", "NEWUSDT"), seed=5)[1:]
    run = Run(write_days(tmp_path / "days", [*first, *second]), tmp_path / "out")
    assert run.days[0].assets == ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "NEWUSDT")
    assert np.isnan(run.days[0].closes[:, 4]).all()
    assert np.isnan(run.days[1].closes[:, 1]).all()
    assert run.summary["data"]["assets"] == 5
    later = [asset for asset, bar in zip(run.trades["asset"], run.trades["entry_bar"], strict=True) if bar >= 400]
    assert set(later) <= {"BTCUSDT", "NEWUSDT"}
    assert "NEWUSDT" in later


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"profile": "red"}, "--profile red"),
        ({"friction": "some"}, "--friction some"),
        ({"capital": 0.0}, "--capital 0"),
        ({"capital": -5.0}, "--capital -5"),
        ({"capital": math.nan}, "--capital nan"),
        ({"capital": math.inf}, "--capital inf"),
        ({"overrides": {"warp": "9"}}, "--set warp"),
    ],
)
def test_a_bad_spec_is_refused_before_data_is_read(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_backtest(BacktestSpec(data=Path("nowhere"), **spec))


def test_a_progress_bar_is_told_of_every_bar(tmp_path: Path) -> None:
    told: list[int] = []
    result = run_backtest(BacktestSpec(data=scan_archive_of(tmp_path / "days")), told.append)
    assert sum(told) == result.bars == 1200


# --- determinism and memory ---


def test_the_same_run_gives_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte, once the clock stands still and the command line is the same."""
    monkeypatch.setattr(module.time, "perf_counter", lambda: 1.0)
    monkeypatch.setattr("sys.argv", ["dolphin", "backtest"])
    data = scan_archive_of(tmp_path / "days", 3)
    backtest(data, tmp_path / "a")
    backtest(data, tmp_path / "b")
    for name in RUN_FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_only_the_clock_differs_between_runs(tmp_path: Path) -> None:
    data = scan_archive_of(tmp_path / "days", 2)
    a, b = backtest(data, tmp_path / "a"), backtest(data, tmp_path / "b")
    for clock in ("wall_s", "bars_per_s"):
        assert a.pop(clock) > 0.0
        assert b.pop(clock) > 0.0
    assert json.dumps(a) == json.dumps(b)


def measured(spec: BacktestSpec) -> tuple[int, int, BacktestResult]:
    """(peak of Python and NumPy, peak of Arrow after a day, result), bytes above the start."""
    arrow: list[int] = []
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    try:
        result = run_backtest(spec, sink=lambda *_: arrow.append(pa.total_allocated_bytes() - before))
        return tracemalloc.get_traced_memory()[1], max(arrow), result
    finally:
        tracemalloc.stop()


def test_days_are_streamed(tmp_path: Path) -> None:
    """Forty days need no more memory than eight; each holds 0.5 MB of prices and 0.3 MB of events."""
    names = [f"A{k:02d}USDT" for k in range(40)]
    data = write_days(tmp_path / "days", scan_days(40, 1440, names))
    run_backtest(BacktestSpec(data=data, last=FIRST))  # imports and kernels out of the way
    few, few_arrow, _ = measured(BacktestSpec(data=data, last=FIRST + timedelta(days=7)))
    many, many_arrow, result = measured(BacktestSpec(data=data))
    assert len(result.days) == 40
    one_day = 1440 * (40 + 9) * 8
    assert many - few < 4 * one_day, f"{few} bytes for 8 days, {many} for 40"
    assert many_arrow < few_arrow + 4 * one_day
    assert len(result.points["ts_ns"]) < 30_000


def kept(days: Sequence[ScanDay]) -> int:
    return sum(day.closes.nbytes for day in days)


def test_the_measurement_would_notice_days_that_are_kept(tmp_path: Path) -> None:
    """The same yardstick over a sink that keeps every day: it must show."""
    names = [f"A{k:02d}USDT" for k in range(40)]
    data = write_days(tmp_path / "days", scan_days(12, 1440, names))
    hoard: list[ScanDay] = []
    tracemalloc.start()
    run_backtest(BacktestSpec(data=data), sink=lambda scans, _: hoard.append(scans))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held > 0.9 * kept(hoard)
