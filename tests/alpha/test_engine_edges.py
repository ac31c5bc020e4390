"""The edges of what NDAlphaEngine may be given: universes, shapes, capital, assets that come and go (SPEC §12, §23)."""

from __future__ import annotations

import math
from datetime import date
from typing import Any

import numpy as np
import pytest

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import ASSET_BOOK, BAR, MARKET_BOOK, VEL_DIV_HISTORY, records
from dolphin.alpha.rows import VOL_REGIME_BARS, day_bars
from dolphin.core.codes import Direction, Drop, ExitReason, Gate
from dolphin.core.errors import ConfigError
from dolphin.core.params import Champion, EngineParams
from tests.alpha.pieces import CAPITAL, DEEP, ENTRY, READY, Stage, market

pytestmark = pytest.mark.jit_off
near = pytest.approx
NAN = math.nan
NO_FRICTION: dict[str, Any] = {"use_sp_fees": False, "use_sp_slippage": False, "use_ob_edge": False}


@pytest.mark.parametrize("assets", [(), ("A", "A"), ("A", "B", "A")])
def test_a_universe_is_distinct_names(assets: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError, match="universe"):
        NDAlphaEngine(EngineParams(), assets, Direction.SHORT, CAPITAL)


@pytest.mark.parametrize("capital", [NAN, math.inf, -math.inf])
def test_capital_is_finite(capital: float) -> None:
    with pytest.raises(ConfigError, match="capital"):
        NDAlphaEngine(EngineParams(), ("A",), Direction.SHORT, capital)


def test_wrong_shapes_are_refused_before_compiled_code_sees_them() -> None:
    engine = NDAlphaEngine(EngineParams(), ("A", "B"), Direction.SHORT, CAPITAL)
    before = engine.state_hash()
    bars = records(BAR, 3)
    for call in (
        lambda: engine.step_bar(0, 0.0, np.ones(3)),
        lambda: engine.step_bar(0, 0.0, np.ones((1, 2))),
        lambda: engine.step_bar(0, 0.0, np.ones(2), market=market(), books=records(ASSET_BOOK, 1)),
        lambda: engine.process_bars(bars, np.ones((3, 3))),
        lambda: engine.process_bars(bars, np.ones((2, 2))),
        lambda: engine.process_bars(bars, np.ones((3, 2)), records(MARKET_BOOK, 2)),
        lambda: engine.process_bars(bars, np.ones((3, 2)), None, records(ASSET_BOOK, 4).reshape(2, 2)),
    ):
        with pytest.raises(ConfigError, match=r"shape .*expected"):
            call()
    assert engine.state_hash() == before


def test_exhausted_capital_refuses_for_good() -> None:
    # 50,000 USDT short (fraction 0.4 of 25,000, times 5); the price doubles: stopped at −100 %, 25,000 in debt.
    stage = Stage(EngineParams(champion=Champion(fraction=0.4), **NO_FRICTION))
    entered = stage.enter()
    assert entered.notional_usd == near(CAPITAL * entered.fraction * 5.0)
    event = stage.step(ENTRY * 2.0)
    assert ExitReason(event.exit_reason) == ExitReason.STOP_LOSS
    assert stage.engine.capital == near(CAPITAL - entered.notional_usd)
    assert stage.engine.capital <= 0.0
    assert stage.engine.state.core.max_drawdown == near(entered.notional_usd / CAPITAL)
    later = [Gate(stage.step(vel_div=DEEP).gate) for _ in range(100)]
    assert set(later) == {Gate.CAPITAL}


@pytest.mark.parametrize("capital", [0.0, -1.0])
def test_an_engine_without_capital_never_trades(capital: float) -> None:
    stage = Stage(capital=capital)
    assert Gate(stage.step(vel_div=DEEP).gate) == Gate.CAPITAL
    assert stage.engine.state.core.gates[Gate.CAPITAL] == stage.t  # before warm-up: the first gate refuses first


