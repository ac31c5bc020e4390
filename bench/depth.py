"""Depth messages into books: `python -m bench.depth [--quick]` prints one JSON object.

The recorded diffs of BTCUSDT, from bytes to the five bands after every message, on one thread. The peer does the same
in the way at hand: msgspec decodes into Python objects, two dictionaries hold the book, NumPy makes the bands. It gets
the first messages only, in turn with ours, and its bands must be ours. Memory is that of this process before and after
many more passes.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from bench.common import ROOT, say, spread
from dolphin.exchange.depthbooks import DepthBooks

RECORDED = ROOT.parent / "shared" / "data" / "book_2024" / "usdm_btcusdt_20240808.gz"
SYMBOL, SIZES = "BTCUSDT", ("0.10", "0.001")
WHOLE = 1001  # the snapshot has 1000 levels: taken for all there is, so that nothing is asked for on the way


class _Diff(msgspec.Struct):
    e: str
    u: int
    b: list[tuple[str, str]]
    a: list[tuple[str, str]]


class _Message(msgspec.Struct):
    data: _Diff


class _Snapshot(msgspec.Struct):
    bids: list[tuple[str, str]]
    asks: list[tuple[str, str]]


class PlainBook:
    """The peer."""

    def __init__(self, snapshot: bytes) -> None:
        found = msgspec.json.decode(snapshot, type=_Snapshot)
        self.bids = {float(p): float(q) for p, q in found.bids}
        self.asks = {float(p): float(q) for p, q in found.asks}
        self._decode = msgspec.json.Decoder(_Message).decode

    def feed(self, raw: bytes) -> list[np.ndarray[Any, Any]]:
        """Apply one diff; [notional, base units] of bids, then asks."""
        message = self._decode(raw).data
        for side, levels in ((self.bids, message.b), (self.asks, message.a)):
            for price, quantity in levels:
                size = float(quantity)
                if size == 0.0:
                    side.pop(float(price), None)
                else:
                    side[float(price)] = size
        mid = (max(self.bids) + min(self.asks)) / 2.0
        out = []
        for side in (self.bids, self.asks):
            price = np.fromiter(side.keys(), np.float64, len(side))
            size = np.fromiter(side.values(), np.float64, len(side))
            band = (np.abs(price / mid - 1.0) * 100.0).astype(np.int64)
            near = band < 5
            out += [
                np.bincount(band[near], (price * size)[near], 5),
                np.bincount(band[near], size[near], 5),
            ]
        return out


def stream() -> tuple[tuple[int, bytes], list[tuple[int, bytes]]]:
    """The snapshot, and the diffs after it, each with its stamp."""
    parted = (line.partition(b" ") for line in gzip.decompress(RECORDED.read_bytes()).splitlines())
    messages = [(int(stamp), raw) for stamp, _, raw in parted if b"bookTicker" not in raw and b'"trade"' not in raw]
    at = next(i for i, (_, raw) in enumerate(messages) if raw.startswith(b'{"lastUpdateId"'))
    # The two before the snapshot reach beyond it.
    return messages[at], messages[at - 2 : at] + messages[at + 1 :]


def ours(snapshot: tuple[int, bytes], diffs: list[tuple[int, bytes]], with_bands: bool = True) -> tuple[float, Any]:
    """Seconds for the diffs, and the last bands."""
    books = DepthBooks({SYMBOL: SIZES})
    book = books.books[SYMBOL]
    books.feed_snapshot(SYMBOL, snapshot[1], snapshot[0], WHOLE)
    bands = None
    start = time.perf_counter()
    for ts_ns, raw in diffs:
        books.feed(raw, ts_ns)
        if with_bands:
            bands = book.bands()
    taken = time.perf_counter() - start
    if book.counts.applied != len(diffs) or books.faults:
        raise SystemExit(f"depth: {book.counts.applied} of {len(diffs)} diffs applied; {books.last_fault}")
    return taken, bands


def plain(snapshot: tuple[int, bytes], diffs: list[tuple[int, bytes]]) -> tuple[float, Any]:
    """The same of the peer."""
    book, bands = PlainBook(snapshot[1]), None
    start = time.perf_counter()
    for _, raw in diffs:
        bands = book.feed(raw)
    return time.perf_counter() - start, bands


def resident_mb() -> float:
    """This process's memory now, 10⁶ bytes; 0 where the system does not say."""
    statm = Path("/proc/self/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if statm.exists() else 0.0


def measure(quick: bool) -> dict[str, Any]:
    """The part's report; no row where the recording is absent."""
    if not RECORDED.exists():
        return {"rows": [], "missing": ["the recorded stream: it does not lie beside the checkout"]}
    snapshot, diffs = stream()
    first = diffs[: 200 if quick else 600]
    repeats = 2 if quick else 7
    ours(snapshot, first)
    rows: dict[str, list[float]] = {"ours": [], "bare": [], "plain": []}
    for _ in range(repeats):
        rows["ours"].append(ours(snapshot, diffs)[0] / len(diffs))
        taken, theirs = plain(snapshot, first)
        rows["plain"].append(taken / len(first))
        rows["bare"].append(ours(snapshot, diffs, with_bands=False)[0] / len(diffs))
    bands = ours(snapshot, first)[1].snapshot
    for mine, other in zip(
        (bands.bid_notional, bands.bid_depth, bands.ask_notional, bands.ask_depth), theirs, strict=True
    ):
        np.testing.assert_allclose(mine, other, rtol=1e-9)
    say("depth: the peer's bands are ours")
    before = resident_mb()
    for _ in range(3 if quick else 20):
        ours(snapshot, diffs)
    return {
        "rows": [
            {"name": "dolphin, bands after every message", "s": spread(rows["ours"]), "messages": len(diffs)},
            {"name": "dolphin, without asking for bands", "s": spread(rows["bare"]), "messages": len(diffs)},
            {"name": "msgspec, dictionaries, NumPy", "s": spread(rows["plain"]), "messages": len(first)},
        ],
        "ratio": min(rows["plain"]) / min(rows["ours"]),
        "resident_mb": before,
        "growth_mb": resident_mb() - before,
        "missing": [],
    }


if __name__ == "__main__":
    print(json.dumps(measure("--quick" in sys.argv[1:])))
