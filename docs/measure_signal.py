"""Measure the distribution of vel_div and its echo on price archives: the figures of docs/signal.md.

Run it as `.venv/bin/python docs/measure_signal.py market …`; each argument is an archive of prices. What it says of the
market's moves uses the mean return over assets, which the scanner itself never sees.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.market.archive import Archive
from dolphin.research.scanning import scan_archive

QUANTILES = (0.01, 0.05, 0.25, 0.50, 0.75, 0.95, 0.99)
SHORT_WINDOW = 50
TOP_SHARE = 0.05
"""A bar's market move is large when it belongs to the largest 5 % of the archive."""


class Series(NamedTuple):
    """Per-bar series of one archive, float64 (T,): the signal and the size of the market's move."""

    vel_div: NDArray[np.float64]
    move: NDArray[np.float64]


def load(folder: Path) -> Series:
    """Scan `folder` and give its series; a move across missing prices counts as none."""
    days = list(scan_archive(Archive.open(folder)))
    closes = np.concatenate([day.closes for day in days])
    steps = np.diff(np.log(closes), axis=0)
    known = ~np.isnan(steps)
    total = np.where(known, steps, 0.0).sum(axis=1)
    move = np.abs(total / np.maximum(known.sum(axis=1), 1))
    return Series(np.concatenate([day.signal("vel_div") for day in days]), np.concatenate(([0.0], move)))


def distribution(series: Series) -> list[str]:
    """Lines with the number of bars, the shares beyond the thresholds, and the quantiles."""
    v = series.vel_div[~np.isnan(series.vel_div)]
    shares = (("< -0.02", v < -0.02), ("< -0.05", v < -0.05), ("> 0.01", v > 0.01), ("> 0.04", v > 0.04))
    levels = zip(QUANTILES, np.quantile(v, QUANTILES), strict=True)
    return [
        f"  bars {len(series.vel_div):,}, with a signal {len(v):,}",
        "  " + ", ".join(f"P({name}) = {np.mean(met):.2%}" for name, met in shares),
        "  quantiles " + ", ".join(f"{q:.0%}: {x:+.4f}" for q, x in levels),
    ]


def echo(series: Series) -> list[str]:
    """Lines saying how often a short signal coincides with a large move that leaves, or enters, the short window."""
    large = series.move >= np.quantile(series.move, 1.0 - TOP_SHARE)
    leaving = np.concatenate((np.zeros(SHORT_WINDOW, np.bool_), large[:-SHORT_WINDOW]))
    known = ~np.isnan(series.vel_div)
    lines = []
    for limit in (-0.02, -0.05):
        met = known & (series.vel_div < limit)
        lines.append(
            f"  of the bars with vel_div < {limit}: {np.mean(leaving[met]):.1%} have a large move leaving, "
            f"{np.mean(large[met]):.1%} one entering; where one leaves, {np.mean(met[known & leaving]):.1%} signal"
        )
    return lines


def main(folders: list[str]) -> None:
    """Print the figures of every archive named."""
    for folder in folders:
        series = load(Path(folder))
        sys.stdout.write("\n".join([folder, *distribution(series), *echo(series)]) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
