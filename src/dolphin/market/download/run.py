"""A whole download: check, fetch, convert, clean up."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import aiohttp

from dolphin import __version__
from dolphin.core.clock import ns_to_date
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.archive import ArchiveWriter
from dolphin.market.download.convert import price_days
from dolphin.market.download.fetch import Advance, Fetched, Fetcher
from dolphin.market.download.http import Client, Tally
from dolphin.market.download.pace import Timing
from dolphin.market.download.plan import DownloadSpec, stretches


@dataclass(frozen=True)
class DownloadReport:
    """What a download did.

    `symbols` are the archive's columns; `missing` maps a symbol to the days, ascending, for which the exchange has
    no klines; `content_hash` is the archive's identity, as in its manifest; `kept` counts files found verified on disk.
    """

    out: Path
    symbols: tuple[str, ...]
    days: int
    bars: int
    missing: dict[str, list[date]]
    archive_files: int
    rest_days: int
    kept: int
    requests: int
    retries: int
    pauses: int
    bytes: int
    content_hash: str


def download(spec: DownloadSpec, *, timing: Timing | None = None, advance: Advance = lambda _n: None) -> DownloadReport:
    """Fetch the klines of `spec` and write them as a price archive into `spec.out` (SPEC §1).

    Raw files lie in `spec.raw` while the download lasts; they survive a failure or a kill, and the next run of the
    same request goes on from them. `advance` is told of settled symbol-days, symbols × days in all.

    Raises ConfigError for a folder that cannot take the archive or a range in the future, DataError when the
    exchange has no kline of any symbol in the range, ExchangeError when it does not deliver.
    """
    timing = timing or Timing()
    today = ns_to_date(timing.wall())
    if spec.last > today:
        raise ConfigError(f"--to {spec.last}: lies in the future; the last day that can be asked for is {today} (UTC)")
    _writer(spec, {})  # refuses now, not after hours of fetching, a folder that could not take the archive
    existed = spec.out.exists()
    with _claimed(spec):
        fetched, tally = asyncio.run(_fetch(spec, timing, advance))
        if not fetched.files:
            _remove_raw(spec)
            if not existed:
                spec.out.rmdir()
            raise _nothing(spec)
        missing = {s: fetched.missing[s] for s in spec.symbols if fetched.missing.get(s)}
        days = bars = 0
        with _writer(spec, missing) as writer:
            for day in price_days(spec, fetched):
                writer.write(day)
                days += 1
                bars += day.rows
            if not bars:  # files without a row; leaving by the error keeps the writer from publishing
                raise _nothing(spec)
        if not spec.keep_raw:
            _remove_raw(spec)
    return DownloadReport(
        out=spec.out,
        symbols=tuple(s for s in spec.symbols if s in fetched.files),
        days=days,
        bars=bars,
        missing=missing,
        archive_files=fetched.archive_files,
        rest_days=fetched.rest_days,
        kept=fetched.kept,
        requests=tally.requests,
        retries=tally.retries,
        pauses=tally.pauses,
        bytes=tally.bytes,
        content_hash=writer.manifest.content_hash if writer.manifest else "",
    )


def _nothing(spec: DownloadSpec) -> DataError:
    return DataError(
        f"{', '.join(spec.symbols)}: the exchange has no {spec.interval} klines from {spec.first} to {spec.last} "
        f"on market {spec.market}; check the symbols, the days and --market"
    )


def describe(days: Sequence[date]) -> list[str]:
    """Ascending days in words: `2024-01-03`, or `2024-01-03…2024-01-09` for days in a row."""
    return [f"{first}" if first == last else f"{first}…{last}" for first, last in stretches(days)]


def _writer(spec: DownloadSpec, missing: Mapping[str, Sequence[date]]) -> ArchiveWriter:
    """The archive to be, its manifest saying where the prices come from and what the exchange did not have."""
    source = {
        "made_by": f"dolphin data download {__version__}",
        "market": spec.market,
        "interval": spec.interval,
        "archive_url": spec.archive_url,
        "rest_url": spec.rest_base,
        "first": str(spec.first),
        "last": str(spec.last),
        "missing": {symbol: describe(days) for symbol, days in missing.items()},
    }
    return ArchiveWriter(spec.out, "prices", spec.bar_seconds, source=source, force=spec.force)


async def _fetch(spec: DownloadSpec, timing: Timing, advance: Advance) -> tuple[Fetched, Tally]:
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=timing.connect_timeout, sock_read=timing.read_timeout)
    headers = {"User-Agent": f"dolphin-nautilus/{__version__}"}
    # Proxies and certificates come from the environment, as for every other tool on the machine.
    async with aiohttp.ClientSession(timeout=timeout, headers=headers, trust_env=True) as session:
        archive = Client(session, spec.rate, timing, "--archive-url")
        rest = Client(session, spec.rate, timing, "--rest-url")
        fetched = await Fetcher(spec, archive, rest, timing, advance).run()
    a, b = archive.tally, rest.tally
    total = Tally(a.requests + b.requests, a.retries + b.retries, a.pauses + b.pauses, a.bytes + b.bytes)
    return fetched, total


@contextlib.contextmanager
def _claimed(spec: DownloadSpec) -> Iterator[None]:
    """The raw folder, made, writable, and ours alone until the end of the block."""
    lock = spec.out / "raw" / ".lock"
    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=lock.parent):
            pass
        handle = lock.open("w")
    except OSError as error:
        raise ConfigError(f"--out {spec.out}: cannot be written ({error.strerror}); choose another folder") from None
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ConfigError(f"--out {spec.out}: another download is writing there; wait, or choose another") from None
        yield


def _remove_raw(spec: DownloadSpec) -> None:
    """Remove what this download kept, and the folders above it as far as they are empty then."""
    for symbol in spec.symbols:
        shutil.rmtree(spec.raw / symbol, ignore_errors=True)
    (spec.out / "raw" / ".lock").unlink(missing_ok=True)
    for folder in (spec.raw, spec.raw.parent, spec.raw.parent.parent):
        with contextlib.suppress(OSError):
            folder.rmdir()
