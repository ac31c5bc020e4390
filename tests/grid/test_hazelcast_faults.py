"""What members, networks and processes that fail do to a grid on a real cluster; each case has one right outcome."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dolphin.core.codes import Posture
from dolphin.core.errors import GridError
from dolphin.grid.hazelcast.grid import HazelcastGrid
from dolphin.grid.port import Event, Grid, Reference
from dolphin.grid.putqueue import PutQueue
from dolphin.ops.infra.hazelcast import HazelcastCluster
from dolphin.trade.ports import PostureReader
from tests.grid.clusters import need_java, opened, started
from tests.grid.conformance import DURABLE, until
from tests.grid.processes import running
from tests.grid.slowproxy import SlowProxy

pytestmark = pytest.mark.slow

LONG_S = 120.0
SHARD = "DOLPHIN_FEATURES_SHARD_07"


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HazelcastCluster]:
    cluster = started(tmp_path_factory.mktemp("faults3"), 3)
    yield cluster
    cluster.stop()


@pytest.fixture
def whole(three: HazelcastCluster) -> HazelcastCluster:
    """Three members, whatever the test before did to them."""
    for member in three.members:
        member.send(signal.SIGCONT)
    if sum(member.pid is not None for member in three.members) < 2:
        three.stop()
    three.start(3, ports=[member.port for member in three.members], timeout_s=300.0)
    return three


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HazelcastCluster]:
    cluster = started(tmp_path_factory.mktemp("faults1"), 1)
    yield cluster
    cluster.stop()


@pytest.fixture
def single(alone: HazelcastCluster) -> HazelcastCluster:
    alone.members[0].send(signal.SIGCONT)
    alone.start(1, ports=[alone.members[0].port], timeout_s=300.0)
    return alone


class Writer:
    """Writes ever greater numbers to ten keys and a reference; knows which were acknowledged."""

    def __init__(self, grid: Grid) -> None:
        self.grid, self.reference = grid, grid.reference("written")
        self.acknowledged: dict[str, int] = {}
        self.failures: list[str] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        number = 0
        while not self._stop.is_set():
            number += 1
            key = f"k{number % 10}"
            for place, write in (
                (key, lambda key=key, number=number: self.grid.put(DURABLE, key, b"%d" % number)),
                ("reference", lambda number=number: self.reference.set(b"%d" % number)),
            ):
                try:
                    write()  # type: ignore[no-untyped-call]
                except GridError as error:
                    self.failures.append(str(error))
                else:
                    self.acknowledged[place] = number

    def until_more(self, count: int = 50) -> None:
        """Wait until so many more were acknowledged, of the reference too."""
        goal = self.acknowledged.get("reference", 0) + count
        until(lambda: self.acknowledged.get("reference", 0) >= goal, LONG_S)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
        assert not [failure for failure in self.failures if "\n" in failure or not failure.startswith("grid: ")]

    def check(self, grid: Grid, reference: Reference) -> None:
        """Nothing that was acknowledged is lost: what is there is that, or newer."""
        for place, number in self.acknowledged.items():
            value = answered(reference.get if place == "reference" else lambda place=place: grid.get(DURABLE, place))  # type: ignore[misc]
            assert int(value or b"-1") >= number, place


def answered[T](work: Callable[[], T], seconds: float = LONG_S) -> T:
    """What it returns once the cluster answers."""
    end = time.monotonic() + seconds
    while True:
        try:
            return work()
        except GridError:
            assert time.monotonic() < end, "the cluster did not come back"
            time.sleep(0.05)


def refused(work: Callable[[], object], match: str = "", seconds: float = LONG_S) -> GridError:
    """The error it raises once the cluster is found to be away."""
    end = time.monotonic() + seconds
    while True:
        try:
            work()
        except GridError as error:
            if match in str(error) and "\n" not in str(error):
                return error
        assert time.monotonic() < end, "went on working"
        time.sleep(0.02)


def test_a_killed_member_takes_no_acknowledged_write_with_it_and_is_replaced(whole: HazelcastCluster) -> None:
    grid, other = opened(whole, timeout_s=2.0), opened(whole)
    told: list[Event] = []
    other.watch(DURABLE, told.append)
    writer = Writer(grid)
    for victim in (0, 1):  # the second would take the majority with it, had the CP subsystem not been mended
        writer.until_more()
        whole.members[victim].send(signal.SIGKILL)
        assert whole.members[victim].gone_within(LONG_S)
        writer.until_more()
        whole.start(3, timeout_s=300.0)
    writer.until_more()
    writer.stop()
    writer.check(other, other.reference("written"))
    final = {key: other.get(DURABLE, key) for key in other.keys(DURABLE)}

    def heard() -> bool:
        return {event.key: event.value for event in list(told)} == final

    until(heard, LONG_S)
    for key in final:
        values = [int(event.value or b"0") for event in told if event.key == key]
        back = [b for a, b in itertools.pairwise(values) if b < a]
        assert not back, "told an older value after a newer one"
    grid.close()
    other.close()


def test_without_the_majority_nothing_about_money_is_answered(whole: HazelcastCluster) -> None:
    grid = opened(whole, timeout_s=1.0)
    reference = grid.reference("DOLPHIN_SAFETY")
    safe = b'{"posture": "APEX", "Rm": 1.0, "sensors": {}}'
    reference.set(safe)
    grid.put("DOLPHIN_SAFETY", "latest", safe)
    money = PostureReader(grid, Posture.HIBERNATE)
    assert money.read() is Posture.APEX
    for member in whole.members[1:]:
        member.send(signal.SIGKILL)
        assert member.gone_within(LONG_S)
    until(lambda: money.read() is Posture.HIBERNATE, LONG_S)
    assert money.failures
    refused(reference.get)
    refused(lambda: grid.put("DOLPHIN_SAFETY", "latest", safe))
    refused(lambda: reference.compare_and_set(safe, b"x"), "does not answer")
    with pytest.raises(GridError, match="one member of three is left"):
        whole.start(3)
    assert grid.cluster().cp_breaker != "CLOSED", "later calls do not wait"
    grid.close()


def test_a_member_that_hangs_and_goes_on(whole: HazelcastCluster) -> None:
    grid = opened(whole, timeout_s=1.0)
    writer = Writer(grid)
    writer.until_more()
    whole.members[2].send(signal.SIGSTOP)
    until(lambda: writer.failures, LONG_S)
    writer.until_more(20)  # the others found out that it is away, and took its place
    whole.members[2].send(signal.SIGCONT)
    until(lambda: [one.cluster_size for one in whole.status()] == [3, 3, 3], LONG_S)
    writer.until_more()
    writer.stop()
    other = opened(whole)
    writer.check(other, other.reference("written"))
    grid.close()
    other.close()


def test_all_started_anew_is_empty_and_listeners_hear_it(whole: HazelcastCluster) -> None:
    grid = opened(whole, timeout_s=2.0)
    told: list[Event] = []
    grid.watch("m", told.append)
    grid.put("m", "k", b"before")
    reference, lock = grid.reference("r"), grid.lock("x")
    reference.set(b"before")
    token = lock.acquire()
    assert token
    until(lambda: told)
    ports = [member.port for member in whole.members]
    whole.stop()
    refused(lambda: grid.put("m", "k", b"while away"))
    whole.start(3, ports=ports, timeout_s=300.0)
    assert answered(lambda: grid.get("m", "k")) is None, "a cluster keeps nothing on disk"
    assert answered(reference.get) is None
    with pytest.raises(GridError, match="not held with token"):
        lock.release(token)
    until(lambda: told[-1].value is None, LONG_S)
    grid.put("m", "k", b"after")
    until(lambda: told[-1].value == b"after", LONG_S)
    assert [event.value for event in told] == [b"before", None, b"after"]
    assert grid.health().missed == 1, "the deletion was found out, not heard"
    assert lock.acquire(10.0)
    grid.close()


def test_away_and_back(single: HazelcastCluster) -> None:
    grid = opened(single, timeout_s=1.0)
    queue = PutQueue(grid)
    told: list[bytes] = []
    grid.listen("m", "k", told.append)
    grid.put(SHARD, "BTCUSDT", b"old")
    assert [grid.get(SHARD, "BTCUSDT") for _ in range(3)] == [b"old"] * 3
    assert grid.cluster().near_hits == 2
    port = single.members[0].port
    single.members[0].send(signal.SIGKILL)
    assert single.members[0].gone_within(LONG_S)
    error = refused(lambda: grid.get(SHARD, "BTCUSDT"), "not reachable")
    assert "start it, or go on without" in str(error)
    assert grid.health().nodes == 0
    for number in range(1000):
        queue.put("m", "k", b"%d" % number)
    until(lambda: queue.counts().failed > 0, LONG_S)
    single.start(1, ports=[port], timeout_s=300.0)
    queue.put("m", "k", b"back")
    assert answered(lambda: grid.get(SHARD, "BTCUSDT")) is None
    assert queue.flush(LONG_S)
    answered(lambda: grid.put("m", "k", b"again"))
    until(lambda: told[-1:] == [b"again"], LONG_S)
    assert grid.health().nodes == 1
    queue.close()
    grid.close()


def test_a_slow_network_and_one_that_is_silent(single: HazelcastCluster) -> None:
    proxy = SlowProxy(single.members[0].port)
    grid = HazelcastGrid((f"127.0.0.1:{proxy.port}",), timeout_s=5.0, connect_timeout_s=60.0)
    # Members tell their own address; here the way to it leads through the proxy, as it would through a tunnel.
    address = grid._link.client._address_provider.load_addresses()[0][0]
    grid._link.client._address_provider.translate = lambda _: address  # type: ignore[method-assign]
    told: list[bytes] = []
    grid.listen("m", "k", told.append)
    proxy.delay_s = 0.2
    grid.put("m", "k", b"slow")
    assert grid.health().latency_s >= 0.4
    until(lambda: told == [b"slow"])
    proxy.silent = True
    refused(lambda: grid.get("m", "k"), "not reachable")
    other = opened(single)
    other.put("m", "k", b"missed")
    proxy.silent, proxy.delay_s = False, 0.0
    assert answered(lambda: grid.get("m", "k")) == b"missed"
    until(lambda: told == [b"slow", b"missed"], LONG_S)
    grid.close()
    other.close()
    proxy.close()


def test_a_lock_that_nobody_was_told_of_does_not_stay_locked(single: HazelcastCluster) -> None:
    grid, other = opened(single, timeout_s=1.0), opened(single)
    lock = grid.lock("x")
    lock.release(lock.acquire())
    single.members[0].send(signal.SIGSTOP)
    refused(lock.acquire)
    single.members[0].send(signal.SIGCONT)
    # The cluster grants it when it goes on, to a session that lives: without more it would be held for good.
    assert answered(lambda: other.lock("x").acquire(LONG_S))
    grid.close()
    other.close()


HOLD = """
from dolphin.grid.hazelcast.grid import HazelcastGrid
cluster = HazelcastGrid(sys.argv[2].split(","), timeout_s=10.0, connect_timeout_s=60.0)
say(cluster.lock("held").acquire())
time.sleep(600)
"""


@pytest.mark.parametrize("members", [1, 3])
def test_a_lock_is_free_when_its_holder_is_dead(request: pytest.FixtureRequest, tmp_path: Path, members: int) -> None:
    cluster = request.getfixturevalue("single" if members == 1 else "whole")
    grid = opened(cluster)
    lock = grid.lock("held")
    with running(HOLD, tmp_path / "grid", ",".join(cluster.addresses)) as holder:
        first = int(holder.listen(LONG_S))
        assert first > 0
        assert lock.acquire() == 0
        holder.kill()
        second = lock.acquire(LONG_S)
        assert second > first
    lock.release(second)
    grid.close()


def test_a_network_that_falls_apart_and_grows_together(tmp_path: Path) -> None:
    """Two members on one side, one on the other: the two go on, the one answers nothing about money, and afterwards
    all have what the two acknowledged. In a network namespace, which wants the rights to make one."""
    need_java()
    namespace = ["unshare", "--net", "--"]
    try:
        able = subprocess.run([*namespace, "ip", "rule", "list"], capture_output=True, timeout=60.0, check=False)
    except FileNotFoundError as error:
        pytest.skip(f"{error.filename}: not on this machine; it makes network namespaces")
    if able.returncode != 0:
        pytest.skip("no right to make a network namespace here")
    command = [*namespace, sys.executable, "-m", "tests.grid.partition", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600.0, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout.strip().splitlines()[-1])
    assert told["before"] == {"posture": "APEX"}
    apart = told["apart"]
    assert apart["posture"] == "HIBERNATE"
    assert all(apart[what].startswith("grid: ") for what in ("durable", "reference", "lock")), apart
    assert told["greater"] == "TURTLE"
    assert told["after"]["durable"] == told["after"]["last"]
    assert json.loads(told["after"]["reference"])["posture"] == "TURTLE"
