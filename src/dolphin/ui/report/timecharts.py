"""Charts over time: equity with drawdown and positions, the signal with its entries, leverage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import NS_PER_DAY, date_start_ns
from dolphin.research.metrics import TradeTable
from dolphin.research.reportdata import BarSeries, ReportData, Thresholds
from dolphin.ui.report.numbers import level
from dolphin.ui.report.series import BUCKETS, Figure, bucket_name, count_axis, hovers, ink, net_of, packed, stamps

TIME_AXIS = {"type": "date", "hoverformat": "%Y-%m-%d %H:%M"}
_ABOVE, _BELOW = 0.55, -0.55
_STRIP_AXIS = {"visible": False, "fixedrange": True, "range": [-1, 1]}


def equity_figure(data: ReportData) -> Figure | None:
    """Mark-to-market equity, drawdown below it on the same time axis, and a strip of positions; None without bars."""
    bars = data.bars
    if not len(bars.ts_ns):
        return None
    x = stamps(bars.ts_ns)
    line = {"type": "scatter", "mode": "lines", "x": x}
    traces: list[dict[str, Any]] = [
        {
            **line,
            "name": "Equity",
            "y": packed(bars.equity),
            "line": {"color": ink("accent"), "width": 1.6},
            "hovertemplate": "%{y:,.2f} USDT<extra></extra>",
        },
        {
            **line,
            "name": "Drawdown",
            "y": packed(-np.asarray(bars.drawdown)),
            "yaxis": "y2",
            "fill": "tozeroy",
            "fillcolor": ink("loss-soft"),
            "line": {"color": ink("loss"), "width": 1},
            "hovertemplate": "%{y:.2%} from the peak<extra></extra>",
        },
    ]
    start = data.summary.get("capital_start")
    deepest = max(float(np.max(bars.drawdown)), 1e-3)
    level = [{"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": start, "y1": start, "line": _dots("muted")}]
    layout = {
        "height": 470,
        "hovermode": "x unified",
        "showlegend": False,
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(bars)},
        "yaxis": {
            "domain": [0.40, 1],
            "tickformat": ",~r",
            "range": _room(bars.equity),
            "title": {"text": "Equity, USDT"},
        },
        "yaxis2": {
            "domain": [0.10, 0.35],
            "tickformat": ".0%" if deepest > 0.04 else ".1%",
            "range": [-1.08 * deepest, 0],
            "title": {"text": "Drawdown"},
        },
        "yaxis3": {**_STRIP_AXIS, "domain": [0, 0.06]},
        "shapes": level if start is not None else [],
    }
    return {"data": traces + _position_strip(data.trades), "layout": layout, "link": "time"}


def day_steps(
    days: Sequence[Mapping[str, Any]], name: str, values: Sequence[float], *, axis: str, colour: str, digits: int = 3
) -> dict[str, Any]:
    """A value per day as steps; `days` hold `date`, and the last step reaches over its own day."""
    starts = [date_start_ns(date.fromisoformat(day["date"])) for day in days]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": stamps(np.array([*starts, starts[-1] + NS_PER_DAY], dtype=np.int64)),
        "y": packed(np.array([*values, values[-1]], dtype=np.float64)),
        "yaxis": axis,
        "line": {"color": ink(colour), "width": 1.8, "shape": "hv"},
        "hovertemplate": f"{name} %{{y:.{digits}f}}<extra></extra>",
    }


def velocity_figure(data: ReportData) -> Figure | None:
    """`vel_div` per bar with its thresholds and the entries; None when no bar has a value."""
    bars, known = data.bars, np.isfinite(data.bars.vel_div)
    if not known.any():
        return None
    inside = np.asarray(bars.in_position, dtype=bool)
    traces = [
        _cloud(bars, known & inside, "in a position", "faint"),
        _cloud(bars, known & ~inside, "flat", "accent"),
        *_entries(data),
    ]
    layout = {
        "height": 430,
        "hovermode": "closest",
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(bars)},
        "yaxis": {
            "domain": [0.09, 1],
            "tickformat": ".2f",
            "title": {"text": "vel_div, per bar"},
            "range": _opening_range(bars.vel_div[known], data.thresholds),
        },
        "yaxis2": {**_STRIP_AXIS, "domain": [0, 0.06]},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
        "shapes": _threshold_lines(data.thresholds),
        "annotations": _threshold_names(data.thresholds),
    }
    return {"data": traces, "layout": layout, "link": "time"}


def leverage_figure(data: ReportData) -> Figure | None:
    """Leverage at entry over time by signal bucket, with its distribution beside it; None without trades."""
    trades = data.trades
    leverage = np.asarray(trades["leverage"], dtype=np.float64)
    if not len(leverage) or not len(data.bars.ts_ns):
        return None
    bucket, text = np.asarray(trades["bucket"], dtype=np.int64), np.array(hovers(trades), dtype=object)
    entry = np.asarray(trades["entry_ts"], dtype=np.int64)
    top = max(float(leverage.max()), 1.0)
    edges = np.linspace(0.0, top, 25)
    traces = []
    for code in sorted(set(bucket.tolist())):
        mine = bucket == code
        colour = {"color": ink(f"bucket{code}" if 0 <= code < len(BUCKETS) else "muted")}
        shared = {"name": bucket_name(code), "legendgroup": str(code), "marker": {**colour, "size": 6, "opacity": 0.85}}
        dots = {"type": "scatter", "mode": "markers", "x": stamps(entry[mine]), "y": packed(leverage[mine])}
        traces.append({**shared, **dots, "hovertext": text[mine].tolist(), "hoverinfo": "text"})
        counts = np.histogram(leverage[mine], edges)[0].tolist()
        pile = {
            "type": "bar",
            "orientation": "h",
            "xaxis": "x2",
            "x": counts,
            "y": _middles(edges),
            "showlegend": False,
        }
        traces.append({**shared, **pile, "marker": colour, "hovertemplate": "%{x} trades near %{y:.2f}<extra></extra>"})
    layout = {
        "height": 330,
        "barmode": "stack",
        "bargap": 0.08,
        "hovermode": "closest",
        "xaxis": {**TIME_AXIS, "domain": [0, 0.78], "range": span(data.bars)},
        "xaxis2": {**count_axis(len(leverage)), "domain": [0.81, 1], "fixedrange": True},
        "yaxis": {"range": [0, top * 1.06], "title": {"text": "leverage"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout, "link": "time"}


def _position_strip(trades: TradeTable) -> list[dict[str, Any]]:
    """A bar from entry to exit of every trade; winners run in a lane above losers, so that neither hides the other."""
    net, entry, exit_ = net_of(trades), np.asarray(trades["entry_ts"]), np.asarray(trades["exit_ts"])
    strips = []
    for name, colour, lane, mine in (("won", "gain", _ABOVE, net > 0), ("lost", "loss", _BELOW, net <= 0)):
        if not mine.any():
            continue
        gap = np.full(int(mine.sum()), np.nan)
        x = np.column_stack((entry[mine] / 1e6, exit_[mine] / 1e6, gap)).ravel()
        # Thousands of short pieces must not be simplified away on a wide axis.
        line = {"color": ink(colour), "width": 7, "simplify": False}
        shape = {"type": "scatter", "mode": "lines", "x": packed(x), "y": packed(np.full(len(x), lane)), "yaxis": "y3"}
        strips.append({**shape, "name": f"position, {name}", "line": line, "hoverinfo": "skip"})
    return strips


def _cloud(bars: BarSeries, rows: NDArray[np.bool_], name: str, colour: str) -> dict[str, Any]:
    return {
        "type": "scattergl",
        "mode": "markers",
        "name": name,
        "x": stamps(bars.ts_ns[rows]),
        "y": packed(bars.vel_div[rows]),
        "marker": {"color": ink(colour), "size": 3, "opacity": 0.55},
        "hovertemplate": f"%{{x}}<br>vel_div %{{y:.4f}}, {name}<extra></extra>",
    }


def _entries(data: ReportData) -> list[dict[str, Any]]:
    """Entry markers on the signal where the thinned series still holds that bar, and a tick for every entry below."""
    trades, bars = data.trades, data.bars
    entry, net = np.asarray(trades["entry_ts"], dtype=np.int64), net_of(trades)
    if not len(entry):
        return []
    at = np.minimum(np.searchsorted(bars.ts_ns, entry), len(bars.ts_ns) - 1)
    level = np.where(bars.ts_ns[at] == entry, bars.vel_div[at], np.nan)
    text = np.array(hovers(trades), dtype=object)
    symbol = "triangle-down" if data.thresholds.is_short else "triangle-up"
    traces: list[dict[str, Any]] = []
    for name, colour, lane, mine in (
        ("entry, won", "gain", _ABOVE, net > 0),
        ("entry, lost", "loss", _BELOW, net <= 0),
    ):
        if not mine.any():
            continue
        shared = {"x": stamps(entry[mine]), "hovertext": text[mine].tolist(), "hoverinfo": "text", "legendgroup": name}
        shared |= {"mode": "markers", "name": name}
        rim = {"color": ink("surface"), "width": 0.8}
        mark = {"color": ink(colour), "size": 9, "symbol": symbol, "line": rim}
        tick = {"color": ink(colour), "size": 7, "symbol": "line-ns", "line": {"color": ink(colour), "width": 1.2}}
        rug = {"y": packed(np.full(int(mine.sum()), lane)), "yaxis": "y2", "showlegend": False}
        traces.append({**shared, "type": "scattergl", "y": packed(level[mine]), "marker": mark})
        traces.append({**shared, **rug, "type": "scatter", "marker": tick})
    return traces


def _opening_range(values: NDArray[np.float64], levels: Thresholds) -> list[float]:
    """The axis opens on all but the outermost values, and never hides a threshold."""
    low, high = (float(q) for q in np.quantile(values, (0.001, 0.999)))
    reach = 1.35 * abs(levels.extreme)
    return [min(low, -reach), max(high, reach)]


def _room(values: NDArray[np.float64]) -> list[float]:
    """The values' range with some air, and never so narrow that a flat line looks like an event."""
    low, high = float(values.min()), float(values.max())
    air = max(0.06 * (high - low), 1e-4 * abs(high), 1e-9)
    return [low - air, high + air]


