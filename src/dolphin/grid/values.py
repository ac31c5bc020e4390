"""What the values of the grid hold, as JSON objects (SPEC §14, §23; the Bible's §15.1).

A field without a default must be there; one that is `UNSET` by default may be left out, and is then not written. None
is JSON's null: a number that is not known, NaN inside. Fields that a type does not name are let pass. `_v` is the
schema's version: left out it is 1, which is what the documents show.
"""

from __future__ import annotations

import itertools
from datetime import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType, field

Text = Annotated[str, Meta(min_length=1, max_length=200)]
Symbol = Annotated[str, Meta(pattern=r"^[A-Z0-9]{1,30}$")]
Date = Annotated[str, Meta(pattern=r"^\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])$")]
Iso = Annotated[
    str, Meta(pattern=r"^\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d(\.\d{1,9})?)?(Z|[+-]\d\d:?\d\d)?$", max_length=40)
]
"""ISO 8601; UTC when it names no zone."""
Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{16}$")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
Signed = Annotated[float, Meta(ge=-1.0, le=1.0)]
Positive = Annotated[float, Meta(ge=0.0)]
Count = Annotated[int, Meta(ge=0)]
Nanoseconds = Annotated[int, Meta(ge=0)]
Seconds = Annotated[float, Meta(ge=0.0, lt=1e11)]
PostureName = Literal["APEX", "STALKER", "TURTLE", "HIBERNATE"]
Status = Literal["OK", "ORANGE", "RED"]


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """What every object has."""

    schema: Annotated[int, Meta(ge=1)] | UnsetType = field(default=UNSET, name="_v")


class Safety(Value, frozen=True, kw_only=True):
    """The survival stack's verdict. `sensors` are Cat1 … Cat5, each in [0, 1]; `posture` is what the engine obeys."""

    posture: PostureName
    Rm: Share
    sensors: dict[str, Share | None]
    target: Share | UnsetType = UNSET
    reasons: list[str] | UnsetType = UNSET
    updated_at: Iso | UnsetType = UNSET


class KillSwitch(Value, frozen=True, kw_only=True):
    """Engaged: flatten and halt within one bar, and stay so over restarts, until somebody releases it."""

    engaged: bool
    reason: Text
    by: Text
    updated_at: Iso


class AcbBoost(Value, frozen=True, kw_only=True):
    """The circuit breaker's update. `fence` is the writer's lock token: one below the last seen comes from a writer
    that lost the lock."""

    boost: Annotated[float, Meta(ge=1.0, le=3.0)]
    beta: Share
    date: Date | UnsetType = UNSET
    signals: Positive | UnsetType = UNSET
    updated_at: Iso | UnsetType = UNSET
    fence: Count | UnsetType = UNSET


class EigenScan(Value, frozen=True, kw_only=True):
    """One scan. Velocities per bar, null while a window fills; a price that is missing is null. `assets`,
    `asset_prices` and `asset_loadings` go together, asset by asset."""

    scan_number: Count
    timestamp_ns: Nanoseconds
    vel_div: float | None
    w50_velocity: float | None
    w750_velocity: float | None
    instability_50: float | None
    asset_prices: list[float | None]
    assets: list[Symbol] | UnsetType = UNSET
    asset_loadings: list[float | None] | UnsetType = UNSET
    w150_velocity: float | UnsetType | None = UNSET
    w300_velocity: float | UnsetType | None = UNSET
    instability_150: float | UnsetType | None = UNSET
    vol_regime_ok: bool | UnsetType = UNSET
    bar_seconds: Annotated[float, Meta(gt=0.0)] | UnsetType = UNSET

    def __post_init__(self) -> None:
        """Refuse lists that do not go together."""
        prices = len(self.asset_prices)
        for name, values in (("assets", self.assets), ("asset_loadings", self.asset_loadings)):
            if values is not UNSET and len(values) != prices:
                raise ValueError(f"{len(values)} {name} for {prices} asset_prices")
        if self.assets is not UNSET and len(set(self.assets)) != prices:
            raise ValueError("assets: one is named twice")


class DailyResult(Value, frozen=True, kw_only=True):
    """One day's result, USDT. `stale_state`: what the day was decided on had changed meanwhile; never for orders."""

    pnl: float
    capital: float
    trades: Count
    boost: float
    beta: float
    mc_status: Status
    date: Date | UnsetType = UNSET
    posture: PostureName | UnsetType = UNSET
    param_hash: Hash | UnsetType = UNSET
    stale_state: bool | UnsetType = UNSET


class PaperState(Value, frozen=True, kw_only=True):
    """What the paper flow goes on from. `engine_state` is the engine's sealed snapshot, base64, null when it was not
    kept; `drawdown` a fraction of `peak_capital`."""

    strategy: Text
    capital: float
    date: Date
    pnl: float
    trades: Count
    peak_capital: float
    drawdown: Share
    engine_state: bytes | None
    updated_at: Iso


class NautilusState(Value, frozen=True, kw_only=True):
    """What the NautilusTrader flow goes on from: `capital`, if `param_hash` is still the champion's."""

    strategy: Text
    capital: float
    date: Date
    pnl: float
    trades: Count
    posture: PostureName
    param_hash: Hash
    engine: Text | UnsetType = UNSET
    updated_at: Iso | UnsetType = UNSET
    boost: float | UnsetType = UNSET
    beta: float | UnsetType = UNSET
    mc_status: Status | UnsetType = UNSET
    stale_state: bool | UnsetType = UNSET


