"""The live loop decides what the replay decides, bar for bar and bit for bit (SPEC §12, §22)."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.rows import day_bars
from dolphin.book.engine import OBFeatureEngine
from dolphin.core.codes import Direction
from dolphin.core.errors import ConfigError
from dolphin.core.params import EngineParams
from dolphin.market.tables import PriceDay
from dolphin.research.scanning import scan_day
from dolphin.scan.scanner import Scanner
from dolphin.trade.live.loop import LiveLoop
from dolphin.trade.live.pace import Pace
from dolphin.trade.live.tape import Tape
from tests.support.books import in_memory
from tests.trade.live.played import Played, made, played

PRICES, BOOKS = made(days=3, assets=8, seed=5)
ASSETS = PRICES[0].assets


def engine() -> NDAlphaEngine:
    return NDAlphaEngine(EngineParams(), ASSETS, Direction.SHORT, 25_000.0)


def run(market: Played, bars: int) -> tuple[LiveLoop, Tape]:
    loop = LiveLoop(engine(), market, bar_seconds=60.0, clock=market.clock)
    tape = Tape(ASSETS, 60.0)
    for market.at in range(bars):
        tape.add(loop.bar())
    return loop, tape


@pytest.fixture(scope="module")
def three_days() -> tuple[LiveLoop, Tape]:
    market = played(PRICES, BOOKS)
    return run(market, len(market.ts_ns))


def test_it_decides_what_the_replay_of_files_decides(three_days: tuple[LiveLoop, Tape]) -> None:
    """The other way here is the backtest's: whole days scanned, books preloaded, bars in one call."""
    loop, tape = three_days
    replayed, scanner = engine(), Scanner(len(ASSETS), 60.0)
    replayed.set_ob_engine(OBFeatureEngine(ASSETS, in_memory(BOOKS, ASSETS)))
    events, trades = [], 0
    for day in PRICES:
        scans = scan_day(scanner, day)
        signals = {
            "vel_div": scans.signal("vel_div"),
            "v50": scans.signal("v50_lambda_max_velocity"),
            "v750": scans.signal("v750_lambda_max_velocity"),
        }
        replayed.begin_day(day.day)
        happened, closed = replayed.process_bars(day_bars(day.ts_ns, signals), day.closes)
        replayed.end_day()
        events.append(happened)
        trades += len(closed)
    assert trades == len(tape.trades) >= 10
    assert np.concatenate(events).tobytes() == tape.events.tobytes()
    assert replayed.state_hash() == loop.engine.state_hash()


def test_the_tape_replays_to_the_same_bits(three_days: tuple[LiveLoop, Tape]) -> None:
    loop, tape = three_days
    assert tape.compare(engine) is None
    again = engine()
    tape.replay(again)
    assert again.state_hash() == loop.engine.state_hash()
    assert len(tape) == loop.bars == len(tape.ts_ns) == sum(day.rows for day in PRICES)
    assert [day.day for day in tape.price_days()] == [day.day for day in PRICES]


def test_a_tape_that_was_touched_does_not(three_days: tuple[LiveLoop, Tape]) -> None:
    market = played(PRICES[:1], BOOKS[:1])
    _, tape = run(market, 1200)
    assert tape.compare(engine) is None
    tape._chunks[1].events[8].capital += 1e-9
    found = tape.compare(engine)
    assert found is not None
    assert (found.bar, found.field) == (520, "capital")


