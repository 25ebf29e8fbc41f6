"""Frames of the size, ratio and colour that viewers ask for: what is asked, what is sent, and what is then seen."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import pytest
from hosts import ARGUMENTS, chromium_path, error_of, read_canvas, wait_for
from inside import core_of
from pages import events_of, show, texture, wait_for_events
from PIL import Image
from playwright.sync_api import Browser, Locator, Page
from traitlets import TraitError
from viewers import RawViewer, grey

import pdum_rfb_widget as rfb
from pdum_rfb_widget._core.session import ViewerSession
from pdum_rfb_widget._core.sizing import Sizing, Target, fit
from pdum_rfb_widget._core.stream_state import StreamState
from pdum_rfb_widget.protocol import SetViewport
from pdum_rfb_widget.types import StreamOptions

# What is asked for ----------------------------------------------------------------------------------------------------


def box(width: float, height: float, ratio: float = 1.0) -> SetViewport:
    return SetViewport(width, height, round(width * ratio), round(height * ratio), ratio)


class Viewers:
    """Sessions that say their boxes, and the sizing that follows them."""

    def __init__(self, **options: Any) -> None:
        self.sizing = Sizing(StreamOptions(**{"resize_policy": "match_client"} | options))
        self.sessions: dict[str, ViewerSession] = {}

    def say(self, name: str, now: float, **message: Any) -> Viewers:
        if name not in self.sessions:
            self.sessions[name] = ViewerSession(StreamState(StreamOptions()), lambda hello: None, started=now)
            self.sessions[name].receive('{"type": "hello", "supported": ["image/png"]}', now)
        self.sessions[name].receive(json.dumps(message), now)
        return self.update(now)

    def resize(self, name: str, now: float, width: float, height: float, ratio: float = 1.0) -> Viewers:
        size = {"width": width, "height": height, "pwidth": width * ratio, "pheight": height * ratio, "ratio": ratio}
        return self.say(name, now, type="set_viewport", **size)

    def event(self, name: str, now: float, kind: str) -> Viewers:
        return self.say(name, now, type="event", event={"type": kind})

    def leave(self, name: str, now: float) -> Viewers:
        del self.sessions[name]
        return self.update(now)

    def update(self, now: float) -> Viewers:
        self.sizing.update(self.sessions, now)
        self.sizing.settle(now)
        return self

    def at(self, now: float) -> tuple[int, int] | None:
        self.sizing.settle(now)
        return self.sizing.target and self.sizing.target[:2]


@pytest.mark.parametrize(
    ("asked", "most", "target"),
    [
        (box(640, 480), 4096, (640, 480, 1)),
        (box(801, 601), 4096, (800, 600, 1)),
        (box(601, 401, 1.25), 4096, (750, 500, 1.25)),
        (box(320, 240, 2), 4096, (640, 480, 2)),
        (box(1, 3), 4096, (2, 2, 1)),
        (box(4000, 1000, 2), 4096, (4096, 1024, 1.024)),
        (box(1000, 4000, 2), 2000, (500, 2000, 0.5)),
        (box(1e300, 1), 16384, (16384, 2, 0.1)),
        (box(100, 100, 100), 16384, (10000, 10000, 16)),
        (SetViewport(100, 100, 100, 100, -3), 16384, (100, 100, 0.1)),
    ],
)
def test_a_target_is_the_boxs_device_pixels_even_within_the_cap_and_can_be_published(
    asked: SetViewport, most: int, target: tuple[int, int, float]
) -> None:
    assert fit(asked, most) == pytest.approx(target)


def test_the_first_box_counts_at_once_and_any_later_one_once_it_has_stayed_the_same() -> None:
    viewers = Viewers(resize_debounce=0.5).resize("a", 1.0, 600, 400)
    assert viewers.at(1.0) == (600, 400)
    for step in range(1, 10):
        viewers.resize("a", 2.0 + 0.4 * step, 600 + 10 * step, 400)
        assert viewers.at(2.0 + 0.4 * step + 0.3) == (600, 400)
    assert viewers.sizing.due == pytest.approx(6.1)
    assert viewers.at(6.0) == (600, 400)
    assert viewers.at(6.1) == (690, 400)
    assert viewers.sizing.due == float("inf")


def test_a_box_that_comes_back_within_the_wait_changes_nothing() -> None:
    viewers = Viewers().resize("a", 1.0, 600, 400).resize("a", 2.0, 700, 400).resize("a", 2.1, 600, 400)
    assert viewers.sizing.due == float("inf")
    assert viewers.at(9.0) == (600, 400)


def test_with_no_debounce_a_new_box_counts_at_once() -> None:
    viewers = Viewers(resize_debounce=0).resize("a", 1.0, 600, 400).resize("a", 1.0, 700, 400)
    assert viewers.at(1.0) == (700, 400)


def test_of_several_viewers_the_one_that_came_or_was_resized_last_is_asked() -> None:
    viewers = Viewers().resize("a", 1, 600, 400).resize("b", 2, 300, 200, 2)
    assert viewers.at(3) == (600, 400)
    assert viewers.sizing.target == Target(600, 400, 2)
    viewers.resize("a", 4, 500, 300)
    assert viewers.at(5) == (500, 300)
    viewers.resize("b", 6, 300, 200, 2)
    assert viewers.at(7) == (500, 300), "the same box again is no resizing"


def test_when_the_viewer_that_was_asked_hides_or_goes_it_is_the_one_before() -> None:
    viewers = Viewers().resize("a", 1, 100, 100).resize("b", 2, 200, 200).resize("c", 3, 300, 300)
    assert viewers.at(4) == (300, 300)
    assert viewers.event("c", 5, "hide").at(6) == (200, 200)
    assert viewers.leave("b", 7).at(8) == (100, 100)
    assert viewers.event("c", 9, "show").at(10) == (300, 300)


def test_while_no_viewer_is_seen_the_target_stays() -> None:
    viewers = Viewers().resize("a", 1, 100, 100)
    assert viewers.event("a", 2, "hide").at(3) == (100, 100)
    assert viewers.leave("a", 4).at(5) == (100, 100)


def test_a_hidden_viewer_is_not_asked() -> None:
    viewers = Viewers().event("a", 1, "hide").resize("a", 1, 100, 100)
    assert viewers.at(2) is None
    assert viewers.event("a", 3, "show").at(3) == (100, 100)


@pytest.mark.parametrize("size", [(0, 100), (100, 0), (-5, 100), (0.4, 0.4)])
def test_a_box_without_a_pixel_asks_for_nothing(size: tuple[float, float]) -> None:
    viewers = Viewers().resize("a", 1, *size)
    assert viewers.at(9) is None
    assert viewers.resize("b", 10, 64, 48).resize("a", 11, *size).at(12) == (64, 48)


def test_the_publishers_own_size_is_nobody_elses_by_default() -> None:
    viewers = Viewers(resize_policy="publisher").resize("a", 1, 100, 100)
    assert viewers.at(9) is None


def test_the_cap_is_4096_by_default_and_what_a_frame_may_have_without() -> None:
    assert Viewers().resize("a", 1, 50_000, 50_000).at(1) == (4096, 4096)
    assert Viewers(max_render_dimension=None).resize("a", 1, 50_000, 50_000).at(1) == (16384, 16384)


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ({"resize_policy": "client"}, "resize_policy is one of publisher, match_client, not 'client'"),
        ({"max_render_dimension": 1}, "max_render_dimension is 2 to 16384, not 1"),
        ({"max_render_dimension": 16385}, "max_render_dimension is 2 to 16384, not 16385"),
        ({"max_render_dimension": 640.0}, "max_render_dimension is a whole number, not 640.0"),
        ({"resize_debounce": -1}, "resize_debounce is 0 to 60, not -1"),
        ({"resize_debounce": float("nan")}, "resize_debounce is 0 to 60, not nan"),
        ({"resize_debounce": None}, "resize_debounce is a number, not None"),
    ],
)
def test_options_that_cannot_be_are_named(option: dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=re.escape(error)):
        StreamOptions(**option)


# What frames say of themselves ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ratio", [0, -1, 0.09, 16.1, float("nan"), float("inf"), True, "2", 1j])
def test_a_ratio_that_no_screen_has_is_refused(display: rfb.Display, ratio: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="pixel_ratio is"):
        display.publish(grey(1), pixel_ratio=ratio)


def test_a_color_that_is_none_is_refused(display: rfb.Display) -> None:
    with pytest.raises(TypeError, match="color is a ColorSpace, like SRGB or DISPLAY_P3, or None, not 'display-p3'"):
        display.publish(grey(1), color="display-p3")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"primaries is one of bt709, .*, not 'display-p3'"):
        rfb.ColorSpace(primaries="display-p3")
    with pytest.raises(ValueError, match="bit_depth is one of 8, 10, 12, 16, not 9"):
        rfb.ColorSpace(bit_depth=9)


def test_ratio_and_color_are_the_newest_frames_own(display: rfb.Display) -> None:
    assert (display.pixel_ratio, display.color) == (1.0, None)
    display.publish(grey(1), pixel_ratio=np.float32(2), color=rfb.DISPLAY_P3)
    assert (display.pixel_ratio, display.color) == (2.0, rfb.DISPLAY_P3)
    display.publish(grey(2))
    assert (display.pixel_ratio, display.color) == (1.0, None)
    display.publish(grey(3), color=rfb.SRGB)
    assert display.color is None


TILES = ("image/png", "rfb/tiles")
P3 = {"primaries": "smpte432", "transfer": "srgb", "matrix": "rgb", "full_range": True, "bit_depth": 8}


@pytest.mark.parametrize("supported", [("image/png",), TILES])
def test_configs_and_headers_say_what_is_not_the_default(display: rfb.Display, supported: tuple[str, ...]) -> None:
    with RawViewer(display, *supported) as viewer:
        assert not viewer.greet().keys() & {"pixel_ratio", "color"}
        display.publish(grey(1))
        header, _ = viewer.see()
        assert not header.keys() & {"pixel_ratio", "color"}
        display.publish(grey(2), pixel_ratio=1.5, color=rfb.DISPLAY_P3)
        config = viewer.hear("config")
        header, _ = viewer.see()
        assert (config["pixel_ratio"], config["color"]) == (header["pixel_ratio"], header["color"]) == (1.5, P3)
        display.publish(grey(3))
        config = viewer.hear("config")
        header, _ = viewer.see()
        assert not {*config, *header} & {"pixel_ratio", "color"}


def test_who_comes_later_is_greeted_with_the_newest_frames_ratio_and_color(display: rfb.Display) -> None:
    display.publish(grey(1), pixel_ratio=2, color=rfb.DISPLAY_P3)
    with RawViewer(display, *TILES) as viewer:
        wait_for(lambda: core_of(display).state.format, "the hub to know of it")
        config = viewer.greet()
        assert (config["pixel_ratio"], config["color"]) == (2, P3)


@pytest.mark.parametrize("own_frames", [True, False])
@pytest.mark.parametrize("change", [{"pixel_ratio": 2}, {"color": rfb.DISPLAY_P3}])
def test_the_same_pixels_with_another_meaning_are_sent_whole(own_frames: bool, change: dict[str, Any]) -> None:
    display = rfb.serve(64, 48, port=0, own_frames=own_frames, quality="lossless")
    pixels = texture(150, 200, 3)
    with RawViewer(display, *TILES) as viewer:
        viewer.greet()
        display.publish(pixels)
        viewer.see()
        display.publish(pixels.copy(), damage=[(0, 0, 1, 1)], **change)
        header, _ = viewer.see()
        assert sum(width * height for _, _, width, height, _, _ in header["parts"]) == 200 * 150
        display.publish(pixels.copy(), **change)
        changed = pixels.copy()
        changed[0, 0] ^= 255
        display.publish(changed, **change)
        header, _ = viewer.see()
        assert [part[:4] for part in header["parts"]] == [[0, 0, 64, 64]], "one tile, and nothing for the same again"


def test_video_begins_again_with_the_tags_of_another_color() -> None:
    pytest.importorskip("av")
    from pdum_rfb_widget.encoders.bitstream import sequence_parameters

    display = rfb.serve(64, 48, port=0, quality=75)
    with RawViewer(display, "webcodecs/h264-annexb") as viewer:
        viewer.greet()
        shown = []
        for step, color in enumerate([None, None, rfb.DISPLAY_P3, rfb.DISPLAY_P3, None]):
            display.publish(grey(40 * step), color=color, pixel_ratio=1 + step / 4)
            header, payload = viewer.see()
            assert (header.get("pixel_ratio", 1.0), header.get("color")) == (1 + step / 4, P3 if color else None)
            sps = sequence_parameters(payload) if header["keyframe"] else None
            shown.append(sps.color[0] if sps and sps.color else None)
    assert shown == [1, None, 12, None, 1], "primaries of keyframes, by ITU-T H.273"


# From viewers to publishers -------------------------------------------------------------------------------------------


def matching(**options: Any) -> rfb.Display:
    return rfb.serve(64, 48, port=0, resize_policy="match_client", **options)


def say_box(viewer: RawViewer, width: int, height: int, ratio: float = 1.0) -> None:
    size = {"width": width, "height": height, "pwidth": width * ratio, "pheight": height * ratio, "ratio": ratio}
    viewer.say(type="set_viewport", **size)


def test_the_target_follows_by_itself_and_an_event_says_so() -> None:
    display = matching()
    assert (display.target_size, display.target_ratio) == (None, 1.0)
    with RawViewer(display) as viewer:
        viewer.greet()
        say_box(viewer, 320, 240, 2)
        wait_for_events(display, "resize")
        assert (display.target_size, display.target_ratio) == ((640, 480), 2.0)
        for width in range(321, 351):
            say_box(viewer, width, 240, 2)
        event = {"width": 0}
        while event["width"] != 350:
            event = wait_for_events(display, "resize")[-1]
        assert (display.target_size, display.target_ratio) == ((700, 480), 2.0)
        assert {name: event[name] for name in ("width", "height", "pwidth", "pheight", "ratio")} == {
            "width": 350,
            "height": 240,
            "pwidth": 700,
            "pheight": 480,
            "ratio": 2,
        }
    wait_for(lambda: display.client_count == 0, "the viewer to go")
    assert display.target_size == (700, 480)


def test_one_change_of_a_box_is_one_event_of_its_target() -> None:
    display = matching(resize_debounce=0)
    with RawViewer(display) as viewer:
        viewer.greet()
        for width in (320, 330, 330):
            size = {"width": width, "height": 240, "pwidth": width, "pheight": 240, "ratio": 1}
            viewer.say(type="set_viewport", **size)
            viewer.say(type="event", event={"type": "resize", **size})
        viewer.say(type="event", event={"type": "key_down", "key": "Enter"})
        events = wait_for_events(display, "key_down")
        assert [event["width"] for event in events if event["type"] == "resize"] == [320, 330]
        assert display.target_size == (330, 240)


def test_a_viewer_knows_whether_frames_follow_its_box_and_is_told_when_that_changes(display: rfb.Display) -> None:
    with RawViewer(display, *TILES) as viewer:
        assert "resize_policy" not in viewer.greet()
        display.configure(resize_policy="match_client")
        display.publish(grey(1))
        assert viewer.hear("config")["resize_policy"] == "match_client"
    with RawViewer(display, "image/png") as viewer:
        assert "resize_policy" not in viewer.greet(), "the base protocol has no word for it"


@pytest.mark.parametrize("height", ["auto", 16, 480])
def test_a_widgets_height_is_a_number_or_auto_which_is_the_default(display: rfb.Display, height: Any) -> None:
    assert display.widget().height == "auto"
    assert display.widget(height=height).height == height
    for wrong in (15, "100%", 1.5):
        with pytest.raises(TraitError):
            display.widget(height=wrong)


def test_a_viewer_that_goes_leaves_the_target_to_the_others() -> None:
    display = matching(resize_debounce=0)
    with RawViewer(display) as first:
        first.greet()
        say_box(first, 100, 80)
        wait_for(lambda: display.target_size == (100, 80), "the first's size")
        with RawViewer(display) as second:
            second.greet()
            say_box(second, 200, 160)
            wait_for(lambda: display.target_size == (200, 160), "the second's size")
        wait_for(lambda: display.target_size == (100, 80), "the first's size again")


def test_who_takes_a_stream_over_knows_the_size_before_the_first_frame() -> None:
    display = matching(name="mine")
    with RawViewer(display) as viewer:
        viewer.greet()
        say_box(viewer, 100, 80)
        wait_for_events(display, "resize")
        again = matching(name="mine", max_render_dimension=50)
        assert again.target_size == (50, 40)
        assert rfb.serve(64, 48, port=0, name="mine").target_size is None


def test_whatever_a_viewer_says_publish_takes_it() -> None:
    display = matching(max_render_dimension=64, resize_debounce=0)
    with RawViewer(display) as viewer:
        viewer.greet()
        for width, ratio in ((1e300, 1e-300), (1e-300, 1e300), (3, -1e300), (0, 0)):
            viewer.say(type="set_viewport", width=1, height=1, pwidth=width, pheight=7, ratio=ratio)
            viewer.say(type="event", event={"type": "key_down", "key": "Enter"})
            events = wait_for_events(display, "key_down")
            assert all(event["ratio"] > 0 for event in events if event["type"] == "resize")
            width, height = display.target_size or (display.width, display.height)
            display.publish(grey(1, width, height), pixel_ratio=display.target_ratio)


# In a browser ---------------------------------------------------------------------------------------------------------


@contextmanager
def page_of_ratio(browser: Browser, ratio: float) -> Iterator[Page]:
    """A page in a browser with this many device pixels a CSS pixel. Playwright's own way to have them lays pages out in
    CSS pixels, and so in steps that no real screen has."""
    arguments = [*ARGUMENTS, f"--force-device-scale-factor={ratio}", "--window-size=900,700"]
    started = browser.browser_type.launch(executable_path=chromium_path(), args=arguments)
    try:
        yield started.new_context(no_viewport=True).new_page()
    finally:
        started.close()


def body(width: float, height: float) -> str:
    """A stage of this size, with corners that cut off no pixel."""
    style = "<style>.rfb-root { --rfb-radius: 0 }</style>"
    return f'{style}<div id="stage" class="stage" style="width: {width}px; height: {height}px"></div>'


def on_screen(page: Page) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the whole window shows, in device pixels."""
    return np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))


