"""`dolphin forewarner`, as a person meets it: train, stop, go on, refuse, assess, and the page."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from dolphin.market.forewarnerfiles import MODEL_FILES, DolphinForewarner
from dolphin.market.importer import Import, ImportSpec
from dolphin.research.forewarner import trials as trials_module
from dolphin.research.forewarner.store import STORE
from dolphin.ui.cli import run
from dolphin.ui.report.forewarner import calibration_figure, leverage_figure, outcomes_figure
from tests.support.browser import dump_dom
from tests.support.forewarner import fitted, write_small_model
from tests.support.runs import scan_archive_of
from tests.support.shared import recorded

pytestmark = pytest.mark.usefixtures("warm")

Capture = pytest.CaptureFixture[str]
SYMBOLS = (
    "BTCUSDT",
    "ETHUSDT",
    "BNBUSDT",
    "XRPUSDT",
    "ADAUSDT",
    "DOGEUSDT",
    "DOTUSDT",
    "LTCUSDT",
    "SOLUSDT",
    "UNIUSDT",
)
TRAIN = ("--trials", "200", "--workers", "2")


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five days of coins that rise a little: shorts with large bets are lost."""
    return scan_archive_of(tmp_path_factory.mktemp("cli") / "scans", 5, drift=0.2)


@pytest.fixture(scope="module")
def model(scans: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cli") / "model"
    assert run(["forewarner", "train", "--data", str(scans), "--out", str(out), *TRAIN]) == 0
    return out


def train(scans: Path, out: Path, *more: str) -> int:
    return run(["forewarner", "train", "--data", str(scans), "--out", str(out), *TRAIN, *more])


def told_json(capsys: Capture, *args: str) -> Any:
    capsys.readouterr()
    assert run(list(args)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def refused(capsys: Capture, code: int, args: list[str], *words: str) -> None:
    capsys.readouterr()
    assert run(args) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("dolphin: ")
    assert err.count("\n") == 1, err
    for word in words:
        assert word in err, err


# --- training


def test_training_leaves_a_model_and_nothing_else(model: Path) -> None:
    assert sorted(p.name for p in model.iterdir()) == sorted(MODEL_FILES)
    assert [p.name for p in model.parent.iterdir()] == ["model"]
    card = DolphinForewarner(model).card
    assert (card.trials, card.days_per_trial, card.forced, card.doubts) == (200, 5, False, ())
    assert card.metrics["catastrophes"] >= 10
    assert card.data["days"] == 5


def test_what_a_person_reads(scans: Path, tmp_path: Path, capsys: Capture) -> None:
    assert train(scans, tmp_path / "m") == 0
    out, err = capsys.readouterr()
    for words in ("Forewarner, 5 days 2024-01-01 … 2024-01-05", "held-out AUC", "Brier", "calibrated"):
        assert words in out
    assert "FORCED" not in out
    assert "the calibration plot is" in err


def test_json_is_the_card_and_the_bytes_repeat(scans: Path, model: Path, tmp_path: Path, capsys: Capture) -> None:
    args = ("forewarner", "train", "--data", str(scans), "--out", str(tmp_path / "m"), *TRAIN, "--workers", "1")
    told = told_json(capsys, *args, "--json")
    assert told.pop("out") == str(tmp_path / "m")
    assert told == json.loads((tmp_path / "m" / "model.json").read_text())
    assert (tmp_path / "m" / "trials.parquet").read_bytes() == (model / "trials.parquet").read_bytes()
    one, two = (DolphinForewarner(f).assess_config_dict({"fraction": 0.9}) for f in (model, tmp_path / "m"))
    assert one == two


def test_an_interrupted_training_keeps_its_trials_and_ends_the_same(
    scans: Path, model: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = trials_module.run_trials

    def stopped(*args: Any) -> Iterator[Any]:
        for k, outcome in enumerate(whole(*args)):
            if k == 70:
                raise KeyboardInterrupt
            yield outcome

    out = tmp_path / "m"
    monkeypatch.setattr(trials_module, "run_trials", stopped)
    capsys.readouterr()
    assert train(scans, out) == 130
    assert f"finished trials are kept in {out}.trials; the same command goes on" in capsys.readouterr().err
    assert not out.exists()
    parts = sorted(p.name for p in (tmp_path / "m.trials").iterdir())
    assert parts == ["part_0000000.parquet", "part_0000050.parquet", STORE]
    refused(capsys, 2, [*base(scans, out), "--seed", "8"], "another training (seed 7, now 8)", "--force")
    numbers: list[int] = []

    def counted(bank: Any, missing: Any, spec: Any) -> Iterator[Any]:
        numbers.extend(t.number for t in missing)
        return whole(bank, missing, spec)

    monkeypatch.setattr(trials_module, "run_trials", counted)
    assert train(scans, out) == 0
    assert numbers == list(range(70, 200))
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert (out / "trials.parquet").read_bytes() == (model / "trials.parquet").read_bytes()


def base(scans: Path, out: Path) -> list[str]:
    return ["forewarner", "train", "--data", str(scans), "--out", str(out), *TRAIN]


def test_force_replaces_a_model_and_only_a_model(scans: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "m"
    write_small_model(out)
    refused(capsys, 2, base(scans, out), "already holds a model", "--force")
    assert train(scans, out, "--force") == 0
    assert DolphinForewarner(out).card.trials == 200
    (out / "letters.txt").write_text("mine")
    refused(capsys, 2, [*base(scans, out), "--force"], "letters.txt, which is not part of a model")
    assert (out / "letters.txt").read_text() == "mine"


def test_bad_input_is_one_line_and_leaves_nothing(scans: Path, tmp_path: Path, capsys: Capture) -> None:
    out = tmp_path / "m"
    refused(capsys, 2, ["forewarner", "train", "--data", str(tmp_path / "no"), "--out", str(out)], "no such directory")
    refused(capsys, 2, [*base(scans, out), "--trials", "5"], "--trials 5: expected 40 to")
    refused(capsys, 2, [*base(scans, out), "--block-days", "9"], "--block-days 9")
    refused(capsys, 2, [*base(scans, out), "--from", "soon"], "--from: 'soon' is not a calendar date")
    refused(capsys, 2, [*base(scans, out), "--from", "2025-01-01"], "no day from 2025-01-01")
    refused(capsys, 2, [*base(scans, out), "--to", "2024-01-01"], "hold no 2 in a row")
    refused(capsys, 2, [*base(scans, out), "--workers", "0"], "--workers 0")
    assert list(tmp_path.iterdir()) == []


def test_a_model_no_better_than_chance_is_not_saved_unless_forced(
    scans: Path, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outcomes drawn by lot: nothing about a configuration tells them apart."""
    whole = trials_module.run_trials

    def by_lot(*args: Any) -> Iterator[Any]:
        for outcome in whole(*args):
            lost = (outcome.number * 7919) % 5 == 0
            yield trials_module.Outcome(outcome.number, 0.0, 0.9 if lost else 0.1, outcome.trades)

    monkeypatch.setattr(trials_module, "run_trials", by_lot)
    out = tmp_path / "m"
    refused(capsys, 1, base(scans, out), "no better than chance", "AUC", "--force", "m.trials")
    assert not out.exists()
    assert (tmp_path / "m.trials" / STORE).exists()
    monkeypatch.setattr(trials_module, "run_trials", lambda *_: pytest.fail("the trials were there already"))
    monkeypatch.setattr(trials_module, "run_trials", lambda bank, missing, spec: iter(()) if not missing else 1 / 0)
    assert train(scans, out, "--force") == 0
    told = capsys.readouterr().out
    assert "FORCED" in told
    page = (out / "report.html").read_text()
    assert "This model was saved by force" in page
    card = json.loads((out / "model.json").read_text())
    assert card["forced"] is True
    assert card["doubts"]
    assert told_json(capsys, "forewarner", "assess", "--model", str(out), "--json")["forced"] is True
    assert run(["forewarner", "assess", "--model", str(out)]) == 0
    assert "no better than chance" in capsys.readouterr().out


def test_a_calm_market_has_nothing_to_learn_from(tmp_path: Path, capsys: Capture) -> None:
    calm = scan_archive_of(tmp_path / "calm", 3, drift=-0.4)
    out = tmp_path / "m"
    args = ["forewarner", "train", "--data", str(calm), "--out", str(out), "--trials", "40", "--days-per-trial", "2"]
    refused(capsys, 1, args, "of 40 trials ended in a catastrophe; at least 4 must")
    refused(capsys, 1, [*args, "--force"], "at least 4 must")
    assert not out.exists()


# --- assessing


def test_the_champion_is_assessed_by_default(model: Path, capsys: Capture) -> None:
    told = told_json(capsys, "forewarner", "assess", "--model", str(model), "--json")
    assert told["config"]["max_leverage"] == 5.0
    assert told["status"] in ("OK", "ORANGE", "RED")
    assert told["mc_scale"] == (0.5 if told["status"] == "ORANGE" else 1.0)
    assert (len(told["nearest"]), told["outside"], told["forced"]) == (5, [], False)
    own = DolphinForewarner(model).assess_config_dict({})
    assert told["catastrophic_probability"] == own.catastrophic_probability


def test_boost_multiplies_leverage(model: Path, tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "mine.json"
    config.write_text('{"max_leverage": 8, "abs_max_leverage": 20, "fraction": 0.5}')
    args = ("forewarner", "assess", "--model", str(model), "--config", str(config), "--json")
    plain, boosted = told_json(capsys, *args), told_json(capsys, *args, "--boost", "1.5")
    assert (plain["config"]["max_leverage"], boosted["config"]["max_leverage"]) == (8, 12.0)
    assert boosted["catastrophic_probability"] >= plain["catastrophic_probability"]
    assert told_json(capsys, *args[:4], "--boost", "1.2", "--json")["config"]["max_leverage"] == 6.0


def test_what_a_person_reads_of_an_assessment(model: Path, tmp_path: Path, capsys: Capture) -> None:
    assert run(["forewarner", "assess", "--model", str(model)]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[0].endswith(": the champion")
    for words in ("catastrophic probability", "envelope score", "ROI over 5 days", "Nearest trials", "survived"):
        assert words in out
    assert err == ""
    config = tmp_path / "mine.json"
    config.write_text('{"max_leverage": 40, "lookback": 5, "irp_returns": "relative"}')
    assert run(["forewarner", "assess", "--model", str(model), "--config", str(config)]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("RED: max_leverage=40, lookback=5, irp_returns=relative")
    assert [line.split(":")[0] for line in err.splitlines()] == ["max_leverage", "lookback", "irp_returns"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not the JSON expected"),
        ("[1]", "list; expected parameters by name"),
        ('{"leverage": 3}', "'leverage' is no parameter"),
        ('{"fraction": "a lot"}', "fraction is 'a lot'"),
        ('{"max_leverage": "5"}', "max_leverage is '5'"),
        ('{"fraction": NaN}', "NaN is not a JSON number; write a number"),
        ('{"fraction": 1, "fraction": 2}', "'fraction' is given twice"),
    ],
)
def test_a_bad_configuration_is_one_line(text: str, words: str, model: Path, tmp_path: Path, capsys: Capture) -> None:
    config = tmp_path / "bad.json"
    config.write_text(text)
    args = ["forewarner", "assess", "--model", str(model), "--config", str(config)]
    refused(capsys, 2, args, "bad.json", words)
    refused(capsys, 2, [*args[:-1], str(tmp_path / "absent.json")], "cannot be read")


def test_a_boost_that_no_engine_takes_is_refused(model: Path, capsys: Capture) -> None:
    for boost in ("0.9", "3.1", "nan"):
        refused(capsys, 2, ["forewarner", "assess", "--model", str(model), "--boost", boost], "expected 1 to 3")


# --- the page


def test_the_figures_say_what_the_bins_say() -> None:
    bins = fitted().metrics["calibration_bins"]
    figure = calibration_figure(bins)
    points = figure["data"][1]
    assert points["x"] == [b["predicted"] for b in bins]
    assert points["customdata"][0] == f"{bins[0]['catastrophes']} of {bins[0]['count']} trials"
    for up, down, b in zip(points["error_y"]["array"], points["error_y"]["arrayminus"], bins, strict=True):
        assert (b["frequency"] + up, b["frequency"] - down) == pytest.approx((b["frequency_high"], b["frequency_low"]))
    assert figure["data"][2]["y"] == [b["count"] for b in bins]
    m = fitted().models
    survived, lost = outcomes_figure(m.roi, m.max_drawdown, m.catastrophe)["data"]
    assert (len(survived["x"]), len(lost["x"])) == (int((~m.catastrophe).sum()), int(m.catastrophe.sum()))
    curve = {"max_leverage": [1.0, 2.0], "catastrophic_probability": [0.0, 0.9], "envelope_score": [1.0, -2.0]}
    assert leverage_figure(curve)["layout"]["yaxis"]["range"][1] > 0.9


@pytest.mark.slow
def test_the_page_draws_in_a_browser(model: Path, tmp_path: Path) -> None:
    dom, _ = dump_dom(model / "report.html", tmp_path)
    assert 'data-charts="drawn"' in dom
    for name in ("calibration", "leverage", "outcomes"):
        part = dom.split(f'id="chart-{name}"')[1].split("</section>")[0]
        assert part.count('class="main-svg"') >= 2, name


# --- processes and recorded markets


def test_a_backtest_never_loads_the_library(scans: Path, tmp_path: Path) -> None:
    code = "import sys\nfrom dolphin.ui.cli import run\nrun(sys.argv[1:])\nprint(*sys.modules)"
    args = ["backtest", "--data", str(scans), "--out", str(tmp_path / "run"), "--json"]
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True)
    assert not {"sklearn", "scipy", "skops"} & set(done.stdout.splitlines()[-1].split())


def test_the_rules_alone_do_not_load_it_either() -> None:
    code = "import sys, dolphin.risk.forewarner\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"sklearn", "scipy", "skops", "pyarrow"} & set(done.stdout.split())


@pytest.mark.slow
def test_recorded_days_teach_something(tmp_path: Path, capsys: Capture) -> None:
    """A week of recorded minute closes of nine pairs: small, but real days and real returns."""
    source = recorded("spot_1m_2021")
    prices = tmp_path / "prices"
    Import(
        ImportSpec(
            source=source, out=prices, bar_seconds=60, stamp="open", symbols=SYMBOLS,
            first=date(2021, 4, 14), last=date(2021, 4, 20),
        )
    ).run()  # fmt: skip
    args = ("forewarner", "train", "--data", str(prices), "--out", str(tmp_path / "m"), "--trials", "300", "--json")
    told = told_json(capsys, *args)
    assert told["metrics"]["auc_low"] > 0.5
    assert told["metrics"]["brier"] < told["metrics"]["brier_base_rate"]
    table = pq.read_table(tmp_path / "m" / "trials.parquet")
    assert sum(table.column("catastrophe").to_pylist()) == told["metrics"]["catastrophes"] >= 10
    champion = told_json(capsys, "forewarner", "assess", "--model", str(tmp_path / "m"), "--json")
    assert champion["envelope_score"] > 0.0
