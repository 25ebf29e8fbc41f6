"""What the user does over the picture, in a real Chromium: events in pixels of the frame, focus, keys, touches."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import Stage
from hosts import ARGUMENTS, chromium_path, error_of, wait_for
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


def test_a_composition_that_the_focus_ends_comes_once_and_nothing_after_it(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    page.focus("#before")
    page.keyboard.press("x")  # in the other field
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    events = wait_for_events(display, "char", "focus_out", "pointer_move")
    told = [event for event in events if event["type"] in ("char", "focus_out") and not event.get("is_composing")]
    assert [event.get("data") for event in told] == ["に", None]


def test_a_click_confirms_what_is_being_composed(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    wait_for_events(display, "pointer_up")
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "に", "selectionStart": 1, "selectionEnd": 1})
    page.mouse.click(box["x"] + 60, box["y"] + 50)
    page.keyboard.press("x")
    events = wait_for_events(display, "pointer_down", "pointer_up", "char", "key_up")
    told = [event["data"] for event in events if event["type"] == "char" and not event["is_composing"]]
    assert told == ["に", "x"]


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


def test_a_button_is_not_held_in_moves_after_it_was_released(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.evaluate("window.dispatchEvent(new Event('blur'))")
    wait_for_events(display, "pointer_down", "pointer_up", "pointer_leave")
    page.mouse.move(box["x"] + 60, box["y"] + 60)
    page.mouse.up()
    page.mouse.move(box["x"] + 70, box["y"] + 70)
    got: list[dict[str, Any]] = []
    wait_for(lambda: got.extend(events_of(display)) or any(event.get("x") == 17.5 for event in got), "the last move")
    assert {event["type"] for event in got} == {"pointer_move"}
    assert all(event["buttons"] == [] for event in got)


def test_a_button_comes_up_where_its_capture_is_lost(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 40, box["y"] + 40)
    page.mouse.down()
    (down,) = (event for event in wait_for_events(display, "pointer_down") if event["type"] == "pointer_down")
    page.evaluate(f"document.querySelector('.rfb-stage').releasePointerCapture({down['pointer_id']})")
    page.mouse.move(box["x"] + 40, box["y"] + 500)
    (up,) = (event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_up")
    assert (up["button"], up["buttons"], up["x"]) == (1, [], 10)
    page.mouse.up()  # outside, where the view hears nothing of it
    page.mouse.move(box["x"] + 80, box["y"] + 40)
    got: list[dict[str, Any]] = []
    wait_for(lambda: got.extend(events_of(display)) or any(event.get("x") == 20 for event in got), "the move back")
    assert [event["type"] for event in got if event["type"] in ("pointer_down", "pointer_up")] == []
    assert all(event["buttons"] == [] for event in got)


@pytest.mark.parametrize("removal", ["view.dispose()", "document.getElementById('stage').remove()"])
def test_a_view_that_is_removed_lets_go_of_everything(stage: Stage, removal: str) -> None:
    page, display, box = stage
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.keyboard.down("w")
    wait_for_events(display, "pointer_down", "key_down")
    page.evaluate(removal)
    ups: list[dict[str, Any]] = []
    wait_for(lambda: ups.extend(events_of(display, "pointer_up", "key_up")) or len(ups) == 2, "what comes up")
    assert {event.get("key", event.get("button")) for event in ups} == {"w", 1}


@pytest.mark.parametrize("in_worker", [True, False])
def test_a_page_that_is_left_lets_go_and_leaves_the_hub_and_comes_back(
    browser: Browser, display: rfb.Display, in_worker: bool
) -> None:
    display.publish(pixels := texture(100, 100, 3))
    options = {"executable_path": chromium_path(), "args": ARGUMENTS}
    with browser.browser_type.launch(**options, ignore_default_args=["--disable-back-forward-cache"]) as keeping:
        page = keeping.new_page(viewport={"width": 900, "height": 700})
        canvas = show(page, display, mainThreadPresent=not in_worker)
        page.locator(".rfb-has-picture").wait_for()
        page.evaluate("window.kept = 'kept'")
        canvas.hover()
        page.mouse.down()
        page.keyboard.down("w")
        wait_for_events(display, "pointer_down", "key_down")
        page.goto("data:text/html,elsewhere")
        ups: list[dict[str, Any]] = []
        wait_for(lambda: ups.extend(events_of(display, "pointer_up", "key_up")) or len(ups) >= 2, "what comes up")
        wait_for(lambda: display.client_count == 0, "the page to leave")
        assert len(ups) == 2
        page.go_back(wait_until="commit")
        wait_for(lambda: display.client_count == 1, "the page to come back")
        page.locator(".rfb-root[data-state=live]").wait_for()
        wait_for(lambda: error_of(canvas, pixels) == 0, "the picture")
        wait_for_events(display, "resize")
        assert page.evaluate("window.kept") == "kept", "it was not loaded anew"


def test_a_key_comes_up_as_what_it_went_down(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.keyboard.down("Shift")
    page.keyboard.down("KeyA")
    page.keyboard.up("Shift")
    page.keyboard.up("KeyA")
    events = wait_for_events(display, "key_up", "key_up")
    keys = [(event["type"], event["key"], event["modifiers"]) for event in events if event["type"].startswith("key")]
    assert keys == [
        *(("key_down", "Shift", ["Shift"]), ("key_down", "A", ["Shift"])),
        *(("key_up", "Shift", []), ("key_up", "A", [])),
    ]


def test_alt_gr_of_windows_is_no_control_and_caps_lock_is_not_held(stage: Stage) -> None:
    page, display, box = stage
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    wait_for_events(display, "pointer_up")
    page.evaluate(
        """() => {
            const press = (type, key, code, more = {}) => document.activeElement.dispatchEvent(
                new KeyboardEvent(type, { key, code, bubbles: true, cancelable: true, ...more }));
            press("keydown", "CapsLock", "CapsLock");
            const held = { ctrlKey: true, altKey: true, modifierAltGraph: true };
            press("keydown", "Control", "ControlLeft", { ctrlKey: true });
            press("keydown", "AltGraph", "AltRight", held);
            press("keydown", "@", "KeyQ", held);
            press("keyup", "@", "KeyQ", held);
            press("keyup", "Control", "ControlLeft", { altKey: true });
            press("keyup", "Alt", "AltRight");
        }"""
    )
    keys = [
        (event["type"].removeprefix("key_"), event["key"], event["modifiers"])
        for event in wait_for_events(display, *["key_down", "key_up"] * 2, "key_down", "key_down", "key_up", "key_up")
        if event["type"].startswith("key_")
    ]
    assert keys[:2] == [("down", "CapsLock", []), ("up", "CapsLock", [])]
    assert keys[4:] == [("down", "AltGraph", []), ("down", "@", []), ("up", "@", []), ("up", "AltGraph", [])]


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
    canvas = show(page, display, touch="always")
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


@pytest.mark.parametrize(
    "transform",
    [
        "rotate(30deg)",
        "rotate(90deg)",
        "scaleX(-1)",
        "skew(20deg, -10deg)",
        "perspective(700px) rotateY(40deg)",
        "perspective(900px) rotate3d(1, 1, 0, 35deg) scale(0.8)",
    ],
)
def test_a_transformed_view_takes_input_where_it_is_seen(stage: Stage, transform: str) -> None:
    page, display, _ = stage
    page.evaluate(f"document.getElementById('stage').style.transform = {transform!r}")
    for x, y in ((20, 30), (90, 60)):  # of the frame, whose pixel is 4 of the page, in a box of 600x400
        place = page.evaluate(
            """([transform, x, y]) => {
                const stage = document.getElementById("stage");
                const at = new DOMMatrix(transform).transformPoint({ x: 100 + 4 * x - 300, y: 4 * y - 200 });
                return { x: stage.offsetLeft + 300 + at.x / at.w, y: stage.offsetTop + 200 + at.y / at.w };
            }""",
            [transform, x, y],
        )
        page.mouse.click(place["x"], place["y"])
        down = next(event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_down")
        assert (down["x"], down["y"]) == (pytest.approx(x, abs=0.1), pytest.approx(y, abs=0.1))
        assert down["inside"]


@pytest.mark.parametrize("ratio", [1, 1.25, 1.1, 0.8, 2.625])
def test_a_small_target_is_hit_on_a_screen_of_any_ratio(browser: Browser, ratio: float) -> None:
    display = rfb.serve(64, 48, port=0, resize_policy="match_client")
    page = browser.new_page(device_scale_factor=ratio)
    body = '<div style="transform: translateX(.5px)"><div id="stage" class="stage" style="margin: .3px"></div></div>'
    canvas = show(page, display, body=body)
    wait_for(lambda: display.target_size, "the size of the box")
    width, height = display.target_size or (0, 0)
    display.publish(texture(height, width, 3), pixel_ratio=ratio)
    page.locator(".rfb-has-picture").wait_for()
    box = canvas.bounding_box()
    assert box is not None
    for x, y in ((4, 4), (101, 57), (width - 8, height - 8)):  # the corners are round
        page.mouse.click(
            box["x"] + (x + 1.5) * box["width"] / width,
            box["y"] + (y + 1.5) * box["height"] / height,
        )
        down = next(event for event in wait_for_events(display, "pointer_up") if event["type"] == "pointer_down")
        assert (down["inside"], x <= down["x"] < x + 3, y <= down["y"] < y + 3) == (True, True, True)
    page.close()


def test_a_right_click_and_a_click_with_control_open_no_menu_over_the_picture_alone(stage: Stage) -> None:
    page, display, box = stage
    page.evaluate("""() => {
        window.menus = [];
        addEventListener("contextmenu", (e) => { window.menus.push(e.defaultPrevented); e.preventDefault(); });
        document.addEventListener("contextmenu", (e) => e.target.id === "before" || window.menus.push("seen"));
    }""")
    page.mouse.click(box["x"] + 50, box["y"] + 50, button="right")
    page.keyboard.down("Control")
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    menu = "new MouseEvent('contextmenu', { bubbles: true, ctrlKey: true })"  # as macOS has it
    page.evaluate(f"document.querySelector('.rfb-canvas').dispatchEvent({menu})")
    page.keyboard.up("Control")
    page.keyboard.press("ContextMenu")
    page.click("#before", button="right")
    page.wait_for_function("menus.length > 0")
    assert page.evaluate("menus") == [False], "only the one beside the picture"
    downs = events_of(display, "pointer_down")
    assert [(down["button"], down["modifiers"]) for down in downs[:2]] == [(2, []), (1, ["Control"])]


def test_typing_does_not_scroll_the_page(page: Page, display: rfb.Display) -> None:
    show(page, display, height=3000)
    wait_for_events(display, "resize")  # it is connected
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
    page.get_by_role("button", name="Statistics").click()
    page.mouse.click(box["x"] + 50, box["y"] + 50)
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.closest('.rfb-root')") is None
