"""Where the recorded markets lie, and how tests say that they are absent."""

from __future__ import annotations

from pathlib import Path

import pytest

RECORDED = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def recorded(name: str) -> Path:
    """The folder `name` of the recorded data; the calling test is skipped, saying why, where it is absent."""
    folder = RECORDED / name
    if not folder.exists():
        pytest.skip(f"recorded data absent: {name} is expected beside the checkout, under shared/data")
    return folder
