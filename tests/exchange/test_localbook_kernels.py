"""The book's kernels: by hand, and against the dictionary for any sequence of changes (SPEC §8)."""

from __future__ import annotations

import random
import struct
import zlib
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.core.records import records
from dolphin.exchange import depthlevels as levels
from dolphin.exchange.bands import band_checksum
from dolphin.exchange.localbook_cells import BookCells
from dolphin.exchange.localbook_kernels import edge_nb
from dolphin.exchange.localbook_layout import (
    ASK,
    BID,
    CROSSED,
    GOOD,
    ONE_SIDED,
    OUTRUN,
    RULES,
    THIN,
    Scratch,
    new_scratch,
)
from tests.reference.depth_ref import DictBook

pytestmark = pytest.mark.jit_off

FIELDS = ("bid_notional", "ask_notional", "bid_depth", "ask_depth")


def rules(price_digits: int = 1, tick_units: int = 1, lot_digits: int = 3, lot_units: int = 1):
    row = records(RULES, 1)[0]
    row.price_digits, row.tick_units, row.lot_digits, row.lot_units = price_digits, tick_units, lot_digits, lot_units
    return row


def read(text: str | bytes, how=None) -> tuple[int, list[int], list[int], int]:
    """(count or fault, ticks, lots, where) of a list of levels."""
    raw = text.encode() if isinstance(text, str) else text
    scratch = new_scratch(len(raw))
    scratch.text[:] = np.frombuffer(raw, np.int8)
    count = levels.levels_nb(
        scratch.text, 0, len(raw), how or rules(), scratch.ticks[0], scratch.lots[0], scratch.where
    )
    n = max(count, 0)
    return count, scratch.ticks[0, :n].tolist(), scratch.lots[0, :n].tolist(), int(scratch.where[0])


def test_levels_by_hand() -> None:
    assert read('[["58710.20","0.014"],["61496.5","10"]]')[:3] == (2, [587102, 614965], [14, 10000])
    assert read("[]")[:3] == (0, [], [])
    assert read(' [ [ "1" , "2.5000" ] ,\n["003.10000000","0"]\t] ')[:3] == (2, [10, 31], [2500, 0])
    assert read('[["100.25","7"]]', rules(2, 25, 0))[:3] == (1, [401], [7])  # ticks of 0.25
    assert read('[["120","70"]]', rules(0, 10, 0, 5))[:3] == (1, [12], [14])


@pytest.mark.parametrize(
    ("text", "fault", "at"),
    [
        ("", levels.BAD_LEVELS, 0),
        ("[", levels.BAD_LEVELS, 1),
        ("[]]", levels.BAD_LEVELS, 2),
        ('[["1","2"]', levels.BAD_LEVELS, 10),
        ('[["1","2"],]', levels.BAD_LEVELS, 11),
        ('[["1","2"]["1","2"]]', levels.BAD_LEVELS, 10),
        ('[["1"]]', levels.BAD_LEVELS, 5),
        ('[["1","2","3"]]', levels.BAD_LEVELS, 9),
        ("[[1,2]]", levels.BAD_LEVELS, 2),
        ('[["1","2"]] x', levels.BAD_LEVELS, 12),
        ('[["","2"]]', levels.BAD_NUMBER, 3),
        ('[[".5","2"]]', levels.BAD_NUMBER, 3),
        ('[["5.","2"]]', levels.BAD_NUMBER, 4),
        ('[["5.1.2","2"]]', levels.BAD_NUMBER, 6),
        ('[["+5","2"]]', levels.BAD_NUMBER, 3),
        ('[["5 ","2"]]', levels.BAD_NUMBER, 4),
        ('[["5","2', levels.BAD_NUMBER, 8),
        ('[["0.0","2"]]', levels.ZERO_PRICE, 7),
        ('[["-5","2"]]', levels.NEGATIVE, 3),
        ('[["5.25","2"]]', levels.OFF_TICK, 4),
        ('[["5","0.0001"]]', levels.OFF_LOT, 8),
        ('[["9999999999999999999999","2"]]', levels.TOO_LARGE, 21),
        ('[["1","4611686018427387.904"]]', levels.TOO_LARGE, 23),
        ('[["1","\u0661"]]', levels.BAD_NUMBER, 7),
    ],
)
def test_levels_that_are_not_sound(text: str, fault: int, at: int) -> None:
    found = read(text)
    assert (found[0], found[3]) == (fault, at)
    assert fault in levels.KINDS


