"""A process in which a loop with deadlines is not the one that waits."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager

SWITCH_S = 0.0005
"""How long one thread may keep another waiting for the interpreter; Python's own 5 ms would be a twentieth of a bar of
100 ms."""


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let threads change places quickly for a block, and keep the collector from looking at what will not go away."""
    interval = sys.getswitchinterval()
    gc.collect()
    gc.freeze()
    sys.setswitchinterval(SWITCH_S)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        gc.unfreeze()
