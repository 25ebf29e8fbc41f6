"""The hub: streams by name, listeners, and the thread that runs them.

Its event loop runs in a daemon thread, so that frames flow while a notebook cell is busy. Streams and listeners belong
to that loop; the public methods may be called from any thread and wait for the loop.
"""

from __future__ import annotations

import asyncio
import atexit
import logging
import threading
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from .._encode.pool import Pool
from .._hosts import discovery
from .._system.fork_guard import Own
from .._system.interrupts import result_of, uninterrupted
from .._system.processors import usable_processors
from ..auth import Authenticator, check_origin
from ..encoders.base import require_codec
from ..limits import Limits
from ..options import StreamOptionsDict
from ..transport import LimitedConnection, Transport
from ..types import MAX_SIDE, StreamOptions, check_int
from .admission import DEFAULT_STREAM, Admission, ConnectionRequest
from .http_api import HttpApi
from .listeners import Listeners
from .publication import Publication
from .stream import Stream

log = logging.getLogger(__name__)
_LAST_WORDS = 0.5
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """The arguments for a new stream, and the session and event loop of the caller."""

    name: str | None
    """None takes the first free name of ``default``, ``default-2`` and so on."""
    width: int
    height: int
    options: StreamOptionsDict
    session: str | None
    """The session of a marimo app; the stream closes with it."""
    loop: asyncio.AbstractEventLoop | None
    """The event loop that runs callbacks."""


