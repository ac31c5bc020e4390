"""The why-not ledger says what the backtest did at that bar, with the backtest's numbers (SPEC §12, §23)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from dolphin.alpha.layout import Record
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Drop, ExitReason, Gate
from dolphin.core.errors import ConfigError
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestSpec, run_backtest
from dolphin.research.why import ENTRY_NUMBERS, explain
from tests.support.runs import BAR_S, FIRST, scan_archive_of, scan_days, write_days

GATES = [gate.name for gate in Gate if gate != Gate.ENTERED]


class Told:
    """The events of a backtest, bar by bar."""

    def __init__(self, data: Path, profile: str = "blue") -> None:
        self.spec = BacktestSpec(data=data, profile=profile)
        self.ts: list[int] = []
        self.events: list[Record] = []
        self.result = run_backtest(self.spec, sink=self.take)

    def take(self, scans: ScanDay, events: Record) -> None:
        self.ts += scans.ts_ns.tolist()
        self.events += list(events.copy())

    def bars_by(self, gate: Gate) -> list[int]:
        """Without the last bar: the end of the data closes what is open there, after the decision."""
        return [k for k, event in enumerate(self.events[:-1]) if event.gate == gate]


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """Two days that fall a little, and one that only rises: every gate has something to say."""
    days = [*scan_days(2, drift=-0.1), *scan_days(1, drift=6.0, first=FIRST + timedelta(days=2))]
    return Told(write_days(tmp_path_factory.mktemp("why") / "days", days))


def some(bars: Sequence[int], count: int = 3) -> list[int]:
    return [bars[int(i)] for i in np.linspace(0, len(bars) - 1, min(count, len(bars)))]


@pytest.mark.parametrize("gate", [g for g in Gate if g not in (Gate.CAPITAL, Gate.HALT, Gate.BOOK_IMBALANCE)])
def test_it_tells_what_the_backtest_did(gate: Gate, told: Told) -> None:
    bars = told.bars_by(gate)
    assert bars, f"the run must have a bar of {gate.name}"
    for k in some(bars):
        event, answer = told.events[k], explain(told.spec, told.ts[k])
        assert answer.bar["timestamp"] == ns_to_iso(told.ts[k])
        assert (answer.bar["bar_idx"], answer.bar["day_bar"]) == (k, k % 400)
        assert answer.bar["vel_div"] == float(event.vel_div)
        assert answer.bar["capital"] == float(event.capital)
        check_gates(gate, [row["gate"] for row in answer.gates], [row["verdict"] for row in answer.gates])
        if gate == Gate.ENTERED:
            assert answer.entry is not None
            assert answer.decision.startswith("opened SHORT")
            assert {n: answer.entry[n] for n in ENTRY_NUMBERS} == {n: float(event[n]) for n in ENTRY_NUMBERS}
            assert answer.assets[0]["asset"] == answer.entry["asset"]
            assert answer.assets[0]["ars"] == answer.entry["ars"]
        elif gate == Gate.IN_POSITION:
            assert answer.position is not None
            assert answer.decision == "kept the open position; no exit applied"
        elif gate == Gate.JUST_EXITED:
            assert answer.decision.startswith("closed ")
        else:
            assert answer.decision == f"no entry: refused by {gate.name}"
        json.dumps(asdict(answer))


def check_gates(gate: Gate, names: list[str], verdicts: list[str]) -> None:
    assert names == GATES, "every gate, in the order of testing"
    if gate == Gate.ENTERED:
        assert set(verdicts) == {"passed"}
        return
    at = names.index(gate.name)
    assert verdicts == ["passed"] * at + ["refused"] + ["not reached"] * (len(names) - at - 1)


def test_the_exit_it_tells_is_the_trade(told: Told) -> None:
    trade = told.result.trades[0]
    answer = explain(told.spec, told.ts[trade["exit_bar"]])
    asset = told.result.assets[trade["asset"]]
    assert answer.decision.startswith(f"closed {asset}: ")
    assert f"net {trade['net_pnl']:+.2f} USDT" in answer.decision
    assert answer.position is not None
    assert answer.position["entry_price"] == trade["entry_price"]
    assert answer.position["bars_held"] == trade["exit_bar"] - trade["entry_bar"]
    assert (answer.position["take_profit"], answer.position["stop_loss"]) == (0.0095, -1.0)
    open_return = answer.position["open_return"]
    assert open_return * trade["notional_usd"] == pytest.approx(trade["pnl_price"])
    met = {"FIXED_TP": open_return >= 0.0095, "MAX_HOLD": answer.position["bars_held"] >= 120}
    assert met[ExitReason(int(trade["reason"])).name]


def test_it_shows_the_asset_asked_for(told: Told) -> None:
    k = told.bars_by(Gate.VEL_DIV)[-1]
    for asset in told.result.assets:
        (row,) = explain(told.spec, told.ts[k], asset).assets
        assert row["asset"] == asset
        assert row["verdict"] in {drop.name for drop in Drop}
    early = explain(told.spec, told.ts[10], "BTCUSDT").assets[0]
    assert (early["verdict"], early["ars"]) == ("SHORT_HISTORY", None)


def test_the_explained_bar_is_not_changed_by_asking(told: Told) -> None:
    """Selection is shown for bars that never reached it, without a trace in what follows: answers can be repeated."""
    k = told.bars_by(Gate.SELECTION)[0]
    assert explain(told.spec, told.ts[k]) == explain(told.spec, told.ts[k])


def test_green(tmp_path: Path) -> None:
    told = Told(scan_archive_of(tmp_path / "days", 1, drift=0.4), "green")
    k = told.bars_by(Gate.ENTERED)[0]
    answer = explain(told.spec, told.ts[k])
    assert answer.decision.startswith("opened LONG")
    needed = {row["gate"]: row["needed"] for row in answer.gates}
    assert needed["VEL_DIV"] == "> 0.01"


def test_the_nearest_bar_is_named(told: Told) -> None:
    for shift, near in ((10, 5), (29, 5), (31, 6), (50, 6)):
        with pytest.raises(ConfigError, match=f"the nearest is {ns_to_iso(told.ts[near])}"):
            explain(told.spec, told.ts[5] + shift * 10**9)


def test_a_day_without_bars(tmp_path: Path) -> None:
    first, second = scan_days(2)
    none = replace(
        second, ts_ns=second.ts_ns[:0], closes=second.closes[:0], scan_number=second.scan_number[:0],
        signals=second.signals[:0],
    )  # fmt: skip
    data = write_days(tmp_path / "days", [first, none])
    with pytest.raises(ConfigError, match="no bar carries that stamp; the day has none"):
        explain(BacktestSpec(data=data), int(second.ts_ns[0]))


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (1, "no bar carries that stamp; the nearest is"),
        (-400 * BAR_S * 10**9 * 9, "the archive has no such day; it holds 2024-01-01 to 2024-01-03"),
        (300 * 86_400 * 10**9, "the archive has no such day"),
    ],
)
def test_a_stamp_that_no_bar_has(shift: int, message: str, told: Told) -> None:
    with pytest.raises(ConfigError, match=message):
        explain(told.spec, told.ts[5] + shift)


def test_an_unknown_asset(told: Told) -> None:
    with pytest.raises(ConfigError, match="--asset DOGEUSDT: not among the archive's 4 assets"):
        explain(told.spec, told.ts[5], "DOGEUSDT")
