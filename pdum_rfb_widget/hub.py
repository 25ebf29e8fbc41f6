"""The hub: streams by name, listeners, and the thread of its own that they live in.

Its loop runs in a daemon thread, so that frames flow while a notebook's cell is busy. Streams and listeners belong to
that loop; the public methods may be called from any thread and wait for it.
"""

from __future__ import annotations

import asyncio
import atexit
import errno
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

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
from .door import DEFAULT_STREAM, Door, Visit
from .encoders.base import require_codec
from .interrupts import result_of, uninterrupted
from .limits import HELLO_TIMEOUT, Limits
from .options import StreamOptionsDict
from .pool import Pool
from .process import Own
from .processors import usable_processors
from .publication import Publication
from .transport import LimitedConnection, Transport, WebSocketTransport
from .types import MAX_SIDE, StreamOptions, check_int

log = logging.getLogger(__name__)
# What websockets logs below WARNING holds headers and messages, and so tokens.
_websocket_log = logging.getLogger(f"{__package__}.websocket")
_websocket_log.setLevel(logging.WARNING)

OTHER_FOLDER = "Set PDUM_RFB_RUNTIME_DIR to a folder of yours on a local disk, of at most 80 characters"
_LAST_WORDS = 0.5
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """A stream that is asked for, and who asks."""

    name: str | None
    """None for the first of ``default``, ``default-2`` and so on that is free."""
    width: int
    height: int
    options: StreamOptionsDict
    session: str | None
    """The visitor's of a marimo app, with which the stream is closed."""
    loop: asyncio.AbstractEventLoop | None
    """The event loop that callbacks run in."""


class Hub:
    """The inside of a `server.Server`."""

    def __init__(self) -> None:
        self.hub_id = runtime.new_hub_id()
        """Its name among the hubs of this user: 16 hex digits. No secret."""
        self.closed = False
        self.process = Own()
        """The process that made it, which alone can use it."""
        self._started = runtime.started(self.process.pid)
        self._streams: dict[str, Broadcast] = {}
        self._publications: dict[str, Publication] = {}
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

    def publication(self, name: str) -> Publication | None:
        """The one that publishes into the stream *name*; None where there is no such stream."""
        return self._publications.get(name)

    def put_stream(
        self, request: StreamRequest, present: Callable[[Publication], object], *, replace: bool
    ) -> Publication:
        """A new stream, or with *replace* a new publication of the one of that name, whose viewers stay.

        *present* makes what the application holds of it, `Publication.handle`. Raises `ValueError` for a name that is
        none, or that is taken.
        """
        return self._on_loop(self._put_stream(request, present, replace))

    async def _put_stream(
        self, request: StreamRequest, present: Callable[[Publication], object], replace: bool
    ) -> Publication:
        name = request.name
        if name is None:
            names = (DEFAULT_STREAM, *(f"{DEFAULT_STREAM}-{n}" for n in range(2, len(self._streams) + 2)))
            name = next(name for name in names if name not in self._streams)
        if not isinstance(name, str) or not runtime.STREAM_NAME.fullmatch(name):
            raise ValueError(f"a stream's name is 1 to 64 letters, digits, '.', '_', '~' or '-', not {name!r}")
        if name in self._streams and not replace:
            raise ValueError(f"there is a stream {name!r} already")
        options = StreamOptions.of(request.options)
        if options.codec != "auto" and options.codec != "none":
            require_codec(options.codec)
        size = check_int("width", request.width, 1, MAX_SIDE), check_int("height", request.height, 1, MAX_SIDE)
        stream = self._streams.get(name) or Broadcast(name, size, options, self._loop, self._pool, self._threads)
        if name in self._publications:
            self._publications[name].retire()
        publication = Publication(self.process, stream, options.event_queue_size, request.loop, request.session)
        publication.handle = present(publication)
        stream.take_over(publication, size, options)
        self._streams[name] = stream
        self._publications[name] = publication
        return publication

    def close_session(self, session: str) -> None:
        """Close the streams that the *session* of a marimo app has made."""
        for publication in tuple(self._publications.values()):
            if publication.session == session and (forgotten := self.begin_to_close(publication)):
                result_of(forgotten)

    def begin_to_close(self, publication: Publication) -> Future[None] | None:
        """Begin to drop *publication*'s stream and to close its viewers, unless another has taken that over; None where
        it was closed before, or is another process's."""
        if publication.closed or not self.process.here:
            return None
        with uninterrupted():
            publication.retire()
            return self._start(self._forget(publication)) if self.usable else None

    async def _forget(self, publication: Publication) -> None:
        name = publication.stream.name
        if self._publications.get(name) is publication:
            del self._publications[name]
            await self._streams.pop(name).close("the display was closed")
        await publication.recorded()

    # Listeners --------------------------------------------------------------------------------------------------------

    @property
    def port(self) -> int:
        """The TCP port of the first listener, 0 while there is none."""
        return next((port for _, port in list(self._listeners)), 0)

    def listen(self, host: str = "127.0.0.1", port: int | None = None) -> tuple[str, int]:
        """`Server.listen`."""
        if not isinstance(host, str) or not host:
            raise ValueError(f"host is a name or an address to listen on, not {host!r}")
        if port is not None:
            check_int("port", port, 0, 65535)
        return self._on_loop(self._listen(host, port))

    def configure(self, authenticate: Authenticator | None = None, limits: Limits | None = None) -> None:
        """`Server.configure`."""
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

    def answer(self, connection: ServerConnection, request: Request, *, by_route: bool = False) -> Response | None:
        """The answer to a plain HTTP *request* at the hub's port; None for a handshake that may go on."""
        return self._answers(request, by_route=by_route)

    def allow_origins(self, origins: Iterable[str]) -> None:
        """`Server.allow_origins`."""
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
                "notebook servers can't lead pages to this hub, only its TCP port can: %s. %s", error, OTHER_FOLDER
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
            process_request=partial(self.answer, by_route=by_route),
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
        """`Server.token`."""
        return self._door.token

    @property
    def view_token(self) -> str:
        """`Server.view_token`."""
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
        """`Server.rotate_token`."""
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
        for publication in self._publications.values():
            publication.retire()
        await asyncio.gather(*(stream.close("the hub was closed") for stream in self._streams.values()))
        await asyncio.gather(*(publication.recorded() for publication in self._publications.values()))
        self._streams.clear()
        self._publications.clear()
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
