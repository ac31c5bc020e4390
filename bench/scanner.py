"""The scanner beside numpy's `corrcoef` and `eigvalsh`: µs per bar, one thread, and how far the two disagree.

    python -m bench.scanner [--quick]

prints one JSON object. Each repeat takes the contenders in turn (batch, numpy, stream, numpy), so that a busy
machine slows both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import markets
from bench.common import ONE_THREAD, say, spread
from dolphin.core.clock import NS_PER_S
from dolphin.scan.layout import WINDOWS
from dolphin.scan.scanner import Scanner

F8 = NDArray[np.float64]

WARM_UP = 800
"""Bars that fill the longest window, untimed."""

Maker = Callable[[int, int], F8 | None]
CASES: tuple[tuple[str, Maker, tuple[int, ...]], ...] = (
    ("recorded", markets.recorded, (10, 50)),
    ("synthetic", markets.synthetic, (10, 50, 100, 200, 400)),
    ("crowded", markets.crowded, (50,)),
    ("wandering", markets.wandering, (50,)),
)


def measure(market: str, closes: F8, repeats: int, quick: bool) -> dict[str, Any]:
    """One row: times in µs per bar, ratios of the minima, and the largest relative error of λ at sampled bars."""
    bars, assets = len(closes) - WARM_UP, closes.shape[1]
    ts = (np.arange(len(closes), dtype=np.int64) + 1) * (60 * NS_PER_S)
    returns = np.diff(np.log(closes), axis=0, prepend=np.nan)
    # About half a second of numpy a turn, on the same bars each time.
    count = max(6, int((0.1 if quick else 0.4) / _numpy_bar_s(returns)))
    sample = np.unique(np.linspace(WARM_UP, len(closes) - 1, min(count, bars)).astype(np.int64))
    batch, stream, numpy_us = [], [], []
    for _ in range(repeats):
        batch.append(_batch_us(ts, closes))
        numpy_us.append(_numpy_us(returns, sample))
        stream.append(_stream_us(ts, closes))
        numpy_us.append(_numpy_us(returns, sample))
    error, gaps = _check(ts, closes, returns, sample[:: max(1, len(sample) // 60)])
    return {
        "market": market,
        "assets": assets,
        "bars": bars,
        "numpy_bars": len(sample),
        "batch_us": spread(batch),
        "stream_us": spread(stream),
        "numpy_us": spread(numpy_us),
        "ratio_batch": min(numpy_us) / min(batch),
        "ratio_stream": min(numpy_us) / min(stream),
        "ratio_batch_median": float(np.median(numpy_us) / np.median(batch)),
        "error": error,
        "eigenvalue_ratio": gaps,
    }


def _numpy_top(returns: F8, t: int, window: int) -> F8:
    """All eigenvalues, ascending, of the correlation matrix of the `window` returns up to bar t."""
    return np.linalg.eigvalsh(np.corrcoef(returns[t - window + 1 : t + 1], rowvar=False))


def _numpy_bar_s(returns: F8) -> float:
    taken = []
    for t in (-3, -2, -1):
        started = time.perf_counter()
        for window in WINDOWS:
            _numpy_top(returns, len(returns) + t, window)
        taken.append(time.perf_counter() - started)
    return min(taken)


def _numpy_us(returns: F8, sample: NDArray[np.int64]) -> float:
    started = time.perf_counter()
    for t in sample:
        for window in WINDOWS:
            _numpy_top(returns, int(t), window)
    return (time.perf_counter() - started) / len(sample) * 1e6


def _warm(ts: NDArray[np.int64], closes: F8) -> Scanner:
    scanner = Scanner(closes.shape[1], 60.0)
    scanner.scan(ts[:WARM_UP], closes[:WARM_UP])
    return scanner


def _batch_us(ts: NDArray[np.int64], closes: F8) -> float:
    scanner = _warm(ts, closes)
    started = time.perf_counter()
    scanner.scan(ts[WARM_UP:], closes[WARM_UP:])
    return (time.perf_counter() - started) / (len(ts) - WARM_UP) * 1e6


def _stream_us(ts: NDArray[np.int64], closes: F8) -> float:
    scanner = _warm(ts, closes)
    stamps = [int(t) for t in ts]
    started = time.perf_counter()
    for t in range(WARM_UP, len(stamps)):
        scanner.update(stamps[t], closes[t])
    return (time.perf_counter() - started) / (len(ts) - WARM_UP) * 1e6


def _check(ts: NDArray[np.int64], closes: F8, returns: F8, sample: NDArray[np.int64]) -> tuple[float, list[float]]:
    """The largest |λ/λ_numpy − 1| over the sampled bars and the windows; the median of λ₁/λ₂ in each window."""
    table = Scanner(closes.shape[1], 60.0).scan(ts, closes)
    error = 0.0
    gaps: list[list[float]] = [[] for _ in WINDOWS]
    for t in sample:
        for k, window in enumerate(WINDOWS):
            values = _numpy_top(returns, int(t), window)
            error = max(error, abs(float(table.largest_eigenvalue[t, k] / values[-1]) - 1.0))
            gaps[k].append(float(values[-1] / values[-2]))
    return error, [float(np.median(g)) for g in gaps]


def main(argv: list[str]) -> None:
    """Measure every market and size and print one JSON object."""
    quick = "--quick" in argv
    bars, repeats = (700, 2) if quick else (2400, 9)
    rows = []
    for name, make, sizes in CASES:
        for assets in sizes:
            if quick and assets > 100:
                continue
            closes = make(assets, WARM_UP + bars)
            if closes is None:
                say(f"scanner: no {name} data for {assets} assets beside the checkout; row left out")
                continue
            rows.append(measure(name, closes, repeats, quick))
            row = rows[-1]
            say(f"scanner: {name} {assets}: {row['batch_us']['min']:.1f} µs, {row['ratio_batch']:.0f} × numpy")
    print(json.dumps({"rows": rows, "repeats": repeats, "windows": list(WINDOWS), "pinned": sorted(ONE_THREAD)}))


if __name__ == "__main__":
    main(sys.argv[1:])
