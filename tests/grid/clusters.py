"""Real Hazelcast clusters for tests, one of a size for all tests of a worker, started when first asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dolphin.core.errors import ConfigError
from dolphin.grid.hazelcast.grid import HazelcastGrid
from dolphin.ops.infra.hazelcast import HazelcastCluster, free_ports
from dolphin.ops.infra.java import find_jar, find_java


def need_java() -> None:
    """Skip where Java or Hazelcast's file is not to be had; in CI that is a failure."""
    try:
        find_java()
        find_jar()
    except ConfigError as error:
        if os.environ.get("CI") == "true":
            raise
        pytest.skip(str(error))


def started(folder: Path, members: int) -> HazelcastCluster:
    need_java()
    cluster = HazelcastCluster(folder, heap_mb=160)
    cluster.start(members, ports=free_ports(members), timeout_s=300.0)
    return cluster


@pytest.fixture(scope="session")
def one_member(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HazelcastCluster]:
    cluster = started(tmp_path_factory.mktemp("hazelcast1"), 1)
    yield cluster
    cluster.stop()


@pytest.fixture(scope="session")
def three_members(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HazelcastCluster]:
    cluster = started(tmp_path_factory.mktemp("hazelcast3"), 3)
    yield cluster
    cluster.stop()


def opened(cluster: HazelcastCluster, **options: Any) -> HazelcastGrid:
    """A grid on it. Members stall on a busy machine, so its patience is long: how long is tested elsewhere."""
    return HazelcastGrid(cluster.addresses, **{"timeout_s": 10.0, "connect_timeout_s": 60.0, **options})


def emptied(grid: HazelcastGrid) -> None:
    """Forget what tests before left: every map's values, and the references that tests use."""
    for name in grid.names()[0]:
        for key in grid.keys(name):
            grid.delete(name, key)
    for name in ("DOLPHIN_SAFETY", "r", "other"):
        grid._cp.call(name, lambda group, name=name: _reference(grid, name, group).set(None))


def _reference(grid: HazelcastGrid, name: str, group: Any) -> Any:
    from hazelcast.cp import ATOMIC_REFERENCE_SERVICE
    from hazelcast.proxy.cp.atomic_reference import AtomicReference

    return grid._cp.proxy(AtomicReference, ATOMIC_REFERENCE_SERVICE, name, group)
