"""`dolphin backtest --compare`, as a person meets it: one command, one page over all runs, one folder each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dolphin.market.factorfiles import write_indicators
from dolphin.research.outputs import RUN_FILES
from dolphin.ui.cli import run
from tests.support.browser import dump_dom
from tests.support.forewarner import write_small_model
from tests.support.runs import FIRST, backtest, scan_archive_of

pytestmark = pytest.mark.usefixtures("warm")

NAMES = ["none", "acb", "acb+mc", "full"]
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("compare")
    scan_archive_of(folder / "days", 3)
    write_indicators(folder / "factors", FIRST, 1, {"dvol_btc": 90.0})
    write_small_model(folder / "model")
    return folder


def options(root: Path, layers: str = ",".join(NAMES)) -> list[str]:
    given = ["--factors", str(root / "factors"), "--forewarner", str(root / "model")]
    return [*given, "--compare", layers]


def test_one_command_four_runs_one_page(root: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "layers"
    summary = backtest(root / "days", out, *options(root))
    shown = capsys.readouterr().out
    assert [row["layers"] for row in summary["layers"]] == NAMES
    assert "What every layer costs and saves" in shown
    assert sorted(p.name for p in out.iterdir()) == sorted(["summary.json", "report.html", *NAMES])
    for row in summary["layers"]:
        folder = out / row["layers"]
        assert sorted(p.name for p in folder.iterdir()) == sorted(RUN_FILES)
        alone = json.loads((folder / "summary.json").read_text())
        assert alone["state_hash"] == row["state_hash"]
        assert ("acb" in alone, "mc" in alone, "survival" in alone) == {
            "none": (False, False, False),
            "acb": (True, False, False),
            "acb+mc": (True, True, False),
            "full": (True, True, True),
        }[row["layers"]]
    bare = tmp_path / "bare"
    assert backtest(root / "days", bare)["state_hash"] == summary["layers"][0]["state_hash"]


def test_json_repeats_the_summary(root: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "layers"
    code = run(["backtest", "--data", str(root / "days"), "--out", str(out), *options(root, "none,mc"), "--json"])
    assert code == 0
    assert json.loads(capsys.readouterr().out) == json.loads((out / "summary.json").read_text())


def test_a_comparison_is_replaced_only_by_force(root: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "layers"
    command = ["backtest", "--data", str(root / "days"), "--out", str(out), *options(root, "none,mc")]
    assert run(command) == 0
    capsys.readouterr()
    assert run(command) == 2
    assert "already holds a run" in capsys.readouterr().err
    assert run([*command, "--force"]) == 0


@pytest.mark.parametrize(
    ("extra", "says"),
    [
        (["--compare", "none"], "two or more"),
        (["--compare", "none,acb"], "acb needs --factors"),
        (["--compare", "none,full"], "full needs --factors"),
        (["--compare", "none,magic"], "'magic' is no layer"),
        (["--forewarner", "nowhere"], "no model here"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    root: Path, tmp_path: Path, capsys: Capture, extra: list[str], says: str
) -> None:
    code = run(["backtest", "--data", str(root / "days"), "--out", str(tmp_path / "out"), *extra])
    err = capsys.readouterr().err.strip()
    assert code == 2
    assert says in err
    assert "\n" not in err
    assert list(tmp_path.iterdir()) == []


def test_a_tampered_model_stops_the_command(root: Path, tmp_path: Path, capsys: Capture) -> None:
    model = tmp_path / "model"
    write_small_model(model)
    (model / "classifier.skops").write_bytes(b"PK\x03\x04 not what it was")
    options = ["--forewarner", str(model), "--out", str(tmp_path / "out")]
    assert run(["backtest", "--data", str(root / "days"), *options]) == 2
    err = capsys.readouterr().err.strip()
    assert "classifier.skops: does not match" in err
    assert "\n" not in err
    assert not (tmp_path / "out").exists()


def test_the_page_draws_itself(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "layers"
    backtest(root / "days", out, *options(root))
    dom, _ = dump_dom(out / "report.html", tmp_path)
    assert 'data-charts="drawn"' in dom
    part = dom.split('id="chart-comparison"')[1].split("</section>")[0]
    assert part.count('class="main-svg"') >= 2
    for name in NAMES:
        assert f">{name}</text>" in part
