"""The interface between a session and the network, and its implementations: WebSocket, memory, opening."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar, Protocol, TypeAlias, cast, runtime_checkable
from weakref import WeakSet

from websockets.asyncio.server import Server, ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidMessage
from websockets.frames import CloseCode as WebSocketCode
from websockets.protocol import State
from websockets.server import ServerProtocol

from ._core.admission_queue import AdmissionQueue
from ._wire.websocket import ShortMessages, message_header
from .limits import CLOSE_TIMEOUT, Limits, received_bytes
from .protocol import CloseCode, Hello, ProtocolError, parse
from .types import Message

TOO_MUCH = "the viewer sends more than it may for long"

_PING_INTERVAL = 1.0
_JOIN_BELOW = 32 * 1024
"""Bytes below which a copy is cheaper than a second call of the system."""

_READ_BYTES = 32 * 1024
"""Most bytes of one read. For asyncio's own 256 KB memory is allocated each time: on a bare pair of sockets 60 bytes
took 14 us to send and read, and 2 with this; how much depends on the process's allocator."""
_HEAD_ENDS = b"\r\n\r\n"
_REFUSAL = b"this hub takes requests of HTTP/1.1 without a body, and WebSockets\n"
_NO_REQUEST = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    b"Content-Length: %d\r\n\r\n%s" % (len(_REFUSAL), _REFUSAL)
)


class TransportClosed(Exception):
    """The peer has gone, or was closed."""


class Transport(Protocol):
    """One viewer's connection: whole messages both ways, in order. All methods are called on the hub's loop.

    `Outbox` decides beforehand which waiting message goes first, and in which pieces, so that another transport needs
    to know nothing of channels, and sessions nothing of it.
    """

    @property
    def latency(self) -> float:
        """Seconds of a ping's round trip, 0 while unknown."""

    async def receive(self) -> str | bytes:
        """Returns the next message. Raises `TransportClosed` once there is none."""

    async def send(self, data: Message) -> None:
        """Sends *data* and waits until the network took it. Raises `TransportClosed`."""

    async def close(self, code: int, reason: str) -> None:
        """Sends the reason and ends; harmless when ended already."""


@runtime_checkable
class DirectTransport(Transport, Protocol):
    """A transport that can do without tasks, and so without a switch between tasks for each message."""

    def listen(self, take: Callable[[str], None] | None) -> None:
        """From now on calls *take*, which may not raise, with messages that come; some still come from `receive`, in
        their turn. None ends that."""

    def begin(self, data: Message) -> bool:
        """Sends *data*, once all before it is taken. Returns True if the network took it at once; else `drain` waits
        until it has."""

    async def drain(self) -> None:
        """Waits until the network took what was sent. Raises `TransportClosed`."""


Channel: TypeAlias = Transport
"""The name in `pdum.rfb`."""


