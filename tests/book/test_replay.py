"""Book and engine together: a replay with preloaded days against live, bar by bar, and what the book changes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.rows import day_bars
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.layout import SNAPSHOT
from dolphin.book.providers import ArrayBookProvider, BookProvider, MockBookProvider
from dolphin.core.clock import NS_PER_S
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.params import build_params
from dolphin.core.records import Record
from dolphin.market.tables import ScanDay
from dolphin.risk.acb import AdaptiveCircuitBreaker
from tests.support.runs import ASSETS, scan_days

CAPITAL = 25_000.0
DAYS = scan_days(3, 500, seed=4)


def wandering(days: list[ScanDay], seed: int = 0) -> ArrayBookProvider:
    """Recorded books: leaning, thinning out, silent for a while, one asset late by a day."""
    rng = np.random.default_rng(seed)
    stamps = np.concatenate([day.ts_ns for day in days]) / NS_PER_S
    shelf: dict[str, Record] = {}
    for i, asset in enumerate(ASSETS):
        lean = np.clip(rng.normal(0.0, 0.02, len(stamps)).cumsum(), -0.8, 0.8)
        depth = 1e6 * np.exp(rng.normal(0.0, 0.05, len(stamps)).cumsum() % 2.0 - 1.0)
        kept = (np.sin(np.arange(len(stamps)) / 40.0 + i) < 0.9) & (rng.random(len(stamps)) < 0.9)
        kept[: 500 * (i == 1)] = False
        rows = np.zeros(int(kept.sum()), SNAPSHOT).view(np.recarray)
        bands = depth[kept, None] * np.array([1.0, 0.8, 0.7, 0.6, 0.5])
        rows.timestamp = stamps[kept] - rng.uniform(0.0, 5.0, len(rows))
        rows.bid_notional, rows.ask_notional = bands * (1.0 + lean[kept, None]), bands * (1.0 - lean[kept, None])
        shelf[asset] = rows
    return ArrayBookProvider(shelf)


def fresh() -> NDAlphaEngine:
    return NDAlphaEngine(build_params({}, "modelled"), ASSETS, Direction.SHORT, CAPITAL)


def bars_of(day: ScanDay) -> Record:
    names = ("vel_div", "v50", "v750")
    return day_bars(day.ts_ns, dict(zip(names, day.signals[:, [0, 1, 4]].T, strict=True)))


def replayed(days: list[ScanDay], provider: BookProvider | None) -> tuple[list[bytes], list[bytes], NDAlphaEngine]:
    """Whole days: (events, trades, engine)."""
    engine, book = fresh(), None if provider is None else OBFeatureEngine(ASSETS, provider)
    events, trades = [], []
    for day in days:
        shown = (None, None) if book is None else book.preload_date(day.day, day.ts_ns)
        trades.append(engine.begin_day(day.day, beta=0.8))
        happened, closed = engine.process_bars(bars_of(day), day.closes, *shown)
        events.append(happened)
        trades.append(closed)
    trades.append(engine.close_open(ExitReason.END_OF_DATA))
    return [e.tobytes() for part in events for e in part], [t.tobytes() for part in trades for t in part], engine


def stepped(days: list[ScanDay], provider: BookProvider) -> tuple[list[bytes], list[bytes], NDAlphaEngine]:
    """The same, one bar at a time: `step_live`, then `step_bar`."""
    engine, book = fresh(), OBFeatureEngine(ASSETS, provider)
    events: list[bytes] = []
    trades: list[Record] = []
    for day in days:
        trades += list(engine.begin_day(day.day, beta=0.8))
        for k, bar in enumerate(bars_of(day)):
            market, books = book.step_live(ASSETS, book.bar_idx + 1, int(bar.ts_ns))
            event, trade = engine.step_bar(
                int(bar.ts_ns),
                float(bar.vel_div),
                day.closes[k],
                v50=float(bar.v50),
                v750=float(bar.v750),
                vol_regime_ok=bool(bar.vol_regime_ok),
                posture=Posture(int(bar.posture)),
                market=market,
                books=books,
            )
            events.append(event.tobytes())
            trades += [] if trade is None else [trade]
    trades += list(engine.close_open(ExitReason.END_OF_DATA))
    return events, [t.tobytes() for t in trades], engine


@pytest.mark.parametrize("make", [lambda: MockBookProvider(), lambda: wandering(DAYS)], ids=["mock", "wandering"])
def test_replaying_days_is_stepping_them_live(make: Callable[[], BookProvider]) -> None:
    want_events, want_trades, replay = replayed(DAYS, make())
    events, trades, step = stepped(DAYS, make())
    assert len(want_trades) > 10
    assert trades == want_trades
    assert events == want_events
    assert step.state_hash() == replay.state_hash()


def test_a_book_changes_what_is_traded() -> None:
    without, mocked, moved = (replayed(DAYS, p) for p in (None, MockBookProvider(), wandering(DAYS)))
    assert len({run[2].state_hash() for run in (without, mocked, moved)}) == 3
    refused = Gate.BOOK_IMBALANCE
    assert without[2].state.core.gates[refused] == 0
    assert moved[2].state.core.gates[refused] > 0, "books that lean against the trade refuse it"


def test_a_book_that_has_gone_stale_is_no_book() -> None:
    # Snapshots until noon of nobody's day: the engine must trade the later days as it would without a book.
    old = {asset: wandering(DAYS[:1]).get_snapshot(asset, DAYS[0].ts_ns[100] / NS_PER_S) for asset in ASSETS}
    rows = {a: np.array([s]).view(np.recarray) for a, s in old.items() if s is not None}
    assert len(rows) == len(ASSETS) - 1
    book = OBFeatureEngine(ASSETS, ArrayBookProvider(rows))
    book.preload_date(DAYS[0].day, DAYS[0].ts_ns)
    markets, books = book.preload_date(DAYS[1].day, DAYS[1].ts_ns)
    assert not markets.usable.any()
    assert not books.usable.any()
    with_it, without = fresh(), fresh()
    for engine, shown in ((with_it, (markets, books)), (without, (None, None))):
        engine.begin_day(DAYS[1].day)
        engine.process_bars(bars_of(DAYS[1]), DAYS[1].closes, *shown)
    assert with_it.state_hash() == without.state_hash()


def test_the_breaker_asks_the_book_for_its_stress() -> None:
    day = DAYS[0]
    rows = {}
    for asset in ASSETS[:3]:
        shrinking = np.zeros(10, SNAPSHOT).view(np.recarray)
        shrinking.timestamp = day.ts_ns[:10] / NS_PER_S
        shrinking.bid_notional = shrinking.ask_notional = 1e6 * 0.97 ** np.arange(10)[:, None] * np.ones(5)
        rows[asset] = shrinking
    book = OBFeatureEngine(ASSETS, ArrayBookProvider(rows))
    acb = AdaptiveCircuitBreaker()
    assert acb.get_dynamic_boost_for_date(day.day, book)["ob_beta"] == 0.2, "no book, no stress"
    book.preload_date(day.day, day.ts_ns[:10])
    macro = book.get_macro()
    assert macro is not None
    assert macro.regime_signal == 1
    velocity = 0.97**5 - 1.0  # −0.1413: a stress of 0.706
    assert macro.depth_velocity == pytest.approx(velocity)
    answer = acb.get_dynamic_boost_for_date(day.day, book)
    assert answer["beta"] == 0.2
    assert answer["ob_beta"] == pytest.approx(0.2 * (1.0 + 0.25 * -velocity / 0.20))


def test_the_multiplier_asked_for_is_the_one_that_sizes() -> None:
    book = OBFeatureEngine(ASSETS, wandering(DAYS))
    engine = fresh()
    seen = 0
    for day in DAYS[:2]:
        first = book.bar_idx + 1
        markets, books = book.preload_date(day.day, day.ts_ns)
        engine.begin_day(day.day)
        events, _ = engine.process_bars(bars_of(day), day.closes, markets, books)
        for k in np.flatnonzero(events.gate == Gate.ENTERED):
            assert events[k].market_ob_mult == book.get_market_multiplier(Direction.SHORT, first + int(k))
            seen += int(events[k].market_ob_mult != 1.0)
    assert seen > 0
