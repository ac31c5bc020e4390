"""The forewarner's model folder: written whole, sealed by hashes, read without running what it holds (SPEC §11).

    model.json          what was trained, on what, how well; the SHA-256 of every other file
    classifier.skops    catastrophe or not
    envelope.skops      how ordinary a configuration is among survivors
    outcome.skops       medians of ROI and maximum drawdown
    trials.parquet      every trial's parameters, days and outcome
    report.html         the calibration plot, for people
    SEAL                the SHA-256 of model.json

The model files are skops archives: data and names of types, no pickle. Only types on a list are ever built.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import dolphin.market.arrow  # noqa: F401
from dolphin.core.errors import DataError
from dolphin.core.params import champion_hash
from dolphin.market.atomic import write_text_atomic
from dolphin.risk.forewarner.assess import Forewarner, Models
from dolphin.risk.forewarner.space import F8, NAMES, SPACE, space_table

FORMAT = 1
CARD, SEAL, TRIALS, REPORT = "model.json", "SEAL", "trials.parquet", "report.html"
CLASSIFIER, ENVELOPE, OUTCOME = "classifier.skops", "envelope.skops", "outcome.skops"
MODEL_FILES = (CARD, CLASSIFIER, ENVELOPE, OUTCOME, TRIALS, REPORT, SEAL)
_HASHED = (CLASSIFIER, ENVELOPE, OUTCOME, TRIALS, REPORT)

BOUND_VERSIONS = ("scikit-learn", "skops")
"""The packages whose versions a model file depends on."""

ALLOWED_TYPES = frozenset(
    {
        "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
        "sklearn.tree._tree.Tree",
    }
)
"""What a model file may hold beyond the types that skops itself trusts: the two kinds of trees."""

_EXPECTED = {
    "classifier": "HistGradientBoostingClassifier",
    "envelope": "IsolationForest",
    "roi": "HistGradientBoostingRegressor",
    "max_drawdown": "HistGradientBoostingRegressor",
}
_LARGEST_CARD = 10_000_000


class NoModelError(DataError):
    """There is no model folder at all, which an engine may warn of and go on; every other fault is a refusal."""


class ModelCard(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of `model.json`. `data` identifies the archive; `metrics` are the held-out figures; `doubts` say why
    a model is no better than chance, in which case it is `forced`; `files` maps each file to its SHA-256."""

    format: int
    direction: Literal["SHORT"]
    champion_hash: str
    kernels: str
    space: list[dict[str, Any]]
    versions: dict[str, str]
    data: dict[str, Any]
    seed: int
    trials: int
    days_per_trial: int
    block_days: int
    capital: float
    calibration: tuple[float, float] | None
    envelope_low: float
    envelope_middle: float
    metrics: dict[str, Any]
    doubts: tuple[str, ...]
    forced: bool
    files: dict[str, str]


class _Format(msgspec.Struct, frozen=True):
    format: int


class DolphinForewarner(Forewarner):
    """The forewarner of the models in a folder: `assess_config_dict(config)` gives the report.

    Raises NoModelError when there is no such folder, or nothing in it, and DataError, in one line, for one that is
    unsealed, altered, of another version or space, or that holds what a model does not.
    """

    def __init__(self, models_dir: Path | str) -> None:
        models, self.card = read_model(Path(models_dir))
        super().__init__(models)

    @property
    def identity(self) -> str:
        """A hash (hex) over what was trained and every file of it."""
        return _hash(msgspec.json.encode(self.card))


def forewarner_or_none(models_dir: Path | str | None, warn: Callable[[str], None]) -> DolphinForewarner | None:
    """The forewarner of an engine that must run on: None, with one line to `warn`, where there is no sound model.

    None or "" switches the forewarner off, silently. Whoever reads the sensors must then tell OK for it if it is off on
    purpose, and nothing if its model was refused: a status that is not known counts as RED (SPEC §10, §11).
    """
    if models_dir is None or models_dir == "":
        return None
    try:
        return DolphinForewarner(models_dir)
    except DataError as error:
        warn(f"forewarner off: {error}")
        return None


def write_model(folder: Path, card: ModelCard, models: Models, trials: pa.Table) -> ModelCard:
    """Write a model into `folder`, which holds `report.html` and nothing else of it; give the card as written.

    The seal comes last: a folder that was left half-way is never taken for a model."""
    import skops.io

    outcome = {"roi": models.roi_model, "max_drawdown": models.drawdown_model}
    for name, content in ((CLASSIFIER, models.classifier), (ENVELOPE, models.envelope), (OUTCOME, outcome)):
        (folder / name).write_bytes(skops.io.dumps(content, compression=zipfile.ZIP_DEFLATED))
    pq.write_table(trials, folder / TRIALS, compression="zstd")
    sealed = msgspec.structs.replace(card, files={name: _hash((folder / name).read_bytes()) for name in _HASHED})
    text = msgspec.json.format(msgspec.json.encode(sealed), indent=2)
    (folder / CARD).write_bytes(text)
    write_text_atomic(folder / SEAL, _hash(text) + "\n")
    return sealed


