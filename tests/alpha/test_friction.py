"""What a close costs and earns (SPEC §7, §23): by hand, by property, and against the plain twin."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dolphin.alpha.friction import blended_fee_nb, edge_nb, exit_slip_nb, settle_nb
from dolphin.alpha.layout import TRADE, Record
from dolphin.core.codes import Direction, ExitReason
from dolphin.core.params import EngineParams
from tests.alpha.pieces import directions, filled, held, packed
from tests.reference import friction_ref as twin

pytestmark = pytest.mark.jit_off
near = pytest.approx
CLOSING = [reason for reason in ExitReason if reason != ExitReason.NONE]
FORCED = {ExitReason.STOP_LOSS, ExitReason.HIBERNATE_HALT, ExitReason.SUBDAY_ACB_NORMALIZATION}


def settle(price: float, reason: ExitReason, draw: float, params: Record, **state: float) -> Record:
    trade = filled(TRADE)
    settle_nb(params, held(**state), price, int(reason), draw, trade)
    return trade


def test_fees_by_hand() -> None:
    assert blended_fee_nb(0.62) * 1e4 == near(3.14)  # 2·0.62 + 5·0.38 bps
    assert blended_fee_nb(0.50) * 1e4 == near(3.5)
    assert blended_fee_nb(1.0) == 0.0002
    assert blended_fee_nb(0.0) == 0.0005


@pytest.mark.parametrize("reason", CLOSING, ids=lambda r: r.name)
def test_slips(reason: ExitReason) -> None:
    assert exit_slip_nb(int(reason)) == (0.0005 if reason in FORCED else 0.0002) == twin.exit_slip(reason, True)


def test_a_short_round_trip_by_hand() -> None:
    # 25,000 USDT short from 1000, take-profit at 990; the draw 0.3745 is under 0.40.
    trade = settle(990.0, ExitReason.FIXED_TP, 0.3745, packed())
    assert trade.pnl_price == near(250.0)  # 1 % of 25,000
    assert trade.exit_price == near(990.198)  # 990·1.0002
    assert trade.slippage == near(0.65)  # (−0.198/1000 + 0.0002·0.62 + 0.0002·0.50)·25,000
    assert trade.modelled_edge == near(12.5)  # 5 bps
    assert trade.fees == near(-16.6)  # 3.14 + 3.5 bps, both on entry notional
    assert trade.funding == 0.0
    assert trade.net_pnl == near(246.55)


def test_a_long_stop_by_hand() -> None:
    trade = settle(950.0, ExitReason.STOP_LOSS, 0.40, packed(Direction.LONG))
    assert trade.pnl_price == near(-1250.0)
    assert trade.exit_price == near(949.525)  # 950·0.9995
    assert trade.slippage == near(-6.275)  # (−0.475/1000 + 0.000224)·25,000
    assert trade.modelled_edge == 0.0  # 0.40 is not below 0.40
    assert trade.net_pnl == near(-1250.0 - 6.275 - 16.6)


def test_no_friction_is_the_price_alone() -> None:
    off = packed(use_sp_fees=False, use_sp_slippage=False, use_ob_edge=False)
    trade = settle(990.0, ExitReason.STOP_LOSS, 0.0, off, book_usable=1, depth_quality=2.0, fill_probability=0.9)
    assert (trade.exit_price, trade.fees, trade.slippage, trade.modelled_edge) == (990.0, 0.0, 0.0, 0.0)
    assert trade.net_pnl == trade.pnl_price == near(250.0)


@pytest.mark.parametrize(
    ("usable", "dq", "draw", "bps"),
    [
        (1, 0.51, 0.99, 3.1),  # a book with depth: fill probability 0.62 · 5 bps, whatever the draw
        (1, 0.50, 0.0, 0.0),  # 0.5 is not above 0.5, and the draw does not stand in for a book
        (0, 9.0, 0.3999, 5.0),
        (0, 9.0, 0.4, 0.0),
    ],
)
def test_edge_by_hand(usable: int, dq: float, draw: float, bps: float) -> None:
    state = held(book_usable=usable, depth_quality=dq, fill_probability=0.62)
    assert edge_nb(packed(), state, draw) * 1e4 == near(bps)
    assert edge_nb(packed(use_ob_edge=False), state, draw) == 0.0


@given(
    directions,
    st.floats(0.01, 1e5),
    st.floats(0.01, 1e5),
    st.floats(0.0, 1e6),
    st.sampled_from(CLOSING),
    st.floats(0.0, 1.0, exclude_max=True),
    st.one_of(st.none(), st.tuples(st.floats(0.0, 2.0), st.floats(0.0, 1.0))),
    st.tuples(st.booleans(), st.booleans(), st.booleans()),
)
@settings(deadline=None, max_examples=200)
def test_settling_equals_the_twin(
    direction: Direction,
    price: float,
    entry: float,
    notional: float,
    reason: ExitReason,
    draw: float,
    placement: tuple[float, float] | None,
    flags: tuple[bool, bool, bool],
) -> None:
    switches = dict(zip(("use_sp_fees", "use_sp_slippage", "use_ob_edge"), flags, strict=True))
    dq, fill = placement or (9.0, 9.0)
    state = {"entry_price": entry, "notional_usd": notional, "book_usable": int(placement is not None)}
    trade = settle(price, reason, draw, packed(direction, **switches), depth_quality=dq, fill_probability=fill, **state)
    want = twin.trade_pnl(price, entry, int(direction), notional, reason, draw, placement, EngineParams(**switches))
    assert (trade.exit_price, trade.pnl_price, trade.slippage) == (want.exit_price, want.pnl_price, want.slippage)
    assert (trade.modelled_edge, trade.fees, trade.net_pnl) == (want.modelled_edge, want.fees, want.net_pnl)
    assert trade.net_pnl == trade.pnl_price + trade.slippage + trade.modelled_edge + trade.fees
    assert trade.fees <= 0.0 <= trade.modelled_edge
    assert int(direction) * (trade.exit_price - price) <= 0.0  # the slip is always against the trade
