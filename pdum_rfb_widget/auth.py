"""Who may connect: tokens, the application's own authenticator, and where the page that asks comes from."""

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
"""Whoever an authenticator says that a viewer is: any object but None."""


@dataclass(frozen=True, slots=True)
class AuthContext:
    """What an authenticator may look at. All but address and stream may hold secrets, and stay out of its repr."""

    token: str | None = field(default=None, repr=False)
    """Of the viewer's hello: browsers can't set headers of a WebSocket. `Display.widget` and `RemoteFramebufferView`
    take one; without one of their own, widgets send the hub's."""
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """Of the handshake, their names in lower case."""
    cookies: Mapping[str, str] | None = field(default=None, repr=False)
    path: str | None = field(default=None, repr=False)
    """With its query."""
    query: Mapping[str, str] | None = field(default=None, repr=False)
    """The last value of each name."""
    remote: tuple[str, int] | None = None
    """The address that connected, None for the unix socket."""
    hello: dict[str, Any] | None = field(default=None, repr=False)
    """The whole first message; None where the handshake alone is asked about (`asgi`)."""
    stream: str | None = None


@dataclass(frozen=True, slots=True)
class ViewOnly:
    """What an authenticator returns for a principal who may look and not touch."""

    principal: Principal = None


Authenticator: TypeAlias = Callable[[AuthContext], Principal | Awaitable[Principal]]
"""Returns a principal, or None to refuse. A coroutine function runs in the hub's loop; any other in a thread, so that
it may wait. What it raises is logged, and refuses."""


async def ask(authenticate: Authenticator, context: AuthContext) -> Principal | None:
    """What *authenticate* says of *context*."""
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
    """A token nobody guesses: 192 random bits, safe in a URL."""
    return secrets.token_urlsafe(24)


def same_token(given: str | None, token: str) -> bool:
    """Whether *given* is *token*, in a time that tells nothing about where they differ."""
    return hmac.compare_digest((given or "").encode("utf-8", "surrogatepass"), token.encode())


def prove(key: str, client_nonce: str, hub_nonce: str, hub: str, stream: str) -> str:
    """The ``mac`` of `rfb/proof`: who knows it knows the *key*, hex digits, of the *hub*, and has it at this very time.

    HMAC-SHA256, in hex, of both nonces, the hub's id and the stream's name, a line each.
    """
    said = "\n".join((client_nonce, hub_nonce, hub, stream))
    return hmac.new(bytes.fromhex(key), said.encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()


def check_origin(origin: object) -> str:
    """*origin* as browsers send it; raises `TypeError` or `ValueError` for what can never match."""
    wanted = "an origin is a string like 'https://host' or 'https://host:port'"
    if not isinstance(origin, str):
        raise TypeError(f"{wanted}, not {origin!r}")
    parts = urlsplit(origin)
    if not parts.netloc or origin != f"{parts.scheme}://{parts.netloc}":
        raise ValueError(f"{wanted}, not {origin!r}")
    return origin.lower()


def is_loopback(host: str) -> bool:
    """Whether *host*, a name or an address without brackets, means this machine and cannot mean another."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str], *, forwarded: bool = False) -> bool:
    """Whether a page from *origin* may open a stream at *host* (the handshake's ``Origin`` and ``Host`` headers).

    Allowed are: no origin at all (not a browser), pages of this machine, the hub's own page when it was reached by
    address, the webviews of VS Code, and *allowed*. A name in ``Host`` proves nothing, since a hostile page can have
    its own name resolve to this machine; who serves under a name passes it in *allowed*. Only where a proxy has
    *forwarded* the handshake was that name the proxy's: a page can't make its WebSocket say so.
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
    """Whether *host*, a ``Host`` header, is a name that this machine is known to have: an address, ``localhost``, its
    own name, or that of an *allowed* origin. A hostile page may have a name of its own that leads here."""
    if host is None:
        return True
    try:
        parts = urlsplit(f"//{host}")
        name = parts.hostname or ""
        _ = parts.port  # where several names came together there is none
    except ValueError:
        return False
    own = socket.gethostname().lower()
    if is_loopback(name) or _is_address(name) or name in (own, f"{own}.local"):
        return True
    return any(name == urlsplit(origin).hostname for origin in allowed)


def is_forwarded(names: Collection[str]) -> bool:
    """Whether a proxy has put a header of its own among these, in lower case."""
    return any(name in ("forwarded", "via") or name.startswith("x-forwarded-") for name in names)


def is_local(origin: str | None, peer: str) -> bool:
    """Whether a page from *origin* and the *peer* that it connects from are of this machine.

    A forwarded port looks the same from here: its rate has to tell.
    """
    return is_loopback(peer) and (origin is None or is_loopback(urlsplit(origin).hostname or ""))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
