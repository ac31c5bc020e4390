"""Asset selection, IRP and ARS (SPEC §4): a profile worked by hand, every filter, properties, and the plain twin."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.layout import ASSET_BOOK, HISTORY, IRP_PRICES, Record, records
from dolphin.alpha.selection import (
    NO_LATENCY,
    Ranking,
    ars_nb,
    depth_adjusted_nb,
    efficiency_nb,
    new_ranking,
    rank_assets_nb,
)
from dolphin.core.codes import Direction, Drop
from tests.alpha.pieces import book, no_book, packed, ring
from tests.reference import selection_ref as twin
from tests.reference.markets import random_closes

pytestmark = pytest.mark.jit_off
near = pytest.approx
SHORT, LONG = Direction.SHORT, Direction.LONG
Prices = list[float]

# Fall by 1/64 a bar: every return 1/64 in the SHORT direction.
FALLING = [1000.0 - k / 64.0 for k in range(IRP_PRICES)]
RISING = [1000.0 + k / 64.0 for k in range(IRP_PRICES)]


def path(returns: list[float], start: float = 1000.0) -> Prices:
    """Prices whose SHORT returns are `returns`."""
    out = [start]
    for r in returns:
        out.append(out[-1] - r)
    return out


# SHORT returns −1, then (+2, −1) twenty-four times.
ZIGZAG = path([-1.0, *[2.0, -1.0] * 24])


def rank(
    columns: list[Prices],
    direction: Direction = SHORT,
    now: list[float] | None = None,
    books: list[Record] | None = None,
    **changes: Any,
) -> tuple[int, int, Ranking]:
    """(chosen, passed, ranking) over these price columns; `now` defaults to each column's last price."""
    history, counts = ring(columns)
    shelf = records(ASSET_BOOK, len(columns))
    for i, one in enumerate(books or []):
        shelf[i] = one
    work = new_ranking(len(columns))
    prices = np.array([column[-1] if column else math.nan for column in columns] if now is None else now)
    chosen, passed = rank_assets_nb(packed(direction, **changes), history, counts, prices, shelf, work)
    return chosen, passed, work


def drops(work: Ranking) -> list[Drop]:
    return [Drop(int(row.drop)) for row in work.profiles]


def test_a_profile_by_hand() -> None:
    chosen, passed, work = rank([ZIGZAG])
    row = work.profiles[0]
    # c = −1, 1, 0, 2, 1, 3, … 24, 23: mfe 24, mae 1, efficiency 24/(1 + 1e−6).
    assert row.efficiency == near(24.0 / 1.000001)
    assert row.alignment == near(24.0 / 49.0)
    # Mean 23/49; Σr² = 25·1 + 24·4 = 121; variance 121/49 − (23/49)² = 5400/2401.
    assert row.noise == near(5400.0 / 2401.0)
    # 10 % of 24 is 2.4; c first reaches 3 at the sixth return.
    assert row.latency == 6
    # 0.5·ln(1 + 23.999976) + 0.35·0.489796 − 0.15·2.2490629·1000 = 1.609437 + 0.171429 − 337.359434
    assert row.ars == near(-335.578568, abs=1e-6)
    assert (chosen, passed, row.action, Drop(int(row.drop))) == (0, 1, 1, Drop.KEPT)


def test_a_straight_fall_by_hand() -> None:
    _, _, work = rank([FALLING])
    row = work.profiles[0]
    # mfe 49/64 = 0.765625, mae 0; c reaches 0.0765625 at the fifth bar (5/64 = 0.078125); ln 765626 = 13.548449
    assert (row.efficiency, row.alignment, row.noise, row.latency) == (0.765625 / 1e-6, 1.0, 0.0, 5)
    assert row.ars == near(0.5 * 13.548449 + 0.35, abs=1e-6)


def test_pieces_by_hand() -> None:
    assert efficiency_nb(24.0, -1.0) == near(23.999976)
    assert efficiency_nb(24.0, 3.0) == near(24e6)  # a path that never falls has no adverse part
    assert efficiency_nb(0.0, -1.0) == 0.0
    assert efficiency_nb(-0.5, -1.0) == 0.0
    assert ars_nb(0.0, 1.0, 0.0) == near(0.35)
    assert ars_nb(math.e - 1.0, 0.0, 0.001) == near(0.5 - 0.15)


