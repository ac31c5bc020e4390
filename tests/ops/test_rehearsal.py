"""The rehearsal: the live loop at pace against a real exchange process, timed and compared with its replay."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dolphin.book.layout import F8
from dolphin.core.errors import ConfigError
from dolphin.core.records import Record
from dolphin.market.archive import Archive
from dolphin.ops.rehearsal import Plan, rehearse, save
from dolphin.ui.cli import run
from tests.support.runs import backtest
from tests.trade.live.played import Played, made, played

Capture = pytest.CaptureFixture[str]
PRICES, BOOKS = made(days=2, assets=8, seed=5)
ASSETS = PRICES[0].assets


class Turning(Played):
    """A market that goes a bar on whenever it is waited for."""

    def __init__(self) -> None:
        ready = played(PRICES, BOOKS)
        self.__dict__.update(ready.__dict__)
        self.at = -1

    def wait(self) -> int:
        self.at += 1
        return 250_000


def test_what_it_keeps_is_what_a_backtest_finds(tmp_path: Path) -> None:
    market = Turning()
    plan = Plan(bars=len(market.ts_ns), bar_seconds=60.0)
    done, tape = rehearse(plan, market, ASSETS, clock=market.clock, wait=market.wait)
    assert (done.bars, done.missed, done.first_difference) == (len(market.ts_ns), 0, "")
    assert done.trades == len(tape.trades) >= 5
    assert sum(done.gates.values()) == done.bars
    assert (done.late.p50, done.late.max) == (0.25, 0.25)
    assert (
        done.ready.max <= sum(each.max for each in (done.late, done.read, done.features, done.scan, done.step)) + 1e-9
    )
    assert 0.5 < done.books_share < 1.0, "some of these books fall silent"

    save(tmp_path / "kept", done, tape, {"made_by": "a test"})
    told = json.loads((tmp_path / "kept" / "rehearsal.json").read_text())
    assert (told["bars"], told["source"]) == (done.bars, {"made_by": "a test"})
    assert Archive.open(tmp_path / "kept" / "prices").days == tuple(day.day for day in PRICES)
    options = ("--book", str(tmp_path / "kept" / "books"), "--friction", "none")
    summary = backtest(tmp_path / "kept" / "prices", tmp_path / "run", *options)
    found = pq.read_table(tmp_path / "run" / "trades.parquet")
    live = np.concatenate(tape.trades)
    closed = len(live)
    assert found.num_rows in (closed, closed + 1), "the backtest also closes what is open at the end"
    assert found["entry_bar"].to_pylist()[:closed] == live["entry_bar"].tolist()
    assert found["exit_price"].to_pylist()[:closed] == live["exit_price"].tolist()
    assert summary["bars"] == done.bars


def test_it_ends_when_told() -> None:
    market = Turning()
    plan = Plan(bars=1000, bar_seconds=60.0)
    done, tape = rehearse(plan, market, ASSETS, clock=market.clock, wait=market.wait, stop=lambda: market.at >= 41)
    assert done.bars == len(tape) == 42
    assert done.first_difference == ""


def test_a_rehearsal_of_nothing() -> None:
    market = Turning()
    done, _ = rehearse(Plan(bars=3), market, ASSETS, clock=market.clock, stop=lambda: True)
    assert (done.bars, done.ready.max, done.books_share, done.first_difference) == (0, 0.0, 0.0, "")


class Slow(Turning):
    """A market that takes longer to read than a bar is long."""

    def fill_snapshots(self, assets: Sequence[str], ts: F8, out: Record) -> None:
        self.at += 1
        time.sleep(0.03)


def test_a_machine_that_cannot_keep_up_is_told_so() -> None:
    market = Slow()
    done, _ = rehearse(Plan(bars=5, bar_seconds=0.01, replayed=False), market, ASSETS, clock=market.clock)
    assert done.missed >= 4
    assert not done.kept_up
    assert done.first_difference is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bars": 0}, "0 bars; expected at least 1"),
        ({"bars": 1, "bar_seconds": 0.0}, r"bars of 0 s; expected 0\.01 to 3600"),
        ({"bars": 1, "bar_seconds": float("nan")}, "bars of nan s"),
        ({"bars": 1, "profile": "red"}, "profile 'red'; expected blue or green"),
        ({"bars": 1, "capital": 0.0}, "capital 0; expected"),
    ],
)
def test_plans_that_are_none(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Plan(**options).checked()  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_whole_loop_against_an_exchange_of_its_own(tmp_path: Path, capsys: Capture) -> None:
    """Stream → books → features → scan → step at 100 ms, with messages lost on the way."""
    out = tmp_path / "kept"
    options = ["--minutes", "0.25", "--symbols", "6", "--faults", "drop:p=0.002", "--out", str(out), "--json"]
    code = run(["rehearse", *options])
    told = json.loads(capsys.readouterr().out)
    assert told["first_difference"] == ""
    assert told["bars"] == 150
    assert told["assets"] == 6
    assert told["bars_with_book"] >= 100
    assert told["feed"]["messages"] > 100
    # How fast this machine is, is measured elsewhere; what the command says of it must be what it exits with.
    assert code == (0 if told["missed"] == 0 else 1)
    assert told["kept_up"] == (told["missed"] == 0)
    kept = json.loads((out / "rehearsal.json").read_text())
    assert kept["gates"] == told["gates"]
    assert Archive.open(out / "prices").days
    assert not [each.name for each in threading.enumerate() if each.name == "live-books"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rest", "http://127.0.0.1:1"], "--rest and --ws go together"),
        (["--rest", "http://127.0.0.1:1", "--ws", "ws://127.0.0.1:1", "--faults", "drop:p=1"], "--faults"),
        (["--rest", "http://93.184.216.34", "--ws", "ws://93.184.216.34"], "not this machine"),
        (["--minutes", "0"], "--minutes 0"),
        (["--bar-seconds", "0"], "bars of 0 s"),
        (["--sync-seconds", "0"], "--sync-seconds 0"),
        (["--profile", "red"], "profile 'red'"),
        (["--faults", "gremlins:p=1"], "gremlins"),
        (["--symbols", "btcusdt;drop"], "btcusdt;drop"),
    ],
)
def test_bad_input_is_one_line(options: list[str], message: str, capsys: Capture) -> None:
    assert run(["rehearse", *options]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
