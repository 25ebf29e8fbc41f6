"""The hub: streams by name, listeners, routing, and the thread of its own that they live in.

A process has one hub. Its loop runs in a daemon thread, so that frames flow while a notebook's cell is busy. Streams
and listeners belong to that loop; the public methods may be called from any thread and wait for it.
"""

from __future__ import annotations

import asyncio
import atexit
import json
import logging
import os
import re
import threading
from collections.abc import Coroutine, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, TypeVar
from urllib.parse import parse_qs, unquote

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.http11 import Request, Response

from . import page
from .auth import check_origin, is_local, new_token, origin_allowed, same_token
from .broadcast import Broadcast, Viewer
from .cells import current_cell
from .display import Display
from .encoders.base import require_codec
from .protocol import CloseCode, Hello, ProtocolError
from .scene import Scene
from .session import HELLO_TIMEOUT, Session
from .transport import MAX_MESSAGE, LimitedConnection, WebSocketTransport
from .types import MAX_SIDE, StreamOptions, check_int

log = logging.getLogger(__name__)
# What websockets logs below WARNING holds headers and messages, and so tokens.
_websocket_log = logging.getLogger(f"{__package__}.websocket")
_websocket_log.setLevel(logging.WARNING)

DEFAULT_STREAM = "default"
SCRIPT_PORT = 8765
"""The port in scripts, so that an address can be remembered; notebooks take any free one."""

_LAST_WORDS = 0.5
_MAX_STRANGERS = 64
"""Connections that have not said hello yet; a page opens one, and says it at once."""

_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_STREAM_NAME = re.compile(r"[\w.~-]{1,64}")
_T = TypeVar("_T")


