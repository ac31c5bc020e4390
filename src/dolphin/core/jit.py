"""How kernels are compiled: one decorator, strict floating point, and a cache that cannot go stale.

Numba keys a cached kernel on the file that defines it, not on the files of the kernels it calls, so an edit
to a small rule would leave an old compiled `step` behind. Here the cache folder's name carries a hash of every
kernel source: any edit gives a new folder, and the old ones are removed.

Floating point is strict (no fastmath): sums keep their order and nothing is fused, so results are the same bit for
bit with and without the JIT, whatever the width of the vector registers. `log` and `pow` are the machine's own
library's. Reference counting is off: a kernel that would allocate does not compile.

A decorated kernel imports Numba when it is first called or compiled into another one, not before: a process whose
machine code is already on disk (`dolphin.core.native`) never pays for the compiler.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

DISABLED = os.environ.get("NUMBA_DISABLE_JIT", "0") not in ("", "0")
"""Kernels run as plain Python: for coverage, and to prove that compiling changes nothing."""

OPTIONS: dict[str, Any] = {"error_model": "numpy", "nogil": True, "_nrt": False}
"""IEEE division (x/0 is inf, not an error); the interpreter lock is let go; no allocation."""

_PACKAGE = Path(__file__).resolve().parent.parent
_KERNEL_ROOMS = ("core", "scan", "book", "risk", "alpha", "exchange")
WITHOUT_KERNELS = ("risk/forewarner", "exchange/sim", "exchange/live")
"""Folders of those rooms that hold no kernel, so that an edit there compiles nothing anew."""
_lock = threading.RLock()


def source_fingerprint() -> str:
    """Sixteen hex digits over the sources of the rooms that hold kernels, and Numba's version."""
    digest = hashlib.blake2b(version("numba").encode(), digest_size=8)
    for room in _KERNEL_ROOMS:
        for path in sorted((_PACKAGE / room).rglob("*.py")):
            name = path.relative_to(_PACKAGE).as_posix()
            if not name.startswith(tuple(f"{folder}/" for folder in WITHOUT_KERNELS)):
                digest.update(name.encode())
                digest.update(path.read_bytes())
    return digest.hexdigest()


def _cache_root() -> Path:
    beside = _PACKAGE / "__pycache__"
    with contextlib.suppress(OSError):
        beside.mkdir(exist_ok=True)
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
# Also in a folder that someone chose: machine code of other sources, with another layout, would crash the process.
CACHE_DIR = Path(_asked_for) / f"kernels-{source_fingerprint()}" if _asked_for else _use_fresh_cache()


class Kernel:
    """A function that Numba compiles when it is first needed; callable from Python and from other kernels."""

    def __init__(self, fn: Callable[..., Any], *, inlined: bool) -> None:
        functools.update_wrapper(self, fn)
        self.py_func = fn
        self._inlined = inlined
        self._dispatcher: Any = None

    @property
    def dispatcher(self) -> Any:
        """Numba's own object, made at the first use."""
        if self._dispatcher is None:
            import numba
            from numba.core import config

            with _lock:
                config.CACHE_DIR = str(CACHE_DIR)  # type: ignore[attr-defined]
                self._dispatcher = numba.njit(cache=True, forceinline=self._inlined, **OPTIONS)(self.py_func)
        return self._dispatcher

    @property
    def _numba_type_(self) -> Any:
        """What Numba asks a global that a kernel refers to: lets kernels call kernels."""
        return self.dispatcher._numba_type_

    def __call__(self, *args: Any) -> Any:
        """Run compiled."""
        return self.dispatcher(*args)


def kernel[F: Callable[..., Any]](fn: F) -> F:
    """Compile `fn` in nopython mode, cached, by OPTIONS."""
    return fn if DISABLED else cast(F, Kernel(fn, inlined=False))


def inlined_kernel[F: Callable[..., Any]](fn: F) -> F:
    """Like `kernel`, but always compiled into its callers: for the small pieces of hot loops, where a call that hands
    over a dozen arrays costs more than the work."""
    return fn if DISABLED else cast(F, Kernel(fn, inlined=True))
