"""The cache: one writer, many readers, no torn row, nothing of a book that is not right."""

from __future__ import annotations

import math
import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.book.layout import SNAPSHOT
from dolphin.book.providers import BulkProvider
from dolphin.book.snapshots import make_snapshot, no_snapshots
from dolphin.core.errors import DataError
from dolphin.core.records import records
from dolphin.exchange.bands import BookBands, band_checksum
from dolphin.exchange.live.cache import SnapshotCache


def bands(symbol: str, value: float = 1.0) -> BookBands:
    """Bands whose every figure is `value`."""
    row = make_snapshot(value, [value] * 5, [value] * 5, [value] * 5, [value] * 5)
    return BookBands(symbol, row, int(value), 0, value, band_checksum(row), 1.0, 1.0, 7)


def test_the_cache_by_hand() -> None:
    cache = SnapshotCache(["A", "B", "A", "C"])
    assert cache.symbols == ("A", "B", "C")
    assert isinstance(cache, BulkProvider)
    cache.put(bands("B", 5.0), 50)
    cache.put(bands("NOPE", 5.0), 50)
    assert len(cache) == 1
    assert cache.get_snapshot("B", 0.0).bid_notional.tolist() == [5.0] * 5
    assert (cache.received_ns("B"), cache.synced_ns("B")) == (50, 7)
    assert (cache.get_snapshot("A"), cache.received_ns("A"), cache.synced_ns("A")) == (None, 0, 0)
    assert cache.get_snapshot("NOPE") is None
    mids = np.zeros(3)
    cache.mids(mids)
    np.testing.assert_array_equal(mids, [np.nan, 5.0, np.nan])
    cache.mids(mids, ("B", "NOPE", "B"))
    np.testing.assert_array_equal(mids, [5.0, np.nan, 5.0])
    cache.drop("B")
    cache.drop("B")
    cache.drop("NOPE")
    assert cache.get_snapshot("B") is None
    cache.mids(mids)
    assert np.isnan(mids).all()


@pytest.mark.parametrize("make", [lambda t, n: no_snapshots(t, n), lambda t, n: np.zeros((t, n), SNAPSHOT)])
def test_a_block_is_what_single_reads_give_and_what_is_missing_is_left_alone(make) -> None:  # type: ignore[no-untyped-def]
    cache = SnapshotCache(["A", "B", "C"])
    cache.put(bands("A", 1.0), 1)
    cache.put(bands("C", 3.0), 1)
    for assets in (("A", "B", "C"), ("C", "A"), ("C", "C", "NOPE", "B", "A"), ["B", "A", "C"], ("B",), ()):
        block = make(2, len(assets))
        block["bid_depth"] = -1.0
        cache.fill_snapshots(assets, np.array([1.0, 9.0]), block)
        for row in block:
            for asset, got in zip(assets, row, strict=True):
                single = cache.get_snapshot(asset)
                if single is None:
                    assert got["bid_depth"].tolist() == [-1.0] * 5
                else:
                    assert got.tobytes() == single.tobytes()
    cache.put(bands("B", 2.0), 1)
    block = make(1, 3)
    cache.fill_snapshots(cache.symbols, np.array([1.0]), block)
    assert block["timestamp"].tolist() == [[1.0, 2.0, 3.0]]


def test_a_block_of_another_shape_is_refused() -> None:
    cache = SnapshotCache(["A", "B"])
    for bad in (no_snapshots(1, 3), records(SNAPSHOT, 2), np.zeros((1, 2)), no_snapshots(1, 4)[:, ::2]):
        with pytest.raises(DataError, match="snapshots: `out`"):
            cache.fill_snapshots(("A", "B"), np.array([1.0]), bad)
    with pytest.raises(DataError, match="room for 3 prices, but there are 2 symbols"):
        cache.mids(np.zeros(3))


