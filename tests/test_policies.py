"""Pages whose Content-Security-Policy forbids what a view uses: it works all the same, or says what to allow."""

from __future__ import annotations

import json
from base64 import b64encode

import numpy as np
import pytest
from hosts import NAME, error_of, free_port, wait_for
from pages import PAGE, STAGE, notice, show, texture
from playwright.sync_api import Page
from sites import Site, traits_of

import pdum_rfb_widget as rfb
from pdum_rfb_widget._hub.web_page import BUNDLE
from pdum_rfb_widget.snapshot import shrunk


@pytest.mark.parametrize(
    ("policy", "remedy"),
    [
        ("worker-src 'none'", "'worker-src blob:'"),
        ("child-src 'self'", "'worker-src blob:'"),
        ("script-src 'self' 'unsafe-inline'", "'worker-src blob:'"),
        ("require-trusted-types-for 'script'; trusted-types another", "pdum_rfb_widget and 'allow-duplicates'"),
    ],
)
def test_a_policy_that_forbids_the_worker_still_shows_the_picture_and_says_what_to_allow(
    page: Page, display: rfb.Display, policy: str, remedy: str
) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    canvas = show(page, display, headers={"Content-Security-Policy": policy})
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    assert page.workers == []
    wait_for(lambda: remedy in page.evaluate("view.tries[0].outcome"), "the remedy")


def test_a_page_that_requires_trusted_types_has_workers_and_icons(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    policy = "require-trusted-types-for 'script'; trusted-types pdum_rfb_widget"
    canvas = show(page, display, headers={"Content-Security-Policy": policy}, showToolbar=True)
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    page.locator(".rfb-root").hover()
    icon = page.get_by_role("button", name="Save picture").locator("path").bounding_box()
    assert icon is not None
    assert icon["width"] > 0
    page.evaluate("void window.open('stage')")
    wait_for(lambda: page.evaluate("true") and len(page.workers) == 2, "a worker for each view")


@pytest.mark.parametrize("policy", ["connect-src 'self'", "default-src 'self' 'unsafe-inline'"])
def test_a_policy_that_forbids_the_connection_is_said_with_what_to_allow(
    page: Page, display: rfb.Display, policy: str
) -> None:
    show(page, display, headers={"Content-Security-Policy": policy})
    words = notice(page)
    assert words.startswith(f"This page can't open {display.ws_url}: this page's policy doesn't allow it.")
    assert f"add ws://127.0.0.1:{display.port} to the connect-src of its Content-Security-Policy" in words
    page.wait_for_function("view.state === 'failed'")  # it would not be another one if it were asked again
    assert len(page.evaluate("view.tries.filter(({ way }) => way === 'url')")) == 1


def test_a_policy_that_forbids_inline_styles_changes_nothing(page: Page, display: rfb.Display) -> None:
    display.publish(texture(100, 100, 3))
    body = '<link rel="stylesheet" href="data:text/css,.stage{width:600px;height:400px}">' + STAGE
    show(page, display, body=body, headers={"Content-Security-Policy": "style-src 'self' data:"})
    page.locator(".rfb-has-picture").wait_for()
    assert page.locator(".rfb-canvas").evaluate("canvas => getComputedStyle(canvas).position") == "absolute"
    page.evaluate("view.dispose()")
    assert page.evaluate("document.adoptedStyleSheets.length") == 0


def test_a_plain_address_on_a_page_that_came_by_https_is_said(page: Page, display: rfb.Display) -> None:
    options = json.dumps({"url": f"ws://{NAME}:{display.port}/default"})
    html = PAGE.format(body=STAGE, options=options)
    page.route("https://lab.example/", lambda route: route.fulfill(body=html, content_type="text/html"))
    script = {"body": BUNDLE.read_text(), "content_type": "text/javascript"}
    page.route("https://lab.example/widget.js", lambda route: route.fulfill(**script))
    page.goto("https://lab.example/")
    assert "this page came by https, and the browser opens no ws:// from there." in notice(page)


def test_a_page_in_a_sandbox_is_told_why_it_may_not_open_the_stream(page: Page, display: rfb.Display) -> None:
    headers = {"Content-Security-Policy": "sandbox allow-scripts", "Access-Control-Allow-Origin": "*"}
    show(page, display, headers=headers)
    assert "Add allow-same-origin to the frame's sandbox attribute" in notice(page)


def test_a_page_in_a_sandbox_is_told_of_a_hub_that_is_gone(page: Page, display: rfb.Display) -> None:
    headers = {"Content-Security-Policy": "sandbox allow-scripts", "Access-Control-Allow-Origin": "*"}
    show(page, display, headers=headers, url=f"ws://127.0.0.1:{free_port()}/default")
    assert notice(page).startswith("Nothing answers at ws://127.0.0.1:")


def test_the_last_picture_of_an_export_needs_no_image_from_a_data_address(page: Page, display: rfb.Display) -> None:
    picture = np.full((48, 64, 3), (200, 30, 90), np.uint8)
    display.publish(picture)
    traits = traits_of(
        display, last_picture=f"data:image/webp;base64,{b64encode(shrunk(picture, 5000, 'webp')).decode()}"
    )
    with Site(traits) as site:
        site.headers = "Content-Security-Policy: img-src 'self'\r\n"
        site.show(page)
        stand_in = page.locator("canvas.rfb-poster")
        stand_in.wait_for()
        assert error_of(stand_in, picture) < 12
        page.evaluate("cleanup()")
        assert stand_in.count() == 0
