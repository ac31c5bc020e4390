"""A frame in the grid's words: records become typed values (SPEC §8, §14)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np

from dolphin.book.payload import seconds_of
from dolphin.core.clock import ns_to_iso
from dolphin.grid import values as v
from dolphin.ops.obf.beat import Frame, Rows
from dolphin.ops.obf.state import Cat3


def iso_of(seconds: float) -> str:
    """Seconds since the epoch as the documents write them, to the microsecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def snapshot_value(row: Rows, pushed_at: str, push_seq: int) -> v.BookSnapshot:
    """One SNAPSHOT record as `asset_{SYMBOL}_ob` holds it."""
    return v.BookSnapshot(
        timestamp=iso_of(float(row["timestamp"])),
        bid_notional=row["bid_notional"].tolist(),
        ask_notional=row["ask_notional"].tolist(),
        bid_depth=row["bid_depth"].tolist(),
        ask_depth=row["ask_depth"].tolist(),
        pushed_at=pushed_at,
        push_seq=push_seq,
    )


def features_value(row: Rows, stamp_s: float, regime: int) -> v.BookFeatures:
    """One ASSET_BOOK record as a shard holds it, of the snapshot stamped `stamp_s`."""
    return v.BookFeatures(
        imbalance=float(row["imbalance"]),
        fill_probability=float(row["fill_probability"]),
        depth_quality=float(row["depth_quality"]),
        regime_signal=-1 if regime < 0 else 1 if regime > 0 else 0,
        timestamp=iso_of(stamp_s),
        depth_1pct_usd=float(row["depth_1pct_usd"]),
        spread_proxy_bps=float(row["spread_proxy_bps"]),
        depth_asymmetry=float(row["depth_asymmetry"]),
        imbalance_ma5=float(row["imbalance_ma5"]),
        imbalance_persistence=float(row["imbalance_persistence"]),
        withdrawal_velocity=float(row["withdrawal_velocity"]),
    )


def macro_bar(frame: Frame) -> v.MacroBar | None:
    """The market at the frame's bar; None without a usable book."""
    market = frame.market[0]
    if not market["usable"]:
        return None
    regime = int(market["regime_signal"])
    return v.MacroBar(
        timestamp=seconds_of(frame.now_ns),
        median_imbalance=float(market["median_imbalance"]),
        agreement=float(market["agreement"]),
        depth_pressure=float(market["depth_pressure"]),
        cascade_count=int(market["cascade_count"]),
        depth_velocity=float(market["depth_velocity"]),
        acceleration=float(market["acceleration"]),
        regime_signal=-1 if regime < 0 else 1 if regime > 0 else 0,
        assets=int(market["assets"]),
    )


def cat3_of(frame: Frame) -> Cat3:
    """Cat3's inputs: medians over the assets that count, which are usable and not STALE_DATA."""
    counts = (frame.books["usable"] != 0) & ~frame.dark & ~frame.warming
    if not counts.any():
        return Cat3(book_stale=True, depth_quality=None, fill_probability=None)
    return Cat3(
        book_stale=frame.stalled,
        depth_quality=float(np.median(frame.books["depth_quality"][counts])),
        fill_probability=float(np.median(frame.books["fill_probability"][counts])),
    )


def service_value(frame: Frame, cat3: Cat3, started_ns: int, *, held: bool) -> v.BookService:
    """What the survival stack reads of the service."""
    return v.BookService(
        started_at=ns_to_iso(started_ns),
        updated_at=ns_to_iso(frame.now_ns),
        book_stale=cat3.book_stale,
        depth_quality=cat3.depth_quality,
        fill_probability=cat3.fill_probability,
        held=held,
        assets_live=len(live(frame)),
        assets_warming=int(frame.warming.sum()),
    )


def live(frame: Frame) -> Sequence[int]:
    """The columns whose features may be used now."""
    return np.flatnonzero((frame.books["usable"] != 0) & ~frame.warming).tolist()


def status_of(frame: Frame, column: int) -> str:
    """MISSING, WARMING, STALE_DATA, LIVE or STALE: what the asset's line may be used for."""
    if frame.warming[column]:
        return "WARMING"
    if frame.books["usable"][column]:
        return "STALE_DATA" if frame.dark[column] else "LIVE"
    return "MISSING" if frame.last_s[column] == -math.inf else "STALE"
