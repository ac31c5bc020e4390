"""Every measurement, or some: `python bench/run.py [PART …] [--quick] [--json] [--write]`.

Parts: scanner, replay, process, growth, venue, depth, book, live, grid, hazelcast (which wants Java). Prints tables
(progress goes to stderr); --json prints the raw numbers instead; --write puts the tables into bench/RESULTS.md, which
wants all parts and no --quick.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # run as a file, so that `make bench` needs no module path

from bench import tables  # noqa: E402
from bench.common import ONE_THREAD, BenchError, say  # noqa: E402

PARTS = ("scanner", "replay", "process", "growth", "venue", "depth", "book", "live", "grid", "hazelcast")
RESULTS = ROOT / "bench" / "RESULTS.md"
# These are about one thread's arithmetic; the others about what a user gets without any setting.
PINNED = {"scanner", "replay", "depth", "book"}


def machine_facts() -> dict[str, Any]:
    """What the numbers depend on, and nothing that names the machine."""
    code = (
        "import json, numpy; b = numpy.show_config('dicts')['Build Dependencies']['blas'];"
        "print(json.dumps({'blas': b.get('name', '?') + ' ' + b.get('version', '?')}))"
    )
    blas = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "load_before": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
        "numpy": importlib.metadata.version("numpy"),
        "numba": importlib.metadata.version("numba"),
        **json.loads(blas),
    }


def measure(parts: list[str], quick: bool) -> dict[str, Any]:
    """Run the parts one after the other, each in a process of its own."""
    report: dict[str, Any] = {"machine": machine_facts(), "quick": quick, "parts": {}, "pinned": sorted(ONE_THREAD)}
    for part in parts:
        say(f"— {part}")
        flags = ["--quick"] if quick else []
        report["parts"][part] = run_loud(part, flags)
    report["machine"]["load_after"] = round(os.getloadavg()[0], 1)
    return report


def run_loud(part: str, flags: list[str]) -> dict[str, Any]:
    """One part, its progress shown as it comes."""
    env = {**os.environ, **(ONE_THREAD if part in PINNED else {})}
    command = [sys.executable, "-m", f"bench.{part}", *flags]
    done = subprocess.run(command, cwd=ROOT, env=env, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{part}: failed with exit code {done.returncode}; what went wrong is above")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line; exits 2 on one that makes no sense."""
    parser = argparse.ArgumentParser(prog="bench/run.py", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--quick", action="store_true", help="small sizes and few repeats, to see that it runs")
    parser.add_argument("--json", action="store_true", help="print the raw numbers instead of tables")
    parser.add_argument("--write", action="store_true", help="put the tables into bench/RESULTS.md (full runs only)")
    args = parser.parse_args(argv)
    unknown = [part for part in args.parts if part not in PARTS]
    if unknown:
        parser.error(f"no part {unknown[0]!r}; expected {', '.join(PARTS)}")
    if args.write and (args.quick or args.parts):
        parser.error("--write wants all parts and no --quick: RESULTS.md holds whole runs only")
    return args


def main(argv: list[str]) -> int:
    """Measure and show; 1 when a part fails."""
    args = arguments(argv)
    try:
        report = measure(args.parts or list(PARTS), args.quick)
    except BenchError as error:
        say(f"bench: {error}")
        return 1
    block = tables.render(report)
    print(json.dumps(report, indent=1) if args.json else block)
    if args.write:
        tables.write_block(RESULTS, block)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
