"""Snapshots as records: one made from its parts, and the ones that say that there is none (SPEC §8)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dolphin.book.layout import BANDS, F8, SNAPSHOT
from dolphin.core.records import Record, records


def make_snapshot(
    timestamp: float,
    bid_notional: Sequence[float] | F8,
    ask_notional: Sequence[float] | F8,
    bid_depth: Sequence[float] | F8 = (0.0,) * BANDS,
    ask_depth: Sequence[float] | F8 = (0.0,) * BANDS,
) -> Record:
    """One SNAPSHOT record; each side has five bands, the nearest to the mid price first."""
    row = records(SNAPSHOT, 1)[0]
    row.timestamp = timestamp
    row.bid_notional, row.ask_notional = bid_notional, ask_notional
    row.bid_depth, row.ask_depth = bid_depth, ask_depth
    return row


def no_snapshots(bars: int, n_assets: int) -> Record:
    """(bars, n_assets) SNAPSHOT records that say that there is none."""
    blank = records(SNAPSHOT, bars * n_assets).reshape(bars, n_assets)
    blank["timestamp"] = np.nan
    return blank
