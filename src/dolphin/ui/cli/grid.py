"""`dolphin grid`: what the processes share, read, watched, changed by hand, dumped and loaded."""

from __future__ import annotations

import base64
import json
import queue
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dolphin.core.errors import ConfigError, DataError, GridError
from dolphin.ui.cli.console import emit_json, json_option, note, print_table

if TYPE_CHECKING:
    from dolphin.grid.embedded import EmbeddedGrid
    from dolphin.grid.hazelcast.grid import HazelcastGrid
    from dolphin.grid.port import Event

EPILOG = """\b
Examples:
  dolphin grid doctor
  dolphin grid get DOLPHIN_SAFETY latest
  dolphin grid watch DOLPHIN_FEATURES latest_eigen_scan
  dolphin grid doctor --grid hazelcast://127.0.0.1:5701
"""
GET_EPILOG = """\b
Examples:
  dolphin grid get DOLPHIN_SAFETY latest
  dolphin grid get DOLPHIN_STATE_BLUE
"""
WATCH_EPILOG = """\b
Examples:
  dolphin grid watch DOLPHIN_FEATURES latest_eigen_scan
  dolphin grid watch DOLPHIN_HEARTBEAT --seconds 60
"""
DUMP_EPILOG = """\b
Example:
  dolphin grid dump --out grid.jsonl
"""
LOAD_EPILOG = """\b
Example, what was dumped into a grid of its own:
  dolphin grid load grid.jsonl --yes --grid restored
"""
DOCTOR_EPILOG = """\b
Example:
  dolphin grid doctor
"""
PUT_EPILOG = """\b
Example, everything flat and halted until it is released:
  dolphin grid put DOLPHIN_SAFETY kill_switch --yes \\
    '{"engaged": true, "reason": "venue down", "by": "me", "updated_at": "2026-03-22T14:05:09Z"}'
"""

grid_option = click.option(
    "--grid",
    "folder",
    metavar="GRID",
    default="grid",
    envvar="DOLPHIN_GRID",
    help="Folder of the grid, ./grid, or hazelcast://127.0.0.1:5701; or the environment's DOLPHIN_GRID.",
)
yes_option = click.option("--yes", is_flag=True, help="Yes, change what can open or close positions.")


@click.group(epilog=EPILOG)
def grid() -> None:
    """Look at what the processes share, and change it by hand."""


@contextmanager
def opened(folder: str, *, make: bool = False) -> Iterator[EmbeddedGrid | HazelcastGrid]:
    """The grid at that address. Raises ConfigError when a folder holds none and none is to be made: a mistyped folder
    must not look like an empty grid, or take a kill switch that nobody reads."""
    from dolphin.grid.opening import open_grid

    one = open_grid(folder, make=make)
    try:
        yield one
    finally:
        one.close()


@grid.command(short_help="Print a value, or the keys of a map.", epilog=GET_EPILOG)
@click.argument("name", metavar="MAP")
@click.argument("key", required=False)
@json_option
@grid_option
def get(name: str, key: str | None, as_json: bool, folder: str) -> None:
    """Print the value of KEY in MAP as it is stored, or the keys of MAP, one a line.

    Exit code 1 when there is no value, or one that does not decode.
    """
    from dolphin.grid.schemas import find

    with opened(folder) as one:
        if key is None:
            keys = one.keys(name)
            if as_json:
                emit_json({"map": name, "keys": keys})
            else:
                click.echo("".join(each + "\n" for each in keys), nl=False)
            return
        value = one.get(name, key)
    if value is None:
        raise GridError(f"{name}[{key!r}]: there is no value")
    if as_json:
        emit_json({"map": name, "key": key, **_text(value)})
    else:
        click.echo(value)
    entry = find(name, key)
    if entry is not None:
        entry.decode(value)


@grid.command(short_help="Set a value by hand.", epilog=PUT_EPILOG)
@click.argument("name", metavar="MAP")
@click.argument("key")
@click.argument("value")
@click.option("--any", "any_key", is_flag=True, help="Take a key that no schema knows.")
@yes_option
@json_option
@grid_option
def put(name: str, key: str, value: str, any_key: bool, yes: bool, as_json: bool, folder: str) -> None:
    """Set KEY in MAP to VALUE; - reads it from standard input.

    It must be what the schema of that key expects. Keys that can open or close positions need --yes. The posture goes
    into the atomic reference too, which is read first.
    """
    from dolphin.grid import schemas

    data = sys.stdin.buffer.read().strip() if value == "-" else value.encode("utf-8", "surrogateescape")
    _check(name, key, data, any_key=any_key)
    _check_money([(name, key)], yes)
    with opened(folder) as one:
        if schemas.SAFETY_LATEST.matches(name, key):
            one.reference(schemas.SAFETY).set(data)
        one.put(name, key, data)
    _told(as_json, f"{name}[{key!r}] is set in {folder}", map=name, key=key, **_text(data))


