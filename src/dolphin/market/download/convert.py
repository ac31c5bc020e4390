"""From downloaded klines to days of a price archive (SPEC §1.2).

A bar's stamp is the instant it became known: open time + length. So the kline that opens at 23:59 is the 00:00 bar
of the next day, the first day of a download begins one bar after midnight, and the last kline of the last day,
whose stamp lies outside the range, is left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns
from dolphin.core.errors import DataError, ExchangeError
from dolphin.market.download.fetch import Fetched
from dolphin.market.download.plan import DownloadSpec, days_between, months
from dolphin.market.klines_csv import read_kline_file
from dolphin.market.tables import PriceDay

NS_PER_MS = 1_000_000

Series = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Stamps in nanoseconds, strictly ascending, and closes, of one symbol."""

_NOTHING: Series = (np.empty(0, np.int64), np.empty(0, np.float64))


def price_days(spec: DownloadSpec, fetched: Fetched) -> Iterator[PriceDay]:
    """The days of the range that have any bar, ascending; memory is that of one month.

    Columns are the symbols that have any file, in the order asked for. A bar that one symbol lacks is NaN there; one
    that all lack is an absent row. Raises ExchangeError for a file whose checksum holds but whose content does not.
    """
    symbols = tuple(s for s in spec.symbols if s in fetched.files)
    if not symbols:
        return
    files = {s: sorted(fetched.files[s]) for s in symbols}
    carried = dict.fromkeys(symbols, _NOTHING)
    for first, last in months(spec.first, spec.last):
        held: dict[str, Series] = {}
        for symbol in symbols:
            paths = [entry for entry in files[symbol] if first <= entry[0] <= last]
            held[symbol] = _joined([carried[symbol], *(_series(spec, *entry) for entry in paths)])
        for day in days_between(first, last):
            made = _price_day(day, symbols, held)
            if made.rows:
                yield made
        end_ns = date_start_ns(last + timedelta(days=1))
        carried = {s: _cut(held[s], end_ns, end_ns + NS_PER_DAY) for s in symbols}


def _series(spec: DownloadSpec, first: date, last: date, path: Path) -> Series:
    """The klines of one file as stamps and closes, checked against the days and the interval that it stands for."""
    try:
        open_ms, close = read_kline_file(path)
    except DataError as error:
        raise ExchangeError(f"{error}; the host published it so: leave these days out, or try again later") from None
    bar_ms = spec.bar_seconds * 1000
    low, high = (ns // NS_PER_MS for ns in (date_start_ns(first), date_start_ns(last) + NS_PER_DAY))
    bad = np.flatnonzero((open_ms < low) | (open_ms >= high) | (open_ms % bar_ms != 0))
    if len(bad):
        raise ExchangeError(
            f"{path}: row {bad[0] + 1} opens at {open_ms[bad[0]]} ms, expected a multiple of {bar_ms} from {low} to "
            f"{high - bar_ms}; the host published it so: leave these days out, or try again later"
        )
    close = np.where(np.isfinite(close) & (close > 0.0), close, np.nan)
    return open_ms * NS_PER_MS + spec.bar_seconds * NS_PER_S, close


def _joined(parts: list[Series]) -> Series:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


def _cut(series: Series, low_ns: int, high_ns: int) -> Series:
    a, b = np.searchsorted(series[0], (low_ns, high_ns))
    return series[0][a:b], series[1][a:b]


def _price_day(day: date, symbols: tuple[str, ...], held: dict[str, Series]) -> PriceDay:
    """One day on the union of its symbols' stamps."""
    start = date_start_ns(day)
    cuts = [_cut(held[s], start, start + NS_PER_DAY) for s in symbols]
    ts_ns = np.unique(np.concatenate([stamps for stamps, _ in cuts]))
    closes = np.full((len(ts_ns), len(symbols)), np.nan)
    for k, (stamps, close) in enumerate(cuts):
        closes[np.searchsorted(ts_ns, stamps), k] = close
    traded = ~np.isnan(closes).all(axis=1)
    return PriceDay(day=day, ts_ns=ts_ns[traded], assets=symbols, closes=np.ascontiguousarray(closes[traded]))