def is_one_to_one(page: Page, canvas: Locator, pixels: np.ndarray[Any, np.dtype[np.uint8]], ratio: float) -> bool:
    """Each pixel of the frame is one of the screen, at the place that the canvas says."""
    place = canvas.bounding_box()
    assert place is not None
    x, y = round(place["x"] * ratio), round(place["y"] * ratio)
    height, width = pixels.shape[:2]
    return np.array_equal(on_screen(page)[y : y + height, x : x + width], pixels)


def bare(page: Page) -> None:
    """Nothing of the view stands over the picture."""
    page.mouse.move(1, 1)
    page.evaluate("view.setToolbar(false)")


@pytest.mark.parametrize("ratio", [1, 1.25, 1.5, 2])
def test_a_frame_of_the_target_is_shown_one_to_one(browser: Browser, ratio: float) -> None:
    with page_of_ratio(browser, ratio) as page:
        for size in ((401, 201), (333, 199), (300.5, 200.25)):
            display = matching(quality="lossless")
            canvas = show(page, display, body=body(*size))
            wait_for(lambda display=display: display.target_size, "the target")
            assert display.target_size is not None
            assert display.target_ratio == ratio
            width, height = display.target_size
            assert all(0 <= side * ratio - got < 2 for side, got in zip(size, (width, height), strict=True))
            pixels = texture(height, width, 3)
            display.publish(pixels, pixel_ratio=display.target_ratio)
            wait_for(lambda canvas=canvas, pixels=pixels: error_of(canvas, pixels) == 0, "the frame")
            bare(page)
            shown = partial(is_one_to_one, page, canvas, pixels, ratio)
            wait_for(shown, f"a frame of {width}x{height} on the screen as it is")


