"""How the view looks on a page: its size in every layout, its colours on every theme, and its name."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hosts import error_of, free_port, wait_for
from pages import events_of, show, texture, wait_for_events, wait_until_notice
from playwright.sync_api import Page

import pdum_rfb_widget as rfb

VIEW = '<div id="stage"></div>'
LAYOUTS = {
    "block": f"<div>{VIEW}</div>",
    "inline-block": f'<div style="display: inline-block; padding: 1px; border: 0.5px solid">{VIEW}</div>',
    "fit-content": f'<div style="width: fit-content">{VIEW}</div>',
    "row": f'<div style="display: flex">{VIEW}<button>a button</button></div>',
    "column": f'<div style="display: flex; flex-direction: column; align-items: center">{VIEW}</div>',
    "grid": f'<div style="display: grid; grid-template-columns: auto 1fr">{VIEW}<p>a text</p></div>',
    "table": f"<table><tr><td>{VIEW}</td><td>a text</td></tr></table>",
}


def box_of(page: Page, selector: str = ".rfb-root") -> dict[str, float]:
    box = page.locator(selector).first.bounding_box()
    assert box is not None
    return dict(box)


def show_shaped(page: Page, display: rfb.Display, body: str, **options: Any) -> dict[str, float]:
    """The view's box, once its picture is there."""
    show(page, display, body=body, **{"height": "auto"} | options)
    page.locator(".rfb-has-picture").wait_for()
    return box_of(page)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_every_layout_the_box_is_as_large_as_the_picture_and_stays_so(page: Page, layout: str) -> None:
    display = rfb.serve(640, 360, port=0)
    display.publish(texture(360, 640, 3))
    box = show_shaped(page, display, LAYOUTS[layout])
    width = 900 if layout == "block" else 640
    assert (box["width"], box["height"]) == (width, width * 9 / 16)
    canvas = box_of(page, ".rfb-canvas")
    assert abs(canvas["width"] - box["width"]) <= 1, "no bars"
    told: list[float] = []
    wait_for(
        lambda: (
            told.extend(event["width"] for event in events_of(display, "resize"))
            or any(abs(size - width) <= 1 for size in told[-1:])
        ),
        "the view to tell its size",
    )
    # Sixty frames of the page, in which a box that grows with its content would.
    page.evaluate("(async () => { for (let i = 0; i < 60; i++) await new Promise(requestAnimationFrame) })()")
    assert box_of(page) == box
    page.mouse.click(box["x"] + 5, box["y"] + 5)
    assert "resize" not in [event["type"] for event in wait_for_events(display, "pointer_down")]


def test_in_the_smallest_box_the_toolbar_is_whole_and_all_words_can_be_read(page: Page, display: rfb.Display) -> None:
    display.publish(texture(48, 64, 3))
    body = '<div id="stage" style="width: 240px; height: 80px"></div>'
    show(page, display, body=body)
    page.locator(".rfb-has-picture").wait_for()
    page.locator(".rfb-root").hover()
    page.get_by_role("button", name="Zoom in").click()
    page.get_by_role("button", name="Reset zoom").wait_for()
    assert box_of(page, ".rfb-toolbar")["x"] >= 0
    show(page, display, body=body, url=f"ws://127.0.0.1:{free_port()}/default")
    wait_until_notice(page, "Nothing answers at")
    notice = page.locator(".rfb-notice")
    notice.evaluate("notice => notice.scrollTo(0, 0)")
    assert box_of(page, ".rfb-words")["y"] >= box_of(page, ".rfb-notice")["y"]
    assert notice.evaluate("notice => notice.scrollWidth <= notice.clientWidth")


def test_views_in_a_row_share_it(page: Page) -> None:
    display = rfb.serve(1280, 720, port=0)
    display.publish(texture(720, 1280, 3))
    body = f'<div style="display: flex">{VIEW}<div id="other"></div></div>'
    show(page, display, body=body, height="auto")
    page.evaluate("open('other', { height: 'auto' })")
    page.wait_for_function("document.querySelectorAll('.rfb-has-picture').length === 2")
    boxes = page.locator(".rfb-root").evaluate_all(
        "roots => roots.map((root) => [root.offsetWidth, root.offsetHeight])"
    )
    assert boxes == [[450, 253], [450, 253]]


