"""The hub's public surface, and `serve`, which creates a display on the hub of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import NoReturn, Unpack

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from ._hosts.loops import lasting_loop
from ._hosts.notebook_context import calling_cell, current_session, in_notebook
from ._hub.admission import DEFAULT_STREAM
from ._hub.hub import Hub, StreamRequest
from ._hub.listeners import OTHER_FOLDER
from ._system.closing import Closing
from ._system.fork_guard import in_forks, refuse_to_copy
from ._system.interrupts import uninterrupted
from .auth import Authenticator
from .display import Display
from .limits import Limits
from .options import STREAM_OPTIONS, StreamOptionsDict, StreamSpec, shows

SCRIPT_PORT = 8765
"""The default port in scripts, so that the address stays the same; notebooks use any free one."""


class Server(Closing):
    """The hub. Get it from `serve_server` or `Display.server`; it closes by `close`, or with the process.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._hub = Hub()

    @property
    def hub_id(self) -> str:
        """Identifies the hub among this user's hubs: 16 hex digits. Not a secret."""
        return self._hub.hub_id

    @property
    def closed(self) -> bool:
        """True if the hub was closed."""
        return self._hub.closed

    # Streams ----------------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, oldest first."""
        return self._hub.streams

    def stream(self, name: str = DEFAULT_STREAM) -> Display:
        """The display of the stream *name*. Raises `KeyError` that lists the existing names."""
        if publication := self._hub.publication(name):
            display: Display = publication.handle
            return display
        raise KeyError(f"no stream {name!r}; there are {', '.join(self.streams) or 'none'}")

    @shows(STREAM_OPTIONS)
    def add_stream(self, name: str, width: int, height: int, **options: Unpack[StreamOptionsDict]) -> Display:
        """Create a stream of *width* x *height* pixels, 1 to 16384 each, at ``ws://host:port/<name>``.

        *options* are those of `types.StreamOptions`. Viewers use the size until the first frame; every frame has its
        own. Raises `ValueError` if the name is taken, or is not 1 to 64 letters, digits or ``._~-``.
        """
        return self._put_stream(name, width, height, options, replace=False)

    def _put_stream(
        self, name: str | None, width: int, height: int, options: StreamOptionsDict, *, replace: bool = True
    ) -> Display:
        """`add_stream`; with *replace*, an existing display *name* is closed, and its viewers move to the new one."""
        request = StreamRequest(name, width, height, options, current_session(), lasting_loop())
        publication = self._hub.put_stream(request, lambda made: Display(self, made), replace=replace)
        display: Display = publication.handle
        return display

    def remove_stream(self, name: str) -> None:
        """Close the stream and its viewers. Does nothing if there is no such stream."""
        if publication := self._hub.publication(name):
            publication.handle.close()

    # Viewers ----------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port of the first listener; 0 while there is none."""
        return self._hub.listeners.port

    def listen(self, host: str = "127.0.0.1", port: int | None = None) -> tuple[str, int]:
        """Also listen on *host*:*port*, and return the address. None means the port already open, else any free one.

        Repeating the call for an existing listener changes nothing. Raises `OSError` if another process has the port.
        """
        return self._hub.listen(host, port)

    def allow_origins(self, origins: Iterable[str]) -> None:
        """Allow pages from these origins (``https://host:port``) to open streams, besides pages of this machine."""
        self._hub.allow_origins(origins)

    def configure(self, authenticate: Authenticator | None = None, limits: Limits | None = None) -> None:
        """Set the authenticator that admits viewers, and the limits; None leaves either unchanged."""
        self._hub.configure(authenticate, limits)

    @property
    def limits(self) -> Limits:
        """The limits on viewers' use of the hub."""
        return self._hub.limits

    @property
    def token(self) -> str:
        """The token that viewers present, unless an authenticator decides. Valid until the hub closes."""
        return self._hub.token

    @property
    def view_token(self) -> str:
        """The token for viewers that may only watch: their input is dropped."""
        return self._hub.view_token

    def rotate_token(self, *, view: bool = False) -> str:
        """Create a new `token`, or with *view* a new `view_token`, and close the viewers that used the old one.

        This includes widgets on display: run their cells again.
        """
        return self._hub.rotate_token(view=view)

    async def start(self) -> Server:
        """Listen on any free port of loopback, unless it listens already."""
        self._hub.listen()
        return self

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """The response to a plain HTTP *request* at the hub's port; None for a WebSocket handshake, which continues."""
        return self._hub.listeners.answer(connection, request)

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every stream and listener, and end the hub's thread. May be called again."""
        self._hub.close()

    async def aclose(self) -> None:
        """`close`, for coroutines."""
        await self._hub.aclose()

    def __reduce__(self) -> NoReturn:
        refuse_to_copy("Server", "other processes reach it at the ws_url of its displays")


