"""`dolphin exchange watch`: what it prints, refuses, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from dolphin.exchange.sim.server import SimExchange
from dolphin.ui.cli import run
from tests.support.live import venue
from tests.support.loopback import BTC, DOGE, market


def test_a_line_of_json_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    with venue(lambda: SimExchange(market(BTC, DOGE))) as sim:
        args = ["exchange", "watch", "--rest", sim.endpoints.rest, "--ws", sim.endpoints.ws]
        assert run([*args, "--symbols", "BTCUSDT", "--seconds", "2.5", "--json", "--limit", "100"]) == 0
    printed = capsys.readouterr()
    lines = [json.loads(line) for line in printed.out.splitlines()]
    assert len(lines) >= 1
    last = lines[-1]
    assert [book["symbol"] for book in last["books"]] == ["BTCUSDT"]
    assert (last["books"][0]["state"], last["books"][0]["trusted"]) == ("synced", True)
    assert 40_000.0 < last["books"][0]["mid"] < 44_000.0
    assert abs(last["books"][0]["imbalance"]) <= 1.0
    assert last["clock_offset_ms"] < 0.0, "the exchange's clock is that of 2023"
    assert last["time"].endswith("Z")
    assert printed.err.startswith("stopped: ")
    assert threading.active_count() == 1


def test_a_table_for_people(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    with venue(lambda: SimExchange(market(BTC, DOGE))) as sim:
        args = ["exchange", "watch", "--rest", sim.endpoints.rest, "--ws", sim.endpoints.ws, "--tickers"]
        assert run([*args, "--seconds", "2"]) == 0
    out = capsys.readouterr().out
    for word in ("symbol", "resyncs", "BTCUSDT", "DOGEUSDT", "synced", "2 of 2 trusted", "weight", "clock"):
        assert word in out, word


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_watches_until_it_is_told_to_stop(number: signal.Signals) -> None:
    with venue(lambda: SimExchange(market(BTC))) as sim:
        line = [sys.executable, "-W", "error", "-c", "from dolphin.ui.cli import main; main()", "exchange", "watch"]
        line += ["--rest", sim.endpoints.rest, "--ws", sim.endpoints.ws, "--json"]
        with subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
        ) as process:
            try:
                assert process.stdout is not None
                json.loads(process.stdout.readline())
                process.send_signal(number)
                _, err = process.communicate(timeout=60)
            finally:
                process.kill()
        assert (process.returncode, err.startswith("stopped: ")) == (0, True), err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--rest", "http://10.1.2.3"], "10.1.2.3 is not this machine; expected a loopback address"),
        (["--ws", "wss://venue.example"], "(--allow-remote)"),
        (["--rest", "ftp://127.0.0.1"], "expected http://HOST[:PORT]"),
        (["--limit", "7"], "snapshot limit 7: expected one of 5, 10, 20"),
        (["--seconds", "0"], "--seconds 0: expected more than 0"),
        (["--symbols", "BTCUSDT,,"], "expected contracts such as BTCUSDT,ETHUSDT"),
        (["--symbols", "BTCUSDT,BTCUSDT"], "each once"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    base = ["exchange", "watch", "--rest", "http://127.0.0.1:9", "--ws", "ws://127.0.0.1:9"]
    assert run([*base, *args]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert said in printed.err
    assert printed.err.count("\n") == 1


def test_a_venue_that_is_not_there_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["exchange", "watch", "--rest", "http://127.0.0.1:9", "--ws", "ws://127.0.0.1:9", "--allow-remote"]) == 1
    printed = capsys.readouterr()
    assert "check that the venue is up" in printed.err
    assert printed.err.count("\n") == 1
