"""Contracts of the loopback exchange: decimals, ticks, and their entry in `exchangeInfo` (SPEC §8)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from dolphin.core.errors import ConfigError

_NAME = re.compile(r"[A-Z0-9]{2,24}")
MAX_DECIMALS = 10
_DELIVERY_MS = 4_133_404_800_000
"""2100-12-25: the delivery date that the venue gives contracts that never deliver."""
_ONBOARD_MS = 1_569_398_400_000


@dataclass(frozen=True)
class Contract:
    """One USDT perpetual.

    Prices are whole multiples of 10**-price_decimals (a *unit*), quantities of 10**-qty_decimals (a *lot*); the tick
    is `tick_units` units. `price` > 0 USDT is what the market starts from. Raises ConfigError.
    """

    symbol: str
    price_decimals: int
    qty_decimals: int
    price: float
    tick_units: int = 1

    def __post_init__(self) -> None:
        """Refuse a contract that could not be quoted."""
        if not _NAME.fullmatch(self.symbol):
            raise ConfigError(f"symbol {self.symbol!r}: expected 2 to 24 capital letters and digits, such as BTCUSDT")
        for name, value in (("price_decimals", self.price_decimals), ("qty_decimals", self.qty_decimals)):
            if not 0 <= value <= MAX_DECIMALS:
                raise ConfigError(f"{self.symbol}: {name} is {value}; expected 0 to {MAX_DECIMALS}")
        if not 0.0 < self.price < 1e12 or self.tick_units < 1:
            raise ConfigError(f"{self.symbol}: price {self.price}, tick {self.tick_units} units; expected both above 0")

    @property
    def stream(self) -> str:
        """The name in lower case, as streams have it."""
        return self.symbol.lower()

    def price_text(self, units: int) -> str:
        """A price in units as the venue writes it, with all its decimals."""
        return fixed(units, self.price_decimals)

    def qty_text(self, lots: int) -> str:
        """A quantity in lots as the venue writes it, with all its decimals."""
        return fixed(lots, self.qty_decimals)

    def info(self) -> dict[str, Any]:
        """The contract's entry in `symbols` of `exchangeInfo`."""
        base = self.symbol.removesuffix("USDT") or self.symbol
        tick = fixed(self.tick_units, self.price_decimals)
        lot = fixed(1, self.qty_decimals)
        lots = {"minQty": lot, "maxQty": str(10_000_000), "stepSize": lot}
        return {
            "symbol": self.symbol,
            "pair": self.symbol,
            "contractType": "PERPETUAL",
            "deliveryDate": _DELIVERY_MS,
            "onboardDate": _ONBOARD_MS,
            "status": "TRADING",
            "maintMarginPercent": "2.5000",
            "requiredMarginPercent": "5.0000",
            "baseAsset": base,
            "quoteAsset": "USDT",
            "marginAsset": "USDT",
            "pricePrecision": self.price_decimals,
            "quantityPrecision": self.qty_decimals,
            "baseAssetPrecision": 8,
            "quotePrecision": 8,
            "underlyingType": "COIN",
            "underlyingSubType": [],
            "settlePlan": 0,
            "triggerProtect": "0.0500",
            "liquidationFee": "0.012500",
            "marketTakeBound": "0.05",
            "filters": [
                {"filterType": "PRICE_FILTER", "minPrice": tick, "maxPrice": "1000000", "tickSize": tick},
                {"filterType": "LOT_SIZE", **lots},
                {"filterType": "MARKET_LOT_SIZE", **lots},
                {"filterType": "MAX_NUM_ORDERS", "limit": 200},
                {"filterType": "MAX_NUM_ALGO_ORDERS", "limit": 10},
                {"filterType": "MIN_NOTIONAL", "notional": "5"},
                {
                    "filterType": "PERCENT_PRICE",
                    "multiplierUp": "1.0500",
                    "multiplierDown": "0.9500",
                    "multiplierDecimal": "4",
                },
            ],
            "orderTypes": [
                "LIMIT",
                "MARKET",
                "STOP",
                "STOP_MARKET",
                "TAKE_PROFIT",
                "TAKE_PROFIT_MARKET",
                "TRAILING_STOP_MARKET",
            ],
            "timeInForce": ["GTC", "IOC", "FOK", "GTX"],
        }


def fixed(whole: int, decimals: int) -> str:
    """`whole`·10**-decimals in decimal notation, exactly: (-5, 2) is "-0.05"."""
    if not decimals:
        return str(whole)
    sign, digits = ("-", str(-whole)) if whole < 0 else ("", str(whole))
    if len(digits) <= decimals:
        digits = digits.zfill(decimals + 1)
    return f"{sign}{digits[:-decimals]}.{digits[-decimals:]}"


def whole(text: str, decimals: int) -> int:
    """The inverse of `fixed`; a text of fewer decimals is filled up. Raises ValueError for any other text."""
    left, _, right = text.partition(".")
    if not left.isascii() or not left.isdigit() or (right and not (right.isascii() and right.isdigit())):
        raise ValueError(text)
    if len(right) > decimals:
        raise ValueError(text)
    return int(left + right.ljust(decimals, "0"))
