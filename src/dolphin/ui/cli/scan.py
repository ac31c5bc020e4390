"""`dolphin scan`: prices into eigenvalue scans, and proof that the scans are right."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import ns_to_iso, parse_date
from dolphin.core.errors import ConfigError, DataError
from dolphin.ui.cli.compiling import ready_kernels
from dolphin.ui.cli.console import emit_json, json_option, progress

if TYPE_CHECKING:
    from dolphin.market.archive import Archive
    from dolphin.market.manifest import Manifest
    from dolphin.market.tables import ScanDay
    from dolphin.research.certifying import BarCheck

EPILOG = """\b
Example, scans of an archive of prices, and a proof for four of their bars:
  dolphin scan run market --out days
  dolphin scan certify days --date 2024-01-02 --random 4 --seed 1
"""
RUN_EPILOG = """\b
Examples:
  dolphin scan run market --out days
  dolphin scan run market --out april --from 2021-04-05 --to 2021-04-12 --force --json
\b
A day starts with full windows where the archive holds the day before it; elsewhere its signals are
missing (NaN) for the first 751 bars.
"""
CERTIFY_EPILOG = """\b
Examples:
  dolphin scan certify days --date 2024-01-02 --bars 0,700,1439
  dolphin scan certify days --date 2024-01-02 --every 240 --windows 50,750
  dolphin scan certify market --date 2024-01-02 --random 5 --seed 1 --json
