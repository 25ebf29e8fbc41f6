"""The hub's thread beside a bare loop of its WebSocket library that sends the same bytes and reads the same answers.

Both serve viewers in another process over real sockets, in turn, within one run.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass

from websockets.asyncio.server import Server, ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from ..display import Display
from .cases import HD
from .clients import FORMATS, Clients, ack_of, clients_at, header_of, hello_of
from .content import Film
from .endtoend import serve
from .publishing import ThreadClocks, publish_numbers
from .rows import Progress, Row, at_most, medians

RATIO = 1.3
FPS = 20
_SMALL = (320, 192)
"""Size of frames that are small: with large ones the kernel's copies of their bytes hide what a message costs."""
_FORMATS = (*FORMATS, "rfb/channels")
_FRAMES = 20
_PAIRS = 3
_SECONDS = 1.2
_AFTERGLOW = 0.3
_PATIENCE = 10.0
_GROUP = f"the hub's thread beside a bare loop, {FPS} fps, all frames and acknowledgements the same"
_BARE_THREAD = "benchmark-bare-loop"


def measure(progress: Progress, *, content: str, runs: int) -> list[Row]:
    """A row for each of several numbers of viewers of small frames, and one of 720p. Figures are medians of pairs."""
    cases = [(2, _SMALL), (8, _SMALL), (64, _SMALL), (8, HD)]
    progress.add(len(cases))
    return [_row(progress, count, size, content, max(runs, _PAIRS)) for count, size in cases]


def _row(progress: Progress, count: int, size: tuple[int, int], content: str, runs: int) -> Row:
    name = f"{count} viewers of {size[0]}x{size[1]}"
    progress.step(f"{name}, beside a bare loop")
    figures = medians(pairs(count, size, content, runs))
    held = at_most(figures["hub_to_bare"], RATIO)
    return Row(_GROUP, name, {**figures}, f"≤ {RATIO:g} × the bare loop", held)


def pairs(count: int, size: tuple[int, int], content: str, runs: int) -> list[dict[str, float]]:
    """Figures of *runs* pairs: the hub and the bare loop, each with *count* viewers of frames of this *size*."""
    film = Film(content, "full", *size)
    with ExitStack() as stack:
        # With this quality a frame has the same bytes each time, and none is at rest long enough for a still.
        display = stack.enter_context(serve(size, quality=80, codec="none", still_after=5))
        hello = hello_of(display, _FORMATS)
        messages = _record(display, hello, film)
        bare = stack.enter_context(_bare_loop())
        sides = (
            _Side(
                "rfb-hub",
                lambda number: display.publish(film.frame(number)),
                stack.enter_context(clients_at(display.ws_url, hello, count)),
            ),
            _Side(
                _BARE_THREAD,
                lambda number: bare.send(messages[number]),
                stack.enter_context(clients_at(bare.url, hello, count)),
            ),
        )
        for side in sides:
            side.measure()
        hub_and_bare = [[1e6 * side.measure() for side in sides] for _ in range(runs)]
    kilobytes = sum(map(len, messages)) / len(messages) / 1000
    return [
        {"KB": kilobytes, "hub_us_per_message": hub, "bare_us_per_message": loop, "hub_to_bare": hub / loop}
        for hub, loop in hub_and_bare
    ]


def _record(display: Display, hello: str, film: Film) -> list[bytes]:
    """The messages in which a viewer gets the first frames of *film*."""
    messages = []
    with connect(display.ws_url, max_size=None) as viewer:
        viewer.send(hello)
        for number in range(_FRAMES):
            display.publish(film.frame(number))
            while isinstance(message := viewer.recv(_PATIENCE), str):
                pass
            messages.append(message)
            viewer.send(ack_of(header_of(message)))
    return messages


@dataclass(slots=True)
class _Side:
    """One of the two loops that are compared."""

    thread: str
    """Name of its thread."""
    send: Callable[[int], object]
    """Sends the frame with this number, below `_FRAMES`, to all viewers."""
    viewers: Clients

    def measure(self) -> float:
        """Send frames for a while; return the thread's processor seconds for each payload that reached a viewer."""
        before, clocks = self._received(), ThreadClocks()
        publish_numbers(range(round(_SECONDS * FPS)), FPS, lambda number: number % _FRAMES, self.send)
        time.sleep(_AFTERGLOW)
        spent = clocks.seconds(self.thread)
        return spent / (self._received() - before)

    def _received(self) -> int:
        return sum(count.payloads for count in self.viewers.counts())


# The bare loop --------------------------------------------------------------------------------------------------------


class _BareLoop:
    """The least code that sends messages to viewers and reads their answers. All of it is owned by its *loop*."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._connections: list[ServerConnection] = []
        self.url = ""

    async def listen(self) -> Server:
        server = await listen(self._welcome, "127.0.0.1", 0, compression=None)
        self.url = f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}"
        return server

    def send(self, message: bytes) -> None:
        """Send *message* to all viewers. Any thread may call it."""
        asyncio.run_coroutine_threadsafe(self._send(message), self._loop)

    async def _send(self, message: bytes) -> None:
        for connection in self._connections:
            await connection.send(message)

    async def _welcome(self, connection: ServerConnection) -> None:
        await connection.recv()
        await connection.send("{}")
        self._connections.append(connection)
        with suppress(ConnectionClosed):
            async for message in connection:
                json.loads(message)


@contextmanager
def _bare_loop() -> Iterator[_BareLoop]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name=_BARE_THREAD, daemon=True)
    thread.start()
    bare = _BareLoop(loop)
    server = asyncio.run_coroutine_threadsafe(bare.listen(), loop).result()
    try:
        yield bare
    finally:
        loop.call_soon_threadsafe(server.close)
        asyncio.run_coroutine_threadsafe(server.wait_closed(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
