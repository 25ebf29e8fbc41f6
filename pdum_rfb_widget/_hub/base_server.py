"""The public methods of a hub. Displays refer to their server, so the class of displays is a parameter here."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from typing import Generic, NoReturn, Self, TypeVar, Unpack

from websockets.asyncio.server import ServerConnection
from websockets.http11 import Request, Response

from .._hosts.loops import lasting_loop
from .._hosts.notebook_context import current_session
from .._system.closing import Closing
from .._system.fork_guard import refuse_to_copy
from ..auth import Authenticator
from ..limits import Limits
from ..options import STREAM_OPTIONS, StreamOptionsDict, shows
from .admission import DEFAULT_STREAM
from .hub import Hub, StreamRequest
from .publication import Publication

Display = TypeVar("Display")
"""Always `display.Display`: its name is what `help` shows."""


class BaseServer(Closing, Generic[Display]):
    """The public methods of a hub, inherited by `server.Server`."""

    def __init__(self) -> None:
        self._hub = Hub()

    @abstractmethod
    def _display_of(self, publication: Publication) -> Display:
        """Create the display of a new publication."""

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
        publication = self._hub.put_stream(request, self._display_of, replace=replace)
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

    async def start(self) -> Self:
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
