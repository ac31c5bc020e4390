"""The simple strategy that every peer runs, as one plain function each peer compiles for itself.

It is far simpler than the engine: short one asset at a time when vel_div falls below the entry threshold, the asset
that fell most over 50 bars (one number per asset); leave at the take-profit or after the maximum hold. No direction
confirmation, no impulse-response profiles, no sizing, no gates, no books, no circuit breaker, no friction beyond a flat
fee.
"""

from __future__ import annotations

from typing import Any

import numpy as np

THRESHOLD, TAKE_PROFIT, MAX_HOLD, LOOKBACK = -0.02, 0.0095, 120, 50
STAKE_USD, FEE = 1000.0, 0.0005

NOTHING = 0
"""What `act` answers when there is nothing to do; k > 0: short asset k − 1; k < 0: close asset −k − 1."""


def new_state() -> Any:
    """Held asset (−1: none), bar and price of its entry; float64 (3,)."""
    return np.array([-1.0, 0.0, 0.0])


def act(t: int, closes: Any, vel_div: Any, state: Any) -> int:
    """Decide at bar t from `closes` (T, N) and `vel_div` (T,), move `state`, and answer what to do."""
    held = int(state[0])
    if held >= 0:
        profit = (state[2] - closes[t, held]) / state[2]
        if profit >= TAKE_PROFIT or t - state[1] >= MAX_HOLD:
            state[0] = -1.0
            return -(held + 1)
        return NOTHING
    if t < LOOKBACK or not vel_div[t] < THRESHOLD:
        return NOTHING
    best, lowest = 0, np.inf
    for i in range(closes.shape[1]):
        change = closes[t, i] / closes[t - LOOKBACK, i]
        if change < lowest:
            best, lowest = i, change
    state[0], state[1], state[2] = best, t, closes[t, best]
    return best + 1
