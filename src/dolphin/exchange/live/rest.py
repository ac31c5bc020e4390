"""Public market data over REST: within the weight budget, stubborn within bounds, and polite when told to wait (SPEC
§8).

No key is known here and nothing is signed.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any, NamedTuple

import aiohttp
import msgspec

from dolphin.core.clock import Clock, system_clock_ns
from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.exchange.depth import MAX_BYTES
from dolphin.exchange.live.backoff import full_jitter
from dolphin.exchange.live.budget import WeightBudget
from dolphin.exchange.live.endpoints import Endpoints

DEPTH_WEIGHTS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
"""Levels a side that may be asked for, and the request's weight."""

INFO_BYTES = 32 << 20
"""exchangeInfo of some 500 contracts has 1.5 MB; a longer answer than this is refused unread."""

_TIMEOUT = aiohttp.ClientTimeout(total=15.0, sock_connect=5.0, sock_read=10.0)
_LONGEST_PAUSE_S = 3 * 86_400.0
"""The longest ban of the venue's documentation."""
_PAUSES = {429: 60.0, 418: 120.0}
"""Seconds to wait when such an answer does not say for how long."""


class Answer(NamedTuple):
    """A body, and when its request was sent and it was here: UTC nanoseconds by our clock, and seconds between."""

    body: bytes
    sent_ns: int
    took_s: float


class Kline(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A candle; prices and volumes are decimal text."""

    open_ms: int
    open: str
    high: str
    low: str
    close: str
    volume: str
    close_ms: int
    quote_volume: str


class _Time(msgspec.Struct, frozen=True):
    server_ms: int = msgspec.field(name="serverTime")


class _Complaint(msgspec.Struct, frozen=True):
    code: int
    msg: str


class _RetryError(Exception):
    """A try that failed in a way that may pass."""


class RestClient:
    """GET requests of one venue over a session of the caller's.

    A request is tried `tries` times; between two of them lies a random wait of up to `backoff_s`·2^k seconds. 429 and
    418 hold back every request for as long as the venue says.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        session: aiohttp.ClientSession,
        budget: WeightBudget,
        *,
        tries: int = 5,
        backoff_s: float = 0.5,
        clock: Clock = system_clock_ns,
    ) -> None:
        self.endpoints, self.budget = endpoints, budget
        self.counts: Counter[str] = Counter()
        """Requests, and what went wrong with them."""
        self._session, self._clock = session, clock
        self._tries, self._backoff_s = tries, backoff_s

    async def exchange_info(self) -> bytes:
        """The body of exchangeInfo."""
        return (await self._get("/fapi/v1/exchangeInfo", 1, INFO_BYTES, urgent=True)).body

    async def server_time(self) -> tuple[int, Answer]:
        """The venue's clock, milliseconds, and the answer that said so."""
        answer = await self._get("/fapi/v1/time", 1, 4096, urgent=True)
        return _decoded(answer.body, _Time, "/fapi/v1/time").server_ms, answer

    async def depth(self, symbol: str, limit: int = 1000) -> bytes:
        """The body of a depth snapshot of `limit` levels a side."""
        weight = DEPTH_WEIGHTS.get(limit)
        if weight is None:
            raise ConfigError(f"depth limit {limit}: expected one of {', '.join(map(str, DEPTH_WEIGHTS))}")
        return (await self._get("/fapi/v1/depth", weight, MAX_BYTES, symbol=symbol, limit=limit)).body

    async def klines(
        self, symbol: str, interval: str = "1m", *, limit: int = 500, start_ms: int | None = None
    ) -> list[Kline]:
        """Up to `limit` candles, oldest first: from `start_ms` on, or the newest."""
        if not 1 <= limit <= 1500:
            raise ConfigError(f"klines limit {limit}: expected 1 to 1500")
        weight = 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10
        query: dict[str, Any] = {} if start_ms is None else {"startTime": start_ms}
        answer = await self._get(
            "/fapi/v1/klines", weight, MAX_BYTES, symbol=symbol, interval=interval, limit=limit, **query
        )
        return _decoded(answer.body, list[Kline], "/fapi/v1/klines")

    async def _get(self, path: str, weight: int, most_bytes: int, *, urgent: bool = False, **query: Any) -> Answer:
        """One answer with status 200. Raises ExchangeError when the venue refuses, or nothing has helped."""
        problem = ""
        for tries in range(self._tries):
            if tries:
                self.counts["retried"] += 1
                await asyncio.sleep(full_jitter(tries - 1, self._backoff_s, 15.0))
            await self.budget.take(weight, urgent=urgent)
            told: int | None = None
            try:
                self.counts["requests"] += 1
                sent_ns, begun = self._clock(), time.monotonic()
                async with self._session.get(
                    self.endpoints.url(path),
                    params={name: str(value) for name, value in query.items()},
                    timeout=_TIMEOUT,
                    allow_redirects=False,
                ) as answer:
                    told = _whole(answer.headers.get("X-MBX-USED-WEIGHT-1M"))
                    body = await _read(answer, most_bytes)
                    took_s = time.monotonic() - begun
                    self._judge(answer, body)
                    return Answer(body, sent_ns, took_s)
            except _RetryError as error:
                problem = str(error)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                self.counts["network"] += 1
                problem = f"{type(error).__name__} {error}".strip()
            finally:
                self.budget.give(weight, told)
        raise ExchangeError(
            f"GET {path} at {self.endpoints.rest}: {problem}; tried {self._tries} times: check that the venue is up "
            "and can be reached"
        )

    def _judge(self, answer: aiohttp.ClientResponse, body: bytes) -> None:
        """Return for a good answer. Raises _RetryError for one that may become good, ExchangeError for a refusal."""
        status = answer.status
        if status == 200:
            return
        if status in _PAUSES:
            self.counts[f"http_{status}"] += 1
            pause = _whole(answer.headers.get("Retry-After"))
            self.budget.pause(min(_PAUSES[status] if pause is None else float(pause), _LONGEST_PAUSE_S))
            raise _RetryError(f"the venue answered {status}, {'banned' if status == 418 else 'too many requests'}")
        if status >= 500:
            self.counts["http_5xx"] += 1
            raise _RetryError(f"the venue answered {status}")
        self.counts["refused"] += 1
        raise ExchangeError(f"GET {answer.url.path} at {self.endpoints.rest}: {status}, {_complaint(body)}")


async def _read(answer: aiohttp.ClientResponse, most: int) -> bytes:
    """The body, refused once it is longer than `most` bytes."""
    parts: list[bytes] = []
    size = 0
    async for part in answer.content.iter_any():
        size += len(part)
        if size > most:
            raise ExchangeError(f"GET {answer.url.path}: the answer goes on after {most} bytes; expected fewer")
        parts.append(part)
    return b"".join(parts)


def _decoded[T](body: bytes, kind: type[T], path: str) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ExchangeError(f"GET {path}: not what the venue's documentation says ({error}): {body[:60]!r}") from None


def _complaint(body: bytes) -> str:
    try:
        said = msgspec.json.decode(body, type=_Complaint)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        return f"{body[:60]!r}"
    return f"code {said.code}, {said.msg[:120]!a}"


def _whole(text: str | None) -> int | None:
    """A header's whole number; None for anything else."""
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 10 else None
