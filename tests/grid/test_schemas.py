"""Every key of the documents is in the catalogue, its examples decode, and nothing wrong is half-used (SPEC §14)."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.book.payload import decode_snapshot, snapshot_key
from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import Posture
from dolphin.core.errors import DataError, GridError
from dolphin.core.params import champion_hash
from dolphin.grid import schemas, table
from dolphin.grid import values as v
from dolphin.grid.embedded import FAST_MAPS
from dolphin.grid.schemas import CATALOGUE, Decoded, Entry, find

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = [json.loads(line) for line in (Path(__file__).parent / "golden/v1.jsonl").read_text().splitlines()]


def wire(golden: dict[str, Any]) -> bytes:
    return golden["text"].encode() if "text" in golden else json.dumps(golden["value"]).encode()


def entry_of(golden: dict[str, Any]) -> Entry[Any]:
    found = find(golden["map"], golden["key"])
    assert found is not None, golden
    return found


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda one: f"{one['map']}-{one['key']}")
def test_documented_examples_still_decode_and_come_back_the_same(golden: dict[str, Any]) -> None:
    entry, counts = entry_of(golden), Decoded()
    value = entry.decode(wire(golden), counts)
    assert (counts.decoded, counts.refused) == (1, 0)
    again = entry.encode(value)
    if "text" in golden:
        assert again == wire(golden)
        assert entry.decode(b'"' + again + b'"') == value, "as a JSON string too"
    elif isinstance(golden["value"], dict):
        known = {name: part for name, part in golden["value"].items() if entry.fields and name in entry.fields}
        assert json.loads(again) == known, "on the wire as documented, nothing added"
        assert counts.unknown_fields == len(golden["value"]) - len(known)
    else:
        assert json.loads(again) == golden["value"]


def test_every_entry_has_an_example() -> None:
    assert {id(entry_of(one)) for one in GOLDEN} == {id(entry) for entry in CATALOGUE}


@pytest.mark.parametrize(
    "golden", [one for one in GOLDEN if isinstance(one.get("value"), dict)], ids=lambda o: o["key"]
)
def test_a_field_that_is_missing_or_of_the_wrong_kind_is_refused(golden: dict[str, Any]) -> None:
    entry, counts = entry_of(golden), Decoded()
    struct = type(entry.decode(wire(golden)))
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    required = [item.encode_name for item in info.fields if item.required]
    assert required
    bad = [{k: w for k, w in golden["value"].items() if k != name} for name in required]
    bad += [{**golden["value"], name: {"wrong": []}} for name in golden["value"] if name in (entry.fields or ())]
    for value in bad:
        with pytest.raises(GridError, match="refused: ") as caught:
            entry.decode(json.dumps(value).encode(), counts)
        assert "\n" not in str(caught.value)
        assert str(entry) in str(caught.value)
        assert counts.last_refusal == str(caught.value)
    assert (counts.decoded, counts.refused) == (0, len(bad))


SAFE = {"posture": "APEX", "Rm": 0.9, "sensors": {}}
BOOK = GOLDEN[19]["value"]
SCAN = GOLDEN[6]["value"]
WRONG: list[tuple[Entry[Any], str]] = [
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "posture": "apex"})),
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "posture": 0})),
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "Rm": 1.01})),
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "Rm": None})),
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "sensors": {"Cat1": 2.0}})),
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "_v": 2})),
    (schemas.SAFETY_LATEST, json.dumps({**SAFE, "_v": 0})),
    (schemas.KILL_SWITCH, '{"engaged": 1, "reason": "x", "by": "y", "updated_at": "2026-01-01T00:00"}'),
    (schemas.KILL_SWITCH, '{"engaged": true, "reason": "", "by": "y", "updated_at": "2026-01-01T00:00"}'),
    (schemas.KILL_SWITCH, '{"engaged": true, "reason": "x", "by": "y", "updated_at": "yesterday"}'),
    (schemas.ACB_BOOST, '{"boost": 0.99, "beta": 0.2}'),
    (schemas.ACB_BOOST, '{"boost": 3.01, "beta": 0.2}'),
    (schemas.ACB_BOOST, '{"boost": 1.5, "beta": 1.1}'),
    (schemas.ACB_BOOST, '{"boost": NaN, "beta": 0.2}'),
    (schemas.ACB_BOOST, '{"boost": Infinity, "beta": 0.2}'),
    (schemas.ACB_BOOST, '{"boost": 1e999, "beta": 0.2}'),
    (schemas.ACB_BOOST, '{"boost": true, "beta": 0.2}'),
    (schemas.ACB_BOOST, '{"boost": 1.5, "beta": 0.2} {}'),
    (schemas.ACB_BOOST, "[1.5, 0.2]"),
    (schemas.ACB_BOOST, ""),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "assets": ["BTCUSDT"]})),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "assets": ["BTCUSDT", "BTCUSDT"]})),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "assets": ["BTCUSDT", "ethusdt"]})),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "asset_loadings": [0.1]})),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "scan_number": -1})),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "scan_number": 1.5})),
    (schemas.LATEST_SCAN, json.dumps({**SCAN, "bar_seconds": 0})),
    (schemas.ASSET_BOOK, json.dumps({**BOOK, "bid_notional": [1, 2, 3, 4]})),
    (schemas.ASSET_BOOK, json.dumps({**BOOK, "ask_depth": [1, 2, 3, 4, -5]})),
    (schemas.ASSET_BOOK, json.dumps({**BOOK, "timestamp": 1774528496789})),
    (schemas.NAUTILUS_STATE, json.dumps({**GOLDEN[11]["value"], "param_hash": "3E85F242030EFB87"})),
    (schemas.PAPER_STATE, json.dumps({**GOLDEN[10]["value"], "engine_state": "not base64!"})),
    (schemas.LEFT_BEHIND, '{"instrument": "x", "quantity": "1e5", "orders": []}'),
    (schemas.SHARD_FEATURE, '"0.5"'),
    (schemas.PROBE, "soon"),
    (schemas.PROBE, '2026-03-23T00:10"'),
]


@pytest.mark.parametrize(("entry", "text"), WRONG)
def test_values_out_of_range_are_refused(entry: Entry[Any], text: str) -> None:
    counts = Decoded()
    with pytest.raises(GridError, match="refused: ") as caught:
        entry.decode(text.encode(), counts)
    assert len(str(caught.value)) < 400
    assert counts.refused == 1


@given(st.binary(max_size=200))
def test_no_bytes_do_more_than_be_refused(data: bytes) -> None:
    for entry in CATALOGUE:
        counts = Decoded()
        try:
            entry.decode(data, counts)
        except GridError:
            assert (counts.decoded, counts.refused) == (0, 1)
        else:
            assert (counts.decoded, counts.refused) == (1, 0)


def test_no_value_at_all_is_refused() -> None:
    with pytest.raises(GridError, match="there is no value"):
        schemas.LATEST_SCAN.decode(None)


def test_what_would_not_decode_is_not_written() -> None:
    for value in (v.AcbBoost(boost=9.0, beta=0.2), v.AcbBoost(boost=math.nan, beta=0.2), {"boost": 1.0}, 3, object()):
        with pytest.raises(GridError, match=r"^DOLPHIN_FEATURES\['acb_boost'\]: not written: "):
            schemas.ACB_BOOST.encode(value)  # type: ignore[arg-type]


def test_nan_is_null_where_it_may_be() -> None:
    scan = schemas.LATEST_SCAN.decode(json.dumps(SCAN).encode())
    data = schemas.LATEST_SCAN.encode(msgspec.structs.replace(scan, vel_div=math.nan, asset_prices=[1.0, math.inf]))
    assert json.loads(data)["vel_div"] is None
    assert json.loads(data)["asset_prices"] == [1.0, None]


def test_the_first_version_says_nothing_of_itself() -> None:
    data = schemas.ACB_BOOST.encode(v.AcbBoost(boost=1.5, beta=0.8))
    assert data == b'{"boost":1.5,"beta":0.8}'
    assert schemas.ACB_BOOST.decode(b'{"_v":1,"boost":1.5,"beta":0.8}').boost == 1.5


# --- the catalogue


def test_keys_are_found_and_filled_in() -> None:
    assert schemas.DAY_RESULT.at(COLOR="BLUE", date="2026-03-21") == ("DOLPHIN_PNL_BLUE", "2026-03-21")
    assert schemas.SHARD_FEATURE.at(NN="03", feature="vel_div", SYMBOL="BTCUSDT")[1] == "vel_div_BTCUSDT"
    assert schemas.ASSET_BOOK.at(SYMBOL="1000SHIBUSDT")[1] == snapshot_key("1000SHIBUSDT")
    for places in ({"COLOR": "RED", "date": "2026-03-21"}, {"COLOR": "BLUE"}, {"COLOR": "BLUE", "date": "21.3."}):
        with pytest.raises(GridError, match="expected "):
            schemas.DAY_RESULT.at(**places)


@pytest.mark.parametrize(
    ("name", "key", "entry"),
    [
        ("DOLPHIN_STATE_GREEN", "latest", schemas.PAPER_STATE),
        ("DOLPHIN_HEARTBEAT", "nautilus_flow_heartbeat", schemas.FLOW_HEARTBEAT),
        ("DOLPHIN_HEARTBEAT", "probe_ts", schemas.PROBE),
        ("DOLPHIN_FEATURES_SHARD_09", "BTCUSDT", schemas.SHARD_BOOK),
        ("DOLPHIN_PNL_BLUE", "2026-03-21_nautilus", schemas.ENGINE_RESULT),
        ("DOLPHIN_FEATURES_SHARD_10", "BTCUSDT", None),
        ("DOLPHIN_FEATURES", "asset_btc_ob", None),
        ("DOLPHIN_SAFETY", "latest ", None),
        ("DOLPHIN_SAFETY", "latest\n", None),
        ("OTHER", "latest", None),
    ],
)
def test_find(name: str, key: str, entry: Entry[Any] | None) -> None:
    assert find(name, key) is entry


def test_shards_are_those_of_the_documents() -> None:
    for symbol in ("BTCUSDT", "ETHUSDT", "1000SHIBUSDT", "A"):
        total = 0
        for character in symbol:
            total += ord(character)
        assert schemas.shard_of(symbol) == total % 10
        assert schemas.shard_map(symbol) == f"DOLPHIN_FEATURES_SHARD_0{total % 10}"
    assert schemas.shard_of("BTCUSDT") == (66 + 84 + 67 + 85 + 83 + 68 + 84) % 10 == 7


def test_discovery_counts_symbols_only() -> None:
    keys = ["vel_div_BTCUSDT", "ETHUSDT", "BTCUSDT", "1000SHIBUSDT", "btcusdt", "asset_BTCUSDT_ob", ""]
    assert schemas.symbols_in(keys) == ["1000SHIBUSDT", "BTCUSDT", "ETHUSDT"]


def test_names_agree_with_the_rest_of_the_house() -> None:
    assert set(v.PostureName.__args__) == {posture.name for posture in Posture}  # type: ignore[attr-defined]
    assert len(champion_hash()) == 16
    stamp = ns_to_iso(1_774_267_200_123_456_789)
    assert schemas.PROBE.decode(schemas.PROBE.encode(stamp)) == stamp
    assert schemas.PROBE.decode(b"2026-03-23T00:10:00.250000+00:00")


def test_maps_that_need_not_be_durable_are_those_written_all_the_time() -> None:
    for entry in CATALOGUE:
        lossy = entry.name in FAST_MAPS or entry.name.startswith("DOLPHIN_FEATURES_SHARD_")
        assert lossy == entry.name.startswith(("DOLPHIN_FEATURES", "DOLPHIN_HEARTBEAT", "DOLPHIN_OB", "DOLPHIN_SIGN"))


@pytest.mark.parametrize("golden", [GOLDEN[18], GOLDEN[19]], ids=lambda one: one["map"])
def test_the_book_reads_what_the_schema_reads(golden: dict[str, Any]) -> None:
    good = golden["value"]
    snapshot = decode_snapshot(json.dumps(good))
    value = schemas.ASSET_BOOK.decode(json.dumps(good).encode())
    assert list(snapshot.bid_notional) == value.bid_notional
    assert list(snapshot.ask_depth) == value.ask_depth
    for bad in ({**good, "bid_depth": [1]}, {**good, "ask_notional": [1, 2, 3, 4, -1]}, {**good, "timestamp": "soon"}):
        with pytest.raises(DataError):
            decode_snapshot(json.dumps(bad))
        with pytest.raises(GridError):
            schemas.ASSET_BOOK.decode(json.dumps(bad).encode())


# --- the documents' MarketSnapshot


def test_market_snapshot_of_the_documents_scan() -> None:
    scan = schemas.LATEST_SCAN.decode(json.dumps(GOLDEN[5]["value"]).encode())
    snapshot = schemas.market_snapshot(scan)
    assert snapshot == v.MarketSnapshot(
        timestamp=datetime(2026, 3, 23, 12, 0, tzinfo=UTC),
        symbol="BTCUSDT",
        price=71281.03,
        eigenvalues=[],
        velocity_divergence=-0.0058,
        scan_number=7315,
    )
    with pytest.raises(GridError, match="scan 7315 has no price of ETHUSDT"):
        schemas.market_snapshot(scan, "ETHUSDT")


def test_market_snapshot_of_another_asset() -> None:
    scan = schemas.LATEST_SCAN.decode(json.dumps(SCAN).encode())
    snapshot = schemas.market_snapshot(scan, "ETHUSDT")
    assert math.isnan(snapshot.price)
    assert math.isnan(snapshot.velocity_divergence)
    assert snapshot.eigenvalues[0] == 0.71
    assert math.isnan(snapshot.eigenvalues[1])


# --- the page


def test_the_page_has_the_tables_of_the_types() -> None:
    page = (ROOT / "docs/grid.md").read_text(encoding="utf-8")
    assert table.markdown() in page, "run scripts/grid-table"
