"""Kernels divide as IEEE 754 says, x/0 being infinite; without the JIT numpy would warn of it."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest


@pytest.fixture(autouse=True)
def _ieee_division() -> Iterator[None]:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        yield
