"""What every bar of a live loop saw and decided, kept so that it can be replayed, bit for bit (SPEC §12, §19)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import date
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import EVENT, TRADE
from dolphin.alpha.rows import day_bars
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import SNAPSHOT
from dolphin.book.providers import ArrayBookProvider
from dolphin.core.clock import NS_PER_DAY, ns_to_date
from dolphin.core.records import Record, records
from dolphin.market.tables import PriceDay
from dolphin.scan.scanner import Scanner
from dolphin.trade.live.loop import LiveBar

_CHUNK = 512


class Difference(NamedTuple):
    """The first bar at which a replay of the tape is not what happened, and the field that shows it."""

    bar: int
    field: str
    live: object
    replayed: object


class _Chunk:
    def __init__(self, n_assets: int) -> None:
        self.ts_ns = np.zeros(_CHUNK, np.int64)
        self.prices = np.zeros((_CHUNK, n_assets))
        self.snapshots = records(SNAPSHOT, _CHUNK * n_assets).reshape(_CHUNK, n_assets)
        self.events = records(EVENT, _CHUNK)


class Tape:
    """The bars of a loop over these N assets, in memory: about 180 bytes an asset and bar."""

    def __init__(self, assets: Sequence[str], bar_seconds: float) -> None:
        self.assets, self.bar_seconds = tuple(assets), bar_seconds
        self.trades: list[Record] = []
        self._chunks: list[_Chunk] = []
        self._bars = 0

    def __len__(self) -> int:
        """The number of bars."""
        return self._bars

    def add(self, bar: LiveBar) -> None:
        """Keep a bar."""
        at = self._bars % _CHUNK
        if at == 0:
            self._chunks.append(_Chunk(len(self.assets)))
        chunk = self._chunks[-1]
        chunk.ts_ns[at], chunk.prices[at] = bar.ts_ns, bar.prices
        chunk.snapshots[at], chunk.events[at] = bar.snapshots, bar.event
        if bar.trade is not None:
            self.trades.append(np.array(bar.trade, ndmin=1).view(np.recarray))
        self._bars += 1

    @property
    def ts_ns(self) -> NDArray[np.int64]:
        """(T,) the bars' stamps."""
        return self._joined("ts_ns", np.zeros(0, np.int64))

    @property
    def prices(self) -> NDArray[np.float64]:
        """(T, N) mid prices, NaN where there was none."""
        return self._joined("prices", np.zeros((0, len(self.assets))))

    @property
    def events(self) -> Record:
        """(T,) EVENT records."""
        return self._joined("events", records(EVENT, 0)).view(np.recarray)

    def seen(self) -> Record:
        """(T, N) SNAPSHOT records as the bars saw them; where there was none the stamp is NaN."""
        return self._joined("snapshots", records(SNAPSHOT, 0).reshape(0, len(self.assets))).view(np.recarray)

    def price_days(self) -> Iterator[PriceDay]:
        """The prices as a price archive holds them, day by day."""
        ts_ns, prices = self.ts_ns, self.prices
        for day, part in _days(ts_ns):
            yield PriceDay(day, ts_ns[part], self.assets, np.ascontiguousarray(prices[part]))

    def snapshots(self) -> dict[str, Record]:
        """Of every asset its (K,) SNAPSHOT records, each that was seen once."""
        seen = self.seen()
        found: dict[str, Record] = {}
        for column, asset in enumerate(self.assets):
            rows = seen[:, column]
            rows = rows[~np.isnan(rows["timestamp"])]
            keep = np.ones(len(rows), bool)
            keep[1:] = np.diff(rows["timestamp"]) > 0.0
            found[asset] = np.ascontiguousarray(rows[keep]).view(np.recarray)
        return found

    def replay(self, engine: NDAlphaEngine) -> tuple[Record, list[Record]]:
        """Every bar again through the replay: (T,) EVENT records and what was closed.

        `engine` is as the loop's was at its beginning; it is left where the loop's was left.
        """
        book = OBFeatureEngine(self.assets, ArrayBookProvider(self.snapshots()))
        engine.set_ob_engine(book)
        scanner = Scanner(len(self.assets), self.bar_seconds)
        events, trades = [records(EVENT, 0)], []
        for day in self.price_days():
            table = scanner.scan(day.ts_ns, day.closes)
            signals = {"vel_div": table.vel_div, "v50": table.velocity[:, 0], "v750": table.velocity[:, -1]}
            engine.begin_day(day.day)
            happened, closed = engine.process_bars(day_bars(day.ts_ns, signals), day.closes)
            engine.end_day()
            events.append(happened)
            trades += [closed[k : k + 1] for k in range(len(closed))]
        return np.concatenate(events).view(np.recarray), trades

    def compare(self, make_engine: Callable[[], NDAlphaEngine]) -> Difference | None:
        """The first difference between what happened and a replay by a new engine; None when all bits agree."""
        events, trades = self.replay(make_engine())
        return _first(EVENT, self.events, events) or _first(TRADE, _all(self.trades), _all(trades))

    def _joined(self, name: str, empty: NDArray[Any]) -> NDArray[Any]:
        parts = [empty, *(getattr(chunk, name) for chunk in self._chunks)]
        return np.concatenate(parts)[: self._bars]


def _days(ts_ns: NDArray[np.int64]) -> Iterator[tuple[date, slice]]:
    numbers, starts, counts = np.unique(ts_ns // NS_PER_DAY, return_index=True, return_counts=True)
    for number, start, count in zip(numbers.tolist(), starts.tolist(), counts.tolist(), strict=True):
        yield ns_to_date(number * NS_PER_DAY), slice(start, start + count)


def _all(trades: list[Record]) -> Record:
    return np.concatenate([records(TRADE, 0), *trades]).view(np.recarray)


def _first(dtype: np.dtype[Any], live: Record, replayed: Record) -> Difference | None:
    if len(live) != len(replayed):
        return Difference(min(len(live), len(replayed)), "number", len(live), len(replayed))
    for name in dtype.names or ():
        differs = _bytes(live[name]) != _bytes(replayed[name])
        if differs.any():
            row = int(np.argmax(differs.any(axis=1)))
            return Difference(row, name, live[name][row].tolist(), replayed[name][row].tolist())
    return None


def _bytes(column: NDArray[Any]) -> NDArray[np.uint8]:
    """(T, B) the bytes of each row: equal bits, and NaN is NaN."""
    return np.frombuffer(column.tobytes(), np.uint8).reshape(len(column), column.nbytes // max(len(column), 1))
