"""Turning the reference's bars into the engine's records, so that both see the very same case."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, BAR, MARKET_BOOK, TRADE, Record, records
from dolphin.core.codes import AcbUpdate, Direction, ExitReason
from dolphin.core.params import EngineParams
from tests.reference.bars_ref import Bar
from tests.reference.engine_ref import ReferenceEngine
from tests.reference.markets import Day, asset_names

CAPITAL = 25_000.0
ACB = {"daily": AcbUpdate.DAILY, "subday": AcbUpdate.SUBDAY}


def to_records(case: Sequence[Bar], n_assets: int) -> tuple[Record, np.ndarray, Record, Record]:
    """(bars (T,), prices (T, N), markets (T,), books (T, N)) of a reference case."""
    t = len(case)
    bars, markets, books = records(BAR, t), records(MARKET_BOOK, t), records(ASSET_BOOK, t * n_assets).reshape(t, -1)
    for k, bar in enumerate(case):
        row = bars[k]
        row.ts_ns, row.vel_div, row.v50, row.v750 = bar["ts_ns"], bar["vel_div"], bar["v50"], bar["v750"]
        row.vol_regime_ok, row.posture = int(bar["vol_ok"]), bar["posture"]
        if bar["acb"] is not None:
            row.acb_update, row.acb_boost, row.acb_beta = int(ACB[bar["acb"][0]]), bar["acb"][1], bar["acb"][2]
        if bar["book"] is not None:
            markets[k].usable = 1
            for name, value in bar["book"]["market"].items():
                setattr(markets[k], name, value)
            for asset, snapshot in bar["book"]["assets"].items():
                books[k, asset].usable = 1
                for name, value in snapshot.items():
                    setattr(books[k, asset], name, value)
    return bars, np.array([bar["prices"] for bar in case]), markets, books


def run_reference(
    params: EngineParams, direction: Direction, case: Sequence[Bar], n: int, days: dict[int, Day], gaps: set[int]
) -> tuple[list[dict], list[dict], ReferenceEngine]:
    """(events, trades, engine) of the slow twin."""
    engine = ReferenceEngine(params, int(direction), asset_names(n), CAPITAL)
    events = []
    for k, bar in enumerate(case):
        if k in gaps:
            engine.close_open(ExitReason.DATA_GAP)
        if k in days:
            engine.begin_day(**days[k])
        events.append(engine.step(bar))
    engine.close_open(ExitReason.END_OF_DATA)
    return events, [dict(t) for t in engine.trades], engine


def run_engine(
    params: EngineParams,
    direction: Direction,
    case: Sequence[Bar],
    n: int,
    days: dict[int, Day],
    gaps: set[int],
    restore_at: frozenset[int] = frozenset(),
) -> tuple[Record, Record, NDAlphaEngine]:
    """(events, trades, engine) of the compiled engine, cut where the reference's days and gaps fall."""
    engine = NDAlphaEngine(params, asset_names(n), direction, CAPITAL)
    bars, prices, markets, books = to_records(case, n)
    cuts = sorted({0, len(case), *days, *gaps, *restore_at})
    events, trades = [], [records(TRADE, 0)]
    for start, end in pairwise(cuts):
        if start in restore_at:
            engine = NDAlphaEngine.restore(engine.snapshot())
        if start in gaps:
            trades.append(engine.close_open(ExitReason.DATA_GAP))
        if start in days:
            set_day(engine, days[start])
        part = slice(start, end)
        happened, closed = engine.process_bars(bars[part], prices[part], markets[part], books[part])
        events.append(happened)
        trades.append(closed)
    trades.append(engine.close_open(ExitReason.END_OF_DATA))
    return np.concatenate(events), np.concatenate(trades), engine


def set_day(engine: NDAlphaEngine, day: Day) -> None:
    """`begin_day` without its calendar: the cases place their gaps themselves."""
    core = engine.state.core
    core.boost, core.beta, core.mc_scale, core.mc_red = day["boost"], day["beta"], day["mc_scale"], int(day["mc_red"])
