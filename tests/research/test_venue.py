"""A backtest inside NautilusTrader is the replay's decisions, with fills, fees and funding done by a venue (SPEC §13).

Parity is shown on recorded days: spot minutes of April 2021, perpetuals in five-minute bars of July 2023.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.codes import ExitReason
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.archive import Archive
from dolphin.market.factorfiles import write_indicators
from dolphin.market.importer import Import, ImportSpec
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestResult, BacktestSpec, run_backtest
from dolphin.research.results import summarise, trade_columns
from dolphin.research.scanning import scan_archive
from dolphin.research.venue import VenueOptions, VenueTerms, check_parity, run_venue_backtest, with_bridge
from dolphin.trade.venue import FRICTIONLESS, VenueModel
from tests.support.forewarner import write_small_model
from tests.support.runs import price_archive_of, scan_archive_of, scan_days, with_last_signal, write_days
from tests.support.shared import recorded

FREE = VenueOptions(FRICTIONLESS)
NATIVE = VenueOptions(VenueModel())
SINGLE_FIELDS = ("asset", "side", "entry_bar", "exit_bar", "entry_ts", "exit_ts", "reason", "bucket", "is_extreme")


@pytest.fixture(scope="module")
def perpetuals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recorded perpetuals of July 2023, five-minute bars, scanned."""
    folder = tmp_path_factory.mktemp("perpetuals")
    drop, days = ("USDCUSDT",), (date(2023, 7, 3), date(2023, 7, 23))
    source = recorded("perp_5m_2023")
    Import(
        ImportSpec(
            source=source, out=folder / "prices", bar_seconds=300, stamp="open", drop=drop, first=days[0], last=days[1]
        )
    ).run()
    return scanned(folder / "prices", folder / "scans")


