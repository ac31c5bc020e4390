"""Whole processes: what a person waits for, start of Python included. `python -m bench.process [--quick]` prints JSON.

Each process is run as a user would run it, with no setting of ours; only the first-ever compile is given an empty
folder for its cache.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.common import BenchError, Usage, dolphin, market_folder, run_measured, say, spread


def backtest(data: Path, *extra: str, cache: Path | None = None) -> tuple[Usage, dict[str, Any]]:
    """One `dolphin backtest` of an archive of prices into a folder that is thrown away; its cost and its summary."""
    with tempfile.TemporaryDirectory(prefix="dolphin-bench-") as out:
        command: list[str | Path] = [
            dolphin(),
            "backtest",
            "--data",
            data,
            "--out",
            Path(out) / "run",
            *extra,
            "--json",
        ]
        used = run_measured(command, {"NUMBA_CACHE_DIR": str(cache)} if cache else None)
    summary: dict[str, Any] = json.loads(used.stdout)
    return used, summary


def row(name: str, used: list[Usage], **more: Any) -> dict[str, Any]:
    """Several runs of one command."""
    return {
        "name": name,
        "runs": len(used),
        "wall_s": spread([u.wall_s for u in used]),
        "cpu_s": spread([u.cpu_s for u in used]),
        "peak_mb": max(u.peak_mb for u in used),
        **more,
    }


def helped(repeats: int) -> dict[str, Any]:
    """`dolphin --help`."""
    return row("dolphin --help", [run_measured([dolphin(), "--help"]) for _ in range(repeats)])


def replayed(name: str, data: Path, repeats: int) -> dict[str, Any]:
    """A backtest from prices with a warm compile cache: prices → scan → replay → summary, trades, report."""
    runs = [backtest(data) for _ in range(repeats)]
    summary = runs[0][1]
    return row(name, [used for used, _ in runs], bars=summary["bars"], trades=summary["trades"])


def forewarned(trials: int) -> dict[str, Any]:
    """`dolphin forewarner train`, from an archive of scans to a sealed model: trials, fits, page."""
    data = market_folder(10, assets=48)
    with tempfile.TemporaryDirectory(prefix="dolphin-bench-") as scratch:
        scans, out = Path(scratch) / "scans", Path(scratch) / "model"
        run_measured([dolphin(), "scan", "run", data, "--out", scans, "--json"])
        train = [dolphin(), "forewarner", "train", "--data", scans, "--trials", str(trials), "--out", out]
        return row(f"forewarner: {trials:,} trials of 5 days × 48 assets", [run_measured([*train, "--json"])])


def first_compile(data: Path, repeats: int) -> dict[str, Any]:
    """The very first backtest after an installation: an empty cache folder each time."""
    runs = []
    for _ in range(repeats):
        cache = Path(tempfile.mkdtemp(prefix="dolphin-bench-"))
        try:
            runs.append(backtest(data, cache=cache)[0])
            if not any(cache.rglob("*.bin")):
                raise BenchError("first compile: the empty cache folder stayed empty; nothing was compiled there")
        finally:
            shutil.rmtree(cache)
    return row("first-ever compile (backtest of one day)", runs)


def main(argv: list[str]) -> None:
    """Measure and print one JSON object."""
    quick = "--quick" in argv
    days, repeats = (10, 2) if quick else (55, 7)
    minutes, seconds = market_folder(days), market_folder(1, bar_seconds=5)
    one = market_folder(1)
    backtest(one)  # whatever is not compiled yet is compiled here
    rows = [
        helped(repeats + 3),
        replayed(f"backtest from prices, {days} days of 60-s bars × 50 assets", minutes, repeats),
        replayed("backtest from prices, one day of 5-s bars × 50 assets", seconds, repeats),
        forewarned(200 if quick else 2_000),
        first_compile(one, 1 if quick else 2),
    ]
    for each in rows:
        say(f"process: {each['name']}: {each['wall_s']['min']:.2f} s, {each['peak_mb']:.0f} MB")
    print(json.dumps({"rows": rows, "days": days}))


if __name__ == "__main__":
    main(sys.argv[1:])
