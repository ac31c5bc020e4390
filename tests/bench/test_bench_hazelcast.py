"""The cluster's benchmark runs, and its table shows what it measured."""

from __future__ import annotations

import json

import pytest

from bench import hazelcast, tables
from tests.grid.clusters import need_java


@pytest.mark.slow
def test_it_measures_calls_and_a_member_that_dies(capsys: pytest.CaptureFixture[str]) -> None:
    need_java()
    hazelcast.main(["--quick"])
    report = json.loads(capsys.readouterr().out)
    assert report["get"]["near"]["p50"] < report["get"]["from the cluster"]["p50"]
    counts = report["10,000 a second, a member killed and started again"]["counts"]
    assert counts["offered"] == 60_000
    assert counts["offered"] == sum(counts[name] for name in ("sent", "coalesced", "dropped", "failed"))
    shown = tables.hazelcast_table(report)
    assert "| get, near |" in shown
    assert "60,000 offered" in shown
