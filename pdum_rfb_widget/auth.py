"""Who may connect: the hub's token, and where the page that asks comes from."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import secrets
from collections.abc import Collection
from urllib.parse import urlsplit


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


def origin_allowed(origin: str | None, host: str | None, allowed: Collection[str]) -> bool:
    """Whether a page from *origin* may open a stream at *host* (the handshake's ``Origin`` and ``Host`` headers).

    Allowed are: no origin at all (not a browser), pages of this machine, the hub's own page when it was reached by
    address, the webviews of VS Code, and *allowed*. A name in ``Host`` proves nothing, since a hostile page can have
    its own name resolve to this machine; who serves under a name passes it in *allowed*.
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
    return is_loopback(name) or (parts.netloc == host and _is_address(name))


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
