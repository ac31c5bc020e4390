"""The live loop against an exchange in another process: `python -m bench.live [--quick]` prints one JSON object.

Stream → book → features → scan → step at 100 ms, for 50 and for 400 contracts. A bar's event-to-feature time is from
the moment it was due, for an event received just before, to its features: woken up late, books and prices read,
features made. What a message costs the process is its processor time over the messages of that time, all included.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import msgspec

from bench.common import dolphin, say
from dolphin.exchange.live.books import LiveBooks
from dolphin.exchange.live.endpoints import Endpoints
from dolphin.exchange.live.feed import LiveOptions
from dolphin.ops.rehearsal import Plan, rehearse

SIZES = (50, 400)
READS = 200_000


def live(assets: int, bars: int) -> dict[str, Any]:
    """One rehearsal, and what reading the cache costs while the stream runs."""
    command = [dolphin(), "exchange", "sim", "--symbols", str(assets), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as exchange:
        assert exchange.stdout is not None
        at = json.loads(exchange.stdout.readline())
        try:
            # A hundred levels weigh little, so that 400 books are there within a minute; the diffs are the same.
            options = LiveOptions(snapshot_limit=100)
            with LiveBooks(Endpoints(at["rest_url"], at["ws_url"]), options=options) as feed:
                synced = feed.wait_synced(180.0)
                return {"assets": assets, "synced": synced, **measure(feed, bars)}
        finally:
            exchange.terminate()


def measure(feed: LiveBooks, bars: int) -> dict[str, Any]:
    """The bars, the processor's time, the reads."""
    rehearse(Plan(bars=20, replayed=False), feed.cache, feed.symbols)
    messages, spent, begun = feed.status().messages, time.process_time(), time.monotonic()
    done, _ = rehearse(Plan(bars=bars, replayed=False), feed.cache, feed.symbols)
    seconds, used = time.monotonic() - begun, time.process_time() - spent
    got = feed.status().messages - messages
    symbol, cache = feed.symbols[0], feed.cache
    begun = time.perf_counter()
    for _ in range(READS):
        cache.get_snapshot(symbol, 0.0)
    read_us = (time.perf_counter() - begun) / READS * 1e6
    return {
        **msgspec.to_builtins(done),
        "messages_per_s": got / seconds,
        "core_share": used / seconds,
        "message_us": used / max(got, 1) * 1e6,
        "read_us": read_us,
    }


def main(argv: list[str]) -> None:
    """Measure and print one JSON object."""
    quick = "--quick" in argv
    rows = []
    for assets in SIZES[:1] if quick else SIZES:
        row = live(assets, 50 if quick else 600)
        late = row["event_to_feature"]
        say(f"live, {assets}: event to feature {late['p50']:.2f} ms, p99 {late['p99']:.2f} ms, {row['missed']} missed")
        rows.append(row)
    print(json.dumps({"rows": rows}))


if __name__ == "__main__":
    main(sys.argv[1:])
