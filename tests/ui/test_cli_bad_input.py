"""Bad input: exactly one line on stderr that says what, where and which value; exit code 2; nothing written."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from dolphin.market.tables import ScanDay
from dolphin.ui.cli import run
from tests.market.archive_support import price_day, put, replaced, table, write_klines
from tests.support.runs import FIRST, scan_archive_of, scan_days, write_days

pytestmark = pytest.mark.usefixtures("warm")

Capture = pytest.CaptureFixture[str]
SECOND = date(2024, 1, 2)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below `folder`, empty folders and hidden files included, with content and time of change."""
    return {
        str(p.relative_to(folder)): (p.stat().st_mtime_ns, p.read_bytes() if p.is_file() else b"")
        for p in sorted(folder.rglob("*"))
        if not (p.is_dir() and any(p.iterdir()))
    }


class Bench:
    """A folder to work in, and the one way in which bad input must end."""

    def __init__(self, home: Path, capsys: Capture) -> None:
        self.home, self._capsys = home, capsys
        self.data, self.out = home / "data", home / "results" / "run"

    def refuses(self, args: list[str], *words: str) -> str:
        """Run, and give the line."""
        self._capsys.readouterr()
        before = tree(self.home)
        code = run(args)
        out, err = self._capsys.readouterr()
        assert (code, out) == (2, ""), err
        assert err.startswith("dolphin: ")
        assert err.count("\n") == 1
        assert err.endswith("\n")
        for word in words:
            assert word in err, f"{word!r} is not in: {err}"
        assert tree(self.home) == before, "something was written"
        return err

    def backtest(self, *options: str) -> list[str]:
        return ["backtest", "--data", str(self.data), "--out", str(self.out), *options]

    def both(self, *words: str) -> None:
        """`backtest` and `why` read the same data and must refuse it alike."""
        self.refuses(self.backtest(), *words)
        self.refuses(["why", "--data", str(self.data), "--at", "2024-01-01T03:00:00Z"], *words)


@pytest.fixture
def bench(tmp_path: Path, capsys: Capture) -> Bench:
    return Bench(tmp_path, capsys)


@pytest.fixture
def good(bench: Bench) -> Bench:
    """A bench whose data are in order."""
    scan_archive_of(bench.data, 2)
    return bench


# --- the data ---


def test_missing_directory(bench: Bench) -> None:
    bench.both(f"{bench.data}: no such directory", "check the path")


def test_a_file_for_a_directory(bench: Bench) -> None:
    bench.data.write_text("x")
    bench.both(f"{bench.data}: not a directory")


@pytest.mark.parametrize("name", [None, "notes.txt", "2024-1-1.parquet", "prices.parquet"])
def test_no_day_files(name: str | None, bench: Bench) -> None:
    bench.data.mkdir()
    if name:
        (bench.data / name).write_text("x")
    bench.both(f"{bench.data}: no day files", "YYYY-MM-DD.parquet")


def spoilt(bench: Bench, change: Callable[[pa.Table], pa.Table]) -> None:
    """Two days without a manifest, the second one changed."""
    first, second = scan_days(2)
    put(bench.data, table(first), FIRST)
    put(bench.data, change(table(second)), SECOND)


def test_wrong_column_type(bench: Bench) -> None:
    spoilt(bench, lambda t: replaced(t, "ETHUSDT", t.column("ETHUSDT").cast(pa.float32())))
    bench.both("2024-01-02.parquet", "column 'ETHUSDT' holds float, expected float64")


def test_text_for_a_stamp(bench: Bench) -> None:
    spoilt(bench, lambda t: replaced(t, "timestamp", t.column("timestamp").cast(pa.string())))
    bench.both("2024-01-02.parquet", "column 'timestamp' holds string, expected timestamp")


def test_stamps_without_a_zone(bench: Bench) -> None:
    spoilt(bench, lambda t: replaced(t, "timestamp", t.column("timestamp").cast(pa.timestamp("ms"))))
    bench.both("2024-01-02.parquet", "column 'timestamp' holds timestamp[ms]", "tz=UTC")


@pytest.mark.parametrize("name", ["vel_div", "v750_lambda_max_velocity", "timestamp", "scan_number"])
def test_missing_column(name: str, bench: Bench) -> None:
    spoilt(bench, lambda t: t.drop_columns([name]))
    bench.both("2024-01-02.parquet", f"column '{name}' is missing")


