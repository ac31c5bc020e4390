"""One polite HTTP client: rate limited, retrying, resuming, and clear about what it could not get."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, TypeVar

import aiohttp

from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ExchangeError
from dolphin.market.download.pace import Timing, TokenBucket, backoff_s

T = TypeVar("T")

ATTEMPTS = 6
"""Tries per request before giving up, waits on demand (429) counted apart."""
PAUSES = 10
LONGEST_PAUSE_S = 900.0
MAX_BODY = 64 << 20
"""The largest answer that is read into memory (checksum files, REST pages)."""

_TRANSIENT = frozenset({408, 425, 500, 502, 503, 504, 520, 521, 522, 523, 524})
_CHUNK = 1 << 16


@dataclass
class Tally:
    """What the transfers did, for the report."""

    requests: int = 0
    retries: int = 0
    pauses: int = 0
    bytes: int = 0


class _AgainError(Exception):
    """The request failed in a way that may pass."""


class _PauseError(Exception):
    """The host asks for `seconds` of silence, or for silence of a length of our choice (None)."""

    def __init__(self, status: int, seconds: float | None) -> None:
        super().__init__(f"HTTP {status}")
        self.seconds = seconds


@dataclass(frozen=True)
class _Partial:
    """A file that is still arriving. Its few small writes go to a local disk, so they are not handed to a thread."""

    path: Path

    def size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)

    def open(self, *, continued: bool) -> BinaryIO:
        return self.path.open("ab" if continued else "wb")


class Client:
    """GET requests to one host, through one token bucket."""

    def __init__(self, session: aiohttp.ClientSession, rate: float, timing: Timing, option: str) -> None:
        """`option` is the command-line option that names the host, for error messages."""
        self._session = session
        self._bucket = TokenBucket(rate, timing)
        self._timing = timing
        self._option = option
        self.tally = Tally()

    async def body(
        self, url: str, params: Mapping[str, str] | None = None, *, absent: frozenset[int]
    ) -> tuple[int, bytes]:
        """Status and whole body of `url`; a status in `absent` is an answer, not a failure.

        Raises ExchangeError when the host cannot be made to answer.
        """

        async def once() -> tuple[int, bytes]:
            async with self._open(url, params, {}, absent) as response:
                data = bytearray()
                async for chunk in response.content.iter_chunked(_CHUNK):
                    data += chunk
                    if len(data) > MAX_BODY:
                        raise ExchangeError(f"{url}: the answer passes {MAX_BODY >> 20} MiB; check {self._option}")
                self.tally.bytes += len(data)
                return response.status, bytes(data)

        return await self._retrying(url, once)

    async def file(self, url: str, part: Path) -> bool:
        """Fetch `url` into `part`, continuing what is there; False when the host has no such file (404).

        `part` may be left half full by a failure: the next call continues it with a Range request, and starts
        again where the host does not honour it. What arrived is only as good as the caller's checksum of it.
        """

        partial = _Partial(part)

        async def once() -> bool:
            have = partial.size()
            headers = {"Range": f"bytes={have}-"} if have else {}
            async with self._open(url, None, headers, frozenset({404, 416})) as response:
                if response.status == 404:
                    return False
                if response.status == 416:
                    # Nothing lies beyond what we have: either it is whole, or it is longer than the host's file.
                    if _total_of(response.headers.get("Content-Range", "")) == have:
                        return True
                    partial.discard()
                    raise _AgainError("the partial file is not a beginning of the host's (HTTP 416)")
                continued = response.status == 206 and _start_of(response.headers.get("Content-Range", "")) == have
                if response.status == 206 and not continued:
                    partial.discard()
                    raise _AgainError("the host continued at another byte than asked")
                with partial.open(continued=continued) as target:
                    async for chunk in response.content.iter_chunked(_CHUNK):
                        target.write(chunk)
                        target.flush()  # a kill must not cost what has arrived
                        self.tally.bytes += len(chunk)
                return True

        return await self._retrying(url, once)

    @contextlib.asynccontextmanager
    async def _open(
        self, url: str, params: Mapping[str, str] | None, headers: Mapping[str, str], absent: frozenset[int]
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """One request through the bucket; raises _AgainError, _PauseError or ExchangeError by status."""
        await self._bucket.take()
        self.tally.requests += 1
        # Compression would make byte ranges and lengths speak of other bytes than those on disk.
        plain = {"Accept-Encoding": "identity", **headers}
        async with self._session.get(url, params=params, headers=plain) as response:
            status = response.status
            if status in (429, 418):
                raise _PauseError(status, self._retry_after(response.headers.get("Retry-After", "")))
            if status in _TRANSIENT:
                raise _AgainError(f"HTTP {status}")
            if status not in (200, 206) and status not in absent:
                text = (await response.content.read(300)).decode("utf-8", "replace").strip()
                said = f" ({text})" if text else ""
                raise ExchangeError(f"{url}: HTTP {status}{said}; {self._advice(status)}")
            yield response

    async def _retrying(self, url: str, once: Callable[[], Awaitable[T]]) -> T:
        failures, pauses = 0, 0
        while True:
            try:
                return await once()
            except _PauseError as pause:
                pauses += 1
                self._obey(url, pause, pauses)
            except (_AgainError, aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as error:
                failures += 1
                if failures >= ATTEMPTS:
                    why = str(error) or type(error).__name__
                    raise ExchangeError(
                        f"{url}: {why}, {failures} times in a row; check the network or {self._option}, "
                        "then run the same command again: what was fetched is kept"
                    ) from error
                self.tally.retries += 1
                await self._timing.sleep(backoff_s(failures, self._timing.chance))
            except (aiohttp.ClientError, ValueError) as error:
                raise ExchangeError(f"{url}: {str(error) or type(error).__name__}; check {self._option}") from error

    def _obey(self, url: str, pause: _PauseError, pauses: int) -> None:
        """Close the bucket for as long as the host asks, unless it asks for too much or too often."""
        seconds = pause.seconds if pause.seconds is not None else backoff_s(pauses, self._timing.chance, 10.0, 300.0)
        if seconds > LONGEST_PAUSE_S or pauses > PAUSES:
            raise ExchangeError(
                f"{url}: {pause}, the host asks for a pause of {seconds:.0f} s (pause number {pauses}); "
                "run the same command again after it, with a lower --rate: what was fetched is kept"
            )
        self.tally.pauses += 1
        self._bucket.pause(seconds)

    def _retry_after(self, text: str) -> float | None:
        """Seconds asked for by a Retry-After header, written as a number or as a date; None when absent or odd."""
        if text.strip().isdigit():
            return float(text)
        try:
            when = parsedate_to_datetime(text)
        except ValueError:
            return None
        now = datetime.fromtimestamp(self._timing.wall() / NS_PER_S, UTC)
        return max(0.0, (when.replace(tzinfo=when.tzinfo or UTC) - now).total_seconds())

    def _advice(self, status: int) -> str:
        if status in (403, 451):
            return f"the host refuses this place or client; use a mirror with {self._option}, or end at an older day"
        return f"check {self._option}"


def _start_of(content_range: str) -> int:
    """First byte of `bytes 100-199/200`; -1 when it cannot be read."""
    first = content_range.removeprefix("bytes ").split("-", 1)[0]
    return int(first) if first.isdigit() else -1


def _total_of(content_range: str) -> int:
    """Whole length in `bytes 100-199/200` or `bytes */200`; -1 when it cannot be read."""
    total = content_range.rpartition("/")[2]
    return int(total) if total.isdigit() else -1
