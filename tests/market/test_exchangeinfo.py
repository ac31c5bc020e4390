"""The venue's exchangeInfo and our CSV: what is read, what is passed over, what is refused in which words."""

from __future__ import annotations

import contextlib
import copy
import json
import tempfile
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.market.instrumentfiles import COLUMNS, bundled_instruments, load_instruments
from tests.support.shared import recorded

HEADER = ",".join(COLUMNS)
ROW = "ABCUSDT,ABC,USDT,0.01,0.1,0.1,1000,5,20,0.0002,0.0005,0.025,by hand"


def contract(symbol: str = "ABCUSDT", **changes: Any) -> dict[str, Any]:
    """One symbol as the venue writes it, with more than we read."""
    base = {
        "symbol": symbol,
        "pair": symbol,
        "contractType": "PERPETUAL",
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": symbol.removesuffix("USDT"),
        "quoteAsset": "USDT",
        "marginAsset": "USDT",
        "pricePrecision": 5,
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": "0.001", "maxPrice": "100000", "tickSize": "0.0010"},
            {"filterType": "LOT_SIZE", "stepSize": "0.01", "minQty": "0.01", "maxQty": "10000"},
            {"filterType": "MARKET_LOT_SIZE", "stepSize": "0.1", "minQty": "0.1", "maxQty": "200"},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": "5"},
        ],
    }
    return base | changes


def write(folder: Path, *symbols: Any, **top: Any) -> Path:
    path = folder / "exchangeInfo.json"
    document = {"timezone": "UTC", "serverTime": 1_750_000_000_000, "symbols": list(symbols)} | top
    path.write_text(json.dumps(document), encoding="utf-8")
    return path


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        load_instruments(path)
    said = str(caught.value)
    assert "\n" not in said
    assert said.startswith(f"{path}: ")
    return said.removeprefix(f"{path}: ")


# --- exchangeInfo


def test_the_coarser_of_both_lot_filters_rules(tmp_path: Path) -> None:
    table = load_instruments(write(tmp_path, contract()))
    one = table["ABCUSDT"]
    assert (one.symbol, one.base, one.quote) == ("ABCUSDT", "ABC", "USDT")
    assert (str(one.tick), str(one.lot), one.price_decimals, one.qty_decimals) == ("0.001", "0.1", 3, 1)
    assert (one.min_qty, one.max_qty, one.min_notional) == (Decimal("0.1"), Decimal(200), Decimal(5))
    assert table.as_of == date(2025, 6, 15)
    assert table.source == f"exchangeInfo {tmp_path / 'exchangeInfo.json'}"


def test_leverage_and_fees_come_from_the_bundled_table_or_are_assumed(tmp_path: Path) -> None:
    table = load_instruments(write(tmp_path, contract("BTCUSDT"), contract("ABCUSDT")))
    known, unknown = table.select(["BTCUSDT", "ABCUSDT"])
    assert (known.max_leverage, known.maint_margin) == (125, Decimal("0.004"))
    assert known.origin == "exchangeInfo 2025-06-15; leverage, margin and fees of the bundled table"
    assert (unknown.max_leverage, unknown.maint_margin) == (20, Decimal("0.025"))
    assert unknown.origin == "exchangeInfo 2025-06-15; leverage, margin and fees assumed"
    for one in (known, unknown):
        assert (one.maker_fee, one.taker_fee) == (Decimal("0.0002"), Decimal("0.0005"))


def test_what_is_no_usdt_perpetual_in_trade_is_passed_over(tmp_path: Path) -> None:
    table = load_instruments(
        write(
            tmp_path,
            contract(),
            contract("BTCUSDT_250926", contractType="CURRENT_QUARTER"),
            contract("BTCUSDC", quoteAsset="USDC", marginAsset="USDC"),
            contract("OLDUSDT", status="SETTLING"),
        )
    )
    assert [one.symbol for one in table] == ["ABCUSDT"]
    assert table.left_out == {
        "BTCUSDT_250926": "contractType is CURRENT_QUARTER, expected PERPETUAL",
        "BTCUSDC": "quoted in USDC, margined in USDC, expected USDT",
        "OLDUSDT": "status is SETTLING, expected TRADING",
    }


def without(name: str) -> Callable[[dict[str, Any]], None]:
    def change(entry: dict[str, Any]) -> None:
        entry["filters"] = [item for item in entry["filters"] if item["filterType"] != name]

    return change


