"""One symbol's book, kept from a snapshot and the diffs after it; it says SYNCED only while it is right (SPEC §8).

It fetches nothing and reads no clock: messages and stamps come in, and `wants_snapshot` says when it needs one.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum, IntEnum
from typing import NamedTuple

from dolphin.book.payload import seconds_of
from dolphin.core.errors import ConfigError
from dolphin.exchange.bands import BookBands, band_checksum
from dolphin.exchange.depth import BookTicker, DepthDiff, DepthSnapshot
from dolphin.exchange.depthfaults import DepthError, FaultKind
from dolphin.exchange.localbook_cells import BookCells
from dolphin.exchange.localbook_layout import ASK, BID, GOOD, I8, MAX_UNITS, ONE_SIDED, OUTRUN, THIN, Scratch

PROOF = 10
"""Good updates in a row that end a doubt: a second of the 100 ms stream (decision 0041)."""

MAX_BUFFERED = 1024
"""Diffs kept while a snapshot is on its way, 100 s of the 100 ms stream; beyond it the oldest goes."""

MAX_AHEAD_MS = 60_000
"""A snapshot stamped later than this after its receipt is refused; a recorded clock was 1.3 s behind the venue's."""

MAX_SKEW_MS = 1_000
"""How much later than the snapshot a diff may have been made whose identifier is before the snapshot's."""


class SyncState(Enum):
    """How far a book is to be believed."""

    EMPTY = "empty"  # nothing was ever received
    BUFFERING = "buffering"  # diffs are kept, or a snapshot is held, until the two meet
    SYNCED = "synced"  # equal to the venue's book at `update_id`
    UNTRUSTED = "untrusted"  # it was crossed, one-sided or contradicted, and has not been proven since
    RESYNC = "resync"  # it was SYNCED, and a diff was lost or refused: waits for a snapshot as in BUFFERING


class Taken(Enum):
    """What became of a diff."""

    APPLIED = "applied"
    BUFFERED = "buffered"
    OLD = "old"  # a duplicate, or from before the snapshot; passed over
    GAP = "gap"  # a diff before it is missing; a new snapshot is wanted


class _Phase(IntEnum):
    WAITING = 0  # for a snapshot
    LOADED = 1  # a snapshot is in; the diff that follows it has not come
    JOINED = 2


@dataclass(slots=True)
class BookCounts:
    """What has happened to a book; each only grows."""

    applied: int = 0
    buffered: int = 0
    old: int = 0
    gaps: int = 0
    refused: int = 0  # diffs with levels that are not sound
    snapshots: int = 0
    snapshots_refused: int = 0
    forgotten: int = 0  # diffs that the buffer had no room for
    crossed: int = 0
    one_sided: int = 0
    contradicted: int = 0  # tickers at the same update that showed another best price
    confirmed: int = 0  # tickers at the same update that showed the same
    refreshed: int = 0  # snapshots from which a SYNCED book learned what lies farther out
    outrun: int = 0  # times that the best price left what is known
    finer: int = 0  # times that the units became finer, for levels off the tick or the lot


class _Held(NamedTuple):
    """A diff whose levels have been read, waiting for its turn."""

    diff: DepthDiff
    ts_ns: int
    ticks: tuple[I8, I8]  # bids, asks
    lots: tuple[I8, I8]


