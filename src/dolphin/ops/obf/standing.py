"""How the service stands at a frame: the phase it is in, and what it says of the book to the survival stack (SPEC §8,
§10). One answer for heartbeat, files and metrics."""

from __future__ import annotations

from dolphin.core.clock import NS_PER_S
from dolphin.grid.values import BookService
from dolphin.ops.obf.beat import Frame
from dolphin.ops.obf.breaker import Breaker, BreakerState
from dolphin.ops.obf.settings import ObfSettings
from dolphin.ops.obf.state import Cat3
from dolphin.ops.obf.words import cat3_of, live, service_value


class Standing:
    """`saved` are Cat3's inputs from before a restart; `breaker` is the publisher's present one, None without a grid.
    Any thread may ask."""

    def __init__(self, settings: ObfSettings, started_ns: int, saved: Cat3 | None = None) -> None:
        self.started_ns = started_ns
        self.breaker: Breaker | None = None
        self._settings, self._saved, self._was_live = settings, saved, False

    @property
    def file_only(self) -> bool:
        """Whether pushes do not reach the grid, so that the file is what to read."""
        return self.breaker is None or self.breaker.state is not BreakerState.CLOSED

    def phase(self, frame: Frame) -> tuple[str, str]:
        """What the service is up to, and why, in words."""
        if frame.stalled:
            return "degraded", f"stalled: no new snapshot for {self._settings.stall_s:g} s"
        if self.breaker is not None and self.breaker.state is not BreakerState.CLOSED:
            return "degraded", f"breaker {self.breaker.state}: files only"
        if live(frame):
            self._was_live = True
            return "running", ""
        warming = int(frame.warming.sum())
        detail = f"{warming} books warm up, {len(frame.assets) - warming} are not there"
        return ("degraded" if self._was_live else "starting"), detail

    def cat3(self, frame: Frame) -> tuple[Cat3, bool]:
        """Cat3's inputs, and whether they are those saved before the restart: for the first `hold_s`."""
        if self._saved is not None and frame.now_ns - self.started_ns < self._settings.hold_s * NS_PER_S:
            return self._saved, True
        return cat3_of(frame), False

    def service(self, frame: Frame) -> BookService:
        """What the survival stack reads."""
        cat3, held = self.cat3(frame)
        return service_value(frame, cat3, self.started_ns, held=held)
