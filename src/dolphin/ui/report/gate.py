"""The forewarner's section: what it said of each day, and what the days of each status brought (SPEC §11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dolphin.research.reportdata import ReportData
from dolphin.risk.forewarner.report import ORANGE_PROBABILITY, ORANGE_SCORE, RED_PROBABILITY, RED_SCORE
from dolphin.ui.report.numbers import level, number, whole
from dolphin.ui.report.sections import chart, panel
from dolphin.ui.report.series import Figure, entry_dates, ink
from dolphin.ui.report.tables import Cell, figure, table, traded
from dolphin.ui.report.timecharts import TIME_AXIS, day_steps, span

STATUSES = ("OK", "ORANGE", "RED")
_CAPTION = (
    "How likely the configuration is to end in a catastrophe, at the leverage that the day's boost allows, and how "
    "ordinary it is among trials that survived. "
    f"ORANGE beyond {ORANGE_PROBABILITY:.2f} or below {level(ORANGE_SCORE)} halves every size; "
    f"RED beyond {RED_PROBABILITY:.2f} or below {level(RED_SCORE)} forbids the day's entries."
)
_WORDS = (
    "Trades by what was said of the day they were entered on; a position held over midnight closes on a RED day as on "
    "any other."
)


def gate_figure(data: ReportData) -> Figure | None:
    """Probability and envelope score as steps from day to day; None for a run without a model, or without bars."""
    days = data.summary.get("mc")
    if not days or not len(data.bars.ts_ns):
        return None
    chances = [_number(day["catastrophic_probability"]) for day in days]
    scores = [_number(day["envelope_score"]) for day in days]
    top = max(RED_PROBABILITY * 1.3, 1.1 * float(np.nanmax([0.0, *chances])))
    low = min(RED_SCORE * 1.4, float(np.nanmin([0.0, *scores])) * 1.1)
    levels = (
        ("y", ORANGE_PROBABILITY, "warn"), ("y", RED_PROBABILITY, "loss"), ("y2", ORANGE_SCORE, "warn"),
        ("y2", RED_SCORE, "loss"),
    )  # fmt: skip
    layout = {
        "height": 320,
        "hovermode": "x unified",
        "showlegend": False,
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(data.bars)},
        "yaxis": {"domain": [0.54, 1], "range": [-0.01, top], "tickformat": ".0%", "title": {"text": "probability"}},
        "yaxis2": {
            "domain": [0, 0.44],
            "range": [low, max(1.5, 1.1 * float(np.nanmax([0.0, *scores])))],
            "title": {"text": "envelope"},
        },
        "shapes": [_line_at(axis, at, colour) for axis, at, colour in levels],
    }
    traces = [
        day_steps(days, "probability", chances, axis="y", colour="accent"),
        day_steps(days, "envelope score", scores, axis="y2", colour="hue2", digits=2),
    ]
    return {"data": traces, "layout": layout, "link": "time"}


def section(data: ReportData) -> str:
    """The chart and the table, or nothing for a run without a model."""
    days = data.summary.get("mc")
    if not days:
        return ""
    drawn = chart("gate", "Forewarner", _CAPTION, drawn=bool(len(data.bars.ts_ns)), empty="No bar was stepped.")
    return drawn + panel("Days by the forewarner's word", f"<p>{_WORDS}</p>{_table(data, days)}")


def _table(data: ReportData, days: list[Mapping[str, Any]]) -> str:
    """One row per status met: days, the highest leverage judged, trades, mean leverage, net PnL."""
    said = {day["date"]: day["status"] for day in days}
    words = np.array([said.get(day, "") for day in entry_dates(data.trades)], dtype=str)
    rows = []
    for place, status in enumerate(STATUSES):
        judged = [float(day["max_leverage"]) for day in days if day["status"] == status]
        if not judged:
            continue
        rows.append(
            (
                Cell(status, float(place)),
                figure(len(judged), whole(len(judged))),
                figure(max(judged), number(max(judged))),
                *traded(data.trades, words == status),
            )
        )
    header = ("status", "days", "highest leverage judged", "trades", "mean leverage", "net PnL")
    return table(header, rows, caption="Trades by the forewarner's word on their day; money in USDT")


def _line_at(axis: str, at: float, colour: str) -> dict[str, Any]:
    line = {"color": ink(colour), "width": 1, "dash": "dot"}
    return {"type": "line", "xref": "paper", "yref": axis, "x0": 0, "x1": 1, "y0": at, "y1": at, "line": line}


def _number(value: float | None) -> float:
    return float("nan") if value is None else float(value)
