"""Bring every file of a plan to disk, verified: archive first, REST for what the archive lacks (SPEC §1.4).

On disk a file has one of two names: its own, once its SHA-256 matched, or that with `.part` while it arrives. A
kill at any moment leaves only those two, so the next run knows what to keep and where to go on.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from dolphin.core.errors import ExchangeError
from dolphin.market.atomic import atomic_path, sync_folder
from dolphin.market.download import rest
from dolphin.market.download.http import Client
from dolphin.market.download.pace import Timing
from dolphin.market.download.plan import DownloadSpec, Piece, days_between, plan, rest_path, stretches

Advance = Callable[[int], None]
"""Told the number of symbol-days that are settled: on disk, or known to be missing."""


@dataclass
class Fetched:
    """What lies on disk after a fetch.

    `files` maps a symbol to its files with the days that each covers, in no particular order; `missing` maps a
    symbol to the days, ascending, that neither the archive nor REST has.
    """

    files: dict[str, list[tuple[date, date, Path]]] = field(default_factory=dict)
    missing: dict[str, list[date]] = field(default_factory=dict)
    kept: int = 0
    archive_files: int = 0
    rest_days: int = 0

    def add(self, symbol: str, first: date, last: date, path: Path) -> None:
        """Record that `path` holds the klines of `symbol` from `first` to `last`."""
        self.files.setdefault(symbol, []).append((first, last, path))


class Fetcher:
    """One run over one plan."""

    def __init__(self, spec: DownloadSpec, archive: Client, rest_client: Client, timing: Timing, advance: Advance):
        """`archive` and `rest_client` speak to the two hosts; `advance` hears of each settled symbol-day."""
        self._spec = spec
        self._archive = archive
        self._rest = rest_client
        self._timing = timing
        self._advance = advance
        self._slots = asyncio.Semaphore(spec.concurrency)
        self._unarchived: dict[str, list[date]] = {}
        self.result = Fetched()

    async def run(self) -> Fetched:
        """Fetch everything; raises ExchangeError at the first thing that cannot be had although it exists."""
        await _all(self._piece(piece) for piece in plan(self._spec))
        runs = [(s, a, b) for s in self._spec.symbols for a, b in stretches(sorted(self._unarchived.get(s, [])))]
        await _all(self._rest_run(*run) for run in runs)
        for days in self.result.missing.values():
            days.sort()
        return self.result

    async def _piece(self, piece: Piece) -> None:
        """Settle one file: from disk, from the archive, as daily files instead, or leave its day to REST."""
        if not await self._archived(piece):
            if piece.monthly:
                await _all(self._piece(day) for day in piece.daily())
                return
            self._unarchived.setdefault(piece.symbol, []).append(piece.first)
            return
        self.result.add(piece.symbol, piece.first, piece.last, piece.path(self._spec))
        self._advance(piece.days)

    async def _archived(self, piece: Piece) -> bool:
        """Whether the verified file lies on disk, after fetching it if need be; False when the archive lacks it."""
        path = piece.path(self._spec)
        async with self._slots:
            if await asyncio.to_thread(_is_verified, path):
                self.result.kept += 1
                return True
            path.parent.mkdir(parents=True, exist_ok=True)
            found = await self._fetch(piece.url(self._spec), path)
            self.result.archive_files += found
            return found

    async def _fetch(self, url: str, path: Path) -> bool:
        part = path.with_name(f"{path.name}.part")
        got = want = ""
        for _ in range(2):
            status, body = await self._archive.body(f"{url}.CHECKSUM", absent=frozenset({404}))
            if status == 404:
                return False
            want = parse_checksum(body, path.name, url)
            if not await self._archive.file(url, part):
                return False
            got = await asyncio.to_thread(_sha256, part)
            if got == want:
                _settle(part, path, want)
                return True
            part.unlink()
        raise ExchangeError(
            f"{url}: SHA-256 is {got}, its CHECKSUM file says {want}, and a second copy was no better; "
            "the host's file is damaged or just being replaced: try again later, or leave these days out"
        )

    async def _rest_run(self, symbol: str, first: date, last: date) -> None:
        """Settle consecutive days that the archive lacks: one request per page, so years of nothing cost one."""
        async with self._slots:
            wanted = [d for d in days_between(first, last) if not self._on_disk(symbol, d)]
            for start, end in stretches(wanted):
                await self._rest_days(symbol, start, end)
        self._advance((last - first).days + 1)

    def _on_disk(self, symbol: str, day: date) -> bool:
        path = rest_path(self._spec, symbol, day)
        if not path.exists():
            return False
        self.result.kept += 1
        self.result.add(symbol, day, day, path)
        return True

    async def _rest_days(self, symbol: str, first: date, last: date) -> None:
        now_ns = self._timing.wall()
        missing = set(days_between(first, last))
        async for day, rows in rest.klines(self._rest, self._spec, symbol, first, last, now_ns):
            path = rest_path(self._spec, symbol, day)
            if not rest.is_over(day, now_ns):
                # The day goes on: under this name it is never mistaken for a whole one.
                path = path.with_suffix(".today.csv")
            path.parent.mkdir(parents=True, exist_ok=True)
            with atomic_path(path) as target:
                target.write_bytes(rest.as_csv(rows))
            self.result.add(symbol, day, day, path)
            self.result.rest_days += 1
            missing.discard(day)
        self.result.missing.setdefault(symbol, []).extend(missing)


def parse_checksum(body: bytes, name: str, url: str) -> str:
    """The 64 hex digits of a CHECKSUM file, `<sha256>  <name>`; ExchangeError when it is anything else."""
    words = body.decode("utf-8", "replace").split()
    if len(words) == 2 and words[1].lstrip("*") == name and len(words[0]) == 64:
        digits = words[0].lower()
        if all(c in "0123456789abcdef" for c in digits):
            return digits
    met = body[:100].decode("utf-8", "replace")
    raise ExchangeError(f"{url}.CHECKSUM: expected '<sha256>  {name}', met {met!r}; check --archive-url")


def _sha256(path: Path) -> str:
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _is_verified(path: Path) -> bool:
    """Whether `path` is there and still what its checksum, kept beside it, says."""
    beside = checksum_path(path)
    return path.exists() and beside.exists() and beside.read_text().split()[:1] == [_sha256(path)]


def checksum_path(path: Path) -> Path:
    """Where the checksum of a verified file is kept."""
    return path.with_name(f"{path.name}.CHECKSUM")


def _settle(part: Path, path: Path, digest: str) -> None:
    """Give a verified file its own name, checksum first, so that the name implies both."""
    with atomic_path(checksum_path(path)) as target:
        target.write_text(f"{digest}  {path.name}\n")
    with part.open("rb") as done:
        os.fsync(done.fileno())
    part.replace(path)
    sync_folder(path.parent)


async def _all(jobs: Iterator[object]) -> None:
    """Run the coroutines together; the first failure cancels the rest and is raised plainly."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)  # type: ignore[arg-type]
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
        raise first from None
