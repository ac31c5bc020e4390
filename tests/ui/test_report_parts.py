"""The page's small parts: numbers as text, tables that sort, calendars that know their weekdays."""

from __future__ import annotations

import calendar as almanac
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.research.reportdata import DailySeries
from dolphin.ui.report.calendar import calendar, monthly
from dolphin.ui.report.numbers import NONE, counted, esc, level, number, percent, price, tone
from dolphin.ui.report.tables import MAX_TRADE_ROWS, gates_table, groups_table, trades_table
from tests.support.report_data import make_report_data


class TestNumbers:
    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (1234567.891, "1,234,567.89"),
            (-0.5, "−0.50"),
            (-0.001, "0.00"),
            (0, "0.00"),
            (np.float64(2.5), "2.50"),
            (None, NONE),
            (math.nan, NONE),
            (-math.inf, NONE),
            (True, NONE),
            ("7", NONE),
        ],
    )
    def test_number(self, value: object, shown: str) -> None:
        assert number(value) == shown

    def test_signs(self) -> None:
        assert number(3.0, signed=True) == "+3.00"
        assert number(0.0, signed=True) == number(-0.0, signed=True) == "0.00"
        assert percent(-0.01234) == "−1.23 %"
        assert percent(None) == NONE
        assert level(-0.02) == "−0.02"
        assert (counted(1, "day"), counted(2, "day"), counted(None, "day")) == ("1 day", "2 days", f"{NONE} days")
        assert (tone(1.0), tone(-1.0), tone(0.0), tone(None)) == ("gain", "loss", "", "")

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (60_123.4, "60,123.40"),
            (0.00001234, "0.00001234000"),
            (1.5, "1.500000"),
            (0.0, "0.000000"),
            (None, NONE),
        ],
    )
    def test_price(self, value: float | None, shown: str) -> None:
        assert price(value) == shown

    @given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e12, max_value=1e12))
    def test_a_shown_number_reads_back(self, value: float) -> None:
        text = number(value, 4, signed=True)
        assert float(text.replace(",", "").replace("−", "-")) == pytest.approx(value, abs=5.1e-5, rel=1e-12)

    @given(st.text())
    def test_escaped_text_has_no_markup(self, text: str) -> None:
        assert not set("<>\"'") & set(esc(text))


class TestTables:
    def test_sort_keys_are_full_numbers(self) -> None:
        row = {"count": 3, "win_rate": None, "net_pnl": -1234.5678, "avg_pnl": 2.0, "avg_hold_bars": 9.0}
        table = groups_table("asset", {"BTCUSDT": row})
        assert 'data-key="-1234.5678">−1,234.57<' in table
        assert f'data-key="{NONE}">{NONE}<' in table
        assert "Infinity" not in table
        assert "inf" not in table

    def test_gates_rank_by_count_and_share_the_bars(self) -> None:
        table = gates_table({"VEL_DIV": 75, "ENTERED": 25, "HALT": 0}, {"HALT": "halted"})
        assert re.findall(r'class="code">(\w+)<', table) == ["VEL_DIV", "ENTERED", "HALT"]
        assert re.findall(r"width:([\d.]+%)", table) == ["75.00%", "25.00%", "0.00%"]
        assert "halted" in table

    def test_no_bars_no_shares(self) -> None:
        assert "0.00 %" in gates_table({"HALT": 0}, {})

    def test_a_long_list_is_cut_to_its_end(self) -> None:
        trades = make_report_data(days=110).trades
        assert len(trades["trade_id"]) > MAX_TRADE_ROWS
        listed = re.findall(r">#(\d+)<", trades_table(trades))
        assert listed == [str(k) for k in trades["trade_id"][-MAX_TRADE_ROWS:]]


def days(first: str, returns: list[float]) -> DailySeries:
    """Successive days with these returns on 100 USDT."""
    closes = 100.0 * np.cumprod(1.0 + np.array(returns, dtype=float))
    dates = np.datetime64(first) + np.arange(len(returns)).astype("timedelta64[D]")
    return DailySeries(dates, closes, np.diff(closes, prepend=100.0))


class TestCalendar:
    @given(st.dates(min_value=np.datetime64("2019-01-01").item()), st.integers(1, 80))
    def test_every_day_stands_under_its_weekday(self, first: object, count: int) -> None:
        sheet = calendar(days(str(first), [0.01] * count), 100.0)
        seen = 0
        for month in re.findall(r'<div class="days">(.*?)</div>', sheet):
            cells = re.findall(r"<span[^>]*>.*?</span>", month)[7:]
            for place, cell in enumerate(cells):
                stamp = re.search(r"(\d{4})-(\d\d)-(\d\d)", cell)
                if stamp:
                    seen += 1
                    assert almanac.weekday(*map(int, stamp.groups())) == place % 7
        assert seen == count

    def test_a_missing_day_is_shown_as_missing(self) -> None:
        daily = days("2021-04-05", [0.01, 0.02, -0.01])
        kept = DailySeries(daily.dates[[0, 2]], daily.equity_close[[0, 2]], daily.pnl[[0, 2]])
        sheet = calendar(kept, 100.0)
        assert sheet.count('title="no bars"') == 1
        assert "2021-04-05: +1.00 %" in sheet

    def test_months_compound_and_years_too(self) -> None:
        table = monthly(days("2021-12-30", [0.1, 0.1, 0.5]), 100.0)
        assert re.findall(r">([+−][\d.]+)<", table) == ["+21.00", "+21.00", "+50.00", "+50.00"]
        assert re.findall(r'scope="row">(\d+)<', table) == ["2021", "2022"]

    def test_flat_days_have_no_colour(self) -> None:
        sheet = calendar(days("2021-04-05", [0.0, 0.0]), 100.0)
        assert "color-mix" not in sheet
        assert "legend" not in sheet
