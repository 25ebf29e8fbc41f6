"""The seam between a session and the network: what every way in and out must do, and the WebSocket that does it."""

from __future__ import annotations

from typing import Any, Protocol

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode as WebSocketCode
from websockets.server import ServerProtocol

from .protocol import CloseCode
from .session import Message

MAX_MESSAGE = 64 * 1024
"""Bytes a viewer may say at once: its longest message is a hello of about 1 KiB."""

_JOIN_BELOW = 100 * 1024
"""Below this a copy is cheaper than a second frame; above it header and payload go as two fragments."""


class TransportClosed(Exception):
    """The peer has gone, or was closed."""


class Transport(Protocol):
    """One viewer's two-way channel. All methods are called on the hub's loop."""

    async def receive(self) -> str | bytes:
        """The next message. Raises `TransportClosed` once there is none."""

    async def send(self, message: Message) -> None:
        """Send *message* and wait until the network took it. Raises `TransportClosed`."""

    async def close(self, code: int, reason: str) -> None:
        """Say why and end; harmless when ended already."""


class LimitedConnection(ServerConnection):
    """A connection that answers a message over `MAX_MESSAGE` with 4429 in place of WebSocket's own 1009."""

    def __init__(self, protocol: ServerProtocol, server: Server, **settings: Any) -> None:
        super().__init__(protocol, server, **settings)
        fail = protocol.fail

        def fail_in_our_words(code: int, reason: str = "") -> None:
            if code == WebSocketCode.MESSAGE_TOO_BIG:
                code, reason = CloseCode.OVER_LIMIT, f"a message of a viewer holds at most {MAX_MESSAGE} bytes"
            fail(code, reason)

        protocol.fail = fail_in_our_words  # type: ignore[method-assign]  # websockets has no hook for it


class WebSocketTransport:
    """A `Transport` over one WebSocket of the hub's own listener."""

    def __init__(self, socket: ServerConnection) -> None:
        self._socket = socket

    async def receive(self) -> str | bytes:
        try:
            return await self._socket.recv()
        except ConnectionClosed as closed:
            raise TransportClosed(str(closed)) from None

    async def send(self, message: Message) -> None:
        try:
            if isinstance(message, str):
                await self._socket.send(message)
            elif len(message[1]) < _JOIN_BELOW:
                await self._socket.send(b"".join(message))
            else:
                await self._socket.send(message)
        except ConnectionClosed as closed:
            raise TransportClosed(str(closed)) from None

    async def close(self, code: int, reason: str) -> None:
        # A close frame holds at most 123 bytes of reason.
        await self._socket.close(code, reason.encode()[:123].decode(errors="ignore"))
