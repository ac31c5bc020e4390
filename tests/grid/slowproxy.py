"""A TCP proxy on loopback that can be slow, and silent: what a bad network does to who is connected through it."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class SlowProxy:
    """Passes on to `port` of 127.0.0.1, every piece `delay_s` later; nothing at all while `silent`."""

    def __init__(self, port: int) -> None:
        self.target, self.port = port, 0
        self.delay_s, self.silent = 0.0, False
        self._loop = asyncio.new_event_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._ready.wait(30.0)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(30.0)

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        for source, sink in ((reader, to_writer), (to_reader, writer)):
            task = asyncio.create_task(self._pass(source, sink))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _pass(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def write() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                while self.silent:  # noqa: ASYNC110 - it is set by another thread
                    await asyncio.sleep(0.02)
                if not data:
                    return
                sink.write(data)
                await sink.drain()

        writing = asyncio.create_task(write())
        with contextlib.suppress(OSError, asyncio.CancelledError):
            while True:
                data = await source.read(1 << 16)
                queue.put_nowait((self._loop.time() + self.delay_s, data))
                if not data:
                    break
            await writing
        writing.cancel()
        with contextlib.suppress(OSError):
            sink.close()
