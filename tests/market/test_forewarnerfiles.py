"""The model folder: what is written is what is read, and nothing else is ever read."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.core.codes import Direction
from dolphin.core.errors import DataError
from dolphin.core.params import EngineParams
from dolphin.market.forewarnerfiles import MODEL_FILES, DolphinForewarner, NoModelError, forewarner_or_none, read_model
from dolphin.research.backtest import bars_of
from dolphin.risk.forewarner import MC_BASE_CFG, Forewarner
from dolphin.risk.forewarner.space import NAMES
from dolphin.ui.cli import run
from tests.support.forewarner import fitted, write_small_model
from tests.support.runs import scan_days

Capture = pytest.CaptureFixture[str]
Deed = Callable[[Path], None]


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "model"
    write_small_model(folder)
    return folder


@pytest.fixture
def model(master: Path, tmp_path: Path) -> Path:
    """A copy to be spoilt."""
    return Path(shutil.copytree(master, tmp_path / "model"))


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def reseal(folder: Path, **changes: Any) -> None:
    """What somebody would do who knows how the seal is made: change the card, hash everything anew."""
    card = json.loads((folder / "model.json").read_text())
    card |= changes
    card["files"] = {name: sha((folder / name).read_bytes()) for name in card["files"]}
    text = json.dumps(card).encode()
    (folder / "model.json").write_bytes(text)
    (folder / "SEAL").write_text(sha(text) + "\n")


def card_of(folder: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads((folder / "model.json").read_text())
    return value


def refused(folder: Path, *words: str) -> None:
    """One DataError of one line naming the folder; and the same line and exit code 2 from the command."""
    with pytest.raises(DataError) as refusal:
        DolphinForewarner(folder)
    told = str(refusal.value)
    assert "\n" not in told
    for word in (str(folder), *words):
        assert word in told, told


# --- the round trip


def test_what_was_fitted_is_what_assesses(master: Path) -> None:
    warner, own = DolphinForewarner(master), Forewarner(fitted().models)
    for leverage in (1.0, 5.0, 9.0, 30.0):
        config = {**MC_BASE_CFG, "max_leverage": leverage, "abs_max_leverage": leverage}
        assert warner.assess_config_dict(config) == own.assess_config_dict(config)
    assert np.array_equal(warner.models.features, fitted().models.features)
    assert DolphinForewarner(str(master)).card.seed == 3


def test_the_folder_holds_the_promised_files_and_says_so(master: Path) -> None:
    assert sorted(p.name for p in master.iterdir()) == sorted(MODEL_FILES)
    card = card_of(master)
    assert set(card["files"]) == set(MODEL_FILES) - {"model.json", "SEAL"}
    for name, told in card["files"].items():
        assert told == sha((master / name).read_bytes())
    assert (master / "SEAL").read_text() == sha((master / "model.json").read_bytes()) + "\n"
    assert card["versions"]["scikit-learn"].startswith("1.9.")
    table = pq.read_table(master / "trials.parquet")
    assert table.column_names == ["trial", *NAMES, "days", "trades", "roi", "max_drawdown", "catastrophe"]
    assert table.num_rows == 400


def test_writing_again_gives_the_same_trials_and_probabilities(master: Path, tmp_path: Path) -> None:
    write_small_model(tmp_path / "again")
    assert (tmp_path / "again" / "trials.parquet").read_bytes() == (master / "trials.parquet").read_bytes()
    reports = [DolphinForewarner(f).assess_config_dict({"fraction": 0.7}) for f in (master, tmp_path / "again")]
    assert reports[0] == reports[1]


def test_files_that_are_not_the_model_s_do_not_matter(model: Path) -> None:
    (model / ".DS_Store").write_bytes(b"x")
    assert DolphinForewarner(model).card.trials == 400


# --- refusals


def test_a_missing_model_is_told_apart(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    for folder in (tmp_path / "absent", empty):
        with pytest.raises(NoModelError, match="no model here; train one with 'dolphin forewarner train'"):
            DolphinForewarner(folder)
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match="is a file") as refusal:
        DolphinForewarner(tmp_path / "file")
    assert not isinstance(refusal.value, NoModelError)


@pytest.mark.parametrize("name", MODEL_FILES)
def test_every_file_counts(name: str, model: Path) -> None:
    content = (model / name).read_bytes()
    (model / name).unlink()
    refused(model, name if name != "SEAL" else "not sealed, SEAL is missing")
    (model / name).write_bytes(content[: len(content) // 2])
    refused(model, "SEAL" if name in ("SEAL", "model.json") else f"{name}: does not match the hash in model.json")
    middle = len(content) // 2
    (model / name).write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    refused(model, "does not match")
    (model / name).write_bytes(content)
    assert read_model(model)[1].trials == 400


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, ("format 2, expected 1",)),
        ({"format": "one"}, ("not a model's description",)),
        ({"direction": "LONG"}, ("not a model's description", "direction")),
        ({"novelty": 1}, ("not a model's description", "novelty")),
        ({"seed": None}, ("not a model's description", "seed")),
        ({"versions": {"scikit-learn": "1.8.0"}}, ("trained with scikit-learn 1.8.0, here is 1.9.",)),
        ({"versions": {}}, ("trained with scikit-learn none",)),
        ({"champion_hash": "0" * 16}, ("trained around champion 0000000000000000, here is 3e85f242030efb87",)),
        ({"space": []}, ("another space of parameters",)),
        ({"calibration": [-1.0, 0.0]}, ("turned round",)),
        ({"envelope_low": 0.5}, ("turned round",)),
        ({"files": {}}, ("does not match the hash",)),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_a_sealed_card_of_something_else_is_refused(
    changes: dict[str, Any], words: tuple[str, ...], model: Path
) -> None:
    reseal(model, **changes)
    refused(model, *words)


def test_another_range_is_another_space(model: Path) -> None:
    space = card_of(model)["space"]
    space[3]["high"] = 40.0
    reseal(model, space=space)
    refused(model, "another space")


class Evil:
    """What an attacker would want built."""

    def __reduce__(self) -> tuple[Any, ...]:
        return eval, ("1 / 0",)


def put(name: str, content: bytes) -> Deed:
    def deed(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return deed


def pickled_into(name: str) -> Deed:
    import pickle

    return put(name, pickle.dumps(Evil()))


LINE = LogisticRegression().fit(np.arange(26.0).reshape(2, 13), [0, 1])
NARROW = LogisticRegression().fit(np.arange(4.0).reshape(2, 2), [0, 1])


@pytest.mark.parametrize(
    ("deed", "words"),
    [
        (put("classifier.skops", skops.io.dumps(Evil())), ("holds", "Evil", "do not use this folder")),
        (put("outcome.skops", skops.io.dumps({"roi": eval})), ("holds builtins.eval",)),
        (pickled_into("envelope.skops"), ("cannot be read as a model",)),
        (put("envelope.skops", b""), ("cannot be read as a model",)),
        (put("classifier.skops", skops.io.dumps(LINE)), ("is a LogisticRegression of 13 features",)),
        (put("classifier.skops", skops.io.dumps("text")), ("the classifier model is a str of None features",)),
        (put("outcome.skops", skops.io.dumps({"roi": 1})), ("not the models of ROI and drawdown",)),
        (put("outcome.skops", skops.io.dumps([1, 2])), ("not the models of ROI and drawdown",)),
        (put("trials.parquet", b"PAR1"), ("not the table of trials",)),
    ],
    ids=["evil class", "eval", "pickle", "empty", "other model", "no model", "half", "list", "no table"],
)
def test_a_sealed_file_that_holds_something_else_is_refused(deed: Deed, words: tuple[str, ...], model: Path) -> None:
    """A seal is no signature: whoever can write all files can seal them. What they hold is checked all the same."""
    deed(model)
    reseal(model)
    refused(model, *words)


def test_a_table_without_a_column_is_refused(model: Path) -> None:
    table = pq.read_table(model / "trials.parquet").drop_columns(["fraction"])
    pq.write_table(table, model / "trials.parquet")
    reseal(model)
    refused(model, "not the table of trials expected", "train again")
    pq.write_table(pa.table({name: ["x"] for name in (*NAMES, "roi", "max_drawdown", "catastrophe")}),
                   model / "trials.parquet")  # fmt: skip
    reseal(model)
    refused(model, "not the table of trials expected")


def test_a_huge_card_is_not_read(model: Path) -> None:
    with (model / "model.json").open("r+b") as file:
        file.truncate(20_000_000)
    refused(model, "20,000,000 bytes")


def test_the_command_says_it_in_one_line_and_exits_2(model: Path, capsys: Capture) -> None:
    deeds: tuple[Deed, ...] = (
        lambda folder: (folder / "SEAL").write_text("0" * 64) and None,
        lambda folder: (folder / "SEAL").unlink(),
        lambda folder: shutil.rmtree(folder),
    )
    for deed in deeds:
        deed(model)
        assert run(["forewarner", "assess", "--model", str(model)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(f"dolphin: {model}")
        assert err.count("\n") == 1


def test_the_card_round_trips(master: Path) -> None:
    _, card = read_model(master)
    assert json.loads(msgspec.json.encode(card)) == card_of(master)
    assert card.metrics == fitted().metrics


# --- an engine that must run on ---


def test_an_engine_runs_on_without_a_sound_model(tmp_path: Path) -> None:
    """Missing, unsealed, altered: one line each, no forewarner, and an engine that trades as if it never had one."""
    write_small_model(tmp_path / "altered")
    (tmp_path / "altered" / "envelope.skops").write_bytes(b"PK")
    write_small_model(tmp_path / "unsealed")
    (tmp_path / "unsealed" / "SEAL").unlink()
    days = scan_days(1)
    hashes = set()
    for name, says in (("nowhere", "no model here"), ("altered", "does not match"), ("unsealed", "not sealed")):
        lines: list[str] = []
        warner = forewarner_or_none(tmp_path / name, lines.append)
        assert warner is None
        (line,) = lines
        assert line.startswith("forewarner off: ")
        assert says in line
        assert "\n" not in line
        engine = NDAlphaEngine(EngineParams(), days[0].assets, Direction.SHORT, 25_000.0)
        engine.set_mc_forewarner(warner, MC_BASE_CFG)
        engine.begin_day(days[0].day)
        engine.process_bars(bars_of(days[0]), days[0].closes)
        hashes.add(engine.state_hash())
    bare = NDAlphaEngine(EngineParams(), days[0].assets, Direction.SHORT, 25_000.0)
    bare.begin_day(days[0].day)
    bare.process_bars(bars_of(days[0]), days[0].closes)
    assert hashes == {bare.state_hash()}


def test_off_is_off_without_a_word(tmp_path: Path) -> None:
    lines: list[str] = []
    assert forewarner_or_none(None, lines.append) is None
    assert forewarner_or_none("", lines.append) is None
    assert lines == []
    write_small_model(tmp_path / "model")
    found = forewarner_or_none(tmp_path / "model", lines.append)
    assert found is not None
    assert found.assess_config_dict(MC_BASE_CFG).status in ("OK", "ORANGE", "RED")
    assert lines == []
