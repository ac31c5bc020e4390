"""Small dense kernels of the scanner: products, rank-two updates, moments.

Vectors and the rows of matrices are padded to whole groups of lanes (`core.lanes`): float64 (C,) and (…, C), C a
multiple of eight, with zeros in the columns of no asset.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.lanes import (
    LANES,
    fused_nb,
    load_nb,
    load_row_nb,
    plus_nb,
    spread_nb,
    store_nb,
    store_row_nb,
    times_nb,
    total_nb,
)

F8 = NDArray[np.float64]

IN_CACHE = 8192
"""Elements up to which a block is read column by column; beyond it does not stay in the first cache (48 KB, often)."""


@inlined_kernel
def dot_nb(a: F8, b: F8) -> float:
    """Return Σ a_i·b_i; float64 (C,)."""
    partial = spread_nb(0.0)
    for i in range(0, b.shape[0], LANES):
        partial = fused_nb(load_nb(a, i), load_nb(b, i), partial)
    return total_nb(partial)


@inlined_kernel
def sum_nb(a: F8) -> float:
    """Return Σ a_i; float64 (C,)."""
    partial = spread_nb(0.0)
    for i in range(0, a.shape[0], LANES):
        partial = plus_nb(load_nb(a, i), partial)
    return total_nb(partial)


@inlined_kernel
def copy_nb(source: F8, target: F8) -> None:
    """target = source, element by element: a slice assignment would allocate a buffer first."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@inlined_kernel
def add_nb(c: float, x: F8, y: F8) -> None:
    """y += c·x, in place; float64 (C,)."""
    factor = spread_nb(c)
    for i in range(0, y.shape[0], LANES):
        store_nb(y, i, fused_nb(factor, load_nb(x, i), load_nb(y, i)))


@inlined_kernel
def _combine_one_nb(rows: F8, top: int, left: int, x: F8, n: int, out: F8, i: int) -> None:
    """Eight columns of `combine_rows_nb`. Four partial sums a lane hide the latency of an addition."""
    s0 = s1 = s2 = s3 = spread_nb(0.0)
    m = n - n % 4
    for j in range(0, m, 4):
        r = top + j
        s0 = fused_nb(spread_nb(x[j]), load_row_nb(rows, r, left + i), s0)
        s1 = fused_nb(spread_nb(x[j + 1]), load_row_nb(rows, r + 1, left + i), s1)
        s2 = fused_nb(spread_nb(x[j + 2]), load_row_nb(rows, r + 2, left + i), s2)
        s3 = fused_nb(spread_nb(x[j + 3]), load_row_nb(rows, r + 3, left + i), s3)
    for j in range(m, n):
        s0 = fused_nb(spread_nb(x[j]), load_row_nb(rows, top + j, left + i), s0)
    store_nb(out, i, plus_nb(plus_nb(s0, s1), plus_nb(s2, s3)))


@inlined_kernel
def _combine_two_nb(rows: F8, top: int, left: int, x: F8, n: int, out: F8, i: int) -> None:
    """Sixteen columns of `combine_rows_nb`, each in the same order of additions as by `_combine_one_nb`."""
    s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = spread_nb(0.0)
    m = n - n % 4
    for j in range(0, m, 4):
        r = top + j
        a0, a1, a2, a3 = spread_nb(x[j]), spread_nb(x[j + 1]), spread_nb(x[j + 2]), spread_nb(x[j + 3])
        s0 = fused_nb(a0, load_row_nb(rows, r, left + i), s0)
        t0 = fused_nb(a0, load_row_nb(rows, r, left + i + LANES), t0)
        s1 = fused_nb(a1, load_row_nb(rows, r + 1, left + i), s1)
        t1 = fused_nb(a1, load_row_nb(rows, r + 1, left + i + LANES), t1)
        s2 = fused_nb(a2, load_row_nb(rows, r + 2, left + i), s2)
        t2 = fused_nb(a2, load_row_nb(rows, r + 2, left + i + LANES), t2)
        s3 = fused_nb(a3, load_row_nb(rows, r + 3, left + i), s3)
        t3 = fused_nb(a3, load_row_nb(rows, r + 3, left + i + LANES), t3)
    for j in range(m, n):
        a0 = spread_nb(x[j])
        s0 = fused_nb(a0, load_row_nb(rows, top + j, left + i), s0)
        t0 = fused_nb(a0, load_row_nb(rows, top + j, left + i + LANES), t0)
    store_nb(out, i, plus_nb(plus_nb(s0, s1), plus_nb(s2, s3)))
    store_nb(out, i + LANES, plus_nb(plus_nb(t0, t1), plus_nb(t2, t3)))


