"""Made-up runs for looking at reports: seeded, self-consistent, and never a claim about a market."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_DAY, NS_PER_S, date_start_ns
from dolphin.core.codes import ExitReason, Gate
from dolphin.core.params import champion_hash
from dolphin.research.bridge import Bridge, bridge
from dolphin.research.metrics import PNL_PARTS, TRADE_COLUMNS, drawdown, performance
from dolphin.research.reportdata import MAX_POINTS, BarSeries, DailySeries, ReportData, Thresholds, decimate
from dolphin.ui.report.page import figures, parts
from tests.support.two_runs import Trades, replayed, roughened, round_trips, settled

CAPITAL = 25_000.0
WARM = 99
ASSETS = (
    "BTCUSDT",
    "ETHUSDT",
    "SOLUSDT",
    "XRPUSDT",
    "BNBUSDT",
    "DOGEUSDT",
    "ADAUSDT",
    "LINKUSDT",
    "DOTUSDT",
    "1INCHUSDT",
)
TEXT = ("asset", "side", "reason")
WHOLE = ("trade_id", "entry_ts", "exit_ts", "entry_bar", "exit_bar", "bucket")


def make_trades(
    rng: np.random.Generator, vel_div: NDArray[np.float64], ts_ns: NDArray[np.int64], limit: int
) -> dict[str, NDArray[Any]]:
    """At most `limit` short trades entered where `vel_div` falls below −0.02, with parts that add up."""
    rows: list[dict[str, Any]] = []
    capital, free_from = CAPITAL, 100
    with np.errstate(invalid="ignore"):
        signals = np.flatnonzero(vel_div < -0.02)
    for bar in signals:
        if bar <= free_from or len(rows) >= limit or rng.random() > 0.5:
            continue
        trade = _one_trade(rng, len(rows), int(bar), float(vel_div[bar]), ts_ns, capital)
        capital, free_from = trade["capital_after"], trade["exit_bar"]
        rows.append(trade)
    return columns_of(rows)


def columns_of(rows: list[dict[str, Any]]) -> dict[str, NDArray[Any]]:
    """Rows as columns of the right types; no rows give empty columns."""
    kinds: dict[str, Any] = {
        name: str if name in TEXT else np.int64 if name in WHOLE else np.float64 for name in TRADE_COLUMNS
    }
    kinds["is_extreme"] = np.bool_
    return {name: np.array([row[name] for row in rows], dtype=kinds[name]) for name in TRADE_COLUMNS}


def _one_trade(
    rng: np.random.Generator, k: int, bar: int, signal: float, ts_ns: NDArray[np.int64], capital: float
) -> dict[str, Any]:
    last = len(ts_ns) - 1
    strength = 1.0 if signal <= -0.05 else min(1.0, (-0.02 - signal) / 0.03)
    reason = ExitReason.FIXED_TP if rng.random() < 0.35 else ExitReason.MAX_HOLD
    hold = 120 if reason == ExitReason.MAX_HOLD else int(rng.integers(2, 119))
    if bar + hold > last:
        hold, reason = last - bar, ExitReason.END_OF_DATA
    move = 0.0095 + abs(rng.normal(0, 0.001)) if reason == ExitReason.FIXED_TP else rng.normal(-0.0038, 0.006)
    leverage, fraction = 0.5 + strength**3 * 4.5, float(np.clip(rng.normal(0.07, 0.05) * (1 + strength), 0.02, 0.2))
    notional, price = capital * fraction * leverage, float(rng.uniform(0.1, 900.0))
    parts = {
        "pnl_price": move * notional,
        "fees": -0.000664 * notional,
        "slippage": (0.000224 - 0.0002) * notional,
        "funding": 0.0,
        "modelled_edge": (0.0005 if rng.random() < 0.4 else 0.0) * notional,
    }
    net = sum(parts.values())
    fixed = {"trade_id": k, "asset": str(rng.choice(ASSETS)), "side": "SHORT", "reason": reason.name, **parts}
    when = {"entry_bar": bar, "exit_bar": bar + hold, "entry_ts": ts_ns[bar], "exit_ts": ts_ns[bar + hold]}
    size = {"notional_usd": notional, "leverage": leverage, "fraction": fraction, "confidence": 0.5 + 0.4 * strength}
    bucket = int(np.searchsorted([-0.075, -0.05, -0.035], signal, side="left"))
    prices = {"entry_price": price, "exit_price": price * (1 - move), "bucket": bucket, "is_extreme": signal <= -0.05}
    return {**fixed, **when, **size, **prices, "net_pnl": net, "capital_after": capital + net}


def _equity(trades: Mapping[str, NDArray[Any]], bars: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Capital between trades, a wandering mark while one is open, landing on the trade's own result."""
    equity = np.full(bars, CAPITAL)
    for a, b, net, after in zip(
        *(trades[n] for n in ("entry_bar", "exit_bar", "net_pnl", "capital_after")), strict=True
    ):
        path = np.cumsum(rng.normal(0, abs(net) / 8 + 1.0, b - a + 1))
        equity[a : b + 1] = after - net + path + np.linspace(-path[0], net - path[-1], b - a + 1)
        equity[b:] = after
    return equity


