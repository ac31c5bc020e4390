"""The twelve tests that the switch-over document names, under its names (its §7)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.payload import snapshot_key
from dolphin.book.providers import MapBookProvider
from tests.book.cases import Scripted, even, ns, play

near = pytest.approx
pytestmark = pytest.mark.jit_off

# As the document prints it (§2).
PAYLOAD: dict[str, Any] = {
    "timestamp": "2026-03-26T12:34:56.789000+00:00",
    "bid_notional": [1234567.0, 987654.0, 876543.0, 765432.0, 654321.0],
    "ask_notional": [1234567.0, 987654.0, 876543.0, 765432.0, 654321.0],
    "bid_depth": [0.123, 0.456, 0.789, 1.012, 1.234],
    "ask_depth": [0.123, 0.456, 0.789, 1.012, 1.234],
    "_pushed_at": "2026-03-26T12:34:56.901000+00:00",
    "_push_seq": 1711453296901,
}
SECONDS = 1774528496.789  # 2026-03-26T12:34:56.789Z


@pytest.fixture
def provider() -> Scripted:
    return Scripted()


@pytest.fixture
def engine(provider: Scripted) -> OBFeatureEngine:
    return OBFeatureEngine(["BTCUSDT", "ETHUSDT", "SOLUSDT"], provider)


def test_step_live_fetches_snapshots(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 5, BTCUSDT=even(ns(5) / 1e9))
    assert provider.asked == [(asset, ns(5) / 1e9) for asset in ("BTCUSDT", "ETHUSDT", "SOLUSDT")]
    assert engine.counts == {"taken": 1, "repeated": 0, "too_old": 0, "refused": 0}


def test_step_live_populates_placement_cache(engine: OBFeatureEngine, provider: Scripted) -> None:
    assert engine.get_placement("BTCUSDT", 5.0) is None
    play(engine, provider, 5, BTCUSDT=even(ns(5) / 1e9, depth_usd=2e6))
    placement = engine.get_placement("BTCUSDT", 5.0)
    assert placement is not None
    assert placement.depth_1pct_usd == 2e6
    assert placement.depth_quality == 1.0
    assert placement.fill_probability == near(0.62)
    assert placement.spread_proxy_bps == near(8.0)  # a fifth of the book lies within 1 %


def test_step_live_populates_signal_cache(engine: OBFeatureEngine, provider: Scripted) -> None:
    play(engine, provider, 5, BTCUSDT=even(ns(5) / 1e9, lean=0.2))
    play(engine, provider, 6, BTCUSDT=even(ns(6) / 1e9, lean=-0.1, depth_usd=9e5))
    signal = engine.get_signal("BTCUSDT", 6.0)
    assert signal is not None
    assert signal.imbalance == near(-0.1)
    assert signal.imbalance_ma5 == near(0.05)
    assert signal.imbalance_persistence == 0.5
    assert signal.depth_asymmetry == near(-0.1)
    assert signal.withdrawal_velocity == near(-0.1)
    earlier = engine.get_signal("BTCUSDT", 5.0)
    assert earlier is not None
    assert earlier.imbalance == near(0.2)


def test_step_live_market_features(engine: OBFeatureEngine, provider: Scripted) -> None:
    leans = {"BTCUSDT": 0.2, "ETHUSDT": 0.1, "SOLUSDT": -0.3}
    for bar, depth in enumerate([1e6, 6e5]):
        play(engine, provider, bar, **{a: even(ns(bar) / 1e9, depth, lean) for a, lean in leans.items()})
    macro, market = engine.get_macro(), engine.get_market(1.0)
    assert macro is not None
    assert market is not None
    assert macro.median_imbalance == market.median_imbalance == near(0.1)
    assert macro.agreement_pct == market.agreement == near(2 / 3)
    assert market.depth_pressure == near(0.0, abs=1e-12)
    assert macro.cascade_regime == macro.cascade_count == 3  # each lost 40 %
    assert macro.depth_velocity == macro.acceleration == near(-0.4)
    assert macro.regime_signal == 1


def test_step_live_none_snapshot_skipped(engine: OBFeatureEngine, provider: Scripted) -> None:
    _, books = play(engine, provider, 5, BTCUSDT=even(ns(5) / 1e9), ETHUSDT=None)
    assert books.usable.tolist() == [1, 0, 0]
    assert engine.get_placement("ETHUSDT", 5.0) is None
    assert engine.get_signal("ETHUSDT", 5.0) is None
    macro = engine.get_macro(5.0)
    assert macro is not None
    assert macro.agreement == 1.0


def test_step_live_stale_warning(provider: Scripted) -> None:
    told: list[str] = []
    engine = OBFeatureEngine(["BTCUSDT"], provider, on_warning=told.append)
    play(engine, provider, 0, BTCUSDT=even(ns(0) / 1e9))
    for bar in (1, 2):
        play(engine, provider, bar)
    assert (engine.empty_bars, told) == (2, [])
    play(engine, provider, 3)
    assert engine.empty_bars == 3
    assert len(told) == 1
    assert "no new snapshot of any asset for 3 bars" in told[0]
    play(engine, provider, 4)
    assert len(told) == 1, "once a spell"
    play(engine, provider, 5, BTCUSDT=even(ns(5) / 1e9))
    assert engine.empty_bars == 0
    for bar in (6, 7, 8):
        play(engine, provider, bar)
    assert len(told) == 2


def test_step_live_cache_eviction(engine: OBFeatureEngine, provider: Scripted) -> None:
    for bar in range(501):
        play(engine, provider, bar, BTCUSDT=even(ns(bar) / 1e9, depth_usd=1e6 + bar))
        if bar == 499:
            assert engine.get_placement("BTCUSDT", 0) is not None
    assert engine.get_placement("BTCUSDT", 0) is None
    assert engine.get_macro(0) is None
    oldest, newest = engine.get_placement("BTCUSDT", 1), engine.get_placement("BTCUSDT", 500)
    assert oldest is not None
    assert newest is not None
    assert (oldest.depth_1pct_usd, newest.depth_1pct_usd) == (1e6 + 1, 1e6 + 500)


def test_resolve_idx_live_mode(engine: OBFeatureEngine, provider: Scripted) -> None:
    for bar in range(3):
        play(engine, provider, bar, BTCUSDT=even(ns(bar) / 1e9))
    assert [engine.resolve_bar(bar) for bar in (0, 1, 2.0)] == [0, 1, 2]
    assert engine.resolve_bar() == 2


def test_resolve_idx_live_fallback(engine: OBFeatureEngine, provider: Scripted) -> None:
    assert engine.resolve_bar(7) is None
    play(engine, provider, 3, BTCUSDT=even(ns(3) / 1e9, depth_usd=7e5))
    assert engine.resolve_bar(7) == 3
    placement = engine.get_placement("BTCUSDT", 7)
    assert placement is not None
    assert placement.depth_1pct_usd == 7e5
    assert engine.resolve_bar(15) == 3  # twelve bars later
    assert engine.resolve_bar(16) is None
    assert engine.resolve_bar(2) is None, "a later bar must not answer for an earlier one"


def test_median_depth_ema(engine: OBFeatureEngine, provider: Scripted) -> None:
    assert engine.depth_reference("BTCUSDT") is None
    play(engine, provider, 0, BTCUSDT=even(ns(0) / 1e9, depth_usd=1e6))
    assert engine.depth_reference("BTCUSDT") == 1e6
    play(engine, provider, 1, BTCUSDT=even(ns(1) / 1e9, depth_usd=2e6))
    assert engine.depth_reference("BTCUSDT") == near(1.01e6)
    placement = engine.get_placement("BTCUSDT")
    assert placement is not None
    assert placement.depth_quality == near(2e6 / 1.01e6), "the reference moves first"
    for bar in range(2, 900):
        play(engine, provider, bar, BTCUSDT=even(ns(bar) / 1e9, depth_usd=2e6))
    assert engine.depth_reference("BTCUSDT") == near(2e6 - 1e6 * 0.99**899)
    assert engine.depth_reference("BTCUSDT") == near(2e6, rel=1e-3)


def test_hz_ob_provider_timestamp_iso() -> None:
    assert snapshot_key("BTCUSDT") == "asset_BTCUSDT_ob"
    grid = {"asset_BTCUSDT_ob": json.dumps(PAYLOAD)}
    found = MapBookProvider(grid.get).get_snapshot("BTCUSDT")
    assert found is not None
    assert float(found.timestamp) == SECONDS
    assert found.bid_notional.tolist() == PAYLOAD["bid_notional"]
    assert found.ask_depth.tolist() == PAYLOAD["ask_depth"]


def test_hz_ob_provider_timestamp_float() -> None:
    grid = {"asset_BTCUSDT_ob": json.dumps({**PAYLOAD, "timestamp": SECONDS}).encode()}
    found = MapBookProvider(grid.get).get_snapshot("BTCUSDT")
    assert found is not None
    assert float(found.timestamp) == SECONDS
