"""Streams inside an application: Starlette and FastAPI under uvicorn, with the core of the hub's own port."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from hosts import error_of, free_port, wait_for
from inside import hub_of
from pages import texture
from playwright.sync_api import Page
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route, WebSocketRoute
from viewers import RawViewer, closed, grey, value_of
from websockets.exceptions import InvalidStatus

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hub import web_page as hub_page
from pdum_rfb_widget.asgi import rfb_endpoint, rfb_hub_endpoint
from pdum_rfb_widget.auth import AuthContext, ViewOnly


class Uvicorn:
    """uvicorn in a thread, which serves the application that was put there last."""

    def __init__(self) -> None:
        self.apps: list[Any] = []
        self.netloc = f"127.0.0.1:{(port := free_port())}"
        settings: dict[str, Any] = {"log_level": "warning", "ws": "websockets-sansio", "lifespan": "off"}
        self._server = uvicorn.Server(uvicorn.Config(self._newest, port=port, interface="asgi3", **settings))
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        wait_for(lambda: self._server.started, "uvicorn")

    async def _newest(self, scope: Any, receive: Any, send: Any) -> None:
        await self.apps[-1](scope, receive, send)

    def end(self) -> None:
        self._server.should_exit = True
        self._thread.join(60)


@cache
def _uvicorn() -> Uvicorn:
    """The one that tests share: each would take 0.2 s to start and to end."""
    return Uvicorn()


@contextmanager
def running(app: Any) -> Iterator[str]:
    """*app* under uvicorn; its address without a scheme."""
    _uvicorn().apps.append(app)
    try:
        yield _uvicorn().netloc
    finally:
        _uvicorn().apps.remove(app)


def application_of(display: rfb.Display, **settings: Any) -> Starlette:
    return Starlette(routes=[WebSocketRoute("/rfb", rfb_endpoint(display, **settings))])


@contextmanager
def mounted(display: rfb.Display, **settings: Any) -> Iterator[str]:
    with running(application_of(display, **settings)) as netloc:
        yield f"ws://{netloc}/rfb"


@pytest.fixture
def portless() -> rfb.Display:
    """A display that only an application leads to."""
    return rfb.serve(64, 48, tcp=False)


def by_cookie(context: AuthContext) -> str | None:
    return {"ada's": "ada"}.get((context.cookies or {}).get("session", ""))


def test_a_viewer_sees_acknowledges_and_sends_input(portless: rfb.Display) -> None:
    with mounted(portless) as url, RawViewer(portless, "image/png", url=url, token=portless.server.token) as viewer:
        assert viewer.greet()["width"] == 64
        for value in range(1, 5):
            portless.publish(grey(value))
            assert value_of(viewer.see()[1]) == value
        viewer.say(type="event", event={"type": "pointer_down", "x": 1, "y": 2})
        wait_for(lambda: portless.client_count and portless.poll_events(), "the event")


def test_fastapi_takes_the_endpoint_as_it_is(portless: rfb.Display) -> None:
    app = FastAPI()
    app.add_api_websocket_route("/rfb/{stream}", rfb_hub_endpoint(portless.server))
    portless.publish(grey(7))
    with running(app) as netloc:
        for name in (portless.name, "nowhere"):
            url = f"ws://{netloc}/rfb/{name}"
            with RawViewer(portless, "image/png", url=url, token=portless.server.token) as viewer:
                viewer.say(**viewer.hello)
                if name == "nowhere":
                    assert closed(viewer) == (4404, "there is no stream 'nowhere'")
                else:
                    assert value_of(viewer.see()[1]) == 7


def test_a_wrong_token_is_4401_and_a_wrong_bearer_403_before_it_is_accepted(portless: rfb.Display) -> None:
    with mounted(portless) as url:
        with RawViewer(portless, url=url, token="wrong") as viewer:
            viewer.say(**viewer.hello)
            assert closed(viewer)[0] == 4401
        with pytest.raises(InvalidStatus, match="403"):
            RawViewer(portless, url=url, token="x", additional_headers={"Authorization": "Bearer wrong"})
        bearer = {"Authorization": f"Bearer {portless.server.token}"}
        with RawViewer(url=url, token="unused", additional_headers=bearer) as viewer:
            del viewer.hello["token"]
            assert viewer.greet()


def test_a_cookie_is_known_before_it_is_accepted_and_its_principal_stands_by_the_input(portless: rfb.Display) -> None:
    with (
        mounted(portless, authenticate=by_cookie) as url,
        RawViewer(url=url, token="any", additional_headers={"Cookie": "session=ada's"}) as viewer,
    ):
        viewer.greet()
        viewer.say(type="event", event={"type": "key_down", "key": "a"})
        events: list[Any] = []
        wait_for(lambda: events.extend(portless.poll_events()) or events, "the event")
        assert events[0].principal == "ada"


def test_who_brings_no_cookie_is_asked_again_with_the_hellos_token(portless: rfb.Display) -> None:
    asked: list[bool] = []
    loops: set[asyncio.AbstractEventLoop] = set()

    async def by_token(context: AuthContext) -> ViewOnly | None:
        asked.append(context.hello is not None)
        loops.add(asyncio.get_running_loop())
        assert context.stream == portless.name
        return ViewOnly("guest") if context.token == "ticket" else None

    with mounted(portless, authenticate=by_token) as url:
        with RawViewer(url=url, token="ticket") as viewer:
            viewer.greet()
            viewer.say(type="event", event={"type": "key_down", "key": "a"})
            wait_for(lambda: portless.status()["clients"][0]["refused_events"], "the event to be refused")
            assert portless.clients[0].principal == "guest"
            assert portless.poll_events() == []
        assert asked == [False, True]
        with RawViewer(url=url, token=portless.server.token) as viewer:
            viewer.say(**viewer.hello)
            assert closed(viewer)[0] == 4401
    assert len(loops) == 1
    assert hub_of(portless).loop not in loops, "it runs in the application's loop"


@pytest.mark.parametrize(
    ("host", "origin", "allowed"),
    [
        ("127.0.0.1", None, True),
        ("127.0.0.1", "http://localhost:1", True),
        ("127.0.0.1", "http://evil.example", False),
        ("app.example", "http://app.example", True),
        ("app.example", "http://evil.example", False),
    ],
)
def test_pages_of_the_application_and_of_this_machine_may_come(
    portless: rfb.Display, host: str, origin: str | None, allowed: bool
) -> None:
    with mounted(portless) as url:
        port = url.split(":")[-1].split("/")[0]
        own = f"{origin}:{port}" if origin == f"http://{host}" else origin

        def look() -> dict[str, Any]:
            bound = socket.create_connection(("127.0.0.1", int(port)))
            token = portless.server.token
            with RawViewer(url=f"ws://{host}:{port}/rfb", token=token, origin=own, sock=bound) as viewer:
                return viewer.greet()

        if allowed:
            assert look()
        else:
            with pytest.raises(InvalidStatus, match="403"):
                look()


def test_the_hubs_limits_hold(portless: rfb.Display) -> None:
    with mounted(portless) as url, RawViewer(url=url, token=portless.server.token) as viewer:
        viewer.greet()
        viewer.socket.send("x" * (portless.server.limits.message_bytes + 1))
        assert closed(viewer)[0] == 4429


def test_a_viewer_that_goes_is_dismissed_and_one_that_stays_gets_the_reason(portless: rfb.Display) -> None:
    with mounted(portless) as url, RawViewer(url=url, token=portless.server.token) as stays:
        stays.greet()
        with RawViewer(url=url, token=portless.server.token) as goes:
            goes.greet()
            wait_for(lambda: portless.client_count == 2, "both viewers")
        wait_for(lambda: portless.client_count == 1, "the one that went")
        portless.close()
        assert closed(stays) == (1001, "the display was closed")


def test_an_application_that_ends_lets_go_of_its_viewers(portless: rfb.Display) -> None:
    own = Uvicorn()
    own.apps.append(application_of(portless))
    viewer = RawViewer(url=f"ws://{own.netloc}/rfb", token=portless.server.token)
    viewer.greet()
    wait_for(lambda: portless.client_count == 1, "the viewer")
    own.end()
    wait_for(lambda: portless.client_count == 0, "its dismissal")
    viewer.__exit__()


def test_after_the_hub_was_closed_nobody_is_accepted(portless: rfb.Display) -> None:
    with mounted(portless) as url:
        portless.server.close()
        with pytest.raises(InvalidStatus, match="403"):
            RawViewer(url=url, token="any")


def test_a_viewer_that_does_not_read_costs_the_others_nothing(portless: rfb.Display) -> None:
    def noise() -> np.ndarray[Any, Any]:
        return np.random.default_rng().integers(0, 255, (720, 1280, 3), np.uint8)

    portless.configure(quality="lossless", still_after=None)
    with mounted(portless) as url:
        token = portless.server.token
        with RawViewer(url=url, token=token) as idle, RawViewer(portless, "image/png", url=url, token=token) as viewer:
            idle.hello["supported"] = ["image/png"]
            idle.greet()
            viewer.greet()
            for _ in range(10):
                portless.publish(noise())
                viewer.see()


def test_chromium_shows_an_applications_stream_on_its_own_page(page: Page, portless: rfb.Display) -> None:
    text = f"""<!doctype html><div id=stage style="width:320px;height:180px"></div><script type=module>
        import {{ RemoteFramebufferView }} from "/widget.js";
        const url = location.origin.replace("http", "ws") + "/rfb/{portless.name}";
        window.view = new RemoteFramebufferView(stage, {{ url, token: "{portless.server.token}" }});
    </script>"""
    app = Starlette(
        routes=[
            Route("/", lambda _: HTMLResponse(text)),
            Route("/widget.js", lambda _: Response(hub_page.bundle(), media_type="text/javascript")),
            WebSocketRoute("/rfb/{stream}", rfb_hub_endpoint(portless.server)),
        ]
    )
    picture = texture(180, 320, 3)
    portless.publish(picture)
    with running(app) as netloc:
        page.goto(f"http://{netloc}/")
        canvas = page.locator(".rfb-canvas.rfb-has-picture")
        canvas.wait_for()
        wait_for(lambda: error_of(canvas, picture) < 1, "the picture")
        page.goto("about:blank")


def test_an_endpoint_changes_the_options_that_it_is_given_and_leaves_the_others(portless: rfb.Display) -> None:
    def fps_and_quality() -> tuple[int, int]:
        options = portless.status()["options"]
        return options["fps"], options["quality"]

    portless.configure(fps=25, quality=50)
    rfb_endpoint(portless)
    rfb_endpoint(portless, fps=None, quality=60)
    assert fps_and_quality() == (25, 60)
    rfb_endpoint(portless, fps=50)
    assert fps_and_quality() == (50, 60)
    with pytest.raises(TypeError, match="unknown option has_h264"):
        rfb_endpoint(portless, has_h264=True)
