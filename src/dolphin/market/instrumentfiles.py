"""Instrument tables from files: the bundled one, our own CSV, or the venue's exchangeInfo (SPEC §13).

    # as of: 2025-06-15
    symbol,base,quote,tick,lot,min_qty,max_qty,min_notional,max_leverage,maker_fee,taker_fee,maint_margin,from
    BTCUSDT,BTC,USDT,0.1,0.001,0.001,1000,100,125,0.0002,0.0005,0.004,tick prices 2025; ...

Lines that begin with # are remarks, but for the date. `from` says in words where a row's values come from.
"""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator
from datetime import date
from decimal import Decimal, InvalidOperation
from importlib import resources
from pathlib import Path

from dolphin.core.clock import parse_date
from dolphin.core.errors import ConfigError, DataError
from dolphin.market.exchangeinfo import read_exchange_info
from dolphin.market.instruments import Instrument, InstrumentTable

COLUMNS = (
    *("symbol", "base", "quote", "tick", "lot", "min_qty", "max_qty", "min_notional"),
    *("max_leverage", "maker_fee", "taker_fee", "maint_margin", "from"),
)
"""The columns of an instrument CSV, in order."""

_BUNDLED = "instruments_usdm.csv"
_AS_OF = re.compile(r"#\s*as of:\s*(\S+)\s*")


def load_instruments(path: Path | None = None) -> InstrumentTable:
    """The instruments in `path`: a CSV of ours, or JSON as the venue's exchangeInfo; None is the bundled table.

    What is wrong with a single symbol is kept, and raised when that symbol is asked for. Raises DataError in one line
    for a file that cannot be read, is neither, has no date, has no symbols, or names one twice.
    """
    if path is None:
        return bundled_instruments()
    if path.suffix.lower() == ".csv":
        return read_instrument_csv(path)
    return read_exchange_info(path, bundled_instruments())


@functools.cache
def bundled_instruments() -> InstrumentTable:
    """The table that comes with the package: typical values, kept by hand, for trying things on."""
    text = resources.files("dolphin.market").joinpath(_BUNDLED).read_text(encoding="utf-8")
    return _parse(text, "bundled instruments", "bundled table, kept by hand")


def read_instrument_csv(path: Path) -> InstrumentTable:
    """The instruments in a CSV of ours; raises DataError as `load_instruments`, naming the line."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise DataError(f"{path}: cannot be read ({reason}); expected a CSV of instruments") from None
    return _parse(text, str(path), str(path))


def _parse(text: str, where: str, source: str) -> InstrumentTable:
    as_of: date | None = None
    lines: list[tuple[int, str]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("#"):
            match = _AS_OF.fullmatch(line)
            as_of = _date(match[1], f"{where}: line {number}") if match else as_of
        elif line.strip():
            lines.append((number, line))
    if as_of is None:
        raise DataError(f"{where}: no date; expected a line such as '# as of: 2025-06-15'")
    instruments: dict[str, Instrument] = {}
    left_out: dict[str, str] = {}
    for number, cells in _rows(lines, where):
        symbol = cells["symbol"]
        if symbol in instruments or symbol in left_out:
            raise DataError(f"{where}: line {number}: {symbol} is there twice; keep one of them")
        try:
            instruments[symbol] = _instrument(cells)
        except DataError as error:
            left_out[symbol] = f"line {number}: {error}"
    if not instruments and not left_out:
        raise DataError(f"{where}: no instruments; expected one per line below the header")
    return InstrumentTable(as_of, source, instruments, left_out)


def _rows(lines: list[tuple[int, str]], where: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and named cells of every row below the header."""
    header = ",".join(COLUMNS)
    if not lines or lines[0][1].replace(" ", "") != header:
        met = lines[0][1][:100] if lines else "nothing"
        raise DataError(f"{where}: the header is {met!r}; expected {header}")
    for number, line in lines[1:]:
        try:
            cells = next(csv.reader([line], strict=True))
        except csv.Error as error:
            raise DataError(f"{where}: line {number}: not CSV ({error}); expected {len(COLUMNS)} cells") from None
        if len(cells) != len(COLUMNS):
            raise DataError(f"{where}: line {number}: {len(cells)} cells; expected {len(COLUMNS)}: {header}")
        named = {name: cell.strip() for name, cell in zip(COLUMNS, cells, strict=True)}
        if not named["symbol"]:
            raise DataError(f"{where}: line {number}: no symbol; expected one such as BTCUSDT")
        yield number, named


def _instrument(cells: dict[str, str]) -> Instrument:
    symbol = cells["symbol"]
    number = {
        name: _decimal(cells[name], f"{symbol}: {name}")
        for name in COLUMNS
        if name not in ("symbol", "base", "quote", "max_leverage", "from")
    }
    leverage = cells["max_leverage"]
    if not (leverage.isascii() and leverage.isdigit()):
        raise DataError(f"{symbol}: max_leverage is {leverage!r}; expected a whole number such as 20")
    return Instrument(
        symbol=symbol,
        base=cells["base"],
        quote=cells["quote"],
        max_leverage=int(leverage),
        origin=cells["from"],
        **number,
    )


def _decimal(text: str, what: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise DataError(f"{what} is {text!r}; expected a number such as 0.001") from None


def _date(text: str, where: str) -> date:
    try:
        return parse_date(text, f"{where}: as of")
    except ConfigError as error:
        raise DataError(str(error)) from None
