"""`dolphin exchange sim`: what it prints, serves, refuses, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dolphin.ui.cli import run
from tests.support.shared import recorded


@contextmanager
def command(*args: str) -> Iterator[subprocess.Popen[str]]:
    """The command in a process of its own; it is ended at the latest with the block."""
    line = [sys.executable, "-W", "error", "-c", "from dolphin.ui.cli import main; main()", "exchange", "sim", *args]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_serves_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with command("--symbols", "BTCUSDT,SOLUSDT,DOGEUSDT", "--json", "--faults", "drop:p=0.01") as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert told["symbols"] == ["BTCUSDT", "SOLUSDT", "DOGEUSDT"]
        assert (told["rest_url"], told["faults"]) == (f"http://127.0.0.1:{told['port']}", 1)
        info = fetch(told["rest_url"] + "/fapi/v1/exchangeInfo")
        assert [s["symbol"] for s in info["symbols"]] == told["symbols"]
        klines = fetch(told["rest_url"] + "/fapi/v1/klines?symbol=SOLUSDT&interval=1m&limit=1000")
        assert len(klines) == 1000, "a day of history is there at once"
        assert abs(fetch(told["rest_url"] + "/fapi/v1/time")["serverTime"] - klines[-1][0]) <= 61_000
        process.send_signal(number)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out) == (0, "")
        assert err.startswith("stopped: 0 messages to 0 connections, 3 requests")


def test_it_stops_by_itself_and_prints_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["exchange", "sim", "--symbols", "2", "--seconds", "0.2", "--speed", "0"]) == 0
    printed = capsys.readouterr()
    assert "synthetic market, 2 contracts, seed 7" in printed.out
    assert "/fapi/v1/exchangeInfo" in printed.out
    assert "stopped:" in printed.err


def test_a_recorded_stream(capsys: pytest.CaptureFixture[str]) -> None:
    path = recorded("book_2024") / "usdm_btcusdt_20240808.gz"
    assert run(["exchange", "sim", "--source", str(path), "--seconds", "0.2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["symbols"] == ["BTCUSDT"]
    assert told["market"] == "recorded stream usdm_btcusdt_20240808.gz, 93,954 lines, 345 s"


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--host", "0.0.0.0"], "host '0.0.0.0': the exchange listens on loopback only"),
        (["--symbols", "0"], "--symbols 0: expected 1 to 1000"),
        (["--symbols", "BTCUSDT,NOPE"], "'NOPE' is not in the synthetic market"),
        (["--symbols", "BTCUSDT,BTCUSDT"], "a contract is there twice"),
        (["--speed", "-1"], "speed -1.0: expected 0"),
        (["--seed", "-1"], "--seed -1: expected a whole number from 0"),
        (["--seconds", "0"], "--seconds 0: expected more than 0"),
        (["--port", "70000"], "port 70000: expected 0"),
        (["--faults", "melt:p=1"], "fault 'melt': unknown"),
        (["--source", "no-such-file"], "--source no-such-file: no such file"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["exchange", "sim", "--symbols", "2", *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("dolphin: ")
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_recording_has_its_own_contract(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "stream.txt"
    path.write_text("x\n")
    assert run(["exchange", "sim", "--source", str(path), "--symbols", "3"]) == 2
    assert "has its own contract" in capsys.readouterr().err
    assert run(["exchange", "sim", "--source", str(path)]) == 2
    assert "line 1 begins with" in capsys.readouterr().err


def test_help_teaches(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["exchange", "sim", "--help"]) == 0
    out = capsys.readouterr().out
    for word in ("disconnect", "http429", "Examples:", "/sim/status", "streams (patterns"):
        assert word in out
