"""The assets of a synthetic market: names, price levels and ticks like those of real USDT perpetuals (SPEC §1).

Levels and volatilities are round numbers of the right size, not recorded values.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# symbol, price level in USDT, decimals of the tick (tick = 10**-decimals), sector, volatility per day in percent
_TABLE: tuple[tuple[str, float, int, int, float], ...] = (
    ("BTCUSDT", 42000.0, 1, 0, 2.4),
    ("ETHUSDT", 2300.0, 2, 0, 2.9),
    ("BNBUSDT", 310.0, 2, 0, 2.7),
    ("SOLUSDT", 100.0, 3, 1, 4.6),
    ("XRPUSDT", 0.62, 4, 5, 3.2),
    ("ADAUSDT", 0.59, 4, 1, 4.0),
    ("DOGEUSDT", 0.0905, 5, 4, 3.9),
    ("AVAXUSDT", 38.0, 3, 1, 5.0),
    ("DOTUSDT", 8.2, 3, 1, 4.1),
    ("LINKUSDT", 15.1, 3, 2, 4.2),
    ("MATICUSDT", 0.97, 4, 2, 4.3),
    ("LTCUSDT", 73.0, 2, 5, 3.1),
    ("BCHUSDT", 260.0, 2, 5, 4.0),
    ("TRXUSDT", 0.107, 5, 5, 2.4),
    ("ATOMUSDT", 10.6, 3, 1, 3.9),
    ("UNIUSDT", 7.3, 3, 3, 4.3),
    ("ETCUSDT", 22.0, 3, 5, 4.1),
    ("XLMUSDT", 0.129, 5, 5, 3.3),
    ("FILUSDT", 6.9, 3, 6, 4.7),
    ("NEARUSDT", 3.7, 3, 1, 5.2),
    ("APTUSDT", 9.5, 3, 1, 4.8),
    ("ARBUSDT", 1.55, 4, 2, 5.1),
    ("OPUSDT", 3.7, 4, 2, 5.4),
    ("AAVEUSDT", 109.0, 2, 3, 4.4),
    ("INJUSDT", 36.0, 3, 3, 6.0),
    ("SUIUSDT", 0.78, 4, 1, 5.9),
    ("ICPUSDT", 13.0, 3, 6, 5.8),
    ("VETUSDT", 0.034, 5, 6, 4.2),
    ("ALGOUSDT", 0.22, 4, 1, 4.2),
    ("GRTUSDT", 0.18, 5, 6, 4.6),
    ("FTMUSDT", 0.48, 4, 1, 5.1),
    ("SANDUSDT", 0.59, 4, 7, 4.6),
    ("MANAUSDT", 0.51, 4, 7, 4.5),
    ("AXSUSDT", 8.8, 3, 7, 4.4),
    ("GALAUSDT", 0.0305, 5, 7, 5.0),
    ("CHZUSDT", 0.089, 5, 7, 4.1),
    ("EOSUSDT", 0.85, 3, 5, 3.9),
    ("XTZUSDT", 1.02, 3, 1, 3.9),
    ("THETAUSDT", 1.24, 4, 6, 4.6),
    ("SNXUSDT", 3.9, 3, 3, 4.9),
    ("CRVUSDT", 0.61, 4, 3, 4.8),
    ("DYDXUSDT", 2.9, 3, 3, 5.1),
    ("LDOUSDT", 2.7, 4, 3, 5.3),
    ("RUNEUSDT", 5.1, 3, 3, 5.6),
    ("1000SHIBUSDT", 0.0103, 6, 4, 4.0),
    ("1000PEPEUSDT", 0.0013, 7, 4, 6.0),
    ("KAVAUSDT", 0.87, 4, 1, 4.3),
    ("ZECUSDT", 29.0, 2, 5, 4.5),
)

SECTORS = 8
"""Number of sector factors."""

MAX_ASSETS = 1000
"""The largest universe that can be asked for; beyond the table, names are made up (`SYN049USDT` …)."""


@dataclass(frozen=True, eq=False)
class Universe:
    """N assets: their columns' names and the constants that drive their paths, each array of shape (N,).

    `level` float64, USDT, the price that the path starts at and is drawn back to; `decimals` int64, so that
    the tick is 10**-decimals; `sector` int64 in [0, SECTORS); `day_vol` float64, standard deviation of a day's
    log return; `beta` float64, size of the asset's share of a crash relative to BTCUSDT's.
    """

    assets: tuple[str, ...]
    level: NDArray[np.float64]
    decimals: NDArray[np.int64]
    sector: NDArray[np.int64]
    day_vol: NDArray[np.float64]
    beta: NDArray[np.float64]


def universe(count: int) -> Universe:
    """The first `count` assets, 1 ≤ count ≤ MAX_ASSETS; BTCUSDT is always the first. Depends on nothing else."""
    rows = [_TABLE[k] if k < len(_TABLE) else _made_up(k) for k in range(count)]
    vol = np.array([row[4] / 100.0 for row in rows])
    return Universe(
        assets=tuple(row[0] for row in rows),
        level=np.array([row[1] for row in rows]),
        decimals=np.array([row[2] for row in rows], dtype=np.int64),
        sector=np.array([row[3] for row in rows], dtype=np.int64),
        day_vol=vol,
        # Alts fall further than BTCUSDT in a crash, roughly with the square root of how restless they are.
        beta=np.sqrt(vol / 0.024),
    )


def _made_up(k: int) -> tuple[str, float, int, int, float]:
    level = (0.085, 0.77, 6.4, 52.0, 410.0)[k % 5]
    decimals = (5, 4, 3, 2, 2)[k % 5]
    return f"SYN{k + 1:03d}USDT", level * (1.0 + (k * 37 % 100) / 50.0), decimals, k % SECTORS, 3.0 + k % 7 * 0.45
