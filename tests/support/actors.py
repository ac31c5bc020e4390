"""A real DolphinActor inside a real BacktestEngine, on a market in which every decision is known beforehand.

One asset falls by 1/64 USDT a bar from 1,000, so that a short is welcome wherever `deep` says so and nothing but the
clock, the posture or the breaker ends it. The bar is one minute; bar t of the run has the price 1000 − t/64.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np
from nautilus_trader.backtest.engine import BacktestEngine, BacktestEngineConfig
from nautilus_trader.config import LoggingConfig
from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.data import CustomData
from nautilus_trader.model.orders import Order
from numpy.typing import NDArray

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.alpha.rows import Rows, day_bars
from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.market.instrumentfiles import load_instruments
from dolphin.trade.acb_inbox import AcbInbox
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus.actor import DolphinActor
from dolphin.trade.nautilus.backtest import add_venue
from dolphin.trade.nautilus.instruments import VENUE, traded
from dolphin.trade.nautilus.market import Link, VenueMarket
from dolphin.trade.nautilus.scans import Scan
from dolphin.trade.nautilus.settings import DolphinActorConfig, Hooks
from dolphin.trade.ports import FEATURES, SAFETY, MemoryGrid
from dolphin.trade.venue import FRICTIONLESS, VenueModel

FIRST = date(2024, 1, 1)
ASSET = "BTCUSDT"
BAR_S = 60
READY = 99  # the hundredth bar, the first on which the champion may enter
CAPITAL = 25_000.0
DEEP = -0.06
MAX_HOLD = 120


def price(t: int | NDArray[Any]) -> Any:
    """The asset's price at bar t of the run."""
    return 1000.0 - t / 64.0


def block(
    rows: int = 130, *, day: date = FIRST, start: int = 0, deep: Iterable[int] = (), late_regime: bool = False
) -> ScanBlock:
    """`rows` bars of `day`, the first of them bar `start` of the run; `deep` are bars of the run that say go.

    The volatility regime is known throughout, or with `late_regime` from the day's bar 100 on, as in a replay.
    """
    ts_ns = date_start_ns(day) + np.arange(rows, dtype=np.int64) * BAR_S * NS_PER_S
    vel_div = np.zeros(rows)
    vel_div[[t - start for t in deep if start <= t < start + rows]] = DEEP
    bars = day_bars(ts_ns, {"vel_div": vel_div, "v50": vel_div, "v750": np.zeros(rows)})
    if not late_regime:
        bars.vol_regime_ok[:] = 1
    number = np.arange(start, start + rows, dtype=np.int64)
    return ScanBlock(day, ts_ns, bars, price(number)[:, None], number)


def days(count: int, rows: int = 130, deep: Iterable[int] = ()) -> list[ScanBlock]:
    """`count` days in a row; the bars of each go on where those before it ended."""
    told = tuple(deep)
    return [block(rows, day=FIRST + timedelta(days=d), start=d * rows, deep=told) for d in range(count)]


def singly(blocks: Iterable[ScanBlock]) -> list[ScanBlock]:
    """The same bars in blocks of one, as a live feed brings them."""
    return [
        ScanBlock(b.day, b.ts_ns[[r]], b.bars[[r]].copy(), b.closes[[r]], b.scan_number[[r]])
        for b in blocks
        for r in range(b.rows)
    ]


class Feed(VenueMarket):
    """The simulated venue; its data may lack the cuts, as a live feed does, and bring scans `late` by so many ns."""

    cuts = True
    late: Mapping[int, int] = {}

    def _scans(self) -> Iterator[list[CustomData]]:
        for data in super()._scans():
            for one in data:
                if isinstance(one.data, Scan):
                    scan = one.data
                    scan.ts_event -= self.late.get(int(scan.block.scan_number[scan.row]), 0)
            yield [one for one in data if self.cuts or isinstance(one.data, Scan)]


class Watch:
    """Hooks that keep what they see: days begun, events by bar, every breaker update with bar and thread."""

    def __init__(self, before: Callable[[NDAlphaEngine], object] | None = None) -> None:
        self.begun: list[date] = []
        self.events: list[Record] = []
        self.engine: NDAlphaEngine | None = None
        self._before = before

    def attach(self, engine: NDAlphaEngine) -> None:
        self.engine = engine
        if self._before is not None:
            self._before(engine)

    def begin_day(self, block: ScanBlock) -> None:
        self.begun.append(block.day)

    def end_block(self, block: ScanBlock, events: Record, engine: NDAlphaEngine) -> None:
        self.events.append(events.copy())

    def column(self, name: str) -> NDArray[Any]:
        """One field of every bar's event, over the whole run."""
        return np.concatenate([np.asarray(each[name]) for each in self.events])


class ScriptedGrid(MemoryGrid):
    """A MemoryGrid on which a test acts just before the posture's n-th reading: `script[n]`, n from 0.

    The actor reads once a bar, and a second time when an entry was decided: bar t's reading is number t as long as
    nothing was decided, and the second one of that bar number t + 1.
    """

    def __init__(self, script: Mapping[int, Callable[[ScriptedGrid], object]] | None = None) -> None:
        super().__init__()
        self.script = dict(script or {})
        self.readings = 0
        say(self, "APEX")

    def reference(self, name: str) -> Any:
        grid, whole = self, super().reference

        class Scripted:
            def get(self) -> bytes | None:
                number, grid.readings = grid.readings, grid.readings + 1
                if number in grid.script:
                    grid.script[number](grid)
                return whole(name).get()

            def set(self, value: bytes) -> None:
                whole(name).set(value)

        return Scripted()


