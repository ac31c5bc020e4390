"""Markets, recorded days and comparisons shared by the scanner's tests."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_S
from dolphin.core.lanes import padded
from dolphin.scan.layout import WINDOWS
from dolphin.scan.scanner import Scanner, ScanTable
from tests.reference.scanner_ref import Floats, Ints, change, largest, log_returns, members
from tests.support.shared import recorded

MINUTE = 60 * NS_PER_S
FIELDS = ("scan_number", "vel_div", "velocity", "instability", "largest_eigenvalue", "members")
RECORDED = {
    "spot_1m_2021": (60.0, ("AUDUSDT", "GBPUSDT", "EURUSDT")),
    "perp_1m_2025": (60.0, ()),
    "perp_5m_2023": (300.0, ("USDCUSDT",)),
}


def wide(a: NDArray[np.float64], axes: int = 1) -> Floats:
    """A copy whose last axes (one, or both of a matrix) are padded with zeros to whole groups of lanes."""
    padding = [(0, padded(size) - size if axis >= a.ndim - axes else 0) for axis, size in enumerate(a.shape)]
    return np.ascontiguousarray(np.pad(a, padding))


def minutes(rows: int, first: int = 0) -> Ints:
    """Stamps one minute apart."""
    return (np.arange(rows, dtype=np.int64) + first) * MINUTE


def prices(returns: NDArray[np.float64]) -> Floats:
    """(T, N) closes whose log returns are `returns`, from 100 on."""
    return np.asarray(100.0 * np.exp(np.cumsum(returns, axis=0)), dtype=np.float64)


def factor_market(seed: int, rows: int, assets: int, *, noise: float = 1.0) -> Floats:
    """One common factor and noise, a tenth of a per cent a bar."""
    rng = np.random.default_rng([seed, 11])
    common = rng.standard_normal((rows, 1)) * rng.uniform(0.3, 1.5, assets)
    return prices((common + noise * rng.standard_normal((rows, assets))) * 1e-3)


def scan(closes: Floats, ts: Ints | None = None, bar_seconds: float = 60.0) -> ScanTable:
    """All bars through a fresh scanner, in one call."""
    stamps = minutes(len(closes)) if ts is None else ts
    return Scanner(closes.shape[1], bar_seconds).scan(stamps, closes)


def part(table: ScanTable, rows: slice) -> ScanTable:
    return ScanTable(*(column[rows] for column in table))


def joined(tables: Iterable[ScanTable]) -> ScanTable:
    return ScanTable(*(np.concatenate(columns) for columns in zip(*tables, strict=True)))


def assert_same_bits(a: ScanTable, b: ScanTable, *, numbers: bool = True) -> None:
    """Every column equal bit for bit, NaN being equal to NaN."""
    for name in FIELDS[0 if numbers else 1 :]:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), err_msg=name, strict=True)


def relative(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """Largest |got/want − 1|; NaN must be in the same places."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    return float(np.nanmax(np.abs(got / want - 1.0), initial=0.0))


def absolute(got: NDArray[np.float64], want: NDArray[np.float64]) -> float:
    """Largest |got − want|; NaN must be in the same places."""
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    return float(np.nanmax(np.abs(got - want), initial=0.0))


def compare_at(table: ScanTable, closes: Floats, ts: Ints, bars: Iterable[int], bar_seconds: float) -> tuple[int, ...]:
    """Hold `table` against the reference at some bars: λ to 1e-9 relative, velocity to 1e-9, members exactly.

    Gives the number of eigenvalues and velocities that were compared, so that a test can say that there were some.
    """
    returns = log_returns(closes, ts, bar_seconds)
    values = velocities = 0
    for t in bars:
        for k, window in enumerate(WINDOWS):
            now, old = members(returns, t, window), members(returns, t - 1, window)
            assert table.members[t, k] == len(now), (t, window)
            value, velocity = table.largest_eigenvalue[t, k], table.velocity[t, k]
            assert np.isfinite(value) == bool(now), (t, window)
            if now:
                assert abs(value / largest(returns, t, window, now)[0] - 1.0) <= 1e-9, (t, window)
                values += 1
            common = tuple(a for a in now if a in old)
            assert np.isfinite(velocity) == bool(common), (t, window)
            if common:
                pair = (largest(returns, row, window, common) for row in (t, t - 1))
                assert abs(velocity - change(*pair)[0]) <= 1e-9, (t, window)
                velocities += 1
        want = table.velocity[t, 0] - table.velocity[t, -1]
        np.testing.assert_array_equal(table.vel_div[t], want)
    return values, velocities


def slid_eigenvalues(closes: Floats, window: int) -> NDArray[np.float64]:
    """λ of every window of clean (T, N) closes by numpy, (T − window,): row i belongs to bar i + window."""
    returns = np.diff(np.log(closes), axis=0)
    slid = np.lib.stride_tricks.sliding_window_view(returns, window, axis=0)
    slid = slid - slid.mean(axis=-1, keepdims=True)
    cov = slid @ slid.transpose(0, 2, 1)
    scale = 1.0 / np.sqrt(np.einsum("tii->ti", cov))
    return np.asarray(np.linalg.eigvalsh(cov * scale[:, :, None] * scale[:, None, :])[:, -1])


@cache
def recorded_days(name: str, first: date, last: date, assets: int | None = None) -> tuple[Ints, Floats, float]:
    """(stamps, closes, bar seconds) of recorded files, stamped when a bar is known; the first `assets` columns."""
    bar_seconds, dropped = RECORDED[name]
    files = [p for p in sorted(recorded(name).glob("*.parquet")) if first <= date.fromisoformat(p.stem) <= last]
    tables = [pq.read_table(path) for path in files]
    names = list(dict.fromkeys(c for t in tables for c in t.column_names if c != "timestamp" and c not in dropped))
    names = names[:assets]
    stamps, blocks = [], []
    for table in tables:
        stamps.append(table.column("timestamp").cast(pa.timestamp("ns", tz="UTC")).to_numpy().astype(np.int64))
        absent = np.full(table.num_rows, np.nan)
        columns = [table.column(c).to_numpy().astype(np.float64) if c in table.column_names else absent for c in names]
        blocks.append(np.column_stack(columns))
    ts = np.concatenate(stamps) + round(bar_seconds * NS_PER_S)
    return ts, np.concatenate(blocks), bar_seconds


Scan = Callable[[Ints, Floats], ScanTable]


def assert_causal(run: Scan, ts: Ints, closes: Floats, cuts: Iterable[int], seed: int) -> None:
    """Nothing after a bar may change what `run` says up to it: the rest is cut off, scrambled and replaced in turn."""
    whole = run(ts, closes)
    rng = np.random.default_rng([seed, 12])
    for t in cuts:
        past, rows = slice(0, t + 1), len(closes)
        assert_same_bits(part(whole, past), run(ts[past], closes[past]))
        scrambled = closes.copy()
        scrambled[t + 1 :] = rng.permutation(closes[t + 1 :])
        assert_same_bits(part(whole, past), part(run(ts, scrambled), past))
        other = closes.copy()
        other[t + 1 :] = rng.choice([np.nan, 0.0, -1.0, np.inf, 1e-9, 1e9], (rows - t - 1, closes.shape[1]))
        assert_same_bits(part(whole, past), part(run(ts, other), past))
