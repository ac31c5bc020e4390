"""Thinning keeps every spike; a report's parts refuse to disagree."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.research.reportdata import BarSeries, DailySeries, Thresholds, decimate
from tests.support.report_data import check_split, make_report_data

value = st.one_of(st.floats(-1e6, 1e6), st.just(np.nan), st.sampled_from([np.inf, -np.inf]))


def buckets(rows: int, max_points: int, columns: int) -> list[slice]:
    """The stretches whose range the thinning promises to keep."""
    starts = np.linspace(0, rows, max_points // (2 + 2 * columns), endpoint=False).astype(int).tolist()
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], rows], strict=True)]


class TestDecimate:
    def test_short_input_is_untouched(self) -> None:
        ts, columns = decimate([1, 2, 3], {"a": [1.0, np.nan, 3.0]}, max_points=4)
        assert ts.tolist() == [1, 2, 3]
        assert columns["a"][0] == 1.0

    def test_one_spike_in_a_million_survives(self) -> None:
        flat = np.zeros(1_000_000)
        flat[654_321] = 1.0
        flat[123_456] = -1.0
        ts, columns = decimate(np.arange(len(flat)), {"a": flat, "b": np.arange(len(flat)) % 7}, max_points=1000)
        assert len(ts) <= 1000
        assert set(ts[columns["a"] != 0].tolist()) == {654_321, 123_456}

    @given(st.lists(st.tuples(value, value, st.booleans()), min_size=9, max_size=300), st.integers(8, 60))
    def test_every_stretch_keeps_its_range(self, rows: list[tuple[float, float, bool]], max_points: int) -> None:
        a, b, c = (np.array(column) for column in zip(*rows, strict=True))
        stamps = np.arange(len(rows)) * 7
        ts, columns = decimate(stamps, {"a": a, "b": b, "c": c}, max_points)
        assert len(ts) <= max(max_points, 8)
        assert (np.diff(ts) > 0).all()
        row = ts // 7
        for name, column in (("a", a), ("b", b), ("c", c)):
            np.testing.assert_array_equal(columns[name], column[row])
            if len(rows) <= max_points:
                continue
            for part in buckets(len(rows), max_points, 3):
                kept = column[row[(row >= part.start) & (row < part.stop)]].astype(float)
                whole = column[part].astype(float)
                assert kept[0] == whole[0] or np.isnan(whole[0])
                if not np.isnan(whole).all():
                    assert (np.nanmin(kept), np.nanmax(kept)) == (np.nanmin(whole), np.nanmax(whole))

    def test_day_by_day_keeps_the_promise_too(self) -> None:
        rng = np.random.default_rng(5)
        values, stamps = rng.standard_t(2, 9_000), np.arange(9_000)
        days = [decimate(stamps[k : k + 1_440], {"a": values[k : k + 1_440]}, 100) for k in range(0, 9_000, 1_440)]
        joined = np.concatenate([ts for ts, _ in days]), {"a": np.concatenate([c["a"] for _, c in days])}
        ts, columns = decimate(*joined, max_points=100)
        assert len(ts) <= 100
        assert (columns["a"].min(), columns["a"].max()) == (values.min(), values.max())

    def test_kept_rows_stay(self) -> None:
        ts, _ = decimate(np.arange(5_000), {"a": np.zeros(5_000)}, 20, keep=[17, 4_999, 17])
        assert {17, 4_999} <= set(ts.tolist())
        assert len(ts) <= 22

    @pytest.mark.parametrize(("keep", "points"), [([-1], 100), ([10], 100), ([], 3)])
    def test_refuses(self, keep: list[int], points: int) -> None:
        with pytest.raises(DataError, match="decimate: "):
            decimate(np.arange(10), {"a": np.zeros(10)}, points, keep=keep)

    def test_refuses_unequal_columns(self) -> None:
        with pytest.raises(DataError, match="decimate: a has 2 rows, ts_ns has 3"):
            decimate([1, 2, 3], {"a": [1.0, 2.0]})


def test_bars_must_rise_and_agree() -> None:
    bars = make_report_data(days=1).bars
    with pytest.raises(DataError, match="row 1 is not later"):
        dataclasses.replace(bars, ts_ns=bars.ts_ns[::-1])
    with pytest.raises(DataError, match="vel_div has 1439 rows, ts_ns has 1440"):
        dataclasses.replace(bars, vel_div=bars.vel_div[1:])
    assert isinstance(bars, BarSeries)


def test_days_must_agree() -> None:
    with pytest.raises(DataError, match="pnl has 0 rows, dates has 1"):
        DailySeries(np.array(["2021-04-05"], dtype="datetime64[D]"), np.ones(1), np.ones(0))


def test_trades_must_have_their_columns() -> None:
    data = make_report_data(days=1)
    with pytest.raises(DataError, match="no column 'fees'"):
        dataclasses.replace(data, trades={k: v for k, v in data.trades.items() if k != "fees"})


def test_the_side_of_the_thresholds() -> None:
    assert Thresholds(-0.02, -0.05).is_short
    assert not Thresholds(0.01, 0.04).is_short


def test_the_made_up_run_is_consistent() -> None:
    data = make_report_data(days=3)
    assert data.summary["trades"] > 5
    assert check_split(data) < 1e-9
    assert data.summary["capital_end"] == pytest.approx(25_000 + data.summary["net_pnl"])
    assert sum(data.gates.values()) == data.summary["bars"]
