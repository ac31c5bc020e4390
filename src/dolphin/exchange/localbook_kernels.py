"""The book's arithmetic: changes into cells, cells into bands, all in whole ticks and lots (SPEC §8).

Sums of integers have no order and no rounding, so a sum that is kept up to date is the sum taken anew, exactly.
"""

from __future__ import annotations

from dolphin.book.layout import BANDS, F8
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.native import Entry
from dolphin.core.records import Record
from dolphin.exchange.localbook_layout import ASK, BID, CROSSED, GOOD, I8, MAX_UNITS, ONE_SIDED, OUTRUN, OVERFLOW, THIN


@kernel
def edge_nb(side: int, band: int, mid2: int) -> int:
    """The farthest tick of a band: distance from the mid under (band + 1) %, the bound itself excluded.

    With m = mid2/2 a bid p is in when 100·(m − p)/m < band + 1, so 200·p > (99 − band)·mid2; asks likewise.
    """
    if side == BID:
        return (99 - band) * mid2 // 200 + 1
    return ((101 + band) * mid2 + 199) // 200 - 1


@inlined_kernel
def _inside(side: int, tick: int, edge: int) -> bool:
    return tick >= edge if side == BID else tick <= edge


@kernel
def change_nb(core: Record, side: int, cells: I8, ticks: I8, lots: I8, count: int) -> int:
    """Put `count` levels of one side in place; GOOD or OVERFLOW. Levels beyond the window are dropped and counted.

    Keeps totals, levels, bands (by the edges as they are) and the best price. Complexity: a few operations per level,
    and one step per empty tick when the best level went.
    """
    best = core.best[side]
    for i in range(count):
        tick, now = ticks[i], lots[i]
        cell = tick - core.origin
        if cell < 0 or cell >= cells.shape[0]:
            core.outside += 1
            continue
        change = now - cells[cell]
        if change == 0:
            continue
        if now == change:
            core.levels[side] += 1
        elif now == 0:
            core.levels[side] -= 1
        cells[cell] = now
        core.total[side] += tick * change
        if core.total[side] > MAX_UNITS:
            return OVERFLOW
        for band in range(BANDS):
            if _inside(side, tick, core.edges[side, band]):
                core.lots[side, band] += change
                core.units[side, band] += tick * change
                break
        if now > 0 and (best == 0 or (tick > best if side == BID else tick < best)):
            best = tick
    core.best[side] = _best_from(core, side, cells, best)
    return GOOD


@inlined_kernel
def _best_from(core: Record, side: int, cells: I8, best: int) -> int:
    """The first level at `best` or behind it; 0 when there is none."""
    if core.levels[side] == 0 or best == 0:
        return 0
    cell, step = best - core.origin, (-1 if side == BID else 1)
    while cells[cell] == 0:
        cell += step
    return core.origin + cell


@kernel
def standing_nb(core: Record) -> int:
    """GOOD, ONE_SIDED or CROSSED (a locked book is crossed: the venue would have matched it)."""
    if core.best[BID] == 0 or core.best[ASK] == 0:
        return ONE_SIDED
    return CROSSED if core.best[BID] >= core.best[ASK] else GOOD


@kernel
def move_edges_nb(core: Record, side: int, cells: I8, mid2: int) -> int:
    """Move the five edges of a side to another mid price: what lies between old and new edge changes its band.

    Complexity: one step per tick that an edge moves.
    """
    for band in range(BANDS):
        old, new = core.edges[side, band], edge_nb(side, band, mid2)
        if old == new:
            continue
        core.edges[side, band] = new
        low, high = min(old, new), max(old, new)
        if side == ASK:
            low, high = low + 1, high + 1
        low, high = max(low - core.origin, 0), min(high - core.origin, cells.shape[0])
        lots, units = 0, 0
        for cell in range(low, high):
            if cells[cell] != 0:
                lots += cells[cell]
                units += cells[cell] * (core.origin + cell)
        if (new > old) == (side == BID):  # the edge came nearer: the band loses them
            lots, units = -lots, -units
        core.lots[side, band] += lots
        core.units[side, band] += units
        if band + 1 < BANDS:
            core.lots[side, band + 1] -= lots
            core.units[side, band + 1] -= units
    return 0


