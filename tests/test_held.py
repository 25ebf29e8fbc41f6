"""What is down when a viewer goes, or is heeded no more, comes up."""

from __future__ import annotations

from typing import Any

import pytest
from hosts import wait_for
from viewers import RawViewer

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.held_input import MOST_HELD, Held


def holding(*events: dict[str, Any]) -> Held:
    held = Held()
    for event in events:
        held.note(event)
    return held


def pointer(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"pointer_{kind}", "x": 1, "y": 2, "button": 0, "pointer_id": 7} | fields


def key(kind: str, name: str, **fields: Any) -> dict[str, Any]:
    return {"type": f"key_{kind}", "key": name} | fields


def test_each_button_and_key_that_is_down_comes_up_once_and_in_order() -> None:
    held = holding(
        pointer("down", button=1, buttons=[1]),
        pointer("down", button=2, buttons=[1, 2]),
        key("down", "A", code="KeyA", modifiers=["Shift"], timestamp=3.0),
        pointer("move", x=30, y=40, buttons=[1, 2]),
    )
    first, second, third = held.release()
    assert (first["button"], first["buttons"], first["x"], first["y"]) == (1, [2], 30, 40)
    assert (second["button"], second["buttons"], second["pointer_id"]) == (2, [], 7)
    assert third == key("up", "A", code="KeyA", modifiers=[])
    assert held.release() == []


def test_what_came_up_by_itself_is_not_released() -> None:
    assert holding(pointer("down", button=1), pointer("up", button=1), pointer("move")).release() == []
    assert holding(key("down", "A", code="KeyA"), key("up", "a", code="KeyA")).release() == []
    assert holding(key("up", "a"), pointer("up", button=1), pointer("move")).release() == []


def test_every_finger_is_lifted() -> None:
    touches = {"1": {"x": 1, "y": 1}, "2": {"x": 2, "y": 2}}
    fingers = [pointer("down", button=1, pointer_id=n, ntouches=2, touches=touches) for n in (1, 2)]
    ups = holding(*fingers).release()
    assert [(up["pointer_id"], up["ntouches"], up["touches"]) for up in ups] == [(1, 0, {}), (2, 0, {})]


def test_no_more_is_kept_than_a_user_can_hold() -> None:
    held = holding(*(key("down", f"k{n}") for n in range(1000)), *(pointer("down", pointer_id=n) for n in range(1000)))
    assert len(held.release()) == 2 * MOST_HELD


HOLD = (pointer("down", button=1, buttons=[1]), key("down", "w", code="KeyW"))


def ups_of(display: rfb.Display) -> list[tuple[str, Any]]:
    ups = (ev.event for ev in display.poll_events() if ev.event["type"].endswith("_up"))
    return [(up["type"], up.get("key", up.get("button"))) for up in ups]


@pytest.mark.parametrize("cut", [False, True])
def test_a_viewer_that_goes_lets_go_of_everything(display: rfb.Display, cut: bool) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        for event in HOLD:
            viewer.say(type="event", event=event)
        name = display.clients[0].client_id
        got: list[Any] = []
        wait_for(lambda: got.extend(display.poll_events()) or len(got) == 2, "what goes down")
        if cut:
            viewer.socket.socket.shutdown(2)
    wait_for(lambda: got.extend(display.poll_events()) or len(got) == 4, "what comes up")
    assert [ev.event["type"] for ev in got[2:]] == ["pointer_up", "key_up"]
    assert {ev.client_id for ev in got} == {name}


def test_a_display_that_is_taken_over_is_told_that_what_is_held_came_up(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        viewer.greet()
        for event in HOLD:
            viewer.say(type="event", event=event)
        got: list[Any] = []
        wait_for(lambda: got.extend(display.poll_events()) or len(got) == 2, "what goes down")
        again = rfb.serve(64, 48, port=0, name=display.name)
        assert ups_of(display) == [("pointer_up", 1), ("key_up", "w")]
    wait_for(lambda: again.client_count == 0, "the viewer to go")
    assert ups_of(again) == []


def test_who_no_longer_controls_lets_go_of_everything(display: rfb.Display) -> None:
    with RawViewer(display) as first, RawViewer(display) as second:
        first.greet()
        second.greet()
        for event in HOLD:
            first.say(type="event", event=event)
        got: list[Any] = []
        wait_for(lambda: got.extend(display.poll_events()) or len(got) == 2, "what goes down")
        display.controller = display.clients[1].client_id
        ups: list[Any] = []
        wait_for(lambda: ups.extend(ups_of(display)) or len(ups) == 2, "what comes up")
        assert ups == [("pointer_up", 1), ("key_up", "w")]