def put(name: str, key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(entry: dict[str, Any]) -> None:
        next(item for item in entry["filters"] if item["filterType"] == name)[key] = value

    return change


def top(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda entry: entry.update({key: value})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without("PRICE_FILTER"), "no filter PRICE_FILTER; expected one with tickSize"),
        (without("LOT_SIZE"), "no filter LOT_SIZE; expected one with stepSize"),
        (without("MIN_NOTIONAL"), "no filter MIN_NOTIONAL; expected one with notional"),
        (put("PRICE_FILTER", "tickSize", "0"), 'PRICE_FILTER.tickSize is "0"; expected a number above 0'),
        (put("PRICE_FILTER", "tickSize", "-0.1"), 'PRICE_FILTER.tickSize is "-0.1"; expected a number above 0'),
        (put("PRICE_FILTER", "tickSize", "NaN"), 'PRICE_FILTER.tickSize is "NaN"; expected a number above 0'),
        (put("PRICE_FILTER", "tickSize", None), "PRICE_FILTER.tickSize is null; expected a number above 0"),
        (put("PRICE_FILTER", "tickSize", False), "PRICE_FILTER.tickSize is false; expected a number above 0"),
        (put("PRICE_FILTER", "tickSize", "1E-999999"), "expected a number above 0"),
        (put("LOT_SIZE", "stepSize", "0"), 'LOT_SIZE.stepSize is "0"; expected a number above 0'),
        (put("MARKET_LOT_SIZE", "stepSize", "x"), 'MARKET_LOT_SIZE.stepSize is "x"; expected a number above 0'),
        (put("MARKET_LOT_SIZE", "stepSize", "0.025"), "expected one to divide the other"),
        (put("MARKET_LOT_SIZE", "maxQty", "0.05"), "min_qty is 0.1; expected at most max_qty, 0.05"),
        (top("filters", [{"filterType": "LOT_SIZE"}] * 2), "filter LOT_SIZE is there twice; expected it once"),
        (top("filters", "none"), 'filters is "none"; expected a list of objects'),
        (top("baseAsset", None), "base is ''; expected capitals"),
    ],
)
def test_a_broken_symbol_is_told_when_it_is_asked_for(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], said: str
) -> None:
    broken = copy.deepcopy(contract("BADUSDT"))
    change(broken)
    table = load_instruments(write(tmp_path, contract(), broken))
    assert table.select(["ABCUSDT"])
    assert table.get("BADUSDT") is None
    with pytest.raises(DataError) as caught:
        table.select(["ABCUSDT", "BADUSDT"])
    assert "BADUSDT cannot be used (BADUSDT: " in str(caught.value)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all values in a JSON document, objects and lists included."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, inner in items for place in leaves(inner, (*path, key)))]


DOCUMENT = {"serverTime": 1_750_000_000_000, "symbols": [contract(), contract("BTCUSDT", status="SETTLING")]}
ODD = [None, True, 0, -1, 1e300, 10**400, "", "0", "-0", "1e9", "NaN", "Infinity", "٣", "a b", [], {}, [1]]


@given(st.sampled_from(leaves(DOCUMENT)[1:]), st.sampled_from(ODD))
def test_whatever_stands_somewhere_is_read_or_refused(place: tuple[Any, ...], value: Any) -> None:
    document = copy.deepcopy(DOCUMENT)
    inner: Any = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "exchangeInfo.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        with contextlib.suppress(DataError):
            (one,) = load_instruments(path).select(["ABCUSDT"])
            assert one.tick > 0
            assert 0 <= Decimal(1000) - one.round_qty_down(1000.0) < one.lot <= one.max_qty


def test_files_that_are_no_exchange_info(tmp_path: Path) -> None:
    path = tmp_path / "exchangeInfo.json"
    assert "cannot be read (No such file" in refusal(path)
    path.write_text("<html>")
    assert "not the JSON expected" in refusal(path)
    path.write_text("[]")
    assert refusal(path).startswith("no list of symbols; expected the venue's exchangeInfo")
    path.write_bytes(b"\xff\xfe")
    assert "not UTF-8" in refusal(path)
    assert "no list of symbols" in refusal(write(tmp_path))
    assert "no list of symbols" in refusal(write(tmp_path, symbols={}))
    assert 'serverTime is "now"; expected milliseconds' in refusal(write(tmp_path, contract(), serverTime="now"))
    assert "serverTime is 1750000000" in refusal(write(tmp_path, contract(), serverTime=1_750_000_000))
    assert "symbols[1] has no symbol (7)" in refusal(write(tmp_path, contract(), 7))
    assert "symbol ABCUSDT is there twice" in refusal(write(tmp_path, contract(), contract()))
    spot = {key: value for key, value in contract().items() if key != "contractType"}
    assert "looks like the spot market's" in refusal(write(tmp_path, spot))
    path.write_text(path.read_text().replace('"0.0010"', "NaN"))
    assert "NaN is not a JSON number" in refusal(path)


