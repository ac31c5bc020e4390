"""What a download must fetch: the request, checked, and its cut into files of the public archive (SPEC §1)."""

from __future__ import annotations

import calendar
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from dolphin.core.errors import ConfigError

INTERVALS: Mapping[str, int] = {
    "1s": 1,
    "1m": 60,
    "3m": 180,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "2h": 7200,
    "4h": 14_400,
    "6h": 21_600,
    "8h": 28_800,
    "12h": 43_200,
}
"""Kline intervals of which several make a UTC day, with their length in seconds."""


@dataclass(frozen=True)
class Market:
    """Where one of the exchange's markets publishes its klines."""

    archive_folder: str
    rest_url: str
    rest_path: str
    earliest: date


MARKETS: Mapping[str, Market] = {
    "um": Market("data/futures/um", "https://fapi.binance.com", "/fapi/v1/klines", date(2019, 9, 1)),
    "spot": Market("data/spot", "https://api.binance.com", "/api/v3/klines", date(2017, 7, 1)),
}
"""`um` is USDT-margined futures; `earliest` is before the market's first kline."""

ARCHIVE_URL = "https://data.binance.vision"

_SYMBOL = re.compile(r"[A-Z0-9]{2,30}(_[A-Z0-9]{1,10})?")


@dataclass(frozen=True)
class DownloadSpec:
    """A download, checked on construction.

    `first` and `last` are UTC days, both included; `rate` is requests per second for each host, `concurrency`
    the number of transfers under way at once. Raises ConfigError for anything that cannot be downloaded.
    """

    symbols: tuple[str, ...]
    first: date
    last: date
    out: Path
    interval: str = "1m"
    market: str = "um"
    archive_url: str = ARCHIVE_URL
    rest_url: str = ""
    concurrency: int = 4
    rate: float = 6.0
    keep_raw: bool = False
    force: bool = False

    def __post_init__(self) -> None:
        """Refuse a request that the exchange could not answer, before anything is written or sent."""
        if self.market not in MARKETS:
            raise ConfigError(f"--market {self.market}: expected one of {', '.join(MARKETS)}")
        if self.interval not in INTERVALS:
            raise ConfigError(f"--interval {self.interval}: expected one of {', '.join(INTERVALS)}")
        if self.interval == "1s" and self.market != "spot":
            raise ConfigError("--interval 1s: the exchange has it for --market spot only; use 1m or longer")
        _check_symbols(self.symbols)
        if self.first > self.last:
            raise ConfigError(f"--from {self.first}: after --to {self.last}; give the earlier day first")
        earliest = MARKETS[self.market].earliest
        if self.last < earliest:
            raise ConfigError(f"--to {self.last}: market {self.market} has no klines before {earliest}")
        if not 1 <= self.concurrency <= 32:
            raise ConfigError(f"--concurrency {self.concurrency}: expected a whole number between 1 and 32")
        if not 0.01 <= self.rate <= 100.0:
            raise ConfigError(f"--rate {self.rate:g}: expected requests per second between 0.01 and 100")
        for option, url in (("--archive-url", self.archive_url), ("--rest-url", self.rest_base)):
            if not _is_address(url):
                raise ConfigError(f"{option} {url!r}: expected an address that begins with http:// or https://")

    @property
    def bar_seconds(self) -> int:
        """Length of a kline."""
        return INTERVALS[self.interval]

    @property
    def rest_base(self) -> str:
        """The REST host: the one given, else the market's own."""
        return self.rest_url or MARKETS[self.market].rest_url

    @property
    def days(self) -> int:
        """Number of days asked for."""
        return (self.last - self.first).days + 1

    @property
    def raw(self) -> Path:
        """Folder of the files as fetched; one per market and interval, so that runs of several do not mix."""
        return self.out / "raw" / self.market / self.interval


@dataclass(frozen=True)
class Piece:
    """One file of the public archive: the klines of `symbol` that opened on `first` … `last`, both included."""

    symbol: str
    first: date
    last: date
    monthly: bool

    @property
    def days(self) -> int:
        """Number of days that the file covers."""
        return (self.last - self.first).days + 1

    def file_name(self, interval: str) -> str:
        """`SYMBOL-1m-2024-01.zip` or `SYMBOL-1m-2024-01-02.zip`."""
        stamp = f"{self.first:%Y-%m}" if self.monthly else f"{self.first:%Y-%m-%d}"
        return f"{self.symbol}-{interval}-{stamp}.zip"

    def url(self, spec: DownloadSpec) -> str:
        """Where the archive keeps the file; its checksum lies beside it under the same name plus `.CHECKSUM`."""
        folder = f"{MARKETS[spec.market].archive_folder}/{'monthly' if self.monthly else 'daily'}/klines"
        name = self.file_name(spec.interval)
        return f"{spec.archive_url.rstrip('/')}/{folder}/{self.symbol}/{spec.interval}/{name}"

    def path(self, spec: DownloadSpec) -> Path:
        """Where the verified file is kept on disk."""
        return spec.raw / self.symbol / self.file_name(spec.interval)

    def daily(self) -> list[Piece]:
        """The same days as one file each."""
        return [Piece(self.symbol, day, day, monthly=False) for day in days_between(self.first, self.last)]


def rest_path(spec: DownloadSpec, symbol: str, day: date) -> Path:
    """Where the REST klines of one complete day are kept on disk."""
    return spec.raw / symbol / f"{symbol}-{spec.interval}-{day:%Y-%m-%d}.rest.csv"


def days_between(first: date, last: date) -> Iterator[date]:
    """Each day from `first` to `last`, both included."""
    for k in range((last - first).days + 1):
        yield first + timedelta(days=k)


def stretches(days: Sequence[date]) -> Iterator[tuple[date, date]]:
    """Ascending days as (first, last) of each stretch without a hole."""
    start = 0
    for k in range(1, len(days) + 1):
        if k == len(days) or days[k] - days[k - 1] != timedelta(days=1):
            yield days[start], days[k - 1]
            start = k


def month_end(day: date) -> date:
    """The last day of the month that holds `day`."""
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def months(first: date, last: date) -> Iterator[tuple[date, date]]:
    """The range cut at month ends, as (first day, last day) within each month."""
    while first <= last:
        end = min(month_end(first), last)
        yield first, end
        first = end + timedelta(days=1)


def plan(spec: DownloadSpec) -> list[Piece]:
    """The fewest archive files that cover the range: monthly where a whole month lies in it, else daily.

    Symbol by symbol in the order given, days ascending.
    """
    pieces: list[Piece] = []
    for symbol in spec.symbols:
        for first, end in months(spec.first, spec.last):
            whole = Piece(symbol, first, end, monthly=True)
            if first.day == 1 and end == month_end(first):
                pieces.append(whole)
            else:
                pieces.extend(whole.daily())
    return pieces


def _is_address(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in url
    except ValueError:  # an unclosed bracket, a port out of range
        return False


def _check_symbols(symbols: tuple[str, ...]) -> None:
    if not symbols:
        raise ConfigError("--symbols: none given; name at least one, such as BTCUSDT,ETHUSDT")
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol):
            raise ConfigError(f"--symbols {symbol!r}: expected capital letters and digits, such as BTCUSDT")
        if symbols.count(symbol) > 1:
            raise ConfigError(f"--symbols {symbol}: given {symbols.count(symbol)} times; name each once")
