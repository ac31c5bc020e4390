"""Whatever the market and the venue's terms: account, engine and round trips tell one and the same story."""

from __future__ import annotations

from datetime import timedelta

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dolphin.core.codes import ExitReason
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.ledger import as_trades
from dolphin.trade.nautilus.backtest import run_venue
from dolphin.trade.nautilus.market import VenueMarket
from dolphin.trade.venue import VenueModel
from tests.support.runs import FIRST, scan_days
from tests.support.venue_runs import (
    CAPITAL,
    EveryBar,
    LastEvent,
    Thin,
    at,
    instrument,
    payments,
    scan_blocks,
    spec,
    venue_run,
)

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")

models = st.builds(
    VenueModel,
    fees=st.booleans(),
    spread_bps=st.sampled_from([0.0, 0.5, 3.0]),
    slippage_bps=st.sampled_from([0.0, 1.0, 2.5]),
    latency_ms=st.sampled_from([0.0, 50.0, 7_000.0, 59_999.0]),
    stop_pct=st.sampled_from([None, 0.001, 0.003, 0.05]),
    grid=st.sampled_from(["venue", "data"]),
)


def a_market(seed: int, gap: bool, missing: float) -> list[ScanBlock]:
    """Two days of bars, perhaps with a day missing between them, and with holes in the prices."""
    rng = np.random.default_rng(seed)
    first, second = scan_days(2, 150, SYMBOLS, seed=seed, drift=0.0)
    days = [first, second]
    if gap:
        days = [first, *scan_days(1, 150, SYMBOLS, seed=seed + 1, drift=0.0, first=FIRST + timedelta(days=3))]
    blocks = scan_blocks(days)
    for each in blocks:
        each.closes[rng.random(each.closes.shape) < missing] = np.nan
    return blocks


def some_funding(seed: int, gap: bool) -> np.ndarray:
    """A payment of each asset every twenty minutes; every other one without a mark."""
    rng = np.random.default_rng(seed)
    return payments(
        *(
            (at(row, days=day), column, 1e-3 * rng.standard_normal(), 1.0 if row % 40 else float("nan"))
            for day in (0, 3 if gap else 1)
            for row in range(0, 150, 20)
            for column in range(len(SYMBOLS))
        )
    )


def check_trips(trips: np.ndarray, capital: float) -> None:
    """One after the other, and taken apart by cause without a remainder."""
    assert (trips["entry_bar"] <= trips["exit_bar"]).all()
    assert (trips["entry_fill_ts"] <= trips["exit_fill_ts"]).all()
    assert (trips["exit_bar"][:-1] < trips["entry_bar"][1:]).all()
    assert (trips["exit_fill_ts"][:-1] <= trips["entry_fill_ts"][1:]).all()
    assert (trips["quantity"] > 0.0).all()
    assert (trips["quantity"] * trips["entry_price"] <= trips["wanted_usd"] * (1.0 + 1e-12)).all()
    np.testing.assert_array_equal(trips["trade_id"], np.arange(len(trips)))
    trades = as_trades(trips, CAPITAL)
    causes = sum(trades[name] for name in ("pnl_price", "fees", "slippage", "funding", "modelled_edge"))
    np.testing.assert_allclose(causes, trips["net_pnl"], rtol=0.0, atol=1e-8)
    if len(trades):
        assert abs(trades["capital_after"][-1] - capital) < 1e-6
        assert abs(trips["capital_before"][-1] + trips["net_pnl"][-1] - capital) < 1e-6


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1),
    models,
    st.sampled_from(["blue", "green"]),
    st.booleans(),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.booleans(),
    st.sampled_from([None, 1000.0, 6000.0]),
)
def test_account_engine_and_trips_agree(
    seed: int, terms: VenueModel, profile: str, gap: bool, missing: float, select: bool, thin: float | None
) -> None:
    assets = [instrument(symbol, tick="0.0001", lot="1", min_qty="1", max_qty="100000") for symbol in SYMBOLS]
    overrides = {"use_asset_selection": str(select).lower(), "stop_pct": "0.004", "fixed_tp_pct": "0.003"}
    wanted = spec(terms, assets, profile=profile, overrides=overrides, funding=some_funding(seed, gap))
    hooks = LastEvent()
    blocks = a_market(seed, gap, missing)
    with venue_run(blocks, wanted, fill_model=None if thin is None else Thin(thin), hooks=hooks) as run:
        left = run.actor.left_behind
        if thin is None:
            run.check_closed()
        check_trips(run.trips, run.actor.engine.capital)
        if left is None:
            run.check_closed()
            last = hooks.events[-1][-1]
            assert (float(last["capital"]), int(last["in_position"])) == (run.actor.engine.capital, 0)
        if terms.stop_pct is None:
            assert not (run.trips["reason"] == ExitReason.PROTECTIVE_STOP).any()
        for position in run.engine.cache.positions_open():  # what a thin market left at the last bar is told of
            assert str(position.quantity) == left["quantity"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 2**32 - 1),
    models,
    st.sampled_from(["blue", "green"]),
    st.booleans(),
    st.sampled_from([0.0, 0.02, 0.3]),
    st.sampled_from([None, 1000.0, 6000.0]),
)
def test_quotes_that_were_left_out_change_nothing(
    seed: int, terms: VenueModel, profile: str, gap: bool, missing: float, thin: float | None
) -> None:
    """The same run with a quote of what is held at every bar makes the same round trips, to the bit."""
    assets = [instrument(symbol, tick="0.0001", lot="1", min_qty="1", max_qty="100000") for symbol in SYMBOLS]
    overrides = {"stop_pct": "0.9", "fixed_tp_pct": "0.003"}
    wanted = spec(terms, assets, profile=profile, overrides=overrides, funding=some_funding(seed, gap))
    made = []
    for market in (VenueMarket, EveryBar):
        blocks = a_market(seed, gap, missing)
        model = None if thin is None else Thin(thin)
        with venue_run(blocks, wanted, fill_model=model, market_type=market) as run:
            made.append((run.trips.copy(), run.actor.engine.state_hash(), run.actor.left_behind, len(run.quotes)))
    few, every = made
    np.testing.assert_array_equal(few[0], every[0])
    assert few[1:3] == every[1:3]
    if terms.stop_pct is not None:
        assert few[3] <= every[3]


@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.integers(0, 2**32 - 1), models)
def test_the_same_days_twice_are_the_same_to_the_bit(seed: int, terms: VenueModel) -> None:
    assets = [instrument(symbol, tick="0.0001", lot="1", min_qty="1", max_qty="100000") for symbol in SYMBOLS]
    wanted = spec(terms, assets, funding=some_funding(seed, False))
    first, second = (run_venue(iter(a_market(seed, False, 0.02)), wanted) for _ in range(2))
    assert first.trips.tobytes() == second.trips.tobytes()
    assert first.engine.state_hash() == second.engine.state_hash()
    assert first.balance == second.balance
