"""The order-book service on a running exchange: stream → books → features → grid → a trader's book (SPEC §8, §19)."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.snapshots import no_snapshots
from dolphin.core.clock import system_clock_ns
from dolphin.core.errors import ConfigError
from dolphin.exchange.live.books import LiveBooks
from dolphin.exchange.sim.server import SimExchange
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.featurestore import ShardedFeatureStore
from dolphin.grid.schemas import shard_map
from dolphin.market.bookarchive import BookArchive
from dolphin.ops.obf.featuresfile import read_features
from dolphin.ops.obf.livesource import LiveSource
from dolphin.ops.obf.metrics import read_metrics
from dolphin.trade.hzob import HZOBProvider
from dolphin.ui.cli import run
from tests.support.live import options, until, venue
from tests.support.loopback import BTC, DOGE, ETH, market

Capture = pytest.CaptureFixture[str]


def exchange() -> SimExchange:
    return SimExchange(market(BTC, DOGE, ETH))


def stamps(source: LiveSource) -> list[float]:
    """Of each of the source's assets, NaN without a snapshot."""
    rows = no_snapshots(1, len(source.symbols))
    source.fill_snapshots(source.symbols, np.zeros(1), rows)
    return [float(stamp) for stamp in rows["timestamp"][0]]


def test_assets_come_and_never_go() -> None:
    with venue(exchange) as at, LiveBooks(at.endpoints, ["BTCUSDT", "DOGEUSDT"], options()) as live:
        source = LiveSource(live)
        assert source.symbols == ("BTCUSDT", "DOGEUSDT")
        assert live.wait_synced(60.0)
        assert not np.isnan(stamps(source)).any()
        assert min(source.synced_ns(symbol) for symbol in source.symbols) > 0
        live.remove(["BTCUSDT"])
        assert source.symbols == ("BTCUSDT", "DOGEUSDT")
        assert np.isnan(stamps(source)).tolist() == [True, False]
        assert source.synced_ns("BTCUSDT") == 0
        source.add(["ETHUSDT"])
        assert source.symbols == ("BTCUSDT", "DOGEUSDT", "ETHUSDT")
        until(lambda: not np.isnan(stamps(source)[2]))
        source.add(["BTCUSDT"])
        assert source.symbols == ("BTCUSDT", "DOGEUSDT", "ETHUSDT")
        until(lambda: not np.isnan(stamps(source)).any())
        with pytest.raises(ConfigError, match="NOSUCHUSDT"):
            source.add(["NOSUCHUSDT"])
        counts = source.counts()
        assert counts["messages"] >= counts["applied"] > 0
        assert counts["crossed"] == 0


def test_what_was_refused_is_counted() -> None:
    with venue(exchange) as at, LiveBooks(at.endpoints, ["BTCUSDT"], options()) as live:
        source = LiveSource(live)
        assert live.wait_synced(60.0)
        at.say("btcusdt@depth@100ms", '{"e":"depthUpdate","s":"BTCUSDT"')
        until(lambda: any(name.startswith("fault_") for name in source.counts()))


def served(folder: Path, at: Any, *more: str, while_running: Callable[[], object]) -> int:
    """`dolphin obf run` on that exchange in this process; `while_running` looks at it, and then it is told to end."""
    failed: list[BaseException] = []

    def look() -> None:
        try:
            while_running()
        except BaseException as error:
            failed.append(error)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # should it be told to end when it has ended already
    thread = threading.Thread(target=look)
    thread.start()
    places = ["--grid", str(folder / "grid"), "--cache", str(folder / "cache"), "--archive", str(folder / "books")]
    address = ["--rest", at.endpoints.rest, "--ws", at.endpoints.ws]
    code = run(["obf", "run", *address, *places, "--warm-up", "0", *more])
    thread.join()
    signal.signal(signal.SIGTERM, before)
    if failed:
        raise failed[0]
    return code


@pytest.mark.slow
def test_from_the_stream_to_a_traders_book(tmp_path: Path, capsys: Capture) -> None:
    """Micro ingestion: books of a running exchange reach ten shards, and the book of somebody who only has the grid."""
    found: dict[str, Any] = {}

    def look() -> None:
        until(lambda: _phase(tmp_path) == "running")
        grid = EmbeddedGrid(tmp_path / "grid")
        provider = HZOBProvider(grid)
        try:
            until(lambda: provider.get_assets() == ["BTCUSDT", "DOGEUSDT", "ETHUSDT"] and provider.counts["taken"] > 30)
            assert ShardedFeatureStore(grid).symbols() == ("BTCUSDT", "DOGEUSDT", "ETHUSDT")
            for symbol in provider.get_assets():
                until(lambda symbol=symbol: grid.get(shard_map(symbol), symbol) is not None)  # type: ignore[misc]
            engine = OBFeatureEngine(provider.get_assets(), provider, clock=system_clock_ns)
            until(lambda: engine.step_live(engine.assets, engine.bar_idx + 1)[0].usable == 1)
            found["features"] = [engine.get_signal(symbol) for symbol in engine.assets]
            found["counts"] = dict(provider.counts)
        finally:
            provider.close()
            grid.close()

    with venue(exchange) as at:
        assert served(tmp_path, at, "--json", while_running=look) == 0
    metrics = json.loads(capsys.readouterr().out)
    assert all(features is not None for features in found["features"])
    assert found["counts"]["refused"] == 0
    assert metrics["phase"] == "stopped"
    assert metrics["source"]["messages"] > 0
    assert metrics["breaker"]["state"] == "CLOSED"
    assert read_features(tmp_path / "cache").phase == "stopped"
    assert BookArchive.open(tmp_path / "books").assets == ("BTCUSDT", "DOGEUSDT", "ETHUSDT")


def _phase(folder: Path) -> str:
    try:
        return read_metrics(folder / "cache").phase
    except Exception:
        return ""


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["--rest", "http://127.0.0.1:9", "--ws", "ws://127.0.0.1:9"], "127.0.0.1:9", 1),
        (["--rest", "http://192.0.2.1", "--ws", "ws://192.0.2.1"], "not this machine", 2),
        (["--rest", "ftp://127.0.0.1", "--ws", "ws://127.0.0.1"], "expected http://HOST", 2),
    ],
)
def test_an_exchange_that_is_not_there(
    options: list[str], message: str, code: int, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["obf", "run", *options]) == code
    said = capsys.readouterr()
    assert message in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert not (tmp_path / "grid").exists()
