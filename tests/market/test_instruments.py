"""Instruments and tables of them: exact rounding, refusals, identity, the bundled table against recorded prices."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from typing import Any

import msgspec
import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.market.instrumentfiles import bundled_instruments, load_instruments
from dolphin.market.instruments import Instrument, InstrumentTable
from dolphin.market.synthetic_universe import MAX_ASSETS, universe
from tests.support.shared import recorded

FIAT = {"EURUSDT", "GBPUSDT", "AUDUSDT"}


def instrument(**changes: Any) -> Instrument:
    values: dict[str, Any] = {
        "symbol": "ABCUSDT",
        "base": "ABC",
        "quote": "USDT",
        "tick": Decimal("0.01"),
        "lot": Decimal("0.1"),
        "min_qty": Decimal("0.1"),
        "max_qty": Decimal(1000),
        "min_notional": Decimal(5),
        "max_leverage": 20,
        "maint_margin": Decimal("0.025"),
    }
    return Instrument(**values | changes)


# --- rounding


@pytest.mark.parametrize(
    ("lot", "qty", "expected"),
    [
        ("0.1", 0.3, "0.3"),  # the float lies below 0.3, and still is three lots
        ("0.1", 0.39999, "0.3"),
        ("0.1", 0.1 + 0.2, "0.3"),
        ("0.1", 0.7 + 0.1, "0.7"),  # 0.7999999999999999: sums are the caller's, who keeps them as decimals
        ("0.001", Decimal("0.0019999999999999999999999"), "0.001"),
        ("1", 0.999, "0"),
        ("5", 14.0, "10"),
        ("10", 129.9, "120"),
        ("0.25", 0.8, "0.75"),
        ("0.00010", 1e-4, "0.0001"),
    ],
)
def test_quantities_round_down_to_whole_lots(lot: str, qty: float | Decimal, expected: str) -> None:
    one = instrument(lot=Decimal(lot), min_qty=Decimal(lot))
    got = one.round_qty_down(qty)
    assert str(got) == f"{Decimal(expected):.{one.qty_decimals}f}"


@pytest.mark.parametrize(
    ("tick", "price", "nearest", "down", "up"),
    [
        ("0.01", 100.005, "100.00", "100.00", "100.01"),  # a tie goes to the even tick
        ("0.01", 100.015, "100.02", "100.01", "100.02"),
        ("0.1", 67000.1, "67000.1", "67000.1", "67000.1"),
        ("0.5", 1.3, "1.5", "1.0", "1.5"),
        ("10", 26.0, "30", "20", "30"),
        ("0.0000001", 1.23e-05, "0.0000123", "0.0000123", "0.0000123"),
    ],
)
def test_prices_round_to_the_tick(tick: str, price: float, nearest: str, down: str, up: str) -> None:
    one = instrument(tick=Decimal(tick))
    assert [str(one.round_price(price)), str(one.round_price(price, "down")), str(one.round_price(price, "up"))] == [
        nearest,
        down,
        up,
    ]


STEPS = st.sampled_from(["1E+1", "5", "1", "0.5", "0.25", "0.1", "0.010", "0.001", "0.00001", "1E-8"]).map(Decimal)


@given(STEPS, st.floats(0, 1e12))
def test_any_quantity_rounds_as_the_definition_says(lot: Decimal, qty: float) -> None:
    one = instrument(lot=lot, min_qty=lot, max_qty=Decimal(10**9))
    got = one.round_qty_down(qty)
    exact, step = Fraction(repr(qty)), Fraction(lot)
    assert Fraction(got) % step == 0
    assert 0 <= exact - Fraction(got) < step
    assert one.round_qty_down(got) == got
    assert one.round_qty_down(float(got)) == got or abs(got) > 10**15 * lot  # floats tell lots apart up to there
    assert got.as_tuple().exponent == -one.qty_decimals


@given(STEPS, st.floats(1e-6, 1e12))
def test_any_price_rounds_as_the_definition_says(tick: Decimal, price: float) -> None:
    one = instrument(tick=tick)
    price += float(tick)  # never rounds to 0
    exact, step = Fraction(repr(price)), Fraction(tick)
    down, near, up = (Fraction(one.round_price(price, how)) for how in ("down", "nearest", "up"))
    assert down <= exact <= up
    assert up - down in (0, step)
    assert abs(near - exact) <= step / 2
    assert near in (down, up)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0, Decimal("NaN"), Decimal("Infinity"), 1e300])
def test_what_is_no_number_is_not_rounded(bad: float | Decimal) -> None:
    with pytest.raises(DataError, match="ABCUSDT: quantity is"):
        instrument().round_qty_down(bad)
    with pytest.raises(DataError, match="ABCUSDT: price is"):
        instrument().round_price(bad)


def test_a_price_below_the_tick_never_becomes_zero() -> None:
    with pytest.raises(DataError, match="no whole tick"):
        instrument().round_price(0.004)
    with pytest.raises(DataError, match="no whole tick"):
        instrument().round_price(0.009, "down")
    assert instrument().round_price(0.004, "up") == Decimal("0.01")


def test_decimals_do_not_count_trailing_zeros() -> None:
    one = instrument(tick=Decimal("0.00010"), lot=Decimal("1E+1"), min_qty=Decimal(10))
    assert (one.price_decimals, one.qty_decimals) == (4, 0)


# --- refusals


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"tick": Decimal(0)}, "ABCUSDT: tick is 0; expected a number above 0"),
        ({"tick": Decimal("NaN")}, "ABCUSDT: tick is NaN; expected a number above 0"),
        ({"tick": Decimal("1E-999999")}, "ABCUSDT: tick is 1E-999999; expected a number above 0"),
        ({"lot": Decimal(-1)}, "ABCUSDT: lot is -1; expected a number above 0"),
        ({"max_qty": Decimal("Infinity")}, "ABCUSDT: max_qty is Infinity; expected a number above 0"),
        ({"min_notional": Decimal(-5)}, "ABCUSDT: min_notional is -5; expected a number of at least 0"),
        ({"min_qty": Decimal(2000)}, "ABCUSDT: min_qty is 2000; expected at most max_qty, 1000"),
        ({"lot": Decimal(2000)}, "ABCUSDT: lot is 2000; expected at most max_qty, 1000"),
        ({"taker_fee": Decimal("0.05")}, "ABCUSDT: taker_fee is 0.05; expected a fraction up to 0.01"),
        ({"max_leverage": 0}, "ABCUSDT: max_leverage is 0; expected 1 to 1000"),
        ({"maint_margin": Decimal("0.05")}, "ABCUSDT: maint_margin is 0.05; expected above 0 and below 1/max_leverage"),
        ({"base": "a b"}, "ABCUSDT: base is 'a b'; expected capitals"),
    ],
)
def test_what_cannot_be_traded_with_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError) as caught:
        instrument(**changes)
    assert said in str(caught.value)


def test_no_fees_are_legal() -> None:
    assert instrument(maker_fee=Decimal(0), taker_fee=Decimal(0), min_notional=Decimal(0)).maker_fee == 0


# --- tables


def table_of(*ones: Instrument, left_out: dict[str, str] | None = None) -> InstrumentTable:
    bundled = bundled_instruments()
    return InstrumentTable(bundled.as_of, "a source", {one.symbol: one for one in ones}, left_out or {})


def test_select_keeps_the_order_asked_for() -> None:
    a, b = instrument(symbol="AUSDT"), instrument(symbol="BUSDT")
    table = table_of(a, b)
    assert table.select(["BUSDT", "AUSDT"]) == (b, a)
    assert (table["AUSDT"], table.get("BUSDT"), table.get("CUSDT"), len(table), list(table)) == (a, b, None, 2, [a, b])


def test_one_error_names_all_that_are_missing_and_why() -> None:
    table = table_of(instrument(symbol="AUSDT"), left_out={"OLDUSDT": "status is SETTLING, expected TRADING"})
    with pytest.raises(DataError) as caught:
        table.select(["AUSDT", "YUSDT", "OLDUSDT", "XUSDT", "YUSDT"])
    assert str(caught.value) == (
        "a source (as of 2025-06-15): no instrument YUSDT, XUSDT; OLDUSDT cannot be used (status is SETTLING, expected "
        "TRADING); give --instruments FILE with an exchangeInfo that has them, or drop the assets"
    )


def test_the_identity_is_that_of_the_values() -> None:
    a, b = instrument(symbol="AUSDT"), instrument(symbol="BUSDT")
    base = table_of(a, b).identity()
    assert len(base) == 16
    assert table_of(b, a).identity() == base
    assert table_of(msgspec.structs.replace(a, tick=Decimal("0.0100"), origin="elsewhere"), b).identity() == base
    changes: list[dict[str, Any]] = [
        *({name: Decimal("0.2")} for name in ("tick", "lot", "min_qty", "max_qty", "min_notional")),
        *({name: Decimal("0.001")} for name in ("maker_fee", "taker_fee", "maint_margin")),
        *({"max_leverage": 21}, {"base": "AA"}, {"quote": "USDC"}),
    ]
    seen = {table_of(msgspec.structs.replace(a, **change), b).identity() for change in changes}
    assert len(seen | {base}) == len(changes) + 1


# --- the bundled table


def test_the_bundled_table_covers_the_synthetic_market_on_its_ticks() -> None:
    names = universe(48)
    for one, decimals in zip(bundled_instruments().select(names.assets), names.decimals, strict=True):
        assert Decimal(1).scaleb(-int(decimals)) % one.tick == 0, one.symbol
    assert any(name.startswith("SYN") for name in universe(MAX_ASSETS).assets)  # made-up names have no instrument


def test_the_bundled_table_is_sound_and_says_where_each_row_is_from() -> None:
    table = load_instruments(None)
    assert table is bundled_instruments()
    assert not table.left_out
    assert len(table) > 140
    for one in table:
        assert one.symbol == one.base + "USDT"
        assert one.min_qty == one.lot
        assert one.origin.startswith("tick ")
        assert (one.maker_fee, one.taker_fee) == (Decimal("0.0002"), Decimal("0.0005"))
        assert one.max_qty % one.lot == 0


def closes_of(name: str) -> dict[str, np.ndarray]:
    columns: dict[str, list[np.ndarray]] = {}
    for path in sorted(recorded(name).glob("*.parquet")):
        table = pq.read_table(path)
        for column in table.column_names:
            if column != "timestamp" and column not in FIAT:
                columns.setdefault(column, []).append(table.column(column).to_numpy())
    found = {}
    for column, parts in columns.items():
        values = np.concatenate(parts)
        found[column] = np.unique(values[np.isfinite(values) & (values > 0)])
    return found


def off_tick(one: Instrument, closes: np.ndarray) -> np.ndarray:
    """How far each close lies off its tick, relative to the close."""
    tick = float(one.tick)
    off: np.ndarray = np.abs(closes - np.rint(closes / tick) * tick) / closes
    return off


@pytest.mark.parametrize("name", ["perp_1m_2025", "perp_5m_2023"])
def test_every_recorded_close_of_a_perpetual_lies_on_its_tick(name: str) -> None:
    closes = closes_of(name)
    assert len(closes) >= 16
    for one in bundled_instruments().select(closes):
        assert off_tick(one, closes[one.symbol]).max() < 1e-9, one.symbol


def test_recorded_spot_pairs_have_instruments_whose_ticks_may_be_coarser() -> None:
    closes = closes_of("spot_1m_2021")
    assert len(closes) > 85
    worst = {one.symbol: float(off_tick(one, closes[one.symbol]).max()) for one in bundled_instruments().select(closes)}
    coarse = {symbol: off for symbol, off in worst.items() if off > 1e-9}
    # Spot is quoted finer than the contracts were: half a tick, 2.2 bps at most, where a price was small.
    assert len(coarse) == 35
    assert max(coarse, key=lambda symbol: coarse[symbol]) == "CHRUSDT"
    assert max(coarse.values()) == pytest.approx(0.00005 / 0.23, rel=0.05)
