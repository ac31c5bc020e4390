"""A replay with an order book: the plain twins' trades from the files on, what the summary tells, and what is refused
(SPEC §8, §23)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.clock import ns_to_iso
from dolphin.core.codes import ExitReason, Gate
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.bookarchive import RECORDING
from dolphin.market.bookfiles import BookDay, write_book_day
from dolphin.market.factorfiles import write_indicators
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestResult, BacktestSpec, bars_of, run_backtest
from dolphin.research.books import NO_BOOK_NOTE
from dolphin.research.comparison import layer_specs, parse_layers, run_comparison
from dolphin.research.results import summarise, trade_columns
from dolphin.research.venue import VenueOptions, check_parity, run_venue_backtest
from dolphin.research.why import explain
from dolphin.trade.venue import FRICTIONLESS
from tests.reference.bookaccount_ref import AccountingEngine, books_of
from tests.support.books import book_days, write_books
from tests.support.runs import ASSETS, FIRST, scan_days, write_days

DAYS = scan_days(3, 500, seed=5, drift=-0.1)
BOOKS = book_days(DAYS, 5)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_days(tmp_path_factory.mktemp("books") / "days", DAYS)


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_books(tmp_path_factory.mktemp("books") / "books", BOOKS)


def told(result: BacktestResult) -> dict[str, Any]:
    summary = summarise(result, trade_columns(result.trades, result.assets), "a test")
    book: dict[str, Any] = summary["book"]
    return book


def test_from_the_files_on_the_twins_take_the_same_trades(data: Path, books: Path) -> None:
    result = run_backtest(BacktestSpec(data=data, book=books))
    twin = AccountingEngine(result.params, -1, list(ASSETS), 25_000.0)
    stamps, at = np.concatenate([day.ts_ns for day in DAYS]).tolist(), 0
    seen = books_of(BOOKS, ASSETS, stamps)
    for day in DAYS:
        twin.begin_day()
        for k, bar in enumerate(bars_of(day)):
            values = {name: float(bar[name]) for name in ("vel_div", "v50", "v750")}
            twin.step(
                {
                    **values,
                    "bar_idx": at,
                    "ts_ns": int(bar.ts_ns),
                    "prices": day.closes[k].tolist(),
                    "posture": 0,
                    "vol_ok": bool(bar.vol_regime_ok),
                    "acb": None,
                    "book": seen[at],
                }
            )
            at += 1
    twin.close_open(ExitReason.END_OF_DATA)
    assert len(twin.trades) > 5
    for name in ("asset", "entry_bar", "exit_bar", "reason", "bucket"):
        assert result.trades[name].tolist() == [int(t[name]) for t in twin.trades], name
    for name in ("notional_usd", "confidence", "modelled_edge", "net_pnl"):
        assert result.trades[name].tolist() == pytest.approx([t[name] for t in twin.trades], rel=1e-9), name
    book = told(result)
    rules, counts = book["rules"], twin.counts
    assert rules["OB-1"]["other_asset"] == counts["ob1_changed"]
    assert rules["OB-2"]["refused"] == counts["ob2_refused"] == int(result.gates[Gate.BOOK_IMBALANCE])
    assert rules["OB-3"]["mean_multiplier"] == pytest.approx(twin.sums["ob3_mult"] / counts["ob3_asked"])
    assert rules["OB-3"]["notional_added"] == pytest.approx(twin.sums["ob3_notional"])
    assert rules["OB-4"]["fired"] == 0, "no circuit breaker, no beta"
    assert rules["OB-5"]["exits_by_the_book"] == counts["ob5_closed"] > 0
    assert book["edge"]["book"]["closes"] == sum(twin.by_book)
    assert book["edge"]["draw"]["closes"] == len(twin.by_book) - sum(twin.by_book)


def test_the_summary_adds_up(data: Path, books: Path) -> None:
    result = run_backtest(BacktestSpec(data=data, book=books))
    book = told(result)
    assert result.book is not None
    assert book["source"] == str(books)
    assert book["bars"] == result.bars == 1500
    series = result.book.series
    assert 0 < book["bars_stress"] + book["bars_calm"] < book["bars_usable"] < 1500
    assert book["snapshots"]["taken"] == sum(day.rows for day in BOOKS)
    assert book["assets"] == list(ASSETS)
    edge = book["edge"]
    assert edge["book"]["closes"] + edge["draw"]["closes"] == len(result.trades)
    total = edge["book"]["modelled_edge"] + edge["draw"]["modelled_edge"]
    assert total == pytest.approx(float(result.trades["modelled_edge"].sum()))
    for rule in book["rules"].values():
        assert rule["fired"] <= rule["asked"]
    assert set(series.spell_state.tolist()) == {0, 1, 2, 3}
    lengths = np.diff(np.append(series.spell_ns, series.end_ns + 60 * 10**9))
    assert (np.diff(series.spell_state) != 0).all()
    assert lengths.min() >= 60 * 10**9
    assert not any("No order book" in note for note in result.notes)
    again = run_backtest(BacktestSpec(data=data, book=books))
    assert told(again) == book
    assert again.state_hash == result.state_hash


def test_without_a_book_the_result_says_so(data: Path) -> None:
    result = run_backtest(BacktestSpec(data=data))
    assert told(result) is None
    assert NO_BOOK_NOTE in result.notes
    free = run_backtest(BacktestSpec(data=data, friction="none"))
    assert any(note.startswith("No order book") and "draw" not in note for note in free.notes)


def test_the_mock_is_called_one(data: Path) -> None:
    result = run_backtest(BacktestSpec(data=data, book="mock"))
    book = told(result)
    assert book["source"] == "mock"
    assert book["hash"] is None
    assert book["bars_usable"] == book["bars"]
    assert book["bars_calm"] == book["bars_stress"] == 0, "two of four lean to the asks: nobody agrees"
    assert any("answers to no market" in note for note in result.notes)
    assert result.state_hash != run_backtest(BacktestSpec(data=data)).state_hash
    free = run_backtest(BacktestSpec(data=data, book="mock", friction="none"))
    assert told(free)["edge"] is None


def test_days_and_assets_without_books_run_as_without_one(data: Path, tmp_path: Path) -> None:
    """Books of the second day alone, and of two assets: the rest says that there was none."""
    day = BOOKS[1]
    kept = np.isin(day.asset, [day.assets.index("BTCUSDT"), day.assets.index("ETHUSDT")])
    codes = np.searchsorted([day.assets.index("BTCUSDT"), day.assets.index("ETHUSDT")], day.asset[kept])
    part = BookDay(day.day, day.ts_ns[kept], ("BTCUSDT", "ETHUSDT"), codes.astype(np.int16), day.amounts[kept])
    folder = write_books(tmp_path / "b", [part])
    (folder / RECORDING).mkdir()
    write_book_day(folder / RECORDING / "2024-02-01.000001.parquet", replace(part, day=FIRST + timedelta(days=1)))
    result = run_backtest(BacktestSpec(data=data, book=folder))
    notes = " ".join(result.notes)
    assert "No books were recorded on 2024-01-01, 2024-01-03: as without a book." in notes
    assert "No usable book at any bar of SOLUSDT, XRPUSDT." in notes
    assert "still being recorded" in notes
    book = told(result)
    assert book["bars_usable"] <= 500 + 13
    edge = book["edge"]
    assert edge["draw"]["closes"] > 0
    first = result.trades[result.trades["exit_ts"] < DAYS[1].ts_ns[0]]
    plain = run_backtest(BacktestSpec(data=data))
    assert first.tobytes() == plain.trades[plain.trades["exit_ts"] < DAYS[1].ts_ns[0]].tobytes()


@pytest.mark.parametrize("what", ["missing", "other days", "other assets", "broken"])
def test_books_that_do_not_fit_are_refused_before_anything_runs(
    what: str, data: Path, books: Path, tmp_path: Path
) -> None:
    folder, words = tmp_path / "none", f"{tmp_path / 'none'}: no such directory"
    if what == "other days":
        folder = write_books(tmp_path / "b", book_days(scan_days(1, 10, first=FIRST - timedelta(days=9))))
        words = "books of 2023-12-23 to 2023-12-23; expected some of the run's days, 2024-01-01 to 2024-01-03"
    elif what == "other assets":
        folder = write_books(tmp_path / "b", book_days(scan_days(1, 10, ["ABCUSDT", "XYZUSDT"])))
        words = "books of ABCUSDT, XYZUSDT; expected some of the run's 4 assets, such as BTCUSDT"
    elif what == "broken":
        folder = write_books(tmp_path / "b", BOOKS)
        (folder / "2024-01-02.parquet").write_bytes(b"PAR1")
        words = "2024-01-02.parquet: not a whole Parquet file"
    with pytest.raises(DataError) as refused:
        run_backtest(BacktestSpec(data=data, book=folder))
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_comparison_knows_the_book(data: Path, books: Path) -> None:
    spec = BacktestSpec(data=data, book=books)
    assert parse_layers("none,book,survival+book", book=True) == ("none", "book", "survival+book")
    assert parse_layers("none,acb+mc+survival+book", book=True) == ("none", "full")
    assert parse_layers("acb+mc+survival,full", book=True) == ("acb+mc+survival", "full")
    assert parse_layers("none,acb+mc+survival") == ("none", "full")
    specs = layer_specs(spec, ("none", "book"))
    assert specs["none"].book is None
    results = run_comparison(specs)
    for name, each in specs.items():
        assert results[name].state_hash == run_backtest(each).state_hash
    with pytest.raises(ConfigError, match="book needs --book"):
        layer_specs(BacktestSpec(data=data), ("none", "book"))
    with pytest.raises(ConfigError, match="no layer; expected none, acb, mc, survival, book, full"):
        parse_layers("none,books")


class Told:
    """The events of a run, bar by bar."""

    def __init__(self, spec: BacktestSpec) -> None:
        self.ts: list[int] = []
        self.events: list[Any] = []
        run_backtest(spec, sink=self.take)

    def take(self, scans: ScanDay, events: Any) -> None:
        self.ts += scans.ts_ns.tolist()
        self.events += list(events.copy())


def test_why_tells_what_the_book_said(data: Path, books: Path) -> None:
    spec = BacktestSpec(data=data, book=books)
    run = Told(spec)
    refused = next(k for k, event in enumerate(run.events) if event.gate == Gate.BOOK_IMBALANCE)
    answer = explain(spec, run.ts[refused])
    gate = next(row for row in answer.gates if row["gate"] == "BOOK_IMBALANCE")
    assert gate["verdict"] == "refused"
    assert answer.book is not None
    assert gate["met"].startswith(f"imbalance {answer.book['imbalance_ma5']:+.3f}, persistent ")
    assert answer.book["imbalance_ma5"] > 0.15, "bids outweigh asks, against a short"
    assert answer.book["asset"] == ASSETS[int(run.events[refused].asset)]
    assert answer.decision == "no entry: refused by BOOK_IMBALANCE"
    assert answer.assets[0]["ars"] == pytest.approx(float(run.events[refused].ars)), "ranked with the book"
    held = [k for k, event in enumerate(run.events) if event.gate == Gate.IN_POSITION]
    levels = [explain(spec, run.ts[k]).position for k in held[:: len(held) // 12]]
    assert {level["max_hold_bars"] for level in levels if level} != {120}, "OB-5 moves the hold at some bar"
    bare = explain(replace(spec, book=None), run.ts[refused])
    assert bare.book is None
    assert ns_to_iso(run.ts[refused]) == bare.bar["timestamp"]


def test_a_venue_that_costs_nothing_takes_the_same_trades_by_the_same_books(tmp_path: Path) -> None:
    dear = [replace(day, closes=day.closes * 1e3) for day in DAYS[:2]]  # at a dollar a bitcoin lots would be in the way
    data = write_days(tmp_path / "days", dear)
    spec = BacktestSpec(data=data, book=write_books(tmp_path / "books", book_days(dear, 5)), friction="none")
    parity = check_parity(spec, VenueOptions(FRICTIONLESS))
    assert parity.ok, [str(mismatch) for mismatch in parity.mismatches]
    assert parity.matched > 5
    at_venue = told(run_venue_backtest(replace(spec, friction="native"), VenueOptions(FRICTIONLESS)))
    replayed = told(run_backtest(spec))
    for name in ("hash", "snapshots", "bars_usable", "edge"):
        assert at_venue[name] == replayed[name], name
    assert replayed["edge"] is None
    for rule, counts in replayed["rules"].items():
        for name, count in counts.items():
            if isinstance(count, int):
                assert at_venue["rules"][rule][name] == count, (rule, name)
            elif count is not None:
                assert at_venue["rules"][rule][name] == pytest.approx(count, rel=1e-3), (rule, name)


def test_factors_give_the_stress_of_the_book_a_beta_to_raise(data: Path, books: Path, tmp_path: Path) -> None:
    for day in DAYS:
        write_indicators(tmp_path, day.day, 1, {"funding_btc": -0.0005, "dvol_btc": 90.0, "fng": 10.0, "taker": 0.7})
    with_book = told(run_backtest(BacktestSpec(data=data, book=books, factors=tmp_path)))
    rule = with_book["rules"]["OB-4"]
    assert 0 < rule["fired"] <= with_book["bars_stress"], "beta is 0.2 from the eleventh bar of each day on"
    assert rule["entries"] == 0 or rule["notional_added"] > 0.0
