"""A shelf's rows read as the records that they are."""

from __future__ import annotations

import copy

import numpy as np

from dolphin.book.layout import ASSET_BOOK, MARKET_BOOK
from dolphin.book.shelf import AssetRow, MarketRow, Shelf


def test_rows_have_the_records_fields_in_their_order() -> None:
    assert AssetRow._fields == ASSET_BOOK.names
    assert MarketRow._fields == MARKET_BOOK.names


def test_a_row_reads_as_its_record() -> None:
    shelf = Shelf(3, rows=7, base=5)
    rng = np.random.default_rng(1)
    for array in (shelf.books, shelf.markets):
        array.reshape(-1).view(np.uint8)[:] = rng.integers(0, 100, array.nbytes)
    for bar in (5, 8, 11, 12, 40):
        row = shelf.row_of(bar)
        assert shelf.market(bar) == shelf.markets[row].tolist()
        for column in range(3):
            assert shelf.asset(bar, column) == shelf.books[row, column].tolist()


def test_a_copy_reads_its_own_memory() -> None:
    shelf = Shelf(2)
    other = copy.deepcopy(shelf)
    shelf.books[0, 1].imbalance = 0.5
    shelf.bars[0] = 0
    assert (shelf.asset(0, 1).imbalance, other.asset(0, 1).imbalance) == (0.5, 0.0)
    assert (shelf.latest_at(0, 0, 3), other.latest_at(0, 0, 3)) == (0, None)
