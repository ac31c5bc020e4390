"""What the tests of the command line share."""

from __future__ import annotations

import pytest

from dolphin.research.warm import compile_steps


@pytest.fixture(scope="session")
def warm() -> None:
    """Kernels ready, so that no line announces their compiling."""
    for step in compile_steps(scanning=True):
        step()
