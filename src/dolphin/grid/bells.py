"""Waking listeners of other processes: named pipes, a byte per change, and no thread that polls.

A listening process makes a pipe and waits at it. Who writes to the grid also writes a byte there. What changed stands
in the store's feed, so that a byte too many costs nothing, and one that finds the pipe full was not needed.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from dolphin.core.errors import GridError

_MAKING = ".making"


class Bell:
    """The listener's end. `name` is what ringers are told."""

    def __init__(self, folder: Path) -> None:
        self.name = f"{os.getpid()}-{uuid.uuid4().hex[:12]}"
        self._path = folder / self.name
        making = folder / (self.name + _MAKING)
        try:
            os.mkfifo(making, 0o600)
            self._handle = os.open(making, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            # Opened before it has its name: a pipe of that name that nobody reads belongs to a dead process.
            making.rename(self._path)
        except OSError as error:
            raise GridError(f"grid: no listener can be made in {folder} ({error.strerror})") from None
        # Our own writing end, so that the pipe never ends when a ringer goes, and `ring` below.
        self._own = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._handle, select.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """Sleep until it rings, or for `timeout_s`."""
        if self._poll.poll(timeout_s * 1000.0):
            with contextlib.suppress(BlockingIOError):
                os.read(self._handle, 1 << 16)

    def ring(self) -> None:
        """Wake our own listener."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._own, b"\0")

    def close(self) -> None:
        """Take it away; ringers find out."""
        self._path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Close the handles only, as a forked child must: with its copies the pipe would outlive the parent."""
        if self._handle >= 0:
            os.close(self._handle)
            os.close(self._own)
            self._handle = self._own = -1


class Ringer:
    """A writer's end of one bell."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._path = folder / name
        self._handle: int | None = None
        self._closed = False
        # Another thread may close it meanwhile, and the number of a closed file is soon another file's.
        self._lock = threading.Lock()

    def ring(self) -> bool:
        """Wake the listener; false when it is dead or gone."""
        with self._lock:
            if self._closed:
                return True
            try:
                if self._handle is None:
                    self._handle = os.open(self._path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
                os.write(self._handle, b"\0")
            except BlockingIOError:
                return True  # full: it is awake, or will be
            except OSError:
                return False
            return True

    def close(self) -> None:
        """Close the handle; it rings no more."""
        with self._lock:
            self._closed = True
            if self._handle is not None:
                os.close(self._handle)
                self._handle = None


def dead_bells(folder: Path) -> Iterator[str]:
    """The names of bells whose listener is dead; their pipes are removed on the way."""
    for path in sorted(folder.iterdir()):
        if path.name.endswith(_MAKING):
            with contextlib.suppress(OSError):  # left by one that died while making it
                if time.time() - path.stat().st_mtime > 60.0:
                    path.unlink()
            continue
        ringer = Ringer(folder, path.name)
        try:
            if not ringer.ring():
                path.unlink(missing_ok=True)
                yield path.name
        finally:
            ringer.close()
