"""Plain pages with a view on them, for tests in the browser: made, watched and asked."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import numpy.typing as npt
from hosts import NUMBERED, serve_page, wait_for
from playwright.sync_api import Locator, Page

import pdum_rfb_widget as rfb

rng = np.random.default_rng(11)
namespace: dict[str, Any] = {}
exec(NUMBERED, namespace)
numbered = namespace["numbered"]

PAGE = """<!doctype html><style>body {{ margin: 0 }} .stage {{ width: 600px; height: 400px }}</style>
{body}
<script type="module">
  import {{ RemoteFramebufferView }} from "./widget.js";
  window.open = (id, more) => new RemoteFramebufferView(document.getElementById(id), {{ ...{options}, ...more }});
  window.view = window.open("stage");
</script>
"""
STAGE = '<input id="before"><div id="stage" class="stage"></div><p style="height: 2000px">long</p>'


def show(
    page: Page, display: rfb.Display, *, body: str = STAGE, headers: dict[str, str] | None = None, **options: Any
) -> Locator:
    """A plain page with a view of *display*; its canvas."""
    options = {"url": display.ws_url, "token": display.server.token} | options
    html = PAGE.format(body=body, options=json.dumps(options))
    page.goto(serve_page(html, headers or {}))
    return page.locator(".rfb-canvas")


def texture(height: int, width: int, channels: int) -> npt.NDArray[np.uint8]:
    smooth = np.add.outer(np.arange(height), np.arange(width)) % 251
    planes = np.repeat(smooth[..., None], channels or 1, axis=2)
    pixels = (planes + rng.integers(0, 5, planes.shape)).astype(np.uint8)
    return pixels if channels else pixels[..., 0]


def events_of(display: rfb.Display, *kinds: str) -> list[dict[str, Any]]:
    return [event.event for event in display.poll_events() if not kinds or event.event["type"] in kinds]


def wait_for_events(display: rfb.Display, *kinds: str) -> list[dict[str, Any]]:
    """The events up to and including one of each of *kinds*, in this order; all before them is dropped."""
    got: list[dict[str, Any]] = []

    def complete() -> bool:
        got.extend(events_of(display))
        names = iter(event["type"] for event in got)
        return all(kind in names for kind in kinds)

    try:
        wait_for(complete, f"events {kinds}")
    except TimeoutError as error:
        error.add_note(f"there were {[event['type'] for event in got]}")
        raise
    return got


def notice(page: Page) -> str:
    """The words of the notice, once it is there."""
    page.locator(".rfb-notice").wait_for(timeout=60_000)
    return page.locator(".rfb-words").inner_text()


def wait_until_notice(page: Page, words: str) -> str:
    page.wait_for_function(f"document.querySelector('.rfb-words').textContent.includes({json.dumps(words)})")
    return notice(page)
