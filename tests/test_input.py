"""What the user does over the picture, in a real Chromium: events in pixels of the frame, focus, keys, touches."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Stage
from hosts import wait_for
from pages import events_of, show, texture, wait_for_events
from playwright.sync_api import Browser, Page

import pdum_rfb_widget as rfb


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
