"""`dolphin infra`: servers of others, started on this machine and stopped again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.errors import GridError
from dolphin.ui.cli.console import emit_json, json_option, note, print_table

if TYPE_CHECKING:
    from dolphin.ops.infra.hazelcast import HazelcastCluster

EPILOG = """\b
Examples:
  dolphin infra hazelcast up --members 3
  dolphin infra hazelcast status
"""
HAZELCAST_EPILOG = """\b
Example, a cluster, a look at it, and its end:
  dolphin infra hazelcast up
  dolphin grid doctor --grid hazelcast://127.0.0.1:5701
  dolphin infra hazelcast down
"""
UP_EPILOG = """\b
Examples:
  dolphin infra hazelcast up
  dolphin infra hazelcast up --members 3 --port 5801
"""
DOWN_EPILOG = """\b
Example:
  dolphin infra hazelcast down
"""
STATUS_EPILOG = """\b
Example:
  dolphin infra hazelcast status
"""

folder_option = click.option(
    "--folder",
    type=click.Path(path_type=Path),
    default=Path("hazelcast"),
    show_default=True,
    help="Where configuration, logs and process numbers are.",
)


@click.group(epilog=EPILOG)
def infra() -> None:
    """Start and stop what others made and the system can run on."""


@infra.group(epilog=HAZELCAST_EPILOG, short_help="A Hazelcast cluster on this machine.")
def hazelcast() -> None:
    """A Hazelcast cluster on this machine, for --grid hazelcast://127.0.0.1:5701. Wants Java 17."""


@hazelcast.command(short_help="Start it, or what of it does not run.", epilog=UP_EPILOG)
@click.option(
    "--members", type=click.Choice(["1", "3"]), help="How many, 1 unless it was 3; three have a CP subsystem."
)
@click.option("--port", type=click.IntRange(1024, 65000), help="Of the first member, 5701; the next have the next.")
@click.option("--heap-mb", type=click.IntRange(min=128), default=256, show_default=True, help="Memory of each member.")
@json_option
@folder_option
def up(members: str | None, port: int | None, heap_mb: int, as_json: bool, folder: Path) -> None:
    """Start the members, and wait until they are one cluster that answers.

    Members that run are left alone; one that died is started again, and takes its place in the CP subsystem.
    """
    from dolphin.ops.infra.hazelcast import FIRST_PORT, HazelcastCluster

    cluster = HazelcastCluster(folder, heap_mb=heap_mb)
    count = int(members or len(cluster.members) or 1)
    before = [member.port for member in cluster.members] if len(cluster.members) == count else []
    first = port or FIRST_PORT
    ports = before if before and not port else list(range(first, first + count))
    note(f"starting {count} member{'s' if count > 1 else ''}; the first start fetches Hazelcast")
    cluster.start(count, ports=ports)
    if as_json:
        emit_json({"address": cluster.address, "members": _rows(cluster)})
    else:
        note(f"{cluster.address} answers; dolphin grid doctor --grid {cluster.address}")


@hazelcast.command(short_help="Stop it.", epilog=DOWN_EPILOG)
@json_option
@folder_option
def down(as_json: bool, folder: Path) -> None:
    """Stop all members. A cluster keeps nothing on disk: what it holds is gone then."""
    from dolphin.ops.infra.hazelcast import HazelcastCluster

    stopped = HazelcastCluster(folder).stop()
    if as_json:
        emit_json({"stopped": stopped})
    else:
        note(f"{stopped} member{'' if stopped == 1 else 's'} stopped")


@hazelcast.command(short_help="Is it up?", epilog=STATUS_EPILOG)
@json_option
@folder_option
def status(as_json: bool, folder: Path) -> None:
    """Show each member: its process, how many members it sees, and whether it takes part in the CP subsystem.

    Exit code 1 when one does not run, does not see the others, or is missing from the CP subsystem.
    """
    from dolphin.ops.infra.hazelcast import HazelcastCluster

    cluster = HazelcastCluster(folder)
    rows = _rows(cluster)
    if as_json:
        emit_json({"address": cluster.address if rows else None, "members": rows})
    elif rows:
        print_table(f"{cluster.address}, in {folder}", [_cells(row) for row in rows], ("port", "process", "sees", "CP"))
    if not rows:
        raise GridError(f"{folder}: no cluster was started here; `dolphin infra hazelcast up` starts one")
    if any(row["sees"] != len(rows) or row["cp"] is False for row in rows):
        raise GridError(f"{folder}: the cluster is not whole; `dolphin infra hazelcast up` starts what is missing")


def _rows(cluster: HazelcastCluster) -> list[dict[str, Any]]:
    return [{"port": one.port, "pid": one.pid, "sees": one.cluster_size, "cp": one.cp} for one in cluster.status()]


def _cells(row: dict[str, Any]) -> list[str]:
    cp = {True: "takes part", False: "missing", None: "none"}[row["cp"]]
    return [str(row["port"]), str(row["pid"] or "does not run"), str(row["sees"]), cp]
