"""What really happened to a position, from the decision to the money: one record per round trip (SPEC §7, §13).

The decision's prices stand beside the venue's, so that spread, slippage, latency and lot rounding can be told apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.layout import TRADE, Record, records

ROUND_TRIP = np.dtype(
    [
        ("trade_id", "i8"),
        ("asset", "i8"),  # column of the universe
        ("side", "i8"),  # Direction: −1 SHORT, +1 LONG
        ("reason", "i8"),  # ExitReason
        ("entry_bar", "i8"),  # bar_idx of the decisions
        ("exit_bar", "i8"),
        ("entry_ts", "i8"),  # stamps of the decisions, int64 ns UTC
        ("exit_ts", "i8"),
        ("entry_fill_ts", "i8"),  # stamps of the last fill of each leg
        ("exit_fill_ts", "i8"),
        ("capital_before", "f8"),  # engine's capital at the entry decision, USDT
        ("wanted_usd", "f8"),  # notional asked for by the engine
        ("entry_price", "f8"),  # decision prices (closes of those bars; a protective stop's: its trigger)
        ("exit_price", "f8"),
        ("entry_mid", "f8"),  # middle of the venue's market when the order was filled
        ("exit_mid", "f8"),
        ("entry_fill", "f8"),  # mean price paid
        ("exit_fill", "f8"),
        ("quantity", "f8"),  # base units filled, positive
        ("lot", "f8"),  # step of the quantity, base units
        ("fees", "f8"),  # signed contributions, USDT: fees ≤ 0
        ("funding", "f8"),
        ("net_pnl", "f8"),  # side · quantity · (exit_fill − entry_fill) + fees + funding
        ("leverage", "f8"),
        ("fraction", "f8"),
        ("bucket", "i8"),
        ("confidence", "f8"),
        ("is_extreme", "i8"),
    ]
)


def as_trades(trips: NDArray[Any], capital: float) -> Record:
    """Round trips as TRADE records, whose columns split the result by cause (SPEC §7): price at the decisions, fees,
    slippage (spread, latency, lots' rounding of prices: all between decision and fill), funding; `capital` USDT is what
    the run began with."""
    trades = records(TRADE, len(trips))
    for name in ("trade_id", "asset", "side", "reason", "entry_bar", "exit_bar", "entry_ts", "exit_ts"):
        trades[name] = trips[name]
    for name in ("leverage", "fraction", "bucket", "confidence", "is_extreme", "fees", "funding", "net_pnl"):
        trades[name] = trips[name]
    trades["entry_price"], trades["exit_price"] = trips["entry_fill"], trips["exit_fill"]
    trades["notional_usd"] = trips["quantity"] * trips["entry_fill"]
    size = trips["side"] * trips["quantity"]
    trades["pnl_price"] = size * (trips["exit_price"] - trips["entry_price"])
    trades["slippage"] = size * (
        (trips["exit_fill"] - trips["exit_price"]) - (trips["entry_fill"] - trips["entry_price"])
    )
    trades["capital_after"] = capital + np.cumsum(trips["net_pnl"])
    return trades
