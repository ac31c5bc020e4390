"""One bar of snapshots, compiled: replay loops over it, live calls it once (SPEC §8).

What a snapshot can be: *new*, and then it is taken; the one that was taken already, or an older one; too old when it
came; or not sound: a band that is no amount, or a stamp far ahead of the clock. Only new ones count as snapshots: a
feed that repeats itself has stopped, whatever it still shows.
"""

from __future__ import annotations

import math

from dolphin.book.kernels import (
    agreement_nb,
    cascade_count_nb,
    depth_1pct_nb,
    depth_asymmetry_nb,
    depth_quality_nb,
    depth_ref_nb,
    fill_probability_nb,
    imbalance_nb,
    is_sound_nb,
    median_nb,
    moving_average_nb,
    persistence_nb,
    regime_signal_nb,
    spread_proxy_bps_nb,
    total_nb,
    withdrawal_nb,
    withdrawal_velocity_nb,
)
from dolphin.book.layout import DARK_BARS, DEPTHS, EMPTY_BARS, F8, I8, IMBALANCES, MA_IMBALANCES, BookState
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.native import Entry
from dolphin.core.records import Record


@inlined_kernel
def _is_new_nb(core: Record, limits: Record, asset: Record, snapshot: Record, now_s: float) -> bool:
    """Whether the snapshot is to be taken; what it is otherwise is counted."""
    stamp = snapshot.timestamp
    if math.isnan(stamp):
        return False
    # A stamp from far ahead, once taken, would make every later snapshot look old.
    if stamp - now_s > limits.max_age_s or not is_sound_nb(snapshot.bid_notional, snapshot.ask_notional):
        core.refused += 1
        return False
    if stamp <= asset.last_s:
        core.repeated += 1
        return False
    if now_s - stamp > limits.max_age_s:
        core.too_old += 1
        return False
    core.taken += 1
    return True


@inlined_kernel
def _take_nb(core: Record, asset: Record, imbalances: F8, depths: F8, row: Record, snapshot: Record) -> None:
    """Move the asset's histories on by a new snapshot, and fill its features."""
    bids, asks = snapshot.bid_notional, snapshot.ask_notional
    # All that reads the bands comes before anything is written: the compiler cannot know that the two do not overlap.
    depth, imbalance, whole = depth_1pct_nb(bids, asks), imbalance_nb(bids, asks), total_nb(bids) + total_nb(asks)
    spread_bps, asymmetry = spread_proxy_bps_nb(bids, asks), depth_asymmetry_nb(bids, asks)
    reference = depth_ref_nb(asset.depth_ref, depth)
    quality = depth_quality_nb(depth, reference)
    at, seen = asset.seen, asset.seen + 1
    imbalances[at % IMBALANCES] = imbalance
    depths[at % DEPTHS] = depth
    asset.last_s, asset.depth_ref, asset.seen = snapshot.timestamp, reference, seen
    row.imbalance, row.depth_1pct_usd, row.depth_quality = imbalance, depth, quality
    row.fill_probability = fill_probability_nb(quality)
    row.spread_proxy_bps, row.depth_asymmetry = spread_bps, asymmetry
    row.imbalance_ma5 = moving_average_nb(imbalances, seen, MA_IMBALANCES)
    row.imbalance_persistence = persistence_nb(imbalances, seen)
    row.withdrawal_velocity = withdrawal_velocity_nb(depths, seen)
    row.usable = 1
    asset.dark = 0 if whole > 0.0 else asset.dark + 1
    if asset.dark == DARK_BARS:
        core.dark_spells += 1


@inlined_kernel
def _forget_nb(row: Record) -> None:
    """No usable book; `bar` goes on telling when there was one."""
    row.usable = 0
    row.depth_quality = row.fill_probability = row.imbalance_ma5 = row.imbalance_persistence = 0.0
    row.withdrawal_velocity = row.depth_1pct_usd = row.spread_proxy_bps = row.imbalance = row.depth_asymmetry = 0.0


@inlined_kernel
def _forget_market_nb(market: Record) -> None:
    market.usable = 0
    market.median_imbalance = market.agreement = market.depth_velocity = 0.0
    market.depth_pressure = market.acceleration = 0.0
    market.cascade_count = market.regime_signal = market.assets = 0


