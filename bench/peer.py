"""What the replay's contenders share: the prices file, the clock, and the JSON line they answer with.

Run by other environments than the project's: numpy and the standard library only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Any

import numpy as np


def load(path: str) -> tuple[Any, Any, Any]:
    """The prices file: stamps int64 (T,), closes float64 (T, N) with the last price where one is missing, vel_div (T,).

    A simulator cannot take NaN; before its first price an asset has that one.
    """
    with np.load(path) as file:
        ts, closes, vel_div = file["ts_ns"], file["closes"].copy(), file["vel_div"]
    for k in np.flatnonzero(np.isnan(closes).any(axis=0)):
        known = np.flatnonzero(~np.isnan(closes[:, k]))
        if not len(known):
            raise SystemExit(f"{path}: asset {k} has no price at all")
        at = np.searchsorted(known, np.arange(len(closes)), side="right") - 1
        closes[:, k] = closes[known[np.maximum(at, 0)], k]
    return ts, closes, vel_div


def race(started: float, ready: float, run: Callable[[], int], repeats: int, packages: tuple[str, ...]) -> None:
    """Call `run` (which gives its number of trades) once cold and `repeats` times warm; print the times as JSON.

    `started` is when the process began, `ready` when its imports were done. Cold is imports and first call: compiling,
    or reading a compile cache, is in it. Loading the prices is in neither.
    """
    begun = time.perf_counter()
    trades = run()
    first = time.perf_counter() - begun
    warm = []
    for _ in range(repeats):
        begun = time.perf_counter()
        again = run()
        warm.append(time.perf_counter() - begun)
        if again != trades:
            raise SystemExit(f"{sys.argv[0]}: {again} trades the second time, {trades} the first")
    answer = {
        "import_s": ready - started,
        "first_s": first,
        "cold_s": ready - started + first,
        "warm_s": warm,
        "trades": trades,
        "versions": {name: version(name) for name in packages},
    }
    print(json.dumps(answer))
