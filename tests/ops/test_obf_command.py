"""`dolphin obf` as processes: grid values, signals, restarts, kill -9, and what it refuses (SPEC §8, §15)."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from dolphin.book.engine import OBFeatureEngine
from dolphin.core.errors import GridError
from dolphin.grid import schemas
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.market.bookarchive import BookArchive
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.ops.obf.featuresfile import read_features
from dolphin.ops.obf.metrics import read_metrics
from dolphin.trade.hzob import HZOBProvider
from dolphin.ui.cli import run
from tests.ops.obf_cases import until
from tests.support.books import book_days, write_books

Capture = pytest.CaptureFixture[str]
CODE = "import sys; from dolphin.ui.cli import main; main(sys.argv[1:])"
SYMBOLS = "BTCUSDT,ETHUSDT,SOLUSDT"


class Service:
    """`dolphin obf run` in a process; `lines` are those of stderr so far."""

    def __init__(self, folder: Path, *more: str, source: str = "mock") -> None:
        self.folder, self.lines, self._rest = folder, [], b""  # type: ignore[var-annotated]
        places = ["--grid", str(folder / "grid"), "--cache", str(folder / "cache"), "--archive", str(folder / "books")]
        symbols = ["--symbols", SYMBOLS] if source == "mock" else []
        command = [sys.executable, "-c", CODE, "obf", "run", "--source", source, *symbols, *places, "--warm-up", "0"]
        self.process = subprocess.Popen([*command, *more], stderr=subprocess.PIPE, stdout=subprocess.PIPE)

    def wait_for(self, words: str, seconds: float = 120.0) -> None:
        end = time.monotonic() + seconds
        while not any(words in line for line in self.lines):
            assert time.monotonic() < end, f"never said {words!r}: {self.lines}"
            assert self._take(), f"ended without {words!r}: {self.lines}"

    def _take(self) -> bool:
        assert self.process.stderr is not None
        if not select.select([self.process.stderr], [], [], 1.0)[0]:
            return True
        data = os.read(self.process.stderr.fileno(), 1 << 16)
        *whole, self._rest = (self._rest + data).split(b"\n")
        self.lines += [line.decode() for line in whole]
        return bool(data)

    def end(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        code = self.process.wait(120.0)
        while self._take():
            pass
        return code


@contextlib.contextmanager
def serving(folder: Path, *more: str, source: str = "mock") -> Iterator[Service]:
    one = Service(folder, *more, source=source)
    try:
        yield one
    finally:
        with contextlib.suppress(ProcessLookupError):
            one.process.kill()
        one.process.wait()
        for pipe in (one.process.stdout, one.process.stderr):
            if pipe is not None:
                pipe.close()


def value(folder: Path, name: str, key: str, capsys: Capture) -> dict[str, Any]:
    """What `dolphin grid get` prints, which also decodes it."""
    assert run(["grid", "get", name, key, "--grid", str(folder / "grid")]) == 0
    return dict(json.loads(capsys.readouterr().out))


def status(folder: Path, capsys: Capture) -> tuple[int, dict[str, Any]]:
    code = run(["obf", "status", "--cache", str(folder / "cache"), "--grid", str(folder / "grid"), "--json"])
    return code, dict(json.loads(capsys.readouterr().out))


def beats(folder: Path) -> int:
    with contextlib.suppress(Exception):
        return read_metrics(folder / "cache").beats
    return 0


def test_it_serves_is_stopped_is_killed_and_goes_on(tmp_path: Path, capsys: Capture) -> None:
    with serving(tmp_path) as one:
        one.wait_for("phase running")
        until(lambda: beats(tmp_path) >= 5, "five beats")
        fields = value(tmp_path, "DOLPHIN_FEATURES", "asset_BTCUSDT_ob", capsys)
        assert len(fields["bid_notional"]) == 5
        assert "_push_seq" in fields
        assert value(tmp_path, "DOLPHIN_FEATURES_SHARD_07", "BTCUSDT", capsys)["imbalance"] == pytest.approx(-0.086)
        assert value(tmp_path, "DOLPHIN_FEATURES", "obf_macro", capsys)["bars"]
        assert value(tmp_path, "DOLPHIN_FEATURES", "obf_latest", capsys)["held"] is False
        assert value(tmp_path, "DOLPHIN_HEARTBEAT", "obf", capsys)["phase"] == "running"
        _, told = status(tmp_path, capsys)
        assert told["metrics"]["phase"] == "running"
        assert told["heartbeat"]["pid"] == one.process.pid
        assert one.end(signal.SIGTERM) == 0
    assert value(tmp_path, "DOLPHIN_HEARTBEAT", "obf", capsys)["phase"] == "stopped"
    assert read_features(tmp_path / "cache").phase == "stopped"
    assert any("is finished and verified" in line for line in one.lines)
    assert "going on" not in " ".join(one.lines)
    assert status(tmp_path, capsys)[0] == 1
    days = BookArchive.open(tmp_path / "books").days
    with serving(tmp_path) as two:
        two.wait_for("going on from the state of")
        two.wait_for("phase running")
        assert value(tmp_path, "DOLPHIN_FEATURES", "obf_latest", capsys)["held"] is True
        two.process.kill()
        two.process.wait()
    assert BookArchive.open(tmp_path / "books").days == days
    with serving(tmp_path, "--seconds", "1", "--json") as three:
        three.wait_for("phase running")
        assert three.process.stdout is not None
        metrics = json.loads(three.process.stdout.read())
        assert three.process.wait(120.0) == 0
    assert metrics["phase"] == "stopped"
    assert metrics["breaker"]["state"] == "CLOSED"
    assert set(metrics["age_s"]) == set(SYMBOLS.split(","))
    for name, key in _keys(tmp_path):
        entry = schemas.find(name, key)
        assert entry is not None, (name, key)


def _keys(folder: Path) -> list[tuple[str, str]]:
    grid = EmbeddedGrid(folder / "grid")
    try:
        return [(name, key) for name in grid.names()[0] for key in grid.keys(name)]
    finally:
        grid.close()


def test_a_recording_reaches_a_traders_book_in_another_process(tmp_path: Path) -> None:
    """Recorded books → service → grid → HZOBProvider → features, of several processes."""
    days = book_days(list(make_market(MarketSpec(days=1, assets=3))))
    write_books(tmp_path / "recorded", days)
    grid = EmbeddedGrid(tmp_path / "grid")
    provider = HZOBProvider(grid)
    try:
        more = ("--speed", "600", "--seconds", "30")
        with serving(tmp_path, *more, source=str(tmp_path / "recorded")) as one:
            one.wait_for("phase running")
            until(lambda: len(provider.get_assets()) >= 2 and provider.counts["taken"] >= 12, "books of two assets")
            engine = OBFeatureEngine(provider.get_assets(), provider, clock=time.time_ns)
            until(lambda: engine.step_live(engine.assets, engine.bar_idx + 1)[0].usable == 1, "a usable market")
            assert one.end(signal.SIGINT) == 0
    finally:
        provider.close()
        grid.close()
    assert provider.counts["refused"] == 0


def test_it_ends_with_the_recording(tmp_path: Path) -> None:
    days = book_days(list(make_market(MarketSpec(days=1, assets=2))))
    write_books(tmp_path / "recorded", days)
    with serving(tmp_path, "--speed", "86400", source=str(tmp_path / "recorded")) as one:
        assert one.process.wait(120.0) == 0
    assert BookArchive.open(tmp_path / "books").days[0] >= date(2026, 1, 1)


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ([], "give one of --source mock"),
        (["--source", "mock"], "--symbols: the mock has a book of any asset"),
        (["--source", "mock", "--symbols", "BTCUSDT,"], "one is empty or there twice"),
        (["--source", "mock", "--symbols", "A,A"], "one is empty or there twice"),
        (["--source", "mock", "--symbols", "btcusdt"], "expected capital letters and digits"),
        (["--source", "nowhere"], "nowhere"),
        (["--source", "mock", "--symbols", "A", "--rest", "http://127.0.0.1:1", "--ws", "ws://127.0.0.1:1"], "one of"),
        (["--rest", "http://127.0.0.1:1"], "give both --rest and --ws"),
        (["--source", "mock", "--symbols", "A", "--cadence-ms", "0"], "cadence_s 0"),
        (["--source", "mock", "--symbols", "A", "--warm-up", "-1"], "warm_up_s -1"),
        (["--source", "mock", "--symbols", "A", "--seconds", "0"], "--seconds 0: expected more than 0"),
        (["--source", "mock", "--symbols", "A", "--cache", "file"], "choose another folder"),
        (["--source", "mock", "--symbols", "A", "--archive", "file"], "file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    args: list[str], said: str, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("not a folder")
    assert run(["obf", "run", *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dolphin: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_status_without_a_service_says_so(tmp_path: Path, capsys: Capture) -> None:
    assert run(["obf", "status", "--cache", str(tmp_path)]) == 2
    assert "obf_metrics.json: cannot be read" in capsys.readouterr().err
    assert run(["obf", "run", "--source", "mock", "--symbols", "BTCUSDT", "--warm-up", "0", "--seconds", "0.3",
                "--cache", str(tmp_path / "c"), "--grid", str(tmp_path / "g")]) == 0  # fmt: skip
    capsys.readouterr()
    assert run(["obf", "status", "--cache", str(tmp_path / "c"), "--grid", str(tmp_path / "g")]) == 1
    printed = capsys.readouterr()
    assert "it was stopped" in printed.err
    for words in ("bar latency", "breaker", "beats, skipped", "heartbeat in the grid", "stopped, "):
        assert words in printed.out
    with pytest.raises(GridError):
        schemas.DAEMON_HEARTBEAT.decode(None)