class LimitedConnection(ServerConnection):
    """A connection that enforces *limits* before any message is read: when it is admitted, and how much it may send. A
    message over its limit is answered with 4429 in place of WebSocket's own 1009."""

    _alive: ClassVar[WeakSet[LimitedConnection]] = WeakSet()

    def __init__(
        self, protocol: ServerProtocol, server: Server, *, limits: Limits, turns: AdmissionQueue, **settings: Any
    ) -> None:
        super().__init__(protocol, server, **settings | {"max_queue": limits.queued_messages})
        self._alive.add(self)
        self._turns = turns
        self._tail = b""
        """The last bytes before the WebSocket was open."""
        self.listener: Callable[[str], None] | None = None
        """Gets short messages, which don't go to `recv` then."""
        self.short_messages = ShortMessages()
        self._begun = self._refused = False
        self.keep_to(limits)
        fail = protocol.fail

        def fail_in_our_words(code: int, reason: str = "") -> None:
            if code == WebSocketCode.MESSAGE_TOO_BIG:
                most = self._limits.message_bytes
                code, reason = CloseCode.OVER_LIMIT, f"a message of a viewer holds at most {most} bytes"
            fail(code, reason)

        protocol.fail = fail_in_our_words  # type: ignore[method-assign]  # websockets has no hook for it

    def keep_to(self, limits: Limits) -> None:
        """Enforces *limits* from now on, except `Limits.queued_messages`."""
        self._limits = limits
        self._bucket = received_bytes(limits, self.loop.time())
        # The attribute has two names, depending on the version of websockets.
        name = "max_message_size" if hasattr(self.protocol, "max_message_size") else "max_size"
        setattr(self.protocol, name, limits.message_bytes)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)  # uvloop's is of no such class
        if hasattr(transport, "max_size"):
            transport.max_size = _READ_BYTES
        if self._turns.full:
            self.transport.abort()  # it may not speak WebSocket, and the process needs its files for other things
            return
        self._turns.ask(self, self._begin)
        if not self._begun:
            self.transport.pause_reading()

    def _begin(self) -> None:
        """Starts the connection, which is now admitted."""
        self._begun = True
        super().connection_made(self.transport)
        self.transport.resume_reading()

    async def handshake(self, *args: Any, **more: Any) -> None:
        await super().handshake(*args, **more)
        if self.protocol.state is State.OPEN:
            self._turns.leave(self)

    def connection_lost(self, exc: Exception | None) -> None:
        if self._begun:
            super().connection_lost(exc)
        self._turns.leave(self)

    def send_data(self) -> None:
        # websockets ends silently on anything that is no request to it, such as one with a body.
        fault = self.protocol.handshake_exc
        if isinstance(fault, InvalidMessage) and not isinstance(fault.__cause__, EOFError) and not self._refused:
            self._refused = True
            self.transport.write(_NO_REQUEST)
        super().send_data()

    def data_received(self, data: bytes) -> None:
        # Counts pings and pieces of messages too, which a viewer's session never sees.
        if not self._bucket.spend(len(data), self.loop.time()) and self.protocol.state is State.OPEN:
            self.protocol.fail(CloseCode.OVER_LIMIT, TOO_MUCH)
            super().data_received(b"")
            return
        opening = self.protocol.state is State.CONNECTING
        if opening:
            self._tail = (self._tail + data)[-len(_HEAD_ENDS) :]
        if opening or self._tail != _HEAD_ENDS:  # as where frames didn't wait for the response: one may have begun
            super().data_received(data)
            return
        most = self._limits.message_bytes if self.listener else -1
        for part in self.short_messages.split(data, most):
            if isinstance(part, bytes):
                super().data_received(part)
            elif self.listener and self.protocol.state is State.OPEN:
                self.listener(part)

    @classmethod
    def connected(cls, loop: asyncio.AbstractEventLoop) -> list[LimitedConnection]:
        """Returns *loop*'s connections, including those that have not finished their handshake."""
        return [other for other in cls._alive if other.loop is loop and hasattr(other, "transport")]

    @classmethod
    def keep_all_to(cls, limits: Limits, loop: asyncio.AbstractEventLoop) -> None:
        """Enforces *limits* from now on for all of *loop*'s connections."""
        for connection in cls.connected(loop):
            connection.keep_to(limits)

    @classmethod
    def abort_all(cls, loop: asyncio.AbstractEventLoop) -> None:
        """Cuts the rest of *loop*'s connections, including those that never finished their handshake."""
        for connection in cls.connected(loop):
            connection.transport.abort()