numbers = st.decimals(Decimal("0.1"), Decimal("10000000"), places=1)
quantities = st.decimals(0, Decimal("10000000"), places=3)


@given(st.lists(st.tuples(numbers, quantities), max_size=20), st.integers(0, 4))
def test_any_decimal_is_read_exactly(pairs: list[tuple[Decimal, Decimal]], zeros: int) -> None:
    text = "[" + ",".join(f'["{p}{"0" * zeros}","{q}{"0" * zeros}"]' for p, q in pairs) + "]"
    count, ticks, lots, _ = read(text)
    assert count == len(pairs)
    assert ticks == [int(p * 10) for p, _ in pairs]
    assert lots == [int(q * 1000) for _, q in pairs]


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    count = read(b'[["1","2"]' + raw)[0]
    assert count >= 1 or count in levels.KINDS


@given(st.integers(2, 1 << 41), st.integers(0, 4))
def test_an_edge_is_the_farthest_tick_of_its_band(mid2: int, band: int) -> None:
    def percents(tick: int) -> Fraction:
        return abs(Fraction(2 * tick, mid2) - 1) * 100

    low, high = edge_nb(BID, band, mid2), edge_nb(ASK, band, mid2)
    assert percents(low - 1) >= band + 1
    assert percents(high + 1) >= band + 1
    # Where a tick is more than a per cent of the price, no bid below the mid may be in the band.
    assert 2 * low > mid2 or percents(low) < band + 1
    assert 2 * high < mid2 or percents(high) < band + 1


def test_a_level_at_the_bound_is_in_the_next_band() -> None:
    # Mid 1000 ticks: 990 is exactly 1 % away.
    assert (edge_nb(BID, 0, 2000), edge_nb(ASK, 0, 2000)) == (991, 1009)
    assert (edge_nb(BID, 4, 2000), edge_nb(ASK, 4, 2000)) == (951, 1049)
    assert edge_nb(BID, 0, 2001) == 991  # 1000.5: 1 % is 990.495


def put(cells: BookCells, ref: DictBook, scratch: Scratch, changes: list[tuple[int, int, int]]) -> int:
    """Changes (side, tick, lots) into both."""
    counts = [0, 0]
    for side, tick, lots in changes:
        scratch.ticks[side, counts[side]], scratch.lots[side, counts[side]] = tick, lots
        counts[side] += 1
        ref.sides[side].pop(tick, None)
        if lots:
            ref.sides[side][tick] = lots
    return cells.apply(*counts)


