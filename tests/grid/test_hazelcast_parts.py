"""Parts of the grid on a cluster: envelopes, breaker, near cache, address, and what only a real member can show."""

from __future__ import annotations

import os
import pickle
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hazelcast import HazelcastClient, reactor
from hazelcast.serialization.data import Data
from hypothesis import given
from hypothesis import strategies as st

from dolphin.core.errors import ConfigError, GridError
from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.hazelcast import breaker as breaker_module
from dolphin.grid.hazelcast.breaker import FAILURES, Breaker
from dolphin.grid.hazelcast.grid import HazelcastGrid
from dolphin.grid.hazelcast.link import mend_waker
from dolphin.grid.hazelcast.near import NearCache
from dolphin.grid.hazelcast.wire import pack, pack_key, pack_other, unpack
from dolphin.grid.opening import open_grid
from dolphin.grid.port import MAX_VALUE, Event
from dolphin.ops.infra.hazelcast import HazelcastCluster
from dolphin.ops.infra.memberconfig import member_config
from tests.grid.clusters import emptied, one_member, opened
from tests.grid.conformance import until

__all__ = ["one_member"]

SHARD = "DOLPHIN_FEATURES_SHARD_02"


# --- envelopes


@given(st.binary(max_size=200))
def test_what_is_packed_is_unpacked(value: bytes) -> None:
    assert unpack(pack(value), "m") == value
    other = pack_other(value)
    assert other is None or unpack(other, "m") == value


def test_text_is_a_string_and_other_bytes_are_a_byte_array() -> None:
    assert bytes(pack("é".encode()).buffer) == bytes.fromhex("00000000 fffffff5 00000002 c3a9")
    assert bytes(pack(b"\xff").buffer) == bytes.fromhex("00000000 fffffff4 00000001 ff")
    assert pack_key("k").get_type() == -11
    assert pack_other(b"\xff") is None


@pytest.mark.parametrize(
    "buffer",
    [
        b"",
        b"\0" * 7,
        bytes.fromhex("00000000 ffffff88 00000001 00"),  # a pickle
        bytes.fromhex("00000000 fffffff9 00000001"),  # an int
        bytes.fromhex("00000000 fffffff5 00000002 41"),  # shorter than it says
        bytes.fromhex("00000000 fffffff5 ffffffff"),
        bytes.fromhex("00000000 fffffff5") + (MAX_VALUE + 1).to_bytes(4) + bytes(MAX_VALUE + 1),
    ],
)
def test_what_is_no_value_is_refused(buffer: bytes) -> None:
    if not buffer:
        assert unpack(Data(buffer), "m") is None, "the library's null"
        return
    with pytest.raises(GridError, match=r"^grid: m: refused: ") as caught:
        unpack(Data(buffer), "m")
    assert len(str(caught.value)) < 120


# --- breaker


class Clock:
    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(breaker_module, "time", clock)
    return clock


def fail(breaker: Breaker, times: int) -> None:
    for _ in range(times):
        breaker.enter()
        breaker.failed("no answer")


def test_a_breaker_opens_tries_and_closes(clock: Clock) -> None:
    breaker = Breaker("it")
    fail(breaker, FAILURES - 1)
    breaker.enter()
    breaker.worked()
    fail(breaker, FAILURES - 1)
    assert breaker.state == "CLOSED", "only failures in a row count"
    fail(breaker, 1)
    assert breaker.state == "OPEN"
    with pytest.raises(GridError, match=r"^grid: it does not answer \(no answer\); tried again in a moment$"):
        breaker.enter()
    clock.now += 0.3
    assert breaker.state == "HALF-OPEN"
    breaker.enter()
    with pytest.raises(GridError):
        breaker.enter()
    breaker.failed("still nothing")
    clock.now += 0.3
    assert breaker.state == "OPEN", "twice as long as before"
    clock.now += 0.3
    breaker.enter()
    breaker.worked()
    assert breaker.state == "CLOSED"
    assert breaker.opened == 1


def test_a_breaker_waits_two_seconds_at_most(clock: Clock) -> None:
    breaker = Breaker("it")
    fail(breaker, FAILURES)
    for _ in range(20):
        clock.now += 2.1
        fail(breaker, 1)
    clock.now += 2.1
    assert breaker.state == "HALF-OPEN"


# --- near cache


