"""Figures of a run: worked by hand, as properties, and against plain-Python twins."""

from __future__ import annotations

import math
import statistics
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dolphin.core.errors import DataError
from dolphin.research import metrics as m
from tests.support.report_data import columns_of

money = st.floats(-1e6, 1e6).map(lambda x: round(x, 6))
above = st.floats(1.0, 1e7)


def trade(k: int, net: float, asset: str = "BTCUSDT", reason: str = "MAX_HOLD", hold: int = 10) -> dict[str, Any]:
    """One trade of the given net PnL: two thirds of the price move are eaten by fees, the rest is edge."""
    row: dict[str, Any] = dict.fromkeys(m.TRADE_COLUMNS, 0)
    parts = {"pnl_price": net * 3, "fees": -net * 2, "slippage": 1.0, "funding": -0.5, "modelled_edge": -0.5}
    text = {"asset": asset, "side": "SHORT", "reason": reason}
    return {**row, **parts, **text, "trade_id": k, "entry_bar": 5, "exit_bar": 5 + hold, "net_pnl": net}


class TestDailyReturns:
    def test_by_hand_with_the_capital_as_day_zero(self) -> None:
        r = m.daily_returns([110.0, 99.0, 99.0], 100.0)
        assert r.tolist() == [110.0 / 100.0 - 1.0, 99.0 / 110.0 - 1.0, 0.0]
        assert r.dtype == np.float64

    def test_no_days(self) -> None:
        assert m.daily_returns([], 100.0).tolist() == []

    def test_after_ruin_a_return_means_nothing(self) -> None:
        r = m.daily_returns([50.0, 0.0, 10.0, -5.0, 1.0], 100.0)
        assert r[:2].tolist() == [-0.5, -1.0]
        assert np.isnan(r[2])
        assert r[3] == -1.5
        assert np.isnan(r[4])
        assert m.sharpe(r) is None
        assert m.sortino(r) is None

    @given(st.lists(above, min_size=1, max_size=50), above)
    def test_compounding_gives_back_the_end(self, closes: list[float], capital: float) -> None:
        grown = capital * math.prod(1.0 + r for r in m.daily_returns(closes, capital).tolist())
        assert grown == pytest.approx(closes[-1], rel=1e-9)

    @pytest.mark.parametrize("bad", [math.nan, math.inf])
    def test_refuses_what_is_not_money(self, bad: float) -> None:
        with pytest.raises(DataError, match=r"equity_closes: row 1 is (nan|inf), expected a finite"):
            m.daily_returns([1.0, bad], 1.0)

    @pytest.mark.parametrize("capital", [0.0, -1.0, math.nan, math.inf])
    def test_refuses_a_capital_that_cannot_grow(self, capital: float) -> None:
        with pytest.raises(DataError, match="capital0"):
            m.daily_returns([1.0], capital)

    def test_refuses_a_table(self) -> None:
        with pytest.raises(DataError, match="2 dimensions"):
            m.daily_returns([[1.0]], 1.0)


class TestRatios:
    def test_sharpe_by_hand(self) -> None:
        # mean 0.01, deviations −0.02, 0, 0.02: variance 0.0008 / 2, so 0.01 / 0.02 · √365.
        assert m.sharpe([-0.01, 0.01, 0.03]) == pytest.approx(0.5 * math.sqrt(365))

    def test_sortino_by_hand(self) -> None:
        # mean 0.01; only −0.02 is a loss: √(0.0004 / 4) = 0.01, so exactly √365.
        assert m.sortino([-0.02, 0.01, 0.02, 0.03]) == pytest.approx(math.sqrt(365))

    @pytest.mark.parametrize("returns", [[], [0.01], [0.01, 0.01, 0.01], [0.0, 0.0], [0.1, math.nan, 0.2]])
    def test_sharpe_undefined(self, returns: list[float]) -> None:
        assert m.sharpe(returns) is None

    @pytest.mark.parametrize("returns", [[], [-0.01], [0.01, 0.02], [0.0, 0.0], [0.1, -math.inf]])
    def test_sortino_undefined(self, returns: list[float]) -> None:
        assert m.sortino(returns) is None

    @given(st.lists(st.floats(-0.5, 0.5), min_size=2, max_size=60))
    def test_against_plain_python(self, returns: list[float]) -> None:
        assume(max(returns) - min(returns) > 1e-6)
        expected = statistics.mean(returns) / statistics.stdev(returns) * math.sqrt(365)
        assert m.sharpe(returns) == pytest.approx(expected, rel=1e-6, abs=1e-9)
        downside = math.sqrt(statistics.fmean(min(r, 0.0) ** 2 for r in returns))
        if min(returns) < -1e-6:
            assert m.sortino(returns) == pytest.approx(statistics.fmean(returns) / downside * math.sqrt(365), abs=1e-9)

    @given(st.lists(st.floats(-0.1, 0.1), min_size=2, max_size=30), st.floats(0.1, 5.0))
    def test_blind_to_scale(self, returns: list[float], scale: float) -> None:
        assume(max(returns) - min(returns) > 1e-6)
        scaled = [r * scale for r in returns]
        assert m.sharpe(scaled) == pytest.approx(m.sharpe(returns), rel=1e-6, abs=1e-9)

    def test_standard_error(self) -> None:
        assert m.sharpe_error(0.0, 365) == pytest.approx(1.0)
        assert m.sharpe_error(math.sqrt(2 * 365), 365) == pytest.approx(math.sqrt(2.0))
        assert m.sharpe_error(None, 100) is None
        assert m.sharpe_error(1.0, 1) is None

    def test_standard_error_is_the_scatter_of_the_estimate(self) -> None:
        rng = np.random.default_rng(11)
        estimates = [m.sharpe(rng.normal(0.001, 0.02, 90)) for _ in range(4000)]
        expected = m.sharpe_error(0.05 * math.sqrt(365), 90)
        assert np.std(np.array(estimates, dtype=float)) == pytest.approx(expected, rel=0.05)


