"""Imports that are refused: one line each, and nothing written."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dolphin.core.errors import ConfigError, DataError, InputError
from dolphin.market.archive import Archive
from dolphin.market.sources import bar_length_ns
from tests.market.archive_support import ASSETS, DAY, price_day, put, replaced, table, tree, write_klines
from tests.market.import_support import BAR, DAYS, csv_text, run, tables


def _bad_sources(folder: Path) -> dict[str, str]:
    """One folder or file for each way to be wrong, and what is to be said about it."""
    good = table(price_day(rows=24, bar=BAR))
    stamp = good.schema.field("timestamp").type
    stamps = good.column("timestamp").to_pylist()
    put(folder / "text", replaced(good, "ETHUSDT", pa.array(["x"] * 24)))
    put(folder / "int", replaced(good, "ETHUSDT", pa.array([1] * 24)))
    put(folder / "naive", replaced(good, "timestamp", pa.array(price_day(rows=24).ts_ns, pa.timestamp("ns"))))
    put(folder / "number", replaced(good, "timestamp", pa.array(price_day(rows=24).ts_ns)))
    put(folder / "unnamed", good.rename_columns(["time", *ASSETS]))
    put(folder / "lower", good.rename_columns(["timestamp", "btc", "ETHUSDT", "XRPUSDT"]))
    put(folder / "twice", replaced(good, "timestamp", pa.array([*stamps[:3], stamps[2], *stamps[4:]], stamp)))
    put(folder / "back", replaced(good, "timestamp", pa.array([*stamps[:3], stamps[1], *stamps[4:]], stamp)))
    put(folder / "null", replaced(good, "timestamp", pa.array([*stamps[:3], None, *stamps[4:]], stamp)))
    off = [*stamps[:3], stamps[3].replace(minute=7), *stamps[4:]]
    put(folder / "off", replaced(good, "timestamp", pa.array(off, stamp)))
    put(folder / "rows", good.slice(0, 0))
    put(folder / "never", replaced(good.select(["timestamp", "ETHUSDT"]), "ETHUSDT", pa.array([0.0] * 24)))
    tables(folder / "bars", DAYS[:2])
    put(folder / "bars", table(price_day(DAYS[2], rows=24, bar=1800)), DAYS[2])
    tables(folder / "overlap", DAYS[:2])
    pq.write_table(good, folder / "overlap" / "again.parquet")
    path = put(folder / "corrupt", good)
    path.write_bytes(path.read_bytes()[:-40])
    tables(folder / "mixed")
    write_klines(folder / "mixed", "AUSDT", np.arange(3) * 3600000, np.ones(3), date_text="1970-01-01", interval="1h")
    cut = write_klines(
        folder / "zip", "AUSDT", np.arange(24) * 3600000, np.ones(24), date_text="1970-01-01", interval="1h"
    )
    cut.write_bytes(cut.read_bytes()[:-20])
    (folder / "nothing").mkdir()
    (folder / "nothing" / "readme.txt").write_text("x")
    csv = folder / "csv"
    csv.mkdir()
    (csv / "word.csv").write_text(csv_text([1617580800, 1617584400], [1, 2, 3], [1, "dear", 3]))
    (csv / "zone.csv").write_text(csv_text(["2021-04-05 00:00:00"], [1, 2, 3]))
    (csv / "null.csv").write_text(csv_text([1617580800, "", 1617584400], [1, 2, 3], [1, 2, 3], [1, 2, 3]))
    (csv / "gone.csv").write_text(csv_text(["2021-04-05T00:00:00Z", ""], [1, 2, 3], [1, 2, 3]))
    (csv / "far.csv").write_text(csv_text([10**21], [1, 2, 3]))
    (csv / "short.csv").write_text(csv_text([1617580800], [1, 2]))
    (csv / "empty.csv").write_text(csv_text([]))
    (csv / "blank.csv").write_text("")
    (csv / "binary.csv").write_bytes(b"timestamp,A\xff\xfe\n")
    (csv / "BTCUSDT.csv").write_text("1617580800000,1,2,3,4,5,6,7,8,9,10,11\n")
    (csv / "prices.txt").write_text("x")
    return {
        "text": "2021-04-05.parquet: column 'ETHUSDT' holds string, expected float64",
        "int": "column 'ETHUSDT' holds int64, expected float64",
        "naive": r"column 'timestamp' holds timestamp\[ns\]",
        "number": "column 'timestamp' holds int64",
        "unnamed": "column 'timestamp' is missing",
        "lower": "column 'btc' is not an asset name",
        "twice": "row 3: 2021-04-05T02:00:00Z comes twice in a row",
        "back": "row 3: 2021-04-05T01:00:00Z comes after 2021-04-05T02:00:00Z",
        "null": "column 'timestamp', row 3: no value",
        "off": "row 3: 2021-04-05T03:07:00Z is not on the grid of 3600 s bars",
        "rows": "no rows",
        "never": "no row with a price",
        "bars": r"2021-04-07.parquet: bars are 1800 s apart, expected 3600 s",
        "overlap": r"begins before .*parquet ends",
        "corrupt": "not a whole Parquet file",
        "mixed": "holds kline files .* and Parquet tables",
        "zip": "AUSDT-1h-1970-01-01.zip: not a whole zip file",
        "nothing": "no prices; expected",
        "absent": "no such file or directory",
        "csv/word.csv": "word.csv: not a table of prices .*dear",
        "csv/zone.csv": "zone.csv: not a table of prices .*2021-04-05 00:00:00",
        "csv/null.csv": "null.csv: column 'timestamp', row 1: no value",
        "csv/gone.csv": "gone.csv: column 'timestamp', row 1: no value",
        "csv/far.csv": "far.csv: not a table of prices",
        "csv/short.csv": "short.csv: not a table of prices",
        "csv/empty.csv": "empty.csv: no rows",
        "csv/blank.csv": "blank.csv: column 'timestamp' is missing",
        "csv/binary.csv": "binary.csv: not a text file",
        "csv/BTCUSDT.csv": "column 'timestamp' is missing; .* files named SYMBOL-INTERVAL-DATE",
        "csv/prices.txt": "prices.txt: not a file of prices",
    }


def test_bad_sources_are_refused_and_nothing_is_written(tmp_path: Path) -> None:
    source = tmp_path / "src"
    for name, says in _bad_sources(source).items():
        with pytest.raises(DataError, match=says) as refused:
            run(source / name, tmp_path / "out")
        assert "\n" not in str(refused.value), name
        assert [p.name for p in tmp_path.iterdir()] == ["src"], name


def test_bad_options(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    before = tree(tmp_path)
    for changes, says in (
        ({"stamp": "middle"}, "--stamp 'middle': expected open or close"),
        ({"bar_seconds": 0}, "--bar-seconds 0"),
        ({"bar_seconds": -60}, "--bar-seconds -60"),
        ({"bar_seconds": 7}, "--bar-seconds 7: a day is not a whole number of such bars"),
        ({"bar_seconds": float("nan")}, "--bar-seconds nan"),
        ({"bar_seconds": 60}, "bars are 3600 s apart, expected 60 s"),
        ({"bar_seconds": 7200}, "bars are 3600 s apart, expected 7200 s"),
        ({"min_coverage": 1.5}, "--min-coverage 1.5"),
        ({"min_coverage": float("nan")}, "--min-coverage nan"),
        ({"out": source}, "is the source itself"),
        ({"out": source / f"{DAY}.parquet" / "x"}, "cannot be written"),
    ):
        with pytest.raises(InputError, match=says):
            run(source, **({"out": tmp_path / "out"} | changes))  # type: ignore[arg-type]
    assert tree(tmp_path) == before
    assert bar_length_ns(0.1) == 100_000_000


def test_an_archive_is_replaced_only_by_force(tmp_path: Path) -> None:
    source = tables(tmp_path / "src")
    run(source, tmp_path / "out")
    before = tree(tmp_path / "out")
    with pytest.raises(ConfigError, match="already holds an archive"):
        run(source, tmp_path / "out", stamp="close")
    assert tree(tmp_path / "out") == before
    run(source, tmp_path / "out", stamp="close", force=True)
    assert Archive.open(tmp_path / "out").days == tuple(DAYS)
