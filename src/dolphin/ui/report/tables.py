"""Tables as HTML: right-aligned figures, a raw value behind each cell so that sorting is by number, not by text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from dolphin.core.clock import ns_to_iso
from dolphin.research.metrics import TRADE_COLUMNS, TradeTable
from dolphin.ui.report.numbers import NONE, esc, is_number, number, percent, price, tone, usd, whole
from dolphin.ui.report.series import bucket_name, net_of, trade_rows

MAX_TRADE_ROWS = 500
"""How many trades the page lists; the files beside it hold all of them."""


_TRADE_HEADER = (
    *(
        "trade",
        "side",
        "net PnL",
        "entry (UTC)",
        "exit (UTC)",
        "bars",
        "entry price",
        "exit price",
        "notional",
        "leverage",
    ),
    *("bucket", "reason", "price", "fees", "slippage", "funding", "modelled edge", "capital after"),
)


class Cell(NamedTuple):
    """One table cell: `markup` is trusted HTML, `key` what sorting compares, `css` its classes."""

    markup: str
    key: float | str
    css: str = ""


def table(header: Sequence[str], rows: Iterable[Sequence[Cell]], *, caption: str, sortable: bool = True) -> str:
    """A table whose first column is text and whose others are figures; `caption` is read to those who cannot see it."""
    head = "".join(f'<th scope="col">{_button(name) if sortable else esc(name)}</th>' for name in header)
    body = "".join(f"<tr>{''.join(map(_td, row))}</tr>" for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{esc(caption)}"><table{kind}>'
        f'<caption class="unseen">{esc(caption)}</caption>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def groups_table(title: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    """Per-reason or per-asset figures, with a bar that shows where the money came from."""
    header = (title, "trades", "win rate", "net PnL", "", "average", "bars held")
    reach = max((abs(row["net_pnl"]) for row in groups.values()), default=0.0)
    rows = [
        (
            text(name),
            figure(row["count"], whole(row["count"])),
            figure(row["win_rate"], percent(row["win_rate"], 1)),
            figure(row["net_pnl"], usd(row["net_pnl"], signed=True), tone(row["net_pnl"])),
            Cell(_split_bar(row["net_pnl"], reach), row["net_pnl"], "barcell"),
            figure(row["avg_pnl"], usd(row["avg_pnl"], signed=True), tone(row["avg_pnl"])),
            figure(row["avg_hold_bars"], number(row["avg_hold_bars"], 1)),
        )
        for name, row in groups.items()
    ]
    return table(header, rows, caption=f"Results per {title}; money in USDT")


def gates_table(gates: Mapping[str, int], meanings: Mapping[str, str]) -> str:
    """How many bars each gate refused, most first, with a bar for its share of all bars."""
    total = sum(gates.values())
    rows = []
    for name, count in sorted(gates.items(), key=lambda item: (-item[1], item[0])):
        share = count / total if total else 0.0
        meaning = meanings.get(name, "")
        label = f'<b class="code">{esc(name)}</b><span class="meaning">{esc(meaning)}</span>'
        fill = "accent" if name == "ENTERED" else "bridge"
        bar = f'<span class="bar"><i style="width:{_css(share)};background:var(--{fill})"></i></span>'
        cells = (
            Cell(label, name),
            figure(count, whole(count)),
            figure(share, percent(share)),
            Cell(bar, share, "barcell"),
        )
        rows.append(cells)
    return table(("first gate that refused", "bars", "share", ""), rows, caption="Bars by the first gate that refused")


def trades_table(trades: TradeTable) -> str:
    """The trades one by one, the latest MAX_TRADE_ROWS of them."""
    latest = {name: trades[name][-MAX_TRADE_ROWS:] for name in TRADE_COLUMNS}
    return table(_TRADE_HEADER, map(_trade_row, trade_rows(latest)), caption="Trades; money in USDT")


def text(value: object) -> Cell:
    """A cell of escaped text."""
    return Cell(esc(value), str(value))


def figure(key: Any, shown: str, css: str = "") -> Cell:
    """A right-aligned figure; an undefined one sorts below all others."""
    return Cell(shown, float(key) if is_number(key) else -math.inf, f"num {css}".strip())


def traded(trades: TradeTable, mine: NDArray[np.bool_]) -> tuple[Cell, Cell, Cell]:
    """The cells of some trades: how many, their mean leverage, their net PnL."""
    count, total = int(mine.sum()), float(net_of(trades)[mine].sum())
    mean = float(np.asarray(trades["leverage"], dtype=np.float64)[mine].mean()) if count else None
    return (
        figure(count, whole(count)),
        figure(mean, NONE if mean is None else number(mean)),
        figure(total, usd(total, signed=True), tone(total)),
    )


def _trade_row(row: Mapping[str, Any]) -> tuple[Cell, ...]:
    bars = row["exit_bar"] - row["entry_bar"]
    parts = ("pnl_price", "fees", "slippage", "funding", "modelled_edge")
    return (
        Cell(f'<span class="muted">#{esc(row["trade_id"])}</span> {esc(row["asset"])}', float(row["trade_id"])),
        text(row["side"]),
        figure(row["net_pnl"], usd(row["net_pnl"], signed=True), tone(row["net_pnl"])),
        figure(row["entry_ts"], _minute(row["entry_ts"])),
        figure(row["exit_ts"], _minute(row["exit_ts"])),
        figure(bars, whole(bars)),
        figure(row["entry_price"], price(row["entry_price"])),
        figure(row["exit_price"], price(row["exit_price"])),
        figure(row["notional_usd"], usd(row["notional_usd"])),
        figure(row["leverage"], number(row["leverage"])),
        Cell(esc(bucket_name(row["bucket"])), float(row["bucket"])),
        text(row["reason"]),
        *(figure(row[part], usd(row[part], signed=True)) for part in parts),
        figure(row["capital_after"], usd(row["capital_after"])),
    )


def _minute(ts_ns: int) -> str:
    return ns_to_iso(ts_ns).removesuffix("Z").replace("T", " ")


def _split_bar(value: float, reach: float) -> str:
    """A bar to the left of the middle for a loss, to the right for a gain."""
    width = _css(abs(value) / reach / 2 if reach else 0.0)
    side = "left:50%" if value >= 0 else "right:50%"
    colour = "gain" if value >= 0 else "loss"
    return f'<span class="bar split"><i style="{side};width:{width};background:var(--{colour})"></i></span>'


def _css(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"


def _td(cell: Cell) -> str:
    css = f' class="{cell.css}"' if cell.css else ""
    key = NONE if cell.key == -math.inf else cell.key
    return f'<td{css} data-key="{esc(key)}">{cell.markup}</td>'


def _button(name: str) -> str:
    return f'<button type="button">{esc(name)}</button>' if name else '<span class="unseen">share</span>'