@grid.command(short_help="Print changes as they happen.", epilog=WATCH_EPILOG)
@click.argument("name", metavar="MAP")
@click.argument("key", required=False)
@click.option("--count", type=click.IntRange(min=1), help="End after so many changes.")
@click.option("--seconds", type=click.FloatRange(min=0.0, min_open=True), help="End after so long.")
@json_option
@grid_option
def watch(name: str, key: str | None, count: int | None, seconds: float | None, as_json: bool, folder: str) -> None:
    """Print every change of KEY in MAP, or of every key, one line each, until interrupted: the key, a tab, and the
    value, or `deleted`. With --json each line is an object, its value null for a deletion."""
    changes: queue.SimpleQueue[Event] = queue.SimpleQueue()
    end = None if seconds is None else time.monotonic() + seconds
    with opened(folder) as one:
        one.watch(name, changes.put, key)
        note(f"watching {name}{'' if key is None else f'[{key!r}]'} in {folder}; Ctrl-C ends it")
        seen = 0
        try:
            while count is None or seen < count:
                event = changes.get(timeout=None if end is None else max(0.0, end - time.monotonic()))
                seen += 1
                click.echo(_change(event) if as_json else _line(event))
        except (queue.Empty, KeyboardInterrupt):
            return


@grid.command(short_help="Write everything to a file.", epilog=DUMP_EPILOG)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="File to write, JSON lines.")
@click.option("--force", is_flag=True, help="Replace the file that is there.")
@json_option
@grid_option
def dump(out: Path, force: bool, as_json: bool, folder: str) -> None:
    """Write every value of every map, and every reference, one JSON object a line."""
    import msgspec

    from dolphin.market.atomic import write_text_atomic

    if out.exists() and not force:
        raise DataError(f"{out}: is there already; choose another name, or replace it with --force")
    if not out.parent.is_dir():
        raise DataError(f"{out}: its folder does not exist; make it first")
    with opened(folder) as one:
        maps, references = one.names()
        rows: list[dict[str, str]] = [
            {"map": name, "key": key, **_text(value)}
            for name in maps
            for key in one.keys(name)
            if (value := one.get(name, key)) is not None
        ]
        rows += [
            {"reference": name, **_text(value)}
            for name in references
            if (value := one.reference(name).get()) is not None
        ]
    write_text_atomic(out, "".join(msgspec.json.encode(row).decode() + "\n" for row in rows))
    _told(as_json, f"{len(rows)} values in {out}", file=str(out), values=len(rows))


@grid.command(short_help="Read back what dump wrote.", epilog=LOAD_EPILOG)
@click.argument("file", type=click.Path(path_type=Path))
@yes_option
@json_option
@grid_option
def load(file: Path, yes: bool, as_json: bool, folder: str) -> None:
    """Set every value of FILE, written by `dolphin grid dump`; the grid is made if there is none.

    All of it is checked first. What FILE does not name is left as it is.
    """
    from dolphin.market.jsonfile import read_text

    maps: dict[str, dict[str, bytes]] = {}
    references: dict[str, bytes] = {}
    for number, line in enumerate(_lines(read_text(file, "grid values")), 1):
        try:
            name, key, value = _row(line)
            _check(name, "latest" if key is None else key, value, any_key=True)
            if key is None:
                references[name] = value
            else:
                maps.setdefault(name, {})[key] = value
        except (GridError, ConfigError, ValueError) as error:
            raise DataError(f"{file}: line {number}: {' '.join(str(error).split())}") from None
    touched = [(name, key) for name, values in maps.items() for key in values]
    _check_money([*touched, *((name, "latest") for name in references)], yes)
    with opened(folder, make=True) as one:
        for name, value in references.items():
            one.reference(name).set(value)
        for name, values in maps.items():
            one.put_many(name, values)
    number = len(touched) + len(references)
    _told(as_json, f"{number} values from {file} are set in {folder}", file=str(file), values=number)


