"""Books beside a made market: seeded, causal, and with every trouble that the rules of the book are there for."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.core.clock import date_start_ns
from dolphin.market.bookfiles import BookDay
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.market.synthetic_books import BookMaker
from dolphin.market.tables import PriceDay
from tests.support.books import book_days, in_memory

SPEC = MarketSpec(days=3, assets=12)


@pytest.fixture(scope="module")
def market() -> list[PriceDay]:
    return list(make_market(SPEC))


@pytest.fixture(scope="module")
def books(market: list[PriceDay]) -> list[BookDay]:
    return book_days(market, 7)


def test_the_same_seed_gives_the_same_books_however_many_days(market: list[PriceDay], books: list[BookDay]) -> None:
    for again, day in zip(book_days(market[:2], 7), books, strict=False):
        assert np.array_equal(again.ts_ns, day.ts_ns)
        assert np.array_equal(again.amounts, day.amounts)
    other = BookMaker(8).make(market[0])
    assert other.rows != books[0].rows or not np.array_equal(other.amounts, books[0].amounts)


def test_a_snapshot_knows_no_later_price(market: list[PriceDay], books: list[BookDay]) -> None:
    closes = market[0].closes.copy()
    closes[700:] *= 1.5
    changed = BookMaker(7).make(replace(market[0], closes=closes))
    cut = int(market[0].ts_ns[699])
    early = books[0].ts_ns <= cut
    assert np.array_equal(changed.ts_ns[changed.ts_ns <= cut], books[0].ts_ns[early])
    assert np.array_equal(changed.amounts[changed.ts_ns <= cut], books[0].amounts[early])
    assert not np.array_equal(changed.amounts, books[0].amounts)


def test_every_snapshot_belongs_to_a_bar_and_a_price(market: list[PriceDay], books: list[BookDay]) -> None:
    for day, book in zip(market, books, strict=True):
        bar = np.searchsorted(day.ts_ns, book.ts_ns)
        assert (day.ts_ns[bar] - book.ts_ns < 2_000_000_000).all()
        columns = np.array([day.assets.index(name) for name in book.assets])[book.asset]
        price = day.closes[bar, columns]
        assert np.isfinite(price).all()
        assert np.allclose(book.amounts[:, :5] / price[:, None], book.amounts[:, 10:15], atol=6e-4)
        assert book.rows > 0.85 * np.isfinite(day.closes).sum()


def test_the_books_meet_every_trouble(market: list[PriceDay], books: list[BookDay]) -> None:
    engine = OBFeatureEngine(market[0].assets, in_memory(books, market[0].assets))
    seen = [engine.preload_date(day.day, day.ts_ns) for day in market]
    markets, features = (np.concatenate([each[k] for each in seen]) for k in (0, 1))
    usable = markets["usable"] != 0
    assert 0 < (~usable).sum() < 60, "the feed stops on the third day, longer than features are held"
    for regime in (-1, 0, 1):
        assert (markets["regime_signal"][usable] == regime).any(), regime
    assert (markets["cascade_count"] > 0).any()
    assert np.abs(markets["median_imbalance"]).max() > 0.2
    assert (features["withdrawal_velocity"] < -0.30).any()
    assert (np.abs(features["imbalance"]) == 1.0).any(), "one side is empty"
    quality = features["depth_quality"][features["usable"] != 0]
    assert quality.min() < 0.35
    assert quality.max() > 1.5
    assert engine.counts["refused"] == 0


def test_a_bar_a_second_keeps_its_stamps_in_its_day() -> None:
    day = next(make_market(MarketSpec(days=1, assets=3, bar_seconds=1, start=date(2024, 2, 29))))
    book = BookMaker(1).make(day)
    assert book.ts_ns[0] >= date_start_ns(date(2024, 2, 29))
    assert (day.ts_ns[np.searchsorted(day.ts_ns, book.ts_ns)] - book.ts_ns < 1_000_000_000).all()
