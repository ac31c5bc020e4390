"""`dolphin obf`: the order-book service, run and looked at."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import NS_PER_S, system_clock_ns
from dolphin.core.errors import ConfigError, DolphinError, GridError
from dolphin.ui.cli.console import emit_json, json_option, note, print_table
from dolphin.ui.cli.grid import grid_option, opened
from dolphin.ui.cli.stopping import on_stop

if TYPE_CHECKING:
    from dolphin.ops.obf.metrics import ObfMetrics
    from dolphin.ops.obf.sources import BookSource

EPILOG = """\b
Examples:
  dolphin obf run --source mock --symbols BTCUSDT,ETHUSDT
  dolphin obf status
"""
RUN_EPILOG = """\b
Examples:
  dolphin obf run --source mock --symbols BTCUSDT,ETHUSDT --warm-up 0 --seconds 10
  dolphin obf run --source books --speed 60 --archive recorded
  dolphin obf run --rest http://127.0.0.1:8900 --ws ws://127.0.0.1:8900 --archive recorded
"""
STATUS_EPILOG = """\b
Examples:
  dolphin obf status
  dolphin obf status --cache ob_cache --json
"""
_SILENT_S = 10.0
"""Metrics that are older come from a service that is not there any more."""

cache_option = click.option(
    "--cache",
    type=click.Path(path_type=Path),
    default=Path("ob_cache"),
    show_default=True,
    help="Folder of the features file, the metrics and the saved state.",
)


@click.group(epilog=EPILOG)
def obf() -> None:
    """Run the order-book service, or see how it does."""


@obf.command(short_help="Turn books into features, ten times a second.", epilog=RUN_EPILOG)
@click.option("--source", metavar="mock|DIR", help="The mock, or a folder of recorded books that is replayed.")
@click.option("--rest", metavar="URL", help="REST of the exchange whose books are followed live.")
@click.option("--ws", metavar="URL", help="Streams of that exchange.")
@click.option("--allow-remote", is_flag=True, help="Take addresses that are not of this machine; no key is ever sent.")
@click.option("--symbols", metavar="LIST", help="Assets, separated by commas; default: all that the source has.")
@click.option("--speed", type=float, default=1.0, show_default=True, help="Times real time, of a recording.")
@click.option("--cadence-ms", type=float, default=100.0, show_default=True, help="From beat to beat.")
@click.option(
    "--warm-up", type=float, default=60.0, show_default=True, help="Seconds for which a book must have been synced."
)
@click.option("--seconds", type=float, help="Stop after this long; default: at Ctrl-C, SIGTERM, or a recording's end.")
@click.option("--archive", type=click.Path(path_type=Path), help="Folder in which snapshots are recorded, by day.")
@cache_option
@grid_option
@json_option
def run(
    source: str | None,
    rest: str | None,
    ws: str | None,
    allow_remote: bool,
    symbols: str | None,
    speed: float,
    cadence_ms: float,
    warm_up: float,
    seconds: float | None,
    archive: Path | None,
    cache: Path,
    folder: str,
    as_json: bool,
) -> None:
    """Turn the books of a source into features, and keep grid, files and archive supplied, whatever breaks.

    Features and snapshots go to the grid, the newest also to the cache folder, and snapshots to the archive if one is
    given. What happens is told on stderr, a line each. Ctrl-C or SIGTERM ends it cleanly, with exit code 0.
    """
    from dolphin.book.update import BOOK
    from dolphin.ops.obf.service import ObfService
    from dolphin.ops.obf.settings import ObfSettings

    settings = ObfSettings(cadence_s=cadence_ms / 1e3, warm_up_s=warm_up)
    if seconds is not None and not 0.0 < seconds <= 1e9:
        raise ConfigError(f"--seconds {seconds:g}: expected more than 0")
    with _source(source, rest, ws, allow_remote, symbols, speed) as (books, lasts_s):
        if lasts_s is not None:
            seconds = lasts_s if seconds is None else min(seconds, lasts_s)
        if not BOOK.is_ready():
            note("First use: compiling the features of the book, about ten seconds. They are kept for the next run.")
        with opened(folder, make=True) as grid:
            service = ObfService(books, cache, grid=grid, archive=archive, settings=settings, log=note)
            with on_stop(service.stop):
                if not as_json:
                    click.echo(f"{len(books.symbols)} assets; grid {folder}, files {cache}; Ctrl-C ends it")
                service.run(seconds)
    if as_json:
        emit_json(_plain(service.last_metrics()))


@contextmanager
def _source(
    source: str | None, rest: str | None, ws: str | None, allow_remote: bool, symbols: str | None, speed: float
) -> Iterator[tuple[BookSource, float | None]]:
    """The books, for a block, and how many seconds they last if that is known."""
    from dolphin.ops.obf.sources import MockSource, recorded_source

    if (rest is None) != (ws is None):
        raise ConfigError(f"{'--ws' if rest else '--rest'}: give both --rest and --ws, or neither")
    if (source is None) == (rest is None):
        raise ConfigError("obf run: give one of --source mock, --source with a folder of books, and --rest with --ws")
    names = None if symbols is None else _symbols(symbols)
    if rest is not None and ws is not None:
        from dolphin.exchange.live.books import LiveBooks
        from dolphin.exchange.live.endpoints import Endpoints
        from dolphin.ops.obf.livesource import LiveSource

        with LiveBooks(Endpoints(rest, ws, allow_remote=allow_remote), names) as live:
            yield LiveSource(live), None
    elif source == "mock":
        if names is None:
            raise ConfigError("--symbols: the mock has a book of any asset; say which, such as BTCUSDT,ETHUSDT")
        yield MockSource(names, system_clock_ns()), None
    else:
        yield recorded_source(Path(source or ""), names, system_clock_ns(), speed)


def _symbols(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if len(set(names)) < len(names) or not all(names):
        raise ConfigError(f"--symbols {text}: one is empty or there twice; name each once")
    return names


@obf.command(short_help="How does the service do?", epilog=STATUS_EPILOG)
@cache_option
@grid_option
@json_option
def status(cache: Path, folder: str, as_json: bool) -> None:
    """Print how the service does, from its metrics file, and its last heartbeat in the grid.

    Exit code 1 when it is not there, does not move, or is degraded.
    """
    from dolphin.ops.obf.metrics import read_metrics

    metrics = read_metrics(cache)
    now_s = system_clock_ns() / NS_PER_S
    silent_s = now_s - metrics.timestamp
    heart = _heartbeat(folder)
    if as_json:
        emit_json({"silent_s": silent_s, "heartbeat": heart, "metrics": _plain(metrics)})
    else:
        rows = [*_rows(metrics), ("heartbeat in the grid", _told(heart, now_s))]
        print_table(f"obf {metrics.phase}, {silent_s:.1f} s ago", rows, ("", ""))
    if silent_s > _SILENT_S or metrics.phase in ("stopped", "degraded"):
        if metrics.phase == "degraded" and silent_s <= _SILENT_S:
            raise DolphinError(f"obf: degraded: {metrics.detail}")
        was = "it was stopped" if metrics.phase == "stopped" else f"nothing was written for {silent_s:.0f} s"
        raise DolphinError(f"obf: not running: {was}; start it with dolphin obf run")


def _heartbeat(folder: str) -> dict[str, Any] | None:
    """The heartbeat's fields; None without a grid, or without a heartbeat that decodes."""
    import msgspec

    from dolphin.grid import schemas

    try:
        with opened(folder) as one:
            value = schemas.DAEMON_HEARTBEAT.decode(one.get(*schemas.DAEMON_HEARTBEAT.at(daemon="obf")))
    except (GridError, ConfigError):
        return None
    return dict(msgspec.to_builtins(value))