class TestTradeFigures:
    def test_profit_factor_by_hand(self) -> None:
        assert m.profit_factor([30.0, -10.0, 0.0, -5.0]) == 2.0

    @pytest.mark.parametrize("net", [[], [1.0], [0.0, 0.0]])
    def test_profit_factor_undefined_without_a_loss(self, net: list[float]) -> None:
        assert m.profit_factor(net) is None

    def test_only_losses(self) -> None:
        assert m.profit_factor([-1.0, -2.0]) == 0.0

    def test_win_rate_counts_zero_as_no_win(self) -> None:
        assert m.win_rate([1.0, 0.0, -1.0, 2.0]) == 0.5
        assert m.win_rate([]) is None

    @given(st.lists(money, min_size=1))
    def test_profit_factor_above_one_means_profit(self, net: list[float]) -> None:
        factor = m.profit_factor(net)
        assume(factor is not None)
        total = math.fsum(net)
        if abs(total) > 1e-6 * max(map(abs, net)):
            assert (factor > 1.0) == (total > 0.0)

    def test_roi_and_exposure(self) -> None:
        assert m.roi(100.0, 150.0) == 0.5
        assert m.exposure(1, 4) == 0.25
        assert m.exposure(0, 0) is None
        with pytest.raises(DataError):
            m.roi(0.0, 1.0)


class TestDrawdown:
    def test_by_hand(self) -> None:
        assert m.max_drawdown([100.0, 120.0, 90.0, 130.0, 117.0]) == 0.25
        falls, peak = m.drawdown([100.0, 120.0, 90.0])
        assert falls.tolist() == [0.0, 0.0, 0.25]
        assert peak == 120.0

    def test_starting_capital_counts_as_a_peak(self) -> None:
        assert m.drawdown([80.0], peak=100.0)[0].tolist() == pytest.approx([0.2])

    def test_nothing_and_a_rise(self) -> None:
        assert m.max_drawdown([]) == 0.0
        assert m.max_drawdown([1.0, 2.0, 3.0]) == 0.0
        assert m.drawdown([], peak=5.0)[1] == 5.0

    def test_debt_is_a_fall_beyond_the_whole(self) -> None:
        assert m.max_drawdown([100.0, -50.0]) == 1.5

    @pytest.mark.parametrize(("equity", "peak"), [([0.0, 1.0], None), ([1.0], 0.0), ([1.0], -3.0)])
    def test_refuses_a_peak_that_is_none(self, equity: list[float], peak: float | None) -> None:
        with pytest.raises(DataError, match="first peak"):
            m.drawdown(equity, peak)

    @given(st.lists(above, min_size=1, max_size=80), st.data())
    def test_chunks_agree_with_the_whole_and_with_the_slow_way(self, equity: list[float], data: st.DataObject) -> None:
        whole, top = m.drawdown(equity)
        cut = data.draw(st.integers(0, len(equity)))
        first, peak = m.drawdown(equity[:cut], equity[0])
        second, end = m.drawdown(equity[cut:], peak)
        assert np.concatenate((first, second)).tolist() == whole.tolist()
        assert end == top == max(equity)
        slow = max(1.0 - equity[b] / equity[a] for a in range(len(equity)) for b in range(a, len(equity)))
        assert m.max_drawdown(equity) == pytest.approx(slow, abs=1e-15)
        assert 0.0 <= slow < 1.0


