"""A viewer made of a WebSocket and the wire's own words, and what tests ask of it."""

from __future__ import annotations

import asyncio
import io
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

import pdum_rfb_widget as rfb
from pdum_rfb_widget.protocol import unpack_binary_message

T = TypeVar("T")


class RawViewer:
    """A viewer made of a WebSocket and `wire.md`. A context manager that leaves."""

    def __init__(
        self,
        display: rfb.Display | None = None,
        *supported: str,
        token: str | None = None,
        url: str | None = None,
        **connection: Any,
    ) -> None:
        self._connections = ExitStack()
        self._connection = {"compression": None, "max_size": None} | connection
        assert display or (url and token), "a display, or where it is and what opens it"
        self.connect(url or (display.ws_url if display else ""))
        self.hello = {
            "type": "hello",
            "supported": supported or ("image/jpeg",),
            "device_pixel_ratio": 1.0,
            "token": display.server.token if display and token is None else token,
        }

    def __enter__(self) -> RawViewer:
        return self

    def __exit__(self, *exc: object) -> None:
        self._connections.close()

    def connect(self, url: str, **connection: Any) -> None:
        """Connect to *url*, instead of the display's own."""
        self._connections.close()
        self.socket = self._connections.enter_context(connect(url, **self._connection | connection))

    def say(self, **message: Any) -> None:
        self.socket.send(json.dumps(message))

    def greet(self) -> dict[str, Any]:
        """Say hello; the config that answers."""
        self.say(**self.hello)
        return self.hear("config")

    def hear(self, kind: str) -> dict[str, Any]:
        """The next text message of this *kind*; any other is skipped."""
        while True:
            message = self.socket.recv(timeout=60)
            if isinstance(message, str) and (parsed := json.loads(message))["type"] == kind:
                return dict(parsed)

    def see(self, *, ack: bool = True, timeout: float = 60) -> tuple[dict[str, Any], bytes]:
        """Header and bytes of the next payload, acknowledged at once."""
        while isinstance(message := self.socket.recv(timeout=timeout), str):
            pass
        header, payload = unpack_binary_message(message)
        if ack:
            self.ack(header["seq"])
        return header, payload

    def ack(self, seq: int) -> None:
        self.say(type="ack", seq=seq, decode_queue_size=0, displayed=True)


def in_thread(coroutine: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run *coroutine* in an event loop of its own; the browser's driver has one in this thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(asyncio.run(coroutine()))
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(60)
    if errors:
        raise errors[0]
    return results[0]


def grey(value: int, width: int = 64, height: int = 48) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.full((height, width, 3), value, np.uint8)


def value_of(payload: bytes) -> int:
    """The value of a `grey` picture."""
    return round(float(np.asarray(Image.open(io.BytesIO(payload)).convert("L")).mean()))


def closed(viewer: RawViewer, timeout: float = 60) -> tuple[int, str]:
    """Code and reason of the close that the viewer gets."""
    with pytest.raises(ConnectionClosed) as caught:
        read_on(viewer, timeout)
    received = caught.value.rcvd
    assert received is not None, "the connection broke off without a close"
    return received.code, received.reason


def read_on(viewer: RawViewer, timeout: float) -> None:
    while True:
        viewer.socket.recv(timeout=timeout)


def page_says(widget: Any, **content: Any) -> None:
    """Let the *widget* hear this from its page."""
    widget.comm.handle_msg({"content": {"data": {"method": "custom", "content": content}}, "buffers": []})


def unacknowledged(display: rfb.Display) -> list[int]:
    """How many payloads each viewer, from the oldest on, has not acknowledged yet."""
    return [client["inflight"] for client in display.status()["clients"]]


def get(display: rfb.Display, path: str, bearer: str = "") -> tuple[int, str]:
    """Status and text of the hub's answer to a plain GET."""
    request = urllib.request.Request(f"http://127.0.0.1:{display.port}{path}")
    if bearer:
        request.add_header("Authorization", f"Bearer {bearer}")
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
