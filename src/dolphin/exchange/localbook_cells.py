"""The kernels' side of a local book: arrays, scales, and the calls into compiled code (SPEC §8)."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal, InvalidOperation

import msgspec
import numpy as np

from dolphin.book.layout import SNAPSHOT
from dolphin.core.errors import ConfigError
from dolphin.core.records import Record, records
from dolphin.exchange.depth import MAX_BYTES, BookTicker
from dolphin.exchange.depthfaults import DepthError, FaultKind, shown
from dolphin.exchange.depthlevels import KINDS, OFF_LOT, OFF_TICK, READ
from dolphin.exchange.localbook_kernels import APPLY, FILL, recount_nb
from dolphin.exchange.localbook_layout import (
    ASK,
    BID,
    CORE,
    I8,
    MAX_CELLS,
    MAX_LEVELS,
    MAX_TICKS,
    OVERFLOW,
    RULES,
    Scratch,
    new_scratch,
)

_MAX_DIGITS = 11
"""Decimals of a tick or a lot; two of them still make a power of ten that a double holds exactly."""

_FINER_DIGITS = 2
"""Decimals by which a book follows levels that are finer than its tick or lot; recorded (CTKUSDT, 2021): 2."""

_ROUND = 1024
"""Windows are a multiple of this many ticks, so that a new snapshot nearly always fits the old one's."""


