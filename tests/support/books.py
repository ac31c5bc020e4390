"""Recorded books for tests: made beside the days of `tests.support.runs`, seeded, and never a claim about markets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dolphin.book.providers import ArrayBookProvider
from dolphin.core.records import Record
from dolphin.market.bookfiles import BookDay
from dolphin.market.bookfolder import BookFolder
from dolphin.market.synthetic_books import BookMaker
from dolphin.market.tables import PriceDay


def book_days(days: Sequence[PriceDay], seed: int = 1) -> list[BookDay]:
    """The books beside these days: cascades, withdrawals, empty sides, silent assets, an outage on every third."""
    maker = BookMaker(seed)
    return [maker.make(day) for day in days]


def write_books(folder: Path, days: Sequence[BookDay]) -> Path:
    """These days as a folder of recorded books."""
    with BookFolder(folder, {"made_by": "a test"}) as shelf:
        for day in days:
            shelf.write(day)
    return folder


def in_memory(days: Sequence[BookDay], assets: Sequence[str]) -> ArrayBookProvider:
    """All of these books in one provider, without a file."""
    shelf: dict[str, Record] = {}
    for asset in assets:
        parts = [day.snapshots(asset) for day in days]
        shelf[asset] = np.concatenate(parts).view(np.recarray)
    return ArrayBookProvider(shelf)
