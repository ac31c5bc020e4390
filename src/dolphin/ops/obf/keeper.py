"""The files of the cache folder and the lines of the log, on a thread of their own (SPEC §8)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from dolphin.ops.obf.beat import Frame
from dolphin.ops.obf.featuresfile import features_file, write_features, write_schema
from dolphin.ops.obf.metrics import ObfMetrics, write_metrics
from dolphin.ops.obf.standing import Standing
from dolphin.ops.obf.state import Saved, write_state
from dolphin.ops.obf.worker import Worker

Measure = Callable[[Frame, str, str], ObfMetrics]
"""Gives the metrics as of a frame, in a phase, with its detail."""


class Keeper(Worker):
    """Writes features and metrics every `period_s`, a state when it is given one, and hands `lines` to `log`.

    A disk that fails is counted, told once, and tried again; the beat goes on.
    """

    def __init__(
        self,
        folder: Path,
        period_s: float,
        standing: Standing,
        measure: Measure,
        lines: deque[str],
        log: Callable[[str], None],
    ) -> None:
        self._folder, self._period_s, self._standing = folder, period_s, standing
        self._measure, self._lines, self._log = measure, lines, log
        self.newest: Frame | None = None
        self.failures, self.last_failure = 0, ""
        self._failing = False
        self._state: Saved | None = None
        self._stop = threading.Event()
        super().__init__("keeper")

    def save(self, saved: Saved) -> None:
        """Have the state written at the next turn; a newer one takes its place."""
        self._state = saved

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write everything once more, with phase `stopped`; false when that took longer than `timeout_s`."""
        self._stop.set()
        return self._ended_within(timeout_s)

    def _run(self) -> None:
        self._try(lambda: write_schema(self._folder))
        while not self._stop.wait(self._period_s):
            self.write()
        self.write(stopped=True)

    def write(self, *, stopped: bool = False) -> None:
        """One turn: the state if there is a new one, features, metrics, log lines."""
        state, self._state = self._state, None
        if state is not None:
            self._try(lambda: write_state(self._folder, state))
        frame = self.newest
        if frame is not None:
            phase, detail = ("stopped", "") if stopped else self._standing.phase(frame)
            service, file_only = self._standing.service(frame), self._standing.file_only
            self._try(lambda: write_features(self._folder, features_file(frame, service, phase, file_only=file_only)))
            self._try(lambda: write_metrics(self._folder, self._measure(frame, phase, detail)))
        while self._lines:
            self._log(self._lines.popleft())

    def _try(self, work: Callable[[], object]) -> None:
        try:
            work()
        except OSError as error:
            self.failures += 1
            self.last_failure = f"{self._folder}: cannot be written ({error.strerror})"
            if not self._failing:
                self._log(self.last_failure)
            self._failing = True
        else:
            self._failing = False