class BookCells:
    """The windows of one book and what is counted of them; every method but `begin` keeps the arrays in place."""

    def __init__(
        self, symbol: str, tick_size: str | Decimal, lot_size: str | Decimal, reach: float, scratch: Scratch | None
    ) -> None:
        self.symbol = symbol
        self._rule_rows = records(RULES, 1)
        self.rules = self._rule_rows[0]
        self.rules.price_digits, self.rules.tick_units = _scale(f"{symbol}: tick size", tick_size)
        self.rules.lot_digits, self.rules.lot_units = _scale(f"{symbol}: lot size", lot_size)
        _set_scales(self.rules)
        self.finer = (1, 1)
        self._rows = records(CORE, 1)
        self.core = self._rows[0]
        self._row = np.zeros(1, np.dtype((np.record, SNAPSHOT)))  # no recarray: that takes three times as long to copy
        self._figures = np.zeros(3)
        self._reach = reach
        self.scratch = scratch if scratch is not None else new_scratch(MAX_BYTES)
        self._text = memoryview(self.scratch.text).cast("B")
        self._read = READ.prepared(2, self.rules, *self.scratch)
        self._allocate(_ROUND)

    def _allocate(self, size: int) -> None:
        self._bids, self._asks = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self._apply: Callable[..., int] = APPLY.prepared(
            2, self.core, self._bids, self._asks, self.scratch.ticks, self.scratch.lots
        )
        self._fill: Callable[..., int] = FILL.prepared(
            0, self.rules, self.core, self._bids, self._row[0], self._figures
        )

    def read(self, bids: msgspec.Raw | bytes, asks: msgspec.Raw | bytes, what: str) -> tuple[int, int]:
        """Read two lists of levels into the scratch; (bids, asks) read. Raises DepthError, naming `what`.

        Levels finer than the tick or the lot are left from a time when those were finer. They make the book's own units
        finer: `finer` then says by how much ticks and lots have grown, and the windows must begin anew.
        """
        left, right = memoryview(bids), memoryview(asks)
        middle = len(left)
        stop = middle + len(right)
        if stop > len(self._text):
            raise DepthError(FaultKind.TOO_LARGE, f"{what}: {stop} bytes of levels; expected ≤ {len(self._text)}")
        self._text[:middle] = left
        self._text[middle:stop] = right
        self.finer = (1, 1)
        found = self._read(middle, stop)
        if found in (OFF_TICK, OFF_LOT):
            found = self._read_finer(found, middle, stop)
        if found < 0:
            kind, expected = KINDS[found]
            met = shown(self._text[:stop], int(self.scratch.where[0]))
            raise DepthError(kind, f"{what}: level {met}; expected {expected}; the message is passed over")
        return divmod(found, MAX_LEVELS + 1)

    def _read_finer(self, found: int, middle: int, stop: int) -> int:
        """Read the scratch's text again, in units as fine as it takes; in the old ones when it takes too much."""
        before = self.rules.copy()
        ticks, lots = 1, 1
        while found in (OFF_TICK, OFF_LOT) and max(ticks, lots) <= 10**_FINER_DIGITS:
            if found == OFF_TICK:
                ticks *= _finer_unit(self.rules, "price_digits", "tick_units")
            else:
                lots *= _finer_unit(self.rules, "lot_digits", "lot_units")
            found = self._read(middle, stop)
        if found < 0:
            self._rule_rows[0] = before
        else:
            _set_scales(self.rules)
            self.finer = (ticks, lots)
        return found

    def copied(self, n_bids: int, n_asks: int) -> tuple[tuple[I8, I8], tuple[I8, I8]]:
        """Copies of the levels in the scratch: ticks and lots, each of bids and asks."""
        ticks, lots = self.scratch.ticks, self.scratch.lots
        return (
            (ticks[BID, :n_bids].copy(), ticks[ASK, :n_asks].copy()),
            (lots[BID, :n_bids].copy(), lots[ASK, :n_asks].copy()),
        )

    def put(self, ticks: tuple[I8, I8], lots: tuple[I8, I8]) -> None:
        """Levels that `copied` gave, back into the scratch."""
        for side in (BID, ASK):
            count = len(ticks[side])
            self.scratch.ticks[side, :count] = ticks[side]
            self.scratch.lots[side, :count] = lots[side]

    def apply(self, n_bids: int, n_asks: int) -> int:
        """The levels in the scratch into the book; how it stands, GOOD to OUTRUN."""
        return self._apply(n_bids, n_asks)

    def begin(self, n_bids: int, n_asks: int, limit: int, what: str) -> int:
        """Begin anew with the levels in the scratch, at most `limit` of which were asked for on each side.

        Raises DepthError, and leaves the book as it was, for a crossed one; returns GOOD or ONE_SIDED.
        """
        sides = []
        for side, count in ((BID, n_bids), (ASK, n_asks)):
            ticks = self.scratch.ticks[side, :count]
            sides.append(ticks[self.scratch.lots[side, :count] > 0])
        bids, asks = sides
        best_bid, best_ask = int(bids.max(initial=0)), int(asks.min(initial=1 << 62))
        if len(bids) and len(asks) and best_bid >= best_ask:
            usd = float(self.rules.tick_usd)
            raise DepthError(
                FaultKind.CROSSED,
                f"{what}: best bid {best_bid * usd:.10g}, best ask {best_ask * usd:.10g}; expected bid < ask",
            )
        both = [best for best, side in ((best_bid, bids), (best_ask, asks)) if len(side)]
        middle = sum(both) // len(both) if both else 0
        wanted = min(int(2 * self._reach * middle) // _ROUND * _ROUND + _ROUND, MAX_CELLS)
        if wanted <= len(self._bids) <= 2 * wanted:
            self._bids[:], self._asks[:] = 0, 0
        else:
            self._allocate(wanted)
        self._rows[:] = np.zeros(1, CORE)
        core = self.core
        core.origin = max(middle - len(self._bids) // 2, 0)
        core.known[BID] = bids.min(initial=MAX_TICKS) if n_bids >= limit else 0
        core.known[ASK] = asks.max(initial=0) if n_asks >= limit else MAX_TICKS
        standing = self._apply(n_bids, n_asks)
        if standing == OVERFLOW:
            raise DepthError(FaultKind.TOO_LARGE, f"{what}: a side is worth more than can be counted")
        self._set_thin()
        return standing

    def same_units(self, other: BookCells) -> None:
        """Count in the units of another book of the symbol; only before `begin`."""
        self._rule_rows[:] = other._rule_rows

    def adopt(self, other: BookCells) -> bool:
        """Take over everything that another book of the symbol, at the same update, knows between its bounds.

        Levels beyond them stay, and so does what was known there. False, and nothing is taken, for one in other units.
        """
        if self.rules.tobytes() != other.rules.tobytes():
            return False
        mine, its = self.core, other.core
        low = max(int(its.known[BID]), int(its.origin), int(mine.origin))
        high = min(int(its.known[ASK]), int(its.origin) + len(other._bids) - 1, int(mine.origin) + len(self._bids) - 1)
        to, frm = slice(low - mine.origin, high + 1 - mine.origin), slice(low - its.origin, high + 1 - its.origin)
        for side, (cells, source) in enumerate(((self._bids, other._bids), (self._asks, other._asks))):
            cells[to] = source[frm]
            recount_nb(mine, side, cells, int(mine.mid2))
        mine.known[BID], mine.known[ASK] = min(int(mine.known[BID]), low), max(int(mine.known[ASK]), high)
        self._set_thin()
        return True

    def _set_thin(self) -> None:
        """Thin is under half of what is known from the best price on now, or of the five bands if that is less."""
        core = self.core
        top = int(core.origin) + len(self._bids) - 1
        below = int(core.best[BID]) - max(int(core.known[BID]), int(core.origin))
        above = min(int(core.known[ASK]), top) - int(core.best[ASK])
        five = int(core.mid2) * 5 // 200
        core.thin[BID], core.thin[ASK] = (max(min(reach, five) // 2, 0) for reach in (below, above))

    def bands(self, timestamp: float) -> tuple[Record, list[float]]:
        """A SNAPSHOT record of the bands, and mid price, coverage below and coverage above."""
        self._fill()
        self._row["timestamp"] = timestamp
        return self._row.copy()[0], self._figures.tolist()

    def top(self) -> tuple[int, int, int, int]:
        """Best bid (tick, lots) and best ask (tick, lots); zeros for a side without any."""
        bid, ask = (int(tick) for tick in self.core.best)
        origin = int(self.core.origin)
        return bid, int(self._bids[bid - origin]) if bid else 0, ask, int(self._asks[ask - origin]) if ask else 0

    def read_top(self, ticker: BookTicker) -> tuple[int, int, int, int]:
        """A ticker in the same terms. Raises DepthError."""
        sides = [
            f'[["{price}","{qty}"]]'.encode()
            for price, qty in ((ticker.bid, ticker.bid_qty), (ticker.ask, ticker.ask_qty))
        ]
        self.read(sides[BID], sides[ASK], f"{self.symbol} ticker u={ticker.update_id}")
        ticks, lots = self.scratch.ticks, self.scratch.lots
        return int(ticks[BID, 0]), int(lots[BID, 0]), int(ticks[ASK, 0]), int(lots[ASK, 0])

    def recounted(self) -> Record:
        """A copy of what is counted, taken anew from the cells: the same as `core`, unless something is wrong here."""
        core = self._rows.copy()[0]
        for side, cells in ((BID, self._bids), (ASK, self._asks)):
            recount_nb(core, side, cells, int(core.mid2))
        return core


def _set_scales(rules: Record) -> None:
    """What turns whole numbers into USD and base units."""
    rules.tick_usd = int(rules.tick_units) / 10 ** int(rules.price_digits)
    rules.depth_units, rules.depth_scale = float(rules.lot_units), 10.0 ** int(rules.lot_digits)
    rules.notional_units = float(rules.tick_units * rules.lot_units)
    rules.notional_scale = 10.0 ** int(rules.price_digits + rules.lot_digits)


def _finer_unit(rules: Record, digits: str, units: str) -> int:
    """Make a unit finer by a step; by how much: 0.25 becomes 0.01, 0.1 becomes 0.01."""
    factor = int(rules[units])
    if factor == 1:
        rules[digits] += 1
        return 10
    rules[units] = 1
    return factor


def _scale(what: str, size: str | Decimal) -> tuple[int, int]:
    """(decimals, units of the last one) of a size: 0.10 is (1, 1), 0.25 is (2, 25), 10 is (0, 10)."""
    try:
        value = Decimal(size)
    except InvalidOperation:
        value = Decimal("NaN")
    digits = max(-int(value.normalize().as_tuple().exponent), 0) if value.is_finite() else 0
    units = int(value.scaleb(digits)) if value.is_finite() else 0
    if not (0 < units <= 10**6 and digits <= _MAX_DIGITS):
        raise ConfigError(f"{what} {size}; expected a decimal number above 0, of at most {_MAX_DIGITS} decimals")
    return digits, units
