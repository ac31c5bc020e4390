"""The files of the cache folder: written whole, read typed, and as SCHEMA.md says (SPEC §8, §23)."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import DataError
from dolphin.grid.values import BookFeatures, BookService, BookSnapshot, MacroBar
from dolphin.ops.obf.beat import Beat, Frame
from dolphin.ops.obf.featuresfile import (
    AssetLine,
    FeaturesFile,
    features_file,
    read_features,
    schema_text,
    write_features,
    write_schema,
)
from dolphin.ops.obf.metrics import KEPT, Latencies, read_metrics
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.standing import Standing
from dolphin.ops.obf.state import STATE_NAME, Cat3, Saved, read_state, write_state
from tests.ops.obf_cases import QUICK, START_NS, Hand

ROOT = Path(__file__).resolve().parents[2]


def a_frame() -> Frame:
    """LIVE, WARMING, STALE_DATA, MISSING, and STALE."""
    source = Hand("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT", "BNBUSDT")
    beat = Beat(source, ObfSettings(max_age_s=1.0), START_NS + 600 * NS_PER_S)
    for k in range(-30, 21):
        now = START_NS + 600 * NS_PER_S + k * 100_000_000
        for name in ("BTCUSDT", "ETHUSDT", "BNBUSDT") if k < 0 else ("BTCUSDT", "ETHUSDT"):
            source.show(name, now, lean=0.01 * k)
        source.show("SOLUSDT", now, depth=0.0)
        source.since["ETHUSDT"] = 1 if k < 0 else now
        frame = beat.take(now)
    return frame


def written(folder: Path) -> FeaturesFile:
    frame = a_frame()
    value = features_file(frame, Standing(QUICK, START_NS).service(frame), "running", file_only=True)
    write_features(folder, value)
    return value


def test_the_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    value = written(tmp_path)
    assert read_features(tmp_path) == value
    assert {name: line.status for name, line in value.assets.items()} == {
        "BTCUSDT": "LIVE",
        "ETHUSDT": "WARMING",
        "SOLUSDT": "STALE_DATA",
        "XRPUSDT": "MISSING",
        "BNBUSDT": "STALE",
    }
    assert value.assets["BTCUSDT"].features is not None
    assert value.assets["SOLUSDT"].features is not None
    assert value.assets["SOLUSDT"].features.depth_quality == 0.0
    for name in ("ETHUSDT", "XRPUSDT", "BNBUSDT"):
        assert value.assets[name].features is None, "nothing that may not be used"
    assert value.market is not None
    assert value.market.assets == 1
    assert (value.mode, value.phase) == ("file_only", "running")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text[:-40],
        lambda text: "",
        lambda text: text.replace('"schema":1', '"schema":2'),
        lambda text: text.replace('"LIVE"', '"FINE"'),
        lambda text: text.replace('"regime_signal":', '"regime_signal":5,"was":'),
        lambda text: text.replace('"bid_notional":[', '"bid_notional":[1.0,'),
        lambda text: text.replace('"phase":"running",', ""),
        lambda text: text.replace('"bar":', '"bar":-'),
    ],
)
def test_a_file_that_is_not_so_is_refused_whole_in_one_line(tmp_path: Path, spoil: object) -> None:
    written(tmp_path)
    path = tmp_path / "latest_ob_features.json"
    spoiled = spoil(path.read_text())  # type: ignore[operator]
    assert spoiled != path.read_text()
    path.write_text(spoiled)
    with pytest.raises(DataError) as caught:
        read_features(tmp_path)
    assert str(caught.value).startswith(f"{path}: not the features that SCHEMA.md")
    assert "\n" not in str(caught.value)


def test_a_missing_file_says_what_to_do(tmp_path: Path) -> None:
    for read in (read_features, read_metrics):
        with pytest.raises(DataError, match=r"cannot be read .*; start `dolphin obf run` with that folder"):
            read(tmp_path)
    (tmp_path / "obf_metrics.json").write_text("{}")
    with pytest.raises(DataError, match="not the metrics of the OBF service"):
        read_metrics(tmp_path)


def test_the_schema_names_every_field_and_stands_in_the_docs(tmp_path: Path) -> None:
    write_schema(tmp_path)
    text = (tmp_path / "SCHEMA.md").read_text()
    assert text == schema_text()
    for struct in (FeaturesFile, AssetLine, BookSnapshot, BookFeatures, BookService, MacroBar):
        for name in struct.__struct_encode_fields__:
            assert name == "_v" or f"`{name}`" in text or f"`service.{name}`" in text, f"{struct.__name__}.{name}"
    page = (ROOT / "docs/obf.md").read_text(encoding="utf-8")
    assert text.partition("\n")[2].strip() in page, "docs/obf.md holds another text than ops/obf/schema.md"


def saved(engine: bytes, **changes: object) -> Saved:
    cat3 = Cat3(book_stale=False, depth_quality=1.1, fill_probability=None)
    value = Saved(saved_ns=START_NS, cadence_ns=QUICK.cadence_ns, cat3=cat3, engine=engine)
    return msgspec.structs.replace(value, **changes)


def engine() -> bytes:
    source = Hand("BTCUSDT")
    beat = Beat(source, QUICK, START_NS)
    source.show_all(START_NS)
    beat.take(START_NS)
    return beat.snapshot()


def test_a_state_comes_back_while_it_is_young(tmp_path: Path) -> None:
    value = saved(engine())
    write_state(tmp_path, value)
    assert read_state(tmp_path, START_NS + 3600 * NS_PER_S, QUICK) == (value, "")
    for now_ns, others, why in (
        (START_NS + 3601 * NS_PER_S, QUICK, "3601 s old; expected up to 3600"),
        (START_NS - 3600 * NS_PER_S, QUICK, "-3600 s old"),
        (START_NS, ObfSettings(cadence_s=0.2), "of version 1 and a beat of 100000000 ns"),
    ):
        found, told = read_state(tmp_path, now_ns, others)
        assert found is None
        assert why in told
    assert read_state(tmp_path / "nowhere", START_NS, QUICK)[0] is None


@settings(max_examples=30)
@given(st.data())
def test_a_torn_state_is_told_and_not_used(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.getbasetemp() / "torn"
    folder.mkdir(exist_ok=True)
    write_state(folder, saved(engine()))
    whole = (folder / STATE_NAME).read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    torn = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] if data.draw(st.booleans()) else whole[:at]
    (folder / STATE_NAME).write_bytes(torn)
    found, why = read_state(folder, START_NS, QUICK)
    assert found is None
    assert "not readable" in why
    write_state(folder, saved(b"not an engine"))
    assert read_state(folder, START_NS, QUICK)[0] is None


def test_latencies_are_of_the_newest() -> None:
    kept = Latencies()
    assert json.loads(msgspec.json.encode(kept.summary())) == {"p50_ms": None, "p99_ms": None, "worst_ms": None}
    kept.add(9.0)
    for k in range(KEPT):
        kept.add(0.001 * (k % 2 + 1))
    summary = kept.summary()
    assert (summary.p50_ms, summary.p99_ms, summary.worst_ms) == (1.5, 2.0, 2.0)
