"""A process in which a loop with deadlines is not the one that waits."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005
"""How long one thread may keep another waiting for the interpreter; Python's own 5 ms would be a twentieth of a bar of
100 ms."""

YOUNG = 50_000
"""Containers made, and not gone again, after which the collector looks for cycles among them; Python's own 2,000 are
passed several times in a beat of 400 assets, and every hundredth time everything is looked at."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let threads change places quickly for a block, and keep the collector from looking at what will not go away, or
    at what comes and goes with every beat: that ends by reference counts."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, *thresholds[1:])
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)
        gc.unfreeze()
