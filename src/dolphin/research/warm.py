"""Compiling ahead: run every hot entry once on a tiny input, so that the first real bar does not wait for the
compiler."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dolphin.alpha.bookaccount import BOOK_ACCOUNT, BookAccount
from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, MARKET_BOOK, records
from dolphin.alpha.replay import ENGINE
from dolphin.alpha.rows import day_bars
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.providers import MockBookProvider
from dolphin.book.update import BOOK
from dolphin.core.codes import Direction
from dolphin.core.params import EngineParams
from dolphin.scan.scanner import SCAN_ROWS, Scanner


def compile_steps(*, scanning: bool, book: bool = False) -> list[Callable[[], None]]:
    """What must still be compiled for a replay, with or without scanning and a book; empty when it is all on disk."""
    steps: list[Callable[[], None]] = []
    if not ENGINE.is_ready():
        steps.append(compile_engine)
    if scanning and not SCAN_ROWS.is_ready():
        steps.append(compile_scanner)
    if book and not BOOK.is_ready():
        steps.append(compile_book)
    if book and not BOOK_ACCOUNT.is_ready():
        steps.append(compile_account)
    return steps


def compile_scanner() -> None:
    """Compile the scanner, or load it."""
    Scanner(2, 60.0).scan(np.arange(2, dtype=np.int64), np.ones((2, 2)))


def compile_engine() -> None:
    """Compile the replay and the step, or load them."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT", "ETHUSDT"), Direction.SHORT, 1.0)
    ts = np.arange(2, dtype=np.int64)
    nothing = np.full(2, np.nan)
    engine.process_bars(day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing}), np.ones((2, 2)))


def compile_book() -> None:
    """Compile the book's features, or load them."""
    OBFeatureEngine(("BTCUSDT", "ETHUSDT"), MockBookProvider()).step_live(("BTCUSDT", "ETHUSDT"), 0, 0)


def compile_account() -> None:
    """Compile the account of what the book changed, or load it."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT", "ETHUSDT"), Direction.SHORT, 1.0)
    ts, closes = np.arange(2, dtype=np.int64), np.ones((2, 2))
    nothing = np.full(2, np.nan)
    bars = day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing})
    markets, books = records(MARKET_BOOK, 2), records(ASSET_BOOK, 4).reshape(2, 2)
    account = BookAccount(engine)
    events, _ = engine.process_bars(bars, closes, markets, books)
    account.take(bars, closes, markets, books, events, engine)
