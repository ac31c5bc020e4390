"""Plain-Python twins of asset selection: impulse-response profile, its score, ranking and walk (SPEC §4, §23)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dolphin.core.codes import Drop
from tests.reference.rules_ref import valid_price

SEGMENT = 50
MAX_NOISE = 500.0
MAX_LATENCY = 20
MIN_ALIGNMENT = 0.20
MIN_DEPTH_QUALITY = 0.20


class Irp(NamedTuple):
    """One asset's impulse response in one direction, in price units (or shares of the first price if relative)."""

    mfe: float
    mae: float
    efficiency: float
    alignment: float
    noise: float
    latency: int


class Profile(NamedTuple):
    """The winning direction of one asset: `score` is ARS after OB-1, `raw` before."""

    action: int
    score: float
    raw: float
    irp: Irp


class Selection(NamedTuple):
    """The chosen asset's index (−1: none), its profile, and why each asset was dropped (KEPT: it was eligible)."""

    asset: int
    profile: Profile | None
    drops: list[Drop]


def irp(prices: Sequence[float], d: int, relative: bool = False) -> Irp:
    """Profile of a price segment in direction `d`: `r_i = (P_{i+1} − P_i)·d` (divided by P_0 if relative).

    `c = cumsum(r)`, `mfe = max(c)`, `mae = |min(min(c), 0)|`, `efficiency = mfe/(mae + 1e−6)` (0 if mfe ≤ 0),
    `alignment` share of r > 0, `noise` population variance of r (two passes), `latency` bars until c ≥ 0.1·mfe.
    """
    moves = [(after - before) * d for before, after in itertools.pairwise(prices)]
    if relative:
        moves = [move / prices[0] for move in moves]
    path, total = [], 0.0
    for move in moves:
        total = total + move
        path.append(total)
    mfe = max(path)
    mae = abs(min(min(path), 0.0))
    efficiency = mfe / (mae + 1e-6) if mfe > 0.0 else 0.0
    alignment = sum(1 for move in moves if move > 0.0) / len(moves)
    latency = SEGMENT
    if mfe > 0.0:
        latency = next((i for i, c in enumerate(path, start=1) if c >= 0.1 * mfe), SEGMENT)
    return Irp(mfe, mae, efficiency, alignment, variance(moves), latency)


def variance(values: Sequence[float]) -> float:
    """Population variance, `Σ(x − mean)²/n`, `mean = Σx/n`: two passes, each summed in order."""
    total = 0.0
    for x in values:
        total = total + x
    mean = total / len(values)
    squares = 0.0
    for x in values:
        squares = squares + (x - mean) * (x - mean)
    return squares / len(values)


def ars(profile: Irp) -> float:
    """`0.5·log1p(efficiency) + 0.35·alignment − 0.15·noise·1000`."""
    return 0.5 * math.log1p(profile.efficiency) + 0.35 * profile.alignment - 0.15 * profile.noise * 1000.0


def ob1_share(depth_quality: float) -> float:
    """OB-1's a: +0.10 (dq ≥ 1.5), +0.05 (≥ 1.0), −0.10 (< 0.35), −0.05 (< 0.6), else 0."""
    if depth_quality >= 1.5:
        return 0.10
    if depth_quality >= 1.0:
        return 0.05
    if depth_quality < 0.35:
        return -0.10
    if depth_quality < 0.6:
        return -0.05
    return 0.0


def profile_asset(history: Sequence[float], d: int, relative: bool, depth_quality: float | None) -> Profile:
    """The better of direct and inverse by raw ARS (a tie goes to direct), then OB-1: `ARS += |ARS|·a`."""
    segment = history[-SEGMENT:]
    direct, inverse = irp(segment, d, relative), irp(segment, -d, relative)
    action, best = (-d, inverse) if ars(inverse) > ars(direct) else (d, direct)
    raw = ars(best)
    share = 0.0 if depth_quality is None else ob1_share(depth_quality)
    return Profile(action, raw + abs(raw) * share, raw, best)


def drop_reason(profile: Profile, d: int, min_irp_alignment: float, depth_quality: float | None) -> Drop:
    """The first test a profiled asset fails: noise, latency, alignment, then the walk's alignment, action, depth.

    A noise that is not a number cannot be shown to be small, so it drops the asset.
    """
    metrics = profile.irp
    if not metrics.noise <= MAX_NOISE:
        return Drop.NOISE
    if metrics.latency > MAX_LATENCY:
        return Drop.LATENCY
    if metrics.alignment < MIN_ALIGNMENT:
        return Drop.ALIGNMENT
    if metrics.alignment < min_irp_alignment:
        return Drop.MIN_IRP_ALIGNMENT
    if profile.action != d:
        return Drop.WRONG_ACTION
    if depth_quality is not None and depth_quality < MIN_DEPTH_QUALITY:
        return Drop.BOOK_DEPTH
    return Drop.KEPT


def select(
    histories: Sequence[Sequence[float]],
    prices: Sequence[float],
    d: int,
    min_irp_alignment: float,
    relative: bool = False,
    depth_quality: Mapping[int, float] | None = None,
) -> Selection:
    """The eligible asset of highest adjusted ARS; equal scores keep column order. No asset left: index −1.

    `histories[a]` holds asset a's valid prices up to and with this bar, `prices[a]` this bar's price;
    `depth_quality` maps an asset's index to its book's, absent where it has none.
    """
    depths = depth_quality or {}
    drops, eligible = [], []
    for asset, history in enumerate(histories):
        if not valid_price(prices[asset]):
            drops.append(Drop.NO_PRICE)
            continue
        if len(history) < SEGMENT:
            drops.append(Drop.SHORT_HISTORY)
            continue
        profile = profile_asset(history, d, relative, depths.get(asset))
        drops.append(drop_reason(profile, d, min_irp_alignment, depths.get(asset)))
        if drops[-1] == Drop.KEPT:
            eligible.append((asset, profile))
    # Python's sort is stable, also in reverse: equal scores stay in column order.
    ranking = sorted(eligible, key=lambda pair: pair[1].score, reverse=True)
    if not ranking:
        return Selection(-1, None, drops)
    return Selection(ranking[0][0], ranking[0][1], drops)
