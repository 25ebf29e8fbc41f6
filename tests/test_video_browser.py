"""Video from the hub to the pixels of a canvas, in Chromium and, for what it decodes, in Firefox."""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Callable
from importlib import resources
from typing import Any

import numpy as np
import pytest
from firefox import FIREFOX, firefox
from hosts import error_of, read_canvas, wait_for
from pages import PAGE, STAGE, show
from playwright.sync_api import Locator, Page

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.session import Message
from pdum_rfb_widget.protocol import unpack_binary_message
from pdum_rfb_widget.transport import WebSocketTransport
from pdum_rfb_widget.types import Pixels

COLOURS = ((200, 40, 40), (40, 180, 60), (50, 60, 200), (128, 128, 128), (250, 250, 250), (5, 5, 5))


def patches(*, drawn: bool) -> Pixels:
    """Flat patches of 64 pixels, as plots have them; or with the little noise that renders have."""
    picture = np.concatenate([np.full((64, 64, 3), colour, np.uint8) for colour in COLOURS], axis=1)
    return picture if drawn else picture + np.random.default_rng(1).integers(0, 6, picture.shape, np.uint8)


def patch_error(shown: Pixels, wanted: Pixels) -> float:
    """The largest difference of a patch's mean, of 255."""
    if shown.shape[:2] != wanted.shape[:2]:
        return 255.0
    difference = shown[..., :3].astype(float) - wanted
    middles = [difference[16:48, 64 * n + 16 : 64 * n + 48].mean(axis=(0, 1)) for n in range(len(COLOURS))]
    return float(np.abs(middles).max())


FORMATS = {
    "avc1.42": {"codec": "h264"},
    "avc1.f4": {"codec": "h264", "drawn": True},
    "avc1.f4 ": {"codec": "h264", "quality": "lossless"},
    "vp09": {"codec": "vp9"},
    "av01": {"codec": "av1"},
}


@pytest.mark.parametrize("name", FORMATS)
def test_colours_are_right_in_every_format(page: Page, name: str) -> None:
    options = dict(FORMATS[name])
    picture = patches(drawn=bool(options.pop("drawn", False)))
    display = rfb.serve(384, 64, port=0, still_after=None, **options)
    canvas = show(page, display)
    display.publish(picture)
    wait_for(lambda: patch_error(read_canvas(canvas), picture) <= 4, "the colours")
    (client,) = display.status()["clients"]
    assert str(client["codec"]).startswith(name.strip())
    if options.get("quality") == "lossless":
        wait_for(lambda: error_of(canvas, picture) == 0, "every pixel")


@pytest.mark.browser
@pytest.mark.skipif(not FIREFOX, reason="there is no Firefox")
def test_colours_are_right_in_firefox() -> None:
    display = rfb.serve(384, 64, port=0, codec="h264", still_after=None)
    picture = patches(drawn=False)
    display.publish(picture)
    html = PAGE.format(body=STAGE, options=json.dumps({"url": display.ws_url, "token": display.server.token}))
    widget = (resources.files("pdum_rfb_widget") / "static" / "widget.js").read_bytes()
    errors = []
    deadline = time.monotonic() + 60
    with firefox(html, widget) as reports:
        while not errors or min(errors) > 4:
            assert time.monotonic() < deadline, f"the errors were {errors}"
            try:
                report = reports.get(timeout=1)
            except queue.Empty:
                continue
            errors.append(patch_error(np.array(report["data"]).reshape(report["height"], report["width"], 4), picture))
        (client,) = display.status()["clients"]
        assert str(client["codec"]).startswith("avc1")


# Faults ---------------------------------------------------------------------------------------------------------------


def scene(number: int, width: int = 320, height: int = 192) -> Pixels:
    y, x = np.mgrid[:height, :width]
    planes = [128 + 100 * np.sin((x * a + y * b + 9 * number) / 40) for a, b in ((1, 2), (2, -1), (-1, 1))]
    return np.stack(planes, axis=-1).astype(np.uint8)


