"""Messages have the documented shapes: the same keys, the same types, decimals as text of the contract's length."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from dolphin.exchange.sim.server import SimExchange
from dolphin.market.exchangeinfo import read_exchange_info
from dolphin.market.instrumentfiles import load_instruments
from tests.support.loopback import BTC, DOGE, START_MS, Client, market, play, take
from tests.support.shared import recorded


def shape(value: Any) -> Any:
    """Keys and types, of a list those of its first element."""
    if isinstance(value, dict):
        return {key: shape(one) for key, one in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__


def documented(name: str) -> Any:
    folder = recorded("payloads") / "futures_documented"
    return json.loads((folder / f"{name}.json").read_text(encoding="utf-8"))


STREAMS = {
    "btcusdt@depth@100ms": "depth_update_stream",
    "btcusdt@depth20@100ms": "depth_update_stream",
    "btcusdt@bookTicker": "book_ticker_stream",
    "btcusdt@aggTrade": "agg_trade_stream",
    "btcusdt@markPrice@1s": "mark_price_stream",
    "btcusdt@kline_1m": "kline_stream_open",
}


@pytest.mark.parametrize(("stream", "example"), STREAMS.items())
def test_a_stream_has_the_documented_shape(stream: str, example: str) -> None:
    expected = shape(documented(example))

    async def scene(client: Client) -> None:
        async with client.socket(f"/ws/{stream}") as socket:
            for message in await take(socket, 20):
                if message["e"] == "depthUpdate" and not (message["b"] and message["a"]):
                    continue
                assert shape(message) == expected
                assert message["s"] == "BTCUSDT"
                assert message["E"] >= message.get("T", 0) or message["e"] == "markPriceUpdate"

    play(scene)


@pytest.mark.parametrize(
    ("path", "query", "example"),
    [
        ("depth", {"symbol": "BTCUSDT", "limit": 5}, "http_futures_market_depth"),
        ("klines", {"symbol": "BTCUSDT", "interval": "1m"}, "http_futures_market_klines"),
        ("premiumIndex", {"symbol": "BTCUSDT"}, "http_futures_market_premium_index"),
        ("fundingRate", {"symbol": "BTCUSDT"}, "http_futures_market_funding_rate"),
    ],
)
def test_an_answer_has_the_documented_shape(path: str, query: dict[str, Any], example: str) -> None:
    expected = shape(documented(example))

    async def scene(client: Client) -> None:
        assert shape(await client.ok(f"/fapi/v1/{path}", **query)) == expected

    play(scene)


def test_exchange_info_has_the_documented_keys() -> None:
    example = documented("http_futures_market_exchange_info")

    async def scene(client: Client) -> None:
        info = await client.ok("/fapi/v1/exchangeInfo")
        assert info.keys() == example.keys()
        assert shape(info["rateLimits"]) == shape(example["rateLimits"])
        assert shape(info["assets"]) == shape(example["assets"])
        ours, theirs = info["symbols"][0], example["symbols"][0]
        assert {k: shape(v) for k, v in ours.items() if not isinstance(v, list)} == {
            k: shape(v) for k, v in theirs.items() if not isinstance(v, list)
        }
        assert (ours.keys(), ours["orderTypes"], ours["timeInForce"]) == (
            theirs.keys(),
            theirs["orderTypes"],
            theirs["timeInForce"],
        )
        filters = [{f["filterType"]: f.keys() for f in entry["filters"]} for entry in (ours, theirs)]
        assert filters[0] == filters[1]

    play(scene)


def test_our_own_reader_takes_the_exchange_s_list_of_contracts(tmp_path: Any) -> None:
    async def scene(client: Client) -> None:
        path = tmp_path / "exchangeInfo.json"
        path.write_text(json.dumps(await client.ok("/fapi/v1/exchangeInfo")))
        table = read_exchange_info(path, load_instruments(None))
        assert not table.left_out
        for contract in (BTC, DOGE):
            one = table[contract.symbol]
            assert (one.price_decimals, one.qty_decimals) == (contract.price_decimals, contract.qty_decimals)

    play(scene)


def test_recorded_messages_have_no_key_or_type_that_ours_lack() -> None:
    wanted = {"depthUpdate": "depth@100ms", "bookTicker": "bookTicker", "aggTrade": "aggTrade", "kline": "kline_1m"}
    lines = (recorded("payloads") / "BINANCE_FUTURES.ws.1.0").read_text(encoding="utf-8").splitlines()
    seen: dict[str, Any] = {}
    for line in lines[1:]:
        data = json.loads(line.partition(": ")[2])["data"]
        if data["e"] != "depthUpdate" or (data["b"] and data["a"]):
            seen.setdefault(data["e"], shape(data))
    assert seen.keys() == wanted.keys()

    async def scene(client: Client) -> None:
        for event, stream in wanted.items():
            async with client.socket(f"/ws/btcusdt@{stream}") as socket:
                ours = next(m for m in await take(socket, 10) if event != "depthUpdate" or (m["b"] and m["a"]))
            # The venue has since added `st` and `ps`; nothing that was there has gone.
            assert seen[event].items() <= shape(ours).items()

    play(scene)


def test_decimals_are_the_contract_s() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/stream?streams=btcusdt@depth20@100ms/dogeusdt@depth20@100ms") as socket:
            for message in await take(socket, 20):
                contract = BTC if message["stream"].startswith("btc") else DOGE
                for price, qty in (*message["data"]["b"], *message["data"]["a"]):
                    assert len(price.partition(".")[2]) == contract.price_decimals
                    assert len(qty.partition(".")[2]) == contract.qty_decimals

    play(scene)


def test_klines_agree_with_the_trades_that_made_them() -> None:
    async def scene(client: Client) -> None:
        names = "btcusdt@aggTrade/btcusdt@kline_1m"
        closed, trades, last = [], [], 0
        async with client.socket(f"/stream?streams={names}") as socket:
            while len(closed) < 4:
                message = (await take(socket, 1))[0]["data"]
                if message["e"] == "aggTrade":
                    assert message["f"] == message["l"] > last
                    last = message["l"]
                    trades.append(message)
                elif message["k"]["x"]:
                    closed.append(message["k"])
            rows = await client.ok(
                "/fapi/v1/klines", symbol="BTCUSDT", interval="1m", startTime=closed[1]["t"], limit=3
            )
        for kline, row in zip(closed[1:], rows, strict=True):
            # The first minute began before we listened; the others are all ours.
            inside = [t for t in trades if kline["t"] <= t["T"] <= kline["T"]]
            prices = [float(t["p"]) for t in inside]
            assert (kline["o"], kline["c"]) == (inside[0]["p"], inside[-1]["p"])
            assert (float(kline["h"]), float(kline["l"])) == (max(prices), min(prices))
            assert (kline["n"], kline["f"], kline["L"]) == (len(inside), inside[0]["f"], inside[-1]["l"])
            assert float(kline["v"]) == pytest.approx(sum(float(t["q"]) for t in inside), abs=1e-9)
            bought = [t for t in inside if not t["m"]]
            assert float(kline["Q"]) == pytest.approx(sum(float(t["q"]) * float(t["p"]) for t in bought))
            texts = [kline[k] for k in ("o", "h", "l", "c", "v", "q", "V", "Q")]
            assert row == [kline["t"], *texts[:5], kline["T"], texts[5], kline["n"], *texts[6:], "0"]

    # A minute in which nothing trades is quiet; a market at rest still trades at its touch.
    play(scene, lambda: SimExchange(market(BTC), speed=0))


def test_a_minute_without_trades_repeats_its_price() -> None:
    from dolphin.exchange.sim.klines import Klines

    klines = Klines(BTC, 420_000, START_MS)
    minute = START_MS // 60_000 * 60_000
    klines.trade(420_010, 2, 5, buyer_made=False)
    klines.trade(419_990, 3, 6, buyer_made=True)
    done = klines.roll(minute + 180_000)
    assert [klines.row(bar)[:6] for bar in done] == [
        [minute, "42001.0", "42001.0", "41999.0", "41999.0", "0.005"],
        [minute + 60_000, "41999.0", "41999.0", "41999.0", "41999.0", "0.000"],
        [minute + 120_000, "41999.0", "41999.0", "41999.0", "41999.0", "0.000"],
    ]
    # 2 lots at 42001.0 and 3 at 41999.0, a lot being 0.001: 84.002 + 125.997 = 209.999 USDT.
    assert klines.row(done[0])[7:] == ["209.9990", 2, "0.002", "84.0020", "0"]
    assert (done[1].first_id, done[1].last_id) == (-1, -1)


def test_best_prices_are_the_book_s() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/stream?streams=btcusdt@bookTicker/btcusdt@depth5@100ms") as socket:
            await take(socket, 40)
            await client.exchange.hold()
            snapshot = await client.ok("/fapi/v1/depth", symbol="BTCUSDT", limit=5)
            found: dict[str, Any] = {}
            while found.get("depthUpdate", {}).get("u") != snapshot["lastUpdateId"]:
                message = (await take(socket, 1))[0]["data"]
                found[message["e"]] = message
        partial, best = found["depthUpdate"], found["bookTicker"]
        assert (partial["b"], partial["a"]) == (snapshot["bids"], snapshot["asks"])
        assert [best["b"], best["B"]] == snapshot["bids"][0]
        assert [best["a"], best["A"]] == snapshot["asks"][0]

    play(scene, lambda: SimExchange(market(), speed=50))


def test_marks_and_funding() -> None:
    async def scene(client: Client) -> None:
        async with client.socket("/ws/btcusdt@markPrice@1s") as socket:
            marks = await take(socket, 5)
        assert np.all(np.diff([m["E"] for m in marks]) == 1000)
        for mark in marks:
            assert abs(float(mark["p"]) - 42_000.0) < 500.0
            assert mark["T"] % 28_800_000 == 0
            assert 0 < mark["T"] - mark["E"] <= 28_800_000
            # index = mark·(1 − rate): the premium is what the rate pays for.
            assert float(mark["i"]) == pytest.approx(float(mark["p"]) * (1 - float(mark["r"])), rel=1e-9)
            assert -0.0001 <= float(mark["r"]) <= 0.0003
        paid = await client.ok("/fapi/v1/fundingRate", symbol="BTCUSDT", limit=3)
        assert [p["fundingTime"] % 28_800_000 for p in paid] == [0, 0, 0]
        assert paid[-1]["fundingTime"] <= marks[-1]["E"] < paid[-1]["fundingTime"] + 28_800_000
        again = await client.ok(
            "/fapi/v1/fundingRate", symbol="BTCUSDT", startTime=paid[0]["fundingTime"], endTime=paid[1]["fundingTime"]
        )
        assert again == paid[:2]

    play(scene)
