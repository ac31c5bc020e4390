"""The scanner's plain twin: for every bar and window, numpy's correlation matrix and eigen-decomposition (SPEC §2).

Members, matrices, eigenvalues and eigenvectors are computed from the returns afresh at every bar, so an error cannot
hide in an update; only the previous bar's spectrum and the instability's average are carried along.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Spectrum = tuple[float, Floats]

WINDOWS = (50, 150, 300, 750)
MAX_GAP_BARS = 10


def log_return(before: float, after: float) -> float:
    """`ln(after/before)`, NaN unless both prices are finite and > 0."""
    if not (math.isfinite(before) and before > 0.0 and math.isfinite(after) and after > 0.0):
        return math.nan
    ratio = after / before
    if 0.0 < ratio < math.inf:
        return math.log(ratio)
    return math.log(after) - math.log(before)


def is_gap(before_ns: int, after_ns: int, bar_seconds: float) -> bool:
    """Whether the windows restart between two stamps: more than ten and a half bars apart."""
    return after_ns - before_ns > (MAX_GAP_BARS + 0.5) * bar_seconds * 1e9


def log_returns(closes: Floats, ts_ns: Ints, bar_seconds: float) -> Floats:
    """(T, N) returns; row 0 and the first row after a gap are NaN, so that no window can reach across."""
    rows, assets = closes.shape
    returns = np.full((rows, assets), np.nan)
    for t in range(1, rows):
        if is_gap(int(ts_ns[t - 1]), int(ts_ns[t]), bar_seconds):
            continue
        for a in range(assets):
            returns[t, a] = log_return(float(closes[t - 1, a]), float(closes[t, a]))
    return returns


def members(returns: Floats, t: int, window: int) -> tuple[int, ...]:
    """Assets whose last `window` returns at row t are all valid and not all the same; none while the window fills."""
    if t < window:
        return ()
    last = returns[t - window + 1 : t + 1]
    alive = np.isfinite(last).all(axis=0) & (last != last[0]).any(axis=0)
    return tuple(int(a) for a in np.flatnonzero(alive))


def largest(returns: Floats, t: int, window: int, assets: tuple[int, ...]) -> tuple[float, Floats]:
    """(λ, u) at row t over `assets` (at least one): largest eigenvalue of their correlation matrix, unit vector.

    u is sign-fixed so that its entries sum to ≥ 0.
    """
    last = returns[t - window + 1 : t + 1, list(assets)]
    correlation = np.atleast_2d(np.corrcoef(last, rowvar=False))
    values, vectors = np.linalg.eigh(correlation)
    u: Floats = vectors[:, -1]
    return float(values[-1]), -u if u.sum() < 0.0 else u


def change(now: Spectrum, before: Spectrum) -> tuple[float, float]:
    """(velocity, instability term) between two spectra of the same members.

    `velocity = ln λt − ln λt−1`; `term = |λt − λt−1|/λt + 1 − |⟨ut, ut−1⟩|`.
    """
    (value, vector), (old_value, old_vector) = now, before
    velocity = math.log(value) - math.log(old_value)
    return velocity, abs(value - old_value) / value + 1.0 - abs(float(vector @ old_vector))


def smoothed(terms: Sequence[float], restarts: Sequence[bool], window: int) -> list[float]:
    """EMA, `alpha = 2/(window/5 + 1)`, seeded with its first value; a NaN term gives NaN and leaves it untouched."""
    alpha = 2.0 / (window / 5.0 + 1.0)
    state, out = math.nan, []
    for term, restart in zip(terms, restarts, strict=True):
        if restart:
            state = math.nan
        if math.isnan(term):
            out.append(math.nan)
            continue
        state = term if math.isnan(state) else alpha * term + (1.0 - alpha) * state
        out.append(state)
    return out


def reference_scan(
    closes: Floats, ts_ns: Ints, bar_seconds: float, windows: Sequence[int] = WINDOWS
) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    """Scan (T, N) closes stamped `ts_ns` (T,) int64, bar by bar.

    Returns `lambda`, `velocity`, `instability` (T, n_windows) float64, NaN while a window fills; `count`
    (T, n_windows) int64, the members, 0 while it fills; `loadings` (T, n_windows, N) float64, u on the members and
    NaN elsewhere; `vel_div` (T,), the first window's velocity less the last one's.
    """
    closes = np.asarray(closes, dtype=np.float64)
    rows, assets = closes.shape
    restarts = [t > 0 and is_gap(int(ts_ns[t - 1]), int(ts_ns[t]), bar_seconds) for t in range(rows)]
    returns = log_returns(closes, ts_ns, bar_seconds)
    shape = (rows, len(windows))
    value, velocity, instability = (np.full(shape, np.nan) for _ in range(3))
    count = np.zeros(shape, dtype=np.int64)
    loadings = np.full((*shape, assets), np.nan)
    for w, window in enumerate(windows):
        terms = [math.nan] * rows
        before: tuple[int, ...] = ()
        spectrum: Spectrum | None = None  # of t − 1, on all its members
        for t in range(window, rows):
            full = members(returns, t, window)
            common = tuple(a for a in full if a in before)
            old = spectrum
            spectrum = largest(returns, t, window, full) if full else None
            if spectrum is not None:
                count[t, w], value[t, w] = len(full), spectrum[0]
                loadings[t, w, list(full)] = spectrum[1]
            if full == before and spectrum is not None and old is not None:
                velocity[t, w], terms[t] = change(spectrum, old)
            elif common:  # the member set changed: compare like with like
                pair = (largest(returns, row, window, common) for row in (t, t - 1))
                velocity[t, w], terms[t] = change(*pair)
            before = full
        instability[:, w] = smoothed(terms, restarts, window)
    return {
        "lambda": value,
        "count": count,
        "velocity": velocity,
        "instability": instability,
        "loadings": loadings,
        "vel_div": velocity[:, 0] - velocity[:, -1],
    }
