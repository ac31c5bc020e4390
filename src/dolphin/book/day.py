"""A day's bars on their way into the book: their moments, and the snapshots known at each (SPEC §8)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np

from dolphin.book.layout import F8, I8
from dolphin.book.providers import BookProvider, BulkProvider
from dolphin.book.snapshots import no_snapshots
from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns
from dolphin.core.errors import DataError
from dolphin.core.records import Record


def checked_moments(day: date, ts_ns: I8) -> F8:
    """Bar stamps as float seconds (T,). Raises DataError when they do not increase or are not within `day`, UTC."""
    start = date_start_ns(day)
    bad = (ts_ns < start) | (ts_ns >= start + NS_PER_DAY)
    bad[1:] |= np.diff(ts_ns) <= 0
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise DataError(f"order book of {day}: stamp {ts_ns[row]} ns in row {row}; expected increasing, on that day")
    seconds: F8 = ts_ns // NS_PER_S + ts_ns % NS_PER_S / NS_PER_S
    return seconds


def snapshot_moments(provider: BookProvider, assets: Sequence[str], day: date) -> F8:
    """Every moment of `day` at which the provider has a snapshot of any asset, float seconds, increasing."""
    start = date_start_ns(day) / NS_PER_S
    moments = np.unique(
        np.concatenate([np.asarray(provider.get_all_timestamps(asset), np.float64) for asset in assets])
    )
    return moments[(moments >= start) & (moments < start + NS_PER_DAY / NS_PER_S)]


def snapshots_at(provider: BookProvider, assets: Sequence[str], moments: F8) -> Record:
    """(T, N) SNAPSHOT records known at these moments. Raises DataError when one is stamped after its moment."""
    found = no_snapshots(len(moments), len(assets))
    if isinstance(provider, BulkProvider):
        provider.fill_snapshots(assets, moments, found)
    else:
        for t, moment in enumerate(moments.tolist()):
            for column, asset in enumerate(assets):
                snapshot = provider.get_snapshot(asset, moment)
                if snapshot is not None:
                    found[t, column] = snapshot
    ahead = found["timestamp"] > moments[:, None]
    if ahead.any():
        t, column = (int(i) for i in np.argwhere(ahead)[0])
        raise DataError(
            f"order book of {assets[column]}: a snapshot stamped {found[t, column].timestamp} s for a bar at "
            f"{moments[t]} s; expected none after the bar: only a provider with a history can be preloaded"
        )
    return found
