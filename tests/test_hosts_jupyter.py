"""The picture in every host of the Jupyter family, by each way that leads there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import numpy as np
import pytest
from hosts import NAME
from pages import rng
from playwright.sync_api import Browser, Page
from private_hub import resident
from servers import (
    APPS,
    LAB,
    NBCLASSIC,
    OUR_ROUTE,
    App,
    Jupyter,
    Voila,
    host_page,
    report,
    shows_picture,
    tls_front,
    tried,
    way_in,
)
from viewers import RawViewer, closed
from websockets.exceptions import ConnectionClosed

import pdum_rfb_widget as rfb

pytestmark = pytest.mark.hosts

ELSEWHERE = "127.0.0.2"
"""Leads to this machine as well, and a page from there doesn't look like this machine's own."""

every_app = pytest.mark.parametrize("app", APPS, ids=lambda app: app.package)


@pytest.fixture(scope="module")
def jupyter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    with Jupyter(tmp_path_factory.mktemp("plain")) as started:
        yield started


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    with Jupyter(tmp_path_factory.mktemp("based"), base="/some/base/") as started:
        yield started


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """With a base, and our extension disabled."""
    with Jupyter(tmp_path_factory.mktemp("without"), base="/some/base/", extension=False) as started:
        yield started


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    with host_page(browser) as page:
        yield page


# The ways in ----------------------------------------------------------------------------------------------------------


@every_app
def test_a_local_page_goes_to_the_hubs_port(jupyter: Jupyter, page: Page, app: App) -> None:
    folder = jupyter.show(page, app)
    shows_picture(page)
    assert way_in(folder) == "direct"
    report(page, app.package, folder)


@every_app
def test_a_page_from_elsewhere_takes_our_route_at_any_base(based: Jupyter, page: Page, app: App) -> None:
    folder = based.show(page, app, based.at(NAME))
    shows_picture(page)
    assert way_in(folder) in OUR_ROUTE
    assert "direct" not in tried(folder)
    report(page, f"{app.package} at a base, from elsewhere", folder)


def test_without_a_base_too(jupyter: Jupyter, page: Page) -> None:
    folder = jupyter.show(page, LAB, jupyter.at(NAME))
    shows_picture(page)
    assert way_in(folder) in OUR_ROUTE


@pytest.mark.parametrize("app", [LAB, NBCLASSIC], ids=lambda app: app.package)
def test_a_hub_without_a_port_is_reached_by_our_route(jupyter: Jupyter, page: Page, app: App) -> None:
    folder = jupyter.show(page, app, tcp=False)
    shows_picture(page)
    assert way_in(folder) in OUR_ROUTE


def test_a_local_page_behind_tls_goes_to_the_hubs_port(jupyter: Jupyter, page: Page) -> None:
    with tls_front(jupyter) as port:
        folder = jupyter.show(page, LAB, f"https://127.0.0.1:{port}")
        shows_picture(page)
        assert way_in(folder) == "direct"
        report(page, "jupyterlab behind TLS", folder)


@pytest.mark.parametrize("base", ["at no base", "at a base"])
def test_a_page_from_elsewhere_behind_tls_takes_our_route(
    request: pytest.FixtureRequest, page: Page, base: str
) -> None:
    server: Jupyter = request.getfixturevalue("based" if base == "at a base" else "jupyter")
    with tls_front(server) as port:
        folder = server.show(page, LAB, f"https://{NAME}:{port}")
        shows_picture(page)
        assert way_in(folder) in OUR_ROUTE
        report(page, f"jupyterlab behind TLS, from elsewhere, {base}", folder)


def test_voila_alone_has_the_hubs_port(tmp_path_factory: pytest.TempPathFactory, page: Page) -> None:
    with Voila(tmp_path_factory.mktemp("voila")) as voila:
        page.goto(f"http://127.0.0.1:{voila.port}/")
        shows_picture(page)
        folder = voila.home / "notebooks"
        assert way_in(folder) == "direct"
        report(page, "voila alone", folder)


# jupyter-server-proxy -------------------------------------------------------------------------------------------------


@every_app
def test_without_our_extension_jupyter_server_proxy_leads_there(without: Jupyter, page: Page, app: App) -> None:
    folder = without.show(page, app, without.at(ELSEWHERE))
    shows_picture(page)
    assert tried(folder)["proxy"].startswith("proved, first picture")
    report(page, f"{app.package} without our extension", folder)


def test_without_our_extension_a_local_page_behind_tls_does_not_need_it(without: Jupyter, page: Page) -> None:
    with tls_front(without) as port:
        folder = without.show(page, LAB, f"https://{ELSEWHERE.replace('.2', '.1')}:{port}")
        shows_picture(page)
        assert way_in(folder) == "direct"


def test_a_name_that_no_proxy_vouches_for_is_refused_and_the_cell_says_so(without: Jupyter, page: Page) -> None:
    """A hostile page could have its own name resolve to this machine: jupyter-server-proxy alone adds no header."""
    without.show(page, LAB, without.at(NAME))
    page.locator(".rfb-words", has_text=f"origins=['{without.at(NAME)}']").wait_for(timeout=60_000)


@pytest.mark.parametrize("vouched", [False, True])
def test_a_name_is_believed_where_a_proxys_header_comes_with_it(
    without: Jupyter, display: rfb.Display, vouched: bool
) -> None:
    host = f"{NAME}:{without.port}"
    headers = {"X-Forwarded-Host": host} if vouched else {}
    url = proxied(without, display).replace(f"127.0.0.1:{without.port}", host)
    with (
        socket.create_connection(("127.0.0.1", without.port)) as connected,
        RawViewer(display, url=url, sock=connected, origin=f"http://{host}", additional_headers=headers) as viewer,
    ):
        with contextlib.suppress(ConnectionClosed):  # the refusal may be there before
            viewer.say(**viewer.hello)
        if vouched:
            viewer.hear("config")
        else:
            closed(viewer)


def test_a_viewer_that_stops_reading_grows_the_server_by_its_window_only(without: Jupyter) -> None:
    """jupyter-server-proxy reads on and keeps all that comes, so what bounds it is the hub's own window."""
    display = rfb.serve(1280, 720, port=0, quality="lossless")
    url = proxied(without, display)
    with (
        RawViewer(display, "image/png", url=url) as reads,
        RawViewer(display, "image/png", url=url, max_queue=1) as stops,
    ):
        reads.greet()
        stops.greet()
        sent = 0
        for step in range(50):
            display.publish(rng.integers(0, 256, (720, 1280, 3), np.uint8))
            # Who reads along gets the same by the same server: so does the other, if it is sent any.
            sent += len(reads.see()[1])
            if step < 10:  # the hub knows its link, and has no other reason to spare it
                stops.see()
                before = resident(without)
        grown = resident(without) - before
    print(f"{sent / 1e6:.0f} MB were sent to who reads, {grown / 1e6:.1f} MB grown")
    assert sent > 100_000_000
    assert grown < 30_000_000


def proxied(server: Jupyter, display: rfb.Display) -> str:
    """Where *server*'s jupyter-server-proxy has the display's stream."""
    return server.address(f"proxy/{display.port}/{display.name}").replace("http:", "ws:")
