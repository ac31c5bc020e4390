"""What the commands share: progress bars that vanish when piped, JSON output, little tables."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import click

json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document on stdout, for machines.")

Advance = Callable[[int], None]


@contextmanager
def progress(title: str, total: int | None, unit: str = "", *, quiet: bool = False) -> Iterator[Advance]:
    """A progress bar on stderr when that is a terminal; otherwise nothing.

    Yields a function that advances the bar by a number of units.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda _n: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("[bold]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(title, total=total)
        yield lambda n: bar.advance(task, n)


def emit_json(value: object) -> None:
    """One JSON document on stdout; NaN and infinities become null, so that every parser takes it."""
    click.echo(json.dumps(_plain(value), indent=2, allow_nan=False))


def note(text: str) -> None:
    """A line for the person watching, on stderr, so that stdout stays the result."""
    click.echo(text, err=True)


def print_table(title: str, rows: Iterable[Sequence[str]], header: Sequence[str]) -> None:
    """A small table on stdout; the first column is left-aligned, the others right-aligned."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", header_style="bold")
    for k, name in enumerate(header):
        table.add_column(name, justify="left" if k == 0 else "right")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, float):
        return value if value == value and abs(value) != float("inf") else None
    return value
