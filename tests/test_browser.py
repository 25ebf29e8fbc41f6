"""The browser's half in a real Chromium, on a plain page: pixels, order, input, and what it says when it can't."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import RawViewer
from hosts import NUMBERED, error_of, numbers_seen, read_canvas, serve_page, wait_for, watch_numbers
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

import pdum_rfb_widget as rfb
from pdum_rfb_widget.encoders.image import encode_png
from pdum_rfb_widget.protocol import pack_binary_message

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


# Pixels ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (97, 131), (720, 1280)])
def test_png_shows_exactly_what_was_published(page: Page, size: tuple[int, int]) -> None:
    display = rfb.serve(8, 8, port=0, image_mode="png")
    canvas = show(page, display)
    for channels in (3, 4, 0):
        pixels = texture(*size, channels)
        display.publish(pixels)
        rgb = pixels[..., :3] if channels else np.repeat(pixels[..., None], 3, axis=2)
        wait_for(lambda wanted=rgb: error_of(canvas, wanted) == 0, f"exact pixels, {channels} channels")


@pytest.mark.parametrize("main_thread", [False, True])
@pytest.mark.parametrize("mode", ["jpeg", "webp"])
def test_lossy_formats_show_what_their_decoder_gives(page: Page, mode: str, main_thread: bool) -> None:
    display = rfb.serve(8, 8, port=0, image_mode=mode)
    canvas = show(page, display, mainThreadPresent=main_thread)
    y, x = np.mgrid[:240, :320]
    pixels = np.stack([x * 255 // 320, y * 255 // 240, (x + y) * 255 // 560], axis=-1).astype(np.uint8)
    pixels[60:120, 80:160] = (220, 30, 60)
    display.publish(pixels)
    wait_for(lambda: error_of(canvas, pixels) < 3, "the picture within its error")
    flat = read_canvas(canvas)[80:100, 100:140].reshape(-1, 3).astype(int)
    assert np.abs(flat - (220, 30, 60)).max() <= 6, "colours of a flat patch"


def test_nothing_is_drawn_out_of_order_and_the_newest_of_every_burst_is_shown(page: Page) -> None:
    display = rfb.serve(160, 32, port=0)
    display.publish(numbered(0, 160, 32))
    canvas = show(page, display)
    wait_for(lambda: error_of(canvas, numbered(0, 160, 32)) < 6, "the first frame")
    watch_numbers(canvas)
    stop = threading.Event()
    with RawViewer(display) as slow:
        slow.greet()
        lagging = threading.Thread(target=_see_slowly, args=(slow, stop))
        lagging.start()
        for burst in range(50):
            last = 20 * (burst + 1)
            for step in range(199, -1, -1):
                display.publish(numbered(max(1, last - step // 10), 160, 32))
            seen: list[int] = []
            wait_for(lambda got=seen: got.extend(numbers_seen(canvas)) or got[-1:] == [last], f"frame {last}")  # noqa: B023
            assert seen == sorted(seen)
        stop.set()
        display.close()
        lagging.join(10)


def _see_slowly(viewer: RawViewer, stop: threading.Event) -> None:
    from websockets.exceptions import ConnectionClosed

    while not stop.is_set():
        try:
            header, _ = viewer.see(ack=False)
            stop.wait(0.1)
            viewer.ack(header["seq"])
        except ConnectionClosed:
            return


def test_the_size_may_change_with_every_frame(page: Page) -> None:
    display = rfb.serve(8, 8, port=0, image_mode="png")
    canvas = show(page, display)
    for size in ((40, 30), (1, 1), (33, 1), (300, 200)):
        pixels = texture(*size, 3)
        display.publish(pixels)
        wait_for(lambda wanted=pixels: error_of(canvas, wanted) == 0, f"a frame of {size}")
        box, stage = canvas.bounding_box(), page.locator(".rfb-stage").bounding_box()
        assert box is not None
        assert stage is not None
        assert abs(box["width"] / box["height"] - size[1] / size[0]) / (size[1] / size[0]) < 0.1
        assert abs(box["x"] + box["width"] / 2 - stage["x"] - stage["width"] / 2) <= 1


# Life -----------------------------------------------------------------------------------------------------------------


def test_two_views_of_one_stream_come_and_go_on_their_own(page: Page, display: rfb.Display) -> None:
    body = '<div id="stage" class="stage"></div><div id="other" class="stage"></div>'
    display.publish(texture(48, 64, 3))
    show(page, display, body=body)
    page.evaluate("window.second = window.open('other')")
    wait_for(lambda: display.client_count == 2, "two viewers")
    first, second = page.locator("#stage canvas"), page.locator("#other canvas")
    new = numbered(5, 160, 32)
    display.publish(new)
    for canvas in (first, second):
        wait_for(lambda canvas=canvas: error_of(canvas, new) < 6, "the same frame in both")
    page.evaluate("window.view.dispose()")
    wait_for(lambda: display.client_count == 1, "one viewer")
    assert wait_for_events(display, "close")
    display.publish(numbered(9, 160, 32))
    wait_for(lambda: error_of(second, numbered(9, 160, 32)) < 6, "frames in the other")


def test_nothing_is_left_of_a_hundred_views(page: Page, display: rfb.Display) -> None:
    display.publish(texture(48, 64, 3))
    show(page, display)
    wait_for(lambda: display.client_count == 1, "the first viewer")
    page.evaluate(
        """async () => {
            view.dispose();
            for (let i = 0; i < 99; i++) {
                const made = window.open("stage", { mainThreadPresent: i % 2 == 1 });
                if (i % 3) await new Promise(requestAnimationFrame);
                made.dispose();
                made.dispose();
            }
        }"""
    )
    assert page.locator("#stage > *").count() == 0
    wait_for(lambda: display.client_count == 0, "no viewer")
    wait_for(lambda: page.evaluate("true") and page.workers == [], "no worker")


def test_a_reload_brings_the_picture_back(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    canvas = show(page, display)
    for _ in range(3):
        wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
        page.reload()
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    wait_for(lambda: display.client_count == 1, "one viewer")


def test_a_box_that_is_not_there_yet_is_filled_once_it_is(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    canvas = show(page, display, body='<div id="stage" class="stage" style="display: none"></div>')
    wait_for(lambda: display.client_count == 1, "the viewer")
    assert display.wait_ready(0) is False, "nobody sees it"
    page.evaluate("document.getElementById('stage').style.display = ''")
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    assert wait_for_events(display, "show")
    box = canvas.bounding_box()
    assert box is not None
    assert box["height"] == 400


def test_scrolled_away_it_is_hidden_and_not_fed(page: Page, display: rfb.Display) -> None:
    display.publish(numbered(1, 160, 32))
    canvas = show(page, display)
    wait_for(lambda: error_of(canvas, numbered(1, 160, 32)) < 6, "the picture")
    page.evaluate("scrollTo(0, 1500)")
    wait_for_events(display, "hide")
    display.publish(numbered(2, 160, 32))
    assert display.wait_ready(0.3) is False
    assert error_of(canvas, numbered(1, 160, 32)) < 6
    page.evaluate("scrollTo(0, 0)")
    wait_for(lambda: error_of(canvas, numbered(2, 160, 32)) < 6, "the newest once it is seen")


@pytest.mark.parametrize("policy", ["worker-src 'none'", "worker-src 'self'; child-src 'self'"])
def test_a_policy_that_forbids_blob_workers_still_shows_the_picture(
    page: Page, display: rfb.Display, policy: str
) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    canvas = show(page, display, headers={"Content-Security-Policy": policy})
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    assert page.workers == []


def test_in_a_shadow_root(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    show(page, display)
    page.evaluate(
        """() => {
            const host = document.createElement("div");
            host.className = "stage";
            document.body.prepend(host);
            const inside = host.attachShadow({ mode: "open" }).appendChild(document.createElement("div"));
            inside.style.height = "100%";
            const byId = document.getElementById;
            document.getElementById = () => inside;
            window.shadowed = window.open("stage");
            document.getElementById = byId;
            view.dispose();
        }"""
    )
    canvas = page.locator(".rfb-canvas")
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    canvas.click()
    page.keyboard.press("q")
    assert wait_for_events(display, "pointer_down", "key_down")
    page.mouse.wheel(0, 50)
    assert wait_for_events(display, "wheel")


# Geometry -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_a_frame_of_the_boxs_physical_size_is_shown_one_to_one(browser: Browser, ratio: float) -> None:
    context = browser.new_context(viewport={"width": 900, "height": 700}, device_scale_factor=ratio)
    page = context.new_page()
    display = rfb.serve(8, 8, port=0, image_mode="png")
    canvas = show(page, display)
    resize = wait_for_events(display, "resize")[-1]
    assert (resize["width"], resize["height"], resize["ratio"]) == (600, 400, ratio)
    pixels = texture(resize["pheight"], resize["pwidth"], 3)
    display.publish(pixels)
    wait_for(lambda: error_of(canvas, pixels) == 0, "the frame")
    page.mouse.move(800, 650)
    shot = page.screenshot(clip={"x": 100, "y": 100, "width": 200, "height": 150})
    top = page.locator(".rfb-stage").bounding_box()
    assert top is not None
    on_screen = np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"))
    x, y = round((100 - top["x"]) * ratio), round((100 - top["y"]) * ratio)
    np.testing.assert_array_equal(on_screen, pixels[y : y + on_screen.shape[0], x : x + on_screen.shape[1]])
    context.close()


def test_toolbar_fit_zoom_screenshot_and_figures(page: Page) -> None:
    display = rfb.serve(8, 8, port=0, image_mode="png")
    pixels = texture(100, 100, 3)
    display.publish(pixels)
    canvas = show(page, display)
    wait_for(lambda: error_of(canvas, pixels) == 0, "the picture")

    def width() -> float:
        box = canvas.bounding_box()
        assert box is not None
        return box["width"]

    assert width() == 400
    fit = page.get_by_role("button", name="Fit")
    for label, wide in (("cover", 600), ("fill", 600), ("contain", 400)):
        fit.click()
        assert fit.get_attribute("aria-label") == f"Fit: {label}"
        assert width() == wide

    canvas.click()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    wait_for(lambda: width() > 700, "the view to be zoomed")
    assert "wheel" not in [event["type"] for event in events_of(display)]
    page.get_by_role("button", name="Reset zoom").click()
    assert width() == 400

    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture").click()
    np.testing.assert_array_equal(np.asarray(Image.open(saved.value.path()).convert("RGB")), pixels)

    figures = page.locator(".rfb-figures")
    assert not figures.is_visible()
    page.get_by_role("button", name="Figures").click()
    display.publish(pixels)
    wait_for(lambda: "png" in figures.inner_text(), "figures")
    assert "100×100" in figures.inner_text()


def test_toolbar_is_reached_by_keyboard_and_every_control_has_a_name(page: Page, display: rfb.Display) -> None:
    show(page, display, height=300)
    page.focus("#before")
    names = []
    for _ in range(10):
        page.keyboard.press("Tab")
        names.append(page.evaluate("document.activeElement.getAttribute('aria-label') ?? ''"))
    for name in (
        "Escape leaves",
        "Zoom in",
        "Fit: contain",
        "Figures",
        "Save picture",
        "Full screen",
        "Height of the picture",
    ):
        assert any(name in got for got in names), (name, names)


def test_the_handle_changes_the_height_by_mouse_and_keys(page: Page, display: rfb.Display) -> None:
    show(page, display, height=300)
    root, handle = page.locator(".rfb-root"), page.locator(".rfb-handle")
    box = handle.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 30, box["y"] + 5)
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + 105, steps=4)
    page.mouse.up()
    page.mouse.move(5, 5)
    assert root.evaluate("root => root.offsetHeight") == 400
    handle.focus()
    page.keyboard.press("ArrowUp")
    assert root.evaluate("root => root.offsetHeight") == 384
    wait_for(lambda: wait_for_events(display, "resize")[-1]["height"] == 384, "the new size to be said")


def test_full_screen(page: Page, display: rfb.Display) -> None:
    show(page, display)
    wait_for(lambda: display.client_count == 1, "the viewer")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement?.className === 'rfb-root'")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement === null")


# Input ----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def stage(page: Page) -> tuple[Page, rfb.Display, dict[str, float]]:
    """A view with a frame of 100x100, of which a pixel is 4 CSS pixels wide; the canvas's box."""
    display = rfb.serve(100, 100, port=0)
    display.publish(texture(100, 100, 3))
    canvas = show(page, display)
    page.locator(".rfb-has-picture").wait_for()
    box = canvas.bounding_box()
    assert box is not None
    wait_for_events(display, "resize")
    return page, display, dict(box)


