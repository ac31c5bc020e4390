"""Live books against a running exchange: equal to its own, through growth, shards, roll-overs, and every end."""

from __future__ import annotations

import math
import signal
import threading
from typing import Any

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.book.snapshots import no_snapshots
from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.exchange.bands import band_checksum
from dolphin.exchange.live.books import LiveBooks
from dolphin.exchange.live.endpoints import Endpoints
from dolphin.exchange.live.shard import Life
from dolphin.exchange.sim.hub import Limits
from dolphin.exchange.sim.rest import RestLimits
from dolphin.exchange.sim.server import SimExchange
from dolphin.exchange.sim.symbols import Contract
from tests.support.live import LONG_S, options, until, venue
from tests.support.loopback import BTC, DOGE, ETH, market


def many(count: int) -> tuple[Contract, ...]:
    return tuple(Contract(f"C{k:03d}USDT", 2, 3, 10.0 + k) for k in range(count))


def test_books_are_the_exchange_s_own_and_symbols_come_and_go() -> None:
    with venue(lambda: SimExchange(market(BTC, DOGE, ETH), speed=2)) as sim:
        with LiveBooks(sim.endpoints, ["BTCUSDT", "DOGEUSDT"], options(tickers=True)) as live:
            assert live.wait_synced(LONG_S)
            sim.compare(live)
            before = {book.symbol: book for book in live.status().books}
            live.add(["ETHUSDT", "BTCUSDT"])
            assert live.symbols == live.cache.symbols == ("BTCUSDT", "DOGEUSDT", "ETHUSDT")
            assert live.wait_synced(LONG_S)
            sim.compare(live)
            status = live.status()
            after = {book.symbol: book for book in status.books}
            for symbol, book in before.items():
                assert (after[symbol].resyncs, after[symbol].synced_ns) == (1, book.synced_ns), "undisturbed"
            assert len(status.connections) == status.streams["opened"] == 1
            assert (status.connections[0].streams, status.connections[0].subscribed) == (6, 6)
            until(lambda: sum(book.counts["confirmed"] for book in live.status().books) > 0)  # tickers are read
            assert not any(book.counts["contradicted"] for book in status.books)
            live.remove(["DOGEUSDT", "NEVERUSDT"])
            assert live.symbols == ("BTCUSDT", "ETHUSDT")
            assert live.cache.get_snapshot("DOGEUSDT") is None
            until(lambda: sim.status()["streams"] == 4)
            sim.compare(live)
            until(lambda: live.status().faults == {})
            live.add(["DOGEUSDT"])
            assert live.wait_synced(LONG_S)
            sim.compare(live)
        assert not [thread for thread in threading.enumerate() if thread.name == "live-books"]
        until(lambda: sim.status()["open_connections"] == 0)
        status = live.status()
        assert (status.running, status.failure, len(live.cache)) == (False, "", 0)


def test_stamps_are_those_of_receipt_and_checksums_hold() -> None:
    now = 1_900_000_000_000_000_000

    def clock() -> int:
        nonlocal now
        now += 1_000_003
        return now

    with (
        venue(lambda: SimExchange(market(BTC, DOGE), speed=2)) as sim,
        LiveBooks(sim.endpoints, None, options(max_lag_s=math.inf), clock=clock) as live,
    ):
        assert live.wait_synced(LONG_S)
        assert live.symbols == ("BTCUSDT", "DOGEUSDT"), "all that trade"
        for _ in range(50):
            bands = live.cache.get_bands("BTCUSDT")
            received = live.cache.received_ns("BTCUSDT")
            assert bands is not None
            assert bands.checksum == band_checksum(bands.snapshot)
            assert 1_900_000_000 < bands.snapshot.timestamp <= now / 1e9 + 1e-6, "never from the future"
            assert bands.synced_ns <= received <= now
        assert live.cache.get_all_timestamps("BTCUSDT").tolist() == []


def test_the_feature_engine_reads_the_cache() -> None:
    with (
        venue(lambda: SimExchange(market(BTC, DOGE, ETH), speed=2)) as sim,
        LiveBooks(sim.endpoints, ["ETHUSDT", "BTCUSDT"], options()) as live,
    ):
        assert live.wait_synced(LONG_S)
        assets = ("BTCUSDT", "ETHUSDT", "DOGEUSDT")
        engine = OBFeatureEngine(assets, live.cache)
        with sim.held():
            until(lambda: sim.is_at(live))
            engine.step_live(assets, 0, live.cache.received_ns("BTCUSDT") + 1)
            block = no_snapshots(2, 3)
            live.cache.fill_snapshots(("BTCUSDT", "DOGEUSDT", "ETHUSDT"), np.array([1.0, 2.0]), block)
            for row in block:
                assert row[0] == live.cache.get_snapshot("BTCUSDT")
                assert math.isnan(row[1]["timestamp"]), "no book of it is followed"
                assert row[2] == live.cache.get_snapshot("ETHUSDT")
        placement = engine.get_placement("BTCUSDT")
        assert placement is not None
        assert placement.depth_1pct_usd > 0.0
        assert engine.get_placement("DOGEUSDT") is None


