"""One viewer's connection: a task that reads and one that writes, between a transport and the stream's core."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable
from itertools import count
from typing import Any, Protocol

from .._core.viewer import Viewer
from ..limits import MESSAGE_COST, Limits, received_bytes
from ..protocol import CloseCode, ProtocolError
from ..transport import TOO_MUCH, DirectTransport, Transport, TransportClosed
from ..types import Message

log = logging.getLogger(__name__)

viewer_numbers = count(1)


class Inputs(Protocol):
    """The inputs of a stream that come from its viewers."""

    def connected(self, connection: ViewerConnection) -> None: ...

    def received(self, viewer: Viewer, message: str | bytes) -> None: ...

    def written(self, viewer: Viewer) -> None: ...

    def failed(self, viewer: Viewer, error: Exception) -> None: ...

    def left(self, viewer: Viewer) -> None: ...


class ViewerConnection:
    """Connects one viewer to its transport. Owned by the hub's loop."""

    def __init__(self, viewer: Viewer, transport: Transport, stream: Inputs, limits: Limits) -> None:
        self.viewer = viewer
        self._transport = transport
        self._stream = stream
        self._direct = transport if isinstance(transport, DirectTransport) else None
        self._outgoing: asyncio.Queue[Message | None] = asyncio.Queue()
        """What the writing task has to send; None where it only has to wait until what was sent is taken."""
        loop = asyncio.get_running_loop()
        self._clock = loop.time
        self._closing: asyncio.Future[tuple[CloseCode, str]] = loop.create_future()
        self._bucket = received_bytes(limits, self._clock())
        self.ended = asyncio.Event()
        """Set once nothing of the connection is left."""

    def keep_to(self, limits: Limits) -> None:
        """Apply *limits* from now on."""
        self.viewer.session.keep_to(limits)
        self._bucket = received_bytes(limits, self._clock())

    def send(self, message: Message) -> bool:
        """Send *message*, before which all others were written. Returns True if it is written too; else the stream is
        told when it is."""
        if self._direct is None:
            self._outgoing.put_nowait(message)
            return False
        if written := self._direct.begin(message):
            return written
        self._outgoing.put_nowait(None)
        return False

    def close(self, code: CloseCode, reason: str) -> None:
        """Close the connection with *code* and *reason*."""
        if not self._closing.done():
            self._closing.set_result((code, reason))

    async def run(self) -> None:
        """Serve the viewer until it disconnects or has to be closed."""
        try:
            await self._serve()
            if self._closing.done():
                await self._transport.close(*self._closing.result())
        finally:
            self.ended.set()

    async def _serve(self) -> None:
        self._stream.connected(self)
        tasks = {asyncio.ensure_future(self._guard(work)) for work in (self._read(), self._write())}
        try:
            ends: set[asyncio.Future[Any]] = {*tasks, self._closing}
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            if self._direct:
                self._direct.listen(None)
            # The writer too: a close in the middle of a payload would look like a broken message.
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._stream.left(self.viewer)

    async def _guard(self, work: Awaitable[None]) -> None:
        """Do *work* until the connection ends; what fails is for the stream to judge, which closes the viewer."""
        try:
            await work
        except TransportClosed:
            return
        except Exception as error:
            self._stream.failed(self.viewer, error)
            await asyncio.wait({self._closing})

    async def _read(self) -> None:
        while True:
            self._take(await self._transport.receive())
            if self._direct:
                self._direct.listen(self._heard)

    def _heard(self, message: str) -> None:
        try:
            self._take(message)
        except Exception as error:
            self._stream.failed(self.viewer, error)

    def _take(self, message: str | bytes) -> None:
        if not self._bucket.spend(len(message) + MESSAGE_COST, self._clock()):
            raise ProtocolError(CloseCode.OVER_LIMIT, TOO_MUCH)
        if latency := self._transport.latency:
            bandwidth = self.viewer.session.bandwidth
            bandwidth.latency = min(latency, bandwidth.latency)
        self._stream.received(self.viewer, message)

    async def _write(self) -> None:
        while True:
            message = await self._outgoing.get()
            if message is not None:
                await self._transport.send(message)
            elif self._direct:
                await self._direct.drain()
            self._stream.written(self.viewer)
