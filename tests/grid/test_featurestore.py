"""The sharded feature store: routing, keys, values, discovery (SPEC §8; the Bible's §15.2 to §15.4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import GridError
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.featurestore import SHARD_MAPS, ShardedFeatureStore
from dolphin.grid.memory import MemoryGrid
from dolphin.grid.port import Grid
from dolphin.grid.schemas import SHARD_BOOK, SHARD_FEATURE, shard_of
from dolphin.grid.values import BookFeatures

SYMBOLS = st.from_regex(r"[A-Z0-9]{1,12}", fullmatch=True)
FEATURES = st.from_regex(r"[a-z][a-z0-9_]{0,12}", fullmatch=True)
VALUES = st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False))


@pytest.fixture(params=["memory", "embedded"])
def grid(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Grid]:
    made: Grid = MemoryGrid() if request.param == "memory" else EmbeddedGrid(tmp_path / "grid")
    yield made
    made.close()


def test_the_documents_example(grid: Grid) -> None:
    store = ShardedFeatureStore(grid)
    store.put("BTCUSDT", "vel_div", -0.03)
    assert store.get("BTCUSDT", "vel_div") == -0.03
    # B 66 + T 84 + C 67 + U 85 + S 83 + D 68 + T 84 = 537: shard 7.
    assert grid.get("DOLPHIN_FEATURES_SHARD_07", "vel_div_BTCUSDT") == b"-0.03"
    assert store.delete("BTCUSDT", "vel_div")
    assert store.get("BTCUSDT", "vel_div") is None
    assert store.get("BTCUSDT", "vel_div", 1.5) == 1.5
    assert not store.delete("BTCUSDT", "vel_div")


def test_every_process_routes_alike(grid: Grid) -> None:
    one, two = ShardedFeatureStore(grid), ShardedFeatureStore(grid)
    one.put_many("1000PEPEUSDT", {"a": 1.0, "b": None, "a_b": 2.0})
    one.put_many("1000PEPEUSDT", {})
    assert [two.get("1000PEPEUSDT", name) for name in ("a", "b", "a_b")] == [1.0, None, 2.0]
    assert two.get("1000PEPEUSDT", "b", 7.0) is None, "known to be unknown is not absent"
    assert two.features("1000PEPEUSDT") == ["a", "a_b", "b"]
    assert two.features("PEPEUSDT") == []


def test_four_hundred_assets_share_ten_maps() -> None:
    shares = Counter(shard_of(f"{a}{b}USDT") for a in "ABCDEFGHIJKLMNOPQRST" for b in "ABCDEFGHIJKLMNOPQRST")
    assert len(shares) == len(SHARD_MAPS) == 10
    assert max(shares.values()) <= 2 * min(shares.values())


def test_assets_are_found_without_a_list(grid: Grid) -> None:
    store = ShardedFeatureStore(grid)
    assert store.symbols() == ()
    book = BookFeatures(imbalance=0.1, fill_probability=0.62, depth_quality=1.0, regime_signal=0)
    for symbol in ("ETHUSDT", "BTCUSDT", "1000PEPEUSDT"):
        grid.put(*SHARD_BOOK.at(SYMBOL=symbol, NN=f"{shard_of(symbol):02d}"), SHARD_BOOK.encode(book))
    store.put("SOLUSDT", "vel_div", 0.5)  # a number is no order book
    assert store.symbols() == ("1000PEPEUSDT", "BTCUSDT", "ETHUSDT")


@given(st.dictionaries(st.tuples(SYMBOLS, FEATURES), VALUES, max_size=20))
def test_it_is_a_dictionary(model: dict[tuple[str, str], float | None]) -> None:
    store = ShardedFeatureStore(MemoryGrid())
    for (symbol, feature), value in model.items():
        store.put(symbol, feature, value)
    for (symbol, feature), value in model.items():
        assert store.get(symbol, feature, -1.0) == value
        assert feature in store.features(symbol)


@pytest.mark.parametrize(
    ("symbol", "feature"),
    [("", "a"), ("btcusdt", "a"), ("BTCUSDT", ""), ("BTCUSDT", "A"), ("BTC-USDT", "a"), ("BTCUSDT", "1a")],
)
def test_names_that_are_none(grid: Grid, symbol: str, feature: str) -> None:
    with pytest.raises(GridError) as caught:
        ShardedFeatureStore(grid).put(symbol, feature, 1.0)
    assert "\n" not in str(caught.value)
    assert all(grid.keys(name) == [] for name in SHARD_MAPS)


@pytest.mark.parametrize("value", [b"", b"{}", b'"1.5"', b"NaN", b"[1.5]", b"\xff"])
def test_what_is_no_number_is_refused_and_counted(grid: Grid, value: bytes) -> None:
    store = ShardedFeatureStore(grid)
    grid.put(*SHARD_FEATURE.at(SYMBOL="BTCUSDT", NN="07", feature="a"), value)
    with pytest.raises(GridError, match="refused"):
        store.get("BTCUSDT", "a")
    assert store.counts.refused == 1


def test_a_number_that_is_none_is_written_as_unknown(grid: Grid) -> None:
    store = ShardedFeatureStore(grid)
    store.put("BTCUSDT", "a", float("nan"))
    assert store.get("BTCUSDT", "a", 3.0) is None
    store.put("BTCUSDT", "a", float("inf"))
    assert store.get("BTCUSDT", "a", 3.0) is None
