"""Largest eigenpair of a window's correlation matrix by warm-started Lanczos iteration.

The matrix is never formed. With sums s = Σr and products P = Σr·rᵀ over the window and scale_i = 1/sqrt(P_ii − s_i²/W),
C·x = scale ∘ (P(scale ∘ x) − s·(s·(scale ∘ x))/W); assets outside the window have scale 0.

The first product of a bar is free: `image` = P·weights is carried from the last bar through the rank-two change of P,
and the start vector is chosen as weights/scale, so that C·start needs nothing but `image`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.lanes import (
    LANES,
    fused_nb,
    load_nb,
    load_row_nb,
    spread_nb,
    store_nb,
    store_row_nb,
    times_nb,
)
from dolphin.scan.layout import APART, CROWDED, MAX_BASIS, RESIDUAL, RESIDUAL_APART, RESIDUAL_CROWDED
from dolphin.scan.linalg import add_nb, combine_rows_nb, copy_nb, dot_nb, sum_nb
from dolphin.scan.ritz import count_above_nb, find_top_ritz_nb, grow_top_ritz_nb, ritz_vector_nb

F8 = NDArray[np.float64]

FREE, MIXED, COLD = 0, 1, 2
"""How a solve starts: from the carried image; from the last eigenvector stirred a little; from nothing."""

MAX_RESTARTS = 50

STRAIGHTEN_AFTER = 3
"""Vectors that three-term recurrence may make by itself; a longer basis is made orthogonal again at every step."""

CANCELLED = 1e-6
"""So small a remainder, relative to the eigenvalue, is round-off in its last digits: it is straightened at once."""

INVARIANT = 1e-14
"""A remainder under this share of the eigenvalue is round-off: the basis holds all that its start vector can reach."""

OVERTAKEN = 1.0 + 1e-10
"""A Ritz value above this share of the tracked one means that the tracked one is no longer the largest."""


class Krylov(NamedTuple):
    """Work space of one solve: `basis` and `images` (M + 1, N), the tridiagonal's `alpha`, `beta` and its eigenvector
    `ritz` (M + 1,), `residual` and `scaled` (N,), `along` (Wmax,)."""

    basis: F8
    images: F8
    alpha: F8
    beta: F8
    ritz: F8
    residual: F8
    scaled: F8
    along: F8


class Window(NamedTuple):
    """One window's operator: `products` (N, N) or, where that is dearer, `length` rows of `ring`/`turned`
    from `first`. `deviation` is 1/scale, 0 outside. `value_only`: the eigenvector is not published, so its accuracy
    may be less."""

    products: F8
    ring: F8
    turned: F8
    first: int
    length: int
    sums: F8
    scale: F8
    deviation: F8
    value_only: bool


@inlined_kernel
def stir_nb(i: int) -> float:
    """A fixed, irregular number in [−1, 1) for index i: keeps start vectors from being orthogonal to the answer."""
    x = (i + 1) * 0.6180339887498949
    return 2.0 * (x - math.floor(x)) - 1.0


@inlined_kernel
def uses_rows_nb(window: int, n_assets: int) -> bool:
    """Whether P·x = Rᵀ(R·x) through the window's rows is cheaper than keeping P: 2WN a product against N² and its
    slide."""
    return 5 * window <= 4 * n_assets


@inlined_kernel
def multiply_nb(win: Window, along: F8, x: F8, out: F8) -> None:
    """out = P·x."""
    n = x.shape[0]
    if uses_rows_nb(win.length, n):
        part = along[: (win.length + LANES - 1) // LANES * LANES]  # the last few are read past the head, and not used
        combine_rows_nb(win.turned, 0, win.first, x, n, part)
        combine_rows_nb(win.ring, win.first, 0, part, win.length, out)
    else:
        combine_rows_nb(win.products, 0, 0, x, n, out)


@inlined_kernel
def _start_free_nb(kr: Krylov, deviation: F8, weights: F8, image: F8) -> None:
    n = deviation.shape[0]
    start = kr.scaled
    for i in range(0, n, LANES):
        store_nb(start, i, times_nb(load_nb(weights, i), load_nb(deviation, i)))
    inv = spread_nb(1.0 / math.sqrt(dot_nb(start, start)))
    q, g = kr.basis[0], kr.images[0]
    for i in range(0, n, LANES):
        store_nb(q, i, times_nb(inv, load_nb(start, i)))
        store_nb(g, i, times_nb(inv, load_nb(image, i)))


@inlined_kernel
def _start_stirred_nb(kr: Krylov, win: Window, vector: F8, mode: int) -> None:
    n = vector.shape[0]
    stir = 0.1 / math.sqrt(n) if mode == MIXED else 0.5
    start = kr.scaled
    for i in range(n):
        base = vector[i] if mode == MIXED else 1.0
        start[i] = base + stir * stir_nb(i) if win.scale[i] > 0.0 else 0.0
    inv = 1.0 / math.sqrt(dot_nb(start, start))
    q = kr.basis[0]
    for i in range(n):
        q[i] = start[i] * inv
        start[i] = win.scale[i] * q[i]
    multiply_nb(win, kr.along, kr.scaled, kr.images[0])


@inlined_kernel
def _collect_nb(kr: Krylov, m: int, vector: F8, image: F8) -> None:
    for i in range(0, vector.shape[0], LANES):
        v = g = spread_nb(0.0)
        for j in range(m):
            c = spread_nb(kr.ritz[j])
            v = fused_nb(c, load_row_nb(kr.basis, j, i), v)
            g = fused_nb(c, load_row_nb(kr.images, j, i), g)
        store_nb(vector, i, v)
        store_nb(image, i, g)


@inlined_kernel
def _apply_nb(kr: Krylov, win: Window, m: int) -> None:
    """residual = C·basis[m], from the stored images[m] = P·(scale ∘ basis[m])."""
    scale, sums, out, scaled = win.scale, win.sums, kr.residual, kr.scaled
    for i in range(0, out.shape[0], LANES):
        store_nb(scaled, i, times_nb(load_nb(scale, i), load_row_nb(kr.basis, m, i)))
    mean = spread_nb(-dot_nb(sums, scaled) / win.length)
    for i in range(0, out.shape[0], LANES):
        centred = fused_nb(mean, load_nb(sums, i), load_row_nb(kr.images, m, i))
        store_nb(out, i, times_nb(load_nb(scale, i), centred))


@inlined_kernel
def _accept_nb(alpha: F8, beta: F8, m: int, theta: float, residual: float, value_only: bool) -> tuple[bool, bool]:
    """Whether a residual is small enough for the gap that the Ritz values show, and whether they are crowded."""
    if residual <= RESIDUAL * theta:
        crowded = count_above_nb(alpha, beta, m, CROWDED * theta) > 1
        return not crowded or residual <= RESIDUAL_CROWDED * theta, crowded
    if value_only and residual <= RESIDUAL_APART * theta:
        return count_above_nb(alpha, beta, m, APART * theta) == 1, False
    return False, False


@inlined_kernel
def _expand_nb(kr: Krylov, win: Window, members: int, least: int) -> tuple[float, int, bool, bool]:
    """Grow the basis from its first vector; give (Ritz value, vectors, converged, crowded)."""
    alpha, beta, r, scaled, scale = kr.alpha, kr.beta, kr.residual, kr.scaled, win.scale
    theta, last = 0.0, 1.0
    m = 0
    while True:
        _apply_nb(kr, win, m)
        q = kr.basis[m]
        alpha[m] = dot_nb(q, r)
        if m == 0:
            theta = alpha[0]
            add_nb(-theta, q, r)
        else:
            theta, last = grow_top_ritz_nb(alpha, beta, m, theta, last)
            a, b = spread_nb(-alpha[m]), spread_nb(-beta[m - 1])
            for i in range(0, r.shape[0], LANES):
                less = fused_nb(a, load_nb(q, i), load_nb(r, i))
                store_nb(r, i, fused_nb(b, load_row_nb(kr.basis, m - 1, i), less))
        size = math.sqrt(dot_nb(r, r))
        if m > STRAIGHTEN_AFTER or size <= CANCELLED * theta:
            for j in range(m + 1):  # round-off has begun to tilt the basis: straighten it
                add_nb(-dot_nb(kr.basis[j], r), kr.basis[j], r)
            size = math.sqrt(dot_nb(r, r))
        beta[m] = size
        m += 1
        whole = m == members or size <= INVARIANT * theta
        if whole or m >= least:
            small, crowded = _accept_nb(alpha, beta, m, theta, 0.0 if whole else size * last, win.value_only)
            if (small or m == MAX_BASIS) and count_above_nb(alpha, beta, m, theta * OVERTAKEN) > 0:
                theta, last = find_top_ritz_nb(alpha, beta, m, theta)
                small, crowded = _accept_nb(alpha, beta, m, theta, 0.0 if whole else size * last, win.value_only)
            if small or m == MAX_BASIS:
                return theta, m, small, crowded
        inv = spread_nb(1.0 / size)
        for i in range(0, r.shape[0], LANES):
            unit = times_nb(inv, load_nb(r, i))
            store_row_nb(kr.basis, m, i, unit)
            store_nb(scaled, i, times_nb(load_nb(scale, i), unit))
        multiply_nb(win, kr.along, scaled, kr.images[m])


@inlined_kernel
def solve_top_nb(
    kr: Krylov, win: Window, members: int, mode: int, vector: F8, weights: F8, image: F8
) -> tuple[float, bool]:
    """Largest eigenvalue of a window's correlation matrix, and whether a second one comes near it.

    `win.scale` (N,) is 0 outside; `members` ≥ 1 counts the others. Overwrites `vector` with the unit eigenvector
    (entries sum to ≥ 0) and `weights` and `image` with what the next bar's free start needs. Complexity: one to four
    products on ordinary bars, more where the two largest eigenvalues are close."""
    n = vector.shape[0]
    least = min(members, 2 if mode == FREE else 6)
    if mode == FREE:
        _start_free_nb(kr, win.deviation, weights, image)
    else:
        _start_stirred_nb(kr, win, vector, mode)
    theta, m, crowded = 0.0, 0, False
    for _ in range(MAX_RESTARTS):
        theta, m, done, crowded = _expand_nb(kr, win, members, least)
        ritz_vector_nb(kr.alpha, kr.beta, m, theta, kr.ritz)
        _collect_nb(kr, m, vector, image)
        if done:
            break
        copy_nb(vector, kr.basis[0])
        copy_nb(image, kr.images[0])
    # One Jacobi-like step on what the basis left over, with the last Ritz diagonal standing
    # for the eigenvalues that the remainder is made of.
    others = kr.alpha[m - 1]
    last = kr.ritz[m - 1]
    # Nothing is left over of a basis that has become invariant; with one vector in it `others` would be `theta` itself.
    settled = crowded or m == members or kr.beta[m - 1] <= INVARIANT * theta
    tilt = 0.0 if settled else last / (theta - others)
    theta += tilt * last * kr.beta[m - 1] * kr.beta[m - 1]
    sign = -1.0 if sum_nb(vector) < 0.0 else 1.0
    scale, residual = win.scale, kr.residual
    for i in range(n):
        image[i] = sign * image[i]
        weights[i] = sign * (scale[i] * vector[i])
        vector[i] = sign * (vector[i] + tilt * residual[i])
    return theta, crowded


@kernel
def solve_apart_nb(
    kr: Krylov, win: Window, members: int, mode: int, vector: F8, weights: F8, image: F8
) -> tuple[float, bool]:
    """`solve_top_nb` compiled once by itself, for the rare solves that need not be fast."""
    return solve_top_nb(kr, win, members, mode, vector, weights, image)
