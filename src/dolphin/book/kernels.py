"""One kernel per formula of the order book (SPEC §8). Every one of them is safe against a side, or a book, of nothing.

`bids` and `asks` are float64 (5,): USD per band of 1 %, the nearest to the mid price first. A kernel that divides by
nothing answers 0. Sums run left to right.
"""

from __future__ import annotations

import math

from dolphin.book.layout import BANDS, F8
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.records import Record

EMA_ALPHA = 0.01
NO_FILL = 0.38
"""The champion's share of entries that are not filled as maker, 1 − 0.62: so depth quality 1 gives its 62 %."""
SPREAD_SCALE_BPS = 10.0
LEAST_USD, MOST_USD = 1e-6, 1e15
"""Bounds of a band with anything in it: no sum or quotient of sound bands overflows."""
CASCADE_VELOCITY = -0.30
CASCADE_ASSETS = 3
STRESS_VELOCITY = -0.10
CALM_DEPTH_VELOCITY = -0.02
AGREEMENT = 0.6


@inlined_kernel
def ratio_nb(part: float, whole: float) -> float:
    """part/whole; 0 where there is no whole."""
    return part / whole if whole != 0.0 else 0.0


@inlined_kernel
def sign_nb(x: float) -> int:
    """−1, 0 or +1, without a branch: the signs of imbalances are a coin's, and mispredicted as often."""
    return int(x > 0.0) - int(x < 0.0)


@inlined_kernel
def total_nb(bands: F8) -> float:
    """One side's notional over all bands, USD."""
    total = 0.0
    for k in range(BANDS):
        total += bands[k]
    return total


@inlined_kernel
def _is_band_nb(usd: float) -> bool:
    return usd == 0.0 or (usd >= LEAST_USD and usd <= MOST_USD)


@inlined_kernel
def is_sound_nb(bids: F8, asks: F8) -> bool:
    """Whether every band is 0 or from 1e-6 to 1e15 USD; NaN, an infinity or less than nothing is not sound."""
    sound = True
    for k in range(BANDS):
        sound = sound and _is_band_nb(bids[k]) and _is_band_nb(asks[k])
    return sound


@inlined_kernel
def imbalance_nb(bids: F8, asks: F8) -> float:
    """(ΣB − ΣA)/(ΣB + ΣA), in [−1, 1]: positive when bids outweigh asks."""
    b, a = total_nb(bids), total_nb(asks)
    return ratio_nb(b - a, b + a)


@inlined_kernel
def depth_1pct_nb(bids: F8, asks: F8) -> float:
    """B0 + A0: USD within 1 % of the mid price, both sides."""
    return bids[0] + asks[0]


@inlined_kernel
def depth_ref_nb(reference: float, depth: float) -> float:
    """The reference after this depth: 0.99·reference + 0.01·depth, starting at the first depth that is not 0.

    A depth of 0 is an outage and no opinion on what is normal: it leaves the reference as it is.
    """
    if not depth > 0.0:
        return reference
    return (1.0 - EMA_ALPHA) * reference + EMA_ALPHA * depth if reference > 0.0 else depth


@inlined_kernel
def depth_quality_nb(depth: float, reference: float) -> float:
    """depth/reference, ≥ 0: 1 is the asset's usual depth."""
    return ratio_nb(depth, reference)


@inlined_kernel
def fill_probability_nb(depth_quality: float) -> float:
    """1 − 0.38^dq, in [0, 1]: that a maker order fills; the champion's 62 % at dq = 1."""
    return 1.0 - NO_FILL**depth_quality


@inlined_kernel
def spread_proxy_bps_nb(bids: F8, asks: F8) -> float:
    """10·(1 − (B0 + A0)/(ΣB + ΣA)) bps, in [0, 10]: the less of the book lies near the mid, the wider; 0 without."""
    whole = total_nb(bids) + total_nb(asks)
    # Rounding can put the near share a hair above 1.
    return max(0.0, SPREAD_SCALE_BPS * (1.0 - depth_1pct_nb(bids, asks) / whole)) if whole > 0.0 else 0.0


@inlined_kernel
def depth_asymmetry_nb(bids: F8, asks: F8) -> float:
    """(B0 − A0)/(B0 + A0), in [−1, 1]: the imbalance within 1 %."""
    return ratio_nb(bids[0] - asks[0], bids[0] + asks[0])


