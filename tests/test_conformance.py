"""Strangers who know only the base protocol's page: a viewer of our streams, and a hub that our view shows."""

from __future__ import annotations

import ast
import http.client
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Skip
from hosts import error_of, read_canvas, wait_for
from pages import show, texture
from playwright.sync_api import Page
from websockets.exceptions import ConnectionClosed
from wire_client import Payload, WireClient, decode_png
from wire_server import WireServer

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core import window
from pdum_rfb_widget.events import EVENT_FIELDS

VIDEO = "webcodecs/h264-annexb"
MIMES = ("image/jpeg", "image/png", "image/webp")


@pytest.mark.parametrize("name", ["wire_client", "wire_server"])
def test_strangers_know_nothing_of_the_package(name: str) -> None:
    source = ast.parse((Path(__file__).parent / f"{name}.py").read_text())
    imported = {node.module for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(source) if isinstance(node, ast.Import) for alias in node.names}
    assert {str(module).split(".")[0] for module in imported} <= {*sys.stdlib_module_names, "websockets"}


def client(display: rfb.Display, *supported: str) -> WireClient:
    return WireClient(display.ws_url, display.server.token, *(supported or MIMES))


def pixels_of(payload: Payload) -> np.ndarray[Any, np.dtype[np.uint8]]:
    channels, rows = decode_png(payload.data)
    width, height = payload.size
    return np.frombuffer(b"".join(rows), np.uint8).reshape(height, width, channels)


# A stranger's viewer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mime", MIMES)
def test_it_sees_pictures_of_every_base_format(mime: str) -> None:
    display = rfb.serve(64, 48, port=0, image_mode=mime.removeprefix("image/"))
    display.publish(texture(48, 64, 3))
    with client(display, mime) as viewer:
        assert viewer.next().header["mime"] == mime
        assert viewer.config["transport"] == "image"
        for height, width in ((48, 64), (31, 77), (1, 1)):
            display.publish(texture(height, width, 3))
            while viewer.next().size != (width, height):
                pass


@pytest.mark.parametrize(
    ("channels", "options"), [(0, {}), (3, {}), (4, {}), (4, {"alpha": True}), (3, {"quality": "lossless"})]
)
def test_it_reads_the_very_pixels_that_were_published(channels: int, options: dict[str, Any]) -> None:
    display = rfb.serve(70, 40, port=0, **options)
    with client(display, "image/png") as viewer:
        for _ in range(3):
            display.publish(pixels := texture(40, 70, channels))
            shown = pixels_of(viewer.next())
            wanted = pixels if channels else pixels[..., None]
            if not options.get("alpha"):
                shown, wanted = shown[..., :3], wanted[..., :3]
            np.testing.assert_array_equal(shown, np.broadcast_to(wanted, shown.shape))


@pytest.mark.parametrize("size", [(64, 48), (322, 178)])
def test_it_sees_video_whose_first_unit_is_a_keyframe_and_that_waits_for_nothing(size: tuple[int, int]) -> None:
    display = rfb.serve(*size, port=0, codec="h264", quality=75, still_after=None)  # a slow link changes the encoder
    display.publish(texture(size[1], size[0], 3))
    with client(display, VIDEO) as viewer:
        kinds = []
        for _ in range(6):
            kinds.append(viewer.next().header["keyframe"])
            display.publish(texture(size[1], size[0], 3))
        assert viewer.config["transport"] == "webcodecs"
        assert kinds == [True] + 5 * [False]
        for ask in ("request_keyframe", "decoder_reset"):
            viewer.say(type=ask)
            while not viewer.next().header["keyframe"]:  # what was on the way comes first
                display.publish(texture(size[1], size[0], 3))
            display.publish(texture(size[1], size[0], 3))
        display.publish(texture(96, 128, 3))
        while (payload := viewer.next()).size != (128, 96):
            pass
        assert payload.header["keyframe"], "the first of another size"


def test_a_viewer_of_pictures_and_video_is_told_before_one_follows_the_other() -> None:
    display = rfb.serve(64, 48, port=0, codec="h264", still_after=0.05)
    transports = set()
    with client(display, VIDEO, "image/jpeg", "image/png") as viewer:
        for step in range(40):
            display.publish(texture(48, 64, 3))
            viewer.next()  # which holds each payload to the last config
            transports.add(viewer.config["transport"])
            if step == 20:
                display.configure(codec="none")
    assert transports == {"image", "webcodecs"}


