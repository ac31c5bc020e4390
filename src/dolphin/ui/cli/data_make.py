"""`dolphin data make`: a deterministic synthetic market on disk."""

from __future__ import annotations

from pathlib import Path

import click

from dolphin.ui.cli.console import emit_json, json_option, progress

EPILOG = """\b
Examples:
  dolphin data make --out market --days 5
  dolphin data make --out fast --days 2 --bar-seconds 5 --seed 11 --json
"""


@click.command(epilog=EPILOG)
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the day files.")
@click.option("--days", default=5, show_default=True, help="Number of UTC days.")
@click.option("--assets", default=48, show_default=True, help="Number of assets; the first is BTCUSDT.")
@click.option("--bar-seconds", default=60, show_default=True, help="Length of a bar; must divide a day.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same market.")
@click.option("--start", default="2024-01-01", show_default=True, help="First day, YYYY-MM-DD.")
@click.option("--no-outage", is_flag=True, help="Leave out the 40-minute gap of the third day.")
@click.option("--force", is_flag=True, help="Replace an archive that is already there.")
@json_option
def make(
    out: Path,
    days: int,
    assets: int,
    bar_seconds: int,
    seed: int,
    start: str,
    no_outage: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Make a synthetic market: fat tails, moving correlation, a crash, an outage.

    The same options give the same prices. The first days do not depend on how many are asked for. It is a
    market to try things on; nothing measured on it says anything about real ones.
    """
    from dolphin.core.clock import parse_date
    from dolphin.market.archive import ArchiveWriter
    from dolphin.market.synthetic import MarketSpec, make_market

    spec = MarketSpec(
        days=days,
        assets=assets,
        bar_seconds=bar_seconds,
        seed=seed,
        start=parse_date(start, "--start"),
        outage=not no_outage,
    )
    source = {"made_by": "dolphin data make", "seed": str(seed), "synthetic": "true"}
    bars = 0
    with (
        ArchiveWriter(out, "prices", bar_seconds, source=source, force=force) as archive,
        progress("making", days, "days", quiet=as_json) as advance,
    ):
        for day in make_market(spec):
            archive.write(day)
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
            }
        )
        return
    click.echo(f"{out}: {days} days, {assets} assets, {bars:,} bars of {bar_seconds} s (synthetic, seed {seed})")