@inlined_kernel
def _combine_along_nb(rows: F8, top: int, left: int, x: F8, n: int, out: F8) -> None:
    """`combine_rows_nb` for what does not stay in cache: memory is read in order, eight rows at a time."""
    zero = spread_nb(0.0)
    for i in range(0, out.shape[0], LANES):
        store_nb(out, i, zero)
    m = n - n % 8
    for j in range(0, m, 8):
        r = top + j
        a0, a1, a2, a3 = spread_nb(x[j]), spread_nb(x[j + 1]), spread_nb(x[j + 2]), spread_nb(x[j + 3])
        a4, a5, a6, a7 = spread_nb(x[j + 4]), spread_nb(x[j + 5]), spread_nb(x[j + 6]), spread_nb(x[j + 7])
        for i in range(0, out.shape[0], LANES):
            c = left + i
            s = fused_nb(a1, load_row_nb(rows, r + 1, c), fused_nb(a0, load_row_nb(rows, r, c), load_nb(out, i)))
            t = fused_nb(a3, load_row_nb(rows, r + 3, c), times_nb(a2, load_row_nb(rows, r + 2, c)))
            u = fused_nb(a5, load_row_nb(rows, r + 5, c), times_nb(a4, load_row_nb(rows, r + 4, c)))
            v = fused_nb(a7, load_row_nb(rows, r + 7, c), times_nb(a6, load_row_nb(rows, r + 6, c)))
            store_nb(out, i, plus_nb(plus_nb(s, t), plus_nb(u, v)))
    for j in range(m, n):
        a0 = spread_nb(x[j])
        for i in range(0, out.shape[0], LANES):
            store_nb(out, i, fused_nb(a0, load_row_nb(rows, top + j, left + i), load_nb(out, i)))


@inlined_kernel
def combine_rows_nb(rows: F8, top: int, left: int, x: F8, n: int, out: F8) -> None:
    """out_i = Σ_j x_j·rows[top + j, left + i] for j < n: rows as columns, no sum across lanes.

    With a symmetric matrix this is P·x; with the transposed returns, R·x; with the returns, Rᵀ·x.
    """
    width = out.shape[0]
    if width * n > IN_CACHE:
        _combine_along_nb(rows, top, left, x, n, out)
        return
    pairs = width - width % (2 * LANES)
    for i in range(0, pairs, 2 * LANES):
        _combine_two_nb(rows, top, left, x, n, out, i)
    if pairs < width:
        _combine_one_nb(rows, top, left, x, n, out, pairs)


@inlined_kernel
def slide_products_nb(p: F8, new: F8, old: F8, n_rows: int) -> None:
    """P += new·newᵀ − old·oldᵀ, in place, (C, C): one bar's returns enter the window and another's leave it.

    From `n_rows` on the returns are 0 and nothing changes.
    """
    for j in range(0, n_rows, 4):
        a0, b0 = spread_nb(new[j]), spread_nb(-old[j])
        a1, b1 = spread_nb(new[j + 1]), spread_nb(-old[j + 1])
        a2, b2 = spread_nb(new[j + 2]), spread_nb(-old[j + 2])
        a3, b3 = spread_nb(new[j + 3]), spread_nb(-old[j + 3])
        for i in range(0, new.shape[0], LANES):
            x, y = load_nb(new, i), load_nb(old, i)
            store_row_nb(p, j, i, fused_nb(b0, y, fused_nb(a0, x, load_row_nb(p, j, i))))
            store_row_nb(p, j + 1, i, fused_nb(b1, y, fused_nb(a1, x, load_row_nb(p, j + 1, i))))
            store_row_nb(p, j + 2, i, fused_nb(b2, y, fused_nb(a2, x, load_row_nb(p, j + 2, i))))
            store_row_nb(p, j + 3, i, fused_nb(b3, y, fused_nb(a3, x, load_row_nb(p, j + 3, i))))


@kernel
def fresh_products_nb(p: F8, rows: F8) -> None:
    """P = RᵀR from scratch for the (W, N) window R: ends the drift of the sliding sums."""
    w, n = rows.shape
    m = w - w % 4
    for j in range(n):
        row = p[j, : j + 1]
        row[:] = 0.0
        for t in range(0, m, 4):
            a0, a1, a2, a3 = rows[t, j], rows[t + 1, j], rows[t + 2, j], rows[t + 3, j]
            r0, r1, r2, r3 = rows[t], rows[t + 1], rows[t + 2], rows[t + 3]
            for i in range(j + 1):
                row[i] = row[i] + ((a0 * r0[i] + a1 * r1[i]) + (a2 * r2[i] + a3 * r3[i]))
        for t in range(m, w):
            a0 = rows[t, j]
            r0 = rows[t]
            for i in range(j + 1):
                row[i] = row[i] + a0 * r0[i]
    for j in range(n):
        for i in range(j):
            p[i, j] = p[j, i]
