"""The simple strategy as a minimal hftbacktest loop. `python -m bench.hftbacktest_loop FILE REPEATS`.

Runs in the peer's own environment. Each close becomes a bid at the close and an ask one tick above: two events per
asset and bar, the fewest that move a book. The loop lets a bar elapse and sends at most one market order. Making the
events is not timed; building the backtest from them is.
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()

from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from hftbacktest import (  # type: ignore[import-not-found, unused-ignore]  # noqa: E402
    BUY_EVENT,
    DEPTH_EVENT,
    EXCH_EVENT,
    GTC,
    LOCAL_EVENT,
    MARKET,
    SELL_EVENT,
    BacktestAsset,
    HashMapMarketDepthBacktest,
)
from hftbacktest.types import event_dtype  # type: ignore[import-not-found, unused-ignore]  # noqa: E402
from numba import njit  # noqa: E402

from bench import peer, simple  # noqa: E402

READY = time.perf_counter()

STAKE, FEE = simple.STAKE_USD, simple.FEE
act: Any = njit(simple.act)


def events_of(ts: Any, close: Any, tick: float) -> Any:
    """The 2·T depth events of one asset."""
    events = np.zeros(2 * len(ts), event_dtype)
    price = np.maximum(np.rint(close / tick), 1.0) * tick
    for side, flag in enumerate((BUY_EVENT, SELL_EVENT)):
        half = events[side::2]
        half["ev"] = DEPTH_EVENT | EXCH_EVENT | LOCAL_EVENT | flag
        half["exch_ts"] = half["local_ts"] = ts
        half["px"] = price + side * tick
        half["qty"] = 1e9
    return events


@njit  # type: ignore[untyped-decorator, unused-ignore]
def loop(hbt: Any, step_ns: int, closes: Any, vel_div: Any, state: Any) -> int:
    """One bar at a time until the data end; give the number of round trips."""
    done, number, qty = 0, 1, 0.0
    for t in range(closes.shape[0]):
        # The first bar's events lie at the very start; the last call reports the end of the data after moving to it.
        if hbt.elapse(step_ns) > 1:
            return -1
        what = act(t, closes, vel_div, state)
        if what > 0:
            asset = what - 1
            qty = STAKE / closes[t, asset]
            hbt.submit_sell_order(asset, number, hbt.depth(asset).best_bid, qty, GTC, MARKET, False)
            number += 1
        elif what < 0:
            asset = -what - 1
            hbt.submit_buy_order(asset, number, hbt.depth(asset).best_ask, qty, GTC, MARKET, False)
            hbt.clear_inactive_orders(asset)
            number += 1
            done += 1
    return done


def build(feeds: list[Any], ticks: Any) -> Any:
    """A fresh backtest over the feeds: no latency, partial fills off, flat fee."""
    assets = [
        BacktestAsset()
        .data(feed)
        .linear_asset(1.0)
        .constant_order_latency(0, 0)
        .risk_adverse_queue_model()
        .no_partial_fill_exchange()
        .trading_value_fee_model(FEE, FEE)
        .tick_size(float(tick))
        .lot_size(1e-6)
        .last_trades_capacity(0)
        for feed, tick in zip(feeds, ticks, strict=True)
    ]
    return HashMapMarketDepthBacktest(assets)


def main(path: str, repeats: int) -> None:
    """Measure."""
    ts, closes, vel_div = peer.load(path)
    ticks = 10.0 ** np.floor(np.log10(closes.min(axis=0)) - 4.0)
    feeds = [events_of(ts, closes[:, k], tick) for k, tick in enumerate(ticks)]
    step = int(np.median(np.diff(ts)))

    def run() -> int:
        hbt = build(feeds, ticks)
        done = int(loop(hbt, step, closes, vel_div, simple.new_state()))
        fills = sum(int(hbt.state_values(k).num_trades) for k in range(len(feeds)))
        hbt.close()
        if not 2 * done - 2 <= fills <= 2 * done + 2:
            raise SystemExit(f"hftbacktest: {fills} fills for {done} round trips")
        return done

    peer.race(STARTED, READY, run, repeats, ("hftbacktest", "numba", "numpy"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
