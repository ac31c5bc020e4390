"""What a run earned, lost and risked: pure functions of trades and daily equity (docs/metrics.md has every definition).

Conventions: returns and drawdowns are fractions (0.01 is one percent), money is USDT, a figure that the data cannot
define is None (null in JSON), never a zero or an infinity standing in for it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dolphin.core.errors import DataError

DAYS_PER_YEAR = 365
"""Crypto trades every day of the year, so daily figures are annualised by 365, not by 252."""

PNL_PARTS = ("pnl_price", "fees", "slippage", "funding", "modelled_edge")
"""The signed contributions to a trade's `net_pnl`, in the order in which reports show them (SPEC §7)."""

TRADE_COLUMNS = (
    "trade_id",
    "asset",
    "side",
    "entry_ts",
    "exit_ts",
    "entry_bar",
    "exit_bar",
    "entry_price",
    "exit_price",
    "notional_usd",
    "leverage",
    "fraction",
    "bucket",
    "confidence",
    "is_extreme",
    "reason",
    "pnl_price",
    "fees",
    "slippage",
    "funding",
    "modelled_edge",
    "net_pnl",
    "capital_after",
)
"""The columns of a trade table, in file order."""

TradeTable = Mapping[str, NDArray[Any]] | NDArray[np.void]
"""Trades as a structured array or as equal columns by name; `asset`, `side` and `reason` hold text."""

_SPLIT_TOLERANCE = 1e-9


def daily_returns(equity_closes: ArrayLike, capital0: float) -> NDArray[np.float64]:
    """Simple returns `r_i = E_i / E_{i−1} − 1` of mark-to-market equity at UTC day ends, with `E_0 = capital0`.

    `equity_closes` float64 (D,), USDT, one value per day that has data; gives float64 (D,). A return from an equity
    of zero or less has no meaning and is NaN. Raises DataError for a non-finite equity or a `capital0` not above 0.
    """
    closes = _finite_vector(equity_closes, "equity_closes")
    _check_capital(capital0)
    base = np.concatenate(([capital0], closes[:-1])) if len(closes) else closes
    out = np.full(len(closes), np.nan)
    np.divide(closes, base, out=out, where=base > 0.0)
    return out - 1.0


def sharpe(returns: ArrayLike) -> float | None:
    """`mean(r) / std(r, ddof=1) · √365` of daily returns (D,), with a riskless rate of zero.

    None for fewer than two days, for returns that do not vary, or when any return is undefined.
    """
    r = np.asarray(returns, dtype=np.float64)
    if len(r) < 2 or not np.isfinite(r).all() or np.ptp(r) == 0.0:
        return None
    return _ratio(float(r.mean()), float(r.std(ddof=1)))


def sharpe_error(value: float | None, days: int) -> float | None:
    """One standard error of a yearly Sharpe ratio estimated from `days` daily returns, if these were independent.

    `√((1 + s²/2) / days) · √365` with `s` the daily ratio, `value / √365`: how far luck alone moves the figure. None
    when the ratio is.
    """
    if value is None or days < 2:
        return None
    daily = value / math.sqrt(DAYS_PER_YEAR)
    return math.sqrt((1.0 + daily * daily / 2.0) / days * DAYS_PER_YEAR)


def sortino(returns: ArrayLike) -> float | None:
    """`mean(r) / √mean(min(r, 0)²) · √365` of daily returns (D,): only days that lose count as risk.

    The mean under the root is over all days. None for fewer than two days, without a losing day, or when any return
    is undefined.
    """
    r = np.asarray(returns, dtype=np.float64)
    if len(r) < 2 or not np.isfinite(r).all():
        return None
    return _ratio(float(r.mean()), math.sqrt(float(np.mean(np.minimum(r, 0.0) ** 2))))


def profit_factor(net_pnl: ArrayLike) -> float | None:
    """Gross profit over gross loss, `Σ max(p, 0) / Σ max(−p, 0)`, of net PnL per trade (K,), USDT.

    None when no trade lost (there is nothing to divide by), so also without trades.
    """
    p = _finite_vector(net_pnl, "net_pnl")
    loss = math.fsum(-p[p < 0.0])
    return _finite_or_none(math.fsum(p[p > 0.0]) / loss) if loss > 0.0 else None


