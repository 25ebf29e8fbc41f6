"""The way from a notebook's own server to a hub: what `jupyter` and `marimo` share.

The server has authenticated the page and checked its origin before anything here is asked. A hub is found by its id
among this user's runtime files, and reached over its unix socket. It hears where the page comes from, and never what
opened the server: no cookie, no Authorization, no query.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from urllib.parse import quote, urlsplit

from . import discovery
from .discovery import HubFile

PREFIX = "pdum-rfb"
"""The route is ``<base>pdum-rfb/<hub id>/<stream>``, a WebSocket; ``health`` in place of the stream, a plain GET."""

TIMEOUT = 10.0
"""Seconds for a hub to take a connection and to answer: its process may hold the GIL for long."""

CHUNK = 256 * 1024
"""Bytes on their way through at once, each way; what lies ahead of them waits in the hub's window."""

_PASSED_ON = ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Protocol")


class Refusal(Exception):
    """Why there is no way: an HTTP status, and a sentence for the person at the page."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(f"{status} {sentence}")
        self.status = status
        self.sentence = sentence


def look_up(hub: str, stream: str) -> HubFile:
    """The living hub of this id. Raises `Refusal` with 400 for names that can't be, 404 for a hub that nobody knows,
    502 for one that is dead or elsewhere."""
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
    """A connection to the *hub*. Raises `Refusal` with 502."""
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
    """Send the head of a GET for *target*; the status and the whole head of the answer. Raises `Refusal` with 502."""
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
    """The headers of the handshake, rebuilt: of what was *asked* only what WebSockets need."""
    named = {name: asked[name] for name in _PASSED_ON if asked.get(name)}
    return {"Host": "localhost", "Connection": "Upgrade", "Upgrade": "websocket"} | named | sender(asked, hub, peer)


def sender(asked: Mapping[str, str], hub: HubFile, peer: str) -> dict[str, str]:
    """Where the page comes from, by which a hub knows its own machine's pages. By TCP it would check the origin, which
    the server has done."""
    if not hub.socket:
        return {}
    origin = asked.get("Origin")
    return {discovery.PEER: peer} | ({"Origin": origin} if origin else {})


def target_of(stream: str) -> str:
    return f"/{quote(stream)}"


def is_upgrade(headers: Mapping[str, str]) -> bool:
    return "websocket" in headers.get("Upgrade", "").lower()


def same_origin(origin: str | None, host: str | None) -> bool:
    """Whether a page from *origin* is one of the server that it reaches as *host*; no browser, no origin."""
    if origin is None:
        return True
    try:
        return bool(host) and urlsplit(origin).netloc.lower() == (host or "").lower()
    except ValueError:
        return False


NO_UPGRADE = Refusal(
    426, "the hub is there, and this address takes WebSockets only: a proxy on the way has dropped the Upgrade header"
)
