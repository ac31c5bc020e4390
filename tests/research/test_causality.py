"""Nothing after bar t may change anything up to bar t: signals, events, trades, on recorded prices.

The checker runs a pipeline on the whole market and on one that agrees with it only up to bar t, and names the first
thing up to t that differs. It is itself tested: pipelines that look ahead, in ways that people really get wrong, are
caught by the very same function.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.alpha.rows import day_bars
from dolphin.core.clock import NS_PER_DAY
from dolphin.core.codes import Direction, ExitReason
from dolphin.core.params import EngineParams
from dolphin.market.archive import Archive, ArchiveWriter
from dolphin.market.tables import PriceDay, ScanDay
from dolphin.research import backtest
from dolphin.research.backtest import BacktestSpec, run_backtest
from dolphin.scan.scanner import Scanner

F8 = NDArray[np.float64]
BAR_SECONDS = 60.0
WARM = 760  # bars until the longest window is full, and a few


class Market(NamedTuple):
    """Consecutive bars of N assets."""

    ts_ns: NDArray[np.int64]
    closes: F8


class Seen(NamedTuple):
    """All that a run shows: per-bar signals (T, 7), EVENT records (T,), TRADE records by exit."""

    signals: F8
    events: Record
    trades: Record


Pipeline = Callable[[Market], Seen]
Change = Callable[[Market, int, np.random.Generator], Market]


def truncated(market: Market, t: int, rng: np.random.Generator) -> Market:
    """Nothing after bar t."""
    return Market(market.ts_ns[: t + 1], market.closes[: t + 1])


def scrambled(market: Market, t: int, rng: np.random.Generator) -> Market:
    """The same stamps, but after bar t the bars come in another order, at other prices, some of them missing."""
    closes = market.closes.copy()
    later = closes[t + 1 :]
    later[:] = rng.permutation(later) * rng.uniform(0.5, 2.0, later.shape)
    later[rng.random(later.shape) < 0.1] = np.nan
    return Market(market.ts_ns, closes)


def first_difference(pipeline: Pipeline, market: Market, whole: Seen, t: int, change: Change) -> str | None:
    """What differs up to bar t when only what comes after it is changed; None for a causal pipeline."""
    other = pipeline(change(market, t, np.random.default_rng([t, 1])))
    for name, mine, yours in (("signals", whole.signals, other.signals), ("events", whole.events, other.events)):
        for k in range(t + 1):
            if mine[k].tobytes() != yours[k].tobytes():
                return f"{name} of bar {k} depend on what comes after bar {t}"
    done, redone = (seen.trades[seen.trades["exit_bar"] <= t] for seen in (whole, other))
    if done.tobytes() != redone.tobytes():
        return f"the trades closed by bar {t} depend on what comes after it"
    return None


# --- pipelines: an honest one, and ways to cheat ---


def scan(market: Market) -> dict[str, F8]:
    table = Scanner(market.closes.shape[1], BAR_SECONDS).scan(market.ts_ns, market.closes)
    v = table.velocity
    return {"vel_div": table.vel_div, "v50": v[:, 0], "v750": v[:, 3], "all": np.hstack((v, table.instability))}


def trade(market: Market, signals: dict[str, F8], direction: Direction = Direction.SHORT) -> Seen:
    names = tuple(f"A{k:03d}USDT" for k in range(market.closes.shape[1]))
    engine = NDAlphaEngine(EngineParams(), names, direction, 25_000.0)
    events, trades = engine.process_bars(day_bars(market.ts_ns, signals), market.closes)
    return Seen(signals["all"], np.asarray(events), np.asarray(trades))


def honest(market: Market) -> Seen:
    return trade(market, scan(market))


def honest_long(market: Market) -> Seen:
    return trade(market, scan(market), Direction.LONG)


def next_bar_s_signal(market: Market) -> Seen:
    """vel_div one bar too early: what shifting a column the wrong way does."""
    signals = scan(market)
    return trade(market, {**signals, "vel_div": np.append(signals["vel_div"][1:], np.nan)})


def next_bar_s_price(market: Market) -> Seen:
    """Closes taken at their open stamps: what importing klines with the wrong --stamp does."""
    early = np.vstack((market.closes[1:], np.full((1, market.closes.shape[1]), np.nan)))
    return trade(Market(market.ts_ns, early), scan(market))


def normalised_by_its_own_day(market: Market) -> Seen:
    """Signals divided by the deviation of the whole stretch: what normalising before replaying does."""
    signals = scan(market)
    return trade(market, {**signals, "vel_div": normalised(signals["vel_div"])})


def normalised(vel_div: F8) -> F8:
    """The column with a deviation of 0.02, taken over all of it."""
    known = vel_div[np.isfinite(vel_div)]
    return vel_div / known.std() * 0.02 if len(known) else vel_div


def exit_at_the_best_coming_price(market: Market) -> Seen:
    """Trades that know the low of the next ten bars; signals and entries are honest."""
    seen = honest(market)
    trades = seen.trades.copy()
    for one in trades:
        ahead = market.closes[one["exit_bar"] : one["exit_bar"] + 10, one["asset"]]
        one["exit_price"] = np.nanmin(ahead)
    return Seen(seen.signals, seen.events, trades)


CHEATS = [next_bar_s_signal, next_bar_s_price, normalised_by_its_own_day, exit_at_the_best_coming_price]


@pytest.fixture(scope="module")
def market(recorded_days: Sequence[PriceDay]) -> Market:
    """Two recorded days as one stretch."""
    days = recorded_days[1:3]
    return Market(np.concatenate([d.ts_ns for d in days]), np.concatenate([d.closes for d in days]))


def moments(market: Market, whole: Seen) -> list[int]:
    """Random bars, and the ones around which a look ahead would show: entries, exits, day ends."""
    rng = np.random.default_rng(20210402)
    exits = whole.trades["exit_bar"]
    chosen = [*rng.integers(WARM, len(market.ts_ns) - 1, 5), exits[0], exits[0] - 1, exits[len(exits) // 2], 1439, 10]
    return sorted({int(t) for t in chosen})


@pytest.mark.parametrize("change", [truncated, scrambled])
@pytest.mark.parametrize("pipeline", [honest, honest_long])
def test_the_future_changes_nothing(pipeline: Pipeline, change: Change, market: Market) -> None:
    whole = pipeline(market)
    assert len(whole.trades) > 20
    for t in moments(market, whole):
        assert first_difference(pipeline, market, whole, t, change) is None


@pytest.mark.parametrize("change", [truncated, scrambled])
@pytest.mark.parametrize("cheat", CHEATS)
def test_a_look_ahead_is_caught(cheat: Pipeline, change: Change, market: Market) -> None:
    whole = cheat(market)
    found = [first_difference(cheat, market, whole, t, change) for t in moments(market, whole)]
    assert any(found), f"{cheat.__name__} went unnoticed"


def test_streaming_the_scans_is_the_same_pipeline(market: Market) -> None:
    """Bar by bar the scanner cannot look ahead, having nothing to look at: it must give what `scan` gives."""
    scanner, signals = Scanner(market.closes.shape[1], BAR_SECONDS), scan(market)
    for k in range(1000):
        one = scanner.update(int(market.ts_ns[k]), market.closes[k])
        got = np.concatenate((one.velocity, one.instability))
        assert got.tobytes() == signals["all"][k].tobytes(), k


# --- through the archive, the stream of scans and the backtest ---


class Told:
    """What a backtest tells its sink, day after day."""

    def __init__(self) -> None:
        self.signals: list[F8] = []
        self.events: list[np.ndarray] = []

    def __call__(self, scans: ScanDay, events: Record) -> None:
        self.signals.append(scans.signals)
        self.events.append(np.array(events))


def replayed(folder: Path) -> Seen:
    told = Told()
    result = run_backtest(BacktestSpec(data=folder), sink=told)
    return Seen(np.concatenate(told.signals), np.concatenate(told.events), result.trades)


def write(folder: Path, days: Sequence[PriceDay], changed: Market) -> Path:
    """An archive of `days` with the closes of `changed`, which may end early."""
    at = changed.ts_ns // NS_PER_DAY
    with ArchiveWriter(folder, "prices", BAR_SECONDS) as writer:
        for day in days:
            rows = at == day.ts_ns[0] // NS_PER_DAY
            if rows.any():
                closes = np.ascontiguousarray(changed.closes[rows])
                writer.write(dataclasses.replace(day, ts_ns=changed.ts_ns[rows], closes=closes))
    return folder


@pytest.fixture(scope="module")
def days(recorded_days: Sequence[PriceDay]) -> Sequence[PriceDay]:
    return recorded_days[1:4]


def backtest_difference(days: Sequence[PriceDay], t: int, change: Change, folder: Path) -> str | None:
    market = Market(np.concatenate([d.ts_ns for d in days]), np.concatenate([d.closes for d in days]))
    whole = replayed(write(folder / "whole", days, market))
    assert len(whole.trades) > 20

    def pipeline(changed: Market) -> Seen:
        seen = replayed(write(folder / f"{change.__name__}-{t}", days, changed))
        # What is open when the data ends is closed because they end: that close is no decision at bar t.
        ended = seen.trades["reason"] == ExitReason.END_OF_DATA
        if ended.any() and len(changed.ts_ns) == t + 1:
            last, before = seen.events[-1], whole.events[t]
            last["capital"], last["equity"] = before["capital"], before["equity"]
        return Seen(seen.signals, seen.events, seen.trades[~ended])

    return first_difference(pipeline, market, whole, t, change)


@pytest.mark.parametrize("change", [truncated, scrambled])
@pytest.mark.parametrize("t", [900, 1439, 1440, 2203])
def test_a_backtest_does_not_look_ahead(t: int, change: Change, days: Sequence[PriceDay], tmp_path: Path) -> None:
    assert backtest_difference(days, t, change, tmp_path) is None


@pytest.mark.parametrize("change", [truncated, scrambled])
def test_a_backtest_that_looks_ahead_is_caught(
    change: Change, days: Sequence[PriceDay], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leaky(scans: ScanDay) -> dict[str, F8]:
        signals = plain(scans)
        return {**signals, "vel_div": normalised(signals["vel_div"])}

    plain = backtest.replay_signals
    monkeypatch.setattr(backtest, "replay_signals", leaky)
    assert backtest_difference(days, 2203, change, tmp_path) is not None


def test_an_archive_has_no_bar_before_it_was_known(recorded_prices: Path) -> None:
    """The first recorded kline opens at 00:00 and is known at 00:01: no bar may carry an earlier stamp."""
    first = Archive.open(recorded_prices).read(Archive.open(recorded_prices).days[0])
    assert first.ts_ns[0] % NS_PER_DAY == 60 * 1_000_000_000