def win_rate(net_pnl: ArrayLike) -> float | None:
    """Share of trades whose net PnL is above zero, a fraction; a trade that ends at zero has not won. None without."""
    p = _finite_vector(net_pnl, "net_pnl")
    return float(np.count_nonzero(p > 0.0)) / len(p) if len(p) else None


def roi(capital0: float, capital_end: float) -> float:
    """Return on the starting capital, `capital_end / capital0 − 1`, a fraction. DataError unless `capital0` > 0."""
    _check_capital(capital0)
    return float(capital_end) / float(capital0) - 1.0


def exposure(bars_in_position: int, bars: int) -> float | None:
    """Share of bars at whose end a position was open, a fraction; None for a run without bars."""
    return bars_in_position / bars if bars else None


def drawdown(equity: ArrayLike, peak: float | None = None) -> tuple[NDArray[np.float64], float]:
    """Drawdown per bar, `1 − E_t / max(E_0 … E_t)`, and the peak reached, for carrying into the next chunk.

    `equity` float64 (T,), USDT, marked to market; `peak` is the highest equity before it (None at the start).
    Chunk by chunk with the peak carried gives the same values as the whole at once. A loss beyond the whole capital
    is a drawdown above 1. Raises DataError for a non-finite equity or a first peak that is not above zero.
    """
    values = _finite_vector(equity, "equity")
    if peak is None and not len(values):
        return values, 0.0
    first = float(values[0]) if peak is None else float(peak)
    if not first > 0.0:
        raise DataError(f"equity: the first peak is {first:g}, expected above 0; a drawdown is a share of it")
    peaks = np.maximum.accumulate(np.concatenate(([first], values)))[1:]
    top = float(peaks[-1]) if len(peaks) else first
    return 1.0 - values / peaks, top


def max_drawdown(equity: ArrayLike) -> float:
    """Deepest fall from a peak to a later trough of mark-to-market equity (T,), a fraction ≥ 0; 0.0 when empty.

    Put the starting capital first when the fall from it should count.
    """
    falls, _ = drawdown(equity)
    return float(falls.max()) if len(falls) else 0.0


def pnl_split(trades: TradeTable) -> dict[str, float]:
    """Sums of the signed parts and of `net_pnl`, USDT: `price, fees, slippage, funding, modelled_edge, net`.

    Costs are negative; the five parts add up to `net`. Raises DataError, naming the trade, when one does not.
    """
    _check_parts(trades)
    sums = {part.removeprefix("pnl_"): _total(trades[part]) for part in PNL_PARTS}
    return {**sums, "net": _total(trades["net_pnl"])}


def trade_stats(trades: TradeTable) -> dict[str, Any]:
    """Everything that trades alone define, ready for JSON.

    Keys: `trades`, `wins`, `win_rate`, `profit_factor`, `net_pnl`, `avg_pnl`, `avg_hold_bars`, `pnl` (see `pnl_split`),
    `by_reason` and `by_asset`. The last two map a name to `count, wins, win_rate, net_pnl, avg_pnl, avg_hold_bars`,
    most trades first, then by name. Hold is `exit_bar − entry_bar`, in bars. Raises DataError for a missing column,
    unequal columns, a non-finite PnL or parts that do not add up.
    """
    check_trades(trades)
    whole = _group(trades, slice(None))
    return {
        "trades": whole.pop("count"),
        **whole,
        "profit_factor": profit_factor(trades["net_pnl"]),
        "pnl": pnl_split(trades),
        "by_reason": _by_label(trades, "reason"),
        "by_asset": _by_label(trades, "asset"),
    }