@grid.command(short_help="Is the grid sound?", epilog=DOCTOR_EPILOG)
@json_option
@grid_option
def doctor(as_json: bool, folder: str) -> None:
    """Read everything: maps, keys, what does not decode, what no schema knows. Exit code 1 when a value is refused."""
    from dolphin.grid.schemas import Decoded, find

    counts = Decoded()
    refused: list[str] = []
    rows: list[dict[str, Any]] = []
    with opened(folder) as one:
        health = one.health()
        cluster = _cluster(one)
        for name in one.names()[0]:
            row: dict[str, Any] = {"map": name, "keys": 0, "bytes": 0, "unknown_keys": 0, "refused": 0}
            for key in one.keys(name):
                value = one.get(name, key)
                if value is None:
                    continue
                row["keys"] += 1
                row["bytes"] += len(value)
                entry = find(name, key)
                if entry is None:
                    row["unknown_keys"] += 1
                    continue
                try:
                    entry.decode(value, counts)
                except GridError as error:
                    row["refused"] += 1
                    refused.append(f"{name}[{key!r}]: {error}")
            rows.append(row)
    document = {"grid": folder, "nodes": health.nodes, "latency_s": health.latency_s, **cluster, "maps": rows}
    if as_json:
        emit_json({**document, "unknown_fields": counts.unknown_fields, "refused": refused})
    else:
        header = ("map", "keys", "bytes", "keys no schema knows", "refused")
        print_table(f"{folder}, read in {health.latency_s * 1e6:.0f} µs", _cells(rows), header)
        for line in (*_cluster_lines(cluster), *refused):
            click.echo(line)
    if refused:
        raise GridError(f"{folder}: {len(refused)} value{'s are' if len(refused) > 1 else ' is'} refused")


def _cluster(grid: EmbeddedGrid | HazelcastGrid) -> dict[str, Any]:
    """What a cluster tells beyond what every grid does; nothing of an embedded grid."""
    look = getattr(grid, "cluster", None)
    if look is None:
        return {}
    seen = look()
    return {
        "members": [{"address": address, "version": version} for address, version in seen.members],
        "cp": None if seen.unsafe is None else not seen.unsafe,
    }


def _cluster_lines(cluster: dict[str, Any]) -> list[str]:
    if not cluster:
        return []
    told = {
        True: "CP subsystem: on; references and locks survive the loss of a member",
        False: "CP subsystem: off; references and locks are kept in unsafe mode: what is acknowledged can be lost",
        None: "CP subsystem: does not answer; references and locks cannot be used",
    }
    return [
        *(f"member {one['address']}, Hazelcast {one['version']}" for one in cluster["members"]),
        told[cluster["cp"]],
    ]


def _told(as_json: bool, line: str, **document: object) -> None:
    if as_json:
        emit_json(document)
    else:
        note(line)


def _line(event: Event) -> bytes:
    return event.key.encode() + b"\t" + (b"deleted" if event.value is None else event.value)


def _change(event: Event) -> str:
    value = {"value": None} if event.value is None else _text(event.value)
    return json.dumps({"map": event.name, "key": event.key, **value, "sequence": event.sequence})


def _lines(text: str) -> list[str]:
    return text.removesuffix("\n").split("\n") if text else []  # other line ends may be inside of values


def _cells(rows: list[dict[str, Any]]) -> list[list[str]]:
    return [[str(row[name]) for name in ("map", "keys", "bytes", "unknown_keys", "refused")] for row in rows]


def _check(name: str, key: str, data: bytes, *, any_key: bool) -> None:
    """Refuse what a known key must not hold, and a key that is not known unless `any_key`."""
    from dolphin.grid.checks import check_put
    from dolphin.grid.schemas import find

    try:
        check_put(name, {key: data})
        entry = find(name, key)
        if entry is not None:
            entry.decode(data)
    except GridError as error:
        raise ConfigError(str(error)) from None
    if entry is None and not any_key:
        raise ConfigError(f"{name}[{key!r}]: no schema knows this key; --any sets it all the same")


def _check_money(places: list[tuple[str, str]], yes: bool) -> None:
    from dolphin.grid.schemas import find

    for name, key in places:
        entry = find(name, key)
        if entry is not None and entry.moves_money and not yes:
            raise ConfigError(f"{name}[{key!r}]: can open or close positions; add --yes if that is what you want")


def _text(value: bytes) -> dict[str, str]:
    try:
        return {"value": value.decode("utf-8")}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _row(line: str) -> tuple[str, str | None, bytes]:
    """Map and key, or reference and None, and the value of one line of a dump."""
    import msgspec

    row = msgspec.json.decode(line, type=dict[str, str])
    if len(row.keys() & {"value", "base64"}) != 1:
        raise ValueError(f"fields {sorted(row)}; neither value nor base64, or both")
    value = row.pop("value", None)
    data = value.encode() if value is not None else base64.b64decode(row.pop("base64"), validate=True)
    if row.keys() == {"reference"}:
        return row["reference"], None, data
    if row.keys() == {"map", "key"}:
        return row["map"], row["key"], data
    raise ValueError(f"fields {sorted(row)}; expected map and key, or reference, and value or base64")