def test_the_recorded_exchange_info(tmp_path: Path) -> None:
    raw = (recorded("payloads") / "BINANCE_FUTURES.0").read_text()
    info, _ = json.JSONDecoder().raw_decode(raw[raw.index("{") :])
    path = tmp_path / "exchangeInfo.json"
    path.write_text(json.dumps(info))
    table = load_instruments(path)
    assert (table.as_of, len(table), len(table.left_out)) == (date(2021, 7, 21), 117, 5)
    assert set(table.left_out) == {"BTCBUSD", "ETHBUSD", "BTCSTUSDT", "BTCUSDT_210924", "ETHUSDT_210924"}
    bundled = bundled_instruments()
    # The bundled table knows every contract of that day. Its ticks may be another year's.
    for one in bundled.select(symbol.symbol for symbol in table):
        then = table[one.symbol]
        assert (one.base, one.max_leverage) == (then.base, then.max_leverage)
        assert one.tick == then.tick or one.origin.startswith(("tick prices", "tick typical"))
        assert one.lot == then.lot or "lot volumes" in one.origin


def test_the_documented_exchange_info() -> None:
    path = recorded("payloads") / "futures_documented" / "http_futures_market_exchange_info.json"
    table = load_instruments(path)
    assert table.as_of == date(2022, 2, 19)
    assert (str(table["BTCUSDT"].tick), str(table["ETHUSDT"].lot), table["BTCUSDT"].max_leverage) == (
        "0.1",
        "0.001",
        125,
    )


# --- our CSV


def write_csv(folder: Path, *lines: str) -> Path:
    path = folder / "instruments.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_csv_of_ours(tmp_path: Path) -> None:
    path = write_csv(tmp_path, "# mine", "# as of: 2024-02-29", HEADER, "", ROW, '"1000XUSDT"' + ROW[7:])
    table = load_instruments(path)
    assert (table.as_of, table.source, len(table)) == (date(2024, 2, 29), str(path), 2)
    one = table["ABCUSDT"]
    assert (one.tick, one.lot, one.max_leverage, one.taker_fee) == (
        Decimal("0.01"),
        Decimal("0.1"),
        20,
        Decimal("0.0005"),
    )
    assert one.origin == "by hand"


def test_a_broken_row_is_told_when_it_is_asked_for(tmp_path: Path) -> None:
    rows = [
        ("AUSDT", ROW.replace("0.01,", "0,", 1), "AUSDT: tick is 0; expected a number above 0"),
        ("BUSDT", ROW.replace("0.01,", ",", 1), "BUSDT: tick is ''; expected a number such as 0.001"),
        ("CUSDT", ROW.replace(",20,", ",20.5,"), "CUSDT: max_leverage is '20.5'; expected a whole number"),
        ("DUSDT", ROW.replace("0.025", "nan"), "DUSDT: maint_margin is NaN; expected a number of at least 0"),
    ]
    lines = [row.replace("ABCUSDT", symbol) for symbol, row, _ in rows]
    table = load_instruments(write_csv(tmp_path, "# as of: 2024-02-29", HEADER, ROW, *lines))
    assert [one.symbol for one in table] == ["ABCUSDT"]
    for line, (symbol, _, said) in enumerate(rows, 4):
        with pytest.raises(DataError) as caught:
            table[symbol]
        assert f"{symbol} cannot be used (line {line}: {said}" in str(caught.value)


def test_csv_files_that_are_none_of_ours(tmp_path: Path) -> None:
    date_line = "# as of: 2024-02-29"
    assert "cannot be read" in refusal(tmp_path / "absent.csv")
    assert refusal(write_csv(tmp_path, HEADER, ROW)) == "no date; expected a line such as '# as of: 2025-06-15'"
    assert "'2024-02-30' is not a calendar date" in refusal(write_csv(tmp_path, "# as of: 2024-02-30", HEADER, ROW))
    assert "the header is 'symbol,tick'; expected symbol,base," in refusal(
        write_csv(tmp_path, date_line, "symbol,tick")
    )
    assert "the header is 'nothing'" in refusal(write_csv(tmp_path, date_line))
    assert "no instruments" in refusal(write_csv(tmp_path, date_line, HEADER))
    assert "line 4: ABCUSDT is there twice" in refusal(write_csv(tmp_path, date_line, HEADER, ROW, ROW))
    assert "line 3: 14 cells; expected 13" in refusal(write_csv(tmp_path, date_line, HEADER, ROW + ",more"))
    assert "line 3: not CSV" in refusal(write_csv(tmp_path, date_line, HEADER, '"' + ROW))
    assert "line 3: no symbol" in refusal(write_csv(tmp_path, date_line, HEADER, ROW[7:]))
    path = tmp_path / "instruments.csv"
    path.write_bytes(b"\xff\xff")
    assert "not UTF-8 text" in refusal(path)
