"""Ctrl-C and SIGTERM end what runs until it is told to, and let it finish."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def on_stop(stop: Callable[[], object]) -> Iterator[None]:
    """Have both signals call `stop`, which must not wait, within a block; afterwards they do what they did before."""
    before = {number: signal.signal(number, lambda *_: stop()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
