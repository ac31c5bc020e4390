"""The page's sections, each from a run's data to trusted HTML; whatever comes from data is escaped here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from dolphin.core.params import settable_names
from dolphin.research.metrics import sharpe_error
from dolphin.research.reportdata import ReportData
from dolphin.ui.report.calendar import calendar, monthly
from dolphin.ui.report.numbers import NONE, counted, esc, is_number, number, percent, tone, usd, whole
from dolphin.ui.report.tables import MAX_TRADE_ROWS, gates_table, groups_table, trades_table
from dolphin.ui.report.texts import CAVEATS, CLAIMS, GATE_MEANINGS, NO_FUNDING, run_claims

_SPIRAL = (
    '<svg class="mark" viewBox="0 0 64 64" aria-hidden="true"><path fill="none" stroke="currentColor" '
    'stroke-width="3.4" stroke-linecap="round" d="M33 35c-2.5 0-4-1.7-4-3.8 0-3.4 3-5.7 6.6-5.7 5 0 8.6 4 8.6 9 '
    "0 7-5.8 12-12.8 12C22 46.500 15.500 39.500 15.500 30.500 15.500 18.500 25 9.500 37 9.500c10 0 18 5.500 21 "
    '14.500-5-3-9-3.500-14-3"/></svg>'
)


def header(summary: Mapping[str, Any]) -> str:
    """Name, period and the run's colours at a glance."""
    badge = (
        '<span class="badge good">champion</span>'
        if summary.get("is_champion") is True
        else '<span class="badge bad">not champion</span>'
    )
    profile = str(summary.get("profile", NONE)).upper()
    facts = (
        f"{esc(summary.get('from', NONE))} to {esc(summary.get('to', NONE))}",
        counted(summary.get("days"), "day"),
        f"{counted(summary.get('bars'), 'bar')} of {number(summary.get('bar_seconds'), 0)} s",
        f"friction {esc(summary.get('friction', NONE))}",
    )
    return masthead("tearsheet", f"{esc(profile)} {esc(summary.get('direction', ''))} {badge}", facts)


def masthead(kind: str, heading: str, facts: Sequence[str]) -> str:
    """The top of a page: what kind of page, its heading and its facts, both trusted markup."""
    return (
        f'<header class="top">{_SPIRAL}<div><p class="house">DOLPHIN-NAUTILUS · {esc(kind)}</p>'
        f"<h1>{heading}</h1>"
        f'<p class="facts">{" · ".join(facts)}</p></div>'
        '<button id="theme" type="button" aria-label="Switch between light and dark">◐</button></header>'
    )


def banner(summary: Mapping[str, Any]) -> str:
    """The loud line over a run that is not the champion; nothing over one that is."""
    if summary.get("is_champion") is True:
        return ""
    defaults = settable_names()
    changes = "".join(
        f"<li><code>{esc(name)} = {esc(value)}</code> champion: <code>{esc(defaults.get(name, NONE))}</code></li>"
        for name, value in (summary.get("overrides") or {}).items()
    )
    what = f"<ul>{changes}</ul>" if changes else "<p>The summary does not say which parameters differ.</p>"
    return (
        '<aside class="banner" role="alert"><h2>This is not the champion</h2>'
        f"<p>Parameters were changed for this run. Nothing below speaks for the frozen configuration.</p>{what}</aside>"
    )


def cards(summary: Mapping[str, Any]) -> str:
    """The headline figures."""
    s, pnl = summary, summary.get("pnl") or {}
    net, edge = pnl.get("net"), pnl.get("modelled_edge")
    earned = float(net or 0.0) - float(edge or 0.0) if is_number(net) and is_number(edge) else None
    error = sharpe_error(s.get("sharpe"), int(s.get("days") or 0))
    luck = f"± {number(error, 1)} by luck alone; " if error is not None else ""
    span = f"{usd(s.get('capital_start'))} to {usd(s.get('capital_end'))} USDT"
    rows = (
        ("Return", percent(s.get("roi"), signed=True), span, tone(s.get("roi"))),
        ("PnL without modelled edge", usd(earned, signed=True), _edge_note(edge), tone(earned)),
        ("Sharpe", number(s.get("sharpe")), f"{luck}daily, ×√365", ""),
        ("Sortino", number(s.get("sortino")), "daily, ×√365", ""),
        ("Largest drawdown", percent(s.get("max_drawdown")), "marked to market, every bar", ""),
        ("Profit factor", number(s.get("profit_factor")), "gross profit ÷ gross loss", ""),
        ("Win rate", percent(s.get("win_rate"), 1), counted(s.get("trades"), "trade"), ""),
        ("Exposure", percent(s.get("exposure"), 1), "of bars in a position", ""),
    )
    return card_list(rows)


def card_list(rows: Iterable[tuple[str, str, str, str]]) -> str:
    """Headline figures: name, value, words below, and the value's classes."""
    items = "".join(
        f'<div class="card"><dt>{esc(name)}</dt><dd class="value {css}">{esc(value)}</dd><dd>{esc(sub)}</dd></div>'
        for name, value, sub, css in rows
    )
    return f'<dl class="cards">{items}</dl>'


def chart(name: str, title: str, caption: str, *, drawn: bool, empty: str, wide: bool = True) -> str:
    """A titled place for the chart `name`, or the sentence `empty` where there is nothing to draw."""
    body = f'<div class="plot" id="chart-{name}"></div>' if drawn else f'<p class="empty">{esc(empty)}</p>'
    label = f' role="group" aria-label="{esc(title)}"'
    return panel(title, f"<figure{label}><figcaption>{esc(caption)}</figcaption>{body}</figure>", wide=wide)