def spoil_chunk(monkeypatch: pytest.MonkeyPatch, number: int, spoil: Callable[[bytes], bytes | None]) -> list[int]:
    """Let the hub send its video chunk of this *number* spoilt, or not at all; the seqs of all chunks."""
    seqs: list[int] = []
    begin = WebSocketTransport.begin

    def spoilt(self: WebSocketTransport, message: Message) -> bool:
        if not isinstance(message, str):
            header, payload = unpack_binary_message(b"".join(message))
            if header["type"] == "video_chunk":
                seqs.append(header["seq"])
                if len(seqs) == number:
                    replaced = spoil(payload)
                    if replaced is None:
                        return True
                    message = message[0], replaced
        return begin(self, message)

    monkeypatch.setattr(WebSocketTransport, "begin", spoilt)
    return seqs


def frames_until_right(display: rfb.Display, canvas: Locator, start: int) -> int:
    """How many frames more are published, as they are taken, until one of the last five is what the canvas shows."""
    for number in range(start, start + 300):
        display.publish(scene(number))
        display.wait_ready(5)
        shown = read_canvas(canvas)
        if any(np.abs(shown.astype(int) - scene(number - back)).mean() < 4 for back in range(5)):
            return number - start
    return 300


@pytest.mark.parametrize("fault", ["corrupted", "cut short", "lost", "garbage"])
def test_after_a_bad_chunk_the_picture_is_right_again_within_thirty_frames(
    page: Page, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    faults: dict[str, Callable[[bytes], bytes | None]] = {
        "corrupted": lambda payload: payload[:9] + bytes(byte ^ 0x55 for byte in payload[9:]),
        "cut short": lambda payload: payload[: len(payload) // 2],
        "lost": lambda payload: None,
        "garbage": lambda payload: b"no video at all",
    }
    chunks = spoil_chunk(monkeypatch, 20, faults[fault])
    display = rfb.serve(320, 192, port=0, codec="h264", still_after=None)
    canvas = show(page, display)
    number, deadline = 0, time.monotonic() + 60
    while len(chunks) < 20:
        assert time.monotonic() < deadline, f"{len(chunks)} chunks were sent"
        display.publish(scene(number := number + 1))
        display.wait_ready(0.1)
    assert frames_until_right(display, canvas, number + 1) <= 30


def test_the_size_may_change_between_two_frames_of_a_chain(page: Page) -> None:
    display = rfb.serve(320, 192, port=0, codec="h264")
    canvas = show(page, display)
    last = scene(0)
    for number, (width, height) in enumerate([(320, 192), (322, 190), (97, 131), (640, 64), (320, 192)] * 2):
        for step in range(4):
            last = scene(4 * number + step, width, height)
            display.publish(last)
            display.wait_ready(0.1)
        wait_for(lambda last=last: read_canvas(canvas).shape == last.shape, f"{width}x{height}")
    wait_for(lambda: error_of(canvas, last) == 0, "the last frame, exactly")


def test_auto_takes_video_where_pictures_of_motion_are_too_much_for_the_link(page: Page) -> None:
    from relay import SlowLink

    display = rfb.serve(640, 480, port=0)
    with SlowLink(display.port, rate=1_000_000) as link:
        canvas = show(page, display, url=f"ws://127.0.0.1:{link.port}/{display.name}")
        wait_for(lambda: display.client_count, "the viewer")
        number, deadline = 0, time.monotonic() + 20
        while not display.status()["clients"][0]["codec"]:
            assert time.monotonic() < deadline, "it goes to video"
            display.publish(scene(number := number + 1, 640, 480))
            time.sleep(1 / 60)
        last: Any = scene(number, 640, 480)
        wait_for(lambda: error_of(canvas, last) == 0, "the last frame, exactly")
