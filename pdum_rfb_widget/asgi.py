"""Streams inside your own application: endpoints for Starlette and FastAPI, under uvicorn or any ASGI server.

The hub, its admission, limits and encoders stay the same: only the WebSocket belongs to the application. So its TLS,
paths and cookies apply, and `serve(..., tcp=False)` needs no port. Needs ``pip install 'pdum-rfb-widget[asgi]'``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Unpack

from starlette.websockets import WebSocket

from ._hub.admission import DEFAULT_STREAM, ConnectionRequest
from .auth import AuthContext, Authenticator, Principal, ask
from .display import Display
from .limits import CLOSE_TIMEOUT
from .options import CHANGES, EndpointOptions, shows
from .protocol import CloseCode, ProtocolError
from .server import Server
from .transport import TransportClosed
from .types import Message

Endpoint = Callable[[WebSocket], Awaitable[None]]


@shows(CHANGES)
def rfb_endpoint(
    display: Display,
    *,
    authenticate: Authenticator | None = None,
    fps: int | None = None,
    **options: Unpack[EndpointOptions],
) -> Endpoint:
    """An endpoint that shows *display*::

        app = Starlette(routes=[WebSocketRoute("/rfb", rfb_endpoint(display, authenticate=by_cookie))])
        app.add_api_websocket_route("/rfb", rfb_endpoint(display))  # FastAPI

    *authenticate* admits the viewers of this endpoint in place of the stream's own authenticator or the hub's tokens.
    It runs in the application's event loop before the connection is accepted, with ``hello`` None. If it returns a
    principal, the viewer is admitted; if None, it is called again with the hello's token, unless the request had an
    ``Authorization`` header: then the viewer is refused with 403. Pages are allowed from the host that the request was
    sent to, from this machine, and from ``origins=`` of the hub. *fps*, unless None, and *options* are passed to
    `Display.configure`.
    """
    if fps is not None:
        display.configure(fps=fps, **options)
    elif options:
        display.configure(**options)

    async def endpoint(websocket: WebSocket) -> None:
        await _serve(websocket, display.server, display.name, authenticate)

    return endpoint


def rfb_hub_endpoint(server: Server, *, param: str = "stream", authenticate: Authenticator | None = None) -> Endpoint:
    """An endpoint for all streams of *server*, with the stream in the path: ``WebSocketRoute("/rfb/{stream}", ...)``.

    *param* is the name of the path parameter; a path without it shows ``default``. *authenticate* is as for
    `rfb_endpoint`.
    """

    async def endpoint(websocket: WebSocket) -> None:
        await _serve(websocket, server, websocket.path_params.get(param, DEFAULT_STREAM), authenticate)

    return endpoint


async def _serve(websocket: WebSocket, server: Server, stream: str, authenticate: Authenticator | None) -> None:
    home = asyncio.get_running_loop()
    authenticate = authenticate or server._hub.authenticator(stream)
    request = _request(websocket, stream, authenticate and _Elsewhere(authenticate, home))
    if authenticate:
        request = request.with_principal(await ask(authenticate, request.context(None)))
    try:
        await asyncio.wrap_future(server._hub.check_handshake(request))
    except (ProtocolError, RuntimeError):
        await websocket.close()  # not accepted yet, so the server responds with 403
        return
    await websocket.accept()
    transport = ASGITransport(websocket, home, server._hub.loop, lambda: server._hub.limits.message_bytes)
    reading = asyncio.ensure_future(transport.read())
    try:
        await asyncio.wrap_future(server._hub.begin(transport, request))
    finally:
        reading.cancel()


def _request(websocket: WebSocket, stream: str, authenticate: Authenticator | None) -> ConnectionRequest:
    headers: dict[str, str] = {}
    for name, value in websocket.headers.items():
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    query = websocket.url.query
    return ConnectionRequest(
        path=websocket.url.path + (f"?{query}" if query else ""),
        headers=headers,
        remote=(websocket.client.host, websocket.client.port) if websocket.client else None,
        own_name=True,
        stream=stream,
        authenticate=authenticate,
    )


@dataclass(frozen=True, slots=True)
class _Elsewhere:
    """An authenticator that the hub's loop calls and the application's loop runs, where its resources belong."""

    authenticate: Authenticator
    home: asyncio.AbstractEventLoop

    async def __call__(self, context: AuthContext) -> Principal:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(ask(self.authenticate, context), self.home))


class ASGITransport:
    """A `Transport` over a WebSocket of an ASGI server. Its methods run in the hub's loop, except `read`."""

    latency = 0.0  # ASGI has no pings

    def __init__(
        self,
        websocket: WebSocket,
        home: asyncio.AbstractEventLoop,
        hub: asyncio.AbstractEventLoop,
        most: Callable[[], int],
    ) -> None:
        self._websocket = websocket
        self._home, self._hub = home, hub
        self._most = most
        self._inbox: asyncio.Queue[str | bytes | Exception] = asyncio.Queue(1)

    async def read(self) -> None:
        """Forward the viewer's messages, in the application's loop, until it leaves. At most one message waits."""
        message: str | bytes | Exception = ""
        while not isinstance(message, Exception):
            message = self._understand(await self._websocket.receive())
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._inbox.put(message), self._hub))

    def _understand(self, message: Mapping[str, Any]) -> str | bytes | Exception:
        if message["type"] == "websocket.disconnect":
            return TransportClosed(f"closed with {message.get('code')}")
        said: str | bytes = message["bytes"] if message.get("bytes") is not None else message["text"]
        if len(said) > (most := self._most()):
            return ProtocolError(CloseCode.OVER_LIMIT, f"a message of a viewer holds at most {most} bytes")
        return said

    async def receive(self) -> str | bytes:
        message = await self._inbox.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def send(self, message: Message) -> None:
        if isinstance(message, str):
            await self._pass_on({"type": "websocket.send", "text": message})
        else:
            await self._pass_on({"type": "websocket.send", "bytes": b"".join(message)})

    async def close(self, code: int, reason: str) -> None:
        # A close frame holds at most 123 bytes of reason.
        words = reason.encode()[:123].decode(errors="ignore")
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._pass_on({"type": "websocket.close", "code": int(code), "reason": words})
        except (TimeoutError, TransportClosed):
            return

    async def _pass_on(self, message: dict[str, Any]) -> None:
        sending = self._websocket.send(message)
        try:
            future = asyncio.run_coroutine_threadsafe(sending, self._home)
        except RuntimeError:
            sending.close()
            raise TransportClosed("the application's event loop was closed") from None
        try:
            await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            raise
        except Exception as error:  # each server has its own error for a peer that has left
            raise TransportClosed(str(error)) from None
