"""A TCP port that passes on to another what it hears, and back, later: what a far server is like, on one machine."""

from __future__ import annotations

import asyncio
import contextlib
import threading

HOST = "127.0.0.1"
BLOCK = 1 << 16  # bytes
START_S = 10.0


class SlowLine:
    """Delays both directions by `delay_s` between a free port (`port`) and `server_port`, until it is closed."""

    def __init__(self, server_port: int, delay_s: float) -> None:
        self.port = 0
        self._server_port, self._delay_s = server_port, delay_s
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), name="slow line", daemon=True)
        self._thread.start()
        if not ready.wait(START_S):
            raise RuntimeError("the slow line did not open its port")

    def close(self) -> None:
        """End all connections."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._connected, HOST, 0))
        self.port = server.sockets[0].getsockname()[1]
        ready.set()
        self._loop.run_forever()
        server.close()
        waiting = asyncio.all_tasks(self._loop)
        for task in waiting:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*waiting, return_exceptions=True))
        self._loop.close()

    async def _connected(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        try:
            far, there = await asyncio.open_connection(HOST, self._server_port)
        except OSError:  # the server is not up yet: the client will try again
            back.close()
            return
        with contextlib.suppress(asyncio.CancelledError):  # the line is closed while somebody talks
            await asyncio.gather(self._pass_on(near, there), self._pass_on(far, back))

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Whatever comes, as late as everything else; the end of the connection, too."""
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def listen() -> None:
            data = b"-"
            while data:
                try:
                    data = await reader.read(BLOCK)
                except OSError:
                    data = b""
                queue.put_nowait((self._loop.time() + self._delay_s, data))

        listening = asyncio.ensure_future(listen())
        try:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                if not data:
                    break
                writer.write(data)
                with contextlib.suppress(OSError):  # gone: its own reader says so
                    await writer.drain()
        finally:
            listening.cancel()
            writer.close()
