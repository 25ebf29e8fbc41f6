"""The browser's half in a real Chromium, on a plain page: pixels, order, life, and geometry."""

from __future__ import annotations

import io
import threading

import numpy as np
import pytest
from conftest import Stage
from hosts import error_of, numbers_seen, read_canvas, wait_for, watch_numbers
from pages import STAGE, events_of, numbered, show, texture, wait_for_events
from PIL import Image
from playwright.sync_api import Browser, Page
from relay import SlowLink
from viewers import RawViewer

import pdum_rfb_widget as rfb

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
        lagging.join(60)


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


def test_views_share_workers_and_all_come_back_after_one_has_died(page: Page) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'hardwareConcurrency', { value: 2 })")
    page.clock.install()
    displays = [rfb.serve(64, 48, port=0, name=f"stream-{n}") for n in range(5)]
    body = "".join(f'<div id="stage{n or ""}" style="width: 200px; height: 100px"></div>' for n in range(5))
    show(page, displays[0], body=body)
    for n in range(1, 5):
        page.evaluate("([id, url]) => void window.open(id, { url })", [f"stage{n}", displays[n].ws_url])

    def all_show(number: int) -> None:
        for n, display in enumerate(displays):
            pixels = numbered(number + n, 160, 32)
            display.publish(pixels)
            canvas = page.locator(f"#stage{n or ''} .rfb-canvas")
            wait_for(lambda canvas=canvas, pixels=pixels: error_of(canvas, pixels) < 6, f"a picture in view {n}")

    all_show(1)
    assert len(page.workers) == 2
    page.workers[0].evaluate("close()")
    wait_for(lambda: page.evaluate("true") and len(page.workers) == 1, "the worker to be dead")
    page.evaluate("dispatchEvent(new Event('online'))")
    page.clock.fast_forward(5000)
    all_show(11)
    assert [display.client_count for display in displays] == [1] * 5
    assert len(page.workers) == 2


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
    for label, wide in (("cover", 600), ("fill", 600), ("one to one", 100), ("contain", 400)):
        fit.click()
        assert fit.get_attribute("aria-label") == f"Fit: {label}"
        assert width() == wide

    canvas.click()
    page.keyboard.down("Control")
    page.mouse.wheel(0, -200)
    page.keyboard.up("Control")
    wait_for(lambda: width() > 700, "the view to be zoomed")
    assert "wheel" not in [event["type"] for event in events_of(display)]
    assert page.locator(".rfb-zoom").inner_text() == f"{width() / 4:.0f} %"
    page.get_by_role("button", name="Reset zoom").click()
    assert width() == 400
    assert not page.locator(".rfb-zoom").is_visible()

    with page.expect_download() as saved:
        page.get_by_role("button", name="Save picture").click()
    np.testing.assert_array_equal(np.asarray(Image.open(saved.value.path()).convert("RGB")), pixels)

    figures = page.locator(".rfb-stats")
    assert not figures.is_visible()
    page.get_by_role("button", name="Statistics").click()
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
        "Statistics",
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


@pytest.mark.parametrize("height", [300, "auto"])
def test_the_handle_says_the_height_that_the_view_has_now(page: Page, display: rfb.Display, height: int | str) -> None:
    show(page, display, height=height)
    root, handle = page.locator(".rfb-root"), page.locator(".rfb-handle")

    def says(height: object) -> bool:
        least, now, most = (handle.get_attribute(f"aria-value{name}") for name in ("min", "now", "max"))
        return bool(now and least and most) and int(least) <= int(now) <= int(most) and now == str(height)

    wait_for(lambda: says(root.evaluate("root => root.offsetHeight")), "the height at first")
    handle.focus()
    page.keyboard.press("ArrowDown")
    wait_for(lambda: says(root.evaluate("root => root.offsetHeight")), "the height after a key")
    page.evaluate("view.setHeight(222)")
    wait_for(lambda: says(222), "a height that the page sets")


