"""The grid's books in a trader's own memory: what is taken, what is refused, what a lookup costs (SPEC §8, §22)."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.providers import BulkProvider, MapBookProvider
from dolphin.book.snapshots import no_snapshots
from dolphin.core.errors import GridError
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.memory import MemoryGrid
from dolphin.trade.hzob import HZOBProvider

NOW_S = 1_774_528_500.0
KEY = "asset_BTCUSDT_ob"


def payload(stamp: float | str = NOW_S, **changes: Any) -> bytes:
    bands = {name: [5.0, 4.0, 3.0, 2.0, 1.0] for name in ("bid_notional", "ask_notional", "bid_depth", "ask_depth")}
    return json.dumps(
        {"timestamp": stamp, **bands, "_pushed_at": "2026-03-26T12:35:00Z", "_push_seq": 1, **changes}
    ).encode()


def put(grid: MemoryGrid, value: bytes, asset: str = "BTCUSDT") -> None:
    grid.put("DOLPHIN_FEATURES", f"asset_{asset}_ob", value)


@pytest.fixture
def grid() -> MemoryGrid:
    return MemoryGrid()


@pytest.fixture
def provider(grid: MemoryGrid) -> Iterator[HZOBProvider]:
    one = HZOBProvider(grid, refresh_s=None, clock=lambda: int(NOW_S) * 1_000_000_000)
    yield one
    one.close()


def test_iso_and_float_stamps_mean_the_same(grid: MemoryGrid, provider: HZOBProvider) -> None:
    put(grid, payload("2026-03-26T12:34:56.789000+00:00"))
    put(grid, payload(1774528496.789), "ETHUSDT")
    rows = [provider.get_snapshot(asset, NOW_S) for asset in ("BTCUSDT", "ETHUSDT")]
    assert rows[0].timestamp == rows[1].timestamp == 1774528496.789
    assert provider.get_snapshot("SOLUSDT", NOW_S) is None
    assert list(provider.get_all_timestamps("BTCUSDT")) == []
    assert isinstance(provider, BulkProvider)


def test_what_was_there_before_and_what_comes_are_both_known(grid: MemoryGrid) -> None:
    put(grid, payload(NOW_S))
    provider = HZOBProvider(grid, refresh_s=None, clock=lambda: int(NOW_S) * 1_000_000_000)
    assert provider.get_snapshot("BTCUSDT", NOW_S).timestamp == NOW_S
    put(grid, payload(NOW_S + 1))
    assert provider.get_snapshot("BTCUSDT", NOW_S + 1).timestamp == NOW_S + 1
    provider.close()
    put(grid, payload(NOW_S + 2))
    assert provider.get_snapshot("BTCUSDT", NOW_S + 1).timestamp == NOW_S + 1, "hears no more after close"
    assert grid.listeners == 0


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"{", "not an order-book snapshot"),
        (b"", "not an order-book snapshot"),
        (b"\xff\xfe", "not an order-book snapshot"),
        (payload(bid_depth=[1.0, 2.0, -3.0, 4.0, 5.0]), "not an order-book snapshot"),
        (payload(ask_notional=[1.0, 2.0, 3.0, 4.0]), "not an order-book snapshot"),
        (payload(ask_notional=[1.0] * 6), "not an order-book snapshot"),
        (payload(ask_notional=[0.0] * 5), "has a depth and no notional"),
        (payload(bid_notional=[1e16] * 5), "a band that is no amount"),
        (payload(NOW_S + 3600.0), "3600 s ahead of the clock"),
        (payload(1774528496789), "no time in seconds"),
        (payload("yesterday"), "is not a time"),
    ],
)
def test_a_wrong_value_is_refused_counted_and_never_half_used(
    grid: MemoryGrid, provider: HZOBProvider, value: bytes, said: str
) -> None:
    put(grid, payload(NOW_S - 1))
    put(grid, value)
    assert provider.get_snapshot("BTCUSDT", NOW_S) is None
    assert (provider.counts["refused"], provider.counts["taken"]) == (1, 1)
    assert KEY in provider.last_refusal
    assert said in provider.last_refusal
    for _ in range(3):
        provider.refresh()
    assert provider.counts["refused"] == 1, "the same value is counted once"
    put(grid, payload(NOW_S))
    assert provider.get_snapshot("BTCUSDT", NOW_S).timestamp == NOW_S


def test_old_ones_and_those_from_the_future_are_none(grid: MemoryGrid, provider: HZOBProvider) -> None:
    put(grid, payload(NOW_S))
    for ts, known in ((NOW_S - 61, False), (NOW_S - 60, True), (NOW_S + 60, True), (NOW_S + 60.01, False)):
        assert (provider.get_snapshot("BTCUSDT", ts) is not None) == known
        out = no_snapshots(1, 2)
        provider.fill_snapshots(("ETHUSDT", "BTCUSDT"), np.array([ts]), out)
        assert np.isnan(out["timestamp"]).tolist() == [[True, not known]]


def test_time_does_not_go_back(grid: MemoryGrid, provider: HZOBProvider) -> None:
    put(grid, payload(NOW_S))
    put(grid, payload(NOW_S - 5, bid_notional=[9.0] * 5))
    assert provider.get_snapshot("BTCUSDT", NOW_S).bid_notional[0] == 5.0
    assert provider.counts == {"taken": 1, "refused": 0, "older": 1}


def test_a_deleted_book_is_gone(grid: MemoryGrid, provider: HZOBProvider) -> None:
    put(grid, payload(NOW_S))
    grid.delete("DOLPHIN_FEATURES", KEY)
    assert provider.get_snapshot("BTCUSDT", NOW_S) is None


class Deaf(MemoryGrid):
    """A grid whose watch tells nothing."""

    def watch(self, name: str, watcher: Any, key: str | None = None) -> Any:
        return super().watch("NOTHING", watcher, key)


def test_what_the_watch_missed_is_read_again() -> None:
    grid = Deaf()
    provider = HZOBProvider(grid, refresh_s=None, clock=lambda: int(NOW_S) * 1_000_000_000)
    put(grid, payload(NOW_S))
    assert provider.get_snapshot("BTCUSDT", NOW_S) is None
    assert provider.refresh() == provider.found == 1
    assert provider.get_snapshot("BTCUSDT", NOW_S) is not None
    assert provider.refresh() == 0
    grid.delete("DOLPHIN_FEATURES", KEY)
    provider.refresh()
    assert provider.get_snapshot("BTCUSDT", NOW_S) is None
    provider.close()


def test_it_reads_again_by_itself() -> None:
    grid, read = Deaf(), threading.Event()
    provider = HZOBProvider(grid, refresh_s=0.01, clock=lambda: int(NOW_S) * 1_000_000_000)
    put(grid, payload(NOW_S))
    for _ in range(6000):
        if provider.get_snapshot("BTCUSDT", NOW_S) is not None:
            read.set()
            break
        read.wait(0.01)
    assert read.is_set()
    provider.close()


def test_a_grid_that_goes_away_costs_nothing_that_is_known(grid: MemoryGrid, provider: HZOBProvider) -> None:
    put(grid, payload(NOW_S))
    grid.put("DOLPHIN_FEATURES_SHARD_05", "ETHUSDT", b"{}")
    grid.put("DOLPHIN_FEATURES_SHARD_05", "vel_div_XRPUSDT", b"0.1")
    assert provider.get_assets() == ["BTCUSDT", "ETHUSDT"]
    grid.fail = True
    assert provider.refresh() == 0
    assert provider.grid_failures == 1
    assert provider.get_snapshot("BTCUSDT", NOW_S) is not None
    assert provider.get_assets() == ["BTCUSDT"]
    with pytest.raises(GridError):
        HZOBProvider(grid)


def test_looking_it_up_never_asks_the_grid(grid: MemoryGrid, provider: HZOBProvider) -> None:
    put(grid, payload(NOW_S))
    grid.fail = True
    failures = grid.health().failures
    out = no_snapshots(1, 1)
    for _ in range(1000):
        assert provider.get_snapshot("BTCUSDT", NOW_S) is not None
        provider.fill_snapshots(("BTCUSDT",), np.array([NOW_S]), out)
    assert grid.health().failures == failures


@given(
    st.lists(
        st.one_of(
            st.floats(NOW_S - 50, NOW_S).map(payload),
            st.sampled_from([b"", b"nonsense", payload(bid_notional=[1.0]), payload("soon")]),
        ),
        min_size=1,
        max_size=30,
    )
)
def test_it_knows_what_the_plain_reader_would_read(values: list[bytes]) -> None:
    """As long as stamps increase, both see the same book; a wrong value is no book for either."""
    grid = MemoryGrid()
    provider = HZOBProvider(grid, refresh_s=None, clock=lambda: int(NOW_S) * 1_000_000_000)
    plain = MapBookProvider(lambda key: grid.get("DOLPHIN_FEATURES", key))
    newest = -math.inf
    for value in values:
        put(grid, value)
        expected, found = plain.get_snapshot("BTCUSDT"), provider.get_snapshot("BTCUSDT", NOW_S)
        if expected is None:
            assert found is None
        elif expected.timestamp >= newest:
            newest = float(expected.timestamp)
            assert found.tobytes() == expected.tobytes()
        else:
            assert found is None or found.timestamp == newest
    provider.close()


def test_the_engine_of_features_goes_by_it(tmp_path: Path) -> None:
    grid = EmbeddedGrid(tmp_path / "grid")
    provider = HZOBProvider(grid, clock=lambda: int(NOW_S) * 1_000_000_000)
    engine = OBFeatureEngine(["BTCUSDT"], provider)
    heard = threading.Event()
    grid.watch("DOLPHIN_FEATURES", lambda event: heard.set())
    grid.put("DOLPHIN_FEATURES", KEY, payload(NOW_S))
    assert heard.wait(60.0)
    for _ in range(6000):
        if provider.counts["taken"]:
            break
        threading.Event().wait(0.01)
    market, books = engine.step_live(["BTCUSDT"], 0, int(NOW_S) * 1_000_000_000)
    assert market.usable == books[0].usable == 1
    provider.close()
    grid.close()
