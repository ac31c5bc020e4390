"""Depth messages for tests: the recorded ones, and ones made by hand."""

from __future__ import annotations

import functools
import gzip
import json
from typing import Any, NamedTuple

from dolphin.exchange.depthbooks import DepthBooks
from dolphin.exchange.localbook import LocalBook
from tests.support.shared import recorded

SYMBOL = "BTCUSDT"
SIZES = ("0.10", "0.001")
LIMIT = 1000


class Message(NamedTuple):
    """One recorded message."""

    ts_ns: int
    raw: bytes


@functools.cache
def recording() -> tuple[Message, ...]:
    """Everything recorded of BTCUSDT in 345 seconds: diffs, tickers, trades and one snapshot."""
    text = gzip.decompress((recorded("book_2024") / "usdm_btcusdt_20240808.gz").read_bytes())
    parted = (line.partition(b" ") for line in text.splitlines())
    return tuple(Message(int(stamp), raw) for stamp, _, raw in parted)


def is_snapshot(message: Message) -> bool:
    return message.raw.startswith(b'{"lastUpdateId"')


def is_diff(message: Message) -> bool:
    return b'"e":"depthUpdate"' in message.raw[:80]


def new_books() -> tuple[DepthBooks, LocalBook]:
    books = DepthBooks({SYMBOL: SIZES})
    return books, books.books[SYMBOL]


def diff(
    first: int, final: int, previous: int, bids: Any = (), asks: Any = (), at_ms: int = 1000, **more: Any
) -> bytes:
    """A diff of BTCUSDT by hand."""
    body = {
        "e": "depthUpdate",
        "E": at_ms,
        "T": at_ms,
        "s": SYMBOL,
        "U": first,
        "u": final,
        "pu": previous,
        "b": bids,
        "a": asks,
    }
    return json.dumps({**body, **more}).encode()


def snapshot(last_id: int, bids: Any, asks: Any, at_ms: int = 1000, **more: Any) -> bytes:
    """A REST answer by hand."""
    return json.dumps({"lastUpdateId": last_id, "E": at_ms, "T": at_ms, "bids": bids, "asks": asks, **more}).encode()
