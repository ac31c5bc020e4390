"""The scanner, compiled: returns, membership, sliding sums, eigenpairs, velocities, instability (SPEC §2).

Bars are taken in chunks, and within a chunk one window after the other: each window's matrix then stays in cache.
A stream is a chunk of one bar through the very same code.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.lanes import LANES, fused_nb, load_nb, spread_nb, store_nb
from dolphin.scan.eigen import COLD, FREE, MIXED, Krylov, Window, solve_apart_nb, solve_top_nb, uses_rows_nb
from dolphin.scan.layout import (
    CHUNK,
    HAVE_PRICE,
    HEAD,
    LAST_TS,
    PUBLISHED_VECTORS,
    REFRESH_BARS,
    RETURNS,
    SHRINK,
    ScanState,
)
from dolphin.scan.linalg import copy_nb, dot_nb, fresh_products_nb, slide_products_nb

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
I4 = NDArray[np.int32]
U1 = NDArray[np.uint8]

TOP, MEMBERS, VELOCITY, INSTABILITY = 0, 1, 2, 3
"""Columns of one window's row in the scanner's output (K, 4)."""


@kernel
def restart_nb(st: ScanState) -> None:
    """Forget every window: what follows a gap in time starts anew."""
    st.counters[HEAD] = 0
    st.counters[RETURNS] = 0
    st.counters[HAVE_PRICE] = 0
    st.last_price[:] = math.nan
    st.last_return[:] = math.nan
    st.valid_run[:] = 0
    st.same_run[:] = 0
    st.member[:] = 0
    st.products[:] = 0.0
    st.sums[:] = 0.0
    st.squares[:] = 0.0
    st.peak[:] = 0.0
    st.weights[:] = 0.0
    st.image[:] = 0.0
    st.age[:] = 0
    st.crowded[:] = 0
    st.solved[:] = 0
    st.top[:] = math.nan
    st.ema[:] = math.nan


SMALL_MOVE = 0.05


@inlined_kernel
def log_ratio_nb(p: float, q: float) -> float:
    """ln(p/q) as 2·artanh(z), z = (p − q)/(p + q): exact to the last bit or two for moves under 10 %, and free of
    calls.

    The series' first missing term is z¹⁵/15 < 1e-21 relative to z at |z| = 0.05.
    """
    z = (p - q) / (p + q)
    s = z * z
    tail = 1 / 3 + s * (1 / 5 + s * (1 / 7 + s * (1 / 9 + s * (1 / 11 + s * (1 / 13)))))
    return 2.0 * z * (1.0 + s * tail)


@inlined_kernel
def _take_returns_nb(
    prices: F8,
    last_price: F8,
    last_return: F8,
    valid_run: I4,
    same_run: I4,
    returns: F8,
    valid_now: I4,
    same_now: I4,
) -> None:
    """One bar's prices into log returns (0 where invalid), with each asset's runs of valid and of equal returns."""
    n = prices.shape[0]
    odd = 0
    for i in range(n):
        p, before = prices[i], last_price[i]
        r = log_ratio_nb(p, before)
        returns[i] = r
        odd += not (p > 0.0 and p < math.inf and before > 0.0 and abs(p - before) <= SMALL_MOVE * (p + before))
    if odd > 0:
        for i in range(n):
            p, before = prices[i], last_price[i]
            if not (p > 0.0 and p < math.inf and before > 0.0):
                returns[i] = math.nan
            elif abs(p - before) > SMALL_MOVE * (p + before):
                ratio = p / before  # of the smallest and the largest prices there are, it may not be a number
                returns[i] = math.log(ratio) if 0.0 < ratio < math.inf else math.log(p) - math.log(before)
    for i in range(n):
        r = returns[i]
        valid = r == r
        valid_run[i] = valid_run[i] + 1 if valid else 0
        same_run[i] = (same_run[i] + 1 if r == last_return[i] else 1) if valid else 0
        last_return[i] = r
        last_price[i] = prices[i] if prices[i] > 0.0 and prices[i] < math.inf else math.nan
        returns[i] = r if valid else 0.0
        valid_now[i] = valid_run[i]
        same_now[i] = same_run[i]


@kernel
def _push_returns_nb(st: ScanState, prices: F8, t: int, bars: int) -> None:
    """Append `bars` rows of returns to the ring, and to its transpose where a window is solved through its rows."""
    last_price, last_return, valid_run, same_run = st.last_price, st.last_return, st.valid_run, st.same_run
    n, columns = last_price.shape[0], st.ring.shape[1]
    head = st.counters[HEAD]
    for b in range(bars):
        returns = st.ring[head + b]
        _take_returns_nb(
            prices[t + b], last_price, last_return, valid_run, same_run, returns, st.valid_runs[b], st.same_runs[b]
        )
        if uses_rows_nb(st.windows[0], columns):
            for i in range(n):
                st.turned[i, head + b] = returns[i]
    st.counters[HEAD] = head + bars
    st.counters[RETURNS] += bars


@kernel
def _make_room_nb(st: ScanState, bars: int) -> None:
    """The ring is twice the longest window: when it would overflow, its newer half moves to the front."""
    rows = st.ring.shape[0]
    half = rows // 2
    if st.counters[HEAD] + bars <= rows:
        return
    shift = st.counters[HEAD] - half
    for t in range(half):
        copy_nb(st.ring[t + shift], st.ring[t])
    for i in range(st.ring.shape[1]):
        for t in range(half):
            st.turned[i, t] = st.turned[i, t + shift]
    st.counters[HEAD] = half


@inlined_kernel
def _members_nb(valid: I4, same: I4, w: int, member: U1, inside: U1, both: U1) -> tuple[int, int, bool]:
    """Fill `inside` with the members at this bar and `both` with those of this bar and the last; count both; tell of
    a change.

    An asset is a member when its last w returns are all valid and not all equal (SPEC §2).
    """
    count = common = differ = 0
    for i in range(member.shape[0]):
        now = 1 if valid[i] >= w and same[i] < w else 0
        inside[i] = now
        both[i] = now & member[i]
        count += now
        common += both[i]
        differ += now ^ member[i]
    return count, common, differ > 0


@kernel
def _refresh_nb(rows: F8, by_rows: bool, products: F8, sums: F8, squares: F8, peak: F8) -> None:
    """Recompute a window's sums from its rows: the drift of the sliding ones ends here."""
    if not by_rows:
        fresh_products_nb(products, rows)
    sums[:] = 0.0
    squares[:] = 0.0
    for t in range(rows.shape[0]):
        row = rows[t]
        for i in range(sums.shape[0]):
            sums[i] = sums[i] + row[i]
            squares[i] = squares[i] + row[i] * row[i]
    copy_nb(squares, peak)


