"""Asset selection: impulse-response profiles (IRP) and the asset ranking score (ARS) (SPEC §4).

Loops run over bars outside and assets inside: each asset's sums stay sequential, as the rule says, while the compiler
may take several assets at a time."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dolphin.alpha.layout import F8, I8, IRP_PRICES, PROFILE, Record, records
from dolphin.core.codes import Drop
from dolphin.core.jit import inlined_kernel, kernel

KEPT = int(Drop.KEPT)
NO_PRICE = int(Drop.NO_PRICE)
SHORT_HISTORY = int(Drop.SHORT_HISTORY)
NOISE = int(Drop.NOISE)
LATENCY = int(Drop.LATENCY)
ALIGNMENT = int(Drop.ALIGNMENT)
MIN_IRP_ALIGNMENT = int(Drop.MIN_IRP_ALIGNMENT)
WRONG_ACTION = int(Drop.WRONG_ACTION)
BOOK_DEPTH = int(Drop.BOOK_DEPTH)

RETURNS = IRP_PRICES - 1
MAX_NOISE = 500.0
MAX_LATENCY = 20
NO_LATENCY = 50
MIN_ALIGNMENT = 0.20
MIN_DEPTH_QUALITY = 0.20


class Ranking(NamedTuple):
    """Work space of one selection over N assets."""

    segment: F8  # (IRP_PRICES, N) the last prices, oldest first
    path: F8  # (RETURNS, N) cumulative directional returns
    moments: F8  # (6, N) work: sum, max, min, share up, share down, variance
    profiles: Record  # (N,) PROFILE records


def new_ranking(n_assets: int) -> Ranking:
    """Work space for `n_assets` columns."""
    return Ranking(
        segment=np.ones((IRP_PRICES, n_assets)),
        path=np.zeros((RETURNS, n_assets)),
        moments=np.zeros((6, n_assets)),
        profiles=records(PROFILE, n_assets),
    )


@inlined_kernel
def efficiency_nb(best: float, worst: float) -> float:
    """mfe/(mae + 1e−6) with mfe = best and mae = |min(worst, 0)|; 0 when mfe is not positive."""
    return best / (abs(min(worst, 0.0)) + 1e-6) if best > 0.0 else 0.0


@inlined_kernel
def ars_nb(efficiency: float, alignment: float, noise: float) -> float:
    """0.5·log1p(efficiency) + 0.35·alignment − 0.15·noise·1000."""
    return 0.5 * math.log1p(efficiency) + 0.35 * alignment - 0.15 * noise * 1000.0


@inlined_kernel
def depth_adjusted_nb(ars: float, book: Record) -> float:
    """OB-1: ars + |ars|·a, with a from +10 % for a deep book to −10 % for a thin one."""
    if book.usable == 0:
        return ars
    dq = book.depth_quality
    if dq >= 1.5:
        return ars + abs(ars) * 0.10
    if dq >= 1.0:
        return ars + abs(ars) * 0.05
    if dq < 0.35:
        return ars + abs(ars) * -0.10
    if dq < 0.6:
        return ars + abs(ars) * -0.05
    return ars


@inlined_kernel
def latency_nb(path: F8, asset: int, sign: float, best: float) -> int:
    """Bars, counted from 1, until the cumulative return first reaches 10 % of its maximum; 50 without a gain."""
    if not best > 0.0:
        return NO_LATENCY
    for t in range(path.shape[0]):
        if sign * path[t, asset] >= 0.1 * best:
            return t + 1
    return NO_LATENCY


@inlined_kernel
def _gather_nb(history: F8, counts: I8, segment: F8) -> None:
    size = history.shape[0]
    for i in range(counts.shape[0]):
        if counts[i] >= IRP_PRICES:
            for t in range(IRP_PRICES):
                segment[t, i] = history[(counts[i] - IRP_PRICES + t) % size, i]


@kernel
def profile_paths_nb(segment: F8, direction: float, relative: bool, path: F8, moments: F8) -> None:
    """Cumulative directional returns of every asset and their moments.

    `segment` (50, N) prices → `path` (49, N); `moments` (6, N): sum, maximum and minimum of the path, share of returns
    above 0, share below 0, population variance of the returns.
    """
    total, high, low, up, down, variance = moments[0], moments[1], moments[2], moments[3], moments[4], moments[5]
    n = total.shape[0]
    total[:] = 0.0
    up[:] = 0.0
    down[:] = 0.0
    variance[:] = 0.0
    high[:] = -math.inf
    low[:] = math.inf
    first = segment[0]
    for t in range(RETURNS):
        p0, p1, row = segment[t], segment[t + 1], path[t]
        for i in range(n):
            r = (p1[i] - p0[i]) / first[i] * direction if relative else (p1[i] - p0[i]) * direction
            c = total[i] + r
            total[i] = c
            row[i] = c
            high[i] = c if c > high[i] else high[i]
            low[i] = c if c < low[i] else low[i]
            up[i] += 1.0 if r > 0.0 else 0.0
            down[i] += 1.0 if r < 0.0 else 0.0
    for t in range(RETURNS):
        p0, p1 = segment[t], segment[t + 1]
        for i in range(n):
            r = (p1[i] - p0[i]) / first[i] * direction if relative else (p1[i] - p0[i]) * direction
            e = r - total[i] / RETURNS
            variance[i] += e * e
    for i in range(n):
        up[i] /= RETURNS
        down[i] /= RETURNS
        variance[i] /= RETURNS


@inlined_kernel
def _judge_nb(ranking: Ranking, i: int, book: Record, min_irp_alignment: float) -> None:
    """Score asset i both ways, keep the better action (a tie goes to the regime's own), and apply the filters in
    order."""
    m, row = ranking.moments, ranking.profiles[i]
    high, low, noise = m[1, i], m[2, i], m[5, i]
    direct_eff, inverse_eff = efficiency_nb(high, low), efficiency_nb(-low, -high)
    direct, inverse = ars_nb(direct_eff, m[3, i], noise), ars_nb(inverse_eff, m[4, i], noise)
    with_regime = not inverse > direct
    row.action = 1 if with_regime else -1
    row.ars = depth_adjusted_nb(direct if with_regime else inverse, book)
    row.efficiency = direct_eff if with_regime else inverse_eff
    row.alignment = m[3, i] if with_regime else m[4, i]
    row.noise = noise
    row.latency = latency_nb(ranking.path, i, 1.0 if with_regime else -1.0, high if with_regime else -low)
    if not noise <= MAX_NOISE:
        row.drop = NOISE
    elif row.latency > MAX_LATENCY:
        row.drop = LATENCY
    elif row.alignment < MIN_ALIGNMENT:
        row.drop = ALIGNMENT
    elif row.alignment < min_irp_alignment:
        row.drop = MIN_IRP_ALIGNMENT
    elif not with_regime:
        row.drop = WRONG_ACTION
    elif book.usable != 0 and book.depth_quality < MIN_DEPTH_QUALITY:
        row.drop = BOOK_DEPTH
    else:
        row.drop = KEPT


@kernel
def rank_assets_nb(
    params: Record, history: F8, counts: I8, prices: F8, books: Record, ranking: Ranking
) -> tuple[int, int]:
    """Profile every asset and give (chosen column or −1, number that passed).

    `history` (HISTORY, N) is a ring of each asset's valid prices and `counts` (N,) how many it has had; `prices` (N,)
    are this bar's, NaN, ≤ 0 or infinite when missing; `books` (N,) ASSET_BOOK records. The first of the ranking is
    the highest ARS; equal scores keep the columns' order."""
    _gather_nb(history, counts, ranking.segment)
    profile_paths_nb(ranking.segment, float(params.direction), params.irp_relative != 0, ranking.path, ranking.moments)
    chosen, passed = -1, 0
    best = -math.inf
    for i in range(counts.shape[0]):
        row = ranking.profiles[i]
        if not (prices[i] > 0.0 and prices[i] < math.inf):
            row.drop = NO_PRICE
        elif counts[i] < IRP_PRICES:
            row.drop = SHORT_HISTORY
        else:
            _judge_nb(ranking, i, books[i], params.min_irp_alignment)
            if row.drop == KEPT:
                passed += 1
                if row.ars > best:
                    best, chosen = row.ars, i
    return chosen, passed
