"""The hub: streams by name, listeners, routing, and the thread of its own that they live in.

A process has one hub. Its loop runs in a daemon thread, so that frames flow while a notebook's cell is busy. Streams
and listeners belong to that loop; the public methods may be called from any thread and wait for it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Generator, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, TypeVar, Unpack

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.asyncio.server import unix_serve as listen_on_socket
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from . import runtime
from .answers import Answers
from .auth import Authenticator, check_origin
from .broadcast import Broadcast
from .cells import calling_cell, current_session, in_notebook
from .display import Display
from .door import DEFAULT_STREAM, Door, Visit
from .encoders.base import require_codec
from .interrupts import result_of, uninterrupted
from .limits import HELLO_TIMEOUT, Limits
from .loops import lasting_loop
from .options import StreamOptionsDict, StreamSpec, shows_options
from .pool import Pool
from .process import Own, in_forks, refuse_to_copy
from .processors import usable_processors
from .transport import LimitedConnection, Transport, WebSocketTransport
from .types import MAX_SIDE, StreamOptions, check_int

log = logging.getLogger(__name__)
# What websockets logs below WARNING holds headers and messages, and so tokens.
_websocket_log = logging.getLogger(f"{__package__}.websocket")
_websocket_log.setLevel(logging.WARNING)

SCRIPT_PORT = 8765
"""The port in scripts, so that an address can be remembered; notebooks take any free one."""

_OTHER_FOLDER = "Set PDUM_RFB_RUNTIME_DIR to a folder of yours on a local disk, of at most 80 characters"
_LAST_WORDS = 0.5
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who asks for a display: the visitor's session of a marimo app, and the event loop that it runs in."""

    session: str | None
    loop: asyncio.AbstractEventLoop | None

    @classmethod
    def now(cls) -> _Caller:
        return cls(current_session(), lasting_loop())


