"""The entry signal, direction confirmation and the book's say in them (SPEC §3).

Every rule is written for the regime's own direction d: a SHORT regime reads x = −vel_div, a LONG one x = vel_div, and
thresholds are magnitudes, so that one formula serves both profiles.
"""

from __future__ import annotations

import math

from dolphin.alpha.layout import F8, Record
from dolphin.core.codes import Confirmation
from dolphin.core.jit import inlined_kernel

NEUTRAL, CONFIRM, CONTRADICT = int(Confirmation.NEUTRAL), int(Confirmation.CONFIRM), int(Confirmation.CONTRADICT)


@inlined_kernel
def clamp_nb(x: float, low: float, high: float) -> float:
    """min(max(x, low), high): where the bounds cross, `high` wins, which is the smaller risk."""
    return min(max(x, low), high)


@inlined_kernel
def is_signal_nb(vel_div: float, threshold: float, direction: int) -> bool:
    """SHORT: vel_div < −threshold; LONG: vel_div > threshold. NaN is no signal."""
    return vel_div * direction > threshold


@inlined_kernel
def strength_nb(vel_div: float, threshold: float, extreme: float, direction: int) -> float:
    """clamp((d·vel_div − threshold)/(extreme − threshold), 0, 1); NaN counts as 0."""
    if math.isnan(vel_div):
        return 0.0
    return clamp_nb((vel_div * direction - threshold) / (extreme - threshold), 0.0, 1.0)


@inlined_kernel
def is_extreme_nb(vel_div: float, extreme: float, direction: int) -> bool:
    """SHORT: vel_div ≤ −extreme; LONG: vel_div ≥ extreme."""
    return vel_div * direction >= extreme


@inlined_kernel
def confidence_nb(strength: float) -> float:
    """0.50 + 0.40·strength, in [0.50, 0.90]."""
    return 0.50 + 0.40 * strength


@inlined_kernel
def price_change_bps_nb(history: F8, count: int, asset: int, lookback: int) -> float:
    """Change in bps between the asset's valid prices number n − 1 − lookback and n − 1; NaN with fewer prices."""
    if count < lookback + 1:
        return math.nan
    size = history.shape[0]
    p0 = history[(count - 1 - lookback) % size, asset]
    p1 = history[(count - 1) % size, asset]
    return (p1 - p0) / p0 * 10000.0


@inlined_kernel
def confirm_direction_nb(chg_bps: float, min_magnitude_bps: float, direction: int) -> int:
    """CONFIRM when the price moves with the trade by more than the magnitude, CONTRADICT against it, else NEUTRAL."""
    along = chg_bps * direction
    if along > min_magnitude_bps:
        return CONFIRM
    if along < -min_magnitude_bps:
        return CONTRADICT
    return NEUTRAL


@inlined_kernel
def book_confidence_nb(confidence: float, book: Record, direction: int) -> float:
    """OB-2: confidence with the asset's book imbalance in it, or −1 when the book forbids the entry."""
    if book.usable == 0:
        return confidence
    eff = direction * book.imbalance_ma5
    p = book.imbalance_persistence
    if eff > 0.10:
        return confidence * (1.0 + min(0.15, eff * p * 0.5))
    if eff < -0.15 and p > 0.60:
        return -1.0
    if eff < -0.10:
        return confidence * max(0.85, 1.0 - abs(eff) * p * 0.4)
    return confidence
