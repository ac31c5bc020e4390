"""Largest eigenpair of a small symmetric tridiagonal matrix: the heart of a Lanczos step."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dolphin.core.jit import inlined_kernel, kernel

F8 = NDArray[np.float64]


NEWTON_STEP = 1e-10
"""Newton's method stops after a step this small, relative to the root: its next one would be about the square of
that."""


@inlined_kernel
def grow_top_ritz_nb(alpha: F8, beta: F8, j: int, theta: float, last: float) -> tuple[float, float]:
    """Largest eigenvalue of the leading (j+1)x(j+1) tridiagonal and the last entry of its unit eigenvector.

    `alpha[:j+1]` is the diagonal, `beta[:j]` the off-diagonal (beta[j-1] joins the new row); `theta` and `last` are the
    same two numbers of the leading j x j block.

    The last pivot f(x) = (alpha_j − x) − beta²/(…) of the LDLᵀ factorisation of T − xI is decreasing and convex right
    of `theta`, with its root at the answer. Keeping only the pole at `theta` gives a start left of that root, from
    where Newton's method climbs to it without ever overshooting."""
    coupling = beta[j - 1] * beta[j - 1] * last * last
    half = 0.5 * (alpha[j] - theta)
    x = max(theta + (half + math.sqrt(half * half + coupling)), theta * (1.0 + 4e-16))
    for _ in range(60):
        inverse = 1.0 / (alpha[0] - x)
        slope = -1.0
        pivot = alpha[0] - x
        for i in range(1, j + 1):
            ratio = beta[i - 1] * beta[i - 1] * inverse
            slope = -1.0 + ratio * inverse * slope
            pivot = alpha[i] - x - ratio
            inverse = 1.0 / pivot
        if not (pivot > 0.0 and slope < 0.0):
            break  # at the root, to the last bit
        step = -pivot / slope
        x += step
        if step <= NEWTON_STEP * x:
            break
    return x, last_entry_nb(alpha, beta, j + 1, x)


@inlined_kernel
def last_entry_nb(alpha: F8, beta: F8, m: int, theta: float) -> float:
    """Size of the last entry of the unit eigenvector that `ritz_vector_nb` would give.

    1/sqrt(−f') at the root is the same number, but not where it is small: the root then lies so near a pole that an
    error of 1e-12 in it changes f' altogether, and the next start with it."""
    above, here, norm2 = 0.0, 1.0, 1.0
    for i in range(m - 1, 0, -1):
        above, here = beta[i - 1] * here, ((theta - alpha[i]) * here - above) / beta[i - 1]
        norm2 += here * here
        if norm2 > 1e200:
            break  # below 1e-100 it is as good as zero
    return 1.0 / math.sqrt(norm2)


@inlined_kernel
def ritz_vector_nb(alpha: F8, beta: F8, m: int, theta: float, y: F8) -> None:
    """Unit eigenvector `y[:m]` of the leading m x m tridiagonal for its largest eigenvalue `theta`.

    Built from the last entry upwards: in that direction the wanted solution grows, so round-off does not.
    """
    y[m - 1] = 1.0
    norm2 = 1.0
    above = 0.0
    for i in range(m - 1, 0, -1):
        value = ((theta - alpha[i]) * y[i] - above) / beta[i - 1]
        above = beta[i - 1] * y[i]
        y[i - 1] = value
        norm2 += value * value
        if norm2 > 1e200:
            for k in range(i - 1, m):
                y[k] *= 1e-100
            above *= 1e-100
            norm2 *= 1e-200
    scale = 1.0 / math.sqrt(norm2)
    for i in range(m):
        y[i] *= scale


@inlined_kernel
def count_above_nb(alpha: F8, beta: F8, m: int, x: float) -> int:
    """How many eigenvalues of the leading m x m tridiagonal exceed `x` (Sturm's count)."""
    count = 0
    pivot = 1.0
    for i in range(m):
        below = beta[i - 1] * beta[i - 1] / pivot if i > 0 else 0.0
        pivot = alpha[i] - x - below
        if pivot > 0.0:
            count += 1
        elif pivot == 0.0:
            pivot = -1e-300
    return count


@kernel
def find_top_ritz_nb(alpha: F8, beta: F8, m: int, low: float) -> tuple[float, float]:
    """What `grow_top_ritz_nb` gives, found without a start: bisection from a lower bound `low` to Gershgorin's upper
    one.

    For when the largest eigenvalue is one that grew up beside the tracked one and overtook it: next to a pole
    of next to no weight Newton's steps are too short to leave it.
    """
    high = low
    for i in range(m):
        before = beta[i - 1] if i > 0 else 0.0
        after = beta[i] if i < m - 1 else 0.0
        high = max(high, alpha[i] + before + after)
    while True:
        middle = 0.5 * (low + high)
        if middle <= low or middle >= high:
            return high, last_entry_nb(alpha, beta, m, high)
        if count_above_nb(alpha, beta, m, middle) > 0:
            low = middle
        else:
            high = middle
