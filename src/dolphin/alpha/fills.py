"""Fills: under a venue's own friction the engine's state follows what really happened, not what was asked (SPEC §13).

The step opens and closes as if its wish were done at once. In front of a venue the wish becomes an order, and until the
order is filled the position is what it was: an entry is taken back at once and booked when it is filled, an exit
likewise, each with the venue's price and quantity. No rule is here: sizes, reasons and results' consequences are the
step's own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import STATE, Record

_UNDONE_WITH_AN_EXIT = (
    *("capital", "draws", "recent_losses", "bucket_trades", "bucket_wins"),
    *("last_exit_bar", "open", "asset", "subday_exit"),
)
"""What closing a position changes, beside the marks that the next step makes anew."""

_ENTRY = (
    *("asset", "entry_ts_ns", "entry_price", "notional_usd", "leverage", "used_fraction", "bucket"),
    *("confidence", "is_extreme", "entry_spread", "book_usable", "depth_quality", "fill_probability"),
)
"""What the step writes of a position that it opens, beside the bar."""


class Wanted(NamedTuple):
    """An entry that the step decided and no venue has filled."""

    asset: int
    bar_idx: int
    ts_ns: int
    price: float
    notional_usd: float
    capital: float
    leverage: float
    fraction: float
    bucket: int
    confidence: float
    is_extreme: bool
    fields: tuple[float, ...]


class Fills:
    """The engine's position as the venue has it. Call `mark` before every step.

    After a step that entered: `withdraw_entry`, then `opened` when the order is filled. After one that closed:
    `withdraw_exit`, then `closed` when it is filled. Nothing else may move the position.
    """

    def __init__(self, engine: NDAlphaEngine) -> None:
        self._engine = engine
        self._core = engine.state.core.base.view(np.ndarray)  # the one-row array that the record is a view of
        self._open = memoryview(self._core["open"])
        self._before = np.zeros(1, STATE)
        self._bytes = memoryview(self._core.view(np.uint8)), memoryview(self._before.view(np.uint8))

    @property
    def core(self) -> Record:
        """The engine's STATE record: read it, do not keep it."""
        return self._engine.state.core

    def mark(self) -> None:
        """Remember the open position, so that an exit decided in the next step can be taken back."""
        if self._open[0]:
            now, before = self._bytes
            before[:] = now

    def withdraw_entry(self) -> Wanted:
        """Take back the entry of the last step; what was wanted."""
        core = self._engine.state.core
        wanted = Wanted(
            asset=int(core.asset),
            bar_idx=int(core.bar_idx),
            ts_ns=int(core.last_ts_ns),
            price=float(core.entry_price),
            notional_usd=float(core.notional_usd),
            capital=float(core.capital),
            leverage=float(core.leverage),
            fraction=float(core.used_fraction),
            bucket=int(core.bucket),
            confidence=float(core.confidence),
            is_extreme=bool(core.is_extreme),
            fields=tuple(core[name].item() for name in _ENTRY),
        )
        core.open, core.asset = 0, -1
        core.bars_in_position -= 1
        core.equity = core.capital
        return wanted

    def withdraw_exit(self) -> None:
        """Take back the exit of the last step: the position is held until the venue has closed it."""
        for name in _UNDONE_WITH_AN_EXIT:
            self._core[name] = self._before[name]

    def opened(self, wanted: Wanted, price: float, notional_usd: float) -> None:
        """The venue has filled `wanted`, or more of it: mean price so far and its notional, USDT."""
        core = self._engine.state.core
        if not core.open:
            for name, value in zip(_ENTRY, wanted.fields, strict=True):
                self._core[name] = value
            core.open, core.entry_bar, core.adverse_bars = 1, core.bar_idx, 0
            core.bars_in_position += 1
        core.entry_price, core.notional_usd = price, notional_usd

    def reduced(self, notional_usd: float) -> None:
        """A part was closed; `notional_usd` at the entry price is left. What it brought is booked with the rest."""
        self._engine.state.core.notional_usd = notional_usd

    def closed(self, net_pnl: float) -> None:
        """The venue has closed the position, on the last stepped bar; `net_pnl` USDT after fees and funding."""
        self._engine.settle(net_pnl)
