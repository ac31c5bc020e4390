"""The order book's section: its regime, lean and cascades over time, and what OB-1 to OB-5 did (SPEC §3–§8)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from dolphin.research.reportdata import BookSeries, ReportData
from dolphin.ui.report.numbers import NONE, counted, esc, number, percent, usd, whole
from dolphin.ui.report.sections import chart, panel
from dolphin.ui.report.series import Figure, ink, packed, stamps
from dolphin.ui.report.tables import Cell, figure, table, text
from dolphin.ui.report.timecharts import TIME_AXIS, span

_LANES = ("no book", "calm", "neither", "stress")
_COLOURS = ("faint", "hue4", "hue5", "loss")
_CAPTION = (
    "Above, what the books of all assets together say: calm, stress, neither, or no usable book. Below it the median "
    "imbalance, positive where bids outweigh asks, and the number of assets whose liquidity is leaving at once."
)
_WORDS = (
    "Asked: how often a rule could have a say. Fired: how often it said anything but neutral. What it changed is "
    "judged at that bar alone, by asking the same rule without the book; a trade that the book brought or spared "
    "changes every later one, and only a run with --compare shows that."
)
_NO_BOOK = (
    "This run had no order book. OB-1 to OB-5 were neutral at every bar, and where edge is modelled, the legacy draw "
    "decided it: a seeded chance at each close, and no measurement. Give --book to replay with one."
)


def book_figure(data: ReportData) -> Figure | None:
    """The regime in lanes, the median imbalance and the cascades below; None without a book, or without bars."""
    series = data.book
    if series is None or not len(series.spell_ns) or not len(data.bars.ts_ns):
        return None
    top = max(3.0, float(np.max(series.cascade, initial=0.0)))
    known = series.imbalance[np.isfinite(series.imbalance)]
    lean = max(0.1, float(np.max(np.abs(known), initial=0.0)))
    layout = {
        "height": 480,
        "hovermode": "x unified",
        "showlegend": False,
        "xaxis": {**TIME_AXIS, "anchor": "free", "position": 0, "range": span(data.bars)},
        "yaxis": {"domain": [0.30, 0.70], "range": [-1.08 * lean, 1.08 * lean], "title": {"text": "imbalance"}},
        "yaxis2": {
            "domain": [0.76, 1],
            "range": [-0.6, 3.6],
            "tickvals": list(range(len(_LANES))),
            "ticktext": list(_LANES),
            "fixedrange": True,
            "zeroline": False,
        },
        "yaxis3": {"domain": [0, 0.22], "range": [0, 1.08 * top], "tickformat": "d", "title": {"text": "cascade"}},
    }
    return {"data": [*_lanes(series), *_lines(series)], "layout": layout, "link": "time"}


def _lanes(series: BookSeries) -> list[dict[str, Any]]:
    """Per state a thick line in its lane, spell by spell."""
    starts = np.asarray(series.spell_ns) / 1e6
    ends = np.append(starts[1:], max(series.end_ns / 1e6, float(starts[-1]) + 60_000.0))
    traces = []
    for state, (name, colour) in enumerate(zip(_LANES, _COLOURS, strict=True)):
        mine = series.spell_state == state
        if not mine.any():
            continue
        x = np.column_stack((starts[mine], ends[mine], np.full(int(mine.sum()), np.nan))).ravel()
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": name,
                "x": packed(x),
                "y": packed(np.full(len(x), float(state))),
                "yaxis": "y2",
                "hoverinfo": "skip",
                "line": {"color": ink(colour), "width": 13, "simplify": False},
            }
        )
    return traces


def _lines(series: BookSeries) -> list[dict[str, Any]]:
    line = {"type": "scatter", "mode": "lines", "x": stamps(series.ts_ns)}
    return [
        {
            **line,
            "name": "median imbalance",
            "y": packed(series.imbalance),
            "line": {"color": ink("accent"), "width": 1.2},
            "hovertemplate": "median imbalance %{y:+.3f}<extra></extra>",
        },
        {
            **line,
            "name": "assets in a cascade",
            "y": packed(series.cascade),
            "yaxis": "y3",
            "fill": "tozeroy",
            "fillcolor": ink("loss-soft"),
            "line": {"color": ink("loss"), "width": 1, "shape": "hv"},
            "hovertemplate": "%{y:d} assets in a cascade<extra></extra>",
        },
    ]


def section(data: ReportData) -> str:
    """The chart and the rules, or a sentence for a run without a book."""
    if "book" not in data.summary:
        return ""
    told = data.summary["book"]
    if told is None:
        return panel("Order book", f"<p>{_NO_BOOK}</p>")
    drawn = data.book is not None and bool(len(data.book.spell_ns) and len(data.bars.ts_ns))
    timeline = chart("book", "Order book", _CAPTION, drawn=drawn, empty="No bar was stepped.")
    return timeline + panel("Rules of the order book", f"<p>{_facts(told)} {_WORDS}</p>{_rules(told)}")


def _facts(told: Mapping[str, Any]) -> str:
    bars, seen = told["bars"], told["snapshots"]
    usable = told["bars_usable"] / bars if bars else 0.0
    return (
        f"A usable market on {percent(usable, 1)} of bars, {counted(len(told['assets']), 'asset')} covered; "
        f"{counted(seen['taken'], 'snapshot')} taken, {whole(seen['repeated'])} met again or out of date, "
        f"{whole(seen['too_old'])} too old when met, {whole(seen['refused'])} refused. {_edge(told['edge'])}"
    )


def _edge(edge: Mapping[str, Any] | None) -> str:
    if edge is None:
        return "No edge was modelled in this run."
    book, draw = edge["book"], edge["draw"]
    return (
        f"Modelled edge: {counted(book['closes'], 'close')} decided by the book "
        f"({usd(book['modelled_edge'], signed=True)} USDT), {whole(draw['closes'])} by the legacy draw "
        f"({usd(draw['modelled_edge'], signed=True)} USDT)."
    )


def _rules(told: Mapping[str, Any]) -> str:
    said = _said(told["rules"])
    cells = [
        (
            text(name),
            Cell(esc(what), what, "words"),
            figure(told["rules"][name]["asked"], whole(told["rules"][name]["asked"])),
            figure(told["rules"][name]["fired"], whole(told["rules"][name]["fired"])),
            Cell(esc(words), words, "words"),
        )
        for name, what, words in said
    ]
    header = ("rule", "moves", "asked", "fired", "what it changed")
    return table(header, cells, caption="Rules of the order book", sortable=False)


def _said(rules: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """(rule, what it moves, what it changed) in words."""
    one, two, three, four, five = (rules[f"OB-{k}"] for k in range(1, 6))
    change = NONE if two["mean_change"] is None else number(two["mean_change"], 3, signed=True)
    mean = NONE if three["mean_multiplier"] is None else number(three["mean_multiplier"], 3)
    entries = "1 entry" if four["entries"] == 1 else f"{whole(four['entries'])} entries"
    selection = (
        f"another choice at {counted(one['other_asset'], 'bar')}, {whole(one['to_no_asset'])} of them no asset, "
        f"{whole(one['entries_elsewhere'])} of them entered; {whole(one['dropped_for_depth'])} assets dropped for depth"
    )
    confidence = (
        f"raised {whole(two['raised'])}, lowered {whole(two['lowered'])}, by {change} in the mean; "
        f"{whole(two['refused'])} refused"
    )
    leverage = (
        f"raised {whole(three['raised'])}, lowered {whole(three['lowered'])}; mean multiplier {mean}, "
        f"{usd(three['notional_added'], 0, signed=True)} USDT of notional"
    )
    beta = f"{entries} with a stressed beta, {usd(four['notional_added'], 0, signed=True)} USDT of notional"
    exits = (
        f"bars under cascade {whole(five['bars_cascade'])}, stress {whole(five['bars_stress'])}, calm "
        f"{whole(five['bars_calm'])}, withdrawal {whole(five['bars_withdrawal'])}; "
        f"{whole(five['exits_by_the_book'])} closed where the base would hold, "
        f"{whole(five['exits_for_another_reason'])} for another reason, "
        f"{whole(five['positions_held_on'])} held where the base would close"
    )
    return [
        ("OB-1", "the asset", selection),
        ("OB-2", "confidence", confidence),
        ("OB-3", "leverage", leverage),
        ("OB-4", "beta", beta),
        ("OB-5", "exits", exits),
    ]