@inlined_kernel
def moving_average_nb(ring: F8, seen: int, window: int) -> float:
    """Mean of the latest `window` values, or of all when fewer; `ring[(seen − 1) % size]` is the latest. 0 without."""
    size, n = ring.shape[0], min(window, seen)
    total, at = 0.0, (seen - n) % size
    for _ in range(n):
        total += ring[at]
        at = at + 1 if at + 1 < size else 0  # a division each time would cost more than all the rest
    return ratio_nb(total, float(n))


@inlined_kernel
def persistence_nb(ring: F8, seen: int) -> float:
    """Share of the remembered values, the latest among them, that have the latest one's sign; 0 without any."""
    size = ring.shape[0]
    n = min(size, seen)
    if n == 0:
        return 0.0
    latest, same = sign_nb(ring[(seen - 1) % size]), 0
    for k in range(n):
        same += int(sign_nb(ring[k]) == latest)
    return same / n


@inlined_kernel
def withdrawal_nb(now: float, before: float) -> float:
    """now/before − 1, ≥ −1: negative while depth is withdrawn. 0 when there was nothing to withdraw."""
    return now / before - 1.0 if before > 0.0 else 0.0


@inlined_kernel
def withdrawal_velocity_nb(ring: F8, seen: int) -> float:
    """d[−1]/d[−1−k] − 1 with k = min(size − 1, seen − 1): depth against that of five snapshots before; 0 at k = 0."""
    size = ring.shape[0]
    k = min(size, seen) - 1
    if k < 1:
        return 0.0
    latest = (seen - 1) % size
    return withdrawal_nb(ring[latest], ring[latest - k if latest >= k else latest - k + size])


@kernel
def select_nb(values: F8, n: int, rank: int) -> float:
    """The value of ascending rank `rank` among the first n, which are reordered: those before it are not larger."""
    low, high = 0, n - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if rank <= j:
            high = j
        elif rank >= i:
            low = i
        else:
            break
    return values[rank]


@inlined_kernel
def median_nb(values: F8, n: int) -> float:
    """Median of the first n values, which are reordered; of an even number the mean of the middle two; 0 of none."""
    if n == 0:
        return 0.0
    upper = select_nb(values, n, n // 2)
    if n % 2 == 1:
        return upper
    lower = values[0]
    for k in range(1, n // 2):
        lower = max(lower, values[k])
    return (lower + upper) / 2.0


@inlined_kernel
def agreement_nb(imbalances: F8, n: int, median: float) -> float:
    """Share of the first n imbalances that have the median's sign; 0 of none."""
    direction, same = sign_nb(median), 0
    for k in range(n):
        same += int(sign_nb(imbalances[k]) == direction)
    return same / n if n > 0 else 0.0


@inlined_kernel
def cascade_count_nb(velocities: F8, n: int) -> int:
    """Assets whose withdrawal velocity is below −0.30, when they are at least three; else 0."""
    count = 0
    for k in range(n):
        count += int(velocities[k] < CASCADE_VELOCITY)
    return count if count >= CASCADE_ASSETS else 0


@inlined_kernel
def regime_signal_nb(median_withdrawal: float, depth_velocity: float, agreement: float) -> int:
    """+1, stress: the median withdrawal velocity is below −0.10. −1, calm: depth_velocity ≥ −0.02 and agreement ≥ 0.6.
    Else 0."""
    if median_withdrawal < STRESS_VELOCITY:
        return 1
    return -1 if depth_velocity >= CALM_DEPTH_VELOCITY and agreement >= AGREEMENT else 0


@inlined_kernel
def market_ob_mult_nb(market: Record, direction: int) -> float:
    """OB-3: up to +20 % with the market's book imbalance, down to −15 % against it, when 60 % of assets agree."""
    if market.usable == 0:
        return 1.0
    eff = direction * market.median_imbalance
    agreement = market.agreement
    if math.isnan(eff) or agreement < AGREEMENT:
        return 1.0
    if eff > 0.10:
        return 1.0 + min(0.20, eff * agreement)
    if eff < -0.10:
        return max(0.85, 1.0 - abs(eff) * agreement)
    return 1.0