class WebSocketTransport:
    """A `Transport` over one WebSocket of the hub's own listener."""

    def __init__(self, ws: ServerConnection) -> None:
        self._socket = ws
        self._ping_at = 0.0
        self._pinging: asyncio.Future[None] | None = None

    @property
    def latency(self) -> float:
        return self._socket.latency

    async def receive(self) -> str | bytes:
        try:
            message = await self._socket.recv()
        except ConnectionClosed as closed:
            raise TransportClosed(str(closed)) from None
        if isinstance(self._socket, LimitedConnection):
            self._socket.short_messages.handed_out()
        self._measure_latency()
        return message

    def listen(self, take: Callable[[str], None] | None) -> None:
        def heard(message: str) -> None:
            assert take
            self._measure_latency()
            take(message)

        if isinstance(self._socket, LimitedConnection):
            self._socket.listener = heard if take else None

    def _measure_latency(self) -> None:
        # With the first message, before any image, and then while there is traffic: a viewer at rest stays so.
        if (now := self._socket.loop.time()) >= self._ping_at:
            self._ping_at = now + _PING_INTERVAL
            # Not awaited: it would wait behind an image that the network has not taken yet.
            self._pinging = asyncio.ensure_future(self._ping())

    async def _ping(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            await self._socket.ping()

    async def send(self, data: Message) -> None:
        if not self.begin(data):
            await self.drain()

    def begin(self, data: Message) -> bool:
        # Not by `ServerConnection.send`, which makes three calls of the system for a message in two parts, and can't be
        # called without a task. Nothing else sends messages, and no extension changes them.
        socket = self._socket
        if socket.protocol.state is not State.OPEN:
            return False
        if isinstance(data, str):
            text = data.encode()
            socket.transport.write(message_header(len(text), text=True) + text)
        else:
            header, payload = data
            begins = message_header(len(header) + len(payload), text=False)
            if len(payload) < _JOIN_BELOW:
                socket.transport.write(b"".join((begins, header, payload)))
            else:
                socket.transport.write(begins + header)
                socket.transport.write(payload)
        return not socket.paused

    async def drain(self) -> None:
        try:
            if self._socket.protocol.state is State.OPEN:
                await self._socket.drain()
            else:
                await self._socket.send(b"")  # waits until the connection has ended, and raises why
        except (ConnectionClosed, OSError) as closed:
            raise TransportClosed(str(closed)) from None

    async def close(self, code: int = 1000, reason: str = "") -> None:
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                # A close frame holds at most 123 bytes of reason.
                await self._socket.close(code, reason.encode()[:123].decode(errors="ignore"))
        except TimeoutError:
            # A peer that doesn't read: the close frame waits behind what it has not taken.
            self._socket.transport.abort()


class MemoryTransport:
    """One end of a `Transport` within an event loop: for tests of hub connections, and for viewers in its process.

    At most *most* bytes may come in one message. `pair` makes two connected ends.
    """

    ROOM = 2
    """Messages that the other end may leave unread before `send` waits."""

    def __init__(self, most: int) -> None:
        self.latency = 0.0
        self.ended: tuple[int, str] | None = None
        """Code and reason, once one end has closed it."""
        self._most = most
        self._other = self
        self._came: deque[str | bytes] = deque()
        self._changed = asyncio.Event()

    @classmethod
    def pair(cls, most: int) -> tuple[MemoryTransport, MemoryTransport]:
        """Returns the hub's end, which takes *most* bytes in a message, and the viewer's, which takes any."""
        hub, viewer = cls(most), cls(1 << 62)
        hub._other, viewer._other = viewer, hub
        return hub, viewer

    async def receive(self) -> str | bytes:
        await self._until(lambda: bool(self._came))
        if not self._came:
            raise TransportClosed(str(self.ended))
        message = self._came.popleft()
        self._other._changed.set()
        if len(message) > self._most:
            raise ProtocolError(CloseCode.OVER_LIMIT, f"a message of a viewer holds at most {self._most} bytes")
        return message

    async def send(self, data: Message | bytes) -> None:
        other = self._other
        await self._until(lambda: len(other._came) < self.ROOM)
        if self.ended:
            raise TransportClosed(str(self.ended))
        other._came.append(b"".join(data) if isinstance(data, tuple) else data)
        other._changed.set()

    async def close(self, code: int, reason: str) -> None:
        for end in (self, self._other):
            end.ended = end.ended or (int(code), reason)
            end._changed.set()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not (condition() or self.ended):
            self._changed.clear()
            await self._changed.wait()


class OpeningTransport:
    """A `Transport` on which both sides first identify each other.

    *prove* makes the answer to a hello that wants the hub to prove itself (`rfb/proof`); that is answered here, once,
    before the session hears anything. *meet* gets the hello that counts and may take its time: nothing else is read, or
    sent, until then.
    """

    def __init__(
        self, transport: Transport, prove: Callable[[Hello], str], meet: Callable[[Hello], Awaitable[None]]
    ) -> None:
        self._transport = transport
        self._prove, self._meet = prove, meet
        self._met = False
        self.send = transport.send
        self.close = transport.close
        if isinstance(transport, DirectTransport):
            self.listen, self.begin, self.drain = transport.listen, transport.begin, transport.drain

    @property
    def latency(self) -> float:
        return self._transport.latency

    async def receive(self) -> str | bytes:
        message = await self._transport.receive()
        if self._met:
            return message
        hello = parse(message)
        if isinstance(hello, Hello) and hello.wants_proof:
            await self._transport.send(self._prove(hello))
            message = await self._transport.receive()
            hello = parse(message)
        if isinstance(hello, Hello):
            await self._meet(hello)
        self._met = True
        return message
