"""The page that sets runs side by side: the same days with and without each risk layer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dolphin.research.reportdata import ReportData
from dolphin.ui.layerwords import layer_lines
from dolphin.ui.report.document import document, serialised, write_document
from dolphin.ui.report.numbers import NONE, counted, esc, number, percent, tone, usd, whole
from dolphin.ui.report.sections import banner, card_list, chart, masthead, panel
from dolphin.ui.report.series import Figure, ink, packed, stamps
from dolphin.ui.report.tables import Cell, figure, table
from dolphin.ui.report.timecharts import TIME_AXIS, span

_HUES = ("muted", "hue0", "hue1", "hue2", "hue4", "hue6", "hue5", "hue3")
"""One colour per run, in order; the first run, often the bare one, steps back."""

_CAPTION = (
    "Marked to market, and below it the drawdown of each run. All runs saw the same bars. Click a name to hide its "
    "lines, double-click to see it alone."
)
_COST_WORDS = (
    "Each run against the one above it. Trades match when they entered the same asset at the same bar. Losses avoided "
    "less gains missed, plus the new trades, plus what trades taken by both changed, is the whole difference, to the "
    "cent. Sizes carry on: a layer that changes one result changes the capital, the streak and the buckets of every "
    "later trade."
)


def write_comparison(
    path: Path, runs: Mapping[str, ReportData], rows: Sequence[Mapping[str, Any]], command: str
) -> None:
    """Write the page of `runs` (by name, in order) to `path`, whole or not at all.

    `rows` are those of `research.comparison.compared`; the runs' own reports lie beside it, one folder each."""
    charts = serialised((("comparison", comparison_figure(runs)),) if _drawn(runs) else ())
    write_document(path, document("Risk layers side by side", _body(runs, rows, command), charts))


def comparison_figure(runs: Mapping[str, ReportData]) -> Figure:
    """Equity of every run over one time axis, and its drawdown below, each run in one colour."""
    traces: list[dict[str, Any]] = []
    for k, (name, run) in enumerate(runs.items()):
        line = {"color": ink(_HUES[k % len(_HUES)]), "width": 1.5, "dash": "dot" if k == 0 else "solid"}
        shared = {"type": "scatter", "mode": "lines", "x": stamps(run.bars.ts_ns), "name": name, "legendgroup": name}
        equity = {"y": packed(run.bars.equity), "hovertemplate": f"{name} %{{y:,.2f}}<extra></extra>"}
        fall = {
            "y": packed(-np.asarray(run.bars.drawdown)),
            "yaxis": "y2",
            "showlegend": False,
            "hovertemplate": f"{name} %{{y:.2%}}<extra></extra>",
        }
        traces += [{**shared, **equity, "line": line}, {**shared, **fall, "line": {**line, "width": 1}}]
    first = next(iter(runs.values()))
    layout = {
        "height": 560,
        "hovermode": "x unified",
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(first.bars)},
        "yaxis": {"domain": [0.40, 1], "tickformat": ",~r", "title": {"text": "Equity, USDT"}},
        "yaxis2": {"domain": [0, 0.34], "tickformat": ".1%", "title": {"text": "Drawdown"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout, "link": "time"}


def _drawn(runs: Mapping[str, ReportData]) -> bool:
    return any(len(run.bars.ts_ns) for run in runs.values())


def _body(runs: Mapping[str, ReportData], rows: Sequence[Mapping[str, Any]], command: str) -> Iterator[str]:
    first = next(iter(runs.values())).summary
    facts = (
        f"{esc(first['from'])} to {esc(first['to'])}",
        counted(first["days"], "day"),
        f"{counted(first['bars'], 'bar')} of {number(first['bar_seconds'], 0)} s",
        f"friction {esc(first['friction'])}",
    )
    yield masthead("risk layers side by side", f"{esc(str(first['profile']).upper())} {esc(first['direction'])}", facts)
    yield f"{banner(first)}<main>"
    yield card_list(_cards(rows))
    yield chart("comparison", "Equity and drawdown", _CAPTION, drawn=_drawn(runs), empty="No bar was stepped.")
    yield panel("What came out", _figures_table(rows))
    yield panel("What every layer costs and saves", f"<p>{_COST_WORDS}</p>{_cost_table(rows)}")
    yield panel("What the layers did", _did(runs))
    yield panel("Remarks", _remarks(runs))
    yield panel("How to get this page again", f'<pre class="command"><code>{esc(command)}</code></pre>')
    yield "</main>"


def _cards(rows: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str, str]]:
    for row in rows:
        words = f"largest drawdown {percent(row['max_drawdown'])} · {counted(row['trades'], 'trade')}"
        yield esc(row["layers"]), percent(row["roi"], signed=True), words, tone(row["roi"])


