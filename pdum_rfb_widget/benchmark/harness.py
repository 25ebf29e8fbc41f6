"""The benchmark's page and its servers on loopback: files over HTTP; the clock, the floor and the bare pipeline over
WebSockets."""

from __future__ import annotations

import queue
import struct
import threading
from collections.abc import Callable
from contextlib import ExitStack, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import Server, ServerConnection, serve

from .._hub.web_page import BUNDLE
from ..types import Pixels
from .publishing import now

_HERE = Path(__file__).parent
_TYPES = {".html": "text/html; charset=utf-8", ".js": "text/javascript"}
_PINGS = 30
_PATIENCE = 10.0


class Harness:
    """The servers that a measuring page needs besides the hub. A context manager that stops them."""

    def __init__(self) -> None:
        files = (BUNDLE, *_HERE.glob("*.html"), *_HERE.glob("*.js"))
        self._files = {path.name: path.read_bytes() for path in files}
        self._connections: dict[str, queue.SimpleQueue[Socket]] = {
            name: queue.SimpleQueue() for name in ("clock", "floor", "bare")
        }
        self._end = ExitStack()
        self._pages = self._serve_pages()
        self._sockets = self._serve_sockets()

    def __enter__(self) -> Harness:
        return self

    def __exit__(self, *exc: object) -> None:
        self._end.close()

    @property
    def page(self) -> str:
        """The page's address."""
        return self.address("watch.html")

    def address(self, name: str) -> str:
        """The address of a file of this folder."""
        return f"http://127.0.0.1:{self._pages.server_port}/{name}"

    def socket(self, name: str) -> str:
        """The address of the ``clock``, the ``floor`` or the ``bare`` pipeline."""
        return f"ws://127.0.0.1:{self._sockets.socket.getsockname()[1]}/{name}"

    def expected(self, pixels: Pixels) -> str:
        """The address from which the page fetches *pixels*, (height, width, 3), as RGBA."""
        opaque = np.full((*pixels.shape[:2], 4), 255, np.uint8)
        opaque[..., :3] = pixels
        self._files["expected"] = opaque.tobytes()
        return self.address("expected")

    def clock_offset(self) -> float:
        """The page's clock minus ours, in seconds, by the fastest of 30 round trips over the ``clock``."""
        socket = self.connected("clock")
        offsets = []
        for _ in range(_PINGS):
            asked = now()
            socket.send("?")
            answered, answer = socket.hear()
            offsets.append((answered - asked, float(answer) / 1000 - (asked + answered) / 2))
        return min(offsets)[1]

    def floor(self) -> Callable[[int], None]:
        """Wait until the page's floor is connected, and return a function that sends it a number."""
        socket = self.connected("floor")
        return lambda number: socket.send(struct.pack("<II", number, 0))

    def connected(self, name: str) -> Socket:
        """Wait until the page has opened the socket *name*, and return it."""
        return self._connections[name].get(timeout=_PATIENCE)

    # Servers ----------------------------------------------------------------------------------------------------------

    def _serve_pages(self) -> ThreadingHTTPServer:
        files = self._files

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                name = self.path.strip("/")
                body = files.get(name)
                self.send_response(404 if body is None else 200)
                self.send_header("Content-Type", _TYPES.get(Path(name).suffix, "application/octet-stream"))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, format: str, *args: Any) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._run(server)
        self._end.callback(server.server_close)
        return server

    def _serve_sockets(self) -> Server:
        server = serve(self._welcome, "127.0.0.1", 0, compression=None)
        self._run(server)
        return server

    def _run(self, server: ThreadingHTTPServer | Server) -> None:
        thread = threading.Thread(target=server.serve_forever, name="benchmark-harness", daemon=True)
        thread.start()
        self._end.callback(thread.join, 5)
        self._end.callback(server.shutdown)

    def _welcome(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        waiting = self._connections.get(connection.request.path.strip("/"))
        if waiting is not None:
            socket = Socket(connection)
            waiting.put(socket)
            socket.listen()


class Socket:
    """One WebSocket to the page."""

    def __init__(self, connection: ServerConnection) -> None:
        self._connection = connection
        self._heard: queue.SimpleQueue[tuple[float, str | bytes]] = queue.SimpleQueue()

    def listen(self) -> None:
        """Receive until the page closes; in the server's own thread, so that each message gets its time at once."""
        with suppress(ConnectionClosed):
            for message in self._connection:
                self._heard.put((now(), message))

    def send(self, message: str | bytes) -> None:
        self._connection.send(message)

    def hear(self) -> tuple[float, str | bytes]:
        """The next message and its time of arrival."""
        return self._heard.get(timeout=_PATIENCE)

    def heard(self) -> int:
        """Number of messages that have arrived and were not yet read; reads them."""
        count = self._heard.qsize()
        for _ in range(count):
            self._heard.get_nowait()
        return count
