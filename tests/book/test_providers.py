"""Where snapshots come from: the mock, recorded arrays, and a key-value map with whatever may stand in it (SPEC §8)."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import SNAPSHOT
from dolphin.book.payload import decode_snapshot, normalised_timestamp, seconds_of
from dolphin.book.providers import ArrayBookProvider, BulkProvider, MapBookProvider, MockBookProvider
from dolphin.core.errors import DataError
from tests.book.cases import START_S, Scripted, even, ns
from tests.book.test_hz_ob_provider_live import PAYLOAD

near = pytest.approx


@pytest.mark.parametrize(
    ("asset", "imbalance"),
    [("BTCUSDT", -0.086), ("ETHUSDT", -0.092), ("BNBUSDT", 0.05), ("SOLUSDT", 0.05), ("XRPUSDT", 0.0)],
)
def test_the_mock_leans_as_the_document_says(asset: str, imbalance: float) -> None:
    engine = OBFeatureEngine([asset], MockBookProvider())
    for bar in range(8):
        engine.step_live([asset], bar, ns(bar))
    signal, placement, macro = engine.get_signal(asset), engine.get_placement(asset), engine.get_macro()
    assert signal is not None
    assert placement is not None
    assert macro is not None
    assert signal.imbalance == signal.imbalance_ma5 == near(imbalance)
    assert (signal.imbalance_persistence, signal.withdrawal_velocity) == (1.0, 0.0)
    assert (placement.depth_quality, placement.fill_probability) == (near(1.0), near(0.62))
    assert (macro.cascade_count, macro.depth_velocity, macro.regime_signal) == (0, 0.0, -1), "always calm"


def test_the_mock_is_the_same_every_time() -> None:
    one, other = MockBookProvider().get_snapshot("BTCUSDT", 5.0), MockBookProvider().get_snapshot("BTCUSDT", 5.0)
    assert one.tobytes() == other.tobytes()
    assert one.bid_depth.tolist() == near((one.bid_notional / 100.0).tolist())
    assert len(MockBookProvider().get_all_timestamps("BTCUSDT")) == 0
    assert MockBookProvider(timestamps=[1.0, 2.0]).get_all_timestamps("X").tolist() == [1.0, 2.0]


def test_providers_with_a_history_answer_in_bulk() -> None:
    assert isinstance(MockBookProvider(), BulkProvider)
    assert isinstance(ArrayBookProvider({}), BulkProvider)
    assert not isinstance(Scripted(), BulkProvider)


def test_an_array_answers_with_the_latest_at_or_before() -> None:
    provider = ArrayBookProvider({"A": np.array([even(10.0), even(20.0)]).view(np.recarray)})
    answers = [provider.get_snapshot("A", ts) for ts in (9.9, 10.0, 19.9, 20.0, math.inf)]
    assert [None if s is None else float(s.timestamp) for s in answers] == [None, 10.0, 10.0, 20.0, 20.0]
    assert provider.get_snapshot("B", 20.0) is None
    assert provider.get_all_timestamps("A").tolist() == [10.0, 20.0]
    assert len(provider.get_all_timestamps("B")) == 0


@pytest.mark.parametrize(
    ("times", "row"), [([1.0, 1.0], 1), ([2.0, 1.0], 1), ([math.nan], 0), ([1.0, math.nan], 1), ([1.0, math.inf], 1)]
)
def test_an_array_refuses_stamps_that_do_not_increase(times: list[float], row: int) -> None:
    rows = np.zeros(len(times), SNAPSHOT).view(np.recarray)
    rows["timestamp"] = times
    with pytest.raises(DataError, match=f"book snapshots of A: timestamp .* in row {row}; expected finite seconds"):
        ArrayBookProvider({"A": rows})


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:10+00:00", 10.0),
        ("2024-01-01T00:00:00Z", float(START_S)),
        ("2024-01-01T01:00:00+01:00", float(START_S)),
        ("2024-01-01T00:00:00.250000", START_S + 0.25),
    ],
)
def test_iso_becomes_seconds(text: str, seconds: float) -> None:
    assert normalised_timestamp(text) == seconds


def test_nanoseconds_become_the_nearest_second_in_floating_point() -> None:
    for stamp in (START_S, START_S + 0.1, START_S + 0.7, 1774528496.789):
        assert seconds_of(round(stamp * 1e3) * 1_000_000) == stamp


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in PAYLOAD.items() if key != name}


@pytest.mark.parametrize(
    "value",
    [
        *(without(name) for name in ("timestamp", "bid_notional", "ask_notional", "bid_depth", "ask_depth")),
        {**PAYLOAD, "bid_notional": [1.0] * 4},
        {**PAYLOAD, "ask_depth": [1.0] * 6},
        {**PAYLOAD, "ask_notional": [1.0, 1.0, None, 1.0, 1.0]},
        {**PAYLOAD, "ask_notional": [1.0, 1.0, "1", 1.0, 1.0]},
        {**PAYLOAD, "bid_notional": [1.0, 1.0, -1.0, 1.0, 1.0]},
        {**PAYLOAD, "timestamp": "yesterday"},
        {**PAYLOAD, "timestamp": 1774528496789.0},
        {**PAYLOAD, "timestamp": -1.0},
        {**PAYLOAD, "timestamp": None},
        [],
    ],
)
def test_a_value_that_is_no_snapshot_is_refused_and_counted(value: Any) -> None:
    provider = MapBookProvider({"asset_A_ob": json.dumps(value)}.get)
    assert provider.get_snapshot("A") is None
    assert provider.get_snapshot("B") is None
    assert provider.refused == 1
    assert provider.last_refusal is not None
    assert provider.last_refusal.startswith("asset_A_ob: ")
    assert "\n" not in provider.last_refusal
    assert len(provider.get_all_timestamps("A")) == 0


@pytest.mark.parametrize("text", [b"", b"{", b"\xff\xfe", '{"timestamp": NaN}'])
def test_what_is_no_json_is_refused(text: bytes | str) -> None:
    with pytest.raises(DataError, match="snapshot: not an order-book snapshot"):
        decode_snapshot(text)


def test_a_map_can_feed_the_engine() -> None:
    grid: dict[str, str] = {}
    engine = OBFeatureEngine(["BTCUSDT"], MapBookProvider(grid.get))
    for bar in range(10):
        grid["asset_BTCUSDT_ob"] = json.dumps({**PAYLOAD, "timestamp": START_S + float(bar)})
        engine.step_live(["BTCUSDT"], bar, ns(bar))
    placement = engine.get_placement("BTCUSDT", 9)
    assert placement is not None
    assert placement.fill_probability == near(0.62)
