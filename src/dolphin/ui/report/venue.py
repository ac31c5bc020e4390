"""From the replay to the venue: what the same decisions brought once a venue had filled them (SPEC §7, §13)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.research.reportdata import ReportData
from dolphin.ui.report.numbers import NONE, counted, esc, number, percent, tone, usd
from dolphin.ui.report.sections import chart, panel
from dolphin.ui.report.series import Figure, ink, packed, stamps
from dolphin.ui.report.sumcharts import step_bar
from dolphin.ui.report.tables import Cell, figure, table
from dolphin.ui.report.timecharts import TIME_AXIS, span


class _Part(NamedTuple):
    """A component on the page: its name, its label under a bar, what it means, its colour over time."""

    name: str
    label: str
    meaning: str
    hue: str


_PARTS = {
    "fees": _Part("Fees", "Fees", "what the venue charged on both legs", "hue3"),
    "spread_slippage": _Part(
        "Spread and slippage", "Spread and<br>slippage", "prices paid against the middle of the market", "hue1"
    ),
    "latency": _Part("Latency", "Latency", "the middle when the order was filled against the price decided on", "hue2"),
    "lot_rounding": _Part(
        "Lot rounding", "Lot<br>rounding", "quantity filled against the size asked for; partial fills too", "hue7"
    ),
    "funding": _Part("Funding", "Funding", "funding paid and received while a position was open", "hue4"),
    "protective_stops": _Part(
        "Protective stops", "Protective<br>stops", "trades that the stop order at the venue closed", "hue6"
    ),
    "sizing": _Part(
        "Knock-on: sizing", "Knock-on:<br>sizing", "other sizes, since capital and streaks had become others", "hue0"
    ),
    "timing": _Part("Knock-on: timing", "Knock-on:<br>timing", "left on another bar, or made by one run only", "hue5"),
}
_SHORT = ("fees", "slippage", "latency", "lots", "funding", "stops", "sizing", "timing")
"""The components over narrow columns, in the same order."""

_CAPTION = (
    "Net PnL of the replay without friction, what the venue made of it, and the net PnL that was left. The steps are "
    "exact sums over trades, none is an estimate; how a trade is split is told in docs/nautilus.md."
)
_DAYS_CAPTION = (
    "The same components added up over the days on which trades closed; the dotted line is the whole difference."
)
_TABLE_WORDS = (
    "Negative where the venue run earned less. Shares are of the whole difference and pass 100 % where components "
    "oppose each other; bps are of what was bought and sold, both legs."
)
_CUT = 2.0
"""The axis is cut when the steps lie further from zero than this many times their own range."""


def venue_figure(data: ReportData) -> Figure | None:
    """A waterfall from the replay's net over the components to the venue's; None for a run without a bridge."""
    told = data.bridge
    if told is None:
        return None
    parts = [(part.label, float(told["components"][name])) for name, part in _PARTS.items()]
    if not told["closes"]:
        parts.append(("<b>Unexplained</b>", float(told["remainder"])))
    levels = (float(told["replay_net"]) + np.cumsum([0.0, *(value for _, value in parts)])).tolist()
    low, high = min(levels), max(levels)
    nearest = max(low, -high, 0.0)
    cut = nearest > _CUT * (high - low) > 0.0
    if not cut:
        low, high = min(low, 0.0), max(high, 0.0)
    pad = max(high - low, 1e-9) * 0.14
    lower, upper = (low - pad if cut or low < 0.0 else 0.0), (high + pad if cut or high > 0.0 or low == 0.0 else 0.0)
    foot = 0.0 if not cut else lower if levels[0] > 0.0 else upper
    bars = [("<b>Replay</b>", levels[0], 0.0, "neutral")]
    bars += [(label, levels[k], value, "") for k, (label, value) in enumerate(parts)]
    bars += [("<b>Venue</b>", float(told["venue_net"]), 0.0, "neutral")]
    layout = {
        "height": 400,
        "showlegend": False,
        "bargap": 0.35,
        "barmode": "overlay",
        "xaxis": {"type": "category", "fixedrange": True, "tickangle": 0, "showgrid": False},
        "yaxis": {
            "range": [lower, upper],
            "tickformat": ",~r",
            "title": {"text": "net PnL, USDT, axis cut" if cut else "net PnL, USDT"},
        },
        "shapes": _connectors(levels),
    }
    return {"data": [step_bar(*bar, foot) for bar in bars], "layout": layout}


def days_figure(data: ReportData) -> Figure | None:
    """Every component's sum so far over the days; None without a bridge, without bars, or before a second day."""
    told = data.bridge
    if told is None or len(told["daily"]["dates"]) < 2 or not len(data.bars.ts_ns):
        return None
    days = np.array(told["daily"]["dates"], dtype="datetime64[D]")
    # From nothing at the first day's start to each day's sum at its end.
    x = stamps(np.append(days[:1], days + np.timedelta64(1, "D")).astype("datetime64[ns]").astype(np.int64))
    sums = {name: np.array([0.0, *told["daily"][name]], dtype=np.float64) for name in (*_PARTS, "difference")}
    traces = [_line(part.name, x, sums[name], part.hue, "solid") for name, part in _PARTS.items() if sums[name].any()]
    traces.append(_line("whole difference", x, sums["difference"], "ink", "dot"))
    layout = {
        "height": 360,
        "hovermode": "x unified",
        "xaxis": {**TIME_AXIS, "hoverformat": "until %Y-%m-%d %H:%M", "range": span(data.bars)},
        "yaxis": {"tickformat": ",~r", "title": {"text": "USDT so far"}},
        "legend": {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    }
    return {"data": traces, "layout": layout, "link": "time"}


def section(data: ReportData) -> str:
    """The charts and the tables, or nothing for a run without a bridge."""
    told = data.bridge
    if told is None:
        return ""
    waterfall = chart("venue", "From the replay to the venue", _CAPTION, drawn=True, empty="")
    days = ""
    if days_figure(data) is not None:
        days = chart("venuedays", "When the difference arose", _DAYS_CAPTION, drawn=True, empty="")
    alarm = "" if told["closes"] else _alarm(told)
    table_words = f"<p>{_facts(told)} {_TABLE_WORDS}</p>"
    body = panel("What the difference is made of", f"{alarm}{table_words}{_parts_table(told)}")
    return f"{waterfall}{body}{days}{_largest(told)}"


def _connectors(levels: list[float]) -> list[dict[str, Any]]:
    """Thin lines from each bar's end to the next bar's start, so that the eye can follow the level."""
    line = {"color": ink("faint"), "width": 1}
    return [
        {"type": "line", "layer": "below", "x0": k, "x1": k + 1, "y0": level, "y1": level, "line": line}
        for k, level in enumerate(levels)
    ]


def _line(name: str, x: dict[str, str], y: NDArray[np.float64], colour: str, dash: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": x,
        "y": packed(y),
        "line": {"color": ink(colour), "width": 1.8, "shape": "hv", "dash": dash},
        "hovertemplate": f"{name} %{{y:+,.2f}}<extra></extra>",
    }


def _alarm(told: Mapping[str, Any]) -> str:
    return (
        '<aside class="banner" role="alert"><h2>The bridge does not close</h2>'
        f"<p>The components leave {usd(told['remainder'], signed=True)} USDT unexplained as a whole, or half a cent "
        "and more in a single trade. A record contradicts itself: its net PnL is not what its prices, quantity, fees "
        "and funding give. Trust neither the steps above nor the venue's net PnL before that is found.</p></aside>"
    )


def _facts(told: Mapping[str, Any]) -> str:
    n = told["trades"]
    return (
        f"{counted(n['replay'], 'trade')} in the replay, {number(n['venue'], 0)} at the venue; "
        f"{number(n['matched'], 0)} made by both, of which {number(n['left_on_another_bar'], 0)} left on another bar; "
        f"{number(n['replay_only'], 0)} made by the replay only, {number(n['venue_only'], 0)} by the venue run only; "
        f"{counted(n['stopped'], 'position')} closed by the protective stop."
    )


def _parts_table(told: Mapping[str, Any]) -> str:
    """One row per component, then what is unexplained, then the whole difference."""
    rows = [
        _row(f'<b>{part.name}</b><span class="meaning">{part.meaning}</span>', float(k), told["components"][name], told)
        for k, (name, part) in enumerate(_PARTS.items())
    ]
    rows.append(_row('Unexplained<span class="meaning">the records contradict themselves where this is not zero</span>',
                     float(len(_PARTS)), told["remainder"], told))  # fmt: skip
    nets = f"{usd(told['replay_net'], signed=True)} to {usd(told['venue_net'], signed=True)}"
    whole = f'<b>Whole difference</b><span class="meaning">net PnL from {nets}</span>'
    rows.append(_row(whole, float(len(_PARTS) + 1), told["difference"], told))
    header = ("component", "USDT", "share of the difference", "bps of traded notional")
    return table(header, rows, caption="Components of the difference between venue run and replay", sortable=False)


def _row(label: str, place: float, value: float, told: Mapping[str, Any]) -> tuple[Cell, ...]:
    difference, traded = float(told["difference"]), float(told["traded_usd"])
    # A share of next to nothing says nothing.
    share = value / difference if abs(difference) >= 0.005 else None
    bps = value / traded * 1e4 if traded > 0.0 else None
    return (
        Cell(label, place),
        figure(value, usd(value, signed=True), tone(value) if abs(value) >= 0.005 else ""),
        figure(share, NONE if share is None else percent(share, 1)),
        figure(bps, NONE if bps is None else number(bps, 3, signed=True)),
    )


def _largest(told: Mapping[str, Any]) -> str:
    rows = [_trade_row(row) for row in told["largest"]]
    if not rows:
        return panel("Largest differences", '<p class="empty">No trade differs.</p>')
    header = ("trade", "entry (UTC)", "replay", "venue", "difference", *_SHORT)
    words = (
        "The trades whose net PnL differs most, numbered as in the replay; a dash stands where a run did not make the "
        "trade. Money in USDT."
    )
    body = table(header, rows, caption="Trades with the largest differences; money in USDT")
    return panel("Largest differences", f"<p>{words}</p>{body}")


def _trade_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    number_, only = row["replay_trade"], ""
    if number_ is None:
        number_, only = row["venue_trade"], " at the venue"
    label = f'<span class="muted">#{esc(number_)}{only}</span> {esc(row["asset"])}'
    return (
        Cell(f'{label} <span class="muted">{esc(row["side"])}</span>', float(number_)),
        Cell(esc(str(row["entry"]).removesuffix("Z").replace("T", " ")), str(row["entry"])),
        *(_money(row[run]) for run in ("replay_net", "venue_net")),
        _money(row["difference"]),
        *(_money(row["components"][name]) for name in _PARTS),
    )


def _money(value: float | None) -> Cell:
    return figure(value, usd(value, signed=True), tone(value))
