"""Pages of strangers, names that were bound to this machine, and tokens that open nothing: at every way in."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from inside import hub_of
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute
from test_asgi import running
from viewers import RawViewer, closed, grey, value_of
from websockets.exceptions import InvalidStatus

import pdum_rfb_widget as rfb
from pdum_rfb_widget.asgi import rfb_endpoint, rfb_hub_endpoint

WAYS = ["the hub's port", "an endpoint", "the hub's endpoint", "the unix socket"]
FOREIGN = ["https://evil.example", "http://127.0.0.1.evil.example", "null", "file://", "http://["]
Way = tuple[str, rfb.Display, str, dict[str, Any]]
"""Which it is, a display, its address that way, and what a client needs for it."""


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Iterator[Way]:
    display = rfb.serve(64, 48, port=0)
    display.publish(grey(9))
    with contextlib.ExitStack() as stack:
        connection: dict[str, Any] = {}
        url = display.ws_url
        if request.param == "the unix socket":
            connection["sock"] = stack.enter_context(socket.socket(socket.AF_UNIX))
            connection["sock"].connect(hub_of(display).listeners.socket_path)
        elif request.param != "the hub's port":
            routes = [
                WebSocketRoute("/one", rfb_endpoint(display)),
                WebSocketRoute("/all/{stream}", rfb_hub_endpoint(display.server)),
            ]
            netloc = stack.enter_context(running(Starlette(routes=routes)))
            url = f"ws://{netloc}/{'one' if request.param == 'an endpoint' else 'all/default'}"
        yield request.param, display, url, connection


def test_whoever_has_the_token_sees_the_picture(way: Way) -> None:
    _, display, url, connection = way
    with RawViewer(display, url=url, **connection) as viewer:
        viewer.greet()
        assert abs(value_of(viewer.see()[1]) - 9) <= 1


@pytest.mark.parametrize("which", ["none", "wrong", "old", "the key", "the id"])
def test_a_token_that_is_not_the_hubs_opens_nothing(way: Way, which: str) -> None:
    _, display, url, connection = way
    server = display.server
    tokens = {
        "none": None,
        "wrong": "wrong",
        "old": server.token,
        "the key": hub_of(server).hub_key,
        "the id": server.hub_id,
    }
    if which == "old":
        server.rotate_token()
    with RawViewer(display, url=url, **connection) as viewer:
        viewer.say(**viewer.hello | {"token": tokens[which]})
        assert closed(viewer)[0] == 4401
    assert display.client_count == 0


@pytest.mark.parametrize("way", WAYS[:3], indirect=True)  # the server before the socket has checked: see test_route
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_strangers_page_is_refused_though_it_has_the_token(way: Way, origin: str) -> None:
    name, display, url, connection = way
    if "endpoint" in name:
        with pytest.raises(InvalidStatus, match="403"):
            RawViewer(display, url=url, origin=origin)
        return
    with RawViewer(display, url=url, origin=origin, **connection) as viewer:
        assert closed(viewer)[0] == 4403