def test_all_assets_filtered() -> None:
    """A market that rises, sleeps, or has no price leaves nothing to short: no trade, no fallback."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT", "UPUSDT", "GONEUSDT"), Direction.SHORT, CAPITAL)
    gates = []
    for k in range(150):
        prices = np.array([50.0, 10.0 + k / 64.0, NAN if k > 120 else 5.0])
        event, _ = engine.step_bar(k, DEEP, prices)
        gates.append(Gate(event.gate))
    assert set(gates[READY:]) == {Gate.SELECTION}
    assert [Drop(int(row.drop)) for row in engine.ranking.profiles] == [Drop.LATENCY, Drop.WRONG_ACTION, Drop.NO_PRICE]
    assert engine.capital == CAPITAL


def test_an_asset_that_appears_and_one_that_vanishes() -> None:
    engine = NDAlphaEngine(EngineParams(), ("OLDUSDT", "NEWUSDT"), Direction.SHORT, CAPITAL)

    def run(k: int, old: bool, new: bool, vel_div: float = 0.0) -> Any:
        fall, steep = 1000.0 - k / 64.0, 1000.0 - k / 16.0
        return engine.step_bar(k, vel_div, np.array([fall if old else NAN, steep if new else NAN]))[0]

    for k in range(100):
        run(k, old=True, new=k >= 60)
    # NEW falls faster but has 40 prices; OLD is taken.
    assert (run(100, old=True, new=True, vel_div=DEEP).asset, engine.state.counts[1]) == (0, 41)
    # OLD vanishes: its exit waits, and equity stays at its last price.
    waiting = [run(k, old=False, new=True, vel_div=DEEP) for k in range(101, 110)]
    assert {Gate(e.gate) for e in waiting} == {Gate.IN_POSITION}
    assert len({float(e.equity) for e in waiting}) == 1
    stale = [run(k, old=False, new=True) for k in range(110, 341)]
    assert ExitReason(stale[-1].exit_reason) == ExitReason.STALE_PRICE  # bar 340: 240 bars held
    assert {ExitReason(e.exit_reason) for e in stale[:-1]} == {ExitReason.NONE}
    assert run(341, old=False, new=True, vel_div=DEEP).asset == 1


def test_selection_off_trades_bitcoin_or_nothing() -> None:
    params = EngineParams(use_asset_selection=False)
    assert Gate(Stage(params).step(vel_div=DEEP).gate) == Gate.ENTERED
    assert Gate(Stage(params).step(NAN, vel_div=DEEP).gate) == Gate.SELECTION
    assert Gate(Stage(params, assets=("ETHUSDT",)).step(vel_div=DEEP).gate) == Gate.SELECTION


def test_long_mirrors_short() -> None:
    """A falling market for SHORT, the same rising for LONG: the same notional, the same bars, the same reasons."""
    short, long = Stage(), Stage(direction=Direction.LONG)
    down, up = short.enter(-0.055), long.enter(0.055)
    assert (down.notional_usd, down.leverage, down.bucket) == (up.notional_usd, up.leverage, up.bucket)
    short.step(ENTRY * (1.0 - 0.0096))
    long.step(float(up.price) * (1.0 + 0.0096))
    assert ExitReason(short.trades[0].reason) == ExitReason(long.trades[0].reason) == ExitReason.FIXED_TP
    assert short.trades[0].pnl_price == near(long.trades[0].pnl_price)


def test_vel_div_history_is_capped() -> None:
    stage = Stage(upto=VEL_DIV_HISTORY + 7)
    assert len(stage.engine.state.vel_divs) == VEL_DIV_HISTORY
    assert not np.isnan(stage.engine.state.vel_divs).any()


def test_day_bars_open_the_volatility_gate_at_bar_100() -> None:
    signals = {name: np.zeros(150) for name in ("vel_div", "v50", "v750")}
    bars = day_bars(np.arange(150, dtype=np.int64), signals)
    assert VOL_REGIME_BARS == 100
    assert bars.vol_regime_ok.tolist() == [0] * 100 + [1] * 50


@pytest.mark.parametrize("given", ["market", "books"])
def test_half_a_book_is_no_book_on_the_other_side(given: str) -> None:
    """Features of the market without those of the assets, or the other way round, for many bars: what is not given says
    "no book" at every bar, and nothing beyond the given rows is read."""
    rng = np.random.default_rng(5)
    rows, n = 300, 3
    closes = 100.0 * np.exp(np.cumsum(1e-3 * rng.standard_normal((rows, n)) - 2e-4, axis=0))
    signals = {"vel_div": rng.normal(-0.02, 0.03, rows), "v50": np.zeros(rows), "v750": np.zeros(rows)}
    bars = day_bars(np.arange(rows, dtype=np.int64) * 60_000_000_000, signals)
    markets, books = records(MARKET_BOOK, rows), records(ASSET_BOOK, rows * n).reshape(rows, n)
    if given == "market":
        markets.usable[:], markets.agreement[:], markets.median_imbalance[:] = 1, 0.9, -0.3
    else:
        books["usable"][:], books["depth_quality"][:], books["fill_probability"][:] = 1, 1.2, 0.6
    half, whole = (NDAlphaEngine(EngineParams(), ("A", "B", "C"), Direction.SHORT, CAPITAL) for _ in range(2))
    for engine in (half, whole):
        engine.begin_day(date(2024, 1, 1))
    half.process_bars(bars, closes, markets if given == "market" else None, books if given == "books" else None)
    whole.process_bars(bars, closes, markets, books)
    assert half.state_hash() == whole.state_hash()
    assert half.state.core.draws > 0