@pytest.mark.parametrize(("size", "most"), [((640, 360), (400, 225)), ((300, 900), (400, 595))])
def test_the_box_keeps_the_pictures_shape_within_the_window(
    page: Page, size: tuple[int, int], most: tuple[int, int]
) -> None:
    page.set_viewport_size({"width": 400, "height": 700})
    display = rfb.serve(*size, port=0)
    box = show_shaped_before(page, display)
    assert (box["width"], box["height"]) == most, "before there is a picture"
    display.publish(texture(size[1], size[0], 3))
    page.locator(".rfb-has-picture").wait_for()
    assert box_of(page) == box
    page.evaluate("view.setHeight(150)")
    assert box_of(page)["height"] == 150
    page.evaluate("view.setHeight('auto')")
    assert box_of(page) == box
    display.publish(texture(200, 400, 3))
    page.wait_for_function("document.querySelector('.rfb-root').offsetHeight === 200")


def show_shaped_before(page: Page, display: rfb.Display) -> dict[str, float]:
    show(page, display, body=VIEW, height="auto")
    page.locator("[data-state=waiting]").wait_for()
    return box_of(page)


def test_a_box_that_is_followed_does_not_follow(page: Page) -> None:
    display = rfb.serve(640, 360, port=0, resize_policy="match_client", resize_debounce=0)
    display.publish(texture(360, 640, 3))
    body = f'<div style="display: inline-block; padding: 0.3px">{VIEW}</div>'
    box = show_shaped(page, display, body)
    assert (box["width"], box["height"]) == (640, 480)
    for size in ((480, 640), (100, 900), (700, 20)):
        pixels = texture(*size, 3)
        display.publish(pixels)
        wait_for(lambda pixels=pixels: error_of(page.locator(".rfb-canvas"), pixels) < 6, f"a frame of {size}")
        assert box_of(page) == box
    assert display.target_size == (640, 480)


def test_one_to_one_the_box_follows_the_screens_pixels(page: Page) -> None:
    display = rfb.serve(400, 200, port=0)
    display.publish(texture(200, 400, 3))
    box = show_shaped(page, display, VIEW, fit="none")
    assert (box["width"], box["height"]) == (900, 200)
    metrics = {"width": 800, "height": 700, "mobile": False, "deviceScaleFactor": 2}
    page.context.new_cdp_session(page).send("Emulation.setDeviceMetricsOverride", metrics)
    wait_for(lambda: box_of(page)["height"] == 100, "the box to follow")
    assert box_of(page, ".rfb-canvas")["height"] == 100


def test_what_an_application_makes_for_its_box_leaves_that_as_it_is(page: Page) -> None:
    """As those do that publish what a `resize` asks for: rounded shapes of a high box would make it ever higher."""
    page.set_viewport_size({"width": 900, "height": 900})
    display = rfb.serve(300, 600, port=0)
    display.publish(texture(600, 300, 3))
    box = show_shaped(page, display, f'<div style="width: 300.9px">{VIEW}</div>')
    for width in (300.9, 301.7, 302.9):
        page.evaluate(f"document.getElementById('stage').parentNode.style.width = '{width}px'")
        wait_for(lambda width=width: box_of(page)["width"] == pytest.approx(width, abs=0.02), "the new width")
        height = box_of(page)["height"]
        pixels = texture(int(height), int(width), 3)
        display.publish(pixels)
        wait_for(lambda pixels=pixels: error_of(page.locator(".rfb-canvas"), pixels) < 6, "the frame")
        assert box_of(page)["height"] == height
    assert box["height"] < height < box["height"] + 9


@pytest.mark.parametrize("main_thread", [False, True])
def test_a_view_that_is_taken_out_of_the_page_and_put_back_keeps_its_picture(page: Page, main_thread: bool) -> None:
    """What the window shows, without any new frame: a canvas may hold what is not drawn."""
    display = rfb.serve(600, 400, port=0, quality="lossless")
    pixels = texture(400, 600, 3)
    display.publish(pixels)
    canvas = show(page, display, showToolbar=False, mainThreadPresent=main_thread)
    wait_for(lambda: error_of(canvas, pixels) == 0, "the picture")
    before = page.screenshot()
    page.evaluate(
        """async () => {
            const root = document.querySelector(".rfb-root"), parent = root.parentNode;
            const frame = () => new Promise(requestAnimationFrame);
            for (let i = 0; i < 20; i++) {
                root.remove();
                await frame();
                parent.append(root);
                await frame();
            }
            scrollTo(0, 1500);
            for (let i = 0; i < 20; i++) await frame();
            scrollTo(0, 0);
        }"""
    )
    wait_for(lambda: page.screenshot() == before, "the same window")


# Names ----------------------------------------------------------------------------------------------------------------