def _figures_table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = [
        (
            Cell(f'<a href="{esc(row["layers"])}/report.html">{esc(row["layers"])}</a>', float(k)),
            figure(row["roi"], percent(row["roi"], signed=True), tone(row["roi"])),
            figure(row["net_pnl"], usd(row["net_pnl"], signed=True), tone(row["net_pnl"])),
            figure(row["max_drawdown"], percent(row["max_drawdown"])),
            figure(row["sharpe"], number(row["sharpe"])),
            figure(row["profit_factor"], number(row["profit_factor"])),
            figure(row["win_rate"], percent(row["win_rate"], 1)),
            figure(row["trades"], whole(row["trades"])),
            figure(row["mean_leverage"], number(row["mean_leverage"])),
            figure(row["exposure"], percent(row["exposure"], 1)),
        )
        for k, row in enumerate(rows)
    ]
    header = ("layers", "return", "net PnL", "largest drawdown", "Sharpe", "profit factor", "win rate", "trades")
    return table((*header, "mean leverage", "exposure"), cells, caption="Figures per run; money in USDT")


def _cost_table(rows: Sequence[Mapping[str, Any]]) -> str:
    cells = []
    for k, row in enumerate(rows):
        told = row.get("difference")
        if told is None:
            continue
        cells.append(
            (
                Cell(f'{esc(row["layers"])} <span class="muted">after {esc(row["against"])}</span>', float(k)),
                figure(told["dropped"], whole(told["dropped"])),
                figure(told["losses_avoided"], usd(told["losses_avoided"], signed=True), "gain"),
                figure(-told["gains_missed"], usd(0.0 - told["gains_missed"], signed=True), "loss"),
                figure(told["added"], whole(told["added"])),
                figure(told["added_pnl"], usd(told["added_pnl"], signed=True), tone(told["added_pnl"])),
                figure(told["changed"], whole(told["changed"])),
                figure(told["changed_pnl"], usd(told["changed_pnl"], signed=True), tone(told["changed_pnl"])),
                figure(told["net"], usd(told["net"], signed=True), tone(told["net"])),
                figure(told["drawdown"], percent(told["drawdown"], signed=True), tone(-told["drawdown"])),
            )
        )
    header = ("layers", "dropped", "losses avoided", "gains missed", "added", "bringing")
    return table(
        (*header, "changed", "by", "net PnL", "drawdown"),
        cells,
        caption="What each layer changed; money in USDT",
    )


def _did(runs: Mapping[str, ReportData]) -> str:
    rows = []
    for k, (name, run) in enumerate(runs.items()):
        lines = layer_lines(run.summary) or [("nothing is on", "")]
        words = "<br>".join(f"{esc(layer)}{': ' if words else ''}{esc(words)}" for layer, words in lines)
        rows.append((Cell(esc(name), float(k)), Cell(words, float(k))))
    return table(("layers", "what they did"), rows, caption="What the layers did", sortable=False)


def _remarks(runs: Mapping[str, ReportData]) -> str:
    """Each remark once, with the runs that it belongs to."""
    who: dict[str, list[str]] = {}
    for name, run in runs.items():
        for note in run.notes:
            who.setdefault(note, []).append(name)
    words = "".join(
        f"<li>{esc(note)}{'' if len(names) == len(runs) else f' ({esc(", ".join(names))})'}</li>"
        for note, names in who.items()
    )
    return f'<ul class="prose">{words}</ul>' if words else f"<p>{NONE}</p>"