class TestTradeStats:
    def test_by_hand(self) -> None:
        rows = [
            trade(0, 30.0, "ETHUSDT", "FIXED_TP", 10),
            trade(1, -10.0, "BTCUSDT", "MAX_HOLD", 120),
            trade(2, -5.0, "ETHUSDT", "MAX_HOLD", 120),
        ]
        stats = m.trade_stats(columns_of(rows))
        assert stats["trades"] == 3
        assert stats["wins"] == 1
        assert stats["win_rate"] == 1 / 3
        assert stats["net_pnl"] == 15.0
        assert stats["avg_pnl"] == 5.0
        assert stats["avg_hold_bars"] == 250 / 3
        assert stats["profit_factor"] == 2.0
        assert list(stats["by_asset"]) == ["ETHUSDT", "BTCUSDT"]
        assert stats["by_reason"]["MAX_HOLD"] == {
            "count": 2, "wins": 0, "win_rate": 0.0, "net_pnl": -15.0, "avg_pnl": -7.5, "avg_hold_bars": 120.0,
        }  # fmt: skip
        assert stats["pnl"] == {
            "price": 45.0, "fees": -30.0, "slippage": 3.0, "funding": -1.5, "modelled_edge": -1.5, "net": 15.0,
        }  # fmt: skip

    def test_no_trades(self) -> None:
        stats = m.trade_stats(columns_of([]))
        assert (stats["trades"], stats["net_pnl"], stats["by_asset"], stats["by_reason"]) == (0, 0.0, {}, {})
        assert [stats[k] for k in ("win_rate", "profit_factor", "avg_pnl", "avg_hold_bars")] == [None] * 4

    def test_a_structured_array_gives_the_same(self) -> None:
        columns = columns_of([trade(k, float(k - 2), f"A{k % 2}USDT") for k in range(6)])
        record = np.zeros(6, dtype=[(name, column.dtype) for name, column in columns.items()])
        for name, column in columns.items():
            record[name] = column
        assert m.trade_stats(record) == m.trade_stats(columns)

    @given(st.lists(st.tuples(money, st.sampled_from("ABC"), st.sampled_from(["X", "Y"])), max_size=40))
    def test_groups_partition_the_whole(self, drawn: list[tuple[float, str, str]]) -> None:
        stats = m.trade_stats(columns_of([trade(k, net, a, r) for k, (net, a, r) in enumerate(drawn)]))
        scale = 1.0 + sum(abs(net) for net, _, _ in drawn)
        for key in ("by_asset", "by_reason"):
            groups = stats[key].values()
            assert sum(g["count"] for g in groups) == stats["trades"] == len(drawn)
            assert sum(g["wins"] for g in groups) == stats["wins"]
            assert math.fsum(g["net_pnl"] for g in groups) == pytest.approx(stats["net_pnl"], abs=1e-12 * scale)
            counts = [g["count"] for g in groups]
            assert counts == sorted(counts, reverse=True)
        parts = [value for name, value in stats["pnl"].items() if name != "net"]
        assert math.fsum(parts) == pytest.approx(stats["pnl"]["net"], abs=1e-9 * scale)

    def test_parts_that_do_not_add_up(self) -> None:
        rows = [trade(0, 5.0), trade(1, 5.0)]
        rows[1]["fees"] = 10.0  # the sign that a careless writer gets wrong
        with pytest.raises(DataError, match=r"row 1: .* is 25, net_pnl is 5;"):
            m.trade_stats(columns_of(rows))

    def test_a_missing_column(self) -> None:
        columns = columns_of([trade(0, 1.0)])
        del columns["funding"]
        with pytest.raises(DataError, match="no column 'funding'"):
            m.trade_stats(columns)

    def test_a_short_column(self) -> None:
        columns = columns_of([trade(0, 1.0), trade(1, 1.0)])
        columns["fees"] = columns["fees"][:1]
        with pytest.raises(DataError, match="'fees' has 1 rows, 'trade_id' has 2"):
            m.trade_stats(columns)

    def test_a_pnl_that_is_no_number(self) -> None:
        columns = columns_of([trade(0, 1.0)])
        columns["net_pnl"][0] = math.nan
        with pytest.raises(DataError, match="net_pnl: row 0 is nan"):
            m.trade_stats(columns)


def test_performance_joins_everything() -> None:
    table = columns_of([trade(0, 30.0), trade(1, -10.0)])
    figures = m.performance(
        trades=table,
        daily_equity=[130.0, 120.0],
        capital0=100.0,
        deepest_drawdown=0.125,
        bars=200,
        bars_in_position=20,
    )
    assert figures["roi"] == pytest.approx(0.2)
    assert (figures["capital_start"], figures["capital_end"]) == (100.0, 120.0)
    assert (figures["max_drawdown"], figures["exposure"]) == (0.125, 0.1)
    assert figures["sharpe"] == pytest.approx(m.sharpe([0.3, 120.0 / 130.0 - 1.0]))
    assert figures["sortino"] is not None
    assert figures["trades"] == 2


def test_performance_of_an_empty_run() -> None:
    nothing = columns_of([])
    figures = m.performance(
        trades=nothing, daily_equity=[], capital0=100.0, deepest_drawdown=0.0, bars=0, bars_in_position=0
    )
    assert (figures["roi"], figures["capital_end"]) == (0.0, 100.0)
    assert [figures[k] for k in ("sharpe", "sortino", "exposure", "win_rate", "profit_factor")] == [None] * 5
