"""Flat records: the form in which state and inputs reach compiled code, and are copied, hashed, saved and restored."""

from __future__ import annotations

from typing import Any

import numpy as np

Record = Any
"""One row of a structured array, read and written by attribute inside and outside compiled code."""


def records(dtype: np.dtype[Any], length: int) -> Record:
    """`length` zeroed records whose fields read and write as attributes, compiled or not."""
    return np.zeros(length, dtype).view(np.recarray)
