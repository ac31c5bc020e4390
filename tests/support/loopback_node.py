"""A process of its own: NautilusTrader's Binance adapter, unchanged, as a client of the loopback exchange.

Prints one line of JSON: what it received, and its book beside the exchange's at a moment at which the market is held.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from typing import Any

from nautilus_trader.adapters.binance import (
    BinanceAccountType,
    BinanceDataClientConfig,
    BinanceLiveDataClientFactory,
)
from nautilus_trader.config import (
    InstrumentProviderConfig,
    LiveExecEngineConfig,
    LoggingConfig,
    StrategyConfig,
    TradingNodeConfig,
)
from nautilus_trader.live.node import TradingNode
from nautilus_trader.model.data import BarType
from nautilus_trader.model.enums import BookType
from nautilus_trader.model.identifiers import InstrumentId, TraderId
from nautilus_trader.trading.strategy import Strategy

from dolphin.exchange.sim.server import SimExchange
from tests.support.loopback import BTC, DOGE, eventually, market

INSTRUMENT = InstrumentId.from_str("BTCUSDT-PERP.BINANCE")


class Probe(Strategy):
    """Subscribes to everything and counts."""

    def __init__(self) -> None:
        super().__init__(StrategyConfig())
        self.seen: Counter[str] = Counter()

    def on_start(self) -> None:
        self.subscribe_order_book_deltas(
            INSTRUMENT, book_type=BookType.L2_MBP, depth=0, params={"update_speed": 100}
        )  # fmt: skip
        self.subscribe_quote_ticks(INSTRUMENT)
        self.subscribe_trade_ticks(INSTRUMENT)
        self.subscribe_mark_prices(INSTRUMENT)
        self.subscribe_bars(BarType.from_str(f"{INSTRUMENT}-1-MINUTE-LAST-EXTERNAL"))

    def on_quote_tick(self, _tick: Any) -> None:
        self.seen["quotes"] += 1

    def on_trade_tick(self, _tick: Any) -> None:
        self.seen["trades"] += 1

    def on_order_book_deltas(self, _deltas: Any) -> None:
        self.seen["deltas"] += 1

    def on_mark_price(self, _mark: Any) -> None:
        self.seen["marks"] += 1

    def on_bar(self, _bar: Any) -> None:
        self.seen["bars"] += 1


async def main() -> None:
    async with SimExchange(market(BTC, DOGE), speed=20) as exchange:
        data = BinanceDataClientConfig(
            account_type=BinanceAccountType.USDT_FUTURES,
            base_url_http=exchange.rest_url,
            base_url_ws=exchange.ws_url,
            instrument_provider=InstrumentProviderConfig(load_all=True),
        )
        node = TradingNode(
            TradingNodeConfig(
                trader_id=TraderId("LOOP-001"),
                logging=LoggingConfig(log_level="ERROR"),
                exec_engine=LiveExecEngineConfig(reconciliation=False),
                data_clients={"BINANCE": data},
            )
        )
        node.add_data_client_factory("BINANCE", BinanceLiveDataClientFactory)
        probe = Probe()
        node.trader.add_strategy(probe)
        node.build()
        running = asyncio.create_task(node.run_async())
        await eventually(lambda: probe.seen["bars"] >= 1 and len(probe.seen) == 5, 60.0)
        await exchange.hold()
        book, truth = node.cache.order_book(INSTRUMENT), exchange.feed.lines["BTCUSDT"].book
        theirs: list[list[list[str]]] = []

        def settled() -> bool:
            theirs[:] = [[[str(n.price), str(n.size())] for n in side] for side in (book.bids(), book.asks())]
            return [len(s) for s in theirs] == [len(truth.bids), len(truth.asks)]

        await eventually(settled)
        bids, asks = truth.top(10_000)
        ours = [[[BTC.price_text(p), f"{q / 1000}"] for p, q in side] for side in (bids, asks)]
        theirs = [[[p, f"{float(q)}"] for p, q in side] for side in theirs]
        told = {"seen": probe.seen, "same": theirs == ours, "levels": len(bids) + len(asks)}
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()
        exchange.release()
        await node.stop_async()
        await asyncio.wait([running], timeout=10)


if __name__ == "__main__":
    asyncio.run(main())
