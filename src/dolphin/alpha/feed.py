"""Sensors in a replay: recorded readings go through the survival stack, and each bar gets its posture (SPEC §10, §23).

A reading takes effect at the first bar stamped at or after it; several between two bars are taken in their order.
Before the first one the replay runs in the posture that replays have without any (APEX). Once the newest is more than
five minutes old the sensors count as not known at every bar, which is HIBERNATE: a stack that is fed no longer must not
stay at the posture that it happened to have.

What the recording does not hold at all and the replay knows itself, it supplies: the drawdown of the bar before, marked
to market, and the day's forewarner gate.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from dolphin.alpha.layout import Record, records
from dolphin.core.jit import inlined_kernel, kernel
from dolphin.core.native import Flat
from dolphin.risk.posture import UNREADABLE
from dolphin.risk.sensors import OK, ORANGE, READING, RED, Readings, put_reading, usable_nb
from dolphin.risk.stack import CATEGORY_NAMES, VERDICT, judge_nb, new_stack

STALE_AFTER_S = 300
"""A newest reading older than this says nothing any more: five rounds of a watchdog that reads once a minute."""

OWN_EVERY_S = 60
"""How often a replay without a recording reads its own sensors, at most."""

OFF, RECORDED, OWN = 0, 1, 2
BEFORE_FIRST = int(UNREADABLE["replay"])
_STALE_NS, _EVERY_NS = STALE_AFTER_S * 1_000_000_000, OWN_EVERY_S * 1_000_000_000

FEED = np.dtype(
    [
        ("mode", "i8"),
        ("supply_drawdown", "i8"),
        ("supply_mc", "i8"),
        ("next", "i8"),  # the first reading not yet taken
        ("started", "i8"),  # whether the stack has seen any
        ("newest_ns", "i8"),  # stamp of the newest reading taken
        ("row", "i8"),  # bars run since the trace was opened
        ("early_bars", "i8"),  # bars before the first reading
        ("stale_bars", "i8"),
        ("blocked", "i8"),  # bars whose signal met a posture that allows no entry
    ]
)

TRACE = np.dtype([(name, "f8") for name in CATEGORY_NAMES])
"""Per bar: the categories of the latest reading, NaN before the first."""


class Survival(NamedTuple):
    """What the compiled loop reads and writes; every part belongs to one `SensorFeed`."""

    feed: Record
    readings: Record  # (K,) READING, stamps increasing; one row when the replay reads its own sensors
    unknown: Record  # a READING of which nothing is known
    seen: Record
    stack: Record
    verdict: Record
    trace: Record  # (T,) TRACE


class SensorFeed:
    """Readings on their way into a replay, with the stack that judges them; `NDAlphaEngine.set_survival` takes it.

    `readings` (K,) READING records with increasing `ts_ns`. `supply_drawdown` and `supply_mc`: the replay puts its own
    values into every reading. One feed serves one replay: it remembers how far it is.
    """

    def __init__(self, readings: Record, *, supply_drawdown: bool = False, supply_mc: bool = False) -> None:
        feed = records(FEED, 1)[0]
        feed.mode, feed.supply_drawdown, feed.supply_mc = RECORDED, int(supply_drawdown), int(supply_mc)
        unknown = records(READING, 1)[0]
        put_reading(unknown, Readings())
        stack, seen, verdict = new_stack(opening=True), records(READING, 1)[0], records(VERDICT, 1)[0]
        for name in ("rm", *CATEGORY_NAMES):
            verdict[name] = math.nan
        self._parts = Survival(feed, readings, unknown, seen, stack, verdict, records(TRACE, 0))
        self.flat = Flat(self._parts)

    @classmethod
    def own(cls) -> SensorFeed:
        """No recording: one reading per bar, at most one a minute, with the replay's own drawdown and forewarner gate;
        every other sensor is healthy."""
        row = records(READING, 1)
        put_reading(row[0], HEALTHY)
        feed = cls(row, supply_drawdown=True, supply_mc=True)
        feed._parts.feed.mode = OWN
        return feed

    @classmethod
    def off(cls) -> SensorFeed:
        """Nothing: each bar keeps the posture that it came with."""
        feed = cls(records(READING, 0))
        feed._parts.feed.mode = OFF
        return feed

    def open_trace(self, bars: int) -> Record:
        """Room for the next `bars` bars, filled as they run: (bars,) TRACE records, the caller's until the next call.
        Without it nothing is kept."""
        if len(self._parts.trace) < bars:
            self._parts = self._parts._replace(trace=records(TRACE, bars))
            self.flat = Flat(self._parts)
        self._parts.feed.row = 0
        return self._parts.trace[:bars]

    @property
    def early_bars(self) -> int:
        """Bars before the first reading."""
        return int(self._parts.feed.early_bars)

    @property
    def stale_bars(self) -> int:
        """Bars at which the newest reading was too old."""
        return int(self._parts.feed.stale_bars)

    @property
    def entries_blocked(self) -> int:
        """Bars with a signal, in the volatility regime and flat, at which the posture allowed no entry."""
        return int(self._parts.feed.blocked)


HEALTHY = Readings(
    grid_nodes=1,
    heartbeat_age_s=0.0,
    mc_status="OK",
    stale_hours=0.0,
    book_stale=False,
    depth_quality=1.0,
    fill_probability=1.0,
    book_service_age_s=3600.0,
    dvol_spike=False,
    drawdown=0.0,
)
"""What a replay without a recording assumes of the sensors that it does not have."""


@kernel
def _take_nb(
    feed: Record, stack: Record, seen: Record, verdict: Record, core: Record, reading: Record, now_s: float
) -> None:
    usable_nb(reading, seen)
    seen.now_s = now_s
    if feed.supply_drawdown != 0:
        seen.drawdown = 1.0 - core.equity / core.peak_equity if core.peak_equity > 0.0 else math.nan
    if feed.supply_mc != 0:
        seen.mc_status = OK
        if core.mc_red != 0:
            seen.mc_status = RED
        elif core.mc_scale < 1.0:
            seen.mc_status = ORANGE
    judge_nb(stack, seen, verdict)
    feed.started = 1


@inlined_kernel
def posture_at_nb(survival: Survival, core: Record, ts_ns: int) -> int:
    """Take the readings due at a bar stamped `ts_ns` and give the posture it acts in; `core` is the engine's STATE.

    Allocates nothing. Causality: readings up to `ts_ns`, and the state that the bar before left.
    """
    feed, stack, seen, verdict = survival.feed, survival.stack, survival.seen, survival.verdict
    if feed.mode == OWN:
        if feed.started == 0 or ts_ns - feed.newest_ns >= _EVERY_NS:
            _take_nb(feed, stack, seen, verdict, core, survival.readings[0], ts_ns / 1e9)
            feed.newest_ns = ts_ns
    else:
        while feed.next < survival.readings.shape[0] and survival.readings[feed.next].ts_ns <= ts_ns:
            reading = survival.readings[feed.next]
            _take_nb(feed, stack, seen, verdict, core, reading, reading.now_s)
            feed.newest_ns = reading.ts_ns
            feed.next += 1
        if feed.started != 0 and ts_ns - feed.newest_ns > _STALE_NS:
            _take_nb(feed, stack, seen, verdict, core, survival.unknown, ts_ns / 1e9)
            feed.stale_bars += 1
    posture = verdict.acting
    if feed.started == 0:
        posture = BEFORE_FIRST
        feed.early_bars += 1
    if feed.row < survival.trace.shape[0]:
        row = survival.trace[feed.row]
        row.cat1, row.cat2, row.cat3 = verdict.cat1, verdict.cat2, verdict.cat3
        row.cat4, row.cat5 = verdict.cat4, verdict.cat5
        feed.row += 1
    return posture


NO_FEED = SensorFeed.off()
"""What an engine without sensors runs with."""