def test_near_values_end_with_a_change_with_time_and_with_room() -> None:
    near = NearCache(ttl_s=100.0, size=2)
    for key in ("a", "b"):
        near.keep(key, key.encode(), near.ask(key))
    assert (near.get("a") or (None,))[0] == b"a"
    near.keep("c", b"c", near.ask("c"))
    assert near.get("b") is None, "the least recently read"
    assert near.get("a") is not None
    near.drop("a")
    assert near.get("a") is None
    near.clear()
    assert len(near) == 0
    assert (near.hits, near.misses) == (2, 2)
    short = NearCache(ttl_s=0.01)
    short.keep("a", None, short.ask("a"))
    until(lambda: short.get("a") is None)


def test_a_value_that_changed_while_it_was_fetched_is_not_kept() -> None:
    near = NearCache()
    ticket = near.ask("a")
    near.drop("a")
    near.keep("a", b"old", ticket)
    assert near.get("a") is None
    first, second = near.ask("a"), near.ask("a")
    near.keep("a", b"first", first)
    assert near.get("a") is None
    near.keep("a", b"second", second)
    assert (near.get("a") or (None,))[0] == b"second"


# --- the library's event loop


@pytest.mark.parametrize("mended", [False, True])
def test_a_wake_up_is_not_forgotten(monkeypatch: pytest.MonkeyPatch, mended: bool) -> None:
    waker = reactor._PipedWaker({})
    if mended:
        mend_waker(waker)
    read = os.read

    def woken_just_now(handle: int, size: int) -> bytes:
        waker.wake()
        return read(handle, size)

    waker.wake()
    monkeypatch.setattr(reactor.os, "read", woken_just_now)
    waker.handle_read()
    monkeypatch.undo()
    assert waker.awake is not mended, "as it is, the library says that it is awake, with nothing left to wake it"
    waker.close()


# --- addresses


@pytest.mark.parametrize(
    "address",
    [
        "hazelcast:", "hazelcast://", "hazelcast://127.0.0.1", "hazelcast://127.0.0.1:x", "hazelcast://127.0.0.1:70000",
        "hazelcast://127.0.0.1:1,", "hazelcast://127.0.0.1:1/a/b", "hazelcast://127.0.0.1:1?wait=3",
        "hazelcast://127.0.0.1:1?timeout=0", "hazelcast://127.0.0.1:1?timeout=nan", "hazelcast://127.0.0.1:1?remote=on",
        "hazelcast://127.0.0.1:1#x", "hazelcast://[::1:1", "hazelcast://10.1.2.3:5701", "hazelcast://example.org:5701",
    ],
)  # fmt: skip
def test_no_such_address(address: str) -> None:
    with pytest.raises(ConfigError, match="expected") as caught:
        open_grid(address)
    assert "\n" not in str(caught.value)


def test_a_folder_is_an_embedded_grid(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="holds no grid"):
        open_grid(tmp_path / "grid", make=False)
    grid = open_grid(tmp_path / "grid")
    assert isinstance(grid, EmbeddedGrid)
    grid.close()


def test_nobody_there() -> None:
    with pytest.raises(GridError, match=r"nobody answers within 0\.3 s; start it, or go on without$"):
        HazelcastGrid(("127.0.0.1:1",), connect_timeout_s=0.3)


# --- members


def test_a_member_speaks_to_this_machine_only() -> None:
    alone, three = member_config(5801, (5801,)), member_config(5801, (5801, 5802, 5803))
    for text in (alone, three):
        assert "interfaces: [127.0.0.1]" in text
        assert "multicast: { enabled: false }" in text
        assert "phone.home.enabled: false" in text
        assert "0.0.0.0" not in text
    assert "cp-member-count: 0" in alone
    assert "cp-member-count: 3" in three
    assert "backup-count: 2" in three


def test_an_impossible_cluster_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="2 members; expected 1, or 3"):
        HazelcastCluster(tmp_path).start(2)
    assert list(tmp_path.iterdir()) == []
    assert HazelcastCluster(tmp_path).stop() == 0


