"""REST klines for the days that the public archive does not hold yet: paged, checked, kept per day (SPEC §1)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from datetime import date
from typing import Any

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns, ns_to_date
from dolphin.core.errors import ExchangeError
from dolphin.market.download.http import Client
from dolphin.market.download.plan import MARKETS, DownloadSpec

NS_PER_MS = 1_000_000

PAGE = 1000
"""Klines per request: the spot limit, and on `um` the most klines per unit of request weight."""

SETTLE_S = 15
"""A kline counts as closed this long after its end, so that a clock that runs ahead takes no unfinished one."""

_INVALID_SYMBOL = -1121

Row = list[Any]


async def klines(
    client: Client, spec: DownloadSpec, symbol: str, first: date, last: date, now_ns: int
) -> AsyncIterator[tuple[date, list[Row]]]:
    """Closed klines that opened on `first` … `last`, day by day, ascending; days without any are left out.

    A row is as the exchange sends it: open time in ms, open, high, low, close, volume, close time, … Raises
    ExchangeError when the exchange refuses or answers with something else than klines.
    """
    bar_ms = spec.bar_seconds * 1000
    start = date_start_ns(first) // NS_PER_MS
    closed_ms = (now_ns - SETTLE_S * NS_PER_S) // NS_PER_MS
    end = min((date_start_ns(last) + NS_PER_DAY) // NS_PER_MS, closed_ms) - bar_ms
    pending: list[Row] = []
    while start <= end:
        page = await _page(client, spec, symbol, start, end)
        if not page:
            break
        pending.extend(page)
        start = int(page[-1][0]) + bar_ms
        open_day = ns_to_date(start * NS_PER_MS)
        while pending and (day := _day(pending[0])) < open_day:
            cut = next((k for k, row in enumerate(pending) if _day(row) != day), len(pending))
            yield day, pending[:cut]
            pending = pending[cut:]
    if pending:
        yield _day(pending[0]), pending


def is_over(day: date, now_ns: int) -> bool:
    """Whether every kline of `day` counts as closed."""
    return now_ns >= date_start_ns(day) + NS_PER_DAY + SETTLE_S * NS_PER_S


def as_csv(rows: list[Row]) -> bytes:
    """The rows in the archive's CSV layout, without a header."""
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in rows).encode()


def _day(row: Row) -> date:
    return ns_to_date(int(row[0]) * NS_PER_MS)


async def _page(client: Client, spec: DownloadSpec, symbol: str, start: int, end: int) -> list[Row]:
    url = spec.rest_base.rstrip("/") + MARKETS[spec.market].rest_path
    params: Mapping[str, str] = {
        "symbol": symbol,
        "interval": spec.interval,
        "startTime": str(start),
        "endTime": str(end),
        "limit": str(PAGE),
    }
    where = f"{url}?{'&'.join(f'{k}={v}' for k, v in params.items())}"
    status, body = await client.body(url, params, absent=frozenset({400}))
    try:
        answer = json.loads(body)
    except ValueError:
        raise ExchangeError(f"{where}: not JSON but {body[:60]!r}; check --rest-url") from None
    if status == 400:
        if isinstance(answer, dict) and answer.get("code") == _INVALID_SYMBOL:
            return []
        raise ExchangeError(f"{where}: HTTP 400 {body[:200].decode('utf-8', 'replace')}; check --rest-url")
    _check_page(answer, where, start, end, spec.bar_seconds * 1000)
    rows: list[Row] = answer
    return rows


def _check_page(answer: object, where: str, start: int, end: int, bar_ms: int) -> None:
    """Refuse an answer that is not an ascending list of klines on the interval's grid within what was asked."""
    if not isinstance(answer, list):
        raise ExchangeError(f"{where}: expected a list of klines, met {str(answer)[:80]!r}; check --rest-url")
    before = start - 1
    for k, row in enumerate(answer):
        if not (isinstance(row, list) and len(row) >= 7 and isinstance(row[0], int)):
            raise ExchangeError(f"{where}: row {k} is not a kline: {str(row)[:80]!r}; check --rest-url")
        if not before < row[0] <= end or row[0] % bar_ms:
            raise ExchangeError(
                f"{where}: row {k} opens at {row[0]} ms, expected an ascending multiple of {bar_ms} "
                f"between {start} and {end}; check --rest-url"
            )
        before = row[0]
