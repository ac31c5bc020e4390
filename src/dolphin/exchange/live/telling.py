"""The status of a live feed, put together (SPEC §15)."""

from __future__ import annotations

import asyncio
import math

from dolphin.exchange.bands import BookBands
from dolphin.exchange.live.feed import LiveFeed
from dolphin.exchange.live.status import BookStatus, LiveStatus
from dolphin.exchange.localbook import LocalBook


def status_of(feed: LiveFeed, at_ns: int) -> LiveStatus:
    """The feed now; call it in the feed's event loop."""
    budget, clock = feed.budget, feed.venue_clock
    return LiveStatus(
        running=True,
        failure="",
        at_ns=at_ns,
        trusted=len(feed.cache),
        messages=feed.messages,
        notices=feed.books.notices,
        strays=feed.strays,
        faults=dict(feed.books.faults),
        last_fault=feed.books.last_fault,
        weight_used=budget.used,
        weight_allowed=budget.allowed,
        paused_s=budget.paused_s,
        clock_offset_ms=_finite(clock.offset_ms),
        clock_uncertainty_ms=_finite(clock.uncertainty_ms),
        waiting=feed.fetcher.waiting,
        streams=dict(feed.streams.counts),
        requests=dict(feed.rest.counts),
        snapshots=dict(feed.fetcher.counts),
        last_problem=feed.fetcher.last_problem or feed.last_problem,
        connections=feed.streams.status(),
        books=tuple(_book(feed, book) for book in feed.books.books.values()),
    )


def _book(feed: LiveFeed, book: LocalBook) -> BookStatus:
    bands = feed.cache.get_bands(book.symbol)
    pulse = feed.streams.pulse(feed.depth_stream(book.symbol))
    now_s = asyncio.get_running_loop().time()
    spoken = pulse is not None and pulse.count > 0
    lag = book.updated_ns / 1e6 + feed.venue_clock.offset_ms - book.event_ms if book.counts.applied else math.nan
    return BookStatus(
        symbol=book.symbol,
        state=book.state.value,
        trusted=bands is not None,
        mid=bands.mid if bands is not None else None,
        spread_bps=_spread_bps(book) if bands is not None else None,
        imbalance=_imbalance(bands),
        age_s=now_s - pulse.last_s if pulse is not None and spoken else None,
        gap_s=pulse.gap_s if pulse is not None else 0.0,
        late=pulse is not None and pulse.is_late,
        behind=pulse is not None and pulse.behind,
        lag_ms=_finite(lag),
        synced_ns=book.synced_ns,
        updated_ns=book.updated_ns,
        update_id=book.update_id,
        waiting_s=feed.fetcher.waiting_s(book.symbol),
        resyncs=book.counts.snapshots - book.counts.refreshed,
        counts={name: getattr(book.counts, name) for name in book.counts.__slots__},
        refused=pulse.refused if pulse is not None else "",
    )


def _spread_bps(book: LocalBook) -> float | None:
    bid, ask = book.touch
    return (ask - bid) / (ask + bid) * 2e4 if bid > 0.0 and ask > 0.0 else None


def _imbalance(bands: BookBands | None) -> float | None:
    if bands is None:
        return None
    bids, asks = float(bands.snapshot.bid_notional.sum()), float(bands.snapshot.ask_notional.sum())
    return (bids - asks) / (bids + asks) if bids + asks > 0.0 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
