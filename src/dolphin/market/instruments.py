"""Contracts as the venue trades them: ticks, lots, limits, fees, margin (SPEC §7 native friction, §13).

Everything that touches an order is an exact decimal; the engine's own arithmetic stays in float64 and never sees it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Literal

import msgspec

from dolphin.core.errors import DataError

Rounding = Literal["nearest", "down", "up"]

MAKER_FEE, TAKER_FEE = Decimal("0.0002"), Decimal("0.0005")
"""The venue's fees without any discount, fractions of the notional: 2 and 5 bps (SPEC §7)."""

_LEAST, _MOST, _DIGITS = Decimal("1E-12"), Decimal("1E+15"), 20
"""What a value other than 0 lies between, and how many digits it may have: beyond, it is no value of a venue."""

_EXACT = ("tick", "lot", "min_qty", "max_qty", "min_notional", "maker_fee", "taker_fee", "maint_margin")
_POSITIVE = ("tick", "lot", "min_qty", "max_qty")
_REMEDY = "give --instruments FILE with an exchangeInfo that has them, or drop the assets"


class Instrument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One linear perpetual, `symbol` as the venue writes it ("BTCUSDT").

    `tick` USDT, step of a price; `lot`, `min_qty`, `max_qty` base units, step and limits of a market order;
    `min_notional` USDT, least value of an opening order; `maker_fee`, `taker_fee` and `maint_margin` fractions of the
    notional; `origin` free words on where the values come from, no part of the instrument's identity. Raises DataError
    naming the symbol, the field and the value for values that cannot be traded with.
    """

    symbol: str
    base: str
    quote: str
    tick: Decimal
    lot: Decimal
    min_qty: Decimal
    max_qty: Decimal
    min_notional: Decimal
    max_leverage: int
    maker_fee: Decimal = MAKER_FEE
    taker_fee: Decimal = TAKER_FEE
    maint_margin: Decimal
    origin: str = ""

    def __post_init__(self) -> None:
        """Refuse what no order can be made from."""
        for name in ("symbol", "base", "quote"):
            text = getattr(self, name)
            if not text or not text.isprintable() or " " in text or text != text.upper():
                raise DataError(f"{self.symbol}: {name} is {text!r}; expected capitals and digits, such as BTCUSDT")
        for name in _EXACT:
            value = getattr(self, name)
            if not is_sound(value) and (name in _POSITIVE or value != 0):
                least = "above 0" if name in _POSITIVE else "of at least 0"
                raise DataError(f"{self.symbol}: {name} is {value}; expected a number {least}")
        for name in ("min_qty", "lot"):
            if getattr(self, name) > self.max_qty:
                raise DataError(
                    f"{self.symbol}: {name} is {getattr(self, name)}; expected at most max_qty, {self.max_qty}"
                )
        for name in ("maker_fee", "taker_fee"):
            if getattr(self, name) > Decimal("0.01"):
                raise DataError(f"{self.symbol}: {name} is {getattr(self, name)}; expected a fraction up to 0.01")
        if not 1 <= self.max_leverage <= 1000:
            raise DataError(f"{self.symbol}: max_leverage is {self.max_leverage}; expected 1 to 1000")
        if not 0 < self.maint_margin * self.max_leverage < 1:
            # At the largest leverage the margin put up must be more than the margin to be kept.
            raise DataError(
                f"{self.symbol}: maint_margin is {self.maint_margin}; expected above 0 and below 1/max_leverage, "
                f"1/{self.max_leverage}"
            )

    @property
    def price_decimals(self) -> int:
        """Decimals that a price on the tick needs."""
        return _decimals(self.tick)

    @property
    def qty_decimals(self) -> int:
        """Decimals that a quantity in lots needs."""
        return _decimals(self.lot)

    def round_qty_down(self, qty: float | Decimal) -> Decimal:
        """The largest whole number of lots in `qty` (base units, ≥ 0), exact, with `qty_decimals` decimals.

        A float stands for the shortest decimal that reads back as it, so 0.3 holds three lots of 0.1
        (docs/decisions/0032). Limits are the caller's to check: the result may be 0. Raises DataError for a quantity
        that is negative, NaN or infinite.
        """
        lots = _ratio(qty, f"{self.symbol}: quantity") / Fraction(self.lot)
        return _steps(math.floor(lots), self.lot)

    def round_price(self, price: float | Decimal, rounding: Rounding = "nearest") -> Decimal:
        """`price` (USDT, above 0) on the tick, exact, with `price_decimals` decimals; a tie goes to the even tick.

        A float is taken as in `round_qty_down`. Raises DataError for a price that is negative, NaN or infinite, and
        for one that would become 0.
        """
        ticks = _ratio(price, f"{self.symbol}: price") / Fraction(self.tick)
        whole = round(ticks) if rounding == "nearest" else math.floor(ticks) if rounding == "down" else math.ceil(ticks)
        if whole == 0:
            raise DataError(f"{self.symbol}: price is {price}, which is no whole tick of {self.tick}; check the price")
        return _steps(whole, self.tick)


@dataclass(frozen=True, eq=False)
class InstrumentTable:
    """The instruments of one source on one date.

    `as_of` is the UTC date that the values hold for; `source` says where they come from. `left_out` maps symbols that
    the source has but that cannot be used to the reason, which is told when one of them is asked for.
    """

    as_of: date
    source: str
    instruments: Mapping[str, Instrument]
    left_out: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        """The number of usable instruments."""
        return len(self.instruments)

    def __iter__(self) -> Iterator[Instrument]:
        """The instruments in the source's order."""
        return iter(self.instruments.values())

    def __getitem__(self, symbol: str) -> Instrument:
        """The instrument `symbol`; DataError as from `select`."""
        return self.select([symbol])[0]

    def get(self, symbol: str) -> Instrument | None:
        """The instrument `symbol`, or None when the table has none that can be used."""
        return self.instruments.get(symbol)

    def identity(self) -> str:
        """A hash over the values, 16 hex digits: the same for the same values in another order or spelling."""
        lines = sorted(_canonical(one) for one in self)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]

    def plain(self) -> dict[str, str]:
        """Where the values come from, for a record of a run: `source`, `as_of` (ISO), `hash`."""
        return {"source": self.source, "as_of": self.as_of.isoformat(), "hash": self.identity()}

    def select(self, symbols: Iterable[str]) -> tuple[Instrument, ...]:
        """The instruments of `symbols`, in that order; one DataError that names all that are missing, and why."""
        wanted = tuple(symbols)
        missing = list(dict.fromkeys(name for name in wanted if name not in self.instruments))
        if missing:
            unknown = [name for name in missing if name not in self.left_out]
            parts = [f"no instrument {', '.join(unknown)}"] if unknown else []
            parts += [f"{name} cannot be used ({self.left_out[name]})" for name in missing if name in self.left_out]
            raise DataError(f"{self.source} (as of {self.as_of}): {'; '.join(parts)}; {_REMEDY}")
        return tuple(self.instruments[name] for name in wanted)


