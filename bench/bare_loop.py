"""The simple strategy as a bare Numba loop: the floor under every simulator.

python -m bench.bare_loop FILE REPEATS
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()

from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from numba import njit  # noqa: E402

from bench import peer, simple  # noqa: E402

READY = time.perf_counter()

STAKE, FEE = simple.STAKE_USD, simple.FEE
act: Any = njit(simple.act)


def simulate(closes: Any, vel_div: Any, state: Any, trades: Any) -> int:
    """Run all bars; write (asset, entry, exit, profit in USD) rows to `trades`, give their number."""
    done, entry, price = 0, 0, 0.0
    for t in range(closes.shape[0]):
        what = act(t, closes, vel_div, state)
        if what > 0:
            entry, price = t, closes[t, what - 1]
        elif what < 0:
            now = closes[t, -what - 1]
            profit = STAKE * ((price - now) / price - FEE * (1.0 + now / price))
            trades[done, 0], trades[done, 1], trades[done, 2], trades[done, 3] = -what - 1, entry, t, profit
            done += 1
    return done


def main(path: str, repeats: int) -> None:
    """Measure."""
    _, closes, vel_div = peer.load(path)
    compiled: Any = njit(simulate)

    def run() -> int:
        return int(compiled(closes, vel_div, simple.new_state(), np.empty((len(closes), 4))))

    peer.race(STARTED, READY, run, repeats, ("numba", "numpy"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
