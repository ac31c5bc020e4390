"""Compiling ahead: run every hot kernel once on a tiny input, so that the first real bar does not wait for the compiler."""

from __future__ import annotations

import numpy as np

from dolphin.alpha.engine import NDAlphaEngine, day_bars
from dolphin.core.codes import Direction
from dolphin.core.params import EngineParams
from dolphin.scan.scanner import Scanner


def compile_scanner() -> None:
    """Compile the scanner's kernels, or load them from the cache."""
    Scanner(2, 60.0).scan(np.arange(2, dtype=np.int64), np.ones((2, 2)))


def compile_engine() -> None:
    """Compile the replay and the single step, or load them from the cache."""
    engine = NDAlphaEngine(EngineParams(), ("BTCUSDT", "ETHUSDT"), Direction.SHORT, 1.0)
    ts = np.arange(2, dtype=np.int64)
    nothing = np.full(2, np.nan)
    engine.process_bars(day_bars(ts, {"vel_div": nothing, "v50": nothing, "v750": nothing}), np.ones((2, 2)))
