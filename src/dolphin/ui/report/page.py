"""The tearsheet: which charts and sections, in which order, and what is said above each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dolphin.research.reportdata import ReportData
from dolphin.ui.report import book, breaker, gate, sections, survival, venue
from dolphin.ui.report.document import document, serialised
from dolphin.ui.report.numbers import is_number, level, whole
from dolphin.ui.report.series import Figure
from dolphin.ui.report.sumcharts import bridge_figure, hold_figure, result_figure
from dolphin.ui.report.timecharts import equity_figure, leverage_figure, velocity_figure

_NO_TRADES = "No trade closed in this run."


def figures(data: ReportData) -> Iterator[tuple[str, Figure]]:
    """Every chart that this run can fill, with its name, made when it is asked for."""
    summary = data.summary
    makers: dict[str, Callable[[], Figure | None]] = {
        "equity": lambda: equity_figure(data),
        "velocity": lambda: velocity_figure(data),
        "bridge": lambda: bridge_figure(summary.get("capital_start"), dict(summary.get("pnl") or {})),
        "hold": lambda: hold_figure(data.trades),
        "result": lambda: result_figure(data.trades),
        "leverage": lambda: leverage_figure(data),
        "venue": lambda: venue.venue_figure(data),
        "venuedays": lambda: venue.days_figure(data),
        "breaker": lambda: breaker.breaker_figure(data),
        "gate": lambda: gate.gate_figure(data),
        "survival": lambda: survival.survival_figure(data),
        "book": lambda: book.book_figure(data),
    }
    for name, make in makers.items():
        figure = make()
        if figure is not None:
            yield name, figure


def parts(data: ReportData) -> Iterator[bytes]:
    """The page piece by piece as UTF-8."""
    summary = data.summary
    charts = serialised(figures(data))
    title = f"{str(summary.get('profile', '')).upper()} {summary.get('from', '')} {summary.get('to', '')}"
    return document(f"{title.strip()} · tearsheet", _body(data, charts), charts)


def _body(data: ReportData, charts: Mapping[str, bytes]) -> Iterator[str]:
    yield f"{sections.header(data.summary)}{sections.banner(data.summary)}<main>"
    yield from _sections(data, charts)
    yield (
        '</main><noscript><p class="empty">The charts need JavaScript; the figures and tables do not.</p></noscript>'
    )


def _sections(data: ReportData, charts: Mapping[str, bytes]) -> Iterator[str]:
    summary = data.summary
    yield sections.cards(summary)
    yield from (
        _chart(
            "equity",
            "Equity and drawdown",
            "Marked to market. The strip below shows when a position was open: blue above won, orange below lost. "
            f"Drag to zoom in all charts over time, double-click to leave.{_thinned(data)}",
            charts,
            empty="No bar was stepped.",
        ),
        _chart(
            "velocity",
            "The signal",
            _velocity_words(data),
            charts,
            empty="No bar has a vel_div: the windows never filled.",
        ),
        _chart(
            "bridge",
            "Where the money went",
            "Sums over all trades; costs hang down. The hatched step is an assumption about good fills, not money; "
            "later trades were sized with it, so this does not show a run without it. The axis is cut.",
            charts,
            empty="The summary holds no PnL split.",
        ),
        _chart("hold", "Hold times", "Bars between entry and exit, by exit reason.", charts, wide=False),
        _chart("result", "Results", "Net PnL of each trade.", charts, wide=False),
        _chart(
            "leverage",
            "Leverage used",
            "At entry, after every multiplier and cap, by strength of the signal.",
            charts,
        ),
    )
    yield venue.section(data)
    yield breaker.section(data)
    yield gate.section(data)
    yield survival.section(data)
    yield book.section(data)
    yield sections.calendars(data)
    yield sections.by_reason(summary)
    yield sections.gates(data)
    yield sections.by_asset(summary)
    yield sections.trade_list(data)
    yield sections.caveats(data)
    yield sections.identity(summary)


def _chart(
    name: str, title: str, caption: str, charts: Mapping[str, bytes], *, empty: str = _NO_TRADES, wide: bool = True
) -> str:
    return sections.chart(name, title, caption, drawn=name in charts, empty=empty, wide=wide)


def _thinned(data: ReportData) -> str:
    """What a reader of a long run's charts has to know: not every bar is drawn, but no extreme is missing."""
    bars, drawn = data.summary.get("bars"), len(data.bars.ts_ns)
    if not is_number(bars) or int(bars or 0) <= drawn:
        return ""
    return f" {whole(drawn)} of {whole(bars)} bars are drawn, among them the lowest and highest of every stretch."


def _velocity_words(data: ReportData) -> str:
    side = "below" if data.thresholds.is_short else "above"
    return (
        f"vel_div = v50 − v750, the short window's velocity less the long one's. Entries need it {side} "
        f"{level(data.thresholds.entry)}; from {level(data.thresholds.extreme)} on it counts as extreme. Triangles "
        "and ticks are entries. The axis opens on all but the outermost bars; double-click shows every one."
    )
