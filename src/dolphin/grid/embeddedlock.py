"""Locks with fencing tokens for the processes of one machine (SPEC §14)."""

from __future__ import annotations

import os
import struct
import threading
import time
from pathlib import Path
from urllib.parse import quote

from dolphin.core.errors import GridError
from dolphin.grid.checks import name_bytes
from dolphin.grid.filelock import FileLock
from dolphin.grid.store import Store, Write

_TOKEN = struct.Struct(">QQ")  # token, process
_SHORTEST_S, _LONGEST_S = 1e-3, 2e-2


class EmbeddedLock:
    """A `Lock` of an `EmbeddedGrid`: the kernel keeps who holds it, the durable store the latest token.

    The kernel frees it when the holder is dead, and not before, so that no holder is ever overtaken while it lives; a
    stopped one keeps it.
    """

    def __init__(self, folder: Path, store: Store, name: str, held: set[EmbeddedLock]) -> None:
        self._key = b"t" + name_bytes(name, "lock")
        # While it is held it is in `held`: with nobody left to release it, closing the grid does.
        self._name, self._store, self._held = name, store, held
        # The name may hold anything printable; as a file's it is quoted, or too long for one.
        self._path = folder / f"lock-{quote(name, safe='')[:200]}"
        self._guard = threading.Lock()
        self._file: FileLock | None = None
        self._token = 0

    def acquire(self, timeout_s: float = 0.0) -> int:
        """See Lock."""
        end = time.monotonic() + timeout_s
        pause = _SHORTEST_S
        while True:
            with self._guard:
                if self._file is None and (token := self._take()):
                    return token
            left = end - time.monotonic()
            if left <= 0.0:
                return 0
            time.sleep(min(left, pause))
            pause = min(2.0 * pause, _LONGEST_S)

    def release(self, token: int) -> None:
        """See Lock."""
        with self._guard:
            if self._file is None or token != self._token:
                raise GridError(f"grid: lock {self._name} is not held with token {token}; it was released or lost")
            self._drop(self._file)

    def let_go(self) -> None:
        """Release it if it is held."""
        with self._guard:
            if self._file is not None:
                self._drop(self._file)

    def forget(self) -> None:
        """In a forked child: it is the parent's."""
        self._guard = threading.Lock()
        if self._file is not None:
            self._file.forget()
            self._file, self._token = None, 0

    def _take(self) -> int:
        file = FileLock(self._path)
        taken = False
        try:
            if not file.try_acquire():
                return 0
            token = self._store.write(self._next)
            taken = True
        finally:
            if not taken:
                file.forget()
        self._file, self._token = file, token
        self._held.add(self)
        return token

    def _next(self, txn: Write) -> int:
        held = txn.get(self._key)
        token: int = _TOKEN.unpack(held)[0] + 1 if held else 1
        txn.put(self._key, _TOKEN.pack(token, os.getpid()))
        return token

    def _drop(self, file: FileLock) -> None:
        self._file, self._token = None, 0
        self._held.discard(self)
        file.release()
        file.forget()
