"""Admission to the hub: turns every connection request into a viewer, or closes it with a reason."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qsl, unquote

from .._core.admission_queue import AdmissionQueue
from .._core.session import ViewerSession
from .._core.viewer import Viewer
from .._hosts import discovery
from ..auth import (
    AuthContext,
    Authenticator,
    Principal,
    ViewOnly,
    ask,
    is_forwarded,
    is_local,
    new_token,
    origin_allowed,
    prove,
    same_token,
)
from ..limits import Limits
from ..protocol import CloseCode, Hello, ProtocolError, proof_message
from ..transport import OpeningTransport, Transport
from .stream import Stream
from .viewer import ViewerConnection, viewer_numbers

log = logging.getLogger(__name__)

DEFAULT_STREAM = "default"

_MOST_WARNINGS = 16
_WRONG_TOKEN = "the token is not this hub's"


@dataclass(frozen=True, slots=True)
class ConnectionRequest:
    """A connection that asks for admission: the content of its handshake."""

    path: str
    """Path of the URL, query included."""
    headers: Mapping[str, str]
    """Header values by name in lower case; repeated headers are joined by commas."""
    remote: tuple[str, int] | None
    """Address and port of the peer; None for the unix socket."""
    by_route: bool = False
    """The connection comes through the hub proxy of a notebook server, which has checked the page's origin."""
    stream: str | None = None
    """Name of the stream; None takes it from the path."""
    own_name: bool = False
    """The application that received the request is served under the name in its ``Host`` header."""
    authenticate: Authenticator | None = None
    """The function that admits connections of this listener."""
    principal: Principal = None
    """Set if the handshake alone was enough to authenticate."""

    def with_principal(self, principal: Principal) -> ConnectionRequest:
        return replace(self, principal=principal)

    @property
    def name(self) -> str:
        return self.stream or unquote(self.path.partition("?")[0].strip("/")) or DEFAULT_STREAM

    @property
    def bearer(self) -> str | None:
        """The token in the ``Authorization`` header, which a web page cannot set on a WebSocket."""
        kind, _, token = self.headers.get("authorization", "").partition(" ")
        return token if kind.lower() == "bearer" else None

    @property
    def peer(self) -> str:
        """The address of the client, as far as it is known; else empty."""
        return self.remote[0] if self.remote else self.headers.get(discovery.PEER.lower(), "")

    def context(self, hello: Hello | None) -> AuthContext:
        """The request as an authenticator gets it."""
        cookies = SimpleCookie()
        try:
            cookies.load(self.headers.get("cookie", ""))
        except CookieError:
            log.info("a handshake with cookies that can't be read")
        return AuthContext(
            token=hello.token if hello else None,
            headers=self.headers,
            cookies={name: morsel.value for name, morsel in cookies.items()},
            path=self.path,
            query=dict(parse_qsl(self.path.partition("?")[2])),
            remote=self.remote,
            hello=hello.fields if hello else None,
            stream=self.name,
        )