@kernel
def recount_nb(core: Record, side: int, cells: I8, mid2: int) -> int:
    """Everything that is kept about a side, taken anew from its cells; the bands are those of `mid2`."""
    core.total[side], core.levels[side], core.best[side] = 0, 0, 0
    for band in range(BANDS):
        core.edges[side, band] = edge_nb(side, band, mid2)
        core.lots[side, band], core.units[side, band] = 0, 0
    for cell in range(cells.shape[0]):
        lots = cells[cell]
        if lots == 0:
            continue
        tick = core.origin + cell
        core.total[side] += tick * lots
        core.levels[side] += 1
        if side == BID or core.best[side] == 0:
            core.best[side] = tick
        for band in range(BANDS):
            if _inside(side, tick, core.edges[side, band]):
                core.lots[side, band] += lots
                core.units[side, band] += tick * lots
                break
    return 0


@kernel
def recentre_nb(core: Record, bids: I8, asks: I8, mid2: int) -> int:
    """Move the window so that `mid2` is in its middle; 1 when it moved.

    Levels that fall out of it are forgotten, and what it newly reaches is unknown: `known` says so.
    """
    size = bids.shape[0]
    base = max(mid2 // 2 - size // 2, 0)
    shift = base - core.origin
    if shift == 0:
        return 0
    core.known[BID] = max(core.known[BID], core.origin)
    core.known[ASK] = min(core.known[ASK], core.origin + size - 1)
    for side in range(2):
        cells = bids if side == BID else asks
        if shift > 0:
            for cell in range(size):
                cells[cell] = cells[cell + shift] if cell + shift < size else 0
        else:
            for cell in range(size - 1, -1, -1):
                cells[cell] = cells[cell + shift] if cell + shift >= 0 else 0
    core.origin = base
    core.moved += 1
    return 1


@inlined_kernel
def _known_nb(core: Record, size: int) -> int:
    """GOOD, THIN or OUTRUN: how far the best prices are within what is known."""
    below = core.best[BID] - max(core.known[BID], core.origin)
    above = min(core.known[ASK], core.origin + size - 1) - core.best[ASK]
    if below < 0 or above < 0:
        return OUTRUN
    return THIN if below < core.thin[BID] or above < core.thin[ASK] else GOOD


@kernel
def depth_apply(n_bids: int, n_asks: int, core: Record, bids: I8, asks: I8, ticks: I8, lots: I8) -> int:
    """One message's levels (rows of `ticks` and `lots`: bids, asks) into the book; how it stands afterwards.

    A book that is ONE_SIDED or CROSSED keeps the edges that it had: it has no mid price. The window follows the market
    when the mid has left the middle by an eighth of it.
    """
    if change_nb(core, BID, bids, ticks[BID], lots[BID], n_bids) == OVERFLOW:
        return OVERFLOW
    if change_nb(core, ASK, asks, ticks[ASK], lots[ASK], n_asks) == OVERFLOW:
        return OVERFLOW
    standing = standing_nb(core)
    if standing != GOOD:
        return standing
    mid2 = core.best[BID] + core.best[ASK]
    size = bids.shape[0]
    if mid2 == core.mid2:
        return _known_nb(core, size)
    far = abs(mid2 // 2 - core.origin - size // 2) > size // 8
    if core.mid2 == 0 or (far and recentre_nb(core, bids, asks, mid2) == 1):
        recount_nb(core, BID, bids, mid2)
        recount_nb(core, ASK, asks, mid2)
    else:
        move_edges_nb(core, BID, bids, mid2)
        move_edges_nb(core, ASK, asks, mid2)
    core.mid2 = mid2
    return _known_nb(core, size)


@kernel
def depth_fill(rules: Record, core: Record, bids: I8, out: Record, figures: F8) -> int:
    """The bands as doubles in a SNAPSHOT record, whose stamp is left alone; how many levels the window holds.

    `figures` (3,) becomes the mid price in USD, and the fractions of it, down and up, within which no level is missing.
    Each band is the double nearest to the exact sum as long as that is under 2⁵³ units, else within two steps of it.
    """
    for band in range(BANDS):
        out.bid_notional[band] = core.units[BID, band] * rules.notional_units / rules.notional_scale
        out.ask_notional[band] = core.units[ASK, band] * rules.notional_units / rules.notional_scale
        out.bid_depth[band] = core.lots[BID, band] * rules.depth_units / rules.depth_scale
        out.ask_depth[band] = core.lots[ASK, band] * rules.depth_units / rules.depth_scale
    mid = core.mid2 / 2.0
    low = max(core.known[BID], core.origin)
    high = min(core.known[ASK], core.origin + bids.shape[0] - 1)
    figures[0] = core.mid2 * rules.tick_usd / 2.0
    figures[1] = max(mid - low, 0.0) / mid
    figures[2] = max(high - mid, 0.0) / mid
    return core.levels[BID] + core.levels[ASK]


APPLY = Entry(depth_apply)
"""`depth_apply` for Python."""

FILL = Entry(depth_fill)
"""`depth_fill` for Python."""
