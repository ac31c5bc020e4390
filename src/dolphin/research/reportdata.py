"""What a tearsheet is drawn from: one frozen value, and the thinning that keeps long runs drawable.

This room knows no drawing library; `dolphin.ui.report.write_report` turns a `ReportData` into a page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dolphin.core.errors import DataError
from dolphin.research.metrics import TradeTable, check_trades

MAX_POINTS = 20_000
"""How many points of a per-bar series a page carries; more adds weight and no ink."""


@dataclass(frozen=True, eq=False)
class BarSeries:
    """Per-bar series, thinned by `decimate`, all of one length (P,).

    `ts_ns` int64, UTC, strictly increasing; `equity` float64, USDT, marked to market; `drawdown` float64, a fraction
    ≥ 0; `vel_div` float64, NaN while windows fill; `in_position` bool, whether a position was open at the bar's end.
    """

    ts_ns: NDArray[np.int64]
    equity: NDArray[np.float64]
    drawdown: NDArray[np.float64]
    vel_div: NDArray[np.float64]
    in_position: NDArray[np.bool_]

    def __post_init__(self) -> None:
        """Refuse columns of unequal length and stamps that do not rise."""
        _check_lengths("bars", ts_ns=self.ts_ns, equity=self.equity, drawdown=self.drawdown)
        _check_lengths("bars", ts_ns=self.ts_ns, vel_div=self.vel_div, in_position=self.in_position)
        late = np.flatnonzero(np.diff(self.ts_ns) <= 0)
        if len(late):
            raise DataError(f"report series: ts_ns row {late[0] + 1} is not later than the row before; sort the bars")


@dataclass(frozen=True, eq=False)
class SurvivalSeries:
    """The survival stack over a run with sensors.

    `ts_ns` int64 (P,), strictly increasing, with `rm` and `categories` (the five in their order), float64 (P,) each,
    thinned by `decimate`, NaN before the first reading. `spell_ns` int64 (S,) are the stamps at which `spell_posture`
    int64 (S,) begin, and `end_ns` is the last bar's: between them the posture is exact, not thinned.
    """

    ts_ns: NDArray[np.int64]
    rm: NDArray[np.float64]
    categories: tuple[NDArray[np.float64], ...]
    spell_ns: NDArray[np.int64]
    spell_posture: NDArray[np.int64]
    end_ns: int

    def __post_init__(self) -> None:
        """Refuse columns of unequal length."""
        _check_lengths("survival", ts_ns=self.ts_ns, rm=self.rm)
        for column in self.categories:
            _check_lengths("survival", ts_ns=self.ts_ns, category=column)
        _check_lengths("survival", spell_ns=self.spell_ns, spell_posture=self.spell_posture)

    def posture_at(self, ts_ns: NDArray[np.int64]) -> NDArray[np.int64]:
        """The posture in force at each stamp, int64, for stamps of the run."""
        return self.spell_posture[np.searchsorted(self.spell_ns, ts_ns, side="right") - 1]


@dataclass(frozen=True, eq=False)
class BookSeries:
    """The order book over a run with one.

    `ts_ns` int64 (P,), strictly increasing, with `imbalance` (the market's median, NaN without a usable book) and
    `cascade` (assets in a cascade, 0 without), float64 (P,) each, thinned by `decimate`. `spell_ns` int64 (S,) are the
    stamps at which `spell_state` int64 (S,) begin, 0 no usable book, 1 calm, 2 neither, 3 stress, and `end_ns` is the
    last bar's: between them the state is exact, not thinned.
    """

    ts_ns: NDArray[np.int64]
    imbalance: NDArray[np.float64]
    cascade: NDArray[np.float64]
    spell_ns: NDArray[np.int64]
    spell_state: NDArray[np.int64]
    end_ns: int

    def __post_init__(self) -> None:
        """Refuse columns of unequal length."""
        _check_lengths("book", ts_ns=self.ts_ns, imbalance=self.imbalance, cascade=self.cascade)
        _check_lengths("book", spell_ns=self.spell_ns, spell_state=self.spell_state)


@dataclass(frozen=True, eq=False)
class DailySeries:
    """One row per UTC day that has bars, all (D,).

    `dates` datetime64[D]; `equity_close` float64, USDT, marked to market at the day's last bar; `pnl` float64, USDT,
    its change over the day (the first from the starting capital).
    """

    dates: NDArray[np.datetime64]
    equity_close: NDArray[np.float64]
    pnl: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Refuse columns of unequal length."""
        _check_lengths("daily", dates=self.dates, equity_close=self.equity_close, pnl=self.pnl)


@dataclass(frozen=True)
class Thresholds:
    """The `vel_div` levels of the run's profile: SHORT acts below them (−0.02, −0.05), LONG above (0.01, 0.04)."""

    entry: float
    extreme: float

    @property
    def is_short(self) -> bool:
        """Whether entries lie below the threshold."""
        return self.extreme < self.entry


@dataclass(frozen=True, eq=False)
class ReportData:
    """Everything on one tearsheet.

    `summary` is the content of `summary.json`: the keys of `metrics.performance`, and `profile, direction,
    champion_hash, is_champion, overrides {name: value}, friction, data {name: text}, from, to, days, bars,
    bar_seconds, wall_s, bars_per_s, versions {name: text}, command`; an absent key is shown as absent. `trades` has
    the columns of `metrics.TRADE_COLUMNS`. `gates` counts bars by the first gate that refused (SPEC §12), names of
    `core.codes.Gate`. `notes` are remarks about this run (a gap, a late start), shown word for word. `survival` is None
    for a run without sensors, `book` for one without an order book. `bridge` is `research.bridge.Bridge.plain()` for a
    venue run set against its replay.
    """

    summary: Mapping[str, Any]
    trades: TradeTable
    bars: BarSeries
    daily: DailySeries
    gates: Mapping[str, int]
    thresholds: Thresholds
    notes: tuple[str, ...] = field(default=())
    survival: SurvivalSeries | None = None
    book: BookSeries | None = None
    bridge: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        """Refuse a trade table that lacks a column or whose columns differ in length."""
        check_trades(self.trades)


def decimate(
    ts_ns: ArrayLike,
    columns: Mapping[str, ArrayLike],
    max_points: int = MAX_POINTS,
    keep: ArrayLike = (),
) -> tuple[NDArray[np.int64], dict[str, NDArray[Any]]]:
    """Thin per-bar columns (T,) to at most `max_points` rows, so that no spike is lost.

    Bars are cut into buckets of nearly equal size; of each, the first and last row and the rows where each column is
    smallest and largest stay (NaN is passed over), so every bucket keeps its range in every column. All values of the
    result are values of the input, in order. Thinning day by day and joining, or thinning twice, keeps the same
    promise. `keep` lists row numbers that stay in any case (entry bars) and comes on top of `max_points`.

    Gives `(ts_ns, columns)`, the input unchanged when it is short enough. Raises DataError for columns of another
    length, `keep` outside the rows, or a `max_points` too small for one bucket (2 + 2 per column).
    """
    stamps = np.asarray(ts_ns, dtype=np.int64)
    arrays = {name: np.asarray(column) for name, column in columns.items()}
    _check_lengths("decimate", ts_ns=stamps, **arrays)
    kept = np.unique(np.asarray(keep, dtype=np.int64))
    if len(kept) and (kept[0] < 0 or kept[-1] >= len(stamps)):
        raise DataError(f"decimate: keep holds row {kept[0]} … {kept[-1]}, expected 0 … {len(stamps) - 1}")
    per_bucket = 2 + 2 * len(arrays)
    if max_points < per_bucket:
        raise DataError(
            f"decimate: max_points is {max_points}, expected at least {per_bucket} for {len(arrays)} columns"
        )
    if len(stamps) <= max_points:
        return stamps, arrays
    starts = np.linspace(0, len(stamps), max_points // per_bucket, endpoint=False).astype(np.int64)
    ends = np.append(starts[1:], len(stamps)) - 1
    rows = [kept, starts, ends]
    for column in arrays.values():
        rows += _extreme_rows(column, starts)
    chosen = np.unique(np.concatenate(rows))
    return stamps[chosen], {name: column[chosen] for name, column in arrays.items()}


def _extreme_rows(column: NDArray[Any], starts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Row numbers of the first smallest and first largest value of each bucket that has any."""
    values = column.astype(np.float64)
    sizes = np.diff(np.append(starts, len(values)))
    rows: list[NDArray[np.int64]] = []
    for sign in (1.0, -1.0):
        signed = np.where(np.isnan(values), np.inf, sign * values)
        best = np.repeat(np.minimum.reduceat(signed, starts), sizes)
        hits = np.flatnonzero((signed == best) & ~np.isnan(values))
        bucket = np.searchsorted(starts, hits, side="right")
        rows.append(hits[np.unique(bucket, return_index=True)[1]])
    return rows


def _check_lengths(what: str, **columns: NDArray[Any]) -> None:
    (first, column), *others = columns.items()
    for name, other in others:
        if len(other) != len(column):
            raise DataError(f"{what}: {name} has {len(other)} rows, {first} has {len(column)}; expected the same")
