"""The step that replays a year is the step that trades: recorded days, whole and bar by bar, are the same bit for bit.

Compared are every field of every event and trade, and the hash of the final state, which is the whole engine.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, EVENT, MARKET_BOOK, TRADE, Record, records
from dolphin.alpha.rows import day_bars
from dolphin.core.codes import Direction, ExitReason, Gate, Posture
from dolphin.core.params import EngineParams
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestSpec, replay_signals, run_backtest

CAPITAL = 25_000.0
ROOT = Path(__file__).resolve().parents[2]
SIDES = list(Direction)
Outcome = tuple[bytes, bytes, str]


def fresh(scans: Sequence[ScanDay], direction: Direction) -> NDAlphaEngine:
    return NDAlphaEngine(EngineParams(), scans[0].assets, direction, CAPITAL)


def outcome(engine: NDAlphaEngine, events: list[Any], trades: list[Any]) -> Outcome:
    """(events, trades, state hash) of a run that ends here."""
    trades.append(engine.close_open(ExitReason.END_OF_DATA))
    joined = [np.concatenate([np.asarray(part).reshape(-1) for part in parts]) for parts in (events, trades)]
    assert joined[0].dtype == EVENT
    assert joined[1].dtype == TRADE
    return joined[0].tobytes(), joined[1].tobytes(), engine.state_hash()


def whole_days(scans: Sequence[ScanDay], direction: Direction) -> tuple[NDAlphaEngine, list[Any], list[Any]]:
    engine, events, trades = fresh(scans, direction), [], []
    for day in scans:
        trades.append(engine.begin_day(day.day))
        happened, closed = engine.process_bars(day_bars(day.ts_ns, replay_signals(day)), day.closes)
        events.append(happened)
        trades.append(closed)
    return engine, events, trades


def bar_by_bar(
    scans: Sequence[ScanDay], direction: Direction, between: Callable[[NDAlphaEngine, int], NDAlphaEngine]
) -> tuple[NDAlphaEngine, list[Any], list[Any]]:
    """The same days through `step_bar`; `between` may replace the engine after each bar (counted over the run)."""
    engine, events, trades, k = fresh(scans, direction), [], [], 0
    for day in scans:
        trades.append(engine.begin_day(day.day))
        bars = day_bars(day.ts_ns, replay_signals(day))
        for row, prices in zip(bars, day.closes, strict=True):
            event, trade = engine.step_bar(
                int(row.ts_ns),
                float(row.vel_div),
                prices,
                v50=float(row.v50),
                v750=float(row.v750),
                vol_regime_ok=bool(row.vol_regime_ok),
            )
            events.append(event)
            if trade is not None:
                trades.append(trade)
            engine = between(engine, k)
            k += 1
    return engine, events, trades


@pytest.fixture(scope="module", params=SIDES, ids=lambda d: d.name)
def whole(request: pytest.FixtureRequest, recorded_scans: Sequence[ScanDay]) -> tuple[Direction, Outcome]:
    direction: Direction = request.param
    engine, events, trades = whole_days(recorded_scans, direction)
    assert sum(len(t) for t in trades) > 50, "the recorded days must trade, or the comparison shows nothing"
    return direction, outcome(engine, events, trades)


def test_whole_days_equal_bar_by_bar(whole: tuple[Direction, Outcome], recorded_scans: Sequence[ScanDay]) -> None:
    direction, want = whole
    assert outcome(*bar_by_bar(recorded_scans, direction, lambda engine, _: engine)) == want


@pytest.mark.parametrize("seed", range(2))
def test_snapshot_and_restore_at_random_bars_change_nothing(
    seed: int, whole: tuple[Direction, Outcome], recorded_scans: Sequence[ScanDay]
) -> None:
    direction, want = whole
    bars = sum(day.rows for day in recorded_scans)
    cuts = set(np.random.default_rng(seed).integers(0, bars, 60).tolist())
    held = 0

    def between(engine: NDAlphaEngine, k: int) -> NDAlphaEngine:
        nonlocal held
        if k not in cuts:
            return engine
        held += engine.is_open
        return NDAlphaEngine.restore(engine.snapshot())

    assert outcome(*bar_by_bar(recorded_scans, direction, between)) == want
    assert held > 10, "some cuts must fall into open positions"


def test_days_cut_into_any_pieces_give_the_same(
    whole: tuple[Direction, Outcome], recorded_scans: Sequence[ScanDay]
) -> None:
    direction, want = whole
    rng = np.random.default_rng(9)
    engine, events, trades = fresh(recorded_scans, direction), [], []
    for day in recorded_scans:
        trades.append(engine.begin_day(day.day))
        bars = day_bars(day.ts_ns, replay_signals(day))
        cuts = [0, *sorted(rng.integers(0, day.rows, 7).tolist()), day.rows]
        for a, b in pairwise(cuts):
            happened, closed = engine.process_bars(bars[a:b], day.closes[a:b])
            events.append(happened)
            trades.append(closed)
    assert outcome(engine, events, trades) == want


def test_with_book_posture_and_circuit_breaker_too(recorded_scans: Sequence[ScanDay]) -> None:
    """The optional inputs go both ways as well: a made-up book over two recorded days, postures, sub-day updates."""
    rng = np.random.default_rng(1)
    days = recorded_scans[1:3]
    whole_, single = fresh(days, Direction.SHORT), fresh(days, Direction.SHORT)
    got: list[bytes] = []
    want: list[bytes] = []
    for day in days:
        bars = day_bars(day.ts_ns, replay_signals(day))
        bars.posture[:] = rng.choice([0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3], day.rows)
        markets, books = a_book(rng, day.rows, len(day.assets))
        for engine in (whole_, single):
            engine.begin_day(day.day, boost=1.5, beta=0.4, mc_scale=0.5)
            assert engine.update_acb_boost(1.05, 0.2)
        events, trades = whole_.process_bars(bars, day.closes, markets, books)
        want += [events.tobytes(), trades.tobytes()]
        singles, closed = [], []
        for k, row in enumerate(bars):
            event, trade = single.step_bar(
                int(row.ts_ns),
                float(row.vel_div),
                day.closes[k],
                v50=float(row.v50),
                v750=float(row.v750),
                vol_regime_ok=bool(row.vol_regime_ok),
                posture=Posture(int(row.posture)),
                market=markets[k],
                books=books[k],
            )
            singles.append(event.tobytes())
            closed += [] if trade is None else [trade.tobytes()]
        got += [b"".join(singles), b"".join(closed)]
        assert {Gate.BOOK_IMBALANCE, Gate.HALT, Gate.ENTERED} <= {Gate(g) for g in events.gate}
    assert got == want
    assert single.state_hash() == whole_.state_hash()


def a_book(rng: np.random.Generator, t: int, n: int) -> tuple[Record, Record]:
    markets, books = records(MARKET_BOOK, t), records(ASSET_BOOK, t * n).reshape(t, n)
    markets.usable[:] = rng.random(t) < 0.9
    markets.median_imbalance[:] = rng.normal(0.0, 0.2, t)
    markets.agreement[:] = rng.uniform(0.4, 1.0, t)
    markets.cascade_count[:] = 3 * (rng.random(t) < 0.02)
    markets.regime_signal[:] = rng.integers(-1, 2, t)
    markets.depth_velocity[:] = rng.normal(0.0, 0.1, t)
    books.usable[:] = rng.random((t, n)) < 0.9
    books.depth_quality[:] = rng.uniform(0.0, 2.0, (t, n))
    books.fill_probability[:] = 1.0 - 0.38**books.depth_quality
    books.imbalance_ma5[:] = rng.normal(0.0, 0.2, (t, n))
    books.imbalance_persistence[:] = rng.uniform(0.3, 1.0, (t, n))
    books.withdrawal_velocity[:] = rng.normal(0.0, 0.2, (t, n))
    return markets, books


# --- other processes ---

CONTINUE = """
import sys
from pathlib import Path
import numpy as np
from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.rows import day_bars
from dolphin.alpha.layout import BAR
from dolphin.core.codes import ExitReason
engine = NDAlphaEngine.restore(Path(sys.argv[1]).read_bytes())
rest = np.load(sys.argv[2], allow_pickle=False)
bars = np.ascontiguousarray(rest["bars"]).view(BAR).view(np.recarray)
events, trades = engine.process_bars(bars, rest["closes"])
last = engine.close_open(ExitReason.END_OF_DATA)
print(engine.state_hash(), len(trades) + len(last))
"""

BACKTEST = """
import hashlib, json, sys
from pathlib import Path
from dolphin.research.backtest import BacktestSpec, run_backtest
from dolphin.research.results import summarise, trade_columns
r = run_backtest(BacktestSpec(data=Path(sys.argv[1])))
s = summarise(r, trade_columns(r.trades, r.assets), "x")
del s["wall_s"], s["bars_per_s"]
for part in (json.dumps(s, sort_keys=True).encode(), r.trades.tobytes()):
    print(hashlib.sha256(part).hexdigest())