def test_unsorted_stamps(bench: Bench) -> None:
    def swap(t: pa.Table) -> pa.Table:
        order = np.arange(t.num_rows)
        order[[7, 8]] = order[[8, 7]]
        return t.take(pa.array(order))

    spoilt(bench, swap)
    bench.both("2024-01-02.parquet", "column 'timestamp', row 8: 2024-01-02T00:07:00Z", "strictly ascend")


def test_duplicate_stamps(bench: Bench) -> None:
    spoilt(bench, lambda t: t.take(pa.array([0, 1, 2, 2, *range(3, t.num_rows)])))
    bench.both("2024-01-02.parquet", "row 3: 2024-01-02T00:02:00Z comes twice in a row")


def test_stamps_of_another_day(bench: Bench) -> None:
    first, _ = scan_days(2)
    put(bench.data, table(first), SECOND)
    bench.both("2024-01-02.parquet", "row 0: 2024-01-01T00:00:00Z lies outside 2024-01-02")


def test_infinite_signal(bench: Bench) -> None:
    def spoil(t: pa.Table) -> pa.Table:
        values = t.column("vel_div").to_numpy().copy()
        values[9] = np.inf
        return replaced(t, "vel_div", pa.array(values))

    spoilt(bench, spoil)
    bench.refuses(bench.backtest(), "2024-01-02.parquet", "column 'vel_div', row 9: inf")


def test_mixed_bar_lengths(bench: Bench) -> None:
    first, second = scan_days(2)
    slow = replace(second, ts_ns=second.ts_ns[0] + (second.ts_ns - second.ts_ns[0]) * 3)
    put(bench.data, table(first), FIRST)
    put(bench.data, table(slow), SECOND)
    bench.both("2024-01-02.parquet", "bars are 180 s apart, expected 60 s")


def test_mixed_kinds(bench: Bench) -> None:
    put(bench.data, table(price_day(FIRST)), FIRST)
    put(bench.data, table(scan_days(2)[1]), SECOND)
    bench.both("holds scans, but 2024-01-01.parquet holds prices")


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no table at all", None])
def test_corrupt_parquet(content: bytes | None, bench: Bench) -> None:
    spoilt(bench, lambda t: t)
    path = bench.data / "2024-01-02.parquet"
    path.write_bytes(path.read_bytes()[:-100] if content is None else content)
    bench.both(f"{path}: not a whole Parquet file")


def test_a_day_that_breaks_after_others_were_read(good: Bench) -> None:
    """The manifest vouches for the file, so the run has begun when the damage shows: still nothing stays behind."""
    path = good.data / "2024-01-02.parquet"
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 3] ^= 0xFF
    path.write_bytes(raw)
    good.refuses(good.backtest(), str(path))
    good.refuses(good.backtest("--json"), str(path))
    assert not (good.home / "results").exists()


def test_an_exchanged_day(good: Bench) -> None:
    shutil.copy(write_days(good.home / "other", scan_days(2, seed=9)) / "2024-01-02.parquet", good.data)
    good.refuses(good.backtest(), "2024-01-02.parquet", "hash", "the manifest says", "changed after")


def test_a_day_that_went_missing(good: Bench) -> None:
    (good.data / "2024-01-02.parquet").unlink()
    good.both("2024-01-02.parquet: is in the manifest but not in the folder")


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"schema": 99}', "not JSON", "\xff"])
def test_a_broken_manifest(text: str, good: Bench) -> None:
    (good.data / "manifest.json").write_text(text, encoding="latin-1")
    good.both(str(good.data / "manifest.json"), "write the archive again")


def test_an_empty_archive_file(bench: Bench) -> None:
    day: ScanDay = scan_days(1)[0]
    none = replace(
        day, ts_ns=day.ts_ns[:0], closes=day.closes[:0], scan_number=day.scan_number[:0], signals=day.signals[:0]
    )
    put(bench.data, table(none), FIRST)
    bench.both("no file has two rows, so the bar length is unknown")


