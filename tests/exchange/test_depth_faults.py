"""A stream that is not what it should be: the book is never wrong while it says SYNCED, and comes back (SPEC §8).

The venue is the reference, going on diff by diff as recorded; what reaches the book was dropped, sent twice, swapped,
damaged or held up on the way, and so were the snapshots it asked for. Damage never puts a digit in place of another
byte: a number that became another number cannot be seen in the message, and it is TLS that rules it out.
"""

from __future__ import annotations

import functools
import json
import random
from collections import deque
from dataclasses import dataclass, field

import pytest

from dolphin.exchange.localbook import LocalBook, SyncState
from tests.exchange.streams import SIZES, SYMBOL, Message, is_diff, is_snapshot, new_books, recording
from tests.exchange.test_depth_recorded import numbers
from tests.reference.depth_ref import DictBook

DIFFS = 900
CALM = 60
"""Sound messages at the end, within which every book must have come back."""


@dataclass
class Venue:
    """What the venue had after each diff: bands of all, and a snapshot of some."""

    messages: list[Message] = field(default_factory=list)
    bands: dict[int, list[float]] = field(default_factory=dict)
    rest: dict[int, bytes] = field(default_factory=dict)
    narrow: dict[int, bytes] = field(default_factory=dict)
    tops: dict[int, tuple[int, int, int, int]] = field(default_factory=dict)


SNAPSHOT_EVERY = 10
NARROW = 50
"""Levels a side, so few that the market soon leaves them behind."""


@functools.cache
def venue() -> Venue:
    """The recorded diffs from the snapshot on, and the truth at each."""
    found, truth, before = Venue(), DictBook(*SIZES), []
    for message in recording():
        if is_snapshot(message):
            truth.load(json.loads(message.raw))
            for data in before:
                if data["u"] >= truth.update_id:
                    truth.apply(data)
        elif is_diff(message):
            data = json.loads(message.raw)["data"]
            if not truth.update_id:
                before.append(data)
                continue
            truth.apply(data)
            if len(found.messages) % SNAPSHOT_EVERY == 0:
                found.rest[len(found.messages)] = truth.rest()
                found.narrow[len(found.messages)] = truth.rest(NARROW)
            found.messages.append(message)
            found.bands[truth.update_id] = truth.numbers()
            bid, ask = truth.top()
            found.tops[truth.update_id] = (bid, truth.sides[0][bid], ask, truth.sides[1][ask])
            if len(found.messages) == DIFFS:
                return found
    raise AssertionError("the recording is shorter than it was")


@dataclass(frozen=True)
class Faults:
    """How often, per message, and of what kind."""

    drop: float = 0.0
    twice: float = 0.0
    swap: float = 0.0
    damage: float = 0.0
    hold: float = 0.0
    slow_snapshots: int = 0
    """Diffs that may pass between asking for a snapshot and its arrival."""
    bad_snapshots: float = 0.0


KINDS = {
    "drop": Faults(drop=0.01),
    "twice": Faults(twice=0.05),
    "swap": Faults(swap=0.01),
    "damage": Faults(damage=0.01),
    "hold": Faults(hold=0.01),
    "slow": Faults(drop=0.005, slow_snapshots=40),
    "bad snapshots": Faults(drop=0.01, bad_snapshots=0.5, slow_snapshots=10),
    "all": Faults(0.004, 0.02, 0.004, 0.004, 0.004, 25, 0.3),
}


def damaged(raw: bytes, rng: random.Random) -> bytes:
    """The message cut short, or with a few bytes that are no digits."""
    if rng.random() < 0.2:
        return raw[: rng.randrange(len(raw))]
    body = bytearray(raw)
    for _ in range(rng.choice((1, 1, 1, 5))):
        at = rng.randrange(len(body)) if rng.random() < 0.5 else rng.randrange(min(160, len(body)))
        body[at] = rng.choice([c for c in range(256) if not 48 <= c <= 57 and c != body[at]])
    return bytes(body)


def spoilt(clean: list[Message], faults: Faults, rng: random.Random) -> list[tuple[int, Message]]:
    """(index of the newest diff that the venue has made by then, what arrives) in order of arrival."""
    out: list[tuple[int, Message]] = []
    held: deque[tuple[int, Message]] = deque()
    for i, message in enumerate(clean):
        while held and held[0][0] <= i:
            out.append((i, held.popleft()[1]))
        chance = rng.random
        if chance() < faults.drop:
            continue
        if chance() < faults.hold:
            held.append((i + rng.randrange(1, 30), message))
            held = deque(sorted(held, key=lambda item: item[0]))
            continue
        if chance() < faults.damage:
            message = Message(message.ts_ns, damaged(message.raw, rng))
        out.append((i, message))
        if chance() < faults.twice:
            held.append((i + rng.choice((0, 0, 1, 5)), message))
            held = deque(sorted(held, key=lambda item: item[0]))
        if chance() < faults.swap and len(out) > 1:
            out[-1], out[-2] = out[-2], out[-1]
    return out


