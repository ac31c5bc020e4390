"""Snapshots to day files, on a thread of its own: the disk may take its time, the beat does not wait (SPEC §8)."""

from __future__ import annotations

import functools
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import date
from pathlib import Path

import msgspec
import numpy as np

from dolphin.book.layout import SNAPSHOT
from dolphin.core.errors import DolphinError
from dolphin.core.records import records
from dolphin.market.bookarchive import BookArchive
from dolphin.market.bookwriter import BookWriter
from dolphin.market.dayfile import day_path
from dolphin.ops.obf.beat import Frame, Rows
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.worker import Worker

CAPACITY = 100_000
"""Snapshots that may wait for the disk, 17 MB; the oldest give way."""

Batch = tuple[tuple[str, ...], Rows, int]


class ArchiveCounts(msgspec.Struct, kw_only=True):
    """Since the start, in snapshots: `offered` = written + repeated + refused + late + dropped + waiting, with
    `written` given to the writer. `flushes` and `failures` of them; `days` finished, read again and found sound."""

    offered: int = 0
    written: int = 0
    repeated: int = 0
    refused: int = 0
    late: int = 0
    dropped: int = 0
    waiting: int = 0
    flushes: int = 0
    failures: int = 0
    days: list[str] = []
    last_failure: str = ""


class Recorder(Worker):
    """Records one snapshot of each asset every `archive_s` into `folder`, a folder of books as `--book` takes it.

    Raises ConfigError, when made, for a folder that another process records in, or that holds something else.
    """

    def __init__(
        self,
        folder: Path,
        settings: ObfSettings,
        *,
        source: str = "obf",
        tell: Callable[[str], None] = lambda line: None,
        capacity: int = CAPACITY,
    ) -> None:
        self.folder, self._settings, self._tell, self._capacity = folder, settings, tell, capacity
        self.counts = ArchiveCounts()
        self._writer = BookWriter(folder, {"made_by": "dolphin obf run", "source": source})
        self._writer.__enter__()
        if self._writer.torn:
            tell(f"archive: {len(self._writer.torn)} torn pieces set aside in {folder}")
        self._queue: deque[Batch] = deque()
        self._lock, self._waiting = threading.Lock(), 0
        self._slot = -1
        self._failing = False
        self._verified: set[date] = set()
        self._known = self._days()
        self._stop = threading.Event()
        self._flushed_s = time.monotonic()
        super().__init__("recorder")

    def offer(self, frame: Frame) -> None:
        """Have the frame's snapshots recorded if it is time; never waits for the disk."""
        slot = frame.now_ns // round(self._settings.archive_s * 1e9)
        if slot == self._slot:
            return
        at = np.flatnonzero(~np.isnan(frame.snapshots["timestamp"]))
        if not len(at):
            return
        self._slot = slot
        batch = (tuple(frame.assets[k] for k in at), frame.snapshots[at], frame.now_ns)
        with self._lock:
            self._queue.append(batch)
            self._waiting += len(at)
            self.counts.offered += len(at)
            while self._waiting > self._capacity and len(self._queue) > 1:
                gone = len(self._queue.popleft()[0])
                self._waiting -= gone
                self.counts.dropped += gone
            self.counts.waiting = self._waiting

    def close(self, timeout_s: float = 60.0) -> bool:
        """Write everything, finish the days and look at them again; false when that took longer than `timeout_s`."""
        self._stop.set()
        if self._thread.ident is None:
            self._finish()
            return True
        return self._ended_within(timeout_s)

    def _run(self) -> None:
        while not self._stop.wait(0.2):
            self.drain()
        self._finish()

    def drain(self) -> None:
        """Have what the writer holds written down when it is time, and give it what waits."""
        due = time.monotonic() - self._flushed_s >= self._settings.flush_s
        if due:
            self._flushed_s = time.monotonic()
            self._try(self._writer.flush)
            self.counts.flushes += not self._failing
        while not self._failing and (batch := self._next()) is not None:
            self._try(functools.partial(self._append, batch))
            if self._failing:
                self._put_back(batch)
        if due and not self._failing:
            self._verify()

    def _next(self) -> Batch | None:
        with self._lock:
            if not self._queue:
                return None
            batch = self._queue.popleft()
            self._waiting -= len(batch[0])
            self.counts.waiting = self._waiting
            return batch

    def _put_back(self, batch: Batch) -> None:
        with self._lock:
            self._queue.appendleft(batch)
            self._waiting += len(batch[0])
            self.counts.waiting = self._waiting

    def _append(self, batch: Batch) -> None:
        names, rows, now_ns = batch
        found = records(SNAPSHOT, len(rows))
        found[...] = rows
        self._writer.append(names, found, now_ns)
        made = self._writer.counts
        self.counts.written, self.counts.late = made["taken"], made["late"]
        self.counts.repeated, self.counts.refused = made["repeated"], made["refused"]

    def _try(self, work: Callable[[], object]) -> None:
        """Do it; a disk that fails is told and tried again at the next flush, and costs the features nothing. Until
        then snapshots wait, as many as may."""
        try:
            work()
        except (OSError, DolphinError) as error:
            self.counts.failures += 1
            self.counts.last_failure = " ".join(str(error).split())
            if not self._failing:
                self._tell(f"archive: cannot be written ({self.counts.last_failure}); trying again")
            self._failing = True
        else:
            if self._failing:
                self._tell("archive: written again")
            self._failing = False

    def _finish(self) -> None:
        self._failing = False
        self.drain()
        try:
            self._writer.__exit__(None, None, None)
        except (OSError, DolphinError) as error:
            self.counts.failures += 1
            self.counts.last_failure = " ".join(str(error).split())
            self._tell(f"archive: the last day is not finished ({self.counts.last_failure}); its pieces are kept")
        else:
            self._known = {}
            self._verify()

    def _days(self) -> dict[date, int]:
        """The finished days, with the time of their files."""
        try:
            days = BookArchive.open(self.folder).days
            return {day: day_path(self.folder, day).stat().st_mtime_ns for day in days}
        except (OSError, DolphinError):
            return {}

    def _verify(self) -> None:
        """Read the days again that were finished since the last look, and say what is wrong with them."""
        found = self._days()
        new = [day for day, stamp in found.items() if self._known.get(day) != stamp and day not in self._verified]
        self._known = found
        for day in new:
            try:
                rows = BookArchive.open(self.folder).read(day).rows
            except (OSError, DolphinError) as error:
                self.counts.failures += 1
                self.counts.last_failure = " ".join(str(error).split())
                self._tell(f"archive: {self.counts.last_failure}")
            else:
                self._verified.add(day)
                self.counts.days = [*self.counts.days[-30:], f"{day}"]
                self._tell(f"archive: {day} is finished and verified, {rows} snapshots")
