"""The why-not ledger: the decision at one bar, or the first gate that refused, with the numbers (SPEC §12, §23)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.exits import dynamic_exit_nb
from dolphin.alpha.layout import ASSET_BOOK, MARKET_BOOK, Record, records
from dolphin.alpha.selection import rank_assets_nb
from dolphin.alpha.signal import confirm_direction_nb, price_change_bps_nb
from dolphin.core.clock import ns_to_date, ns_to_iso
from dolphin.core.codes import Confirmation, Drop, ExitReason, Gate, Posture
from dolphin.core.errors import ConfigError
from dolphin.market.archive import Archive
from dolphin.market.tables import ScanDay
from dolphin.research.backtest import BacktestSpec, bars_of, stream_scans
from dolphin.research.layers import Layers

ENTRY_NUMBERS = (
    *("ars", "chg_bps", "confidence", "strength", "trend_mult", "bucket_boost", "streak_mult", "market_ob_mult"),
    *("fraction", "leverage", "notional_usd", "price"),
)


@dataclass(frozen=True)
class Explanation:
    """One bar explained, ready for JSON.

    `gates` lists every gate in the order of testing as {gate, verdict, met, needed}; the verdict is "passed",
    "refused" or "not reached". `assets` holds the selection's profile of each asset asked for, as if it had been
    reached. `book` is the order book at the bar, the market's and that of the asset asked for, held or chosen; None
    without one."""

    bar: dict[str, Any]
    decision: str
    gates: list[dict[str, Any]]
    entry: dict[str, Any] | None
    position: dict[str, Any] | None
    assets: list[dict[str, Any]]
    book: dict[str, Any] | None = None


def explain(spec: BacktestSpec, at_ns: int, asset: str | None = None, layers: Layers | None = None) -> Explanation:
    """Replay up to the bar stamped `at_ns` and say what was decided there and why; `layers` are those of `spec`, fresh,
    when they have been read already.

    Raises ConfigError when no bar carries that stamp or `asset` is not in the universe.
    """
    archive = Archive.open(spec.data).select(spec.first, spec.last)
    day = _day_of(archive, at_ns)
    if asset is not None and asset not in archive.assets:
        raise ConfigError(f"--asset {asset}: not among the archive's {len(archive.assets)} assets")
    engine = NDAlphaEngine(spec.params(), archive.assets, spec.direction(), spec.capital)
    layers = layers or Layers.of(spec)
    layers.attach(engine)
    for scans in stream_scans(spec):
        engine.begin_day(scans.day)
        bars = bars_of(scans)
        if scans.day != day:
            engine.process_bars(bars, scans.closes)
            continue
        row = _row_of(scans, at_ns)
        engine.process_bars(bars[:row], scans.closes[:row])
        return _explain_bar(engine, scans, bars, row, asset, layers)
    raise ConfigError(f"--at {ns_to_iso(at_ns)}: the replay ended before that bar")


def _day_of(archive: Archive, at_ns: int) -> Any:
    day = ns_to_date(at_ns)
    if day not in archive.days:
        raise ConfigError(
            f"--at {ns_to_iso(at_ns)}: the archive has no such day; it holds {archive.days[0]} to {archive.days[-1]}"
        )
    return day


def _row_of(scans: ScanDay, at_ns: int) -> int:
    row = int(np.searchsorted(scans.ts_ns, at_ns))
    if row < scans.rows and scans.ts_ns[row] == at_ns:
        return row
    if not scans.rows:
        raise ConfigError(f"--at {ns_to_iso(at_ns)}: no bar carries that stamp; the day has none")
    near = min(scans.ts_ns[max(row - 1, 0) : row + 1].tolist(), key=lambda ts: abs(ts - at_ns))
    raise ConfigError(f"--at {ns_to_iso(at_ns)}: no bar carries that stamp; the nearest is {ns_to_iso(near)}")


def _explain_bar(
    engine: NDAlphaEngine, scans: ScanDay, bars: Record, row: int, asset: str | None, layers: Layers
) -> Explanation:
    column, held = int(engine.state.core.asset), _position(engine, scans.closes[row])
    part = slice(row, row + 1)
    events, trades = engine.process_bars(bars[part], scans.closes[part])
    event = events[0]
    market, books = _book_at(engine, layers)
    if held is not None:
        held |= _levels(engine, market, books[column], held["open_return"])
    shown = engine.assets.index(asset) if asset is not None else max(column, int(event.asset))
    return Explanation(
        bar={
            "timestamp": ns_to_iso(int(event.ts_ns)),
            "bar_idx": int(event.bar_idx),
            "day_bar": row,
            "vel_div": float(event.vel_div),
            "regime_size_mult": float(event.regime_size_mult),
            "capital": float(event.capital),
            "equity": float(event.equity),
            "posture": Posture(int(event.posture)).name,
            "rm": float(event.rm) if np.isfinite(event.rm) else None,
        },
        decision=_decision(engine, event, trades),
        gates=_gates(engine, event, row, _imbalance(market, books, event, layers)),
        entry=_entry(engine, event),
        position=held,
        assets=_profiles(engine, scans.closes[row], books, asset),
        book=None if layers.book is None else _book(market, books, engine.assets, shown),
    )


def _decision(engine: NDAlphaEngine, event: Record, trades: Record) -> str:
    if len(trades):
        t = trades[0]
        name = engine.assets[int(t.asset)]
        return f"closed {name}: {ExitReason(int(t.reason)).name}, net {float(t.net_pnl):+.2f} USDT"
    gate = Gate(int(event.gate))
    if gate == Gate.ENTERED:
        return f"opened {engine.direction.name} {engine.assets[int(event.asset)]}, {float(event.notional_usd):.2f} USDT"
    if gate == Gate.IN_POSITION:
        return "kept the open position; no exit applied"
    return f"no entry: refused by {gate.name}"


def _position(engine: NDAlphaEngine, prices: Any) -> dict[str, Any] | None:
    """The position as the bar finds it."""
    core = engine.state.core
    if not core.open:
        return None
    move = (float(prices[int(core.asset)]) - float(core.entry_price)) / float(core.entry_price)
    return {
        "asset": engine.assets[int(core.asset)],
        "side": engine.direction.name,
        "entered": ns_to_iso(int(core.entry_ts_ns)),
        "entry_price": float(core.entry_price),
        "notional_usd": float(core.notional_usd),
        "leverage": float(core.leverage),
        "open_return": int(engine.direction) * move if np.isfinite(move) else None,
        "bars_held": int(core.bar_idx + 1 - core.entry_bar),
    }


def _levels(engine: NDAlphaEngine, market: Record, book: Record, open_return: float | None) -> dict[str, Any]:
    """What the exits of a position are tested against at this bar, the book's say in it (OB-5)."""
    pnl = np.nan if open_return is None else open_return
    tp, stop, hold = dynamic_exit_nb(engine.packed_params, market, book, int(engine.direction), pnl)
    return {"take_profit": float(tp), "stop_loss": -float(stop), "max_hold_bars": int(hold)}


