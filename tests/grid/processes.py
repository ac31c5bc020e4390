"""Processes of their own at one grid, to be killed in the middle of what they do."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

PRELUDE = """
import hashlib, os, sys, time
from pathlib import Path
from dolphin.core.errors import GridError
from dolphin.grid.embedded import EmbeddedGrid
grid = EmbeddedGrid(Path(sys.argv[1]))
def say(*words):
    os.write(1, (" ".join(map(str, words)) + "\\n").encode())
"""


def pattern(number: int) -> bytes:
    """A value that shows which write it is of, and whether it is whole: 8 KiB, two pages and more."""
    return b"%020d" % number * 410


PATTERN = 'def pattern(number):\n    return b"%020d" % number * 410\n'


class Process:
    """A Python process that runs `source` after PRELUDE; `said` collects the lines it writes."""

    def __init__(self, source: str, root: Path, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + PATTERN + source, str(root), *more], stdout=subprocess.PIPE
        )
        self._rest, self._heard = b"", 0
        self.said: list[str] = []

    def listen(self, seconds: float = 20.0) -> str:
        """The next line, of which several may have come at once."""
        seen, self._heard = self._heard, self._heard + 1
        end = time.monotonic() + seconds
        while len(self.said) <= seen:
            left = end - time.monotonic()
            assert left > 0.0, f"said nothing; before: {self.said[-3:]}"
            assert self._take(left), f"ended; before: {self.said[-3:]}"
        return self.said[seen]

    def stop(self, number: signal.Signals) -> None:
        os.kill(self.process.pid, number)

    def kill(self) -> list[str]:
        """Kill it, and give back all that it said."""
        self.process.kill()
        self.process.wait()
        while self._take(5.0):
            pass
        return self.said

    def _take(self, seconds: float) -> bool:
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], seconds)[0]:
            return True
        data = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + data).split(b"\n")
        self.said += [line.decode() for line in lines]
        return bool(data)

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def running(source: str, root: Path, *more: str) -> Iterator[Process]:
    """A process for a block, with `more` arguments; it is dead afterwards."""
    process = Process(source, root, *more)
    try:
        yield process
    finally:
        process.close()
