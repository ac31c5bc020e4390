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
        shelf.bars[row] = shelf.markets[row].bar = bar
        shelf.books[row].bar[:] = bar
        shelf.markets[row].usable = 1
        shelf.books[row].usable[:] = (1, 0, 1)
        assert shelf.market(bar, bar, 3) == shelf.markets[row].tolist()
        assert shelf.asset(bar, bar, 3, 0) == shelf.books[row, 0].tolist()
        assert shelf.asset(bar, bar, 3, 1) is None
        assert shelf.asset(bar + 3, bar, 3, 2) == shelf.books[row, 2].tolist()
        assert shelf.asset(bar + 4, bar, 3, 2) is None
        shelf.books[row].bar[:] = bar - 2
        assert shelf.asset(bar + 1, bar, 3, 0) == shelf.books[row, 0].tolist()
        assert shelf.asset(bar + 2, bar, 3, 0) is None, "held over already"


def test_a_copy_reads_its_own_memory() -> None:
    shelf = Shelf(2)
    other = copy.deepcopy(shelf)
    shelf.books[0, 1].imbalance = 0.5
    shelf.bars[0], shelf.books[0, 1].usable = 0, 1
    row = shelf.asset(0, 0, 3, 1)
    assert row is not None
    assert row.imbalance == 0.5
    assert other.asset(0, 0, 3, 1) is None
    assert (shelf.latest_at(0, 0, 3), other.latest_at(0, 0, 3)) == (0, None)
