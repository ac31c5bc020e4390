"""What one scanner remembers: flat arrays, allocated once, so that a bar costs no allocation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.core.lanes import LANES, padded

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
I4 = NDArray[np.int32]
U1 = NDArray[np.uint8]

WINDOWS = (50, 150, 300, 750)
"""Window lengths in bars (SPEC §2)."""

GAP_BARS = 10
"""A hole in time longer than this many bars restarts the windows (SIGNAL.md)."""

CHUNK = 64
"""Bars that one pass over a window takes at most: enough to keep its matrix in cache while it is worked on."""

REFRESH_BARS = 2048
"""Sliding sums are recomputed after this many bars. Each update errs by at most 2⁻⁵³ of the largest value that the
sum has held; a sum is also recomputed as soon as it falls under `SHRINK` of that value. So the relative error stays
under 2048 · 2⁻⁵³ / 1e-3 = 2.3e-10."""

SHRINK = 1e-3

MAX_BASIS = 64
"""Lanczos vectors kept before a restart."""

CROWDED = 0.6
"""A second Ritz value above this share of the first makes the window `crowded`: its next solve starts from a mixed
vector, so that a rival eigenvector cannot overtake unseen."""

RESIDUAL = 1e-5
"""Stop when ‖Cu − λu‖ ≤ RESIDUAL·λ. The eigenvalue's own error is at most the square of that over the spectral gap,
relative to λ: 1e-10/0.4 = 2.5e-10, before a correction that takes most of it away."""

APART = 0.25
RESIDUAL_APART = 2e-5
"""The same for windows of which only the eigenvalue is published, while every other Ritz value is under APART of it. A
rival that these few Ritz values do not show yet may be at twice that: 4e-10/0.5 = 8e-10, of which the correction takes
what it would take of a smaller one. Measured at 4e-5: up to 2.2e-9 on markets of two unequal groups."""

ALIGNMENT = 64
"""Bytes at whose multiples arrays start: a group of lanes then never straddles two cache lines."""

PUBLISHED_VECTORS = 2
"""How many windows, the shortest first, publish an instability and so need the eigenvector as well (SPEC §1.2)."""

RESIDUAL_CROWDED = 1e-8
"""The same where the gap may be small: a relative gap of 1e-6 still leaves an error of 1e-10."""

# Slots of ScanState.counters
HEAD, RETURNS, HAVE_PRICE, LAST_TS = 0, 1, 2, 3
N_COUNTERS = 4


class ScanState(NamedTuple):
    """Arrays of one scanner for K windows and N assets, in C ≥ N columns; every row is described in place.

    C pads N to whole groups of lanes. Columns from N on belong to no asset: they are never members, and everything in
    them stays 0."""

    windows: I8  # (K,) lengths in bars
    counters: I8  # (N_COUNTERS,) ring head, returns since restart, price seen, last stamp ns
    ring: F8  # (2·Wmax, C) returns, 0 where invalid; the last rows before `head` are the windows, contiguous
    turned: F8  # (C, 2·Wmax + LANES) the same, transposed; the last columns are there to be read past the head
    last_price: F8  # (N,) NaN when missing
    last_return: F8  # (N,)
    valid_run: I4  # (N,) successive valid returns up to now
    same_run: I4  # (N,) successive equal returns up to now
    member: U1  # (K, C) assets in the window
    products: F8  # (K, C, C) Σ r·rᵀ over the window; unused where the window is solved through its rows
    sums: F8  # (K, C) Σ r
    squares: F8  # (K, C) Σ r²
    peak: F8  # (K, C) largest Σ r² since the sums were fresh
    age: I8  # (K,) bars since the sums were fresh
    crowded: U1  # (K,) the last solve saw a rival eigenvalue
    solved: U1  # (K,) an eigenpair of the previous bar is held
    weights: F8  # (K, C) scale ∘ u
    image: F8  # (K, C) Σ r·rᵀ · weights
    vector: F8  # (K, C) unit eigenvector, entries sum to ≥ 0
    top: F8  # (K,) largest eigenvalue
    ema: F8  # (K,) instability's moving average, NaN before its first term
    valid_runs: I4  # (CHUNK, C) work: valid_run after each bar of the chunk
    same_runs: I4  # (CHUNK, C) work
    basis: F8  # (MAX_BASIS + 1, C) work: Lanczos vectors
    images: F8  # (MAX_BASIS + 1, C) work: Σ r·rᵀ · (scale ∘ basis)
    tridiagonal: F8  # (3, MAX_BASIS + 1) work: diagonal, off-diagonal, eigenvector
    zero: F8  # (C,) zeros: what leaves a window that is still filling
    along: F8  # (Wmax + LANES,) work: a vector over time
    spare: F8  # (8, C) work
    mask: U1  # (2, C) work


def _aligned(*shape: int) -> F8:
    """Zeros that start at a multiple of `ALIGNMENT` bytes."""
    size = math.prod(shape)
    room = np.zeros(size + ALIGNMENT // 8)
    skip = -room.ctypes.data % ALIGNMENT // 8
    return room[skip : skip + size].reshape(shape)


def new_state(n_assets: int, windows: tuple[int, ...] = WINDOWS) -> ScanState:
    """A scanner that has seen nothing, for `n_assets` columns."""
    k, n, m, longest = len(windows), n_assets, MAX_BASIS + 1, max(*windows, CHUNK)
    c = padded(n)
    return ScanState(
        windows=np.array(windows, np.int64),
        counters=np.zeros(N_COUNTERS, np.int64),
        ring=_aligned(2 * longest, c),
        turned=_aligned(c, 2 * longest + LANES),
        last_price=np.full(n, np.nan),
        last_return=np.full(n, np.nan),
        valid_run=np.zeros(n, np.int32),
        same_run=np.zeros(n, np.int32),
        member=np.zeros((k, c), np.uint8),
        products=_aligned(k, c, c),
        sums=_aligned(k, c),
        squares=_aligned(k, c),
        peak=_aligned(k, c),
        age=np.zeros(k, np.int64),
        crowded=np.zeros(k, np.uint8),
        solved=np.zeros(k, np.uint8),
        weights=_aligned(k, c),
        image=_aligned(k, c),
        vector=_aligned(k, c),
        top=np.full(k, np.nan),
        ema=np.full(k, np.nan),
        valid_runs=np.zeros((CHUNK, c), np.int32),
        same_runs=np.zeros((CHUNK, c), np.int32),
        basis=_aligned(m, c),
        images=_aligned(m, c),
        tridiagonal=_aligned(3, m),
        zero=_aligned(c),
        along=_aligned(longest + LANES),
        spare=_aligned(8, c),
        mask=np.zeros((2, c), np.uint8),
    )