"""


def in_a_process(code: str, *args: str) -> list[str]:
    """The words that a fresh interpreter prints."""
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True, check=True, cwd=ROOT)
    return done.stdout.split()


def test_another_process_continues_where_this_one_stopped(
    whole: tuple[Direction, Outcome], recorded_scans: Sequence[ScanDay], tmp_path: Path
) -> None:
    direction, (_, trades, want) = whole
    engine = fresh(recorded_scans, direction)
    closed_here = 0
    for day in recorded_scans[:-1]:
        engine.begin_day(day.day)
        closed_here += len(engine.process_bars(day_bars(day.ts_ns, replay_signals(day)), day.closes)[1])
    last = recorded_scans[-1]
    bars, row = day_bars(last.ts_ns, replay_signals(last)), 777
    engine.begin_day(last.day)
    closed_here += len(engine.process_bars(bars[:row], last.closes[:row])[1])
    (tmp_path / "engine").write_bytes(engine.snapshot())
    np.savez(tmp_path / "rest.npz", bars=np.asarray(bars[row:]).view("u1"), closes=last.closes[row:])
    got, closed_there = in_a_process(CONTINUE, str(tmp_path / "engine"), str(tmp_path / "rest.npz"))
    assert got == want
    assert closed_here + int(closed_there) == len(trades) // TRADE.itemsize


def test_a_fresh_process_gives_the_same_summary(recorded_prices: Path) -> None:
    from dolphin.research.results import summarise, trade_columns

    result = run_backtest(BacktestSpec(data=recorded_prices))
    summary = summarise(result, trade_columns(result.trades, result.assets), "x")
    del summary["wall_s"], summary["bars_per_s"]
    text = json.dumps(summary, sort_keys=True).encode()
    want = [hashlib.sha256(text).hexdigest(), hashlib.sha256(result.trades.tobytes()).hexdigest()]
    assert in_a_process(BACKTEST, str(recorded_prices)) == want
