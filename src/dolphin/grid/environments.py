"""The LMDB files that this process has open: each once, as LMDB demands, however many grids use it."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import lmdb

from dolphin.core.errors import GridError
from dolphin.grid.checks import CLOSED

MAX_READERS = 1024
"""Threads that may be reading at one instant, over all processes."""

_guard = threading.Lock()
_open: dict[Path, tuple[Any, int]] = {}


class _Gone:
    """Stands where a closed file was."""

    def begin(self, write: bool = False) -> Any:
        raise GridError(CLOSED)


GONE: Any = _Gone()


def take(path: Path, *, synced: bool, size: int) -> Any:
    """The file at `path`, opened or open already. Raises GridError when it is none that LMDB can read."""
    try:
        with _guard:
            place = path.parent.resolve() / path.name
            env, users = _open.get(place, (None, 0))
            if env is None:
                env = lmdb.open(
                    str(place),
                    subdir=False,
                    sync=synced,
                    metasync=synced,
                    map_size=size,
                    mode=0o600,
                    max_readers=MAX_READERS,
                    max_spare_txns=8,
                )
            _open[place] = (env, users + 1)
            return env
    except (lmdb.Error, OSError) as error:
        reason = " ".join(str(error).split())
        raise GridError(f"grid: {path} cannot be opened ({reason}); move it away to start anew") from None


def give_back(path: Path) -> None:
    """Be done with it. It is closed with its last reader: LMDB must not lose a file under a thread that reads it."""
    with _guard:
        place = path.parent.resolve() / path.name
        env, users = _open.pop(place)
        if users > 1:
            _open[place] = (env, users - 1)


def forget() -> None:
    """In a forked child, before it opens any: what is open is the parent's, and closing our copies leaves its locks
    alone. One that another thread of the parent was writing to stays, and cannot be opened in the child."""
    global _guard  # noqa: PLW0603 (a thread that is not here may have held the old one)
    _guard = threading.Lock()
    _open.clear()