def test_streams_are_spread_over_connections() -> None:
    contracts = many(13)
    with (
        venue(lambda: SimExchange(market(*contracts), limits=Limits(streams=5))) as sim,
        LiveBooks(sim.endpoints, None, options(most=5)) as live,
    ):
        assert live.wait_synced(LONG_S)
        status = live.status()
        assert [one.streams for one in status.connections] == [5, 5, 3]
        assert all(one.url.endswith("/public/stream") for one in status.connections)
        sim.compare(live)
        live.remove([f"C{k:03d}USDT" for k in range(5, 10)])
        until(lambda: sim.status()["open_connections"] == 2)
        live.add(["C006USDT", "C007USDT", "C008USDT"])
        assert live.wait_synced(LONG_S)
        assert [one.streams for one in live.status().connections] == [5, 5, 1]
        sim.compare(live)


@pytest.mark.slow
def test_more_streams_than_a_connection_of_the_venue_takes() -> None:
    contracts = many(110)
    with (
        venue(lambda: SimExchange(market(*contracts), speed=0.5)) as sim,
        LiveBooks(sim.endpoints, None, options(tickers=True, snapshot_limit=500)) as live,
    ):
        assert live.wait_synced(LONG_S)
        status = live.status()
        assert [one.subscribed for one in status.connections] == [200, 20]
        assert sim.status()["counts"]["talked_too_much"] == 0
        assert sim.status()["weight_used"] <= 2400


def test_contracts_that_appear_and_go_are_followed() -> None:
    with venue(lambda: SimExchange(market(BTC, DOGE, ETH))) as sim:
        listed = {"BTCUSDT", "DOGEUSDT"}
        everything = sim.exchange.rest._exchange_info

        def info(query: Any) -> Any:
            told = everything(query)
            return {**told, "symbols": [one for one in told["symbols"] if one["symbol"] in listed]}

        weight, _ = sim.exchange.rest._routes["/fapi/v1/exchangeInfo"]
        sim.exchange.rest._routes["/fapi/v1/exchangeInfo"] = weight, info  # type: ignore[index]
        with LiveBooks(sim.endpoints, None, options(contracts_every_s=1.0)) as live:
            assert live.symbols == ("BTCUSDT", "DOGEUSDT")
            listed.symmetric_difference_update({"ETHUSDT", "DOGEUSDT"})
            until(lambda: live.symbols == ("BTCUSDT", "ETHUSDT"))
            assert live.wait_synced(LONG_S)
            sim.compare(live)
            listed.clear()  # a list of nothing is the venue's fault, and no reason to let go of everything
            asked = live.status().requests["requests"]
            until(lambda: live.status().requests["requests"] > asked + 1)
            assert live.symbols == ("BTCUSDT", "ETHUSDT")
            assert len(live.cache) == 2


def test_planned_ends_leave_no_gap() -> None:
    life = Life(life_s=1.5, overlap_s=0.5, backoff_s=0.05, backoff_most_s=0.5)
    with (
        venue(lambda: SimExchange(market(BTC, DOGE, ETH))) as sim,
        LiveBooks(sim.endpoints, None, options(life=life)) as live,
    ):
        until(lambda: live.status().streams.get("rolled", 0) >= 3)
        sim.compare(live)
        status = live.status()
        assert "closed" not in status.streams
        for book in status.books:
            assert (book.resyncs, book.counts["gaps"]) == (1, 0), "one stream without a gap"
        assert sum(book.counts["old"] for book in status.books) > 0, "both connections spoke for a while"
        until(lambda: sim.status()["open_connections"] <= 2)


def test_the_venue_s_own_end_of_day_costs_a_resync() -> None:
    with (
        venue(lambda: SimExchange(market(BTC, DOGE), speed=2, limits=Limits(life_s=4.0))) as sim,
        LiveBooks(sim.endpoints, None, options()) as live,
    ):
        until(lambda: live.status().streams.get("closed", 0) >= 2)
        assert live.wait_synced(LONG_S)
        assert sim.status()["counts"]["expired"] >= 2
        assert all(book.resyncs >= 2 for book in live.status().books)


