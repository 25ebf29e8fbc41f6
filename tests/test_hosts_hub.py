"""JupyterHub with two users behind its proxy: each sees their own picture, and nobody another's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page
from servers import LAB, OUR_ROUTE, Hub, hub_of, shows_picture, tried, way_in

pytestmark = pytest.mark.hosts
pytest.importorskip("jupyterhub")

# What a page of the stranger's own gets from a WebSocket: whether it opened, and how it was closed after a hello.
_KNOCK = """url => new Promise((done) => {
    const socket = new WebSocket(url);
    let opened = false;
    socket.onopen = () => {
        opened = true;
        socket.send(JSON.stringify({ type: "hello", supported: ["image/png"], device_pixel_ratio: 1 }));
    };
    const heard = [];
    socket.onmessage = ({ data }) => heard.push(typeof data === "string" ? data : "bytes");
    socket.onclose = ({ code, reason }) => done({ opened, code, reason, heard });
})"""


@pytest.fixture
def pages(browser: Browser) -> Iterator[list[Page]]:
    """Of two people, each with cookies of their own."""
    contexts = [browser.new_context(viewport={"width": 1280, "height": 900}) for _ in range(2)]
    yield [context.new_page() for context in contexts]
    for context in contexts:
        context.close()


def show(hub: Hub, page: Page, user: str) -> dict[str, Any]:
    """Log in and run the notebook, up to its picture; what it says of its hub."""
    hub.log_in(page, user)
    page.evaluate(f"void {LAB.run}")
    shows_picture(page)
    return hub_of(hub.folder(user))


def test_a_user_is_led_to_their_hub_and_another_is_refused_on_every_route(tmp_path: Path, pages: list[Page]) -> None:
    ada, bob = pages
    with Hub(tmp_path) as hub:
        made = show(hub, ada, "ada")
        assert way_in(hub.folder("ada")) in OUR_ROUTE
        hub.log_in(bob, "bob")
        route, port = f"pdum-rfb/{made['hub']}", f"proxy/{made['port']}"
        for path, status in (
            (f"/user/ada/{route}/health", 403),
            (f"/user/ada/{port}/streams", 403),
            (f"/user/bob/{route}/health", 404),
            (f"/user/bob/{port}/streams", 401),
        ):
            assert bob.evaluate("path => fetch(path).then(answer => answer.status)", path) == status, path
        for way in (route, port):
            knocked = bob.evaluate(_KNOCK, f"ws://{hub.host}:{hub.port}/user/ada/{way}/{made['stream']}")
            assert (knocked["opened"], knocked["heard"]) == (False, []), way
        assert not bob.evaluate(_KNOCK, f"ws://{hub.host}:{hub.port}/user/bob/{route}/{made['stream']}")["opened"]
        # Loopback is everybody's: here the hub itself has to refuse, and says nothing but that.
        own = bob.evaluate(_KNOCK, f"ws://{hub.host}:{hub.port}/user/bob/{port}/{made['stream']}")
        assert own["opened"]
        assert own["heard"] == []
        direct = bob.evaluate(_KNOCK, f"ws://127.0.0.1:{made['port']}/{made['stream']}")
        assert direct["heard"] == []
        shows_picture(ada)


def test_without_our_extension_jupyter_server_proxy_leads_there(tmp_path: Path, pages: list[Page]) -> None:
    with Hub(tmp_path, extension=False) as hub:
        show(hub, pages[0], "ada")
        assert tried(hub.folder("ada"))["proxy"].startswith("proved, first picture")
