"""marimo: a hub proxy inside its server, and displays that close with the session that created them.

marimo finds both by entry points, which it may change: then one line in the log says so, and pages still reach hubs on
this machine by their port. Messages are forwarded one by one, each awaited; close codes stay unchanged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import unquote

from ._hosts import hub_proxy
from ._hosts.hub_proxy import Refusal
from ._hosts.notebook_context import current_session

log = logging.getLogger(__name__)
# Records of websockets below WARNING contain messages, and so tokens.
_websocket_log = logging.getLogger(f"{__name__}.websocket")
_websocket_log.setLevel(logging.WARNING)

Scope = MutableMapping[str, Any]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_PATH = re.compile(rf"/{hub_proxy.PREFIX}/([^/]+)/([^/]+)$")
_QUEUE = 2
"""Messages buffered here for a page that doesn't read; the rest waits in the hub's window."""


class RouteMiddleware:
    """Connects a page to a stream, or tells it whether the hub can be reached; everything else goes to *app*."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = _PATH.search(scope.get("path", "")) if scope["type"] in ("http", "websocket") else None
        if asked is None:
            await self.app(scope, receive, send)
            return
        headers = _headers(scope)
        try:
            _admit(scope, headers)
            if scope["type"] == "http":
                await _check(unquote(asked[1]), unquote(asked[2]))
                await _say(scope, send, 200, "ok")
            else:
                await _lead(unquote(asked[1]), unquote(asked[2]), scope, headers, receive, send)
        except Refusal as refusal:
            await _say(scope, send, refusal.status, refusal.sentence)


middleware: Any
try:
    from starlette.middleware import Middleware

    middleware = Middleware(RouteMiddleware)
except ImportError as error:  # a form that every version of Starlette accepts
    log.warning("marimo's server has changed: %s", error)
    middleware = (RouteMiddleware, (), {})


def _headers(scope: Scope) -> dict[str, str]:
    return {name.decode("latin-1").title(): value.decode("latin-1") for name, value in scope.get("headers", ())}


def _admit(scope: Scope, headers: dict[str, str]) -> None:
    """Raise `Refusal` unless marimo has authenticated this page, and the page is from marimo's own origin."""
    if "auth" not in scope:
        log.warning("marimo no longer says who is logged in: pages can't come to hubs through its server")
        raise Refusal(403, "this marimo doesn't say who is logged in: update pdum_rfb_widget")
    if "read" not in scope["auth"].scopes:
        raise Refusal(403, "log in to marimo first")
    if not hub_proxy.same_origin(headers.get("Origin"), headers.get("Host")):
        raise Refusal(403, "pages from another origin may not come through this server")


async def _check(hub: str, stream: str) -> None:
    """Check for a plain GET that the hub responds. Raises `Refusal` if it doesn't, or the GET is for a stream."""
    reader, writer = await hub_proxy.connect(hub_proxy.look_up(hub, stream))
    with contextlib.closing(writer):
        await hub_proxy.ask(reader, writer, "/health", {"Host": "localhost", "Connection": "close"})
    if stream != "health":
        raise hub_proxy.NO_UPGRADE


async def _lead(hub: str, stream: str, scope: Scope, headers: dict[str, str], receive: Receive, send: Send) -> None:
    from websockets.asyncio.client import connect, unix_connect
    from websockets.exceptions import WebSocketException

    found = hub_proxy.look_up(hub, stream)
    told = hub_proxy.sender(headers, found, (scope.get("client") or [""])[0])
    settings: dict[str, Any] = dict(
        additional_headers=told,
        compression=None,
        max_size=None,
        max_queue=_QUEUE,
        ping_interval=None,  # the hub sends pings, and the page answers
        open_timeout=hub_proxy.TIMEOUT,
        close_timeout=2,
        user_agent_header=None,
        logger=_websocket_log,
    )
    target = hub_proxy.target_of(stream)
    try:
        if found.socket:
            socket = await unix_connect(found.socket, f"ws://localhost{target}", **settings)
        else:
            socket = await connect(f"ws://{found.host}:{found.port}{target}", proxy=None, **settings)
    except (OSError, WebSocketException) as error:
        raise Refusal(502, f"the hub takes no connection: {type(error).__name__}") from None
    await receive()  # the page's request to connect
    await send({"type": "websocket.accept"})
    await _pass_on(socket, receive, send)


async def _pass_on(socket: Any, receive: Receive, send: Send) -> None:
    """Forward messages both ways until either side closes, then close the other with the same code."""
    from websockets.exceptions import ConnectionClosed

    async def to_page() -> None:
        try:
            while True:
                message = await socket.recv()
                await send({"type": "websocket.send", "text" if isinstance(message, str) else "bytes": message})
        except ConnectionClosed as closed:
            code, reason = (closed.rcvd.code, closed.rcvd.reason) if closed.rcvd else (1011, "the hub is gone")
            await send({"type": "websocket.close", "code": code if code != 1005 else 1000, "reason": reason})

    async def to_hub() -> None:
        while (message := await receive())["type"] == "websocket.receive":
            await socket.send(message["text"] if message.get("text") is not None else message["bytes"])
        code = message.get("code") or 1001
        await socket.close(code if 3000 <= code < 5000 or code == 1000 else 1001, message.get("reason") or "")

    ways = {asyncio.ensure_future(to_page()), asyncio.ensure_future(to_hub())}
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        results = await asyncio.gather(*ways, return_exceptions=True)
        await socket.close()
    for result in results:
        if isinstance(result, Exception) and not isinstance(result, (ConnectionClosed, OSError)):
            # Each server has its own error for a page that has closed, which is no failure.
            log.debug("a page went: %r", result)


async def _say(scope: Scope, send: Send, status: int, sentence: str) -> None:
    """Respond with a sentence. Pages can't read that of a refused handshake: they ask again with a plain GET."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 1000, "reason": sentence})
        return
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{sentence}\n".encode()})


# Sessions -------------------------------------------------------------------------------------------------------------


class Lifespan:
    """The lifetime of one kernel: a process in ``marimo edit``, a visitor's session in ``marimo run``."""

    async def __aenter__(self) -> None:
        try:
            self._session = current_session()
        except Exception as error:  # errors from a changed marimo must not stop its kernel
            log.warning("marimo's kernels have changed: displays don't close with their sessions: %r", error)
            self._session = ""

    async def __aexit__(self, kind: type[BaseException] | None, *details: object) -> None:
        # marimo also leaves a lifespan when a page asks for a kernel that exists: then without an exception. At the
        # kernel's end its loop closes, which throws `GeneratorExit`, or the kernel is gone already.
        if kind or not _in_kernel():
            _close(self._session)


def lifespan(app: object = None) -> Lifespan:
    """The context manager for marimo's entry point, entered and left with the kernel."""
    return Lifespan()


def _in_kernel() -> bool:
    try:
        from marimo._runtime.context import runtime_context_installed
    except ImportError:
        return False
    return runtime_context_installed()


def _close(session: str | None) -> None:
    """Close the streams of an app's *session*; with None, for a kernel with its own process, close the hub."""
    module = sys.modules.get(f"{__package__}.server")
    if server := getattr(module, "_server", None):
        if session is None:
            server.close()
        else:
            server._hub.close_session(session)
