"""How long to wait before trying again: longer each time, and never all at once (SPEC §8)."""

from __future__ import annotations

import random

_chance = random.SystemRandom()


def full_jitter(tries: int, base_s: float, most_s: float) -> float:
    """Seconds before try number `tries` + 1: uniform from 0 to the smaller of `most_s` and `base_s`·2^tries."""
    return _chance.uniform(0.0, min(most_s, base_s * 2.0 ** min(tries, 60)))
