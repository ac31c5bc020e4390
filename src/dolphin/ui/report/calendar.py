"""Calendars of returns: one small sheet per month, every day coloured by its return, each month with its own."""

from __future__ import annotations

import math
from datetime import date

import numpy as np
from numpy.typing import NDArray

from dolphin.research.metrics import daily_returns
from dolphin.research.reportdata import DailySeries
from dolphin.ui.report.numbers import percent, tone, usd

_WEEKDAYS = ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")
_MONTHS = ("January", "February", "March", "April", "May", "June", "July", "August", "September", "October")
MONTHS = (*_MONTHS, "November", "December")


def calendar(daily: DailySeries, capital0: float) -> str:
    """Month sheets as HTML: daily simple returns in the cells, the compounded return beside each month's name."""
    days: list[date] = daily.dates.astype("datetime64[D]").tolist()
    returns = daily_returns(daily.equity_close, capital0)
    reach = _reach(returns)
    by_month: dict[tuple[int, int], list[int]] = {}
    for k, day in enumerate(days):
        by_month.setdefault((day.year, day.month), []).append(k)
    sheets = [_sheet(year, month, rows, days, returns, daily, reach) for (year, month), rows in by_month.items()]
    return f'<div class="calendar">{"".join(sheets)}</div>{_legend(reach)}'


def monthly(daily: DailySeries, capital0: float) -> str:
    """A table of years by months, each cell the compounded return of that month, the last column the year's."""
    returns = daily_returns(daily.equity_close, capital0)
    days: list[date] = daily.dates.astype("datetime64[D]").tolist()
    cells: dict[tuple[int, int], float] = {}
    for day, r in zip(days, returns.tolist(), strict=True):
        for key in ((day.year, day.month), (day.year, 0)):
            cells[key] = (1.0 + cells.get(key, 0.0)) * (1.0 + r) - 1.0
    reach = max((abs(v) for v in cells.values() if math.isfinite(v)), default=0.0)
    head = "".join(f'<th scope="col">{name[:3]}</th>' for name in MONTHS)
    body = "".join(_year_row(year, cells, reach) for year in sorted({day.year for day in days}))
    return (
        '<div class="scroll" tabindex="0" role="region" aria-label="Monthly returns"><table class="heat">'
        '<caption class="unseen">Monthly returns in percent</caption>'
        f'<thead><tr><th scope="col">return, %</th>{head}<th scope="col">year</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _year_row(year: int, cells: dict[tuple[int, int], float], reach: float) -> str:
    row = []
    for month in (*range(1, 13), 0):
        value = cells.get((year, month))
        if value is None:
            row.append('<td class="num"></td>')
        else:
            shown = percent(value, signed=True).removesuffix(" %")
            row.append(f'<td class="num" style="background:{_shade(value, reach)}">{shown}</td>')
    return f'<tr><th scope="row">{year}</th>{"".join(row)}</tr>'


def _sheet(
    year: int,
    month: int,
    rows: list[int],
    days: list[date],
    returns: NDArray[np.float64],
    daily: DailySeries,
    reach: float,
) -> str:
    whole = float(np.prod(1.0 + returns[rows]) - 1.0)
    cells = [f'<span class="wd">{name}</span>' for name in _WEEKDAYS]
    # The sheet starts on the Monday of the first day that has bars, so that a short run is a short sheet.
    opening = days[rows[0]]
    first = max(opening.day - opening.weekday(), 1)
    known = {days[k].day: k for k in rows}
    cells += ["<span></span>"] * ((opening.weekday() - opening.day + first) % 7)
    for number in range(first, days[rows[-1]].day + 1):
        k = known.get(number)
        cells.append(_day(number, None if k is None else (float(returns[k]), days[k], float(daily.pnl[k])), reach))
    total = f'<b class="{tone(whole)}">{percent(whole, signed=True)}</b>'
    return (
        f'<div class="month"><h3>{MONTHS[month - 1]} {year}{total}</h3><div class="days">{"".join(cells)}</div></div>'
    )


def _day(number: int, result: tuple[float, date, float] | None, reach: float) -> str:
    if result is None:
        return f'<span class="day none" title="no bars"><i>{number}</i></span>'
    value, day, pnl = result
    hint = f"{day.isoformat()}: {percent(value, signed=True)}, {usd(pnl, signed=True)} USDT"
    shown = percent(value, signed=True).removesuffix(" %")
    return f'<span class="day" style="background:{_shade(value, reach)}" title="{hint}"><i>{number}</i>{shown}</span>'


def _shade(value: float, reach: float) -> str:
    """Blue for a gain, orange for a loss, deeper for more; the text keeps its contrast on both."""
    if not np.isfinite(value) or value == 0.0 or reach == 0.0:
        return "var(--sunk)"
    depth = 12 + 46 * min(abs(value) / reach, 1.0)
    return f"color-mix(in oklab,var(--{'gain' if value > 0 else 'loss'}) {depth:.0f}%,var(--surface))"


def _reach(returns: NDArray[np.float64]) -> float:
    """The return that gets the deepest colour: one wild day must not bleach all others."""
    sizes = np.abs(returns[np.isfinite(returns)])
    return float(np.quantile(sizes, 0.95)) if len(sizes) else 0.0


def _legend(reach: float) -> str:
    steps = "".join(f'<i style="background:{_shade(k * reach / 3, reach)}"></i>' for k in range(-3, 4))
    ends = percent(-reach), percent(reach, signed=True)
    return f'<p class="legend">{ends[0]} or worse {steps} {ends[1]} or better</p>' if reach else ""
