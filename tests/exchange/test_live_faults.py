"""Everything that the exchange can do wrong: never does a wrong band come of it, and always there is a way back."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from dolphin.exchange.live.books import LiveBooks
from dolphin.exchange.live.connection import Talk
from dolphin.exchange.live.feed import LiveOptions
from dolphin.exchange.live.pulse import Patience
from dolphin.exchange.live.shard import Life
from dolphin.exchange.live.status import LiveStatus
from dolphin.exchange.live.streams import StreamOptions
from dolphin.exchange.sim.server import SimExchange
from dolphin.exchange.sim.symbols import Contract
from tests.support.live import LONG_S, Venue, Witness, options, same_bands, until, venue
from tests.support.loopback import BTC, DOGE, ETH, market

SYMBOLS = ("BTCUSDT", "DOGEUSDT", "ETHUSDT")


@contextmanager
def running(opts: LiveOptions | None = None, **more: Any) -> Iterator[tuple[Venue, LiveBooks]]:
    """An exchange of three contracts in real time, and books that are in sync with it."""
    with (
        venue(lambda: SimExchange(market(BTC, DOGE, ETH), **more)) as sim,
        LiveBooks(sim.endpoints, None, opts or options()) as live,
    ):
        assert live.wait_synced(LONG_S)
        yield sim, live


def count(status: LiveStatus, name: str) -> int:
    """A counter of all books together."""
    return sum(book.counts[name] for book in status.books)


def recovers(sim: Venue, live: LiveBooks) -> LiveStatus:
    """End the faults; the books come back, and are the exchange's own."""
    sim.faults("")
    assert live.wait_synced(LONG_S)
    sim.compare(live)
    return live.status()


# --- what happens to messages -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "shows"),
    [
        ("drop:p=0.1", lambda status: count(status, "gaps") >= 3),
        ("reorder:p=0.1", lambda status: count(status, "gaps") >= 3),
        ("corrupt:p=0.1", lambda status: sum(status.faults.values()) + status.strays >= 3),
    ],
)
def test_a_message_lost_or_spoilt_costs_a_resync(fault: str, shows: Callable[[LiveStatus], bool]) -> None:
    with running() as (sim, live):
        sim.faults(fault)
        until(lambda: shows(live.status()))
        status = recovers(sim, live)
        assert status.snapshots["loaded"] > len(SYMBOLS)
        assert count(status, "crossed") == count(status, "contradicted") == 0
        assert status.streams["opened"] == 1, "the connection stays"


def test_a_duplicate_costs_nothing() -> None:
    with running() as (sim, live):
        sim.faults("duplicate:p=1")
        until(lambda: count(live.status(), "old") >= 20)
        status = recovers(sim, live)
        assert count(status, "gaps") == 0
        assert all(book.resyncs == 1 for book in status.books)


@pytest.mark.slow
def test_whatever_goes_wrong_no_band_is_shown_that_the_exchange_did_not_have() -> None:
    text = (
        "drop:p=0.02;duplicate:p=0.02;reorder:p=0.02;corrupt:p=0.02;disconnect:p=0.002;"
        "http5xx:p=0.2;http429:p=0.1,amount=1"
    )
    with (
        venue(lambda: Witness(market(BTC, DOGE, ETH))) as sim,
        LiveBooks(sim.endpoints, None, options(tickers=True)) as live,
    ):
        assert live.wait_synced(LONG_S)
        sim.faults(text)
        shown = {}
        end = time.monotonic() + 8.0
        while time.monotonic() < end:
            for symbol in SYMBOLS:
                bands = live.cache.get_bands(symbol)
                if bands is not None:
                    shown[symbol, bands.update_id] = bands
            time.sleep(0.005)
        status = recovers(sim, live)
        assert len(shown) > 50
        assert status.streams.get("closed", 0) + count(status, "gaps") > 0
        witness = sim.exchange
        assert isinstance(witness, Witness)
        contracts = {contract.symbol: contract for contract in (BTC, DOGE, ETH)}
        for key, bands in shown.items():
            same_bands(bands, witness.seen[key], contracts[key[0]])


# --- what happens to connections --------------------------------------------------------------------------------------


def test_a_broken_connection_is_opened_again() -> None:
    with running() as (sim, live):
        sim.faults("disconnect:at=0")
        until(lambda: live.status().streams.get("closed", 0) == 1)
        status = recovers(sim, live)
        assert status.connections[0].opened == 2
        assert status.connections[0].last_end == "closed"
        assert all(book.resyncs == 2 for book in status.books)