class LeftBehind(Value, frozen=True, kw_only=True):
    """What a session left at the venue: `quantity` signed, base units, exact; client order ids that stand."""

    instrument: Text
    quantity: Annotated[str, Meta(pattern=r"^-?\d+(\.\d+)?$", max_length=60)]
    orders: list[Text]


class FlowHeartbeat(Value, frozen=True, kw_only=True):
    """A flow is alive and where it is."""

    ts: Seconds
    iso: Iso
    run_date: Date
    phase: Literal["flow_start", "engine_start", "flow_end"]
    flow: Text


class DaemonHeartbeat(Value, frozen=True, kw_only=True):
    """A daemon is alive. `beats` since its start, `period_s` until the next; `detail` in words."""

    ts: Seconds
    iso: Iso
    phase: Literal["starting", "running", "degraded", "stopping", "stopped"]
    pid: Count | UnsetType = UNSET
    beats: Count | UnsetType = UNSET
    period_s: Positive | UnsetType = UNSET
    detail: str | UnsetType = UNSET


Bands = Annotated[list[Positive], Meta(min_length=5, max_length=5)]


class BookSnapshot(Value, frozen=True, kw_only=True):
    """An asset's order book in five bands of 1 % around mid: USDT and base units, per band. `timestamp` is ISO 8601 or
    seconds."""

    timestamp: Iso | Seconds
    bid_notional: Bands
    ask_notional: Bands
    bid_depth: Bands
    ask_depth: Bands
    pushed_at: Iso | UnsetType = field(default=UNSET, name="_pushed_at")
    push_seq: Count | UnsetType = field(default=UNSET, name="_push_seq")


class BookFeatures(Value, frozen=True, kw_only=True):
    """Features of an asset's book; `regime_signal` is the market's."""

    imbalance: Signed
    fill_probability: Share
    depth_quality: Positive
    regime_signal: Literal[-1, 0, 1]
    timestamp: Iso | Seconds | UnsetType = UNSET
    depth_1pct_usd: Positive | UnsetType = UNSET
    spread_proxy_bps: Positive | UnsetType = UNSET
    depth_asymmetry: Signed | UnsetType = UNSET
    imbalance_ma5: Signed | UnsetType = UNSET
    imbalance_persistence: Share | UnsetType = UNSET
    withdrawal_velocity: Annotated[float, Meta(ge=-1.0)] | UnsetType = UNSET


class MacroBar(msgspec.Struct, frozen=True, kw_only=True):
    """The market's features at one bar, which `timestamp` names."""

    timestamp: Seconds
    median_imbalance: Signed
    agreement: Share
    depth_pressure: float
    cascade_count: Count
    depth_velocity: Annotated[float, Meta(ge=-1.0)]
    acceleration: float
    regime_signal: Literal[-1, 0, 1]
    assets: Count


class BookMacro(Value, frozen=True, kw_only=True):
    """The market's features by bar: the newest bars, in order of time, so that a reader takes that of its own bar."""

    bars: Annotated[list[MacroBar], Meta(max_length=100)]

    def __post_init__(self) -> None:
        """Refuse bars out of order."""
        stamps = [bar.timestamp for bar in self.bars]
        if any(later <= earlier for earlier, later in itertools.pairwise(stamps)):
            raise ValueError("bars: their timestamps do not increase")


class BookService(Value, frozen=True, kw_only=True):
    """What the survival stack's Cat3 reads of the book: medians over assets with a usable book, null without one.
    `held`: the values saved before a restart, while the service is younger than 120 s."""

    started_at: Iso
    updated_at: Iso
    book_stale: bool
    depth_quality: Positive | None
    fill_probability: Share | None
    held: bool
    assets_live: Count
    assets_warming: Count


class ExternalFactors(Value, frozen=True, kw_only=True):
    """The latest external factors, null where one could not be had: BTC funding (fraction per settlement), DVOL (per
    cent a year), Fear & Greed (0 to 100), taker buy/sell ratio. `stamps` are when each was known, seconds."""

    funding_btc: float | None
    dvol_btc: Positive | None
    fng: Annotated[float, Meta(ge=0.0, le=100.0)] | None
    taker: Positive | None
    updated_at: Iso
    stamps: dict[str, Seconds | None] | UnsetType = UNSET


class ForewarnerReport(Value, frozen=True, kw_only=True):
    """The forewarner's word for a day; null where it could not be known, and the status is then RED."""

    status: Status
    catastrophic_probability: Share | None
    envelope_score: float | None
    date: Date
    updated_at: Iso
    predicted_roi: float | UnsetType | None = UNSET
    predicted_max_drawdown: float | UnsetType | None = UNSET
    outside: list[str] | UnsetType = UNSET


class Signal(Value, frozen=True, kw_only=True):
    """What a profile's signal says at a scan. `valid`: an entry would be looked for; `confidence` without the book."""

    profile: Text
    scan_number: Count
    timestamp_ns: Nanoseconds
    direction: Literal["SHORT", "LONG"]
    vel_div: float | None
    valid: bool
    is_extreme: bool
    confidence: Positive
    asset: Symbol | UnsetType | None = UNSET


class MarketSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One asset at one scan, as paper trading's core takes it (the Bible's §2a.5): price in USDT, the scan's loadings
    as `eigenvalues`, one per asset."""

    timestamp: datetime
    symbol: str
    price: float
    eigenvalues: list[float]
    velocity_divergence: float
    scan_number: int
