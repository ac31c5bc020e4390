"""Compiling ahead: run every hot entry once on a tiny input, so that the first real bar does not wait for the
compiler."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.replay import ENGINE
from dolphin.alpha.rows import day_bars
from dolphin.core.codes import Direction
from dolphin.core.params import EngineParams
from dolphin.scan.scanner import SCAN_ROWS, Scanner


def compile_steps(*, scanning: bool) -> list[Callable[[], None]]:
    """What must still be compiled for a replay, with or without scanning; empty when all of it is kept on disk."""
    steps: list[Callable[[], None]] = []
    if not ENGINE.is_ready():
        steps.append(compile_engine)
    if scanning and not SCAN_ROWS.is_ready():
        steps.append(compile_scanner)
    return steps


def compile_scanner() -> None:
    """Compile the scanner, or load it."""
    Scanner(2, 60.0).scan(np.arange(2, dtype=np.int64), np.ones((2, 2)))


def compile_engine() -> None:
    """Compile the replay and the step, or load them."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT", "ETHUSDT"), Direction.SHORT, 1.0)
    ts = np.arange(2, dtype=np.int64)
    nothing = np.full(2, np.nan)
    engine.process_bars(day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing}), np.ones((2, 2)))
