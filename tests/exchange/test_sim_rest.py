"""The REST half: every endpoint, its errors as the venue words them, weights, 429 and 418."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from dolphin.exchange.sim.rest import RestLimits, Weights
from dolphin.exchange.sim.server import SimExchange
from dolphin.exchange.sim.synthetic import SyntheticMarket
from tests.support.loopback import BTC, DOGE, START_MS, Client, market, play, walk


def test_ping_time_and_the_list_of_contracts() -> None:
    async def scene(client: Client) -> None:
        assert await client.ok("/fapi/v1/ping") == {}
        await client.exchange.hold()
        now = (await client.ok("/fapi/v1/time"))["serverTime"]
        assert now == client.exchange.now_ms >= START_MS
        assert now % 500 == 0
        info = await client.ok("/fapi/v1/exchangeInfo")
        assert [s["symbol"] for s in info["symbols"]] == ["BTCUSDT", "DOGEUSDT"]

    play(scene)


@pytest.mark.parametrize("limit", [5, 10, 20, 50, 100, 500, 1000])
def test_depth_gives_what_was_asked_best_first(limit: int) -> None:
    async def scene(client: Client) -> None:
        await client.exchange.hold()
        book = client.exchange.feed.lines["BTCUSDT"].book
        answer = await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=limit)
        assert len(answer["bids"]) == min(limit, len(book.bids))
        assert len(answer["asks"]) == min(limit, len(book.asks))
        bids, asks = ([float(p) for p, _ in side] for side in (answer["bids"], answer["asks"]))
        assert bids == sorted(bids, reverse=True)
        assert asks == sorted(asks)
        assert bids[0] < asks[0]
        assert answer["lastUpdateId"] == book.last_id
        assert answer["T"] <= answer["E"] == client.exchange.now_ms

    play(scene)


@pytest.mark.parametrize(
    ("path", "query", "status", "code"),
    [
        ("depth", {}, 400, -1102),
        ("depth", {"symbol": ""}, 400, -1102),
        ("depth", {"symbol": "NOUSDT"}, 400, -1121),
        ("depth", {"symbol": "btcusdt"}, 400, -1121),
        ("depth", {"symbol": "BTCUSDT", "limit": 7}, 400, -4021),
        ("depth", {"symbol": "BTCUSDT", "limit": "x"}, 400, -1102),
        ("depth", {"symbol": "BTCUSDT", "limit": -5}, 400, -1102),
        ("klines", {"symbol": "BTCUSDT", "interval": "7m"}, 400, -1120),
        ("klines", {"symbol": "BTCUSDT"}, 400, -1120),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 1501}, 400, -1130),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m", "startTime": 5, "endTime": 4}, 400, -1023),
        ("premiumIndex", {"symbol": "NOUSDT"}, 400, -1121),
        ("fundingRate", {"symbol": "BTCUSDT", "limit": 1001}, 400, -1130),
        ("order", {"symbol": "BTCUSDT"}, 404, -5000),
    ],
)
def test_what_cannot_be_served_is_refused_with_the_venue_s_code(
    path: str, query: dict[str, Any], status: int, code: int
) -> None:
    async def scene(client: Client) -> None:
        met, body, _ = await client.get(f"/fapi/v1/{path}", **query)
        assert (met, body["code"]) == (status, code)
        assert body["msg"]

    play(scene)


def test_other_methods_are_refused() -> None:
    async def scene(client: Client) -> None:
        async with client.session.post(client.exchange.rest_url + "/fapi/v1/ping") as answer:
            assert answer.status == 404

    play(scene)


def test_premium_and_funding_without_a_symbol_give_all() -> None:
    async def scene(client: Client) -> None:
        assert [p["symbol"] for p in await client.ok("/fapi/v1/premiumIndex")] == ["BTCUSDT", "DOGEUSDT"]
        assert {p["symbol"] for p in await client.ok("/fapi/v1/fundingRate", limit=2)} == {"BTCUSDT", "DOGEUSDT"}

    play(scene)


def test_klines_are_paged_and_reach_into_the_history() -> None:
    def exchange() -> SimExchange:
        history = np.full((120, 1), 42_000.0) + np.arange(120)[:, None]
        source = SyntheticMarket((BTC,), walk((BTC,)), start_ms=START_MS, bar_seconds=60, history=history)
        return SimExchange(source, speed=0)

    async def scene(client: Client) -> None:
        await client.exchange.hold()
        minute = START_MS // 60_000 * 60_000
        latest = await client.ok("/fapi/v1/klines", symbol="BTCUSDT", interval="1m", limit=4)
        assert [row[0] for row in latest] == [minute - 180_000, minute - 120_000, minute - 60_000, minute]
        assert [row[4] for row in latest[:3]] == ["42117.0", "42118.0", "42119.0"]
        start = minute - 120 * 60_000
        page = await client.ok("/fapi/v1/klines", symbol="BTCUSDT", interval="1m", startTime=start, limit=50)
        rest = await client.ok("/fapi/v1/klines", symbol="BTCUSDT", interval="1m", startTime=page[-1][0] + 1, limit=500)
        opens = [row[0] for row in (*page, *rest)]
        assert opens == [start + k * 60_000 for k in range(121)]

    play(scene, exchange)


def test_weights_are_told_in_the_header() -> None:
    async def scene(client: Client) -> None:
        # 1 + 20 (1000 levels) + 2 (5 levels) + 2 (klines 100…499) + 10 (premium of all) = 35
        expected = [1, 21, 23, 25, 35]
        met = []
        for path, query in (
            ("ping", {}),
            ("depth", {"symbol": "BTCUSDT", "limit": 1000}),
            ("depth", {"symbol": "BTCUSDT", "limit": 5}),
            ("klines", {"symbol": "BTCUSDT", "interval": "1m", "limit": 100}),
            ("premiumIndex", {}),
        ):
            _, _, headers = await client.get(f"/fapi/v1/{path}", **query)
            met.append(int(headers["X-MBX-USED-WEIGHT-1M"]))
        # The minute of real time may have turned in between: then the count began anew.
        assert met == expected or met[-1] < 35

    play(scene)


def test_weights_by_hand_on_a_clock_of_our_own() -> None:
    now = [600.0]
    weights = Weights(RestLimits(weight_per_minute=50, patience=2, ban_s=90.0), lambda: now[0])
    assert [weights.charge(20) for _ in range(2)] == [(200, 0), (200, 0)]
    assert weights.charge(20) == (429, 60)
    now[0] = 645.0
    assert weights.charge(1) == (429, 15)
    assert weights.charge(1) == (418, 90), "went on after two refusals"
    now[0] = 661.0
    assert weights.charge(1) == (418, 74), "a new minute does not lift a ban"
    now[0] = 735.5
    assert weights.charge(1) == (200, 0)
    assert weights.used == 1
    now[0] = 780.0
    assert weights.charge(50) == (200, 0)
    assert weights.charge(1)[0] == 429
    now[0] = 840.0
    assert weights.charge(50) == (200, 0), "who waited as told is served again"


def test_beyond_the_limit_comes_429_and_then_418() -> None:
    async def scene(client: Client) -> None:
        met = []
        for _ in range(12):
            status, body, headers = await client.get("/fapi/v1/depth", symbol="BTCUSDT", limit=1000)
            met.append(status)
            if status != 200:
                assert body["code"] == -1003
                assert 0 < int(headers["Retry-After"]) <= 120
        assert met[:2] == [200, 200]
        assert met[-1] == 418
        assert {200, 429, 418} == set(met)
        assert sorted(met) in ([200] * 2 + [418] * 7 + [429] * 3, sorted(met))
        # Streams and the control endpoints do not count.
        assert (await client.ok("/sim/status"))["requests"]["/fapi/v1/depth"] == 12

    limits = RestLimits(weight_per_minute=50, patience=3)
    play(scene, lambda: SimExchange(market(BTC, DOGE), speed=0, rest_limits=limits))
