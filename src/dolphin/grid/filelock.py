"""Locks that the kernel keeps: free the moment their holder dies, however it dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from dolphin.core.errors import GridError

_TRIES = 20
"""How often a waiter looks again before it sleeps: most holds are over within these 20 µs or so."""

_SHORTEST_S, _LONGEST_S = 2e-5, 1e-3
"""How long it sleeps before it looks again: at first, and after doubling."""


class FileLock:
    """One lock by way of one open file (`flock`). Two of them on one path compete, in one process too.

    A forked child must call `forget`: it shares the open file, and would hold the lock after its parent's death.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise GridError(f"grid: {path} cannot be opened ({error.strerror}); check the folder's rights") from None

    def try_acquire(self) -> bool:
        """Take it if it is free."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def acquire(self, end: float) -> bool:
        """Take it when it gets free before `end`, of `time.monotonic`."""
        if self.try_acquire():
            return True
        for _ in range(_TRIES):
            os.sched_yield()
            if self.try_acquire():
                return True
        pause = _SHORTEST_S
        while (left := end - time.monotonic()) > 0.0:
            time.sleep(min(pause, left))
            if self.try_acquire():
                return True
            pause = min(2.0 * pause, _LONGEST_S)
        return False

    def release(self) -> None:
        """Give it back, forked children's copies included."""
        fcntl.flock(self._handle, fcntl.LOCK_UN)

    def forget(self) -> None:
        """Close the file; the lock is free if no fork of this process holds a copy."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


class FairLock:
    """A lock for short holds at a high rate: whoever gives it back cannot take it again before one who waits.

    Two file locks, as a turnstile: the first is held only on the way to the second, so a holder that comes back queues
    at the first while the one who waits stands between the two.
    """

    def __init__(self, path: Path) -> None:
        self._gate, self._lock = FileLock(path.with_name(path.name + ".gate")), FileLock(path)

    def acquire(self, end: float) -> bool:
        """Take it when it gets free before `end`, of `time.monotonic`."""
        if not self._gate.acquire(end):
            return False
        try:
            return self._lock.acquire(end)
        finally:
            self._gate.release()

    def release(self) -> None:
        """Give it back."""
        self._lock.release()

    def forget(self) -> None:
        """See FileLock."""
        self._gate.forget()
        self._lock.forget()