\b
Exit code 0 when every full window passes, 1 when one fails or none is full, 2 for bad input.
"""


@click.group(epilog=EPILOG)
def scan() -> None:
    """Turn prices into eigenvalue scans; certify them."""


@scan.command(epilog=RUN_EPILOG, short_help="Scan an archive of prices.")
@click.argument("prices", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the day files.")
@click.option("--from", "first", metavar="DAY", help="First day, YYYY-MM-DD (default: the archive's first).")
@click.option("--to", "last", metavar="DAY", help="Last day, included (default: the archive's last).")
@click.option("--force", is_flag=True, help="Replace an archive that is already there; its files are set aside.")
@json_option
def run(prices: Path, out: Path, first: str | None, last: str | None, force: bool, as_json: bool) -> None:
    """Scan the archive of prices in PRICES, one day at a time, and write an archive of scans."""
    from dolphin.market.archive import Archive, ArchiveWriter
    from dolphin.research.scanning import scan_archive

    low = None if first is None else parse_date(first, "--from")
    high = None if last is None else parse_date(last, "--to")
    if low and high and low > high:
        raise ConfigError(f"--from {low}: after --to {high}; swap them")
    if out.resolve() == prices.resolve():
        raise ConfigError(f"--out {out}: is the archive of prices itself; choose another folder")
    archive = Archive.open(prices)
    if archive.kind != "prices":
        raise DataError(f"{prices}: holds {archive.kind}; scanning needs an archive of prices")
    wanted = archive.select(low, high)
    total = sum(wanted.entry(day).rows for day in wanted.days)
    made = {"days": len(wanted.days), "assets": len(wanted.assets), "bars": 0, "signals": 0, "first_signal": None}
    with ArchiveWriter(out, "scans", archive.bar_seconds, _source(archive, wanted), force) as writer:
        ready_kernels("prices", quiet=as_json)
        with progress("scanning", total, "bars", quiet=as_json) as advance:
            for day in scan_archive(archive, low, high):
                writer.write(day)
                _count(made, day)
                advance(day.rows)
    _show_run(out, writer.manifest, made, as_json=as_json)


def _source(archive: Archive, wanted: Archive) -> dict[str, Any]:
    """What the scans depend on: the prices of their days and of those that warm them up, the windows, this version."""
    from dolphin import __version__
    from dolphin.research.scanning import warm_up_days
    from dolphin.scan.layout import WINDOWS

    before = warm_up_days(archive, wanted.days[0])
    read = archive.select(before[0] if before else wanted.days[0], wanted.days[-1])
    return {
        "made_by": "dolphin scan run",
        "version": __version__,
        "prices": read.identity(),
        "prices_from": str(read.days[0]),
        "prices_to": str(read.days[-1]),
        "windows": list(WINDOWS),
    }


def _count(made: dict[str, Any], day: ScanDay) -> None:
    import numpy as np

    usable = np.flatnonzero(np.isfinite(day.signal("vel_div")))
    made["bars"] += day.rows
    made["signals"] += len(usable)
    if made["first_signal"] is None and len(usable):
        made["first_signal"] = ns_to_iso(int(day.ts_ns[usable[0]]))


def _show_run(out: Path, manifest: Manifest | None, made: dict[str, Any], *, as_json: bool) -> None:
    if manifest is None:
        raise DataError(f"{out}: no archive was written")
    if as_json:
        document = {"out": str(out), "bar_seconds": manifest.bar_seconds, **made, "source": manifest.source}
        emit_json({**document, "content_hash": manifest.content_hash})
        return
    since = f" from {made['first_signal']} on" if made["first_signal"] else ""
    click.echo(
        f"{out}: {made['days']} days, {made['assets']} assets, {made['bars']:,} bars of {manifest.bar_seconds:g} s, "
        f"{made['signals']:,} with a signal{since}; content hash {manifest.content_hash[:16]}…"
    )


@scan.command(epilog=CERTIFY_EPILOG, short_help="Prove scans with 512-bit ball arithmetic.")
@click.argument("days", type=click.Path(path_type=Path))
@click.option("--date", "day", required=True, metavar="DAY", help="The day, YYYY-MM-DD.")
@click.option("--bars", metavar="B,B,…", help="These bars of the day, counted from 0.")
@click.option("--every", type=int, metavar="N", help="Bar 0 and every N-th after it.")
@click.option("--random", "draw", type=int, metavar="N", help="N bars drawn at random.")
@click.option("--seed", type=int, help="Seed of the draw (default: 0); same seed, same bars.")
@click.option("--windows", metavar="W,W,…", help="Only these windows, bars (default: all four).")
@json_option
def certify(
    days: Path,
    day: str,
    bars: str | None,
    every: int | None,
    draw: int | None,
    seed: int | None,
    windows: str | None,
    as_json: bool,
) -> int:
    """Hold the scanner against 512-bit ball arithmetic, at chosen bars of one day of the archive in DAYS.

    DAYS holds scans or prices. The scanner streams over the day and the days before it that fill its windows; for each
    bar and window its largest eigenvalue must lie within 1e-9, relative, of an interval proven from the raw prices.
    A window that is not full yet is reported as filling: that is no pass.
    """
    from dolphin.market.archive import Archive
    from dolphin.research.certifying import prepare
    from dolphin.scan.layout import WINDOWS

    if sum(choice is not None for choice in (bars, every, draw)) != 1:
        raise ConfigError("scan certify: say which bars, with one of --bars, --every and --random")
    if seed is not None and draw is None:
        raise ConfigError("--seed: goes with --random only; leave it out")
    date = parse_date(day, "--date")
    listed = None if bars is None else _integers(bars, "--bars")
    chosen = WINDOWS if windows is None else _integers(windows, "--windows")
    archive = Archive.open(days)
    ready_kernels("prices", quiet=as_json)
    task = prepare(archive, date)
    picked = listed if listed is not None else _pick(task.rows, every, draw, seed or 0)
    checks = task.check(picked, chosen)
    results = []
    with progress("certifying", len(picked) * len(chosen), "windows", quiet=as_json) as advance:
        for result in checks:
            results.append(result)
            if not as_json:
                click.echo(_line(result))
            advance(1)
    counts = {status: sum(r.status == status for r in results) for status in ("pass", "fail", "filling", "empty")}
    if as_json:
        emit_json({"data": str(days), "date": str(date), **counts, "checks": [_document(r) for r in results]})
    else:
        click.echo(", ".join(f"{n} {status}" for status, n in counts.items() if n) + _worst(results))
    return 0 if counts["pass"] and not counts["fail"] else 1


def _integers(text: str, what: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError:
        raise ConfigError(f"{what} {text}: expected whole numbers with commas between, such as 50,750") from None
    return numbers


def _pick(rows: int, every: int | None, draw: int | None, seed: int) -> tuple[int, ...]:
    import numpy as np

    if every is not None:
        if every < 1:
            raise ConfigError(f"--every {every}: expected 1 or more")
        return tuple(range(0, rows, every))
    if draw is None or not 1 <= draw <= rows:
        raise ConfigError(f"--random {draw}: expected 1 to {rows}, the bars of the day")
    if seed < 0:
        raise ConfigError(f"--seed {seed}: expected 0 or more")
    return tuple(sorted(np.random.default_rng(seed).choice(rows, draw, replace=False).tolist()))


def _line(result: BarCheck) -> str:
    head = f"bar {result.bar:>5}  {ns_to_iso(result.ts_ns)}  window {result.window:>3}"
    if result.certificate is None:
        return f"{head}  {result.status}"
    proven = result.certificate
    return (
        f"{head}  float64 {result.value!r:<18}  certified [{proven.lower_text}, {proven.upper_text}]  "
        f"{result.members} assets  off by {result.distance:.1e}  {result.status}"
    )


def _worst(results: list[BarCheck]) -> str:
    from dolphin.scan.certify import REL_TOL

    distances = [r.distance for r in results if r.certificate is not None]
    return f"; off by {max(distances):.1e} at most, allowed {REL_TOL:.0e} (relative)" if distances else ""


def _document(result: BarCheck) -> dict[str, object]:
    proven = result.certificate
    interval = None
    if proven is not None:
        interval = {
            "lower": proven.lower_text,
            "upper": proven.upper_text,
            "radius": proven.radius,
            "members": proven.members,
            "bits": proven.bits,
        }
    return {
        "bar": result.bar,
        "time": ns_to_iso(result.ts_ns),
        "window": result.window,
        "status": result.status,
        "float64": result.value,
        "members": result.members,
        "certified": interval,
        "relative_distance": result.distance,
    }
