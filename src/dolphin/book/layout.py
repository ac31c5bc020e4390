"""The book's records: a snapshot, what the engine's step reads, and what is remembered from bar to bar (SPEC §8)."""

from __future__ import annotations

import math
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.core.records import Record, records

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

BANDS = 5
"""Bands of 1 % on each side of the mid price, the nearest first."""

IMBALANCES = 10
"""Imbalances remembered per asset: what persistence looks at."""

MA_IMBALANCES = 5
"""Of which the moving average takes the latest."""

DEPTHS = 6
"""Depths remembered: withdrawal compares the latest with the one up to five before (SPEC §23)."""

CACHE_BARS = 500
"""Bars whose features can be asked for after the fact (SPEC §8)."""

MAX_STALE_BARS = 12
"""How long features of an earlier bar stand in for missing ones."""

MAX_AGE_S = 60.0
"""A snapshot that was older than this when it came says nothing."""

EMPTY_BARS = 3
"""Bars in a row without a new snapshot of any asset, from which on the owner is warned."""

DARK_BARS = 10
"""Snapshots in a row without any order in them that make an asset STALE_DATA."""

SNAPSHOT = np.dtype(
    [
        ("timestamp", "f8"),  # seconds since the epoch, UTC; NaN: there is no snapshot
        ("bid_notional", "f8", (BANDS,)),  # USD per band, not cumulative
        ("ask_notional", "f8", (BANDS,)),
        ("bid_depth", "f8", (BANDS,)),  # base units per band; no formula reads them
        ("ask_depth", "f8", (BANDS,)),
    ]
)

MARKET_BOOK = np.dtype(
    [
        ("usable", "i8"),
        ("median_imbalance", "f8"),
        ("agreement", "f8"),
        ("cascade_count", "i8"),
        ("regime_signal", "i8"),
        ("depth_velocity", "f8"),
        # From here on for people and services; the step does not read them.
        ("depth_pressure", "f8"),
        ("acceleration", "f8"),
        ("assets", "i8"),  # assets that the figures are made of
        ("bar", "i8"),  # the bar whose snapshots these are
    ]
)

ASSET_BOOK = np.dtype(
    [
        ("usable", "i8"),
        ("depth_quality", "f8"),
        ("fill_probability", "f8"),
        ("imbalance_ma5", "f8"),
        ("imbalance_persistence", "f8"),
        ("withdrawal_velocity", "f8"),
        # From here on for people and services; the step does not read them.
        ("depth_1pct_usd", "f8"),
        ("spread_proxy_bps", "f8"),
        ("imbalance", "f8"),
        ("depth_asymmetry", "f8"),
        ("bar", "i8"),  # the bar whose snapshot this is
    ]
)

LIMITS = np.dtype([("max_stale_bars", "i8"), ("max_age_s", "f8")])

ASSET_STATE = np.dtype(
    [
        ("last_s", "f8"),  # stamp of the newest snapshot taken; −inf before the first
        ("depth_ref", "f8"),  # USD; 0 before the first snapshot with any depth
        ("seen", "i8"),  # snapshots in the histories
        ("dark", "i8"),  # snapshots in a row without any order in them
    ]
)

CORE = np.dtype(
    [
        ("depth_bars", "i8"),  # bars in the market's depth history
        ("empty_bars", "i8"),  # bars in a row without a new snapshot
        ("empty_spells", "i8"),  # how often that reached EMPTY_BARS
        ("dark_spells", "i8"),  # how often an asset became STALE_DATA
        ("taken", "i8"),  # snapshots by what became of them
        ("repeated", "i8"),
        ("too_old", "i8"),
        ("refused", "i8"),
    ]
)


class BookStatus(IntEnum):
    """How far an asset's features can be relied on at the newest bar."""

    MISSING = 0  # there has never been a snapshot
    FRESH = 1
    HELD = 2  # of an earlier bar, at most max_stale_bars ago
    STALE = 3  # older: the engine behaves as if there were no book
    STALE_DATA = 4  # snapshots come, but have been empty for DARK_BARS


class BookState(NamedTuple):
    """All that is remembered of N assets from bar to bar, and work space; everything is allocated once."""

    core: Record  # (1,) CORE
    assets: Record  # (N,) ASSET_STATE
    imbalances: F8  # (N, IMBALANCES) ring of each asset's imbalances
    depths: F8  # (N, DEPTHS) ring of each asset's depths within 1 %, USD
    features: Record  # (N,) ASSET_BOOK, each of the asset's newest snapshot
    market: Record  # (1,) MARKET_BOOK of the newest bar with a new snapshot
    bar_depths: F8  # (DEPTHS, N) ring of bars: depth within 1 %, NaN for an asset without a usable book
    work: F8  # (2, N)


def new_book_state(n_assets: int) -> BookState:
    """A book that has seen nothing."""
    assets = records(ASSET_STATE, n_assets)
    features, market = records(ASSET_BOOK, n_assets), records(MARKET_BOOK, 1)
    assets.last_s[:] = -math.inf
    features.bar[:] = -1
    market.bar[:] = -1
    return BookState(
        records(CORE, 1),
        assets,
        np.zeros((n_assets, IMBALANCES)),
        np.zeros((n_assets, DEPTHS)),
        features,
        market,
        np.full((DEPTHS, n_assets), np.nan),
        np.zeros((2, n_assets)),
    )