@pytest.mark.parametrize(
    ("dq", "share"),
    [
        (2.0, 0.10),
        (1.5, 0.10),
        (1.49, 0.05),
        (1.0, 0.05),
        (0.99, 0.0),
        (0.6, 0.0),
        (0.59, -0.05),
        (0.35, -0.05),
        (0.34, -0.10),
        (0.0, -0.10),
    ],
)
@pytest.mark.parametrize("score", [2.0, -2.0, 0.0])
def test_ob1(dq: float, share: float, score: float) -> None:
    assert depth_adjusted_nb(score, book(depth_quality=dq)) == near(score + abs(score) * share)
    assert depth_adjusted_nb(score, book(depth_quality=dq)) == score + abs(score) * twin.ob1_share(dq)
    assert depth_adjusted_nb(score, no_book()) == score


# --- filters, in their order ---


def late(rise: float = 0.001) -> Prices:
    """Twenty little adverse steps, then a fall: 10 % of it is reached after bar 20."""
    return path([-rise] * 20 + [0.5] * 29, 100.0)


@pytest.mark.parametrize(
    ("column", "now", "changes", "reason"),
    [
        (FALLING, None, {}, Drop.KEPT),
        (FALLING, math.nan, {}, Drop.NO_PRICE),
        (FALLING, 0.0, {}, Drop.NO_PRICE),
        (FALLING, -1.0, {}, Drop.NO_PRICE),
        (FALLING, math.inf, {}, Drop.NO_PRICE),
        (FALLING[:49], None, {}, Drop.SHORT_HISTORY),
        (path([60.0, -20.0] * 24 + [60.0], 1e5), None, {}, Drop.NOISE),  # ±40 about the mean: variance 1599
        (late(), None, {}, Drop.LATENCY),  # the first gain is at bar 21
        ([5.0] * IRP_PRICES, None, {}, Drop.LATENCY),  # asleep: no gain at all, latency 50
        # Nine gains of 1 in 49 (18 %) pay for tiny losses: direct still wins, but it is aligned too rarely.
        (path([1.0] * 9 + [-0.01] * 40), None, {}, Drop.ALIGNMENT),
        (path([1.0] * 20 + [-0.01] * 29), None, {}, Drop.MIN_IRP_ALIGNMENT),  # 20/49 = 41 % < 45 %
        (path([1.0] * 23 + [-0.01] * 26), None, {}, Drop.KEPT),  # 23/49 = 47 %
        (RISING, None, {}, Drop.WRONG_ACTION),
    ],
)
def test_filters(column: Prices, now: float | None, changes: dict[str, Any], reason: Drop) -> None:
    chosen, passed, work = rank([column], now=None if now is None else [now], **changes)
    assert drops(work) == [reason]
    assert (chosen, passed) == ((0, 1) if reason == Drop.KEPT else (-1, 0))


def test_noise_and_latency_limits_are_inclusive() -> None:
    # ±d about a mean of 0 in 49 returns: 24 pairs and one 0 more; variance d²·48/49 = 500 at d² = 510.41666…
    d = math.sqrt(500.0 * 49.0 / 48.0)
    _, _, work = rank([path([d, -d] * 24 + [0.0], 1e4)])
    assert work.profiles[0].noise == near(500.0)
    # One leap of 5, more than 10 % of the whole fall, at bar 20 and at bar 21.
    assert drops(rank([path([0.0] * 19 + [5.0] + [0.1] * 29)])[2]) == [Drop.KEPT]
    _, _, work = rank([path([0.0] * 20 + [5.0] + [0.1] * 28)])
    assert (work.profiles[0].latency, drops(work)) == (21, [Drop.LATENCY])
    assert rank([[5.0] * IRP_PRICES])[2].profiles[0].latency == NO_LATENCY


def test_depth_filter_and_its_limit() -> None:
    for dq, reason in ((0.19, Drop.BOOK_DEPTH), (0.20, Drop.KEPT)):
        assert drops(rank([FALLING], books=[book(depth_quality=dq)])[2]) == [reason]


# --- ranking ---