def test_a_dragged_box_is_followed_when_it_rests(page: Page) -> None:
    display = matching(quality="lossless")
    canvas = show(page, display, body=body(400, 300))
    wait_for(lambda: display.target_size == (400, 300), "the first size")
    page.evaluate(
        """async () => {
            const { style } = document.getElementById("stage");
            for (let width = 401; width <= 460; width++) {
                style.width = `${width}px`;
                await new Promise(requestAnimationFrame);
            }
        }"""
    )
    wait_for(lambda: display.target_size == (460, 300), "the last size")
    pixels = texture(300, 460, 3)
    display.publish(pixels)
    wait_for(lambda: error_of(canvas, pixels) == 0, "the frame")
    bare(page)
    wait_for(lambda: is_one_to_one(page, canvas, pixels, 1), "one to one on the screen")


def test_input_says_the_frames_own_ratio_and_its_own_pixels(browser: Browser) -> None:
    with page_of_ratio(browser, 2) as page:
        display = matching()
        canvas = show(page, display, body=body(300, 200))
        wait_for(lambda: display.target_size == (600, 400), "the target")
        for ratio in (2.0, 1.25, 1.0):
            pixels = grey(round(50 * ratio), 600, 400)
            display.publish(pixels, pixel_ratio=ratio)
            wait_for(lambda pixels=pixels: error_of(canvas, pixels) < 3, f"the frame of {ratio}")

            def said(ratio: float = ratio) -> bool:
                page.mouse.move(70, 50)
                page.mouse.move(75, 50)
                moves = events_of(display, "pointer_move")
                return bool(moves) and (moves[-1]["x"], moves[-1]["y"], moves[-1]["pixel_ratio"]) == (150, 100, ratio)

            # The page hears of the frame after its pixels stand on the canvas.
            wait_for(said, f"a move over a frame of {ratio}")


def test_size_ratio_and_color_may_change_with_every_frame(page: Page) -> None:
    display = rfb.serve(8, 8, port=0, quality="lossless")
    canvas = show(page, display)
    looks: list[dict[str, Any]] = [{}, {"pixel_ratio": 2}, {"color": rfb.DISPLAY_P3}, {"pixel_ratio": 1.5}]
    for step, size in enumerate([(40, 30), (40, 30), (200, 300), (200, 300), (31, 1), (64, 64), (64, 64), (64, 64)]):
        pixels = texture(*size, 3)
        display.publish(pixels, **looks[step % len(looks)])
        if step % 3 != 1:
            wait_for(lambda wanted=pixels: read_canvas(canvas).shape == wanted.shape, f"a frame of {size}")
    display.publish(pixels)
    wait_for(lambda: error_of(canvas, pixels) == 0, "the last frame")
