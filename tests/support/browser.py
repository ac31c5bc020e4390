"""A headless Chromium for tests: finds the binary, renders a file, and answers questions over its debugging port."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-dev-shm-usage",
    "--window-size=1400,2000",
)
DEADLINE_S = 90


def chromium() -> str:
    """The browser's path; the calling test is skipped, saying why, where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"no browser: one of {', '.join(NAMES)} is expected on the PATH (Debian: chromium)")
    return found


def dump_dom(page: Path, scratch: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what it wrote to the console."""
    command = [chromium(), *FLAGS, f"--user-data-dir={scratch / 'dump'}", "--enable-logging=stderr"]
    command += ["--virtual-time-budget=10000", "--dump-dom", page.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


class Tab:
    """One page under the browser's debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)
        self.events: list[dict[str, Any]] = []

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Run one protocol command, keeping the events that arrive meanwhile."""
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            answer = await self._socket.receive_json(timeout=DEADLINE_S)
            if answer.get("id") == number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result
            self.events.append(answer)

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives in the page; a promise is awaited."""
        done = await self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until a JavaScript expression is true."""
        look = f"const look = () => ({expression}) ? done(true) : setTimeout(look, 30)"
        watch = f"new Promise((done) => {{ {look}; look() }})"
        async with asyncio.timeout(DEADLINE_S):
            assert await self.value(watch)

    @property
    def requests(self) -> list[str]:
        """The addresses that the page asked for."""
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    @property
    def complaints(self) -> list[str]:
        """Uncaught errors, console errors and refused requests."""
        bad = []
        for event in self.events:
            params = event.get("params", {})
            if event["method"] == "Runtime.exceptionThrown":
                bad.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled" and params["type"] in ("error", "assert"):
                bad.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] == "error":
                bad.append(str(params["entry"]))
        return bad


@contextmanager
def launched(scratch: Path, *flags: str) -> Iterator[int]:
    """A browser of its own, ended with the block; gives the number of its debugging port on loopback."""
    folder = scratch / "profile"
    command = [chromium(), *FLAGS, *flags, f"--user-data-dir={folder}", "--remote-debugging-port=0", "about:blank"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield _port(folder / "DevToolsActivePort")
    finally:
        process.terminate()
        process.wait(timeout=DEADLINE_S)


@asynccontextmanager
async def opened(page: Path, port: int) -> AsyncIterator[Tab]:
    """A tab with `page` loaded and its charts drawn, in the browser that listens on `port`."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
            target = next(t for t in await answer.json(content_type=None) if t["type"] == "page")
        async with session.ws_connect(target["webSocketDebuggerUrl"], max_msg_size=0) as socket:
            tab = Tab(socket)
            for domain in ("Page", "Runtime", "Network", "Log"):
                await tab.call(f"{domain}.enable")
            await tab.call("Page.navigate", url=page.as_uri())
            await tab.until("Boolean(document.documentElement && document.documentElement.dataset.charts)")
            yield tab


def _port(file: Path) -> int:
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        lines = file.read_text().split() if file.exists() else []
        if lines:
            return int(lines[0])
        time.sleep(0.05)
    raise TimeoutError(f"the browser did not open its debugging port within {DEADLINE_S} s")
