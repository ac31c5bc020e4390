"""The loop and its threads: beats at their deadlines, restarts, sources, and memory (SPEC §8, §15, §22)."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest

from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError, DataError, DolphinError
from dolphin.grid.memory import MemoryGrid
from dolphin.grid.schemas import BOOK_SERVICE
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.ops.obf.featuresfile import read_features
from dolphin.ops.obf.metrics import read_metrics
from dolphin.ops.obf.service import ObfService
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.sources import MockSource, ReplaySource, recorded_source
from tests.ops.obf_cases import QUICK, START_NS, Hand, Time, service, until
from tests.ops.test_obf_publisher import Hanging
from tests.support.books import book_days, in_memory, write_books


class Moving(Hand):
    """Its books are new at every beat; `at` is called with the number of each."""

    def __init__(self, *symbols: str, at: object = None) -> None:
        super().__init__(*symbols)
        self.beats, self.at = 0, at

    def fill_snapshots(self, assets: object, ts: np.ndarray, out: object) -> None:
        self.beats += 1
        self.show_all(round(float(ts[0]) * 1e9))
        if callable(self.at):
            self.at(self.beats)
        super().fill_snapshots(assets, ts, out)  # type: ignore[arg-type]


def test_beats_come_at_their_deadlines_and_late_ones_are_skipped(tmp_path: Path) -> None:
    clock = Time()
    seen: list[float] = []

    def at(beat: int) -> None:
        seen.append(clock.seconds())
        if beat == 3:
            clock.pass_(0.37)  # the third beat takes so long
        if beat == 6:
            clock.pass_(0.05)  # late, but before the next deadline

    one = service(Moving("BTCUSDT", at=at), tmp_path, clock)
    one.run(seconds=1.5)
    assert [round(s, 3) for s in seen] == [0.0, 0.1, 0.2, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.4]
    assert one.skipped == 3
    metrics = read_metrics(tmp_path)
    assert (metrics.beats, metrics.skipped, metrics.phase) == (12, 3, "stopped")
    assert metrics.latency.worst_ms == pytest.approx(370.0)
    assert metrics.latency.p50_ms == pytest.approx(0.0, abs=1e-3)


def test_stop_ends_it_within_a_nap(tmp_path: Path) -> None:
    clock = Time()
    one = service(Moving("BTCUSDT"), tmp_path, clock, settings=ObfSettings(warm_up_s=0.0, cadence_s=10.0))

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.seconds() > 12.0:
            one.stop()

    one._sleep = sleep
    one.run()
    assert one.beat.beats == 2
    assert clock.seconds() < 12.5


def test_a_grid_that_hangs_and_a_slow_log_delay_no_beat(tmp_path: Path) -> None:
    clock, grid, gate = Time(), Hanging(), threading.Event()
    one = service(Moving("BTCUSDT", "ETHUSDT"), tmp_path, clock, grid, log=lambda line: gate.wait(60.0) and None)
    one.publisher.close = lambda timeout_s=0.0: False  # type: ignore[union-attr,method-assign]  # it would wait for it
    counted = []

    def at(beat: int) -> None:
        counted.append(beat)
        if beat == 300:
            gate.set()

    one.source.at = at  # type: ignore[attr-defined]
    one.run(seconds=30.0)
    assert (one.beat.beats, one.skipped) == (300, 0)
    assert counted == list(range(1, 301))
    grid.gate.set()


def test_without_a_grid_the_file_goes_on_and_says_so(tmp_path: Path) -> None:
    """The grid goes away and comes back: pushes stop, the file does not, and both say how it stands."""
    clock, grid = Time(), MemoryGrid()
    one = service(Moving("BTCUSDT"), tmp_path, clock, grid)
    assert one.publisher is not None

    def turn() -> tuple[str, str, str, float]:
        clock.pass_(0.1)
        frame = one.step()
        one.publisher.publish(frame)  # type: ignore[union-attr]  # on this thread, so that every beat is pushed
        one.keeper.write()
        file, metrics = read_features(tmp_path), read_metrics(tmp_path)
        assert metrics.breaker is not None
        assert file.assets["BTCUSDT"].snapshot is not None
        assert file.timestamp == frame.now_ns / 1e9, "the newest beat"
        return file.mode, file.phase, metrics.breaker.state.value, metrics.breaker.wait_s

    assert turn() == ("grid", "running", "CLOSED", 0.0)
    grid.fail = True
    assert [turn() for _ in range(3)][1:] == [("file_only", "degraded", "OPEN", 1.0)] * 2
    clock.pass_(1.0)
    assert turn() == ("file_only", "degraded", "OPEN", 2.0)
    grid.fail = False
    assert turn() == ("file_only", "degraded", "OPEN", 2.0)
    clock.pass_(2.0)
    assert turn() == ("grid", "running", "CLOSED", 0.0)
    metrics = read_metrics(tmp_path)
    assert metrics.pushes is not None
    assert metrics.pushes.failed > 0
    assert metrics.pushes.held_back > 0
    assert json.loads(grid.values["DOLPHIN_HEARTBEAT", "obf"])["phase"] == "running"


class Broken(MemoryGrid):
    """A grid with a defect: what it raises is no GridError."""

    def put_many(self, name: str, values: object) -> None:
        raise RuntimeError("a defect")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_ends_by_itself_ends_the_service(tmp_path: Path) -> None:
    one = ObfService(Moving("BTCUSDT"), tmp_path, grid=Broken(), settings=QUICK)
    with pytest.raises(DolphinError, match="the publisher ended by itself"):
        one.run(seconds=600.0)
    assert read_metrics(tmp_path).phase == "stopped"


def test_metrics_tell_everything(tmp_path: Path) -> None:
    clock, source = Time(), Moving("BTCUSDT", "ETHUSDT")
    source.since = {"ETHUSDT": START_NS - 1}
    source.counted = {"crossed": 3, "gaps": 2}
    settings = ObfSettings(warm_up_s=5.0)
    one = service(source, tmp_path, clock, MemoryGrid(), settings=settings, archive=tmp_path / "books")
    one.run(seconds=2.0)
    metrics = read_metrics(tmp_path)
    assert (metrics.crossed, metrics.source["gaps"]) == (3, 2)
    assert (metrics.assets, metrics.live, metrics.warming, metrics.dark) == (2, 1, ["ETHUSDT"], [])
    assert set(metrics.age_s) == {"BTCUSDT", "ETHUSDT"}
    assert metrics.snapshots == {"taken": 20, "repeated": 0, "too_old": 0, "refused": 0}
    assert metrics.breaker is not None
    assert metrics.breaker.state == "CLOSED"
    assert metrics.pushes is not None
    assert metrics.pushes.offered == 20 == metrics.pushes.taken + metrics.pushes.coalesced
    assert metrics.archive is not None
    assert metrics.archive.written == metrics.archive.offered == 1
    assert metrics.pid == os.getpid()


def test_assets_that_come_while_it_runs_are_there_at_the_next_beat(tmp_path: Path) -> None:
    source = Moving("BTCUSDT")
    source.at = lambda beat: source.add(["NEWUSDT"]) if beat == 5 else None
    grid = MemoryGrid()
    one = service(source, tmp_path, Time(), grid)
    one.run(seconds=1.0)
    assert one.beat.assets == ("BTCUSDT", "NEWUSDT")
    assert grid.keys("DOLPHIN_OB") == ["BTCUSDT", "NEWUSDT"]
    assert read_metrics(tmp_path).grown == 1


def test_a_restart_loses_nothing_and_holds_what_cat3_read(tmp_path: Path) -> None:
    """Stopped after half of it, and not stopped at all: the same bits. The clock goes on while nobody runs."""
    whole, clock, lines = Moving("BTCUSDT", "ETHUSDT"), Time(), []
    straight = service(whole, tmp_path / "a", clock)
    straight.run(seconds=4.0)
    clock, grid = Time(), MemoryGrid()
    service(Moving("BTCUSDT", "ETHUSDT"), tmp_path / "b", clock).run(seconds=2.0)
    assert clock.seconds() == 1.9
    clock.pass_(0.1)
    again = service(Moving("BTCUSDT", "ETHUSDT"), tmp_path / "b", clock, grid, log=lines.append)
    again.run(seconds=2.0)
    assert again.beat.snapshot() == straight.beat.snapshot()
    assert any("going on from the state of 2026-03-26T12:34:57.9Z" in line for line in lines)
    told = BOOK_SERVICE.decode(grid.get(*BOOK_SERVICE.at()))
    assert (told.held, told.depth_quality) == (True, 1.0)
    assert read_features(tmp_path / "b").service.held
    torn = tmp_path / "b" / "obf_state.bin"
    torn.write_bytes(torn.read_bytes()[:100])
    last = service(Moving("BTCUSDT"), tmp_path / "b", clock, log=lines.append)
    last.run(seconds=0.2)
    assert any("not readable" in line for line in lines)


def test_the_state_is_saved_while_it_runs(tmp_path: Path) -> None:
    clock = Time()
    one = service(Moving("BTCUSDT"), tmp_path, clock, settings=ObfSettings(warm_up_s=0.0, save_s=1.0, publish_s=0.01))
    one.keeper.start()
    for _ in range(30):
        clock.pass_(0.1)
        one.step()
    until((tmp_path / "obf_state.bin").exists, "a state without a stop")
    one.keeper.close()


def test_a_folder_that_cannot_be_written_is_refused_before_anything(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"cannot be written .*; choose another folder"):
        service(Moving("BTCUSDT"), tmp_path / "file" / "cache", Time())


def test_a_disk_that_fails_under_way_is_counted_and_the_beat_goes_on(tmp_path: Path) -> None:
    lines: list[str] = []
    cache = tmp_path / "cache"
    one = service(Moving("BTCUSDT"), cache, Time(), log=lines.append)
    one.keeper.newest = one.step()
    cache.rename(tmp_path / "away")
    one.keeper.write()
    assert one.keeper.failures == 2
    assert sum("cannot be written (No such file or directory)" in line for line in lines) == 1
    (tmp_path / "away").rename(cache)
    one.keeper.write()
    assert read_metrics(cache).file_failures == 2


# --- sources


def test_the_mock_has_the_documents_books(tmp_path: Path) -> None:
    clock, source = Time(), MockSource(["BTCUSDT"], START_NS)
    source.add(["SOLUSDT", "BTCUSDT"])
    one = service(source, tmp_path, clock)  # type: ignore[arg-type]
    one.run(seconds=0.5)
    found = read_features(tmp_path).assets
    assert found["BTCUSDT"].features is not None
    assert found["BTCUSDT"].features.imbalance == pytest.approx(-0.086)
    assert found["SOLUSDT"].features is not None
    assert found["SOLUSDT"].features.imbalance == pytest.approx(0.05)
    for name in ("btcusdt", "BTC-USD", "", "ÄUSDT"):
        with pytest.raises(ConfigError, match="expected capital letters and digits"):
            source.add([name])


def test_a_recording_is_played_from_now_on_at_a_pace(tmp_path: Path) -> None:
    day = next(iter(make_market(MarketSpec(days=1, assets=3))))
    books = book_days([day])
    write_books(tmp_path / "books", books)
    source, lasts_s = recorded_source(tmp_path / "books", None, START_NS, speed=60.0)
    assert source.symbols == books[0].assets
    assert lasts_s == pytest.approx((books[0].ts_ns[-1] - books[0].ts_ns[0]) / NS_PER_S / 60.0)
    known = in_memory(books, books[0].assets)
    from dolphin.book.snapshots import no_snapshots

    for minutes in (0.0, 1.0, 5.5, 700.0):
        out, plain = no_snapshots(1, 3), no_snapshots(1, 3)
        source.fill_snapshots(source.symbols, np.array([START_NS / 1e9 + minutes]), out)
        moment = books[0].ts_ns[0] / 1e9 + 60.0 * minutes
        known.fill_snapshots(source.symbols, np.array([moment]), plain)
        assert np.array_equal(out["bid_notional"], plain["bid_notional"])
        ages = (moment - plain["timestamp"][0], START_NS / 1e9 + minutes - out["timestamp"][0])
        assert ages[1] * 60.0 == pytest.approx(ages[0], abs=1e-3, nan_ok=True), "as old as it was, at that pace"
    with pytest.raises(ConfigError, match="no books of NOPE"):
        recorded_source(tmp_path / "books", ["NOPE"], START_NS)
    with pytest.raises(DataError):
        recorded_source(tmp_path / "nothing", None, START_NS)
    with pytest.raises(ConfigError, match="speed 0"):
        ReplaySource(known, ["A"], 1, 1, speed=0.0)


# --- memory


class Crowd:
    """Fifty assets whose books are new and random at every beat, without a Python object per asset."""

    def __init__(self) -> None:
        self.symbols = tuple(f"A{k}USDT" for k in range(50))
        self._rng = np.random.default_rng(1)

    def fill_snapshots(self, assets: object, ts: np.ndarray, out: np.ndarray) -> None:
        out["timestamp"] = ts[:, None]
        for side in ("bid_notional", "ask_notional", "bid_depth", "ask_depth"):
            out[side] = 1e6 * (1.0 + self._rng.random(out[side].shape))

    def synced_ns(self, symbol: str) -> int:
        return 1

    def add(self, symbols: object) -> None:
        """They are all there are."""


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_a_million_updates_leave_memory_as_it_was(tmp_path: Path) -> None:
    """50 assets × 20,000 beats through source, features, publisher, files and archive queue."""
    clock = Time()
    one = ObfService(
        Crowd(),  # type: ignore[arg-type]
        tmp_path / "cache",
        grid=MemoryGrid(),
        settings=ObfSettings(warm_up_s=0.0, publish_s=0.05),
        clock=clock,
        monotonic=clock.seconds,
        sleep=clock.sleep,
    )
    one.publisher.start()  # type: ignore[union-attr]
    one.keeper.start()

    def beats(count: int) -> None:
        for _ in range(count):
            clock.pass_(0.1)
            one.step()

    beats(3000)
    before = resident_bytes()
    beats(20_000)
    grown = resident_bytes() - before
    assert one.beat.snapshots["taken"] == 23_000 * 50
    one.stop()
    one._close()
    assert grown < 5_000_000, f"{grown / 1e6:.1f} MB"