@pytest.mark.slow
class TestOnAMember:
    @pytest.fixture
    def grid(self, one_member: HazelcastCluster) -> Iterator[HazelcastGrid]:
        grid = opened(one_member)
        emptied(grid)
        yield grid
        grid.close()

    @pytest.fixture
    def client(self, one_member: HazelcastCluster) -> Iterator[HazelcastClient]:
        client = HazelcastClient(cluster_name="dolphin", cluster_members=list(one_member.addresses))
        yield client
        client.shutdown()

    def test_the_documents_tools_read_and_write_the_same(self, grid: HazelcastGrid, client: HazelcastClient) -> None:
        theirs = client.get_map("m").blocking()
        grid.put("m", "k", '{"é": 1}'.encode())
        assert theirs.get("k") == '{"é": 1}'
        theirs.put("k", '{"a": 2}')
        assert grid.get("m", "k") == b'{"a": 2}'
        theirs.put("k", bytearray(b'{"a": 3}'))
        assert grid.get("m", "k") == b'{"a": 3}'
        assert grid.replace_if_same("m", "k", b'{"a": 3}', b"x"), "equal means equal bytes, whoever wrote them how"
        assert theirs.get("k") == "x"
        reference = client.cp_subsystem.get_atomic_reference("r").blocking()
        reference.set(bytearray(b"1"))
        assert grid.reference("r").compare_and_set(b"1", b"2")
        assert reference.get() == "2"

    def test_nothing_is_ever_turned_into_an_object(self, grid: HazelcastGrid, client: HazelcastClient) -> None:
        class Bomb:
            def __reduce__(self) -> tuple[object, tuple[str]]:
                return exec, ("raise SystemExit('unpickled')",)

        told: list[Event] = []
        grid.watch("m", told.append)
        body = pickle.dumps(Bomb())
        bomb = Data(b"\0\0\0\0" + (-120).to_bytes(4, signed=True) + len(body).to_bytes(4) + body)
        theirs = client.get_map("m").blocking()
        theirs.set("bomb", bomb)
        theirs.set(7, "a key that is no text")
        theirs.set("k", "good")
        with pytest.raises(GridError, match=r"^grid: m\['bomb'\]: refused: a value of Hazelcast's type -120"):
            grid.get("m", "bomb")
        assert grid.keys("m") == ["bomb", "k"]
        until(lambda: [event.value for event in told] == [b"good"])
        assert grid.cluster().refused >= 4
        theirs.clear()
        until(lambda: [event.value for event in told] == [b"good", None])

    def test_near_values_follow_changes(self, grid: HazelcastGrid, one_member: HazelcastCluster) -> None:
        other = opened(one_member)
        assert grid.get(SHARD, "k") is None
        assert grid.get(SHARD, "k") is None
        assert grid.cluster().near_hits == 1, "that there is nothing is known as well"
        for number in range(50):
            value = b"%d" % number
            other.put(SHARD, "k", value)
            until(lambda value=value: grid.get(SHARD, "k") == value)  # type: ignore[misc]
        grid.put(SHARD, "k", b"mine")
        assert grid.get(SHARD, "k") == b"mine", "one's own writes are seen at once"
        assert grid.delete(SHARD, "k")
        assert grid.get(SHARD, "k") is None
        assert grid.replace_if_same(SHARD, "k", b"x", b"y") is False
        hits = grid.cluster().near_hits
        grid.get("m", "k")
        grid.get("m", "k")
        assert grid.cluster().near_hits == hits, "other maps are not kept near"
        other.close()

    def test_one_too_slow_is_told_the_latest(self, grid: HazelcastGrid, monkeypatch: pytest.MonkeyPatch) -> None:
        from dolphin.grid.hazelcast import teller

        monkeypatch.setattr(teller, "QUEUED", 20)
        told: list[Event] = []

        def slow(event: Event) -> None:
            told.append(event)
            while len(told) == 1 and grid.health().missed == 0:
                time.sleep(0.01)

        grid.watch("m", slow)
        for number in range(200):
            grid.put("m", f"k{number % 3}", b"%d" % number)
        until(lambda: {event.key: event.value for event in told} == {"k0": b"198", "k1": b"199", "k2": b"197"})
        assert len(told) + grid.health().missed == 200

    @pytest.mark.parametrize("name", ["a@b", " a", "a "])
    def test_names_that_would_mean_another(self, grid: HazelcastGrid, name: str) -> None:
        for make in (grid.lock, grid.reference):
            with pytest.raises(GridError, match="expected no @, nor a space at an end"):
                make(name)

    def test_another_process_finds_the_cluster(self, one_member: HazelcastCluster) -> None:
        again = HazelcastCluster(one_member.folder)
        assert again.addresses == one_member.addresses
        assert again.members[0].pid == one_member.members[0].pid
        assert again.status()[0].cluster_size == 1
        with pytest.raises(ConfigError, match="1 members are set up and some run"):
            again.start(3)
        elsewhere = HazelcastCluster(one_member.folder.parent / "elsewhere")
        with pytest.raises(ConfigError, match=f"port {one_member.members[0].port} is taken"):
            elsewhere.start(1, ports=[one_member.members[0].port])
        assert not elsewhere.folder.exists()