def is_sound(value: Decimal) -> bool:
    """Whether `value` is a number above 0 that a venue could have written."""
    return value.is_finite() and _LEAST <= value <= _MOST and len(value.as_tuple().digits) <= _DIGITS


def step_decimals(step: Decimal) -> Decimal:
    """`step` without trailing zeros: 0.00010 becomes 0.0001, 1E+1 becomes 10."""
    return _steps(1, step)


def _decimals(step: Decimal) -> int:
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _ratio(value: float | Decimal, what: str) -> Fraction:
    if not math.isfinite(value) or not 0 <= value <= _MOST:  # a decimal NaN cannot be compared
        raise DataError(f"{what} is {value}; expected a number from 0 to {_MOST:E}")
    return Fraction(value) if isinstance(value, Decimal) else Fraction(repr(float(value)))


def _steps(count: int, step: Decimal) -> Decimal:
    """`count` steps as a decimal with the step's decimals; by whole numbers, so that no context can round it."""
    decimals = _decimals(step)
    units = count * Fraction(step) * 10**decimals
    digits = tuple(map(int, str(units.numerator)))
    return Decimal((0, digits, -decimals))


def _canonical(one: Instrument) -> str:
    exact = (str(_steps(1, value)) if value else "0" for value in (getattr(one, name) for name in _EXACT))
    return ",".join((one.symbol, one.base, one.quote, str(one.max_leverage), *exact))
