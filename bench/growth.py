"""From a day to a year: speed and peak memory of whole processes. `python -m bench.growth [--quick]` prints JSON."""

from __future__ import annotations

import json
import sys
from datetime import date, timedelta
from typing import Any

from bench.common import market_folder, say, spread
from bench.process import backtest

_START = date(2024, 1, 1)


def measure(days: int, longest: int, repeats: int) -> dict[str, Any]:
    """`dolphin backtest` of the first `days` days of the longest market."""
    last = _START + timedelta(days=days - 1)
    runs = [backtest(market_folder(longest), "--to", last.isoformat()) for _ in range(repeats)]
    bars = runs[0][1]["bars"]
    walls = [used.wall_s for used, _ in runs]
    return {
        "days": days,
        "bars": bars,
        "trades": runs[0][1]["trades"],
        "wall_s": spread(walls),
        "bars_per_s": bars / min(walls),
        # Without start-up, report and files: what a further day costs.
        "inner_bars_per_s": max(summary["bars_per_s"] for _, summary in runs),
        "peak_mb": max(used.peak_mb for used, _ in runs),
    }


def main(argv: list[str]) -> None:
    """Measure and print one JSON object."""
    sizes = (1, 7, 30) if "--quick" in argv else (1, 2, 7, 30, 90, 180, 365)
    repeats = 1 if "--quick" in argv else 3
    backtest(market_folder(1))
    rows = []
    for days in sizes:
        rows.append(measure(days, sizes[-1], repeats))
        say(f"growth: {days} days: {rows[-1]['bars_per_s']:,.0f} bars/s, {rows[-1]['peak_mb']:.0f} MB")
    print(json.dumps({"rows": rows, "assets": 50, "bar_seconds": 60}))


if __name__ == "__main__":
    main(sys.argv[1:])
