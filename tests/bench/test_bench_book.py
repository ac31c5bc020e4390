"""The order book's benchmark runs, and measures what it says."""

from __future__ import annotations

import json

import numpy as np
import pytest

from bench import book


def test_it_prints_a_row_per_universe(capsys: pytest.CaptureFixture[str]) -> None:
    book.main(["--quick"])
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["assets"] for row in rows] == [10, 50, 400]
    assert all(0.0 < row["kernel_us"] < row["live_one_by_one_us"] for row in rows)


def test_every_snapshot_of_the_benchmark_is_taken() -> None:
    snapshots = book.made_snapshots(20, 3)
    assert np.isfinite(snapshots["timestamp"]).all()
    assets = ("A", "B", "C")
    for kind in (book.One, book.All):
        engine = book.OBFeatureEngine(assets, kind(assets, snapshots[:1]))
        engine.step_live(assets, 1, book.NS)
        assert engine.counts["taken"] == 3
