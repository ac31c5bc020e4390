"""How often a stream speaks, and whether it has been silent for too long by its own measure (SPEC §8, §23)."""

from __future__ import annotations

import msgspec

_WEIGHT = 1.0 / 16.0
_CLIP = 4.0
"""A gap counts for at most so many normal ones: one stall must not make the next go unnoticed."""

_ENOUGH = 8
"""Messages after which the normal gap is worth something."""


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """When a stream is late: `multiple` of its own normal gap, at least `floor_s`; `first_s` before it has spoken often
    enough to have one. A normal gap is at most `ceiling_s`."""

    multiple: float = 20.0
    floor_s: float = 3.0
    first_s: float = 30.0
    ceiling_s: float = 30.0


class Pulse:
    """One stream's beat; times are seconds of one clock that never goes back."""

    __slots__ = (
        "behind",
        "book",
        "count",
        "gap_s",
        "is_late",
        "last_s",
        "patience",
        "refused",
        "resubscribed",
        "retry_at_s",
        "stream",
        "subscribed",
        "symbol",
    )

    def __init__(self, stream: str, patience: Patience) -> None:
        self.stream = stream
        name, _, kind = stream.partition("@")
        self.symbol = name.upper()
        self.book = kind.startswith("depth")
        """Whether it carries changes of a book."""
        self.patience = patience
        self.gap_s = 0.0
        self.count = 0
        self.last_s = 0.0
        self.subscribed = False
        """Whether the venue has confirmed it on the connection that is read."""
        self.refused = ""
        """The venue's words, when it does not have the stream."""
        self.is_late = False
        """It was silent for too long, and has not spoken since."""
        self.behind = False
        """What it brings is old news: set by who decodes it."""
        self.resubscribed = 0
        self.retry_at_s = 0.0

    def beat(self, now_s: float) -> None:
        """It has spoken."""
        if self.count > 1:
            gap = now_s - self.last_s
            most = self.gap_s * _CLIP
            self.gap_s += ((gap if gap < most else most) - self.gap_s) * _WEIGHT
        elif self.count:
            self.gap_s = now_s - self.last_s
        # Two messages that came in one packet have next to no gap, and four times nothing never grows.
        if self.gap_s < 0.01:
            self.gap_s = 0.01
        elif self.gap_s > self.patience.ceiling_s:
            self.gap_s = self.patience.ceiling_s
        self.count += 1
        self.last_s = now_s
        self.is_late = False

    def begin(self, now_s: float) -> None:
        """It has been subscribed, anew or for the first time: its silence counts from now; its normal gap stays
        known."""
        self.last_s = now_s
        self.subscribed = True
        self.refused = ""
        self.behind = False

    def end(self) -> None:
        """It is subscribed no more, or its connection is gone."""
        self.subscribed = False

    @property
    def allowed_s(self) -> float:
        """How long it may be silent before it is late."""
        p = self.patience
        return p.first_s if self.count < _ENOUGH else max(p.floor_s, p.multiple * self.gap_s)

    def overdue(self, now_s: float) -> bool:
        """Whether it has been silent for too long on this connection; `is_late` remembers that until it speaks."""
        if not self.subscribed or now_s - self.last_s <= self.allowed_s:
            return False
        self.is_late = True
        return True
