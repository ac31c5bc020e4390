"""`dolphin backtest --engine nautilus` and `dolphin parity`, as a person meets them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dolphin.research.outputs import RUN_FILES
from dolphin.ui.cli import run
from tests.support.browser import dump_dom
from tests.support.runs import backtest, price_archive_of, scan_archive_of

pytestmark = pytest.mark.usefixtures("warm")

Capture = pytest.CaptureFixture[str]
REPORTS = {f"nautilus_{name}.csv" for name in ("orders", "order_fills", "positions", "account")}


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return price_archive_of(tmp_path_factory.mktemp("venue") / "prices", 2, assets=8)


@pytest.fixture(scope="module")
def venue_run(prices: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    out = tmp_path_factory.mktemp("run") / "run"
    return out, backtest(prices, out, "--engine", "nautilus")


def refused(capsys: Capture, *args: str) -> str:
    """The one line that a command was refused with."""
    assert run(list(args)) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    return err


def test_one_command_leaves_our_files_nautilus_reports_and_the_sessions_log(
    venue_run: tuple[Path, dict[str, Any]],
) -> None:
    out, summary = venue_run
    assert {p.name for p in out.iterdir()} == {*RUN_FILES, *REPORTS, "session"}
    (settings,), (trail,) = ([*(out / "session").glob(name)] for name in ("settings_*.json", "trades_*.csv"))
    assert json.loads(settings.read_text())["champion_hash"] == summary["champion_hash"]
    lines = trail.read_text().splitlines()
    assert len(lines) - 1 == summary["venue"]["events_logged"] > 4 * summary["trades"] > 0
    fills = (out / "nautilus_order_fills.csv").read_text().splitlines()
    assert len(fills) - 1 == 2 * summary["trades"]
    positions = (out / "nautilus_positions.csv").read_text().splitlines()
    assert len(positions) - 1 == summary["trades"]
    assert summary["bridge"]["closes"]
    assert summary["pnl"]["modelled_edge"] == 0.0


def test_the_page_draws_the_bridge_and_says_what_a_venue_run_is(
    venue_run: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    page, _ = dump_dom(venue_run[0] / "report.html", tmp_path)
    assert "From the replay to the venue" in page
    assert "Friction is the venue" in page
    assert "Friction is modelled" not in page


def test_the_terminal_names_the_venue_and_ends_with_the_bridge(prices: Path, tmp_path: Path, capsys: Capture) -> None:
    backtest(prices, tmp_path / "run", "--engine", "nautilus", "--protective-stop", "off", "--latency-ms", "0")
    shown, noted = capsys.readouterr()
    for words in ("Binance USDT-M, simulated", "protective stop", "From the replay to the venue", "knock-on: timing"):
        assert words in shown
    assert "Nautilus' own reports" in noted


def test_json_is_the_summary_and_a_run_can_be_replaced(prices: Path, tmp_path: Path, capsys: Capture) -> None:
    args = ["backtest", "--data", str(prices), "--out", str(tmp_path / "run"), "--engine", "nautilus", "--json"]
    assert run([*args, "--friction", "none"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    told = json.loads(out)
    assert told == json.loads((tmp_path / "run" / "summary.json").read_text())
    assert told["venue"]["spread_bps"] == 0.0
    assert told["pnl"]["fees"] == told["pnl"]["slippage"] == 0.0
    assert run(args) == 2
    capsys.readouterr()
    assert run([*args, "--force"]) == 0
    assert json.loads(capsys.readouterr().out)["pnl"]["fees"] < 0.0


def test_parity_says_the_same_trades_and_explains_the_rest(prices: Path, capsys: Capture) -> None:
    assert run(["parity", "--data", str(prices)]) == 0
    shown = capsys.readouterr().out
    assert "Without friction: the same trades" in shown
    assert "From the replay to the venue" in shown
    assert run(["parity", "--data", str(prices), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["parity"]["ok"] is True
    assert told["parity"]["matched"] == told["parity"]["replay_trades"] > 0
    assert told["bridge"]["closes"] is True


def test_parity_that_fails_ends_with_exit_code_1_and_names_the_trades(tmp_path: Path, capsys: Capture) -> None:
    """With 20 USDT hardly an order reaches the venue's minimum: not the replay's trades."""
    data = scan_archive_of(tmp_path / "scans", 2)
    assert run(["parity", "--data", str(data), "--capital", "20"]) == 1
    out, err = capsys.readouterr()
    assert "NOT the same trades" in out
    assert "trade 0" in err
    assert err.splitlines()[-1].startswith("dolphin: parity: ")


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (["--latency-ms", "5"], "--latency-ms: a replay has no venue"),
        (["--engine", "nautilus", "--compare", "none,acb"], "--compare: not with --engine nautilus"),
        (["--engine", "nautilus", "--friction", "modelled"], "--friction modelled: the venue charges"),
        (["--engine", "nautilus", "--friction", "none", "--spread-bps", "2"], "--spread-bps: not with --friction none"),
        (["--engine", "nautilus", "--spread-bps", "-1"], "--spread-bps -1: expected 0 or more"),
        (["--engine", "nautilus", "--slippage-bps", "nan"], "--slippage-bps nan: expected 0 or more"),
        (["--engine", "nautilus", "--latency-ms", "60000"], "--latency-ms 60000: expected 0 or more and less than"),
        (["--engine", "nautilus", "--account-leverage", "0"], "--account-leverage 0: expected 1 or more"),
        (["--engine", "nautilus", "--account-leverage", "100"], "above the venue's limit for"),
        (["--engine", "nautilus", "--protective-stop", "1.5"], "--protective-stop 1.5: expected a fraction"),
        (["--engine", "nautilus", "--protective-stop", "near"], "--protective-stop near: expected a fraction"),
        (["--engine", "nautilus", "--instruments", "nowhere.json"], "nowhere.json"),
        (["--engine", "nautilus", "--funding", "nowhere"], "nowhere"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    prices: Path, tmp_path: Path, capsys: Capture, extra: list[str], words: str
) -> None:
    err = refused(capsys, "backtest", "--data", str(prices), "--out", str(tmp_path / "run"), *extra)
    assert words in err
    assert list(tmp_path.iterdir()) == []


def test_parity_takes_no_friction(prices: Path, capsys: Capture) -> None:
    assert "--friction: parity compares" in refused(capsys, "parity", "--data", str(prices), "--friction", "none")


def test_an_asset_without_an_instrument_is_refused(tmp_path: Path, capsys: Capture) -> None:
    data = scan_archive_of(tmp_path / "scans", 1, assets=("BTCUSDT", "NEVERUSDT"))
    err = refused(capsys, "backtest", "--data", str(data), "--out", str(tmp_path / "run"), "--engine", "nautilus")
    assert "no instrument NEVERUSDT" in err
    assert "--instruments FILE" in err
    assert not (tmp_path / "run").exists()


def test_without_nautilus_the_command_says_how_to_get_it(prices: Path, tmp_path: Path) -> None:
    """A Python that cannot find the package, as one without the extra."""
    code = (
        "import importlib.util, sys\n"
        "find = importlib.util.find_spec\n"
        "importlib.util.find_spec = lambda name, *rest: None if name == 'nautilus_trader' else find(name, *rest)\n"
        "from dolphin.ui.cli import run\n"
        "sys.exit(run(sys.argv[1:]))"
    )
    args = ["backtest", "--data", str(prices), "--out", str(tmp_path / "run"), "--engine", "nautilus"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "make setup-nautilus" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_replay_does_not_import_nautilus(prices: Path, tmp_path: Path) -> None:
    code = (
        "import sys\nfrom dolphin.ui.cli import run\n"
        "code = run(sys.argv[1:])\n"
        "assert not {'nautilus_trader', 'pandas'} & set(sys.modules)\nsys.exit(code)"
    )
    args = ["backtest", "--data", str(prices), "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
