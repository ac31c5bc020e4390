"""The order book over a replay: recorded or mock snapshots in, features per bar to the engine, and an account of what
OB-1 … OB-5 did with them (SPEC §3–§8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.bookaccount import BookAccount
from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import I8, Record
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.providers import BookProvider, MockBookProvider
from dolphin.core.errors import DataError
from dolphin.market.archive import Archive
from dolphin.market.bookarchive import BookArchive, RecordedBookProvider, unfinished_days
from dolphin.market.tables import ScanDay
from dolphin.research.reportdata import BookSeries, decimate

BookSource = Path | Literal["mock"]
"""A folder of recorded books, or the mock that never moves."""

NO_BOOK_NOTE = (
    "No order book: OB-1 to OB-5 are neutral, and the modelled edge of every close is the legacy draw's, a seeded "
    "chance and no measurement."
)
_NO_BOOK_NATIVE = "No order book: OB-1 to OB-5 are neutral."
_MOCK_NOTE = (
    "The order book is the mock: one fixed book per asset that answers to no market. It shows that the rules are "
    "wired, not what they are worth."
)
_POINTS = 12_000
_NAMED = 5


@dataclass(frozen=True, eq=False)
class BookRun:
    """What the book did over a run. `counts` are the fields of `alpha.bookaccount.ACCOUNT`; `by_book` bool (K,) says of
    each close whether its book was usable; `snapshots` counts what became of them; `covered` names the assets that had
    a usable book at some bar."""

    identity: str | None
    snapshots: dict[str, int]
    covered: tuple[str, ...]
    counts: dict[str, int | float]
    by_book: NDArray[np.bool_]
    series: BookSeries

    def plain(self, source: BookSource, trades: NDArray[Any], *, has_edge: bool) -> dict[str, Any]:
        """The run as `summary.json` holds it; `trades` are TRADE records, `has_edge` whether edge was modelled."""
        c = self.counts
        edge = None
        if has_edge and len(trades) == len(self.by_book):
            earned = np.asarray(trades["modelled_edge"], np.float64)
            edge = {
                name: {"closes": int(mine.sum()), "modelled_edge": float(earned[mine].sum())}
                for name, mine in (("book", self.by_book), ("draw", ~self.by_book))
            }
        return {
            "source": str(source),
            "hash": self.identity,
            "snapshots": self.snapshots,
            "assets": list(self.covered),
            "bars": c["bars"],
            "bars_usable": c["usable_bars"],
            "bars_stress": c["stress_bars"],
            "bars_calm": c["calm_bars"],
            "bars_cascade": c["cascade_bars"],
            "rules": {
                "OB-1": {
                    "asked": c["ob1_asked"],
                    "fired": c["ob1_fired"],
                    "other_asset": c["ob1_changed"],
                    "to_no_asset": c["ob1_to_none"],
                    "dropped_for_depth": c["ob1_dropped"],
                    "entries_elsewhere": c["ob1_entries"],
                },
                "OB-2": {
                    "asked": c["ob2_asked"],
                    "fired": c["ob2_raised"] + c["ob2_lowered"] + c["ob2_refused"],
                    "raised": c["ob2_raised"],
                    "lowered": c["ob2_lowered"],
                    "refused": c["ob2_refused"],
                    "mean_change": _mean(c["ob2_change"], c["ob2_raised"] + c["ob2_lowered"]),
                },
                "OB-3": {
                    "asked": c["ob3_asked"],
                    "fired": c["ob3_raised"] + c["ob3_lowered"],
                    "raised": c["ob3_raised"],
                    "lowered": c["ob3_lowered"],
                    "mean_multiplier": _mean(c["ob3_mult"], c["ob3_asked"]),
                    "notional_added": c["ob3_notional"],
                },
                "OB-4": {
                    "asked": c["usable_bars"],
                    "fired": c["ob4_bars"],
                    "entries": c["ob4_entries"],
                    "notional_added": c["ob4_notional"],
                },
                "OB-5": {
                    "asked": c["ob5_asked"],
                    "fired": c["ob5_fired"],
                    "bars_cascade": c["ob5_cascade"],
                    "bars_stress": c["ob5_stress"],
                    "bars_calm": c["ob5_calm"],
                    "bars_withdrawal": c["ob5_withdrawal"],
                    "exits_by_the_book": c["ob5_closed"],
                    "exits_for_another_reason": c["ob5_other"],
                    "positions_held_on": c["ob5_kept"],
                },
            },
            "edge": edge,
        }


class _Remembering:
    """An engine of features that remembers what it gave last, for whoever accounts for it."""

    def __init__(self, engine: OBFeatureEngine) -> None:
        self.engine = engine
        self.assets = engine.assets
        self.markets: Record = None
        self.books: Record = None

    def step_live(self, assets: Sequence[str], bar_idx: int, ts_ns: int | None = None) -> tuple[Record, Record]:
        """As the engine has it."""
        return self.engine.step_live(assets, bar_idx, ts_ns)

    def preload_date(
        self, day: date, ts_ns: I8 | None = None, *, first_bar: int | None = None
    ) -> tuple[Record, Record]:
        """As the engine has it; remembered."""
        self.markets, self.books = self.engine.preload_date(day, ts_ns, first_bar=first_bar)
        return self.markets, self.books


class BookReplay:
    """Books for one replay of `archive`, and the account of what they led to.

    Raises DataError for a folder that holds no sound books, none of the run's days, or none of its assets.
    """

    def __init__(self, source: BookSource, archive: Archive) -> None:
        self._recorded = None if source == "mock" else _books_for(Path(source), archive)
        provider: BookProvider = MockBookProvider()
        if self._recorded is not None:
            provider = RecordedBookProvider(self._recorded, archive.assets)
        self._archive = archive
        self._features = OBFeatureEngine(archive.assets, provider)
        self.feed = _Remembering(self._features)
        self._account: BookAccount | None = None
        self._covered = np.zeros(len(archive.assets), np.bool_)
        self._per_day = max(40, _POINTS // len(archive.days))
        none = np.empty(0, np.int64)
        self._spells = [(none, none)]
        self._state: int | None = None
        self._end_ns = 0
        self._points: list[dict[str, NDArray[Any]]] = [{"ts_ns": none, **dict.fromkeys(_SERIES, np.empty(0))}]

    def attach(self, engine: NDAlphaEngine) -> None:
        """Let the engine ask for its bars' books; what it does is accounted for from here on."""
        engine.set_ob_engine(self.feed)
        self._account = BookAccount(engine)

    def take(self, scans: ScanDay, events: Record, engine: NDAlphaEngine) -> None:
        """Account for the day's bars, after they have run; `events` (T,) EVENT records."""
        if not scans.rows or self._account is None:
            return
        from dolphin.research.backtest import bars_of  # which knows this room's layers, and so cannot be known above

        markets, books = self.feed.markets, self.feed.books
        self._account.take(bars_of(scans), scans.closes, markets, books, events, engine)
        usable = np.asarray(markets["usable"]) != 0
        self._covered |= (np.asarray(books["usable"]) != 0).any(axis=0)
        regime = np.asarray(markets["regime_signal"])
        states = np.where(usable, regime + 2, 0)
        before = states[0] if self._state is None else self._state
        starts = np.flatnonzero(np.diff(states, prepend=before))
        starts = np.union1d([0], starts) if self._state is None else starts
        self._spells.append((scans.ts_ns[starts], states[starts]))
        self._state, self._end_ns = int(states[-1]), int(scans.ts_ns[-1])
        columns = {
            "imbalance": np.where(usable, markets["median_imbalance"], np.nan),
            "cascade": np.where(usable, markets["cascade_count"], 0).astype(np.float64),
        }
        ts, thin = decimate(scans.ts_ns, columns, self._per_day)
        self._points.append({"ts_ns": ts, **thin})

    def run(self) -> BookRun:
        """The account of the days taken."""
        if self._account is None:
            raise DataError("order book: never attached to an engine; nothing was replayed")
        stamps, states = (np.concatenate(part) for part in zip(*self._spells, strict=True))
        points = {name: np.concatenate([p[name] for p in self._points]) for name in ("ts_ns", *_SERIES)}
        return BookRun(
            identity=None if self._recorded is None else self._recorded.identity(),
            snapshots=self._features.counts,
            covered=tuple(name for name, seen in zip(self._archive.assets, self._covered, strict=True) if seen),
            counts=self._account.counts,
            by_book=self._account.closes_by_book(),
            series=BookSeries(
                ts_ns=points["ts_ns"],
                imbalance=points["imbalance"],
                cascade=points["cascade"],
                spell_ns=stamps.astype(np.int64),
                spell_state=states.astype(np.int64),
                end_ns=self._end_ns,
            ),
        )

    def notes(self) -> tuple[str, ...]:
        """What a reader must know of the books."""
        if self._recorded is None:
            return (_MOCK_NOTE,)
        lines = []
        absent = sorted(set(self._archive.days) - set(self._recorded.days))
        if absent:
            lines.append(f"No books were recorded on {_listed([str(day) for day in absent])}: as without a book.")
        bare = [name for name, seen in zip(self._archive.assets, self._covered, strict=True) if not seen]
        if bare:
            lines.append(f"No usable book at any bar of {_listed(bare)}.")
        if unfinished_days(self._recorded.folder):
            lines.append("The folder of books is still being recorded: its unfinished days are not part of this run.")
        return tuple(lines)


_SERIES = ("imbalance", "cascade")


def no_book_notes(friction: str) -> tuple[str, ...]:
    """What a reader must know of a run without a book."""
    return (NO_BOOK_NOTE if friction == "modelled" else _NO_BOOK_NATIVE,)


def _books_for(folder: Path, archive: Archive) -> BookArchive:
    whole = BookArchive.open(folder)
    # The evening before the first day may reach over midnight.
    part = whole.select(archive.days[0] - timedelta(days=1), archive.days[-1])
    if not any(day in archive.days for day in part.days):
        raise DataError(
            f"{folder}: books of {whole.days[0]} to {whole.days[-1]}; expected some of the run's days, "
            f"{archive.days[0]} to {archive.days[-1]}"
        )
    if not set(part.assets) & set(archive.assets):
        raise DataError(
            f"{folder}: books of {_listed(list(part.assets))}; expected some of the run's {len(archive.assets)} "
            f"assets, such as {archive.assets[0]}"
        )
    return part


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return shown if len(names) <= _NAMED else f"{shown} and {len(names) - _NAMED} more"


def _mean(total: float, count: float) -> float | None:
    return total / count if count else None
