"""Options that several commands share."""

from __future__ import annotations

import functools
import shlex
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.clock import parse_date
from dolphin.core.errors import ConfigError

if TYPE_CHECKING:
    from dolphin.research.backtest import BacktestSpec
    from dolphin.research.books import BookSource
    from dolphin.research.survival import SensorSource


def run_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that define a replay; the command receives one `spec` (BacktestSpec)."""

    @click.option("--data", type=click.Path(path_type=Path), required=True, help="Archive of scans, or of prices only.")
    @click.option("--from", "first", metavar="DAY", help="First day, YYYY-MM-DD (default: the archive's first).")
    @click.option("--to", "last", metavar="DAY", help="Last day, YYYY-MM-DD (default: the archive's last).")
    @click.option("--profile", default="blue", show_default=True, help="blue: SHORT champion; green: LONG, paper only.")
    @click.option("--capital", type=float, default=25_000.0, show_default=True, help="Starting capital, USDT.")
    @click.option(
        "--friction",
        type=click.Choice(["modelled", "none"]),
        default="modelled",
        show_default=True,
        help="Fees, slippage and edge as the research model has them, or none of them.",
    )
    @click.option(
        "--set",
        "assignments",
        metavar="NAME=VALUE",
        multiple=True,
        help="Change a parameter; marks the run not champion.",
    )
    @click.option(
        "--factors",
        type=click.Path(path_type=Path),
        help="Folder of factor files: turns the circuit breaker on.",
    )
    @click.option(
        "--forewarner",
        metavar="MODEL",
        type=click.Path(path_type=Path),
        help="Folder of a trained model: lets the forewarner gate every day.",
    )
    @click.option(
        "--sensors",
        metavar="FILE|own",
        help="Recorded sensor readings, or the replay's own alone: turns the survival stack on.",
    )
    @click.option(
        "--book",
        metavar="DIR|mock",
        help="Folder of recorded order books, or the mock that never moves: turns OB-1 to OB-5 on.",
    )
    @functools.wraps(command)
    def with_spec(
        data: Path,
        first: str | None,
        last: str | None,
        profile: str,
        capital: float,
        friction: str,
        assignments: tuple[str, ...],
        factors: Path | None,
        forewarner: Path | None,
        sensors: str | None,
        book: str | None,
        **rest: Any,
    ) -> Any:
        from dolphin.research.backtest import BacktestSpec

        spec = BacktestSpec(
            data=data,
            profile=profile,
            capital=capital,
            friction="none" if friction == "none" else "modelled",
            first=_day(first, "--from"),
            last=_day(last, "--to"),
            overrides=_assignments(assignments),
            factors=factors,
            forewarner=forewarner,
            sensors=_sensors(sensors),
            book=_book(book),
        )
        check_spec(spec)
        return command(spec=spec, **rest)

    return with_spec


def command_line() -> str:
    """The command as typed, ready to be pasted into a shell."""
    return shlex.join(["dolphin", *sys.argv[1:]])


def check_spec(spec: BacktestSpec) -> None:
    """Refuse what can be refused before any file is opened."""
    spec.direction()
    spec.params()
    if spec.first is not None and spec.last is not None and spec.first > spec.last:
        raise ConfigError(f"--from {spec.first}: after --to {spec.last}; swap them")


def _day(text: str | None, what: str) -> date | None:
    return None if text is None else parse_date(text, what)


def _sensors(text: str | None) -> SensorSource | None:
    if text is None:
        return None
    return "own" if text == "own" else Path(text)


def _book(text: str | None) -> BookSource | None:
    if text is None:
        return None
    return "mock" if text == "mock" else Path(text)


def _assignments(items: tuple[str, ...]) -> dict[str, str]:
    values: dict[str, str] = {}
    for item in items:
        name, equals, value = item.partition("=")
        if not equals or not name or not value:
            raise ConfigError(f"--set {item}: expected NAME=VALUE, such as --set fixed_tp_pct=0.012")
        if name in values:
            raise ConfigError(f"--set {item}: {name} is given twice; keep one of them")
        values[name] = value
    return values
