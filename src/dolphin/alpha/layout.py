"""The engine's records: what enters the step, what it remembers, what comes out of it.

All of them are flat NumPy records, so that the whole state can be copied, hashed, saved and restored as one value, and
so that a compiled step and a plain Python call see the same bytes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dolphin.book.layout import ASSET_BOOK as ASSET_BOOK
from dolphin.book.layout import MARKET_BOOK as MARKET_BOOK
from dolphin.core.codes import Direction
from dolphin.core.params import EngineParams
from dolphin.core.records import Record as Record
from dolphin.core.records import records as records

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

IRP_PRICES = 50
"""Prices that asset selection looks at (SPEC §4)."""

HISTORY = 64
"""Valid prices kept per asset, as a ring: a power of two, at least IRP_PRICES."""

VEL_DIV_HISTORY = 200
"""Values of vel_div kept (SPEC §12)."""

BUCKETS = 4
GATES = 11

PARAMS = np.dtype(
    [
        ("threshold", "f8"),  # magnitude at which strength starts: 0.02 SHORT, 0.01 LONG
        ("extreme", "f8"),  # magnitude at which strength is 1: 0.05 SHORT, 0.04 LONG
        ("bucket_edge", "f8", (3,)),  # magnitudes that open buckets 0, 1, 2
        ("min_leverage", "f8"),
        ("max_leverage", "f8"),
        ("abs_max_leverage", "f8"),
        ("leverage_convexity", "f8"),
        ("fraction", "f8"),
        ("fixed_tp_pct", "f8"),
        ("stop_pct", "f8"),
        ("max_hold_bars", "i8"),
        ("dc_lookback_bars", "i8"),
        ("dc_min_magnitude_bps", "f8"),
        ("dc_skip_contradicts", "i8"),
        ("dc_leverage_boost", "f8"),
        ("min_irp_alignment", "f8"),
        ("sp_maker_entry_rate", "f8"),
        ("sp_maker_exit_rate", "f8"),
        ("ob_edge_bps", "f8"),
        ("ob_confirm_rate", "f8"),
        ("lookback", "i8"),
        ("use_asset_selection", "i8"),
        ("irp_relative", "i8"),
        ("use_sp_fees", "i8"),
        ("use_sp_slippage", "i8"),
        ("use_ob_edge", "i8"),
        ("vd_enabled", "i8"),
        ("vd_adverse", "f8"),
        ("vd_bars", "i8"),
        ("tf_enabled", "i8"),
        ("tf_exhaust_ratio", "f8"),
        ("tf_flip_ratio", "f8"),
        ("direction", "i8"),  # −1 SHORT, +1 LONG
        ("fallback_asset", "i8"),  # column traded when selection is off; −1: not in the universe
    ]
)

STATE = np.dtype(
    [
        ("bar_idx", "i8"),  # bars over the whole run, from 0; −1 before the first
        ("bar_count", "i8"),
        ("last_exit_bar", "i8"),
        ("last_ts_ns", "i8"),
        ("capital", "f8"),
        ("equity", "f8"),  # capital + open profit, marked at the held asset's last valid price
        ("peak_equity", "f8"),
        ("max_drawdown", "f8"),
        ("bars_in_position", "i8"),
        ("boost", "f8"),
        ("beta", "f8"),
        ("mc_scale", "f8"),
        ("mc_red", "i8"),
        ("regime_size_mult", "f8"),
        ("subday_exit", "i8"),
        ("draws", "i8"),  # k: closes so far, whatever their reason
        ("recent_losses", "i8"),  # one bit per trade, the latest lowest
        ("bucket_trades", "i8", (BUCKETS,)),
        ("bucket_wins", "i8", (BUCKETS,)),
        ("gates", "i8", (GATES,)),  # bars by the gate that refused
        ("open", "i8"),
        ("asset", "i8"),
        ("entry_bar", "i8"),
        ("entry_ts_ns", "i8"),
        ("entry_price", "f8"),
        ("notional_usd", "f8"),
        ("leverage", "f8"),
        ("used_fraction", "f8"),
        ("bucket", "i8"),
        ("confidence", "f8"),
        ("is_extreme", "i8"),
        ("entry_spread", "f8"),  # v50 − v750 at entry
        ("adverse_bars", "i8"),
        ("book_usable", "i8"),  # the held asset's book at the last processed bar
        ("depth_quality", "f8"),
        ("fill_probability", "f8"),
    ]
)

BAR = np.dtype(
    [
        ("ts_ns", "i8"),
        ("vel_div", "f8"),
        ("v50", "f8"),
        ("v750", "f8"),
        ("vol_regime_ok", "i8"),
        ("posture", "i8"),
        ("acb_update", "i8"),
        ("acb_boost", "f8"),
        ("acb_beta", "f8"),
    ]
)

EVENT = np.dtype(
    [
        ("bar_idx", "i8"),
        ("ts_ns", "i8"),
        ("gate", "i8"),
        ("exit_reason", "i8"),
        ("asset", "i8"),  # chosen at this bar, or −1
        ("ranked", "i8"),  # assets that passed every filter of the selection
        ("confirmation", "i8"),
        ("bucket", "i8"),
        ("vel_div", "f8"),
        ("regime_size_mult", "f8"),
        ("ars", "f8"),
        ("chg_bps", "f8"),
        ("confidence", "f8"),
        ("strength", "f8"),
        ("trend_mult", "f8"),
        ("bucket_boost", "f8"),
        ("streak_mult", "f8"),
        ("market_ob_mult", "f8"),
        ("fraction", "f8"),
        ("leverage", "f8"),
        ("notional_usd", "f8"),
        ("price", "f8"),  # the decision price of an entry
        ("capital", "f8"),
        ("equity", "f8"),
        ("in_position", "i8"),
        ("posture", "i8"),  # the one acted in
        ("rm", "f8"),  # risk multiplier of the latest reading; NaN without sensors, or before the first
    ]
)

TRADE = np.dtype(
    [
        ("trade_id", "i8"),
        ("asset", "i8"),
        ("side", "i8"),
        ("entry_ts", "i8"),
        ("exit_ts", "i8"),
        ("entry_bar", "i8"),
        ("exit_bar", "i8"),
        ("entry_price", "f8"),
        ("exit_price", "f8"),
        ("notional_usd", "f8"),
        ("leverage", "f8"),
        ("fraction", "f8"),
        ("bucket", "i8"),
        ("confidence", "f8"),
        ("is_extreme", "i8"),
        ("reason", "i8"),
        ("pnl_price", "f8"),
        ("fees", "f8"),
        ("slippage", "f8"),
        ("funding", "f8"),
        ("modelled_edge", "f8"),
        ("net_pnl", "f8"),
        ("capital_after", "f8"),
    ]
)

PROFILE = np.dtype(
    [
        ("drop", "i8"),  # Drop code
        ("action", "i8"),  # +1 as the regime trades, −1 against it
        ("ars", "f8"),
        ("alignment", "f8"),
        ("noise", "f8"),
        ("latency", "i8"),
        ("efficiency", "f8"),
    ]
)


def pack_params(params: EngineParams, direction: Direction, fallback_asset: int) -> Record:
    """The parameters as one record; `fallback_asset` is the column of BTCUSDT, or −1."""
    c = params.champion
    row = records(PARAMS, 1)[0]
    for name in PARAMS.names or ():
        if hasattr(c, name):
            setattr(row, name, getattr(c, name))
        elif hasattr(params, name):
            setattr(row, name, getattr(params, name))
    if direction == Direction.SHORT:
        row.threshold, row.extreme = -c.vel_div_threshold, -c.vel_div_extreme
        edges = (-(c.vel_div_extreme * 1.5), -c.vel_div_extreme, -(c.vel_div_threshold + c.vel_div_extreme) / 2.0)
    else:
        row.threshold, row.extreme = params.long_threshold, params.long_extreme
        edges = (
            params.long_extreme * 1.5,
            params.long_extreme,
            (params.long_threshold + params.long_extreme) / 2.0,
        )
    row.bucket_edge[:] = edges
    row.irp_relative = params.irp_returns == "relative"
    row.direction = int(direction)
    row.fallback_asset = fallback_asset
    return row