class Admission:
    """Admits viewers to the streams of one hub. Owned by the hub's loop; any thread may read the tokens."""

    def __init__(self, hub_id: str, streams: Mapping[str, Stream], nowhere: Stream) -> None:
        self.token = new_token()
        self.view_token = new_token()
        self.hub_key = secrets.token_hex(32)
        self.limits = Limits()
        self.origins: frozenset[str] = frozenset()
        self.authenticate: Authenticator | None = None
        self._hub_id = hub_id
        self._streams = streams
        self._nowhere = nowhere
        """A stream of no name, for connections to streams that don't exist."""
        self.asking = AdmissionQueue(lambda: self.limits)
        """Connections that have not finished their HTTP request."""
        self.pending = AdmissionQueue(lambda: self.limits)
        """Pending connections: those that have not said hello."""
        self._inside: set[ViewerConnection] = set()
        self._warned_of: set[str] = set()

    def keep_to(self, limits: Limits) -> None:
        """Apply *limits* from now on, to connected viewers too."""
        self.limits = limits
        for viewer in self._inside:
            viewer.keep_to(limits)

    def allow(self, origins: Iterable[str]) -> None:
        """Allow pages from these *origins* too."""
        self.origins |= frozenset(origins)

    def authenticator(self, name: str) -> Authenticator | None:
        """The function that admits viewers of the stream *name* in place of the tokens; None if tokens decide."""
        stream = self._streams.get(name)
        return (stream.options.authenticate if stream else None) or self.authenticate

    async def receive(self, transport: Transport, request: ConnectionRequest) -> None:
        """Serve the connection until it ends."""
        try:
            self.check_handshake(request)
        except ProtocolError as refused:
            log.info("a connection to %r was refused: %s", request.name[:64], refused)
            await transport.close(refused.code, refused.reason)
            return
        turn = asyncio.Event()
        self.pending.ask(transport, turn.set)
        try:
            await turn.wait()
            await self._receive(transport, request)
        finally:
            self.pending.leave(transport)

    async def _receive(self, transport: Transport, request: ConnectionRequest) -> None:
        # A viewer of no stream has to show its token before it is told so.
        stream = self._streams.get(request.name) or self._nowhere
        authenticate = request.authenticate or self.authenticator(request.name)

        async def meet(hello: Hello) -> None:
            if authenticate and request.principal is None:
                viewer.principal = await ask(authenticate, request.context(hello))

        def authorize(hello: Hello) -> None:
            self._identify(viewer, hello.token or request.bearer, trusted=authenticate is not None)
            self._admit(viewer, stream, request.name)
            self.pending.leave(transport)

        def answer(hello: Hello) -> str:
            nonce = secrets.token_hex(16)
            return proof_message(nonce, prove(self.hub_key, hello.nonce or "", nonce, self._hub_id, request.name))

        local = is_local(request.headers.get("origin"), request.peer)
        hub: dict[str, object] = {"hub": self._hub_id, "version": discovery.package_version()}
        now = asyncio.get_running_loop().time()
        session = ViewerSession(stream.core.state, authorize, now, local, hub, self.limits)
        viewer = Viewer(session, next(viewer_numbers), principal=request.principal)
        connection = ViewerConnection(viewer, OpeningTransport(transport, answer, meet), stream, self.limits)
        self._inside.add(connection)
        try:
            await connection.run()
        finally:
            self._inside.discard(connection)

    def check_handshake(self, request: ConnectionRequest) -> None:
        """Raise `ProtocolError` for a handshake that is refused before the hello."""
        origin, host = request.headers.get("origin"), request.headers.get("host")
        forwarded = request.own_name or is_forwarded(request.headers.keys())
        if not request.by_route and not origin_allowed(origin, host, self.origins, forwarded=forwarded):
            self._warn_of(str(origin))
            raise ProtocolError(CloseCode.BAD_ORIGIN, f"pages from {origin} may not open this stream")
        if self.pending.full:
            raise _over_limit(f"{self.limits.handshakes} connections have not said hello yet, and too many wait")
        if request.authenticate and request.principal is None and "authorization" in request.headers:
            raise ProtocolError(CloseCode.BAD_CREDENTIAL, "the application's authenticator refused the request")
        if (
            request.bearer
            and not (request.authenticate or self.authenticator(request.name))
            and not self._opens(request.bearer)
        ):
            raise ProtocolError(CloseCode.BAD_CREDENTIAL, _WRONG_TOKEN)

    def _warn_of(self, origin: str) -> None:
        # Once per origin: a page that keeps trying must not fill a notebook's output.
        if len(self._warned_of) < _MOST_WARNINGS and origin not in self._warned_of:
            self._warned_of.add(origin)
            if origin == "null":
                log.warning("a page without an origin was refused: it is in a frame with a sandbox, or a file")
            else:
                log.warning("a page from %s was refused; pass origins=[%r] to allow it", origin, origin)

    def _identify(self, viewer: Viewer, token: str | None, *, trusted: bool) -> None:
        """Set the viewer's principal and rights, or raise `ProtocolError`. If *trusted*, an authenticator has
        decided."""
        if trusted:
            if viewer.principal is None:
                raise ProtocolError(CloseCode.BAD_CREDENTIAL, "the application's authenticator refused the viewer")
            if isinstance(viewer.principal, ViewOnly):
                viewer.principal, viewer.view_only = viewer.principal.principal, True
            return
        if not self._opens(token):
            raise ProtocolError(CloseCode.BAD_CREDENTIAL, _WRONG_TOKEN)
        viewer.view_only = same_token(token, self.view_token)
        viewer.token = token

    def _opens(self, token: str | None) -> bool:
        return same_token(token, self.token) or same_token(token, self.view_token)

    def _admit(self, viewer: Viewer, stream: Stream, name: str) -> None:
        if self._streams.get(name) is not stream:  # there was none, or it was closed since it connected
            raise ProtocolError(CloseCode.NO_STREAM, f"there is no stream {name[:64]!r}")
        limits = self.limits
        if len(stream.viewers) >= limits.viewers_per_stream:
            raise _over_limit(f"{limits.viewers_per_stream} viewers look at {name!r} already")
        if sum(len(other.viewers) for other in self._streams.values()) >= limits.viewers_per_hub:
            raise _over_limit(f"the hub has {limits.viewers_per_hub} viewers already")
        if viewer.view_only:
            viewer.session.announcement.hub["view_only"] = True

    async def change_token(self, *, view: bool) -> str:
        """Replace the token, and close the viewers that used the old one with 4401. Returns the new token."""
        token = new_token()
        old = self.view_token if view else self.token
        if view:
            self.view_token = token
        else:
            self.token = token
        known = [(stream, viewer) for stream in self._streams.values() for viewer in stream.viewers]
        reason = CloseCode.BAD_CREDENTIAL, "the token was changed"
        await asyncio.gather(*(stream.close_viewer(viewer, *reason) for stream, viewer in known if viewer.token == old))
        return token


def _over_limit(reason: str) -> ProtocolError:
    return ProtocolError(CloseCode.OVER_LIMIT, reason)