def _told(heart: dict[str, Any] | None, now_s: float) -> str:
    return "none" if heart is None else f"{heart['phase']}, {now_s - heart['ts']:.1f} s ago"


def _rows(m: ObfMetrics) -> list[tuple[str, str]]:
    latency, ages = m.latency, [age for age in m.age_s.values() if age is not None]
    rows = [
        ("why", m.detail or "-"),
        ("assets live / all", f"{m.live} / {m.assets}"),
        ("warming", _names(m.warming)),
        ("dark (STALE_DATA)", _names(m.dark)),
        ("oldest snapshot", f"{max(ages):.1f} s" if ages else "-"),
        ("beats, skipped", f"{m.beats:,}, {m.skipped:,}"),
        ("bar latency p50 / p99 / worst", f"{_ms(latency.p50_ms)} / {_ms(latency.p99_ms)} / {_ms(latency.worst_ms)}"),
        ("snapshots", ", ".join(f"{count:,} {name}" for name, count in m.snapshots.items())),
        ("crossed, stalls", f"{m.crossed:,}, {m.stalls:,}"),
    ]
    if m.pushes is not None and m.breaker is not None:
        p = m.pushes
        rows += [
            ("breaker", f"{m.breaker.state}, opened {m.breaker.opened} times"),
            ("frames offered, coalesced", f"{p.offered:,}, {p.coalesced:,}"),
            ("values sent, failed, held back", f"{p.sent:,}, {p.failed:,}, {p.held_back:,}"),
        ]
    if m.archive is not None:
        rows += [("archived, dropped", f"{m.archive.written:,}, {m.archive.dropped:,}")]
    return rows


def _names(names: list[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "") or "none"


def _ms(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} ms"


def _plain(metrics: ObfMetrics | None) -> Any:
    import msgspec

    return None if metrics is None else msgspec.to_builtins(metrics)