class Server:
    """The hub. Get it from `serve_server` or `Display.server`; it closes with `close`, or with the process."""

    def __init__(self) -> None:
        self.token = new_token()
        """What every viewer must present. It dies with the hub."""
        self.closed = False
        self._origins: set[str] = set()
        self._pid = os.getpid()
        self._streams: dict[str, Broadcast] = {}
        self._displays: dict[str, Display] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._listening = asyncio.Lock()
        self._strangers: set[Viewer] = set()
        self._threads = max(2, os.cpu_count() or 2)
        self._pool = ThreadPoolExecutor(self._threads, "rfb-encoder")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rfb-hub", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    # Streams ----------------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, oldest first."""
        return tuple(self._streams)

    def stream(self, name: str = DEFAULT_STREAM) -> Display:
        """The display of the stream *name*. Raises `KeyError` that lists the names there are."""
        try:
            return self._displays[name]
        except KeyError:
            raise KeyError(f"no stream {name!r}; there are {', '.join(self.streams) or 'none'}") from None

    def add_stream(self, name: str, width: int, height: int, **options: Any) -> Display:
        """A new stream of *width* x *height* pixels, 1 to 16384 each, reached as ``ws://host:port/<name>``.

        *options* are those of `types.StreamOptions`. The size is what viewers are told before the first frame; every
        frame brings its own. Raises `ValueError` when the name is taken, or is not 1 to 64 letters, digits or ``._~-``.
        """
        return self._on_loop(self._put_stream(name, width, height, options, replace=False))

    def remove_stream(self, name: str) -> None:
        """Close the stream and its viewers. Does nothing when there is no such stream."""
        if display := self._displays.get(name):
            display.close()

    def put_stream(self, name: str | None, width: int, height: int, **options: Any) -> Display:
        """`add_stream`, but where *name* is taken its display is closed and its viewers move over to the new one.

        Without a *name* it is the first of ``default``, ``default-2`` and so on that is free.
        """
        return self._on_loop(self._put_stream(name, width, height, options, replace=True))

    async def _put_stream(
        self, name: str | None, width: int, height: int, options: dict[str, Any], *, replace: bool
    ) -> Display:
        if name is None:
            names = (DEFAULT_STREAM, *(f"{DEFAULT_STREAM}-{n}" for n in range(2, len(self._streams) + 2)))
            name = next(name for name in names if name not in self._streams)
        if not isinstance(name, str) or not _STREAM_NAME.fullmatch(name):
            raise ValueError(f"a stream's name is 1 to 64 letters, digits, '.', '_', '~' or '-', not {name!r}")
        if name in self._streams and not replace:
            raise ValueError(f"there is a stream {name!r} already")
        checked = StreamOptions.of(options)
        if checked.codec != "auto" and checked.codec != "none":
            require_codec(checked.codec)
        size = check_int("width", width, 1, MAX_SIDE), check_int("height", height, 1, MAX_SIDE)
        stream = self._streams.get(name) or Broadcast(name, size, checked, self._loop, self._pool, self._threads)
        if name in self._displays:
            self._displays[name].retire()
        display = Display(self, stream, checked.event_queue_size)
        stream.take_over(display, size, checked)
        self._streams[name] = stream
        self._displays[name] = display
        return display

    def forget(self, display: Display) -> Future[None] | None:
        """Begin to drop *display*'s stream and to close its viewers, unless another display has taken it over."""
        return self._start(self._forget(display)) if self.usable else None

    async def _forget(self, display: Display) -> None:
        if self._displays.get(display.name) is display:
            del self._displays[display.name]
            await self._streams.pop(display.name).close("the display was closed")
        await display.recorded()

    # Listeners --------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port of the first listener, 0 while there is none."""
        return self.address()[1] if self._listeners else 0

    def listen(self, host: str = "127.0.0.1", port: int | None = None) -> tuple[str, int]:
        """Listen on *host*:*port* too, and say where that is. None is the port there is, or any free one.

        Asking again for a listener that is there changes nothing. Raises `OSError` when another process has the port.
        """
        if not isinstance(host, str) or not host:
            raise ValueError(f"host is a name or an address to listen on, not {host!r}")
        if port is not None:
            check_int("port", port, 0, 65535)
        return self._on_loop(self._listen(host, port))

    def allow_origins(self, origins: Iterable[str]) -> None:
        """Let pages from these origins (``https://host:port``) open streams, besides those of this machine."""
        if isinstance(origins, str) or not isinstance(origins, Iterable):
            raise TypeError(f"origins is a list of strings like 'https://host:port', not {origins!r}")
        self._origins.update([check_origin(origin) for origin in origins])

    def address(self, wanted: tuple[str, int] | None = None) -> tuple[str, int]:
        """Host and port at which a browser on this machine reaches the listener *wanted*, or else the first."""
        if not self._listeners:
            raise RuntimeError("the hub listens nowhere: it was closed")
        host, port = wanted or next(iter(self._listeners))
        return _WILDCARDS.get(host, host), port

    async def _listen(self, host: str, port: int | None) -> tuple[str, int]:
        if host == "localhost":
            host = "127.0.0.1"  # the name can mean two addresses, and any free port then two ports
        async with self._listening:
            for there in self._listeners:
                if there[0] == host and port in (None, 0, there[1]):
                    return there
                if there[0] in _WILDCARDS and port == there[1]:
                    return there
            return await self._bind(host, port)

    async def _bind(self, host: str, port: int | None) -> tuple[str, int]:
        try:
            listener = await listen(
                self._welcome,
                host,
                port or 0,
                process_request=self._answer_http,
                create_connection=LimitedConnection,
                compression=None,  # pixels are compressed already: 5 ms for 200 KB, and nothing gained
                max_size=MAX_MESSAGE,
                max_queue=16,
                open_timeout=HELLO_TIMEOUT,
                ping_interval=20,
                ping_timeout=60,  # a kernel that holds the GIL for long must not lose its viewers
                close_timeout=2,
                server_header=None,
                logger=_websocket_log,
            )
        except OSError as error:
            raise OSError(error.errno, f"can't listen on {host}:{port}: {error.strerror or error}") from None
        bound = (host, int(next(iter(listener.sockets)).getsockname()[1]))
        self._listeners[bound] = listener
        return bound

    # Viewers ----------------------------------------------------------------------------------------------------------

    async def _welcome(self, socket: ServerConnection) -> None:
        transport = WebSocketTransport(socket)
        request = socket.request
        assert request is not None
        origin, host = (", ".join(request.headers.get_all(name)) or None for name in ("Origin", "Host"))
        if not origin_allowed(origin, host, self._origins):
            log.warning("a page from %s was refused; pass origins=[...] to allow it", origin)
            await transport.close(CloseCode.BAD_ORIGIN, f"pages from {origin} may not open this stream")
            return
        name = unquote(request.path.partition("?")[0].strip("/")) or DEFAULT_STREAM
        stream = self._streams.get(name)

        def authorize(hello: Hello) -> None:
            if not same_token(hello.token, self.token):
                raise ProtocolError(CloseCode.BAD_CREDENTIAL, "the token is not this hub's")
            if stream is None or self._streams.get(name) is not stream:  # closed since it connected
                raise ProtocolError(CloseCode.NO_STREAM, f"there is no stream {name[:64]!r}")
            self._strangers.discard(viewer)

        if len(self._strangers) >= _MAX_STRANGERS:
            await transport.close(CloseCode.OVER_LIMIT, f"{_MAX_STRANGERS} connections have not said hello yet")
            return
        scene = stream.scene if stream else Scene(StreamOptions())
        local = is_local(origin, socket.remote_address[0])
        viewer = Viewer(Session(scene, authorize, self._loop.time(), local), transport, stream)
        self._strangers.add(viewer)
        try:
            await viewer.run()
        finally:
            self._strangers.discard(viewer)

    def _answer_http(self, connection: ServerConnection, request: Request) -> Response | None:
        if "Upgrade" in request.headers:
            return None
        path, _, query = request.path.partition("?")
        if path == "/health":
            return connection.respond(HTTPStatus.OK, "ok\n")
        if asset := page.asset(path):
            return asset
        given = [
            *(value.removeprefix("Bearer ") for value in request.headers.get_all("Authorization")),
            *parse_qs(query).get("token", []),
        ]
        if not any(same_token(token, self.token) for token in given):
            return connection.respond(HTTPStatus.UNAUTHORIZED, "the token is missing or not this hub's\n")
        if (found := self._look_up(unquote(path))) is None:
            return connection.respond(HTTPStatus.NOT_FOUND, "there is nothing here\n")
        return page.response(json.dumps(found), "application/json")

    def _look_up(self, path: str) -> list[dict[str, Any]] | None:
        if path == "/streams":
            return [
                dict(name=s.name, width=s.size[0], height=s.size[1], fps=s.options.fps, clients=len(s.viewers))
                for s in self._streams.values()
            ]
        match = re.fullmatch(r"/streams/([^/]+)/metrics", path)
        if match and (stream := self._streams.get(match[1])):
            return [{"client_id": viewer.id} | viewer.session.metrics() for viewer in stream.viewers]
        return None

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every stream and listener and end the hub's thread. Safe to call again."""
        if shut_down := self._start_to_close():
            try:
                shut_down.result(timeout=10)
            finally:
                self._end_thread()

    async def aclose(self) -> None:
        """`close`, for coroutines."""
        if shut_down := self._start_to_close():
            try:
                await asyncio.wrap_future(shut_down)
            finally:
                self._end_thread()

    def _start_to_close(self) -> Future[None] | None:
        if not self.usable:
            return None
        shut_down = self._start(self._shut_down())
        self.closed = True
        atexit.unregister(self.close)
        return shut_down

    async def _shut_down(self) -> None:
        for display in self._displays.values():
            display.retire()
        await asyncio.gather(*(stream.close("the hub was closed") for stream in self._streams.values()))
        await asyncio.gather(*(display.recorded() for display in self._displays.values()))
        self._streams.clear()
        self._displays.clear()
        for listener in self._listeners.values():
            listener.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=_LAST_WORDS)
        # Connections that never said a word would otherwise be waited for, up to HELLO_TIMEOUT.
        LimitedConnection.abort_all(self._loop)
        self._listeners.clear()
        await asyncio.sleep(0)
        stuck = asyncio.all_tasks() - {asyncio.current_task()}
        for task in stuck:
            task.cancel()
        await asyncio.gather(*stuck, return_exceptions=True)

    def _end_thread(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._pool.shutdown(wait=False, cancel_futures=True)
        if not self._thread.is_alive():
            self._loop.close()

    @property
    def usable(self) -> bool:
        """Open, and in the process that made it: a fork has the object but not the thread."""
        return not self.closed and self._pid == os.getpid()

    def _on_loop(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._start(coroutine).result()

    def _start(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        if not self.usable:
            coroutine.close()
            raise RuntimeError("this hub was closed; serve() makes a new one")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    async def _itself(self) -> Server:
        return self

    def __await__(self) -> Generator[Any, None, Server]:
        return self._itself().__await__()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


_hub: Server | None = None
_hub_lock = threading.Lock()


def hub() -> Server:
    """The process's hub, made when it is first asked for."""
    global _hub
    with _hub_lock:
        if _hub is None or not _hub.usable:
            _hub = Server()
        return _hub


def serve_server(*, host: str = "127.0.0.1", port: int | None = None, origins: Iterable[str] = ()) -> Server:
    """The process's hub, listening on *host*:*port*, for several streams: ``server.add_stream(name, width, height)``.

    *port* None means any free one in notebooks and 8765 in scripts. The result can be awaited and is a context manager.
    *origins* are pages of other machines that may connect; those of this one may always.
    """
    return _listening_hub(host, port, origins)[0]


def serve(
    width: int,
    height: int,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    origins: Iterable[str] = (),
    **options: Any,
) -> Display:
    """A display of *width* x *height* pixels (1 to 16384 each) that browsers can attach to; returns at once.

    Starts the process's hub or uses it again, so that ``await serve(...)``, ``with serve(...) as display`` and calling
    it twice are all right. Without a *name* the stream is the calling notebook cell's: run the cell again, and the
    viewers move over to the new display. In scripts the first is ``default``, then ``default-2`` and so on. A *name*
    that is taken is taken over likewise. *host*, *port* and *origins* are as for `serve_server`, *options* those of
    `types.StreamOptions`.
    """
    server, address = _listening_hub(host, port, origins)
    cell = current_cell()
    display = server.put_stream(cell.next_stream_name() if cell and name is None else name, width, height, **options)
    display.reach(address)
    return display


def _listening_hub(host: str, port: int | None, origins: Iterable[str]) -> tuple[Server, tuple[str, int]]:
    server = hub()
    server.allow_origins(origins)
    if port is None and not server.port and not current_cell():
        port = SCRIPT_PORT
    return server, server.listen(host, port)
