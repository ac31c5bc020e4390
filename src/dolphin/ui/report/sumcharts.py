"""Charts of sums: hold times, results per trade, and the bridge from starting to final capital."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.research.metrics import TradeTable
from dolphin.ui.report.numbers import is_number, usd
from dolphin.ui.report.series import Figure, count_axis, ink, labels, net_of

_HUES = 8
_STEPS = (("Price", "price"), ("Fees", "fees"), ("Slippage", "slippage"), ("Funding", "funding"))


def hold_figure(trades: TradeTable) -> Figure | None:
    """Bars held, stacked by exit reason; None without trades."""
    hold = np.asarray(trades["exit_bar"], dtype=np.int64) - np.asarray(trades["entry_bar"], dtype=np.int64)
    if not len(hold):
        return None
    width = max(1, math.ceil((int(hold.max()) + 1) / 40))
    edges = np.arange(0, int(hold.max()) + 2 * width, width)
    reason = labels(trades, "reason")
    names, counts = np.unique(reason, return_counts=True)
    traces = []
    for k, name in enumerate(names[np.argsort(-counts, kind="stable")].tolist()):
        heights = np.histogram(hold[reason == name], edges)[0].tolist()
        spans = [f"{a}" if width == 1 else f"{a}–{a + width - 1}" for a in edges[:-1].tolist()]
        bar = {"type": "bar", "name": name, "x": (edges[:-1] + (width - 1) / 2).tolist(), "y": heights, "width": width}
        hover = {"customdata": spans, "hovertemplate": "%{y} trades held %{customdata} bars<extra>" + name + "</extra>"}
        traces.append({**bar, **hover, "marker": {"color": ink(f"hue{k % _HUES}"), "line": _rim()}})
    layout = {
        "height": 320,
        "barmode": "stack",
        "xaxis": {"title": {"text": "bars held"}, "rangemode": "tozero"},
        "yaxis": count_axis(int(counts.max())),
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0, "traceorder": "normal"},
    }
    return {"data": traces, "layout": layout}


def result_figure(trades: TradeTable) -> Figure | None:
    """Net PnL per trade, with zero on a bin's edge so that no bar mixes wins and losses; None without trades."""
    net = net_of(trades)
    if not len(net):
        return None
    edges = _edges_at_zero(net)
    counts = np.histogram(net, edges)[0]
    middle = (edges[:-1] + edges[1:]) / 2
    spans = [f"{usd(a)} … {usd(b)}" for a, b in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)]
    traces = [
        {
            "type": "bar",
            "x": middle.tolist(),
            "y": counts.tolist(),
            "width": float(edges[1] - edges[0]),
            "customdata": spans,
            "marker": {"color": [ink("gain" if m > 0 else "loss") for m in middle], "line": _rim()},
            "hovertemplate": "%{y} trades, %{customdata} USDT<extra></extra>",
        }
    ]
    mean = float(net.mean())
    rule = {"type": "line", "yref": "paper", "y0": 0, "y1": 1, "x0": mean, "x1": mean}
    name = {"yref": "paper", "y": 1, "yanchor": "bottom", "x": mean, "showarrow": False, "text": f"mean {usd(mean)}"}
    layout = {
        "height": 320,
        "showlegend": False,
        "xaxis": {"title": {"text": "net PnL per trade, USDT"}, "tickformat": ",~r"},
        "yaxis": count_axis(int(counts.max())),
        "shapes": [{**rule, "line": {"color": ink("ink"), "width": 1.4, "dash": "dot"}}],
        "annotations": [{**name, "font": {"color": ink("ink")}}],
    }
    return {"data": traces, "layout": layout}


def bridge_figure(start: Any, pnl: dict[str, Any]) -> Figure | None:
    """From starting to final capital, part by part, the modelled edge hatched; None without the amounts."""
    amounts = [start, *(pnl.get(key) for _, key in _STEPS), pnl.get("modelled_edge")]
    if not all(is_number(value) for value in amounts):
        return None
    parts = [float(value or 0.0) for value in amounts[1:]]
    levels = float(start) + np.cumsum([0.0, *parts])
    before = levels.tolist()
    bars: list[tuple[str, float, float, str]] = [("Start capital", before[0], 0.0, "neutral")]
    bars += [(name, before[k], parts[k], "") for k, (name, _) in enumerate(_STEPS)]
    bars += [("Without<br>modelled edge", before[-2], 0.0, "neutral")]
    bars += [("Modelled edge<br>(not money)", before[-2], parts[-1], "edge")]
    bars += [("End capital<br>as modelled", before[-1], 0.0, "neutral")]
    low, high = float(levels.min()), float(levels.max())
    # The axis is cut, or the steps would vanish beside the capital; the caption says so.
    pad = max(high - low, 1e-3 * abs(start)) * 0.18
    floor = low - pad
    traces = [step_bar(*bar, floor) for bar in bars]
    layout = {
        "height": 380,
        "showlegend": False,
        "bargap": 0.35,
        "barmode": "overlay",
        "xaxis": {"type": "category", "fixedrange": True, "tickangle": 0, "showgrid": False},
        "yaxis": {"range": [floor, high + pad], "tickformat": ",.0f", "title": {"text": "USDT, axis cut"}},
    }
    return {"data": traces, "layout": layout}


def step_bar(name: str, level: float, part: float, kind: str, floor: float) -> dict[str, Any]:
    """One bar of the bridge: a total standing on the cut axis, or a part floating from the level before it."""
    total = kind == "neutral"
    colour = ink("bridge") if total else ink("gain" if part > 0 else "loss")
    marker: dict[str, Any] = {"color": colour}
    if kind == "edge":
        marker = {"color": ink("surface"), "line": {"color": ink("warn"), "width": 1.5}}
        marker["pattern"] = {
            "shape": "/",
            "fgcolor": ink("warn"),
            "bgcolor": ink("surface"),
            "size": 7,
            "solidity": 0.4,
        }
    text = usd(level) if total else usd(part, signed=True)
    return {
        "type": "bar",
        "x": [name],
        "base": [floor if total else min(level, level + part)],
        "y": [level - floor if total else abs(part)],
        "marker": marker,
        "text": [text],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": f"{text} USDT<extra></extra>",
    }


def _edges_at_zero(net: NDArray[np.float64]) -> NDArray[np.float64]:
    """About 45 bins of one width, zero among the edges; a single value gets one bin."""
    low, high = min(float(net.min()), 0.0), max(float(net.max()), 0.0)
    width = _round_width(max((high - low) / 45, 1e-9))
    # One bin more at each end keeps a value that lies exactly on the last edge inside.
    steps = np.arange(math.floor(low / width) - 1, math.ceil(high / width) + 2)
    return np.asarray(width * steps, dtype=np.float64)


def _round_width(width: float) -> float:
    """The next of 1, 2, 2.5, 5 × 10^k at or above `width`."""
    unit = 10.0 ** math.floor(math.log10(width))
    return next(step * unit for step in (1.0, 2.0, 2.5, 5.0, 10.0) if step * unit >= width * (1 - 1e-12))


def _rim() -> dict[str, Any]:
    return {"color": ink("surface"), "width": 0.6}
