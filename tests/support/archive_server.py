"""A real HTTP server on loopback that publishes klines as the exchange does: zips, checksums, byte ranges, REST.

It runs in a thread of its own, so that synchronous code (the command line, a subprocess) can talk to it. What it
serves is built from arrays; how it misbehaves is a list of faults, each used up by the requests that it meets.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date

import numpy as np
from aiohttp import web

from dolphin.core.clock import NS_PER_S, date_start_ns, ns_to_date

HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,taker_buy_volume,taker_buy_quote_volume,ignore"
)


@dataclass
class Fault:
    """What happens to the next `times` requests whose path contains `match`.

    A file's path is followed by `#zip` or `#sum` here, so that a fault can tell a zip from its checksum.

    `status` answers with that status and `headers`; `cut` sends that many bytes of the body and closes the
    connection; `lie` flips a byte of the body; `stall` sends `cut` bytes and then nothing until the server ends.
    """

    match: str
    times: int = 1
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    cut: int = -1
    lie: bool = False
    stall: bool = False


@dataclass(frozen=True)
class Seen:
    """One request as the server met it."""

    path: str
    query: str
    start: int
    """First byte asked for; 0 without a Range header."""


class ArchiveServer:
    """Serves `publish`ed klines; remembers every request."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.rest_rows: dict[tuple[str, str], list[list[object]]] = {}
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.stalled = threading.Event()
        self.ranges = True
        self.rest_answer: bytes | None = None
        self.rest_status = 200
        self.delay_s = 0.0
        self.range_slip = 0
        self.active = self.peak = 0
        self.url = ""
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending: asyncio.Event | None = None

    # --- what it serves -------------------------------------------------------------------------------------

    def publish(
        self,
        symbol: str,
        open_s: np.ndarray,
        close: np.ndarray,
        *,
        market: str,
        interval: str,
        micro: bool,
        header: bool,
    ) -> None:
        """Publish klines as daily files and as one monthly file for each month that they touch."""
        bar = int(open_s[1] - open_s[0])
        days: dict[date, list[int]] = {}
        for k, second in enumerate(open_s.tolist()):
            days.setdefault(ns_to_date(second * NS_PER_S), []).append(k)
        unit = 1_000_000 if micro else 1000
        rows = [kline_row(int(s), float(c), bar, unit) for s, c in zip(open_s, close, strict=True)]
        for day, picks in days.items():
            name = f"{symbol}-{interval}-{day}.zip"
            self._put(market, "daily", symbol, interval, name, [rows[k] for k in picks], header)
        for month in sorted({(d.year, d.month) for d in days}):
            picks = [k for d, group in days.items() if (d.year, d.month) == month for k in group]
            name = f"{symbol}-{interval}-{month[0]}-{month[1]:02d}.zip"
            self._put(market, "monthly", symbol, interval, name, [rows[k] for k in picks], header)

    def publish_rest(self, symbol: str, open_s: np.ndarray, close: np.ndarray, *, interval: str) -> None:
        """Make klines available on the REST endpoints, in milliseconds, whatever the archive holds."""
        bar = int(open_s[1] - open_s[0])
        rows: list[list[object]] = []
        for second, price in zip(open_s.tolist(), close.tolist(), strict=True):
            cells = kline_row(second, price, bar, 1000).split(",")
            rows.append([int(cells[0]), *cells[1:6], int(cells[6]), cells[7], int(cells[8]), *cells[9:]])
        self.rest_rows[(symbol, interval)] = rows

    def withdraw(self, text: str) -> None:
        """Take every file whose path contains `text` off the server."""
        gone = [path for path in self.files if text in path]
        assert gone, text
        for path in gone:
            del self.files[path]

    def _put(
        self, market: str, kind: str, symbol: str, interval: str, name: str, rows: list[str], header: bool
    ) -> None:
        base = {"um": "futures/um", "spot": "spot"}[market]
        path = f"/data/{base}/{kind}/klines/{symbol}/{interval}/{name}"
        text = "\n".join([HEADER, *rows] if header else rows) + "\n"
        self.put(path, zip_of(text, name.replace(".zip", ".csv")))

    def put(self, path: str, body: bytes) -> None:
        """Publish `body` under `path`, with its checksum file."""
        self.files[path] = body
        self.files[f"{path}.CHECKSUM"] = f"{hashlib.sha256(body).hexdigest()}  {path.rpartition('/')[2]}\n".encode()

    # --- what was asked -------------------------------------------------------------------------------------

    def count(self, text: str = "") -> int:
        """Number of requests whose path contains `text`."""
        return sum(text in seen.path for seen in self.seen)

    def repeated(self) -> dict[str, int]:
        """Zips that were asked for more than once."""
        counts = Counter(seen.path for seen in self.seen if seen.path.endswith(".zip"))
        return {path: n for path, n in counts.items() if n > 1}

    # --- the server -----------------------------------------------------------------------------------------

    async def _file(self, request: web.Request) -> web.StreamResponse:
        self.active += 1
        self.peak = max(self.peak, self.active)
        try:
            await asyncio.sleep(self.delay_s)
            return await self._answer(request)
        finally:
            self.active -= 1

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        body = self.files.get(request.path)
        start = self._note(request)
        fault = self._fault(request.path + ("#sum" if request.path.endswith(".CHECKSUM") else "#zip"))
        if fault is not None and fault.status:
            return web.Response(status=fault.status, headers=fault.headers, text="fault")
        if body is None:
            return web.Response(status=404, text="NoSuchKey")
        if fault is not None and fault.lie:
            body = bytes([body[0] ^ 1]) + body[1:]
        headers = {"Content-Type": "application/octet-stream"}
        status = 200
        if start and self.ranges:
            if start >= len(body):
                return web.Response(status=416, headers={"Content-Range": f"bytes */{len(body)}"})
            start -= self.range_slip
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            body, status = body[start:], 206
        if fault is None or fault.cut < 0:
            return web.Response(status=status, headers=headers, body=body)
        return await self._cut(request, fault, status, headers, body)

    async def _cut(
        self, request: web.Request, fault: Fault, status: int, headers: dict[str, str], body: bytes
    ) -> web.StreamResponse:
        response = web.StreamResponse(status=status, headers={**headers, "Content-Length": str(len(body))})
        await response.prepare(request)
        await response.write(body[: fault.cut])
        if fault.stall:
            self.stalled.set()
            assert self._ending is not None
            await self._ending.wait()
        assert request.transport is not None
        request.transport.close()
        return response

    async def _klines(self, request: web.Request) -> web.Response:
        self._note(request)
        fault = self._fault(request.path)
        if fault is not None and fault.status:
            return web.Response(status=fault.status, headers=fault.headers, text="fault")
        if self.rest_answer is not None:
            return web.Response(body=self.rest_answer, status=self.rest_status, content_type="application/json")
        query = request.query
        limit = int(query.get("limit", "500"))
        if limit > (1500 if request.path.startswith("/fapi") else 1000):
            return web.json_response(
                {"code": -1130, "msg": "Data sent for parameter 'limit' is not valid."}, status=400
            )
        if not any(symbol == query["symbol"] for symbol, _ in self.rest_rows):
            return web.json_response({"code": -1121, "msg": "Invalid symbol."}, status=400)
        rows = self.rest_rows.get((query["symbol"], query["interval"]), [])
        low, high = int(query["startTime"]), int(query["endTime"])
        picked = [row for row in rows if low <= int(str(row[0])) <= high]
        return web.json_response(picked[:limit])

    def _note(self, request: web.Request) -> int:
        asked = request.headers.get("Range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").partition("-")[0])
        self.seen.append(Seen(request.path, request.query_string, start))
        return start

    def _fault(self, path: str) -> Fault | None:
        for fault in self.faults:
            if fault.match in path and fault.times > 0:
                fault.times -= 1
                return fault
        return None

    async def _serve(self, started: threading.Event) -> None:
        app = web.Application()
        app.router.add_get("/fapi/v1/klines", self._klines)
        app.router.add_get("/api/v3/klines", self._klines)
        app.router.add_get("/{path:.*}", self._file)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._loop, self._ending = asyncio.get_running_loop(), asyncio.Event()
        started.set()
        await self._ending.wait()
        await runner.cleanup()

    @contextmanager
    def running(self) -> Iterator[ArchiveServer]:
        """Serve until the end of the block, on a free port."""
        started = threading.Event()
        thread = threading.Thread(target=lambda: asyncio.run(self._serve(started)), daemon=True)
        thread.start()
        assert started.wait(10.0), "the loopback server did not start"
        try:
            yield self
        finally:
            assert self._loop is not None
            assert self._ending is not None
            self._loop.call_soon_threadsafe(self._ending.set)
            thread.join(10.0)
            assert not thread.is_alive()


def zip_of(text: str, name: str = "klines.csv") -> bytes:
    """A zip of one file, the same bytes for the same text."""
    packed = io.BytesIO()
    info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
    info.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr(info, text)
    return packed.getvalue()


def kline_row(open_s: int, close: float, bar: int, unit: int) -> str:
    """One line of the exchange's kline CSV; `unit` stamps to a second (1000, or 1,000,000 since 2025 on spot)."""
    price = np.format_float_positional(close, trim="-")
    return f"{open_s * unit},{price},{price},{price},{price},12.5,{(open_s + bar) * unit - 1},99.0,7,6.2,49.5,0"


def minutes(first: date, days: int, bar: int = 60) -> np.ndarray:
    """Open times of every bar of `days` days from `first`, int64 seconds."""
    return date_start_ns(first) // NS_PER_S + np.arange(days * 86_400 // bar, dtype=np.int64) * bar
