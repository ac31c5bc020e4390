"""One name for any grid: a folder, or the address of a cluster (SPEC §14)."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

from dolphin.core.errors import ConfigError, GridError

if TYPE_CHECKING:
    from dolphin.grid.embedded import EmbeddedGrid
    from dolphin.grid.hazelcast.grid import HazelcastGrid

SCHEME = "hazelcast"

_ADDRESS = re.compile(r"[A-Za-z0-9.\-]+:\d{1,5}")


def open_grid(address: str | Path, *, make: bool = True) -> EmbeddedGrid | HazelcastGrid:
    """The grid at `address`: a folder, or `hazelcast://host:port[,host:port…][/cluster][?timeout=seconds&remote=yes]`.

    `remote=yes` takes addresses of other machines, to which nothing is encrypted. With `make` a folder that is not
    there is made. Raises ConfigError for an address that is none, for a folder without a grid unless `make`, and when
    the client library is not installed; GridError when the grid cannot be opened.
    """
    text = str(address)
    if text.startswith(f"{SCHEME}:"):
        return _hazelcast(text)
    from dolphin.grid.embedded import EmbeddedGrid

    folder = Path(address)
    if not make and not (folder / "durable.mdb").exists():
        raise ConfigError(f"{folder}: holds no grid; give the folder of one with --grid")
    return EmbeddedGrid(folder)


def is_cluster(address: str | Path) -> bool:
    """Whether it names a cluster."""
    return str(address).startswith(f"{SCHEME}:")


def _hazelcast(text: str) -> HazelcastGrid:
    form = f"expected {SCHEME}://host:port[,host:port][/cluster][?timeout=seconds&remote=yes]"
    try:
        parts = urlsplit(text)
        options: dict[str, Any] = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    except ValueError:
        raise ConfigError(f"grid {text!r}: {form}") from None
    addresses = tuple(parts.netloc.split(","))
    cluster = parts.path.strip("/")
    good = all(_ADDRESS.fullmatch(one) and int(one.rpartition(":")[2]) < 1 << 16 for one in addresses)
    if not good or "/" in cluster or parts.fragment or options.keys() - {"timeout", "remote"}:
        raise ConfigError(f"grid {text!r}: {form}")
    wanted: dict[str, Any] = {"cluster": cluster} if cluster else {}
    if "timeout" in options:
        wanted["timeout_s"] = _seconds(text, options["timeout"])
    if options.get("remote", "no") not in ("yes", "no"):
        raise ConfigError(f"grid {text!r}: remote is {options['remote']!r}; expected yes or no")
    try:
        from dolphin.grid.hazelcast.grid import HazelcastGrid
    except ModuleNotFoundError:
        raise ConfigError(
            f"grid {text!r}: Hazelcast's client is not installed; pip install 'hazelcast-python-client>=5.7,<5.8'"
        ) from None
    try:
        return HazelcastGrid(addresses, remote=options.get("remote") == "yes", **wanted)
    except GridError as error:
        if "expected" in str(error):
            raise ConfigError(str(error)) from None
        raise


def _seconds(text: str, value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0.0 < seconds < math.inf:
        raise ConfigError(f"grid {text!r}: timeout is {value!r}; expected seconds above 0")
    return seconds
