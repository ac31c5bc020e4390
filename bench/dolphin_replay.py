"""The engine over the same prices: `python -m bench.dolphin_replay FILE REPEATS HOW [MODEL]`.

Every rule of the champion, one EVENT record a bar and one TRADE record a trade, through `NDAlphaEngine.process_bars`.
HOW is `days`: one call per day with `begin_day`, as a backtest does; `whole`: one call; `books`: one call with made
order books, so that the book's rules run too; `sensors`: the days once more with a reading at every bar; `layers`:
those with the circuit breaker on factors of every day and the forewarner of the trained MODEL as well. `--make FILE
DAYS` writes the prices file.
"""

from __future__ import annotations

import sys
import time

STARTED = time.perf_counter()

from collections.abc import Callable  # noqa: E402
from datetime import date, timedelta  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402

from bench import peer  # noqa: E402
from dolphin.alpha.engine import NDAlphaEngine  # noqa: E402
from dolphin.alpha.feed import HEALTHY, SensorFeed  # noqa: E402
from dolphin.alpha.layout import ASSET_BOOK, MARKET_BOOK, records  # noqa: E402
from dolphin.alpha.rows import day_bars  # noqa: E402
from dolphin.core.codes import Direction  # noqa: E402
from dolphin.core.params import build_params  # noqa: E402
from dolphin.research.gate import DailyGate  # noqa: E402
from dolphin.risk.acb import AdaptiveCircuitBreaker  # noqa: E402
from dolphin.risk.sensors import READING, SENSORS, put_reading  # noqa: E402

READY = time.perf_counter()

CAPITAL = 25_000.0
FIRST = date(2024, 1, 1)
PER_DAY = 1440


def make(path: Path, days: int) -> None:
    """Write `days` whole synthetic days of 50 assets, scanned, as the prices file that every contender reads."""
    from dolphin.market.synthetic import MarketSpec, make_market
    from dolphin.scan.scanner import Scanner

    scanner = Scanner(50, 60.0)
    parts = []
    for day in make_market(MarketSpec(days=days, assets=50, outage=False)):
        table = scanner.scan(day.ts_ns, day.closes)
        parts.append((day.ts_ns, day.closes, table.vel_div, table.velocity[:, 0], table.velocity[:, -1]))
    names = ("ts_ns", "closes", "vel_div", "v50", "v750")
    arrays: dict[str, Any] = {
        name: np.concatenate(column) for name, column in zip(names, zip(*parts, strict=True), strict=True)
    }
    temp = path.with_suffix(".part.npz")
    np.savez(temp, assets=np.array(day.assets), **arrays)
    temp.replace(path)


def made_books(rows: int, n: int) -> tuple[Any, Any]:
    """Markets (T,) and books (T, N), every feature in its range: nothing like real books, but work for every rule."""
    rng = np.random.default_rng(1)
    markets, books = records(MARKET_BOOK, rows), records(ASSET_BOOK, rows * n).reshape(rows, n)
    markets.usable[:] = 1
    markets.median_imbalance[:] = rng.normal(0.0, 0.1, rows)
    markets.agreement[:] = rng.uniform(0.4, 1.0, rows)
    markets.regime_signal[:] = rng.integers(-1, 2, rows)
    markets.depth_velocity[:] = rng.normal(0.0, 0.1, rows)
    markets.cascade_count[:] = np.where(rng.random(rows) < 0.02, 3, 0)
    books["usable"][:] = 1
    for name, low, high in (
        ("depth_quality", 0.1, 2.0),
        ("fill_probability", 0.2, 0.9),
        ("imbalance_ma5", -0.3, 0.3),
        ("imbalance_persistence", 0.3, 1.0),
        ("withdrawal_velocity", -0.4, 0.2),
    ):
        books[name][:] = rng.uniform(low, high, (rows, n))
    return markets, books


def made_readings(ts: Any) -> Any:
    """A reading per bar whose sensors move but never lower the posture, so that the trades stay the same."""
    rng = np.random.default_rng(1)
    rows = records(READING, len(ts))
    put_reading(rows[0], HEALTHY)
    for name in SENSORS:
        rows[name][:] = rows[name][0]
    rows.ts_ns[:], rows.now_s[:] = ts, ts / 1e9
    rows.drawdown[:], rows.depth_quality[:] = rng.uniform(0.0, 0.01, len(ts)), rng.uniform(1.0, 1.5, len(ts))
    return rows


def made_breaker(days: int) -> AdaptiveCircuitBreaker:
    """Twenty dates of history, and factors for every day: every third has a boost."""
    acb = AdaptiveCircuitBreaker()
    for k in range(20):
        acb.add_w750(FIRST - timedelta(days=k + 1), [0.0] * 10)
    for k in range(days):
        acb.set_factors(FIRST + timedelta(days=k), {"dvol_btc": [(50.0, 60.0, 90.0)[k % 3]], "fng": [20.0]})
    return acb


def runner(path: str, how: str, model: str | None) -> Callable[[], int]:
    """One whole replay from a fresh engine; gives its number of trades."""
    with np.load(path) as file:
        ts, closes, assets = file["ts_ns"], file["closes"], tuple(str(a) for a in file["assets"])
        signals = {name: file[name] for name in ("vel_div", "v50", "v750")}
    by_day = how in ("days", "sensors", "layers")
    cuts = range(0, len(ts), PER_DAY) if by_day else (0,)
    length = PER_DAY if by_day else len(ts)
    parts = [slice(k, k + length) for k in cuts]
    bars = [day_bars(ts[p], {name: column[p] for name, column in signals.items()}) for p in parts]
    markets, books = made_books(len(ts), len(assets)) if how == "books" else (None, None)
    readings = made_readings(ts) if how in ("sensors", "layers") else None
    params = build_params({}, "modelled")
    gate = DailyGate(Path(model), params, Direction.SHORT) if how == "layers" and model else None
    breaker = made_breaker(len(parts))

    def run() -> int:
        engine = NDAlphaEngine(params, assets, Direction.SHORT, CAPITAL)
        if gate is not None:
            engine.set_acb(breaker)
            engine.set_mc_forewarner(gate.warner, gate.base)
        feed = None if readings is None else SensorFeed(readings)
        engine.set_survival(feed)
        trades = 0
        for k, part in enumerate(parts):
            trades += len(engine.begin_day(FIRST + timedelta(days=k)))
            if feed is not None:
                feed.open_trace(len(bars[k]))
            trades += len(engine.process_bars(bars[k], closes[part], markets, books)[1])
        return trades

    return run


def main(argv: list[str]) -> None:
    """Measure, or make the prices."""
    if argv[0] == "--make":
        make(Path(argv[1]), int(argv[2]))
        return
    run = runner(argv[0], argv[2], argv[3] if len(argv) > 3 else None)
    peer.race(STARTED, READY, run, int(argv[1]), ("numpy", "numba"))


if __name__ == "__main__":
    main(sys.argv[1:])
