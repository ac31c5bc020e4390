"""What every measurement needs: places, one-thread environments, child processes and what they cost.

Standard library only, on purpose: a forked child's peak memory starts at its parent's, so the process that measures
must be a small one.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
MINUTES_PER_DAY = 1440

ONE_THREAD = {
    name: "1"
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS", "NUMBA_NUM_THREADS")
}
"""Set before numpy is imported; two BLAS threads are slower than one at these matrix sizes."""


class BenchError(Exception):
    """A measurement that could not be made; the message says which command failed and how."""


@dataclass(frozen=True)
class Usage:
    """One finished process: wall seconds, processor seconds (user and system), peak resident MB (10⁶ bytes)."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    stdout: str


def run_measured(command: Sequence[str | Path], env: Mapping[str, str] | None = None) -> Usage:
    """Run `command` in the repository's root to its end; BenchError with its last lines when it fails.

    `env` is added to this process's environment.
    """
    argv = [str(part) for part in command]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        started = time.perf_counter()
        process = subprocess.Popen(argv, stdout=out, stderr=err, cwd=ROOT, env={**os.environ, **(env or {})})
        _, status, used = os.wait4(process.pid, 0)
        wall = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)  # reaped here, so Popen must not try
        out.seek(0)
        err.seek(0)
        text = out.read().decode(errors="replace")
        if process.returncode != 0:
            last = err.read().decode(errors="replace").strip().splitlines()[-3:]
            raise BenchError(
                f"{Path(argv[0]).name} {' '.join(argv[1:])}: exit {process.returncode}: {' | '.join(last)}"
            )
    # Linux counts ru_maxrss in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return Usage(wall, used.ru_utime + used.ru_stime, used.ru_maxrss * unit / 1e6, text)


def run_part(module: str, *args: str, python: Path | str = sys.executable) -> tuple[dict[str, Any], Usage]:
    """Run `python -m module args` with one thread; give the JSON object that it prints last, and what it cost."""
    used = run_measured([python, "-m", module, *args], ONE_THREAD)
    return last_json(used.stdout), used


def last_json(text: str) -> dict[str, Any]:
    """The JSON object in the last line of `text`; BenchError when there is none."""
    lines = text.strip().splitlines()
    try:
        found = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise BenchError(f"no JSON in the last line of the output: {text.strip()[-200:]!r}") from None
    if not isinstance(found, dict):
        raise BenchError(f"expected a JSON object, met {type(found).__name__}")
    return found


def spread(values: Sequence[float]) -> dict[str, float]:
    """Minimum and median: the first is what the machine can do, the second what it did."""
    return {"min": min(values), "median": statistics.median(values)}


def say(text: str) -> None:
    """Tell a person who watches what is going on."""
    print(text, file=sys.stderr, flush=True)


def dolphin() -> Path:
    """The command line of the environment that runs this; BenchError when the package is not installed there."""
    path = Path(sys.executable).parent / "dolphin"
    if not path.exists():
        raise BenchError(
            f"{path.name}: not beside {Path(sys.executable).name}; run `make setup` and use .venv/bin/python"
        )
    return path


def data_folder() -> Path:
    """Where made markets are kept between runs: a folder named after the sources that make and scan them."""
    digest = hashlib.blake2b(digest_size=6)
    for room in ("market", "scan"):
        for path in sorted((ROOT / "src" / "dolphin" / room).rglob("*.py")):
            digest.update(path.read_bytes())
    folder = BUILD / "bench-data" / digest.hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def market_folder(days: int, bar_seconds: int = 60, assets: int = 50) -> Path:
    """An archive of synthetic prices, made by the command line when it is not there yet."""
    folder = data_folder() / f"market-{days}d-{bar_seconds}s-{assets}"
    if not (folder / "manifest.json").exists():
        say(f"making a market of {days} days, {assets} assets, {bar_seconds}-s bars")
        numbers = ["--days", str(days), "--assets", str(assets), "--bar-seconds", str(bar_seconds)]
        run_measured([dolphin(), "data", "make", "--out", folder, *numbers, "--force", "--json"])
    return folder
