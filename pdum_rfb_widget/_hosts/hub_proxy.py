"""The hub proxy: forwards pages of a notebook server to a hub. Shared by `jupyter` and `marimo`.

The server authenticates the page and checks its origin first. The hub is found by its id among this user's runtime
files, and reached over its unix socket. It receives the address of the page, and never the credentials of the server:
no cookie, no Authorization, no query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from . import discovery
from .discovery import HubFile

PREFIX = "pdum-rfb"
"""The URL is ``<base>pdum-rfb/<hub id>/<stream>``, a WebSocket; with ``health`` as the stream, a plain GET."""

TIMEOUT = 10.0
"""Seconds for a hub to accept a connection and to respond: its process may hold the GIL for long."""

CHUNK = 256 * 1024
"""Most bytes buffered here in each direction; everything beyond waits in the hub's window."""

_PASSED_ON = ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol")


class Refusal(Exception):
    """The reason that a hub can't be reached: an HTTP status, and a sentence for the person at the page."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{status} {sentence}")
        self.status = status
        self.sentence = sentence


def look_up(hub: str, stream: str) -> HubFile:
    """The running hub with this id. Raises `Refusal` with 400 for invalid names, 404 for an unknown hub, 502 for one
    that has ended or runs elsewhere."""
    if not discovery.HUB_ID.fullmatch(hub):
        raise Refusal(400, "a hub's id is 16 hex digits")
    if not discovery.STREAM_NAME.fullmatch(stream):
        raise Refusal(400, "a stream's name is 1 to 64 letters, digits, '.', '_', '~' or '-'")
    found = discovery.find(hub)
    if found is None:
        here = discovery.machine()
        sentence = f"no such hub on {here}: run the notebook again; or its kernel is another user's or machine's"
        raise Refusal(404, sentence)
    if not found.here:
        raise Refusal(
            502, f"the kernel runs on {found.machine}, this server on {discovery.machine()}: no way leads there"
        )
    if not found.alive:
        discovery.sweep()
        if found.foreign:
            raise Refusal(
                502,
                "the kernel runs in another container than this server: set PDUM_RFB_RUNTIME_DIR to a folder of both",
            )
        raise Refusal(502, "the process of this hub has ended; run the notebook again")
    return found


async def connect(hub: HubFile) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect to *hub*. Raises `Refusal` with 502."""
    try:
        async with asyncio.timeout(TIMEOUT):
            if hub.socket:
                return await asyncio.open_unix_connection(hub.socket, limit=CHUNK)
            return await asyncio.open_connection(hub.host, hub.port, limit=CHUNK)
    except OSError as error:
        raise Refusal(502, f"the hub takes no connection: {error.strerror or type(error).__name__}") from None


async def ask(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, target: str, headers: Mapping[str, str]
) -> tuple[int, bytes]:
    """Send the head of a GET for *target*. Returns the status and the whole head of the response. Raises `Refusal`
    with 502, or with 400 for a header that contains a line break."""
    lines = [f"GET {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    head = "".join(f"{line}\r\n" for line in lines)
    if head.count("\n") != len(lines) or head.count("\r") != len(lines):
        raise Refusal(400, "a header holds a line's end")
    try:
        async with asyncio.timeout(TIMEOUT):
            writer.write(f"{head}\r\n".encode("latin-1", "replace"))
            answer = await reader.readuntil(b"\r\n\r\n")
            return int(answer.split(maxsplit=2)[1]), answer
    except (OSError, EOFError, ValueError, IndexError, asyncio.LimitOverrunError) as error:
        raise Refusal(502, f"the hub doesn't answer: {type(error).__name__}") from None


def upgrade_head(asked: Mapping[str, str], hub: HubFile, peer: str) -> dict[str, str]:
    """The headers of the handshake to the hub: from the page's, *asked*, only those that WebSockets need."""
    named = {name: asked[name] for name in _PASSED_ON if asked.get(name)}
    return {"Host": "localhost", "Connection": "Upgrade", "Upgrade": "websocket"} | named | sender(asked, hub, peer)


def sender(asked: Mapping[str, str], hub: HubFile, peer: str) -> dict[str, str]:
    """Headers with the page's address, by which a hub recognizes pages of its own machine. None for TCP, where the
    hub would check the origin, which the server has done."""
    if not hub.socket:
        return {}
    origin = asked.get("Origin")
    return {discovery.PEER: peer} | ({"Origin": origin} if origin else {})


def target_of(stream: str) -> str:
    return f"/{quote(stream)}"


def is_upgrade(headers: Mapping[str, str]) -> bool:
    return "websocket" in headers.get("Upgrade", "").lower()


def same_origin(origin: str | None, host: str | None) -> bool:
    """True if a page from *origin* belongs to the server that it reaches as *host*. No origin means no browser, which
    is allowed."""
    if origin is None:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()
    except ValueError:
        return False


NO_UPGRADE = Refusal(
    426, "the hub is there, and this address takes WebSockets only: a proxy on the way has dropped the Upgrade header"
)
