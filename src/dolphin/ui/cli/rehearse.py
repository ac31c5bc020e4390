"""`dolphin rehearse`: the whole live loop against an exchange, timed, and compared with its replay."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from dolphin.core.errors import ConfigError, ExchangeError
from dolphin.ui.cli.compiling import ready_kernels
from dolphin.ui.cli.console import emit_json, json_option, note, print_table, progress
from dolphin.ui.cli.stopping import on_stop

if TYPE_CHECKING:
    from dolphin.exchange.live.status import LiveStatus
    from dolphin.ops.rehearsal import Rehearsal

EPILOG = """\b
Examples:
  dolphin rehearse                                  fifty contracts, a bar every 100 ms, ten minutes
  dolphin rehearse --minutes 1 --symbols 20 --faults "drop:p=0.001;disconnect:at=20"
  dolphin rehearse --rest http://127.0.0.1:8900 --ws ws://127.0.0.1:8900 --symbols BTCUSDT,ETHUSDT
  dolphin rehearse --out monday && dolphin backtest --data monday/prices --book monday/books --out run
\b
Exit code 1 when a bar was missed, or when the replay decides anything else than the live loop did.
"""


@click.command(epilog=EPILOG)
@click.option("--minutes", default=10.0, show_default=True, help="How long.")
@click.option("--bar-seconds", default=0.1, show_default=True, help="Length of a bar.")
@click.option("--symbols", default="50", show_default=True, metavar="N|LIST", help="How many contracts, or which.")
@click.option("--profile", default="blue", show_default=True, help="blue (SHORT) or green (LONG).")
@click.option("--rest", metavar="URL", help="REST of an exchange that runs; default: one is started on this machine.")
@click.option("--ws", metavar="URL", help="Streams of that exchange.")
@click.option("--faults", default="", metavar="TEXT", help="What goes wrong at the exchange that is started.")
@click.option("--seed", default=7, show_default=True, help="Of the market that is started.")
@click.option("--sync-seconds", default=120.0, show_default=True, help="How long to wait for the books.")
@click.option("--no-replay", is_flag=True, help="Do not replay what was seen, nor compare.")
@click.option("--out", type=click.Path(path_type=Path), help="Keep prices, books and figures in this folder.")
@click.option("--force", is_flag=True, help="Replace what --out holds.")
@json_option
def rehearse(
    minutes: float,
    bar_seconds: float,
    symbols: str,
    profile: str,
    rest: str | None,
    ws: str | None,
    faults: str,
    seed: int,
    sync_seconds: float,
    no_replay: bool,
    out: Path | None,
    force: bool,
    as_json: bool,
) -> None:
    """Run the live loop at full pace: stream, books, features, scan, step. Nothing is ordered.

    It tells whether this machine keeps up with bars of that length, how long after a bar was due its decision was
    there, and whether a replay of what the bars saw decides the same, bit for bit.
    """
    from dolphin.exchange.live.books import LiveBooks
    from dolphin.exchange.live.endpoints import Endpoints
    from dolphin.ops import rehearsal

    if (rest is None) != (ws is None):
        raise ConfigError(
            "--rest and --ws go together; give both for an exchange that runs, or none to have one started"
        )
    if rest is not None and faults:
        raise ConfigError("--faults: for the exchange that is started here; tell one that runs through /sim/faults")
    if not 0.0 < minutes <= 1e6:
        raise ConfigError(f"--minutes {minutes:g}: expected more than 0")
    if not sync_seconds > 0.0:
        raise ConfigError(f"--sync-seconds {sync_seconds:g}: expected more than 0")
    plan = rehearsal.Plan(
        bars=max(1, round(minutes * 60.0 / bar_seconds)) if bar_seconds > 0.0 else 1,
        bar_seconds=bar_seconds,
        profile=profile,
        replayed=not no_replay,
    ).checked()
    ready_kernels("prices", quiet=as_json, book=True)
    wanted = None if symbols.isdigit() else tuple(name.strip() for name in symbols.split(","))
    stopped = threading.Event()
    with (
        _exchange(rest, ws, symbols, faults, seed) as (rest_url, ws_url),
        on_stop(stopped.set),
        LiveBooks(Endpoints(rest_url, ws_url), wanted) as live,
    ):
        _wait(live, sync_seconds, as_json)
        assets = live.symbols
        with progress("rehearsing", plan.bars, "bars", quiet=as_json) as advance:
            done, tape = rehearsal.rehearse(plan, live.cache, assets, advance=advance, stop=stopped.is_set)
        status = live.status()
    if out is not None:
        source = {"made_by": "dolphin rehearse", "rest": rest or "an exchange of its own", "seed": seed}
        rehearsal.save(out, done, tape, source, force=force)
    _tell(done, status, as_json)
    if not done.kept_up or done.first_difference:
        raise ExchangeError(_verdict(done))


def _wait(live: Any, seconds: float, quiet: bool) -> None:
    if not quiet:
        note(f"waiting for {len(live.symbols)} books")
    if not live.wait_synced(seconds):
        raise ExchangeError(
            f"{len(live.cache)} of {len(live.symbols)} books were right after {seconds:g} s; give it longer with "
            "--sync-seconds, or see with `dolphin exchange watch` what they wait for"
        )


@contextmanager
def _exchange(rest: str | None, ws: str | None, symbols: str, faults: str, seed: int) -> Iterator[tuple[str, str]]:
    """The exchange that was named, or one in a process of its own, which ends with the block."""
    if rest is not None and ws is not None:
        yield rest, ws
        return
    command = [sys.executable, "-c", "from dolphin.ui.cli import main; main()"]
    command += ["exchange", "sim", "--json", "--symbols", symbols, "--seed", str(seed), "--faults", faults]
    with subprocess.Popen(  # noqa: S603  # this very program
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            told = process.stdout.readline() if process.stdout else ""
            if not told:
                said = (process.stderr.read() if process.stderr else "").strip().splitlines()
                raise ConfigError(said[-1].removeprefix("error: ") if said else "the exchange did not start")
            at = json.loads(told)
            yield at["rest_url"], at["ws_url"]
        finally:
            process.terminate()
            process.communicate()


def _tell(done: Rehearsal, status: LiveStatus, as_json: bool) -> None:
    resyncs = sum(book.resyncs - 1 for book in status.books if book.resyncs)
    if as_json:
        feed = {"messages": status.messages, "resyncs": resyncs, "faults": status.faults, "streams": status.streams}
        emit_json({**msgspec.to_builtins(done), "kept_up": done.kept_up, "feed": feed})
        return
    rows = [
        (name, *(f"{getattr(each, part):.2f}" for part in ("p50", "p99", "p999", "max")))
        for name, each in (
            ("due → decision", done.ready),
            ("  begun late", done.late),
            ("  books and prices read", done.read),
            ("  features", done.features),
            ("  scan", done.scan),
            ("  step", done.step),
            ("age of the books used", done.book_age),
        )
    ]
    title = f"{done.bars:,} bars of {done.bar_seconds:g} s, {done.assets} contracts, {done.seconds:,.0f} s"
    print_table(title, rows, ("milliseconds", "median", "99 %", "99.9 %", "longest"))
    click.echo(
        f"stream     {status.messages:,} messages, {resyncs} resyncs; books right {done.books_share:.2%} of the time"
    )
    gates = ", ".join(f"{name} {count:,}" for name, count in done.gates.items())
    click.echo(f"decisions  {gates}; {done.trades} trades closed")
    click.echo(_verdict(done))


def _verdict(done: Rehearsal) -> str:
    pace = (
        "kept up: no bar missed"
        if done.kept_up
        else f"fell behind: {done.missed} bars of {done.bar_seconds:g} s missed"
    )
    if done.first_difference is None:
        return f"{pace}; not replayed"
    same = done.first_difference or "the same, bit for bit"
    return f"{pace}; replay: {same}"
