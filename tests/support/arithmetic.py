"""Exact arithmetic to hold rounded arithmetic against."""

from __future__ import annotations

from fractions import Fraction


def fused(x: float, y: float, z: float) -> float:
    """x·y + z, rounded once."""
    return float(Fraction(x) * Fraction(y) + Fraction(z))
