"""What every transport must do, asked of each: a real WebSocket, an ASGI server's, and the one in memory."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any

import pytest
import uvicorn
from hosts import free_port, wait_for
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket
from viewers import in_thread
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import Frame, Opcode
from websockets.protocol import Protocol, Side, State

from pdum_rfb_widget._core.admission_queue import AdmissionQueue
from pdum_rfb_widget._core.outbox import SHORT, Inbox, Outbox
from pdum_rfb_widget._wire.websocket import ShortMessages
from pdum_rfb_widget.asgi import ASGITransport
from pdum_rfb_widget.limits import Limits
from pdum_rfb_widget.protocol import CloseCode, ProtocolError, unpack_binary_message
from pdum_rfb_widget.transport import (
    DirectTransport,
    LimitedConnection,
    MemoryTransport,
    Transport,
    TransportClosed,
    WebSocketTransport,
)

MOST = 64 * 1024
LARGE = b"header", b"\x00\x01" * (1 << 20)
"""More than any of them takes at once."""


class Peer:
    """The viewer's end, where it is a WebSocket's client."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    async def send(self, message: str | bytes) -> None:
        await self._socket.send(message)

    async def receive(self) -> str | bytes:
        try:
            return await self._socket.recv()
        except ConnectionClosed:
            raise TransportClosed from None

    @property
    def ended(self) -> tuple[int, str] | None:
        code = self._socket.close_code
        return None if code is None else (code, self._socket.close_reason or "")


Ends = tuple[Transport, Any]
"""The hub's end, and the viewer's."""


@asynccontextmanager
async def memory() -> AsyncIterator[Ends]:
    yield MemoryTransport.pair(MOST)


@asynccontextmanager
async def websocket() -> AsyncIterator[Ends]:
    opened: asyncio.Future[Transport] = asyncio.get_running_loop().create_future()

    async def welcome(socket: ServerConnection) -> None:
        opened.set_result(WebSocketTransport(socket))
        await socket.wait_closed()

    limited = partial(LimitedConnection, limits=Limits(message_bytes=MOST), turns=AdmissionQueue(Limits))
    async with serve(welcome, "127.0.0.1", 0, create_connection=limited, max_size=MOST, compression=None) as listener:
        port = next(iter(listener.sockets)).getsockname()[1]
        async with viewer(port) as peer:
            yield await opened, peer


@asynccontextmanager
async def asgi() -> AsyncIterator[Ends]:
    loop = asyncio.get_running_loop()
    opened: asyncio.Future[Transport] = loop.create_future()

    async def endpoint(socket: WebSocket) -> None:
        await socket.accept()
        transport = ASGITransport(socket, loop, loop, lambda: MOST)
        opened.set_result(transport)
        await transport.read()

    port = free_port()
    app = Starlette(routes=[WebSocketRoute("/", endpoint)])
    config = uvicorn.Config(app, port=port, log_level="critical", ws="websockets-sansio", lifespan="off")
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    try:
        await asyncio.to_thread(wait_for, lambda: server.started, "uvicorn")
        async with viewer(port) as peer:
            yield await opened, peer
    finally:
        server.should_exit = True
        await serving


def viewer(port: int) -> AbstractAsyncContextManager[Peer]:
    @asynccontextmanager
    async def connected() -> AsyncIterator[Peer]:
        settings: dict[str, Any] = {"compression": None, "max_size": None, "max_queue": 1, "close_timeout": 1}
        async with connect(f"ws://127.0.0.1:{port}/", **settings) as socket:
            yield Peer(socket)

    return connected()


@pytest.fixture(params=[memory, websocket, asgi])
def over(request: pytest.FixtureRequest) -> Callable[[Callable[[Transport, Any], Awaitable[None]]], None]:
    """Runs what a test asks of a transport, with its two ends."""

    def run(ask: Callable[[Transport, Any], Awaitable[None]]) -> None:
        async def main() -> None:
            async with asyncio.timeout(30), request.param() as (hub, peer):
                await ask(hub, peer)

        in_thread(main)

    return run


Over = Callable[[Callable[[Transport, Any], Awaitable[None]]], None]


