"""The grid on a real cluster: `python -m bench.hazelcast [--quick]` prints one JSON object.

Microseconds of one call: a put that waits beside one through the put queue, reads from the cluster beside near ones,
and the library's own calls beside ours; then a promised rate of puts while a member is killed and started again, with
what became of them and what memory they took. Three members on this machine, values of 200 bytes.
"""

from __future__ import annotations

import json
import resource
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hazelcast import HazelcastClient

from bench.grid import KEYS, VALUE, shape, timed
from dolphin.grid.hazelcast.grid import HazelcastGrid
from dolphin.grid.putqueue import PutQueue
from dolphin.ops.infra.hazelcast import HazelcastCluster, free_ports

MAP, SHARD = "DOLPHIN_FEATURES", "DOLPHIN_FEATURES_SHARD_03"
SYMBOLS = [f"A{number}USDT" for number in range(400)]
RATE = 10_000


def calls(cluster: HazelcastCluster, count: int) -> dict[str, Any]:
    """Ours and the library's own, one after another."""
    grid = HazelcastGrid(cluster.addresses, timeout_s=10.0)
    client = HazelcastClient(cluster_name="dolphin", cluster_members=list(cluster.addresses))
    text, bare, kept = VALUE.decode(), client.get_map("bare").blocking(), client.get_map("bare")
    grid.put_many(SHARD, dict.fromkeys(KEYS, VALUE))
    near: list[int] = []
    for key in KEYS:
        grid.get(SHARD, key)
    near = timed(lambda key: grid.get(SHARD, key), 10 * count)
    queue = PutQueue(grid)
    report = {
        "put": {
            "waiting, fast map": shape(timed(lambda key: grid.put(MAP, key, VALUE), count)),
            "waiting, durable map": shape(timed(lambda key: grid.put("DOLPHIN_SAFETY", key, VALUE), count)),
            "through the put queue": shape(timed(lambda key: queue.put(MAP, key, VALUE), 10 * count)),
            "the library's own, waiting": shape(timed(lambda key: bare.set(key, text), count)),
            "the library's own, not waiting": shape(timed(lambda key: kept.set(key, text), count)),
            "400 at once": shape(timed(lambda _: grid.put_many(MAP, dict.fromkeys(SYMBOLS, VALUE)), count // 50)),
        },
        "get": {
            "from the cluster": shape(timed(lambda key: grid.get(MAP, key), count)),
            "near": shape(near),
            "the library's own": shape(timed(bare.get, count)),
        },
        "reference": {"get": shape(timed(lambda _: grid.reference("r").get(), count // 10))},
    }
    queue.close()
    client.shutdown()
    grid.close()
    return report


def paced(put: Callable[[str], object], seconds: float) -> list[int]:
    """RATE puts a second, each timed; those that the pacing is late for go out at once."""
    times: list[int] = []
    start = time.perf_counter_ns()
    for number in range(int(RATE * seconds)):
        due = start + number * 1_000_000_000 // RATE
        while (now := time.perf_counter_ns()) < due:
            if due - now > 200_000:
                time.sleep(0.0001)
        put(SYMBOLS[number % len(SYMBOLS)])
        times.append(time.perf_counter_ns() - now)
    return times


def sustained(cluster: HazelcastCluster, seconds: float) -> dict[str, Any]:
    """The promised rate, a member killed after a third of the time and started again."""
    grid = HazelcastGrid(cluster.addresses, timeout_s=1.0)
    queue = PutQueue(grid)
    paced(lambda key: queue.put(MAP, key, VALUE), 1.0)
    queue.flush(30.0)
    before = queue.counts()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    def disturb() -> None:
        time.sleep(seconds / 3.0)
        cluster.members[0].send(signal.SIGKILL)
        cluster.members[0].gone_within(10.0)
        cluster.start(3)

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    started = time.perf_counter()
    times = paced(lambda key: queue.put(MAP, key, VALUE), seconds)
    took = time.perf_counter() - started
    disturbing.join()
    queue.flush(30.0)
    after = queue.counts()
    queue.close()
    grid.close()
    return {
        "put": shape(times),
        "offered a second": round(len(times) / took),
        "counts": {
            name: getattr(after, name) - getattr(before, name)
            for name in ("offered", "sent", "coalesced", "dropped", "failed")
        },
        "memory grew by MB": round((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024.0, 1),
    }


def main(arguments: list[str]) -> None:
    """Print everything."""
    quick = "--quick" in arguments
    with tempfile.TemporaryDirectory() as folder:
        cluster = HazelcastCluster(Path(folder))
        cluster.start(3, ports=free_ports(3))
        try:
            report = calls(cluster, 200 if quick else 2000)
            report["10,000 a second, a member killed and started again"] = sustained(cluster, 6.0 if quick else 30.0)
        finally:
            cluster.stop()
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
