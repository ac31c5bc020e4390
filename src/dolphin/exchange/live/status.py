"""What a live feed tells of itself, typed (SPEC §15)."""

from __future__ import annotations

import msgspec

from dolphin.exchange.live.streams import ConnectionStatus


class BookStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One symbol's book now."""

    symbol: str
    state: str  # SyncState
    trusted: bool  # it has a row in the cache: SYNCED, not late, not behind
    mid: float | None  # USD; None unless trusted
    spread_bps: float | None
    imbalance: float | None  # of the five bands, −1 to 1
    age_s: float | None  # since its stream spoke last; None before the first message
    gap_s: float  # its stream's normal interval
    late: bool
    behind: bool
    lag_ms: float | None  # from the venue's stamp of the newest message to its receipt, clocks compared
    synced_ns: int
    updated_ns: int
    update_id: int
    waiting_s: float  # for a snapshot; 0 when it waits for none
    resyncs: int  # snapshots that it has begun anew from, the first one included
    counts: dict[str, int]  # BookCounts
    refused: str  # the venue's words, when it does not have the stream


class LiveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A live feed now, or as it was when it ended."""

    running: bool
    failure: str  # why it ended, when nobody asked it to
    at_ns: int
    trusted: int  # books in the cache
    messages: int
    notices: int
    strays: int  # messages of streams that are not, or no more, read
    faults: dict[str, int]  # refused messages by kind (FaultKind)
    last_fault: str
    weight_used: int  # that may count against the venue's limit now
    weight_allowed: int  # a minute
    paused_s: float  # for how long the venue wants no request
    clock_offset_ms: float | None  # the venue's clock minus ours
    clock_uncertainty_ms: float | None
    waiting: int  # books that wait for a snapshot
    streams: dict[str, int]  # what happened to connections and streams
    requests: dict[str, int]
    snapshots: dict[str, int]
    last_problem: str
    connections: tuple[ConnectionStatus, ...]
    books: tuple[BookStatus, ...]
