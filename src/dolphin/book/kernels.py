"""One kernel per formula of the order book (SPEC §8). Every one of them is safe against a side, or a book, of nothing.

`bids` and `asks` are float64 (5,): USD per band of 1 %, the nearest to the mid price first. A kernel that divides by
nothing answers 0. Sums run left to right.
"""

from __future__ import annotations

import math

from dolphin.book.layout import BANDS, DEPTHS, F8, IMBALANCES
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.records import Record

EMA_ALPHA = 0.01
NO_FILL = 0.38
"""The champion's share of entries that are not filled as maker, 1 − 0.62: so depth quality 1 gives its 62 %."""
LOG_NO_FILL = math.log(NO_FILL)
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
    least, most, total = bids[0], bids[0], 0.0
    for k in range(BANDS):
        least, most = min(least, bids[k], asks[k]), max(most, bids[k], asks[k])
        total += bids[k] + asks[k]
    if least >= LEAST_USD and most <= MOST_USD and total == total:  # the usual book, seen without a branch per band
        return True
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
    return 1.0 - math.exp(LOG_NO_FILL * depth_quality)


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
    """Mean of the latest `window` values, or of all when fewer; `ring` (IMBALANCES,), in which
    `ring[(seen − 1) % IMBALANCES]` is the latest. 0 without."""
    n = min(window, seen)
    total, start = 0.0, (seen - n) % IMBALANCES  # by a constant: a true division would cost more than all the rest
    for k in range(n):
        at = start + k
        total += ring[at if at < IMBALANCES else at - IMBALANCES]
    return ratio_nb(total, float(n))


@inlined_kernel
def persistence_nb(ring: F8, seen: int) -> float:
    """Share of the remembered values, the latest among them, that have the latest one's sign; 0 without any."""
    n = min(IMBALANCES, seen)
    if n == 0:
        return 0.0
    latest, same = sign_nb(ring[(seen - 1) % IMBALANCES]), 0
    sign = float(latest)
    for k in range(n):
        same += int(ring[k] * sign > 0.0)
    if latest == 0:
        for k in range(n):
            same += int(ring[k] == 0.0)
    return same / n


@inlined_kernel
def withdrawal_nb(now: float, before: float) -> float:
    """now/before − 1, ≥ −1: negative while depth is withdrawn. 0 when there was nothing to withdraw."""
    return now / before - 1.0 if before > 0.0 else 0.0


@inlined_kernel
def withdrawal_velocity_nb(ring: F8, seen: int) -> float:
    """d[−1]/d[−1−k] − 1 with k = min(DEPTHS − 1, seen − 1): depth against that of five snapshots before; 0 at k = 0.
    `ring` (DEPTHS,)."""
    k = min(DEPTHS, seen) - 1
    if k < 1:
        return 0.0
    latest = (seen - 1) % DEPTHS
    return withdrawal_nb(ring[latest], ring[latest - k if latest >= k else latest - k + DEPTHS])


@kernel
def select_nb(values: F8, n: int, rank: int) -> float:
    """The value of ascending rank `rank` among the first n, which are reordered: those before it are not larger.

    Values are moved without asking first, for a branch that goes either way at random costs more than the move.
    """
    low, end = 0, n
    while True:
        last, middle = end - 1, (low + end) // 2
        pivot = values[middle]
        values[middle] = values[last]
        less = low
        for k in range(low, last):
            value = values[k]
            values[k] = values[less]
            values[less] = value
            less += int(value < pivot)
        values[last] = values[less]
        values[less] = pivot
        if rank == less:
            return pivot
        if rank < less:
            end = less
            continue
        equal = less + 1
        if less == low:  # perhaps many are the same: they are passed over together, and not one by one
            for k in range(equal, end):
                value = values[k]
                values[k] = values[equal]
                values[equal] = value
                equal += int(value <= pivot)
            if rank < equal:
                return pivot
        low = equal


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
def is_median_below_nb(values: F8, n: int, threshold: float) -> bool:
    """Whether `median_nb` of the first n is below `threshold`: counting is enough, unless half of them are. Not of
    none."""
    below = 0
    for k in range(n):
        below += int(values[k] < threshold)
    if 2 * below != n:
        return 2 * below > n
    lower, upper = -math.inf, math.inf
    for k in range(n):
        if values[k] < threshold:
            lower = max(lower, values[k])
        else:
            upper = min(upper, values[k])
    return (lower + upper) / 2.0 < threshold


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
def regime_signal_nb(withdrawals: F8, n: int, depth_velocity: float, agreement: float) -> int:
    """+1, stress: the median of the first n withdrawal velocities is below −0.10. −1, calm: depth_velocity ≥ −0.02 and
    agreement ≥ 0.6. Else 0."""
    if is_median_below_nb(withdrawals, n, STRESS_VELOCITY):
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
