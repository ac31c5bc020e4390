"""What exchangeInfo says of the contracts whose books can be kept: tick and lot (SPEC §8)."""

from __future__ import annotations

import msgspec

from dolphin.core.errors import ExchangeError

Sizes = dict[str, tuple[str, str]]
"""Tick size and lot size by symbol, as the venue's filters write them."""


class _Filter(msgspec.Struct, frozen=True):
    kind: str = msgspec.field(name="filterType", default="")
    tick: str = msgspec.field(name="tickSize", default="")
    step: str = msgspec.field(name="stepSize", default="")


class _Symbol(msgspec.Struct, frozen=True):
    symbol: str
    status: str = ""
    contract: str = msgspec.field(name="contractType", default="")
    quote: str = msgspec.field(name="quoteAsset", default="")
    filters: list[_Filter] = []


class _Info(msgspec.Struct, frozen=True):
    symbols: list[_Symbol]


_decode = msgspec.json.Decoder(_Info).decode


def trading_sizes(body: bytes) -> Sizes:
    """USDT perpetuals with status TRADING and both filters, in the venue's order. Raises ExchangeError for a body that
    is no exchangeInfo."""
    try:
        symbols = _decode(body).symbols
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise ExchangeError(f"exchangeInfo: {len(body)} bytes that are none ({error}): {body[:60]!r}") from None
    found: Sizes = {}
    for one in symbols:
        if one.status != "TRADING" or one.contract != "PERPETUAL" or one.quote != "USDT":
            continue
        tick = next((f.tick for f in one.filters if f.kind == "PRICE_FILTER"), "")
        lot = next((f.step for f in one.filters if f.kind == "LOT_SIZE"), "")
        if tick and lot:
            found[one.symbol] = (tick, lot)
    return found