class LocalBook:
    """The order book of one symbol.

    `tick_size` and `lot_size` as the venue's filters write them; `reach` is the fraction of the price that is kept on
    either side. `scratch` may be shared by books that are fed from one thread. Raises ConfigError for sizes that are
    none. Memory is constant: two windows of ticks, and at most MAX_BUFFERED diffs.
    """

    def __init__(
        self,
        symbol: str,
        tick_size: str | Decimal,
        lot_size: str | Decimal,
        *,
        reach: float = 0.2,
        scratch: Scratch | None = None,
    ) -> None:
        if not 0.06 <= reach <= 0.5:
            raise ConfigError(f"{symbol}: reach {reach}; expected 0.06 to 0.5: the bands end at 0.05")
        self.symbol = symbol
        self.counts = BookCounts()
        self.update_id = 0
        self.event_ms = 0
        self.updated_ns = 0
        self.synced_ns = 0
        self._cells = BookCells(symbol, tick_size, lot_size, reach, scratch)
        self._sizes, self._reach = (tick_size, lot_size), reach
        self._shadow: LocalBook | None = None
        self._held: deque[_Held] = deque()
        self._phase = _Phase.WAITING
        self._transact_ms = 0
        self._snapshot_ms = 0
        self._was_synced = False
        self._doubt = 0  # good updates that are still to come
        self._one_sided = 0  # updates in a row

    @property
    def state(self) -> SyncState:
        """How far the book is to be believed now."""
        if self._doubt:
            return SyncState.UNTRUSTED
        if self._phase is _Phase.JOINED:
            return SyncState.SYNCED
        if self._was_synced:
            return SyncState.RESYNC
        return SyncState.BUFFERING if self._held or self._phase is _Phase.LOADED else SyncState.EMPTY

    @property
    def wants_snapshot(self) -> bool:
        """Whether the caller should fetch a snapshot. It may pace itself; diffs are kept meanwhile.

        Also of a SYNCED book, when the market nears the end of what its snapshot had shown.
        """
        return self._phase is _Phase.WAITING or (self._shadow is not None and self._shadow.wants_snapshot)

    @property
    def outside(self) -> int:
        """Changes beyond the window, dropped so far."""
        return int(self._cells.core.outside)

    @property
    def touch(self) -> tuple[float, float]:
        """Best bid and best ask at the last update, USD; 0 for a side without any."""
        usd = float(self._cells.rules.tick_usd)
        bid, ask = self._cells.core.best.tolist()
        return bid * usd, ask * usd

    def apply(self, diff: DepthDiff, ts_ns: int) -> Taken:
        """Take one diff, received at `ts_ns`.

        Raises DepthError for levels that are not sound: nothing of the diff is applied, and the book waits for a
        snapshot, because what the diff had to say is missing from it.
        """
        if self._phase is _Phase.WAITING:
            return self._keep(diff, ts_ns)
        taken = self._placed(diff)
        if taken is Taken.APPLIED:
            counts = self._read(diff)
            if self._is_waiting():  # the units have become finer, and the windows must follow
                self._hold(diff, ts_ns, *counts)
                return Taken.BUFFERED
            self._advance(diff, ts_ns, *counts)
            if self._shadow is not None:
                self._shadow.apply(diff, ts_ns)
                self._adopt(self._shadow)
        elif taken is Taken.GAP:
            self._lose()
            self.counts.gaps += 1
            self._keep(diff, ts_ns)
        else:
            self.counts.old += 1
        return taken

    def load(self, snapshot: DepthSnapshot, ts_ns: int, limit: int) -> None:
        """Begin anew from a snapshot of at most `limit` levels a side, received at `ts_ns`, and the diffs kept so far;
        or, when the book is SYNCED, learn from it what lies farther out.

        Raises DepthError, and changes nothing, for one that nobody waits for, that is from the future or older than the
        first diff kept, that is crossed, or whose levels are not sound.
        """
        try:
            if self._shadow is not None:
                self._shadow.load(snapshot, ts_ns, limit)
                self._adopt(self._shadow)
                self.counts.snapshots += 1
            else:
                self._load(snapshot, ts_ns, limit)
        except DepthError:
            self.counts.snapshots_refused += 1
            raise

    def check(self, ticker: BookTicker) -> bool | None:
        """Compare with a ticker: True when it confirms the best prices and quantities, None when it is of another
        update or there is nothing to compare. False: one of the two is wrong, so the book wants a snapshot and proof.

        Raises DepthError for a ticker whose numbers are not sound.
        """
        if self._phase is not _Phase.JOINED or ticker.update_id != self.update_id:
            return None
        shown = self._cells.read_top(ticker)
        if self._cells.finer != (1, 1):
            self._follow_units()
            return None
        if shown == self._cells.top():
            self.counts.confirmed += 1
            return True
        self.counts.contradicted += 1
        self._lose()
        self._doubt = PROOF
        return False

    def disconnect(self) -> None:
        """The stream has ended: what comes after it is another one, which may have a gap before its first diff."""
        self._lose()

    def bands(self) -> BookBands | None:
        """The five bands at the last update; None unless SYNCED."""
        if self.state is not SyncState.SYNCED:
            return None
        snapshot, (mid, below, above) = self._cells.bands(seconds_of(self.updated_ns))
        return BookBands(
            self.symbol,
            snapshot,
            self.update_id,
            self.event_ms,
            mid,
            band_checksum(snapshot),
            below,
            above,
            self.synced_ns,
        )

    def _read(self, diff: DepthDiff) -> tuple[int, int]:
        """Read the diff's levels into the scratch; a book that was following cannot go on after a fault."""
        try:
            found = self._cells.read(diff.bids, diff.asks, f"{self.symbol} u={diff.final_id}")
        except DepthError:
            self.counts.refused += 1
            self._lose()
            raise
        if self._cells.finer != (1, 1):
            self._follow_units()
        return found

    def _follow_units(self) -> None:
        """The units have just become finer: diffs that are kept follow, a book that follows the stream begins anew."""
        self.counts.finer += 1
        ticks, lots = self._cells.finer
        worth = MAX_UNITS // (ticks * lots)
        if any((item.lots[side] > worth // item.ticks[side]).any() for item in self._held for side in (BID, ASK)):
            self._held.clear()  # in these units they are worth more than can be counted
        for item in self._held:
            for side in (BID, ASK):
                item.ticks[side][:] *= ticks
                item.lots[side][:] *= lots
        if self._phase is not _Phase.WAITING:
            self._lose()

    def _placed(self, diff: DepthDiff) -> Taken:
        """Where a diff stands after what the book has: next, before, or with something missing between.

        The first after a snapshot is the one with pu ≤ lastUpdateId ≤ u (decision 0041); then each begins where the one
        before ended. An identifier before ours in a diff made later than ours is no duplicate: the venue has started
        to count anew, and what we have is of the old count.
        """
        if self._phase is _Phase.JOINED:
            if diff.previous_id == self.update_id:
                return Taken.APPLIED
            old = diff.final_id <= self.update_id and diff.transact_ms <= self._transact_ms
            return Taken.OLD if old else Taken.GAP
        if diff.final_id < self.update_id:
            return Taken.OLD if diff.transact_ms <= self._snapshot_ms + MAX_SKEW_MS else Taken.GAP
        return Taken.APPLIED if diff.previous_id <= self.update_id else Taken.GAP

    def _keep(self, diff: DepthDiff, ts_ns: int) -> Taken:
        """Put a diff into the buffer, which is always without a gap."""
        if self._held:
            last = self._held[-1].diff
            if diff.previous_id != last.final_id:
                if diff.final_id <= last.final_id and diff.transact_ms <= last.transact_ms:
                    self.counts.old += 1
                    return Taken.OLD
                self.counts.gaps += 1
                self._held.clear()
        self._hold(diff, ts_ns, *self._read(diff))
        return Taken.BUFFERED

    def _hold(self, diff: DepthDiff, ts_ns: int, n_bids: int, n_asks: int) -> None:
        if len(self._held) == MAX_BUFFERED:
            self._held.popleft()
            self.counts.forgotten += 1
        self._held.append(_Held(diff, ts_ns, *self._cells.copied(n_bids, n_asks)))
        self.counts.buffered += 1

    def _advance(self, diff: DepthDiff, ts_ns: int, n_bids: int, n_asks: int) -> None:
        """Apply the levels in the scratch, and judge what has become of the book."""
        standing = self._cells.apply(n_bids, n_asks)
        self._phase = _Phase.JOINED
        self.counts.applied += 1
        self.update_id, self.event_ms, self.updated_ns = diff.final_id, diff.event_ms, ts_ns
        self._transact_ms = diff.transact_ms
        if standing in (GOOD, THIN):
            if standing == THIN and self._shadow is None:
                self._begin_shadow()
            self._one_sided = 0
            self._doubt = max(self._doubt - 1, 0)
            if not self._doubt and not self.synced_ns:
                self.synced_ns, self._was_synced = ts_ns, True
            return
        if standing == OUTRUN:
            self.counts.outrun += 1
            self._lose()
            return
        self._doubt, self.synced_ns = PROOF, 0
        if standing == ONE_SIDED:
            self.counts.one_sided += 1
            self._one_sided += 1
            if self._one_sided % PROOF == 0:
                self._lose()
        else:
            self.counts.crossed += 1
            self._lose()

    def _lose(self) -> None:
        """Stop following: what is in the book is no longer the venue's."""
        self._phase = _Phase.WAITING
        self.synced_ns = 0
        self._held.clear()
        self._shadow = None

    def _is_waiting(self) -> bool:
        return self._phase is _Phase.WAITING

    def _begin_shadow(self) -> None:
        """A second book beside this one, which joins a snapshot while this one goes on: at the same update, all that it
        knows is taken over, and the levels farther out, which only diffs have shown, are kept."""
        self._shadow = LocalBook(self.symbol, *self._sizes, reach=self._reach, scratch=self._cells.scratch)
        self._shadow._cells.same_units(self._cells)

    def _adopt(self, shadow: LocalBook) -> None:
        if shadow.state is SyncState.SYNCED and shadow.update_id == self.update_id:
            if not self._cells.adopt(shadow._cells):
                self._cells = shadow._cells
                self.counts.finer += 1
            self.counts.refreshed += 1
            self._shadow = None

    def _load(self, snapshot: DepthSnapshot, ts_ns: int, limit: int) -> None:
        what = f"{self.symbol} snapshot {snapshot.last_id}"
        if self._phase is _Phase.JOINED:
            raise DepthError(FaultKind.UNASKED, f"{what}: nobody waits for it; the book follows the stream")
        if snapshot.event_ms > ts_ns // 1_000_000 + MAX_AHEAD_MS:
            ahead = snapshot.event_ms / 1e3 - ts_ns / 1e9
            raise DepthError(
                FaultKind.FROM_THE_FUTURE,
                f"{what}: stamped {ahead:.1f} s after its receipt; expected at most {MAX_AHEAD_MS / 1e3:.0f} s: check "
                "the clock",
            )
        if self._held and snapshot.last_id < self._held[0].diff.previous_id:
            first = self._held[0].diff.previous_id
            raise DepthError(FaultKind.TOO_OLD, f"{what}: expected {first} or later, where the kept diffs begin")
        n_bids, n_asks = self._cells.read(snapshot.bids, snapshot.asks, what)
        if self._cells.finer != (1, 1):
            self._follow_units()
        standing = self._cells.begin(n_bids, n_asks, limit, what)
        self._phase = _Phase.LOADED
        self._doubt = PROOF if self._doubt or standing == ONE_SIDED else 0
        self._one_sided = 0
        self.counts.snapshots += 1
        self.update_id, self.event_ms, self.updated_ns = snapshot.last_id, snapshot.event_ms, ts_ns
        self._transact_ms, self._snapshot_ms = snapshot.transact_ms, snapshot.event_ms
        held, self._held = self._held, deque()
        for item in held:
            self._again(item)

    def _again(self, item: _Held) -> None:
        """A diff that was kept, in its turn."""
        if self._phase is _Phase.WAITING:  # an earlier one of them has spoilt the book
            self._held.append(item)
            return
        taken = self._placed(item.diff)
        if taken is Taken.APPLIED:
            self._cells.put(item.ticks, item.lots)
            self._advance(item.diff, item.ts_ns, len(item.ticks[BID]), len(item.ticks[ASK]))
        elif taken is Taken.OLD:
            self.counts.old += 1
        else:
            self.counts.gaps += 1
            self._lose()
            self._held.append(item)