def read_model(folder: Path) -> tuple[Models, ModelCard]:
    """The models in `folder` and their card, after every check; raises as `DolphinForewarner` does."""
    card = read_card(folder)
    raw = {name: _verified(folder, name, card.files) for name in _HASHED}
    classifier = _load(folder / CLASSIFIER, raw[CLASSIFIER])
    envelope = _load(folder / ENVELOPE, raw[ENVELOPE])
    outcome = _load(folder / OUTCOME, raw[OUTCOME])
    if not isinstance(outcome, dict) or set(outcome) != {"roi", "max_drawdown"}:
        raise DataError(f"{folder / OUTCOME}: not the models of ROI and drawdown expected; train again")
    found = {"classifier": classifier, "envelope": envelope, **outcome}
    for name, model in found.items():
        kind, features = type(model), getattr(model, "n_features_in_", None)
        if kind.__name__ != _EXPECTED[name] or not kind.__module__.startswith("sklearn.") or features != len(SPACE):
            raise DataError(
                f"{folder}: the {name} model is a {kind.__name__} of {features} features; expected a "
                f"{_EXPECTED[name]} of {len(SPACE)}: train again"
            )
    columns = _trial_columns(folder / TRIALS, raw[TRIALS])
    features = np.array([[p.unit(float(v)) for v in columns[p.name]] for p in SPACE]).T
    models = Models(
        classifier=classifier,
        envelope=envelope,
        roi_model=outcome["roi"],
        drawdown_model=outcome["max_drawdown"],
        calibration=card.calibration,
        envelope_low=card.envelope_low,
        envelope_middle=card.envelope_middle,
        features=np.ascontiguousarray(features),
        roi=columns["roi"],
        max_drawdown=columns["max_drawdown"],
        catastrophe=columns["catastrophe"].astype(np.bool_),
        forced=card.forced,
    )
    return models, card


def read_card(folder: Path) -> ModelCard:
    """The card of the model in `folder`, its seal, format, versions, champion and space checked; no model is built."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        raise NoModelError(f"{folder}: no model here; train one with 'dolphin forewarner train'")
    if not folder.is_dir():
        raise DataError(f"{folder}: is a file; expected the folder of a model")
    text = _bytes(folder, CARD)
    if not (folder / SEAL).exists():
        raise DataError(f"{folder}: not sealed, {SEAL} is missing; the model was not finished or altered: train again")
    if _bytes(folder, SEAL).decode("ascii", "replace").strip() != _hash(text):
        raise DataError(f"{folder / CARD}: does not match {SEAL}; the model was altered: restore it or train again")
    try:
        met = msgspec.json.decode(text, type=_Format).format
        if met != FORMAT:
            raise DataError(f"{folder / CARD}: format {met}, expected {FORMAT}; train again with this release")
        card = msgspec.json.decode(text, type=ModelCard)
    except msgspec.MsgspecError as error:
        raise DataError(f"{folder / CARD}: not a model's description ({error}); train again") from None
    _check_fits(folder / CARD, card)
    return card


def _check_fits(path: Path, card: ModelCard) -> None:
    """Refuse a model of another library, champion or space than this release's, and figures that cannot be."""
    met, expected = card.versions.get("scikit-learn", "none"), version("scikit-learn")
    if met != expected:
        raise DataError(f"{path}: trained with scikit-learn {met}, here is {expected}; train again")
    if card.champion_hash != champion_hash():
        raise DataError(f"{path}: trained around champion {card.champion_hash}, here is {champion_hash()}; train again")
    if card.space != space_table():
        raise DataError(f"{path}: trained over another space of parameters than this release's; train again")
    slope = 1.0 if card.calibration is None else card.calibration[0]
    if not (slope > 0.0 and card.envelope_middle > card.envelope_low):
        raise DataError(f"{path}: calibration or envelope is turned round; train again")


def _verified(folder: Path, name: str, hashes: dict[str, str]) -> bytes:
    content = _bytes(folder, name)
    if _hash(content) != hashes.get(name):
        raise DataError(
            f"{folder / name}: does not match the hash in {CARD}; it was altered: restore it or train again"
        )
    return content


def _load(path: Path, content: bytes) -> Any:
    """Build what a skops archive describes, or DataError; nothing of an unexpected type is imported or built."""
    import skops.io

    try:
        strange = sorted(set(skops.io.get_untrusted_types(data=content)) - ALLOWED_TYPES)
        if not strange:
            return skops.io.loads(content, trusted=sorted(ALLOWED_TYPES))
    except Exception as error:
        what = " ".join(str(error).split())[:120] or type(error).__name__
        raise DataError(f"{path}: cannot be read as a model ({what}); train again") from None
    raise DataError(f"{path}: holds {strange[0]}, which is no part of a model; do not use this folder, train again")


def _trial_columns(path: Path, content: bytes) -> dict[str, F8]:
    wanted = (*NAMES, "roi", "max_drawdown", "catastrophe")
    try:
        table = pq.ParquetFile(pa.BufferReader(content)).read(columns=list(wanted))
        return {name: np.asarray(table.column(name), np.float64) for name in wanted}
    except (pa.ArrowException, KeyError, ValueError) as error:
        raise DataError(
            f"{path}: not the table of trials expected ({' '.join(str(error).split())}); train again"
        ) from None


def _bytes(folder: Path, name: str) -> bytes:
    path = folder / name
    try:
        if name in (CARD, SEAL) and path.stat().st_size > _LARGEST_CARD:
            raise DataError(f"{path}: {path.stat().st_size:,} bytes; expected a few thousand")
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); restore the model or train again") from None


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