def performance(
    *,
    trades: TradeTable,
    daily_equity: ArrayLike,
    capital0: float,
    deepest_drawdown: float,
    bars: int,
    bars_in_position: int,
) -> dict[str, Any]:
    """The figures of `summary.json` that come from a run's results; every key is defined in docs/metrics.md.

    `daily_equity` float64 (D,): mark-to-market equity at the end of each UTC day; `deepest_drawdown` a fraction, the
    largest of the per-bar drawdowns. Adds `capital_start, capital_end, roi, sharpe, sortino, max_drawdown, exposure`
    to `trade_stats`. Raises DataError as its parts do.
    """
    returns = daily_returns(daily_equity, capital0)
    closes = np.asarray(daily_equity, dtype=np.float64)
    end = float(closes[-1]) if len(closes) else float(capital0)
    return {
        "capital_start": float(capital0),
        "capital_end": end,
        "roi": roi(capital0, end),
        "sharpe": sharpe(returns),
        "sortino": sortino(returns),
        "max_drawdown": float(deepest_drawdown),
        "exposure": exposure(bars_in_position, bars),
        **trade_stats(trades),
    }


def check_trades(trades: TradeTable) -> int:
    """The number of trades, after checking that every column of TRADE_COLUMNS is there and as long as the others."""
    names = trades.dtype.names or () if isinstance(trades, np.ndarray) else tuple(trades)
    missing = [name for name in TRADE_COLUMNS if name not in names]
    if missing:
        raise DataError(f"trades: no column {missing[0]!r}; expected {', '.join(TRADE_COLUMNS)}")
    count = len(trades["trade_id"])
    for name in TRADE_COLUMNS:
        rows = len(trades[name])
        if rows != count:
            raise DataError(f"trades: column {name!r} has {rows} rows, 'trade_id' has {count}; expected the same")
    return count


def _by_label(trades: TradeTable, column: str) -> dict[str, dict[str, Any]]:
    labels, member = np.unique(np.asarray(trades[column]).astype(str), return_inverse=True)
    groups = {str(label): _group(trades, np.flatnonzero(member == k)) for k, label in enumerate(labels)}
    ranked = sorted(groups.items(), key=lambda item: (-item[1]["count"], item[0]))
    return dict(ranked)


def _group(trades: TradeTable, rows: slice | NDArray[np.intp]) -> dict[str, Any]:
    net = _finite_vector(trades["net_pnl"][rows], "net_pnl")
    count = len(net)
    hold = np.asarray(trades["exit_bar"][rows], dtype=np.int64) - np.asarray(trades["entry_bar"][rows], dtype=np.int64)
    total = _total(net)
    return {
        "count": count,
        "wins": int(np.count_nonzero(net > 0.0)),
        "win_rate": win_rate(net),
        "net_pnl": total,
        "avg_pnl": total / count if count else None,
        "avg_hold_bars": float(hold.mean()) if count else None,
    }


def _check_parts(trades: TradeTable) -> None:
    columns = [_finite_vector(trades[part], part) for part in PNL_PARTS]
    net = _finite_vector(trades["net_pnl"], "net_pnl")
    parts = np.sum(columns, axis=0)
    scale = 1.0 + np.sum(np.abs(columns), axis=0)
    off = np.flatnonzero(np.abs(parts - net) > _SPLIT_TOLERANCE * scale)
    if len(off):
        k = int(off[0])
        raise DataError(
            f"trades: row {k}: {' + '.join(PNL_PARTS)} is {parts[k]:.12g}, net_pnl is {net[k]:.12g}; "
            "they must agree, each part signed as it adds to net_pnl"
        )


def _total(values: NDArray[Any]) -> float:
    # fsum is exact whatever the order, so grouping trades differently can never move a total.
    return math.fsum(np.asarray(values, dtype=np.float64))


def _ratio(mean: float, risk: float) -> float | None:
    return _finite_or_none(mean / risk * math.sqrt(DAYS_PER_YEAR)) if risk > 0.0 else None


def _finite_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _finite_vector(values: ArrayLike, what: str) -> NDArray[np.float64]:
    vector = np.asarray(values, dtype=np.float64)
    if vector.ndim != 1:
        raise DataError(f"{what}: has {vector.ndim} dimensions, expected one value per row")
    bad = np.flatnonzero(~np.isfinite(vector))
    if len(bad):
        raise DataError(f"{what}: row {bad[0]} is {vector[bad[0]]}, expected a finite number of USDT")
    return vector


def _check_capital(capital0: float) -> None:
    if not (math.isfinite(capital0) and capital0 > 0.0):
        raise DataError(f"capital0: {capital0:g} USDT, expected a finite amount above 0")