def test_symbols_come_and_go_and_rows_stay() -> None:
    cache = SnapshotCache(["A", "B"])
    cache.put(bands("A", 1.0), 1)
    cache.put(bands("B", 2.0), 1)
    kept = cache.get_snapshot("A")
    cache.set_symbols(["C", "B", "D"])
    assert kept.bid_notional.tolist() == [1.0] * 5, "who has it keeps it"
    assert cache.symbols == ("C", "B", "D")
    assert (cache.get_snapshot("A"), cache.get_snapshot("B").timestamp) == (None, 2.0)
    cache.put(bands("D", 4.0), 1)
    mids = np.zeros(3)
    cache.mids(mids)
    np.testing.assert_array_equal(mids, [np.nan, 2.0, 4.0])
    cache.set_symbols([])
    cache.mids(np.zeros(0))
    cache.mids(mids, ("A", "B", "C"))
    assert np.isnan(mids).all()
    cache.fill_snapshots(("A",), np.array([1.0]), no_snapshots(1, 1))
    assert len(cache) == 0


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_the_cache_is_a_dictionary_of_the_newest(data: st.DataObject) -> None:
    names = ["A", "B", "C", "D"]
    cache, model, symbols = SnapshotCache(names[:2]), dict[str, float](), names[:2]
    for _ in range(data.draw(st.integers(1, 25))):
        symbol = data.draw(st.sampled_from(names))
        match data.draw(st.sampled_from(["put", "drop", "set", "clear"])):
            case "put":
                value = data.draw(st.floats(1.0, 1e9))
                cache.put(bands(symbol, value), 1)
                if symbol in symbols:
                    model[symbol] = value
            case "drop":
                cache.drop(symbol)
                model.pop(symbol, None)
            case "set":
                symbols = data.draw(st.permutations(names))[: data.draw(st.integers(0, 4))]
                cache.set_symbols(symbols)
                model = {name: value for name, value in model.items() if name in symbols}
            case "clear":
                cache.clear()
                model.clear()
        assert cache.symbols == tuple(symbols)
        assert len(cache) == len(model)
        mids = np.zeros(len(names))
        cache.mids(mids, names)
        np.testing.assert_array_equal(mids, [model.get(name, math.nan) for name in names])
        for name in names:
            found = cache.get_snapshot(name)
            assert (None if found is None else float(found.timestamp)) == model.get(name)


def test_no_row_is_ever_read_torn() -> None:
    """Rows whose 21 figures are all the same number: a reader that sees two numbers in one has seen half of a write."""
    count = 300
    names = tuple(f"S{k}" for k in range(count))
    cache = SnapshotCache(names)
    versions = [[msgspec.structs.replace(bands("x", float(v)), symbol=name) for v in (1, 2, 3)] for name in names]
    done = threading.Event()
    wrong: list[str] = []

    def read(assets: tuple[str, ...]) -> None:
        block, mids = no_snapshots(1, len(assets)), np.zeros(len(assets))
        while not done.is_set():
            cache.fill_snapshots(assets, np.array([1.0]), block)
            figures = np.ndarray((len(assets), 21), np.float64, block)
            present = ~np.isnan(figures[:, 0])
            if not (figures[present] == figures[present, :1]).all():
                wrong.append("block")
            single = cache.get_snapshot(assets[7])
            if single is not None and len(set(np.frombuffer(single.tobytes()).tolist())) != 1:
                wrong.append("single")
            cache.mids(mids, assets)

    readers = [threading.Thread(target=read, args=(assets,)) for assets in (names, names[::-1], names[:9])]
    for reader in readers:
        reader.start()
    for round_ in range(60):
        for k in range(count):
            cache.put(versions[k][round_ % 3], round_)
            if k % 50 == 0:
                cache.drop(names[(k + round_) % count])
        if round_ % 20 == 10:
            cache.set_symbols(names[1:] + names[:1])
    done.set()
    for reader in readers:
        reader.join()
    assert wrong == []