@inlined_kernel
def _depth_velocity_nb(bar_depths: F8, bars: int) -> float:
    """The withdrawal kernel over mean depth, now against up to five bars before, on the assets usable at both."""
    size = bar_depths.shape[0]
    k = min(size, bars) - 1
    if k < 1:
        return 0.0
    now, before = bar_depths[(bars - 1) % size], bar_depths[(bars - 1 - k) % size]
    total_now, total_before, n = 0.0, 0.0, 0
    for i in range(now.shape[0]):
        if not (math.isnan(now[i]) or math.isnan(before[i])):
            total_now += now[i]
            total_before += before[i]
            n += 1
    return withdrawal_nb(total_now / n, total_before / n) if n > 0 else 0.0


@inlined_kernel
def _market_nb(state: BookState, market: Record, bar: int, n: int, pressure: float) -> None:
    """The market's features from the n assets that are usable at this bar and not STALE_DATA, in the work space."""
    core, imbalances, velocities = state.core[0], state.work[0], state.work[1]
    core.depth_bars += 1
    market.assets, market.bar, market.depth_pressure = n, bar, pressure
    market.usable = 1 if n > 0 else 0
    market.median_imbalance = median_nb(imbalances, n)
    market.agreement = agreement_nb(imbalances, n, market.median_imbalance)
    market.cascade_count = cascade_count_nb(velocities, n)
    velocity = _depth_velocity_nb(state.bar_depths, core.depth_bars)
    market.acceleration = velocity - market.depth_velocity  # both are 0 at the first bar
    market.depth_velocity = velocity
    market.regime_signal = regime_signal_nb(velocities, n, velocity, market.agreement) if n > 0 else 0


@kernel
def update_book_nb(state: BookState, limits: Record, bar: int, now_s: float, snapshots: Record) -> int:
    """Take bar `bar`, larger than any before; give the number of new snapshots. Results: `state.features`, `.market`.

    `snapshots` (N,) SNAPSHOT records, timestamp NaN for none; `now_s` the bar's time, seconds. An asset without a new
    one keeps its features for max_stale_bars, and then has none; when it comes back its histories begin anew, since a
    withdrawal across the gap was seen by nobody. The market moves on at bars with a new snapshot, and otherwise is kept
    and lost likewise. Allocates nothing. Causality: this bar's snapshots and the state.
    """
    core, market = state.core[0], state.market[0]
    if bar - market.bar > limits.max_stale_bars:
        _forget_market_nb(market)
        core.depth_bars = 0
    imbalances, velocities = state.work[0], state.work[1]
    depths_now = state.bar_depths[core.depth_bars % DEPTHS]  # nobody reads this row before the market has moved on
    fresh, n, pressure = 0, 0, 0.0
    for i in range(snapshots.shape[0]):
        asset, row = state.assets[i], state.features[i]
        if row.usable != 0 and bar - row.bar > limits.max_stale_bars:
            _forget_nb(row)
            asset.seen = asset.dark = 0
        if _is_new_nb(core, limits, asset, snapshots[i], now_s):
            _take_nb(core, asset, state.imbalances[i], state.depths[i], row, snapshots[i])
            row.bar = bar
            fresh += 1
        depths_now[i] = math.nan
        if row.usable != 0 and asset.dark < DARK_BARS:
            imbalance = row.imbalance
            imbalances[n], velocities[n], depths_now[i] = imbalance, row.withdrawal_velocity, row.depth_1pct_usd
            pressure += imbalance
            n += 1
    if fresh > 0:
        core.empty_bars = 0
        _market_nb(state, market, bar, n, pressure)
    else:
        core.empty_bars += 1
        core.empty_spells += 1 if core.empty_bars == EMPTY_BARS else 0
    return fresh


@kernel
def book_bars_nb(
    state: BookState,
    limits: Record,
    first_bar: int,
    start: int,
    now_s: F8,
    snapshots: Record,
    bars: I8,
    markets: Record,
    books: Record,
) -> int:
    """Run T bars, numbered from `first_bar`, through `update_book_nb`; give how many spells worth a warning began.

    `now_s` float64 (T,) and `snapshots` (T, N); results go to rows `start` … of `bars`, `markets` and `books` (…, N).
    """
    core = state.core[0]
    before = core.empty_spells + core.dark_spells
    for t in range(now_s.shape[0]):
        update_book_nb(state, limits, first_bar + t, now_s[t], snapshots[t])
        row = start + t
        bars[row] = first_bar + t
        markets[row] = state.market[0]
        for i in range(books.shape[1]):  # not in the loop above: a record just written is slow to read as a whole
            books[row, i] = state.features[i]
    return core.empty_spells + core.dark_spells - before


BOOK = Entry(book_bars_nb)
