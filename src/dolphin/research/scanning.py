"""From a price archive to scans, one day at a time, warmed up from the days before (SPEC §2, SIGNAL.md)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta

import numpy as np

from dolphin.core.errors import DataError
from dolphin.market.archive import Archive
from dolphin.market.tables import PriceDay, ScanDay
from dolphin.scan.layout import WINDOWS
from dolphin.scan.scanner import Scanner

WARM_UP_BARS = max(WINDOWS) + 2
"""Prices that the longest window's velocity needs."""


def scan_archive(prices: Archive, first: date | None = None, last: date | None = None) -> Iterator[ScanDay]:
    """Scan the days `first` … `last` (both included; None: all) of a price archive.

    Earlier consecutive days are read first, as many as the longest window needs, so that `first` starts with full
    windows where the archive allows it. Raises DataError when `prices` does not hold prices or no day is left."""
    if prices.kind != "prices":
        raise DataError(f"{prices.folder}: holds {prices.kind}; scanning needs an archive of prices")
    wanted = prices.select(first, last)
    scanner = Scanner(len(wanted.assets), prices.bar_seconds)
    for day in warm_up_days(prices, wanted.days[0]):
        before = prices.read(day, wanted.assets)
        scanner.scan(before.ts_ns, before.closes)
    for now in wanted.iter_days():
        yield scan_day(scanner, now)


def scan_day(scanner: Scanner, prices: PriceDay) -> ScanDay:
    """One day's prices through `scanner`, continuing from the bars it has seen."""
    table = scanner.scan(prices.ts_ns, prices.closes)
    signals = np.column_stack((table.vel_div, table.velocity, table.instability[:, :2]))
    return ScanDay(
        day=prices.day,
        ts_ns=prices.ts_ns,
        assets=prices.assets,
        closes=prices.closes,
        scan_number=table.scan_number,
        signals=signals,
    )


def warm_up_days(prices: Archive, first: date) -> list[date]:
    """The consecutive days just before `first` that together hold the bars the longest window needs, in order."""
    have = set(prices.days)
    days: list[date] = []
    rows = 0
    day = first - timedelta(days=1)
    while day in have and rows < WARM_UP_BARS:
        days.append(day)
        rows += prices.entry(day).rows
        day -= timedelta(days=1)
    return days[::-1]
