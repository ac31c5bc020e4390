"""`dolphin data instruments`: ticks, lots and limits, and where they come from."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolphin.ui.cli.console import emit_json, json_option, print_table

if TYPE_CHECKING:
    from dolphin.market.instruments import Instrument, InstrumentTable

EPILOG = """\b
Examples:
  dolphin data instruments BTCUSDT ETHUSDT
  dolphin data instruments --instruments exchangeInfo.json --json
"""
_NAMED = 5


@click.command(epilog=EPILOG)
@click.argument("symbols", metavar="[SYMBOL]...", nargs=-1)
@click.option(
    "--instruments",
    "file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The venue's exchangeInfo (JSON), or a CSV of instruments (default: the bundled table).",
)
@json_option
def instruments(symbols: tuple[str, ...], file: Path | None, as_json: bool) -> None:
    """Show what the venue's rules are taken to be: tick, lot, order limits, leverage, fees.

    Without FILE it is a bundled table of typical values, kept by hand; for real work give the venue's own exchangeInfo
    of the period traded. With SYMBOLs only those are shown, and one that is missing is an error.
    """
    from dolphin.market.instrumentfiles import load_instruments

    table = load_instruments(file)
    shown = table.select(symbols) if symbols else tuple(table)
    if as_json:
        emit_json(_document(table, shown))
    else:
        _show(table, shown)


def _document(table: InstrumentTable, shown: tuple[Instrument, ...]) -> dict[str, object]:
    return {
        "as_of": str(table.as_of),
        "source": table.source,
        "identity": table.identity(),
        "instruments": [
            {name: _json(getattr(one, name)) for name in one.__struct_fields__}
            | {"price_decimals": one.price_decimals, "qty_decimals": one.qty_decimals}
            for one in shown
        ],
        "left_out": dict(table.left_out),
    }


def _json(value: object) -> object:
    """Decimals as text, so that no reader rounds them."""
    return f"{value:f}" if isinstance(value, Decimal) else value


def _show(table: InstrumentTable, shown: tuple[Instrument, ...]) -> None:
    rows = [
        (
            one.symbol,
            f"{one.tick:f}",
            f"{one.lot:f}",
            f"{one.max_qty:f}",
            f"{one.min_notional:f}",
            str(one.max_leverage),
            f"{float(one.maker_fee * 10_000):g}/{float(one.taker_fee * 10_000):g}",
        )
        for one in shown
    ]
    print_table(
        f"instruments as of {table.as_of}",
        rows,
        ("symbol", "tick", "lot", "largest\norder", "least\nUSDT", "leverage", "fees\nbps"),
    )
    if table.left_out:
        some = "; ".join(f"{symbol}: {reason}" for symbol, reason in list(table.left_out.items())[:_NAMED])
        more = len(table.left_out) - _NAMED
        click.echo(f"left out: {some}" + (f"; and {more} more, see --json" if more > 0 else ""))
    click.echo(
        f"{len(shown)} of {len(table)} instruments, as of {table.as_of}, identity {table.identity()}; "
        f"source: {table.source}"
    )