def test_messages_arrive_whole_and_in_order_both_ways(over: Over) -> None:
    async def ask(hub: Transport, peer: Any) -> None:
        messages: list[str | tuple[bytes, bytes]] = ["text \u2603", (b"", b""), (b"a", b"b" * 200_000), "more"]
        sending = asyncio.ensure_future(send_all(hub, messages))
        for message in messages:
            assert await peer.receive() == (message if isinstance(message, str) else b"".join(message))
        await sending
        said: list[str | bytes] = ["hello \u2603", b"", b"\x00" * 1000, "\u2603" * 20_000]
        sending = asyncio.ensure_future(send_all(peer, said))
        assert [await hub.receive() for _ in said] == said
        await sending
        assert hub.latency >= 0

    over(ask)


@pytest.mark.parametrize("step", [1, 2, 7, 60, 1 << 20])
def test_short_texts_are_taken_out_of_a_connections_bytes_and_none_overtakes_another_message(step: int) -> None:
    short, ping = Frame(Opcode.TEXT, "\u2603 short".encode()), Frame(Opcode.PING, b"?")
    parts = [Frame(Opcode.TEXT, b"in ", fin=False), ping, Frame(Opcode.CONT, b"parts")]
    others = [Frame(Opcode.TEXT, b"x" * 5000), Frame(Opcode.BINARY, b"bytes"), Frame(Opcode.TEXT, b"\xff")]
    data = b"".join(frame.serialize(mask=True) for frame in (short, ping, short, *parts, short, *others, short))
    taking, library = ShortMessages(), Protocol(Side.SERVER)
    heard: list[bytes] = []
    taken = 0
    for at in range(0, len(data), step):
        for part in taking.split(data[at : at + step], MOST):
            if isinstance(part, str):
                heard.append(part.encode())
                taken += 1
                continue
            library.receive_data(part)
            for frame in library.events_received():
                assert isinstance(frame, Frame)
                if frame.opcode is not Opcode.PING:
                    heard.append(bytes(frame.data))
                    if frame.fin:
                        taking.handed_out()
    assert heard == [
        *(short.data, short.data, b"in ", b"parts", short.data),
        *(b"x" * 5000, b"bytes", b"\xff", short.data),
    ]
    assert taken == (2 if step >= 60 else 0)


_FRAMES = st.one_of(
    st.builds(Frame, st.just(Opcode.TEXT), st.text(max_size=200).map(str.encode)),
    st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.BINARY]), st.binary(max_size=5000)),
    st.builds(Frame, st.sampled_from([Opcode.TEXT, Opcode.CONT]), st.binary(max_size=9), st.booleans()),
    st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG, Opcode.CLOSE]), st.sampled_from([b"", b"\x03\xe8end"])),
).map(lambda frame: frame.serialize(mask=True))


@given(st.lists(_FRAMES | st.binary(max_size=12), max_size=12), st.lists(st.integers(1, 400), max_size=20))
def test_whatever_bytes_come_in_whatever_pieces_messages_are_those_that_the_library_alone_hears(
    frames: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(frames) + bytes(14)  # for the library to see the header of the last
    alone, taking, library = Protocol(Side.SERVER), ShortMessages(), Protocol(Side.SERVER)
    heard: list[tuple[Opcode, bytes, bool]] = []

    def hear(protocol: Protocol, piece: bytes) -> Iterator[tuple[Opcode, bytes, bool]]:
        protocol.receive_data(piece)
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            yield frame.opcode, bytes(frame.data), frame.fin

    wanted = list(hear(alone, data))
    at = 0
    for size in (*cuts, len(data)):
        for part in taking.split(data[at : at + size], MOST):
            if isinstance(part, bytes):
                for event in hear(library, part):
                    heard.append(event)
                    if event[0] in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT) and event[2]:
                        taking.handed_out()
            elif library.state is State.OPEN:
                heard.append((Opcode.TEXT, part.encode(), True))
        at += size
    assert heard == wanted
    assert (library.state, repr(library.parser_exc)) == (alone.state, repr(alone.parser_exc))


def test_a_listener_hears_messages_in_the_order_in_which_they_were_sent() -> None:
    said: list[str | bytes] = ["1", "2" * 5000, "3", b"4", "5", "6" * 60_000, "7", "8"]

    async def main() -> None:
        async with asyncio.timeout(30), websocket() as (hub, peer):
            assert isinstance(hub, DirectTransport)
            heard: list[str | bytes] = []
            hub.listen(heard.append)
            await send_all(peer, said)
            while len(heard) < len(said):
                receiving = asyncio.ensure_future(hub.receive())
                await asyncio.wait({receiving}, timeout=0.01)
                heard += [await receiving] if receiving.done() else []
                receiving.cancel()
            assert heard == said

    in_thread(main)


