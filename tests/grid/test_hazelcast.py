"""A grid on a real cluster keeps the promises of every grid, on one member and on three."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from dolphin.grid.port import Grid
from dolphin.ops.infra.hazelcast import HazelcastCluster
from tests.grid.clusters import emptied, one_member, opened, three_members
from tests.grid.conformance import Conformance

__all__ = ["one_member", "three_members"]

pytestmark = pytest.mark.slow


class OnACluster(Conformance):
    one_order = False

    @pytest.fixture
    def cluster(self) -> HazelcastCluster:
        raise NotImplementedError

    @pytest.fixture
    def grids(self, cluster: HazelcastCluster) -> Iterator[tuple[Grid, Grid]]:
        one, two = opened(cluster), opened(cluster)
        emptied(one)
        yield one, two
        one.close()
        two.close()


class TestOneMember(OnACluster):
    @pytest.fixture
    def cluster(self, one_member: HazelcastCluster) -> HazelcastCluster:
        return one_member


class TestThreeMembers(OnACluster):
    @pytest.fixture
    def cluster(self, three_members: HazelcastCluster) -> HazelcastCluster:
        return three_members