Stage = tuple[Page, rfb.Display, dict[str, float]]


def test_a_drag_is_captured_and_told_in_pixels_of_the_frame(stage: Stage) -> None:
    page, display, box = stage
    x, y = box["x"], box["y"]
    page.mouse.move(x + 40, y + 80)
    page.keyboard.down("Shift")
    page.mouse.down()
    page.mouse.move(x + 200, y + 80)
    page.mouse.move(x + 500, y - 20)  # outside the stage
    page.mouse.up()
    page.keyboard.up("Shift")
    events = wait_for_events(display, "pointer_down", "pointer_move", "pointer_up")
    down = next(event for event in events if event["type"] == "pointer_down")
    up = next(event for event in events if event["type"] == "pointer_up")
    assert (down["x"], down["y"], down["inside"]) == (10, 20, True)
    assert (down["button"], down["buttons"], down["modifiers"]) == (1, [1], ["Shift"])
    assert down["pointer_type"] == "mouse"
    assert down["pointer_id"] == up["pointer_id"]
    assert (up["x"], up["y"], up["inside"]) == (125, -5, False)
    assert (up["button"], up["buttons"]) == (1, [])
    assert up["timestamp"] > down["timestamp"]


def test_bars_beside_the_picture_are_not_inside(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] - 40, box["y"] + 10)
    page.mouse.down()
    page.mouse.up()
    down = next(event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_down")
    assert (down["x"], down["inside"]) == (-10, False)


def test_buttons_are_numbered_left_right_middle_and_a_second_one_is_told(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down(button="left")
    page.mouse.down(button="right")
    page.mouse.up(button="right")
    page.mouse.up(button="left")
    page.mouse.down(button="middle")
    page.mouse.up(button="middle")
    wanted = [("down", 1), ("down", 2), ("up", 2), ("up", 1), ("down", 3), ("up", 3)]
    got: list[dict[str, Any]] = []
    wait_for(lambda: got.extend(events_of(display, "pointer_down", "pointer_up")) or len(got) == 6, "six events")
    assert [(event["type"].removeprefix("pointer_"), event["button"]) for event in got] == wanted
    assert got[1]["buttons"] == [1, 2]


def test_enter_leave_and_double_click(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.dblclick(box["x"] + 20, box["y"] + 20)
    page.mouse.move(box["x"] + 20, box["y"] + 600)
    events = wait_for_events(display, "pointer_enter", "double_click", "pointer_leave")
    (twice,) = (event for event in events if event["type"] == "double_click")
    assert (twice["x"], twice["y"], twice["button"]) == (5, 5, 1)


def test_moves_and_wheels_come_once_a_frame_and_wheels_add_up(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 8, box["y"] + 8)
    wait_for_events(display, "pointer_up")
    sent = page.evaluate(
        """() => {
            const target = document.querySelector(".rfb-stage");
            const at = { clientX: 100, clientY: 100, bubbles: true, cancelable: true };
            for (let i = 0; i < 20; i++) {
                target.dispatchEvent(new PointerEvent("pointermove", { ...at, clientX: 100 + i }));
                target.dispatchEvent(new WheelEvent("wheel", { ...at, deltaY: 3, deltaMode: i < 10 ? 1 : 0 }));
            }
            return document.querySelector(".rfb-stage").getBoundingClientRect().x;
        }"""
    )
    assert sent == 0
    events = wait_for_events(display, "pointer_move", "wheel")
    assert len([event for event in events if event["type"] == "pointer_move"]) == 1
    (wheel,) = (event for event in events if event["type"] == "wheel")
    assert wheel["dy"] == pytest.approx(10 * 100 + 10 * 3), "lines are 33 pixels, three of them a notch"


def test_the_wheel_is_the_pages_without_focus_and_ours_with_it(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(0, 100)
    page.wait_for_function("scrollY > 0")
    page.evaluate("scrollTo(0, 0)")
    assert events_of(display, "wheel") == []
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.mouse.wheel(30, 100)
    (wheel,) = (event for event in wait_for_events(display, "wheel") if event["type"] == "wheel")
    assert (wheel["dx"], wheel["dy"]) == (30, 100)
    assert page.evaluate("scrollY") == 0


def test_keys_come_without_repeats_characters_with_them(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.keyboard.down("a")
    page.keyboard.down("a")
    page.keyboard.down("a")
    page.keyboard.up("a")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Shift+B")
    events = wait_for_events(display, "char", "key_up", "key_up", "char", "key_up", "key_up")
    keys = [(event["type"], event["key"]) for event in events if event["type"].startswith("key")]
    assert keys == [
        *(("key_down", "a"), ("key_up", "a")),
        *(("key_down", "ArrowDown"), ("key_up", "ArrowDown")),
        *(("key_down", "Shift"), ("key_down", "B"), ("key_up", "B"), ("key_up", "Shift")),
    ]
    typed = [(event["data"], event["repeat"]) for event in events if event["type"] == "char"]
    assert typed == [("a", False), ("a", True), ("a", True), ("B", False)]
    assert page.evaluate("scrollY") == 0, "arrows don't scroll the page"
    big = next(event for event in events if event.get("key") == "B")
    assert (big["code"], big["modifiers"]) == ("KeyB", ["Shift"])


def test_composed_characters_come_once_as_text(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "n", "selectionStart": 1, "selectionEnd": 1})
    session.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    session.send("Input.insertText", {"text": "日"})
    got: list[dict[str, Any]] = []
    wait_for(lambda: got.extend(events_of(display, "char")) or any(not e["is_composing"] for e in got), "the text")
    assert [event["data"] for event in got if event["is_composing"]] == ["n", "に", "日"]
    assert [event["data"] for event in got if not event["is_composing"]] == ["日"]
    page.keyboard.press("x")
    assert [event["data"] for event in wait_for_events(display, "char") if event["type"] == "char"] == ["x"]


def test_nothing_stays_pressed_when_the_focus_goes(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.mouse.down(button="right")
    page.keyboard.down("w")
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    events = wait_for_events(display, "pointer_down", "key_down", "pointer_up", "pointer_up", "pointer_leave", "key_up")
    ups = [(event["button"], event["buttons"]) for event in events if event["type"] == "pointer_up"]
    assert ups == [(1, [2]), (2, [])]


def test_escape_gives_the_focus_back_to_where_it_came_from(stage: Stage) -> None:
    page, display, box = stage
    page.focus("#before")
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    assert page.evaluate("document.activeElement.className") == "rfb-keys"
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "before"
    events = wait_for_events(display, "focus_in", "key_down", "key_up", "focus_out")
    assert [event["key"] for event in events if event["type"] == "key_down"] == ["Escape"]


def test_touches_are_told_with_their_ids(browser: Browser, display: rfb.Display) -> None:
    display.publish(texture(100, 100, 3))
    context = browser.new_context(has_touch=True, viewport={"width": 900, "height": 700})
    page = context.new_page()
    canvas = show(page, display)
    page.locator(".rfb-has-picture").wait_for()
    box = canvas.bounding_box()
    assert box is not None
    cdp = context.new_cdp_session(page)
    points = [{"x": box["x"] + 40 * n, "y": box["y"] + 40, "id": n} for n in (1, 2)]
    cdp.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": points})
    moved = [{**point, "y": box["y"] + 80} for point in points]
    cdp.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": moved})
    cdp.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    events = wait_for_events(display, "pointer_down", "pointer_down", "pointer_move", "pointer_up", "pointer_up")
    two = next(event for event in events if event["type"] == "pointer_down" and event["ntouches"] == 2)
    assert two["pointer_type"] == "touch"
    assert sorted(touch["x"] for touch in two["touches"].values()) == [10, 20]
    assert [touch["y"] for touch in two["touches"].values()] == [10, 10]
    moves = {event["pointer_id"] for event in events if event["type"] == "pointer_move"}
    assert len(moves) == 2, "each finger's move is told"
    context.close()


# When it can't --------------------------------------------------------------------------------------------------------


def notice(page: Page) -> str:
    """The words of the notice, once it is there."""
    page.locator(".rfb-notice").wait_for(timeout=15_000)
    return page.locator(".rfb-words").inner_text()


def test_a_refused_token_is_said_and_tried_again_by_the_button(page: Page, display: rfb.Display) -> None:
    show(page, display, token="old")
    assert "refused the token" in notice(page)
    assert page.evaluate("view.state") == "failed"
    token, display.server.token = display.server.token, "old"
    page.get_by_role("button", name="Try again").click()
    page.wait_for_function("view.state === 'live'")
    assert not page.locator(".rfb-notice").is_visible()
    display.server.token = token


def test_a_foreign_page_is_told_about_origins(
    page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdum_rfb_widget.server.origin_allowed", lambda *_: False)
    show(page, display)
    words = notice(page)
    assert "http://127.0.0.1:" in words
    assert "may not open this stream" in words
    assert "origins=" in words


def test_no_common_format_is_said(page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pdum_rfb_widget.protocol.MIMES", {mode: "image/jxl" for mode in ("jpeg", "png", "webp")})
    show(page, display)
    assert "This browser can't show the stream" in notice(page)


@pytest.mark.parametrize(
    ("script", "words"), [("", "older than its hub"), ("delete window.VideoDecoder", "This page has no WebCodecs")]
)
def test_video_that_the_page_cannot_decode_is_said(
    page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch, script: str, words: str
) -> None:
    config = '{"type":"config","transport":"webcodecs","width":8,"height":8,"codec":"avc1.42E01F"}'
    monkeypatch.setattr("pdum_rfb_widget.session.config_message", lambda *_: config)
    page.add_init_script(script)
    show(page, display, mainThreadPresent=True)
    assert words in notice(page)


def test_a_hub_that_is_gone_is_said_and_found_again(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    canvas = show(page, display)
    wait_for(lambda: error_of(canvas, pixels) < 6, "the picture")
    port, token = display.port, display.server.token
    display.server.close()
    page.wait_for_function("view.state !== 'live'")
    words = wait_until_notice(page, "Nothing answers")
    assert f"Nothing answers at ws://127.0.0.1:{port}" in words
    assert "Is the kernel running?" in words
    assert error_of(canvas, pixels) < 6, "the last picture stays"
    again = rfb.serve(64, 48, port=port)
    again.server.token = token
    again.publish(numbered(3, 160, 32))
    wait_for(lambda: error_of(canvas, numbered(3, 160, 32)) < 6, "the picture of the new hub")
    assert not page.locator(".rfb-notice").is_visible()


def wait_until_notice(page: Page, words: str) -> str:
    page.wait_for_function(f"document.querySelector('.rfb-words').textContent.includes({json.dumps(words)})")
    return notice(page)


def test_a_closed_display_is_said_and_comes_back_when_it_is_served_again(page: Page, display: rfb.Display) -> None:
    display.publish(texture(48, 64, 3))
    canvas = show(page, display)
    wait_for(lambda: display.client_count == 1, "the viewer")
    other = display.server.add_stream("other", 8, 8)
    display.close()
    assert "The display was closed." in notice(page)
    assert "no stream 'default'" in wait_until_notice(page, "no stream")
    again = other.server.add_stream("default", 64, 48)
    again.publish(numbered(3, 160, 32))
    wait_for(lambda: error_of(canvas, numbered(3, 160, 32)) < 6, "the picture of the new display")


@contextmanager
def strange_hub(*messages: str | bytes, close: tuple[int, str] | None = None) -> Iterator[tuple[str, list[str]]]:
    """A hub of a stranger's making that answers every hello with *messages*; its address, and what it was told."""
    heard: list[str] = []

    def welcome(socket: ServerConnection) -> None:
        for text in socket:
            heard.append(json.loads(text)["type"])
            if heard[-1] in ("hello", "decoder_reset"):
                for message in messages:
                    socket.send(message)
                if close:
                    socket.close(*close)

    with serve_websocket(welcome, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        yield f"ws://127.0.0.1:{server.socket.getsockname()[1]}", heard
        server.shutdown()
        serving.join()


CONFIG = json.dumps({"type": "config", "transport": "image", "width": 8, "height": 6, "coords": "frame-pixels"})


def image_message(data: bytes, **header: Any) -> bytes:
    return pack_binary_message(
        {"type": "image_frame", "seq": 1, "width": 8, "height": 6, "mime": "image/png", "timestamp_us": 0} | header,
        data,
    )


def test_a_strangers_hub_that_knows_only_the_base_protocol_is_shown(page: Page, display: rfb.Display) -> None:
    pixels = texture(6, 8, 3)
    future = [json.dumps({"type": "from_the_future"}), pack_binary_message({"type": "hologram"}, b"?")]
    with strange_hub(CONFIG, *future, image_message(encode_png(pixels))) as (url, heard):
        canvas = show(page, display, url=url, token="")
        wait_for(lambda: error_of(canvas, pixels) == 0, "the picture")
        wait_for(lambda: "ack" in heard, "the ack")


@pytest.mark.parametrize("message", [image_message(b"no picture"), b"\xff\xff\x00\x00{}"])
def test_pictures_that_never_decode_are_said(page: Page, display: rfb.Display, message: bytes) -> None:
    with strange_hub(CONFIG, message) as (url, heard):
        show(page, display, url=url)
        assert "can't be shown" in notice(page)
        assert heard.count("decoder_reset") >= 2
        assert "ack" not in heard


def test_a_hub_that_closes_again_and_again_is_said_and_not_hammered(page: Page, display: rfb.Display) -> None:
    with strange_hub(CONFIG, close=(4429, "too many viewers")) as (url, heard):
        show(page, display, url=url)
        assert "Too many viewers." in wait_until_notice(page, "many viewers")
        page.wait_for_timeout(4000)
        assert heard.count("hello") <= 6, "a quarter of a second, then half of one, then one ..."


def test_a_hub_without_a_frame_yet_is_waited_for_and_not_shown_as_live(page: Page, display: rfb.Display) -> None:
    display.publish(texture(48, 64, 3))
    canvas = show(page, display)
    page.wait_for_function("document.querySelector('.rfb-root').dataset.state === 'live'")
    port, token = display.port, display.server.token
    display.server.close()
    page.wait_for_function("document.querySelector('.rfb-root').dataset.state === 'reconnecting'")
    again = rfb.serve(64, 48, port=port)
    again.server.token = token
    page.wait_for_function("document.querySelector('.rfb-root').dataset.state === 'waiting'")
    assert page.locator(".rfb-status").inner_text() == "Waiting for the first frame…"
    again.publish(numbered(4, 160, 32))
    wait_for(lambda: error_of(canvas, numbered(4, 160, 32)) < 6, "the frame")
    assert not page.locator(".rfb-status").is_visible()


# Pages of all kinds ---------------------------------------------------------------------------------------------------


def test_a_pages_own_rules_for_bare_elements_change_nothing(page: Page, display: rfb.Display) -> None:
    css = (
        "canvas { max-width: 50%; border: 9px solid } button { padding: 2em; min-width: 200px }"
        "textarea { width: 100%; min-height: 120px; opacity: 1; display: block }"
    )
    display.publish(texture(100, 100, 3))
    canvas = show(page, display, body=f"<style>{css}</style>{STAGE}")
    page.locator(".rfb-has-picture").wait_for()
    box = canvas.bounding_box()
    assert box is not None
    assert (box["width"], box["height"]) == (400, 400)
    assert page.locator(".rfb-button").last.evaluate("button => button.offsetWidth") == 28
    assert page.locator(".rfb-keys").evaluate("keys => [keys.offsetWidth, getComputedStyle(keys).opacity]") == [1, "0"]


def test_properties_of_the_page_win(page: Page, display: rfb.Display) -> None:
    show(page, display, body="<style>.rfb-root { --rfb-background: rgb(9, 8, 7) }</style>" + STAGE)
    background = "root => getComputedStyle(root).backgroundColor"
    assert page.locator(".rfb-root").evaluate(background) == "rgb(9, 8, 7)"


def test_a_policy_that_forbids_inline_styles_changes_nothing(page: Page, display: rfb.Display) -> None:
    display.publish(texture(100, 100, 3))
    body = '<link rel="stylesheet" href="data:text/css,.stage{width:600px;height:400px}">' + STAGE
    show(page, display, body=body, headers={"Content-Security-Policy": "style-src 'self' data:"})
    page.locator(".rfb-has-picture").wait_for()
    assert page.locator(".rfb-canvas").evaluate("canvas => getComputedStyle(canvas).position") == "absolute"


def test_a_scaled_view_takes_input_where_it_is_seen(page: Page, display: rfb.Display) -> None:
    display.publish(texture(100, 100, 3))
    canvas = show(page, display)
    page.locator(".rfb-has-picture").wait_for()
    page.evaluate("document.getElementById('stage').style.transform = 'scale(0.5)'")
    box = canvas.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    down = next(event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_down")
    assert (down["x"], down["y"]) == (50, 50)


def test_typing_does_not_scroll_the_page(page: Page, display: rfb.Display) -> None:
    show(page, display, height=3000)
    page.locator(".rfb-stage").click(position={"x": 50, "y": 50})
    page.keyboard.press("a")
    wait_for_events(display, "char")
    assert page.evaluate("scrollY") == 0


def test_a_long_paste_comes_in_pieces(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.keyboard.insert_text("x" * 450)
    got: list[str] = []
    wait_for(lambda: got.extend(e["data"] for e in events_of(display, "char")) or len("".join(got)) >= 450, "the text")
    assert [len(piece) for piece in got] == [200, 200, 50]
    assert display.client_count == 1


def test_escape_does_not_give_the_focus_to_the_views_own_buttons(stage: Stage) -> None:
    page, _, box = stage
    page.focus("#before")
    page.get_by_role("button", name="Figures").click()
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('.rfb-root')") is None


def test_what_cover_cuts_off_can_be_panned_to(stage: Stage) -> None:
    page, _, _ = stage
    page.get_by_role("button", name="Fit").click()
    canvas = page.locator(".rfb-canvas")
    before = canvas.bounding_box()
    assert before is not None
    page.keyboard.down("Alt")
    page.mouse.move(300, 200)
    page.mouse.down()
    page.mouse.move(300, 250, steps=3)
    page.mouse.up()
    page.keyboard.up("Alt")
    after = canvas.bounding_box()
    assert after is not None
    assert after["y"] == before["y"] + 50


def test_zoom_by_buttons(stage: Stage) -> None:
    page, _, _ = stage
    canvas = page.locator(".rfb-canvas")
    page.get_by_role("button", name="Zoom in").click()
    assert canvas.evaluate("canvas => canvas.offsetWidth") == 600
    page.get_by_role("button", name="Zoom out").click()
    assert canvas.evaluate("canvas => canvas.offsetWidth") == 400


def test_the_hubs_own_page_shows_the_stream(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    page.goto(display.url)
    wait_for(lambda: error_of(page.locator(".rfb-canvas"), pixels) < 6, "the picture")
    page.goto(display.url.split("#")[0] + "#token=wrong")
    page.reload()
    assert "refused the token" in notice(page)
