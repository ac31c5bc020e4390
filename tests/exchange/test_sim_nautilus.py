"""A client that is not ours: NautilusTrader's Binance adapter builds the same book from the loopback exchange."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_nautilus_builds_the_exchange_s_book() -> None:
    pytest.importorskip("nautilus_trader", reason="NautilusTrader is not installed: make setup-nautilus")
    # A process of its own: the node takes over the event loop, the signals and the log of the one it runs in.
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.loopback_node"],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).resolve().parents[2],
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(next(line for line in done.stdout.splitlines() if line.startswith("{")))
    assert told["same"], told
    assert told["levels"] > 300
    assert all(told["seen"][kind] > 0 for kind in ("quotes", "trades", "deltas", "marks", "bars"))
