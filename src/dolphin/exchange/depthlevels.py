"""From the text of levels to whole ticks and lots: `[["58710.20","0.014"],…]`, read byte by byte, strictly (SPEC §8).

Nothing passes through floating point: a price is a number of ticks or the message is refused.
"""

from __future__ import annotations

from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.native import Entry
from dolphin.core.records import Record
from dolphin.exchange.depthfaults import FaultKind
from dolphin.exchange.localbook_layout import I1, I8, MAX_LEVELS, MAX_TICKS, MAX_UNITS

BAD_LEVELS, BAD_NUMBER, NEGATIVE, ZERO_PRICE, OFF_TICK, OFF_LOT, TOO_LARGE = -1, -2, -3, -4, -5, -6, -7

KINDS = {
    BAD_LEVELS: (FaultKind.BAD_LEVELS, 'a list of ["price","quantity"]'),
    BAD_NUMBER: (FaultKind.BAD_NUMBER, "a decimal number in quotes"),
    NEGATIVE: (FaultKind.NEGATIVE, "no number below 0"),
    ZERO_PRICE: (FaultKind.ZERO_PRICE, "a price above 0"),
    OFF_TICK: (FaultKind.OFF_TICK, "a price of whole ticks"),
    OFF_LOT: (FaultKind.OFF_LOT, "a quantity of whole lots"),
    TOO_LARGE: (FaultKind.TOO_LARGE, f"at most {MAX_LEVELS} levels, {MAX_TICKS} ticks and {MAX_UNITS} ticks × lots"),
}
"""What each negative answer of the kernels means, and what was expected instead."""

QUOTE, COMMA, MINUS, POINT, ZERO, NINE, OPEN, CLOSE = 34, 44, 45, 46, 48, 57, 91, 93
LARGEST = (1 << 62) // 10 - 10


@inlined_kernel
def _is(text: I1, where: I8, stop: int, byte: int) -> bool:
    """Step over white space, the byte and white space again; False, and at what stands there, when it is another."""
    at = where[0]
    while at < stop and (text[at] == 32 or 9 <= text[at] <= 13):
        at += 1
    found = at < stop and text[at] == byte
    if found:
        at += 1
        while at < stop and (text[at] == 32 or 9 <= text[at] <= 13):
            at += 1
    where[0] = at
    return found


@inlined_kernel
def _digits(text: I1, where: I8, stop: int) -> int:
    """The whole number at where[0], of one digit at least."""
    start, at, value = where[0], where[0], 0
    while at < stop and ZERO <= text[at] <= NINE and value <= LARGEST:
        value = value * 10 + (int(text[at]) - ZERO)
        at += 1
    where[0] = at
    if at == start:
        return BAD_NUMBER
    return value if value <= LARGEST else TOO_LARGE


@inlined_kernel
def _fraction(text: I1, where: I8, stop: int, value: int, digits: int, off: int) -> int:
    """`value` with what follows it behind a point, as a whole number of the last of `digits` decimals; `off` when there
    is something beyond them."""
    at, left = where[0], digits
    if at < stop and text[at] == POINT:
        at += 1
        start = at
        while at < stop and ZERO <= text[at] <= NINE:
            if left > 0:
                if value > LARGEST:
                    return TOO_LARGE
                value = value * 10 + (int(text[at]) - ZERO)
                left -= 1
            elif text[at] != ZERO:
                return off
            at += 1
        if at == start:
            return BAD_NUMBER
        where[0] = at
    while left > 0 and value <= LARGEST:
        value *= 10
        left -= 1
    return value if value <= LARGEST else TOO_LARGE


@inlined_kernel
def _whole(text: I1, where: I8, stop: int, digits: int, units: int, off: int) -> int:
    """The quoted decimal at where[0] as a multiple of `units` at `digits` decimals; negative: what is wrong with it.

    Leaves where[0] behind the closing quote, or at what is wrong.
    """
    if where[0] >= stop or text[where[0]] != QUOTE:
        return BAD_LEVELS
    where[0] += 1
    if where[0] < stop and text[where[0]] == MINUS:
        return NEGATIVE
    value = _digits(text, where, stop)
    if value >= 0:
        value = _fraction(text, where, stop, value, digits, off)
    if value < 0:
        return value
    if where[0] >= stop or text[where[0]] != QUOTE:
        return BAD_NUMBER
    if units > 1:
        if value % units != 0:
            return off
        value //= units
    where[0] += 1
    return value


@inlined_kernel
def _level(text: I1, where: I8, stop: int, rules: Record, ticks: I8, lots: I8, count: int) -> int:
    """One `["price","quantity"]` into place `count`; 0, or what is wrong with it."""
    if not _is(text, where, stop, OPEN):
        return BAD_LEVELS
    tick = _whole(text, where, stop, rules.price_digits, rules.tick_units, OFF_TICK)
    if tick <= 0:
        return tick if tick < 0 else ZERO_PRICE
    if not _is(text, where, stop, COMMA):
        return BAD_LEVELS
    quantity = _whole(text, where, stop, rules.lot_digits, rules.lot_units, OFF_LOT)
    if quantity < 0:
        return quantity
    if not _is(text, where, stop, CLOSE):
        return BAD_LEVELS
    if count >= MAX_LEVELS or tick > MAX_TICKS or quantity > MAX_UNITS // tick:
        return TOO_LARGE
    ticks[count], lots[count] = tick, quantity
    return 0


@kernel
def levels_nb(text: I1, start: int, stop: int, rules: Record, ticks: I8, lots: I8, where: I8) -> int:
    """Read the list of levels in text[start:stop] into `ticks` and `lots`; how many there were.

    Shapes and units: ticks, lots (MAX_LEVELS,), whole ticks ≥ 1 and whole lots ≥ 0; where (1,) is the byte at which a
    fault was met. Returns one of KINDS for a list that is not sound; what was written by then is of no use.
    Complexity: one pass over the bytes.
    """
    where[0], count = start, 0
    if not _is(text, where, stop, OPEN):
        return BAD_LEVELS
    if not _is(text, where, stop, CLOSE):
        while True:
            wrong = _level(text, where, stop, rules, ticks, lots, count)
            if wrong != 0:
                return wrong
            count += 1
            if _is(text, where, stop, CLOSE):
                break
            if not _is(text, where, stop, COMMA):
                return BAD_LEVELS
    return count if where[0] == stop else BAD_LEVELS


@kernel
def depth_read(middle: int, stop: int, rules: Record, text: I1, ticks: I8, lots: I8, where: I8) -> int:
    """Read bids from text[:middle] and asks from text[middle:stop] into the two rows of `ticks` and `lots`.

    Returns bids·(MAX_LEVELS + 1) + asks, or one of KINDS.
    """
    bids = levels_nb(text, 0, middle, rules, ticks[0], lots[0], where)
    if bids < 0:
        return bids
    asks = levels_nb(text, middle, stop, rules, ticks[1], lots[1], where)
    if asks < 0:
        return asks
    return bids * (MAX_LEVELS + 1) + asks


READ = Entry(depth_read)
"""`depth_read` for Python."""
