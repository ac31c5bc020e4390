"""The audit trail and Nautilus' own reports: everything once, on disk as it happens, in agreement with the trips."""

from __future__ import annotations

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dolphin.core.codes import ExitReason
from dolphin.trade.nautilus.backtest import VenueRun, VenueSpec, run_venue
from dolphin.trade.nautilus.instruments import VENUE
from dolphin.trade.nautilus.logger import COLUMNS, TradeLoggerActor, TradeLoggerConfig
from dolphin.trade.nautilus.reports import REPORT_FILES, write_venue_reports
from tests.support.runs import scan_days
from tests.support.venue_runs import CAPITAL, at, block, instrument, model, payments, scan_blocks, spec, venue_run

near = pytest.approx
UP = (100.0, 101.0, 102.0, 103.0, 104.0, 105.0, 106.0, 107.0)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def trail(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("trades_*.csv")
    return rows(path)


def traded(folder: Path, **options: Any) -> VenueRun:
    """The eight bars with a stop and fees, logged into `folder`."""
    return run_venue(iter([block(UP, [1])]), spec(model(fees=True, stop_pct=0.2), logs=folder, **options))


class TestTrail:
    def test_settings_and_every_event_in_order(self, tmp_path: Path) -> None:
        run = traded(tmp_path, settings={"champion_hash": "abc", "venue": {"leverage": 10}})
        settings = json.loads((tmp_path / "settings_20240101T000000.json").read_text())
        started = {"started": "2024-01-01T00:00:00Z"}
        assert settings == {**started, "champion_hash": "abc", "venue": {"leverage": 10}}
        lines = trail(tmp_path)
        assert (tmp_path / "trades_20240101T000000.csv").exists()
        assert tuple(lines[0]) == COLUMNS
        assert [line["event"] for line in lines] == [
            *("OrderInitialized", "OrderSubmitted", "OrderFilled"),  # in: a fill comes before what is made of it
            *("OrderInitialized", "OrderSubmitted", "PositionOpened", "OrderAccepted"),  # its stop
            *("OrderInitialized", "OrderSubmitted", "OrderFilled"),  # out
            *("OrderPendingCancel", "PositionClosed", "OrderCanceled"),
        ]
        assert run.logged_events == len(lines)
        ids = [line["event_id"] for line in lines]
        assert len(set(ids)) == len(ids)

    def test_a_line_says_what_happened(self, tmp_path: Path) -> None:
        (trip,) = traded(tmp_path).trips
        entry, leave = (line for line in trail(tmp_path) if line["event"] == "OrderFilled")
        assert entry["timestamp"].startswith("2024-01-01T00:01:00")
        assert leave["timestamp"].startswith("2024-01-01T00:04:00")
        assert entry["instrument"] == leave["instrument"] == "BTCUSDT-PERP.BINANCE"
        assert (entry["side"], leave["side"], entry["type"]) == ("SELL", "BUY", "MARKET")
        assert (entry["quantity"], entry["price"], leave["price"]) == ("99.009", "101.0", "104.0")
        (stop,) = (line for line in trail(tmp_path) if line["type"] == "STOP_MARKET")
        assert (stop["event"], stop["side"], stop["price"]) == ("OrderInitialized", "BUY", "121.2")
        paid = [float(line["commission"].split()[0]) for line in (entry, leave)]
        assert sum(paid) == near(-trip["fees"], abs=1e-7)
        (closed,) = (line for line in trail(tmp_path) if line["event"] == "PositionClosed")
        assert float(closed["realized_pnl"].split()[0]) == near(trip["net_pnl"], abs=1e-7)

    def test_a_line_is_on_disk_before_the_next_event_is_handled(self, tmp_path: Path) -> None:
        seen: list[str] = []

        def read(run: Any, event: Any) -> None:
            seen.append(str(event.id))
            assert seen[-1] in {line["event_id"] for line in trail(tmp_path)}

        def log(run: Any) -> None:
            run.engine.add_actor(TradeLoggerActor(TradeLoggerConfig(folder=str(tmp_path))))

        given = spec(model(stop_pct=0.2))
        with venue_run([block(UP, [1])], given, prepare=log, handlers={"events.order.*": read}) as run:
            run.check_closed()
        assert len(seen) == 11
        assert len(trail(tmp_path)) == 13

    def test_two_sessions_of_the_same_second_leave_four_files(self, tmp_path: Path) -> None:
        traded(tmp_path)
        traded(tmp_path)
        stem = "20240101T000000"
        names = {
            f"{kind}_{stem}{n}.{end}" for kind, end in (("settings", "json"), ("trades", "csv")) for n in ("", "_2")
        }
        assert {path.name for path in tmp_path.iterdir()} == names
        first, second = sorted(tmp_path.glob("trades_*.csv"))
        assert [line["event"] for line in rows(first)] == [line["event"] for line in rows(second)]

    def test_a_folder_is_made(self, tmp_path: Path) -> None:
        traded(tmp_path / "logs" / "paper_trading")
        assert len(trail(tmp_path / "logs" / "paper_trading")) == 13

    def test_a_folder_that_cannot_be_written_stops_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        blocked = traded(tmp_path / "file" / "logs")
        free = traded(tmp_path / "logs")
        assert (tmp_path / "file").read_text() == "in the way"
        assert blocked.trips.tobytes() == free.trips.tobytes()
        assert blocked.logged_events == 0
        assert blocked.lost_events == free.logged_events == 13

    def test_a_disk_that_fills_up_stops_nothing(self, tmp_path: Path) -> None:
        def fill_up(run: Any, event: Any) -> None:
            if type(event).__name__ == "PositionOpened":
                loggers[0]._file.close()
                loggers[0]._file = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115

        loggers: list[TradeLoggerActor] = []

        def log(run: Any) -> None:
            loggers.append(TradeLoggerActor(TradeLoggerConfig(folder=str(tmp_path))))
            run.engine.add_actor(loggers[0])

        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here to stand for a full disk")
        given = spec(model(stop_pct=0.2))
        with venue_run([block(UP, [1])], given, prepare=log, handlers={"events.position.*": fill_up}) as run:
            run.check_closed()
            assert loggers[0].events == 13
            assert loggers[0].lost == 13 - len(trail(tmp_path)) > 0


class TestReports:
    def given(self, folder: Path) -> VenueSpec:
        fine = {"tick": "0.00001"}
        events = payments(*((at(row, days=d), 0, 1e-4, 1.0) for d in range(2) for row in range(0, 300, 11)))
        terms = model(fees=True, spread_bps=2.0, slippage_bps=1.0, latency_ms=50.0, stop_pct=0.004)
        return spec(
            terms, [instrument("BTCUSDT", **fine), instrument("ETHUSDT", **fine)], funding=events, reports=folder
        )

    def test_they_agree_with_the_trips_although_the_cache_is_emptied(self, tmp_path: Path) -> None:
        days = scan_blocks(scan_days(2, 300, ("BTCUSDT", "ETHUSDT"), seed=3, drift=-0.05))
        run = run_venue(iter(days), self.given(tmp_path))
        trips = run.trips
        assert len(trips) > 30
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT_FILES)
        orders, fills, positions, account = (rows(tmp_path / name) for name in REPORT_FILES)
        stopped = int(np.count_nonzero(trips["reason"] == ExitReason.PROTECTIVE_STOP))
        assert stopped > 0
        # Entry, stop and exit each, but no exit where the stop went off first.
        assert len(orders) == 3 * len(trips) - stopped
        assert len({row["client_order_id"] for row in orders}) == len(orders)
        assert Counter(row["type"] for row in orders) == {"STOP_MARKET": len(trips), "MARKET": 2 * len(trips) - stopped}
        assert {row["status"] for row in orders} == {"FILLED", "CANCELED"}
        assert len(fills) == 2 * len(trips)
        assert sum(float(row["filled_qty"]) for row in fills) == near(2.0 * trips["quantity"].sum())
        fees = [money(fee) for row in fills for fee in row["commissions"].strip("[]").replace("'", "").split(", ")]
        assert sum(fees) == near(-trips["fees"].sum(), abs=1e-6)
        assert len(positions) == len(trips)
        realized = sum(money(row["realized_pnl"]) for row in positions)
        assert realized == near((trips["net_pnl"] - trips["funding"]).sum(), abs=1e-6)
        assert abs(trips["funding"].sum()) > 0.01
        paid = [float(row["avg_px_open"]) for row in sorted(positions, key=lambda row: row["ts_opened"])]
        assert paid == near(trips["entry_fill"])
        assert float(account[-1]["total"]) == near(run.balance, abs=1e-8)
        assert float(account[0]["total"]) == CAPITAL

    def test_a_run_without_a_trade_has_reports_too(self, tmp_path: Path) -> None:
        run_venue(iter([block(UP)]), spec(model(), reports=tmp_path))
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(REPORT_FILES)
        assert float(rows(tmp_path / "nautilus_account.csv")[-1]["total"]) == CAPITAL

    def test_they_are_written_into_the_folder_asked_for(self, tmp_path: Path) -> None:
        with venue_run([block(UP, [1])], spec(model())) as run:
            account = run.engine.portfolio.account(VENUE)
            made = write_venue_reports(run.market.orders, run.market.positions, account, tmp_path)
        assert [path.name for path in made] == list(REPORT_FILES)
        assert len(rows(made[2])) == 1


def money(text: str) -> float:
    """The amount in '1.23456789 USDT'."""
    amount, currency = text.split()
    assert currency == "USDT"
    return float(amount)