_server: Server | None = None
_server_lock = threading.Lock()


@in_forks
def _forget_who_held_the_lock() -> None:
    global _server_lock
    _server_lock = threading.Lock()


def hub() -> Server:
    """The process's hub, created on first use."""
    global _server
    with _server_lock:
        if _server is None or not _server._hub.usable:
            with uninterrupted():
                _server = Server()
        return _server


def serve_server(
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    origins: Iterable[str] | None = None,
    tcp: bool = True,
    authenticate: Authenticator | None = None,
    limits: Limits | None = None,
    streams: Iterable[StreamSpec] | None = None,
) -> Server:
    """The process's hub, listening on *host*:*port*, for several streams: ``server.add_stream(name, width, height)``.

    *port* None means any free port in notebooks and 8765 in scripts. The result can be awaited and is a context
    manager. *origins* allow pages of other machines to connect; pages of this machine always may. With ``tcp=False`` no
    port is opened: pages connect through Jupyter's or marimo's own server, over a unix socket that only this user can
    open. Raises `RuntimeError` if there is no such socket, as on Windows.

    *authenticate* replaces the tokens for all streams without an authenticator of their own. *limits* apply from now
    on, to connected viewers too. *streams* are mappings of arguments for `Server.add_stream`, one per stream.
    """
    hub()._hub.configure(authenticate, limits)
    server = _listening_hub(host, port, origins, tcp)[0]
    for stream in streams or ():
        server.add_stream(**stream)
    return server


@shows(STREAM_OPTIONS)
def serve(
    width: int,
    height: int | None = None,
    *,
    name: str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    origins: Iterable[str] | None = None,
    tcp: bool = True,
    **options: Unpack[StreamOptionsDict],
) -> Display:
    """Create a display of *width* x *height* pixels (1 to 16384 each) for browsers to connect to. Returns at once.

    Starts the process's hub or reuses it: ``await serve(...)``, ``with serve(...) as display`` and repeated calls all
    work. Without a *name*, the stream is named after the calling notebook cell, or the ipywidget whose callback calls:
    when that runs again, its viewers move to the new display. No run replaces a display of another cell, so each run
    creates a new stream if the front end doesn't identify cells. In scripts and threads the first stream is
    ``default``, then ``default-2`` and so on. If *name* exists, the new display takes that stream over. *host*, *port*,
    *origins* and *tcp* are as for `serve_server`, *options* those of `types.StreamOptions`.
    """
    if height is None:
        of_array = "; of an array rfb.serve(array.shape[1], array.shape[0])" if hasattr(width, "shape") else ""
        raise TypeError(
            f"serve takes a width and a height in pixels, then publish the frames: rfb.serve(640, 360){of_array}"
        )
    server, address = _listening_hub(host, port, origins, tcp)
    cell = calling_cell()
    name = cell.next_stream_name() if cell and name is None else name
    display = server._put_stream(name, width, height, options)
    if address:
        display._reach(address)
    return display


def _listening_hub(
    host: str, port: int | None, origins: Iterable[str] | None, tcp: bool
) -> tuple[Server, tuple[str, int] | None]:
    if not tcp and port is not None:
        raise ValueError(f"tcp=False opens no port, and port={port} asks for one")
    server = hub()
    if origins is not None:
        server._hub.allow_origins(origins)
    if not tcp:
        if not server._hub.listeners.private:
            raise RuntimeError(f"without TCP nobody reaches this hub: it has no unix socket. {OTHER_FOLDER}")
        return server, None
    if port is None and not server.port and not in_notebook():
        port = SCRIPT_PORT
    return server, server._hub.listen(host, port)
