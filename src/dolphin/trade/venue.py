"""The venue's terms: what an order costs there and how long it takes (SPEC §7 "native friction", §13)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec

from dolphin.core.errors import ConfigError
from dolphin.market.instruments import Instrument


class VenueModel(msgspec.Struct, frozen=True, kw_only=True):
    """How the simulated venue behaves. Rates in basis points of the price, time in milliseconds.

    `fees`: charge each instrument's maker and taker fee. `spread_bps`: distance between bid and ask, at least what the
    tick makes of it. `slippage_bps`: how much further a market order reaches. `latency_ms`: from the decision until the
    order is at the venue; the price moves on meanwhile, in a straight line to the next bar's. `leverage`: the
    account's setting. `stop_pct`: distance of the protective stop from the entry, as a fraction; None for none.
    `grid`: "venue" puts prices on the instrument's tick, "data" leaves them as recorded.
    `largest_order`: an entry is cut to the instrument's largest market order.
    """

    fees: bool = True
    spread_bps: float = 1.0
    slippage_bps: float = 1.0
    latency_ms: float = 50.0
    leverage: int = 10
    stop_pct: float | None = 0.05
    grid: Literal["venue", "data"] = "venue"
    largest_order: bool = True

    def check(self, bar_seconds: float) -> None:
        """Raise ConfigError for values that no venue has."""
        for option, value, high in (
            ("--spread-bps", self.spread_bps, 1000.0),
            ("--slippage-bps", self.slippage_bps, 1000.0),
            ("--latency-ms", self.latency_ms, 1000.0 * bar_seconds),
        ):
            if not (math.isfinite(value) and 0.0 <= value < high):
                raise ConfigError(f"{option} {value:g}: expected 0 or more and less than {high:g}")
        if self.leverage < 1:
            raise ConfigError(f"--account-leverage {self.leverage}: expected 1 or more")
        if self.stop_pct is not None and not 0.0 < self.stop_pct < 1.0:
            raise ConfigError(f"--protective-stop {self.stop_pct:g}: expected a fraction between 0 and 1, or off")

    def plain(self) -> Mapping[str, Any]:
        """What `summary.json` says of it, the models by name."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        told["fill_model"] = f"quotes of {self.spread_bps:g} bps spread, market orders {self.slippage_bps:g} bps beyond"
        told["latency_model"] = (
            "none" if self.latency_ms == 0.0 else f"{self.latency_ms:g} ms, price interpolated between bars"
        )
        return told


FRICTIONLESS = VenueModel(
    fees=False, spread_bps=0.0, slippage_bps=0.0, latency_ms=0.0, stop_pct=None, grid="data", largest_order=False
)
"""Fills at the decision price: what a replay with `--friction none` assumes."""


def check_leverage(instruments: Sequence[Instrument], model: VenueModel) -> None:
    """Raise ConfigError when the account's leverage is above what an instrument allows."""
    over = sorted((one for one in instruments if one.max_leverage < model.leverage), key=lambda one: one.max_leverage)
    if over:
        named = ", ".join(f"{one.symbol} {one.max_leverage}" for one in over[:5])
        rest = f" and {len(over) - 5} more" if len(over) > 5 else ""
        raise ConfigError(
            f"--account-leverage {model.leverage}: above the venue's limit for {named}{rest}; expected at most "
            f"{over[0].max_leverage}"
        )
