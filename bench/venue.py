"""The engine inside NautilusTrader: our feed beside the plain way. `python -m bench.venue [--quick]` prints JSON.

Both run the same actor over the same scans at a venue without costs, and both are compared with the replay. Seconds are
those of the run itself, from the first bar wanted to the results; megabytes are the whole process's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from bench.common import BenchError, data_folder, dolphin, last_json, market_folder, run_measured, say, spread


def scans_folder(days: int) -> Path:
    """The scanned market of `days` days × 50 assets."""
    prices, folder = market_folder(days), data_folder() / f"scans-{days}d-60s-50"
    if not (folder / "manifest.json").exists():
        run_measured([dolphin(), "scan", "run", prices, "--out", folder, "--force", "--json"])
    return folder


def measure(mode: str, folder: Path, repeats: int) -> dict[str, Any]:
    """Some runs of one kind; BenchError when the trades are not the replay's."""
    runs = [run_measured([sys.executable, "-m", "bench.venue_run", mode, folder]) for _ in range(repeats)]
    told = [last_json(used.stdout) for used in runs]
    for each in told:
        if not each["parity"]:
            raise BenchError(f"venue, {mode}: not the replay's trades: {each['mismatches']}")
    return {
        **told[0],
        "run_s": spread([each["seconds"] for each in told]),
        "wall_s": spread([used.wall_s for used in runs]),
        "peak_mb": max(used.peak_mb for used in runs),
    }


def main(argv: list[str]) -> None:
    """Measure and print one JSON object."""
    quick = "--quick" in argv
    days, repeats = (4, 2) if quick else (55, 5)
    folder = scans_folder(days)
    rows = [measure("ours", folder, repeats), measure("plain", folder, 1)]
    for row in rows:
        say(f"venue, {row['mode']}: {row['run_s']['min']:.2f} s, {row['peak_mb']:.0f} MB, {row['trades']} trades")
    print(json.dumps({"rows": rows, "days": days}))


if __name__ == "__main__":
    main(sys.argv[1:])
