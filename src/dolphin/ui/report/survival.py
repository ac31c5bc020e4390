"""The survival stack's section: the posture over time, Rm with its thresholds, the categories, and trades by posture
(SPEC §10)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dolphin.core.codes import Posture
from dolphin.research.reportdata import ReportData, SurvivalSeries
from dolphin.risk.posture import APEX_FROM, STALKER_FROM, TURTLE_FROM
from dolphin.ui.report.numbers import NONE, counted, number, percent, tone, usd, whole
from dolphin.ui.report.sections import chart, panel
from dolphin.ui.report.series import Figure, ink, net_of, packed, stamps
from dolphin.ui.report.tables import Cell, figure, table
from dolphin.ui.report.timecharts import TIME_AXIS, span

_LANES = [posture.name for posture in Posture]
_CATEGORIES = ("Cat1 kill switch", "Cat2 structure", "Cat3 book", "Cat4 environment", "Cat5 capital")
_HUES = ("hue3", "hue1", "hue5", "hue2", "hue4")
_TOP = 1.03
"""Where the axis of Rm ends: a little above 1, so that the line can be seen there."""
_LEVELS = (APEX_FROM, STALKER_FROM, TURTLE_FROM)
_LEVEL_TICKS = {
    "tickvals": [0.0, 0.25, *_LEVELS],
    "ticktext": ["0", "0.25", *(f"{name} {level:.2f}" for name, level in zip(_LANES, _LEVELS, strict=False))],
}
"""The axis of Rm names the levels where a reader looks for numbers; HIBERNATE has none."""
_CAPTION = (
    "Above, the posture that the engine acted in. Below it Rm, which falls at once and recovers slowly, and the levels "
    "at which postures start; the posture follows after two worse or five better readings. Last, the five categories "
    "that Rm is made of."
)
_WORDS = (
    "Trades by the posture they were entered in. Postures differ in more than what they allow: this shows what the "
    "stack met, not what it caused."
)


def survival_figure(data: ReportData) -> Figure | None:
    """Posture lanes, Rm over soft bands of the posture's colour, and the categories, on one time axis; None for a run
    without sensors, or without bars."""
    series = data.survival
    if series is None or not len(series.spell_ns) or not len(data.bars.ts_ns):
        return None
    traces = [*_lanes_and_bands(series), _rm_line(series), *_category_lines(series)]
    layout = {
        "height": 560,
        "hovermode": "x unified",
        "showlegend": True,
        "legend": {"orientation": "h", "y": 0.295, "yanchor": "bottom", "x": 0, "itemsizing": "constant"},
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(data.bars)},
        "yaxis": {"domain": [0.39, 0.76], "range": [0, _TOP], "title": {"text": "Rm"}, **_LEVEL_TICKS},
        "yaxis2": {
            "domain": [0.80, 1],
            "range": [3.6, -0.6],
            "tickvals": list(range(len(_LANES))),
            "ticktext": _LANES,
            "fixedrange": True,
            "zeroline": False,
        },
        "yaxis3": {"domain": [0, 0.28], "range": [-0.03, 1.06], "tickformat": ".1f", "title": {"text": "categories"}},
        "shapes": [_level_line(level) for level in _LEVELS],
    }
    return {"data": traces, "layout": layout, "link": "time"}


def _lanes_and_bands(series: SurvivalSeries) -> list[dict[str, Any]]:
    """Per posture a soft band behind Rm and a thick line in its lane, for the same spells."""
    starts = np.asarray(series.spell_ns) / 1e6
    ends = np.append(starts[1:], max(series.end_ns / 1e6, float(starts[-1]) + 60_000.0))
    traces: list[dict[str, Any]] = []
    for posture in Posture:
        mine = series.spell_posture == int(posture)
        if not mine.any():
            continue
        a, b = starts[mine], ends[mine]
        colour, lane = f"posture{int(posture)}", float(posture)
        shape = {"type": "scatter", "mode": "lines", "name": posture.name, "hoverinfo": "skip", "showlegend": False}
        band = {"fill": "toself", "fillcolor": ink(f"{colour}-soft"), "line": {"width": 0}}
        line = {"yaxis": "y2", "line": {"color": ink(colour), "width": 15, "simplify": False}}
        traces.append({**shape, **band, **_pieces((a, 0.0), (a, _TOP), (b, _TOP), (b, 0.0), (a, 0.0))})
        traces.append({**shape, **line, **_pieces((a, lane), (b, lane))})
    return traces


def _pieces(*corners: tuple[NDArray[np.float64], float]) -> dict[str, Any]:
    """x and y of one shape per spell, with a gap after each: the shape's corners as (x per spell, y)."""
    x = np.column_stack([*(at for at, _ in corners), np.full(len(corners[0][0]), np.nan)])
    y = np.tile([*(height for _, height in corners), np.nan], len(x))
    return {"x": packed(x.ravel()), "y": packed(y)}