def test_a_view_is_named_and_its_state_is_read_with_its_name(page: Page, display: rfb.Display) -> None:
    show(page, display, label="Terrain")
    said = page.get_by_role("status")
    wait_for(lambda: said.inner_text() == "Terrain: Waiting for the first frame…", "that it waits")
    display.publish(texture(48, 64, 3))
    wait_for(lambda: said.inner_text() == "Terrain: live", "that it is live")
    assert page.get_by_role("group", name="Terrain", exact=True).count() == 1
    assert page.get_by_role("img", name="Terrain: live", exact=True).count() == 1
    page.evaluate("view.setLabel('')")
    assert page.get_by_role("group", name="Remote picture", exact=True).count() == 1
    display.close()
    wait_for(lambda: "The display was closed." in said.inner_text(), "that it is closed")


def test_when_all_is_well_connection_offers_nothing_to_try(page: Page, display: rfb.Display) -> None:
    display.publish(texture(48, 64, 3))
    show(page, display)
    page.locator("[data-state=live]").wait_for()
    page.get_by_role("button", name="Connection").click()
    assert page.locator(".rfb-words").inner_text() == "Connected"
    assert not page.get_by_role("button", name="Try again").is_visible()


# Colours --------------------------------------------------------------------------------------------------------------

JUPYTER = {
    "light": ("white", "white", "rgba(0, 0, 0, 0.87)", "#1976d2"),
    "dark": ("#111111", "#212121", "rgba(255, 255, 255, 1)", "#2196f3"),
}
CODE = {"light": ("#ffffff", "#f3f3f3", "#616161", "#0090f1"), "dark": ("#1e1e1e", "#252526", "#cccccc", "#007fd4")}


def rules_of(host: str, theme: str) -> str:
    if host == "jupyter":
        names, values = ("layout-color1", "layout-color2", "ui-font-color1", "brand-color1"), JUPYTER[theme]
        return "".join(f"--jp-{name}: {value};" for name, value in zip(names, values, strict=True))
    if host == "vscode":
        names = ("editor-background", "editorWidget-background", "editor-foreground", "focusBorder")
        return "".join(f"--vscode-{name}: {value};" for name, value in zip(names, CODE[theme], strict=True))
    return f"color-scheme: {theme};" if host == "scheme" else f"background: {'#fff' if theme == 'light' else '#000'};"


def rgba(color: str) -> tuple[float, float, float, float]:
    """A computed colour, 0 to 1: `rgb(0, 0, 0)`, or `color(srgb 0 0 0 / 1)` where it was mixed."""
    numbers = [float(number) for number in re.findall(r"[\d.e-]+", color.removeprefix("color(srgb"))]
    scale = 1 if "srgb" in color else 255
    red, green, blue = (number / scale for number in numbers[:3])
    return red, green, blue, numbers[3] if len(numbers) > 3 else 1.0


def over(color: tuple[float, ...], below: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(color[3] * top + (1 - color[3]) * under for top, under in zip(color[:3], below, strict=False))


def luminance(color: tuple[float, ...]) -> float:
    """As WCAG 2 defines it."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(text: str, panel: str, picture: tuple[float, ...]) -> float:
    ground = over(rgba(panel), picture)
    first, second = luminance(over(rgba(text), ground)), luminance(ground)
    return (max(first, second) + 0.05) / (min(first, second) + 0.05)


COLOURS = """() => Object.entries({
    ".rfb-button": ".rfb-toolbar", ".rfb-zoom": ".rfb-toolbar", ".rfb-status": ".rfb-status",
    ".rfb-row": ".rfb-stats", ".rfb-target": ".rfb-stats",
    ".rfb-words": ".rfb-notice", ".rfb-retry": ".rfb-notice", ".rfb-tried": ".rfb-notice",
}).map(([text, panel]) => [text, getComputedStyle(document.querySelector(text)).color,
    getComputedStyle(document.querySelector(panel)).backgroundColor])"""


@pytest.mark.parametrize("host", ["jupyter", "vscode", "scheme", "bare", "forced"])
def test_all_text_is_read_over_any_picture_in_any_theme_of_page_and_system(
    page: Page, display: rfb.Display, host: str
) -> None:
    for theme in ("light", "dark"):
        body = f"<style>html {{ {rules_of(host, theme)} }}</style><div id='stage' class='stage'></div>"
        for system in ("light", "dark"):
            forced = "active" if host == "forced" else "none"
            page.emulate_media(color_scheme=system, forced_colors=forced)  # type: ignore[arg-type]
            show(page, display, body=body)
            for name, text, panel in page.evaluate(COLOURS):
                for picture in ((0, 0, 0), (1, 1, 1)):
                    ratio = contrast(text, panel, picture)
                    assert ratio >= 4.5, (theme, system, name, text, panel, picture)