class Hub:
    """The hub of a process: its thread, streams, admission and listeners. `server.Server` is its public surface."""

    def __init__(self) -> None:
        self.hub_id = discovery.new_hub_id()
        """Identifies the hub among the hubs of this user: 16 hex digits. Not a secret."""
        self.closed = False
        self.process = Own()
        """The process that created the hub; no other can use it."""
        self._streams: dict[str, Stream] = {}
        self._publications: dict[str, Publication] = {}
        self._closing = threading.Lock()
        """Acquired once, by the thread that closes the hub."""
        self._loop = asyncio.new_event_loop()
        self.threads = max(2, usable_processors())
        """Number of threads that encode."""
        self._pool = Pool(self.threads)
        self.admission = Admission(self.hub_id, self._streams, self._stream("", (1, 1), StreamOptions()))
        """Admits viewers. Owned by the hub's loop."""
        answers = HttpApi(self.admission, self._streams, self._loop.time)
        self.listeners = Listeners(self.hub_id, self.admission, answers)
        self._thread = threading.Thread(target=self._loop.run_forever, name="rfb-hub", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # a limit on threads, or a Python without them
            self._loop.close()
            raise RuntimeError(f"the hub needs a thread of its own, and gets none: {error}") from None
        atexit.register(self.close)
        self._on_loop(self.listeners.open_private())

    # Streams ----------------------------------------------------------------------------------------------------------

    @property
    def streams(self) -> tuple[str, ...]:
        """The names of the streams, oldest first."""
        return tuple(self._streams)

    def publication(self, name: str) -> Publication | None:
        """The publication of the stream *name*; None if there is no such stream."""
        return self._publications.get(name)

    def put_stream(
        self, request: StreamRequest, present: Callable[[Publication], object], *, replace: bool
    ) -> Publication:
        """Create a stream; with *replace*, a stream of that name gets a new publication and keeps its viewers.

        *present* creates the `Publication.handle`. Raises `ValueError` for a name that is invalid or taken.
        """
        return self._on_loop(self._put_stream(request, present, replace))

    async def _put_stream(
        self, request: StreamRequest, present: Callable[[Publication], object], replace: bool
    ) -> Publication:
        name = request.name
        if name is None:
            names = (DEFAULT_STREAM, *(f"{DEFAULT_STREAM}-{n}" for n in range(2, len(self._streams) + 2)))
            name = next(name for name in names if name not in self._streams)
        if not isinstance(name, str) or not discovery.STREAM_NAME.fullmatch(name):
            raise ValueError(f"a stream's name is 1 to 64 letters, digits, '.', '_', '~' or '-', not {name!r}")
        if name in self._streams and not replace:
            raise ValueError(f"there is a stream {name!r} already")
        options = StreamOptions.of(request.options)
        require_codec(options.codec)
        size = check_int("width", request.width, 1, MAX_SIDE), check_int("height", request.height, 1, MAX_SIDE)
        stream = self._streams.get(name) or self._stream(name, size, options)
        if name in self._publications:
            self._publications[name].retire()
        publication = Publication(self.process, stream, options.event_queue_size, request.loop, request.session)
        publication.handle = present(publication)
        stream.take_over(publication, size, options)
        self._streams[name] = stream
        self._publications[name] = publication
        return publication

    def _stream(self, name: str, size: tuple[int, int], options: StreamOptions) -> Stream:
        return Stream(name, size, options, self._loop, self._pool, self.threads)

    def close_session(self, session: str) -> None:
        """Close the streams that the *session* of a marimo app has created."""
        for publication in tuple(self._publications.values()):
            if publication.session == session and (forgotten := self.begin_to_close(publication)):
                result_of(forgotten)

    def begin_to_close(self, publication: Publication) -> Future[None] | None:
        """Start to remove *publication*'s stream and to close its viewers, unless another publication has taken the
        stream over. None if it was closed before or belongs to another process."""
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

    def listen(self, host: str = "127.0.0.1", port: int | None = None) -> tuple[str, int]:
        """`Server.listen`."""
        if not isinstance(host, str) or not host:
            raise ValueError(f"host is a name or an address to listen on, not {host!r}")
        if port is not None:
            check_int("port", port, 0, 65535)
        return self._on_loop(self.listeners.open(host, port))

    def configure(self, authenticate: Authenticator | None = None, limits: Limits | None = None) -> None:
        """`Server.configure`."""
        if not (limits is None or isinstance(limits, Limits)):
            raise TypeError(f"limits are a Limits(...), not {limits!r}")
        if not (authenticate is None or callable(authenticate)):
            raise TypeError(f"authenticate is a function of an AuthContext, not {authenticate!r}")
        self.on_hub(lambda now: self._configure(authenticate, limits))

    def _configure(self, authenticate: Authenticator | None, limits: Limits | None) -> None:
        self.admission.authenticate = authenticate or self.admission.authenticate
        if limits:
            self.admission.keep_to(limits)
            LimitedConnection.keep_all_to(limits, self._loop)

    def allow_origins(self, origins: Iterable[str]) -> None:
        """`Server.allow_origins`."""
        if isinstance(origins, str) or not isinstance(origins, Iterable):
            raise TypeError(f"origins is a list of strings like 'https://host:port', not {origins!r}")
        more = [check_origin(origin) for origin in origins]
        self.on_hub(lambda now: self.admission.allow(more))

    def redirect(self, url: str, name: str) -> Path:
        """Write an HTML file that redirects a browser to *url*. Only this user can read it; the hub deletes it when it
        closes. Raises `OSError` if there is no folder for it."""
        return self.on_hub(lambda now: self.listeners.redirect(url, name))

    # Viewers ----------------------------------------------------------------------------------------------------------

    @property
    def token(self) -> str:
        """`Server.token`."""
        return self.admission.token

    @property
    def view_token(self) -> str:
        """`Server.view_token`."""
        return self.admission.view_token

    @property
    def hub_key(self) -> str:
        """The key with which the hub proves its identity to a viewer (`rfb/proof`). It grants no access."""
        return self.admission.hub_key

    @property
    def limits(self) -> Limits:
        """`Server.limits`."""
        return self.admission.limits

    def rotate_token(self, *, view: bool = False) -> str:
        """`Server.rotate_token`."""
        return self._on_loop(self.admission.change_token(view=view))

    def authenticator(self, stream: str) -> Authenticator | None:
        """The function that admits viewers of *stream* in place of the tokens; None if tokens decide."""
        return self.admission.authenticator(stream)

    def check_handshake(self, request: ConnectionRequest) -> Future[None]:
        """Check a handshake in the hub's loop. The future fails with `ProtocolError` if admission refuses it before the
        hello. Raises `RuntimeError` once the hub is closed."""

        async def look() -> None:
            self.admission.check_handshake(request)

        return self._start(look())

    def begin(self, transport: Transport, request: ConnectionRequest) -> Future[None]:
        """Serve a connection of another listener, such as an ASGI server, in the hub's loop until it ends."""
        return self._start(self.admission.receive(transport, request))

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the hub, in the hub's thread."""
        return self._loop

    # Life -------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close every stream and listener and end the hub's thread. May be called again."""
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
        self.listeners.forget()
        for publication in self._publications.values():
            publication.retire()
        await asyncio.gather(*(stream.close("the hub was closed") for stream in self._streams.values()))
        await asyncio.gather(*(publication.recorded() for publication in self._publications.values()))
        self._streams.clear()
        self._publications.clear()
        self.listeners.close()
        if others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=_LAST_WORDS)
        # Otherwise closing would wait up to HELLO_TIMEOUT for connections that never said hello.
        LimitedConnection.abort_all(self._loop)
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
        """True if it is open, and in the process that created it: a fork has the object but not the thread."""
        return not self.closed and self.process.here

    def on_hub(self, function: Callable[[float], _T]) -> _T:
        """Call *function* in the hub's loop with the loop's time, and return its result."""

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