@inlined_kernel
def _slide_sums_nb(new: F8, old: F8, sums: F8, squares: F8, peak: F8) -> int:
    """Let `new` into the sums and `old` out of them; count the sums that have shrunk too far to be trusted."""
    shrunk = 0
    for i in range(sums.shape[0]):
        a, b = new[i], old[i]
        sums[i] = sums[i] + (a - b)
        squares[i] = squares[i] + (a * a - b * b)
        peak[i] = max(peak[i], squares[i])
        shrunk += squares[i] < SHRINK * peak[i]
    return shrunk


@inlined_kernel
def _slide_image_nb(new: F8, old: F8, weights: F8, image: F8) -> None:
    """Carry image = P·weights through the same change of P, so that the next solve starts free."""
    a, b = spread_nb(dot_nb(new, weights)), spread_nb(-dot_nb(old, weights))
    for i in range(0, image.shape[0], LANES):
        store_nb(image, i, fused_nb(b, load_nb(old, i), fused_nb(a, load_nb(new, i), load_nb(image, i))))


@inlined_kernel
def _rescale_nb(squares: F8, sums: F8, w: int, mask: U1, scale: F8, deviation: F8) -> None:
    """deviation = sqrt(Σ(r − mean)²) and scale = 1/deviation for the assets in `mask`; both 0 for the others."""
    for i in range(scale.shape[0]):
        variation = squares[i] - sums[i] * sums[i] / w
        held = mask[i] != 0 and variation > 0.0
        root = math.sqrt(variation) if held else 0.0
        deviation[i] = root
        scale[i] = 1.0 / root if held else 0.0


@inlined_kernel
def _average_nb(before: float, term: float, w: int) -> float:
    """Exponential moving average with span W/5, seeded by its first term (SPEC §2)."""
    smoothing = 2.0 / (w / 5.0 + 1.0)
    return term if math.isnan(before) else before + smoothing * (term - before)


@inlined_kernel
def _compare_nb(top: float, top_before: float, u: F8, before: F8) -> tuple[float, float]:
    """Velocity ln λ(t) − ln λ(t−1), and the instability term of SPEC §2."""
    turn = 1.0 - abs(dot_nb(u, before))
    return math.log(top / top_before), abs(top - top_before) / top + turn


