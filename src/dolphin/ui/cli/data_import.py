"""`dolphin data import`: recorded prices from elsewhere, made an archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolphin.ui.cli.console import emit_json, json_option, note, progress

if TYPE_CHECKING:
    from dolphin.market.importer import ImportReport

EPILOG = """\b
Examples:
  dolphin data import recorded/ --bar-seconds 60 --stamp open --drop EURUSDT --min-coverage 0.9 --out market
  dolphin data import klines/ --bar-seconds 300 --stamp open --symbols BTCUSDT,ETHUSDT --out market

\b
SRC holds one of:
  tables      .parquet or .csv: a column 'timestamp' (UTC) and one column of closes per symbol
  klines      the exchange's files, SYMBOL-INTERVAL-DATE.zip or .csv, daily or monthly

\b
--stamp says what the source's stamps are. A kline's is its open time, so its close is known one bar later:
  open        stamps are moved on by one bar
  close       stamps are kept
Taking the one for the other makes a replay look ahead, so there is no default.
"""


@click.command("import", epilog=EPILOG)
@click.argument("src", type=click.Path(path_type=Path))
@click.option("--bar-seconds", type=float, help="Length of a bar, seconds.  [required]")
@click.option("--stamp", help="What the stamps are: open or close times of the bars.  [required]")
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the day files.")
@click.option("--symbols", default="", help="Only these, in this order: BTCUSDT,ETHUSDT")
@click.option("--drop", default="", help="All but these: EURUSDT,GBPUSDT")
@click.option("--min-coverage", default=0.0, show_default=True, help="Least share of bars with a price, 0 to 1.")
@click.option("--from", "first", default="", help="First UTC day to keep, YYYY-MM-DD.")
@click.option("--to", "last", default="", help="Last UTC day to keep, included.")
@click.option("--force", is_flag=True, help="Replace an archive that is already there; its files are set aside.")
@json_option
def import_(
    src: Path,
    bar_seconds: float | None,
    stamp: str | None,
    out: Path,
    symbols: str,
    drop: str,
    min_coverage: float,
    first: str,
    last: str,
    force: bool,
    as_json: bool,
) -> None:
    """Import recorded closes from SRC, a folder or a file.

    Gaps stay gaps: nothing is filled, and a bar that no symbol traded is an absent row. The whole source is checked
    before anything is written.
    """
    from dolphin.core.clock import parse_date
    from dolphin.core.errors import ConfigError
    from dolphin.market.importer import Import, ImportSpec

    if stamp is None:
        raise ConfigError(
            f"--stamp: say whether the stamps of {src} are open or close times; guessing would look ahead"
        )
    if bar_seconds is None:
        raise ConfigError(f"--bar-seconds: say how long a bar of {src} is, such as 60; it is not guessed")
    spec = ImportSpec(
        source=src,
        out=out,
        bar_seconds=bar_seconds,
        stamp=stamp,
        symbols=_names(symbols),
        drop=_names(drop),
        min_coverage=min_coverage,
        first=parse_date(first, "--from") if first else None,
        last=parse_date(last, "--to") if last else None,
        force=force,
    )
    task = Import(spec)
    with progress("importing", task.work, "days, twice", quiet=as_json) as advance:
        report = task.run(advance)
    _show(report, bar_seconds, as_json=as_json)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


def _show(report: ImportReport, bar_seconds: float, *, as_json: bool) -> None:
    if as_json:
        emit_json(
            {
                "out": str(report.out),
                "days": report.days,
                "bars": report.bars,
                "bar_seconds": bar_seconds,
                "first": report.first,
                "last": report.last,
                "symbols": report.symbols,
                "coverage": report.coverage,
                "dropped": report.dropped,
                "ignored": report.ignored,
                "not_found": report.not_found,
                "gaps": report.gaps,
                "bars_missing": report.bars_missing,
                "content_hash": report.content_hash,
            }
        )
        return
    for name, share in report.dropped.items():
        note(f"{name}: left out, has a price in {share:.2%} of the bars")
    if report.not_found:
        note(f"--drop: the source has no {', '.join(report.not_found)}")
    if report.ignored:
        note(f"not read: {', '.join(report.ignored)}")
    click.echo(
        f"{report.out}: {report.days} days, {len(report.symbols)} symbols, {report.bars:,} bars of {bar_seconds:g} s, "
        f"{report.first} to {report.last}; {report.gaps} gaps, {report.bars_missing:,} bars missing"
    )
