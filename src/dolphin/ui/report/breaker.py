"""The circuit breaker's section: boost and beta per day, and what the days of each boost brought (SPEC §9)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dolphin.research.reportdata import ReportData
from dolphin.ui.report.numbers import number, whole
from dolphin.ui.report.sections import chart, panel
from dolphin.ui.report.series import Figure, entry_dates
from dolphin.ui.report.tables import Cell, figure, table, traded
from dolphin.ui.report.timecharts import TIME_AXIS, day_steps, span

_CAPTION = (
    "Boost (from funding, implied volatility, Fear & Greed and taker flow) and beta (from the slow window's velocity), "
    "as they held from the day's eleventh bar on; before it they are 1 and 0."
)
_WORDS = (
    "Trades by the boost of the day they were entered on. Days differ in more than their boost: this shows what the "
    "breaker met, not what it caused."
)


def breaker_figure(data: ReportData) -> Figure | None:
    """Boost and beta as steps from day to day; None for a run without factor files, or without bars."""
    days = data.summary.get("acb")
    if not days or not len(data.bars.ts_ns):
        return None
    traces = [
        day_steps(days, name, [float(day[name]) for day in days], axis=axis, colour=colour)
        for name, axis, colour in (("boost", "y", "accent"), ("beta", "y2", "loss"))
    ]
    top = max(1.0, *(float(day["boost"]) for day in days))
    layout = {
        "height": 300,
        "hovermode": "x unified",
        "showlegend": False,
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(data.bars)},
        "yaxis": {"domain": [0.52, 1], "range": [0.97, top + 0.06], "title": {"text": "boost"}},
        "yaxis2": {"domain": [0, 0.42], "range": [-0.05, 1.05], "title": {"text": "beta"}},
    }
    return {"data": traces, "layout": layout, "link": "time"}


def section(data: ReportData) -> str:
    """The chart and the table, or nothing for a run without factor files."""
    days = data.summary.get("acb")
    if not days:
        return ""
    drawn = chart("breaker", "Circuit breaker", _CAPTION, drawn=bool(len(data.bars.ts_ns)), empty="No bar was stepped.")
    return drawn + panel("Days by boost", f"<p>{_WORDS}</p>{_table(data, days)}")


def _table(data: ReportData, days: list[Mapping[str, Any]]) -> str:
    """One row per boost, ascending: days, trades, mean leverage, net PnL."""
    boost_on = {day["date"]: float(day["boost"]) for day in days}
    boosts = np.array([boost_on.get(day, np.nan) for day in entry_dates(data.trades)], dtype=np.float64)
    rows = []
    for boost in sorted(set(boost_on.values())):
        count = sum(value == boost for value in boost_on.values())
        betas = sorted({float(day["beta"]) for day in days if float(day["boost"]) == boost})
        rows.append(
            (
                Cell(number(boost, 3), boost),
                Cell(" or ".join(number(beta, 1) for beta in betas), betas[0], "num"),
                figure(count, whole(count)),
                *traded(data.trades, boosts == boost),
            )
        )
    header = ("boost", "beta", "days", "trades", "mean leverage", "net PnL")
    return table(header, rows, caption="Trades by the boost of their day; money in USDT")
