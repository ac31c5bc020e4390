"""The layers around one replayed engine: circuit breaker, forewarner, survival stack, order book, as they are on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from dolphin.alpha.engine import NDAlphaEngine
from dolphin.alpha.layout import Record
from dolphin.market.archive import Archive
from dolphin.market.tables import ScanDay
from dolphin.research.books import BookReplay
from dolphin.research.circuit import DailyBreaker
from dolphin.research.survival import SurvivalReplay

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestSpec
    from dolphin.research.gate import DailyGate
    from dolphin.risk.forewarner import Report


@dataclass(frozen=True, eq=False)
class Layers:
    """What a spec turns on, read and checked; each serves one replay."""

    breaker: DailyBreaker | None
    gate: DailyGate | None
    survival: SurvivalReplay | None
    book: BookReplay | None = None

    @classmethod
    def of(cls, spec: BacktestSpec) -> Layers:
        """Read whatever `spec` names; raises DataError or ConfigError for what cannot be used."""
        whole = Archive.open(spec.data)
        archive = whole.select(spec.first, spec.last)
        breaker = gate = survival = book = None
        if spec.factors is not None:
            breaker = DailyBreaker(spec.factors, archive.days)
            breaker.learn_earlier(whole)
        if spec.forewarner is not None:
            from dolphin.research.gate import DailyGate  # scikit-learn takes a second to import

            gate = DailyGate(spec.forewarner, spec.params(), spec.direction())
        if spec.sensors is not None:
            survival = SurvivalReplay(spec.sensors, archive)
        if spec.book is not None:
            book = BookReplay(spec.book, archive)
        return cls(breaker, gate, survival, book)

    def attach(self, engine: NDAlphaEngine) -> None:
        """Let the engine ask them."""
        engine.set_acb(None if self.breaker is None else self.breaker.acb)
        if self.gate is not None:
            engine.set_mc_forewarner(self.gate.warner, self.gate.base)
        engine.set_survival(None if self.survival is None else self.survival.feed)
        if self.book is not None:
            self.book.attach(engine)

    def begin_day(self, scans: ScanDay) -> None:
        """Before the day's bars run."""
        if self.survival is not None:
            self.survival.begin_day(scans)

    def take(self, scans: ScanDay, events: Record, engine: NDAlphaEngine) -> None:
        """After the day's bars have run."""
        if self.breaker is not None:
            self.breaker.take(scans.day, engine.acb_answer)
        if self.gate is not None:
            boost = 1.0 if engine.acb_answer is None else engine.acb_answer["boost"]
            self.gate.take(scans.day, boost, cast("Report", engine.mc_report))
        if self.survival is not None:
            self.survival.take(scans, events)
        if self.book is not None:
            self.book.take(scans, events, engine)

    def notes(self) -> tuple[str, ...]:
        """What a reader must know."""
        parts = (self.breaker, self.gate, self.survival, self.book)
        return tuple(note for part in parts if part is not None for note in part.notes())