def test_a_connection_that_only_answers_pings_is_replaced() -> None:
    with running(options(floor_s=1.0)) as (sim, live):
        # Nine messages are what it takes to know how often a stream speaks.
        until(lambda: all(book.counts["applied"] > 9 for book in live.status().books))
        sim.faults("stall:p=1,for=3600")
        until(lambda: sim.status()["counts"]["lost_in_stalls"] > 0)
        until(lambda: not live.cache)
        assert not any(book.trusted for book in live.status().books), "silent books are withdrawn"
        status = recovers(sim, live)
        assert status.streams["stalled"] >= 1
        assert status.streams["late"] >= 2
        assert not any(book.late for book in status.books)


@pytest.mark.slow
def test_who_did_not_listen_does_not_call_it_silence() -> None:
    # More streams than are read in one turn: when the loop comes to itself, some have not been heard yet.
    contracts = [Contract(f"C{k:03d}USDT", 2, 3, 10.0 + k) for k in range(120)]
    with (
        venue(lambda: SimExchange(market(*contracts))) as sim,
        LiveBooks(sim.endpoints, None, options(floor_s=3.0, snapshot_limit=500)) as live,
    ):
        assert live.wait_synced(LONG_S)
        until(lambda: all(book.counts["applied"] > 9 for book in live.status().books))
        before = live.status().streams
        assert live._loop is not None
        live._loop.call_soon_threadsafe(time.sleep, 6.0)
        messages = live.status().messages  # answered once the sleep is over
        until(lambda: live.status().messages > messages + 1000)
        assert live.status().streams == before


def test_one_silent_stream_is_asked_for_again_and_disturbs_nobody() -> None:
    with running(options(floor_s=4.0)) as (sim, live):
        until(lambda: all(book.counts["applied"] > 9 for book in live.status().books))
        sim.faults("drop:p=1,streams=dogeusdt@*")
        until(lambda: live.status().streams.get("resubscribed", 0) >= 1)
        assert live.cache.get_snapshot("DOGEUSDT") is None
        by_name = {book.symbol: book for book in live.status().books}
        assert (by_name["DOGEUSDT"].late, by_name["DOGEUSDT"].trusted) == (True, False)
        assert by_name["BTCUSDT"].trusted
        assert by_name["ETHUSDT"].trusted
        status = recovers(sim, live)
        assert status.streams["opened"] == 1
        assert {book.symbol: book.resyncs for book in status.books} == {"BTCUSDT": 1, "DOGEUSDT": 2, "ETHUSDT": 1}


def test_a_line_that_falls_behind_is_replaced() -> None:
    # Three streams say thirty messages a second, and the line carries five.
    with running(options(max_lag_s=1.0)) as (sim, live):
        until(lambda: live.status().clock_offset_ms is not None)
        sim.faults("slow:amount=5")
        until(lambda: live.status().streams.get("behind", 0) >= 1)
        status = recovers(sim, live)
        assert all((book.lag_ms or 0.0) < 1000.0 for book in status.books)


def test_a_peer_that_is_gone_without_a_word_is_noticed() -> None:
    async def nothing(*_: object) -> None:
        return None

    talk = Talk(ping_after_s=0.3, dead_after_s=0.5)
    life = Life(backoff_s=0.05, backoff_most_s=0.5)
    patience = Patience(floor_s=300.0, first_s=300.0)
    opts = LiveOptions(streams=StreamOptions(talk=talk, life=life, patience=patience))
    with running(opts) as (sim, live), sim.held():
        # Nothing but our pings is on the line while the market is held: answered, the connection stays.
        until(lambda: live.status().streams.get("pings_sent", 0) >= 2)
        assert "silent" not in live.status().streams
        for connection in tuple(sim.exchange.hub.connections):
            connection.socket.pong = nothing  # type: ignore[method-assign, assignment]
        until(lambda: live.status().streams.get("silent", 0) >= 1)
        until(lambda: live.status().connections[0].opened >= 2)


def test_pings_are_answered() -> None:
    from dolphin.exchange.sim.hub import Limits

    with running(limits=Limits(ping_s=0.2, pong_s=1.0)) as (sim, live):
        until(lambda: live.status().streams.get("pings_answered", 0) >= 8)
        assert sim.status()["counts"]["no_pong"] == 0
        assert live.status().streams["opened"] == 1


# --- what happens to requests -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "counted"),
    [
        ("http5xx:p=1", "http_5xx"),
        ("http429:p=1,amount=2", "http_429"),
        ("http418:p=1,amount=2", "http_418"),
    ],
)
def test_refused_requests_are_waited_out(fault: str, counted: str) -> None:
    with venue(lambda: SimExchange(market(BTC))) as sim:
        sim.faults(f"{fault},streams=/fapi/v1/depth")
        with LiveBooks(sim.endpoints, None, options()) as live:
            until(lambda: live.status().requests.get(counted, 0) >= 1)
            if counted != "http_5xx":
                until(lambda: 0.0 < live.status().paused_s <= 2.0)
            until(lambda: live.status().books[0].state == "buffering")  # diffs are kept meanwhile
            assert not live.cache
            assert live.status().waiting == 1
            assert recovers(sim, live).books[0].counts["gaps"] == 0


