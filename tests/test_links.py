"""Links that are slow, long or cut, and pages that a browser keeps from its own machine."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from hosts import ARGUMENTS, chromium_path, error_of, numbers_seen, wait_for, watch_numbers
from pages import numbered, texture, wait_for_events, wait_until_notice
from pages import show as show_page
from playwright.sync_api import Browser, Page
from relay import SlowLink
from sites import LEAD, NOT_FOUND, Answer, Site, traits_of
from viewers import RawViewer, unacknowledged

import pdum_rfb_widget as rfb
from pdum_rfb_widget.protocol import unpack_binary_message

pytestmark = pytest.mark.hosts

PIXELS = texture(48, 64, 3)

# Slow and long --------------------------------------------------------------------------------------------------------


def test_a_megabit_and_200_ms_of_delay_carry_pictures_input_and_then_the_newest_exactly(page: Page) -> None:
    display = rfb.serve(640, 360, port=0)
    display.publish(numbered(0, 640, 360))
    with SlowLink(display.port, rate=125_000, delay=0.2) as link:
        canvas = show_page(page, display, url=f"ws://127.0.0.1:{link.port}/{display.name}")
        page.locator(".rfb-has-picture").wait_for()
        wait_for_events(display, "resize")
        watch_numbers(canvas)
        clicked = None
        for n in range(1, 151):
            display.publish(numbered(n, 640, 360))
            if n == 50:
                canvas.click(position={"x": 30, "y": 30})
            if any(event.event["type"] == "pointer_down" for event in display.poll_events()):
                clicked = n
            time.sleep(1 / 30)
        during = set(numbers_seen(canvas)) & set(range(1, 150))
        print(f"{len(during)} of 150 frames shown at 30 a second; the click of frame 50 came at {clicked}")
        assert len(during) >= 50
        assert clicked is not None, "the click came while frames were on their way"
        wait_for(lambda: error_of(canvas, numbered(150, 640, 360)) == 0, "the newest, exactly")


def test_a_message_overtakes_the_picture_that_a_slow_link_is_busy_with() -> None:
    display = rfb.serve(640, 600, port=0, quality="lossless", still_after=None)
    noise = np.random.default_rng(1).integers(0, 255, (3, 600, 640, 3), np.uint8)
    with SlowLink(display.port, rate=1_250_000, delay=0) as link:
        url = f"ws://127.0.0.1:{link.port}/{display.name}"
        with RawViewer(display, "image/png", "rfb/tiles", "rfb/channels", url=url) as viewer:
            viewer.greet()
            display.publish(noise[0])
            viewer.see()
            wait_for(lambda: unacknowledged(display) == [0], "the hub to know the link")
            display.publish(noise[1])
            came: list[tuple[float, str]] = []
            while not came or came[-1][1] != "last":
                message = viewer.socket.recv(timeout=60)
                if isinstance(message, str):
                    came.append((time.perf_counter(), json.loads(message)["type"]))
                    continue
                header, _ = unpack_binary_message(message)
                viewer.say(type="got", piece=header["piece"])
                came.append((time.perf_counter(), "last" if header["last"] else "piece"))
                if header["piece"] == 1:
                    display.send("news", 1)
    kinds = [kind for _, kind in came]
    begun, told, done = (came[kinds.index(kind)][0] for kind in ("piece", "message", "last"))
    print(f"{1000 * (told - begun):.0f} ms for the message, {1000 * (done - begun):.0f} for the picture")
    assert kinds.count("piece") > 20
    assert kinds[: kinds.index("message")].count("piece") < kinds.count("piece") / 2


# Cut ------------------------------------------------------------------------------------------------------------------


def test_a_proxy_that_is_away_for_five_seconds_leads_to_the_newest_frame_again(page: Page) -> None:
    display = rfb.serve(64, 48, port=0)
    display.publish(PIXELS)
    with SlowLink(display.port) as link:
        canvas = show_page(page, display, url=f"ws://127.0.0.1:{link.port}/{display.name}")
        wait_for(lambda: error_of(canvas, PIXELS) < 6, "the picture")
        gone = time.monotonic()
    wait_until_notice(page, "Nothing answers")
    assert error_of(canvas, PIXELS) < 6, "the last picture stays"
    wait_for(lambda: display.client_count == 0, "the hub to notice")
    number = 0
    while time.monotonic() < gone + 5:
        number += 1
        display.publish(numbered(number, 64, 48))
        time.sleep(0.1)
    with SlowLink(display.port, at=link.port):
        wait_for(lambda: error_of(canvas, numbered(number, 64, 48)) < 6, "the newest frame")
        assert not page.locator(".rfb-notice").is_visible()
        assert display.client_count == 1


# Forbidden by the browser ---------------------------------------------------------------------------------------------


@contextmanager
def public_page(browser: Browser, site: Site, host: str) -> Iterator[Page]:
    """A page in a browser to which the *site* at *host* is one of the internet's, and so may not reach this machine."""
    public = f"--ip-address-space-overrides={host}:{site.port}=public"
    guarded = browser.browser_type.launch(executable_path=chromium_path(), args=[*ARGUMENTS, public])
    try:
        yield guarded.new_page()
    finally:
        guarded.close()


def routes(path: str) -> Answer:
    return LEAD if "/pdum-rfb/" in path else NOT_FOUND


def test_where_the_browser_forbids_the_hubs_port_the_route_is_taken(browser: Browser, display: rfb.Display) -> None:
    display.publish(PIXELS)
    with Site(traits_of(display), routes, display.port) as site, public_page(browser, site, "127.0.0.1") as page:
        site.show(page, "127.0.0.1")
        canvas = page.locator(".rfb-canvas")
        wait_for(lambda: error_of(canvas, PIXELS) < 6, "the picture")
        tries = {tried["way"]: tried["outcome"] for tried in page.evaluate("kernel.traits.diagnosis")}
        assert tries["direct"] == "no connection"
        assert "first picture" in tries["route"]


def test_a_browser_that_forbids_the_only_way_is_said_and_asked_again(browser: Browser, display: rfb.Display) -> None:
    display.publish(PIXELS)
    traits = traits_of(display, url=display.ws_url)
    with Site(traits, port=display.port) as site, public_page(browser, site, "127.0.0.2") as page:
        site.show(page)
        words = wait_until_notice(page, "local network access")
        assert words.startswith(f"This page can't open {display.ws_url}: the browser keeps it from this computer")
        assert "not allowed here" in page.evaluate("kernel.traits.diagnosis")[-1]["outcome"]
        page.context.grant_permissions(["local-network-access"])
        # By script: the view asks again by itself too, and may have no button any more.
        page.evaluate("document.querySelector('.rfb-retry').click()")
        wait_for(lambda: error_of(page.locator(".rfb-canvas"), PIXELS) < 6, "the picture")
