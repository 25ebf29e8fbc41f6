"""The hub's listeners: TCP ports, a unix socket that only this user can open, and the file that announces them.

All of it belongs to the hub's loop, except `port`, `address` and `private`, which any thread may read.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
from functools import partial
from pathlib import Path
from typing import Any

from websockets.asyncio.server import Server as Listener
from websockets.asyncio.server import ServerConnection
from websockets.asyncio.server import serve as listen
from websockets.asyncio.server import unix_serve as listen_on_socket
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from .._hosts import discovery
from ..limits import HELLO_TIMEOUT
from ..transport import LimitedConnection, WebSocketTransport
from .admission import Admission, ConnectionRequest
from .http_api import HttpApi

log = logging.getLogger(__name__)
# Records of websockets below WARNING contain headers and messages, and so tokens.
_websocket_log = logging.getLogger(f"{__package__}.websocket")
_websocket_log.setLevel(logging.WARNING)

OTHER_FOLDER = "Set PDUM_RFB_RUNTIME_DIR to a folder of yours on a local disk, of at most 80 characters"
WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Loopback addresses, by the address that stands for all of the same kind."""


class Listeners:
    """The listeners of one hub. Connections go to *admission*, plain HTTP requests to the HTTP API *answers*."""

    def __init__(self, hub_id: str, admission: Admission, answers: HttpApi) -> None:
        self.socket_path = ""
        """Path of the unix socket; empty if there is none."""
        self._hub_id = hub_id
        self._admission = admission
        self._answers = answers
        self._started = discovery.started(os.getpid())
        self._ports: dict[tuple[str, int], Listener] = {}
        self._private: Listener | None = None
        self._opening = asyncio.Lock()
        self._folder: Path | None = None
        self._pages: set[Path] = set()

    @property
    def port(self) -> int:
        """The TCP port of the first listener, 0 while there is none."""
        return next((port for _, port in list(self._ports)), 0)

    def address(self, wanted: tuple[str, int] | None = None) -> tuple[str, int]:
        """Host and port at which a browser on this machine reaches the listener *wanted*, by default the first."""
        listeners = list(self._ports)  # the hub's loop may add one meanwhile
        if not listeners:
            raise RuntimeError("the hub listens on no TCP port: it was closed, or serve() was told tcp=False")
        host, port = wanted or listeners[0]
        return WILDCARDS.get(host, host), port

    @property
    def private(self) -> bool:
        """True if the hub listens on a unix socket that only this user's processes can open."""
        return os.path.exists(self.socket_path)  # a cleaner of temporary files may have deleted it

    async def open(self, host: str, port: int | None) -> tuple[str, int]:
        """Listen on *host*:*port* unless it does already, and return the address. With None, any port of *host* that is
        open already, else any free one."""
        if host == "localhost":
            host = "127.0.0.1"  # the name can mean two addresses, and so two free ports
        async with self._opening:
            for there in self._ports:
                if there[0] == host and port in (None, 0, there[1]):
                    return there
                if there[0] in WILDCARDS and port == there[1]:
                    return there
            return await self._bind(host, port)

    async def _bind(self, host: str, port: int | None) -> tuple[str, int]:
        try:
            _check_loopback(host)
            listener = await listen(self._welcome, host, port or 0, **self._settings())
        except OSError as error:
            raise OSError(error.errno, f"can't listen on {host}:{port or 0}: {_reason(error)}") from None
        bound = (host, int(next(iter(listener.sockets)).getsockname()[1]))
        self._ports[bound] = listener
        self._tell_where()
        return bound

    async def open_private(self) -> None:
        """Listen on a unix socket that only this user's processes can open, and announce it to hub proxies."""
        discovery.sweep()
        try:
            self._folder = discovery.own_folder()
            if os.name == "posix":
                await self._bind_privately(self._folder)
        except OSError as error:
            log.warning(
                "notebook servers can't lead pages to this hub, only its TCP port can: %s. %s", error, OTHER_FOLDER
            )
        self._tell_where()

    async def _bind_privately(self, folder: Path) -> None:
        """Listen on a unix socket in the first place that allows one. Raises `OSError` with the reasons if none."""
        reasons = []
        for path in discovery.socket_paths(folder, self._hub_id):
            try:
                welcome = partial(self._welcome, by_route=True)
                self._private = await listen_on_socket(welcome, str(path), **self._settings(by_route=True))
                self.socket_path = str(path)
                return
            except OSError as error:
                path.unlink(missing_ok=True)
                reasons.append(f"{path.parent} takes no socket: {error.strerror or error}")
        raise OSError("; ".join(reasons) or f"the path of {folder} is too long for a socket")

    def _tell_where(self) -> None:
        if self._folder:
            try:
                discovery.write(self._folder, self._file())
            except OSError as error:
                log.warning("notebook servers can't find this hub, only its TCP port leads to it: %s", error)

    def _file(self) -> discovery.HubFile:
        host, port = self.address() if self._ports else ("", 0)
        where = discovery.machine(), self.socket_path, host, port
        return discovery.HubFile(self._hub_id, os.getpid(), self._started, *where, discovery.package_version())

    def redirect(self, url: str, name: str) -> Path:
        """Write an HTML file that redirects a browser to *url*. Only this user can read it; the hub deletes it when it
        closes. Raises `OSError` if there is no folder for it."""
        page = discovery.redirect(self._folder or discovery.own_folder(), f"{name}-{self._hub_id}", url)
        self._pages.add(page)
        return page

    def answer(self, connection: ServerConnection, request: Request, *, by_route: bool = False) -> Response | None:
        """The response to a plain HTTP *request*; None for a WebSocket handshake, which continues."""
        return self._answers(request, by_route=by_route)

    def forget(self) -> None:
        """Delete the hub's file and its redirect pages."""
        if self._folder:
            discovery.forget(self._file())
        for page in self._pages:
            page.unlink(missing_ok=True)

    def close(self) -> None:
        """Stop listening."""
        for listener in (*self._ports.values(), *filter(None, [self._private])):
            listener.close()
        self._ports.clear()

    def _settings(self, *, by_route: bool = False) -> dict[str, Any]:
        def connect(protocol: ServerProtocol, listener: Listener, **settings: Any) -> LimitedConnection:
            return LimitedConnection(
                protocol, listener, limits=self._admission.limits, turns=self._admission.asking, **settings
            )

        return dict(
            process_request=partial(self.answer, by_route=by_route),
            create_connection=connect,
            compression=None,  # pixels are compressed already: 5 ms per 200 KB for no gain
            open_timeout=HELLO_TIMEOUT,
            ping_interval=20,
            ping_timeout=60,  # a kernel that holds the GIL for long must keep its viewers
            close_timeout=2,
            server_header=None,
            logger=_websocket_log,
        )

    async def _welcome(self, socket: ServerConnection, by_route: bool = False) -> None:
        """Serve one WebSocket. *by_route*: it came over the unix socket, from a hub proxy that checked the origin."""
        request = socket.request
        assert request is not None
        headers = {name.lower(): ", ".join(request.headers.get_all(name)) for name in request.headers}
        remote = None if by_route else socket.remote_address[:2]
        await self._admission.receive(
            WebSocketTransport(socket), ConnectionRequest(request.path, headers, remote, by_route)
        )


def _check_loopback(host: str) -> None:
    """Raise `OSError` if a wildcard *host* has no loopback address: ``::`` binds even without IPv6."""
    if loopback := WILDCARDS.get(host):
        with socket.socket(socket.AF_INET6 if ":" in loopback else socket.AF_INET) as probe:
            probe.bind((loopback, 0))


def _reason(error: OSError) -> str:
    """Why a port can't be opened, and what to do about it."""
    if error.errno == errno.EADDRINUSE:
        return "another process has the port. End it, or take any free port: port=0"
    if error.errno == errno.EACCES:
        return "this user may not open the port. Take one above 1023, or any free port: port=0"
    hosts = "127.0.0.1, 0.0.0.0 for all of them, or where there is IPv6 ::1 and ::"
    return f"{error.strerror or error}. The host is an address of this machine: {hosts}"
