"""JupyterHub with its users behind its proxy, reached by name: each sees their own picture, and nobody another's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hosts import NAME
from playwright.sync_api import Browser, Page
from servers import OUR_ROUTE, Hub, host_page, report, shows_picture, tried, way_in

pytestmark = pytest.mark.hosts

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


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    with Hub(tmp_path_factory.mktemp("hub")) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with host_page(browser) as page:
        yield page


@pytest.fixture
def other(browser: Browser) -> Iterator[Page]:
    """Somebody else's, with cookies of their own."""
    with host_page(browser) as page:
        yield page


def test_a_user_is_led_to_their_hub_and_another_is_refused_on_every_route(hub: Hub, page: Page, other: Page) -> None:
    made = hub.show(page, "ada")
    shows_picture(page)
    assert way_in(hub.folder("ada")) in OUR_ROUTE
    report(page, "jupyterhub, by name", hub.folder("ada"))
    hub.log_in(other, "bob")
    route, port = f"pdum-rfb/{made['hub']}", f"proxy/{made['port']}"
    for path, status in (
        (f"/user/ada/{route}/health", 403),
        (f"/user/ada/{port}/streams", 403),
        (f"/user/bob/{route}/health", 404),
        (f"/user/bob/{port}/streams", 403),
    ):
        assert other.evaluate("path => fetch(path).then(answer => answer.status)", path) == status, path
    server = f"ws://{NAME}:{hub.port}/user"
    for way in (f"ada/{route}", f"ada/{port}", f"bob/{route}"):
        knocked = other.evaluate(_KNOCK, f"{server}/{way}/{made['stream']}")
        assert (knocked["opened"], knocked["heard"]) == (False, []), way
    # Loopback is everybody's: here the hub itself has to refuse, and says nothing but that.
    own = other.evaluate(_KNOCK, f"{server}/bob/{port}/{made['stream']}")
    assert own["opened"]
    assert own["heard"] == []
    direct = other.evaluate(_KNOCK, f"ws://127.0.0.1:{made['port']}/{made['stream']}")
    assert direct["heard"] == []
    shows_picture(page)


def test_without_our_extension_the_proxys_own_headers_let_its_name_in(hub: Hub, page: Page) -> None:
    """jupyter-server-proxy leads there with the page's origin, a name that the hub has no other reason to believe."""
    made = hub.show(page, "cleo")
    shows_picture(page)
    assert tried(hub.folder("cleo"))["proxy"].startswith("proved, first picture")
    report(page, "jupyterhub without our extension, by name", hub.folder("cleo"))
    assert made["port"]
