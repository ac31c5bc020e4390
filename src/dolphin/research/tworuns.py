"""What a replay and a venue run must hold before they are compared, and which of their trades belong together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.layout import F8, I8, TRADE
from dolphin.core.errors import DataError
from dolphin.trade.ledger import ROUND_TRIP

Trades = NDArray[Any]
"""Records of TRADE (a replay's) or ROUND_TRIP (a venue run's), one per closed position, in order of entry."""

_MONEY = ("entry_price", "exit_price", "notional_usd", "net_pnl", "capital_after")
_POSITIVE = (
    *("capital_before", "wanted_usd", "entry_price", "exit_price", "entry_mid", "exit_mid", "entry_fill", "exit_fill"),
    *("quantity", "lot"),
)
_ROUNDING = 1e-9


def check_runs(replay: Trades, venue: Trades, assets: Sequence[str]) -> None:
    """Refuse runs that cannot be compared: columns missing, trades out of order, values that are no prices or money.

    `assets` are the names of the universe's columns, the same for both runs. Raises DataError, naming the run, the
    trade, the column, and the value met.
    """
    _check_order("replay", replay, TRADE, assets)
    _check_order("venue", venue, ROUND_TRIP, assets)
    for name in _MONEY:
        _refuse("replay", replay, name, ~np.isfinite(replay[name]), "a finite number")
    for name in ("entry_price", "exit_price", "notional_usd"):
        _refuse("replay", replay, name, ~(replay[name] > 0.0), "a number above 0")
    broke = replay["capital_after"] - replay["net_pnl"] <= 0.0
    _refuse("replay", replay, "capital_after", broke, "more than net_pnl alone: an entry needs capital")
    for name in _POSITIVE:
        _refuse("venue", venue, name, ~(np.isfinite(venue[name]) & (venue[name] > 0.0)), "a finite number above 0")
    for name in ("fees", "funding", "net_pnl"):
        _refuse("venue", venue, name, ~np.isfinite(venue[name]), "a finite number")
    price_pnl = returns(replay) * replay["notional_usd"]
    odd = np.abs(replay["net_pnl"] - price_pnl) > _ROUNDING * replay["notional_usd"]
    _refuse("replay", replay, "net_pnl", odd, "the price move alone; replay with --friction none")


def returns(trades: Trades) -> F8:
    """`d·(exit − entry)/entry` at decision prices, a fraction, float64 (K,), of either run's trades (SPEC §7)."""
    result: F8 = trades["side"] * (trades["exit_price"] - trades["entry_price"]) / trades["entry_price"]
    return result


def matched_rows(replay: Trades, venue: Trades, assets: int) -> tuple[I8, I8]:
    """Rows of both runs side by side, matched by entry bar and asset, in order of entry.

    Two int64 (K,): the row in `replay` and the row in `venue`, −1 where that run has no such trade. `assets` is the
    number of columns; runs are as `check_runs` wants them.
    """
    keys = [np.asarray(run["entry_bar"] * assets + run["asset"], dtype=np.int64) for run in (replay, venue)]
    every = np.union1d(*keys)
    rows = [np.full(len(every), -1, dtype=np.int64) for _ in keys]
    for row, key in zip(rows, keys, strict=True):
        row[np.searchsorted(every, key)] = np.arange(len(key))
    return rows[0], rows[1]


def _check_order(run: str, trades: Trades, layout: np.dtype[Any], assets: Sequence[str]) -> None:
    have = trades.dtype.names or ()
    absent = [name for name in layout.names or () if name not in have]
    if absent:
        raise DataError(f"{run} trades: no column {absent[0]!r}; expected the records as the run gives them, one per "
                        "closed position")  # fmt: skip
    outside = (trades["asset"] < 0) | (trades["asset"] >= len(assets))
    _refuse(run, trades, "asset", outside, f"a column 0 … {len(assets) - 1}; give the names of the run's universe")
    _refuse(run, trades, "side", np.abs(trades["side"]) != 1, "−1 or +1")
    early = np.diff(trades["entry_bar"], prepend=-1) <= 0
    _refuse(run, trades, "entry_bar", early, "a bar after the entry before it; sort the trades, and keep one run only")
    _refuse(run, trades, "exit_bar", trades["exit_bar"] < trades["entry_bar"], "a bar not before the entry")


def _refuse(run: str, trades: Trades, column: str, bad: NDArray[np.bool_], expected: str) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        row = trades[rows[0]]
        raise DataError(f"{run} trade {int(row['trade_id'])}: {column} is {row[column]:.10g}, expected {expected}")
