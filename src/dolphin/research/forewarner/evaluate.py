"""Whether a classifier of catastrophes is better than chance: pure functions of probabilities and labels."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.risk.forewarner.space import F8

FEWEST_OF_EACH = 10
"""With fewer catastrophes, or fewer survivors, no figure means anything."""

DRAWS = 1000
BINS = 10
_Z95 = 1.959963984540054


def judge(
    predicted: F8, lost: NDArray[np.bool_], base_rate: float, catastrophes: int, trials: int, rng: np.random.Generator
) -> tuple[dict[str, float], tuple[str, ...]]:
    """AUC with its 95 % bootstrap interval, Brier score and that of the base rate, over held-out trials; and every
    reason to call the classifier no better than chance."""
    low, high = auc_interval(predicted, lost, rng)
    brier, base = float(np.mean((predicted - lost) ** 2)), float(np.mean((base_rate - lost) ** 2))
    figures = {"auc": auc(predicted, lost), "auc_low": low, "auc_high": high, "brier": brier, "brier_base_rate": base}
    doubts = []
    if catastrophes < FEWEST_OF_EACH:
        doubts.append(f"{catastrophes} catastrophes among {trials} trials, {FEWEST_OF_EACH} needed")
    if trials - catastrophes < FEWEST_OF_EACH:
        doubts.append(f"{trials - catastrophes} survivors among {trials} trials, {FEWEST_OF_EACH} needed")
    if not low > 0.5:
        doubts.append(f"held-out AUC {figures['auc']:.3f} with a 95 % lower bound of {low:.3f}, above 0.5 needed")
    if not brier < base:
        doubts.append(f"held-out Brier score {brier:.4f}, below the base rate's {base:.4f} needed")
    return figures, tuple(doubts)


def auc(predicted: F8, lost: NDArray[np.bool_]) -> float:
    """The chance that a catastrophe was given a higher probability than a survivor; ties count half."""
    return float(_wins(predicted, lost).mean())


def auc_interval(predicted: F8, lost: NDArray[np.bool_], rng: np.random.Generator) -> tuple[float, float]:
    """2.5th and 97.5th percentile of the AUC over 1,000 bootstrap samples, drawn within each class."""
    wins = _wins(predicted, lost)
    rows, columns = wins.shape
    values = np.empty(DRAWS)
    for k in range(DRAWS):
        by_row = np.bincount(rng.integers(rows, size=rows), minlength=rows)
        by_column = np.bincount(rng.integers(columns, size=columns), minlength=columns)
        values[k] = by_row @ wins @ by_column / (rows * columns)
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def calibration_bins(predicted: F8, lost: NDArray[np.bool_]) -> list[dict[str, Any]]:
    """Held-out trials in ten equal bins of predicted probability; bins without a trial are left out.

    Each has `low`, `high`, `count`, `catastrophes`, the mean `predicted` and the met `frequency` with its 95 % Wilson
    interval, `frequency_low` and `frequency_high`.
    """
    slot = np.minimum((predicted * BINS).astype(np.int64), BINS - 1)
    bins = []
    for k in range(BINS):
        here = slot == k
        count, hits = int(here.sum()), int(lost[here].sum())
        if count:
            low, high = wilson(hits, count)
            bins.append(
                {
                    "low": k / BINS,
                    "high": (k + 1) / BINS,
                    "count": count,
                    "catastrophes": hits,
                    "predicted": float(predicted[here].mean()),
                    "frequency": hits / count,
                    "frequency_low": low,
                    "frequency_high": high,
                }
            )
    return bins


def wilson(hits: int, count: int) -> tuple[float, float]:
    """95 % interval of a share of `hits` in `count` ≥ 1 (Wilson's score interval)."""
    share, z2 = hits / count, _Z95**2
    middle = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, middle - half), min(1.0, middle + half)


def _wins(predicted: F8, lost: NDArray[np.bool_]) -> F8:
    """For each catastrophe and each survivor: 1 when the first was given more, ½ for a tie, else 0."""
    bad, good = predicted[lost][:, None], predicted[~lost][None, :]
    return np.asarray((bad > good) + 0.5 * (bad == good), np.float64)
