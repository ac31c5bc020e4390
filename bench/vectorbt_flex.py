"""The simple strategy in vectorbt's flexible order function. `python -m bench.vectorbt_flex FILE REPEATS`.

Runs in the peer's own environment. One group of N columns with shared cash; the simulation with its order records is
timed, its pandas statistics are not.
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()

from typing import Any  # noqa: E402

import vectorbt as vbt  # type: ignore[import-not-found, unused-ignore]  # noqa: E402
from numba import njit  # noqa: E402
from vectorbt.portfolio import nb  # type: ignore[import-not-found, unused-ignore]  # noqa: E402

from bench import peer, simple  # noqa: E402

READY = time.perf_counter()

STAKE, FEE = simple.STAKE_USD, simple.FEE
act: Any = njit(simple.act)


@njit  # type: ignore[untyped-decorator, unused-ignore]
def order(c: Any, vel_div: Any, state: Any) -> Any:
    """At most one order a bar: vectorbt asks until it is told −1."""
    if c.call_idx > 0:
        return -1, nb.order_nothing_nb()
    what = act(c.i, c.close, vel_div, state)
    if what > 0:
        col = what - 1
        price = c.close[c.i, col]
        return col, nb.order_nb(size=-STAKE / price, price=price, fees=FEE)
    if what < 0:
        col = -what - 1
        return col, nb.close_position_nb(price=c.close[c.i, col], fees=FEE)
    return -1, nb.order_nothing_nb()


def main(path: str, repeats: int) -> None:
    """Measure."""
    _, closes, vel_div = peer.load(path)

    def run() -> int:
        portfolio = vbt.Portfolio.from_order_func(
            closes,
            order,
            vel_div,
            simple.new_state(),
            flexible=True,
            group_by=True,
            cash_sharing=True,
            init_cash=25_000.0,
            max_orders=len(closes),
            freq="1min",
        )
        return len(portfolio.orders.values) // 2

    peer.race(STARTED, READY, run, repeats, ("vectorbt", "numba", "numpy", "pandas"))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
