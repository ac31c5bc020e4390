"""Runs side by side: each the run that it would be alone, and differences that add up (SPEC §9-§11)."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError
from dolphin.market.factorfiles import write_indicators
from dolphin.market.factorimport import FactorImport
from dolphin.market.importer import Import, ImportSpec
from dolphin.research.backtest import BacktestSpec, run_backtest
from dolphin.research.comparison import compared, difference, layer_specs, parse_layers, run_comparison
from dolphin.research.results import report_data, summarise, trade_columns
from dolphin.ui.report.comparison import comparison_figure, write_comparison
from tests.research.conftest import import_spot
from tests.support.forewarner import write_small_model
from tests.support.runs import FIRST, scan_archive_of
from tests.support.shared import recorded

NAMES = ("none", "acb", "acb+mc", "full")
BEAR = {"funding_btc": -0.0005, "dvol_btc": 90.0, "fng": 10.0}


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory) -> BacktestSpec:
    root = tmp_path_factory.mktemp("compare")
    write_indicators(root / "factors", FIRST, 1, BEAR)
    write_small_model(root / "model")
    data = scan_archive_of(root / "days", 3)
    return BacktestSpec(data=data, factors=root / "factors", forewarner=root / "model")


# --- names ---


def test_layers_are_spelled_in_one_way() -> None:
    assert parse_layers("none,acb,acb+mc,full") == NAMES
    assert parse_layers(" mc+acb , survival") == ("acb+mc", "survival")
    assert parse_layers("none,survival+mc+acb") == ("none", "full")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("none", "two or more"),
        ("", "is no layer"),
        ("none,", "is no layer"),
        ("none,ACB", "'ACB' is no layer"),
        ("none,acb+none", "'none' is no layer"),
        ("acb,acb", "acb is named twice"),
        ("acb+mc,mc+acb", r"mc\+acb is named twice"),
        ("full,acb+mc+survival", "named twice"),
        ("none,acb+acb", "a layer twice"),
        ("none,acb++mc", "is no layer"),
    ],
)
def test_bad_names_are_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        parse_layers(text)
    assert "\n" not in str(caught.value)


def test_a_layer_needs_its_input(spec: BacktestSpec) -> None:
    bare = BacktestSpec(data=spec.data)
    with pytest.raises(ConfigError, match="acb needs --factors"):
        layer_specs(bare, ("none", "acb"))
    with pytest.raises(ConfigError, match="mc needs --forewarner"):
        layer_specs(bare, ("none", "mc"))
    specs = layer_specs(bare, ("none", "survival"))
    assert specs["survival"].sensors == "own"
    assert specs["none"] == bare


# --- runs ---


def test_each_run_is_what_it_would_be_alone(spec: BacktestSpec) -> None:
    specs = layer_specs(spec, NAMES)
    seen: dict[str, int] = dict.fromkeys(NAMES, 0)

    def count(name: str) -> Any:
        def sink(_scans: Any, events: Any) -> None:
            seen[name] += len(events)

        return sink

    steps: list[int] = []
    results = run_comparison(specs, steps.append, {name: count(name) for name in NAMES})
    assert tuple(results) == NAMES
    for name, result in results.items():
        alone = run_backtest(specs[name])
        assert result.state_hash == alone.state_hash, name
        np.testing.assert_array_equal(result.trades, alone.trades)
        assert result.notes == alone.notes
        assert seen[name] == result.bars == sum(steps)
    assert results["none"].breaker is None
    assert results["full"].survival is not None
    assert results["none"].state_hash != results["acb"].state_hash


# --- differences ---


def trades(*rows: tuple[int, str, float]) -> dict[str, np.ndarray]:
    bars, assets, pnl = zip(*rows, strict=True) if rows else ((), (), ())
    return {
        "entry_bar": np.array(bars, np.int64),
        "asset": np.array(assets, dtype=str),
        "net_pnl": np.array(pnl, np.float64),
    }


def test_a_difference_by_hand() -> None:
    base = trades((1, "A", -10.0), (5, "B", 4.0), (9, "A", 7.0), (12, "C", 1.0))
    mine = trades((5, "B", 2.0), (9, "B", -3.0), (12, "C", 1.0))
    told = difference(mine, base, 0.05, 0.08)
    assert (told.dropped, told.losses_avoided, told.gains_missed) == (2, 10.0, 7.0)
    assert (told.added, told.added_pnl) == (1, -3.0)
    assert (told.changed, told.changed_pnl) == (1, -2.0)
    assert told.net == -2.0
    assert told.drawdown == pytest.approx(-0.03)


def test_nothing_against_nothing() -> None:
    told = difference(trades(), trades(), 0.0, 0.0)
    assert vars(told) == dict.fromkeys(vars(told), 0)
    assert str(told.losses_avoided) == "0.0"  # and not −0


money = st.integers(-1000, 1000).map(float)
sides = st.dictionaries(st.tuples(st.integers(0, 30), st.sampled_from("ABC")), money, max_size=25)


@settings(max_examples=100, deadline=None)
@given(sides, sides)
def test_the_parts_make_the_whole(mine: dict[tuple[int, str], float], base: dict[tuple[int, str], float]) -> None:
    tables = [trades(*((bar, asset, pnl) for (bar, asset), pnl in side.items())) for side in (mine, base)]
    told = difference(*tables, 0.0, 0.0)
    assert told.losses_avoided >= 0.0
    assert told.gains_missed >= 0.0
    assert told.losses_avoided - told.gains_missed + told.added_pnl + told.changed_pnl == told.net
    back = difference(*reversed(tables), 0.0, 0.0)  # type: ignore[call-arg]
    assert (back.dropped, back.added, back.net) == (told.added, told.dropped, -told.net)


# --- what is told ---


def test_the_page_and_its_rows(spec: BacktestSpec, tmp_path: Path) -> None:
    results = run_comparison(layer_specs(spec, NAMES))
    tables = {name: trade_columns(result.trades, result.assets) for name, result in results.items()}
    summaries = {name: summarise(result, tables[name], "cmd") for name, result in results.items()}
    rows = compared(summaries, tables)
    assert [row["layers"] for row in rows] == list(NAMES)
    assert [row["against"] for row in rows] == [None, *NAMES[:-1]]
    total = sum(row["difference"]["net"] for row in rows[1:])
    assert rows[-1]["net_pnl"] - rows[0]["net_pnl"] == pytest.approx(total)
    pages = {name: report_data(result, summaries[name], tables[name]) for name, result in results.items()}
    figure = comparison_figure(pages)
    assert [trace["name"] for trace in figure["data"]] == [name for name in NAMES for _ in range(2)]
    write_comparison(tmp_path / "report.html", pages, rows, "dolphin backtest --compare <x>")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    for name in NAMES:
        assert f'href="{name}/report.html"' in text
    assert "What every layer costs and saves" in text
    assert "--compare &lt;x&gt;" in text
    assert "nothing is on" in text


@pytest.mark.slow
@pytest.mark.parametrize("name", ["spot_1m_2021", "perp_5m_2023"])
def test_recorded_markets(name: str, tmp_path: Path) -> None:
    """Real days through every layer: the figures reconcile, and the survival stack only ever takes entries away."""
    first = date.fromisoformat(min(path.stem for path in recorded(name).glob("*.parquet")))
    data = tmp_path / "data"
    if name == "spot_1m_2021":
        import_spot(data, first, first + timedelta(days=4))
    else:
        Import(ImportSpec(source=recorded(name), out=data, bar_seconds=300, stamp="open")).run()
    FactorImport(recorded("factors"), tmp_path / "factors", first, first + timedelta(days=30)).run()
    write_small_model(tmp_path / "model")
    spec = BacktestSpec(data=data, factors=tmp_path / "factors", forewarner=tmp_path / "model")
    results = run_comparison(layer_specs(spec, NAMES))
    tables = {n: trade_columns(r.trades, r.assets) for n, r in results.items()}
    rows = compared({n: summarise(r, tables[n], "cmd") for n, r in results.items()}, tables)
    for row in rows[1:]:
        parts = row["difference"]
        explained = parts["losses_avoided"] - parts["gains_missed"] + parts["added_pnl"] + parts["changed_pnl"]
        assert parts["net"] == pytest.approx(explained, abs=0.005)
    assert rows[0]["trades"] > 0
    assert results["full"].bars_in_position <= results["acb+mc"].bars_in_position
