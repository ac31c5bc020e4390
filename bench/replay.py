"""The replay beside vectorbt, hftbacktest and a bare loop: the same prices, one process each, in turn.

    python -m bench.replay [--quick]

prints one JSON object. The engine runs every rule; the others run a far simpler strategy (bench/simple.py).
"""

from __future__ import annotations

import json
import statistics
import sys
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from bench import peers
from bench.common import BenchError, data_folder, dolphin, market_folder, run_measured, run_part, say, spread


@dataclass
class Contender:
    """One way to run the bars: which module with which arguments, by whose interpreter."""

    name: str
    module: str
    rules: str
    extra: tuple[str, ...] = ()
    python: Path | str = sys.executable
    repeats: int = 15
    answers: list[dict[str, Any]] = field(default_factory=list)
    peaks: list[float] = field(default_factory=list)


EVERY = "every rule, event and trade records"
SIMPLE = "simple strategy"


def contenders(quick: bool) -> tuple[list[Contender], list[str]]:
    """Those that can run here, and one line for each that cannot."""
    few = 3 if quick else 15
    found = [
        Contender("dolphin, day by day", "bench.dolphin_replay", EVERY, ("days",), repeats=few),
        Contender("dolphin, one call", "bench.dolphin_replay", EVERY, ("whole",), repeats=few),
        Contender("dolphin, with order books", "bench.dolphin_replay", EVERY, ("books",), repeats=few),
        Contender("dolphin, with sensors", "bench.dolphin_replay", EVERY, ("sensors",), repeats=few),
        Contender("dolphin, every layer", "bench.dolphin_replay", EVERY, ("layers", str(trained_model())), repeats=few),
        Contender("bare Numba loop", "bench.bare_loop", SIMPLE, repeats=few),
    ]
    missing = []
    for name, module, label in (
        ("vectorbt", "bench.vectorbt_flex", "vectorbt, flexible order function"),
        ("hftbacktest", "bench.hftbacktest_loop", "hftbacktest, minimal loop"),
    ):
        try:
            python = peers.python_of(name)
        except BenchError as error:
            missing.append(str(error))
            say(f"replay: {error}; row left out")
            continue
        found.append(Contender(label, module, SIMPLE, python=python, repeats=2 if name == "hftbacktest" else few))
    return found, missing


def trained_model() -> Path:
    """A forewarner's model, trained when there is none that this release reads."""
    folder = data_folder() / f"model-{version('scikit-learn')}"
    if not (folder / "SEAL").exists():
        say("training a forewarner")
        train = [dolphin(), "forewarner", "train", "--data", market_folder(10), "--trials", "400", "--out", folder]
        run_measured([*train, "--force", "--json"])
    return folder


def prices_file(days: int) -> Path:
    """The prices and signals of `days` days, made when they are not there yet."""
    path = data_folder() / f"replay-{days}d.npz"
    if not path.exists():
        say(f"making prices and signals of {days} days")
        run_measured([sys.executable, "-m", "bench.dolphin_replay", "--make", path, str(days)])
    return path


def row_of(one: Contender, bars: int) -> dict[str, Any]:
    """One contender's answers, put together over its processes."""
    warm = [t for answer in one.answers for t in answer["warm_s"]]
    return {
        "name": one.name,
        "rules": one.rules,
        "trades": one.answers[0]["trades"],
        "warm_s": spread(warm),
        "cold_s": statistics.median(answer["cold_s"] for answer in one.answers),
        "import_s": statistics.median(answer["import_s"] for answer in one.answers),
        "bars_per_s": bars / min(warm),
        "peak_mb": max(one.peaks),
        "versions": one.answers[0]["versions"],
    }


def main(argv: list[str]) -> None:
    """Measure every contender in turn, several rounds, and print one JSON object."""
    quick = "--quick" in argv
    days, rounds = (10, 1) if quick else (55, 3)
    path, bars = prices_file(days), days * 1440
    found, missing = contenders(quick)
    # A round that does not count: each library may compile and keep what it keeps on disk.
    for lap in range(rounds + 1):
        for one in found:
            repeats = str(one.repeats if lap else 1)
            answer, used = run_part(one.module, str(path), repeats, *one.extra, python=one.python)
            if lap:
                one.answers.append(answer)
                one.peaks.append(used.peak_mb)
                say(f"replay: {one.name}: {min(answer['warm_s']) * 1e3:.1f} ms warm, {answer['cold_s']:.2f} s cold")
    rows = [row_of(one, bars) for one in found]
    simple = {row["trades"] for row in rows if row["rules"] == SIMPLE}
    if len(simple) != 1:
        raise BenchError(f"replay: the peers' trades differ, {sorted(simple)}: they do not run the same strategy")
    print(json.dumps({"rows": rows, "missing": missing, "bars": bars, "days": days, "assets": 50, "rounds": rounds}))


if __name__ == "__main__":
    main(sys.argv[1:])
