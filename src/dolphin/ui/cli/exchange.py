"""`dolphin exchange`: both ends of the wire to the venue."""

from __future__ import annotations

import click

from dolphin.ui.cli import LazyGroup

COMMANDS = {
    "sim": ("dolphin.ui.cli.exchange_sim:sim", "Run an exchange of our own on this machine, to try things on."),
    "watch": ("dolphin.ui.cli.exchange_watch:watch", "Keep the order books of a venue, live, and show them."),
}

EPILOG = """\b
Example, the first ten contracts of a synthetic market, for a minute:
  dolphin exchange sim --symbols 10 --seconds 60
"""


@click.command(cls=LazyGroup, lazy=COMMANDS, epilog=EPILOG)
def exchange() -> None:
    """Everything that speaks the exchange's protocol."""
