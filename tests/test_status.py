"""What runs, in words; options that change while it does; the page that opens without a token in sight."""

from __future__ import annotations

import html
import io
import json
import stat
import webbrowser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest
from hosts import wait_for
from inside import stream_of
from PIL import Image
from playwright.sync_api import Page
from viewers import RawViewer, get, grey

import pdum_rfb_widget as rfb


def test_a_status_tells_what_runs_as_json_can_and_holds_no_token(display: rfb.Display) -> None:
    display.publish(grey(1))
    with RawViewer(display, "image/png") as viewer:
        viewer.greet()
        viewer.see()
        wait_for(lambda: display.status()["clients"][0]["frames_acked"], "the acknowledgement")
        status = display.status()
    assert (status["name"], status["size"], status["frames_published"]) == ("default", (64, 48), 1)
    (client,) = status["clients"]
    assert (client["frames_sent"], client["view_only"], client["principal"], client["codec"]) == (1, False, None, None)
    assert (status["options"]["fps"], status["options"]["authenticate"], status["encoders_hanging"]) == (30, None, 0)
    text = json.dumps(status) + display._repr_html_()
    assert display.server.token not in text
    assert display.server.view_token not in text


def test_a_status_says_why_a_viewer_asks_for_no_video(display: rfb.Display) -> None:
    with RawViewer(display, "image/png") as viewer:
        viewer.hello["no_video"] = "the decoder holds pictures back"
        viewer.greet()
        assert display.status()["clients"][0]["no_video"] == "the decoder holds pictures back"
        assert "no video: the decoder holds pictures back" in display._repr_html_()


def test_a_status_says_that_a_viewers_processor_is_the_limit(display: rfb.Display) -> None:
    with RawViewer(display, "image/png", "rfb/tiles") as viewer:
        viewer.greet()
        noise = np.random.default_rng(1).integers(0, 255, (600, 800, 3), np.uint8)
        for number in range(12):
            display.publish(np.roll(noise, number))
            header, _ = viewer.see(ack=False)
            viewer.say(type="ack", seq=header["seq"], draw_ms=480)  # a microsecond a pixel
        limit = display.status()["clients"][0]["limit"]
        assert limit.startswith("the viewer's processor: 2 of ")
        assert f"limited by {limit}" in html.unescape(display._repr_html_())


def test_a_status_counts_the_connections_whose_hello_has_not_come(display: rfb.Display) -> None:
    with RawViewer(display) as viewer:
        wait_for(lambda: display.status()["pending"] == 1, "the hub to wait for the hello")
        viewer.greet()
        assert (display.status()["pending"], display.client_count) == (0, 1)


def test_a_closed_display_has_a_status_too(display: rfb.Display) -> None:
    display.close()
    assert display.status()["state"] == "closed"
    display.server.close()
    assert "closed" in display._repr_html_()


def test_what_others_named_is_escaped_in_the_table() -> None:
    display = rfb.serve(8, 8, port=0)
    stream_of(display).note_error("<script>alert(1)</script>")
    assert "<script>" not in display._repr_html_()


# Options that change --------------------------------------------------------------------------------------------------


def picture(payload: bytes) -> np.ndarray[Any, Any]:
    return np.asarray(Image.open(io.BytesIO(payload)).convert("RGB"))


def test_configure_changes_how_the_next_frame_is_sent() -> None:
    display = rfb.serve(64, 48, port=0, quality=10, still_after=None, codec="none")
    noise = np.random.default_rng(1).integers(0, 255, (48, 64, 3), np.uint8)
    with RawViewer(display, "image/jpeg", "image/png") as viewer:
        viewer.greet()
        display.publish(noise)
        header, payload = viewer.see()
        assert header["mime"] == "image/jpeg"
        display.configure(quality="lossless")
        display.publish(noise[::-1])
        header, payload = viewer.see()
        assert header["mime"] == "image/png"
        np.testing.assert_array_equal(picture(payload), noise[::-1])


def options(display: rfb.Display, *names: str) -> tuple[Any, ...]:
    return tuple(display.status()["options"][name] for name in names)


def test_configure_keeps_what_it_is_not_told_and_refuses_what_it_is_not(display: rfb.Display) -> None:
    display.configure(fps=50)
    display.configure(bitrate=60_000)
    assert options(display, "fps", "bitrate") == (50, 60_000)
    with pytest.raises(TypeError, match="unknown option qualty; did you mean quality"):
        display.configure(qualty=1)
    with pytest.raises(ValueError, match="fps is 1 to 240, not 0"):
        display.configure(fps=0)
    display.close()
    with pytest.raises(RuntimeError, match="closed"):
        display.configure(fps=30)


def test_configure_keeps_what_another_thread_changes_meanwhile(
    display: rfb.Display, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "pdum_rfb_widget.display.require_codec", lambda codec: codec == "h264" and display.configure(fps=50)
    )
    display.configure(codec="h264")
    assert options(display, "codec", "fps") == ("h264", 50)


def test_configure_turns_on_the_viewers_size() -> None:
    display = rfb.serve(64, 48, port=0)
    with RawViewer(display) as viewer:
        viewer.greet()
        viewer.say(type="set_viewport", width=100, height=80, pwidth=200, pheight=160, ratio=2)
        display.configure(resize_policy="match_client", resize_debounce=0)
        wait_for(lambda: display.target_size == (200, 160), "the viewer's size")
        display.configure(resize_policy="publisher")
        assert display.target_size is None


@pytest.mark.parametrize("codec", ["h264", "none"])
def test_configure_switches_between_pictures_and_video(page: Page, codec: str) -> None:
    display = rfb.serve(64, 48, port=0, codec="none" if codec == "h264" else "h264", still_after=None)
    page.goto(display.url)
    display.publish(grey(10))
    page.locator(".rfb-has-picture").wait_for()
    display.configure(codec=codec)

    def frames() -> int:
        display.publish(np.random.default_rng().integers(0, 255, (48, 64, 3), np.uint8))
        return len(display.status()["encoders"])

    wait_for(lambda: (frames() > 0) == (codec == "h264"), f"codec {codec}")


def test_who_may_only_look_is_told_so(page: Page, display: rfb.Display) -> None:
    display.publish(grey(10))
    page.goto(display.url.replace(display.server.token, display.server.view_token))
    page.locator(".rfb-has-picture").wait_for()
    assert page.locator(".rfb-status").inner_text() == "View only"
    page.locator("canvas").first.click()
    wait_for(lambda: display.status()["clients"][0]["refused_events"], "the click to be refused")
    assert display.poll_events() == []


# The browser ----------------------------------------------------------------------------------------------------------


def test_a_browser_is_opened_by_a_private_file_that_leads_to_the_stream(
    display: rfb.Display, page: Page, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", lambda url: opened.append(url) or True)
    display.publish(grey(100))
    assert display.open()
    (url,) = opened
    assert display.server.token not in url
    file = Path(unquote(urlsplit(url).path))
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    page.goto(url)
    page.wait_for_url(f"http://127.0.0.1:{display.port}/**")
    page.locator(".rfb-has-picture").wait_for()
    display.server.close()
    assert not file.exists()


def test_the_page_of_the_stream_names_no_token_in_what_it_asks(display: rfb.Display) -> None:
    status, text = get(display, "/")
    assert status == 200
    assert display.server.token not in text
