"""`dolphin data`: price archives, from wherever prices come."""

from __future__ import annotations

import click

from dolphin.ui.cli import LazyGroup

COMMANDS = {
    "make": ("dolphin.ui.cli.data_make:make", "Make a synthetic market, to try things on."),
    "import": ("dolphin.ui.cli.data_import:import_", "Import recorded prices: Parquet, CSV, exchange klines."),
    "download": ("dolphin.ui.cli.data_download:download", "Download klines from the exchange's public archive."),
    "instruments": ("dolphin.ui.cli.data_instruments:instruments", "Show ticks, lots and limits of the contracts."),
    "verify": ("dolphin.ui.cli.data_verify:verify", "Check an archive; compare it with a rebuild."),
}

EPILOG = """\b
Example, a week of recorded one-minute closes whose stamps are open times:
  dolphin data import recorded/ --bar-seconds 60 --stamp open --out market
  dolphin data verify market
"""


@click.command(cls=LazyGroup, lazy=COMMANDS, epilog=EPILOG)
def data() -> None:
    """Make, import, download and verify price archives.

    An archive is a folder of day files, YYYY-MM-DD.parquet, each with a UTC timestamp (the instant the bar became
    known) and one close per asset, and a manifest.json that says what the folder holds.
    """
