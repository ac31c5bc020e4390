"""The scanner as an object: streaming (`update`) and batch (`scan`) through the same compiled code (SPEC §2)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.core.errors import ConfigError
from dolphin.core.native import Entry, Flat
from dolphin.scan.kernels import INSTABILITY, MEMBERS, TOP, VELOCITY, scan_rows_nb
from dolphin.scan.layout import GAP_BARS, WINDOWS, ScanState, new_state

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]


SCAN_ROWS = Entry(scan_rows_nb)


class Scan(NamedTuple):
    """One bar's scan; every array has one entry per window, NaN (members: 0) while the window fills."""

    ts_ns: int
    scan_number: int
    vel_div: float
    velocity: F8
    instability: F8
    largest_eigenvalue: F8
    members: F8


class ScanTable(NamedTuple):
    """T bars of scans; arrays are (T,) or (T, K)."""

    scan_number: I8
    vel_div: F8
    velocity: F8
    instability: F8
    largest_eigenvalue: F8
    members: F8


class Scanner:
    """Rolling largest eigenvalues of N assets' correlation matrices over K windows.

    `bar_seconds` fixes what a gap is: a hole longer than ten bars restarts the windows. `scan_number` counts bars
    from 0.

    Raises ConfigError for an empty universe or a bar length that is not positive.
    """

    def __init__(self, n_assets: int, bar_seconds: float, windows: tuple[int, ...] = WINDOWS) -> None:
        if n_assets < 1:
            raise ConfigError(f"scanner: {n_assets} assets; expected at least one")
        if not bar_seconds > 0.0:
            raise ConfigError(f"scanner: bars of {bar_seconds} s; expected a positive length")
        self.n_assets = n_assets
        self.windows = windows
        self.scan_number = 0
        self._last_ts = -(2**62)
        # Half a bar of slack: stamps of a regular series may jitter.
        self._gap_ns = int((GAP_BARS + 0.5) * bar_seconds * 1e9)
        self._state: ScanState = new_state(n_assets, windows)
        self._flat = Flat(self._state)

    def update(self, ts_ns: int, prices: F8) -> Scan:
        """Take one bar's closes, float64 (N,), missing = NaN, ≤ 0 or infinite; give its scan."""
        table = self.scan(np.array([ts_ns], np.int64), np.asarray(prices, np.float64).reshape(1, -1))
        return Scan(
            int(ts_ns),
            int(table.scan_number[0]),
            float(table.vel_div[0]),
            table.velocity[0],
            table.instability[0],
            table.largest_eigenvalue[0],
            table.members[0],
        )

    def scan(self, ts_ns: I8, closes: F8) -> ScanTable:
        """Take T bars, closes float64 (T, N); give their scans. Any split into calls gives the same bits.

        Raises ConfigError when stamps do not increase or the number of columns is not N.
        """
        closes = np.ascontiguousarray(closes, np.float64)
        ts_ns = np.ascontiguousarray(ts_ns, np.int64)
        if closes.ndim != 2 or closes.shape != (len(ts_ns), self.n_assets):
            raise ConfigError(f"scanner: closes of shape {closes.shape}, expected ({len(ts_ns)}, {self.n_assets})")
        if len(ts_ns) and (ts_ns[0] <= self._last_ts or np.any(np.diff(ts_ns) <= 0)):
            raise ConfigError("scanner: time stamps must increase from bar to bar; sort and deduplicate the prices")
        out = np.empty((len(ts_ns), len(self.windows), 4))
        SCAN_ROWS(self._flat, ts_ns, self._gap_ns, closes, out)
        numbers = np.arange(self.scan_number, self.scan_number + len(ts_ns), dtype=np.int64)
        self.scan_number += len(ts_ns)
        if len(ts_ns):
            self._last_ts = int(ts_ns[-1])
        velocity = out[:, :, VELOCITY]
        return ScanTable(
            numbers,
            velocity[:, 0] - velocity[:, -1],
            velocity,
            out[:, :, INSTABILITY],
            out[:, :, TOP],
            out[:, :, MEMBERS],
        )
