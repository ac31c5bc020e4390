"""The REST half: documented endpoints, parameters, errors and request weights (SPEC §8)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from aiohttp import web

from dolphin.exchange.sim.faults import FaultPlan, Kind
from dolphin.exchange.sim.feed import FUNDING_MS, Feed, Line
from dolphin.exchange.sim.symbols import fixed

DEPTH_LIMITS = {5: 2, 10: 2, 20: 2, 50: 2, 100: 5, 500: 10, 1000: 20}
"""Levels that may be asked for, and the request's weight."""
_KLINES_MOST, _FUNDING_MOST = 1500, 1000


class RestLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Weight per minute of real time; requests sent after a 429 within the same minute until 418; length of a ban."""

    weight_per_minute: int = 2400
    patience: int = 10
    ban_s: float = 120.0


class Weights:
    """Counts request weights as the venue does: by the minute, 429 beyond the limit, 418 for who goes on regardless.

    `clock` gives real seconds; handed in, so that a test need not wait for a minute.
    """

    def __init__(self, limits: RestLimits, clock: Callable[[], float]) -> None:
        self.limits, self._clock = limits, clock
        self.used = 0
        self._minute = -1
        self._ignored = 0
        self._banned_until = -math.inf

    def charge(self, weight: int) -> tuple[int, int]:
        """Count a request: its status (200, 429 or 418) and, unless 200, the seconds after which to come back."""
        now = self._clock()
        minute = int(now // 60)
        if minute != self._minute:
            self._minute, self.used, self._ignored = minute, 0, 0
        if now < self._banned_until:
            return 418, math.ceil(self._banned_until - now)
        self.used += weight
        if self.used <= self.limits.weight_per_minute:
            return 200, 0
        self._ignored += 1
        if self._ignored > self.limits.patience:
            self._banned_until = now + self.limits.ban_s
            return 418, math.ceil(self.limits.ban_s)
        return 429, math.ceil((minute + 1) * 60 - now)


class _RefusedError(Exception):
    """An error as the venue words it."""

    def __init__(self, code: int, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


class Rest:
    """Answers `/fapi/v1/…` from the feed's lines."""

    def __init__(self, feed: Feed, plan: FaultPlan, weights: Weights) -> None:
        self._feed, self._plan, self._weights = feed, plan, weights
        self.counts: dict[str, int] = {}
        self._routes: Mapping[str, tuple[Callable[[Mapping[str, str]], int], Callable[[Mapping[str, str]], Any]]] = {
            "/fapi/v1/ping": (lambda _q: 1, lambda _q: {}),
            "/fapi/v1/time": (lambda _q: 1, lambda _q: {"serverTime": feed.stamp}),
            "/fapi/v1/exchangeInfo": (lambda _q: 1, self._exchange_info),
            "/fapi/v1/depth": (_depth_weight, self._depth),
            "/fapi/v1/klines": (_klines_weight, self._klines),
            "/fapi/v1/premiumIndex": (lambda q: 1 if "symbol" in q else 10, self._premium_index),
            "/fapi/v1/fundingRate": (lambda _q: 1, self._funding_rate),
        }

    @property
    def used(self) -> int:
        """Weight used in the present minute."""
        return self._weights.used

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """One request: faults first, then its weight, then the endpoint."""
        path, query = request.path, request.query
        self.counts[path] = self.counts.get(path, 0) + 1
        for fault in self._plan.strikes(path, self._feed.now_ms):
            match fault.kind:
                case Kind.HTTP_429 | Kind.HTTP_418:
                    return self._too_many(429 if fault.kind is Kind.HTTP_429 else 418, math.ceil(fault.amount))
                case Kind.HTTP_5XX:
                    return web.Response(status=round(fault.amount), text="<html>upstream is not available</html>")
        route = self._routes.get(path)
        if route is None or request.method != "GET":
            return self._refused(_RefusedError(-5000, f"Path {path}, Method {request.method} is invalid", 404))
        try:
            status, retry_s = self._weights.charge(route[0](query))
            if status != 200:
                return self._too_many(status, retry_s)
            body = msgspec.json.encode(route[1](query))
        except _RefusedError as refusal:
            return self._refused(refusal)
        return web.Response(body=body, content_type="application/json", headers=self._used())

    def _refused(self, refusal: _RefusedError) -> web.Response:
        said = {"code": refusal.code, "msg": str(refusal)}
        return web.json_response(said, status=refusal.status, headers=self._used())

    def _used(self) -> dict[str, str]:
        return {"X-MBX-USED-WEIGHT-1M": str(self._weights.used)}

    def _too_many(self, status: int, retry_s: int) -> web.Response:
        limit = self._weights.limits.weight_per_minute
        said = f"Too many requests; current limit is {limit} request weight per 1 MINUTE."
        if status == 418:
            said = f"Way too many requests; IP banned until {self._feed.stamp + retry_s * 1000}."
        headers = {"Retry-After": str(retry_s), **self._used()}
        return web.json_response({"code": -1003, "msg": said}, status=status, headers=headers)

    # --- endpoints ----------------------------------------------------------------------------------------------------

    def _line(self, query: Mapping[str, str]) -> Line:
        symbol = query.get("symbol", "")
        if not symbol:
            raise _RefusedError(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.")
        line = self._feed.lines.get(symbol)
        if line is None:
            raise _RefusedError(-1121, "Invalid symbol.")
        return line

    def _exchange_info(self, _query: Mapping[str, str]) -> dict[str, Any]:
        def limit(kind: str, interval: str, count: int, most: int) -> dict[str, Any]:
            return {"rateLimitType": kind, "interval": interval, "intervalNum": count, "limit": most}

        return {
            "timezone": "UTC",
            "serverTime": self._feed.stamp,
            "futuresType": "U_MARGINED",
            "rateLimits": [
                limit("REQUEST_WEIGHT", "MINUTE", 1, self._weights.limits.weight_per_minute),
                limit("ORDERS", "MINUTE", 1, 1200),
                limit("ORDERS", "SECOND", 10, 300),
            ],
            "exchangeFilters": [],
            "assets": [{"asset": "USDT", "marginAvailable": True, "autoAssetExchange": "-10000"}],
            "symbols": [line.contract.info() for line in self._feed.lines.values()],
        }

    def _depth(self, query: Mapping[str, str]) -> dict[str, Any]:
        line = self._line(query)
        c, book = line.contract, line.book
        bids, asks = book.top(_depth_limit(query))
        return {
            "lastUpdateId": book.last_id,
            "E": self._feed.stamp,
            "T": book.changed_ms + self._feed.skew_ms,
            "bids": [(c.price_text(p), c.qty_text(q)) for p, q in bids],
            "asks": [(c.price_text(p), c.qty_text(q)) for p, q in asks],
        }

    def _klines(self, query: Mapping[str, str]) -> list[Any]:
        line = self._line(query)
        if query.get("interval") != "1m":
            raise _RefusedError(-1120, "Invalid interval.")
        count = _klines_limit(query)
        low, high = _range(query)
        return line.klines.between(low, high, count, newest="startTime" not in query)

    def _premium_index(self, query: Mapping[str, str]) -> Any:
        lines = [self._line(query)] if "symbol" in query else list(self._feed.lines.values())
        found = []
        for line in lines:
            mark, index, rate, slot = line.marks(self._feed.now_ms)
            found.append(
                {
                    "symbol": line.contract.symbol,
                    "markPrice": mark,
                    "indexPrice": index,
                    "estimatedSettlePrice": mark,
                    "lastFundingRate": rate,
                    "interestRate": "0.00010000",
                    "nextFundingTime": slot,
                    "time": self._feed.stamp,
                }
            )
        return found[0] if "symbol" in query else found

    def _funding_rate(self, query: Mapping[str, str]) -> list[Any]:
        lines = [self._line(query)] if "symbol" in query else list(self._feed.lines.values())
        count = _whole(query, "limit", 100)
        if not 1 <= count <= _FUNDING_MOST:
            raise _RefusedError(-1130, "Data sent for parameter 'limit' is not valid.")
        low, high = _range(query)
        last = min(high, self._feed.now_ms) // FUNDING_MS
        first = max(-(-low // FUNDING_MS), last - count + 1) if "startTime" not in query else -(-low // FUNDING_MS)
        slots = range(int(first), int(last) + 1)[:count]
        return [
            {
                "symbol": line.contract.symbol,
                "fundingTime": slot * FUNDING_MS,
                "fundingRate": fixed(line.funding_rate(slot * FUNDING_MS), 8),
            }
            for slot in slots
            for line in lines
        ]


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) < 17):
        raise _RefusedError(-1102, f"Mandatory parameter '{name}' was not sent, was empty/null, or malformed.")
    return int(text)


def _range(query: Mapping[str, str]) -> tuple[int, int]:
    low, high = _whole(query, "startTime", 0), _whole(query, "endTime", 10**15)
    if low > high:
        raise _RefusedError(-1023, "Start time is greater than end time.")
    return low, high


def _depth_limit(query: Mapping[str, str]) -> int:
    limit = _whole(query, "limit", 500)
    if limit not in DEPTH_LIMITS:
        raise _RefusedError(-4021, f"'{limit}' is not valid depth limit.")
    return limit


def _depth_weight(query: Mapping[str, str]) -> int:
    return DEPTH_LIMITS[_depth_limit(query)]


def _klines_limit(query: Mapping[str, str]) -> int:
    limit = _whole(query, "limit", 500)
    if not 1 <= limit <= _KLINES_MOST:
        raise _RefusedError(-1130, "Data sent for parameter 'limit' is not valid.")
    return limit


def _klines_weight(query: Mapping[str, str]) -> int:
    limit = _klines_limit(query)
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10