def _book_at(engine: NDAlphaEngine, layers: Layers) -> tuple[Record, Record]:
    """The MARKET_BOOK record and (N,) ASSET_BOOK records of the bar just stepped; unusable without a book."""
    if layers.book is None:
        return records(MARKET_BOOK, 1)[0], records(ASSET_BOOK, len(engine.assets))
    return layers.book.feed.markets[-1], layers.book.feed.books[-1]


def _imbalance(market: Record, books: Record, event: Record, layers: Layers) -> str:
    """What OB-2 reads, in words."""
    if layers.book is None:
        return "no book"
    if event.asset < 0 or not market.usable or not books[int(event.asset)].usable:
        return "no usable book"
    book = books[int(event.asset)]
    return f"imbalance {float(book.imbalance_ma5):+.3f}, persistent {float(book.imbalance_persistence):.2f}"


def _book(market: Record, books: Record, assets: Sequence[str], column: int) -> dict[str, Any]:
    """The book at the bar; None for what has no usable one."""
    names = ("median_imbalance", "agreement", "cascade_count", "regime_signal", "depth_velocity", "assets")
    told: dict[str, Any] = {name: market[name].item() if market.usable else None for name in names}
    if column < 0:
        return told
    own = ("depth_quality", "fill_probability", "imbalance_ma5", "imbalance_persistence", "withdrawal_velocity")
    row = books[column]
    return told | {"asset": assets[column]} | {name: row[name].item() if row.usable else None for name in own}


