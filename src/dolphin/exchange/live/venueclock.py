"""How far the venue's clock is from ours, and how sure that is (SPEC §18).

As NTP does it: the venue read its clock somewhere between our question and its answer, so its middle is the best guess
and half the round trip bounds the error. Of several samples the quickest is the best.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from dolphin.exchange.live.rest import RestClient

SAMPLES = 5
_DRIFT = 1e-4
"""By how much two clocks may part, seconds per second: 100 ppm, twice what common crystals do."""


class Sample(NamedTuple):
    """One comparison of the clocks, milliseconds; positive: the venue's is ahead."""

    offset_ms: float
    uncertainty_ms: float


class VenueClock:
    """The newest good estimate; NaN before the first."""

    def __init__(self) -> None:
        self._best = Sample(float("nan"), float("inf"))
        self._at = time.monotonic()
        self.measured = 0
        """How many estimates there have been."""

    @property
    def offset_ms(self) -> float:
        """What must be added to our clock to have the venue's; NaN while unknown."""
        return self._best.offset_ms

    @property
    def uncertainty_ms(self) -> float:
        """How far off `offset_ms` can be: half the round trip, the venue's resolution, and what drift adds with
        time."""
        return self._best.uncertainty_ms + (time.monotonic() - self._at) * 1000.0 * _DRIFT

    async def measure(self, rest: RestClient, samples: int = SAMPLES) -> None:
        """Compare the clocks anew. Raises ExchangeError when the venue does not tell its time; the old estimate
        stays."""
        best = Sample(float("nan"), float("inf"))
        for _ in range(samples):
            server_ms, answer = await rest.server_time()
            best = min(best, compare(server_ms, answer.sent_ns, answer.took_s), key=lambda one: one.uncertainty_ms)
        self._best, self._at = best, time.monotonic()
        self.measured += 1


def compare(server_ms: int, sent_ns: int, took_s: float) -> Sample:
    """The sample of one answer. The venue tells whole milliseconds, so on average it is half of one later."""
    middle_ms = sent_ns / 1e6 + took_s * 500.0
    return Sample(server_ms + 0.5 - middle_ms, took_s * 500.0 + 0.5)
