"""`dolphin exchange sim`: Binance USDT-M's market data on a loopback port, from a recording or a synthetic market."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolphin.core.clock import system_clock_ns
from dolphin.core.errors import ConfigError, DataError
from dolphin.ui.cli.console import json_option, note

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dolphin.exchange.sim.market import Market
    from dolphin.exchange.sim.server import SimExchange
    from dolphin.exchange.sim.symbols import Contract

EPILOG = """\b
Examples:
  dolphin exchange sim
  dolphin exchange sim --symbols BTCUSDT,ETHUSDT --port 8900 --faults "drop:p=0.001;disconnect:at=60"
  dolphin exchange sim --source recorded.gz --speed 10
\b
Faults, separated by ';', each kind:key=value,...
  drop duplicate reorder corrupt   what happens to a message
  stall disconnect slow            what happens to a connection
  http429 http418 http5xx          how a request is answered
  skew                             the exchange's clock runs ahead by `amount` milliseconds
Keys: p (probability per message or request), at and for (seconds after the start, of the exchange's time),
amount (messages a second of slow, seconds of Retry-After, status of http5xx, milliseconds of skew),
streams (patterns such as btcusdt@*|*@depth* or /fapi/v1/depth).
\b
A client finds REST under http://ADDRESS/fapi/v1/... and streams under ws://ADDRESS/ws and /stream, with or
without the routes /public and /market. Counters: http://ADDRESS/sim/status. The page docs/exchange.md has more.
"""
_FINE, _COARSE = 5, 30
"""Seconds between the prices of a market of up to `_FINE_MOST` contracts, and of a larger one."""
_FINE_MOST = 100


@click.command(epilog=EPILOG)
@click.option(
    "--source",
    default="synthetic",
    show_default=True,
    metavar="FILE|synthetic",
    help="A recorded stream (lines of `<local ns> <json>`, gzipped or not), or a market that is made up.",
)
@click.option(
    "--symbols",
    default="48",
    show_default=True,
    metavar="N|LIST",
    help="How many contracts the synthetic market has, or which, separated by commas.",
)
@click.option("--speed", default=1.0, show_default=True, help="Times real time; 0 is as fast as possible.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address; any other is refused.")
@click.option("--port", default=0, show_default=True, help="Port to listen on; 0 takes a free one.")
@click.option("--faults", "fault_text", default="", metavar="TEXT", help="What goes wrong, see below.")
@click.option("--seed", default=7, show_default=True, help="Same seed, same market and same draws of faults.")
@click.option("--seconds", type=float, help="Stop after this long (real time); default: at Ctrl-C or SIGTERM.")
@json_option
def sim(
    source: str,
    symbols: str,
    speed: float,
    host: str,
    port: int,
    fault_text: str,
    seed: int,
    seconds: float | None,
    as_json: bool,
) -> None:
    """Run an exchange on this machine that speaks Binance USDT-M's REST and WebSocket protocol.

    It serves market data wherever the internet would be: in demos, tests, drills. Nothing in it connects to anybody,
    and no other machine can reach it. The address is printed as soon as it listens; with --json as one line of JSON.
    """
    from dolphin.exchange.sim.faults import parse_faults
    from dolphin.exchange.sim.server import SimExchange, loopback

    loopback(host)
    faults = parse_faults(fault_text)
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected a whole number from 0")
    if seconds is not None and not 0.0 < seconds <= 1e9:
        raise ConfigError(f"--seconds {seconds:g}: expected more than 0")
    market = _market(source, symbols, seed)
    asyncio.run(
        _serve(SimExchange(market, host=host, port=port, speed=speed, faults=faults, seed=seed), seconds, as_json)
    )


async def _serve(exchange: SimExchange, seconds: float | None, as_json: bool) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    try:
        async with exchange:
            _announce(exchange, as_json)
            waits = (asyncio.create_task(exchange.wait(seconds)), asyncio.create_task(stop.wait()))
            done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            for task in pending:
                task.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
            for task in done:
                task.result()
            status = exchange.status()
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
    counts, requests = status["counts"], sum(status["requests"].values())
    note(f"stopped: {counts['messages']:,} messages to {counts['connections']:,} connections, {requests:,} requests")


def _announce(exchange: SimExchange, as_json: bool) -> None:
    if as_json:
        told = {
            "rest_url": exchange.rest_url,
            "ws_url": exchange.ws_url,
            "port": exchange.port,
            "market": exchange.market.title,
            "symbols": [contract.symbol for contract in exchange.market.contracts],
            "speed": exchange.speed,
            "faults": len(exchange.plan.faults),
        }
        click.echo(json.dumps(told))
        return
    click.echo(f"{exchange.market.title}")
    click.echo(f"REST     {exchange.rest_url}/fapi/v1/exchangeInfo")
    click.echo(f"streams  {exchange.ws_url}/ws")
    click.echo(f"status   {exchange.rest_url}/sim/status")


# --- markets ----------------------------------------------------------------------------------------------------------


def _market(source: str, symbols: str, seed: int) -> Market:
    if source != "synthetic":
        from dolphin.exchange.sim.recorded import RecordedMarket

        path = Path(source)
        if not path.is_file():
            raise DataError(f"--source {source}: no such file; expected a recorded stream, or the word synthetic")
        if click.get_current_context().get_parameter_source("symbols") == click.core.ParameterSource.COMMANDLINE:
            raise ConfigError("--symbols: a recorded stream has its own contract; leave it out")
        return RecordedMarket(path)
    from dolphin.exchange.sim.synthetic import SyntheticMarket
    from dolphin.market.synthetic import MarketSpec, make_market
    from dolphin.market.synthetic_universe import universe

    columns = _columns(symbols)
    count = max(columns) + 1
    bar = _FINE if count <= _FINE_MOST else _COARSE
    days = make_market(MarketSpec(days=3650, assets=count, bar_seconds=bar, seed=seed, outage=False))
    # Yesterday is the klines' history, today what happens: a client can warm its windows up at once.
    history = next(days).closes[:, columns]
    rows: Iterator[NDArray[np.float64]] = (row[columns] for day in days for row in day.closes)
    coins = universe(count)
    contracts = [_contract(coins.assets[k], int(coins.decimals[k]), float(coins.level[k])) for k in columns]
    start_ms = system_clock_ns() // 1_000_000
    return SyntheticMarket(contracts, rows, start_ms=start_ms, bar_seconds=bar, history=history, seed=seed)


def _columns(symbols: str) -> list[int]:
    """Places in the synthetic universe of the first N contracts, or of those listed."""
    from dolphin.market.synthetic_universe import MAX_ASSETS, universe

    if symbols.isascii() and symbols.isdigit():
        count = int(symbols)
        if not 1 <= count <= MAX_ASSETS:
            raise ConfigError(f"--symbols {symbols}: expected 1 to {MAX_ASSETS} contracts")
        return list(range(count))
    place = {name: k for k, name in enumerate(universe(MAX_ASSETS).assets)}
    names = [name.strip() for name in symbols.split(",")]
    for name in names:
        if name not in place:
            raise ConfigError(f"--symbols: {name!r} is not in the synthetic market; expected such as BTCUSDT,ETHUSDT")
    if len(set(names)) < len(names):
        raise ConfigError(f"--symbols {symbols}: a contract is there twice; name each once")
    return [place[name] for name in names]


def _contract(symbol: str, decimals: int, price: float) -> Contract:
    """The contract's lot: the bundled table's where it has one, else worth about a dollar."""
    from dolphin.exchange.sim.symbols import Contract
    from dolphin.market.instrumentfiles import load_instruments

    known = load_instruments(None).get(symbol)
    lot = known.qty_decimals if known is not None else max(0, min(3, len(str(int(price))) - 1))
    return Contract(symbol, decimals, lot, price)
