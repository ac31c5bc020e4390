"""`set_ob_engine` and the account of what the book changed: the same bits however bars arrive, and the plain twin's
counts (SPEC §8, §12)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from dolphin.alpha.bookaccount import BookAccount
from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, MARKET_BOOK, Record, records
from dolphin.alpha.rows import day_bars
from dolphin.book.engine import OBFeatureEngine
from dolphin.book.providers import MockBookProvider
from dolphin.core.codes import AcbUpdate, Direction, ExitReason, Gate
from dolphin.core.errors import ConfigError
from dolphin.core.params import build_params
from dolphin.market.bookfiles import BookDay
from dolphin.market.tables import ScanDay
from tests.reference.bookaccount_ref import AccountingEngine, books_of
from tests.support.books import book_days, in_memory
from tests.support.runs import ASSETS, scan_days

CAPITAL = 25_000.0
DAYS = scan_days(3, 500, seed=5, drift=0.0)
BOOKS = book_days(DAYS, 5)
DIRECTIONS = pytest.mark.parametrize("direction", [Direction.SHORT, Direction.LONG], ids=lambda d: d.name)


def bars_of(day: ScanDay) -> Record:
    return day_bars(day.ts_ns, dict(zip(("vel_div", "v50", "v750"), day.signals[:, [0, 1, 4]].T, strict=True)))


def engine_with(books: Sequence[BookDay] | None, direction: Direction = Direction.SHORT) -> NDAlphaEngine:
    engine = NDAlphaEngine(build_params({}, "modelled"), ASSETS, direction, CAPITAL)
    if books is not None:
        engine.set_ob_engine(OBFeatureEngine(ASSETS, in_memory(books, ASSETS)))
    return engine


def whole_days(engine: NDAlphaEngine) -> list[bytes]:
    told: list[bytes] = []
    for day in DAYS:
        engine.begin_day(day.day)
        events, trades = engine.process_bars(bars_of(day), day.closes)
        told += [e.tobytes() for e in events] + [t.tobytes() for t in trades]
    return told


def bar_by_bar(engine: NDAlphaEngine) -> list[bytes]:
    told: list[bytes] = []
    for day in DAYS:
        engine.begin_day(day.day)
        events, trades = [], []
        for k, bar in enumerate(bars_of(day)):
            event, trade = engine.step_bar(
                int(bar.ts_ns), float(bar.vel_div), day.closes[k], v50=float(bar.v50), v750=float(bar.v750),
                vol_regime_ok=bool(bar.vol_regime_ok),
            )  # fmt: skip
            events.append(event.tobytes())
            trades += [] if trade is None else [trade.tobytes()]
        told += events + trades
    return told


def row_by_row(engine: NDAlphaEngine) -> list[bytes]:
    told: list[bytes] = []
    for day in DAYS:
        engine.begin_day(day.day)
        rows = engine.rows(bars_of(day), day.closes)
        trades = [rows.trade[0].tobytes() for _ in range(len(rows)) if rows.step()]
        told += [e.tobytes() for e in rows.events] + trades
    return told


def test_whole_days_bars_and_rows_give_the_same_bits() -> None:
    engines = [engine_with(BOOKS) for _ in range(3)]
    whole, bars, rows = (run(e) for run, e in zip((whole_days, bar_by_bar, row_by_row), engines, strict=True))
    assert bars == whole
    assert rows == whole
    assert len({e.state_hash() for e in engines}) == 1
    assert whole != whole_days(engine_with(None)), "the book must matter"


def test_what_a_caller_gives_wins() -> None:
    class Never:
        assets = ASSETS

        def step_live(self, *_: Any) -> Any:
            raise AssertionError("asked")

        def preload_date(self, *_: Any, **__: Any) -> Any:
            raise AssertionError("asked")

    asked, plain, day = engine_with(None), engine_with(None), DAYS[0]
    asked.set_ob_engine(Never())
    n = len(ASSETS)
    none = records(MARKET_BOOK, day.rows), records(ASSET_BOOK, day.rows * n).reshape(day.rows, n)
    for engine in (asked, plain):
        engine.begin_day(day.day)
    asked.process_bars(bars_of(day), day.closes, *none)
    plain.process_bars(bars_of(day), day.closes)
    assert asked.state_hash() == plain.state_hash()
    asked.step_bar(int(day.ts_ns[-1]) + 60_000_000_000, 0.0, day.closes[-1], market=none[0][0])
    with pytest.raises(AssertionError, match="asked"):
        asked.step_bar(int(day.ts_ns[-1]) + 120_000_000_000, 0.0, day.closes[-1])


def test_a_book_that_fails_leaves_the_engine_as_it_was() -> None:
    engine, day = engine_with(BOOKS), DAYS[0]
    engine.begin_day(day.day)
    before = engine.state_hash()
    bars = bars_of(day)
    bars.ts_ns[7] = bars.ts_ns[6]
    with pytest.raises(Exception, match="row 7; expected increasing"):
        engine.process_bars(bars, day.closes)
    assert engine.state_hash() == before


def test_columns_that_are_not_the_engines_are_refused() -> None:
    engine = engine_with(None)
    with pytest.raises(ConfigError, match="expected the engine's 4 in the same order"):
        engine.set_ob_engine(OBFeatureEngine(ASSETS[::-1], MockBookProvider()))


def test_the_book_is_no_part_of_the_snapshot_and_may_be_taken_away() -> None:
    engine, bare = engine_with(BOOKS), engine_with(None)
    assert engine.state_hash() == bare.state_hash()
    engine.set_ob_engine(None)
    assert whole_days(engine) == whole_days(bare)


def test_it_goes_on_after_a_restart_with_its_own_snapshot() -> None:
    engine, provider = engine_with(None), in_memory(BOOKS, ASSETS)
    book = OBFeatureEngine(ASSETS, provider)
    engine.set_ob_engine(book)
    whole = engine_with(BOOKS)
    for day in DAYS:
        for each in (engine, whole):
            each.begin_day(day.day)
        whole.process_bars(bars_of(day), day.closes)
        engine.process_bars(bars_of(day)[:333], day.closes[:333])
        engine, book = NDAlphaEngine.restore(engine.snapshot()), OBFeatureEngine.restore(book.snapshot(), provider)
        engine.set_ob_engine(book)
        engine.process_bars(bars_of(day)[333:], day.closes[333:])
    assert engine.state_hash() == whole.state_hash()


@pytest.mark.parametrize("cut", [40, 150, 700, 1100])
def test_a_later_snapshot_never_changes_an_earlier_event(cut: int) -> None:
    """From bar `cut` on every book is turned inside out; all bars before are what they were."""
    turned = []
    stamp = int(np.concatenate([day.ts_ns for day in DAYS])[cut])
    for day in BOOKS:
        amounts = day.amounts.copy()
        late = day.ts_ns >= stamp
        amounts[late] = amounts[late][:, [*range(5, 10), *range(5), *range(15, 20), *range(10, 15)]] * 0.1
        turned.append(BookDay(day.day, day.ts_ns, day.assets, day.asset, amounts))
    runs = []
    for books in (BOOKS, turned):
        engine = engine_with(books)
        parts = []
        for day in DAYS:
            engine.begin_day(day.day)
            parts.append(engine.process_bars(bars_of(day), day.closes)[0])
        runs.append(np.concatenate(parts))
    assert runs[0][: cut - 1].tobytes() == runs[1][: cut - 1].tobytes()
    assert runs[0].tobytes() != runs[1].tobytes()


def twin_run(direction: Direction) -> tuple[AccountingEngine, list[Any]]:
    engine = AccountingEngine(build_params({}, "modelled"), int(direction), list(ASSETS), CAPITAL)
    stamps = np.concatenate([day.ts_ns for day in DAYS]).tolist()
    books, events, at = books_of(BOOKS, ASSETS, stamps), [], 0
    for day in DAYS:
        engine.begin_day()
        for k, bar in enumerate(bars_of(day)):
            events.append(
                engine.step(
                    {
                        "bar_idx": at,
                        "ts_ns": int(bar.ts_ns),
                        "vel_div": float(bar.vel_div),
                        "v50": float(bar.v50),
                        "v750": float(bar.v750),
                        "prices": day.closes[k].tolist(),
                        "vol_ok": bool(bar.vol_regime_ok),
                        "posture": 0,
                        "acb": ("daily", 1.2, 0.8) if k == 10 else None,
                        "book": books[at],
                    }
                )
            )
            at += 1
    engine.close_open(ExitReason.END_OF_DATA)
    return engine, events


@DIRECTIONS
def test_the_account_is_the_plain_twins(direction: Direction) -> None:
    engine, trades = engine_with(BOOKS, direction), []
    book = OBFeatureEngine(ASSETS, in_memory(BOOKS, ASSETS))
    account, at, told = BookAccount(engine), 0, []
    for day in DAYS:
        trades.append(engine.begin_day(day.day))
        bars = bars_of(day)
        bars.acb_update[10], bars.acb_boost[10], bars.acb_beta[10] = AcbUpdate.DAILY, 1.2, 0.8
        markets, books = book.preload_date(day.day, day.ts_ns)
        events, closed = engine.process_bars(bars, day.closes, markets, books)
        account.take(bars, day.closes, markets, books, events, engine)
        trades.append(closed)
        told.append(events)
        at += len(bars)
    trades.append(engine.close_open(ExitReason.END_OF_DATA))
    plain, wanted = twin_run(direction)
    for event, want in zip(np.concatenate(told), wanted, strict=True):
        assert event["gate"] == want["gate"]
        assert event["exit_reason"] == want["exit_reason"]
    closed = np.concatenate(trades)
    assert closed["net_pnl"].tolist() == pytest.approx([t["net_pnl"] for t in plain.trades], rel=1e-9)
    assert account.closes_by_book().tolist() == plain.by_book
    counts = account.counts
    for name, value in counts.items():
        if name in plain.sums:
            assert value == pytest.approx(plain.sums[name], rel=1e-9, abs=1e-9), name
        else:
            assert value == plain.counts[name], name


def test_the_market_gives_every_rule_something_to_do() -> None:
    totals: dict[str, float] = {}
    for direction in (Direction.SHORT, Direction.LONG):
        engine, _ = twin_run(direction)
        for name, value in engine.counts.items():
            totals[name] = totals.get(name, 0) + value
    for name in (
        *("ob1_changed", "ob1_to_none", "ob1_dropped", "ob1_entries", "ob2_raised", "ob2_lowered", "ob2_refused"),
        *("ob3_raised", "ob3_lowered", "ob4_bars", "ob4_entries", "ob5_cascade", "ob5_stress", "ob5_calm"),
        *("ob5_withdrawal", "ob5_closed", "ob5_kept"),
    ):
        assert totals[name] > 0, name


def test_without_a_usable_book_nothing_fires() -> None:
    engine, day = engine_with(None), DAYS[0]
    account, n = BookAccount(engine), len(ASSETS)
    none = records(MARKET_BOOK, day.rows), records(ASSET_BOOK, day.rows * n).reshape(day.rows, n)
    engine.begin_day(day.day)
    events, trades = engine.process_bars(bars_of(day), day.closes, *none)
    account.take(bars_of(day), day.closes, *none, events, engine)
    counts = account.counts
    asked = {name for name, value in counts.items() if value}
    assert asked == {"bars", "ob1_asked", "ob5_asked"}
    assert counts["ob1_asked"] == int(np.isin(events.gate, (0, *range(Gate.SELECTION, Gate.BOOK_IMBALANCE + 1))).sum())
    assert not account.closes_by_book().any()
    assert len(trades) <= len(account.closes_by_book())


# --- worked by hand ---


def by_hand(overrides: dict[str, str]) -> tuple[dict[str, Any], Record, Record, NDAlphaEngine]:
    """BTCUSDT at 100 for 100 bars, then falling by 0.01 a bar; a SHORT at bar 105, and a fall by 0.6 % at bar 110.

    At bar 105 the whole market leans to the asks (OB-3) under stress (OB-4), and so does the asset (OB-2); at bar 110
    there is stress (OB-5).
    """
    prices = np.concatenate([np.full(100, 100.0), 100.0 - 0.01 * np.arange(1, 21)])
    prices[110:] = prices[105] * (1.0 - 0.006)
    ts_ns = DAYS[0].ts_ns[0] + np.arange(120) * 60_000_000_000
    flat = np.zeros(120)
    bars = day_bars(ts_ns, {"vel_div": flat, "v50": flat, "v750": flat})
    bars.vel_div[105] = -0.03
    bars.acb_update[10], bars.acb_boost[10], bars.acb_beta[10] = AcbUpdate.DAILY, 1.5, 0.8
    markets, books = records(MARKET_BOOK, 120), records(ASSET_BOOK, 120).reshape(120, 1)
    for t in (105, 110):
        markets[t].usable, markets[t].regime_signal = 1, 1
        markets[t].depth_velocity, markets[t].agreement, markets[t].median_imbalance = -0.10, 0.9, -0.20
        books[t, 0].usable, books[t, 0].imbalance_ma5, books[t, 0].imbalance_persistence = 1, -0.20, 0.5
        books[t, 0].depth_quality, books[t, 0].fill_probability = 1.0, 0.62
    engine = NDAlphaEngine(
        build_params({"use_asset_selection": "false", **overrides}, "modelled"), ("BTCUSDT",), Direction.SHORT, CAPITAL
    )
    account = BookAccount(engine)
    engine.begin_day(DAYS[0].day)
    events, trades = engine.process_bars(bars, prices.reshape(-1, 1), markets, books)
    account.take(bars, prices.reshape(-1, 1), markets, books, events, engine)
    assert account.closes_by_book().tolist() == [True]
    return account.counts, events, trades, engine


@pytest.mark.jit_off
def test_what_each_rule_changed_worked_by_hand() -> None:
    counts, events, trades, _ = by_hand({})
    assert (trades.entry_bar.tolist(), trades.exit_bar.tolist()) == ([105], [110])
    assert trades.reason.tolist() == [ExitReason.FIXED_TP]
    entry = events[105]
    # OB-2: 0.50 + 0.40/3 = 0.6333, times 1 + min(0.15, 0.20·0.5·0.5) = 1.05.
    plain = 0.5 + 0.4 / 3.0
    assert entry.confidence == pytest.approx(plain * 1.05)
    assert counts["ob2_raised"] == counts["ob2_asked"] == 1
    assert counts["ob2_change"] == pytest.approx(plain * 0.05)
    # OB-4: stress 0.10/0.20 = 0.5, so beta 0.8·1.125 = 0.9; strength³ = 1/27; boost 1.5.
    with_stress, without = 1.5 * (1.0 + 0.9 / 27.0), 1.5 * (1.0 + 0.8 / 27.0)
    assert entry.regime_size_mult == pytest.approx(with_stress)
    base, mult = 0.5 + 4.5 / 27.0, float(entry.market_ob_mult)
    assert mult == pytest.approx(1.18), "1 + min(0.20, 0.20·0.9)"
    margin = CAPITAL * float(entry.fraction)
    assert entry.leverage == pytest.approx(base * with_stress * mult)
    assert (counts["ob4_bars"], counts["ob4_entries"]) == (2, 1)
    assert counts["ob4_notional"] == pytest.approx(margin * base * mult * (with_stress - without))
    # OB-3: the same entry with a multiplier of 1.
    assert counts["ob3_raised"] == counts["ob3_asked"] == 1
    assert counts["ob3_mult"] == mult
    assert counts["ob3_notional"] == pytest.approx(margin * base * with_stress * (mult - 1.0))
    # OB-5: under stress a profit is taken at 60 % of 0.95 %: 0.6 % is enough, and would not be without the book.
    assert (counts["ob5_asked"], counts["ob5_fired"], counts["ob5_stress"]) == (5, 1, 1)
    assert (counts["ob5_closed"], counts["ob5_other"], counts["ob5_kept"]) == (1, 0, 0)
    assert counts["ob1_asked"] == 0, "nothing is ranked without asset selection"


@pytest.mark.jit_off
def test_an_exit_for_another_reason_is_told_apart() -> None:
    counts, _, trades, _ = by_hand({"max_hold_bars": "5"})  # the base would leave at the same bar: MAX_HOLD
    assert trades.reason.tolist() == [ExitReason.FIXED_TP]
    assert (counts["ob5_closed"], counts["ob5_other"], counts["ob5_kept"]) == (0, 1, 0)
