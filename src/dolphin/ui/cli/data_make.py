"""`dolphin data make`: a deterministic synthetic market on disk."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.ui.cli.console import emit_json, json_option, progress

if TYPE_CHECKING:
    from dolphin.market.bookfolder import BookFolder

EPILOG = """\b
Examples:
  dolphin data make --out market --days 5
  dolphin data make --out fast --days 2 --bar-seconds 5 --seed 11 --json
  dolphin data make --out market --books books
"""


@click.command(epilog=EPILOG)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the day files.")
@click.option("--days", default=5, show_default=True, help="Number of UTC days.")
@click.option("--assets", default=48, show_default=True, help="Number of assets; the first is BTCUSDT.")
@click.option("--bar-seconds", default=60, show_default=True, help="Length of a bar; must divide a day.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same market.")
@click.option("--start", default="2024-01-01", show_default=True, help="First day, YYYY-MM-DD.")
@click.option("--no-outage", is_flag=True, help="Leave out the 40-minute gap of the third day.")
@click.option("--books", type=click.Path(path_type=Path), help="Folder for order books beside this market.")
@click.option("--force", is_flag=True, help="Replace an archive, and books, that are already there.")
@json_option
def make(
    out: Path,
    days: int,
    assets: int,
    bar_seconds: int,
    seed: int,
    start: str,
    no_outage: bool,
    books: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Make a synthetic market: fat tails, moving correlation, a crash, an outage.

    The same options give the same prices. The first days do not depend on how many are asked for. It is a
    market to try things on; nothing measured on it says anything about real ones. With --books there is a
    snapshot of every order book at every bar, with withdrawals, cascades, empty sides and gaps, for `dolphin
    backtest --book`.
    """
    from dolphin.core.clock import parse_date
    from dolphin.core.errors import ConfigError
    from dolphin.market.archive import ArchiveWriter
    from dolphin.market.bookfolder import BookFolder
    from dolphin.market.synthetic import MarketSpec, make_market
    from dolphin.market.synthetic_books import BookMaker

    spec = MarketSpec(
        days=days,
        assets=assets,
        bar_seconds=bar_seconds,
        seed=seed,
        start=parse_date(start, "--start"),
        outage=not no_outage,
    )
    if books is not None and books.resolve() == out.resolve():
        raise ConfigError(f"--books {books}: is the folder of --out; give the books a folder of their own")
    source = {"made_by": "dolphin data make", "seed": str(seed), "synthetic": "true"}
    bars = 0
    with ExitStack() as stack:
        archive = stack.enter_context(ArchiveWriter(out, "prices", bar_seconds, source=source, force=force))
        shelf = None if books is None else stack.enter_context(BookFolder(books, source, force=force))
        advance = stack.enter_context(progress("making", days, "days", quiet=as_json))
        shelves = None if shelf is None else BookMaker(seed)
        for day in make_market(spec):
            archive.write(day)
            if shelf is not None and shelves is not None:
                shelf.write(shelves.make(day))
            bars += day.rows
            advance(1)
    if as_json:
        emit_json(
            {
                "out": str(out),
                "days": days,
                "assets": assets,
                "bar_seconds": bar_seconds,
                "bars": bars,
                "seed": seed,
                "start": start,
                "outage": spec.outage,
                "content_hash": archive.manifest.content_hash if archive.manifest else None,
                **_told(books, shelf),
            }
        )
        return
    click.echo(f"{out}: {days} days, {assets} assets, {bars:,} bars of {bar_seconds} s (synthetic, seed {seed})")
    if shelf is not None and shelf.manifest is not None:
        click.echo(f"{books}: {shelf.manifest.rows:,} snapshots of their order books (synthetic, seed {seed})")


def _told(books: Path | None, shelf: BookFolder | None) -> dict[str, Any]:
    if shelf is None or shelf.manifest is None:
        return {}
    told = {"out": str(books), "snapshots": shelf.manifest.rows, "content_hash": shelf.manifest.content_hash}
    return {"books": told}
