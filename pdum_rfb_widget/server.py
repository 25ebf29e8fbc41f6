"""The hub's public surface, and `serve`, which makes a display on the hub of this process."""

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
"""The port in scripts, so that an address can be remembered; notebooks take any free one."""


class Server(Closing):
    """The hub. Get it from `serve_server` or `Display.server`; it closes with `close`, or with the process.

    Every method may be called from any thread.
    """

    def __init__(self) -> None:
        self._hub = Hub()

    @property
    def hub_id(self) -> str:
        """The hub's name among those of this user: 16 hex digits, not secret."""
        return self._hub.hub_id

    @property
    def closed(self) -> bool:
        """Whether the hub was closed."""
        return self._hub.closed

    # Streams ----------------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, oldest first."""
        return self._hub.streams

    def stream(self, name: str = DEFAULT_STREAM) -> Display:
        """The display of the stream *name*. Raises `KeyError` that lists the names there are."""
        if publication := self._hub.publication(name):
            display: Display = publication.handle
            return display
        raise KeyError(f"no stream {name!r}; there are {', '.join(self.streams) or 'none'}")

    @shows(STREAM_OPTIONS)
    def add_stream(self, name: str, width: int, height: int, **options: Unpack[StreamOptionsDict]) -> Display:
        """A new stream of *width* x *height* pixels, 1 to 16384 each, reached as ``ws://host:port/<name>``.

        *options* are those of `types.StreamOptions`. The size is what viewers are told before the first frame; every
        frame brings its own. Raises `ValueError` when the name is taken, or is not 1 to 64 letters, digits or ``._~-``.
        """
        return self._put_stream(name, width, height, options, replace=False)

    def _put_stream(
        self, name: str | None, width: int, height: int, options: StreamOptionsDict, *, replace: bool = True
    ) -> Display:
        """`add_stream`, but with *replace* a display that has the *name* is closed, and its viewers move over."""
        request = StreamRequest(name, width, height, options, current_session(), lasting_loop())
        publication = self._hub.put_stream(request, lambda made: Display(self, made), replace=replace)
        display: Display = publication.handle
        return display

    def remove_stream(self, name: str) -> None:
        """Close the stream and its viewers. Does nothing when there is no such stream."""
        if publication := self._hub.publication(name):
            publication.handle.close()

    # Viewers ----------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port of the first listener, 0 while there is none."""
        return self._hub.listeners.port

    def listen(self, host: str = "127.0.0.1", port: int | None = None) -> tuple[str, int]:
        """Listen on *host*:*port* too, and say where that is. None is the port there is, or any free one.

        Asking again for a listener that is there changes nothing. Raises `OSError` when another process has the port.
        """
        return self._hub.listen(host, port)

    def allow_origins(self, origins: Iterable[str]) -> None:
        """Let pages from these origins (``https://host:port``) open streams, besides those of this machine."""
        self._hub.allow_origins(origins)

    def configure(self, authenticate: Authenticator | None = None, limits: Limits | None = None) -> None:
        """Let *authenticate* decide about viewers, and keep to *limits*; None leaves what there is."""
        self._hub.configure(authenticate, limits)

    @property
    def limits(self) -> Limits:
        """The limits on what viewers may ask of the hub."""
        return self._hub.limits

    @property
    def token(self) -> str:
        """The token that viewers present, unless an authenticator decides. It is valid until the hub closes."""
        return self._hub.token

    @property
    def view_token(self) -> str:
        """The token of viewers who may only watch: their input is dropped."""
        return self._hub.view_token

    def rotate_token(self, *, view: bool = False) -> str:
        """Make a new `token`, or with *view* a new `view_token`, and close the viewers that came in with the old one.

        Widgets that are shown are among them: run their cells again.
        """
        return self._hub.rotate_token(view=view)

    async def start(self) -> Server:
        """Listen, if it doesn't yet, on any free port of loopback."""
        self._hub.listen()
        return self

    def process_request(self, connection: ServerConnection, request: Request) -> Response | None:
        """The answer to a plain HTTP *request* at the hub's port; None for a handshake that may go on."""
        return self._hub.listeners.answer(connection, request)

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every stream and listener and end the hub's thread. Safe to call again."""
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
    """The process's hub, made when it is first asked for."""
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

    *port* None means any free one in notebooks and 8765 in scripts. The result can be awaited and is a context manager.
    *origins* are pages of other machines that may connect; those of this one may always. With ``tcp=False`` no port is
    opened: pages come through Jupyter's or marimo's own server, by a unix socket that is this user's alone. Raises
    `RuntimeError` where there is no such socket, as on Windows.

    *authenticate* decides about viewers of all streams that have no authenticator of their own, in place of the tokens.
    *limits* bound what viewers may ask, from now on, also of those that are connected. *streams* are
    what `Server.add_stream` takes, a mapping each.
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
    """A display of *width* x *height* pixels (1 to 16384 each) that browsers can attach to; returns at once.

    Starts the process's hub or uses it again, so that ``await serve(...)``, ``with serve(...) as display`` and calling
    it twice are all right. Without a *name* the stream is the calling notebook cell's, or the ipywidget's whose
    callback calls: run it again, and the viewers move over to the new display. No run replaces a display of another
    cell, so that a front end that doesn't say which cell it runs gets another stream each time. In scripts and threads
    the first is ``default``, then ``default-2`` and so on. A *name* that is taken is taken over. *host*, *port*,
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
