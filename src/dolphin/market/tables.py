"""One UTC day of market data in memory: what day files hold and what the scanner and the engine read."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

SIGNAL_COLUMNS = (
    "vel_div",
    "v50_lambda_max_velocity",
    "v150_lambda_max_velocity",
    "v300_lambda_max_velocity",
    "v750_lambda_max_velocity",
    "instability_50",
    "instability_150",
)
"""The scanner's columns of a day file, in file order (SPEC §1.2)."""

META_COLUMNS = ("timestamp", "scan_number", *SIGNAL_COLUMNS)
"""Every column of a day file that is not an asset."""


@dataclass(frozen=True, eq=False)
class PriceDay:
    """Closes of one UTC day.

    `ts_ns` int64 (T,), strictly increasing, each the instant its bar became known, all within `day`;
    `closes` float64 (T, N), C-contiguous, USDT; a missing price is NaN. `assets` names the N columns.
    """

    day: date
    ts_ns: NDArray[np.int64]
    assets: tuple[str, ...]
    closes: NDArray[np.float64]

    @property
    def rows(self) -> int:
        """T, the number of bars."""
        return len(self.ts_ns)


@dataclass(frozen=True, eq=False)
class ScanDay(PriceDay):
    """A `PriceDay` with the scanner's output beside the closes.

    `scan_number` int64 (T,); `signals` float64 (T, 7) in the order of SIGNAL_COLUMNS, NaN while windows fill.
    """

    scan_number: NDArray[np.int64]
    signals: NDArray[np.float64]

    def signal(self, name: str) -> NDArray[np.float64]:
        """The signal column `name`, float64 (T,)."""
        column: NDArray[np.float64] = self.signals[:, SIGNAL_COLUMNS.index(name)]
        return column
