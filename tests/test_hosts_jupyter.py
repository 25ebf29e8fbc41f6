"""The picture in every host of the Jupyter family, by each way that leads there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page
from servers import LAB, NBCLASSIC, NOTEBOOK, OUR_ROUTE, VOILA, App, Jupyter, tried, way_in

pytestmark = pytest.mark.hosts

ELSEWHERE = "127.0.0.2"


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """Not the fixture that minds every error on a page: these are the hosts' own pages."""
    context = browser.new_context(viewport={"width": 1280, "height": 900}, ignore_https_errors=True)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize("app", [LAB, NOTEBOOK, NBCLASSIC, VOILA], ids=lambda app: app.module)
def test_a_local_page_goes_to_the_hubs_port(tmp_path: Path, page: Page, app: App) -> None:
    pytest.importorskip(app.module)
    with Jupyter(tmp_path, app) as jupyter:
        jupyter.show(page)
        assert way_in(jupyter.folder) == "direct"


@pytest.mark.parametrize("app", [LAB, NOTEBOOK, NBCLASSIC, VOILA], ids=lambda app: app.module)
def test_a_page_from_elsewhere_takes_our_route_at_any_base(tmp_path: Path, page: Page, app: App) -> None:
    pytest.importorskip(app.module)
    with Jupyter(tmp_path, app, base="/some/base/", host=ELSEWHERE) as jupyter:
        jupyter.show(page)
        assert way_in(jupyter.folder) in OUR_ROUTE


@pytest.mark.parametrize("app", [LAB, NBCLASSIC], ids=lambda app: app.module)
def test_a_hub_without_a_port_is_reached_by_our_route(tmp_path: Path, page: Page, app: App) -> None:
    pytest.importorskip(app.module)
    with Jupyter(tmp_path, app) as jupyter:
        jupyter.show(page, tcp=False)
        assert way_in(jupyter.folder) in OUR_ROUTE


@pytest.mark.parametrize("app", [LAB, NOTEBOOK, NBCLASSIC, VOILA], ids=lambda app: app.module)
def test_without_our_extension_jupyter_server_proxy_leads_there(tmp_path: Path, page: Page, app: App) -> None:
    pytest.importorskip(app.module)
    with Jupyter(tmp_path, app, base="/some/base/", host=ELSEWHERE, extension=False) as jupyter:
        jupyter.show(page)
        assert tried(jupyter.folder)["proxy"].startswith("proved, first picture")
