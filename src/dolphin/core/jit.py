"""How kernels are compiled: one decorator, strict floating point, and a cache that cannot go stale.

Numba keys a cached kernel on the file that defines it, not on the files of the kernels it calls, so an edit
to a small rule would leave an old compiled `step` behind. Here the cache folder's name carries a hash of every
kernel source: any edit gives a new folder, and the old ones are removed.

Floating point is strict (no fastmath): sums keep their order, so results are the same bit for bit with and
without the JIT and on every machine.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar, cast

import numba
from numba.core import config as _config

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = Path(__file__).resolve().parent.parent
_KERNEL_ROOMS = ("core", "scan", "book", "risk", "alpha")


def source_fingerprint() -> str:
    """Sixteen hex digits over the sources of the rooms that hold kernels, and Numba's version."""
    digest = hashlib.blake2b(numba.__version__.encode(), digest_size=8)
    for room in _KERNEL_ROOMS:
        for path in sorted((_PACKAGE / room).rglob("*.py")):
            digest.update(path.relative_to(_PACKAGE).as_posix().encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_root() -> Path:
    beside = _PACKAGE / "__pycache__"
    try:
        beside.mkdir(exist_ok=True)
    except OSError:
        pass
    if os.access(beside, os.W_OK):
        return beside
    home = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(home) / "dolphin"


def _use_fresh_cache() -> Path:
    root = _cache_root()
    folder = root / f"kernels-{source_fingerprint()}"
    if not folder.exists():
        for stale in root.glob("kernels-*"):
            shutil.rmtree(stale, ignore_errors=True)
    return folder


_asked_for = os.environ.get("NUMBA_CACHE_DIR")
CACHE_DIR = Path(_asked_for) if _asked_for else _use_fresh_cache()
_config.CACHE_DIR = str(CACHE_DIR)  # type: ignore[attr-defined]


def cache_is_cold() -> bool:
    """True when no kernel of these sources has been compiled yet: the next run pays for it."""
    return not CACHE_DIR.exists()


def kernel(fn: F) -> F:
    """Compile `fn` in nopython mode, cached, strict floating point, IEEE division (x/0 is inf, not an error).

    The interpreter lock is let go meanwhile, so that files can be read beside it.
    """
    return cast(F, numba.njit(cache=True, error_model="numpy", nogil=True, _nrt=False)(fn))


def inlined_kernel(fn: F) -> F:
    """Like `kernel`, but always compiled into its callers: for the small pieces of hot loops, where a call that hands
    over a dozen arrays costs more than the work."""
    return cast(F, numba.njit(cache=True, error_model="numpy", nogil=True, forceinline=True, _nrt=False)(fn))
