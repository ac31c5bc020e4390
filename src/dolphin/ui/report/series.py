"""From arrays to the small dictionaries that charts are: binary columns, colours by name, trades by row."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import ns_to_iso
from dolphin.research.metrics import TradeTable
from dolphin.ui.report.numbers import esc, number, usd

Figure = dict[str, Any]
"""One chart: `data`, `layout` and, for charts that zoom together, `link`."""

BUCKETS = ("extreme", "strong", "moderate", "weak")
"""Names of the signal buckets 0 to 3 (SPEC §5)."""


def packed(values: NDArray[Any]) -> dict[str, str]:
    """A column as the chart library's binary form: exact for stamps, single precision is not used anywhere."""
    return {"dtype": "f8", "bdata": base64.b64encode(np.ascontiguousarray(values, dtype="<f8").tobytes()).decode()}


def stamps(ts_ns: NDArray[np.int64]) -> dict[str, str]:
    """UTC nanoseconds as the milliseconds that a date axis takes."""
    return packed(np.asarray(ts_ns, dtype=np.int64) / 1e6)


def ink(name: str) -> str:
    """A colour of the page's theme, resolved in the browser so that charts follow light and dark."""
    return f"var(--{name})"


def labels(trades: TradeTable, column: str) -> NDArray[np.str_]:
    """A text column of the trades, escaped, for legends and hovers."""
    return np.array([esc(value) for value in np.asarray(trades[column]).tolist()], dtype=str)


def net_of(trades: TradeTable) -> NDArray[np.float64]:
    """Net PnL per trade, USDT, float64 (K,)."""
    return np.asarray(trades["net_pnl"], dtype=np.float64)


def entry_dates(trades: TradeTable) -> list[str]:
    """The UTC date that each trade was entered on, YYYY-MM-DD."""
    entered = np.asarray(trades["entry_ts"], dtype=np.int64).astype("datetime64[ns]").astype("datetime64[D]")
    dates: list[str] = entered.astype(str).tolist()
    return dates


def bucket_name(code: int) -> str:
    """The name of a signal bucket; a code out of range shows as itself."""
    return BUCKETS[code] if 0 <= code < len(BUCKETS) else str(code)


def count_axis(most: int) -> dict[str, Any]:
    """An axis of trade counts that never shows a fraction of a trade."""
    return {"title": {"text": "trades"}, "rangemode": "tozero", "tickformat": ",d"} | ({"dtick": 1} if most < 6 else {})


def hovers(trades: TradeTable) -> list[str]:
    """One escaped hover text per trade."""
    return [_hover(row) for row in trade_rows(trades)]


_BLOCK = 256
"""Trades turned into plain values at a time: a year of them all at once would be the largest thing in memory."""


def trade_rows(trades: TradeTable) -> Iterator[dict[str, Any]]:
    """The trades one by one, with plain Python values."""
    names = trades.dtype.names or () if isinstance(trades, np.ndarray) else tuple(trades)
    columns = [np.asarray(trades[name]) for name in names]
    for first in range(0, len(trades["trade_id"]), _BLOCK):
        block = [column[first : first + _BLOCK].tolist() for column in columns]
        for values in zip(*block, strict=True):
            yield dict(zip(names, values, strict=True))


def _hover(row: dict[str, Any]) -> str:
    held = row["exit_bar"] - row["entry_bar"]
    return (
        f"<b>#{row['trade_id']} {esc(row['side'])} {esc(row['asset'])}</b><br>"
        f"in {ns_to_iso(row['entry_ts'])}<br>out {ns_to_iso(row['exit_ts'])} · {held} bars · {esc(row['reason'])}<br>"
        f"net {usd(row['net_pnl'], signed=True)} USDT · leverage {number(row['leverage'])}"
    )
