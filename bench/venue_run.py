"""One run inside NautilusTrader, in a process of its own: `python -m bench.venue_run ours|plain SCANS`.

`ours` feeds what is needed; `plain` feeds every instrument's bars to the matching engine, as one does without thinking,
and the scans beside them. The same actor, the same orders. Prints one JSON object.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from nautilus_trader.model.data import Bar, BarType

from dolphin.market.instrumentfiles import bundled_instruments
from dolphin.market.instruments import Instrument
from dolphin.research.backtest import BacktestSpec, bars_of, run_backtest, stream_scans
from dolphin.research.parity import compare_trades
from dolphin.trade.blocks import ScanBlock
from dolphin.trade.nautilus import backtest
from dolphin.trade.nautilus.market import VenueMarket
from dolphin.trade.venue import FRICTIONLESS


class PlainMarket(VenueMarket):
    """Bars for everybody; quotes for nobody."""

    def attach(self, engine: Any, charge: Any) -> None:
        """All bars of all instruments first, so that a scan finds the market where its bar has left it."""
        blocks, link = [], self._at
        while link is not None:
            blocks.append(link.block)
            link = link.next()
        stamps = np.concatenate([block.ts_ns for block in blocks]).astype(np.uint64)
        closes = np.concatenate([block.closes for block in blocks])
        for column, asset in enumerate(self._assets):
            there = closes[:, column] > 0.0
            one = np.ascontiguousarray(closes[there, column])
            engine.add_data(bars_of_one(asset, one, np.full(len(one), 4e9), stamps[there]), sort=False)
        engine.sort_data()
        engine.add_data_iterator("scans", self._scans())


def bars_of_one(asset: Any, closes: Any, volume: Any, stamps: Any) -> list[Bar]:
    """One instrument's bars, each standing still at its close."""
    perpetual = asset.perpetual
    kind = BarType.from_str(f"{perpetual.id}-1-MINUTE-LAST-EXTERNAL")
    bars: list[Bar] = Bar.from_raw_arrays_to_list(
        kind,
        perpetual.price_precision,
        perpetual.size_precision,
        closes,
        closes,
        closes,
        closes,
        volume,
        stamps,
        stamps,
    )
    return bars


def instruments(assets: tuple[str, ...]) -> tuple[Instrument, ...]:
    """The bundled terms; assets that no exchange has get terms of their own."""
    table = bundled_instruments()
    invented = {
        name: Instrument(
            symbol=name,
            base=name.removesuffix("USDT"),
            quote="USDT",
            tick=Decimal("0.0001"),
            lot=Decimal("0.1"),
            min_qty=Decimal("0.1"),
            max_qty=Decimal(1_000_000_000),
            min_notional=Decimal(5),
            max_leverage=25,
            maint_margin=Decimal("0.02"),
        )
        for name in assets
        if table.get(name) is None
    }
    return tuple(invented.get(name) or table[name] for name in assets)


def main(argv: list[str]) -> None:
    """Replay, trade, compare, print."""
    mode, folder = argv
    spec = BacktestSpec(data=Path(folder), friction="none")
    replayed = run_backtest(spec)
    if mode == "plain":
        backtest.VenueMarket = PlainMarket
    terms = backtest.VenueSpec(
        instruments=instruments(replayed.assets),
        model=FRICTIONLESS,
        capital=spec.capital,
        profile=spec.profile,
        overrides={},
        bar_seconds=60.0,
    )

    def blocks() -> Iterator[ScanBlock]:
        for scans in stream_scans(spec):
            yield ScanBlock(scans.day, scans.ts_ns, bars_of(scans), scans.closes, scans.scan_number)

    started = time.perf_counter()
    run = backtest.run_venue(blocks(), terms)
    seconds = time.perf_counter() - started
    parity = compare_trades(replayed.trades, run.trips, replayed.assets)
    told = {
        "mode": mode,
        "seconds": seconds,
        "bars": run.counts.bars,
        "assets": len(replayed.assets),
        "trades": len(run.trips),
        "matched": parity.matched,
        "parity": parity.ok,
        "mismatches": [str(one) for one in parity.mismatches[:3]],
        "nautilus": sys.modules["nautilus_trader"].__version__,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
