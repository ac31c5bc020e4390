"""How the service does, as one typed value in a file: `dolphin obf status` and dashboards read it (SPEC §8)."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from dolphin.market.atomic import write_text_atomic
from dolphin.ops.obf.breaker import Breaker
from dolphin.ops.obf.cachefile import read_cache_file
from dolphin.ops.obf.publisher import PushCounts
from dolphin.ops.obf.recorder import ArchiveCounts

METRICS_NAME = "obf_metrics.json"
KEPT = 4096
"""Latencies that the percentiles are taken of: the newest, about seven minutes of them."""


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """From a beat's deadline to its features, milliseconds, over the newest beats; None before the first."""

    p50_ms: float | None
    p99_ms: float | None
    worst_ms: float | None


class ObfMetrics(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The service at `updated_at` (`timestamp`, seconds).

    `beats` made and `skipped` deadlines that had passed before their turn; `age_s` of each asset's newest snapshot,
    None before the first; `source` and `crossed` are what the source counted; `lost_lines` of the log gave way because
    nobody took them.
    """

    schema: Literal[1]
    phase: str
    detail: str
    pid: int
    started_at: str
    updated_at: str
    timestamp: float
    cadence_s: float
    beats: int
    skipped: int
    latency: Latency
    assets: int
    live: int
    warming: list[str]
    dark: list[str]
    age_s: dict[str, float | None]
    snapshots: dict[str, int]
    source: dict[str, int]
    crossed: int
    stalls: int
    grown: int
    breaker: Breaker | None
    pushes: PushCounts | None
    archive: ArchiveCounts | None
    file_failures: int
    last_file_failure: str
    lost_lines: int


class Latencies:
    """The newest KEPT latencies, seconds; one writer, and readers on other threads."""

    def __init__(self) -> None:
        self._values: NDArray[np.float64] = np.zeros(KEPT)
        self._count = 0

    def add(self, seconds: float) -> None:
        """One more."""
        self._values[self._count % KEPT] = seconds
        self._count += 1

    def summary(self) -> Latency:
        """Their percentiles."""
        known = self._values[: min(self._count, KEPT)] * 1e3
        if not len(known):
            return Latency(p50_ms=None, p99_ms=None, worst_ms=None)
        p50, p99 = np.percentile(known, [50, 99]).tolist()
        return Latency(p50_ms=round(p50, 4), p99_ms=round(p99, 4), worst_ms=round(float(known.max()), 4))


def write_metrics(folder: Path, value: ObfMetrics) -> None:
    """Write the file, whole or not at all. Raises OSError."""
    write_text_atomic(folder / METRICS_NAME, msgspec.json.format(msgspec.json.encode(value), indent=1).decode() + "\n")


def read_metrics(folder: Path) -> ObfMetrics:
    """What the file in `folder` holds. Raises DataError, in one line, for one that is missing or not such a file."""
    return read_cache_file(folder / METRICS_NAME, ObfMetrics, "metrics of the OBF service")
