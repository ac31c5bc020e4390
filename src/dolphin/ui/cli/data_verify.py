"""`dolphin data verify`: is an archive sound, and what a rebuild of it gives?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from dolphin.ui.cli.console import emit_json, json_option, print_table, progress

if TYPE_CHECKING:
    from dolphin.market.verify import Difference, VerifyReport

EPILOG = """\b
Examples:
  dolphin data verify market
  dolphin data verify scans --rebuild market --json

\b
Exit code 0 when every check passes, 1 when one fails, 2 when DIR is no archive.
"""
_LISTED = 20


@click.command(epilog=EPILOG)
@click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--rebuild", type=click.Path(path_type=Path), help="Price archive to scan anew and compare DIR with.")
@json_option
def verify(directory: Path, rebuild: Path | None, as_json: bool) -> int:
    """Check the archive in DIR: schema, rows, gaps, manifest hash.

    Any number of rows and gaps is legal, and reported. With --rebuild the prices are scanned again and every signal
    and close is compared: equal within 1e-10, missing in the same places.
    """
    from dolphin.market.verify import verify_archive

    with progress("verifying", None, "days", quiet=as_json) as advance:
        report = verify_archive(directory, advance)
    difference = None
    if rebuild is not None and report.ok:
        difference = _rebuild(directory, rebuild, quiet=as_json)
    if as_json:
        emit_json(_document(report, rebuild, difference))
    else:
        _show(report, rebuild, difference)
    return 0 if report.ok and difference is None else 1


def _rebuild(directory: Path, prices: Path, *, quiet: bool) -> Difference | None:
    from dolphin.market.archive import Archive
    from dolphin.market.verify import compare_rebuild, require_scans
    from dolphin.research.scanning import scan_archive

    archive, source = require_scans(Archive.open(directory)), Archive.open(prices)
    with progress("scanning anew", len(archive.days), "days", quiet=quiet) as advance:
        return compare_rebuild(archive, scan_archive(source, archive.days[0], archive.days[-1]), advance)


def _document(report: VerifyReport, rebuild: Path | None, difference: Difference | None) -> dict[str, object]:
    compared = None
    if rebuild is not None:
        compared = {"prices": str(rebuild), "compared": report.ok, "difference": _fields(difference)}
    return {
        "dir": str(report.folder),
        "ok": report.ok and difference is None,
        "kind": report.kind,
        "bar_seconds": report.bar_seconds,
        "expected_rows": report.expected_rows,
        "rows": {str(day): rows for day, rows in report.rows.items()},
        "gaps": [{"start": gap.start, "end": gap.end, "bars": gap.bars} for gap in report.gaps],
        "manifest": report.has_manifest,
        "content_hash": report.content_hash,
        "set_aside": report.set_aside,
        "problems": report.problems,
        "rebuild": compared,
    }


def _fields(difference: Difference | None) -> dict[str, object] | None:
    if difference is None:
        return None
    return {
        "day": str(difference.day),
        "row": difference.row,
        "column": difference.column,
        "archive": difference.archive,
        "rebuilt": difference.rebuilt,
    }


def _show(report: VerifyReport, rebuild: Path | None, difference: Difference | None) -> None:
    whole = report.expected_rows
    short = [(str(day), f"{rows:,}", f"{whole:,}") for day, rows in report.rows.items() if whole and rows != whole]
    if short:
        print_table("days that are not whole", _some(short), ("day", "rows", "whole day"))
    if report.gaps:
        print_table(
            "gaps",
            _some([(gap.start, gap.end, f"{gap.bars:,}") for gap in report.gaps]),
            ("last bar before", "first bar after", "bars missing"),
        )
    for problem in report.problems:
        click.echo(f"FAILED  {problem}")
    if difference is not None:
        click.echo(f"FAILED  {difference.line()}")
    elif rebuild is not None:
        click.echo(
            f"rebuild from {rebuild}: {'agrees' if report.ok else 'not compared, the archive itself is unsound'}"
        )
    hashed = f"content hash {report.content_hash[:16]}…" if report.content_hash else "no content hash"
    manifest = "" if report.has_manifest else ", no manifest to compare it with"
    verdict = "sound" if report.ok and difference is None else "NOT SOUND"
    bar = f"{report.bar_seconds:g} s" if report.bar_seconds else "unknown length"
    click.echo(
        f"{report.folder}: {verdict}; {len(report.rows)} days of {report.kind or 'nothing readable'}, "
        f"{sum(report.rows.values()):,} bars of {bar}, {len(report.gaps)} gaps, {hashed}{manifest}"
        + (f"; {report.set_aside} files set aside" if report.set_aside else "")
    )


def _some(rows: list[tuple[str, str, str]]) -> list[tuple[str, str, str]]:
    """The first rows, and how many more there are: --json lists all."""
    more = len(rows) - _LISTED
    return rows if more <= 0 else [*rows[:_LISTED], (f"… {more} more", "", "")]