def test_a_succession_that_fails_leaves_the_old_connection() -> None:
    # No second connection can be had: the new one is refused while the old one lives on.
    life = Life(life_s=0.5, overlap_s=0.2, backoff_s=0.05, backoff_most_s=0.2)

    class OneOnly(SimExchange):
        async def start(self) -> None:
            await super().start()
            self.hub.subscribe_first = self.hub.subscribe  # type: ignore[attr-defined]

            def subscribe(connection, stream):  # type: ignore[no-untyped-def]
                if len(self.hub.connections) > 1:
                    connection.break_off()
                else:
                    self.hub.subscribe_first(connection, stream)  # type: ignore[attr-defined]

            self.hub.subscribe = subscribe  # type: ignore[method-assign]

    with (
        venue(lambda: OneOnly(market(BTC, DOGE))) as sim,
        LiveBooks(sim.endpoints, None, options(life=life)) as live,
    ):
        until(lambda: live.status().streams.get("rolls_failed", 0) >= 2)
        sim.compare(live)
        status = live.status()
        assert "rolled" not in status.streams
        assert all(book.resyncs == 1 for book in status.books)


def test_the_weight_budget_holds_back_snapshots() -> None:
    # 9 snapshots of weight 20 in a budget of 100: the clock takes 5 and the contracts 1, so 4 books are ready at once
    # and the others wait for the next minute; the exchange, which allows just as much, never complains.
    contracts = many(9)
    with (
        venue(lambda: SimExchange(market(*contracts), rest_limits=RestLimits(weight_per_minute=100))) as sim,
        LiveBooks(sim.endpoints, None, options(weight_per_minute=100, weight_reserve=0.0)) as live,
    ):
        assert live.wait_synced(LONG_S, share=4 / 9)
        until(lambda: live.status().weight_used == 86)
        status = live.status()
        assert (status.weight_allowed, status.waiting) == (100, 5)
        assert not live.wait_synced(1.0, share=5 / 9)
        assert "http_429" not in live.status().requests
        assert sim.status()["weight_used"] <= 86


def test_what_cannot_be_begun_is_refused() -> None:
    with venue(lambda: SimExchange(market(BTC))) as sim:
        with (
            pytest.raises(ConfigError, match="'NOPE': none of the 1 USDT perpetuals"),
            LiveBooks(sim.endpoints, ["NOPE"]),
        ):
            pass
        with LiveBooks(sim.endpoints, ["BTCUSDT"], options()) as live:
            with pytest.raises(ConfigError, match="'btcusdt': none"):
                live.add(["btcusdt"])
            assert live.symbols == ("BTCUSDT",)
        for call in (live.status, lambda: live.wait_synced(0.0, share=0.0)):
            call()
        for late_call in (lambda: live.add(["BTCUSDT"]), lambda: live.remove(["BTCUSDT"])):
            with pytest.raises(ExchangeError, match="has ended"):
                late_call()
    for bad in ({"cadence": "0ms"}, {"snapshot_limit": 7}, {"fetchers": 0}, {"weight_per_minute": 10}):
        with pytest.raises(ConfigError, match=next(iter(bad)).partition("_")[0]):
            LiveBooks(sim.endpoints, ["BTCUSDT"], options(**bad))
    with pytest.raises(ConfigError, match="no symbol"):
        LiveBooks(sim.endpoints, [])
    with pytest.raises(ExchangeError, match="not begun"):
        LiveBooks(sim.endpoints, ["BTCUSDT"]).status()
    nobody = Endpoints("http://127.0.0.1:9", "ws://127.0.0.1:9")
    with pytest.raises(ExchangeError, match="check that the venue is up"), LiveBooks(nobody, ["BTCUSDT"]):
        pass
    assert not [thread for thread in threading.enumerate() if thread.name == "live-books"]


def test_an_interrupt_while_it_begins_leaves_nothing_running() -> None:
    with venue(lambda: SimExchange(market(BTC))) as sim:
        sim.faults("http429:p=1,amount=600")  # the contracts will not be told for ten minutes
        live = LiveBooks(sim.endpoints, ["BTCUSDT"], options())

        def interrupt() -> None:
            until(lambda: sim.status()["requests"] != {})
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

        helper = threading.Thread(target=interrupt)
        helper.start()
        with pytest.raises(KeyboardInterrupt):
            live.__enter__()
        helper.join()
        assert not [thread for thread in threading.enumerate() if thread.name == "live-books"]


def test_a_defect_is_seen_and_never_silent() -> None:
    broken = threading.Event()

    def clock() -> int:
        if broken.is_set():
            raise ZeroDivisionError("no time")
        return 1_900_000_000_000_000_000

    with venue(lambda: SimExchange(market(BTC))) as sim:
        live = LiveBooks(sim.endpoints, None, options(max_lag_s=math.inf), clock=clock)

        def use() -> None:
            with live:
                assert live.wait_synced(LONG_S)
                broken.set()
                until(lambda: not live._thread.is_alive())
                assert not live.cache
                for call in (lambda: live.wait_synced(LONG_S), lambda: live.add(["ETHUSDT"])):
                    with pytest.raises(ExchangeError, match=said):
                        call()

        said = "broke: ZeroDivisionError: no time; a defect"
        with pytest.raises(ExchangeError, match=said):
            use()
        assert not live.status().running
        assert "ZeroDivisionError" in live.status().failure
        until(lambda: sim.status()["open_connections"] == 0)
