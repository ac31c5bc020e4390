"""A cluster of three that a network comes between, in a network namespace of its own: run by `unshare --net`.

The members have loopback addresses of their own, and rules of the namespace's routing drop what passes between some of
them. A client that binds to an address is on that member's side. Prints one line of JSON.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from dolphin.core.codes import Posture
from dolphin.core.errors import GridError
from dolphin.grid.hazelcast.grid import HazelcastGrid
from dolphin.ops.infra.hazelcast import HazelcastCluster
from dolphin.trade.ports import PostureReader

HOSTS = ("127.0.0.1", "127.0.0.2", "127.0.0.3")
PORTS = (5701, 5702, 5703)
DURABLE, FAST = "DOLPHIN_STATE_BLUE", "DOLPHIN_FEATURES"
LONG_S = 180.0
APEX = b'{"posture": "APEX", "Rm": 1.0, "sensors": {}}'
TURTLE = b'{"posture": "TURTLE", "Rm": 0.6, "sensors": {}}'

_connect, _connect_ex = socket.socket.connect, socket.socket.connect_ex


def say(what: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def routed(*words: str) -> None:
    """One change of the namespace's routing rules."""
    subprocess.run(["ip", "rule", *words], check=True, timeout=30.0)


def prepare() -> None:
    """Loopback up with an address for each member, and rules of ours before the one that says what is local."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=30.0)
    for host in HOSTS[1:]:
        subprocess.run(["ip", "address", "add", f"{host}/32", "dev", "lo"], check=True, timeout=30.0)
    routed("add", "pref", "100", "lookup", "local")
    routed("del", "pref", "0")


@contextlib.contextmanager
def apart(one: str, others: tuple[str, ...]) -> Iterator[None]:
    """Nothing passes between `one` and the others, either way."""
    pairs = [pair for other in others for pair in ((one, other), (other, one))]
    for source, target in pairs:
        routed("add", "pref", "10", "from", source, "to", target, "blackhole")
    try:
        yield
    finally:
        for _ in pairs:
            routed("del", "pref", "10")


def on_the_side_of(host: str) -> None:
    """From now on this process connects from `host`."""

    def bound(connect: Callable[..., Any]) -> Callable[..., Any]:
        def from_host(self: socket.socket, address: Any) -> Any:
            with contextlib.suppress(OSError):
                self.bind((host, 0))
            return connect(self, address)

        return from_host

    socket.socket.connect = bound(_connect)  # type: ignore[method-assign]
    socket.socket.connect_ex = bound(_connect_ex)  # type: ignore[method-assign]


def until(condition: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LONG_S
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"did not happen: {what}")
        time.sleep(0.05)


def fails(work: Callable[[], object]) -> str:
    """The line of a call that fails; "" when it works."""
    try:
        work()
    except GridError as error:
        return str(error)
    return ""


def alone(folder: Path) -> None:
    """A client on the smaller side: says what it is told there, when asked on stdin."""
    on_the_side_of(HOSTS[2])
    grid = HazelcastGrid([f"{HOSTS[2]}:{PORTS[2]}"], timeout_s=2.0, connect_timeout_s=60.0)
    money = PostureReader(grid, Posture.HIBERNATE)
    for line in sys.stdin:
        answer: dict[str, Any] = {"posture": money.read().name}
        if line.strip() == "write":
            answer["durable"] = fails(lambda: grid.put(DURABLE, "k", b"smaller side"))
            answer["reference"] = fails(lambda: grid.reference("DOLPHIN_SAFETY").set(APEX))
            answer["lock"] = fails(lambda: grid.lock("acb_lock").acquire(0.0))
        say(answer)
    grid.close()


class Smaller:
    """That client, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        command = [sys.executable, "-m", "tests.grid.partition", str(folder), "alone"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, what: str) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(what + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def main(folder: Path) -> dict[str, Any]:
    """The story, from whole to apart to whole again."""
    prepare()
    cluster = HazelcastCluster(folder, heap_mb=160, hosts=HOSTS)
    cluster.start(3, ports=PORTS, timeout_s=300.0)
    smaller = None
    told: dict[str, Any] = {}
    try:
        grid = HazelcastGrid(cluster.addresses, timeout_s=2.0, connect_timeout_s=60.0)
        reference = grid.reference("DOLPHIN_SAFETY")
        reference.set(APEX)
        grid.put(DURABLE, "k", b"before")
        smaller = Smaller(folder)
        told["before"] = smaller.ask("read")
        acknowledged = 0
        with apart(HOSTS[2], HOSTS[:2]):
            until(lambda: smaller.ask("read")["posture"] == "HIBERNATE", "the smaller side finds out")
            until(lambda: not fails(lambda: reference.set(TURTLE)), "the greater side goes on")
            for number in itertools.count(1):
                if not fails(lambda number=number: grid.put(DURABLE, "k", b"%d" % number)):  # type: ignore[misc]
                    acknowledged += 1
                if acknowledged >= 50:
                    last = number
                    break
            told["apart"] = smaller.ask("write")
            told["greater"] = PostureReader(grid, Posture.HIBERNATE).read().name
            until(lambda: cluster.members[0].ask("GET", "/health/cluster-size")[1] == "2", "two see two")
        until(lambda: [one.cluster_size for one in cluster.status()] == [3, 3, 3], "one cluster again")
        until(lambda: smaller.ask("read")["posture"] == "TURTLE", "the smaller side hears of it")
        told["after"] = {
            "durable": (grid.get(DURABLE, "k") or b"").decode(),
            "last": str(last),
            "reference": (reference.get() or b"").decode(),
        }
        grid.close()
    finally:
        if smaller is not None:
            smaller.end()
        cluster.stop()
    return told


if __name__ == "__main__":
    if sys.argv[2:] == ["alone"]:
        alone(Path(sys.argv[1]))
    else:
        say(main(Path(sys.argv[1])))
