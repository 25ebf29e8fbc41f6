"""A link that is slow, long, or cut, or speaks TLS: a relay on loopback."""

from __future__ import annotations

import asyncio
import ssl
import threading


class SlowLink:
    """Passes on what comes to `port`, from the target at no more than *rate* bytes a second, each byte *delay* seconds
    late, either way. Those who come have to speak *tls*, where there is one. A context manager: at its end all
    connections break, and another may take *at*, its port."""

    def __init__(
        self,
        target: int,
        rate: float = float("inf"),
        *,
        delay: float = 0,
        host: str = "127.0.0.1",
        at: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._target = target
        self._rate = rate
        self._delay = delay
        self._place = (host, at)
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> SlowLink:
        self._thread.start()
        start = asyncio.start_server(self._pass_on, *self._place, ssl=self._tls)
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
                both.create_task(_copy(reader, hub_writer, float("inf"), self._delay))
                both.create_task(_copy(hub_reader, writer, self._rate, self._delay))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            # Both have ended, or have to: TLS would say goodbye first, which outlasts the loop.
            hub_writer.transport.abort()
            writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, rate: float, delay: float) -> None:
    loop = asyncio.get_running_loop()
    # Without a delay, who doesn't read holds up who sends.
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(0 if delay else 1)

    async def put_on() -> None:
        free_at = loop.time()
        data = b"?"
        while data:
            data = await reader.read(4096)
            # What is on the wire takes its time, and no more is taken meanwhile.
            free_at = max(free_at, loop.time()) + len(data) / rate
            await asyncio.sleep(free_at - loop.time())
            await under_way.put((free_at + delay, data))

    async def take_off() -> None:
        while True:
            due, data = await under_way.get()
            await asyncio.sleep(due - loop.time())
            if not data:
                break
            writer.write(data)
            await writer.drain()
        writer.close()

    async with asyncio.TaskGroup() as ends:
        ends.create_task(put_on())
        ends.create_task(take_off())
