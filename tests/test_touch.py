"""Fingers, pens and trackpads over the picture, in a real Chromium: whose they are, and what is told of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hosts import wait_for
from pages import events_of, show, texture, wait_for_events
from playwright.sync_api import Browser, CDPSession, Page

import pdum_rfb_widget as rfb

Open = Callable[..., tuple[Page, CDPSession, dict[str, float]]]


@pytest.fixture
def opened(browser: Browser, display: rfb.Display) -> Iterator[Open]:
    """Opens a page of a touch screen with a view of *display*: a frame of 100x100, a pixel is 4 CSS pixels wide."""
    context = browser.new_context(has_touch=True, viewport={"width": 900, "height": 700})

    def open_(**options: Any) -> tuple[Page, CDPSession, dict[str, float]]:
        display.publish(texture(100, 100, 3))
        page = context.new_page()
        canvas = show(page, display, **options)
        page.locator(".rfb-has-picture").wait_for()
        box = canvas.bounding_box()
        assert box is not None
        wait_for_events(display, "resize")
        return page, context.new_cdp_session(page), dict(box)

    yield open_
    context.close()


def touch(cdp: CDPSession, kind: str, *points: tuple[float, float]) -> None:
    touches = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
    cdp.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": touches})


def swipe(cdp: CDPSession, x: float, y: float, by: float) -> None:
    touch(cdp, "Start", (x, y))
    for step in range(1, 11):
        touch(cdp, "Move", (x, y + by * step / 10))
    touch(cdp, "End")


def wait_for_one(display: rfb.Display, kind: str) -> dict[str, Any]:
    return next(event for event in wait_for_events(display, kind) if event["type"] == kind)


def presses(display: rfb.Display) -> list[str]:
    return [event["type"] for event in events_of(display, "pointer_down", "pointer_up")]


def test_a_swipe_scrolls_the_page_until_a_tap_gives_the_picture_the_focus(opened: Open, display: rfb.Display) -> None:
    page, cdp, box = opened()
    x, y = box["x"] + 40, box["y"] + 300
    page.evaluate("() => addEventListener('scrollend', () => { window.scrolled = scrollY; }, { once: true })")
    swipe(cdp, x, y, -200)
    page.wait_for_function("window.scrolled > 0")
    page.evaluate("scrollTo(0, 0)")
    page.touchscreen.tap(x, y)
    down, up = (
        event for event in wait_for_events(display, "pointer_up") if event["type"] in ("pointer_down", "pointer_up")
    )
    assert (down["type"], down["button"], down["x"], down["ntouches"]) == ("pointer_down", 1, 10, 1)
    assert (up["type"], up["button"], up["buttons"]) == ("pointer_up", 1, [])
    swipe(cdp, x, y, -200)
    moves = [
        event for event in wait_for_events(display, "pointer_down", "pointer_up") if event["type"] == "pointer_move"
    ]
    assert moves[-1]["buttons"] == [1]
    assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize(("whose", "scrolls"), [("always", False), ("never", True)])
def test_touches_can_be_the_pictures_always_or_never(
    opened: Open, display: rfb.Display, whose: str, scrolls: bool
) -> None:
    page, cdp, box = opened(touch=whose)
    x, y = box["x"] + 40, box["y"] + 300
    page.touchscreen.tap(x, y)
    wait_for_events(display, "focus_in", "pointer_up")
    swipe(cdp, x, y, -200)
    if scrolls:
        page.wait_for_function("scrollY > 0")
        assert presses(display) == []
    else:
        wait_for_events(display, "pointer_down", "pointer_move", "pointer_up")
        assert page.evaluate("scrollY") == 0


@pytest.mark.parametrize("asked", [False, True])
def test_a_tap_opens_the_on_screen_keyboard_only_when_that_is_asked_for(opened: Open, asked: bool) -> None:
    page, _, box = opened(onScreenKeyboard=asked)
    page.touchscreen.tap(box["x"] + 40, box["y"] + 40)
    page.locator(".rfb-keys:focus").wait_for(state="attached")
    assert page.evaluate("document.activeElement.inputMode") == ("text" if asked else "none")


def test_a_touch_that_the_system_cancels_comes_up_as_what_it_went_down(opened: Open, display: rfb.Display) -> None:
    _, cdp, box = opened(touch="always")
    touch(cdp, "Start", (box["x"] + 40, box["y"] + 80))
    wait_for_events(display, "pointer_down")
    touch(cdp, "Cancel")
    up = wait_for_one(display, "pointer_up")
    assert (up["button"], up["buttons"], up["x"], up["y"]) == (1, [], 10, 20)


def test_a_pen_that_is_lifted_beside_the_picture_is_seen_when_it_comes_back(opened: Open, display: rfb.Display) -> None:
    _, cdp, box = opened(touch="never")
    for kind, y, buttons in (("Pressed", 40, 1), ("Moved", 440, 1), ("Released", 440, 0), ("Moved", 80, 0)):
        at = {
            "x": box["x"] + 80,
            "y": box["y"] + y,
            "pointerType": "pen",
            "button": "none" if kind == "Moved" else "left",
        }
        cdp.send("Input.dispatchMouseEvent", at | {"type": f"mouse{kind}", "buttons": buttons})
    assert wait_for_one(display, "pointer_move")["y"] == 20


def test_a_pen_tells_pressure_tilt_and_its_eraser(opened: Open, display: rfb.Display) -> None:
    page, cdp, box = opened(touch="always")
    at = {"x": box["x"] + 40, "y": box["y"] + 40, "pointerType": "pen", "tiltX": 20, "tiltY": -10}
    cdp.send("Input.dispatchMouseEvent", at | {"type": "mousePressed", "button": "left", "buttons": 1, "force": 0.6})
    cdp.send("Input.dispatchMouseEvent", at | {"type": "mouseReleased", "button": "left", "buttons": 0})
    down = next(event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_down")
    assert (down["pointer_type"], down["tilt_x"], down["tilt_y"]) == ("pen", 20, -10)
    assert down["pressure"] == pytest.approx(0.6, abs=0.001)
    page.evaluate(
        """at => {
            const stage = document.querySelector(".rfb-stage");
            stage.setPointerCapture = () => {};  // of a pointer that there isn't
            const pen = { clientX: at.x, clientY: at.y, pointerId: 77, pointerType: "pen", bubbles: true };
            stage.dispatchEvent(new PointerEvent("pointerdown", { ...pen, button: 5, buttons: 32 }));
            stage.dispatchEvent(new PointerEvent("pointerup", { ...pen, button: 5 }));
        }""",
        at,
    )
    down = next(event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_down")
    assert (down["button"], down["buttons"]) == (6, [6])


def wheel_with_control(page: Page, box: dict[str, float]) -> None:
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")


def test_control_and_wheel_zoom_the_view_before_any_click(opened: Open, display: rfb.Display) -> None:
    page, _, box = opened()
    wheel_with_control(page, box)
    page.wait_for_function(
        "w => document.querySelector('.rfb-canvas').getBoundingClientRect().width > w", arg=box["width"]
    )
    assert events_of(display, "wheel") == []
    page.mouse.wheel(0, 100)
    page.wait_for_function("scrollY > 0")


def test_a_pinch_goes_to_an_application_that_wants_it(opened: Open, display: rfb.Display) -> None:
    page, _, box = opened(pinch="application")
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    wheel_with_control(page, box)
    wheel = wait_for_one(display, "wheel")
    assert (wheel["dy"], wheel["modifiers"]) == (-100, ["Control"])
    assert page.locator(".rfb-canvas").bounding_box() == box, "the view is not zoomed"


def test_ten_fingers_do_not_say_more_than_the_hub_takes(opened: Open, display: rfb.Display) -> None:
    page, _, _ = opened(touch="always")
    page.evaluate(
        """async () => {
            const stage = document.querySelector(".rfb-stage");
            stage.setPointerCapture = () => {};
            const finger = { pointerType: "touch", pressure: 1 / 3, buttons: 1, bubbles: true };
            const tell = (type, pointerId, at, button = -1) => stage.dispatchEvent(
                new PointerEvent(type, { ...finger, pointerId, button, clientX: at, clientY: at / 3 }));
            for (let n = 10; n < 20; n++) tell("pointerdown", n, n, 0);
            let [now, frames] = [performance.now(), []];
            window.requestAnimationFrame = (call) => frames.push(call);
            window.cancelAnimationFrame = () => { frames = []; };
            for (let frame = 0; frame < 120; frame++) {
                for (let n = 10; n < 20; n++) tell("pointermove", n, 10 * n + frame / 7);
                now += 1000 / 120;
                for (const call of frames.splice(0)) call(now);
            }
        }"""
    )
    got: list[dict[str, Any]] = []
    last = round((190 + 119 / 7 - 100) / 4, 3)
    wait_for(
        lambda: got.extend(events_of(display, "pointer_move")) or any(e["x"] >= last - 1 for e in got), "the moves"
    )
    assert len(got) <= 310, "those of a second"
    assert display.client_count == 1
