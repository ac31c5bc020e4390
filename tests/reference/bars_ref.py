"""The values that enter and leave the reference engine: a bar, its book, the open position, a trade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypedDict

from dolphin.core.codes import ExitReason


class AssetBook(TypedDict):
    """One asset's book features (SPEC §8)."""

    depth_quality: float
    fill_probability: float
    imbalance_ma5: float
    imbalance_persistence: float
    withdrawal_velocity: float


class MarketBook(TypedDict):
    """The market's book features (SPEC §8)."""

    median_imbalance: float
    agreement: float
    cascade_count: int
    regime_signal: int
    depth_velocity: float


class Book(TypedDict):
    """A usable book: the market, and the assets (by index) that have a snapshot."""

    market: MarketBook
    assets: dict[int, AssetBook]


class Bar(TypedDict):
    """Everything one step sees. A missing price is NaN, or anything not finite and > 0."""

    bar_idx: int
    ts_ns: int
    vel_div: float
    v50: float
    v750: float
    prices: list[float]
    vol_ok: bool
    posture: int
    acb: tuple[Literal["daily", "subday"], float, float] | None
    book: Book | None


class Trade(TypedDict):
    """One closed position; PnL columns are signed contributions in quote currency, stamps in ns."""

    asset: int
    side: int
    entry_ts: int
    exit_ts: int
    entry_bar: int
    exit_bar: int
    entry_price: float
    exit_price: float
    notional_usd: float
    leverage: float
    fraction: float
    bucket: int
    confidence: float
    is_extreme: bool
    reason: ExitReason
    pnl_price: float
    fees: float
    slippage: float
    funding: float
    modelled_edge: float
    net_pnl: float
    capital_after: float


@dataclass
class Position:
    """The open position: what entry fixed, and how many successive bars turned against it."""

    asset: int
    entry_ts: int
    entry_bar: int
    entry_price: float
    notional: float
    leverage: float
    fraction: float
    bucket: int
    confidence: float
    is_extreme: bool
    entry_spread: float
    adverse_bars: int = 0