def test_the_venue_s_clock_is_found() -> None:
    with running(options(clock_every_s=1.0)) as (sim, live):
        until(lambda: live.status().clock_offset_ms is not None)
        before = live.status().clock_offset_ms
        sim.faults("skew:amount=5000")
        until(lambda: (live.status().clock_offset_ms or 0.0) - before > 2_500.0)
        status = live.status()
        # The exchange's clock goes in steps of 50 ms.
        assert status.clock_offset_ms == pytest.approx(before + 5000.0, abs=200.0 + 2 * status.clock_uncertainty_ms)
        sim.compare(live)


def test_a_jump_of_our_own_clock_is_not_the_line_s_fault_for_long() -> None:
    jump = 0

    def clock() -> int:
        return time.time_ns() + jump

    with (
        venue(lambda: SimExchange(market(BTC, DOGE))) as sim,
        LiveBooks(sim.endpoints, None, options(), clock=clock) as live,
    ):
        assert live.wait_synced(LONG_S)
        until(lambda: live.status().clock_offset_ms is not None)
        before = live.status().clock_offset_ms
        jump = 3_600 * 1_000_000_000
        # Every message seems to be an hour old; the clocks are compared again at once, and not in five minutes.
        until(lambda: live.status().clock_offset_ms < before - 3_590_000.0)
        assert live.wait_synced(LONG_S)
        assert "behind" not in live.status().streams, "and no connection has to go for it"
        sim.compare(live)


# --- what is in the messages ------------------------------------------------------------------------------------------


def test_bad_messages_are_counted_and_cost_their_book_only() -> None:
    with running() as (sim, live):
        stream = "btcusdt@depth@100ms"

        def diff(symbol: str = "BTCUSDT", **more: Any) -> str:
            bands = live.cache.get_bands("BTCUSDT")
            assert bands is not None
            u = bands.update_id
            body = {"e": "depthUpdate", "E": 1, "T": 1, "s": symbol, "U": u + 1, "u": u + 1, "pu": u, "b": [], "a": []}
            return json.dumps({**body, **more})

        seen: list[str] = []
        for kind, payload in (
            ("malformed", lambda: '{"e":"depthUpdate",'),
            ("wrong_type", lambda: diff(pu="x")),
            ("unknown_symbol", lambda: diff("NOPEUSDT")),
            ("negative", lambda: diff(b=[["42000.0", "-1"]])),
            ("zero_price", lambda: diff(b=[["0.0", "1"]])),
            ("bad_number", lambda: diff(a=[["NaN", "1"]])),
            ("bad_sequence", lambda: diff(u=1)),
        ):
            with sim.held():
                until(lambda: sim.is_at(live, ["BTCUSDT"]))
                sim.say(stream, payload())
                until(lambda kind=kind: live.status().faults.get(kind) == 1)
                seen.append(kind)
                if kind in ("negative", "zero_price", "bad_number"):
                    assert live.cache.get_snapshot("BTCUSDT") is None, "what the diff had to say is missing"
                assert live.cache.get_snapshot("ETHUSDT") is not None
            assert live.wait_synced(LONG_S)
        status = live.status()
        assert set(status.faults) == set(seen)
        assert status.last_fault
        sim.compare(live)


def test_a_stream_that_the_venue_does_not_have_is_named() -> None:
    # The loopback exchange knows no names beyond 24 characters; the others of the batch are not hurt.
    with running() as (sim, live):
        odd = "X" * 25 + "USDT"

        def adopt() -> None:
            feed = live._feed
            assert feed is not None
            feed._known[odd] = ("0.1", "0.1")
            feed._add_known([odd])

        assert live._loop is not None
        live._loop.call_soon_threadsafe(adopt)
        until(lambda: live.status().streams.get("refused", 0) == 1)
        status = live.status()
        told = {book.symbol: book.refused for book in status.books}
        assert "no such stream" in told.pop(odd)
        assert set(told.values()) == {""}
        assert live.wait_synced(LONG_S, share=3 / 4)
        live.remove([odd])
        sim.compare(live)


def test_no_thread_and_no_socket_is_left_after_faults() -> None:
    before = threading.active_count()
    with venue(lambda: SimExchange(market(BTC, DOGE))) as sim:
        sim.faults("disconnect:p=0.2;http5xx:p=0.5")
        with LiveBooks(sim.endpoints, ["BTCUSDT"], options()) as live:
            until(lambda: live.status().streams.get("closed", 0) >= 2)
        sim.faults("")
        until(lambda: sim.status()["open_connections"] == 0)
    assert threading.active_count() == before
