"""The order book's features: `python -m bench.book [--quick]` prints one JSON object.

µs per bar, minimum of the repeats: the compiled kernels over many bars, beside NumPy, whose features must be the same;
`step_live` from Python, with a provider that answers for all assets at once and with one that is asked asset by asset;
and one feature asked for. Books are random, so branches are mispredicted as often as they can be.
"""

from __future__ import annotations

import json
import sys
import time
import timeit
from collections.abc import Sequence
from typing import Any

import numpy as np

from bench.common import BenchError
from bench.plainbook import OF_ASSETS, OF_MARKET, NumpyBook
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import ASSET_BOOK, LIMITS, MARKET_BOOK, MAX_AGE_S, MAX_STALE_BARS, new_book_state
from dolphin.book.snapshots import no_snapshots
from dolphin.book.update import BOOK
from dolphin.core.native import Flat
from dolphin.core.records import records

NS = 1_000_000_000


class One:
    """Shows one bar's snapshots, asset by asset."""

    def __init__(self, assets: Sequence[str], snapshots: Any) -> None:
        self.all = snapshots
        self._rows = {asset: snapshots[0, i] for i, asset in enumerate(assets)}

    def get_snapshot(self, asset: str, ts: float) -> Any:
        """The asset's."""
        return self._rows[asset]

    def get_all_timestamps(self, asset: str) -> Sequence[float]:
        """None: it is live."""
        return ()


class All(One):
    """The same, all assets at once."""

    def fill_snapshots(self, assets: Sequence[str], ts: Any, out: Any) -> None:
        """One copy."""
        out[...] = self.all


def made_snapshots(bars: int, n: int) -> Any:
    """(bars, n) snapshots, one a second from second 1 on."""
    rng = np.random.default_rng(1)
    snapshots = no_snapshots(bars, n)
    snapshots["timestamp"] = np.arange(1, bars + 1)[:, None]
    for side in ("bid_notional", "ask_notional"):
        snapshots[side] = rng.uniform(1e5, 1e6, (bars, n, 5))
    return snapshots


def numpy_us(n: int, bars: int) -> float:
    """The peer. BenchError when its features are not the kernels'."""
    snapshots = made_snapshots(bars, n)
    plain, best = NumpyBook(n), np.inf
    bids, asks = (np.ascontiguousarray(snapshots[side]) for side in ("bid_notional", "ask_notional"))
    for bar in range(bars):
        start = time.perf_counter()
        plain.step(bids[bar], asks[bar])
        best = min(best, time.perf_counter() - start)
    markets, books = kernel_features(snapshots)
    for names, row in ((OF_ASSETS, books[-1]), (OF_MARKET, markets[-1])):
        for name in names:
            if not np.allclose(getattr(plain, name), row[name], rtol=1e-9, atol=1e-12):
                raise BenchError(f"book: {name} of {n} assets is not what NumPy finds")
    return best * 1e6


def kernel_features(snapshots: Any) -> tuple[Any, Any]:
    """What the kernels make of snapshots, one a second."""
    bars, n = snapshots.shape
    limits = records(LIMITS, 1)[0]
    limits.max_stale_bars, limits.max_age_s = MAX_STALE_BARS, MAX_AGE_S
    markets, books = records(MARKET_BOOK, bars), records(ASSET_BOOK, bars * n).reshape(bars, n)
    state, now_s = Flat(new_book_state(n), limits), np.arange(1.0, bars + 1.0)
    BOOK(state, 0, 0, now_s, snapshots, np.zeros(bars, np.int64), markets, books)
    return markets, books


def get_us(n: int, repeats: int) -> dict[str, float]:
    """One call of each question, the best of the repeats of a thousand."""
    assets = tuple(f"A{i:03d}USDT" for i in range(n))
    snapshots = made_snapshots(1, n)
    engine = OBFeatureEngine(assets, All(assets, snapshots))
    for bar in range(1, 20):
        snapshots["timestamp"] = bar
        engine.step_live(assets, bar, bar * NS)
    asset = assets[n // 2]
    questions = {
        "get_placement": lambda: engine.get_placement(asset, 19),
        "get_signal": lambda: engine.get_signal(asset, 19),
        "get_market": lambda: engine.get_market(19),
        "get_macro": lambda: engine.get_macro(19),
        "get_market_multiplier": lambda: engine.get_market_multiplier(-1, 19),
    }
    return {name: min(timeit.repeat(ask, number=1000, repeat=repeats)) * 1e3 for name, ask in questions.items()}


def kernel_us(n: int, bars: int, repeats: int) -> float:
    """The compiled loop, over few enough bars to stay in the processor's caches, as a live step's one does; less what a
    call of it for no bar at all takes, which is Python's."""
    snapshots, limits = made_snapshots(bars, n), records(LIMITS, 1)[0]
    limits.max_stale_bars, limits.max_age_s = MAX_STALE_BARS, MAX_AGE_S
    out = (np.zeros(bars, np.int64), records(MARKET_BOOK, bars), records(ASSET_BOOK, bars * n).reshape(bars, n))
    state, best, empty = Flat(new_book_state(n), limits), np.inf, np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        BOOK(state, 0, 0, np.zeros(0), snapshots[:0], *out)
        empty = min(empty, time.perf_counter() - start)
    for first in range(0, repeats * bars, bars):
        now_s = np.arange(first + 1.0, first + bars + 1.0)
        snapshots["timestamp"] = now_s[:, None]
        start = time.perf_counter()
        BOOK(state, first, 0, now_s, snapshots, *out)
        best = min(best, time.perf_counter() - start)
    return (best - empty) / bars * 1e6


def live_us(n: int, kind: type[One], bars: int) -> float:
    """`step_live`, the best of `bars` steps."""
    assets = tuple(f"A{i:03d}USDT" for i in range(n))
    snapshots, best = made_snapshots(1, n), np.inf
    engine = OBFeatureEngine(assets, kind(assets, snapshots))
    for bar in range(1, bars + 1):
        snapshots["timestamp"] = bar
        start = time.perf_counter()
        engine.step_live(assets, bar, bar * NS)
        best = min(best, time.perf_counter() - start)
    return best * 1e6


def main(argv: list[str]) -> None:
    """Measure and print."""
    quick = "--quick" in argv
    rows = [
        {
            "assets": n,
            "kernel_us": kernel_us(n, 800 // n, 3 if quick else 1000),
            "live_all_us": live_us(n, All, 50 if quick else 2000),
            "live_one_by_one_us": live_us(n, One, 50 if quick else 2000),
            "numpy_us": numpy_us(n, 50 if quick else 2000),
        }
        for n in (10, 50, 400)
    ]
    print(json.dumps({"rows": rows, "get_us": get_us(50, 3 if quick else 50)}))


if __name__ == "__main__":
    main(sys.argv[1:])
