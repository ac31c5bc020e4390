"""The venue's own list of contracts: `exchangeInfo` of Binance USDT-M futures, as its REST interface returns it.

What is in it: ticks, steps, limits, least notional. What is not: fees depend on the account, and the leverage limit on
brackets that need a signed request (`requiredMarginPercent` and `maintMarginPercent` are the same for all contracts and
the venue says to ignore them). These come from the table that is passed in, else from `UNKNOWN_*`.
"""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from dolphin.core.clock import iso_to_ns, ns_to_date
from dolphin.core.errors import DataError
from dolphin.market.instruments import MAKER_FEE, TAKER_FEE, Instrument, InstrumentTable, is_sound, step_decimals
from dolphin.market.jsonfile import read_json

UNKNOWN_LEVERAGE = 20
"""Leverage limit of a contract that the other table lacks: what the venue allows nearly every small contract."""

UNKNOWN_MAINT_MARGIN = Decimal("0.025")
"""Maintenance margin of such a contract, a fraction of the notional."""

_MS = 1_000_000
_EARLIEST, _LATEST = iso_to_ns("2017-01-01") // _MS, iso_to_ns("2100-01-01") // _MS
_WHAT = "the venue's exchangeInfo (GET /fapi/v1/exchangeInfo)"


def read_exchange_info(path: Path, others: InstrumentTable) -> InstrumentTable:
    """The USDT perpetuals with status TRADING in a JSON file of exchangeInfo; leverage and fees from `others`.

    LOT_SIZE and MARKET_LOT_SIZE both bind a market order: the coarser step, the larger least and the smaller largest
    quantity rule. Other contracts, and perpetuals whose values cannot be used, are in `left_out` with the reason, which
    names the field. Raises DataError in one line for a file that cannot be read, is no exchangeInfo of USDT-M futures,
    has no usable date, or has a symbol twice.
    """
    info = read_json(path, _WHAT, instead="fetch the file again")
    symbols = info.get("symbols") if isinstance(info, dict) else None
    if not isinstance(symbols, list) or not symbols:
        raise DataError(f"{path}: no list of symbols; expected {_WHAT}")
    as_of = _as_of(path, info)
    instruments: dict[str, Instrument] = {}
    left_out: dict[str, str] = {}
    futures = False
    for k, entry in enumerate(symbols):
        symbol = _symbol(path, k, entry)
        if symbol in instruments or symbol in left_out:
            raise DataError(f"{path}: symbol {symbol} is there twice; expected every contract once, fetch it again")
        futures |= "contractType" in entry
        reason = _passed_over(entry)
        if reason:
            left_out[symbol] = reason
            continue
        try:
            instruments[symbol] = _instrument(symbol, entry, others.get(symbol), as_of)
        except DataError as error:
            left_out[symbol] = str(error)
    if not futures:
        raise DataError(f"{path}: no symbol has a contractType; expected {_WHAT}, this looks like the spot market's")
    return InstrumentTable(as_of, f"exchangeInfo {path}", instruments, left_out)


def _as_of(path: Path, info: dict[str, Any]) -> date:
    stamp = info.get("serverTime")
    if type(stamp) is not int or not _EARLIEST <= stamp < _LATEST:
        raise DataError(f"{path}: serverTime is {json.dumps(stamp)[:40]}; expected milliseconds since 1970")
    return ns_to_date(stamp * _MS)


def _symbol(path: Path, k: int, entry: object) -> str:
    symbol = entry.get("symbol") if isinstance(entry, dict) else None
    if not isinstance(symbol, str) or not symbol:
        raise DataError(f"{path}: symbols[{k}] has no symbol ({json.dumps(entry)[:60]}); expected {_WHAT}")
    return symbol


def _passed_over(entry: dict[str, Any]) -> str:
    """Why a contract is none that we trade; empty when it is one."""
    kind, quote, status = entry.get("contractType"), entry.get("quoteAsset"), entry.get("status")
    if status != "TRADING":
        return f"status is {status}, expected TRADING"
    if kind != "PERPETUAL":
        return f"contractType is {kind}, expected PERPETUAL"
    if quote != "USDT" or entry.get("marginAsset", quote) != "USDT":
        return f"quoted in {quote}, margined in {entry.get('marginAsset', quote)}, expected USDT"
    return ""


def _instrument(symbol: str, entry: dict[str, Any], other: Instrument | None, as_of: date) -> Instrument:
    filters = _filters(symbol, entry.get("filters"))
    lot, market = (_quantities(symbol, filters, name) for name in ("LOT_SIZE", "MARKET_LOT_SIZE"))
    coarse, fine = max(lot[0], market[0]), min(lot[0], market[0])
    if coarse % fine:
        raise DataError(
            f"{symbol}: stepSize is {lot[0]} in LOT_SIZE and {market[0]} in MARKET_LOT_SIZE; expected one to divide "
            "the other"
        )
    base = entry.get("baseAsset")
    return Instrument(
        symbol=symbol,
        base=base if isinstance(base, str) else "",
        quote="USDT",
        tick=step_decimals(_positive(symbol, filters, "PRICE_FILTER", "tickSize")),
        lot=step_decimals(coarse),
        min_qty=max(lot[1], market[1]),
        max_qty=min(lot[2], market[2]),
        min_notional=_positive(symbol, filters, "MIN_NOTIONAL", "notional"),
        max_leverage=other.max_leverage if other else UNKNOWN_LEVERAGE,
        maker_fee=other.maker_fee if other else MAKER_FEE,
        taker_fee=other.taker_fee if other else TAKER_FEE,
        maint_margin=other.maint_margin if other else UNKNOWN_MAINT_MARGIN,
        origin=f"exchangeInfo {as_of}; leverage, margin and fees {'of the bundled table' if other else 'assumed'}",
    )


def _filters(symbol: str, listed: object) -> dict[str, dict[str, Any]]:
    if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed):
        raise DataError(f"{symbol}: filters is {json.dumps(listed)[:40]}; expected a list of objects")
    found: dict[str, dict[str, Any]] = {}
    for item in listed:
        name = item.get("filterType")
        if isinstance(name, str):
            if name in found:
                raise DataError(f"{symbol}: filter {name} is there twice; expected it once")
            found[name] = item
    return found


def _quantities(symbol: str, filters: dict[str, dict[str, Any]], name: str) -> tuple[Decimal, Decimal, Decimal]:
    step, least, most = (_positive(symbol, filters, name, key) for key in ("stepSize", "minQty", "maxQty"))
    return step, least, most


def _positive(symbol: str, filters: dict[str, dict[str, Any]], name: str, key: str) -> Decimal:
    """The number `key` of the filter `name`, finite and above 0."""
    if name not in filters:
        raise DataError(f"{symbol}: no filter {name}; expected one with {key}")
    met = filters[name].get(key)
    try:
        value = Decimal(str(met)) if isinstance(met, (str, int, float)) and str(met).isascii() else None
    except (InvalidOperation, ValueError):  # ValueError: a whole number of thousands of digits
        value = None
    if value is None or not is_sound(value):
        raise DataError(f"{symbol}: {name}.{key} is {json.dumps(met)[:40]}; expected a number above 0")
    return value