class Server:
    """The hub. Get it from `serve_server` or `Display.server`; it closes with `close`, or with the process."""

    def __init__(self) -> None:
        self.hub_id = runtime.new_hub_id()
        """Its name among the hubs of this user: 16 hex digits. No secret."""
        self.closed = False
        self.process = Own()
        """The process that made it, which alone can use it."""
        self._started = runtime.started(self.process.pid)
        self._streams: dict[str, Broadcast] = {}
        self._displays: dict[str, Display] = {}
        self._listeners: dict[tuple[str, int], Listener] = {}
        self._folder: Path | None = None
        self._socket = ""
        self._pages: set[Path] = set()
        self._closing = threading.Lock()
        """Taken once, by the thread that closes the hub."""
        self._private: Listener | None = None
        self._listening = asyncio.Lock()
        self._door = Door(self.hub_id, self._streams)
        self._threads = max(2, usable_processors())
        self._pool = Pool(self._threads)
        self._loop = asyncio.new_event_loop()
        self._answers = Answers(self._door, self._streams, self._loop.time)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rfb-hub", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # of a limit, or a Python without threads
            self._loop.close()
            raise RuntimeError(f"the hub needs a thread of its own, and gets none: {error}") from None
        atexit.register(self.close)
        self._on_loop(self._listen_privately())

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

    @shows_options()
    def add_stream(self, name: str, width: int, height: int, **options: Unpack[StreamOptionsDict]) -> Display:
        """A new stream of *width* x *height* pixels, 1 to 16384 each, reached as ``ws://host:port/<name>``.

        *options* are those of `types.StreamOptions`. The size is what viewers are told before the first frame; every
        frame brings its own. Raises `ValueError` when the name is taken, or is not 1 to 64 letters, digits or ``._~-``.
        """
        return self._on_loop(self._put_stream(name, width, height, options, _Caller.now(), replace=False))

    def remove_stream(self, name: str) -> None:
        """Close the stream and its viewers. Does nothing when there is no such stream."""
        if display := self._displays.get(name):
            display.close()

    def put_stream(self, name: str | None, width: int, height: int, **options: Unpack[StreamOptionsDict]) -> Display:
        """`add_stream`, but where *name* is taken its display is closed and its viewers move over to the new one.

        Without a *name* it is the first of ``default``, ``default-2`` and so on that is free.
        """
        return self._on_loop(self._put_stream(name, width, height, options, _Caller.now(), replace=True))

    async def _put_stream(
        self,
        name: str | None,
        width: int,
        height: int,
        options: StreamOptionsDict,
        caller: _Caller,
        *,
        replace: bool,
    ) -> Display:
        if name is None:
            names = (DEFAULT_STREAM, *(f"{DEFAULT_STREAM}-{n}" for n in range(2, len(self._streams) + 2)))
            name = next(name for name in names if name not in self._streams)
        if not isinstance(name, str) or not runtime.STREAM_NAME.fullmatch(name):
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
        display = Display(self, stream, checked.event_queue_size, caller.loop)
        display.session = caller.session
        stream.take_over(display, size, checked)
        self._streams[name] = stream
        self._displays[name] = display
        return display

    def close_session(self, session: str) -> None:
        """Close the displays that the *session* of a marimo app has made."""
        for display in tuple(self._displays.values()):
            if display.session == session:
                display.close()

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
        return next((port for _, port in list(self._listeners)), 0)

    def listen(self, host: str = "127.0.0.1", port: int | None = None) -> tuple[str, int]:
        """Listen on *host*:*port* too, and say where that is. None is the port there is, or any free one.

        Asking again for a listener that is there changes nothing. Raises `OSError` when another process has the port.
        """
        if not isinstance(host, str) or not host:
            raise ValueError(f"host is a name or an address to listen on, not {host!r}")
        if port is not None:
            check_int("port", port, 0, 65535)
        return self._on_loop(self._listen(host, port))

    def configure(self, authenticate: Authenticator | None = None, limits: Limits | None = None) -> None:
        """Let *authenticate* decide about viewers, and keep to *limits*; None leaves what there is."""
        if not (limits is None or isinstance(limits, Limits)):
            raise TypeError(f"limits are a Limits(...), not {limits!r}")
        if not (authenticate is None or callable(authenticate)):
            raise TypeError(f"authenticate is a function of an AuthContext, not {authenticate!r}")
        self.on_hub(lambda now: self._configure(authenticate, limits))

    def _configure(self, authenticate: Authenticator | None, limits: Limits | None) -> None:
        self._door.authenticate = authenticate or self._door.authenticate
        if limits:
            self._door.keep_to(limits)
            LimitedConnection.keep_all_to(limits, self._loop)

    async def start(self) -> Server:
        """Listen, if it doesn't yet, on any free port of loopback."""
        self.listen()
        return self

    def process_request(
        self, connection: ServerConnection, request: Request, *, by_route: bool = False
    ) -> Response | None:
        """The answer to a plain HTTP *request* at the hub's port; None for a handshake that may go on."""
        return self._answers(request, by_route=by_route)

    def allow_origins(self, origins: Iterable[str]) -> None:
        """Let pages from these origins (``https://host:port``) open streams, besides those of this machine."""
        if isinstance(origins, str) or not isinstance(origins, Iterable):
            raise TypeError(f"origins is a list of strings like 'https://host:port', not {origins!r}")
        more = [check_origin(origin) for origin in origins]
        self.on_hub(lambda now: self._door.allow(more))

    def address(self, wanted: tuple[str, int] | None = None) -> tuple[str, int]:
        """Host and port at which a browser on this machine reaches the listener *wanted*, or else the first."""
        listeners = list(self._listeners)  # the hub's loop may add one meanwhile
        if not listeners:
            raise RuntimeError("the hub listens on no TCP port: it was closed, or serve() was told tcp=False")
        host, port = wanted or listeners[0]
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
            _check_loopback(host)
            listener = await listen(self._welcome, host, port or 0, **self._settings())
        except OSError as error:
            raise OSError(error.errno, f"can't listen on {host}:{port or 0}: {_reason(error)}") from None
        bound = (host, int(next(iter(listener.sockets)).getsockname()[1]))
        self._listeners[bound] = listener
        self._tell_where()
        return bound

    async def _listen_privately(self) -> None:
        """Listen where only processes of this user come, and leave word of it for the servers that lead pages here."""
        runtime.sweep()
        try:
            self._folder = runtime.own_folder()
            if os.name == "posix":
                await self._bind_privately(self._folder)
        except OSError as error:
            log.warning(
                "notebook servers can't lead pages to this hub, only its TCP port can: %s. %s", error, _OTHER_FOLDER
            )
        self._tell_where()

    async def _bind_privately(self, folder: Path) -> None:
        """Raises `OSError` that says why, where no place takes a unix socket."""
        reasons = []
        for path in runtime.socket_paths(folder, self.hub_id):
            try:
                welcome = partial(self._welcome, by_route=True)
                self._private = await listen_on_socket(welcome, str(path), **self._settings(by_route=True))
                self._socket = str(path)
                return
            except OSError as error:
                path.unlink(missing_ok=True)
                reasons.append(f"{path.parent} takes no socket: {error.strerror or error}")
        raise OSError("; ".join(reasons) or f"the path of {folder} is too long for a socket")

    def _tell_where(self) -> None:
        if self._folder:
            try:
                runtime.write(self._folder, self._file())
            except OSError as error:
                log.warning("notebook servers can't find this hub, only its TCP port leads to it: %s", error)

    def _file(self) -> runtime.HubFile:
        host, port = self.address() if self._listeners else ("", 0)
        where = runtime.machine(), self._socket, host, port
        return runtime.HubFile(self.hub_id, self.process.pid, self._started, *where, runtime.package_version())

    def redirect(self, url: str, name: str) -> Path:
        """A file that leads a browser to *url*: only this user can read it, and it goes with the hub. Raises `OSError`
        where there is no folder for it."""
        page = runtime.redirect(self._folder or runtime.own_folder(), f"{name}-{self.hub_id}", url)
        self.on_hub(lambda now: self._pages.add(page))
        return page

    @property
    def private(self) -> bool:
        """It listens on a unix socket that only this user's processes reach."""
        return os.path.exists(self._socket)  # what sweeps folders of temporary files may have taken it

    def _settings(self, *, by_route: bool = False) -> dict[str, Any]:
        def connect(protocol: ServerProtocol, listener: Listener, **settings: Any) -> LimitedConnection:
            return LimitedConnection(protocol, listener, limits=self.limits, turns=self._door.asking, **settings)

        return dict(
            process_request=partial(self.process_request, by_route=by_route),
            create_connection=connect,
            compression=None,  # pixels are compressed already: 5 ms for 200 KB, and nothing gained
            open_timeout=HELLO_TIMEOUT,
            ping_interval=20,
            ping_timeout=60,  # a kernel that holds the GIL for long must not lose its viewers
            close_timeout=2,
            server_header=None,
            logger=_websocket_log,
        )

    # Viewers ----------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """What viewers present, unless an authenticator decides. It dies with the hub."""
        return self._door.token

    @property
    def view_token(self) -> str:
        """Another, for viewers who may look and whose input is dropped."""
        return self._door.view_token

    @property
    def hub_key(self) -> str:
        """What the hub proves itself with to a viewer that knows it (`rfb/proof`). It opens nothing."""
        return self._door.hub_key

    @property
    def limits(self) -> Limits:
        """How much viewers may ask of it."""
        return self._door.limits

    def rotate_token(self, *, view: bool = False) -> str:
        """Make a new `token`, or with *view* a new `view_token`, and close the viewers that came in with the old one.

        Widgets that are shown are among them: run their cells again.
        """
        return self._on_loop(self._door.change_token(view=view))

    def authenticator(self, stream: str) -> Authenticator | None:
        """Who decides about viewers of *stream*, in place of the tokens; None where those do."""
        return self._door.authenticator(stream)

    def look_at(self, visit: Visit) -> Future[None]:
        """Done once the door has looked at a handshake, in the hub's loop; a `ProtocolError` where it is refused before
        a word is said. Raises `RuntimeError` once the hub was closed."""

        async def look() -> None:
            self._door.look_at(visit)

        return self._start(look())

    def begin(self, transport: Transport, visit: Visit) -> Future[None]:
        """Serve a connection of another listener, such as an ASGI server's, in the hub's loop, until it ends."""
        return self._start(self._door.receive(transport, visit))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The hub's, in the thread of its own."""
        return self._loop

    async def _welcome(self, socket: ServerConnection, by_route: bool = False) -> None:
        """*by_route*: by the unix socket, where the server that leads pages here has checked where they come from."""
        request = socket.request
        assert request is not None
        headers = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
        remote = None if by_route else socket.remote_address[:2]
        await self._door.receive(WebSocketTransport(socket), Visit(request.path, headers, remote, by_route))

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every stream and listener and end the hub's thread. Safe to call again."""
        if shut_down := self._start_to_close():
            try:
                result_of(shut_down, timeout=10)
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
        if not self.usable or not self._closing.acquire(blocking=False):
            return None
        shut_down = self._start(self._shut_down())
        self.closed = True
        atexit.unregister(self.close)
        return shut_down

    async def _shut_down(self) -> None:
        if self._folder:
            runtime.forget(self._file())
        for page in self._pages:
            page.unlink(missing_ok=True)
        for display in self._displays.values():
            display.retire()
        await asyncio.gather(*(stream.close("the hub was closed") for stream in self._streams.values()))
        await asyncio.gather(*(display.recorded() for display in self._displays.values()))
        self._streams.clear()
        self._displays.clear()
        for listener in (*self._listeners.values(), *filter(None, [self._private])):
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
        return not self.closed and self.process.here

    def on_hub(self, function: Callable[[float], _T]) -> _T:
        """What *function* returns when it is called in the hub's loop with the time there."""

        async def call() -> _T:
            return function(self._loop.time())

        self.process.check()
        if threading.current_thread() is self._thread or self.closed:
            return function(self._loop.time())
        return self._on_loop(call())

    def _on_loop(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return result_of(self._start(coroutine))

    def _start(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        try:
            self._check_usable()
        except RuntimeError:
            coroutine.close()
            raise
        with uninterrupted():
            return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _check_usable(self) -> None:
        self.process.check()
        if self.closed:
            raise RuntimeError("this hub was closed; serve() makes a new one")

    async def _itself(self) -> Server:
        return self

    def __await__(self) -> Generator[Any, None, Server]:
        return self._itself().__await__()

    def __reduce__(self) -> NoReturn:
        refuse_to_copy("Server", "other processes reach it at the ws_url of its displays")

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.aclose()


def _check_loopback(host: str) -> None:
    """Raise `OSError` where a wildcard *host* has no address for this machine's browsers: ``::`` binds without IPv6."""
    if loopback := _WILDCARDS.get(host):
        with socket.socket(socket.AF_INET6 if ":" in loopback else socket.AF_INET) as probe:
            probe.bind((loopback, 0))


def _reason(error: OSError) -> str:
    """Why a port can't be opened, and the way out."""
    if error.errno == errno.EADDRINUSE:
        return "another process has the port. End it, or take any free port: port=0"
    if error.errno == errno.EACCES:
        return "this user may not open the port. Take one above 1023, or any free port: port=0"
    hosts = "127.0.0.1, 0.0.0.0 for all of them, or where there is IPv6 ::1 and ::"
    return f"{error.strerror or error}. The host is an address of this machine: {hosts}"


_hub: Server | None = None
_hub_lock = threading.Lock()


@in_forks
def _forget_who_held_the_lock() -> None:
    global _hub_lock
    _hub_lock = threading.Lock()


def hub() -> Server:
    """The process's hub, made when it is first asked for."""
    global _hub
    with _hub_lock:
        if _hub is None or not _hub.usable:
            with uninterrupted():
                _hub = Server()
        return _hub


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
    hub().configure(authenticate, limits)
    server = _listening_hub(host, port, origins, tcp)[0]
    for stream in streams or ():
        server.add_stream(**stream)
    return server


@shows_options()
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
    display = server.put_stream(cell.next_stream_name() if cell and name is None else name, width, height, **options)
    if address:
        display.reach(address)
    return display


def _listening_hub(
    host: str, port: int | None, origins: Iterable[str] | None, tcp: bool
) -> tuple[Server, tuple[str, int] | None]:
    if not tcp and port is not None:
        raise ValueError(f"tcp=False opens no port, and port={port} asks for one")
    server = hub()
    if origins is not None:
        server.allow_origins(origins)
    if not tcp:
        if not server.private:
            raise RuntimeError(f"without TCP nobody reaches this hub: it has no unix socket. {_OTHER_FOLDER}")
        return server, None
    if port is None and not server.port and not in_notebook():
        port = SCRIPT_PORT
    return server, server.listen(host, port)