def _rm_line(series: SurvivalSeries) -> dict[str, Any]:
    names = np.array(_LANES, dtype=object)[series.posture_at(series.ts_ns)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": "Rm",
        "showlegend": False,
        "x": stamps(series.ts_ns),
        "y": packed(series.rm),
        "text": names.tolist(),
        "line": {"color": ink("ink"), "width": 1.5, "shape": "hv"},
        "hovertemplate": "<b>%{text}</b>, Rm %{y:.4f}<extra></extra>",
    }


def _category_lines(series: SurvivalSeries) -> list[dict[str, Any]]:
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "name": name,
            "x": stamps(series.ts_ns),
            "y": packed(values),
            "yaxis": "y3",
            "line": {"color": ink(hue), "width": 1.3, "shape": "hv"},
            "hovertemplate": f"{name} %{{y:.3f}}<extra></extra>",
        }
        for name, hue, values in zip(_CATEGORIES, _HUES, series.categories, strict=True)
    ]


def _level_line(level: float) -> dict[str, Any]:
    ends = {"xref": "paper", "x0": 0, "x1": 1, "y0": level, "y1": level}
    return {"type": "line", **ends, "line": {"color": ink("muted"), "width": 1, "dash": "dot"}}


def section(data: ReportData) -> str:
    """The chart and the table, or nothing for a run without sensors."""
    told, series = data.summary.get("survival"), data.survival
    if told is None or series is None:
        return ""
    drawn = chart("survival", "Survival stack", _CAPTION, drawn=bool(len(series.spell_ns)), empty="No bar was stepped.")
    return drawn + panel("Postures", f"<p>{_facts(told)} {_WORDS}</p>{_table(data, series, told)}")


def _facts(told: Mapping[str, Any]) -> str:
    lowest = told["lowest_rm"]
    return (
        f"{counted(told['changes'], 'change')} of posture; lowest Rm {NONE if lowest is None else number(lowest, 4)}; "
        f"{counted(told['entries_blocked'], 'bar')} had a signal that the posture did not let in; "
        f"{counted(told['closed_by_halt'], 'position')} closed by HIBERNATE."
    )


def _table(data: ReportData, series: SurvivalSeries, told: Mapping[str, Any]) -> str:
    """One row per posture: its time, the trades entered in it, their leverage and net PnL."""
    entered = np.asarray(data.trades["entry_ts"], dtype=np.int64)
    postures = series.posture_at(entered) if len(entered) else np.empty(0, np.int64)
    leverage, net = np.asarray(data.trades["leverage"], dtype=np.float64), net_of(data.trades)
    rows = []
    for posture in Posture:
        spent, mine = told["postures"][posture.name], postures == int(posture)
        hours, total = float(spent["seconds"]) / 3600.0, float(net[mine].sum())
        top = float(leverage[mine].max()) if mine.any() else None
        mark = f'<span class="dot" style="background:var(--posture{int(posture)})"></span>{posture.name}'
        rows.append(
            (
                Cell(mark, int(posture)),
                figure(spent["share"], percent(spent["share"], 1)),
                figure(hours, number(hours, 1)),
                figure(int(mine.sum()), whole(int(mine.sum()))),
                figure(top, NONE if top is None else number(top)),
                figure(total, usd(total, signed=True), tone(total)),
            )
        )
    header = ("posture", "of the time", "hours", "trades entered", "largest leverage", "net PnL")
    return table(header, rows, caption="Trades by the posture they were entered in; money in USDT")
