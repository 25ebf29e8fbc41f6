"""A slow link: a relay on loopback that lets only so much through."""

from __future__ import annotations

import asyncio
import threading


class SlowLink:
    """Passes on what comes to `port`, from the hub at no more than *rate* bytes a second. A context manager."""

    def __init__(self, port: int, rate: float) -> None:
        self._target = port
        self._rate = rate
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SlowLink:
        self._thread.start()
        start = asyncio.start_server(self._pass_on, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *exc: object) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", self._target, limit=4096)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, hub_writer, float("inf")))
                both.create_task(_copy(hub_reader, writer, self._rate))
        except* (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            hub_writer.close()
            writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float) -> None:
    loop = asyncio.get_running_loop()
    free_at = loop.time()
    while data := await reader.read(4096):
        # What is on the wire takes its time, and no more is taken meanwhile.
        free_at = max(free_at, loop.time()) + len(data) / rate
        await asyncio.sleep(free_at - loop.time())
        writer.write(data)
        await writer.drain()
    writer.close()
