"""What reaches the grid, when it is there, away, or slow (SPEC §8, §14, §22)."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping

import pytest

from dolphin.book.payload import decode_snapshot
from dolphin.core.errors import GridError
from dolphin.grid import schemas
from dolphin.grid.memory import MemoryGrid
from dolphin.ops.obf.beat import Beat, Frame
from dolphin.ops.obf.breaker import BreakerState
from dolphin.ops.obf.publisher import Publisher
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.standing import Standing
from dolphin.ops.obf.state import Cat3
from tests.ops.obf_cases import QUICK, START_NS, Hand, Time, until

BEAT_NS = 100_000_000


class Bench:
    """A source, a beat and a publisher on one clock; frames are published where the test stands."""

    def __init__(self, *symbols: str, settings: ObfSettings = QUICK, saved: Cat3 | None = None) -> None:
        self.time, self.grid, self.told = Time(), MemoryGrid(), []
        self.source = Hand(*symbols)
        self.beat = Beat(self.source, settings, START_NS)
        self.standing = Standing(settings, START_NS, saved)
        self.publisher = Publisher(
            self.grid, settings, self.standing, self.time, tell=self.told.append, monotonic=self.time.seconds
        )

    def frame(self, *, new: bool = True) -> Frame:
        now = self.time.pass_(0.1)
        if new:
            self.source.show_all(now)
        return self.beat.take(now)

    def publish(self, *, new: bool = True) -> Frame:
        frame = self.frame(new=new)
        self.publisher.publish(frame)
        return frame

    def value(self, entry: schemas.Entry, **places: str) -> object:
        return entry.decode(self.grid.get(*entry.at(**places)))


def test_every_value_is_where_the_documents_have_it() -> None:
    bench = Bench("BTCUSDT", "ETHUSDT")
    frame = bench.publish()
    raw = bench.grid.get("DOLPHIN_FEATURES", "asset_BTCUSDT_ob")
    assert raw is not None
    assert raw == bench.grid.get("DOLPHIN_OB", "BTCUSDT")
    row = decode_snapshot(raw)
    assert row.tobytes() == frame.snapshots[0].tobytes(), "the very bits, stamp included"
    fields = json.loads(raw)
    assert fields["timestamp"] == "2026-03-26T12:34:56.100000+00:00"
    assert fields["_pushed_at"] == "2026-03-26T12:34:56.1Z"
    assert fields["_push_seq"] == START_NS // 1_000_000 + 100
    features = bench.value(schemas.SHARD_BOOK, NN="07", SYMBOL="BTCUSDT")
    assert features.fill_probability == pytest.approx(0.62)
    assert features.timestamp == fields["timestamp"]
    assert features.depth_1pct_usd == 4_000_000.0
    macro = bench.value(schemas.BOOK_MACRO)
    assert [bar.assets for bar in macro.bars] == [2]
    assert bench.value(schemas.BOOK_SERVICE).assets_live == 2
    heart = bench.value(schemas.DAEMON_HEARTBEAT, daemon="obf")
    assert (heart.phase, heart.beats, heart.period_s) == ("running", 1, 1.0)
    for name, key in bench.grid.values:
        entry = schemas.find(name, key)
        assert entry is not None
        entry.decode(bench.grid.values[name, key])
    assert bench.publisher.counts.sent == len(bench.grid.values) == 9


def test_only_what_is_new_is_pushed_and_sequence_numbers_grow() -> None:
    bench = Bench("BTCUSDT", "ETHUSDT")
    bench.publish()
    sent = bench.publisher.counts.sent
    bench.publish(new=False)
    assert bench.publisher.counts.sent == sent, "the market did not move on either"
    bench.source.show("ETHUSDT", bench.time.ns + BEAT_NS)
    bench.publish(new=False)
    assert bench.publisher.counts.sent == sent + 4  # twice the snapshot, its features, the macro map
    seqs = [json.loads(bench.grid.values["DOLPHIN_OB", a])["_push_seq"] for a in ("BTCUSDT", "ETHUSDT")]
    assert seqs[1] > seqs[0]


def test_the_macro_map_keeps_twenty_bars_by_their_time() -> None:
    bench = Bench("BTCUSDT")
    frames = [bench.publish() for _ in range(30)]
    bars = bench.value(schemas.BOOK_MACRO).bars
    assert [bar.timestamp for bar in bars] == [frame.now_ns / 1e9 for frame in frames[-20:]]
    assert bars[-1].median_imbalance == frames[-1].market["median_imbalance"][0]


def test_warming_books_are_not_published() -> None:
    bench = Bench("BTCUSDT", settings=ObfSettings())
    bench.source.since = {"BTCUSDT": START_NS}
    bench.publish()
    assert bench.grid.keys("DOLPHIN_OB") == []
    assert bench.grid.keys("DOLPHIN_FEATURES") == ["obf_latest"]
    heart = bench.value(schemas.DAEMON_HEARTBEAT, daemon="obf")
    assert (heart.phase, heart.detail) == ("starting", "1 books warm up, 0 are not there")
    assert bench.value(schemas.BOOK_SERVICE).book_stale


def test_a_stall_degrades_the_heartbeat_and_ends() -> None:
    bench = Bench("BTCUSDT")
    bench.publish()
    bench.time.pass_(31.0)
    bench.publish(new=False)
    assert bench.value(schemas.DAEMON_HEARTBEAT, daemon="obf").phase == "degraded"
    assert bench.value(schemas.BOOK_SERVICE).book_stale
    bench.publish()
    assert bench.value(schemas.DAEMON_HEARTBEAT, daemon="obf").phase == "running"
    assert [line.split(":")[0] for line in bench.told] == ["phase running", "phase degraded", "phase running"]


def test_a_grid_that_goes_away_opens_the_breaker_and_one_probe_closes_it() -> None:
    bench = Bench("BTCUSDT")
    bench.publish()
    bench.grid.fail = True
    bench.publish()
    breaker = bench.publisher.breaker
    assert (breaker.state, bench.publisher.counts.failed) == (BreakerState.CLOSED, 4)
    bench.publish()
    assert bench.publisher.breaker.state is BreakerState.OPEN
    assert bench.standing.file_only
    failures = bench.grid.health().failures
    for _ in range(8):
        frame = bench.publish()
    assert bench.grid.health().failures == failures, "nobody knocks at a closed door"
    assert bench.publisher.counts.held_back > 0
    assert bench.standing.phase(frame) == ("degraded", "breaker OPEN: files only")
    bench.time.pass_(1.0)
    bench.publish()
    assert bench.grid.health().failures == failures + 1, "one probe"
    assert bench.publisher.breaker.wait_s == 2.0
    bench.grid.fail = False
    bench.time.pass_(2.0)
    frame = bench.publish()
    assert bench.publisher.breaker.state is BreakerState.CLOSED
    assert not bench.standing.file_only
    row = decode_snapshot(bench.grid.values["DOLPHIN_OB", "BTCUSDT"])
    assert row.timestamp == frame.snapshots["timestamp"][0], "the newest, nothing of what was missed"
    assert bench.publisher.counts.last_failure.startswith("grid: not reachable")


def test_values_that_failed_are_pushed_again() -> None:
    bench = Bench("BTCUSDT")
    bench.grid.fail = True
    bench.publish()
    bench.grid.fail = False
    bench.publish(new=False)
    assert bench.grid.keys("DOLPHIN_OB") == ["BTCUSDT"]
    assert bench.grid.keys("DOLPHIN_FEATURES_SHARD_07") == ["BTCUSDT"]


def test_what_was_saved_is_shown_while_the_service_is_young() -> None:
    saved = Cat3(book_stale=False, depth_quality=1.25, fill_probability=0.7)
    bench = Bench("BTCUSDT", settings=ObfSettings(), saved=saved)
    bench.source.since = {"BTCUSDT": START_NS}
    bench.publish()
    told = bench.value(schemas.BOOK_SERVICE)
    assert (told.held, told.book_stale, told.depth_quality, told.fill_probability) == (True, False, 1.25, 0.7)
    assert told.started_at == "2026-03-26T12:34:56Z"
    bench.time.pass_(119.0)
    bench.publish()
    assert bench.value(schemas.BOOK_SERVICE).held
    bench.time.pass_(1.0)
    bench.publish()
    told = bench.value(schemas.BOOK_SERVICE)
    assert (told.held, told.depth_quality) == (False, 1.0)


class Hanging(MemoryGrid):
    """A grid whose writes wait until they are let go."""

    def __init__(self) -> None:
        super().__init__()
        self.gate, self.waiting = threading.Event(), threading.Event()

    def put_many(self, name: str, values: Mapping[str, bytes]) -> None:
        self.waiting.set()
        self.gate.wait()
        super().put_many(name, values)


def test_a_grid_that_hangs_costs_frames_and_no_beat() -> None:
    bench = Bench("BTCUSDT", "ETHUSDT")
    grid = Hanging()
    publisher = Publisher(grid, QUICK, bench.standing, bench.time)
    publisher.start()
    publisher.offer(bench.frame())
    assert grid.waiting.wait(60.0)
    for _ in range(500):
        frame = bench.frame()
        publisher.offer(frame)
    counts = publisher.counts
    assert (counts.offered, counts.taken, counts.coalesced) == (501, 1, 499)
    grid.gate.set()
    until(lambda: publisher.counts.taken == 2 and ("DOLPHIN_HEARTBEAT", "obf") in grid.values, "the newest frame")
    assert publisher.close(60.0)
    row = decode_snapshot(grid.values["DOLPHIN_OB", "ETHUSDT"])
    assert row.timestamp == frame.snapshots["timestamp"][1]
    assert counts.offered == counts.taken + counts.coalesced
    assert schemas.DAEMON_HEARTBEAT.decode(grid.values["DOLPHIN_HEARTBEAT", "obf"]).phase == "stopped"


def test_a_value_that_its_schema_refuses_is_left_out_and_costs_nobody_else() -> None:
    bench = Bench("BTCUSDT", "ETHUSDT")
    frame = bench.frame()
    frame.books["imbalance"][0] = 7.0
    bench.publisher.publish(frame)
    assert bench.publisher.counts.invalid == 1
    assert "not written" in bench.publisher.counts.last_failure
    with pytest.raises(GridError):
        bench.value(schemas.SHARD_BOOK, NN="07", SYMBOL="BTCUSDT")
    assert bench.value(schemas.SHARD_BOOK, NN="05", SYMBOL="ETHUSDT")
    assert bench.publisher.breaker.in_a_row == 0
