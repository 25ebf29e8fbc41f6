"""The way to a hub through a real marimo server, and what its sessions leave behind; no browser."""

from __future__ import annotations

import json
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hosts import Marimo, wait_for
from installed import python_path
from private_hub import PrivateHub, fill, resident
from viewers import RawViewer, closed, grey, read_on, value_of
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

import pdum_rfb_widget as rfb

NOTEBOOK = """
import marimo

app = marimo.App()


@app.cell
def _():
    import json
    import os

    import numpy as np
    import pdum_rfb_widget as rfb

    display = rfb.serve(64, 48, tcp=False)
    display.publish(np.full((48, 64, 3), 99, np.uint8))
    with open(os.environ["RFB_TEST_MADE"], "a") as made:
        json.dump({"hub": display.server.hub_id, "stream": display.name, "token": display.server.token}, made)
        made.write("\\n")
    return


if __name__ == "__main__":
    app.run()
"""


class RoutedMarimo(Marimo):
    """marimo with this package's entry points, as an install gives them, whatever is installed."""

    def command(self) -> list[str]:
        return [*super().command(), "--session-ttl=1" if self.mode == "run" else "--no-skew-protection"]

    def environment(self) -> dict[str, str]:
        return super().environment() | {
            "PYTHONPATH": python_path(self.home),
            "RFB_TEST_MADE": str(self.home / "made.jsonl"),
        }

    @property
    def made(self) -> list[dict[str, str]]:
        """Of every display that the notebook has made: its hub, its name and its token."""
        file = self.home / "made.jsonl"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def address(self, hub: str, stream: str, token: bool = True) -> str:
        query = f"?access_token={self.token}" if token else ""
        return f"ws://127.0.0.1:{self.port}/pdum-rfb/{hub}/{stream}{query}"

    def visit(self, session: str) -> ClientConnection:
        """A page's own connection to marimo, that begins a session."""
        query = f"session_id={session}&access_token={self.token}"
        return connect(f"ws://127.0.0.1:{self.port}/ws?{query}", max_size=None)

    def get(self, hub: str, stream: str, token: bool = True) -> tuple[int, str]:
        try:
            address = self.address(hub, stream, token).replace("ws:", "http:")
            with urllib.request.urlopen(address, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()


@contextmanager
def marimo(home: Path, mode: str) -> Iterator[RoutedMarimo]:
    (home / "notebooks").mkdir(parents=True)
    (home / "notebooks" / "app.py").write_text(NOTEBOOK)
    with RoutedMarimo(home, mode, "app.py") as started:
        yield started


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RoutedMarimo]:
    with marimo(tmp_path_factory.mktemp("marimo"), "run") as started:
        yield started


@pytest.fixture
def private() -> rfb.Display:
    return rfb.serve(64, 48, tcp=False)


def through(app: RoutedMarimo, display: rfb.Display, **how: Any) -> RawViewer:
    return RawViewer(display, url=app.address(display.server.hub_id, display.name), **how)


def refused(app: RoutedMarimo, hub: str, token: bool = True, **how: Any) -> int:
    with pytest.raises(InvalidStatus) as caught, connect(app.address(hub, "default", token), **how):
        pass
    return caught.value.response.status_code


def test_pictures_input_and_close_codes_pass(app: RoutedMarimo, private: rfb.Display) -> None:
    private.publish(grey(77))
    with through(app, private) as viewer:
        viewer.greet()
        assert value_of(viewer.see()[1]) == 77
        viewer.say(type="event", event={"type": "key_down", "key": "a"})
        wait_for(private.poll_events, "the key")
        private.close()
        assert closed(viewer) == (1001, "the display was closed")


def test_a_viewer_that_leaves_is_noticed_by_the_hub(app: RoutedMarimo, private: rfb.Display) -> None:
    with through(app, private) as viewer:
        viewer.greet()
        assert private.client_count == 1
    wait_for(lambda: private.client_count == 0, "the hub to notice")


def test_who_is_not_logged_in_or_of_another_origin_is_403(app: RoutedMarimo, private: rfb.Display) -> None:
    hub = private.server.hub_id
    for name in (hub, "0" * 16):
        assert refused(app, name, token=False) == 403
        assert app.get(name, "health", token=False) == (403, "log in to marimo first\n")
    assert refused(app, hub, origin="https://evil.example") == 403
    with through(app, private, origin=f"http://127.0.0.1:{app.port}") as viewer:
        viewer.greet()


def test_a_plain_get_says_what_is_wrong(app: RoutedMarimo, private: rfb.Display) -> None:
    hub = private.server.hub_id
    assert app.get(hub, "health") == (200, "ok\n")
    assert app.get(hub, "default")[0] == 426
    for name, status in (("0" * 16, 404), ("nonsense", 400)):
        assert refused(app, name) == 403
        assert app.get(name, "health")[0] == status


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_viewer_that_stops_reading_holds_the_hub_up_and_grows_little(app: RoutedMarimo) -> None:
    with PrivateHub() as hub, socket.create_connection(("127.0.0.1", app.port)) as viewer:
        handshake = f"GET /pdum-rfb/{hub.id}/default?access_token={app.token} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        viewer.sendall(f"{handshake}{upgrade}Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode())
        peer, _ = hub.met()
        before = resident(app)
        taken = fill(peer)
        grown = resident(app) - before
        print(f"{taken / 1e6:.1f} MB were taken, {grown / 1e6:.1f} MB grown")
        assert taken < 50_000_000
        assert grown < 30_000_000
        peer.close()


def test_each_session_of_an_app_has_its_own_stream_which_ends_with_it(app: RoutedMarimo) -> None:
    with app.visit("s_first") as first:
        wait_for(lambda: len(app.made) == 1, "the first session's display", 60)
        with app.visit("s_secnd"):
            wait_for(lambda: len(app.made) == 2, "the second's", 60)
            one, two = app.made
            assert one["hub"] == two["hub"]
            assert one["stream"] != two["stream"]
            urls = [app.address(made["hub"], made["stream"]) for made in (one, two)]
            leaver, stayer = (RawViewer(url=url, token=one["token"]) for url in urls)
            with leaver, stayer:
                for viewer in (leaver, stayer):
                    viewer.greet()
                    assert value_of(viewer.see()[1]) == 99
                first.close()
                assert closed(leaver, 30) == (1001, "the display was closed")
                stayer.say(type="request_keyframe", reason="still there")
                assert value_of(stayer.see()[1]) == 99


def test_a_restarted_kernel_is_told_apart_from_the_one_before(tmp_path: Path) -> None:
    with marimo(tmp_path, "edit") as editor, editor.visit("s_edits"):
        body = json.dumps({"objectIds": [], "values": [], "autoRun": True}).encode()
        post(editor, "instantiate", body)
        wait_for(lambda: editor.made, "the display", 60)
        (made,) = editor.made
        with RawViewer(url=editor.address(made["hub"], made["stream"]), token=made["token"]) as viewer:
            viewer.greet()
            assert value_of(viewer.see()[1]) == 99
            post(editor, "restart_session", b"{}")
            with pytest.raises(ConnectionClosed):
                read_on(viewer, 20)
        wait_for(lambda: editor.get(made["hub"], "health")[0] in (404, 502), "the old hub to be forgotten")


def post(app: RoutedMarimo, what: str, body: bytes) -> None:
    headers = {"Marimo-Session-Id": "s_edits", "Content-Type": "application/json"}
    address = f"http://127.0.0.1:{app.port}/api/kernel/{what}?access_token={app.token}"
    urllib.request.urlopen(urllib.request.Request(address, body, headers), timeout=60).close()
