"""The grid's benchmark runs, and measures what it says."""

from __future__ import annotations

import json

import pytest

from bench import grid


@pytest.mark.slow
def test_it_prints_every_way_to_put_and_get(capsys: pytest.CaptureFixture[str]) -> None:
    grid.main(["--quick"])
    report = json.loads(capsys.readouterr().out)
    for maker in grid.MAKERS:
        for kind in ("fast", "synced"):
            for processes in (1, grid.PROCESSES):
                measured = report[f"{maker}, {kind}, {processes} at once"]
                assert 0.0 < measured["get"]["p50"] <= measured["get"]["p99"] <= measured["get"]["max"]
                assert measured["get"]["p50"] < measured["put"]["p50"]
    assert report["embedded, fast, 200 a second, one listener elsewhere"]["heard"]["p50"] > 0.0
    assert report["put queue"]["put"]["p50"] > 0.0


def test_shape() -> None:
    assert grid.shape([n * 1000 for n in range(100)]) == {"p50": 50.0, "p99": 99.0, "max": 99.0}
