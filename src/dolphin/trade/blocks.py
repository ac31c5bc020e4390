"""Scans as they reach the trader: a stretch of one day's bars with the closes beside them (SPEC §12, §13)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.layout import Record


@dataclass(frozen=True, eq=False)
class ScanBlock:
    """T bars of one UTC day: a whole day in a replay, a single bar in live trading.

    `ts_ns` int64 (T,), the instants at which the bars became known; `bars` (T,) BAR records; `closes` float64 (T, N),
    missing = NaN; `scan_number` int64 (T,).
    """

    day: date
    ts_ns: NDArray[np.int64]
    bars: Record
    closes: NDArray[np.float64]
    scan_number: NDArray[np.int64]

    @property
    def rows(self) -> int:
        """T."""
        return len(self.ts_ns)