def _entry(engine: NDAlphaEngine, event: Record) -> dict[str, Any] | None:
    if event.asset < 0:
        return None
    return {
        "asset": engine.assets[int(event.asset)],
        "confirmation": Confirmation(int(event.confirmation)).name,
        "bucket": int(event.bucket) if event.bucket >= 0 else None,
        **{name: float(event[name]) for name in ENTRY_NUMBERS if np.isfinite(event[name])},
    }


def _gates(engine: NDAlphaEngine, event: Record, row: int, imbalance: str) -> list[dict[str, Any]]:
    core, p, c = engine.state.core, engine.packed_params, engine.params.champion
    sign = "<" if engine.direction < 0 else ">"
    met = {
        Gate.IN_POSITION: ("a position is open" if event.in_position and event.gate else "flat", "flat"),
        Gate.JUST_EXITED: (f"last exit at bar {int(core.last_exit_bar)}", f"before bar {int(event.bar_idx)}"),
        Gate.CAPITAL: (f"{float(core.capital):.2f} USDT", "> 0"),
        Gate.WARM_UP: (f"{int(core.bar_count)} bars", f">= {c.lookback}"),
        Gate.HALT: (_halt(core, event), "APEX or STALKER, and not RED"),
        Gate.VOL_REGIME: (f"day bar {row}", ">= 100"),
        Gate.VEL_DIV: (f"{float(event.vel_div):.6f}", f"{sign} {float(p.threshold) * int(p.direction):g}"),
        Gate.SELECTION: (f"{int(event.ranked)} assets passed", ">= 1"),
        Gate.DIRECTION_CONFIRMATION: (
            f"{float(event.chg_bps):.2f} bps over {c.dc_lookback_bars} bars",
            f"not against the trade by more than {c.dc_min_magnitude_bps:g} bps",
        ),
        Gate.BOOK_IMBALANCE: (imbalance, "no strong persistent imbalance against the trade"),
    }
    refused = Gate(int(event.gate))
    rows = []
    for gate, (value, needed) in met.items():
        reached = refused == Gate.ENTERED or gate <= refused
        verdict = "refused" if gate == refused else ("passed" if reached else "not reached")
        rows.append({"gate": gate.name, "verdict": verdict, "met": value if reached else None, "needed": needed})
    return rows


def _halt(core: Record, event: Record) -> str:
    """What may halt entries: the posture, and the day's forewarner gate."""
    return Posture(int(event.posture)).name + (", forewarner RED" if core.mc_red else "")


def _profiles(engine: NDAlphaEngine, prices: Any, books: Record, asset: str | None) -> list[dict[str, Any]]:
    """The selection's view of the assets at this bar: the one asked for, else those ranked highest."""
    ranking, p, state = engine.ranking, engine.packed_params, engine.state
    rank_assets_nb(p, state.history, state.counts, np.ascontiguousarray(prices), np.ascontiguousarray(books), ranking)
    order = sorted(
        range(len(engine.assets)), key=lambda i: (ranking.profiles[i].drop != Drop.KEPT, -_score(ranking, i))
    )
    chosen = [engine.assets.index(asset)] if asset is not None else order[:5]
    rows = []
    for i in chosen:
        row = ranking.profiles[i]
        known = row.drop not in (Drop.NO_PRICE, Drop.SHORT_HISTORY)
        chg = price_change_bps_nb(state.history, state.counts[i], i, p.dc_lookback_bars)
        rows.append(
            {
                "asset": engine.assets[i],
                "verdict": Drop(int(row.drop)).name,
                "action": ("with the regime" if row.action > 0 else "against it") if known else None,
                **{n: float(row[n]) if known else None for n in ("ars", "alignment", "noise", "efficiency")},
                "latency": int(row.latency) if known else None,
                "chg_bps": float(chg) if np.isfinite(chg) else None,
                "confirmation": Confirmation(confirm_direction_nb(chg, p.dc_min_magnitude_bps, p.direction)).name,
            }
        )
    return rows


def _score(ranking: Any, i: int) -> float:
    row = ranking.profiles[i]
    known = row.drop not in (Drop.NO_PRICE, Drop.SHORT_HISTORY)
    return float(row.ars) if known and np.isfinite(row.ars) else -np.inf