def make_report_data(
    seed: int = 7,
    *,
    days: int = 30,
    bars_per_day: int = 1440,
    trades: int = 5000,
    overrides: Mapping[str, Any] | None = None,
    blind: bool = False,
    max_points: int = MAX_POINTS,
    notes: tuple[str, ...] = (),
) -> ReportData:
    """A whole made-up run. `blind` leaves every vel_div NaN, so that nothing trades."""
    rng = np.random.default_rng(seed)
    start, bars = date(2021, 4, 5), days * bars_per_day
    step = NS_PER_DAY // bars_per_day
    ts_ns = date_start_ns(start) + np.arange(bars, dtype=np.int64) * step
    vel_div = 0.0085 * rng.standard_t(3, bars)
    vel_div[: bars if blind else min(752, bars)] = np.nan
    table = make_trades(rng, vel_div, ts_ns, trades)
    equity = _equity(table, bars, rng)
    inside = np.zeros(bars, dtype=np.bool_)
    for a, b in zip(table["entry_bar"], table["exit_bar"], strict=True):
        inside[a:b] = True
    fall, _ = drawdown(equity, CAPITAL)
    thin_ts, thin = decimate(
        ts_ns,
        {"equity": equity, "drawdown": fall, "vel_div": vel_div, "in_position": inside},
        max_points,
        keep=table["entry_bar"],
    )
    closes = equity[bars_per_day - 1 :: bars_per_day]
    stamps = np.datetime64(start) + np.arange(days).astype("timedelta64[D]")
    figures = performance(
        trades=table,
        daily_equity=closes,
        capital0=CAPITAL,
        deepest_drawdown=float(fall.max(initial=0.0)),
        bars=bars,
        bars_in_position=int(inside.sum()),
    )
    return ReportData(
        summary={**_identity(days, bars, step, overrides or {}), **figures},
        trades=table,
        bars=BarSeries(thin_ts, **thin),
        daily=DailySeries(stamps, closes, np.diff(closes, prepend=CAPITAL)),
        gates=_gates(vel_div, inside, len(table["trade_id"])),
        thresholds=Thresholds(entry=-0.02, extreme=-0.05),
        notes=notes,
    )


def check_split(data: ReportData) -> float:
    """How far the parts of the PnL are from its total, USDT: for tests of this generator."""
    return float(abs(sum(np.sum(data.trades[part]) for part in PNL_PARTS) - np.sum(data.trades["net_pnl"])))


def _identity(days: int, bars: int, step_ns: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
    last = date(2021, 4, 5) + timedelta(days=max(days - 1, 0))
    return {
        "profile": "blue",
        "direction": "SHORT",
        "champion_hash": champion_hash(),
        "is_champion": not overrides,
        "overrides": dict(overrides),
        "friction": "modelled",
        "data": {"folder": "made-up-market", "manifest_hash": "5f1d0c77a3b2e894", "source": "seeded generator"},
        "from": "2021-04-05",
        "to": str(last),
        "days": days,
        "bars": bars,
        "bar_seconds": step_ns / NS_PER_S,
        "wall_s": 0.61,
        "bars_per_s": 2_140_000.0,
        "versions": {"dolphin": "0.1.0", "numpy": np.__version__},
        "command": "dolphin backtest --data made-up-market --out run",
    }


def _gates(vel_div: NDArray[np.float64], inside: NDArray[np.bool_], trades: int) -> dict[str, int]:
    with np.errstate(invalid="ignore"):
        wanted = int(np.count_nonzero((vel_div < -0.02) & ~inside))
    quiet = len(vel_div) - wanted - int(inside.sum()) - WARM - trades
    refused = max(wanted - trades, 0)
    counts = {Gate.ENTERED: trades, Gate.IN_POSITION: int(inside.sum()), Gate.JUST_EXITED: trades, Gate.WARM_UP: WARM}
    counts |= {Gate.VEL_DIV: quiet, Gate.SELECTION: refused // 5, Gate.DIRECTION_CONFIRMATION: refused - refused // 5}
    return {gate.name: count for gate, count in counts.items()}


def with_bridge(data: ReportData, seed: int = 11) -> ReportData:
    """`data` as a venue run's page: its trades are the replay's, and a rough venue with stops settled them."""
    return dataclasses.replace(data, bridge=made_up_bridge(data, seed).plain())


def made_up_bridge(data: ReportData, seed: int) -> Bridge:
    """The bridge behind `with_bridge`: some trades stopped, some left later, some made by one run only."""
    rng = np.random.default_rng(seed)
    replay = _replay_of(data)
    venue = round_trips(replay)
    n = len(venue)
    stopped, later = rng.random(n) < 0.08, rng.random(n) < 0.06
    venue["exit_price"][stopped] = venue["entry_price"][stopped] * 1.02
    venue["exit_price"][later & ~stopped] *= np.exp(0.004 * rng.standard_normal(int((later & ~stopped).sum())))
    venue["exit_bar"][stopped | later] += 1
    venue["reason"][stopped] = int(ExitReason.PROTECTIVE_STOP)
    venue["wanted_usd"] *= np.linspace(1.0, 0.93, n)
    venue["quantity"] = venue["wanted_usd"] / venue["entry_price"]
    venue = roughened(settled(venue), rng)
    return bridge(replay[rng.random(n) < 0.97], venue[rng.random(n) < 0.97], ASSETS)


def _replay_of(data: ReportData) -> Trades:
    """The trades of `data` as records, without friction."""
    names = ("trade_id", "entry_bar", "exit_bar", "entry_price", "notional_usd", "leverage")
    columns = {name: data.trades[name].tolist() for name in (*names, "exit_price")}
    out = replayed(*(dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)))
    out["asset"] = [ASSETS.index(name) for name in data.trades["asset"]]
    for stamp in ("entry_ts", "exit_ts"):
        out[stamp] = data.trades[stamp]
    return out


def render(data: ReportData) -> str:
    """The page as text."""
    return b"".join(parts(data)).decode()


def drawn_charts(data: ReportData) -> dict[str, Any]:
    """Every chart of the page, by name."""
    return dict(figures(data))
