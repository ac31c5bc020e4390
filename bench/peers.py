"""Environments for the peers: each its own, under build/, installed once from its list of exact versions."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bench.common import BUILD, ROOT, BenchError, run_measured, say

PEERS = ("vectorbt", "hftbacktest")


def requirements(name: str) -> Path:
    """The list of versions of one peer."""
    return ROOT / "bench" / "requirements" / f"{name}.txt"


def python_of(name: str) -> Path:
    """The interpreter of the peer's environment, made and filled when it is not there yet or its list has changed.

    Raises BenchError with what the installer said when it cannot be installed here.
    """
    folder, wanted = BUILD / "bench-venv" / name, requirements(name).read_text()
    python, done = folder / "bin" / "python", folder / "installed.txt"
    if python.exists() and done.exists() and done.read_text() == wanted:
        return python
    say(f"installing {name} into an environment of its own (once; a minute or two)")
    shutil.rmtree(folder, ignore_errors=True)
    try:
        run_measured([sys.executable, "-m", "venv", folder])
        run_measured([python, "-m", "pip", "install", "--quiet", "--only-binary", ":all:", "-r", requirements(name)])
    except BenchError as error:
        raise BenchError(f"{name} cannot be installed here ({error})") from None
    done.write_text(wanted)
    return python