def test_it_is_told_the_ratio_and_the_colours_before_the_picture_that_has_them() -> None:
    display = rfb.serve(64, 48, port=0)
    with client(display) as viewer:
        display.publish(texture(48, 64, 3))
        viewer.next()
        assert not {"pixel_ratio", "color"} & viewer.config.keys()
        display.publish(texture(48, 64, 3), pixel_ratio=2.0, color=rfb.DISPLAY_P3)
        while (header := viewer.next().header).get("pixel_ratio") is None:
            pass
        assert header["color"]["primaries"] == "smpte432"


def test_no_more_is_on_the_way_than_may_be_and_the_newest_always_comes(
    display: rfb.Display, skip: Skip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(window, "PROBE_AFTER", 20.0)
    display.configure(max_inflight=2)
    with client(display, "image/png") as viewer:
        held = []
        for value in range(1, 30):
            display.publish(np.full((48, 64), value, np.uint8))
            if len(held) < 2:
                held.append(viewer.next(ack=False))
        with pytest.raises(TimeoutError):
            viewer.next(ack=False, timeout=0.3)
        skip(21)
        probe = viewer.next(ack=False)
        assert pixels_of(probe).max() == 29
        with pytest.raises(TimeoutError):
            viewer.next(ack=False, timeout=0.3)
        viewer.ack(probe)
        display.publish(np.full((48, 64), 30, np.uint8))
        assert pixels_of(viewer.next()).max() == 30


@pytest.mark.parametrize("kind", ["request_keyframe", "decoder_reset"])
def test_who_begins_again_is_sent_the_whole_picture_again(display: rfb.Display, kind: str) -> None:
    display.publish(pixels := texture(48, 64, 3))
    with client(display, "image/png") as viewer:
        first = viewer.next(ack=False)
        viewer.say(type=kind, reason="lost")
        second = viewer.next()
        assert second.header["seq"] > first.header["seq"]
        np.testing.assert_array_equal(pixels_of(second)[..., :3], pixels)


def test_it_is_told_figures_while_pictures_come() -> None:
    display = rfb.serve(64, 48, port=0, stats_interval=0.2)
    with client(display) as viewer:
        while not any(message["type"] == "stats" for message in viewer.told):
            display.publish(texture(48, 64, 3))
            viewer.next()


def test_every_event_of_the_vocabulary_reaches_the_application(display: rfb.Display) -> None:
    place = {"x": 3.5, "y": 4, "buttons": [1], "modifiers": ["Shift"], "timestamp": 1.5}
    fields: dict[str, dict[str, Any]] = {
        **{kind: place | {"button": 1, "ntouches": 0, "touches": {}} for kind in EVENT_FIELDS if "pointer" in kind},
        "double_click": place | {"button": 1},
        "wheel": place | {"dx": 1, "dy": -100},
        "key_down": {"key": "a", "code": "KeyA", "modifiers": []},
        "key_up": {"key": "a"},
        "char": {"data": "ä"},
        "resize": {"width": 10, "height": 10},
    }
    told = [{"type": kind} | fields.get(kind, {}) for kind in EVENT_FIELDS if kind != "paste"]  # which is ours
    got: list[Any] = []
    with client(display) as viewer:
        viewer.say(type="set_viewport", width=10, height=5, pwidth=20, pheight=10, ratio=2)
        viewer.say(type="from_the_future", any="thing")
        viewer.say(type="event", event={"type": "telepathy"})
        for event in told:
            viewer.say(type="event", event=event, mood="good")
        wait_for(lambda: got.extend(display.poll_events()) or len(got) >= len(told), "the events")
    assert [event.event for event in got] == told


@pytest.mark.parametrize(
    ("path", "token", "supported", "code"),
    [
        ("default", "wrong", MIMES, 4401),
        ("default", None, MIMES, 4401),
        ("nowhere", "", MIMES, 4404),
        ("default", "", ("image/avif",), 4406),
    ],
)
def test_it_is_refused_with_the_codes_of_the_page(
    display: rfb.Display, path: str, token: str | None, supported: tuple[str, ...], code: int
) -> None:
    token = display.server.token if token == "" else token
    with WireClient(display.ws_url.replace("default", path), token, *supported) as viewer:
        assert closed(viewer, code)


def test_it_is_closed_with_the_codes_of_the_page(display: rfb.Display) -> None:
    with client(display) as malformed, client(display) as bystander:
        malformed.hear("config")
        bystander.hear("config")
        malformed.socket.send("{]")
        assert closed(malformed, 4400)
        display.close()
        assert closed(bystander, 1001)


def closed(viewer: WireClient, code: int) -> bool:
    """By the hub with this *code*, and words."""
    try:
        while True:
            viewer.socket.recv(timeout=60)
    except ConnectionClosed as end:
        return end.rcvd is not None and end.rcvd.code == code and len(end.rcvd.reason) > 8


def test_the_port_answers_as_the_page_says(display: rfb.Display) -> None:
    def ask(path: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection("127.0.0.1", display.port, timeout=60)
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    token = display.server.token
    bearer = {"Authorization": f"Bearer {token}"}
    assert ask("/health")[1].strip() == "ok"
    assert ask("/streams")[0] == 401
    with client(display) as viewer:
        display.publish(texture(48, 64, 3))
        viewer.next()
        for status, text in (ask("/streams", **bearer), ask(f"/streams?token={token}")):
            assert status == 200
            assert json.loads(text) == [{"name": "default", "width": 64, "height": 48, "fps": 30, "clients": 1}]
        assert len(json.loads(ask("/streams/default/metrics", **bearer)[1])) == 1
        assert "# TYPE" in ask("/streams/default/metrics", Accept="text/plain", **bearer)[1]


# A stranger's hub -----------------------------------------------------------------------------------------------------


def rows_of(pixels: np.ndarray[Any, np.dtype[np.uint8]]) -> list[bytes]:
    return [row.tobytes() for row in pixels]


@pytest.mark.parametrize("video", [False, True])
def test_our_view_shows_a_strangers_hub_and_sends_it_input(page: Page, display: rfb.Display, video: bool) -> None:
    first, second = texture(48, 64, 3), 255 - texture(48, 64, 3)
    most = 4 if video else 0
    with WireServer(64, 48, token="sesame", video=video) as hub:
        hub.publish(rows_of(first))
        canvas = show(page, display, url=hub.url, token="sesame")
        wait_for(lambda: error_of(canvas, first) <= most, "the first picture")
        hub.publish(rows_of(second))
        wait_for(lambda: error_of(canvas, second) <= most, "the second")
        wait_for(lambda: len(hub.said("ack")) >= 2, "both acknowledgements")
        box = canvas.bounding_box()
        assert box
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        wait_for(lambda: any(one["event"]["type"] == "pointer_up" for one in hub.said("event")), "the click")
        assert read_canvas(canvas).shape == (48, 64, 3)
    (hello,) = hub.said("hello")
    assert set(MIMES) <= set(hello["supported"])
    assert [ack["displayed"] for ack in hub.said("ack")][:2] == [True, True]
    assert [ack["seq"] for ack in hub.said("ack")][-1] >= 2
    assert {"width", "height", "pwidth", "pheight", "ratio"} <= hub.said("set_viewport")[-1].keys()
    down = next(one["event"] for one in hub.said("event") if one["event"]["type"] == "pointer_down")
    assert abs(down["x"] - 32) <= 1, "in pixels of the frame"
    assert abs(down["y"] - 24) <= 1
    assert (down["button"], down["inside"]) == (1, True)


def test_our_view_asks_a_strangers_hub_again_where_a_picture_was_none(page: Page, display: rfb.Display) -> None:
    with WireServer(64, 48, token="sesame") as hub:
        hub.publish([b"\0\0\0" * 64])  # one row, where 48 were announced
        canvas = show(page, display, url=hub.url, token="sesame")
        wait_for(lambda: hub.said("decoder_reset") or hub.said("request_keyframe") or hub.said("ack"), "an answer")
        good = texture(48, 64, 3)
        hub.publish(rows_of(good))
        wait_for(lambda: error_of(canvas, good) == 0, "the good picture")
