"""What a snapshot must be before anything is made of it, whoever brings it (SPEC §8)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.book.kernels import LEAST_USD, MOST_USD


def sound_rows(rows: NDArray[Any]) -> NDArray[np.bool_]:
    """Which of (N,) SNAPSHOT records hold amounts only, bool (N,).

    Notionals are 0 or from 1e-6 to 1e15 USD, as the engine of features takes them; depths are finite and not negative;
    and what has a depth has a notional, for otherwise its price is zero.
    """
    usd = np.concatenate((rows["bid_notional"], rows["ask_notional"]), axis=-1)
    base = np.concatenate((rows["bid_depth"], rows["ask_depth"]), axis=-1)
    nothing = usd == 0.0
    amounts = nothing | ((usd >= LEAST_USD) & (usd <= MOST_USD))
    return np.asarray((amounts & (base >= 0.0) & (base <= MOST_USD) & ~(nothing & (base > 0.0))).all(axis=-1))
