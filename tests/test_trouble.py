"""What the view says when it can't show the picture, and how it comes back; hubs of a stranger's making."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hosts import error_of, wait_for
from inside import hub_of
from pages import notice, numbered, show, texture, wait_until_notice
from playwright.sync_api import Page
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

import pdum_rfb_widget as rfb
from pdum_rfb_widget.encoders.image import encode_png
from pdum_rfb_widget.protocol import pack_binary_message


def test_a_refused_token_is_said_and_tried_again_by_the_button(
    page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    show(page, display, token="old")
    assert "refused the token" in notice(page)
    assert page.evaluate("view.state") == "failed"
    monkeypatch.setattr(hub_of(display).admission, "token", "old")
    page.get_by_role("button", name="Try again").click()
    page.wait_for_function("view.state === 'live'")
    assert not page.locator(".rfb-notice").is_visible()


def test_a_foreign_page_is_told_about_origins(
    page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pdum_rfb_widget._hub.admission.origin_allowed", lambda *_, **__: False)
    show(page, display)
    words = notice(page)
    assert "http://127.0.0.1:" in words
    assert "may not open this stream" in words
    assert "origins=" in words


def test_no_common_format_is_said(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    display = rfb.serve(64, 48, port=0, codec="none")
    unknown = dict.fromkeys(("jpeg", "png", "webp"), "image/jxl")
    monkeypatch.setattr("pdum_rfb_widget._wire.negotiation.MIMES", unknown)
    show(page, display)
    assert "This browser can't show the stream" in notice(page)


@pytest.mark.parametrize(
    ("script", "transport", "words"),
    [
        ("", "from the future", "older than its hub"),
        ("delete window.VideoDecoder", "webcodecs", "This page has no WebCodecs"),
    ],
)
def test_video_that_the_page_cannot_decode_is_said(
    page: Page, display: rfb.Display, monkeypatch: pytest.MonkeyPatch, script: str, transport: str, words: str
) -> None:
    config = f'{{"type":"config","transport":"{transport}","width":8,"height":8,"codec":"avc1.42E01F"}}'
    monkeypatch.setattr("pdum_rfb_widget._core.announcement.config_message", lambda *_: config)
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
    assert not {"cell", "kernel", "notebook"} & set(words.replace(".", "").split()), "there is none on this page"
    assert error_of(canvas, pixels) < 6, "the last picture stays"
    again = rfb.serve(64, 48, port=port)
    hub_of(again).admission.token = token
    again.publish(numbered(3, 160, 32))
    wait_for(lambda: error_of(canvas, numbered(3, 160, 32)) < 6, "the picture of the new hub")
    assert not page.locator(".rfb-notice").is_visible()


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
def strange_hub(
    *messages: str | bytes, close: tuple[int, str] | None = None
) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A hub of a stranger's making that answers every hello with *messages*; its address, and what it was told."""
    heard: list[dict[str, Any]] = []

    def welcome(socket: ServerConnection) -> None:
        for text in socket:
            heard.append(json.loads(text))
            if heard[-1]["type"] in ("hello", "decoder_reset"):
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


def image_message(data: bytes, **other: Any) -> bytes:
    header = {"type": "image_frame", "seq": 1, "timestamp_us": 0, "width": 8, "height": 6, "mime": "image/png"}
    return pack_binary_message(header | other, data)


def count(heard: list[dict[str, Any]], kind: str) -> int:
    return sum(message["type"] == kind for message in heard)


def test_a_strangers_hub_that_knows_only_the_base_protocol_is_shown(page: Page, display: rfb.Display) -> None:
    pixels = texture(6, 8, 3)
    future = [json.dumps({"type": "from_the_future"}), pack_binary_message({"type": "hologram"}, b"?")]
    with strange_hub(CONFIG, *future, image_message(encode_png(pixels))) as (url, heard):
        canvas = show(page, display, url=url, token="")
        wait_for(lambda: error_of(canvas, pixels) == 0, "the picture")
        wait_for(lambda: count(heard, "ack"), "the ack")


def test_a_picture_that_cannot_be_drawn_leaves_the_queue_right_for_the_next(page: Page, display: rfb.Display) -> None:
    pixels = texture(6, 8, 3)
    bad, good = image_message(encode_png(pixels), width=-1), image_message(encode_png(pixels), seq=2)
    with strange_hub(CONFIG, bad, good) as (url, heard):
        canvas = show(page, display, url=url, token="")
        wait_for(lambda: error_of(canvas, pixels) == 0, "the picture")
        wait_for(lambda: any(message.get("seq") == 2 for message in heard), "the ack")
    ack = next(message for message in heard if message.get("seq") == 2)
    assert (ack["type"], ack["decode_queue_size"]) == ("ack", 0)


@pytest.mark.parametrize("message", [image_message(b"no picture"), b"\xff\xff\x00\x00{}"])
def test_pictures_that_never_decode_are_said(page: Page, display: rfb.Display, message: bytes) -> None:
    with strange_hub(CONFIG, message) as (url, heard):
        show(page, display, url=url)
        assert "can't be shown" in notice(page)
        assert count(heard, "decoder_reset") >= 2
        assert count(heard, "ack") == 0


def test_a_hub_that_closes_again_and_again_is_said_and_not_hammered(page: Page, display: rfb.Display) -> None:
    with strange_hub(CONFIG, close=(4429, "too many viewers")) as (url, heard):
        show(page, display, url=url)
        assert "Too many viewers." in wait_until_notice(page, "many viewers")
        page.wait_for_timeout(4000)
        assert count(heard, "hello") <= 6, "a quarter of a second, then half of one, then one ..."


def test_a_hub_without_a_frame_yet_is_waited_for_and_not_shown_as_live(page: Page, display: rfb.Display) -> None:
    display.publish(texture(48, 64, 3))
    canvas = show(page, display)
    page.wait_for_function("document.querySelector('.rfb-root').dataset.state === 'live'")
    port, token = display.port, display.server.token
    display.server.close()
    page.wait_for_function("document.querySelector('.rfb-root').dataset.state === 'reconnecting'")
    again = rfb.serve(64, 48, port=port)
    hub_of(again).admission.token = token
    page.wait_for_function("document.querySelector('.rfb-root').dataset.state === 'waiting'")
    assert page.locator(".rfb-status").inner_text() == "Waiting for the first frame…"
    again.publish(numbered(4, 160, 32))
    wait_for(lambda: error_of(canvas, numbered(4, 160, 32)) < 6, "the frame")
    assert not page.locator(".rfb-status").is_visible()


def test_the_hubs_own_page_shows_the_stream(page: Page, display: rfb.Display) -> None:
    pixels = texture(48, 64, 3)
    display.publish(pixels)
    page.goto(display.url)
    wait_for(lambda: error_of(page.locator(".rfb-canvas"), pixels) < 6, "the picture")
    page.goto(display.url.split("#")[0] + "#token=wrong")
    page.reload()
    assert "refused the token" in notice(page)
