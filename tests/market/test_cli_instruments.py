"""`dolphin data instruments` as it is run: the table, JSON for machines, one clear line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dolphin.market.instrumentfiles import bundled_instruments
from dolphin.ui.cli import run
from tests.market.test_exchangeinfo import contract, write


def test_the_table_says_its_date_and_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "instruments", "1000PEPEUSDT", "BTCUSDT"]) == 0
    out = capsys.readouterr().out
    table = bundled_instruments()
    assert "│ 1000PEPEUSDT │ 0.0000001 │     1 │ 10000000 │     5 │       75 │  2/5 │" in out
    assert "│ BTCUSDT      │       0.1 │ 0.001 │     1000 │   100 │      125 │  2/5 │" in out
    assert out.splitlines()[-1] == (
        f"2 of {len(table)} instruments, as of 2025-06-15, identity {table.identity()}; "
        "source: bundled table, kept by hand"
    )


def test_the_page_shows_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "cli.md"
    assert run(["data", "instruments", "BTCUSDT", "1000PEPEUSDT"]) == 0
    printed = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert "\n".join(["```", *printed, "```"]) in page.read_text(encoding="utf-8")


def test_every_instrument_is_shown_without_symbols(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "instruments"]) == 0
    out = capsys.readouterr().out
    assert all(f"│ {one.symbol} " in out for one in bundled_instruments())


def test_json_holds_exact_numbers_and_what_was_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, contract(), contract("OLDUSDT", status="SETTLING"))
    assert run(["data", "instruments", "--instruments", str(path), "--json"]) == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert said.err == ""
    assert (document["as_of"], document["source"]) == ("2025-06-15", f"exchangeInfo {path}")
    assert document["left_out"] == {"OLDUSDT": "status is SETTLING, expected TRADING"}
    (one,) = document["instruments"]
    assert (one["symbol"], one["tick"], one["lot"], one["price_decimals"]) == ("ABCUSDT", "0.001", "0.1", 3)
    assert (one["min_notional"], one["max_leverage"], one["taker_fee"]) == ("5", 20, "0.0005")


def test_what_was_left_out_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    old = [contract(f"OLD{k}USDT", status="CLOSE") for k in range(7)]
    assert run(["data", "instruments", "--instruments", str(write(tmp_path, contract(), *old))]) == 0
    out = capsys.readouterr().out
    assert "left out: OLD0USDT: status is CLOSE, expected TRADING; OLD1USDT" in out
    assert "; and 2 more, see --json" in out


def test_bad_input_is_one_line_and_exit_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path, contract())
    for args in (["NOUSDT"], ["--instruments", str(path), "BTCUSDT"], ["--instruments", str(tmp_path / "absent")]):
        assert run(["data", "instruments", *args]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.startswith("dolphin: ")
        assert said.err.count("\n") == 1
