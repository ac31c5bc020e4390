"""`dolphin parity`: whether the engine inside NautilusTrader takes the trades that its replay takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from dolphin.core.errors import ConfigError, DolphinError
from dolphin.ui.cli.compiling import ready_kernels
from dolphin.ui.cli.console import emit_json, json_option, note, print_table, progress
from dolphin.ui.cli.options import run_options
from dolphin.ui.cli.venueoptions import venue_options
from dolphin.ui.cli.venueruns import show_bridge

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestSpec
    from dolphin.research.venue import VenueOptions

EPILOG = """\b
Examples:
  dolphin parity --data days
  dolphin parity --data days --from 2025-05-10 --to 2025-05-12 --funding funding --json
\b
Two comparisons. First a venue that costs nothing: the trades must be the replay's, one by one, or the
command ends with exit code 1. Then the venue with the costs given: the whole difference in PnL is explained.
"""


@click.command(epilog=EPILOG)
@run_options
@venue_options
@json_option
def parity(spec: BacktestSpec, venue: VenueOptions, venue_given: tuple[str, ...], as_json: bool) -> None:
    """Compare a replay with the same days inside NautilusTrader, trade by trade."""
    from dataclasses import replace

    from dolphin.market.archive import Archive
    from dolphin.research.layers import Layers
    from dolphin.trade.nautilus import require_nautilus

    require_nautilus()
    from dolphin.research.venue import VenueTerms, check_parity, frictionless_replay, run_venue_backtest, with_bridge

    source = click.get_current_context().get_parameter_source("friction")
    if source == click.core.ParameterSource.COMMANDLINE:
        raise ConfigError("--friction: parity compares without friction and then with the venue's; leave it out")
    spec = replace(spec, friction="native")
    archive = Archive.open(spec.data).select(spec.first, spec.last)
    terms, layers = VenueTerms.of(spec, venue), Layers.of(spec)  # refused before anything is compiled
    ready_kernels(archive.kind, quiet=as_json, book=spec.book is not None)
    bars = sum(archive.entry(day).rows for day in archive.days)
    with progress("comparing", 3 * bars, "bars", quiet=as_json) as advance:
        replayed = frictionless_replay(spec, advance, layers)
        compared = check_parity(spec, venue, advance, replayed)
        crossed = with_bridge(run_venue_backtest(spec, venue, advance, terms=terms), replayed)
    bridge = None if crossed.venue is None or crossed.venue.bridge is None else crossed.venue.bridge
    if bridge is None:
        raise DolphinError("parity: the venue run left no bridge")
    told = {"parity": compared.plain(), "bridge": bridge.plain()}
    if as_json:
        emit_json(told)
    else:
        _show(told, compared.ok)
    if not compared.ok:
        raise DolphinError(f"parity: {len(compared.mismatches) + compared.more} differences; the first are above")
    if not bridge.closes:
        raise DolphinError(f"parity: {bridge.remainder:+.4f} USDT of the difference are not explained")


def _show(told: dict[str, Any], ok: bool) -> None:
    parity = told["parity"]
    rows = [
        ("trades of the replay", f"{parity['replay_trades']:,}"),
        ("trades at the venue", f"{parity['venue_trades']:,}"),
        ("the same in every respect", f"{parity['matched']:,}"),
        ("largest difference of a size, lots", f"{parity['largest_notional_difference_lots']:.3f}"),
    ]
    print_table("Without friction: " + ("the same trades" if ok else "NOT the same trades"), rows, ("what", "value"))
    for line in parity["mismatches"]:
        note(line)
    if parity["mismatches_not_listed"]:
        note(f"… and {parity['mismatches_not_listed']} more")
    if not parity["replay_trades"]:
        note("There was nothing to trade on these days, so nothing was proved.")
    show_bridge(told["bridge"])