def test_a_bar_knows_nothing_of_later_ones() -> None:
    """Truncation: another future leaves the past as it was."""
    one, two = played(PRICES[:1], BOOKS[:1]), played(PRICES[:1], BOOKS[:1])
    two.closes = two.closes.copy()
    two.closes[900:] *= 1.5
    _, first = run(one, 1000)
    _, second = run(two, 1000)
    assert first.events[:900].tobytes() == second.events[:900].tobytes()
    assert first.events[900:].tobytes() != second.events[900:].tobytes()


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_books_and_prices_may_come_and_go(data: st.DataObject) -> None:
    """Assets without a trusted book have neither snapshot nor price; the tape replays all the same."""
    market = played(PRICES[:1], BOOKS[:1])
    gone = np.array(data.draw(st.lists(st.integers(0, len(ASSETS) - 1), max_size=6)), np.int64)
    start = data.draw(st.integers(0, 250))
    length = data.draw(st.integers(1, 120))
    fill = market.fill_snapshots

    def fill_some(assets: object, ts: object, out: np.recarray) -> None:
        fill(ASSETS, np.zeros(1), out)
        if start <= market.at < start + length:
            out["timestamp"][:, gone] = np.nan

    market.fill_snapshots = fill_some  # type: ignore[method-assign,assignment]
    market.closes = market.closes.copy()
    market.closes[start : start + length, gone] = np.nan
    _, tape = run(market, 400)
    assert tape.compare(engine) is None


def test_days_begin_at_midnight(three_days: tuple[LiveLoop, Tape]) -> None:
    loop, _ = three_days
    assert loop.engine.day == PRICES[-1].day


def test_laps_add_up() -> None:
    market = played(PRICES[:1], BOOKS[:1])
    loop = LiveLoop(engine(), market, bar_seconds=60.0, clock=market.clock)
    bar = loop.bar()
    assert min(bar.laps) > 0
    assert bar.laps.total == sum(bar.laps)


def test_a_clock_that_stands_still_is_refused() -> None:
    market = played(PRICES[:1], BOOKS[:1])
    loop = LiveLoop(engine(), market, bar_seconds=60.0, clock=market.clock)
    loop.bar()
    with pytest.raises(ConfigError, match=r"live loop: the clock says \d+, .*expected a later time"):
        loop.bar()
    market.at = 1
    assert loop.bar().scan.scan_number == 1


def test_the_book_warns_through_the_loop() -> None:
    told: list[str] = []
    silent = Played([_without_prices(PRICES[0])], in_memory(BOOKS[:1], ()))
    loop = LiveLoop(engine(), silent, bar_seconds=60.0, clock=silent.clock, on_book_warning=told.append)
    for silent.at in range(5):
        assert loop.bar().trade is None
    assert len(told) == 1
    assert "no new snapshot" in told[0]


def _without_prices(day: PriceDay) -> PriceDay:
    return PriceDay(day.day, day.ts_ns, day.assets, np.full_like(day.closes, np.nan))


class Clockwork:
    """A clock that only sleeping and `work` move."""

    def __init__(self, start: int) -> None:
        self.now_ns = start

    def now(self) -> int:
        return self.now_ns

    def sleep(self, seconds: float) -> None:
        self.now_ns += max(1, round(seconds * 1e9))


@given(
    st.integers(0, 10**12),
    st.integers(1, 10**9),
    st.lists(st.integers(0, 5 * 10**9), max_size=40),
)
def test_bars_lie_on_a_grid_and_none_is_taken_twice(start: int, bar_ns: int, work: list[int]) -> None:
    clock = Clockwork(start)
    pace = Pace(bar_ns, now=clock.now, sleep=clock.sleep)
    slots = []
    for spent in work:
        lag = pace.wait()
        assert lag == pace.lag_ns >= 0
        slots.append(clock.now_ns // bar_ns)
        clock.now_ns += spent
    assert len(set(slots)) == len(slots)
    if slots:
        assert slots[0] == start // bar_ns + 1
        assert pace.missed + len(slots) == slots[-1] - slots[0] + 1


def test_a_bar_that_takes_too_long_costs_the_next_ones() -> None:
    clock = Clockwork(0)
    pace = Pace(100, now=clock.now, sleep=clock.sleep)
    assert pace.wait() == 0
    clock.now_ns += 350
    assert pace.wait() == 250
    assert pace.missed == 2
    assert pace.wait() == 0
    assert clock.now_ns == 500


def test_bars_without_a_length_are_refused() -> None:
    with pytest.raises(ConfigError, match="bars of 0 ns"):
        Pace(0)
