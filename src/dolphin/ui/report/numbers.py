"""Numbers and names as a reader sees them: one place that escapes, groups digits and marks the undefined."""

from __future__ import annotations

import html
import math
from typing import Any

NONE = "–"
"""What stands where a figure is undefined or was not given."""

_MINUS = "\N{MINUS SIGN}"


def esc(value: object) -> str:
    """`value` as text that no browser, and no chart label, takes for markup."""
    return html.escape(str(value), quote=True)


def is_number(value: Any) -> bool:
    """Whether `value` is a finite real number; a bool is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: Any, digits: int = 2, *, signed: bool = False) -> str:
    """Grouped decimal text with a true minus sign; NONE for None, NaN and infinities.

    With `signed` a positive value carries a plus. What rounds to zero has no sign at all.
    """
    if not is_number(value):
        return NONE
    text = f"{abs(value):,.{digits}f}"
    if not text.strip("0,."):
        return text
    if value < 0:
        return _MINUS + text
    return f"+{text}" if signed else text


def percent(value: Any, digits: int = 2, *, signed: bool = False) -> str:
    """A fraction as percent: 0.1234 is `12.34 %`."""
    return f"{number(value * 100, digits, signed=signed)} %" if is_number(value) else NONE


def usd(value: Any, digits: int = 2, *, signed: bool = False) -> str:
    """An amount of USDT, the unit left to the heading."""
    return number(value, digits, signed=signed)


def whole(value: Any) -> str:
    """A count with grouped digits."""
    return number(value, 0)


def counted(value: Any, noun: str) -> str:
    """A count with its noun: `1 trade`, `2 trades`."""
    return f"{whole(value)} {noun}" if value == 1 else f"{whole(value)} {noun}s"


def level(value: float) -> str:
    """A threshold as short as it can be written: −0.02, 0.01."""
    return f"{value:g}".replace("-", _MINUS)


def price(value: Any) -> str:
    """A price with seven significant digits, never in exponent form, so that a coin of 0.00001 stays readable."""
    if not is_number(value):
        return NONE
    size = math.floor(math.log10(abs(value))) if value else 0
    return number(value, min(max(6 - size, 2), 12))


def tone(value: Any) -> str:
    """The CSS class of a signed figure: `gain`, `loss` or nothing."""
    if not is_number(value) or value == 0:
        return ""
    return "gain" if value > 0 else "loss"