def test_a_message_of_a_viewer_over_the_limit_ends_it_with_4429(over: Over) -> None:
    async def ask(hub: Transport, peer: Any) -> None:
        await peer.send(b"x" * MOST)
        assert len(await hub.receive()) == MOST
        await peer.send(b"x" * (MOST + 1))
        with pytest.raises((ProtocolError, TransportClosed)) as refused:
            await hub.receive()
        if isinstance(refused.value, ProtocolError):  # else it has closed itself
            await hub.close(refused.value.code, refused.value.reason)
        assert await end_of(peer) == (4429, "a message of a viewer holds at most 65536 bytes")

    over(ask)


def test_code_and_reason_of_a_close_arrive_and_closing_again_is_harmless(over: Over) -> None:
    async def ask(hub: Transport, peer: Any) -> None:
        await hub.send("last words")
        await hub.close(CloseCode.GOING_AWAY, "the display was closed")
        await hub.close(CloseCode.MALFORMED, "no")
        assert await peer.receive() == "last words"
        assert await end_of(peer) == (1001, "the display was closed")
        with pytest.raises(TransportClosed):
            await hub.receive()
        with pytest.raises(TransportClosed):
            await hub.send("too late")

    over(ask)


def test_send_waits_while_the_peer_does_not_read_and_goes_on_when_it_does(over: Over) -> None:
    async def ask(hub: Transport, peer: Any) -> None:
        sent: list[int] = []
        sending = asyncio.ensure_future(send_all(hub, [LARGE] * 20, sent))
        # However much the network takes: after that nothing moves any more.
        await until_still(sent)
        assert len(sent) < 20
        assert not sending.done()
        for _ in range(20):
            assert len(await peer.receive()) == len(b"".join(LARGE))
        await sending

    over(ask)


def test_a_send_that_is_cancelled_midway_leaves_a_close_with_its_reason(over: Over) -> None:
    async def ask(hub: Transport, peer: Any) -> None:
        sent: list[int] = []
        sending = asyncio.ensure_future(send_all(hub, [LARGE] * 20, sent))
        await until_still(sent)
        sending.cancel()
        await asyncio.wait({sending})
        assert sending.cancelled()
        closing = asyncio.ensure_future(hub.close(CloseCode.OVER_LIMIT, "too slow"))
        assert await end_of(peer) == (4429, "too slow")
        await closing

    over(ask)


def test_channels_keep_their_order_over_it_and_the_latest_replaces_what_waits(over: Over) -> None:
    async def ask(hub: Transport, peer: Any) -> None:
        outbox, inbox = Outbox(1 << 30), Inbox(1 << 30)
        for number in range(50):
            outbox.put(f"a{number:02}" + "." * (number % 3 * SHORT), "a", latest=False)
            outbox.put(f"b{number:02}" + "." * (number % 2 * SHORT), "b", latest=True)
        outbox.show([LARGE])
        outbox.put("end", "a", latest=False)
        sending = asyncio.ensure_future(pump(outbox, hub))
        whole: list[str | bytes] = []
        while whole[-1:] != ["end"] or len(whole) < 53:
            if (message := inbox.take(await peer.receive())) is not None:
                whole.append(message)
        await sending
        texts = [message[:3] for message in whole if isinstance(message, str)]
        assert [text for text in texts if text[0] in "ae"] == [f"a{number:02}" for number in range(50)] + ["end"]
        assert [text for text in texts if text[0] == "b"] == ["b49"]
        assert [message for message in whole if isinstance(message, bytes)] == [b"".join(LARGE)]

    over(ask)


async def send_all(end: Any, messages: list[Any], sent: list[int] | None = None) -> None:
    for number, message in enumerate(messages):
        await end.send(message)
        if sent is not None:
            sent.append(number)


async def pump(outbox: Outbox, transport: Transport) -> None:
    while (message := outbox.next(SHORT)) is not None:
        await transport.send(message)
        if isinstance(message, tuple):
            outbox.got(unpack_binary_message(b"".join(message))[0]["piece"])


async def until_still(sent: list[int]) -> None:
    """Until no more is sent: a tenth of a second without any."""
    before = -1
    while before != len(sent):
        before = len(sent)
        await asyncio.sleep(0.1)


async def end_of(peer: Any) -> tuple[int, str] | None:
    """Code and reason that the peer is given, after all that it is sent before."""
    with pytest.raises(TransportClosed):
        await read_on(peer)
    return peer.ended  # type: ignore[no-any-return]


async def read_on(peer: Any) -> None:
    while True:
        await peer.receive()
