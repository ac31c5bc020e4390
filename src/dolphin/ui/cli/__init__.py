"""The command line: a lazy command tree, one place where errors become one line and an exit code.

Exit codes: 0 done, 1 failure, 2 bad input. `--debug` shows the traceback behind an error line.
"""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from collections.abc import Mapping
from typing import Any

import click

from dolphin import __version__
from dolphin.core.errors import DolphinError


class LazyGroup(click.Group):
    """A group whose commands are imported only when they are run, so that `--help` stays fast.

    `lazy` maps a command name to (`module:attribute`, one line of help).
    """

    def __init__(self, *args: Any, lazy: Mapping[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order in which a newcomer needs them."""
        return list(self._lazy)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command `cmd_name`, or None when there is none of that name."""
        if cmd_name not in self._lazy:
            return None
        module, _, attribute = self._lazy[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands from the table, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in self._lazy.items()])


COMMANDS = {
    "data": ("dolphin.ui.cli.data:data", "Make, import, download and verify price archives."),
    "factors": ("dolphin.ui.cli.factors:factors", "Turn recorded factor histories into per-date files."),
    "scan": ("dolphin.ui.cli.scan:scan", "Turn prices into eigenvalue scans; certify them."),
    "backtest": ("dolphin.ui.cli.backtest:backtest", "Replay the engine over an archive; write a tearsheet."),
    "parity": ("dolphin.ui.cli.parity:parity", "Compare a replay with the same days inside NautilusTrader."),
    "why": ("dolphin.ui.cli.why:why", "Explain the decision, or the refusal, at one bar."),
    "forewarner": ("dolphin.ui.cli.forewarner:forewarner", "Train the Monte-Carlo forewarner; assess a configuration."),
    "exchange": ("dolphin.ui.cli.exchange:exchange", "Run an exchange of our own on loopback; watch the books of one."),
    "rehearse": (
        "dolphin.ui.cli.rehearse:rehearse",
        "Run the whole live loop against an exchange; see if it keeps up.",
    ),
    "obf": ("dolphin.ui.cli.obf:obf", "Turn order books into features, ten times a second; see how that goes."),
    "grid": ("dolphin.ui.cli.grid:grid", "Look at what the processes share; change it by hand."),
    "infra": ("dolphin.ui.cli.infra:infra", "Start and stop what others made and the system can run on."),
    "survival": ("dolphin.ui.cli.survival:survival", "Explain the survival stack: sensors, multiplier, posture."),
}

EPILOG = """\b
Example, from nothing to a report:
  dolphin data make --out market --days 5
  dolphin backtest --data market --out run
  open run/report.html
"""


@click.command(
    cls=LazyGroup,
    lazy=COMMANDS,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="dolphin")
@click.option("--debug", is_flag=True, help="Show the traceback behind an error line.")
def root(debug: bool) -> None:
    """DOLPHIN-NAUTILUS: trade the onset of correlation instability on crypto perpetuals."""


def main(argv: list[str] | None = None) -> None:
    """Run the command line and leave the process with its exit code."""
    # numpy's and pyarrow's pools bring nothing to matrices this small; two BLAS threads measured slower than one.
    for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, "1")
    args = sys.argv[1:] if argv is None else argv
    sys.exit(run(args))


def run(args: list[str]) -> int:
    """Run one command line; print an error as one line on stderr; give the exit code."""
    debug = "--debug" in args
    try:
        code = root.main(args=args, prog_name="dolphin", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except DolphinError as error:
        return _fail(str(error), error.exit_code, debug=debug)
    except click.ClickException as error:
        return _fail(_usage_line(error), 2)
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; nothing half-written was kept", 130)
    except BrokenPipeError:
        return 1
    except (OSError, MemoryError) as error:
        return _fail(f"{type(error).__name__}: {error}", 1, debug=debug)
    except Exception as error:
        hint = "a defect of the program, not of the input; --debug before the command shows where"
        return _fail(f"unexpected {type(error).__name__}: {error}; {hint}", 1, debug=debug)
    return code if isinstance(code, int) else 0


def _usage_line(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    hint = f"; see '{ctx.command_path} --help'" if ctx is not None else ""
    return f"{error.format_message().rstrip('.')}{hint}"


def _fail(message: str, code: int, *, debug: bool = False) -> int:
    if debug:
        traceback.print_exc()
    line = " ".join(message.split())
    click.echo(f"dolphin: {line}", err=True)
    return code
