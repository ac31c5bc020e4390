"""The benchmarks themselves: markets, accounting, the simple strategy, tables. Nothing here is timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench import bare_loop, common, markets, peer, run, simple, tables
from dolphin.scan.layout import WINDOWS


def eigenvalue_ratio(closes: Any, t: int, window: int) -> float:
    returns = np.diff(np.log(closes), axis=0)
    values = np.linalg.eigvalsh(np.corrcoef(returns[t - window : t], rowvar=False))
    return float(values[-1] / values[-2])


# ---- markets


@pytest.mark.parametrize("window", WINDOWS)
def test_the_crowded_market_is_crowded_in_every_window(window: int) -> None:
    closes = markets.crowded(50, 1600)
    ratios = [eigenvalue_ratio(closes, t, window) for t in range(800, 1600, 41)]
    assert 1.12 < np.median(ratios) < 1.19
    assert 1.0 < min(ratios) <= max(ratios) < 1.4


def test_in_the_wandering_market_the_two_largest_eigenvalues_meet() -> None:
    closes = markets.wandering(50, 1600)
    ratios = [eigenvalue_ratio(closes, t, 50) for t in range(800, 1600, 7)]
    assert min(ratios) < 1.05


def test_the_synthetic_market_has_whole_columns_that_move() -> None:
    closes = markets.synthetic(12, 900)
    assert closes.shape == (900, 12)
    assert np.all(closes > 0.0)
    steps = np.diff(closes, axis=0) != 0.0
    assert all(steps[t : t + 49].any(axis=0).all() for t in range(len(steps) - 49))


def test_columns_with_a_hole_or_a_standstill_are_left_out() -> None:
    rng = np.random.default_rng(2)
    closes = np.exp(rng.normal(0.0, 0.1, (200, 5)))
    closes[20, 1] = np.nan
    closes[30, 2] = 0.0
    closes[100:151, 3] = closes[100, 3]
    np.testing.assert_array_equal(markets._lively(closes), closes[:, [0, 4]])


# ---- the simple strategy


def slow_trades(closes: Any, vel_div: Any) -> list[tuple[int, int, int]]:
    """(asset, entry, exit) of the same rules, written another way: look ahead for the exit from each entry."""
    trades = []
    t = 50
    while t < len(closes):
        if not vel_div[t] < -0.02:
            t += 1
            continue
        asset = int(np.argmin(closes[t] / closes[t - 50]))
        entry = closes[t, asset]
        exits = [u for u in range(t + 1, len(closes)) if (entry - closes[u, asset]) / entry >= 0.0095 or u - t >= 120]
        if not exits:
            break
        trades.append((asset, t, exits[0]))
        t = exits[0] + 1
    return trades


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 600), assets=st.integers(1, 5), often=st.floats(0.0, 0.3))
def test_the_simple_strategy_trades_as_its_slow_twin(seed: int, rows: int, assets: int, often: float) -> None:
    rng = np.random.default_rng(seed)
    closes = 100.0 * np.exp(np.cumsum(rng.normal(0.0, 2e-3, (rows, assets)), axis=0))
    vel_div = np.where(rng.random(rows) < often, -0.03, np.where(rng.random(rows) < 0.1, np.nan, 0.0))
    written = np.empty((rows, 4))
    done = bare_loop.simulate(closes, vel_div, simple.new_state(), written)
    assert [tuple(int(x) for x in row[:3]) for row in written[:done]] == slow_trades(closes, vel_div)


def test_a_short_that_gains_two_per_cent_by_hand() -> None:
    closes = np.full((60, 2), 100.0)
    closes[50, 1] = 90.0
    closes[51:, 1] = 88.2
    vel_div = np.zeros(60)
    vel_div[50] = -0.021
    trades = np.empty((60, 4))
    assert bare_loop.simulate(closes, vel_div, simple.new_state(), trades) == 1
    # 1000 USD · (1.8/90) less 5 bps of what is sold (1000) and bought back (980).
    np.testing.assert_allclose(trades[0], [1, 50, 51, 20.0 - 0.99], rtol=1e-12)


# ---- what the contenders share


def test_prices_are_carried_over_holes_for_the_peers(tmp_path: Path) -> None:
    nan = np.nan
    closes = np.array([[1.0, nan], [nan, nan], [3.0, 7.0], [nan, 8.0]])
    np.savez(tmp_path / "p.npz", ts_ns=np.arange(4), closes=closes, vel_div=np.zeros(4))
    _, filled, _ = peer.load(str(tmp_path / "p.npz"))
    np.testing.assert_array_equal(filled, [[1.0, 7.0], [1.0, 7.0], [3.0, 7.0], [3.0, 8.0]])


def test_an_asset_without_any_price_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "p.npz", ts_ns=np.arange(2), closes=np.full((2, 1), np.nan), vel_div=np.zeros(2))
    with pytest.raises(SystemExit, match="asset 0 has no price"):
        peer.load(str(tmp_path / "p.npz"))


def test_a_contender_that_trades_differently_the_second_time_is_refused() -> None:
    answers = iter((3, 3, 4))
    with pytest.raises(SystemExit, match="4 trades the second time, 3 the first"):
        peer.race(0.0, 1.0, lambda: next(answers), 2, ())


# ---- accounting


def test_a_child_is_charged_for_its_own_memory() -> None:
    """Measured from a small process, as the benchmarks do: this one's own peak would be the floor of both."""
    code = (
        "import json, sys; from bench.common import run_measured as run\n"
        "used = [run([sys.executable, '-c', f'print(len(bytearray({n})))']) for n in (1, 150_000_000)]\n"
        "print(json.dumps([[u.peak_mb, u.stdout, u.wall_s > 0.0, u.cpu_s > 0.0] for u in used]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=common.ROOT)
    (small, *small_rest), (large, *large_rest) = json.loads(done.stdout)
    assert 130 < large - small < 170
    assert small < 60
    assert [small_rest, large_rest] == [["1\n", True, True], ["150000000\n", True, True]]


def test_a_failing_child_is_one_line_with_its_last_words() -> None:
    with pytest.raises(common.BenchError, match=r"exit 3: no such luck") as caught:
        common.run_measured([sys.executable, "-c", "import sys; print('no such luck', file=sys.stderr); sys.exit(3)"])
    assert "\n" not in str(caught.value)


def test_children_get_the_added_environment_and_one_blas_thread() -> None:
    code = "import json, os; print(json.dumps({'n': os.environ['OPENBLAS_NUM_THREADS']}))"
    used = common.run_measured([sys.executable, "-c", code], common.ONE_THREAD)
    assert common.last_json(used.stdout) == {"n": "1"}


@pytest.mark.parametrize("text", ["", "words\n", "[1]\n", '{"a": 1}\nwords'])
def test_output_without_a_json_object_at_its_end_is_refused(text: str) -> None:
    with pytest.raises(common.BenchError):
        common.last_json(text)


def test_the_measuring_processes_stay_small() -> None:
    """A forked child's peak starts at its parent's: numpy there would be counted in every row."""
    code = (
        "import sys, bench.replay, bench.growth, bench.process; print('numpy' in sys.modules, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=common.ROOT)
    assert done.stdout.split() == ["False", "False"]


# ---- tables and the command line


def report_of(batch_us: float, error: float) -> dict[str, Any]:
    times = {"min": batch_us, "median": batch_us * 1.1}
    row = {
        "market": "synthetic",
        "assets": 50,
        "batch_us": times,
        "stream_us": times,
        "numpy_us": {"min": 500.0, "median": 510.0},
        "ratio_batch": 500.0 / batch_us,
        "ratio_stream": 500.0 / batch_us,
        "error": error,
        "eigenvalue_ratio": [3.0, 4.0, 5.0, 6.0],
    }
    names = ("date", "cores", "machine", "load_before", "load_after", "python", "numpy", "numba", "blas")
    return {"machine": dict.fromkeys(names, "x"), "quick": False, "parts": {"scanner": {"rows": [row]}}}


def test_goals_are_judged_and_a_miss_is_shown() -> None:
    good, bad = tables.render(report_of(5.0, 1e-11)), tables.render(report_of(8.0, 2e-9))
    assert good.count("| met |") == 3
    assert "missed" not in good
    assert bad.count("**missed**") == 3
    assert "| synthetic, 50 | 8.0 (8.8) |" in bad


def test_the_block_is_replaced_between_its_markers_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "R.md"
    path.write_text(f"above\n{tables.BEGIN}\nold\n{tables.END}\nbelow\n", encoding="utf-8")
    for block in ("new", "newer"):
        tables.write_block(path, block)
        assert path.read_text(encoding="utf-8") == f"above\n{tables.BEGIN}\n{block}\n{tables.END}\nbelow\n"
    assert [p.name for p in tmp_path.iterdir()] == ["R.md"]


@pytest.mark.parametrize("text", ["", tables.BEGIN, f"{tables.END}\n{tables.BEGIN}", f"{tables.BEGIN * 2}{tables.END}"])
def test_a_page_without_proper_markers_is_left_alone(tmp_path: Path, text: str) -> None:
    path = tmp_path / "R.md"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"R\.md: expected one line"):
        tables.write_block(path, "new")
    assert path.read_text(encoding="utf-8") == text


def test_the_results_page_has_its_markers() -> None:
    text = run.RESULTS.read_text(encoding="utf-8")
    assert text.index(tables.BEGIN) < text.index(tables.END)


@pytest.mark.parametrize("argv", [["nonsense"], ["--write", "--quick"], ["--write", "scanner"], ["--fast"]])
def test_a_senseless_command_line_exits_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        run.main(argv)
    assert caught.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_machine_facts_name_no_machine() -> None:
    facts = json.dumps(run.machine_facts())
    import socket

    assert socket.gethostname() not in facts
    assert str(common.ROOT) not in facts


def test_help_through_the_command_that_make_runs() -> None:
    done = subprocess.run(
        [sys.executable, "bench/run.py", "--help"], capture_output=True, text=True, check=True, cwd=common.ROOT
    )
    assert "--quick" in done.stdout
    assert "scanner" in done.stdout


def test_every_peer_has_exact_versions() -> None:
    from bench.peers import PEERS, requirements

    for name in PEERS:
        lines = [line for line in requirements(name).read_text().splitlines() if not line.startswith("#")]
        assert lines
        assert all("==" in line for line in lines)
        assert any(line.startswith(f"{name}==") for line in lines)