class Keeper:
    """Fetches what the book asks for, as slowly and as badly as told."""

    def __init__(self, faults: Faults, rng: random.Random) -> None:
        self.faults, self.rng = faults, rng
        self.due: tuple[int, int] | None = None  # (when it arrives, of which diff)

    def attend(self, book: LocalBook, now: int, deliver) -> None:
        wait = self.rng.randrange(self.faults.slow_snapshots + 1)
        if book.wants_snapshot and self.due is None:
            # Made at any time between asking and arriving, and sometimes an old one out of a cache.
            made = now + self.rng.randrange(wait + 1) - self.rng.choice((0, 0, 0, 20, 200))
            self.due = (now + wait, max(made, 0) // SNAPSHOT_EVERY * SNAPSHOT_EVERY)
        if self.due and self.due[0] <= now:
            body = venue().rest[min(self.due[1], DIFFS - SNAPSHOT_EVERY)]
            bad = self.rng.random() < self.faults.bad_snapshots
            deliver(damaged(body, self.rng) if bad else body)
            self.due = None


def agreed(book: LocalBook, newest: Message) -> bool:
    """Whether the book says SYNCED; then its bands must be the venue's at the update that it names."""
    bands = book.bands()
    assert (bands is not None) == (book.state is SyncState.SYNCED)
    if bands is None:
        return False
    expected = venue().bands.get(bands.update_id)
    if expected is None:  # a damaged identifier: the content is still that of the diff just taken
        whole = next(m for m in venue().messages if m.ts_ns == newest.ts_ns)
        expected = venue().bands[json.loads(whole.raw)["data"]["u"]]
    assert numbers(bands.snapshot) == expected
    return True


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", KINDS)
def test_never_wrong_while_synced_and_back_afterwards(kind: str, seed: int) -> None:
    faults, rng = KINDS[kind], random.Random(f"{kind} {seed}")
    clean = venue().messages
    books, book = new_books()
    arriving = spoilt(clean[: DIFFS - CALM], faults, rng) + list(enumerate(clean))[DIFFS - CALM :]
    keeper, synced, lost, was = Keeper(faults, rng), 0, 0, False
    for i, message in arriving:
        if i == DIFFS - CALM:
            keeper = Keeper(Faults(), rng)
        books.feed(message.raw, message.ts_ns)
        now = agreed(book, message)
        lost += was and not now
        keeper.attend(book, i, lambda body: books.feed_snapshot(SYMBOL, body, message.ts_ns, 20_000))  # noqa: B023
        was = agreed(book, message)
        synced += was
    assert book.state is SyncState.SYNCED, "sound messages and a snapshot bring every book back"
    assert book.update_id == max(venue().bands)
    assert book._cells.recounted().tobytes() == book._cells.core.tobytes()
    assert synced > 0.2 * DIFFS
    if kind == "twice":
        assert lost == 0
        assert book.counts.old > 20
    else:
        assert lost >= 2, "the faults were felt"
        assert book.counts.snapshots > lost - 1
    if kind in ("damage", "all"):
        assert books.faults.total() >= 2


@pytest.mark.parametrize("seed", range(6))
def test_the_best_prices_are_right_whatever_the_snapshots_leave_out(seed: int) -> None:
    """Snapshots of fifty levels: what lies farther out is missing, until the book asks for it; never at the top."""
    rng = random.Random(seed)
    faults = Faults(drop=0.004, swap=0.002)
    synced, (books, book) = 0, new_books()
    for i, message in spoilt(venue().messages, faults, rng):
        books.feed(message.raw, message.ts_ns)
        if book.wants_snapshot and rng.random() < 0.5:
            made = min(max(i - rng.choice((0, 0, 5, 50)), 0) // SNAPSHOT_EVERY * SNAPSHOT_EVERY, DIFFS - SNAPSHOT_EVERY)
            books.feed_snapshot(SYMBOL, venue().narrow[made], message.ts_ns, NARROW)
        if book.state is SyncState.SYNCED:
            synced += 1
            assert book._cells.top() == venue().tops[book.update_id]
            got, true = numbers(book.bands().snapshot), venue().bands[book.update_id]
            assert all(mine <= theirs for mine, theirs in zip(got, true, strict=True)), "lower bounds"
    assert synced > 0.2 * DIFFS
    assert book.counts.refreshed >= 1
    assert book._cells.recounted().tobytes() == book._cells.core.tobytes()


@pytest.mark.parametrize("seed", range(40))
def test_no_damage_whatever_ends_the_loop(seed: int) -> None:
    """Any bytes, digits too: refused or taken, never an exception, and memory stays what it was."""
    rng = random.Random(seed)
    books, book = new_books()
    books.feed_snapshot(SYMBOL, venue().rest[0], venue().messages[0].ts_ns, 20_000)
    for message in venue().messages[:40]:
        body = bytearray(message.raw)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(body))
            what = rng.randrange(3)
            if what == 0:
                body[at] = rng.randrange(256)
            elif what == 1:
                del body[at : at + rng.choice((1, 1, 10))]
            else:
                body[at:at] = body[at : at + 5]
        books.feed(bytes(body), message.ts_ns)
        if book.wants_snapshot and rng.random() < 0.3:
            books.feed_snapshot(SYMBOL, venue().rest[30], message.ts_ns, 20_000)
        book.bands()
    assert book._cells.recounted().tobytes() == book._cells.core.tobytes()