@pytest.fixture(scope="module")
def market(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three synthetic days of twelve assets at prices that the table's ticks were made for, scanned."""
    folder = tmp_path_factory.mktemp("market")
    return scanned(price_archive_of(folder / "prices", 3, assets=12), folder / "scans")


def dear(days: Sequence[ScanDay]) -> list[ScanDay]:
    """The days at a thousand times the price: at a dollar a bitcoin no order would stay below the largest one."""
    return [replace(day, closes=day.closes * 1e3) for day in days]


def made(folder: Path, count: int, **options: Any) -> Path:
    return write_days(folder, dear(scan_days(count, **options)))


def scanned(prices: Path, out: Path) -> Path:
    archive = Archive.open(prices)
    from dolphin.market.archive import ArchiveWriter

    with ArchiveWriter(out, "scans", archive.bar_seconds, source={"made_by": "a test"}) as writer:
        for day in scan_archive(archive):
            writer.write(day)
    return out


def traded(data: Path, options: VenueOptions, **changes: Any) -> BacktestResult:
    return run_venue_backtest(replace(BacktestSpec(data=data, friction="native"), **changes), options)


def replayed(data: Path, **changes: Any) -> BacktestResult:
    return run_backtest(replace(BacktestSpec(data=data, friction="none"), **changes))


# --- parity


@pytest.mark.slow
def test_recorded_spot_days_are_traded_as_replayed(
    recorded_scans: Sequence[ScanDay], recorded_prices: Path, tmp_path: Path
) -> None:
    archive = Archive.open(recorded_prices)
    known = [k for k, name in enumerate(archive.assets) if name != "TKOUSDT"]
    days = [
        replace(day, assets=tuple(day.assets[k] for k in known), closes=np.ascontiguousarray(day.closes[:, known]))
        for day in recorded_scans
    ]
    data = write_days(tmp_path / "scans", days)
    parity = check_parity(BacktestSpec(data=data), FREE)
    assert parity.ok, [str(one) for one in parity.mismatches]
    assert parity.matched == parity.replay_trades > 40
    assert parity.notional_lots <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize("profile", ["blue", "green"])
def test_recorded_perpetuals_are_traded_as_replayed(perpetuals: Path, profile: str) -> None:
    parity = check_parity(BacktestSpec(data=perpetuals, profile=profile), FREE)
    assert parity.ok, [str(one) for one in parity.mismatches]
    assert parity.matched == parity.replay_trades > 20


@pytest.mark.parametrize("seed", range(3))
def test_made_days_are_traded_as_replayed_field_by_field(tmp_path: Path, seed: int) -> None:
    data = made(tmp_path / "scans", 4, seed=seed)
    plain, venue = replayed(data), traded(data, FREE)
    assert venue.venue is not None
    assert len(plain.trades) == len(venue.venue.trips) > 10
    for name in SINGLE_FIELDS:
        mine = venue.trades[name]
        np.testing.assert_array_equal(mine, plain.trades[name], err_msg=name)
    np.testing.assert_array_equal(venue.venue.trips["entry_fill"], plain.trades["entry_price"])
    np.testing.assert_array_equal(venue.venue.trips["exit_fill"], plain.trades["exit_price"])
    np.testing.assert_array_equal(venue.gates, plain.gates)
    assert venue.bars_in_position == plain.bars_in_position
    assert (venue.bars, venue.days) == (plain.bars, plain.days)


def test_the_layers_act_on_both_alike(tmp_path: Path) -> None:
    data = made(tmp_path / "scans", 4)
    for day in Archive.open(data).days:
        write_indicators(tmp_path / "factors", day, 1, {"dvol_btc": 90.0, "fng": 10.0})
    write_small_model(tmp_path / "model")
    layers: dict[str, Any] = {
        "factors": tmp_path / "factors",
        "forewarner": tmp_path / "model",
        "sensors": "own",
    }
    plain, venue = replayed(data, **layers), traded(data, FREE, **layers)
    assert check_parity(BacktestSpec(data=data, **layers), FREE).ok
    assert plain.breaker is not None
    assert venue.breaker is not None
    assert [day.plain() for day in plain.breaker.days] == [day.plain() for day in venue.breaker.days]
    assert plain.gate is not None
    assert venue.gate is not None
    assert [day.plain() for day in plain.gate.days] == [day.plain() for day in venue.gate.days]
    assert plain.survival is not None
    assert venue.survival is not None
    told = [
        {k: v for k, v in run.survival.plain("own", 60.0, 0).items() if k != "lowest_rm"}  # type: ignore[union-attr]
        for run in (plain, venue)
    ]
    assert told[0] == told[1]


def test_a_gap_between_days_and_the_end_close_alike(tmp_path: Path) -> None:
    days = dear(scan_days(5))
    # Entered on the last bars of the day before a gap and of the last day: both closings are the data's.
    days = [days[0], with_last_signal(days[1], -0.5), days[3], with_last_signal(days[4], -0.5)]
    data = write_days(tmp_path / "scans", days)
    plain, venue = replayed(data), traded(data, FREE)
    reasons = plain.trades["reason"].tolist()
    assert ExitReason.DATA_GAP in reasons
    assert ExitReason.END_OF_DATA in reasons
    for name in SINGLE_FIELDS:
        np.testing.assert_array_equal(venue.trades[name], plain.trades[name], err_msg=name)


def test_the_curve_is_the_replays_but_for_lots(market: Path) -> None:
    plain, venue = replayed(market), traded(market, FREE)
    assert len(plain.trades) > 5
    np.testing.assert_allclose(venue.day_equity, plain.day_equity, atol=5.0)
    assert venue.max_drawdown == pytest.approx(plain.max_drawdown, abs=1e-3)
    assert venue.points["ts_ns"][0] == plain.points["ts_ns"][0]
    assert venue.points["equity"][-1] == pytest.approx(venue.capital_end, abs=1e-9)


# --- the bridge, money, results


def test_the_bridge_explains_everything_to_the_cent(market: Path) -> None:
    run = with_bridge(traded(market, NATIVE))
    assert run.venue is not None
    crossed = run.venue.bridge
    assert crossed is not None
    assert crossed.closes
    parts = crossed.components
    assert crossed.replay_net + sum(parts.values()) == pytest.approx(crossed.venue_net, abs=1e-6)
    assert crossed.venue_net == pytest.approx(run.venue.balance - 25_000.0, abs=0.005)
    assert parts["fees"] < 0.0
    assert parts["spread_slippage"] < 0.0


def test_a_venue_that_costs_nothing_leaves_only_lots_in_the_bridge(market: Path) -> None:
    run = with_bridge(traded(market, FREE))
    assert run.venue is not None
    assert run.venue.bridge is not None
    parts = run.venue.bridge.components
    for name in ("fees", "spread_slippage", "latency", "funding", "protective_stops", "timing"):
        assert parts[name] == pytest.approx(0.0, abs=1e-6), name
    assert parts["lot_rounding"] != 0.0


def test_columns_of_a_venue_trade_add_up_and_capital_follows(market: Path) -> None:
    run = traded(market, NATIVE)
    t = run.trades
    parts = t["pnl_price"] + t["slippage"] + t["modelled_edge"] + t["fees"] + t["funding"]
    np.testing.assert_allclose(parts, t["net_pnl"], atol=1e-9)
    assert not t["modelled_edge"].any()
    assert run.capital_end == pytest.approx(25_000.0 + t["net_pnl"].sum(), abs=1e-6)
    assert t["capital_after"][-1] == pytest.approx(run.capital_end, abs=1e-6)


def test_the_summary_names_the_venue_its_models_and_its_sources(market: Path) -> None:
    run = with_bridge(traded(market, NATIVE))
    summary = summarise(run, trade_columns(run.trades, run.assets), "a test")
    told = summary["venue"]
    assert summary["friction"] == "native"
    assert (told["engine"], told["leverage"], told["stop_pct"]) == ("nautilus", 10, 0.05)
    assert "1 bps spread" in told["fill_model"]
    assert "50 ms" in told["latency_model"]
    assert len(told["instruments"]["hash"]) == 16
    assert told["funding"] is None
    assert summary["bridge"]["closes"] is True
    json.dumps(summary, allow_nan=False)


def test_the_same_run_twice_is_the_same(market: Path) -> None:
    one, two = traded(market, NATIVE), traded(market, NATIVE)
    assert one.trades.tobytes() == two.trades.tobytes()
    assert one.state_hash == two.state_hash


def test_recorded_funding_is_charged_and_what_is_not_recorded_is_told(perpetuals: Path) -> None:
    rates = recorded("perp_5m_2023") / "funding_mark"
    bare, charged = traded(perpetuals, NATIVE), traded(perpetuals, replace(NATIVE, funding=rates))
    assert bare.trades["funding"].any() == np.False_
    assert charged.trades["funding"].any()
    assert charged.venue is not None
    assert charged.capital_end - 25_000.0 == pytest.approx(charged.trades["net_pnl"].sum(), abs=1e-6)
    assert charged.venue.plain()["funding"]["hash"]


def test_earlier_decisions_do_not_know_later_days(market: Path) -> None:
    days = Archive.open(market).days
    whole, short = traded(market, NATIVE), traded(market, NATIVE, last=days[1])
    until = np.flatnonzero(whole.trades["exit_ts"] < short.trades["exit_ts"][-1])
    assert len(until) > 3
    # The last trade of the short run may have been cut off by its end.
    assert short.trades[: len(until)].tobytes() == whole.trades[: len(until)].tobytes()


# --- bad input


def test_an_asset_without_an_instrument_is_named_before_anything_runs(tmp_path: Path) -> None:
    data = scan_archive_of(tmp_path / "scans", 1, assets=("BTCUSDT", "NEVERUSDT"))
    with pytest.raises(DataError, match="NEVERUSDT"):
        VenueTerms.of(BacktestSpec(data=data), FREE)
    with pytest.raises(DataError, match="NEVERUSDT"):
        traded(data, FREE)


def test_leverage_above_an_instruments_limit_is_refused(market: Path) -> None:
    model = VenueModel(leverage=100)
    with pytest.raises(ConfigError, match=r"--account-leverage 100: above the venue's limit for .* expected at most"):
        VenueTerms.of(BacktestSpec(data=market), VenueOptions(model))


def test_latency_as_long_as_a_bar_is_refused(market: Path) -> None:
    with pytest.raises(ConfigError, match=r"--latency-ms 60000: expected 0 or more and less than 60000"):
        VenueTerms.of(BacktestSpec(data=market), VenueOptions(VenueModel(latency_ms=60_000.0)))


def test_without_margin_nothing_is_bought_and_the_run_says_so(tmp_path: Path) -> None:
    data = made(tmp_path / "scans", 2)
    starved = traded(data, VenueOptions(VenueModel(leverage=1, stop_pct=None)), overrides={"fraction": "1.0"})
    assert starved.venue is not None
    assert starved.venue.skipped.get("insufficient_margin", 0) > 0


def test_a_held_asset_without_prices_for_a_day_is_closed_as_the_replay_does(tmp_path: Path) -> None:
    days = dear(scan_days(2, seed=2))  # holds a position over midnight
    plain = replayed(write_days(tmp_path / "whole", days))
    over_midnight = (plain.trades["entry_bar"] < days[0].rows) & (plain.trades["exit_bar"] >= days[0].rows)
    held = int(plain.trades["asset"][over_midnight][0])
    closes = days[1].closes.copy()
    closes[:, held] = np.nan
    data = write_days(tmp_path / "holed", [days[0], replace(days[1], closes=closes)])
    plain, venue = replayed(data), traded(data, FREE)
    assert ExitReason.STALE_PRICE in plain.trades["reason"]
    for name in SINGLE_FIELDS:
        np.testing.assert_array_equal(venue.trades[name], plain.trades[name], err_msg=name)
