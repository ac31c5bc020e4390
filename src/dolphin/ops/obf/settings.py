"""Every number that the service goes by, checked once (SPEC §8, §23)."""

from __future__ import annotations

import math

import msgspec

from dolphin.book.layout import CACHE_BARS, MAX_AGE_S
from dolphin.core.clock import NS_PER_S
from dolphin.core.errors import ConfigError


class ObfSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All in seconds but for `failures`, a count. Raises ConfigError for a number out of range."""

    cadence_s: float = 0.1
    """From beat to beat."""
    warm_up_s: float = 60.0
    """How long a book must have been synced before anything is made of it."""
    hold_s: float = 120.0
    """How long after the start the survival stack keeps its saved Cat3 (SPEC §10)."""
    stall_s: float = 30.0
    """Without a new snapshot of any asset for so long, the service is degraded."""
    max_age_s: float = MAX_AGE_S
    """A snapshot that is older says nothing; one that is further ahead of the clock is refused."""
    publish_s: float = 1.0
    """From heartbeat to heartbeat, and between two writings of the files in the cache folder."""
    save_s: float = 60.0
    """From one saved state to the next."""
    keep_s: float = 3600.0
    """A saved state that is older is not taken up."""
    archive_s: float = 5.0
    """From one recorded snapshot of an asset to its next; 5 is the length of a live bar."""
    flush_s: float = 30.0
    """How often the recorder writes down what it has."""
    failures: int = 5
    """Failed pushes in a row that open the breaker."""
    backoff_s: float = 1.0
    """How long the breaker stays open at first; twice as long after every failed probe."""
    backoff_cap_s: float = 60.0

    def __post_init__(self) -> None:
        """Refuse what no service could run with."""
        for name, least, most in (
            ("cadence_s", 0.001, 60.0),
            ("warm_up_s", 0.0, 86_400.0),
            ("hold_s", 0.0, 86_400.0),
            ("stall_s", 0.001, 86_400.0),
            ("max_age_s", 0.001, 3600.0),
            ("publish_s", 0.01, 3600.0),
            ("save_s", 0.01, 86_400.0),
            ("keep_s", 0.0, 86_400.0),
            ("archive_s", 0.001, 3600.0),
            ("flush_s", 0.01, 3600.0),
            ("failures", 1, 1_000_000),
            ("backoff_s", 0.001, 3600.0),
            ("backoff_cap_s", self.backoff_s, 86_400.0),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and least <= value <= most):
                raise ConfigError(f"obf: {name} {value:g}; expected {least:g} to {most:g}")

    @property
    def cadence_ns(self) -> int:
        """From beat to beat, nanoseconds."""
        return round(self.cadence_s * NS_PER_S)

    @property
    def max_stale_bars(self) -> int:
        """How many beats features stand in for missing ones: as long as a snapshot may be old, as far as the engine
        remembers."""
        return min(CACHE_BARS - 1, max(1, round(self.max_age_s / self.cadence_s)))