def panel(title: str, body: str, *, wide: bool = True) -> str:
    """A titled box; a narrow one takes half of a wide window."""
    return f'<section class="panel{"" if wide else " half"}"><h2>{esc(title)}</h2>{body}</section>'


def calendars(data: ReportData) -> str:
    """Monthly and daily returns; a sentence when no day has bars or the starting capital is not known."""
    capital0 = data.summary.get("capital_start")
    if not len(data.daily.dates) or not is_number(capital0):
        return panel("Months and days", '<p class="empty">No day of this run has bars.</p>')
    words = "Return of each UTC day on the equity of the day before, marked to market. Months are compounded."
    body = f"<p>{words}</p>{monthly(data.daily, float(capital0 or 0.0))}{calendar(data.daily, float(capital0 or 0.0))}"
    return panel("Months and days", body)


def by_reason(summary: Mapping[str, Any]) -> str:
    """Results per exit reason."""
    return panel("By exit reason", _groups("reason", summary.get("by_reason")), wide=False)


def by_asset(summary: Mapping[str, Any]) -> str:
    """Results per asset."""
    return panel("By asset", _groups("asset", summary.get("by_asset")))


def gates(data: ReportData) -> str:
    """Why no trade: the bars by the first gate that refused."""
    words = "Gates are asked in a fixed order; each bar counts once, under the first that refused."
    body = gates_table(data.gates, GATE_MEANINGS) if data.gates else '<p class="empty">No bar was stepped.</p>'
    return panel("Why no trade", f"<p>{words}</p>{body}", wide=False)


def trade_list(data: ReportData) -> str:
    """Every trade, folded away."""
    count = len(data.trades["trade_id"])
    if not count:
        return ""
    cut = f" The latest {whole(MAX_TRADE_ROWS)} are listed; trades.csv holds all." if count > MAX_TRADE_ROWS else ""
    shown = f"Show {counted(min(count, MAX_TRADE_ROWS), 'trade')}"
    fold = f"<details><summary>{shown}</summary>{trades_table(data.trades)}</details>"
    return panel("Trades", f"<p>{counted(count, 'trade')}; money in USDT, costs negative.{cut}</p>{fold}")


def caveats(data: ReportData) -> str:
    """What this run's reader should know first: remarks about the run, then about the signal and the claims."""
    unfunded = not (data.summary.get("pnl") or {}).get("funding")
    friction, fills = run_claims(data.summary.get("friction"))
    claims = (friction, *((NO_FUNDING,) if unfunded else ()), fills, *CLAIMS)
    notes = "".join(f"<li>{esc(note)}</li>" for note in data.notes)
    remarks = panel("Remarks on this run", f'<ul class="prose">{notes}</ul>') if notes else ""
    signal = panel("Before believing the signal", _prose(CAVEATS), wide=False)
    return f"{remarks}{signal}{panel('What this page does not claim', _prose(claims), wide=False)}"


def identity(summary: Mapping[str, Any]) -> str:
    """The exact command, and what it ran on: champion, data, versions, speed."""
    rows = [("champion hash", summary.get("champion_hash")), ("profile", summary.get("profile"))]
    rows += [(f"data: {name}", value) for name, value in (summary.get("data") or {}).items()]
    rows += [(f"venue: {name}", value) for name, value in _venue_facts(summary.get("venue"))]
    rows += [(f"version: {name}", value) for name, value in (summary.get("versions") or {}).items()]
    rows += [
        ("wall time", f"{number(summary.get('wall_s'))} s"),
        ("speed", f"{whole(summary.get('bars_per_s'))} bars/s"),
    ]
    return provenance(summary.get("command", NONE), rows)


def _venue_facts(venue: Mapping[str, Any] | None) -> list[tuple[str, object]]:
    """The venue that a run traded at; nothing for a replay."""
    if venue is None:
        return []
    stop, funding, table = venue["stop_pct"], venue["funding"], venue["instruments"]
    return [
        ("fills", venue["fill_model"]),
        ("latency", venue["latency_model"]),
        ("account leverage", venue["leverage"]),
        ("protective stop", "off" if stop is None else f"{100.0 * stop:g} %"),
        ("instruments", f"{table['source']}, as of {table['as_of']}, {table['hash']}"),
        ("funding", NONE if funding is None else f"{funding['source']}, {funding['hash']}"),
    ]


def provenance(command: object, rows: Iterable[tuple[str, object]]) -> str:
    """The command behind a page, and facts that identify what it was run on."""
    items = "".join(f"<div><dt>{esc(k)}</dt><dd>{esc(NONE if v is None else v)}</dd></div>" for k, v in rows)
    body = f'<pre class="command"><code>{esc(command)}</code></pre><dl class="identity">{items}</dl>'
    return panel("How to get this page again", body)


def _groups(label: str, groups: Mapping[str, Mapping[str, Any]] | None) -> str:
    return groups_table(label, groups) if groups else '<p class="empty">No trade closed in this run.</p>'


def _edge_note(edge: Any) -> str:
    return f"the model adds {usd(edge, signed=True)}: not money" if is_number(edge) else "modelled edge not given"


def _prose(rows: tuple[tuple[str, str], ...]) -> str:
    return "".join(f'<p class="prose"><b>{esc(head)}</b> {esc(words)}</p>' for head, words in rows)
