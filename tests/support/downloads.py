"""What the download tests share: klines to publish, a clock that nobody waits for, a look at what was written."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from dolphin.core.clock import NS_PER_S, iso_to_ns
from dolphin.market.download import DownloadSpec, Timing
from dolphin.market.synthetic import MarketSpec, make_market
from tests.support.archive_server import ArchiveServer

LATER = iso_to_ns("2026-01-01T00:00:00Z")


@dataclass
class FakeTime:
    """Virtual seconds: `sleep` moves the clock on and returns at once."""

    now: float = 1000.0
    wall_ns: int = LATER
    slept: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        self.slept.append(seconds)
        await asyncio.sleep(0)
        self.now = max(self.now, until)

    def timing(self, read_timeout: float = 5.0) -> Timing:
        return Timing(monotonic=self.monotonic, sleep=self.sleep, wall=lambda: self.wall_ns, read_timeout=read_timeout)


@dataclass
class Klines:
    """Klines of several symbols on one grid: open times in seconds (T,), closes (T, N)."""

    symbols: tuple[str, ...]
    open_s: np.ndarray
    closes: np.ndarray
    bar: int

    def publish(
        self, server: ArchiveServer, market: str, interval: str, *, micro: bool = False, header: bool = True
    ) -> None:
        for k, symbol in enumerate(self.symbols):
            closes = self.closes[:, k]
            server.publish(symbol, self.open_s, closes, market=market, interval=interval, micro=micro, header=header)

    def publish_rest(self, server: ArchiveServer, interval: str) -> None:
        for k, symbol in enumerate(self.symbols):
            server.publish_rest(symbol, self.open_s, self.closes[:, k], interval=interval)

    def expected(self, first: date, last: date) -> dict[int, list[float]]:
        """Stamp in ns to closes, for the stamps that lie on the days `first` … `last`."""
        low, high = iso_to_ns(str(first)), iso_to_ns(str(last)) + 86_400 * NS_PER_S
        stamps = (self.open_s + self.bar) * NS_PER_S
        return {int(t): row.tolist() for t, row in zip(stamps, self.closes, strict=True) if low <= t < high}


def klines(first: date, days: int, bar: int = 900, assets: int = 2, seed: int = 5) -> Klines:
    """Synthetic closes, published as if each bar opened at its stamp."""
    spec = MarketSpec(days=days, assets=assets, bar_seconds=bar, seed=seed, start=first, outage=False)
    made = list(make_market(spec))
    stamps = np.concatenate([day.ts_ns for day in made]) // NS_PER_S
    closes = np.vstack([day.closes for day in made])
    return Klines(made[0].assets, stamps, np.where(np.isnan(closes), 1.25, closes), bar)


def spec_for(server: ArchiveServer, out: Path, made: Klines, first: date, last: date, **more: Any) -> DownloadSpec:
    values: dict[str, Any] = {
        "symbols": made.symbols,
        "first": first,
        "last": last,
        "out": out,
        "interval": "15m",
        "archive_url": server.url,
        "rest_url": server.url,
        "rate": 100.0,
    }
    return DownloadSpec(**{**values, **more})


def written(out: Path, symbols: tuple[str, ...]) -> dict[int, list[float]]:
    """Stamp in ns to closes, from every day file of `out`."""
    rows: dict[int, list[float]] = {}
    for path in sorted(out.glob("*.parquet")):
        table = pq.ParquetFile(path).read()
        stamps = table.column("timestamp").to_numpy().astype("datetime64[ns]").astype(np.int64)
        columns = [table.column(s).to_numpy() for s in symbols]
        rows.update((int(t), list(row)) for t, *row in zip(stamps, *columns, strict=True))
    return rows


def leftovers(out: Path) -> list[str]:
    """Every file under `out` that is not in its raw folder."""
    if not out.exists():
        return []
    return sorted(
        str(p.relative_to(out)) for p in out.rglob("*") if p.is_file() and p.relative_to(out).parts[0] != "raw"
    )
