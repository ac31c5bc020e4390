"""`dolphin exchange watch`: the live books of a venue as a table, or as one line of JSON a second."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import ns_to_iso
from dolphin.core.errors import ConfigError
from dolphin.ui.cli.console import note
from dolphin.ui.cli.stopping import on_stop

if TYPE_CHECKING:
    from rich.console import RenderableType

    from dolphin.exchange.live.books import LiveBooks
    from dolphin.exchange.live.status import BookStatus, LiveStatus

EPILOG = """\b
Examples, against `dolphin exchange sim --port 8900` in another terminal:
  dolphin exchange watch --rest http://127.0.0.1:8900 --ws ws://127.0.0.1:8900
  dolphin exchange watch --rest http://127.0.0.1:8900 --ws ws://127.0.0.1:8900 --symbols BTCUSDT --seconds 10 --json
\b
A book is trusted while it is SYNCED, its stream speaks as often as it always does, and what it says is news. Prices
are shown of trusted books only. Public market data; no key is asked for, and none would be used.
"""
_PERIOD_S = 1.0


@click.command(epilog=EPILOG)
@click.option("--rest", required=True, metavar="URL", help="Base of REST, such as http://127.0.0.1:8900.")
@click.option("--ws", required=True, metavar="URL", help="Base of the streams, such as ws://127.0.0.1:8900.")
@click.option("--symbols", metavar="LIST", help="Contracts, separated by commas; all that trade when left out.")
@click.option("--limit", default=1000, show_default=True, help="Levels a side of a snapshot; fewer weigh less.")
@click.option("--tickers", is_flag=True, help="Also read best prices, which give a wrong book away.")
@click.option("--seconds", type=float, help="Stop after this long; default: at Ctrl-C or SIGTERM.")
@click.option("--allow-remote", is_flag=True, help="Let the addresses be of other machines.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON a second, for machines.")
def watch(
    rest: str,
    ws: str,
    symbols: str | None,
    limit: int,
    tickers: bool,
    seconds: float | None,
    allow_remote: bool,
    as_json: bool,
) -> None:
    """Keep the order books of a venue and show them: state, price, imbalance, age, resyncs.

    Only addresses of this machine are taken unless --allow-remote is given.
    """
    from dolphin.exchange.live.books import LiveBooks
    from dolphin.exchange.live.endpoints import Endpoints
    from dolphin.exchange.live.feed import LiveOptions

    if seconds is not None and not 0.0 < seconds <= 1e9:
        raise ConfigError(f"--seconds {seconds:g}: expected more than 0")
    names = None if symbols is None else [name.strip() for name in symbols.split(",")]
    if names is not None and (not all(names) or len(set(names)) < len(names)):
        raise ConfigError(f"--symbols {symbols}: expected contracts such as BTCUSDT,ETHUSDT, each once")
    try:
        endpoints = Endpoints(rest, ws, allow_remote=allow_remote)
    except ConfigError as error:
        if not allow_remote and "is not this machine" in str(error):
            raise ConfigError(f"{error} (--allow-remote)") from None
        raise
    options = LiveOptions(snapshot_limit=limit, tickers=tickers)
    stop = threading.Event()
    with LiveBooks(endpoints, names, options) as live, on_stop(stop.set):
        end = time.monotonic() + (seconds if seconds is not None else float("inf"))
        if as_json:
            _print_lines(live, stop, end)
        else:
            _show_table(live, stop, end)
        status = live.status()
    note(
        f"stopped: {status.messages:,} messages, {status.trusted} of {len(status.books)} books trusted, "
        f"{status.snapshots.get('loaded', 0)} snapshots"
    )


def _print_lines(live: LiveBooks, stop: threading.Event, end: float) -> None:
    while time.monotonic() < end and not stop.wait(max(0.0, min(_PERIOD_S, end - time.monotonic()))):
        click.echo(json.dumps(_line(live.status())))


def _show_table(live: LiveBooks, stop: threading.Event, end: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with Live(console=console, auto_refresh=False, transient=True) as screen:
        while time.monotonic() < end and not stop.wait(max(0.0, min(_PERIOD_S, end - time.monotonic()))):
            if console.is_terminal:
                screen.update(_table(live.status()), refresh=True)
    console.print(_table(live.status()))


def _line(status: LiveStatus) -> dict[str, Any]:
    """The status without what only grows large: counts of single books."""
    import msgspec

    told: dict[str, Any] = msgspec.to_builtins(status)
    told["time"] = ns_to_iso(status.at_ns)
    for book in told["books"]:
        del book["counts"]
    return told


def _table(status: LiveStatus) -> RenderableType:
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, header_style="bold", pad_edge=False)
    for k, name in enumerate(("symbol", "state", "mid", "spread bps", "imbalance", "age s", "lag ms", "resyncs")):
        table.add_column(name, justify="left" if k < 2 else "right")
    for book in status.books:
        table.add_row(*_row(book))
    clock = "unknown"
    if status.clock_offset_ms is not None:
        clock = f"{status.clock_offset_ms:+.1f} ± {status.clock_uncertainty_ms or 0.0:.1f} ms"
    faults = ", ".join(f"{kind} {count}" for kind, count in sorted(status.faults.items())) or "none"
    open_now = sum(one.is_open for one in status.connections)
    lines = [
        f"{status.trusted} of {len(status.books)} trusted, {status.waiting} wait for a snapshot",
        f"{status.messages:,} messages, connections open: {open_now}, bad messages: {faults}",
        f"weight {status.weight_used:,} of {status.weight_allowed:,} a minute; the venue's clock minus ours: {clock}",
    ]
    if status.last_problem:
        lines.append(status.last_problem)
    return Group(table, Text("\n".join(lines)))


def _row(book: BookStatus) -> tuple[str, ...]:
    state = "late" if book.late else "behind" if book.behind else book.refused or book.state

    def shown(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    return (
        book.symbol,
        state,
        shown(book.mid, ".10g"),
        shown(book.spread_bps, ".2f"),
        shown(book.imbalance, "+.3f"),
        shown(book.age_s, ".1f"),
        shown(book.lag_ms, ".0f"),
        str(book.resyncs),
    )
