"""Keeps pyarrow from importing pandas. Importing this module is enough; it costs nothing where pandas is absent.

pyarrow looks for pandas at the first array that it makes. Where NautilusTrader has brought pandas along, that look
costs every command 0.2 s and 60 MB, and nothing here ever hands a pandas object to pyarrow, or asks it for one.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

import pyarrow as pa


class _Hidden(MetaPathFinder):
    """Says of pandas that it is not there."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:
        """Nothing for other modules; ModuleNotFoundError for pandas."""
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is hidden from pyarrow", name="pandas")


def _settle() -> None:
    """Let pyarrow look for pandas once, and not find it; both its Python and its C++ remember the answer."""
    if "pandas" in sys.modules:
        return
    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(hidden)


_settle()