@kernel
def _window_rows_nb(st: ScanState, k: int, bars: int, out: F8, at: int) -> None:
    """Bring window k through the last `bars` rows of the ring; write rows `at`… of `out` (T, K, 4)."""
    w = st.windows[k]
    ring, turned, inside, both, zero = st.ring, st.turned, st.mask[0], st.mask[1], st.zero
    products, sums, squares, peak = st.products[k], st.sums[k], st.squares[k], st.peak[k]
    member, vector, weights, image = st.member[k], st.vector[k], st.weights[k], st.image[k]
    before, now_u, scale, spare_w, spare_g = st.spare[0], st.spare[1], st.spare[2], st.spare[3], st.spare[4]
    deviation, assets = st.spare[7], st.last_price.shape[0]
    kr = Krylov(
        st.basis, st.images, st.tridiagonal[0], st.tridiagonal[1], st.tridiagonal[2], st.spare[5], st.spare[6], st.along
    )
    by_rows, value_only = uses_rows_nb(w, sums.shape[0]), k >= PUBLISHED_VECTORS
    had, top_held, age, crowded, ema = st.solved[k] != 0, st.top[k], st.age[k], st.crowded[k] != 0, st.ema[k]
    head, seen = st.counters[HEAD] - bars, st.counters[RETURNS] - bars
    for b in range(bars):
        head += 1
        seen += 1
        first = head - w
        members, common, changed = _members_nb(st.valid_runs[b], st.same_runs[b], w, member, inside, both)
        top_before = top_held if had and not changed else math.nan
        if had:
            copy_nb(vector, before)
        if had and changed and common > 0:
            _rescale_nb(squares, sums, w, both, scale, deviation)
            past = Window(products, ring, turned, first - 1, w, sums, scale, deviation, value_only)
            top_before, crowded = solve_apart_nb(kr, past, common, COLD, before, spare_w, spare_g)
        new = ring[head - 1]
        old = ring[first - 1] if seen > w else zero
        if not by_rows:
            slide_products_nb(products, new, old, assets)
        shrunk = _slide_sums_nb(new, old, sums, squares, peak)
        age += 1
        refreshed = seen >= w and (shrunk > 0 or age >= REFRESH_BARS)
        if refreshed:
            _refresh_nb(ring[first:head], by_rows, products, sums, squares, peak)
            age = 0
        top = velocity = term = math.nan
        if members > 0:
            window = Window(products, ring, turned, first, w, sums, scale, deviation, value_only)
            if changed and not math.isnan(top_before):
                _rescale_nb(squares, sums, w, both, scale, deviation)
                top_now, crowded = solve_apart_nb(kr, window, common, COLD, now_u, spare_w, spare_g)
                velocity, term = _compare_nb(top_now, top_before, now_u, before)
            mode = COLD if changed or not had else (MIXED if refreshed or crowded else FREE)
            if mode == FREE:
                _slide_image_nb(new, old, weights, image)
            _rescale_nb(squares, sums, w, inside, scale, deviation)
            top, crowded = solve_top_nb(kr, window, members, mode, vector, weights, image)
            if had and not changed:
                velocity, term = _compare_nb(top, top_before, vector, before)
        if changed:
            copy_nb(inside, member)
        had, top_held = members > 0, top
        out[at + b, k, TOP] = top
        out[at + b, k, MEMBERS] = members
        out[at + b, k, VELOCITY] = velocity
        out[at + b, k, INSTABILITY] = math.nan
        if not math.isnan(term):
            ema = _average_nb(ema, term, w)
            out[at + b, k, INSTABILITY] = ema
    st.solved[k], st.top[k], st.age[k], st.crowded[k], st.ema[k] = had, top_held, age, crowded, ema


@kernel
def scan_rows_nb(st: ScanState, ts_ns: I8, gap_ns: int, prices: F8, out: F8) -> int:
    """Advance the scanner by T bars; give T.

    `ts_ns` int64 (T,) increasing; `prices` float64 (T, N), NaN or ≤ 0 or infinite when missing; `out` float64 (T, K,
    4): largest eigenvalue, members, velocity, instability per window, NaN while it fills. `gap_ns`: a longer hole in
    time restarts the windows. Causality: row t of `out` reads nothing later than row t."""
    t, total = 0, prices.shape[0]
    while t < total:
        if st.counters[HAVE_PRICE] != 0 and ts_ns[t] - st.counters[LAST_TS] > gap_ns:
            restart_nb(st)
        if st.counters[HAVE_PRICE] == 0:
            for i in range(prices.shape[1]):
                p = prices[t, i]
                st.last_price[i] = p if p > 0.0 and p < math.inf else math.nan
            out[t] = math.nan
            out[t, :, MEMBERS] = 0.0
            st.counters[HAVE_PRICE] = 1
            st.counters[LAST_TS] = ts_ns[t]
            t += 1
            continue
        bars = 1
        while bars < CHUNK and t + bars < total and ts_ns[t + bars] - ts_ns[t + bars - 1] <= gap_ns:
            bars += 1
        _make_room_nb(st, bars)
        _push_returns_nb(st, prices, t, bars)
        for k in range(st.windows.shape[0]):
            _window_rows_nb(st, k, bars, out, t)
        t += bars
        st.counters[LAST_TS] = ts_ns[t - 1]
    return total
