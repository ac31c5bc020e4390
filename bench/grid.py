"""The grid: `python -m bench.grid [--quick]` prints one JSON object.

Microseconds of one call: the embedded grid beside the bare libraries it could stand on, by one process and by three at
once, and how long after a put began a listener in another process is called. Values have 200 bytes, as a circuit
breaker's update or a book's features. The bare ones write a change feed too, for a grid without one has no listeners;
they check nothing and wake nobody.
"""

from __future__ import annotations

import json
import multiprocessing
import sqlite3
import struct
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from dolphin.grid.embedded import EmbeddedGrid
from dolphin.grid.port import Event
from dolphin.grid.putqueue import PutQueue

VALUE = b"x" * 200
KEYS = [f"k{number}" for number in range(50)]
FAST, DURABLE = "DOLPHIN_FEATURES", "DOLPHIN_SAFETY"
PROCESSES = 3
_SEQ = struct.Struct(">Q")

Calls = tuple[Callable[[str], object], Callable[[str], object]]
"""Put and get of one key."""


def embedded(folder: Path, synced: bool) -> Calls:
    """Ours."""
    grid, name = EmbeddedGrid(folder / "grid", timeout_s=30.0), DURABLE if synced else FAST
    return lambda key: grid.put(name, key, VALUE), lambda key: grid.get(name, key)


def bare_lmdb(folder: Path, synced: bool) -> Calls:
    """LMDB: the value, the change, the feed's head."""
    env = lmdb.open(str(folder / "bare.mdb"), subdir=False, sync=synced, metasync=synced, map_size=1 << 28)

    def put(key: str) -> None:
        with env.begin(write=True) as txn:
            txn.put(b"m" + key.encode(), VALUE)
            head = txn.get(b"h")
            number = _SEQ.unpack(head)[0] + 1 if head else 1
            txn.put(b"h", _SEQ.pack(number))
            txn.put(b"f" + _SEQ.pack(number % 4096), key.encode() + VALUE)

    def get(key: str) -> object:
        with env.begin() as txn:
            return txn.get(b"m" + key.encode())

    return put, get


def bare_sqlite(folder: Path, synced: bool) -> Calls:
    """SQLite's WAL: the value and the change."""
    base = sqlite3.connect(folder / "bare.sqlite", timeout=30.0, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute(f"PRAGMA synchronous={'FULL' if synced else 'NORMAL'}")
    base.execute("CREATE TABLE IF NOT EXISTS kv(key TEXT PRIMARY KEY, value BLOB) WITHOUT ROWID")
    base.execute("CREATE TABLE IF NOT EXISTS feed(number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT, value BLOB)")

    def put(key: str) -> None:
        base.execute("BEGIN IMMEDIATE")
        base.execute("INSERT INTO kv VALUES(?,?) ON CONFLICT(key) DO UPDATE SET value=excluded.value", (key, VALUE))
        base.execute("INSERT INTO feed(key, value) VALUES(?,?)", (key, VALUE))
        base.execute("COMMIT")

    return put, lambda key: base.execute("SELECT value FROM kv WHERE key=?", (key,)).fetchone()


MAKERS = {"embedded": embedded, "lmdb": bare_lmdb, "sqlite": bare_sqlite}


def timed(call: Callable[[str], object], count: int) -> list[int]:
    """Nanoseconds of each of `count` calls."""
    times = []
    for number in range(count):
        key = KEYS[number % len(KEYS)]
        started = time.perf_counter_ns()
        call(key)
        times.append(time.perf_counter_ns() - started)
    return times


def shape(times: list[int]) -> dict[str, float]:
    """Microseconds: median, 99th percentile, largest."""
    times = sorted(times)
    picked = {"p50": times[len(times) // 2], "p99": times[int(len(times) * 0.99)], "max": times[-1]}
    return {name: round(value / 1000.0, 1) for name, value in picked.items()}


def _work(maker: str, folder: Path, synced: bool, count: int, gate: Any, results: Any) -> None:
    put, get = MAKERS[maker](folder, synced)
    timed(put, len(KEYS))
    gate.wait()
    results.put((timed(put, count), timed(get, count)))


def calls(maker: str, synced: bool, processes: int, count: int) -> dict[str, dict[str, float]]:
    """Puts and gets by that many processes at once."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        gate, results = context.Barrier(processes), context.Queue()
        arguments = (maker, Path(folder), synced, count, gate, results)
        workers = [context.Process(target=_work, args=arguments) for _ in range(processes)]
        for worker in workers:
            worker.start()
        done = [results.get(timeout=120.0) for _ in workers]
        for worker in workers:
            worker.join()
    return {
        "put": shape([one for puts, _ in done for one in puts]),
        "get": shape([one for _, gets in done for one in gets]),
    }


def _listen(folder: Path, count: int, ready: Any, results: Any) -> None:
    grid = EmbeddedGrid(folder / "grid")
    times: list[int] = []

    def told(event: Event) -> None:
        now = time.monotonic_ns()
        times.append(now - int(event.value or b"0"))
        if len(times) == count:
            results.put(times)

    grid.watch(FAST, told)
    ready.set()
    time.sleep(120.0)


def listening(count: int) -> dict[str, dict[str, float]]:
    """Puts at 200 a second: before anybody listens, and while another process does; and from the beginning of a put to
    the listener's call. After a pause of 5 ms caches are cold and the processor sleeps."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        ready, results = context.Event(), context.Queue()
        other = context.Process(target=_listen, args=(Path(folder), count, ready, results))
        grid = EmbeddedGrid(Path(folder) / "grid")

        def put(key: str) -> int:
            started = time.monotonic_ns()
            grid.put(FAST, key, b"%0200d" % started)
            return time.monotonic_ns() - started

        def paced() -> list[int]:
            times = []
            for number in range(count):
                time.sleep(0.005)
                times.append(put(KEYS[number % len(KEYS)]))
            return times

        alone = paced()
        other.start()
        ready.wait(60.0)
        puts = paced()
        heard = results.get(timeout=60.0)
        other.kill()
        other.join()
        grid.close()
    return {"put, nobody listening": shape(alone), "put": shape(puts), "heard": shape(heard)}


def queued(count: int) -> dict[str, float]:
    """What a put through the queue costs its caller while another thread writes to a real grid."""
    with tempfile.TemporaryDirectory() as folder:
        grid = EmbeddedGrid(Path(folder) / "grid")
        queue = PutQueue(grid)
        times = timed(lambda key: queue.put(FAST, key, VALUE), count)
        queue.close()
        grid.close()
    return shape(times)


def main(arguments: list[str]) -> None:
    """Print everything."""
    quick = "--quick" in arguments
    count, synced_count = (300, 20) if quick else (10_000, 500)
    report: dict[str, Any] = {}
    for maker in MAKERS:
        for processes in (1, PROCESSES):
            for synced in (False, True):
                name = f"{maker}, {'synced' if synced else 'fast'}, {processes} at once"
                report[name] = calls(maker, synced, processes, synced_count if synced else count)
    report["embedded, fast, 200 a second, one listener elsewhere"] = listening(50 if quick else 1000)
    report["put queue"] = {"put": queued(count)}
    print(json.dumps(report))


if __name__ == "__main__":
    main(sys.argv[1:])
