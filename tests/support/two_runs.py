"""A replay's trades, what a venue would have made of them, and a slow, exact bridge between the two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.layout import TRADE
from dolphin.core.clock import NS_PER_S
from dolphin.core.codes import ExitReason
from dolphin.trade.ledger import ROUND_TRIP

Trades = NDArray[Any]

ASSETS = ("BTCUSDT", "ETHUSDT", "SOLUSDT", "XRPUSDT")
CAPITAL = 25_000.0
BAR_NS = 60 * NS_PER_S
START_NS = 1_704_067_200 * NS_PER_S


def replayed(*rows: Mapping[str, float], capital: float = CAPITAL) -> Trades:
    """TRADE records without friction; a row may leave out anything: SHORT, asset 0, 1,000 USDT from 100 to 99."""
    out = np.zeros(len(rows), TRADE)
    for k, given in enumerate(rows):
        usual = {"trade_id": k, "side": -1, "entry_bar": 10 + 100 * k, "entry_price": 100.0, "exit_price": 99.0}
        row = {**usual, "notional_usd": 1000.0, "reason": int(ExitReason.FIXED_TP), "leverage": 1.0, **given}
        row.setdefault("exit_bar", row["entry_bar"] + 20)
        for name, value in row.items():
            out[k][name] = value
        _stamp(out[k])
        r = out[k]["side"] * (out[k]["exit_price"] - out[k]["entry_price"]) / out[k]["entry_price"]
        out[k]["pnl_price"] = out[k]["net_pnl"] = r * out[k]["notional_usd"]
        capital += float(out[k]["net_pnl"])
        out[k]["capital_after"] = capital
    return out


def round_trips(replay: Trades, lot: float = 1e-9) -> Trades:
    """ROUND_TRIP records of a venue that filled everything at the decision prices, to the last digit, for nothing."""
    out = np.zeros(len(replay), ROUND_TRIP)
    for name in ROUND_TRIP.names or ():
        if name in (TRADE.names or ()):
            out[name] = replay[name]
    out["capital_before"] = replay["capital_after"] - replay["net_pnl"]
    out["wanted_usd"] = replay["notional_usd"]
    out["quantity"] = replay["notional_usd"] / replay["entry_price"]
    out["lot"] = lot
    for end in ("entry", "exit"):
        out[f"{end}_fill_ts"] = replay[f"{end}_ts"]
        out[f"{end}_mid"] = out[f"{end}_fill"] = replay[f"{end}_price"]
    return settled(out)


def changed(venue: Trades, row: int = 0, **values: float) -> Trades:
    """`venue` with other values in one trade, settled again."""
    out = venue.copy()
    for name, value in values.items():
        out[row][name] = value
    _stamp(out[row])
    return settled(out)


def settled(venue: Trades) -> Trades:
    """Fill in `net_pnl` from fills, quantity, fees and funding, as the ledger defines it."""
    gross = venue["side"] * venue["quantity"] * (venue["exit_fill"] - venue["entry_fill"])
    venue["net_pnl"] = gross + venue["fees"] + venue["funding"]
    return venue


def in_lots(replay: Trades, lot: float) -> Trades:
    """The venue run of `replay` where only lots are rounded, downwards: its capital drifts, and its sizes with it."""
    out, capital = round_trips(replay, lot), CAPITAL
    for row, trade in zip(out, replay, strict=True):
        before = float(trade["capital_after"] - trade["net_pnl"])
        row["capital_before"] = capital
        row["wanted_usd"] = trade["notional_usd"] * capital / before
        row["quantity"] = math.floor(row["wanted_usd"] / row["entry_price"] / lot) * lot
        row["net_pnl"] = row["side"] * row["quantity"] * (row["exit_fill"] - row["entry_fill"])
        capital += float(row["net_pnl"])
    return out


def roughened(venue: Trades, rng: np.random.Generator) -> Trades:
    """A venue's ways with given round trips: spread, delay, fees, funding, fills a little short of what was wanted."""
    out, n = venue.copy(), len(venue)
    for end in ("entry", "exit"):
        out[f"{end}_mid"] = out[f"{end}_price"] * (1 + 4e-4 * rng.standard_normal(n))
        buys = out["side"] if end == "entry" else -out["side"]
        out[f"{end}_fill"] = out[f"{end}_mid"] * (1 + 1.5e-4 * buys * rng.random(n))
    out["quantity"] *= 1 - 0.01 * rng.random(n) * (rng.random(n) < 0.3)
    out["fees"] = -5e-4 * out["quantity"] * (out["entry_fill"] + out["exit_fill"])
    out["funding"] = 1e-4 * out["quantity"] * out["entry_fill"] * rng.standard_normal(n) * (rng.random(n) < 0.2)
    return settled(out)


