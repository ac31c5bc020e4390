"""`dolphin data make`, end to end."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from dolphin.market.archive import Archive
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.ui.cli import run
from tests.support.downloads import leftovers


def test_the_market_on_disk_is_the_market_in_memory(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "market"
    options = ["--days", "3", "--assets", "5", "--bar-seconds", "300", "--seed", "3", "--start", "2024-02-28"]
    assert run(["data", "make", "--out", str(out), *options, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    made = list(make_market(MarketSpec(days=3, assets=5, bar_seconds=300, seed=3, start=date(2024, 2, 28))))
    assert told["bars"] == sum(day.rows for day in made) == 3 * 288 - 8
    assert told["days"] == 3
    assert told["content_hash"] == Archive.open(out).identity()
    for day in made:
        table = pq.ParquetFile(out / f"{day.day}.parquet").read()
        stamps = table.column("timestamp").to_numpy().astype("datetime64[ns]").astype(np.int64)
        assert np.array_equal(stamps, day.ts_ns)
        for k, asset in enumerate(day.assets):
            assert np.array_equal(table.column(asset).to_numpy(), day.closes[:, k], equal_nan=True)


def test_two_runs_write_the_same_bytes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        assert run(["data", "make", "--out", str(tmp_path / name), "--days", "1", "--assets", "3"]) == 0
    assert "1 days, 3 assets, 1,440 bars of 60 s (synthetic, seed 7)" in capsys.readouterr().out
    days = [(tmp_path / name / "2024-01-01.parquet").read_bytes() for name in ("a", "b")]
    assert days[0] == days[1]


def test_without_an_outage_every_day_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--days", "3", "--assets", "2", "--bar-seconds", "900", "--no-outage", "--json"]
    assert run(["data", "make", "--out", str(tmp_path), *options]) == 0
    assert json.loads(capsys.readouterr().out)["bars"] == 3 * 96


def test_an_archive_that_is_there_needs_force(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["data", "make", "--out", str(tmp_path), "--days", "1", "--assets", "2", "--bar-seconds", "900"]
    assert run(command) == 0
    assert run(command) == 2
    said = capsys.readouterr().err
    assert "--force" in said
    assert said.count("\n") == 1
    assert run([*command, "--force"]) == 0


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--days", "0"], "days=0"),
        (["--days", "many"], "'many' is not a valid integer"),
        (["--assets", "5000"], "assets=5000"),
        (["--bar-seconds", "7"], "does not divide a day"),
        (["--seed", "-1"], "seed=-1"),
        (["--start", "1.1.2024"], "--start: '1.1.2024' is not a calendar date"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    out = tmp_path / "out"
    assert run(["data", "make", "--out", str(out), *options]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1
    assert leftovers(out) == []


def test_help_teaches_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "make", "--help"]) == 0
    assert "dolphin data make --out market --days 5" in capsys.readouterr().out