def span(bars: BarSeries) -> list[float]:
    """First to last bar, ms: the same on every chart over time, so that they can be read one above the other."""
    first, last = (float(ts) / 1e6 for ts in (bars.ts_ns[0], bars.ts_ns[-1]))
    return [first, max(last, first + 60_000.0)]


def _threshold_lines(levels: Thresholds) -> list[dict[str, Any]]:
    base = {"type": "line", "xref": "paper", "x0": 0, "x1": 1}
    rows = ((levels.entry, "ink"), (levels.extreme, "warn"))
    return [{**base, "y0": y, "y1": y, "line": {**_dots(colour), "width": 1.4}} for y, colour in rows]


def _threshold_names(levels: Thresholds) -> list[dict[str, Any]]:
    side = "bottom" if not levels.is_short else "top"
    base = {"xref": "paper", "x": 1, "xanchor": "right", "yanchor": side, "showarrow": False, "bgcolor": ink("veil")}
    rows = ((levels.entry, "entry", "ink"), (levels.extreme, "extreme", "warn"))
    return [{**base, "y": y, "text": f"{name} {level(y)}", "font": {"color": ink(colour)}} for y, name, colour in rows]


def _dots(colour: str) -> dict[str, Any]:
    return {"color": ink(colour), "width": 1, "dash": "dot"}


def _middles(edges: NDArray[np.float64]) -> list[float]:
    middles: list[float] = ((edges[:-1] + edges[1:]) / 2).tolist()
    return middles
