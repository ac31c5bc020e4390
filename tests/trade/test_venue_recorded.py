"""Recorded perpetuals at the venue, with their ticks, lots and funding: every round trip holds what it must."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from dolphin.market.archive import Archive
from dolphin.market.fundingfiles import read_funding
from dolphin.market.importer import Import, ImportSpec
from dolphin.market.instrumentfiles import load_instruments
from dolphin.research.backtest import stream_scans
from dolphin.research.venue import BacktestSpec, VenueOptions, check_parity
from dolphin.trade.nautilus.backtest import VenueSpec, run_venue
from dolphin.trade.venue import VenueModel
from tests.support.shared import recorded
from tests.support.venue_runs import CAPITAL, scan_blocks

near = pytest.approx
FIRST, LAST = date(2025, 5, 12), date(2025, 5, 14)


@pytest.fixture(scope="module")
def perpetuals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three days of sixteen perpetuals' minutes, as an archive of prices."""
    out = tmp_path_factory.mktemp("recorded") / "prices"
    source = recorded("perp_1m_2025")
    Import(ImportSpec(source=source, out=out, bar_seconds=60, stamp="open", first=FIRST, last=LAST)).run()
    return out


def test_money_prices_and_funding_of_every_round_trip(perpetuals: Path) -> None:
    archive = Archive.open(perpetuals)
    days = scan_blocks(list(stream_scans(BacktestSpec(perpetuals))))
    instruments = load_instruments().select(archive.assets)
    rates = read_funding(recorded("perp_1m_2025") / "funding_mark")
    funding = rates.events(archive.assets, int(days[0].ts_ns[0]), int(days[-1].ts_ns[-1]))
    model = VenueModel(stop_pct=0.003)
    spec = VenueSpec(instruments, model, CAPITAL, "blue", {}, 60.0, funding=funding)
    run = run_venue(iter(days), spec)
    trips = run.trips
    assert len(trips) > 15
    assert run.left_behind is None
    assert run.refused == {}
    assert abs(run.balance - run.engine.capital) < 1e-6
    assert abs(CAPITAL + trips["net_pnl"].sum() - run.balance) < 1e-6
    # Five basis points of each leg, to Nautilus' eighth decimal.
    turnover = trips["quantity"] * (trips["entry_fill"] + trips["exit_fill"])
    np.testing.assert_allclose(trips["fees"], -0.0005 * turnover, atol=2e-8)
    ticks = np.array([float(instruments[asset].tick) for asset in trips["asset"]])
    lots = np.array([float(instruments[asset].lot) for asset in trips["asset"]])
    for leg, buys in (("entry", -1.0), ("exit", 1.0)):
        price = trips[f"{leg}_fill"]
        np.testing.assert_allclose(price / ticks, np.round(price / ticks), atol=1e-6)
        # Half a spread of at least a tick, and the slippage to the nearest one: never in our favour.
        worse = buys * (price - trips[f"{leg}_mid"])
        assert (worse >= -1e-9 * price).all()
        assert (worse <= 1.5e-4 * price + 2.0 * ticks).all()
    np.testing.assert_allclose(trips["quantity"] / lots, np.round(trips["quantity"] / lots), atol=1e-6)
    assert (trips["wanted_usd"] / trips["entry_price"] - trips["quantity"] < lots * (1.0 + 1e-9)).all()
    stamps, closes = np.concatenate([day.ts_ns for day in days]), np.concatenate([day.closes for day in days])
    # Funding is what the position spans, and nothing else.
    for trip in trips:
        spans = (
            (funding["column"] == trip["asset"])
            & (funding["ts_ns"] > trip["entry_fill_ts"])
            & (funding["ts_ns"] <= trip["exit_fill_ts"])
        )
        # Between the eight-hourly marks the last close is taken.
        mark, row = funding["mark"][spans], np.searchsorted(stamps, funding["ts_ns"][spans], "right") - 1
        price = np.where(np.isnan(mark), closes[row, trip["asset"]], mark)
        due = -trip["side"] * trip["quantity"] * (funding["rate"][spans] * price).sum()
        assert trip["funding"] == near(due, abs=1e-7, rel=1e-9)
    assert np.count_nonzero(trips["funding"]) > 0


def test_a_venue_that_costs_nothing_makes_the_replay_s_trades(perpetuals: Path) -> None:
    parity = check_parity(BacktestSpec(perpetuals), VenueOptions())
    assert parity.ok, parity.plain()["mismatches"]
    assert parity.matched == parity.replay_trades > 15