def bridge_ref(replay: Trades, venue: Trades) -> dict[str, Fraction]:
    """The bridge's totals by substitution, in exact arithmetic: each trade is settled over and over, with one more of
    the venue's values put in place of the replay's each time; a component is what its substitution changed."""
    totals: dict[str, Fraction] = {}

    def add(name: str, value: Fraction) -> None:
        totals[name] = totals.get(name, Fraction(0)) + value

    theirs = {(int(v["entry_bar"]), int(v["asset"])): v for v in venue}
    for trade in replay:
        v = theirs.pop((int(trade["entry_bar"]), int(trade["asset"])), None)
        if v is None:
            add("timing", -_by_return(trade, trade["notional_usd"]))
            continue
        steps = [_by_return(trade, trade["notional_usd"]), _by_return(trade, v["wanted_usd"])]
        steps.append(_by_return(v, v["wanted_usd"]))
        stop = int(v["reason"]) == ExitReason.PROTECTIVE_STOP
        for name, a, b in zip(("sizing", "protective_stops" if stop else "timing"), steps, steps[1:], strict=False):
            add(name, b - a)
        _add_fills(v, steps[-1], add)
    for v in theirs.values():
        decided = _by_return(v, v["wanted_usd"])
        add("timing", decided)
        _add_fills(v, decided, add)
    return totals


def _by_return(trade: Any, size: float) -> Fraction:
    a, b = Fraction(float(trade["entry_price"])), Fraction(float(trade["exit_price"]))
    return int(trade["side"]) * (b - a) / a * Fraction(float(size))


def _add_fills(v: Any, decided: Fraction, add: Any) -> None:
    names = ("lot_rounding", "latency", "spread_slippage", "fees", "funding")
    steps = [decided, *(_by_quantity(v, kind) for kind in ("price", "mid", "fill"))]
    for cost in ("fees", "funding"):
        steps.append(steps[-1] + Fraction(float(v[cost])))
    for name, a, b in zip(names, steps, steps[1:], strict=False):
        add(name, b - a)


def _by_quantity(v: Any, kind: str) -> Fraction:
    move = Fraction(float(v[f"exit_{kind}"])) - Fraction(float(v[f"entry_{kind}"]))
    return int(v["side"]) * Fraction(float(v["quantity"])) * move


def random_runs(rng: np.random.Generator, count: int) -> tuple[Trades, Trades]:
    """A replay of `count` trades and a venue run that shares some of them: dropped, resized, moved, stopped, added."""
    bars = np.cumsum(rng.integers(60, 200, count))
    rows: Sequence[dict[str, float]] = [
        {
            "asset": int(rng.integers(len(ASSETS))),
            "side": int(rng.choice([-1, 1])),
            "entry_bar": int(bar),
            "exit_bar": int(bar + rng.integers(1, 50)),
            "entry_price": (price := float(10.0 ** rng.uniform(-4, 5))),
            "exit_price": price * float(np.exp(0.02 * rng.standard_normal())),
            "notional_usd": float(10.0 ** rng.uniform(1, 5)),
        }
        for bar in bars
    ]
    replay = replayed(*rows, capital=1e7)
    venue = round_trips(replay)
    other, stopped = rng.random(count) < 0.3, rng.random(count) < 0.2
    elsewhere = other | stopped
    venue["exit_bar"][elsewhere] = venue["entry_bar"][elsewhere] + rng.integers(1, 55, int(elsewhere.sum()))
    venue["exit_price"][elsewhere] *= np.exp(0.02 * rng.standard_normal(int(elsewhere.sum())))
    venue["reason"][stopped] = int(ExitReason.PROTECTIVE_STOP)
    venue["wanted_usd"] *= 1 + 0.2 * rng.standard_normal(count).clip(-3, 3)
    venue["quantity"] = venue["wanted_usd"] / venue["entry_price"]
    venue["asset"][rng.random(count) < 0.1] = 0
    venue = roughened(venue, rng)
    return replay[rng.random(count) < 0.85].copy(), venue[rng.random(count) < 0.85].copy()


def _stamp(row: Any) -> None:
    for end in ("entry", "exit"):
        row[f"{end}_ts"] = START_NS + int(row[f"{end}_bar"]) * BAR_NS
