"""What tests share: a hub that is closed after each, viewers that speak the wire themselves, one browser for all."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from typing import Any, TypeVar

import pytest
from hosts import chromium
from playwright.sync_api import Browser, Page
from websockets.sync.client import connect

import pdum_rfb_widget as rfb
from pdum_rfb_widget import server
from pdum_rfb_widget.protocol import unpack_binary_message

T = TypeVar("T")


@pytest.fixture(autouse=True)
def _close_hub() -> Iterator[None]:
    yield
    if server._hub:
        server._hub.close()


@pytest.fixture
def display() -> rfb.Display:
    return rfb.serve(64, 48, port=0)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    try:
        context = chromium()
        launched = context.__enter__()
    except Exception as error:
        pytest.skip(f"not run, no browser starts here: {error}")
    yield launched
    context.__exit__(None, None, None)


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own, which must not report an error."""
    context = browser.new_context(viewport={"width": 900, "height": 700})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    context.close()
    assert not errors


class RawViewer:
    """A viewer made of a WebSocket and `wire.md`. A context manager that leaves."""

    def __init__(self, display: rfb.Display, *supported: str, token: str | None = None, **connection: Any) -> None:
        self._connections = ExitStack()
        self._connection = {"compression": None, "max_size": None} | connection
        self.connect(display.ws_url)
        self.hello = {
            "type": "hello",
            "supported": supported or ("image/jpeg",),
            "device_pixel_ratio": 1.0,
            "token": display.server.token if token is None else token,
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
            message = self.socket.recv(timeout=10)
            if isinstance(message, str) and (parsed := json.loads(message))["type"] == kind:
                return dict(parsed)

    def see(self, *, ack: bool = True, timeout: float = 10) -> tuple[dict[str, Any], bytes]:
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
