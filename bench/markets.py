"""Closes for the scanner's measurements: recorded, synthetic, and two crowded markets; complete columns only.

Numpy's `corrcoef` knows no missing price, and the peer must be given what it can take.
"""

from __future__ import annotations

from datetime import date

import numpy as np
from numpy.typing import NDArray

from bench.common import ROOT, BenchError

F8 = NDArray[np.float64]

RECORDED = ROOT.parent / "shared" / "data" / "spot_1m_2021"
_FIAT = ("AUDUSDT", "GBPUSDT", "EURUSDT")
_SHORTEST = 50


def recorded(assets: int, bars: int) -> F8 | None:
    """The first `bars` recorded minutes of the first `assets` complete spot pairs, (T, N); None where they do not lie
    beside the checkout, or are too few."""
    import pyarrow.parquet as pq

    files = sorted(RECORDED.glob("*.parquet"))
    blocks: list[F8] = []
    names: list[str] | None = None
    for path in files:
        if sum(map(len, blocks)) >= bars:
            break
        table = pq.read_table(path)
        here = [name for name in table.column_names if name != "timestamp" and name not in _FIAT]
        names = here if names is None else names
        blocks.append(np.column_stack([table.column(name).to_numpy().astype(np.float64) for name in names]))
    if not blocks:
        return None
    closes = _lively(np.concatenate(blocks)[:bars])
    return closes[:, :assets].copy() if closes.shape[1] >= assets and len(closes) == bars else None


def synthetic(assets: int, bars: int) -> F8:
    """The same of the synthetic market, from its second day on: that has a crash, and prices are missing only from the
    fourth on."""
    from dolphin.market.synthetic import MarketSpec, make_market

    spec = MarketSpec(days=4, assets=assets + 40, seed=7, start=date(2024, 1, 1), outage=False)
    closes = _lively(np.concatenate([day.closes for day in list(make_market(spec))[1:]])[:bars])
    if len(closes) < bars or closes.shape[1] < assets:
        raise BenchError(f"synthetic market: {closes.shape} complete closes, expected ({bars}, {assets})")
    return closes[:, :assets].copy()


def crowded(assets: int, bars: int, ratio: float = 1.15, seed: int = 3) -> F8:
    """A two-factor market whose two largest eigenvalues stand in `ratio` in every window, (T, N).

    Half of the assets follow factor f with share a, the others g with share b, where
    1 + (n/2 − 1)·a = ratio · (1 + (n/2 − 1)·b). Sampling alone would spread the ratio of a 50-bar window to 1.3: so f
    and g come in pairs of bars, (x, y) then (y, −x), which keeps them uncorrelated and of equal variance in every
    window, up to its edges and means.
    """
    rng = np.random.default_rng([seed, assets])
    half = assets // 2
    low = 0.6
    high = (ratio * (1.0 + (half - 1) * low) - 1.0) / (half - 1)
    x, y = rng.standard_normal((2, bars // 2 + 1))
    f = np.column_stack((x, y)).ravel()[:bars]
    g = np.column_stack((y, -x)).ravel()[:bars]
    return _two_factors(rng, f, g, high, low, assets)


def wandering(assets: int, bars: int, seed: int = 5) -> F8:
    """Two equal, independent factors: the two largest eigenvalues of a window meet and overtake each other, (T, N)."""
    rng = np.random.default_rng([seed, assets])
    f, g = rng.standard_normal((2, bars))
    return _two_factors(rng, f, g, 0.6, 0.6, assets)


def _two_factors(rng: np.random.Generator, f: F8, g: F8, high: float, low: float, assets: int) -> F8:
    first = np.arange(assets) < assets // 2
    share = np.where(first, high, low)
    common = np.where(first, f[:, None], g[:, None])
    returns = 1e-3 * (np.sqrt(share) * common + np.sqrt(1.0 - share) * rng.standard_normal((len(f), assets)))
    closes: F8 = 100.0 * np.exp(np.cumsum(returns, axis=0))
    return closes


def _lively(closes: F8) -> F8:
    """The columns that have every price and that move within every 50 bars, so that every window holds all of them."""
    with np.errstate(invalid="ignore"):
        complete = np.all(closes > 0.0, axis=0)
    moving = np.zeros(closes.shape[1], np.bool_)
    for k in np.flatnonzero(complete):
        same = np.flatnonzero(np.diff(closes[:, k]) != 0.0)
        moving[k] = len(same) > 1 and max(np.diff(np.concatenate(([-1], same, [len(closes) - 1])))) < _SHORTEST
    return closes[:, complete & moving]