def safety(posture: str) -> bytes:
    """What the watchdog would write for a posture."""
    return msgspec.json.encode({"posture": posture, "Rm": 0.95, "sensors": {}})


def say(grid: MemoryGrid, posture: str) -> None:
    """Put a posture in force."""
    grid.put(SAFETY, "latest", safety(posture))


def boost(grid: MemoryGrid, value: float, beta: float = 0.2) -> None:
    """Bring a sub-day update of the circuit breaker."""
    grid.put(FEATURES, "acb_boost", msgspec.json.encode({"boost": value, "beta": beta}))


def told(grid: MemoryGrid, name: str, key: str) -> Any:
    """A value of the grid, decoded; None when there is none."""
    value = grid.values.get((name, key))
    return None if value is None else msgspec.json.decode(value)


@dataclass(frozen=True, eq=False)
class Run:
    """What is left when the engine has stopped. `open` is the venue's net position, base units, signed."""

    actor: DolphinActor
    orders: Sequence[Order]
    balance: float
    open: Decimal

    @property
    def trips(self) -> NDArray[Any]:
        """The finished round trips."""
        return self.actor.desk.trips()


@contextmanager
def stage(
    blocks: Sequence[ScanBlock],
    *,
    grid: MemoryGrid | None = None,
    hooks: Hooks | None = None,
    model: VenueModel = FRICTIONLESS,
    capital: float = CAPITAL,
    cuts: bool = True,
    late: Mapping[int, int] | None = None,
    **config: Any,
) -> Iterator[tuple[BacktestEngine, DolphinActor, Feed]]:
    """An engine that is ready to run, its actor and its market. `config` are fields of DolphinActorConfig."""
    assets = traded(load_instruments().select((ASSET,)), model)
    days = iter(blocks)
    market = Feed(Link(next(days), days), assets, model, np.empty(0, [("ts_ns", "i8")]))
    market.cuts, market.late = cuts, late or {}
    engine = BacktestEngine(BacktestEngineConfig(logging=LoggingConfig(bypass_logging=True), run_analysis=False))
    try:
        add_venue(engine, assets, model, capital, market)
        settings = {"assets": (ASSET,), "leverage": model.leverage, "stop_pct": model.stop_pct, **config}
        actor = DolphinActor(DolphinActorConfig(**settings), assets, grid, hooks)
        engine.add_strategy(actor)
        market.attach(engine, actor.on_funding)
        yield engine, actor, market
    finally:
        engine.dispose()


def run(blocks: Sequence[ScanBlock], **options: Any) -> Run:
    """Run `stage` to its end; with `cuts` false, what is open stays open."""
    with stage(blocks, **options) as (engine, actor, market):
        engine.run(start=int(blocks[0].ts_ns[0]))
        market.finish()
        account = engine.portfolio.account(VENUE)
        held = [each for each in engine.cache.positions_open() if each.instrument_id.venue == VENUE]
        net = sum((each.signed_decimal_qty() for each in held), Decimal(0))
        return Run(actor, tuple(market.orders), float(account.balance_total(USDT).as_double()), net)


def meddle(engine: NDAlphaEngine, at: Mapping[int, Callable[[NDAlphaEngine], object]]) -> None:
    """Have somebody change the engine behind the actor's back, at the end of the step of the bars in `at`."""
    make = engine.rows

    def rows(*given: Any) -> Rows:
        made = make(*given)
        step = made.step

        def meddled() -> bool:
            closed = step()
            change = at.get(int(made.bar_idx[made.next - 1]))
            if change is not None:
                change(engine)
            return closed

        made.step = meddled  # type: ignore[method-assign]
        return made

    engine.rows = rows  # type: ignore[method-assign]


def same_trips(one: Run, other: Run) -> bool:
    """Whether two runs traded alike, to the bit."""
    return one.trips.tobytes() == other.trips.tobytes() and one.balance == other.balance


class Applied:
    """Keeps every breaker update that reaches the engine: the bar it was for, by whom, and if the inbox was locked."""

    def __init__(self) -> None:
        self.values: list[tuple[int, float, float]] = []
        self.threads: set[int] = set()
        self.locked = False
        self.inbox: AcbInbox | None = None

    def __call__(self, engine: NDAlphaEngine) -> None:
        update = engine.update_acb_boost

        def kept(value: float, beta: float) -> bool:
            self.values.append((int(engine.state.core.bar_idx) + 1, value, beta))
            self.threads.add(threading.get_ident())
            self.locked |= self.inbox is not None and self.inbox._lock.locked()
            return update(value, beta)

        engine.update_acb_boost = kept  # type: ignore[method-assign]


def on_a_thread(*calls: Callable[[], object]) -> None:
    """Make these calls on a thread of their own, one after the other, and wait for it."""
    thread = threading.Thread(target=lambda: [call() for call in calls])
    thread.start()
    thread.join(30)
    assert not thread.is_alive()


def results(grid: MemoryGrid, count: int) -> list[dict[str, Any]]:
    """The results of the first `count` days."""
    named = [(FIRST + timedelta(days=d)).isoformat() for d in range(count)]
    return [told(grid, "DOLPHIN_PNL_BLUE", f"{day}_nautilus") for day in named]