def begun(rng: random.Random, mid: int, tick: str, lot: str) -> tuple[BookCells, DictBook, Scratch]:
    scratch = new_scratch(1 << 16)
    cells, ref = BookCells("X", tick, lot, 0.06, scratch), DictBook(tick, lot)
    for side, sign in ((BID, -1), (ASK, 1)):
        ref.sides[side].update({mid + sign * rng.randrange(1, 120): rng.randrange(1, 10**6) for _ in range(30)})
        for i, (at, lots) in enumerate(ref.sides[side].items()):
            scratch.ticks[side, i], scratch.lots[side, i] = at, lots
    assert cells.begin(len(ref.sides[0]), len(ref.sides[1]), 1000, "X") == GOOD
    return cells, ref, scratch


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.sampled_from([("0.1", "0.001"), ("0.25", "0.5"), ("10", "20"), ("0.00001", "1")]))
def test_any_changes_give_the_dictionarys_bands(seed: int, sizes: tuple[str, str]) -> None:
    """The market wanders far: within the coverage the bands are exact, beyond it they are lower bounds."""
    rng = random.Random(seed)
    middle = rng.choice((300, 2000, 2000, 6000))
    cells, ref, scratch = begun(rng, middle, *sizes)
    seen = set()
    for _ in range(40):
        middle = max(middle + rng.choice((0, 0, 1, -1, 5, -20, 60, 200)), 200)
        changes = [(s, t, 0) for s in (0, 1) for t in ref.sides[s] if (t > middle - 3 if s == BID else t < middle + 3)]
        for side in (BID, ASK):
            for _ in range(rng.randrange(1, 12)):
                away = min(int(rng.expovariate(0.02)) + 1, middle - 1)
                changes.append(
                    (side, middle + (away if side == ASK else -away), rng.choice((0, 1, rng.randrange(10**7))))
                )
        standing = put(cells, ref, scratch, changes)
        seen.add(standing)
        if not (ref.sides[0] and ref.sides[1]) or standing not in (GOOD, THIN):
            continue  # outrun: a best price may be missing
        snapshot, (_, below, above) = cells.bands(1.0)
        got = np.array([snapshot[name] for name in FIELDS])
        want = np.array(ref.numbers()).reshape(4, 5)
        for row, coverage in enumerate((below, above, below, above)):
            whole = int(min(coverage * 100, 5))
            assert got[row, :whole].tolist() == want[row, :whole].tolist()
            assert (got[row] <= want[row]).all()
        assert cells.recounted().tobytes() == cells.core.tobytes()
    assert seen & {GOOD, THIN}


def test_how_a_book_stands() -> None:
    cells, ref, scratch = begun(random.Random(1), 2000, "0.1", "0.001")
    best = max(ref.sides[BID]), min(ref.sides[ASK])
    assert put(cells, ref, scratch, [(ASK, best[0], 1)]) == CROSSED
    assert put(cells, ref, scratch, [(ASK, best[0], 0)]) == GOOD
    assert cells.top() == (best[0], ref.sides[BID][best[0]], best[1], ref.sides[ASK][best[1]])
    assert put(cells, ref, scratch, [(BID, t, 0) for t in list(ref.sides[BID])]) == ONE_SIDED
    assert cells.top()[:2] == (0, 0)


def test_the_window_follows_the_market_and_the_coverage_tells() -> None:
    cells, ref, scratch = begun(random.Random(2), 5000, "0.1", "0.001")
    middle, size, standings = 5000, len(cells._bids), []
    for _ in range(60):
        put(cells, ref, scratch, [(BID, t, 0) for t in list(ref.sides[BID])])
        middle -= 20
        standings.append(put(cells, ref, scratch, [(ASK, middle + 10, 5), (BID, middle - 10, 5)]))
    assert standings[0] == GOOD
    assert THIN in standings
    assert standings[-1] == OUTRUN or cells.bands(0.0)[1][1] < 0.05
    assert cells.core.moved > 0
    assert len(cells._bids) == size, "memory stays what it was"
    assert cells.core.mid2 == 2 * middle
    low = cells.core.known[BID]
    assert low == cells.core.origin or low > 3000
    assert cells.bands(0.0)[1][1] < 0.05, "the market fell out of what the snapshot had covered"


def test_the_checksum_is_that_of_the_documented_bytes() -> None:
    cells, ref, _ = begun(random.Random(3), 2000, "0.1", "0.001")
    snapshot = cells.bands(12.5)[0]
    assert band_checksum(snapshot) == zlib.crc32(struct.pack("<21d", 12.5, *ref.numbers()))
    damaged = snapshot.copy()
    damaged.ask_depth[4] += 1e-9
    assert band_checksum(damaged) != band_checksum(snapshot)
