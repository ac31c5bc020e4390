"""Small dense kernels of the scanner: products, rank-two updates, moments.

Rows are taken out as one-dimensional views before a loop: an index that is not the loop's own must be tested for
wrapping round, and that test keeps the compiler from using vector registers. For the same end reductions run over eight
partial sums (lanes), written out so that nothing has to be reordered.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from dolphin.core.jit import inlined_kernel, kernel

F8 = NDArray[np.float64]


@inlined_kernel
def dot_nb(a: F8, b: F8) -> float:
    """Return Σ a_i·b_i; float64 (N,)."""
    n = b.shape[0]
    m = n - n % 8
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for i in range(0, m, 8):
        s0 += a[i] * b[i]
        s1 += a[i + 1] * b[i + 1]
        s2 += a[i + 2] * b[i + 2]
        s3 += a[i + 3] * b[i + 3]
        s4 += a[i + 4] * b[i + 4]
        s5 += a[i + 5] * b[i + 5]
        s6 += a[i + 6] * b[i + 6]
        s7 += a[i + 7] * b[i + 7]
    total = ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
    for i in range(m, n):
        total += a[i] * b[i]
    return total


@inlined_kernel
def sum_nb(a: F8) -> float:
    """Return Σ a_i; float64 (N,)."""
    n = a.shape[0]
    m = n - n % 8
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for i in range(0, m, 8):
        s0 += a[i]
        s1 += a[i + 1]
        s2 += a[i + 2]
        s3 += a[i + 3]
        s4 += a[i + 4]
        s5 += a[i + 5]
        s6 += a[i + 6]
        s7 += a[i + 7]
    total = ((s0 + s4) + (s2 + s6)) + ((s1 + s5) + (s3 + s7))
    for i in range(m, n):
        total += a[i]
    return total


@inlined_kernel
def copy_nb(source: F8, target: F8) -> None:
    """target = source, element by element: a slice assignment would allocate a buffer first."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@inlined_kernel
def add_nb(c: float, x: F8, y: F8) -> None:
    """y += c·x, in place; float64 (N,)."""
    for i in range(y.shape[0]):
        y[i] = y[i] + c * x[i]


@inlined_kernel
def combine_rows_nb(rows: F8, top: int, left: int, x: F8, n: int, out: F8) -> None:
    """out_i = Σ_j x_j·rows[top + j, left + i] for j < n: rows as columns, eight at a time, no sum across lanes.

    With a symmetric matrix this is P·x; with the transposed returns, R·x; with the returns, Rᵀ·x.
    """
    width = out.shape[0]
    right = left + width
    for i in range(width):
        out[i] = 0.0
    m = n - n % 8
    for j in range(0, m, 8):
        a0, a1, a2, a3 = x[j], x[j + 1], x[j + 2], x[j + 3]
        a4, a5, a6, a7 = x[j + 4], x[j + 5], x[j + 6], x[j + 7]
        r = top + j
        r0, r1, r2, r3 = rows[r, left:right], rows[r + 1, left:right], rows[r + 2, left:right], rows[r + 3, left:right]
        r4, r5, r6, r7 = (
            rows[r + 4, left:right],
            rows[r + 5, left:right],
            rows[r + 6, left:right],
            rows[r + 7, left:right],
        )
        for i in range(width):
            low = (a0 * r0[i] + a1 * r1[i]) + (a2 * r2[i] + a3 * r3[i])
            high = (a4 * r4[i] + a5 * r5[i]) + (a6 * r6[i] + a7 * r7[i])
            out[i] = out[i] + (low + high)
    for j in range(m, n):
        a0 = x[j]
        r0 = rows[top + j, left:right]
        for i in range(width):
            out[i] = out[i] + a0 * r0[i]


@inlined_kernel
def slide_products_nb(p: F8, new: F8, old: F8) -> None:
    """P += new·newᵀ − old·oldᵀ, in place, (N, N): one bar's returns enter the window and another's leave it."""
    n = new.shape[0]
    for j in range(n):
        a, b = new[j], old[j]
        row = p[j]
        for i in range(n):
            row[i] = row[i] + (a * new[i] - b * old[i])


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
