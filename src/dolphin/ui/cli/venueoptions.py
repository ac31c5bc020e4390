"""The options of a venue: what orders cost there, and where its terms come from."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.errors import ConfigError

if TYPE_CHECKING:
    from dolphin.research.venue import VenueOptions

_FREE = ("spread_bps", "slippage_bps", "latency_ms", "protective_stop")


def venue_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options of a venue; the command receives `venue` (VenueOptions) and `venue_given`, the names of the options
    that were typed."""

    @click.option(
        "--instruments",
        type=click.Path(path_type=Path),
        help="The venue's exchangeInfo, or a table of ours (default: the bundled one; 'dolphin data instruments').",
    )
    @click.option("--funding", type=click.Path(path_type=Path), help="Recorded funding rates to be charged.")
    @click.option("--spread-bps", type=float, default=1.0, show_default=True, help="Distance of bid and ask.")
    @click.option("--slippage-bps", type=float, default=1.0, show_default=True, help="A market order's reach beyond.")
    @click.option("--latency-ms", type=float, default=50.0, show_default=True, help="From a decision to the venue.")
    @click.option("--account-leverage", type=int, default=10, show_default=True, help="The account's setting.")
    @click.option(
        "--protective-stop",
        metavar="FRACTION|off",
        default="0.05",
        show_default=True,
        help="Distance of the stop order behind every position.",
    )
    @functools.wraps(command)
    def with_venue(
        instruments: Path | None,
        funding: Path | None,
        spread_bps: float,
        slippage_bps: float,
        latency_ms: float,
        account_leverage: int,
        protective_stop: str,
        **rest: Any,
    ) -> Any:
        from dolphin.research.venue import VenueOptions
        from dolphin.trade.venue import VenueModel

        model = VenueModel(
            spread_bps=spread_bps,
            slippage_bps=slippage_bps,
            latency_ms=latency_ms,
            leverage=account_leverage,
            stop_pct=_stop(protective_stop),
        )
        given = venue_given()
        options: VenueOptions = VenueOptions(model, instruments, funding)
        return command(venue=options, venue_given=given, **rest)

    return with_venue


def venue_given() -> tuple[str, ...]:
    """The venue's options that stand on the command line, as typed."""
    context = click.get_current_context()
    names = ("instruments", "funding", *_FREE, "account_leverage")
    typed = click.core.ParameterSource.COMMANDLINE
    return tuple(f"--{name.replace('_', '-')}" for name in names if context.get_parameter_source(name) == typed)


def frictionless(options: VenueOptions, given: tuple[str, ...]) -> VenueOptions:
    """The options for `--friction none`: a venue that costs nothing. Raises ConfigError when a cost was asked for."""
    from dataclasses import replace

    import msgspec

    from dolphin.trade.venue import FRICTIONLESS

    for name in ("--funding", *(f"--{name.replace('_', '-')}" for name in _FREE)):
        if name in given:
            raise ConfigError(
                f"{name}: not with --friction none, which has no costs and no stop; leave one of them out"
            )
    return replace(options, model=msgspec.structs.replace(FRICTIONLESS, leverage=options.model.leverage))


def _stop(text: str) -> float | None:
    if text == "off":
        return None
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--protective-stop {text}: expected a fraction such as 0.05, or off") from None
