"""The OBF service: a beat every 100 ms, and threads that take what it leaves (SPEC §8, §15, §22).

source ─▶ guards ─▶ OBFeatureEngine ─▶ frame ─┬─▶ Publisher   the grid, behind the breaker
  └────────── the beat: never waits ──────┘    ├─▶ Keeper      files of the cache folder, log lines
                                               └─▶ Recorder    day files of snapshots
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dolphin.book.payload import seconds_of
from dolphin.core.clock import Clock, ns_to_iso, system_clock_ns
from dolphin.core.errors import ConfigError, DolphinError
from dolphin.grid.port import Maps
from dolphin.ops.obf.beat import Beat, Frame
from dolphin.ops.obf.keeper import Keeper
from dolphin.ops.obf.metrics import Latencies, ObfMetrics
from dolphin.ops.obf.publisher import Publisher
from dolphin.ops.obf.recorder import Recorder
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.sources import BookSource, Counting
from dolphin.ops.obf.standing import Standing
from dolphin.ops.obf.state import Saved, read_state
from dolphin.ops.obf.words import live
from dolphin.ops.undisturbed import undisturbed

LINES = 1000
"""Lines of the log that may wait to be written."""
_NAP_S = 0.2
"""The longest sleep: a wish to stop is heard that soon."""
_DUE_S = 1e-6
"""A deadline as near as this is due."""


class ObfService:
    """Runs the loop over `source`; results go to `grid` (None: files only), the folder `cache`, and `archive` if given.

    `log` gets one line per thing worth telling, on a thread of its own. `clock` is UTC nanoseconds, `monotonic`
    seconds, `sleep` waits. What was saved in `cache` less than `keep_s` ago is gone on from. Raises ConfigError for a
    cache folder that cannot be written, an archive that is taken, or a source without assets.
    """

    def __init__(
        self,
        source: BookSource,
        cache: Path,
        *,
        grid: Maps | None = None,
        archive: Path | None = None,
        settings: ObfSettings | None = None,
        log: Callable[[str], None] = lambda line: None,
        clock: Clock = system_clock_ns,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.settings = settings if settings is not None else ObfSettings()
        self._clock, self._monotonic, self._sleep = clock, monotonic, sleep
        self.lines: deque[str] = deque(maxlen=LINES)
        self.lost_lines = self.skipped = 0
        self.latencies = Latencies()
        self._stopping = False
        self._parts: list[Publisher | Recorder | Keeper] = []
        self.source = source
        self.started_ns = clock()
        _usable(cache)
        saved, why = read_state(cache, self.started_ns, self.settings)
        self._tell(why if saved is None else f"going on from the state of {ns_to_iso(saved.saved_ns)}")
        self.beat = Beat(
            source, self.settings, self.started_ns, engine=None if saved is None else saved.engine, tell=self._tell
        )
        self.standing = Standing(self.settings, self.started_ns, None if saved is None else saved.cat3)
        self.publisher = (
            None
            if grid is None
            else Publisher(grid, self.settings, self.standing, clock, tell=self._tell, monotonic=monotonic)
        )
        self.recorder = (
            None if archive is None else Recorder(archive, self.settings, source=type(source).__name__, tell=self._tell)
        )
        self.keeper = Keeper(cache, self.settings.publish_s, self.standing, self.metrics, self.lines, log)
        self._saved_s = monotonic()

    def stop(self) -> None:
        """End the loop after its present beat; safe to call from a signal handler."""
        self._stopping = True

    def run(self, seconds: float | None = None) -> None:
        """Beat until `stop`, or for `seconds`; then write everything down and say goodbye. Raises DolphinError when one
        of its threads ended by itself."""
        self._parts = [part for part in (self.publisher, self.recorder, self.keeper) if part is not None]
        for part in self._parts:
            part.start()
        self._tell(f"started: {len(self.beat.assets)} assets, a beat every {self.settings.cadence_s * 1e3:g} ms")
        try:
            with undisturbed():
                self._loop(seconds)
        finally:
            self._tell(f"stopping after {self.beat.beats} beats, {self.skipped} skipped")
            self._close()

    def step(self) -> Frame:
        """One beat, handed over to everybody."""
        frame = self.beat.take(self._clock())
        if self.publisher is not None:
            self.publisher.offer(frame)
        if self.recorder is not None:
            self.recorder.offer(frame)
        self.keeper.newest = frame
        now_s = self._monotonic()
        if now_s - self._saved_s >= self.settings.save_s:
            self._saved_s = now_s
            self.keeper.save(self.state(frame))
        return frame

    def state(self, frame: Frame) -> Saved:
        """What to go on from after a restart."""
        return Saved(
            saved_ns=frame.now_ns,
            cadence_ns=self.settings.cadence_ns,
            cat3=self.standing.cat3(frame)[0],
            engine=self.beat.snapshot(),
        )

    def _loop(self, seconds: float | None) -> None:
        """Beats at their deadlines. A deadline that has passed when its turn comes is skipped and counted: a burst of
        beats that catch up would see the same books many times."""
        cadence = self.settings.cadence_s
        start = self._monotonic()
        turn = 0
        while not self._stopping:
            deadline = start + turn * cadence
            if seconds is not None and turn * cadence >= seconds:
                return
            if not self._wait_until(deadline):
                return
            self.step()
            for part in self._parts:
                if not part.alive:  # a defect: better started anew than half-alive
                    raise DolphinError(
                        f"obf: the {type(part).__name__.lower()} ended by itself; start the service again"
                    )
            now = self._monotonic()
            self.latencies.add(now - deadline)
            missed = max(0, int((now - deadline) / cadence))
            self.skipped += missed
            turn += 1 + missed

    def _wait_until(self, deadline: float) -> bool:
        """Sleep until then; false when the loop is to end before."""
        while (left := deadline - self._monotonic()) > _DUE_S:
            if self._stopping:
                return False
            self._sleep(min(left, _NAP_S))
        return not self._stopping

    def _close(self) -> None:
        frame = self.keeper.newest
        if self.publisher is not None and not self.publisher.close():
            self._tell("the grid hangs: the last heartbeat is not there")
        if self.recorder is not None and not self.recorder.close():
            self._tell("archive: still being written; what is not yet is kept in pieces")
        if frame is not None:
            self.keeper.save(self.state(frame))
        self.keeper.close()

    def _tell(self, line: str) -> None:
        self.lost_lines += len(self.lines) == LINES
        now_ns = self._clock()
        self.lines.append(f"{ns_to_iso(now_ns - now_ns % 1_000_000)} {line}")

    def last_metrics(self) -> ObfMetrics | None:
        """How it did, after `run`; None when there was no beat."""
        frame = self.keeper.newest
        return None if frame is None else self.metrics(frame, "stopped", "")

    def metrics(self, frame: Frame, phase: str, detail: str) -> ObfMetrics:
        """How the service does, as of a frame."""
        source, publisher = self.source, self.publisher
        counted = dict(source.counts()) if isinstance(source, Counting) else {}
        now_s, names = seconds_of(frame.now_ns), np.array(frame.assets)
        ages = (now_s - frame.last_s).round(3).tolist()
        return ObfMetrics(
            schema=1,
            phase=phase,
            detail=detail,
            pid=os.getpid(),
            started_at=ns_to_iso(self.started_ns),
            updated_at=ns_to_iso(frame.now_ns),
            timestamp=now_s,
            cadence_s=self.settings.cadence_s,
            beats=frame.beat,
            skipped=self.skipped,
            latency=self.latencies.summary(),
            assets=len(frame.assets),
            live=len(live(frame)),
            warming=names[frame.warming].tolist(),
            dark=names[frame.dark].tolist(),
            age_s={name: age if age < np.inf else None for name, age in zip(frame.assets, ages, strict=True)},
            snapshots=self.beat.snapshots,
            source=counted,
            crossed=counted.get("crossed", 0),
            stalls=self.beat.stalls,
            grown=self.beat.grown,
            breaker=None if publisher is None else publisher.breaker,
            pushes=None if publisher is None else publisher.counts,
            archive=None if self.recorder is None else self.recorder.counts,
            file_failures=self.keeper.failures,
            last_file_failure=self.keeper.last_failure,
            lost_lines=self.lost_lines,
        )


def _usable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written ({error.strerror}); choose another folder for --cache"
        ) from None
