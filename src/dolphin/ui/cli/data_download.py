"""`dolphin data download`: recorded klines from the exchange's public archive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolphin.ui.cli.console import emit_json, json_option, note, progress

if TYPE_CHECKING:
    from dolphin.market.download import DownloadReport

EPILOG = """\b
Examples:
  dolphin data download --symbols BTCUSDT,ETHUSDT,SOLUSDT --from 2024-01-01 --to 2024-02-10 --out market
  dolphin data download --symbols BTCUSDT --from 2025-03-01 --to 2025-03-03 --market spot --interval 5m --out spot

\b
A run that was stopped goes on where it was: give the same command again.
"""


@click.command(epilog=EPILOG)
@click.option("--symbols", required=True, help="Symbols, separated by commas: BTCUSDT,ETHUSDT")
@click.option("--from", "first", required=True, help="First UTC day, YYYY-MM-DD.")
@click.option("--to", "last", required=True, help="Last UTC day, included; today at the latest.")
@click.option("--interval", default="1m", show_default=True, help="Length of a kline: 1m, 5m, 1h … (1s: spot only).")
@click.option("--market", default="um", show_default=True, help="um (USDT-margined futures) or spot.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Folder for the day files.")
@click.option("--archive-url", default="", help="Base address of the kline archive; the exchange's own by default.")
@click.option("--rest-url", default="", help="Base address of the REST klines; the market's own by default.")
@click.option("--concurrency", default=4, show_default=True, help="Transfers under way at once.")
@click.option("--rate", default=6.0, show_default=True, help="Requests per second for each host, at most.")
@click.option("--keep-raw", is_flag=True, help="Keep the files as fetched, in OUT/raw, to extend the range later.")
@click.option("--force", is_flag=True, help="Replace an archive that is already there.")
@json_option
def download(
    symbols: str,
    first: str,
    last: str,
    interval: str,
    market: str,
    out: Path,
    archive_url: str,
    rest_url: str,
    concurrency: int,
    rate: float,
    keep_raw: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Download klines and write them as a price archive.

    Monthly and daily files come from the public archive and are checked against their SHA-256; days that it does
    not hold yet come from the REST interface. Bars are stamped when they close. A symbol that has no klines on a
    day stays missing on that day, and is reported.
    """
    from dolphin.core.clock import parse_date
    from dolphin.market.download import ARCHIVE_URL, DownloadSpec
    from dolphin.market.download import download as run

    spec = DownloadSpec(
        symbols=tuple(name.strip() for name in symbols.split(",") if name.strip()),
        first=parse_date(first, "--from"),
        last=parse_date(last, "--to"),
        out=out,
        interval=interval,
        market=market,
        archive_url=archive_url or ARCHIVE_URL,
        rest_url=rest_url,
        concurrency=concurrency,
        rate=rate,
        keep_raw=keep_raw,
        force=force,
    )
    with progress("downloading", len(spec.symbols) * spec.days, "symbol-days", quiet=as_json) as advance:
        report = run(spec, advance=advance)
    _show(report, as_json=as_json)


def _show(report: DownloadReport, *, as_json: bool) -> None:
    from dolphin.market.download import describe

    missing = {symbol: describe(days) for symbol, days in report.missing.items()}
    if as_json:
        emit_json(
            {
                "out": str(report.out),
                "symbols": report.symbols,
                "days": report.days,
                "bars": report.bars,
                "content_hash": report.content_hash,
                "missing": missing,
                "archive_files": report.archive_files,
                "rest_days": report.rest_days,
                "kept_files": report.kept,
                "requests": report.requests,
                "retries": report.retries,
                "pauses": report.pauses,
                "bytes": report.bytes,
            }
        )
        return
    for symbol, parts in missing.items():
        note(f"{symbol}: the exchange has no klines for {', '.join(parts)}")
    click.echo(
        f"{report.out}: {report.days} days, {len(report.symbols)} symbols, {report.bars:,} bars; "
        f"{report.archive_files} archive files, {report.rest_days} symbol-days from REST, {report.kept} already there"
    )
