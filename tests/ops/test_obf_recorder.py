"""Snapshots on their way to day files: sampled, bounded, over a bad disk, and back into a replay (SPEC §8)."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import numpy as np
import pytest

from dolphin.core.clock import NS_PER_S, date_start_ns
from dolphin.core.errors import ConfigError
from dolphin.market.bookarchive import BookArchive
from dolphin.market.bookwriter import day_rows
from dolphin.market.synthetic import MarketSpec, make_market
from dolphin.ops.obf.beat import Beat, Frame
from dolphin.ops.obf.recorder import Recorder
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.sources import ReplaySource
from dolphin.ui.cli import run
from tests.ops.obf_cases import START_NS, Hand
from tests.support.books import book_days, in_memory, write_books

SETTINGS = ObfSettings(warm_up_s=0.0, flush_s=0.01)


def frames(hand: Hand, seconds: list[float]) -> list[Frame]:
    beat = Beat(hand, SETTINGS, START_NS)
    found = []
    for second in seconds:
        now = START_NS + round(second * NS_PER_S)
        hand.show_all(now)
        found.append(beat.take(now))
    return found


def test_one_snapshot_of_each_asset_every_five_seconds(tmp_path: Path) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path / "books", SETTINGS, tell=told.append)
    for frame in frames(Hand("BTCUSDT", "ETHUSDT"), [0.1 * k for k in range(120)]):
        recorder.offer(frame)
    assert recorder.counts.offered == recorder.counts.waiting == 6
    assert recorder.close()
    archive = BookArchive.open(tmp_path / "books")
    assert archive.days == (date(2026, 3, 26),)
    names, rows = day_rows(archive.read(archive.days[0]))
    # 12:34:56 is in the five seconds from :55 on; the next ones begin at 12:35:00 and :05.
    assert (rows["timestamp"] - START_NS / 1e9).round(6).tolist() == [0.0, 0.0, 4.0, 4.0, 9.0, 9.0]
    assert names == ["BTCUSDT", "ETHUSDT"] * 3
    assert (recorder.counts.written, recorder.counts.waiting, recorder.counts.days) == (6, 0, ["2026-03-26"])
    assert told == ["archive: 2026-03-26 is finished and verified, 6 snapshots"]


def test_a_day_is_finished_and_verified_while_the_service_runs(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "books", SETTINGS)
    until_midnight = (date_start_ns(date(2026, 3, 27)) - START_NS) / NS_PER_S
    for frame in frames(Hand("BTCUSDT"), [until_midnight - 5, until_midnight + 1, until_midnight + 62]):
        recorder.offer(frame)
    recorder.drain()
    recorder._flushed_s = -1e9
    recorder.drain()
    assert recorder.counts.days == ["2026-03-26"]
    assert recorder.close()
    assert recorder.counts.days == ["2026-03-26", "2026-03-27"]
    assert [entry.rows for entry in BookArchive.open(tmp_path / "books").entries] == [1, 2]


def test_what_waits_is_bounded_and_the_oldest_give_way(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "books", SETTINGS, capacity=5)
    for frame in frames(Hand("BTCUSDT", "ETHUSDT"), [5.0 * k for k in range(10)]):
        recorder.offer(frame)
    assert (recorder.counts.offered, recorder.counts.dropped, recorder.counts.waiting) == (20, 16, 4)
    assert recorder.close()
    _, rows = day_rows(BookArchive.open(tmp_path / "books").read(date(2026, 3, 26)))
    assert (rows["timestamp"] - START_NS / 1e9).tolist() == [40.0, 40.0, 45.0, 45.0]


def test_a_disk_that_fails_is_tried_again_and_nothing_that_waits_is_lost(tmp_path: Path) -> None:
    told: list[str] = []
    recorder = Recorder(tmp_path / "books", SETTINGS, tell=told.append)
    hand = frames(Hand("BTCUSDT"), [5.0 * k for k in range(6)])
    for frame in hand[:2]:
        recorder.offer(frame)
    recorder._flushed_s = -1e9
    recorder.drain()  # flushes nothing, takes two
    pieces = tmp_path / "books" / ".recording"
    pieces.rename(tmp_path / "gone")
    recorder._flushed_s = -1e9
    recorder.drain()
    assert recorder.counts.failures == 1
    for frame in hand[2:]:
        recorder.offer(frame)
        recorder.drain()
    assert recorder.counts.waiting == 4, "kept back while the disk is away"
    (tmp_path / "gone").rename(pieces)
    recorder._flushed_s = -1e9
    recorder.drain()
    assert recorder.counts.waiting == 0
    assert recorder.close()
    assert BookArchive.open(tmp_path / "books").entries[0].rows == 6
    assert [line.split(" (")[0] for line in told[:2]] == ["archive: cannot be written", "archive: written again"]


def test_two_recorders_of_one_folder_are_refused(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path / "books", SETTINGS)
    with pytest.raises(ConfigError, match="another process records books there"):
        Recorder(tmp_path / "books", SETTINGS)
    recorder.close()


def test_what_is_recorded_replays_as_the_books_it_was_recorded_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A whole day through source, beat and recorder, and both folders through `dolphin backtest --book`."""
    assert run(["data", "make", "--out", str(tmp_path / "market"), "--days", "1", "--assets", "6"]) == 0
    day = next(iter(make_market(MarketSpec(days=1, assets=6))))
    books = book_days([day])
    write_books(tmp_path / "books", books)
    first = int(books[0].ts_ns[0])
    source = ReplaySource(in_memory(books, books[0].assets), books[0].assets, first, first)
    settings = ObfSettings(warm_up_s=0.0, cadence_s=60.0, archive_s=60.0, max_age_s=3600.0)
    beat, recorder = Beat(source, settings, first), Recorder(tmp_path / "recorded", settings)
    for stamp in day.ts_ns:
        recorder.offer(beat.take(int(stamp)))
    assert recorder.close()
    results = []
    for name in ("books", "recorded"):
        out = tmp_path / f"run-{name}"
        args = ["--data", str(tmp_path / "market"), "--book", str(tmp_path / name), "--out", str(out)]
        assert run(["backtest", *args]) == 0
        summary = json.loads((out / "summary.json").read_text())
        results.append(summary)
    capsys.readouterr()
    assert results[0]["book"]["snapshots"]["taken"] == results[1]["book"]["snapshots"]["taken"] > 5000
    for part in ("rules", "bars_usable", "bars_stress", "bars_cascade", "edge"):
        assert results[0]["book"][part] == results[1]["book"][part], part
    rows = [BookArchive.open(tmp_path / name).read(day.day).rows for name in ("books", "recorded")]
    assert rows[1] == rows[0]
    assert np.isfinite(rows).all()
