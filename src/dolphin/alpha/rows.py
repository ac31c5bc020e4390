"""Bars handed over one at a time, as a live feed does, without taking their arrays apart at each of them (SPEC §12)."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from dolphin.alpha.daily import DayPlan, Due
from dolphin.alpha.layout import BAR, F8, Record, records
from dolphin.alpha.replay import ROW
from dolphin.core.errors import ConfigError
from dolphin.risk.acb import FIRST_ACB_BAR


class Rows:
    """T bars of one day in front of an engine that takes them in order, by `step`; `NDAlphaEngine.rows` makes them.

    `bars` (T,) BAR records, whose posture may be set until they are stepped; `events` (T,) EVENT records, filled as far
    as stepped; `trade` (1,) the TRADE record of the latest close. `posture`, `gate` and `bar_idx` are int64 (T,) views
    of single fields, cheap to read. The engine keeps its layers while its rows are stepped.
    """

    def __init__(
        self,
        bars: Record,
        events: Record,
        trade: Record,
        call: Callable[..., int],
        plan: DayPlan,
        put_in_force: Callable[[Due], None],
    ) -> None:
        self.bars, self.events, self.trade = bars, events, trade
        self.posture = np.asarray(bars["posture"])
        self.gate, self.bar_idx = np.asarray(events["gate"]), np.asarray(events["bar_idx"])
        self.next = 0
        self._call, self._plan, self._put_in_force = call, plan, put_in_force

    def __len__(self) -> int:
        """The number of bars."""
        return len(self.gate)

    def step(self) -> bool:
        """Take the next bar; true when a position was closed and `trade` tells of it.

        Causality: reads this bar and the engine's state. Raises ConfigError when all bars were taken.
        """
        row, plan = self.next, self._plan
        if row >= len(self.gate):
            raise ConfigError(f"rows: all {row} bars have been stepped; expected one more")
        self.next = row + 1
        self.due()
        if plan.bars > FIRST_ACB_BAR:
            plan.bars += 1
        else:
            plan.count(self.bars["v750"][row : row + 1])
        return self._call(ROW, row) != 0

    def due(self) -> None:
        """Put in force what holds from the next bar on; `step` does it too, if nobody has before."""
        if self._plan.bars == FIRST_ACB_BAR and self._plan.is_due():
            self._put_in_force(self._plan.ask())

    def rewind(self) -> None:
        """Let the first bar be the next one again, for rows that are written anew."""
        self.next = 0


VOL_REGIME_BARS = 100
"""The volatility regime counts as known from this bar of the day on, in replay (SPEC §12)."""


def day_bars(ts_ns: NDArray[np.int64], signals: Mapping[str, F8]) -> Record:
    """BAR records of one replayed day; `signals` names vel_div, v50 and v750, float64 (T,)."""
    bars = records(BAR, len(ts_ns))
    bars.ts_ns[:] = ts_ns
    for name in ("vel_div", "v50", "v750"):
        bars[name][:] = signals[name]
    bars.vol_regime_ok[:] = np.arange(len(ts_ns)) >= VOL_REGIME_BARS
    return bars
