"""Access control: tokens, the application's own authenticator, and checks of the page's origin."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import inspect
import ipaddress
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from ._system.failures import thrown_in
from ._system.threads import run_apart

log = logging.getLogger(__name__)

Principal: TypeAlias = Any
"""The identity that an authenticator gives a viewer: any object except None."""


@dataclass(frozen=True, slots=True)
class AuthContext:
    """The request that an authenticator decides on. Its repr shows only address and stream: the rest may be secret."""

    token: str | None = field(default=None, repr=False)
    """The token in the viewer's hello, as browsers can't set headers of a WebSocket. `Display.widget` and
    `RemoteFramebufferView` take one; by default, widgets send the hub's."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Headers of the handshake, by name in lower case."""
    cookies: Mapping[str, str] | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)
    """Path of the URL, query included."""
    query: Mapping[str, str] | None = field(default=None, repr=False)
    """Query parameters; the last value of each name."""
    remote: tuple[str, int] | None = None
    """Address and port of the client; None for the unix socket."""
    hello: dict[str, Any] | None = field(default=None, repr=False)
    """The whole hello message; None if the handshake alone is checked (`asgi`)."""
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class ViewOnly:
    """Returned by an authenticator for a principal that may only watch."""

    principal: Principal = None


Authenticator: TypeAlias = Callable[[AuthContext], Principal | Awaitable[Principal]]
"""Returns a principal, or None to refuse. A coroutine function runs in the hub's loop; any other runs in a thread, so
it may block. An error that it raises is logged, and refuses the viewer."""


async def ask(authenticate: Authenticator, context: AuthContext) -> Principal | None:
    """The principal that *authenticate* returns for *context*; None if it refuses or fails."""
    try:
        if inspect.iscoroutinefunction(authenticate):
            return await authenticate(context)
        answer = await asyncio.wrap_future(run_apart(authenticate, context, name="rfb-authenticator"))
        return await answer if inspect.isawaitable(answer) else answer
    except BaseException as error:  # SystemExit would end the hub's loop
        if thrown_in(error):
            raise
        log.exception("the authenticator failed, which refuses a viewer of %r", context.stream)
        return None


def new_token() -> str:
    """A new token of 192 random bits, safe in a URL."""
    return secrets.token_urlsafe(24)


def same_token(given: str | None, token: str) -> bool:
    """True if *given* equals *token*, compared in constant time."""
    return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), token.encode())


def prove(key: str, client_nonce: str, hub_nonce: str, hub: str, stream: str) -> str:
    """The ``mac`` of `rfb/proof`: proves that the sender has the *key* (hex digits) of the *hub* at this moment.

    HMAC-SHA256, in hex, of both nonces, the hub's id and the stream's name, one per line.
    """
    said = "\n".join((client_nonce, hub_nonce, hub, stream))
    return hmac.new(bytes.fromhex(key), said.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def check_origin(origin: object) -> str:
    """*origin* as browsers send it. Raises `TypeError` or `ValueError` for a value that can never match."""
    wanted = "an origin is a string like 'https://host' or 'https://host:port'"
    if not isinstance(origin, str):
        raise TypeError(f"{wanted}, not {origin!r}")
    parts = urlsplit(origin)
    if not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"{wanted}, not {origin!r}")
    return origin.lower()


def is_loopback(host: str) -> bool:
    """True if *host*, a name or an address without brackets, can only mean this machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str], *, forwarded: bool = False) -> bool:
    """True if a page from *origin* may open a stream at *host* (the handshake's ``Origin`` and ``Host`` headers).

    Allowed are: no origin at all (not a browser), pages of this machine, the hub's own page if it was reached by
    address, the webviews of VS Code, and *allowed*. A name in ``Host`` proves nothing, since a hostile page can make
    its own name resolve to this machine; a hub served under a name needs that name in *allowed*. If a proxy has
    *forwarded* the handshake, the name is the proxy's: a page can't forge the headers that show this.
    """
    if origin is None or origin in allowed:
        return True
    try:
        parts = urlsplit(origin)
        name = parts.hostname or ""
    except ValueError:
        return False
    if parts.scheme == "vscode-webview":
        return True
    if parts.scheme not in ("http", "https"):
        return False
    return is_loopback(name) or (parts.netloc == host and (forwarded or _is_address(name)))


def host_allowed(host: str | None, allowed: Collection[str]) -> bool:
    """True if *host*, a ``Host`` header, is a known name of this machine: an address, ``localhost``, its own name, or
    that of an *allowed* origin. A hostile page may have a name of its own that resolves to this machine."""
    if host is None:
        return True
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        _ = parts.port  # raises if several headers were joined
    except ValueError:
        return False
    own = socket.gethostname().lower()
    if is_loopback(name) or _is_address(name) or name in (own, f"{own}.local"):
        return True
    return any(name == urlsplit(origin).hostname for origin in allowed)


def is_forwarded(names: Collection[str]) -> bool:
    """True if the header *names*, in lower case, include one that a proxy adds."""
    return any(name in ("forwarded", "via") or name.startswith("x-forwarded-") for name in names)


def is_local(origin: str | None, peer: str) -> bool:
    """True if a page from *origin* and the address *peer* that it connects from are on this machine.

    A forwarded port looks the same: only its measured rate can reveal it.
    """
    return is_loopback(peer) and (origin is None or is_loopback(urlsplit(origin).hostname or ""))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