def test_the_highest_score_wins_and_equal_scores_keep_column_order() -> None:
    steeper = path([1.0 / 32.0] * 49)  # efficiency twice that of FALLING
    assert rank([FALLING, steeper, steeper])[:2] == (1, 3)
    assert rank([steeper, FALLING, steeper])[:2] == (0, 3)
    assert rank([RISING, FALLING, FALLING])[:2] == (1, 2)


def test_a_deep_book_can_change_the_ranking() -> None:
    steeper = path([1.0 / 32.0] * 49)
    deep, thin = book(depth_quality=2.0), book(depth_quality=0.3)
    assert rank([FALLING, steeper], books=[deep, thin])[0] == 0


def test_a_tie_of_the_two_directions_goes_to_the_regime_s() -> None:
    # A path and its mirror: returns symmetric about 0 in order, so direct and inverse differ only where they must.
    flat = [100.0] * IRP_PRICES
    assert rank([flat])[2].profiles[0].action == 1
    assert rank([flat], LONG)[2].profiles[0].action == 1


def test_relative_returns_divide_by_the_first_price() -> None:
    dear = path([8.0 * r for r in [-1.0, *[2.0, -1.0] * 24]], 8000.0)
    _, _, absolute = rank([ZIGZAG, dear])
    _, _, relative = rank([ZIGZAG, dear], irp_returns="relative")
    assert absolute.profiles[1].noise == near(64.0 * absolute.profiles[0].noise)
    assert relative.profiles[1].noise == near(relative.profiles[0].noise)
    assert relative.profiles[0].noise == near(5400.0 / 2401.0 / 1e6)
    assert relative.profiles[0].alignment == absolute.profiles[0].alignment


@given(st.integers(0, 2**32), st.integers(1, 5), st.sampled_from([SHORT, LONG]), st.booleans())
@settings(deadline=None, max_examples=25)
def test_selection_equals_the_twin(seed: int, n: int, direction: Direction, relative: bool) -> None:
    rng = np.random.default_rng(seed)
    drift = -0.3 if direction == SHORT else 0.3
    closes = random_closes(rng, n, 2 * HISTORY + 17, bad_rate=0.03, drift=drift)
    columns = [[float(p) for p in closes[:, a] if math.isfinite(p) and p > 0.0] for a in range(n)]
    depths = {a: float(rng.uniform(0.0, 2.0)) for a in range(n) if rng.random() < 0.5}
    shelf = [book(depth_quality=depths[a]) if a in depths else no_book() for a in range(n)]
    now = [float(p) for p in closes[-1]]
    kind = "relative" if relative else "absolute"
    want = twin.select(columns, now, int(direction), 0.45, relative, depths)
    chosen, passed, work = rank(columns, direction, now, shelf, irp_returns=kind)
    assert chosen == want.asset
    assert drops(work) == want.drops
    assert passed == want.drops.count(Drop.KEPT)
    for a, row in enumerate(work.profiles):
        if want.drops[a] in (Drop.NO_PRICE, Drop.SHORT_HISTORY):
            continue
        mine = twin.profile_asset(columns[a], int(direction), relative, depths.get(a))
        assert (row.ars, row.efficiency, row.alignment) == (mine.score, mine.irp.efficiency, mine.irp.alignment)
        assert (row.noise, row.latency) == (mine.irp.noise, mine.irp.latency)
        assert row.action == mine.action * int(direction)


@given(st.lists(st.integers(-64, 64), min_size=49, max_size=49))
@settings(deadline=None, max_examples=50)
def test_long_is_the_mirror_of_short(steps: list[int]) -> None:
    """On prices that are exact in binary, turning the market upside down turns SHORT into LONG, bit for bit."""
    down = path([s / 64.0 for s in steps])
    up = [2000.0 - p for p in down]
    _, _, short = rank([down], SHORT)
    _, _, long = rank([up], LONG)
    assert short.profiles.tobytes() == long.profiles.tobytes()
    row = short.profiles[0]
    assert 0.0 <= row.alignment <= 1.0
    assert row.noise >= 0.0
    assert 1 <= row.latency <= NO_LATENCY


def test_only_the_last_fifty_prices_count() -> None:
    wild = [3.0, 1e6, 1e-6, 7.0] * 40
    _, _, work = rank([[*wild, *FALLING]])
    _, _, plain = rank([FALLING])
    assert work.profiles.tobytes() == plain.profiles.tobytes()
