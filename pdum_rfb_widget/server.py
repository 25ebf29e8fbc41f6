"""`serve` and `serve_server`: displays on the hub of this process, and the hub itself."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Unpack

from ._hosts.notebook_context import calling_cell, in_notebook
from ._hub.admission import DEFAULT_STREAM as DEFAULT_STREAM
from ._hub.listeners import OTHER_FOLDER
from ._system.fork_guard import in_forks
from ._system.interrupts import uninterrupted
from .auth import Authenticator
from .display import Display
from .display import Server as Server
from .limits import Limits
from .options import STREAM_OPTIONS, StreamOptionsDict, StreamSpec, shows

SCRIPT_PORT = 8765
"""The default port in scripts, so that the address stays the same; notebooks use any free one."""


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