# --- the options ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--profile", "red"], ["--profile red", "blue or green"]),
        (["--friction", "much"], ["--friction", "much"]),
        (["--set", "warp=9"], ["--set warp: no such parameter", "max_hold_bars"]),
        (["--set", "use_ob_edge=false"], ["--friction"]),
        (["--set", "max_leverage=99"], ["--set max_leverage=99: out of range, expected between 0.1 and 20"]),
        (["--set", "max_hold_bars=0"], ["--set max_hold_bars=0: out of range"]),
        (["--set", "stop_pct=nan"], ["--set stop_pct=nan: out of range"]),
        (["--set", "max_hold_bars=ten"], ["--set max_hold_bars=ten: expected a whole number"]),
        (["--set", "vd_enabled=maybe"], ["--set vd_enabled=maybe: expected true or false"]),
        (["--set", "vel_div_extreme=-0.01"], ["vel_div_extreme=-0.01", "below vel_div_threshold"]),
        (["--set", "max_hold_bars"], ["--set max_hold_bars: expected NAME=VALUE"]),
        (["--set", "=5"], ["--set =5: expected NAME=VALUE"]),
        (["--set", "stop_pct="], ["--set stop_pct=: expected NAME=VALUE"]),
        (["--set", ""], ["--set", "expected NAME=VALUE"]),
        (["--set"], ["--set"]),
        (["--capital", "0"], ["--capital 0", "positive"]),
        (["--capital", "-1"], ["--capital -1"]),
        (["--capital", "nan"], ["--capital nan"]),
        (["--capital", "much"], ["--capital", "much"]),
        (["--from", "2024-01-02", "--to", "2024-01-01"], ["--from 2024-01-02: after --to 2024-01-01"]),
        (["--from", "yesterday"], ["--from: 'yesterday' is not a calendar date", "YYYY-MM-DD"]),
        (["--to", "2024-02-30"], ["--to: '2024-02-30'"]),
        (["--from", "2030-01-01"], ["no day from 2030-01-01", "2024-01-01 to 2024-01-02"]),
        (["--warp"], ["--warp"]),
        (["extra"], ["extra"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_options_of_a_replay(options: list[str], words: list[str], good: Bench) -> None:
    good.refuses(good.backtest(*options), *words)
    good.refuses(["why", "--data", str(good.data), "--at", "2024-01-01T03:00:00Z", *options], *words)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["warp"], ["warp", "dolphin --help"]),
        (["data", "warp"], ["warp", "dolphin data --help"]),
        (["scan", "warp"], ["warp"]),
        (["--warp"], ["--warp"]),
        (["backtest"], ["--data"]),
        (["backtest", "--data", "x"], ["--out"]),
        (["why", "--data", "x"], ["--at"]),
        (["why", "--data", "x", "--at", "noon"], ["--at: 'noon' is not a time"]),
        (["data", "import", "x", "--bar-seconds", "60", "--out", "y"], ["--stamp", "open or close"]),
        (["data", "import", "x", "--stamp", "open", "--out", "y"], ["--bar-seconds"]),
        (["data", "make", "--out", "y", "--days", "0"], ["days=0", "between 1 and"]),
        (["data", "make", "--out", "y", "--start", "soon"], ["--start: 'soon'"]),
        (["data", "verify", "x"], ["x: no such directory"]),
        (["scan", "run", "x", "--out", "y"], ["x: no such directory"]),
        (["scan", "certify", "x", "--date", "2024-01-01", "--bars", "1"], ["x: no such directory"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_every_command_refuses_in_one_line(
    args: list[str], words: list[str], bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bench.home)
    bench.refuses(args, *words)


# --- the folder for the results ---


@pytest.mark.parametrize("where", ["file", "file/run", "file/deep/run"])
def test_out_below_a_file(where: str, good: Bench) -> None:
    (good.home / "file").write_text("x")
    good.out = good.home / where
    good.refuses(good.backtest(), f"--out {good.out}: ", "choose another folder" if "/" in where else "is a file")


@pytest.mark.parametrize("where", ["/proc/run", "/proc/deep/run", "/sys/run"])
def test_out_where_nobody_may_write(where: str, good: Bench) -> None:
    good.out = Path(where)
    good.refuses(good.backtest(), f"--out {where}: cannot be written", "choose another folder")
    assert not good.out.exists()


def test_out_already_holds_a_run(good: Bench) -> None:
    assert run(good.backtest()) == 0
    good.refuses(good.backtest(), f"--out {good.out}: already holds a run", "--force")
    assert run(good.backtest("--force")) == 0


@pytest.mark.parametrize("force", [[], ["--force"]], ids=["", "force"])
def test_out_holds_other_people_s_files(force: list[str], good: Bench) -> None:
    good.out.mkdir(parents=True)
    (good.out / "thesis.txt").write_text("years of work")
    (good.out / "summary.json").write_text("{}")
    good.refuses(good.backtest(*force), f"--out {good.out}: holds thesis.txt")


def test_out_is_the_data(good: Bench) -> None:
    good.out = good.data
    good.refuses(good.backtest("--force"), f"--out {good.data}: holds 2024-01-01.parquet, which is not part of a run")


def test_archives_are_not_overwritten(good: Bench) -> None:
    make = ["data", "make", "--days", "1", "--assets", "2", "--out", str(good.data)]
    good.refuses(make, f"{good.data}: already holds an archive", "--force")
    (good.home / "file").write_text("x")
    good.refuses([*make[:-1], str(good.home / "file" / "m")], "cannot be written")


# --- why ---


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ("2024-01-01T00:00:40Z", ["no bar carries that stamp", "the nearest is 2024-01-01T00:01:00Z"]),
        ("2024-01-01T23:00:00Z", ["no bar carries that stamp", "2024-01-01T06:39:00Z"]),
        ("2023-12-31T23:59:00Z", ["the archive has no such day", "2024-01-01 to 2024-01-02"]),
        ("9999-01-01", ["the archive has no such day"]),
    ],
)
def test_why_at_a_stamp_that_no_bar_has(at: str, words: list[str], good: Bench) -> None:
    good.refuses(["why", "--data", str(good.data), "--at", at], "--at", *words)


def test_why_of_an_unknown_asset(good: Bench) -> None:
    args = ["why", "--data", str(good.data), "--at", "2024-01-01T03:00:00Z", "--asset", "DOGEUSDT"]
    good.refuses(args, "--asset DOGEUSDT: not among the archive's 4 assets")


# --- import ---


def imported(bench: Bench, *options: str) -> list[str]:
    out = str(bench.home / "market")
    return ["data", "import", str(bench.data), "--bar-seconds", "60", "--stamp", "open", "--out", out, *options]


@pytest.mark.parametrize("keep", [0, 3, 40, -20, -1])
def test_truncated_zip(keep: int, bench: Bench) -> None:
    stamps = 1_704_067_200_000 + np.arange(200) * 60_000
    whole = write_klines(bench.data, "BTCUSDT", stamps, np.linspace(1.0, 2.0, 200), date_text="2024-01-01")
    write_klines(bench.data, "ETHUSDT", stamps, np.linspace(1.0, 2.0, 200), date_text="2024-01-01")
    raw = whole.read_bytes()
    whole.write_bytes(raw[:keep])
    bench.refuses(imported(bench), whole.name)


def test_zip_with_a_flipped_bit(bench: Bench) -> None:
    stamps = 1_704_067_200_000 + np.arange(200) * 60_000
    path = write_klines(bench.data, "BTCUSDT", stamps, np.linspace(1.0, 2.0, 200), date_text="2024-01-01")
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 0x10
    path.write_bytes(raw)
    bench.refuses(imported(bench), path.name)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--symbols", "DOGEUSDT"], ["--symbols: the source has no DOGEUSDT", "BTCUSDT"]),
        (["--symbols", "BTCUSDT", "--drop", "BTCUSDT"], ["--drop BTCUSDT"]),
        (["--min-coverage", "1.5"], ["--min-coverage 1.5"]),
        (["--stamp", "middle"], ["--stamp", "middle", "open or close"]),
        (["--bar-seconds", "7"], ["--bar-seconds 7"]),
        (["--bar-seconds", "300"], ["60 s", "expected 300 s"]),
        (["--from", "2024-01-02", "--to", "2024-01-01"], ["--from 2024-01-02"]),
        (["--from", "2030-01-01"], ["2030-01-01"]),
        (["--out", "/proc/market"], ["/proc/market", "cannot be written"]),
    ],
    ids=lambda value: " ".join(value),
)
def test_options_of_an_import(options: list[str], words: list[str], bench: Bench) -> None:
    put(bench.data, table(price_day(FIRST)), FIRST)
    bench.refuses(imported(bench, *options), *words)
