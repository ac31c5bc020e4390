"""Fills: the engine's position follows the venue, and the step does not notice the difference."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.fills import Fills, Wanted
from dolphin.alpha.rows import Rows, day_bars
from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError
from dolphin.core.params import build_params

ASSETS = [f"A{k}" for k in range(8)]
MINUTE = 60_000_000_000
BARS = 3000


def a_market(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Closes (T, N) and a vel_div (T,) that enters often."""
    rng = np.random.default_rng(seed)
    return np.exp(rng.normal(0.0, 0.002, (BARS, len(ASSETS))).cumsum(axis=0)) * 100.0, rng.normal(0.0, 0.02, BARS)


def an_engine(seed: int) -> tuple[NDAlphaEngine, np.ndarray, np.ndarray]:
    closes, signal = a_market(seed)
    engine = NDAlphaEngine(build_params({}, "none"), ASSETS, Direction.SHORT, 25_000.0)
    engine.begin_day(date(2025, 1, 1))
    bars = day_bars(np.arange(BARS) * MINUTE, {"vel_div": signal, "v50": signal, "v750": np.zeros(BARS)})
    return engine, bars, closes


def until_entry(rows: Rows, fills: Fills) -> Wanted:
    """Step to the next entry and take it back."""
    while True:
        fills.mark()
        assert not rows.step()
        if rows.gate[rows.next - 1] == 0:
            return fills.withdraw_entry()


def until_exit(rows: Rows, fills: Fills) -> float:
    """Step to the next exit, take it back, and give what it would have brought."""
    while True:
        fills.mark()
        if rows.step():
            fills.withdraw_exit()
            return float(rows.trade.net_pnl[0])


@pytest.mark.parametrize("seed", range(4))
def test_fills_at_the_decision_price_are_the_replay_bit_for_bit(seed: int) -> None:
    engine, bars, closes = an_engine(seed)
    _, trades = engine.process_bars(bars, closes)
    assert len(trades) > 20
    other, bars, closes = an_engine(seed)
    rows, fills = other.rows(bars, closes), Fills(other)
    for _ in range(BARS):
        fills.mark()
        if rows.step():
            net = float(rows.trade.net_pnl[0])
            fills.withdraw_exit()
            assert other.is_open
            fills.closed(net)
        if rows.gate[rows.next - 1] == 0:
            wanted = fills.withdraw_entry()
            assert not other.is_open
            fills.opened(wanted, wanted.price, wanted.notional_usd)
    assert other.state_hash() == engine.state_hash()


def test_an_entry_that_is_never_filled_leaves_an_engine_that_never_entered() -> None:
    engine, bars, closes = an_engine(0)
    rows, fills = engine.rows(bars, closes), Fills(engine)
    wanted = until_entry(rows, fills)
    core = engine.state.core
    assert (core.open, core.asset, core.capital, core.equity) == (0, -1, 25_000.0, 25_000.0)
    assert core.bars_in_position == 0
    assert wanted.notional_usd == pytest.approx(wanted.capital * wanted.fraction * wanted.leverage)
    assert wanted.price == closes[rows.next - 1, wanted.asset]


def test_the_position_has_the_venues_price_and_quantity_and_grows_with_it() -> None:
    engine, bars, closes = an_engine(0)
    rows, fills = engine.rows(bars, closes), Fills(engine)
    wanted = until_entry(rows, fills)
    fills.opened(wanted, wanted.price * 0.999, 0.4 * wanted.notional_usd)
    entered_at = engine.state.core.entry_bar
    fills.mark()
    rows.step()
    fills.opened(wanted, wanted.price * 0.998, 0.9 * wanted.notional_usd)
    core = engine.state.core
    assert core.entry_bar == entered_at == wanted.bar_idx
    assert core.entry_price == wanted.price * 0.998
    assert core.notional_usd == 0.9 * wanted.notional_usd
    last = closes[rows.next - 1, wanted.asset]
    fills.mark()
    rows.step()
    last = closes[rows.next - 1, wanted.asset]
    marked = 25_000.0 - (last - core.entry_price) / core.entry_price * core.notional_usd
    assert core.equity == pytest.approx(marked, abs=1e-9)


def test_an_exit_that_is_not_filled_leaves_the_position_as_it_was_and_is_asked_for_again() -> None:
    engine, bars, closes = an_engine(1)
    rows, fills = engine.rows(bars, closes), Fills(engine)
    wanted = until_entry(rows, fills)
    fills.opened(wanted, wanted.price, wanted.notional_usd)
    capital, draws = engine.capital, int(engine.state.core.draws)
    until_exit(rows, fills)
    core = engine.state.core
    assert (bool(core.open), core.asset, engine.capital, core.draws) == (True, wanted.asset, capital, draws)
    assert (core.recent_losses, core.bucket_trades.sum(), core.last_exit_bar) == (0, 0, -1)
    held = core.bar_idx - core.entry_bar
    while held < 2 * 120 + 1:  # at the latest MAX_HOLD asks again at every bar
        fills.mark()
        asked = rows.step()
        if asked:
            fills.withdraw_exit()
        held = core.bar_idx - core.entry_bar
    assert asked
    assert core.open


def test_a_close_books_what_the_venue_says_and_counts_win_or_loss_by_it() -> None:
    engine, bars, closes = an_engine(1)
    rows, fills = engine.rows(bars, closes), Fills(engine)
    wanted = until_entry(rows, fills)
    fills.opened(wanted, wanted.price, wanted.notional_usd)
    would_have = until_exit(rows, fills)
    net = -abs(would_have) - 3.25
    fills.closed(net)
    core = engine.state.core
    assert engine.capital == 25_000.0 + net == core.equity
    assert (core.open, core.draws, core.recent_losses) == (0, 1, 1)
    assert (core.bucket_trades[wanted.bucket], core.bucket_wins[wanted.bucket]) == (1, 0)
    assert core.last_exit_bar == core.bar_idx
    assert core.max_drawdown > 0.0


def test_closing_nothing_is_told_and_a_result_must_be_a_number() -> None:
    engine, _, _ = an_engine(0)
    assert engine.settle(1.0) is False
    with pytest.raises(ConfigError, match="expected a finite number"):
        engine.settle(float("nan"))


def test_rows_refuse_a_bar_too_many_and_wrong_shapes() -> None:
    engine, bars, closes = an_engine(0)
    rows = engine.rows(bars[:2], closes[:2])
    assert len(rows) == 2
    rows.step()
    rows.step()
    with pytest.raises(ConfigError, match="all 2 bars have been stepped"):
        rows.step()
    with pytest.raises(ConfigError, match="closes of shape"):
        engine.rows(bars[:2], closes[:3])


@pytest.mark.parametrize("split", [0, 5, 11, 1500])
def test_rows_single_steps_and_whole_days_are_one_thing(split: int) -> None:
    whole, bars, closes = an_engine(2)
    whole.process_bars(bars, closes)
    engine, bars, closes = an_engine(2)
    rows = engine.rows(bars[:split], closes[:split])
    for _ in range(split):
        rows.step()
    for row in range(split, BARS):
        bar = bars[row]
        engine.step_bar(
            int(bar.ts_ns),
            float(bar.vel_div),
            closes[row],
            v50=float(bar.v50),
            v750=float(bar.v750),
            vol_regime_ok=bool(bar.vol_regime_ok),
        )
    assert engine.state_hash() == whole.state_hash()
