"""Our instruments as Nautilus perpetuals."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from nautilus_trader.model.currencies import USDT
from nautilus_trader.model.enums import CurrencyType
from nautilus_trader.model.identifiers import InstrumentId, Symbol, Venue
from nautilus_trader.model.instruments import CryptoPerpetual
from nautilus_trader.model.objects import FIXED_PRECISION, Currency, Price, Quantity

from dolphin.market.instruments import Instrument
from dolphin.trade.venue import VenueModel

VENUE = Venue("BINANCE")
DATA_DECIMALS = FIXED_PRECISION
"""Prices as recorded: all the decimals that Nautilus has."""


class Traded(NamedTuple):
    """One asset of the universe: its terms, and what Nautilus trades."""

    terms: Instrument
    perpetual: CryptoPerpetual

    @property
    def id(self) -> InstrumentId:
        """The Nautilus identifier, such as BTCUSDT-PERP.BINANCE."""
        return self.perpetual.id


def traded(instruments: Sequence[Instrument], model: VenueModel) -> tuple[Traded, ...]:
    """The perpetuals of `instruments`, on the model's price grid and with its fees."""
    return tuple(Traded(terms, _perpetual(terms, model)) for terms in instruments)


def _perpetual(terms: Instrument, model: VenueModel) -> CryptoPerpetual:
    fine = model.grid == "data"
    decimals = DATA_DECIMALS if fine else terms.price_decimals
    tick = Decimal(1).scaleb(-decimals) if fine else terms.tick
    return CryptoPerpetual(
        instrument_id=InstrumentId(Symbol(f"{terms.symbol}-PERP"), VENUE),
        raw_symbol=Symbol(terms.symbol),
        base_currency=Currency(terms.base, 8, 0, terms.base, CurrencyType.CRYPTO),
        quote_currency=USDT,
        settlement_currency=USDT,
        is_inverse=False,
        price_precision=decimals,
        size_precision=terms.qty_decimals,
        price_increment=Price.from_str(f"{tick:.{decimals}f}"),
        size_increment=Quantity.from_str(f"{terms.lot:.{terms.qty_decimals}f}"),
        # The least that may be opened is the desk's to check: here it would hold back the rest of a position, too.
        min_quantity=None,
        min_notional=None,
        # Binance asks notional / leverage; Nautilus multiplies that with this rate.
        margin_init=Decimal(1),
        margin_maint=terms.maint_margin,
        maker_fee=terms.maker_fee if model.fees else Decimal(0),
        taker_fee=terms.taker_fee if model.fees else Decimal(0),
        ts_event=0,
        ts_init=0,
    )