def test_full_screen(page: Page, display: rfb.Display) -> None:
    show(page, display)
    wait_for(lambda: display.client_count == 1, "the viewer")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement?.className === 'rfb-root'")
    page.get_by_role("button", name="Full screen").click()
    page.wait_for_function("document.fullscreenElement === null")


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


# What changed, and fidelity -------------------------------------------------------------------------------------------


def test_on_a_slow_link_the_newest_comes_soon_and_then_becomes_exact(page: Page) -> None:
    display = rfb.serve(640, 480, port=0)
    with SlowLink(display.port, rate=400_000) as link:
        canvas = show(page, display, url=f"ws://127.0.0.1:{link.port}/{display.name}")
        frames = [texture(480, 640, 3) for _ in range(4)]
        for step in range(80):
            display.publish(frames[step % 4])
            display.wait_ready(0.03)
        wait_for(lambda: error_of(canvas, frames[3]) < 10, "the last frame")
        wait_for(lambda: error_of(canvas, frames[3]) == 0, "the last frame, exactly")
        (client,) = display.status()["clients"]
        assert client["frames_dropped"] > 0, "some were skipped"


def test_regions_are_drawn_where_they_belong_and_leave_the_rest(page: Page) -> None:
    display = rfb.serve(8, 8, port=0, quality="lossless")
    canvas = show(page, display)
    pixels = texture(300, 500, 3)
    display.publish(pixels)
    for x, y, width, height in ((0, 0, 1, 1), (120, 60, 200, 130), (499, 299, 1, 1), (0, 150, 500, 3)):
        pixels = pixels.copy()
        pixels[y : y + height, x : x + width] = texture(height, width, 3)[::-1]
        display.publish(pixels)
        wait_for(lambda wanted=pixels: error_of(canvas, wanted) == 0, f"the region at {x}, {y}")
    (client,) = display.status()["clients"]
    assert client["bytes_sent"] < 2 * 300 * 500 * 3


@pytest.mark.parametrize("size", [(16384, 64), (64, 16384)])
def test_the_longest_pictures_are_shown_exactly(page: Page, size: tuple[int, int]) -> None:
    display = rfb.serve(8, 8, port=0)
    canvas = show(page, display)
    pixels = texture(*size, 3)
    display.publish(pixels)
    wait_for(lambda: error_of(canvas, pixels) == 0, "exact pixels")


def test_alpha_shows_what_is_behind_where_it_is_asked_for(page: Page) -> None:
    pixels = np.full((64, 64, 4), 255, np.uint8)
    pixels[:, 32:] = 0
    alphas = """canvas => {
        const copy = document.createElement("canvas").getContext("2d");
        copy.drawImage(canvas, 0, 0);
        return [0, 63].map((x) => copy.getImageData(x, 5, 1, 1).data[3]);
    }"""
    for alpha, wanted in ((True, [255, 0]), (False, [255, 255])):
        display = rfb.serve(64, 64, port=0, alpha=alpha)
        display.publish(pixels)
        canvas = show(page, display)
        wait_for(lambda canvas=canvas, wanted=wanted: canvas.evaluate(alphas) == wanted, f"alpha {wanted}")


def test_a_hidden_view_is_sent_nothing_and_the_newest_when_it_is_shown(page: Page) -> None:
    display = rfb.serve(64, 48, port=0, quality="lossless")
    display.publish(texture(48, 64, 3))
    canvas = show(page, display)
    page.locator(".rfb-has-picture").wait_for()
    page.evaluate("scrollTo(0, 2000)")
    wait_for_events(display, "hide")
    (before,) = display.status()["clients"]
    for _ in range(20):
        last = texture(48, 64, 3)
        display.publish(last)
    assert not display.wait_ready(0.2)
    (client,) = display.status()["clients"]
    assert client["bytes_sent"] == before["bytes_sent"]
    page.evaluate("scrollTo(0, 0)")
    wait_for(lambda: error_of(canvas, last) == 0, "the newest frame")
    (client,) = display.status()["clients"]
    assert client["frames_sent"] == 2
